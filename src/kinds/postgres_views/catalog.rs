//! The views: their names, what each needs, and their texts, which begin with what to do about what they show.

use crate::base::digest::Digest;

/// The extension that one of them reads.
pub(super) const STATEMENTS: &str = "pg_stat_statements";

/// One view.
pub(super) struct View {
    pub(super) name: &'static str,
    text: &'static str,
    /// PostgreSQL's major version that first has what it reads.
    since: u16,
    /// It reads [`STATEMENTS`].
    statements: bool,
}

const fn view(name: &'static str, text: &'static str) -> View {
    View { name, text, since: 13, statements: false }
}

const VIEWS: [View; 16] = [
    view("blocking_locks", include_str!("blocking_locks.sql")),
    view("cache_hit_ratio", include_str!("cache_hit_ratio.sql")),
    view("connections", include_str!("connections.sql")),
    view("duplicate_indexes", include_str!("duplicate_indexes.sql")),
    view("invalid_indexes", include_str!("invalid_indexes.sql")),
    View { since: 16, ..view("io", include_str!("io.sql")) },
    view("long_transactions", include_str!("long_transactions.sql")),
    view("neglected_tables", include_str!("neglected_tables.sql")),
    view("replication_slots", include_str!("replication_slots.sql")),
    view("sequences_near_end", include_str!("sequences_near_end.sql")),
    view("sizes", include_str!("sizes.sql")),
    View { statements: true, ..view("slow_queries", include_str!("slow_queries.sql")) },
    view("table_bloat", include_str!("table_bloat.sql")),
    view("unused_indexes", include_str!("unused_indexes.sql")),
    view("wal_archiving", include_str!("wal_archiving.sql")),
    view("wraparound", include_str!("wraparound.sql")),
];

/// The views of a cluster of a version, with or without the extension.
pub(super) fn views(version: u16, statements: bool) -> impl Iterator<Item = &'static View> {
    VIEWS.iter().filter(move |view| view.since <= version && (statements || !view.statements))
}

impl View {
    /// What to do about what it shows, in one line.
    pub(super) fn advice(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("-- "));
        lines.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn query(&self) -> &'static str {
        let end = self.text.find("\nSELECT").into_iter().chain(self.text.find("\nWITH")).min();
        self.text[end.expect("a text has a query; a test reads all of them")..].trim()
    }

    /// What tells this text from an older or newer one.
    pub(super) fn source(&self) -> Digest {
        Digest::of_bytes(self.text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_says_what_to_do_and_has_one_query() {
        for view in views(99, true) {
            assert!(view.advice().len() > 80, "{}: {}", view.name, view.advice());
            assert!(view.query().starts_with("SELECT") || view.query().starts_with("WITH"), "{}", view.name);
            assert!(!view.query().contains(';'), "{}: a view is one query", view.name);
            assert!(!view.advice().contains("corrupt"), "{}: an index that is not used is not broken", view.name);
        }
    }

    #[test]
    fn what_a_version_does_not_have_is_not_asked_for() {
        let names = |version, statements| views(version, statements).map(|view| view.name).collect::<Vec<_>>();
        assert!(!names(15, true).contains(&"io") && names(16, true).contains(&"io"));
        assert!(!names(15, false).contains(&"slow_queries"));
        assert_eq!(names(13, false).len(), VIEWS.len() - 2);
    }
}
