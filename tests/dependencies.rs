//! Libraries: each one that `Cargo.toml` names is used, and has its reason in `docs/dependencies.md`; those that must be
//! replaceable are used in one place only. The checks are functions over text, and are checked themselves (at the end).

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::sources::{read, root, rust_files};

/// Libraries that one place alone may know, so that they can be replaced there, or reviewed there.
const CONTAINED: &[(&str, &str)] = &[
    ("annotate-snippets", "src/view/diag.rs"),
    ("aws-config", "src/reach/aws"),
    ("aws-sdk-cloudwatch", "src/reach/aws"),
    ("aws-sdk-iam", "src/reach/aws"),
    ("aws-sdk-lightsail", "src/reach/aws"),
    ("aws-sdk-s3", "src/reach/aws"),
    ("aws-sdk-sns", "src/reach/aws"),
    ("aws-sdk-sts", "src/reach/aws"),
    ("axum", "src/sandbox"),
    ("clap", "src/cli"),
    ("comfy-table", "src/view"),
    ("jsonschema", "src/inventory/structure.rs"),
    ("openssh", "src/reach/ssh"),
    ("saphyr-parser", "src/inventory/yaml.rs"),
    ("serde_yaml", "src/inventory/load.rs"),
    ("similar", "src/view/diff.rs"),
    ("tera", "src/render.rs"),
];

/// Shorter reasons say what a library is and not what it is for.
const SHORTEST_REASON: usize = 30;

/// A Rust file: its path within the project, what is compiled into the program, and what is compiled for tests only.
struct Source {
    path: String,
    program: String,
    tests: String,
}

fn sources() -> Vec<Source> {
    let files = ["src", "tests", "benches"].into_iter().flat_map(|folder| rust_files(&root().join(folder)));
    let named = files.map(|path| {
        let within = path.strip_prefix(root()).expect("the file was found below the root");
        source(&within.display().to_string(), &read(&path))
    });
    named.collect()
}

fn source(path: &str, text: &str) -> Source {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let only_tests = !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/");
    // Modules of tests are at the end of their files.
    let end = code.iter().position(|line| line.trim() == "#[cfg(test)]").filter(|_| !only_tests);
    let (program, tests) = code.split_at(if only_tests { 0 } else { end.unwrap_or(code.len()) });
    Source { path: path.to_owned(), program: program.join("\n"), tests: tests.join("\n") }
}

/// Names under `[dependencies]`, and under `[dev-dependencies]`.
fn named(manifest: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut program, mut tests) = (BTreeSet::new(), BTreeSet::new());
    let mut section = "";
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            let known = matches!(section, "dependencies" | "dev-dependencies") || !section.contains("dependencies");
            assert!(known, "this check cannot read `[{section}]` of Cargo.toml");
        } else if let Some((name, _)) = line.split_once(" = ") {
            match section {
                "dependencies" => drop(program.insert(name.to_owned())),
                "dev-dependencies" => drop(tests.insert(name.to_owned())),
                _ => {}
            }
        }
    }
    (program, tests)
}

/// Whether a text has a path that begins with the library's name: `NAME::`. Not `crate::NAME::`, nor `my_NAME::`.
fn uses(text: &str, library: &str) -> bool {
    let path = format!("{}::", library.replace('-', "_"));
    let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':'));
    text.match_indices(&path).any(|(at, _)| begins(at))
}

/// Rows of the page's table, `| `name` | reason |`, in their order.
fn reasons(page: &str) -> Vec<(String, String)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    rows.map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect()
}

#[test]
fn every_library_is_used() {
    let (program, tests) = named(&read(&root().join("Cargo.toml")));
    assert!(!program.is_empty() && !tests.is_empty(), "Cargo.toml was not understood");
    let sources = sources();
    let idle: Vec<&String> =
        program.iter().filter(|name| !sources.iter().any(|source| uses(&source.program, name))).collect();
    assert!(idle.is_empty(), "[dependencies] that the program does not use: {idle:?}");
    let idle: Vec<&String> =
        tests.iter().filter(|name| !sources.iter().any(|source| uses(&source.tests, name))).collect();
    assert!(idle.is_empty(), "[dev-dependencies] that no test uses: {idle:?}");
}

#[test]
fn every_library_has_its_reason_in_one_line() {
    let (program, tests) = named(&read(&root().join("Cargo.toml")));
    let rows = reasons(&read(&root().join("docs/dependencies.md")));
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "docs/dependencies.md: not sorted, or a name twice");
    let named: BTreeSet<&String> = program.union(&tests).collect();
    let explained: BTreeSet<&String> = rows.iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = named.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/dependencies.md has no line for {missing:?}");
    let stale: Vec<_> = explained.difference(&named).collect();
    assert!(stale.is_empty(), "docs/dependencies.md has lines for what Cargo.toml does not name: {stale:?}");
    for (name, reason) in &rows {
        assert!(reason.len() >= SHORTEST_REASON, "docs/dependencies.md: why `{name}`? It says `{reason}`");
    }
}

#[test]
fn some_libraries_are_known_in_one_place_only() {
    let sources = sources();
    for (library, place) in CONTAINED {
        let users: Vec<&str> =
            sources.iter().filter(|source| uses(&source.program, library)).map(|source| source.path.as_str()).collect();
        assert!(!users.is_empty(), "`{library}` is used nowhere");
        let elsewhere: Vec<_> = users.iter().filter(|path| !Path::new(path).starts_with(place)).collect();
        assert!(elsewhere.is_empty(), "`{library}` belongs into {place} and is also used in {elsewhere:?}");
    }
}

mod the_checks_themselves {
    use super::*;

    #[test]
    fn a_library_is_used_where_a_path_begins_with_it() {
        assert!(uses("use serde_yaml::Value;", "serde_yaml"));
        assert!(uses("let x = fs_err::read(path)?;", "fs-err"));
        assert!(uses("impl<T: tera::Filter> X for T {}", "tera"));
        assert!(!uses("use crate::inventory::similar::choices;", "similar"), "a module of ours");
        assert!(!uses("my_tera::render()", "tera"));
        assert!(!uses("nothing at all", "tera"));
    }

    #[test]
    fn comments_are_no_use_and_test_modules_count_as_tests() {
        let found =
            source("src/a.rs", "// tera::Tera\nfn a() {}\n#[cfg(test)]\nmod tests { use tempfile::tempdir; }\n");
        assert!(!uses(&found.program, "tera") && !uses(&found.program, "tempfile") && uses(&found.tests, "tempfile"));
        let found = source("src/view/tests/json.rs", "use jsonschema::Validator;");
        assert!(!uses(&found.program, "jsonschema") && uses(&found.tests, "jsonschema"));
    }

    #[test]
    fn names_of_a_manifest_are_read_by_section() {
        let (program, tests) = named(
            "[package]\nname = \"x\"\n[dependencies]\n# why\na-b = \"1\"\n\n[dev-dependencies]\nc = { version = \"2\" }\n",
        );
        assert_eq!((program, tests), (BTreeSet::from(["a-b".to_owned()]), BTreeSet::from(["c".to_owned()])));
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let rows = reasons("| library | why |\n|---|---|\n| `a` | b c |\ntext\n");
        assert_eq!(rows, [("a".to_owned(), "b c".to_owned())]);
    }
}
