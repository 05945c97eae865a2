//! What the host kinds have in common: addresses, judging a file, reading answers, and the three steps they use.
//!
//! Every host resource is one per server and comes after its instance. Deliberately absent: anything that belongs to
//! one kind only.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::address::Address;
use crate::base::digest::Digest;
use crate::base::secret::{SecretForm, SecretRef, SecretUse};
use crate::inventory::scalar::Name;
use crate::kinds::Declared;
use crate::plan::Place;
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CommandState, FileState};
use crate::plan::step::{Content, HostStep};

/// Seconds that a quick local command may take: `systemctl`, `sysctl`, `useradd`. On a small, busy instance they take
/// seconds, never this long.
pub(crate) const QUICK_S: u32 = 60;

/// The kind that all others of a server come after.
pub(crate) const FOLDERS: &str = "host.folders";
/// The command that tells a container from a machine with its own kernel: status 0 in a container, 1 elsewhere.
pub(crate) const DETECT_CONTAINER: [&str; 2] = ["systemd-detect-virt", "--container"];

/// A resource of a server. `needs` are kinds on the same server that must be done before; `section` is below the server.
pub(crate) fn declared<D>(address: Address, server: &Name, needs: &[&str], section: &str, desired: D) -> Declared<D> {
    let mut after = vec![Address::new("lightsail.instance", server.as_str())];
    // Nothing is written before the folders are root's.
    if address.kind() != FOLDERS {
        after.push(Address::new(FOLDERS, server.as_str()));
    }
    after.extend(needs.iter().map(|kind| Address::new(kind, server.as_str())));
    Declared {
        address,
        place: Place::Host(server.to_string()),
        after,
        path: format!("servers.{server}.{section}"),
        desired,
    }
}

/// Present, absent or unknown from a reading that stops at the first answer that is missing.
pub(crate) fn observed<T>(look: Result<Option<T>, Unseen>) -> Observed<T> {
    match look {
        Ok(Some(actual)) => Observed::Present(actual),
        Ok(None) => Observed::Absent,
        Err(why) => Observed::Unknown(why),
    }
}

/// A file, or `None` where it is not there.
pub(crate) fn file(answers: &Answers, path: &str) -> Result<Option<FileState>, Unseen> {
    match answers.file(path) {
        Observed::Present(state) => Ok(Some(state)),
        Observed::Absent => Ok(None),
        Observed::Unknown(why) => Err(why),
    }
}

/// A command that ended with one of `statuses`; any other status is an answer that says nothing.
pub(crate) fn command<'a>(answers: &'a Answers, argv: &[&str], statuses: &[i32]) -> Result<&'a CommandState, Unseen> {
    let state = answers.command(argv)?;
    if statuses.contains(&state.status) {
        return Ok(state);
    }
    Err(Unseen::Misread(format!("`{}` ended with status {}: {}", argv.join(" "), state.status, state.stderr.trim())))
}

/// Whether the host is a container, which shares its kernel with others and may not change it.
pub(crate) fn is_container(answers: &Answers) -> Result<bool, Unseen> {
    Ok(command(answers, &DETECT_CONTAINER, &[0, 1])?.ok())
}

/// Whether a path that a host told is below one of these folders: only then may it become part of a step.
pub(crate) fn is_below<'a>(path: &str, folders: impl IntoIterator<Item = &'a str>) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    let below = |folder: &str| path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    folders.into_iter().filter_map(below).any(|rest| rest.split('/').all(plain))
}

/// `Key=value` lines as `systemctl show` prints them.
pub(crate) fn properties(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// A file as it should be.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) group: &'a str,
    /// Octal permission bits with a leading zero, for example `0644`.
    pub(crate) mode: &'a str,
    pub(crate) text: String,
}

impl<'a> Wanted<'a> {
    /// A file of root's that everybody may read.
    pub(crate) fn public(path: &'a str, text: String) -> Self {
        Self { path, owner: "root", group: "root", mode: "0644", text }
    }

    /// The difference to what is there: one field named by the path; the text itself is in the file diff.
    pub(crate) fn change(&self, actual: Option<&FileState>) -> Option<FieldChange> {
        let shown = |mode: &str, owner: &str, group: &str, digest: &Digest| {
            Value::from(format!("{} {owner}:{group} {}", mode.trim_start_matches('0'), digest.short()))
        };
        let after = shown(self.mode, self.owner, self.group, &Digest::of_bytes(self.text.as_bytes()));
        let before = actual.map(|file| {
            Value::from(format!(
                "{} {}:{} {}",
                file.mode,
                file.owner,
                file.group,
                file.digest.get(7..19).unwrap_or(&file.digest)
            ))
        });
        (before.as_ref() != Some(&after)).then(|| FieldChange::new(self.path, before, Some(after)))
    }

    /// Writes it; `validate` gets the candidate's path for `{}`.
    pub(crate) fn step(self, validate: Option<&[&str]>) -> HostStep {
        HostStep::WriteFile {
            path: self.path.to_owned(),
            owner: self.owner.to_owned(),
            group: self.group.to_owned(),
            mode: self.mode.to_owned(),
            content: Content::Text(self.text),
            validate: validate.map(owned),
        }
    }

    /// Its text before and after.
    pub(crate) fn diff(self, actual: Option<&FileState>) -> FileDiff {
        FileDiff {
            path: self.path.to_owned(),
            before: actual.and_then(|file| file.text.clone()),
            after: Some(self.text),
        }
    }
}

