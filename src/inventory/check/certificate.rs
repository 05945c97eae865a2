//! Checks of a server's certificate: what no issuer would sign, and what a challenge cannot do without.

use crate::inventory::check::{Report, text};
use crate::inventory::scalar::whole;
use crate::inventory::sections::host::{Certificate, Challenge};

pub(super) fn check(report: &mut Report<'_>, base: &str, section: &Certificate) {
    let further = section.also.iter().enumerate().map(|(index, name)| (format!("{base}.also[{index}]"), name));
    for (path, name) in [(format!("{base}.name"), &section.name)].into_iter().chain(further) {
        let public = section.issuer.is_public();
        if let Err(why) = certified(name, public) {
            report.error("bad-certificate-name", why, &path, "no name for a certificate").hint =
                Some("write the name that clients connect to, in lower case: `db.example.org`".to_owned());
        } else if path.contains(".also[") && *name == section.name {
            let message = format!("`{path}` is `{name}`, which `{base}.name` says already");
            report.error("duplicate-certificate-name", message, &path, "again here");
        }
    }
    report.repeats("duplicate-certificate-name", &format!("{base}.also"), &section.also);
    match &section.contact {
        Some(address) => report.text("bad-email", &format!("{base}.contact"), text::email(address)),
        None if section.issuer.is_public() => {
            let message = format!("`{base}` has no `contact`, and Let's Encrypt makes no account without one");
            report.error("certificate-without-contact", message, base, "whose certificate is it?").hint =
                Some("add `contact: ops@example.org` with an address that somebody reads".to_owned());
        }
        None => {}
    }
    let server = base.split('.').nth(1).unwrap_or_default();
    let backed_up = report.inventory.servers.iter().any(|(name, of)| name.as_str() == server && of.backup.is_some());
    if section.copy_pass.is_some() && !backed_up {
        let path = format!("{base}.copy_pass");
        let message =
            format!("`{path}` seals a copy in the bucket of the backups, and this server has no `backup` section");
        report.error("copy-without-backup", message, &path, "nowhere to keep the copy");
    }
    let answers = section.challenge == Challenge::Dns01 && section.issuer.is_public();
    let path = format!("{base}.acme_dns");
    match &section.acme_dns {
        Some(_) if !answers => {
            let message = format!("`{path}` is for `challenge: dns-01`, and here nothing would use it");
            report.error("acme-dns-mismatch", message, &path, "nothing would use this");
        }
        Some(address) => report.text("bad-acme-dns", &path, https(address)),
        None if answers => {
            let message = format!("`{base}` wants `dns-01`, and no acme-dns service answers for it");
            report.error("acme-dns-mismatch", message, &format!("{base}.challenge"), "who answers?").hint =
                Some("add `acme_dns: https://auth.example.org`, or take `tls-alpn-01`".to_owned());
        }
        None => {}
    }
}

/// A name that can stand in a certificate and be compared with it.
fn certified(name: &str, public: bool) -> Result<(), String> {
    let why = if name.parse::<std::net::IpAddr>().is_ok() {
        "it is an address: clients verify names"
    } else if text::host_name(name).is_err() {
        "it is not a host name"
    } else if name.chars().any(|c| c.is_ascii_uppercase()) {
        "issuers write names in lower case"
    } else if public && !name.contains('.') {
        "a public issuer signs for names in a public domain only"
    } else {
        return Ok(());
    };
    Err(format!("`{name}` cannot be in a certificate: {why}"))
}

/// An address of a web service: TLS, a host, perhaps a port and a path.
fn https(address: &str) -> Result<(), String> {
    let bad = || {
        format!("`{address}` is not the address of an acme-dns service; write for example `https://auth.example.org`")
    };
    let rest = address.strip_prefix("https://").ok_or_else(bad)?;
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = place.split_once(':').unwrap_or((place, "443"));
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b));
    let good = text::host_name(host).is_ok() && whole(port).is_some_and(|port| (1..=65_535).contains(&port)) && plain;
    if good { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        for good in ["https://auth.example.org", "https://auth.example.org:8443/a/b", "https://10.0.0.1.example/"] {
            assert_eq!(https(good), Ok(()), "{good}");
        }
        for bad in
            ["", "http://auth.example.org", "https://", "https://a b", "https://a:0", "https://a/$(b)", "https://u@a"]
        {
            assert!(https(bad).is_err(), "{bad}");
        }
    }
}
