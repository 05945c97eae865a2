//! A unit of systemd: its state, and what others put over it.
//!
//! A unit is more than its file: a link to nowhere masks it, a file of a higher rank replaces it, a drop-in changes it
//! (systemd.unit(5), "Unit File Load Path"). On units of ours all of that is removed. On a unit that a package of Debian
//! brought, a mask is lifted, and of drop-ins only those are removed that decide what runs and whether it does.
//! Deliberately absent: drop-ins for all units of a type (`service.d/`), which are the whole system's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::host::{self, QUICK_S};
use crate::kinds::parts::{Close, Difference};
use crate::plan::change::FieldChange;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// Where units are that no package brought.
pub(crate) const FOLDER: &str = "/etc/systemd/system";

/// The folders that systemd reads unit files from, but for its generators'.
const FOLDERS: &str = "/etc/systemd/system.control /run/systemd/system.control /run/systemd/transient \
/etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system";
/// The same without those that packages write to.
const ABOVE_PACKAGES: &str = "/etc/systemd/system.control /run/systemd/system.control /run/systemd/transient \
/etc/systemd/system /run/systemd/system";

/// FOLDERS UNIT...: prints everything of these names but our own files: `link PATH TARGET`, or `file PATH` and what it
/// sets, each line after `| `. A drop-in that is a link to a file is read as one. A value of the environment may be a
/// secret and is not shown.
const LOOK_OVER: &str = r#"folders=$1
shift
for unit; do
    for folder in $folders; do
        for path in "$folder"/$unit "$folder"/$unit.d/*.conf; do
            if [ -L "$path" ] && { [ "${path%.conf}" = "$path" ] || [ ! -f "$path" ]; }; then printf 'link %s %s\n' "$path" "$(readlink -- "$path")"
            elif [ -f "$path" ] && [ "$path" != "/etc/systemd/system/$unit" ]; then
                printf 'file %s\n' "$path"
                head -c 4096 -- "$path" | sed -e '/^[[:space:]]*\([#;].*\)\{0,1\}$/d' -e 's/^\([A-Za-z]*\(Environment\|Credential\)[A-Za-z]*\)=..*/\1=(not shown)/' -e 's/^/| /' -e '$a\'
            fi
        done
    done
done"#;

/// Settings of a drop-in that decide what runs and whether it does.
const DECISIVE: [&str; 6] = ["Exec", "Condition", "Assert", "User=", "Group=", "Environment"];

/// When a unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starts {
    /// From boot on: a timer, a path.
    Always,
    /// When another unit starts it.
    OnDemand,
    /// As one of its instances: `NAME@.service`.
    Template,
}

/// A unit whose file is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) starts: Starts,
}

/// What systemd says of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// For example `enabled, active`.
    pub text: String,
    /// How its last run failed, where it did. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub failed: Option<String>,
    /// Drop-ins for more units than this one.
    #[serde(skip)]
    pub shared: Vec<String>,
}

impl Unit {
    /// By its name: timers and paths run always, templates as instances, all others on demand.
    pub(crate) fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let starts = match name.rsplit_once('.') {
            Some((_, "timer" | "path")) => Starts::Always,
            Some((stem, _)) if stem.ends_with('@') => Starts::Template,
            _ => Starts::OnDemand,
        };
        Self { name, starts }
    }

    pub(crate) fn path(&self) -> String {
        format!("{FOLDER}/{}", self.name)
    }

    /// The state that it must have.
    pub(crate) fn wanted(&self) -> Option<&'static str> {
        match self.starts {
            Starts::Always => Some("enabled, active"),
            Starts::OnDemand => Some("loaded"),
            Starts::Template => None,
        }
    }

    /// What makes a change of it take effect.
    pub(super) fn taken_up(&self) -> Vec<Close> {
        let mut closes = vec![Close::Reload];
        if self.starts == Starts::Always {
            closes.extend([Close::Enable(self.name.clone()), Close::Restart(self.name.clone())]);
        }
        closes
    }

    /// The link that starts it at boot.
    pub(super) fn wants_path(&self) -> String {
        let kind = self.name.rsplit_once('.').map_or("", |(_, kind)| kind);
        format!("{FOLDER}/{kind}s.target.wants/{}", self.name)
    }

    /// A pattern of `systemctl` that matches this unit alone.
    pub(super) fn pattern(&self) -> String {
        let mut start = self.name.clone();
        let last = start.pop();
        format!("{start}[{}]", last.unwrap_or('?'))
    }

    /// Whether a path is one that systemd reads for this unit.
    pub(super) fn is_named_in(&self, path: &str) -> bool {
        let here = |name: &str| path.ends_with(&format!("/{name}")) || path.contains(&format!("/{name}.d/"));
        names(&self.name).iter().any(|name| here(name))
    }
}

