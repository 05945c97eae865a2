//! Certificates on a real host: a private CA, and Let's Encrypt's stand-in; renewed, and refused.

use super::attacks_paths::held_to;
use crate::support::rehearsal::{Rehearsal, Tampering, tampering};

const SECTION: &str = "    swap: { size_mib: 1024 }";
const DUE: &str = "\
cd \"$0\" && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -subj /CN=old \
-addext subjectAltName=DNS:db.automatonicai.com -out /tmp/request && \
openssl x509 -req -in /tmp/request -signkey server.key -days 0 -copy_extensions copy -out server.crt";
const TIMER: &str = "seawall-certificate.timer";

fn with_certificate(lab: &Rehearsal, section: &str) {
    lab.edit_inventory(SECTION, &format!("{SECTION}\n    certificate: {section}"));
}

fn serial(lab: &Rehearsal) -> String {
    lab.on_server(&["openssl", "x509", "-in", "/etc/seawall/tls/server.crt", "-noout", "-serial"]).stdout
}

fn digest(lab: &Rehearsal, path: &str) -> String {
    lab.on_server(&["sha256sum", path]).stdout
}

#[track_caller]
fn as_wanted(lab: &Rehearsal) {
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
}

/// What is done to the certificate and what renews it, and what a drift then says; `tamper.rs` does it.
pub(super) const TAMPERINGS: [Tampering; 7] = [
    of_certificate(
        "cd /etc/seawall/tls && openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -subj /CN=evil \
         -addext subjectAltName=DNS:db.automatonicai.com",
        "CN=evil",
    ),
    of_certificate("chmod 644 /etc/seawall/tls/server.key", "644 root:ssl-cert → 640 root:ssl-cert"),
    of_certificate("systemctl stop seawall-certificate.timer", "\"enabled, inactive\" → \"enabled, active\""),
    of_certificate("systemctl disable seawall-certificate.timer", "\"disabled, active\" → \"enabled, active\""),
    of_certificate("echo exit 0 >>/usr/local/lib/seawall/certificate", "- exit 0"),
    of_certificate(
        "sed -i s/^name=.*/name=elsewhere.org/ /etc/seawall/certificate.conf; chmod 666 /etc/seawall/certificate.conf",
        "- name=elsewhere.org",
    ),
    of_certificate("rm -r /etc/seawall/tls", "/etc/seawall/tls/server.key"),
];

const fn of_certificate(command: &'static str, says: &'static str) -> Tampering {
    Tampering { says, ..tampering("host.certificate/db", command) }
}

/// Puts a certificate of a private CA into the inventory.
pub(super) fn private_declared(lab: &Rehearsal) {
    with_certificate(lab, "{ name: db.automatonicai.com, issuer: private }");
}

/// Verifies as a client that pins the CA and insists on the name; gives back the CA's digest.
#[track_caller]
pub(super) fn verified(lab: &Rehearsal) -> String {
    lab.on_server(&[
        "openssl",
        "verify",
        "-no-CApath",
        "-CAfile",
        "/etc/seawall/tls/ca.crt",
        "-verify_hostname",
        "db.automatonicai.com",
        "/etc/seawall/tls/server.crt",
    ]);
    digest(lab, "/etc/seawall/tls/ca.crt")
}

