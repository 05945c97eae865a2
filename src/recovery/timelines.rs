//! Which timelines of an archive are the cluster's own, and which somebody else writes there.
//!
//! A copy that was promoted with archiving on writes a timeline of its own beside the original's. pgBackRest's `check`,
//! `info` and `verify` say that all is well, and a restore that names no timeline follows the copy's.
//!
//! A cluster that was restored to an earlier moment is on a new timeline, which its history explains; what it left behind
//! on the old one was archived before, and is nobody else's.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::base::diag::Diagnostic;
use crate::recovery::wal::{Archive, Naming, Position};

/// The line that leads to a cluster's present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    pub timeline: u32,
    /// Where each earlier timeline was left.
    left: BTreeMap<u32, Left>,
}

/// Where a timeline was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    /// The segment, the first of the next timeline.
    at: Position,
    /// The byte in the stream of WAL.
    byte: u64,
}

/// A place in the stream of WAL in bytes, from PostgreSQL's way of writing it: `16/B374D848`.
fn byte(lsn: &str) -> Option<u64> {
    let (high, low) = lsn.split_once('/')?;
    let part = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

/// What somebody else archived on one timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    pub segments: u64,
    /// The newest of them by time, and when it was archived.
    pub newest: Option<(String, i64)>,
}

impl Own {
    /// Reads what PostgreSQL says: the number of its timeline, and that timeline's history file.
    ///
    /// # Errors
    /// Why the line is not known.
    pub fn read(timeline: u32, history: Option<&str>, naming: Naming) -> Result<Self, String> {
        let mut left = BTreeMap::new();
        if timeline <= 1 {
            return Ok(Self { timeline, left });
        }
        let text = history.ok_or_else(|| format!("PostgreSQL has no history file of its timeline {timeline}"))?;
        // Timeline, the place where it was left, and why, in words; after a #, a remark.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let parent = words.next().and_then(|word| word.parse().ok());
            let at = words.next().and_then(|lsn| Some(Left { at: naming.holding(lsn)?, byte: byte(lsn)? }));
            let (parent, at) =
                parent.zip(at).ok_or_else(|| format!("the history of timeline {timeline} has a line `{line}`"))?;
            left.insert(parent, at);
        }
        Ok(Self { timeline, left })
    }

    /// Whether a segment lies on the line. The one in which a timeline was left is archived on the next one.
    fn holds(&self, timeline: u32, position: Position) -> bool {
        timeline == self.timeline || self.left.get(&timeline).is_some_and(|left| position < left.at)
    }

    /// Whether a backup that ended in a segment, at a place, lies on the line although its last segment is the one in which
    /// its timeline was left.
    pub fn takes_over(&self, timeline: u32, last: Position, end: &str) -> bool {
        let end = byte(end);
        self.left.get(&timeline).is_some_and(|left| last == left.at && end.is_some_and(|end| end <= left.byte))
    }
}

/// What is in an archive and was put there by another cluster than the one whose line this is, by timeline.
///
/// A timeline with a higher number is not of this cluster: it took the first free number itself. One with a lower number,
/// or the rest of one that it has left, may be a branch that it once was on; what is archived there after its own timeline
/// began is not.
pub fn foreign(archive: &Archive, own: &Own, naming: Naming) -> BTreeMap<u32, Foreign> {
    let segments_of = |timeline: u32| archive.segments.get(&timeline).into_iter().flatten();
    let begun = segments_of(own.timeline)
        .filter_map(|(_, at)| *at)
        .chain(archive.histories.get(&own.timeline).copied().flatten())
        .min();
    let mut found: BTreeMap<u32, Foreign> = BTreeMap::new();
    for &timeline in archive.histories.keys().filter(|timeline| **timeline > own.timeline) {
        found.entry(timeline).or_default();
    }
    for &timeline in archive.segments.keys() {
        for (&position, &at) in segments_of(timeline).filter(|(position, _)| !own.holds(timeline, **position)) {
            if timeline < own.timeline && at.zip(begun).is_none_or(|(at, begun)| at <= begun) {
                continue;
            }
            let of = found.entry(timeline).or_default();
            of.segments += 1;
            if let Some(at) = at.filter(|at| of.newest.as_ref().is_none_or(|(_, newest)| at >= newest)) {
                of.newest = Some((naming.name(timeline, position), at));
            }
        }
    }
    found
}

