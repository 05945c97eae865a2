//! What is on a host about jobs: the files under our names, the units as systemd has loaded them, and how runs ended.
//!
//! A unit file can be a link to nowhere (a masked unit), and drop-ins change a unit without touching its file, so files
//! are listed by name and not asked for one by one. Of a file with secrets only the names of its variables are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::kinds::host::{is_below, properties};
use crate::kinds::host_jobs::units::{secrets_path, service, timer, unit_path};
use crate::kinds::host_jobs::{Desired, Job};
use crate::plan::observed::Unseen;
use crate::plan::probe::FileState;

/// Where [`ASK_FILES`] looks.
const FOLDERS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/usr/local/lib/seawall",
    "/etc/seawall/jobs",
];

/// Prints for each thing under our names `KIND SIZE MODE OWNER GROUP PATH`, and for a file its text. Of an environment
/// file it prints the names of the variables, and `?` for each line that is not `NAME='VALUE'`.
const ASK_FILES: &str = r#"one() {
    if [ -L "$1" ]; then stat -c 'link 0 %a %U %G %n' -- "$1"
    elif [ -f "$1" ]; then stat -c 'file %s %a %U %G %n' -- "$1" && cat -- "$1" && echo
    elif [ -d "$1" ]; then for child in "$1"/*; do [ -e "$child" ] || [ -L "$child" ] || continue; one "$child"; done
    elif [ -e "$1" ]; then stat -c 'other 0 %a %U %G %n' -- "$1"; fi
}
for path in /etc/systemd/system/seawall-job-* /run/systemd/system/seawall-job-* \
    /etc/systemd/system.control/seawall-job-* /run/systemd/system.control/seawall-job-* \
    /etc/systemd/system/seawall-alert@* /run/systemd/system/seawall-alert@* \
    /etc/systemd/system/*.wants/seawall-job-* /usr/local/lib/seawall/alert; do one "$path"; done
for path in /etc/seawall/jobs/*; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    if [ -L "$path" ] || [ ! -f "$path" ]; then stat -c 'other 0 %a %U %G %n' -- "$path"; continue; fi
    stat -c 'secrets 0 %a %U %G %n' -- "$path" && sed -e '/^#/d' -e "s/^\([A-Za-z_][A-Za-z0-9_]*\)='[^']*'\$/\1/" -e t -e 's/.*/?/' -- "$path" &&
        echo
done"#;

/// Prints the host's clock, and for each NAME USER PROGRAM whether both are there, when the timer last ran (or was made)
/// and the newest failure. All of it outlives a reboot; what systemd remembers of a run does not.
const ASK_RUNS: &str = r#"date '+now %s'
while [ $# -ge 3 ]; do
    getent passwd -- "$2" >/dev/null && echo "user $1"
    if [ -f "$3" ]; then echo "program $1"; [ -x "$3" ] && echo "executable $1"; fi
    stamp=$(stat -c %Y -- "/var/lib/systemd/timers/stamp-seawall-job-$1.timer" 2>/dev/null) && echo "stamp $1 $stamp"
    failed=$(tail -n 1 -- "/var/lib/seawall/alerts/seawall-job-$1.service.jsonl" 2>/dev/null) && [ -n "$failed" ] &&
        printf 'failed %s %s\n' "$1" "$failed"
    shift 3
done
exit 0"#;

const PROPERTIES: &str = "--property=Id,LoadState,FragmentPath,DropInPaths,NeedDaemonReload,UnitFileState,ActiveState,\
ExecStart,ExecStartEx,User,TimeoutStartUSec,OnFailure,EnvironmentFiles,Unit,TimersCalendar,Persistent,Result,ExecMainExitTimestamp";

pub(super) fn ask_files() -> [&'static str; 3] {
    ["sh", "-c", ASK_FILES]
}

/// The service and the timer of every job; a unit that is not there answers, too.
pub(super) fn ask_units(desired: &Desired) -> Vec<String> {
    let mut argv =
        ["systemctl", "show", "--no-pager", "--timestamp=unix", PROPERTIES, "--"].map(str::to_owned).to_vec();
    argv.extend(desired.jobs.keys().flat_map(|name| [service(name), timer(name)]));
    argv
}

pub(super) fn ask_runs(desired: &Desired) -> Vec<String> {
    let mut argv = ["sh", "-c", ASK_RUNS, "sh"].map(str::to_owned).to_vec();
    argv.extend(desired.jobs.iter().flat_map(|(name, job)| [name.clone(), job.user.clone(), job.program().to_owned()]));
    argv
}

/// A thing under one of our names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    File(FileState),
    /// Access, and the names of the variables.
    Secrets(String),
    /// A link (a masked unit is one), or something stranger.
    Other(String),
}

