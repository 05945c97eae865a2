//! `host.fail2ban`: bans for addresses that keep failing to log in, judged by what the running server does.
//!
//! Four things must agree: our files, what fail2ban would load, what it runs with, and whether its filters know a failed
//! login when they see one. Deliberately absent: lifting bans (a person's decision), and jails of others.

mod asking;
mod effect;
mod jails;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Protocol, Server, Sources};
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::host_fail2ban::asking::{CHECK, ask_caught, ask_loaded, ask_running};
use crate::kinds::host_fail2ban::effect::{Effect, Running};
use crate::kinds::host_fail2ban::jails::{
    FILTER, JAILS, LOG, NEVER_BAN, POSTGRES, REPEATERS, SERVER, SSHD, files, names, wanted,
};
use crate::kinds::parts::unit::{self, Over};
use crate::kinds::parts::{self, apt};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file, glob};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// The packages that `host.packages` installs for this section. Two of them are only recommended by the first.
pub const PACKAGES: [&str; 3] = ["fail2ban", "python3-systemd", "nftables"];

const UNIT: &str = "fail2ban.service";

/// Seconds for apt to put back files of a package that is in its cache, the wait for its lock included.
const REINSTALL_S: u32 = 600;

/// Files beside ours that can overrule them. Of a filter, `.local` beats `.conf`.
const OVERRIDES: [&str; 4] = [
    "/etc/fail2ban/jail.d/*.local",
    "/etc/fail2ban/fail2ban.d/*.local",
    "/etc/fail2ban/filter.d/*.local",
    "/etc/fail2ban/action.d/*.local",
];
const FILTERS: &str = "/etc/fail2ban/filter.d/[rs]*.conf";

pub struct HostFail2ban;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub retries: u32,
    /// Seconds, as the three that follow.
    pub within: u64,
    pub ban: u64,
    pub longest_ban: u64,
    /// Networks that are never banned, without the host itself.
    pub never: Vec<String>,
    /// The port that sshd is wanted on.
    pub ssh_port: u16,
    /// Whether there is a PostgreSQL here to protect.
    pub postgres: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub files: BTreeMap<String, FileState>,
    /// For example `enabled, active`.
    pub unit: String,
    /// `jail.what` to value, as it would be loaded.
    pub loads: Effect,
    /// Why a part would not be loaded.
    pub problem: Option<String>,
    /// `jail.what` to value, as it runs.
    pub runs: Effect,
    /// Jail to whether its filter knows a failed login. For sshd it is `None` where no login was found to compare with.
    pub catches: BTreeMap<String, Option<bool>>,
    /// Filters of the package that are gone.
    pub missing: Vec<String>,
    /// Files that are read after ours.
    pub overrides: Vec<String>,
    /// What stands over its service.
    pub over: Over,
    /// Jail to addresses banned at the moment. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub banned: BTreeMap<String, usize>,
    #[serde(skip)]
    pub others: BTreeSet<String>,
}

/// The named networks that the firewall lets in to log in: operators and CI. What is as good as anywhere is no name.
fn operators(server: &Server) -> impl Iterator<Item = String> {
    let ssh = server.firewall.iter().filter(|rule| rule.port == server.ssh_port() && rule.protocol == Protocol::Tcp);
    let networks = ssh.flat_map(|rule| match &rule.from {
        Sources::Networks(networks) => networks.as_slice(),
        Sources::Anywhere(_) => &[],
    });
    networks.filter(|network| !network.is_as_good_as_anywhere()).map(ToString::to_string)
}

/// The named networks that may log in to PostgreSQL: an application that was given a wrong password keeps failing, and must be
/// let in when it has the right one.
fn clients(server: &Server) -> impl Iterator<Item = String> {
    let rules = server.postgres.iter().flat_map(|postgres| &postgres.access);
    let networks = rules.flat_map(|rule| &rule.from).filter(|network| !network.is_as_good_as_anywhere());
    networks.map(ToString::to_string)
}