/// The names under which systemd looks for a unit and its drop-ins: its own, for a template its instances', for an
/// instance its template's, and those that end after one of its dashes.
fn names(unit: &str) -> Vec<String> {
    let mut names = vec![unit.to_owned()];
    let Some((stem, kind)) = unit.rsplit_once('.') else { return names };
    if let Some((template, instance)) = stem.split_once('@') {
        names.push(if instance.is_empty() { format!("{template}@?*.{kind}") } else { format!("{template}@.{kind}") });
    }
    let stem = stem.split('@').next().unwrap_or(stem);
    names.extend(stem.match_indices('-').map(|(at, _)| format!("{}-.{kind}", &stem[..at])));
    names
}

fn ask(unit: &str) -> [&str; 6] {
    let properties =
        "LoadState,FragmentPath,DropInPaths,NeedDaemonReload,UnitFileState,ActiveState,Result,ExecMainStatus";
    ["systemctl", "show", "-p", properties, "--", unit]
}

fn ask_over(folders: &str, units: &[impl AsRef<str>]) -> Vec<String> {
    let mut argv = ["sh", "-c", LOOK_OVER, "sh", folders].map(str::to_owned).to_vec();
    for name in units.iter().flat_map(|unit| names(unit.as_ref())) {
        if !argv.contains(&name) {
            argv.push(name);
        }
    }
    argv
}

