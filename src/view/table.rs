//! Tables: columns as wide as what is in them, and narrower with broken cells where the terminal has no room.
//!
//! Deliberately absent: lines between cells, which nobody can copy a column through; and colours, which whoever writes
//! the lines puts around them.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};

/// Columns between two cells.
const GAP: u16 = 2;
/// A column is never narrower than its head and its longest word, up to this: the longest part of a backup's label, with
/// the mark that joins it to the next. Where even that is too wide, the line goes on past the edge.
const WORD: usize = 17;

/// The lines of a table, its head first. Without a width nothing breaks, as in [`crate::view::text::wrap`].
pub(super) fn lines<const N: usize>(head: [&str; N], rows: Vec<[String; N]>, width: Option<usize>) -> Vec<String> {
    let least = |column: usize| {
        let words = rows.iter().flat_map(|row| row[column].split(' ')).map(|word| word.chars().count().min(WORD));
        words.chain([head[column].chars().count()]).max().and_then(|least| u16::try_from(least).ok()).unwrap_or(0)
    };
    let least: Vec<ColumnConstraint> =
        (0..N).map(|column| ColumnConstraint::LowerBoundary(Width::Fixed(least(column) + GAP))).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head).add_rows(rows).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width.and_then(|width| u16::try_from(width).ok()) {
        // The gap after the last column is not printed.
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP));
        table.set_constraints(least);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backups(width: Option<usize>) -> String {
        let row = |label: &str| [label, "2026-11-21 14:37:38", "23.1 MB"].map(str::to_owned);
        let rows = vec![row("20261121-143736F"), row("20261121-143736F_20261122-143736D")];
        lines(["backup", "finished (UTC)", "database"], rows, width).join("\n")
    }

    #[test]
    fn nothing_breaks_where_there_is_no_terminal_or_room_enough() {
        let whole = "backup                             finished (UTC)       database\n\
                     20261121-143736F                   2026-11-21 14:37:38  23.1 MB\n\
                     20261121-143736F_20261122-143736D  2026-11-21 14:37:38  23.1 MB";
        assert_eq!(backups(None), whole);
        assert_eq!(backups(Some(64)), whole, "64 columns are just enough");
    }

    #[test]
    fn cells_break_within_their_column() {
        let narrow = "backup             finished (UTC)  database\n\
                      20261121-143736F   2026-11-21      23.1 MB\n                   14:37:38\n\
                      20261121-143736F_  2026-11-21      23.1 MB\n20261122-143736D   14:37:38";
        assert_eq!(backups(Some(43)), narrow);
        assert_eq!(backups(Some(10)), narrow, "past its longest words nothing is cut");
    }

    #[test]
    fn wide_characters_take_the_two_columns_that_they_have() {
        let rows = vec![["接続".to_owned(), "x".to_owned()], ["abcd".to_owned(), "y".to_owned()]];
        assert_eq!(lines(["a", "b"], rows, None), ["a     b", "接続  x", "abcd  y"]);
    }
}
