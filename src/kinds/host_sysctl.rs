//! `host.sysctl`: kernel parameters, judged by the file and by the live value.
//!
//! A hardened set, and the inventory's values over it, in one file that is loaded at boot; what differs live is set at
//! once. Deliberately absent: parameters of single interfaces, and files of others that set the same parameter later.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::{Inventory, Sysctl, SysctlValue};
use crate::kinds::host::{self, DETECT_CONTAINER, QUICK_S, Wanted};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::step::HostStep;
use crate::render::render;

/// After the distribution's own files; `99-sysctl.conf` (the link to /etc/sysctl.conf) still comes later, and the live
/// value tells when it wins.
const PATH: &str = "/etc/sysctl.d/60-seawall.conf";

/// Why the machine cannot do it, in plan and drift.
const LIMIT: &str = "this container shares its kernel and may not set it";

/// The hardened set, in groups with the reason that the rendered file gives.
const HARDENED: &[(&str, &[(&str, &str)])] = &[
    (
        "Packets must come from where their answers would go: no forged source addresses.",
        &[("net.ipv4.conf.all.rp_filter", "1"), ("net.ipv4.conf.default.rp_filter", "1")],
    ),
    (
        "Nobody on the network may change this host's routes, and it routes for nobody.",
        &[
            ("net.ipv4.conf.all.accept_redirects", "0"),
            ("net.ipv4.conf.default.accept_redirects", "0"),
            ("net.ipv4.conf.all.secure_redirects", "0"),
            ("net.ipv4.conf.default.secure_redirects", "0"),
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.default.send_redirects", "0"),
            ("net.ipv4.conf.all.accept_source_route", "0"),
            ("net.ipv4.conf.default.accept_source_route", "0"),
            ("net.ipv6.conf.all.accept_redirects", "0"),
            ("net.ipv6.conf.default.accept_redirects", "0"),
            ("net.ipv6.conf.all.accept_source_route", "0"),
            ("net.ipv6.conf.default.accept_source_route", "0"),
        ],
    ),
    ("A flood of half-open connections must not keep real ones out.", &[("net.ipv4.tcp_syncookies", "1")]),
    (
        "Kernel addresses and messages help an intruder to become root. unprivileged_bpf_disabled = 1 holds until a reboot.",
        &[("kernel.kptr_restrict", "2"), ("kernel.dmesg_restrict", "1"), ("kernel.unprivileged_bpf_disabled", "1")],
    ),
    ("Swap is for emergencies: pages of the database belong in memory.", &[("vm.swappiness", "10")]),
];

/// The heading of what the inventory adds to the hardened set.
const OWN: &str = "From the inventory.";

pub struct HostSysctl;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    /// Every parameter with its value, the hardened set included.
    pub settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub file: Option<FileState>,
    /// Live values; a parameter that this kernel does not have is missing.
    pub live: BTreeMap<String, String>,
    /// Parameters that this machine cannot set.
    pub limited: BTreeSet<String>,
}

#[derive(Serialize)]
struct Group<'a> {
    why: &'a str,
    settings: BTreeMap<&'a str, &'a str>,
}

fn settings(section: &Sysctl) -> BTreeMap<String, String> {
    let hardened = HARDENED.iter().flat_map(|(_, group)| group.iter());
    let mut all: BTreeMap<String, String> = hardened.map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    all.extend(section.settings.iter().map(|(key, value)| {
        let value = match value {
            SysctlValue::Number(number) => number.to_string(),
            SysctlValue::Text(text) => words(text),
        };
        (key.clone(), value)
    }));
    all
}

/// The kernel separates lists with tabs, people with blanks.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn text(desired: &Desired) -> String {
    let mut rest: BTreeMap<&str, &str> = desired.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut groups = Vec::new();
    for (why, keys) in HARDENED {
        let settings: BTreeMap<_, _> = keys.iter().filter_map(|(key, _)| rest.remove_entry(key)).collect();
        groups.push(Group { why, settings });
    }
    groups.push(Group { why: OWN, settings: rest });
    groups.retain(|group| !group.settings.is_empty());
    let context = serde_json::json!({ "address": desired.address, "groups": groups });
    render("sysctl.conf", &context).expect("the template and its context are tested together")
}

fn live(desired: &Desired) -> Vec<&str> {
    // `-e`: a parameter that this kernel does not have is left out instead of failing the others.
    let mut argv = vec!["sysctl", "-e", "--"];
    argv.extend(desired.settings.keys().map(String::as_str));
    argv
}

fn path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}