/// Reads what [`ask_files`] printed.
pub(super) fn files(printed: &str) -> Result<BTreeMap<String, Found>, Unseen> {
    let misread = |what: &str| Unseen::Misread(format!("the list of files of jobs: {what}"));
    let mut found = BTreeMap::new();
    let mut rest = printed;
    while !rest.is_empty() {
        let (head, tail) = rest.split_once('\n').ok_or_else(|| misread("it ends within a line"))?;
        let words: Vec<&str> = head.splitn(6, ' ').collect();
        let [kind, size, mode, owner, group, path] = words.as_slice() else { return Err(misread(head)) };
        let thing = match *kind {
            "file" => {
                let size: usize = size.parse().map_err(|_| misread(head))?;
                let (text, after) = tail.split_at_checked(size).ok_or_else(|| misread("a text is not whole"))?;
                rest = after.strip_prefix('\n').ok_or_else(|| misread("a file changed while it was read"))?;
                Found::File(FileState {
                    owner: (*owner).to_owned(),
                    group: (*group).to_owned(),
                    mode: (*mode).to_owned(),
                    size: size as u64,
                    digest: Digest::of_bytes(text.as_bytes()).to_string(),
                    text: Some(text.to_owned()),
                })
            }
            "secrets" => {
                // An empty line ends the names; a file without variables has none before it.
                let (names, after) = match tail.strip_prefix('\n') {
                    Some(after) => ("", after),
                    None => tail.split_once("\n\n").ok_or_else(|| misread("names without an end"))?,
                };
                rest = after;
                Found::Secrets(access(mode, owner, group, names.lines()))
            }
            "link" | "other" => {
                rest = tail;
                Found::Other((*kind).to_owned())
            }
            _ => return Err(misread(head)),
        };
        if !is_below(path, FOLDERS) {
            return Err(misread(head));
        }
        found.insert((*path).to_owned(), thing);
    }
    Ok(found)
}

/// Access to a file and what it sets, as one text.
pub(super) fn access<'a>(mode: &str, owner: &str, group: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!("{mode} {owner}:{group}");
    for name in names {
        text.extend([" ", name]);
    }
    text
}

/// A unit as systemd has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// What must be as wanted, by a name for people: `run`, `user`, `when` …
    pub effect: BTreeMap<String, String>,
    pub drop_ins: Vec<String>,
    pub stale: bool,
    #[serde(skip)]
    pub ended: Option<u64>,
    #[serde(skip)]
    pub succeeded: bool,
}

/// Reads what [`ask_units`] printed: one block a unit.
pub(super) fn units(printed: &str, desired: &Desired) -> Result<BTreeMap<String, Unit>, Unseen> {
    let blocks: Vec<BTreeMap<&str, &str>> = printed.trim_end().split("\n\n").map(properties).collect();
    let mut units = BTreeMap::new();
    for name in desired.jobs.keys() {
        for (unit, is_timer) in [(service(name), false), (timer(name), true)] {
            let block = blocks.iter().find(|block| block.get("Id") == Some(&unit.as_str()));
            let block =
                block.ok_or_else(|| Unseen::Misread(format!("`systemctl show` says nothing about `{unit}`")))?;
            let of = |key: &str| block.get(key).copied().unwrap_or_default();
            let time = |key: &str| of(key).strip_prefix('@').and_then(|seconds| seconds.parse().ok());
            units.insert(
                unit,
                Unit {
                    effect: if is_timer { timer_effect(&of) } else { service_effect(&of) },
                    drop_ins: of("DropInPaths").split_whitespace().map(str::to_owned).collect(),
                    stale: of("NeedDaemonReload") == "yes",
                    ended: time("ExecMainExitTimestamp"),
                    succeeded: of("Result") == "success",
                },
            );
        }
    }
    Ok(units)
}

