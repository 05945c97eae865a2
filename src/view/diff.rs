//! Texts before and after, as the lines of a unified diff.

use similar::{ChangeTag, InlineChange, TextDiff};

use crate::view::style::{Role, Style};
use crate::view::text::clean_line;

/// Unchanged lines around a change.
const AROUND: usize = 3;

/// The lines, without indentation. In colours the changed words stand out; in plain text the lines alone tell.
pub fn lines(before: &str, after: &str, style: Style) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for (index, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if index > 0 {
            lines.push(style.paint(Role::Faint, "…"));
        }
        for op in group {
            // A line that only came or only went has no other to compare words with: all of it is the change.
            let alone = op.old_range().is_empty() || op.new_range().is_empty();
            for change in diff.iter_inline_changes(op) {
                lines.push(line(&change, alone, style));
                if change.missing_newline() {
                    lines.push(style.paint(Role::Faint, "\\ no line break at the end"));
                }
            }
        }
    }
    lines
}

fn line(change: &InlineChange<'_, str>, alone: bool, style: Style) -> String {
    let (sign, role) = match change.tag() {
        ChangeTag::Delete => ("-", Some(Role::Removed)),
        ChangeTag::Insert => ("+", Some(Role::Added)),
        ChangeTag::Equal => (" ", None),
    };
    let mut line = role.map_or_else(|| sign.to_owned(), |role| style.paint(role, sign));
    let mut first = true;
    for (changed, part) in change.iter_strings_lossy() {
        let part = clean_line(part.trim_end_matches(['\n', '\r']));
        if part.is_empty() {
            continue;
        }
        if std::mem::take(&mut first) {
            line.push(' ');
        }
        match role {
            Some(role) if changed || alone => line.push_str(&style.paint(role, part)),
            _ => line.push_str(&part),
        }
    }
    if first && role.is_none() { String::new() } else { line }
}