#[test]
fn a_private_certificate_is_kept_and_its_ca_stays() {
    let Some(lab) = Rehearsal::base("a_private_certificate_is_kept_and_its_ca_stays") else { return };
    private_declared(&lab);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    let authority = verified(&lab);

    // The timer's own run, as systemd confines it: a further name by an apply, a renewal without one.
    lab.edit_inventory("{ name: db.automatonicai.com,", "{ name: db.automatonicai.com, also: [pg.automatonicai.com],");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    let before = serial(&lab);
    lab.on_server(&["bash", "-c", DUE, "/etc/seawall/issued/private"]);
    held_to(&lab, "seawall-certificate.service", 40);
    lab.on_server(&["systemctl", "start", "seawall-certificate.service"]);
    assert_ne!(serial(&lab), before, "it was due and was not renewed");
    as_wanted(&lab);
    assert_eq!(digest(&lab, "/etc/seawall/tls/ca.crt"), authority, "clients pinned the CA");

    // Without its key the CA cannot be had again, and a new one is a person's decision.
    lab.on_server(&["rm", "/etc/seawall/ca/ca.key"]);
    let refused = lab.expect(1, &["--sandbox", "apply", "--yes"]);
    assert!(refused.stderr.contains("nobody can make the same one again"), "{}", refused.stderr);
    assert_eq!(digest(&lab, "/etc/seawall/tls/ca.crt"), authority);
    lab.on_server(&["rm", "-r", "/etc/seawall/ca", "/etc/seawall/issued/private"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    assert_ne!(digest(&lab, "/etc/seawall/tls/ca.crt"), authority);

    // What left the inventory no longer runs; what may still be served stays.
    lab.edit_inventory("    certificate: ", "    # certificate: ");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    lab.on_server(&["test", "-s", "/etc/seawall/tls/server.key"]);
    lab.on_server(&["bash", "-c", "! systemctl cat \"$0\" && ! test -e /usr/local/lib/seawall/certificate && ! test -e /etc/seawall/certificate.conf", TIMER]);
}

#[test]
fn lets_encrypt_issues_renews_and_is_not_asked_too_often() {
    let Some(lab) = Rehearsal::base("lets_encrypt_issues_renews_and_is_not_asked_too_often") else { return };
    // A server whose firewall is up before 443 is declared: an order must not wait for what an apply does last.
    lab.edit_inventory("      - { port: 443, from: anywhere, why: certificate validation }\n", "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.edit_inventory(
        "why: application }\n",
        "why: application }\n      - { port: 443, from: anywhere, why: certificate validation }\n",
    );
    with_certificate(&lab, "{ name: db.automatonicai.com, contact: ops@automatonicai.com }");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    let issued = lab.on_server(&[
        "openssl",
        "x509",
        "-in",
        "/etc/seawall/tls/server.crt",
        "-noout",
        "-issuer",
        "-ext",
        "subjectAltName",
    ]);
    assert!(issued.stdout.contains("Pebble Intermediate CA"), "{}", issued.stdout);
    assert!(issued.stdout.contains("DNS:db.automatonicai.com"), "{}", issued.stdout);
    let rehearsed = lab.on_server(&["ls", "/etc/seawall/acme/letsencrypt-staging/certificates"]);
    assert!(
        rehearsed.stdout.contains("db.automatonicai.com.crt"),
        "the staging service comes first: {}",
        rehearsed.stdout
    );

    let before = serial(&lab);
    let due = || lab.on_server(&["bash", "-c", DUE, "/etc/seawall/issued/letsencrypt"]);
    due();
    lab.on_server(&["systemctl", "start", "seawall-certificate.service"]);
    let renewed = serial(&lab);
    assert_ne!(renewed, before, "it was due and was not renewed");
    as_wanted(&lab);

    // The issuer cannot look at the server any more.
    let port = serde_json::json!({ "fromPort": 443, "toPort": 443, "protocol": "tcp" });
    let closed = serde_json::json!({ "instanceName": "chronos-prod-db", "portInfo": port });
    lab.aws("lightsail", "close_instance_public_ports", &closed);
    due();
    let service = "! systemctl start seawall-certificate.service";
    lab.on_server(&["bash", "-c", service]);
    assert_eq!(serial(&lab), renewed, "a failed order leaves what is in use");
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("the last order failed"), "{}", plan.stdout);
    assert!(plan.stdout.contains("urn:ietf:params:acme:error"), "{}", plan.stdout);
    lab.on_server(&["bash", "-c", &format!("{service} && {service}")]);
    lab.on_server(&["bash", "-c", service]);
    let log = lab.on_server(&["journalctl", "-u", "seawall-certificate.service", "-o", "cat", "--no-pager"]);
    assert!(log.stdout.contains("3 orders for db.automatonicai.com failed within the last hour"), "{}", log.stdout);
    assert_eq!(serial(&lab), renewed);

    // The port is declared, so an apply opens it again; the next order is a person's word that it will work now.
    lab.on_server(&["rm", "/var/lib/seawall/certificate/failures"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab);
    assert_ne!(serial(&lab), before);
}
