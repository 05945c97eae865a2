//! Explanations: the kinds, one kind, one resource of the inventory.

use std::fmt::Write as _;

use crate::base::address::Address;
use crate::plan::change::{FieldChange, FileDiff};
use crate::view::text::without_long_keys;
use crate::view::value::side;

/// The kinds, a line each.
pub fn list(kinds: &[(&str, &str)]) -> String {
    let width = kinds.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, summary) in kinds {
        let _ = writeln!(text, "{name:width$}  {summary}");
    }
    text.push_str(
        "\n`seawall explain KIND` says what a kind manages, `seawall explain ADDRESS` what a resource will be\n",
    );
    text
}

/// One kind.
pub fn kind(name: &str, summary: &str, explain: &str) -> String {
    format!("{name}: {summary}\n\n{}\n", explain.trim())
}

/// What a resource of the inventory will be, and which line asks for it.
pub fn resource(
    address: &Address,
    summary: &str,
    place: &str,
    after: &[String],
    fields: &[FieldChange],
    files: &[FileDiff],
) -> String {
    let mut text = format!("{address}: {summary}\n\nasked for at {place}\n");
    if !after.is_empty() {
        let _ = writeln!(text, "after {}", after.join(", "));
    }
    text.push('\n');
    let names: Vec<String> = fields.iter().map(|field| without_long_keys(&field.path)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, field) in names.iter().zip(fields) {
        let _ = writeln!(text, "{name:width$}  {}", side(field.after.as_ref()));
    }
    for file in files {
        let _ = writeln!(text, "\n{}\n", file.path);
        for line in file.after.as_deref().unwrap_or("").lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