fn ask_unit(verb: &'static str) -> [&'static str; 3] {
    ["systemctl", verb, UNIT]
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let mut found = BTreeMap::new();
    for wanted in files(desired) {
        found.extend(host::file(answers, wanted.path)?.map(|state| (wanted.path.to_owned(), state)));
    }
    let dump = answers.command(&ask_loaded(desired))?;
    // Nothing of ours, or no fail2ban: all of it is to be made.
    if dump.status == 127 || found.is_empty() {
        return Ok(None);
    }
    let (loads, told) = effect::loaded(&dump.stdout);
    let error =
        || dump.stderr.lines().rev().find_map(|line| line.split_once("ERROR").map(|(_, why)| why.trim().to_owned()));
    let asked = ask_running(desired);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let Running { effect: runs, banned, jails: mut others } =
        effect::running(&names(desired), &answers.command(&asked)?.stdout);
    others.retain(|jail| !names(desired).contains(&jail.as_str()));
    let mut catches = BTreeMap::new();
    let said = answers.command(&ask_caught(desired))?;
    for jail in names(desired) {
        let caught = asking::caught(jail, &said.stdout);
        // A filter that is not even tried knows nothing, but for sshd's: its line is made of a login.
        let caught = if jail == SSHD && said.ok() { caught } else { Some(caught.unwrap_or(false)) };
        catches.insert(jail.to_owned(), caught);
    }
    let state = |verb| answers.command(&ask_unit(verb)).map(|said| said.stdout.trim().to_owned());
    let shipped = answers.glob(FILTERS)?;
    let gone = |jail: &&str| !shipped.contains(&format!("/etc/fail2ban/filter.d/{jail}.conf").as_str());
    let mut overrides = Vec::new();
    for pattern in OVERRIDES {
        overrides.extend(answers.glob(pattern)?.into_iter().filter(|path| overrules(path)).map(str::to_owned));
    }
    Ok(Some(Actual {
        files: found,
        unit: format!("{}, {}", state("is-enabled")?, state("is-active")?),
        loads,
        problem: told.or_else(|| if dump.ok() { None } else { error().or(Some("it cannot be read".to_owned())) }),
        runs,
        catches,
        missing: [SSHD, REPEATERS].into_iter().filter(gone).map(str::to_owned).collect(),
        overrides,
        over: unit::look_debian(&[UNIT], answers)?,
        banned,
        others,
    }))
}

/// Whether a file beats ours: read later, or about a filter or action that a jail of ours uses.
fn overrules(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    match folder.rsplit('/').next() {
        Some("jail.d") => path > JAILS,
        Some("fail2ban.d") => path > SERVER,
        Some("filter.d") => {
            ["sshd.local", "recidive.local", "common.local", "seawall-postgresql.local"].contains(&name)
        }
        _ => name.starts_with("nftables"),
    }
}

/// Whether our files stand as they should and something else is wrong.
fn only_effect(fields: &[FieldChange]) -> bool {
    !fields.iter().any(|field| field.path.starts_with('/'))
}

fn starts(fields: &[FieldChange], part: &str) -> bool {
    fields.iter().any(|field| field.path.starts_with(part) && field.limit.is_none())
}

impl Kind for HostFail2ban {
    const NAME: &'static str = "host.fail2ban";
    const SUMMARY: &'static str = "bans for addresses that keep failing to log in";
    const EXPLAIN: &'static str = "\
Manages: fail2ban with a jail for sshd, one for addresses that are banned again and again (every port is closed to
them), and one for PostgreSQL where the server has a `postgres` section. Bans are made with nftables, for IPv4 and IPv6,
and each further ban of an address lasts twice as long as the one before, up to `longest_ban`.

It is judged by what it does, not by whether it runs: what it would load from all its files together, what it runs with,
and whether its filters know the line of a failed login as this host's sshd writes it.

Never banned are the host itself, the networks in `ignore`, every named network that `firewall` lets in to sshd or that
`access` lets in to PostgreSQL, and any address from which somebody logged in with a key in the last 7 days.

Does not manage: jails of others, which are reported, and lifting a ban (`fail2ban-client unban ADDRESS`). A file of
somebody else's that overrules these settings is named and not touched; the change is refused until it is gone. When the
section goes, the files go and fail2ban is stopped: on Debian 12 it does not start without settings.

    servers:
      db:
        fail2ban:
          retries: 5
          within: 10m
          ban: 1h
          longest_ban: 7d
          ignore: [198.51.100.0/24]
