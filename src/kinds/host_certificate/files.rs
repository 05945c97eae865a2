//! Our files on the host: the program, and the units that run it.

use serde::Serialize;
use serde_json::json;

use crate::base::shell;
use crate::inventory::sections::host::{Challenge, Issuer};
use crate::kinds::host_certificate::{Copy, Desired, names, word};
use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::render::render;

pub(super) const PROGRAM: &str = "/usr/local/lib/seawall/certificate";
pub(super) const SERVICE: &str = "seawall-certificate.service";
const TIMER: &str = "seawall-certificate.timer";
/// Starts the service when what the copy needs has come.
const PATH: &str = "seawall-certificate.path";
/// Every unit that there may be.
pub(super) const UNITS: [&str; 3] = [TIMER, PATH, SERVICE];
pub(super) const FOLDERS: [&str; 2] = ["/etc/seawall", "/etc/seawall/tls"];

/// An AWS credentials file with one profile, for the bucket of the backups.
pub(super) const CREDENTIALS: &str = "/etc/seawall/backup.credentials";
/// The passphrase of the backups, in one line.
pub(super) const PASS: &str = "/etc/seawall/backup.pass";

/// The longest common name that X.509 takes (RFC 5280, ub-common-name). Clients look at the alternative names only.
const COMMON_NAME: usize = 64;

#[derive(Serialize)]
struct Place<'a> {
    bucket: &'a str,
    region: &'a str,
    folder: &'a str,
    object: String,
    credentials: &'a str,
    pass: &'a str,
}

/// The object's name within [`Copy::folder`].
pub(super) fn object(desired: &Desired) -> String {
    format!("{}.tar.enc", desired.name)
}

/// How lego is to answer the issuer.
fn challenge(desired: &Desired) -> String {
    match desired.challenge {
        Challenge::TlsAlpn01 => "--tls --tls.port :443".to_owned(),
        Challenge::Http01 => "--http --http.port :80".to_owned(),
        Challenge::Dns01 => "--dns exec".to_owned(),
    }
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

fn program(desired: &Desired) -> String {
    let place = |copy: &'_ Copy| {
        json!(Place {
            bucket: &copy.bucket,
            region: &copy.region,
            folder: &copy.folder,
            object: object(desired),
            credentials: CREDENTIALS,
            pass: PASS,
        })
    };
    // The first name is the one that lego calls its files by.
    let mut all = vec![desired.name.clone()];
    all.extend(names(desired).into_iter().filter(|name| *name != desired.name));
    let common_name = if desired.name.len() <= COMMON_NAME { &desired.name } else { "a name longer than X.509 takes" };
    let authority = json!({ "common_name": common_name, "domains": domains(desired) });
    let service = json!({
        "production": desired.issuer == Issuer::Letsencrypt,
        "contact": shell::word(desired.contact.as_deref().unwrap_or_default()),
        "challenge": challenge(desired),
        "acme_dns": desired.acme_dns.iter().map(|base| shell::word(base)).collect::<Vec<_>>(),
    });
    let context = json!({
        "address": desired.address,
        "issuer": word(desired.issuer),
        "issue": match desired.issuer {
            Issuer::Letsencrypt => "production",
            Issuer::LetsencryptStaging => "staging",
            Issuer::Private => "private",
        },
        "names": all,
        "authorities": if desired.issuer.is_public() { Vec::new() } else { vec![authority] },
        "services": if desired.issuer.is_public() { vec![service] } else { Vec::new() },
        "ports": opened(desired).into_iter().collect::<Vec<_>>(),
        "consumers": desired.consumers,
        "copies": desired.copy.iter().map(place).collect::<Vec<_>>(),
    });
    render("certificate.sh", &context).expect("the template and its context are tested together")
}

pub(super) fn parts_of(desired: &Desired) -> Parts {
    let context = json!({
        "address": desired.address, "name": desired.name, "credentials": CREDENTIALS, "pass": PASS,
    });
    let text = |template: &str| render(template, &context).expect("the template and its context are tested together");
    let mut files = vec![File::program(PROGRAM, program(desired))];
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::kinds::host_certificate::Consumer;

    fn desired(issuer: Issuer) -> Desired {
        Desired {
            address: "host.certificate/db".parse().expect("an address"),
            name: "db.example.org".to_owned(),
            also: vec!["a.example.org".to_owned(), "short".to_owned()],
            issuer,
            challenge: Challenge::default(),
            contact: Some("o'ps@example.org".to_owned()),
            acme_dns: None,
            consumers: Vec::new(),
            copy: None,
        }
    }

    /// A shell's own opinion of a program.
    fn is_a_program(text: &str) -> bool {
        let mut shell =
            Command::new("sh").arg("-n").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a shell");
        shell.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a shell reads");
        shell.wait().expect("a shell ends").success()
    }

    #[test]
    fn every_wish_is_a_program() {
        assert!(!is_a_program("while done\n"));
        let copy =
            Copy { bucket: "b".to_owned(), region: "ca-central-1".to_owned(), folder: "main/certificate".to_owned() };
        let consumer = Consumer { unit: "postgresql@15-main.service".to_owned(), port: 5432 };
        for issuer in [Issuer::Private, Issuer::Letsencrypt, Issuer::LetsencryptStaging] {
            for challenge in [Challenge::TlsAlpn01, Challenge::Http01, Challenge::Dns01] {
                for (copy, consumers) in [(None, Vec::new()), (Some(copy.clone()), vec![consumer.clone()])] {
                    let acme_dns = (challenge == Challenge::Dns01).then(|| "https://auth.example.org".to_owned());
                    let wish = Desired { challenge, acme_dns, consumers, copy, ..desired(issuer) };
                    let text = program(&wish);
                    assert!(is_a_program(&text), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_private_ca_is_confined_to_the_domains_of_its_names() {
        assert_eq!(domains(&desired(Issuer::Private)), ["example.org", "short"]);
    }

    #[test]
    fn the_first_name_of_an_order_is_the_one_that_names_the_files() {
        let text = program(&desired(Issuer::Letsencrypt));
        assert!(text.contains("--domains db.example.org --domains a.example.org --domains short "), "{text}");
        assert!(text.contains("certificates/db.example.org\n"), "{text}");
        assert!(text.contains(r"--email 'o'\''ps@example.org'"), "{text}");
    }

    #[test]
    fn no_issuer_brings_the_program_of_another() {
        let (private, public) = (program(&desired(Issuer::Private)), program(&desired(Issuer::LetsencryptStaging)));
        assert!(!private.contains("lego") && private.contains("genpkey"), "{private}");
        assert!(public.contains("lego") && !public.contains("genpkey"), "{public}");
    }
}
