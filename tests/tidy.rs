//! Tidiness that review should not have to watch: which room may import which, sizes, words, complete kinds,
//! documents in step, no circle of files. The checks are functions over text, so that they can be checked themselves.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::sources::{read, root, rust_files};

/// Room → rooms it may import. `docs/ARCHITECTURE.md` explains why.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("inventory", &["base"]),
    ("plan", &["base"]),
    ("render", &["base"]),
    ("kinds", &["base", "inventory", "plan", "render"]),
    ("policy", &["base", "inventory", "plan", "kinds"]),
    ("reach", &["base", "plan"]),
    ("engine", &["base", "inventory", "plan", "kinds", "policy", "reach"]),
    ("recovery", &["base", "inventory", "plan", "render", "kinds", "policy", "reach", "engine"]),
    ("view", &["base", "plan", "policy"]),
    ("sandbox", &["base", "reach"]),
    (
        "cli",
        &["base", "inventory", "plan", "render", "kinds", "policy", "reach", "engine", "recovery", "view", "sandbox"],
    ),
];

/// Longest source file, in lines. Past it a file has two subjects.
const FILE_LINES: usize = 500;

/// Names that end up holding everything.
const FORBIDDEN_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "misc"];

/// Open ends belong in a decision or an issue. Written in two halves, so that this file passes its own check.
const FORBIDDEN_WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

/// The room that a file below `src/` belongs to; `lib.rs` and `main.rs` belong to none.
fn room_of(relative: &Path) -> Option<String> {
    let first = relative.components().next()?.as_os_str().to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main")).then(|| room.to_owned())
}

/// Imports of a text that its room may not have.
fn bad_imports(room: &str, text: &str) -> Vec<String> {
    let allowed: BTreeSet<&str> = ROOMS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, allowed)| allowed.iter().copied().collect())
        .unwrap_or_default();
    let mut bad = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let target: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if target.is_empty() {
                bad.push(format!("line {}: groups at crate level hide imports: {}", number + 1, line.trim()));
            } else if target != room && !allowed.contains(target.as_str()) {
                bad.push(format!("line {}: room `{room}` may not import `{target}`", number + 1));
            }
        }
        if code.contains("super::super") {
            bad.push(format!("line {}: `super::super` hides where it leads", number + 1));
        }
    }
    bad
}

