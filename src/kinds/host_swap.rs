//! `host.swap`: a swap file of the wanted size, in use now and after a reboot.
//!
//! One file, one line in /etc/fstab, the other lines kept as they are. Deliberately absent: partitions, swap that
//! others set up, and vm.swappiness (that is `host.sysctl`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::Inventory;
use crate::kinds::host::{self, DETECT_CONTAINER, QUICK_S, Wanted};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::step::{Content, HostStep};

const PATH: &str = "/swapfile";
const FSTAB: &str = "/etc/fstab";
/// The one line of ours. `#` lines would be lost to tools that rewrite the table, so it is known by its first word.
const LINE: &str = "/swapfile none swap sw 0 0";
const MIB: u64 = 1024 * 1024;
/// Seconds to move swapped pages back into memory: a gibibyte from a throttled disk takes minutes.
const SWAPOFF_TIMEOUT_S: u32 = 600;

/// `stat`, never a file probe: that one would read the whole gibibyte for its digest.
const ASK_FILE: [&str; 4] = ["stat", "-c", "%s %a %U:%G", PATH];
const ASK_ACTIVE: [&str; 4] = ["swapon", "--show=NAME", "--noheadings", "--raw"];

/// Why the machine cannot do it, in plan and drift.
const LIMIT: &str = "swap belongs to the machine that this container runs on";

pub struct HostSwap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub size_mib: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Bytes.
    pub size: Option<u64>,
    /// Mode, owner and group, for example `600 root:root`.
    pub access: Option<String>,
    pub active: bool,
    pub fstab: Option<FileState>,
    /// A container: nothing about swap can be done here.
    pub limited: bool,
}

fn look(answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let limited = host::is_container(answers)?;
    let stat = host::command(answers, &ASK_FILE, &[0, 1])?;
    let words = stat.stdout.trim().split_once(' ');
    if !stat.ok() && !stat.stderr.contains("No such file") {
        return Err(Unseen::Misread(format!("`stat {PATH}`: {}", stat.stderr.trim())));
    }
    let size = match words {
        Some((size, _)) => {
            Some(size.parse().map_err(|_| Unseen::Misread(format!("`stat {PATH}` printed `{}`", stat.stdout.trim())))?)
        }
        None => None,
    };
    let fstab = host::file(answers, FSTAB)?;
    if fstab.as_ref().is_some_and(|file| file.text.is_none()) {
        return Err(Unseen::Misread(format!("{FSTAB} is not text; its other lines could not be kept")));
    }
    let in_use = host::command(answers, &ASK_ACTIVE, &[0])?;
    let actual = Actual {
        size,
        access: words.map(|(_, access)| access.to_owned()),
        // A container sees the machine's swap, which may well have the same path.
        active: !limited && in_use.stdout.lines().any(|line| line.trim() == PATH),
        fstab,
        limited,
    };
    // In a container this is never "absent": creating would fill the disk with a file that nobody can use.
    let absent = !limited && actual.size.is_none() && !actual.active && actual.fstab.is_some();
    Ok((!absent).then_some(actual))
}

/// The table with our line: in the place of the first line of ours, or at the end.
fn table(before: &str) -> String {
    let mut ours = Some(LINE);
    let mut text = String::new();
    let mut push = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    for old in before.lines() {
        if old.split_whitespace().next() == Some(PATH) {
            ours.take().into_iter().for_each(&mut push);
        } else {
            push(old);
        }
    }
    ours.into_iter().for_each(push);
    text
}

/// The table as it should be.
fn fstab(before: Option<&FileState>) -> Wanted<'static> {
    let before = before.and_then(|file| file.text.as_deref());
    Wanted::public(FSTAB, table(before.unwrap_or_default()))
}

/// Takes our line out of the table without knowing the others. `$a\\` only completes a last line without newline.
fn unlist() -> HostStep {
    let line = format!("\\|^[[:space:]]*{PATH}[[:space:]]|d");
    let argv = ["sed", "-i", "-e", &line, "-e", "$a\\", FSTAB];
    host::run(&argv, QUICK_S, format!("take {PATH} out of {FSTAB}"))
}

/// Adds our line to a table whose other lines are not known: when the swap file is made from nothing.
fn append() -> HostStep {
    HostStep::Run {
        argv: vec!["tee".to_owned(), "-a".to_owned(), FSTAB.to_owned()],
        env: BTreeMap::new(),
        stdin: Some(Content::Text(format!("{LINE}\n"))),
        timeout_s: QUICK_S,
        revert: None,
        what: format!("list {PATH} in {FSTAB}"),
    }
}

