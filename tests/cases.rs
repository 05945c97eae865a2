//! Kinds as data: every case under `tests/kinds/` is answers in, an action with its fields, steps and remarks out.
//!
//! `SEAWALL_UPDATE=1` writes the `expect` blocks that differ anew; read the difference before committing it.

#[allow(dead_code, reason = "the laws use the rest")]
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::support::case::{self, Case, Expect};
use seawall::kinds::KINDS;
use seawall::kinds::table::Entry;

#[test]
fn every_case_comes_out_as_expected() {
    let update = std::env::var_os("SEAWALL_UPDATE").is_some();
    let mut problems = Vec::new();
    for (kind, cases) in case::all() {
        let outcomes: Vec<Expect> = cases.iter().map(|case| case.outcome(kind).0).collect();
        if update && cases.iter().zip(&outcomes).any(|(case, outcome)| case.expect != *outcome) {
            rewrite(&case::path(kind), &cases, &outcomes);
            continue;
        }
        problems.extend(cases.iter().zip(&outcomes).filter_map(|(case, outcome)| differs(kind, case, outcome)));
    }
    assert!(problems.is_empty(), "{}\n{} cases differ", problems.join("\n"), problems.len());
}

/// What differs between an expectation and what came out, for people.
fn differs(kind: &Entry, case: &Case, outcome: &Expect) -> Option<String> {
    (case.expect != *outcome).then(|| {
        let (expected, got) = (block(&case.expect), block(outcome));
        let text = similar::TextDiff::from_lines(&expected, &got).unified_diff().context_radius(9).to_string();
        format!("{}: {}\n{text}", kind.name, case.name)
    })
}