/// Whether a parameter is of the kernel as a whole, and so of every container that shares it. Only the network's belong to a namespace
/// (namespaces(7)); that a container may write another one is the mistake of whoever started it.
fn is_shared(key: &str) -> bool {
    !key.starts_with("net.")
}

fn writable(desired: &Desired) -> Vec<String> {
    // `-writable` asks the kernel (access(2)), which knows about read-only mounts; mode bits do not.
    let paths = desired.settings.keys().map(|key| path(key));
    let tail = ["-maxdepth", "0", "-writable"].map(str::to_owned);
    ["find".to_owned()].into_iter().chain(paths).chain(tail).collect()
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let file = host::file(answers, PATH)?;
    let values = host::command(answers, &live(desired), &[0, 1, 255])?;
    let live: BTreeMap<String, String> = values
        .stdout
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), words(value)))
        .collect();
    if live.is_empty() {
        return Err(Unseen::Misread(format!("sysctl said nothing: {}", values.stderr.trim())));
    }
    let argv = writable(desired);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    // Status 1: a path is not there; the others are listed all the same.
    let found = host::command(answers, &argv, &[0, 1])?;
    let writable: BTreeSet<&str> = found.stdout.lines().collect();
    let container = host::is_container(answers)?;
    let keys = desired.settings.keys();
    let limited: BTreeSet<String> =
        keys.filter(|key| container && (is_shared(key) || !writable.contains(path(key).as_str()))).cloned().collect();
    // In a container this is never "absent": creating would mean to set everything, and some of it cannot be set.
    let absent = file.is_none() && limited.is_empty();
    Ok((!absent).then_some(Actual { file, live, limited }))
}

impl Kind for HostSysctl {
    const NAME: &'static str = "host.sysctl";
    const SUMMARY: &'static str = "kernel parameters: a hardened set, and values of your own over it";
    const EXPLAIN: &'static str = "\
Manages: /etc/sysctl.d/60-seawall.conf and the live value of every parameter in it. A right file that was never loaded,
or a live value that somebody changed, is a difference. `settings` adds to the hardened set or overrides it; names are
written with dots.

Does not manage: parameters of single interfaces (`all` and `default` only), and vm.overcommit_memory unless you set
it. When the section goes, the file goes; live values stay until the next reboot.

In a container everything but net.* belongs to the machine, also where the container may write it: such parameters are shown as
limited and not acted on. The file is
written in full, so that it holds on a kernel of its own.

    servers:
      db:
        sysctl:
          settings:
            vm.swappiness: 5
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let settings = settings(server.sysctl.as_ref()?);
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired { address: address.clone(), settings };
                Some(host::declared(address, name, &[], "sysctl", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let writable = writable(desired);
        let writable: Vec<&str> = writable.iter().map(String::as_str).collect();
        vec![file(PATH), command(&live(desired)), command(&writable), command(&DETECT_CONTAINER)]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, settings } = desired;
        let Actual { file, live, limited } = actual;
        let mut fields: Vec<FieldChange> =
            Wanted::public(PATH, text(desired)).change(file.as_ref()).into_iter().collect();
        for (key, value) in settings {
            let field = FieldChange::between(&format!("live.{key}"), &live.get(key), &Some(value));
            let limit = |field: FieldChange| {
                if limited.contains(key) { field.limited(LIMIT) } else { field }
            };
            fields.extend(field.map(limit));
        }
        fields
    }

    fn steps(desired: &Desired, _actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        if host::differs(fields, PATH) {
            steps.push(Wanted::public(PATH, text(desired)).step(None));
        }
        let live: Vec<String> = desired
            .settings
            .iter()
            .filter(|(key, _)| host::differs(fields, &format!("live.{key}")))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !live.is_empty() {
            // Not `sysctl -p FILE`: that would fail on the parameters that this machine cannot set.
            let mut argv = vec!["sysctl", "-q", "-w", "--"];
            argv.extend(live.iter().map(String::as_str));
            let what = match live.as_slice() {
                [one] => format!("set {one}"),
                many => format!("set {} kernel parameters", many.len()),
            };
            steps.push(host::run(&argv, QUICK_S, what));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        vec![host::remove_file(PATH)]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let live = desired.settings.iter();
        Wanted::public(PATH, text(desired))
            .change(None)
            .into_iter()
            .chain(live.map(|(k, v)| FieldChange::new(format!("live.{k}"), None, Some(Value::from(v.as_str())))))
            .collect()
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = actual.and_then(|actual| actual.file.as_ref());
        vec![Wanted::public(PATH, text(desired)).diff(before)]
    }
}
