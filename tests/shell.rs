//! `shellcheck` over every shell program of this project: the files of the tree, and what the kinds would send to a host,
//! rendered, as the cases of `tests/kinds/` make them write files, ask and act.
//!
//! Deliberately absent: a skip where `shellcheck` is missing. `scripts/packages` installs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use seawall::kinds::table::Data;
use serde_json::Value;

use crate::support::case;

/// Notes on which this project disagrees.
/// SC2317: functions that a `trap` or a caller by name reaches are taken for unreachable.
/// SC2016: single quotes are how a program is handed to another one as it is.
/// SC2015: `A && B || { …; exit; }` is the short form of "both, or else", where the last part also may follow a failed B.
/// SC2231: a pattern that comes as an argument is meant to be one. SC1003: `$a\` is sed's, and no quote that was forgotten.
const NOT_CHECKED: &str = "SC2317,SC2016,SC2015,SC2231,SC1003";

/// Parts of a program, without a `#!` line: what stands before them sets their variables, what follows uses theirs.
const NOT_CHECKED_IN_PARTS: &str = "SC2154,SC2034";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shell that a `#!` line names, or, in a file that others read, a note for shellcheck.
fn shell(text: &str) -> Option<&str> {
    let line = text.lines().next()?;
    let name = match line.strip_prefix("# shellcheck shell=") {
        Some(name) => name,
        None => line.strip_prefix("#!")?.rsplit(['/', ' ']).next()?,
    };
    ["sh", "bash", "dash"].contains(&name).then_some(name)
}

/// Shell files of the tree with their texts, without what is built or downloaded.
fn tree() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of this project is readable") {
            let path = entry.expect("a folder of this project is readable").path();
            let name = path.strip_prefix(root()).expect("a path below the root").display().to_string();
            if path.is_dir() && !path.is_symlink() && !["target", ".git", ".seawall", "plans"].contains(&name.as_str())
            {
                folders.push(path);
            } else if path.is_file()
                && let Ok(text) = std::fs::read_to_string(&path)
                && (path.extension().is_some_and(|extension| extension == "sh") || shell(&text).is_some())
            {
                found.insert(name, text);
            }
        }
    }
    found
}

/// Whether a text is a template that has to be rendered first.
fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Shell programs anywhere in a document: texts with a shell's `#!` line, and what follows `sh -c` in an argument list.
fn programs(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if shell(text).is_some() => drop(found.insert(text.clone())),
        Value::Array(items) => {
            for words in items.windows(3) {
                if let [Value::String(sh), Value::String(option), Value::String(text)] = words
                    && ["sh", "bash"].contains(&sh.as_str())
                    && option == "-c"
                {
                    found.insert(text.clone());
                }
            }
            for item in items {
                programs(item, found);
            }
        }
        Value::Object(map) => map.values().for_each(|item| programs(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Everything that kinds send to a host: questions and steps of every case, and of making and removing its thing.
fn sent() -> BTreeMap<String, String> {
    let mut sent = BTreeMap::new();
    for (kind, cases) in case::all() {
        let mut found = BTreeSet::new();
        for case in &cases {
            let (_, steps) = case.outcome(kind);
            let created = (kind.create)(&case.desired).steps;
            let removed = (kind.remove)(&case::owned(&case.wanted(kind), &Value::Null), Data::Goes);
            let probes = (kind.probes)(&case.desired);
            for document in [serde_json::to_value((steps, created, removed)), serde_json::to_value(probes)] {
                programs(&document.expect("steps and probes serialise"), &mut found);
            }
        }
        sent.extend(found.into_iter().enumerate().map(|(n, text)| (format!("{}-{n}", kind.name), text)));
    }
    sent
}

/// What `shellcheck` says about texts, each with the name by which it is reported; empty where all are well.
fn opinion(texts: &BTreeMap<String, String>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut said = String::new();
    for part in [false, true] {
        let mut files: Vec<PathBuf> = Vec::new();
        for (name, text) in texts.iter().filter(|(_, text)| shell(text).is_none() == part) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder of its own")).expect("a folder is made");
            std::fs::write(&path, text).expect("a temporary folder is writable");
            files.push(name.into());
        }
        let mut command = Command::new("shellcheck");
        // A file that another one reads is read along, which is where its variables come from.
        command.current_dir(folder.path()).args(["--norc", "--external-sources", "--format=gcc"]);
        command.args(["--exclude", NOT_CHECKED]);
        if part {
            command.args(["--shell=sh", "--exclude", NOT_CHECKED_IN_PARTS]);
        }
        if files.is_empty() {
            continue;
        }
        let output = command.args(&files).output().expect("shellcheck runs; `scripts/packages` installs it");
        let status = output.status.code();
        assert!(matches!(status, Some(0 | 1)), "{status:?}: {}", String::from_utf8_lossy(&output.stderr));
        said += &String::from_utf8_lossy(&output.stdout);
    }
    for line in said.clone().lines() {
        // The line itself, where the file is nowhere to look it up.
        let mut place = line.splitn(3, ':');
        let (name, number) = (place.next().unwrap_or_default(), place.next().unwrap_or_default());
        let text = texts.get(name).and_then(|text| text.lines().nth(number.parse::<usize>().ok()?.checked_sub(1)?));
        if let Some(text) = text {
            writeln!(said, "  {name}:{number}: {text}").expect("writing to a String does not fail");
        }
    }
    said
}

#[test]
fn every_shell_file_is_well() {
    let files: BTreeMap<String, String> = tree().into_iter().filter(|(_, text)| !is_template(text)).collect();
    for known in ["scripts/test", ".ci/run", "src/reach/ssh/launch.sh", "src/sandbox/machines/image/cloud-init"] {
        assert!(files.contains_key(known), "{known} is not among {:?}", files.keys());
    }
    let said = opinion(&files);
    assert!(said.is_empty(), "\n{said}");
}

#[test]
fn everything_that_is_sent_to_a_host_is_well() {
    let sent = sent();
    let said = opinion(&sent);
    assert!(said.is_empty(), "\n{said}");
    // A template that no case renders would not be looked at: its first line that is the same in every rendering is missed.
    for (name, template) in
        tree().into_iter().filter(|(name, text)| name.starts_with("templates/") && is_template(text))
    {
        let fixed = template.lines().find(|line| !line.starts_with('#') && !line.is_empty() && !line.contains('{'));
        let fixed = fixed.unwrap_or_else(|| panic!("{name} has no line that is the same in every rendering"));
        let rendered = sent.values().any(|text| text.lines().any(|line| line == fixed));
        assert!(rendered, "no case of tests/kinds/ renders {name}");
    }
}

#[test]
fn what_is_wrong_is_found() {
    let texts = [("whole", "#!/bin/sh\nrm -rf $1/*\n"), ("part", "cd $1\necho $unset_before\n")];
    let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let said = opinion(&texts);
    assert!(said.contains("whole:2") && said.contains("part:1") && !said.contains("SC2154"), "{said}");
}