/// Which outcomes a kind must show: the three answers, a difference, and whatever else its code can say.
#[test]
fn every_kind_has_the_cases_that_it_can_have() {
    let mut problems = Vec::new();
    for (kind, cases) in case::all() {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/kinds/{}.rs", kind.name.replace('.', "_")));
        let source = std::fs::read_to_string(source).expect("a kind has its file");
        let shown: BTreeSet<&str> = cases.iter().map(|case| case.expect.action.as_str()).collect();
        let replaces = source.contains("replacing").then_some("replace");
        let foreign = source.contains("fn owner(").then_some("foreign");
        for action in ["create", "no-op", "update", "unknown"].into_iter().chain(replaces).chain(foreign) {
            if !shown.contains(action) {
                problems.push(format!("{}: no case of `{action}`", kind.name));
            }
        }
        let unseen = cases.iter().filter(|case| case.unseen.is_some());
        if unseen.count() == 0 {
            problems.push(format!("{}: no case of a place that could not be asked", kind.name));
        }
        let equal = |case: &&Case| case.expect.action == "no-op" && case.expect.fields.is_empty();
        if cases.iter().find(equal).is_none_or(|case| !case.expect.steps.is_empty()) {
            problems.push(format!("{}: no case that is as wanted and does nothing", kind.name));
        }
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        if names.len() != cases.len() {
            problems.push(format!("{}: two cases have one name", kind.name));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// A case that leaves a question open is "unknown" for that reason alone and shows nothing else.
#[test]
fn every_case_answers_what_its_kind_asks() {
    let mut problems = Vec::new();
    for (kind, cases) in case::all() {
        for case in cases.iter().filter(|case| case.unseen.is_none()) {
            let (open, idle) = (case.unanswered(kind), case.unasked(kind));
            if !open.is_empty() || !idle.is_empty() {
                problems.push(format!("{}: {}: open {open:?}, never asked {idle:?}", kind.name, case.name));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Writes the `expect` blocks of one file anew. Everything else, comments and anchors included, stays as it is.
fn rewrite(path: &Path, cases: &[Case], outcomes: &[Expect]) {
    let text = std::fs::read_to_string(path).expect("the cases were read from this file");
    let text = rewritten(&text, cases, outcomes);
    assert_eq!(case::parse("rewritten", &text).len(), cases.len(), "{}: rewriting lost a case", path.display());
    // Beside and renamed: the other tests of this file read it at the same time.
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).expect("a file of this project is writable");
    std::fs::rename(&beside, path).expect("a file of this project is writable");
}

fn rewritten(text: &str, cases: &[Case], outcomes: &[Expect]) -> String {
    let mut expected = cases.iter().zip(outcomes).map(|(case, outcome)| (case.expect != *outcome).then_some(outcome));
    let mut replacing = false;
    let mut out = String::new();
    for line in text.lines() {
        // An expect block ends where something begins that is indented less: the next case or a comment before it.
        replacing &= line.is_empty() || line.starts_with("   ");
        let changed = if line == "  expect:" { expected.next().expect("as many blocks as cases") } else { None };
        if let Some(outcome) = changed {
            writeln!(out, "{line}\n{}", block(outcome)).expect("a String takes all");
            replacing = true;
            continue;
        }
        if !replacing {
            writeln!(out, "{line}").expect("a String takes all");
        }
    }
    assert!(expected.next().is_none(), "a case without an `expect:` line");
    out
}

/// An expectation as it stands in a file, with an empty line at its end.
fn block(expect: &Expect) -> String {
    let Expect { action, fields, steps, remarks, refusals, detail } = expect;
    let mut out = format!("    action: {action}\n");
    for (name, lines) in [("fields", fields), ("steps", steps), ("remarks", remarks)] {
        if lines.is_empty() {
            writeln!(out, "    {name}: []").expect("a String takes all");
            continue;
        }
        writeln!(out, "    {name}:").expect("a String takes all");
        for line in lines {
            writeln!(out, "    - {}", scalar(line)).expect("a String takes all");
        }
    }
    if !refusals.is_empty() {
        writeln!(out, "    refusals: [{}]", refusals.join(", ")).expect("a String takes all");
    }
    if let Some(steps) = detail {
        writeln!(out, "    detail:").expect("a String takes all");
        for step in steps {
            // JSON is YAML.
            writeln!(out, "    - {step}").expect("a String takes all");
        }
    }
    out
}

/// A text as YAML: plain where it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
        && serde_yaml::from_str::<String>(text).is_ok_and(|read| read == text);
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

mod the_harness_itself {
    use super::*;

    const TEXT: &str = "\
# A comment that stays.
- case: absent is created
  desired: &wanted {name: test-db-ip, attached_to: test-db}
  cloud: [{probe: {static_ip: {name: test-db-ip}}, answer: absent}]
  expect:
    action: no-op
    fields: []

# Another one.
- case: unseen is unknown
  desired: *wanted
  unseen: connection timed out
  expect:
    action: unknown
";

    fn static_ip() -> &'static Entry {
        KINDS.iter().find(|kind| kind.name == "lightsail.static_ip").expect("a kind of the table")
    }

    #[test]
    fn a_wrong_expectation_is_found_and_written_anew() {
        let cases = case::parse("text", TEXT);
        let outcomes: Vec<Expect> = cases.iter().map(|case| case.outcome(static_ip()).0).collect();
        let said = differs(static_ip(), &cases[0], &outcomes[0]).expect("a case that is not as expected");
        assert!(said.contains("-    action: no-op\n") && said.contains("+    action: create\n"), "{said}");
        assert!(differs(static_ip(), &cases[1], &outcomes[1]).is_none());

        let text = rewritten(TEXT, &cases, &outcomes);
        assert!(text.starts_with("# A comment that stays.\n- case: absent is created\n"), "{text}");
        assert!(text.contains("    remarks: []\n\n# Another one.\n"), "{text}");
        assert!(text.ends_with("  expect:\n    action: unknown\n"), "what was right stays as it is:\n{text}");
        let cases = case::parse("rewritten", &text);
        assert!(cases.iter().zip(&outcomes).all(|(case, outcome)| case.expect == *outcome), "{text}");
    }

    #[test]
    fn open_and_idle_questions_are_found() {
        let text = TEXT.replace("static_ip: {name: test-db-ip}", "instance: {name: test-db}");
        let case = &case::parse("text", &text)[0];
        assert_eq!(case.unanswered(static_ip()).len(), 1);
        assert_eq!(case.unasked(static_ip()).len(), 1);
        assert_eq!(case.outcome(static_ip()).0.action, "unknown", "an open question is never `absent`");
    }

    #[test]
    fn texts_survive_yaml() {
        for text in ["plain words", "a: b", "it's", "- x", "true", "[x", "'x: 1 → \"y\"'", "end:", "a #b", "1"] {
            let read: String = serde_yaml::from_str(&scalar(text)).expect("YAML");
            assert_eq!(read, text);
        }
    }
}
