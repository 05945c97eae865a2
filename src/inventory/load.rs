//! From a file to an [`Inventory`]: YAML with positions, structure, types; all problems at once, each with its place.
//!
//! The only file that knows `serde_yaml`, so that it can be replaced here alone. Rules that the types cannot say are
//! in `check`; nothing here panics on any input, which a test tries with a few thousand damaged files.

use std::fmt::Display;
use std::path::{Component, Path};

use serde_json::Value;

use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::read::{self, NotRead};
use crate::base::span::Span;
use crate::inventory::places::{Places, child, item};
use crate::inventory::sections::Inventory;
use crate::inventory::structure;
use crate::inventory::yaml;

/// The format that this program knows.
pub const FORMAT: u64 = 1;
/// Bytes of a file. A fleet of a hundred servers needs a tenth of it.
const LARGEST_FILE: u64 = 1024 * 1024;
/// Bytes of a Compose file. It travels in plans and is compared whole.
const LARGEST_COMPOSE_FILE: u64 = 128 * 1024;
/// Messages for one file; the rest is counted. More help nobody, and one slip can cause many.
const MOST_PROBLEMS: usize = 100;

/// What a file says.
#[derive(Clone, Debug)]
#[must_use]
pub struct Loaded {
    /// There unless the file cannot be understood; whether it may be used is up to `diagnostics`.
    pub inventory: Option<Inventory>,
    pub diagnostics: Diagnostics,
    pub places: Places,
    /// The text, for drawing messages.
    pub text: String,
}

/// Loads a file. A file that cannot be read is a diagnostic like any other.
pub fn load(path: &Path) -> Loaded {
    let name = path.display().to_string();
    if leads_out(path) {
        let problem = Diagnostic::error(
            "unreadable-file",
            format!("the inventory `{name}` is a link that leads out of this folder"),
        )
        .note("messages about it could quote what their reader may not read")
        .hint("name the file itself with `-i FILE`");
        return refused(&name, problem);
    }
    match read::bytes(path, LARGEST_FILE) {
        Ok(bytes) => with_files(parse_bytes(&name, &bytes), path.parent().unwrap_or(Path::new(""))),
        Err(NotRead::TooLarge(_)) => refused(&name, too_large(&name)),
        Err(why) => refused(&name, unreadable(&name, &why)),
    }
}

/// Whether a path within the current folder is a link to somewhere else. Who names another place means it.
fn leads_out(path: &Path) -> bool {
    let within = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let real = |path: &Path| std::fs::canonicalize(path);
    match (real(path), real(Path::new("."))) {
        (Ok(file), Ok(folder)) => within && !file.starts_with(folder),
        // What is not there is told by who reads it.
        _ => false,
    }
}

/// Reads the files that an inventory names, from the folder that it is in: Compose files.
pub fn with_files(mut loaded: Loaded, folder: &Path) -> Loaded {
    for (name, server) in loaded.inventory.iter_mut().flat_map(|inventory| &mut inventory.servers) {
        let Some(compose) = &mut server.compose else { continue };
        match compose_file(folder, &compose.file) {
            Ok(text) => compose.contents = Some(text),
            Err(why) => loaded.diagnostics.push(
                Diagnostic::error(
                    "compose-unreadable",
                    format!("the Compose file `{}` cannot be read: {why}", compose.file),
                )
                .at(loaded.places.span(&format!("servers.{name}.compose.file")), "relative to this inventory"),
            ),
        }
    }
    loaded
}

/// A Compose file is part of the project: below the folder of the inventory, or the one that the program runs in. Of any other
/// file, messages about it could quote what the reader of the messages may not read.
fn compose_file(folder: &Path, file: &str) -> Result<String, String> {
    let path = folder.join(file);
    let real = |path: &Path| std::fs::canonicalize(path).map_err(|error| NotRead::from(error).to_string());
    let found = real(&path)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let projects = [real(folder)?, real(Path::new("."))?];
    if !projects.iter().any(|project| found.starts_with(project)) {
        return Err("it is neither below the folder of the inventory nor below the current one".to_owned());
    }
    read::text(&found, LARGEST_COMPOSE_FILE).map_err(|why| why.to_string())
}

/// Parses the bytes of a file: what is not UTF-8 or too large is refused.
pub fn parse_bytes(file_name: &str, bytes: &[u8]) -> Loaded {
    if bytes.len() as u64 > LARGEST_FILE {
        return refused(file_name, too_large(file_name));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file_name, text),
        Err(error) => refused(file_name, not_utf8(file_name, bytes, error.valid_up_to())),
    }
}

/// Parses the text of a file.
pub fn parse(file_name: &str, text: &str) -> Loaded {
    if text.len() as u64 > LARGEST_FILE {
        return parse_bytes(file_name, text.as_bytes());
    }
    // Editors on Windows begin a file with a byte order mark; it says nothing and moves every column of line 1.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = yaml::read(file_name, text);
    let mut problems = read.problems;
    let mut inventory = None;
    if let Some(value) = read.value.filter(|value| !value.is_null()) {
        match other_format(&value, &read.places) {
            Some(problem) => problems.push(problem),
            None => problems.extend(structure::problems(&value, &read.places)),
        }
        if problems.is_empty() {
            match typed(text, &value, &read.places) {
                Ok(typed) => inventory = Some(typed),
                Err(problem) => problems.push(*problem),
            }
        }
    }
    Loaded { inventory, diagnostics: bounded(problems), places: read.places, text: text.to_owned() }
}

