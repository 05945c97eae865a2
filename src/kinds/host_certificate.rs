//! `host.certificate`: the TLS certificate of a server's name, judged by what is in place and what is served.
//!
//! A program on the host issues, renews and deploys, so that the timer and an apply do the same. Deliberately absent:
//! the settings of those who serve the certificate (`postgres.cluster`, `pgbouncer.pool`), wildcards, and revocation.

mod files;
#[cfg(test)]
mod runs;
mod seen;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::secret::SecretUse;
use crate::inventory::sections::host::{Certificate, Challenge, Issuer};
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host;
use crate::kinds::host_certificate::files::{FOLDERS, PASS, PROGRAM, SERVICE, SETTINGS, UNITS, opened, parts_of};
use crate::kinds::host_certificate::seen::{ACCESS, question};
use crate::kinds::iam_user::{IamUser, Purpose, certificate_prefix};
use crate::kinds::parts::apt;
use crate::kinds::parts::secret::{self, SecretFile};
use crate::kinds::parts::unit::Unit;
use crate::kinds::parts::{self, Close, Difference, Seen};
use crate::kinds::pgbouncer_pool;
use crate::kinds::postgres::{Cluster, PORT};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// Seconds for one run of the program: its wait for another run, two orders, a reload, and the copy.
const ENSURE_S: u32 = 900;
/// Days. A private CA cannot be renewed without every client; a year is time to plan that.
const AUTHORITY_DAYS: i64 = 365;

pub struct HostCertificate;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub name: String,
    pub also: Vec<String>,
    pub issuer: Issuer,
    pub challenge: Challenge,
    pub contact: Option<String>,
    pub acme_dns: Option<String>,
    /// Who serves it, in the order in which they take it up.
    pub consumers: Vec<Consumer>,
    /// Where the encrypted copy is kept.
    pub copy: Option<Copy>,
}

/// A unit that serves the certificate on a port of this host, after PostgreSQL's own word for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumer {
    pub unit: String,
    pub port: u16,
    /// The file of its configuration that leads it to the certificate, once its own kind has written it.
    pub settings: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The bucket's name at AWS.
    pub bucket: String,
    pub region: String,
    /// Key prefix, without slashes at its ends.
    pub folder: String,
    /// What seals it.
    pub pass: SecretUse,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub parts: Seen,
    /// Mode, owner and group of what is there.
    pub access: BTreeMap<String, String>,
    /// Whose record the certificate in place is the same as; otherwise subject and signer.
    pub issuer: Option<String>,
    pub names: Vec<String>,
    /// Whether the private key belongs to it.
    pub key_fits: bool,
    /// Whether ca.crt is its issuer's, and for a private CA, has signed it.
    pub authority_fits: bool,
    /// Unit to what it serves, in words: a certificate that was renewed is served as before. Only units whose configuration
    /// leads to the certificate: whether it does is their own kinds' business.
    pub served: BTreeMap<String, String>,
    /// `stored`, `missing`, or `waits` for credentials.
    pub copy: Option<String>,
    /// What seals the copy, as it is on the host.
    pub copy_pass: secret::State,
    /// Less than a third of its lifetime is left. As all that follows it comes with time, hence not part of a plan's guard.
    #[serde(skip)]
    pub due: bool,
    #[serde(skip)]
    pub days: Option<i64>,
    #[serde(skip)]
    pub authority_days: Option<i64>,
    /// When the last order failed, and why.
    #[serde(skip)]
    pub failed: Option<String>,
    #[serde(skip)]
    pub uncopied: Option<String>,
    /// Records to set once at the DNS provider.
    #[serde(skip)]
    pub cnames: BTreeMap<String, String>,
}

/// The packages that `host.packages` installs for this section.
pub fn packages(section: &Certificate, server: &Server) -> Vec<&'static str> {
    // `ssl-cert` brings the group that may read the key; Debian's postgres is in it.
    let mut packages = vec!["openssl", "ssl-cert"];
    if section.issuer.is_public() {
        packages.push("lego");
        if section.challenge == Challenge::Dns01 {
            packages.push("curl");
        }
    }
    if server.backup.is_some() {
        packages.push("rclone");
    }
    packages
}

