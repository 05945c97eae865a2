//! Our files on the host: the program, what it is to do, and the units that run it.

use serde_json::json;

use crate::inventory::sections::host::Challenge;
use crate::kinds::host_certificate::{Desired, names, word};
use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::programs;
use crate::render::render;

pub(super) const PROGRAM: &str = "/usr/local/lib/seawall/certificate";
pub(super) const SETTINGS: &str = "/etc/seawall/certificate.conf";
pub(super) const SERVICE: &str = "seawall-certificate.service";
const TIMER: &str = "seawall-certificate.timer";
/// Starts the service when what the copy needs has come.
const PATH: &str = "seawall-certificate.path";
/// Every unit that there may be.
pub(super) const UNITS: [&str; 3] = [TIMER, PATH, SERVICE];
pub(super) const FOLDERS: [&str; 2] = ["/etc/seawall", "/etc/seawall/tls"];

/// An AWS credentials file with one profile, for the copy alone.
pub(super) const CREDENTIALS: &str = "/etc/seawall/certificate.credentials";
/// What seals the copy, in one line.
pub(super) const PASS: &str = "/etc/seawall/certificate.pass";

/// The longest common name that X.509 takes (RFC 5280, ub-common-name). Clients look at the alternative names only.
const COMMON_NAME: usize = 64;

/// The object's name within the folder of the copy; the program makes the same.
pub(super) fn object(desired: &Desired) -> String {
    format!("{}.tar.bin", desired.name)
}

/// The port that an order needs, where it needs one.
pub(super) fn opened(desired: &Desired) -> Option<u16> {
    desired.challenge.port().filter(|_| desired.issuer.is_public())
}

/// The domains that a private CA may sign in: those of the names, so that a further name beside them needs no new CA.
fn domains(desired: &Desired) -> Vec<String> {
    let domain = |name: &String| match name.split_once('.') {
        Some((_, rest)) if rest.contains('.') => rest.to_owned(),
        _ => name.clone(),
    };
    let mut domains: Vec<String> = names(desired).iter().map(domain).collect();
    domains.sort();
    domains.dedup();
    domains
}

/// The challenge as the inventory writes it.
fn challenge(desired: &Desired) -> &'static str {
    match desired.challenge {
        Challenge::TlsAlpn01 => "tls-alpn-01",
        Challenge::Http01 => "http-01",
        Challenge::Dns01 => "dns-01",
    }
}

/// What the program is to do.
pub(super) fn settings(desired: &Desired) -> File {
    let mut settings = vec![("issuer", word(desired.issuer).to_owned()), ("name", desired.name.clone())];
    // The first name is the one that lego calls its files by.
    settings.extend(names(desired).into_iter().filter(|name| *name != desired.name).map(|name| ("name", name)));
    if desired.issuer.is_public() {
        settings.push(("challenge", challenge(desired).to_owned()));
        settings.extend(desired.contact.iter().map(|contact| ("contact", contact.clone())));
        settings.extend(desired.acme_dns.iter().map(|base| ("acme_dns", base.clone())));
    } else {
        let fits = desired.name.len() <= COMMON_NAME;
        let common_name = if fits { &desired.name } else { "a name longer than X.509 takes" };
        settings.push(("common_name", common_name.to_owned()));
        settings.extend(domains(desired).into_iter().map(|domain| ("domain", domain)));
    }
    let consumers = desired.consumers.iter().map(|of| format!("{} {} {}", of.unit, of.port, of.settings));
    settings.extend(consumers.map(|consumer| ("consumer", consumer)));
    if let Some(copy) = &desired.copy {
        let place = [("bucket", &copy.bucket), ("folder", &copy.folder), ("region", &copy.region)];
        settings.extend(place.map(|(key, value)| (key, value.clone())));
    }
    programs::configuration(&desired.address, SETTINGS, "root", PROGRAM, &settings)
}

pub(super) fn parts_of(desired: &Desired) -> Parts {
    let context = json!({
        "address": desired.address, "name": desired.name, "credentials": CREDENTIALS, "pass": PASS,
    });
    let text = |template: &str| render(template, &context).expect("the template and its context are tested together");
    let mut files = vec![settings(desired), File::program(PROGRAM, programs::CERTIFICATE.to_owned())];
    let mut units = Vec::new();
    for name in [SERVICE, TIMER, PATH] {
        // There is a copy to wait for, or there is none.
        if name == PATH && desired.copy.is_none() {
            continue;
        }
        let unit = Unit::named(name);
        files.push(File::public(unit.path(), text(&name.replacen("seawall-", "", 1))));
        units.push(unit);
    }
    Parts::of(files, units)
}
