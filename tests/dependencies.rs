//! Libraries: each one that `Cargo.toml` names is used, and has its reason in `docs/dependencies.md`; those that must be
//! replaceable are used in one place only; sources, licences, digests and second versions of all that is compiled are known. The checks are functions over text, and are checked themselves (at the end).

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

/// Licences under which a library may be part of the program: they ask for their text to be passed on, and for nothing else.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Libraries that are there in more than one version, because those that need them are at different versions of them. One
/// more is one more to watch for faults: look whether an update takes one away before it is added here.
const TWICE: &[&str] = &[
    "bit-vec",
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "http",
    "http-body",
    "sha1",
    "sha2",
    "syn",
    "synstructure",
    "untrusted",
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

/// What cargo knows of everything that is compiled here, the tests' own libraries among it. Asks nobody outside.
fn packages() -> Vec<serde_json::Value> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", &target];
    let output = std::process::Command::new(cargo).args(words).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    said["packages"].as_array().expect("a list of packages").clone()
}

/// Whether an SPDX expression offers terms that are all allowed. Crates from before SPDX separate alternatives by a slash.
fn allows(expression: &str) -> bool {
    // Outside of parentheses, AND binds tighter than OR.
    fn split<'a>(text: &'a str, by: &[&str]) -> Vec<&'a str> {
        let (mut parts, mut depth, mut begin, mut at) = (Vec::new(), 0, 0, 0);
        while at < text.len() {
            let rest = &text[at..];
            match rest.as_bytes()[0] {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            match by.iter().find(|word| depth == 0 && rest.starts_with(**word)) {
                Some(word) => {
                    parts.push(&text[begin..at]);
                    at += word.len();
                    begin = at;
                }
                None => at += 1,
            }
        }
        parts.push(&text[begin..]);
        parts
    }
    let text = expression.trim();
    match split(text, &[" OR ", "/"]).as_slice() {
        [_] => match split(text, &[" AND "]).as_slice() {
            [one] => match one.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
                Some(inner) => allows(inner),
                None => LICENCES.contains(one),
            },
            all => all.iter().all(|part| allows(part)),
        },
        any => any.iter().any(|part| allows(part)),
    }
}

#[test]
fn every_library_comes_from_the_registry_under_a_licence_that_we_take() {
    let mut wrong = Vec::new();
    let mut versions: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let packages = packages();
    assert!(packages.len() > 100, "cargo told of {} packages", packages.len());
    for package in packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let (name, version, source, licence) = (text("name"), text("version"), text("source"), text("license"));
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        // No repository, no folder: what stands in a registry does not change behind a version.
        if !source.starts_with("registry+") {
            wrong.push(format!("{name} {version} comes from `{source}`"));
        }
        if !allows(&licence) {
            wrong.push(format!("{name} {version} is under `{licence}`"));
        }
        *versions.entry(name).or_default() += 1;
    }
    let twice: Vec<&str> = versions.iter().filter(|(_, count)| **count > 1).map(|(name, _)| name.as_str()).collect();
    let more: Vec<_> = twice.iter().filter(|name| !TWICE.contains(name)).collect();
    assert!(wrong.is_empty() && more.is_empty(), "{wrong:#?}\nin more than one version: {more:?}");
    let stale: Vec<_> = TWICE.iter().filter(|name| !twice.contains(name)).collect();
    assert!(stale.is_empty(), "in one version only by now: {stale:?}");
}

/// A file of the registry that was exchanged would not have the digest that stands here.
#[test]
fn every_library_has_its_digest() {
    let lock = read(&root().join("Cargo.lock"));
    let mut count = 0;
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            line.strip_prefix(" = \"")?.strip_suffix('"')
        };
        let name = value("name").expect("a package has a name");
        if name != env!("CARGO_PKG_NAME") {
            assert!(value("source").is_some_and(|source| source.starts_with("registry+")), "{name} has another source");
            assert_eq!(value("checksum").map(str::len), Some(64), "{name} has no digest");
            count += 1;
        }
    }
    assert!(count > 100, "Cargo.lock was not understood");
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
    fn licences_are_read_as_spdx_has_them() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 / MIT",
            "ISC AND (Apache-2.0 OR ISC)",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(allows(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT", "MPL-2.0", "MIT OR"] {
            assert!(!allows(bad), "{bad}");
        }
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let rows = reasons("| library | why |\n|---|---|\n| `a` | b c |\ntext\n");
        assert_eq!(rows, [("a".to_owned(), "b c".to_owned())]);
    }
}
