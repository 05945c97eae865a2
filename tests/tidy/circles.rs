//! No circle of files inside a room. `ROOMS` orders the rooms; this orders what is in them.
//!
//! What counts: a file needs another one of its room if its code names it, by `crate::room::…` or `super::…`. At every
//! level the files and folders side by side are compared, a folder with everything in it: if anything below `a` needs
//! anything below `b`, then `a` needs `b`. What does not count: a module and what is below it. They are one subject in
//! several files: the parent names its parts, and a part may use the parent's types. Tests do not count either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{read, root, rust_files};

/// A module's path below the crate, for example `["engine", "apply"]`.
type Module = Vec<String>;

/// Files and folders side by side that need each other: where they are, and their names.
#[derive(Debug, PartialEq, Eq)]
struct Circle {
    below: String,
    names: BTreeSet<String>,
}

#[test]
fn no_circle_of_files_inside_a_room() {
    let src = root().join("src");
    let texts: Vec<(PathBuf, String)> = rust_files(&src)
        .into_iter()
        .map(|file| (file.strip_prefix(&src).expect("the file was found below src").to_owned(), read(&file)))
        .collect();
    let found = circles(&texts);
    assert!(found.is_empty(), "these files need each other in a circle: {found:#?}");
}

/// The circles of a crate's files.
fn circles(texts: &[(PathBuf, String)]) -> Vec<Circle> {
    let modules: BTreeMap<Module, &str> =
        texts.iter().filter_map(|(file, text)| Some((module(file)?, text.as_str()))).collect();
    // By level: what needs what among the names side by side.
    let mut levels: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, text) in &modules {
        for path in named(from, text) {
            let Some(to) = (1..=path.len()).rev().map(|end| &path[..end]).find(|path| modules.contains_key(*path))
            else {
                continue;
            };
            let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
            // Rooms among each other are the table's; a module and what is below it are one subject.
            if shared == 0 || shared == from.len() || shared == to.len() {
                continue;
            }
            let level = levels.entry(from[..shared].to_vec()).or_default();
            level.entry(from[shared].clone()).or_default().insert(to[shared].clone());
        }
    }
    let mut found = Vec::new();
    for (level, needs) in levels {
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for start in needs.keys().map(String::as_str) {
            let reached = reach(&needs, start);
            if told.contains(start) || !reached.contains(start) {
                continue;
            }
            let names: BTreeSet<&str> =
                reached.into_iter().filter(|name| reach(&needs, name).contains(start)).collect();
            told.extend(&names);
            let names = names.into_iter().map(str::to_owned).collect();
            found.push(Circle { below: level.join("::"), names });
        }
    }
    found
}

/// Everything that a name needs, by any number of steps.
fn reach<'a>(needs: &'a BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = needs.get(start).into_iter().flatten().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name.as_str()) {
            next.extend(needs.get(name).into_iter().flatten());
        }
    }
    reached
}

/// The module of a file below `src/`. None for `lib.rs`, `main.rs` and tests.
fn module(file: &Path) -> Option<Module> {
    let mut path: Module = file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    let is_code = !path.iter().any(|part| part == "tests") && !matches!(path.join("/").as_str(), "lib" | "main" | "");
    is_code.then_some(path)
}

/// The modules and items that a file's code names with `crate::` or `super::`, as paths from the crate.
fn named(from: &[String], text: &str) -> Vec<Module> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code.lines().flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"]).collect();
    let mut found = Vec::new();
    for (word, base) in [("crate::", &[][..]), ("super::", &from[..from.len() - 1])] {
        for (at, _) in code.match_indices(word) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if !before.is_alphanumeric() && !matches!(before, '_' | ':') {
                tree(&code[at + word.len()..], base, &mut found);
            }
        }
    }
    found
}

/// Reads the tree of a `use`, or a path in an expression; gives what follows it.
fn tree<'a>(text: &'a str, base: &[String], found: &mut Vec<Module>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut inner) = text.strip_prefix('{') {
        loop {
            inner = inner.trim_start();
            if inner.is_empty() || inner.starts_with('}') {
                return inner.get(1..).unwrap_or_default();
            }
            // What follows a path in braces is `as NAME` or nothing.
            inner = tree(inner, base, found).trim_start_matches(|c| c != ',' && c != '}');
            inner = inner.strip_prefix(',').unwrap_or(inner);
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("::") {
        return tree(rest, &path, found);
    }
    found.push(path);
    rest
}

mod the_check_itself {
    use super::{Circle, circles, named};

    fn found(files: &[(&str, &str)]) -> Vec<Circle> {
        let texts: Vec<_> = files.iter().map(|(file, text)| (file.into(), (*text).to_owned())).collect();
        circles(&texts)
    }

    fn circle(below: &str, names: &[&str]) -> Circle {
        Circle { below: below.to_owned(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let one_way = [("room/a.rs", "use crate::room::b::B;\n"), ("room/b.rs", "")];
        assert_eq!(found(&one_way), []);
        for back in [
            "use crate::room::a::A;\n",
            "use crate::room::{a, x::Y};\n",
            "use super::{\n    x::{self, Z},\n    a::A as Other,\n};\n",
            "fn f() { crate::room::a::f(1) }\n",
        ] {
            let files = [one_way[0], ("room/b.rs", back), ("room/x.rs", "")];
            assert_eq!(found(&files), [circle("room", &["a", "b"])], "{back}");
        }
    }

    #[test]
    fn a_long_circle_is_one_circle_and_others_stay_out_of_it() {
        let files = [
            ("room/a.rs", "use crate::room::b::B;"),
            ("room/b.rs", "use crate::room::c::C; use crate::room::d::D;"),
            ("room/c.rs", "use crate::room::a::A;"),
            ("room/d.rs", ""),
            ("room/e.rs", "use crate::room::a::A;"),
        ];
        assert_eq!(found(&files), [circle("room", &["a", "b", "c"])]);
    }

    #[test]
    fn folders_are_compared_as_wholes() {
        let files = [
            ("room/a.rs", "mod one;"),
            ("room/a/one.rs", "use crate::room::b::B;"),
            ("room/b.rs", "use crate::room::a::A;"),
        ];
        assert_eq!(found(&files), [circle("room", &["a", "b"])]);
        let inside = [
            ("room/a/mod.rs", ""),
            ("room/a/one.rs", "use crate::room::a::two::T;"),
            ("room/a/two.rs", "use super::one::O;"),
        ];
        assert_eq!(found(&inside), [circle("room::a", &["one", "two"])]);
    }

    #[test]
    fn parents_tests_comments_and_other_rooms_do_not_count() {
        let files = [
            ("room/mod.rs", "use crate::room::a::A;"),
            ("room/a.rs", "use crate::room::Shared; use super::Shared;\n// crate::room::b::B\n"),
            ("room/b.rs", "use crate::room::a::A;\n#[cfg(test)]\nmod tests { }"),
            ("room/a/tests.rs", "use crate::room::b::B;"),
            ("other/c.rs", "use crate::room::b::B;"),
        ];
        assert_eq!(found(&files), []);
        let in_its_tests = [files[1], ("room/b.rs", "#[cfg(test)]\nmod tests { use crate::room::a::A; }")];
        assert_eq!(found(&in_its_tests), []);
    }

    #[test]
    fn names_that_only_end_alike_do_not_count() {
        let from = vec!["room".to_owned(), "a".to_owned()];
        assert_eq!(named(&from, "my_crate::b::C; xsuper::d"), Vec::<Vec<String>>::new());
    }
}