fn consumers(server: &Server) -> Vec<Consumer> {
    let postgres = server
        .postgres
        .iter()
        .map(|postgres| Cluster { version: postgres.version })
        .map(|cluster| Consumer { unit: cluster.unit(), port: PORT, settings: cluster.settings() });
    let pool = server.pgbouncer.iter().map(|pool| Consumer {
        unit: pgbouncer_pool::UNIT.to_owned(),
        port: pool.port,
        settings: pgbouncer_pool::INI.to_owned(),
    });
    postgres.chain(pool).collect()
}

fn copy(inventory: &Inventory, server: &Server) -> Option<Copy> {
    let pass = server.certificate.as_ref()?.copy_pass.clone()?;
    let backup = server.backup.as_ref()?;
    let bucket = inventory.buckets.get(&backup.bucket)?;
    Some(Copy {
        bucket: bucket.name.clone(),
        region: inventory.region_of(bucket),
        folder: certificate_prefix(backup),
        pass: pass.into(),
    })
}

impl Desired {
    fn copy_pass(&self) -> Option<SecretFile<'_>> {
        self.copy.as_ref().map(|copy| SecretFile { path: PASS, secret: &copy.pass })
    }
}

/// All names, sorted, as a certificate is compared with them.
fn names(desired: &Desired) -> Vec<String> {
    let mut names: Vec<String> = [&desired.name].into_iter().chain(&desired.also).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// The issuer as the inventory writes it.
fn word(issuer: Issuer) -> &'static str {
    match issuer {
        Issuer::Letsencrypt => "letsencrypt",
        Issuer::LetsencryptStaging => "letsencrypt-staging",
        Issuer::Private => "private",
    }
}

const SERVED: &str = "the certificate";

impl Kind for HostCertificate {
    const NAME: &'static str = "host.certificate";
    const SUMMARY: &'static str = "the TLS certificate of the server's name: issued, renewed, and seen to be served";
    const EXPLAIN: &'static str = "\
Manages: /etc/seawall/tls/server.crt (with its chain), server.key (root:ssl-cert, 0640) and ca.crt, the program
/usr/local/lib/seawall/certificate that issues, renews and deploys them, its configuration /etc/seawall/certificate.conf,
and seawall-certificate.timer, which runs it twice a day. A certificate is renewed when less than a third of its own
lifetime is left. PostgreSQL and PgBouncer are reloaded, and what they then serve is looked at: what they do not take up
is put back.

`issuer: letsencrypt` orders by `challenge`: `tls-alpn-01` needs port 443 open to anywhere, `http-01` port 80, `dns-01`
no port but `acme_dns`, the address of an acme-dns service, and one CNAME per name that the plan shows. A name that was never
issued is tried with the staging service first. After three failed orders within an hour nothing is ordered.
`issuer: private` makes a CA on the server; clients pin its ca.crt and connect with sslmode=verify-full.

With `copy_pass` and a `backup` section, a copy of keys, certificates and the private CA is kept in its bucket below
STANZA.certificate: a rebuilt server has the same CA, and orders nothing that it has already. The copy is sealed with `copy_pass`
and stored with an identity of its own, SERVER-certificate; both are root's alone, so that whoever gets into PostgreSQL can
neither read the copy nor leave one for the next server.

Does not manage: whether PostgreSQL uses these files (`postgres.cluster`), the DNS record of the name, wildcards. When
the section goes, the timer and the program go; certificates and keys stay, because something may still serve them.