fn all(units: &[Unit]) -> Vec<&str> {
    units.iter().map(|unit| unit.name.as_str()).collect()
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

pub(super) fn probes(units: &[Unit]) -> Vec<Probe> {
    if units.is_empty() {
        return Vec::new();
    }
    let stateful = units.iter().filter(|unit| unit.wanted().is_some());
    let mut probes: Vec<Probe> = stateful.map(|unit| command(&ask(&unit.name))).collect();
    probes.push(command(&words(&ask_over(FOLDERS, &all(units)))));
    probes
}

pub(super) fn look(units: &[Unit], answers: &Answers) -> Result<BTreeMap<String, State>, Unseen> {
    let mut states = BTreeMap::new();
    for unit in units.iter().filter(|unit| unit.wanted().is_some()) {
        let said = host::properties(&host::command(answers, &ask(&unit.name), &[0])?.stdout);
        let of = |name: &str| said.get(name).copied().unwrap_or_default();
        let mut text = match (of("LoadState"), unit.starts) {
            ("loaded", Starts::Always) => format!("{}, {}", of("UnitFileState"), of("ActiveState")),
            (load, _) => load.to_owned(),
        };
        if of("NeedDaemonReload") == "yes" {
            text.push_str(", not reloaded");
        }
        let failed = !["", "success"].contains(&of("Result"));
        let failed = failed.then(|| format!("{}, status {}", of("Result"), of("ExecMainStatus")));
        let shared = of("DropInPaths").split_whitespace().filter(|path| !unit.is_named_in(path));
        states.insert(unit.name.clone(), State { text, failed, shared: shared.map(str::to_owned).collect() });
    }
    Ok(states)
}

type Listed = BTreeMap<String, String>;

/// Links in the place of our files, and what is put over our units.
pub(super) fn look_over(units: &[Unit], answers: &Answers) -> Result<(Listed, Listed), Unseen> {
    if units.is_empty() {
        return Ok((Listed::new(), Listed::new()));
    }
    let listed = listed(answers, &ask_over(FOLDERS, &all(units)))?;
    let in_place = |path: &String| units.iter().any(|unit| unit.path() == *path);
    Ok(listed.into_iter().partition(|(path, _)| in_place(path)))
}

/// Reads what [`LOOK_OVER`] printed.
fn listed(answers: &Answers, argv: &[String]) -> Result<Listed, Unseen> {
    let mut listed = Listed::new();
    let mut open: Option<String> = None;
    let is_ours = |path: &str| host::is_below(path, FOLDERS.split_whitespace());
    for line in host::command(answers, &words(argv), &[0])?.stdout.lines() {
        let misread = || Unseen::Misread(format!("the list of what changes units: `{line}`"));
        match (line.split_once(' ').ok_or_else(misread)?, &open) {
            (("link", rest), _) => {
                let (path, target) = rest.split_once(' ').filter(|(path, _)| is_ours(path)).ok_or_else(misread)?;
                listed.insert(path.to_owned(), target.to_owned());
                open = None;
            }
            (("file", path), _) if is_ours(path) => {
                listed.insert(path.to_owned(), String::new());
                open = Some(path.to_owned());
            }
            (("|", setting), Some(path)) => {
                let text = listed.entry(path.clone()).or_default();
                let gap = if text.is_empty() { "" } else { "; " };
                text.extend([gap, setting.trim()]);
            }
            _ => return Err(misread()),
        }
    }
    // A file that sets nothing is there all the same.
    for text in listed.values_mut().filter(|text| text.is_empty()) {
        text.push_str("(empty)");
    }
    Ok(listed)
}

/// Lifts the mask of units of Debian's, where their state says that they have one. A runtime mask ends with the next boot,
/// and `unmask` alone does not see it.
pub(crate) fn unmask(state: &str, units: &[&str], what: &str) -> Option<HostStep> {
    let verb: &[&str] = match state.split(',').next() {
        Some("masked") => &["systemctl", "unmask"],
        Some("masked-runtime") => &["systemctl", "unmask", "--runtime"],
        _ => return None,
    };
    Some(host::run(&[verb, units].concat(), QUICK_S, what))
}

/// What stands over a unit of Debian's, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over(pub BTreeMap<String, String>);

/// The question what stands over units that packages of Debian brought.
pub(crate) fn probe_debian(units: &[impl AsRef<str>]) -> Probe {
    command(&words(&ask_over(ABOVE_PACKAGES, units)))
}

pub(crate) fn look_debian(units: &[impl AsRef<str>], answers: &Answers) -> Result<Over, Unseen> {
    listed(answers, &ask_over(ABOVE_PACKAGES, units)).map(Over)
}

impl Over {
    fn decides(path: &str, sets: &str) -> bool {
        Self::masks(path, sets) || sets.split("; ").any(|line| DECISIVE.iter().any(|key| line.starts_with(key)))
    }

    fn masks(path: &str, sets: &str) -> bool {
        sets == "/dev/null" && !path.contains(".d/")
    }

    /// Masks and drop-ins that decide what runs. Others only tune it and stay: see [`Over::remarks`].
    pub(crate) fn differences(&self) -> Vec<Difference> {
        let decisive = self.0.iter().filter(|(path, sets)| Self::decides(path, sets));
        decisive
            .map(|(path, sets)| {
                let before = if Self::masks(path, sets) { "masked" } else { sets.as_str() };
                let field = FieldChange::new(path, Some(before.into()), None);
                Difference { field, closes: vec![Close::Remove(path.clone()), Close::Reload] }
            })
            .collect()
    }

    pub(crate) fn remarks(&self) -> Vec<Remark> {
        let tuning = self.0.iter().filter(|(path, sets)| !Self::decides(path, sets));
        tuning.map(|(path, sets)| format!("`{path}` is not ours and sets `{sets}`").into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_changed_under_more_names_than_its_own() {
        assert_eq!(names("ssh.service"), ["ssh.service"]);
        assert_eq!(
            names("seawall-backup@.service"),
            ["seawall-backup@.service", "seawall-backup@?*.service", "seawall-.service"]
        );
        assert_eq!(names("postgresql@15-main.service"), ["postgresql@15-main.service", "postgresql@.service"]);
        assert_eq!(
            names("seawall-backup-full.timer"),
            ["seawall-backup-full.timer", "seawall-.timer", "seawall-backup-.timer"]
        );
    }
}