fn listed(file: Option<&FileState>) -> Option<&str> {
    let text = file?.text.as_deref()?;
    text.lines().find(|line| line.split_whitespace().next() == Some(PATH))
}

impl Kind for HostSwap {
    const NAME: &'static str = "host.swap";
    const SUMMARY: &'static str = "a swap file, so that a short peak of memory does not end PostgreSQL";
    const EXPLAIN: &'static str = "\
Manages: /swapfile (size, owner, mode 0600), its line in /etc/fstab, and that it is in use. Every other line of the table
is kept as it is. A new size means: out of use, made anew, into use.

Does not manage: other swap files and partitions, and how eagerly the kernel swaps (vm.swappiness is in `sysctl`).
When the section goes, the file goes out of use and both it and its line are removed.

In a container swap belongs to the machine: shown as limited and not acted on; no file is made.

    servers:
      db:
        swap:
          size_mib: 1024
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let size_mib = server.swap.as_ref()?.size_mib;
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired { address: address.clone(), size_mib };
                Some(host::declared(address, name, &[], "swap", desired))
            })
            .collect()
    }

    fn probes(_desired: &Desired) -> Vec<Probe> {
        vec![command(&ASK_FILE), command(&ASK_ACTIVE), file(FSTAB), command(&DETECT_CONTAINER)]
    }

    fn read(_desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, size_mib } = desired;
        let Actual { size, access, active, fstab, limited } = actual;
        // Whole MiB for people, bytes where the size is not whole, so that a difference always shows.
        let size =
            size.map(
                |bytes| {
                    if bytes % MIB == 0 { Value::from(bytes / MIB) } else { Value::from(format!("{bytes} bytes")) }
                },
            );
        [
            FieldChange::between("size_mib", &size, &Some(size_mib)),
            FieldChange::between("access", access, &Some("600 root:root")),
            FieldChange::between("fstab", &listed(fstab.as_ref()), &Some(LINE)),
            FieldChange::between("active", active, &true),
        ]
        .into_iter()
        .flatten()
        .map(|field| if *limited { field.limited(LIMIT) } else { field })
        .collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let differs = |path| host::differs(fields, path);
        let mut steps = Vec::new();
        let active = actual.is_some_and(|actual| actual.active);
        let anew = differs("size_mib");
        if anew {
            if active {
                steps.push(host::run(&["swapoff", PATH], SWAPOFF_TIMEOUT_S, format!("stop using {PATH}")));
            }
            let size = format!("{}MiB", desired.size_mib);
            steps.push(host::run(&["rm", "-f", PATH], QUICK_S, format!("remove the old {PATH}")));
            // Memory of every process may land in it: readable by root only from its first byte on.
            let empty = ["install", "-m", "0600", "-o", "root", "-g", "root", "/dev/null", PATH];
            steps.push(host::run(&empty, QUICK_S, format!("make {PATH} for root only")));
            let fill = ["fallocate", "--length", &size, PATH];
            steps.push(host::run(&fill, QUICK_S, format!("give {PATH} {size}")));
        } else if differs("access") {
            steps.push(host::run(&["chown", "root:root", PATH], QUICK_S, format!("give {PATH} to root")));
            steps.push(host::run(&["chmod", "0600", PATH], QUICK_S, format!("close {PATH} to others")));
        }
        if anew || differs("active") {
            // What a swap file that is not in use contains is worth nothing, so it can be formatted at any time.
            steps.push(host::run(&["mkswap", PATH], QUICK_S, format!("format {PATH}")));
            steps.push(host::run(&["swapon", PATH], QUICK_S, format!("use {PATH}")));
        }
        if differs("fstab") {
            match actual {
                Some(actual) => steps.push(fstab(actual.fstab.as_ref()).step(None)),
                None => steps.extend([unlist(), append()]),
            }
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        vec![
            // systemd has a unit for every swap in use. As a pattern, it may match nothing, which is no error.
            host::run(&["systemctl", "stop", "swapfile.swa[p]"], SWAPOFF_TIMEOUT_S, format!("stop using {PATH}")),
            unlist(),
            host::run(&["rm", "-f", PATH], QUICK_S, format!("remove {PATH}")),
        ]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        vec![
            new("size_mib", Value::from(desired.size_mib)),
            new("access", Value::from("600 root:root")),
            new("fstab", Value::from(LINE)),
            new("active", Value::from(true)),
        ]
    }

    fn files(_desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        // On a host that is not known yet the table's other lines are not known either: better no diff than a wrong one.
        let table = actual.filter(|actual| !actual.limited).and_then(|actual| actual.fstab.as_ref());
        table.map(|file| fstab(Some(file)).diff(Some(file))).into_iter().collect()
    }
}
