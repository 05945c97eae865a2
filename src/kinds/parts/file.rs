//! A file of ours with its access, its text, and the check that its candidate must pass.

use crate::kinds::host::Wanted;
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::probe::FileState;
use crate::plan::step::HostStep;

/// A file of root's. Its group and mode say who may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) group: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) text: String,
    /// A program and its arguments; `{}` is the candidate. A status other than 0 keeps the file as it is.
    check: Vec<String>,
}

impl File {
    /// A file that everybody may read.
    pub(crate) fn public(path: impl Into<String>, text: String) -> Self {
        Self { path: path.into(), group: "root", mode: "0644", text, check: Vec::new() }
    }

    /// A shell program that everybody may run.
    pub(crate) fn program(path: impl Into<String>, text: String) -> Self {
        Self { mode: "0755", ..Self::public(path, text) }.checked(&["sh", "-n", "{}"])
    }

    /// For root and a group.
    pub(crate) fn private(path: impl Into<String>, group: &'static str, text: String) -> Self {
        Self { group, mode: "0640", ..Self::public(path, text) }
    }

    pub(crate) fn checked(mut self, check: &[&str]) -> Self {
        self.check = check.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A folder that no package brings.
    pub(crate) fn folder(&self) -> Option<&str> {
        self.path.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| *folder == "/usr/local/lib/seawall")
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { path: &self.path, owner: "root", group: self.group, mode: self.mode, text: self.text.clone() }
    }

    pub(crate) fn change(&self, found: Option<&FileState>) -> Option<FieldChange> {
        self.wanted().change(found)
    }

    pub(crate) fn diff(&self, found: Option<&FileState>) -> FileDiff {
        self.wanted().diff(found)
    }

    pub(crate) fn step(&self) -> HostStep {
        let check: Vec<&str> = self.check.iter().map(String::as_str).collect();
        self.wanted().step(if check.is_empty() { None } else { Some(&check) })
    }
}
