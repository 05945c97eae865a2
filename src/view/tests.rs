//! Whole texts of this room's output: what a person reads is what is tested.

mod diag;
mod json;
mod plan;
mod progress;
mod steps;
mod values;

use crate::plan::Plan;
use crate::plan::change::Change;
use crate::view::sample;

/// Compares texts line by line. The expected text begins on the line after its opening quote.
#[track_caller]
fn same(found: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert!(found == expected, "--- expected\n{expected}--- found\n{found}---");
}

fn one(change: Change) -> Plan {
    Plan { stages: vec![sample::cloud(vec![change])], ..Plan::default() }
}

/// The part of a text from one line to the empty line after it.
fn part<'a>(text: &'a str, from: &str) -> &'a str {
    let start = text.find(from).expect("the text has the line");
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at + 1);
    &text[start..end]
}