#[test]
fn rooms_import_only_what_they_may() {
    let src = root().join("src");
    let mut problems = Vec::new();
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).expect("the file was found below src");
        let Some(room) = room_of(relative) else { continue };
        assert!(ROOMS.iter().any(|(name, _)| *name == room), "{}: `{room}` is not a room", relative.display());
        problems.extend(bad_imports(&room, &read(&file)).into_iter().map(|p| format!("{}: {p}", relative.display())));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn files_are_small_and_well_named() {
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for file in rust_files(&root().join(folder)) {
            let lines = read(&file).lines().count();
            if lines > FILE_LINES {
                problems.push(format!("{}: {lines} lines, at most {FILE_LINES}", file.display()));
            }
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if FORBIDDEN_NAMES.contains(&stem) {
                problems.push(format!("{}: this name says nothing", file.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_open_ends_and_a_header_in_every_file() {
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for file in rust_files(&root().join(folder)) {
            let text = read(&file);
            for word in FORBIDDEN_WORDS {
                if text.contains(word) {
                    problems.push(format!("{}: `{word}`", file.display()));
                }
            }
            if !text.starts_with("//!") {
                problems.push(format!("{}: does not begin by saying what it is for", file.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_kind_has_its_parts() {
    let names: BTreeSet<&str> = seawall::kinds::KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), seawall::kinds::KINDS.len(), "two kinds have one name");
    for kind in seawall::kinds::KINDS {
        let file = root().join("src/kinds").join(format!("{}.rs", kind.name.replace('.', "_")));
        assert!(file.exists(), "{} has no file {}", kind.name, file.display());
        let cases = root().join("tests/kinds").join(format!("{}.yaml", kind.name));
        assert!(cases.exists(), "{} has no cases {}", kind.name, cases.display());
        assert!(kind.explain.len() > 200, "{} is not explained", kind.name);
    }
    let is_kind = |stem: &str| names.contains(stem.replacen('_', ".", 1).as_str());
    // A kind's longer parts are in a folder of its name; what several kinds are made of is in `parts`.
    let of_a_kind = |folder: &Path| {
        folder
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| ["parts", "pgbackrest"].contains(&name) || is_kind(name))
    };
    for file in rust_files(&root().join("src/kinds")) {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let shared = matches!(
            stem,
            "mod"
                | "table"
                | "cloud"
                | "host"
                | "firewall"
                | "operator"
                | "pgbackrest"
                | "postgres"
                | "programs"
                | "throw_away"
        );
        let known = shared || is_kind(stem) || file.parent().is_some_and(of_a_kind);
        assert!(known, "{} is no kind of the table", file.display());
    }
    for entry in std::fs::read_dir(root().join("tests/kinds")).expect("the folder of cases is there") {
        let path = entry.expect("the folder of cases is readable").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(names.contains(stem), "{}: cases of no kind", path.display());
    }
}

/// Whether a text quotes for a POSIX shell by itself: the quote that ends, escapes and begins again.
fn quotes_for_a_shell(text: &str) -> bool {
    // In a raw string and in an escaped one. A lone `'\''` is a character, which is fine.
    text.contains(concat!("\"'", r"\''", "\"")) || text.contains(concat!("\"'", r"\\''", "\""))
}

#[test]
fn shell_words_are_quoted_in_one_place() {
    let quotes = |file: &PathBuf| quotes_for_a_shell(&read(file));
    let found: Vec<PathBuf> =
        ["src", "tests", "benches"].iter().flat_map(|folder| rust_files(&root().join(folder))).filter(quotes).collect();
    assert_eq!(found, [root().join("src/base/shell.rs")], "data enters a shell program through `base::shell` alone");
}

/// Calls whose first argument is a code. A function that takes `code: &str` must be one of them.
const CODE_CALLS: &[&str] = &[
    "Diagnostic::error(",
    "Diagnostic::warning(",
    // The checks of inventories report through these.
    ".error(",
    ".text(",
    ".repeats(",
    // The sandbox's commands.
    "stop(",
    // Failures of effects.
    "code: Some(",
];

/// First arguments that are no literal and hide none: what helpers pass on, rules' ids, and codes of `fn code`.
const PASSED_ON: &[&str] = &["code", "self.id", "self.code().to_owned()"];

#[test]
fn every_error_code_is_explained() {
    let page = read(&root().join("docs/errors.md"));
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
    assert!(
        sections.is_sorted_by(|a, b| a < b),
        "docs/errors.md is not in the order of the alphabet, or says one twice"
    );
    let rules_page = read(&root().join("docs/rules.md"));
    let rules: Vec<&str> = rules_page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let explained: BTreeSet<&str> = sections.iter().chain(&rules).copied().collect();

    let mut used: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut hidden = Vec::new();
    for file in rust_files(&root().join("src")) {
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = read(&file);
        // The sandbox speaks AWS's codes, in calls of the same names; its own messages would be diagnostics.
        if file.starts_with(root().join("src/sandbox")) && !text.contains("Diagnostic") {
            continue;
        }
        let found = codes(&text);
        hidden.extend(found.hidden.into_iter().map(|what| format!("{}: {what}", file.display())));
        for code in found.literal {
            used.entry(code).or_insert_with(|| file.clone());
        }
    }
    for rule in seawall::policy::rules() {
        used.insert(rule.id.to_owned(), root().join("src/policy"));
    }
    assert!(hidden.is_empty(), "this check cannot see these codes:\n{}", hidden.join("\n"));
    let missing: Vec<_> = used.iter().filter(|(code, _)| !explained.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain {missing:#?}");
    let stale: Vec<_> = explained.iter().filter(|code| !used.contains_key(**code)).collect();
    assert!(stale.is_empty(), "docs/errors.md explains codes that nothing gives: {stale:?}");
}

#[test]
fn explanations_are_short_and_not_empty() {
    let page = read(&root().join("docs/errors.md"));
    for section in page.split("\n## ").skip(1) {
        let lines = section.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
        let name = section.lines().next().unwrap_or_default();
        assert!((1..=5).contains(&lines), "docs/errors.md: `{name}` has {lines} lines, not one to five");
    }
}

/// What a text says about codes.
#[derive(Debug, Default)]
struct Codes {
    literal: Vec<String>,
    /// Places that give a code which this check cannot read.
    hidden: Vec<String>,
}

/// The codes that a text gives, without its tests: first arguments of [`CODE_CALLS`], and the arms of every `fn code`.
fn codes(text: &str) -> Codes {
    let code_only: Vec<&str> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    let words = code_only.iter().filter(|line| !line.trim_start().starts_with("//")).flat_map(|l| l.split_whitespace());
    let flat: String = words.collect::<Vec<_>>().join(" ");
    let mut found = Codes::default();
    for call in CODE_CALLS {
        for (at, _) in flat.match_indices(call) {
            let before = flat[..at].chars().next_back().unwrap_or(' ');
            if call.starts_with(char::is_alphabetic) && (before.is_alphanumeric() || matches!(before, '_' | '.' | ':'))
            {
                continue;
            }
            let argument = flat[at + call.len()..].trim_start();
            match argument.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                Some(code) => found.literal.push(code.to_owned()),
                None => found.hidden.extend(hidden(call, argument)),
            }
        }
    }
    for (at, _) in flat.match_indices("fn code(") {
        let body = flat[at..].split(" fn ").next().unwrap_or_default();
        let arms = body.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        found.literal.extend(arms.map(str::to_owned));
    }
    for (at, _) in flat.match_indices("code: &str,") {
        let name = flat[..at].rsplit("fn ").next().unwrap_or_default();
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        // The diagnostic's own.
        if name != "new" && !CODE_CALLS.iter().any(|call| call.trim_end_matches('(').ends_with(&name)) {
            found.hidden.push(format!("`{name}` takes a code, and CODE_CALLS does not know it"));
        }
    }
    found
}

/// A first argument that is no literal, if a code may hide in it. Methods such as `.text(…)` have namesakes that take none.
fn hidden(call: &str, argument: &str) -> Option<String> {
    let argument = argument.split([',', ')']).next().unwrap_or_default();
    let passed = PASSED_ON.iter().any(|known| known.starts_with(argument)) && !argument.is_empty();
    let has_namesakes = !matches!(call, "Diagnostic::error(" | "Diagnostic::warning(" | "code: Some(");
    (!passed && !has_namesakes).then(|| format!("{call}{argument}"))
}

/// The page on security names what shows each defence; a test that is gone shows nothing.
#[test]
fn what_the_page_on_security_names_is_there() {
    let page = read(&root().join("docs/security.md"));
    let named = |room: &str| -> BTreeSet<String> {
        let start = format!("`{room}::");
        let parts = page.split(start.as_str()).skip(1);
        parts.filter_map(|part| part.split('`').next()).map(|name| name.replace("::", "/")).collect()
    };
    let hosts = named("sandbox");
    assert!(hosts.len() > 5, "the page was not understood: {hosts:?}");
    for name in hosts {
        let of_hosts = root().join(format!("tests/sandbox/{name}.rs"));
        assert!(of_hosts.exists(), "docs/security.md names `sandbox::{name}`, and {} is not there", of_hosts.display());
    }
    for link in page.split("](decisions/").skip(1).filter_map(|part| part.split(')').next()) {
        assert!(
            root().join("docs/decisions").join(link).exists(),
            "docs/security.md leads to {link}, which is not there"
        );
    }
}

mod the_checks_themselves {
    use super::*;

    #[test]
    fn a_forbidden_import_is_found() {
        assert_eq!(bad_imports("plan", "use crate::reach::Ask;\n"), ["line 1: room `plan` may not import `reach`"]);
        assert_eq!(bad_imports("plan", "use crate::base::address::Address;\nuse crate::plan::step::Step;\n").len(), 0);
        assert_eq!(bad_imports("plan", "use crate::{base, reach};\n").len(), 1);
        assert_eq!(bad_imports("plan", "// crate::reach is not imported\n").len(), 0);
    }

    #[test]
    fn quoting_for_a_shell_is_seen_in_both_spellings() {
        assert!(quotes_for_a_shell(concat!("replace('\\'', r\"'", r"\''", "\")")));
        assert!(quotes_for_a_shell(concat!("replace('\\'', \"'", r"\\''", "\")")));
        assert!(!quotes_for_a_shell("replace('\\'', \"''\")"), "SQL doubles it, and '\\'' is a character");
    }

    #[test]
    fn codes_are_found_over_line_breaks_and_through_those_who_pass_them_on() {
        let literal = |text: &str| codes(text).literal;
        assert_eq!(literal("Diagnostic::error(\n    \"stale-plan\",\n  format!(\"x\"))"), ["stale-plan"]);
        assert_eq!(
            literal("report\n  .repeats(\"duplicate-a\", &path, x); report.text(\"bad-b\", y)"),
            ["bad-b", "duplicate-a"]
        );
        assert_eq!(literal("Failure { code: Some(\"host-locked\".to_owned()) }"), ["host-locked"]);
        assert_eq!(literal("fn code(&self) -> &str { match self { A => \"a-b\", B { .. } => \"c\" } }"), ["a-b", "c"]);
        assert_eq!(literal("#[cfg(test)]\nmod tests { Diagnostic::error(\"only-here\", x) }"), Vec::<String>::new());
    }

    #[test]
    fn a_code_that_cannot_be_read_is_a_problem() {
        assert_eq!(codes("Diagnostic::error(name_of(it), x)").hidden, ["Diagnostic::error(name_of(it"]);
        assert_eq!(codes("Diagnostic::error(code, x)").hidden, Vec::<String>::new());
        assert_eq!(codes("pub fn wrong(code: &str, x: u8) {}").hidden.len(), 1);
        assert_eq!(codes("fn stop(code: &str, x: u8) {}").hidden, Vec::<String>::new());
    }
}