    servers:
      db:
        certificate:
          name: db.example.org
          issuer: letsencrypt
          challenge: tls-alpn-01
          contact: ops@example.org
          copy_pass: { env: SEAWALL_CERTIFICATE_PASS }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.certificate.as_ref()?;
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    name: section.name.clone(),
                    also: section.also.clone(),
                    issuer: section.issuer,
                    challenge: section.challenge,
                    contact: section.contact.clone(),
                    acme_dns: section.acme_dns.clone(),
                    consumers: consumers(server),
                    copy: copy(inventory, server),
                };
                let mut declared = host::declared(address, name, &[apt::KIND], "certificate", desired);
                let copies = declared.desired.copy.is_some();
                let identity = Address::new(IamUser::NAME, &Purpose::Certificate.identity(name));
                declared.after.extend(copies.then_some(identity));
                Some(declared)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = parts_of(desired).probes();
        let asked = question(desired);
        probes.push(command(&asked.iter().map(String::as_str).collect::<Vec<_>>()));
        probes.extend(desired.consumers.iter().map(|consumer| file(&consumer.settings)));
        probes.extend(desired.copy_pass().iter().flat_map(SecretFile::probes));
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(seen::look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired {
            address: _,
            name: _,
            also: _,
            issuer,
            // The program's; they are in its configuration.
            challenge: _,
            contact: _,
            acme_dns: _,
            consumers,
            copy: _,
        } = desired;
        let Actual {
            parts: seen,
            access,
            issuer: from,
            names: in_place,
            key_fits,
            authority_fits,
            served,
            copy,
            copy_pass,
            due,
            // Remarks.
            days: _,
            authority_days: _,
            failed: _,
            uncopied: _,
            cnames: _,
        } = actual;
        let mut fields = parts::fields(parts_of(desired).differences(Some(seen)));
        for (path, wanted) in ACCESS {
            // What is not there at all is a certificate that is not there, unless the CA's key is missing.
            let needed = access.contains_key(path) || !path.starts_with(seen::AUTHORITY) || *issuer == Issuer::Private;
            fields.extend(needed.then(|| FieldChange::between(path, &access.get(path), &Some(wanted))).flatten());
        }
        fields.extend(FieldChange::between("issuer", from, &Some(word(*issuer))));
        if access.contains_key(seen::CERTIFICATE) {
            fields.extend(FieldChange::between("names", in_place, &names(desired)));
            fields.extend(FieldChange::between("key", &belongs(*key_fits), &belongs(true)));
            fields.extend(FieldChange::between("ca.crt", &belongs(*authority_fits), &belongs(true)));
            if *due {
                let (before, after) = ("less than a third of its lifetime is left", "renewed");
                fields.extend(FieldChange::between("lifetime", &before, &after));
            }
        }
        for consumer in consumers {
            let serves = served.get(&consumer.unit);
            // Whether anything listens is its own kind's business, too.
            if serves.is_some_and(|serves| serves != seen::NOTHING) {
                fields.extend(FieldChange::between(&format!("served.{}", consumer.unit), &serves, &Some(SERVED)));
            }
        }
        fields.extend(desired.copy_pass().iter().flat_map(|pass| pass.differences(copy_pass)));
        if copy.as_deref() == Some("missing") {
            fields.push(FieldChange::new("copy", None, Some(Value::from("stored"))));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let differences = parts_of(desired).differences(actual.map(|actual| &actual.parts));
        let closing = parts::close(&differences);
        let folders = FOLDERS.into_iter().filter(|folder| actual.is_none() || host::differs(fields, folder));
        let mut steps: Vec<HostStep> = folders.map(|folder| host::directory(folder, "root", "root", "0755")).collect();
        steps.extend(closing.files);
        let pass = desired.copy_pass().filter(|pass| actual.is_none() || pass.differs(fields));
        steps.extend(pass.map(|pass| pass.step()));
        // The program mends what is not a unit, and a new program does its work at once.
        let of_a_unit = |field: &FieldChange| {
            let same = |one: &&Difference| one.field.path == field.path;
            differences.iter().find(same).is_some_and(|one| one.closes.contains(&Close::Reload))
        };
        if fields.iter().any(|field| field.limit.is_none() && !of_a_unit(field)) {
            let argv = [PROGRAM, "ensure", "opening"];
            let argv = if opened(desired).is_some() { &argv[..] } else { &argv[..2] };
            steps.push(host::run(argv, ENSURE_S, format!("issue and deploy the certificate of {}", desired.name)));
        }
        steps.extend(closing.start);
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        parts::remove(&UNITS.map(Unit::named), &[PROGRAM, SETTINGS])
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields = parts::fields(parts_of(desired).differences(None));
        fields.extend(
            ACCESS
                .iter()
                .filter(|(path, _)| !path.starts_with(seen::AUTHORITY) || desired.issuer == Issuer::Private)
                .map(|(path, access)| new(path, Value::from(*access))),
        );
        fields.push(new("issuer", Value::from(word(desired.issuer))));
        fields.push(new("names", Value::from(names(desired))));
        fields.extend(desired.copy_pass().iter().flat_map(|pass| pass.differences(&secret::State::default())));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        parts_of(desired).diffs(actual.map(|actual| &actual.parts))
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let left = actual.days.map(|days| format!("; {days} days are left")).unwrap_or_default();
        if let Some(failed) = &actual.failed {
            remarks.push(Remark::broken(format!("the last order failed, {failed}{left}")));
        } else if actual.parts.units.get(SERVICE).is_some_and(|state| state.failed.is_some()) {
            let failed = format!("the last run of {SERVICE} failed: see `journalctl -u {SERVICE}`{left}");
            remarks.push(Remark::broken(failed));
        }
        let answered = actual.failed.is_none() && actual.issuer.as_deref() == Some(word(desired.issuer));
        if desired.challenge == Challenge::Dns01 && desired.issuer.is_public() && !answered {
            let records = actual.cnames.iter();
            remarks.extend(
                records
                    .map(|(name, to)| format!("set this record at your DNS provider, once: {name} CNAME {to}").into()),
            );
        }
        match (desired.copy.is_some(), actual.copy.as_deref(), &actual.uncopied) {
            (true, _, Some(why)) => remarks.push(Remark::broken(format!("no copy in the bucket: {why}"))),
            (true, Some("waits"), None) => {
                remarks.push("no copy in the bucket yet: its credentials are not here".into());
            }
            _ => {}
        }
        if desired.copy.is_none() && desired.issuer == Issuer::Private {
            remarks
                .push("the private CA is on this server alone: `copy_pass` keeps a sealed copy in the bucket".into());
        }
        if let Some(days) = actual.authority_days
            && days < AUTHORITY_DAYS
            && desired.issuer == Issuer::Private
        {
            remarks.push(format!("the private CA ends in {days} days: every client will need a new ca.crt").into());
        }
        remarks
    }
}