fn refused(file_name: &str, problem: Diagnostic) -> Loaded {
    Loaded { inventory: None, diagnostics: problem.into(), places: Places::new(file_name), text: String::new() }
}

fn too_large(name: &str) -> Diagnostic {
    Diagnostic::error("file-too-large", format!("`{name}` is larger than 1 MiB")).hint("is this the inventory?")
}

fn unreadable(name: &str, why: &NotRead) -> Diagnostic {
    Diagnostic::error("unreadable-file", format!("the inventory `{name}` cannot be read: {why}"))
        .hint("name the file with `-i FILE`, or run where `inventories/` holds one file")
}

fn not_utf8(name: &str, bytes: &[u8], valid: usize) -> Diagnostic {
    let line = bytes.get(..valid).unwrap_or_default().split(|byte| *byte == b'\n').count();
    let at = Span { file: name.to_owned(), line, column: 1, length: 0 };
    let problem =
        Diagnostic::error("not-utf8", format!("`{name}` is not UTF-8 text")).at(at, "other bytes in this line");
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        problem.hint("it is UTF-16; save it as UTF-8")
    } else {
        problem.hint("save it as UTF-8")
    }
}

/// A file of another format would only collect senseless messages.
fn other_format(value: &Value, places: &Places) -> Option<Diagnostic> {
    let format = value.get("seawall")?.as_i64()?;
    if u64::try_from(format) == Ok(FORMAT) {
        return None;
    }
    let problem =
        Diagnostic::error("unsupported-format", format!("this file is format {format}, this program knows {FORMAT}"))
            .at(places.span("seawall"), "the format of this file");
    Some(if format > 1 { problem.hint("a newer Seawall reads it") } else { problem.hint("write `seawall: 1`") })
}

/// The types. `value` is what the position-aware reader understood; both readers must agree.
fn typed(text: &str, value: &Value, places: &Places) -> Result<Inventory, Box<Diagnostic>> {
    let other: Value = serde_yaml::from_str(text).map_err(|error| Box::new(disagreement("", places, &error)))?;
    if let Some(path) = first_difference("", value, &other) {
        return Err(Box::new(disagreement(&path, places, &"YAML 1.1 and YAML 1.2 read this differently")));
    }
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        // serde's own words repeat the path and end with a position.
        let why = error.into_inner().to_string();
        let why = why.strip_prefix(&format!("{path}: ")).unwrap_or(&why);
        let why = why.split(" at line ").next().unwrap_or(why);
        Box::new(Diagnostic::error("bad-value", format!("`{path}` is not as it must be")).at(places.span(&path), why))
    })
}

fn disagreement(path: &str, places: &Places, why: &dyn Display) -> Diagnostic {
    Diagnostic::error("ambiguous-yaml", "this can be read in more than one way")
        .at(places.span(path), why.to_string())
        .hint("put quotes around the value, or write it plainer")
}

/// The path of the first value that is not the same on both sides. Numbers are equal by value.
fn first_difference(path: &str, ours: &Value, other: &Value) -> Option<String> {
    match (ours, other) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a.iter().find_map(|(key, value)| {
            let path = child(path, key);
            match b.get(key) {
                Some(found) => first_difference(&path, value, found),
                None => Some(path),
            }
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (value, found))| first_difference(&item(path, index), value, found)),
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (a, b) if a == b => None,
        _ => Some(path.to_owned()),
    }
}

fn bounded(mut problems: Vec<Diagnostic>) -> Diagnostics {
    let count = problems.len();
    if count > MOST_PROBLEMS {
        problems.truncate(MOST_PROBLEMS);
        problems
            .push(Diagnostic::error("more-problems", format!("{} more problems are not shown", count - MOST_PROBLEMS)));
    }
    Diagnostics(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readers of YAML 1.1 and 1.2 differ in corners. What ours accepts must be what the other one reads, or else
    /// `typed` refuses the file: never two meanings.
    #[test]
    fn the_two_readers_differ_only_where_it_is_refused() {
        let scalars = [
            "-0",
            "1.",
            "5e-1",
            ".5",
            "+.5",
            "0.0",
            "1E5",
            "0x",
            "0b",
            "1e400",
            "9007199254740993",
            "nULL",
            "--",
            "e5",
            "1e+5",
            "1.2.3",
            "inf",
            "nan",
            "\"a\\x41\"",
            "\"\\/\"",
            "\"\\N\"",
            "\"a\\\n  b\"",
            "'it''s'",
            "|\n  a\n  b\n",
            ">-\n  a\n\n   b\n  c\n",
            "a\n  b",
            "a#b",
            "a #b",
            "'a\u{2028}b'",
            "\u{1f600}",
            "\"a\tb\"",
            "[a, b,]",
            "{a: b}",
            "[a: b]",
            "a:b",
            "?a",
        ];
        for scalar in scalars {
            let text = format!("key: {scalar}\n");
            let ours = yaml::read("f", &text);
            assert!(ours.problems.is_empty(), "{scalar}: {:?}", ours.problems);
            let theirs: Value = serde_yaml::from_str(&text).expect(scalar);
            assert_eq!(first_difference("", &ours.value.expect(scalar), &theirs), None, "{scalar}");
        }
        // A next-line character is a line break in YAML 1.1 and a letter in 1.2.
        let text = "key: \"a\u{85}b\"\n";
        let read = yaml::read("f", text);
        let problem = typed(text, &read.value.expect("a value"), &read.places).expect_err("two meanings");
        assert_eq!(problem.code, "ambiguous-yaml");
        assert_eq!(problem.labels[0].span.to_string(), "f:1:6");
    }
}
