//! `host.updates`: security updates by unattended-upgrades, judged by what apt and the timers will really do.
//!
//! One file that comes after the package's own; `apt-config dump` tells whether it wins. Deliberately absent: updates
//! from other archives than Debian's security archive (they restart the database), and reboots.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::{Inventory, SecurityUpdates, Updates};
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::parts::unit;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;
use crate::render::render;

/// The package that `host.packages` installs for this section.
pub const PACKAGE: &str = "unattended-upgrades";

/// After 20auto-upgrades and 50unattended-upgrades of the package: in apt, later files win.
const PATH: &str = "/etc/apt/apt.conf.d/52seawall-upgrades";
/// Debian's packages create it when a reboot is due.
const REBOOT: &str = "/run/reboot-required";
const TIMERS: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];
const ASK_CONFIG: [&str; 2] = ["apt-config", "dump"];
/// Origin and address of each archive that apt takes packages from.
const ASK_ARCHIVES: [&str; 5] = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(SITE)", "Created-By: Packages"];
/// Prints the stamp that apt's daily service leaves behind, where it is younger than three days.
const ASK_RECENT_RUN: [&str; 8] =
    ["find", "/var/lib/apt/periodic", "-maxdepth", "1", "-name", "upgrade-stamp", "-mtime", "-3"];
/// Prints our file where it is older than that: a run can be expected.
const ASK_LONG_SET: [&str; 4] = ["find", PATH, "-mtime", "+3"];
/// The one origin whose security updates are installed.
const COVERED: &str = "Debian";
const ORIGINS: &str = "Unattended-Upgrade::Origins-Pattern";

pub struct HostUpdates;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    /// Install security updates, not only report them.
    pub install: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub file: Option<FileState>,
    /// apt's values of the keys that we set, from all its files together. A list is joined with blanks.
    pub apt: BTreeMap<String, String>,
    /// Timer to its state, for example `enabled, active`.
    pub timers: BTreeMap<String, String>,
    pub reboot_due: bool,
    /// Archives whose updates are not installed automatically.
    pub not_covered: BTreeSet<String>,
    /// No run for days although one could be expected. Time alone makes it so, hence not part of a plan's guard.
    #[serde(skip)]
    pub overdue: bool,
}

fn ask_timer(verb: &'static str) -> Vec<&'static str> {
    [&["systemctl", verb][..], &TIMERS[..]].concat()
}

/// What apt must say when all its files are read.
fn effect(desired: &Desired) -> BTreeMap<&'static str, String> {
    let security = |suite: &str| format!("origin=Debian,codename=${{distro_codename}}{suite},label=Debian-Security");
    BTreeMap::from([
        ("APT::Periodic::Enable", "1".to_owned()),
        ("APT::Periodic::Update-Package-Lists", "1".to_owned()),
        ("APT::Periodic::Unattended-Upgrade", unattended(desired).to_owned()),
        (ORIGINS, format!("{} {}", security(""), security("-security"))),
        ("Unattended-Upgrade::Automatic-Reboot", "false".to_owned()),
    ])
}

fn unattended(desired: &Desired) -> &'static str {
    if desired.install { "1" } else { "0" }
}

fn text(desired: &Desired) -> String {
    let context = serde_json::json!({ "address": desired.address, "unattended": unattended(desired) });
    render("upgrades.conf", &context).expect("the template and its context are tested together")
}

/// `Key "value";` lines; a list repeats its key with `::` at the end.
fn apt_values(desired: &Desired, dump: &str) -> BTreeMap<String, String> {
    let wanted = effect(desired);
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for line in dump.lines() {
        let Some((key, value)) = line.split_once(' ') else {
            continue;
        };
        let key = key.trim_end_matches("::");
        let value = value.trim_end_matches(';').trim_matches('"');
        if wanted.contains_key(key) && !value.is_empty() {
            let all = values.entry(key.to_owned()).or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(value);
        }
    }
    values
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let file = host::file(answers, PATH)?;
    let dump = host::command(answers, &ASK_CONFIG, &[0])?;
    // A status other than 0 says that one of them is not so; the words say which.
    let enabled = answers.command(&ask_timer("is-enabled"))?;
    let active = answers.command(&ask_timer("is-active"))?;
    let mut enabled = enabled.stdout.lines();
    let mut active = active.stdout.lines();
    let mut timers = BTreeMap::new();
    for timer in TIMERS {
        let state = |word: Option<&str>| word.unwrap_or("unknown").to_owned();
        timers.insert(timer.to_owned(), format!("{}, {}", state(enabled.next()), state(active.next())));
    }
    let reboot_due = host::file(answers, REBOOT)?.is_some();
    let apt = apt_values(desired, &dump.stdout);
    let archives = host::command(answers, &ASK_ARCHIVES, &[0])?;
    let archives = archives.stdout.lines().filter_map(|line| line.split_once('|'));
    let not_covered = archives
        .filter(|(origin, _)| *origin != COVERED)
        .map(|(origin, site)| if origin.is_empty() { site.to_owned() } else { format!("{origin} ({site})") });
    let not_covered = not_covered.collect();
    // Status 1: the folder, or our file, is not there.
    let recent = host::command(answers, &ASK_RECENT_RUN, &[0, 1])?;
    let long_set = host::command(answers, &ASK_LONG_SET, &[0, 1])?;
    let overdue = recent.stdout.trim().is_empty() && !long_set.stdout.trim().is_empty();
    Ok(file.map(|file| Actual { file: Some(file), apt, timers, reboot_due, not_covered, overdue }))
}