fn belongs(fits: bool) -> &'static str {
    if fits { "the certificate's" } else { "another's" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::HostStep;

    #[test]
    fn an_apply_opens_the_port_that_an_order_needs_and_no_other() {
        let asked = |issuer, challenge| {
            let desired = Desired {
                address: "host.certificate/db".parse().expect("an address"),
                name: "db.example.org".to_owned(),
                also: Vec::new(),
                issuer,
                challenge,
                contact: Some("ops@example.org".to_owned()),
                acme_dns: None,
                consumers: Vec::new(),
                copy: None,
            };
            let steps = HostCertificate::steps(&desired, None, &HostCertificate::describe(&desired));
            let ran = steps.into_iter().find_map(|step| match step {
                HostStep::Run { argv, .. } if argv[0] == PROGRAM => Some(argv[1..].join(" ")),
                _ => None,
            });
            ran.expect("the program runs")
        };
        assert_eq!(asked(Issuer::Letsencrypt, Challenge::TlsAlpn01), "ensure opening");
        assert_eq!(asked(Issuer::LetsencryptStaging, Challenge::Http01), "ensure opening");
        assert_eq!(asked(Issuer::Letsencrypt, Challenge::Dns01), "ensure");
        assert_eq!(asked(Issuer::Private, Challenge::TlsAlpn01), "ensure");
    }
}
