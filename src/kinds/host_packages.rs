//! `host.packages`: Debian packages that must be installed, in one call of apt.
//!
//! The inventory's `packages` and what other sections need become one resource per server, so that apt runs once.
//! Deliberately absent: versions (security updates move them), removal, and third-party archives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host;
use crate::kinds::host_certificate;
use crate::kinds::host_compose;
use crate::kinds::host_fail2ban;
use crate::kinds::host_time;
use crate::kinds::host_ufw;
use crate::kinds::host_updates;
use crate::kinds::pgbouncer_pool;
use crate::kinds::postgres_dumps;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::FieldChange;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, Probe, command};
use crate::plan::step::HostStep;

/// Seconds for `apt-get update`: two small archives take seconds; a mirror that hangs must not hold the host for long.
const UPDATE_TIMEOUT_S: u32 = 240;
/// Seconds for one installation, the wait for the lock included: a database server's packages take half a minute on an
/// idle machine and minutes on a burstable one without credit.
const INSTALL_TIMEOUT_S: u32 = 1_200;
/// First boot runs apt by itself; wait this many seconds for its lock instead of failing.
pub(crate) const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

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

fn query(desired: &Desired) -> Vec<&str> {
    let mut argv = vec!["dpkg-query", "-W", "-f=${db:Status-Abbrev}|${Package}\\n", "--"];
    argv.extend(desired.packages.iter().map(String::as_str));
    argv
}

/// Installed for real: wished for (or on hold) and in state `installed`. `iU`, `iF`, `rc` and the like are not.
fn installed(status: &str) -> bool {
    matches!(status, "ii" | "hi")
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    // Status 1: some packages are not known to dpkg; the others are listed all the same.
    let listed = host::command(answers, &query(desired), &[0, 1])?;
    let mut status = BTreeMap::new();
    for line in listed.stdout.lines() {
        let (state, name) =
            line.split_once('|').ok_or_else(|| Unseen::Misread(format!("dpkg-query printed `{line}`")))?;
        // Listed with `un`: dpkg has heard of it, nothing of it is there.
        if !state.starts_with("un") {
            // A third letter means that it must be installed again: not an installed package.
            status.insert(name.to_owned(), state.trim_end().to_owned());
        }
    }
    Ok((!status.is_empty()).then_some(Actual { status }))
}

impl Kind for HostPackages {
    const NAME: &'static str = "host.packages";
    const SUMMARY: &'static str = "Debian packages that are installed";
    const EXPLAIN: &'static str = "\
Manages: that every package in `packages`, and every package that another section needs, is installed. One
`apt-get update` and one `apt-get install` for all that are missing; configuration files that you changed are kept.
A package that is half installed counts as missing and is repaired.

Does not manage: versions, archives beyond the image's own, and removal. A package that leaves the list stays
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
        vec![command(&query(desired))]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, packages } = desired;
        let Actual { status } = actual;
        packages
            .iter()
            .filter_map(|name| {
                // dpkg names a package without the architecture that may be asked for, as in `libc6:amd64`.
                let found = status.get(name.split(':').next().unwrap_or(name));
                let missing = !found.is_some_and(|status| installed(status));
                missing.then(|| field(name, found.map(String::as_str)))
            })
            .collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let missing: Vec<&str> = desired
            .packages
            .iter()
            .filter(|name| host::differs(fields, &format!("packages.{name}")))
            .map(String::as_str)
            .collect();
        if missing.is_empty() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        // Unpacked, half configured or waiting for triggers: an interrupted run. apt refuses until dpkg has caught up.
        let interrupted = |status: &String| status.chars().nth(1).is_some_and(|state| "UFHWt".contains(state));
        if actual.is_some_and(|actual| actual.status.values().any(interrupted)) {
            let argv = ["dpkg", "--configure", "-a", "--force-confold"];
            steps.push(apt(&argv, INSTALL_TIMEOUT_S, "finish interrupted installations"));
        }
        // Ends with status 0 even when no archive answered; then the installation below fails, or reading again does.
        let update = ["apt-get", "update", "-o", LOCK_TIMEOUT];
        steps.push(apt(&update, UPDATE_TIMEOUT_S, "fetch package lists"));
        let mut install = vec!["apt-get", "install", "-y", "--no-install-recommends", "-o", LOCK_TIMEOUT];
        // A configuration file that somebody changed stays; no question is ever asked.
        install.extend(["-o", "Dpkg::Options::=--force-confold", "--"]);
        install.extend(&missing);
        steps.push(apt(&install, INSTALL_TIMEOUT_S, &format!("install {}", missing.join(", "))));
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

/// A run of apt or dpkg that asks nothing: not debconf, and not needrestart where it is installed.
pub(crate) fn apt(argv: &[&str], timeout_s: u32, what: &str) -> HostStep {
    let env = [("DEBIAN_FRONTEND", "noninteractive"), ("NEEDRESTART_MODE", "a")];
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        stdin: None,
        timeout_s,
        revert: None,
        what: what.to_owned(),
    }
}
