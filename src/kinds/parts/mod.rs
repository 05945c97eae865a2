//! Parts that host kinds are made of: files, secrets, units of systemd, packages.
//!
//! A part sees its differences and says of each what closes it, so that no kind looks at a field's name to decide what to
//! do. [`close`] puts all of it in order: what is in the way goes, files are written, systemd reads them once, units are
//! switched on. Deliberately absent: effects (what `sshd -T` or PostgreSQL says), restarts of services that people are
//! connected to, guards and refusals; these stay with each kind.

pub(crate) mod alert;
pub(crate) mod apt;
pub(crate) mod file;
pub(crate) mod secret;
pub(crate) mod unit;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::host::{self, QUICK_S};
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::{Starts, State, Unit};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, FileState, Probe};
use crate::plan::step::HostStep;

/// A difference, and what closes it.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) field: FieldChange,
    pub(crate) closes: Vec<Close>,
}

/// One thing that is done about a difference. Asked for twice, it is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// What stands in the way: a drop-in, or a link in the place of a unit.
    Remove(String),
    Write(File),
    /// systemd reads its files again.
    Reload,
    Enable(String),
    /// Started, or started again: a timer that runs does not see its new times.
    Restart(String),
}

/// The steps of [`close`]. A kind puts its own between the two.
pub(crate) struct Closing {
    /// What goes, what is written, and systemd's reading of it.
    pub(crate) files: Vec<HostStep>,
    /// Units that are switched on.
    pub(crate) start: Vec<HostStep>,
}

/// What closes these differences, each once and in an order in which it works.
pub(crate) fn close(differences: &[Difference]) -> Closing {
    let mut all: Vec<&Close> = Vec::new();
    for close in differences.iter().filter(|one| one.field.limit.is_none()).flat_map(|one| &one.closes) {
        if !all.contains(&close) {
            all.push(close);
        }
    }
    let (mut removed, mut written) = (Vec::new(), Vec::new());
    let (mut reloads, mut enabled, mut restarted) = (false, Vec::new(), Vec::new());
    let mut folders: Vec<&str> = Vec::new();
    for close in all {
        match close {
            Close::Remove(path) => removed.push(host::remove_file(path)),
            Close::Write(file) => {
                if let Some(folder) = file.folder().filter(|folder| !folders.contains(folder)) {
                    folders.push(folder);
                    written.push(host::directory(folder, "root", "root", "0755"));
                }
                written.push(file.step());
            }
            Close::Reload => reloads = true,
            Close::Enable(unit) => enabled.push(unit.as_str()),
            Close::Restart(unit) => restarted.push(unit.as_str()),
        }
    }
    let mut files = removed;
    files.extend(written);
    if reloads {
        files.push(reload());
    }
    let mut start = Vec::new();
    for (verb, units, when) in [("enable", enabled, " at boot"), ("restart", restarted, "")] {
        if !units.is_empty() {
            let argv = [&["systemctl", verb, "--"], units.as_slice()].concat();
            start.push(host::run(&argv, QUICK_S, format!("start {}{when}", units.join(", "))));
        }
    }
    Closing { files, start }
}

/// systemd reads its files again.
pub(crate) fn reload() -> HostStep {
    host::run(&["systemctl", "daemon-reload"], QUICK_S, "have systemd read the units")
}

/// The files and units of one resource. A unit's own file is among the files, and so is what records its failures.
pub(crate) struct Parts {
    pub(crate) files: Vec<File>,
    pub(crate) units: Vec<Unit>,
}

/// What was found of [`Parts`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub files: BTreeMap<String, FileState>,
    pub units: BTreeMap<String, State>,
    /// Links in the place of unit files, with where they lead: a masked unit leads to `/dev/null`.
    pub links: BTreeMap<String, String>,
    /// What systemd puts over our units, with what it sets.
    pub over: BTreeMap<String, String>,
}

impl Seen {
    /// Whether nothing of this resource's own is there, and nothing in its place.
    pub(crate) fn is_empty(&self) -> bool {
        let own = |path: &String| ![alert::SCRIPT, alert::UNIT_PATH].contains(&path.as_str());
        let listed = self.links.keys().chain(self.over.keys());
        !listed.chain(self.files.keys()).any(own)
    }
}