/// The message about one of them; `backups` are labels of those that were made on it.
pub fn finding(stanza: &str, own: &Own, timeline: u32, found: &Foreign, backups: &BTreeSet<String>) -> Diagnostic {
    let mut problem = Diagnostic::error(
        "foreign-timeline",
        format!("somebody else archives into stanza `{stanza}`, on timeline {timeline}"),
    )
    .note(format!("PostgreSQL on the server is on timeline {}, and its history does not lead there", own.timeline));
    problem = match &found.newest {
        Some((name, at)) => {
            let at = Timestamp::from_second(*at).map_or_else(|_| "?".to_owned(), |at| at.to_string());
            problem.note(format!("segments there: {}, the newest is `{name}`, archived at {at}", found.segments))
        }
        None => problem.note("its history is in the archive, without a segment so far"),
    };
    for label in backups {
        problem = problem.note(format!("backup `{label}` was made on it, and is none of this server"));
    }
    if timeline > own.timeline {
        problem = problem.note("a restore that names no timeline follows it, to the other cluster's rows");
    }
    problem.hint(format!(
        "find the other one (a copy that was promoted, a server from a snapshot, an old server that came back) and stop its \
         archiving; restore along timeline {}, by name; delete nothing before you know which is right",
        own.timeline
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::wal::DEFAULT_SEGMENT;

    fn naming() -> Naming {
        Naming::new(DEFAULT_SEGMENT)
    }

    /// Timeline, position and time of each segment; timeline and time of each history.
    fn archive(segments: &[(u32, Position, i64)], histories: &[(u32, i64)]) -> Archive {
        let mut archive = Archive::default();
        for (timeline, position, at) in segments {
            archive.segments.entry(*timeline).or_default().insert(*position, Some(*at));
        }
        archive.histories = histories.iter().map(|(timeline, at)| (*timeline, Some(*at))).collect();
        archive
    }

    fn own(timeline: u32, history: &str) -> Own {
        Own::read(timeline, Some(history), naming()).expect("a line")
    }

    fn found(archive: &Archive, own: &Own) -> Vec<(u32, u64)> {
        foreign(archive, own, naming()).into_iter().map(|(timeline, of)| (timeline, of.segments)).collect()
    }

    #[test]
    fn a_history_is_read_and_never_guessed() {
        let line = own(3, "1\t0/5000028\tno recovery target specified\n\n# a remark\n2\t0/7000000\tbefore 2026\n");
        let left = [(1, 5, 0x0500_0028), (2, 7, 0x0700_0000)].map(|(timeline, at, byte)| (timeline, Left { at, byte }));
        assert_eq!(line.left, BTreeMap::from(left));
        assert!(line.takes_over(1, 5, "0/5000028") && !line.takes_over(1, 5, "0/5000029"));
        assert!(
            !line.takes_over(1, 4, "0/4000028") && !line.takes_over(1, 5, "") && !line.takes_over(3, 9, "0/9000028")
        );
        assert!(line.holds(1, 4) && !line.holds(1, 5) && line.holds(2, 6) && line.holds(3, 900));
        assert!(Own::read(1, None, naming()).is_ok(), "the first timeline has no history");
        assert!(Own::read(2, None, naming()).is_err());
        assert!(Own::read(2, Some("1 nowhere\n"), naming()).is_err());
    }

    #[test]
    fn a_promoted_copy_is_found_by_its_history_alone() {
        let first = Own::read(1, None, naming()).expect("a line");
        let poisoned = archive(&[(1, 1, 100), (1, 2, 200), (2, 2, 150)], &[(2, 150)]);
        assert_eq!(found(&poisoned, &first), [(2, 1)]);
        assert_eq!(foreign(&poisoned, &first, naming())[&2].newest, Some(("000000020000000000000002".to_owned(), 150)));
        assert_eq!(found(&archive(&[(1, 1, 100)], &[(2, 150)]), &first), [(2, 0)]);
        assert!(found(&archive(&[(1, 1, 100), (1, 2, 200)], &[]), &first).is_empty());
    }

    #[test]
    fn a_wanted_restore_leaves_nothing_to_find() {
        // Restored into segment 3: 3 and 4 of the old line were there before. Once more, from the first line.
        let second = own(2, "1\t0/3000100\tbefore x\n");
        let line = archive(&[(1, 2, 10), (1, 3, 20), (1, 4, 30), (2, 3, 50), (2, 4, 60)], &[(2, 40)]);
        assert!(found(&line, &second).is_empty());
        let mut line = line;
        line.histories.insert(3, Some(70));
        line.segments.insert(3, BTreeMap::from([(2, Some(80))]));
        assert!(found(&line, &own(3, "1\t0/2000100\tbefore y\n")).is_empty(), "timeline 2 is a branch that it left");
    }

    #[test]
    fn an_old_server_that_goes_on_is_found() {
        let second = own(2, "1\t0/3000100\tbefore x\n");
        let line = archive(&[(1, 2, 10), (1, 3, 20), (2, 3, 50), (1, 4, 55)], &[(2, 40)]);
        assert_eq!(found(&line, &second), [(1, 1)]);
        // Where nothing says when the own timeline began, nothing says that the other one went on after it.
        assert!(found(&archive(&[(1, 2, 10), (1, 4, 55)], &[]), &second).is_empty());
    }
}