fn effect<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What systemd would run, as it prints it. It joins the arguments with blanks, and so does [`Job`].
fn service_effect<'a>(of: &impl Fn(&str) -> &'a str) -> BTreeMap<String, String> {
    let exec = of("ExecStart");
    let run =
        exec.split_once("argv[]=").and_then(|(_, rest)| rest.rsplit_once(" ; ignore_errors=")).map(|(run, _)| run);
    let literal = of("ExecStartEx").contains(" ; flags=no-env-expand ; ");
    effect([
        ("loaded", format!("{} {}", of("LoadState"), of("FragmentPath")).trim().to_owned()),
        (
            "run",
            run.map_or_else(
                String::new,
                |run| if literal { run.to_owned() } else { format!("{run} (variables replaced)") },
            ),
        ),
        ("user", of("User").to_owned()),
        ("timeout", of("TimeoutStartUSec").to_owned()),
        ("on_failure", of("OnFailure").to_owned()),
        ("secrets", of("EnvironmentFiles").to_owned()),
    ])
}

fn timer_effect<'a>(of: &impl Fn(&str) -> &'a str) -> BTreeMap<String, String> {
    let calendar = of("TimersCalendar");
    let when = calendar
        .strip_prefix("{ OnCalendar=")
        .and_then(|rest| rest.rsplit_once(" ; next_elapse="))
        .map(|(when, _)| when);
    let state = of("UnitFileState");
    effect([
        ("loaded", format!("{} {}", of("LoadState"), of("FragmentPath")).trim().to_owned()),
        ("when", when.unwrap_or_default().to_owned()),
        ("starts", of("Unit").to_owned()),
        ("catches_up", of("Persistent").to_owned()),
        ("timer", format!("{}, {}", if state.is_empty() { "not there" } else { state }, of("ActiveState"))),
    ])
}

/// How runs went, by job. Not part of a plan's guard: it changes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub now: u64,
    pub jobs: BTreeMap<String, Run>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub user: bool,
    pub program: bool,
    pub executable: bool,
    pub stamp: Option<u64>,
    pub failed: Option<Failure>,
}

/// A line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    pub at: u64,
    pub result: String,
    pub status: String,
    #[serde(default)]
    pub lines: Vec<String>,
}

/// Reads what [`ask_runs`] printed.
pub(super) fn runs(printed: &str) -> Result<Runs, Unseen> {
    let mut runs = Runs::default();
    for line in printed.lines() {
        let misread = || Unseen::Misread(format!("how jobs went: `{line}`"));
        let (what, rest) = line.split_once(' ').ok_or_else(misread)?;
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        if what == "now" {
            runs.now = rest.parse().map_err(|_| misread())?;
            continue;
        }
        let run = runs.jobs.entry(name.to_owned()).or_default();
        match what {
            "user" => run.user = true,
            "program" => run.program = true,
            "executable" => run.executable = true,
            "stamp" => run.stamp = Some(value.parse().map_err(|_| misread())?),
            // A record that cannot be read says that something failed, and no more.
            "failed" => {
                run.failed = Some(serde_json::from_str(value).unwrap_or(Failure {
                    at: 0,
                    result: "unreadable record".to_owned(),
                    status: String::new(),
                    lines: Vec::new(),
                }));
            }
            _ => return Err(misread()),
        }
    }
    if runs.now == 0 { Err(Unseen::Misread("the host's clock is not known".to_owned())) } else { Ok(runs) }
}

/// Seconds as systemd prints a span: `1h 30min`.
pub(super) fn span(seconds: u64) -> String {
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (unit, length) in [("w", 604_800), ("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)] {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    parts.join(" ")
}

/// What systemd must say about a job's units.
pub(super) fn wanted(name: &str, job: &Job) -> [(String, BTreeMap<String, String>); 2] {
    let loaded = |unit: &str| format!("loaded {}", unit_path(unit));
    let (service, timer) = (service(name), timer(name));
    let secrets =
        if job.secrets.is_empty() { String::new() } else { format!("{} (ignore_errors=no)", secrets_path(name)) };
    [
        (
            service.clone(),
            effect([
                ("loaded", loaded(&service)),
                ("run", job.words.join(" ")),
                ("user", job.user.clone()),
                ("timeout", span(job.timeout)),
                ("on_failure", format!("seawall-alert@{service}.service")),
                ("secrets", secrets),
            ]),
        ),
        (
            timer.clone(),
            effect([
                ("loaded", loaded(&timer)),
                ("when", job.when.clone()),
                ("starts", service),
                ("catches_up", "yes".to_owned()),
                ("timer", "enabled, active".to_owned()),
            ]),
        ),
    ]
}