impl Parts {
    pub(crate) fn of(own: Vec<File>, mut units: Vec<Unit>) -> Self {
        let recorded =
            |file: &File| !file.path.ends_with(".service") || file.text.contains("OnFailure=seawall-alert@%n");
        debug_assert!(own.iter().all(recorded), "a service of ours says when it fails");
        let mut files = Vec::from(alert::files());
        files.extend(own);
        units.push(alert::unit());
        Self { files, units }
    }

    pub(crate) fn probes(&self) -> Vec<Probe> {
        let mut probes: Vec<Probe> = self.files.iter().map(|file| crate::plan::probe::file(&file.path)).collect();
        probes.extend(unit::probes(&self.units));
        probes
    }

    pub(crate) fn look(&self, answers: &Answers) -> Result<Seen, Unseen> {
        let (links, over) = unit::look_over(&self.units, answers)?;
        let mut files = BTreeMap::new();
        // What is a link is not read as a file.
        for file in self.files.iter().filter(|file| !links.contains_key(&file.path)) {
            files.extend(host::file(answers, &file.path)?.map(|state| (file.path.clone(), state)));
        }
        Ok(Seen { files, units: unit::look(&self.units, answers)?, links, over })
    }

    /// Everything that differs; all of it where nothing was found.
    pub(crate) fn differences(&self, seen: Option<&Seen>) -> Vec<Difference> {
        let nothing = Seen::default();
        let Seen { files, units, links, over } = seen.unwrap_or(&nothing);
        let mut all = Vec::new();
        for file in &self.files {
            let Some(mut field) = file.change(files.get(&file.path)) else { continue };
            let mut closes = Vec::new();
            if let Some(target) = links.get(&file.path) {
                field.before = Some(format!("link to {target}").into());
                closes.push(Close::Remove(file.path.clone()));
            }
            closes.push(Close::Write(file.clone()));
            if let Some(unit) = self.units.iter().find(|unit| unit.path() == file.path) {
                closes.extend(unit.taken_up());
            }
            all.push(Difference { field, closes });
        }
        for unit in &self.units {
            let Some(wanted) = unit.wanted() else { continue };
            let found = units.get(&unit.name).map(|state| state.text.as_str());
            if let Some(field) = FieldChange::between(&unit.name, &found, &Some(wanted)) {
                all.push(Difference { field, closes: unit.taken_up() });
            }
        }
        for (path, sets) in over {
            let mut closes = vec![Close::Remove(path.clone()), Close::Reload];
            closes.extend(self.units.iter().filter(|unit| unit.is_named_in(path)).flat_map(Unit::taken_up));
            all.push(Difference { field: FieldChange::new(path, Some(sets.as_str().into()), None), closes });
        }
        all
    }

    /// Text of the files, before and after.
    pub(crate) fn diffs(&self, seen: Option<&Seen>) -> Vec<FileDiff> {
        let before = |file: &File| seen.and_then(|seen| seen.files.get(&file.path));
        self.files.iter().map(|file| file.diff(before(file))).collect()
    }
}

/// Takes units and further files away. A run that is under way ends by itself.
pub(crate) fn remove(units: &[Unit], paths: &[&str]) -> Vec<HostStep> {
    let started: Vec<&Unit> = units.iter().filter(|unit| unit.starts == Starts::Always).collect();
    // As patterns they may match nothing, which is no error: parts may be gone already.
    let patterns: Vec<String> = started.iter().map(|unit| unit.pattern()).collect();
    let argv: Vec<&str> = ["systemctl", "stop"].into_iter().chain(patterns.iter().map(String::as_str)).collect();
    let names: Vec<&str> = started.iter().map(|unit| unit.name.as_str()).collect();
    let mut steps = vec![host::run(&argv, QUICK_S, format!("stop {}", names.join(", ")))];
    steps.extend(started.iter().map(|unit| host::remove_file(&unit.wants_path())));
    let own = units.iter().filter(|unit| **unit != alert::unit());
    steps.extend(own.map(|unit| host::remove_file(&unit.path())));
    steps.extend(paths.iter().map(|path| host::remove_file(path)));
    steps.push(reload());
    steps
}

/// What a kind shows: the fields of differences.
pub(crate) fn fields(differences: Vec<Difference>) -> Vec<FieldChange> {
    differences.into_iter().map(|difference| difference.field).collect()
}
