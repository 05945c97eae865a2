//! `host.time`: time zone, and one time daemon that is set up, enabled and running.
//!
//! The daemon is systemd-timesyncd: Debian 12 images bring it, Debian's other time daemons conflict with it by package
//! (so there is exactly one), and a client that steps and slews is all a database server needs. Deliberately absent:
//! serving time to others, and hardware clocks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::Inventory;
use crate::kinds::host::{self, DETECT_CONTAINER, QUICK_S, Wanted};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;
use crate::render::render;

/// The package that `host.packages` installs for this section.
pub const PACKAGE: &str = "systemd-timesyncd";

const UNIT: &str = "systemd-timesyncd.service";
const PATH: &str = "/etc/systemd/timesyncd.conf.d/50-seawall.conf";
const DIRECTORY: &str = "/etc/systemd/timesyncd.conf.d";
const ZONEINFO: &str = "/usr/share/zoneinfo/";

const ASK_ZONE: [&str; 2] = ["readlink", "/etc/localtime"];
/// Seconds since 1970, as `@1700000000`; empty while the daemon has never run.
const ASK_UNIT: [&str; 6] = [
    "systemctl",
    "show",
    "--timestamp=unix",
    "-p",
    "UnitFileState,ActiveState,ConditionResult,ActiveEnterTimestamp",
    UNIT,
];
/// Not `timedatectl show-timesync`: it waits half a minute where the daemon does not run.
const ASK_WRITTEN: [&str; 4] = ["stat", "-c", "@%Y", PATH];
/// The daemon makes this file when it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Why the machine cannot do it, in plan and drift.
const LIMIT: &str = "the clock belongs to the machine that this container runs on, so the daemon does not start here";

pub struct HostTime;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub zone: String,
    pub servers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub file: Option<FileState>,
    /// Time zone that /etc/localtime points to; `None` where it is no such link.
    pub zone: Option<String>,
    pub enabled: bool,
    pub daemon: Daemon,
    /// The running daemon started after the drop-in was written, so it has read it.
    pub loaded: bool,
    pub synchronised: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Daemon {
    Active,
    Inactive,
    /// Its conditions keep it from starting in this container.
    CannotRun,
}

fn text(desired: &Desired) -> String {
    let context = serde_json::json!({ "address": desired.address, "servers": desired.servers.join(" ") });
    render("timesyncd.conf", &context).expect("the template and its context are tested together")
}

fn look(answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let file = host::file(answers, PATH)?;
    // Status 1: not a link, or not there.
    let link = host::command(answers, &ASK_ZONE, &[0, 1])?.stdout.trim();
    let zone = link.find(ZONEINFO).map(|at| link[at + ZONEINFO.len()..].to_owned());
    let unit = host::properties(&host::command(answers, &ASK_UNIT, &[0])?.stdout);
    let property = |name: &str| {
        let value = unit.get(name).copied();
        value.ok_or_else(|| Unseen::Misread(format!("`systemctl show {UNIT}` says nothing about {name}")))
    };
    let active = property("ActiveState")? == "active";
    let daemon = if active {
        Daemon::Active
    } else if property("ConditionResult")? == "no" && host::is_container(answers)? {
        Daemon::CannotRun
    } else {
        Daemon::Inactive
    };
    let seconds = |text: &str| text.trim().strip_prefix('@').and_then(|at| at.parse::<u64>().ok());
    let written = seconds(&answers.command(&ASK_WRITTEN)?.stdout);
    let started = seconds(property("ActiveEnterTimestamp")?);
    let actual = Actual {
        zone,
        enabled: property("UnitFileState")? == "enabled",
        daemon,
        loaded: active && written.is_some() && started >= written,
        synchronised: host::file(answers, SYNCHRONISED)?.is_some(),
        file,
    };
    // In a container this is never "absent": creating would mean to start what cannot start.
    Ok((actual.file.is_some() || daemon == Daemon::CannotRun).then_some(actual))
}