";
    const RISK: Risk = Risk::MayLockOut;

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.fail2ban.as_ref()?;
                let ignored = section.ignore.iter().map(ToString::to_string);
                let named: BTreeSet<String> = operators(server).chain(clients(server)).chain(ignored).collect();
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    retries: section.retries,
                    within: section.within.seconds(),
                    ban: section.ban.seconds(),
                    longest_ban: section.longest_ban.seconds(),
                    never: named.into_iter().collect(),
                    ssh_port: server.ssh_port(),
                    postgres: server.postgres.is_some(),
                };
                Some(host::declared(address, name, &[apt::KIND], "fail2ban", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let running = ask_running(desired);
        let running: Vec<&str> = running.iter().map(String::as_str).collect();
        let mut probes: Vec<Probe> = files(desired).iter().map(|wanted| file(wanted.path)).collect();
        probes.extend([&ask_loaded(desired)[..], &running, &ask_caught(desired)].map(command));
        probes.extend(["is-enabled", "is-active"].map(|verb| command(&ask_unit(verb))));
        probes.push(unit::probe_debian(&[UNIT]));
        probes.extend(OVERRIDES.iter().chain([&FILTERS]).map(|pattern| glob(pattern)));
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, retries: _, within: _, ban: _, longest_ban: _, never: _, ssh_port: _, postgres: _ } =
            desired;
        let Actual {
            files: found,
            unit,
            loads,
            problem,
            runs,
            catches,
            missing,
            over,
            // The reason of a refusal.
            overrides: _,
            // Remarks.
            banned: _,
            others: _,
        } = actual;
        let mut fields: Vec<FieldChange> =
            files(desired).iter().filter_map(|wanted| wanted.change(found.get(wanted.path))).collect();
        fields.extend(missing.iter().map(|filter| shipped(filter)));
        fields.extend(FieldChange::between("configuration", &problem.as_deref().unwrap_or("loads"), &"loads"));
        fields.extend(parts::fields(over.differences()));
        fields.extend(FieldChange::between("service", unit, &"enabled, active"));
        fields.extend(effect::differences("loads", loads, &wanted(desired)));
        fields.extend(effect::differences("runs", runs, &wanted(desired)));
        for jail in names(desired) {
            // Which patterns and which of the cluster's logs there are is for others to say; that all of them are used
            // is ours.
            for what in ["patterns", "reads"].map(|what| format!("{jail}.{what}")) {
                if let (Some(before), Some(after)) = (runs.get(&what), loads.get(&what))
                    && !wanted(desired).contains_key(&what)
                {
                    fields.extend(FieldChange::between(&format!("runs.{what}"), before, after));
                }
            }
            let caught = match catches.get(jail) {
                Some(Some(caught)) => Value::from(*caught),
                _ => Value::from("no login of ssh.service in the journal"),
            };
            fields.extend(FieldChange::between(&format!("catches.{jail}"), &caught, &true));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        if let Some(actual) = actual {
            steps.extend(parts::close(&actual.over.differences()).files);
            steps.extend(repair(actual, fields));
        }
        if actual.is_none() || starts(fields, "loads.recidive") {
            // A jail whose file is not there keeps fail2ban from starting.
            steps.push(host::run(&["touch", "-a", LOG], QUICK_S, format!("make sure that {LOG} is there")));
        }
        let written: Vec<Wanted<'_>> = files(desired).into_iter().filter(|w| host::differs(fields, w.path)).collect();
        if written.iter().any(|wanted| wanted.path == NEVER_BAN) {
            steps.push(host::directory(jails::FOLDER, "root", "root", "0755"));
        }
        // The jails are read with it, and until they are there, Debian's own settings do not pass.
        let jails_follow = written.iter().any(|wanted| wanted.path == JAILS);
        for wanted in written {
            let below = wanted.path.strip_prefix("/etc/fail2ban/");
            steps.push(match below {
                Some(_) if wanted.path == FILTER && jails_follow => wanted.step(None),
                // A broken file would end all bans at the next boot.
                Some(below) => wanted.step(Some(&["sh", "-c", CHECK, "sh", below, "{}"])),
                None => wanted.step(Some(&["sh", "-n", "{}"])),
            });
        }
        if fields.iter().any(|field| field.limit.is_none() && field.path != NEVER_BAN) {
            steps.extend(restart(actual));
            steps.push(asking::remember(desired));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        let files = [JAILS, SERVER, FILTER, NEVER_BAN, jails::REMEMBERED[0], jails::REMEMBERED[1]];
        let mut steps: Vec<HostStep> = files.map(host::remove_file).into();
        let (stop, start) = (["systemctl", "disable", "--now", UNIT], ["systemctl", "enable", "--now", UNIT]);
        steps.push(host::run_guarded(&stop, &start, QUICK_S, "stop fail2ban"));
        steps
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: String, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields: Vec<FieldChange> = files(desired).iter().filter_map(|wanted| wanted.change(None)).collect();
        fields.push(new("service".to_owned(), Value::from("enabled, active")));
        fields.extend(wanted(desired).into_iter().map(|(what, value)| new(format!("runs.{what}"), Value::from(value))));
        fields.extend(names(desired).into_iter().map(|jail| new(format!("catches.{jail}"), Value::from(true))));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = |path: &str| actual.and_then(|actual| actual.files.get(path));
        files(desired)
            .into_iter()
            .map(|wanted| (before(wanted.path), wanted))
            .map(|(b, wanted)| wanted.diff(b))
            .collect()
    }

    fn refusals(_desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> Vec<Diagnostic> {
        let overruled = starts(fields, "loads.") || starts(fields, "catches") || starts(fields, "configuration");
        let refusal = |path: &String| {
            Diagnostic::error("fail2ban-overruled", format!("`{path}` overrules what Seawall sets for fail2ban"))
                .note("fail2ban reads it after ours; writing ours again would change nothing")
                .hint("take out of that file what the fields above differ in, or remove it")
        };
        if overruled && only_effect(fields) { actual.overrides.iter().map(refusal).collect() } else { Vec::new() }
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let banned = actual.banned.iter().filter(|(_, count)| **count > 0);
        let banned = banned.map(|(jail, count)| match count {
            1 => format!("jail `{jail}` bans 1 address at the moment"),
            many => format!("jail `{jail}` bans {many} addresses at the moment"),
        });
        let others = actual.others.iter().map(|jail| format!("jail `{jail}` runs here and is not ours"));
        banned.chain(others).map(Remark::from).chain(actual.over.remarks()).collect()
    }
}

/// Puts back what the package brought, where something of it is gone or no longer does its work.
fn repair(actual: &Actual, fields: &[FieldChange]) -> Vec<HostStep> {
    let gone = |jail: &String| actual.missing.contains(jail);
    let blind =
        actual.catches.iter().filter(|(jail, caught)| **caught == Some(false) && *jail != POSTGRES && !gone(jail));
    let changed: Vec<&String> = if only_effect(fields) { blind.map(|(jail, _)| jail).collect() } else { Vec::new() };
    let unreadable = only_effect(fields) && starts(fields, "configuration");
    if actual.missing.is_empty() && changed.is_empty() && !unreadable {
        return Vec::new();
    }
    // apt puts back only what is not there; a filter that does not know a failed login is worse than none.
    let away = changed.iter().map(|jail| host::remove_file(&format!("/etc/fail2ban/filter.d/{jail}.conf")));
    let options = ["--reinstall", "-o", "Dpkg::Options::=--force-confmiss"];
    away.chain([apt::install_with(&options, &PACKAGES[..1], REINSTALL_S, "put back the package's own files")]).collect()
}

fn shipped(filter: &str) -> FieldChange {
    FieldChange::new(format!("filters.{filter}"), None, Some(Value::from("the package's")))
}

/// Takes up what is on disk. When the change is put back, every ban is lifted while the server still runs (it remembers
/// bans over a restart, and the operator's may be one of them), and then it starts with the files from before.
fn restart(actual: Option<&Actual>) -> Vec<HostStep> {
    let unban = ["fail2ban-client", "unban", "--all"];
    let mut steps =
        vec![host::run_guarded(&["fail2ban-client", "-t"], &unban, QUICK_S, "check what fail2ban would load")];
    steps.extend(actual.and_then(|actual| unit::unmask(&actual.unit, &[UNIT], "unmask fail2ban")));
    if actual.is_none_or(|actual| !actual.unit.starts_with("enabled")) {
        steps.push(host::run(&["systemctl", "enable", UNIT], QUICK_S, "start fail2ban at boot"));
    }
    let again = ["systemctl", "restart", UNIT];
    steps.push(host::run_guarded(&again, &again, QUICK_S, "restart fail2ban"));
    steps
}