impl Kind for HostUpdates {
    const NAME: &'static str = "host.updates";
    const SUMMARY: &'static str = "security updates, installed every day or only reported";
    const EXPLAIN: &'static str = "\
Manages: /etc/apt/apt.conf.d/52seawall-upgrades, what apt makes of it together with all its other files, and the timers
apt-daily and apt-daily-upgrade. Security updates of Debian's archive are installed every day (`security: automatic`) or
only known about (`report`).

Does not manage: archives of PostgreSQL and Timescale; their updates restart the database and are a person's decision.
An update of Debian's own PostgreSQL package is a security update and does restart it. Never reboots: a reboot that is
due is remarked on, and so are archives that are not covered, and a run that has not happened for three days. When the section goes, the file goes; the package and its own defaults stay.

    servers:
      db:
        updates:
          security: automatic
          reboot: report
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                // The only policy for reboots there is: report.
                let Updates { security, reboot: _ } = server.updates.as_ref()?;
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired { address: address.clone(), install: *security == SecurityUpdates::Automatic };
                Some(host::declared(address, name, &["host.packages"], "updates", desired))
            })
            .collect()
    }

    fn probes(_desired: &Desired) -> Vec<Probe> {
        vec![
            file(PATH),
            command(&ASK_CONFIG),
            command(&ask_timer("is-enabled")),
            command(&ask_timer("is-active")),
            file(REBOOT),
            command(&ASK_ARCHIVES),
            command(&ASK_RECENT_RUN),
            command(&ASK_LONG_SET),
        ]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, install: _ } = desired;
        let Actual {
            file,
            apt,
            timers,
            // A remark: no step of ours reboots.
            reboot_due: _,
            // Remarks, too: whose packages are installed, and time, are no steps of ours.
            not_covered: _,
            overdue: _,
        } = actual;
        let mut fields: Vec<FieldChange> =
            Wanted::public(PATH, text(desired)).change(file.as_ref()).into_iter().collect();
        for (key, value) in effect(desired) {
            fields.extend(FieldChange::between(&format!("apt.{key}"), &apt.get(key), &Some(value)));
        }
        for (timer, state) in timers {
            fields.extend(FieldChange::between(&format!("timers.{timer}"), state, &"enabled, active"));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let any = |prefix: &str| fields.iter().any(|f| f.limit.is_none() && f.path.starts_with(prefix));
        let mut steps = Vec::new();
        if any(PATH) || any("apt.") {
            // Parses the candidate alone; a file that apt cannot read would stop every later run of apt.
            let validate = ["apt-config", "-c", "{}", "dump"];
            steps.push(Wanted::public(PATH, text(desired)).step(Some(&validate)));
        }
        if any("timers.") {
            let mut unmasked: Vec<HostStep> = actual
                .iter()
                .flat_map(|actual| actual.timers.values())
                .filter_map(|state| unit::unmask(state, &TIMERS, "unmask the timers of apt"))
                .collect();
            unmasked.dedup();
            steps.extend(unmasked);
            let enable = [&["systemctl", "enable", "--now"][..], &TIMERS[..]].concat();
            steps.push(host::run(&enable, QUICK_S, "enable the timers of apt"));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        vec![host::remove_file(PATH)]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: String, value: &str| FieldChange::new(path, None, Some(Value::from(value)));
        let effect = effect(desired).into_iter();
        Wanted::public(PATH, text(desired))
            .change(None)
            .into_iter()
            .chain(effect.map(|(key, value)| new(format!("apt.{key}"), &value)))
            .chain(TIMERS.map(|timer| new(format!("timers.{timer}"), "enabled, active")))
            .collect()
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = actual.and_then(|actual| actual.file.as_ref());
        vec![Wanted::public(PATH, text(desired)).diff(before)]
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if actual.reboot_due {
            remarks.push("a reboot is due: an update that is installed does not work yet".into());
        }
        if actual.overdue && desired.install {
            let late = "no security update has run for three days: see `journalctl -u apt-daily-upgrade`";
            remarks.push(Remark::broken(late));
        }
        let archives = actual.not_covered.iter();
        remarks.extend(archives.map(|archive| format!("updates of {archive} are not installed automatically").into()));
        remarks
    }
}
