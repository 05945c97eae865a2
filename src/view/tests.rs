//! Whole texts of this room's output: what a person reads is what is tested.

mod diag;
mod json;
mod plan;
mod progress;

/// Compares texts line by line. The expected text begins on the line after its opening quote.
#[track_caller]
fn same(found: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert!(found == expected, "--- expected\n{expected}--- found\n{found}---");
}