/// Runs a program with arguments.
pub(crate) fn run(argv: &[&str], timeout_s: u32, what: impl Into<String>) -> HostStep {
    settled(argv, timeout_s, what, None)
}

/// Runs a program that makes a service take up what is on disk. When a guarded change is put back, `revert` does the
/// same with the files that were there before.
pub(crate) fn run_guarded(argv: &[&str], revert: &[&str], timeout_s: u32, what: impl Into<String>) -> HostStep {
    settled(argv, timeout_s, what, Some(owned(revert)))
}

fn settled(argv: &[&str], timeout_s: u32, what: impl Into<String>, revert: Option<Vec<String>>) -> HostStep {
    let (argv, env, what) = (owned(argv), BTreeMap::new(), what.into());
    HostStep::Run { argv, env, stdin: None, timeout_s, revert, what }
}

/// Secrets that go to a host as they are, all in one form.
pub(crate) fn uses(secrets: &BTreeMap<String, SecretRef>, form: &SecretForm) -> BTreeMap<String, SecretUse> {
    let used = |from: &SecretRef| SecretUse { from: from.clone(), form: form.clone() };
    secrets.iter().map(|(name, from)| (name.clone(), used(from))).collect()
}

/// Makes a directory, or gives one that is there this owner and mode.
pub(crate) fn directory(path: &str, owner: &str, group: &str, mode: &str) -> HostStep {
    HostStep::MakeDirectory {
        path: path.to_owned(),
        owner: owner.to_owned(),
        group: group.to_owned(),
        mode: mode.to_owned(),
    }
}

/// Removes a file if it is there.
pub(crate) fn remove_file(path: &str) -> HostStep {
    HostStep::RemoveFile { path: path.to_owned() }
}

/// A configuration's text with some of its lines out of effect and still to be read.
pub(crate) fn silenced(text: &str, mut goes: impl FnMut(&str) -> bool) -> String {
    let line = |line: &str| format!("{}{line}", if goes(line) { "# not in effect by Seawall: " } else { "" });
    text.split_inclusive('\n').map(line).collect()
}

/// Whether a field differs that can be closed here.
pub(crate) fn differs(fields: &[FieldChange], path: &str) -> bool {
    fields.iter().any(|field| field.path == path && field.limit.is_none())
}

fn owned(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::sections::Inventory;
    use crate::kinds::KINDS;

    /// The indented end of an explanation, put over the least inventory there is.
    fn example(explain: &str) -> Inventory {
        let lines = explain.lines().filter_map(|line| line.strip_prefix("    "));
        let yaml = lines.collect::<Vec<_>>().join("\n");
        let shown: serde_json::Value = serde_yaml::from_str(&yaml).expect("the example is YAML");
        let mut whole = serde_json::json!({
            "seawall": 1,
            "environment": "env",
            "aws": { "account": "123456789012", "region": "ca-central-1" },
            "servers": { "db": {
                "instance": { "bundle": "small_3_0", "blueprint": "debian_12", "zone": "ca-central-1a" },
                "login": { "keys": [] },
            } },
        });
        let sections = shown["servers"]["db"].as_object().expect("the example shows a section of a server");
        let server = whole["servers"]["db"].as_object_mut().expect("an object");
        server.extend(sections.clone());
        whole["buckets"] = shown["buckets"].clone();
        if whole["buckets"].is_null() {
            whole["buckets"] = serde_json::json!({});
        }
        serde_json::from_value(whole).expect("the example is an inventory")
    }

    #[test]
    fn the_example_of_every_host_kind_declares_it() {
        let on_a_host = |name: &str| ["host.", "postgres."].iter().any(|room| name.starts_with(room));
        for kind in KINDS.iter().filter(|kind| on_a_host(kind.name)) {
            let wanted = (kind.declare)(&example(kind.explain));
            let [one] = wanted.as_slice() else {
                panic!("{}: {} resources", kind.name, wanted.len());
            };
            assert_eq!(one.address.to_string(), format!("{}/db", kind.name));
            assert_eq!(one.place, Place::Host("db".to_owned()));
            assert_eq!(one.after[0].to_string(), "lightsail.instance/db");
        }
    }

    #[test]
    fn a_path_that_is_told_is_below_its_folder_or_of_no_use() {
        let below = |path: &str| is_below(path, ["/etc/a", "/run/b"]);
        assert!(below("/etc/a/x") && below("/run/b/x.d/y"));
        for path in
            ["/etc/a", "/etc/a/", "/etc/ab/x", "/etc/a/../b", "/etc/a/./x", "/etc/a//x", "/etc/a/x\ny", "etc/a/x", ""]
        {
            assert!(!below(path), "{path}");
        }
    }

    #[test]
    fn an_inventory_without_sections_declares_only_the_login() {
        let inventory = example("    servers: { db: {} }\n");
        let host = KINDS.iter().filter(|kind| kind.name.starts_with("host."));
        let declared: Vec<_> = host.flat_map(|kind| (kind.declare)(&inventory)).collect();
        let declared: Vec<_> = declared.iter().map(|wanted| wanted.address.to_string()).collect();
        assert!(declared.contains(&"host.users/db".to_owned()));
        for optional in ["packages", "updates", "sysctl", "time", "swap", "ufw", "sshd", "fail2ban", "certificate"] {
            assert!(!declared.contains(&format!("host.{optional}/db")), "{optional}");
        }
    }
}
