//! Diagnostics as people read them.

use std::collections::BTreeMap;

use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::span::Span;
use crate::view::diag::render;
use crate::view::style::Style;
use crate::view::tests::same;

fn span(file: &str, line: usize, column: usize, length: usize) -> Span {
    Span { file: file.to_owned(), line, column, length }
}

fn sources(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

fn plain(diagnostics: Vec<Diagnostic>, files: &[(&str, &str)]) -> String {
    render(&Diagnostics(diagnostics), &sources(files), Style::PLAIN)
}

#[test]
fn several_in_one_file_errors_first() {
    let text = "environment: prod\nservers:\n  db:\n    swp: { size_mib: 1024 }\nalarms: {}\n";
    let warning =
        Diagnostic::warning("empty-section", "`alarms` is empty").at(span("a.yaml", 5, 1, 6), "nothing is in it");
    let error = Diagnostic::error("unknown-field", "`servers.db` has no field `swp`")
        .at(span("a.yaml", 4, 5, 3), "did you mean `swap`?")
        .at(span("a.yaml", 3, 3, 2), "in this server")
        .note("nothing was changed by this run")
        .hint("`seawall explain host.swap` says what it is");
    same(
        &plain(vec![warning, error], &[("a.yaml", text)]),
        r"
error[unknown-field]: `servers.db` has no field `swp`
 --> a.yaml:4:5
  |
3 |   db:
  |   -- in this server
4 |     swp: { size_mib: 1024 }
  |     ^^^ did you mean `swap`?
  |
  = note: nothing was changed by this run
  = hint: `seawall explain host.swap` says what it is

warning[empty-section]: `alarms` is empty
 --> a.yaml:5:1
  |
5 | alarms: {}
  | ^^^^^^ nothing is in it

1 error, 1 warning
",
    );
}

#[test]
fn without_a_source_the_place_is_named() {
    let problem =
        Diagnostic::error("dangling", "`x` is not declared").at(span("gone.yaml", 7, 3, 1), "here").hint("declare it");
    same(
        &plain(vec![problem], &[]),
        r"
error[dangling]: `x` is not declared
--> gone.yaml:7:3
 = note: here
 = hint: declare it
",
    );
    same(
        &plain(vec![Diagnostic::error("plain", "it failed").note("nothing was changed")], &[]),
        r"
error[plain]: it failed
 |
 = note: nothing was changed
",
    );
}

#[test]
fn a_place_in_a_very_long_line() {
    let text = format!("key: {}NEEDLE{}\n", "a".repeat(400), "b".repeat(400));
    let problem = Diagnostic::error("long", "found it").at(span("a.yaml", 1, 406, 6), "here");
    let text = plain(vec![problem], &[("a.yaml", &text)]);
    assert!(text.contains("NEEDLE") && text.contains("^^^^^^ here"), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(widest <= 140, "{widest} columns: {text}");
}

#[test]
fn tabs_and_wide_characters_do_not_shift_the_marks() {
    let text = "\tname: 接続 bad\n";
    let problem = Diagnostic::error("odd", "`bad` is bad").at(span("a.yaml", 1, 11, 3), "here");
    same(
        &plain(vec![problem], &[("a.yaml", text)]),
        r"
error[odd]: `bad` is bad
 --> a.yaml:1:11
  |
1 |     name: 接続 bad
  |                ^^^ here
",
    );
}

#[test]
fn a_place_beyond_the_end_is_the_end() {
    for (line, column) in [(99, 1), (1, 99), (0, 0)] {
        let problem = Diagnostic::error("moved", "the file is shorter now").at(span("a.yaml", line, column, 5), "here");
        let text = plain(vec![problem], &[("a.yaml", "a: 1\n")]);
        assert!(text.contains("error[moved]: the file is shorter now") && text.contains("here"), "{text}");
    }
    let empty = Diagnostic::error("moved", "the file is empty now").at(span("a.yaml", 1, 1, 5), "here");
    assert!(plain(vec![empty], &[("a.yaml", "")]).contains("here"));
}

#[test]
fn nothing_in_a_message_writes_to_the_terminal() {
    let evil = "\u{1b}[2J\u{9b}2J\u{7}\u{202e}";
    let problem = Diagnostic::error("evil", format!("message {evil}"))
        .at(span(&format!("a{evil}.yaml"), 1, 6, 3), format!("label {evil}"))
        .at(span(&format!("gone{evil}.yaml"), 1, 6, 3), format!("label {evil}"))
        .note(format!("note {evil}"))
        .hint(format!("hint {evil}"));
    let file = format!("a{evil}.yaml");
    let source = format!("key: {evil}bad\r\n");
    let text = plain(vec![problem], &[(&file, &source)]);
    let bad: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n' || *c == '\u{202e}').collect();
    assert!(bad.is_empty(), "{bad:?} in {text}");
}

#[test]
fn line_breaks_of_other_systems_are_no_part_of_a_line() {
    let problem = Diagnostic::error("odd", "`bad` is bad").at(span("a.yaml", 2, 4, 3), "here");
    same(
        &plain(vec![problem], &[("a.yaml", "a: 1\r\nb: bad\r\n")]),
        r"
error[odd]: `bad` is bad
 --> a.yaml:2:4
  |
2 | b: bad
  |    ^^^ here
",
    );
}