impl Kind for HostTime {
    const NAME: &'static str = "host.time";
    const SUMMARY: &'static str = "time zone, and a time daemon that is running";
    const EXPLAIN: &'static str = "\
Manages: the time zone (/etc/localtime), systemd-timesyncd's drop-in 50-seawall.conf, and that the daemon is enabled,
running, and was started after the drop-in was written. A clock that is not synchronised is remarked on: signatures of requests to AWS
fail when it is five minutes off, and backups with them.

Does not manage: other time daemons. Debian's packages of them conflict with systemd-timesyncd, so there is one.
When the section goes, the drop-in goes; zone and daemon stay as they are.

In a container the daemon cannot run: shown as limited and not acted on.

    servers:
      db:
        time:
          zone: Etc/UTC
          servers: [169.254.169.123]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let time = server.time.as_ref()?;
                let address = Address::new(Self::NAME, name.as_str());
                let desired =
                    Desired { address: address.clone(), zone: time.zone.clone(), servers: time.servers.clone() };
                Some(host::declared(address, name, &["host.packages"], "time", desired))
            })
            .collect()
    }

    fn probes(_desired: &Desired) -> Vec<Probe> {
        vec![
            file(PATH),
            command(&ASK_ZONE),
            command(&ASK_UNIT),
            command(&ASK_WRITTEN),
            file(SYNCHRONISED),
            command(&DETECT_CONTAINER),
        ]
    }

    fn read(_desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired {
            address: _,
            zone: wanted_zone,
            // In the file.
            servers: _,
        } = desired;
        let Actual {
            file,
            zone,
            enabled,
            daemon,
            loaded,
            // Comes by itself, some seconds after the start: a remark, nothing to act on.
            synchronised: _,
        } = actual;
        let active = *daemon == Daemon::Active;
        let limit = |field: FieldChange| match daemon {
            Daemon::CannotRun => field.limited(LIMIT),
            Daemon::Active | Daemon::Inactive => field,
        };
        let mut fields: Vec<FieldChange> =
            Wanted::public(PATH, text(desired)).change(file.as_ref()).into_iter().collect();
        fields.extend(FieldChange::between("zone", zone, &Some(wanted_zone)));
        fields.extend(FieldChange::between("daemon.enabled", enabled, &true));
        fields.extend(FieldChange::between("daemon.active", &active, &true).map(limit));
        if active && file.is_some() {
            fields.extend(FieldChange::between("daemon.loaded", loaded, &true));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        let differs = |path| host::differs(fields, path);
        if differs("zone") {
            let argv = ["timedatectl", "set-timezone", "--", &desired.zone];
            steps.push(host::run(&argv, QUICK_S, format!("set the time zone to {}", desired.zone)));
        }
        if differs(PATH) {
            steps.push(host::directory(DIRECTORY, "root", "root", "0755"));
            steps.push(Wanted::public(PATH, text(desired)).step(None));
        }
        if differs("daemon.enabled") {
            steps.push(host::run(&["systemctl", "enable", UNIT], QUICK_S, format!("enable {UNIT}")));
        }
        // Restart also starts; where the daemon cannot run, a new file needs no restart.
        let runs = !actual.is_some_and(|actual| actual.daemon == Daemon::CannotRun);
        if runs && (differs(PATH) || differs("daemon.active") || differs("daemon.loaded")) {
            steps.push(host::run(&["systemctl", "restart", UNIT], QUICK_S, format!("restart {UNIT}")));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // As a pattern the unit may be gone: what matches nothing is no error. `try` leaves a stopped daemon stopped.
        let restart = ["systemctl", "try-restart", "systemd-timesyncd.servic[e]"];
        vec![host::remove_file(PATH), host::run(&restart, QUICK_S, format!("restart {UNIT} if it runs"))]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields: Vec<FieldChange> = Wanted::public(PATH, text(desired)).change(None).into_iter().collect();
        fields.push(new("zone", Value::from(desired.zone.as_str())));
        fields.push(new("daemon.enabled", Value::from(true)));
        fields.push(new("daemon.active", Value::from(true)));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = actual.and_then(|actual| actual.file.as_ref());
        vec![Wanted::public(PATH, text(desired)).diff(before)]
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let silent = actual.daemon == Daemon::Active && !actual.synchronised;
        let remark = "the clock is not synchronised (yet): right after a start this takes up to a minute".to_owned();
        silent.then(|| remark.into()).into_iter().collect()
    }
}
