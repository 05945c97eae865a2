//! `host.packages`: Debian packages that must be installed, in one call of apt.
//!
//! The inventory's `packages` and what other sections need become one resource per server, so that apt runs once.
//! Deliberately absent: versions (security updates move them), removal of anything but what is in the way of a wanted package, and
//! third-party archives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::packages::excluded_by;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host;
use crate::kinds::host_certificate;
use crate::kinds::host_compose;
use crate::kinds::host_fail2ban;
use crate::kinds::host_time;
use crate::kinds::host_ufw;
use crate::kinds::host_updates;
use crate::kinds::parts::apt;
use crate::kinds::pgbouncer_pool;
use crate::kinds::postgres_dumps;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::FieldChange;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, Probe};
use crate::plan::step::HostStep;

pub struct HostPackages;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub packages: BTreeSet<String>,
}

/// Status of each wanted package that dpkg knows: two letters, wish and state; `ii` is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub status: BTreeMap<String, String>,
}

fn wanted(server: &Server) -> BTreeSet<String> {
    let mut packages: BTreeSet<String> = server.packages.iter().cloned().collect();
    if server.updates.is_some() {
        packages.insert(host_updates::PACKAGE.to_owned());
    }
    if server.time.is_some() {
        packages.insert(host_time::PACKAGE.to_owned());
    }
    if !server.firewall.is_empty() {
        packages.insert(host_ufw::PACKAGE.to_owned());
    }
    if server.fail2ban.is_some() {
        packages.extend(host_fail2ban::PACKAGES.map(str::to_owned));
    }
    if server.pgbouncer.is_some() {
        packages.insert(pgbouncer_pool::PACKAGE.to_owned());
    }
    if let Some(section) = &server.certificate {
        packages.extend(host_certificate::packages(section, server).into_iter().map(str::to_owned));
    }
    if server.backup.as_ref().is_some_and(|backup| backup.dumps.is_some()) {
        packages.extend(postgres_dumps::PACKAGES.map(str::to_owned));
    }
    if server.compose.is_some() {
        packages.extend(host_compose::PACKAGES.map(str::to_owned));
    }
    packages
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let status = apt::look(&asked(desired), answers)?;
    Ok((!status.is_empty()).then_some(Actual { status }))
}

/// The packages that are wanted, and what cannot be beside them.
fn asked(desired: &Desired) -> Vec<String> {
    let excluded = excluded(desired).map(|(_, other)| other.to_owned());
    desired.packages.iter().cloned().chain(excluded).collect()
}

/// Wanted packages, each with one that cannot be beside it.
fn excluded(desired: &Desired) -> impl Iterator<Item = (&str, &'static str)> {
    desired.packages.iter().flat_map(|wanted| excluded_by(wanted).iter().map(move |&other| (wanted.as_str(), other)))
}

/// Some files of it are there beyond its configuration, so that it is in the way.
fn in_the_way(actual: &Actual, other: &str) -> bool {
    apt::status(&actual.status, other).and_then(|status| status.chars().nth(1)).is_some_and(|state| state != 'c')
}

impl Kind for HostPackages {
    const NAME: &'static str = apt::KIND;
    const SUMMARY: &'static str = "Debian packages that are installed";
    const EXPLAIN: &'static str = "\
Manages: that every package in `packages`, and every package that another section needs, is installed. One
`apt-get update` and one `apt-get install` for all that are missing; configuration files that you changed are kept.
A package that is half installed counts as missing and is repaired. Nothing is removed on the way, except what a plan
names: a package that Debian keeps from being beside one that a section needs, such as chrony beside systemd-timesyncd.

Does not manage: versions, archives beyond the image's own, and any other removal. A package that leaves the list stays
installed and is forgotten: removing a package can take its data or half the system along, and whether something
else came to need it cannot be seen.

    servers:
      db:
        packages: [jq, rsync]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let packages = wanted(server);
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired { address: address.clone(), packages };
                (!desired.packages.is_empty()).then(|| host::declared(address, name, &[], "packages", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        vec![apt::probe(&asked(desired))]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, packages } = desired;
        let Actual { status } = actual;
        let missing = packages.iter().filter_map(|name| {
            let found = apt::status(status, name);
            let missing = !found.is_some_and(apt::installed);
            missing.then(|| field(name, found))
        });
        let away = excluded(desired).filter(|(_, other)| in_the_way(actual, other)).map(|(_, other)| {
            FieldChange::new(format!("packages.{other}"), Some(Value::from("installed")), Some(Value::from("removed")))
        });
        missing.chain(away).collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let missing: Vec<&str> = desired
            .packages
            .iter()
            .filter(|name| host::differs(fields, &format!("packages.{name}")))
            .map(String::as_str)
            .collect();
        let away: Vec<(&str, &str)> =
            excluded(desired).filter(|(_, other)| host::differs(fields, &format!("packages.{other}"))).collect();
        if missing.is_empty() && away.is_empty() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if actual.is_some_and(|actual| apt::interrupted(&actual.status)) {
            steps.push(apt::catch_up());
        }
        for chunk in away.chunk_by(|(one, _), (other, _)| one == other) {
            steps.push(apt::remove(&chunk.iter().map(|(_, other)| *other).collect::<Vec<_>>(), chunk[0].0));
        }
        if !missing.is_empty() {
            steps.push(apt::update());
            steps.push(apt::install(&missing));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        desired.packages.iter().map(|name| field(name, None)).collect()
    }
}

fn field(name: &str, before: Option<&str>) -> FieldChange {
    let before = before.map(|status| Value::from(words(status)));
    FieldChange::new(format!("packages.{name}"), before, Some(Value::from("installed")))
}

/// What dpkg's letters mean: wanted, state, error (dpkg-query(1), `db:Status-Abbrev`).
fn words(status: &str) -> &'static str {
    let mut letters = status.chars().skip(1);
    let state = letters.next();
    if letters.next() == Some('R') {
        return "broken, to be installed again";
    }
    match state {
        Some('n') => "not installed",
        Some('c') => "removed, its configuration is left",
        Some('H') => "half installed",
        Some('U') => "unpacked, not configured",
        Some('F') => "half configured",
        Some('W' | 't') => "waiting for triggers",
        Some('i') => "installed, marked for removal",
        _ => "in a state that dpkg does not know",
    }
}
