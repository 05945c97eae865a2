//! What can be restored: from the end of each backup to the last segment that is archived without a gap.
//!
//! A missing segment ends a window; the next one begins with the end of the next backup. Segments before the first backup
//! are not missed. A backup whose own segments are not all there cannot be made consistent and begins nothing.

use std::collections::BTreeSet;

use crate::plan::backups::{Gap, ToBy, Window};
use crate::recovery::wal::{Archive, Naming, Position, Stream};

/// Names of missing segments that a gap tells; the rest is counted.
pub const NAMES_TOLD: usize = 20;

/// A backup as the windows need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub label: String,
    pub timeline: u32,
    pub first: Position,
    pub last: Position,
    pub finished: i64,
    /// A later timeline that its own was left for after its end, within its last segment: that is archived there anew.
    pub leads_to: Option<u32>,
}

/// What can be restored from one archive, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restorable {
    pub windows: Vec<Window>,
    pub gaps: Vec<Gap>,
    /// Labels of backups whose own segments are not all there.
    pub inconsistent: BTreeSet<String>,
}

/// Finds the windows of one archive. `newest` is PostgreSQL's last archived segment with its time.
pub fn windows(archive: &Archive, backups: &[Anchor], naming: Naming, newest: Option<(&str, i64)>) -> Restorable {
    let mut found = Restorable::default();
    // A backup may be on a timeline of which nothing is archived.
    let timelines: BTreeSet<u32> = archive.segments.keys().copied().chain(backups.iter().map(|b| b.timeline)).collect();
    let lines: Vec<Line<'_>> = timelines.iter().rev().map(|&t| Line::new(t, archive.stream(t), backups)).collect();
    let mut kept: Vec<(&Line<'_>, Run<'_>)> = Vec::new();
    let mut holes: BTreeSet<Hole> = BTreeSet::new();
    for line in &lines {
        let own = line.backups.iter().filter(|backup| backup.timeline == line.timeline && !line.is_whole(backup));
        found.inconsistent.extend(own.map(|backup| backup.label.clone()));
        holes.extend(line.holes());
        for run in line.runs() {
            // What leads to a younger timeline is told once, with it.
            if !kept.iter().any(|(younger, longer)| younger.has(&run) && longer.holds(&run)) {
                kept.push((line, run));
            }
        }
    }
    let mut runs: Vec<Run<'_>> = kept.into_iter().map(|(_, run)| run).collect();
    runs.sort_by_key(|run| (run.finished(), run.timeline));
    found.windows = runs.iter().map(|run| run.window(naming, newest)).collect();
    found.gaps = holes.iter().map(|hole| hole.gap(naming, &found.windows, &runs, backups)).collect();
    found.gaps.sort_by_key(|gap| (gap.after, gap.until));
    found
}

/// One line of timelines with the backups on it, by the place where they end.
struct Line<'a> {
    timeline: u32,
    stream: Stream,
    backups: Vec<&'a Anchor>,
}

/// Segments without a gap that begin with a backup's last one.
#[derive(Clone, Debug)]
struct Run<'a> {
    timeline: u32,
    backups: Vec<&'a Anchor>,
    end: Position,
    /// Timeline and time of the last segment.
    last: (u32, Option<i64>),
}

/// Segments that are missing, from one to the other, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hole {
    timeline: u32,
    from: Position,
    to: Position,
}

impl<'a> Line<'a> {
    fn new(timeline: u32, stream: Stream, backups: &'a [Anchor]) -> Self {
        let mut backups: Vec<&Anchor> =
            backups.iter().filter(|b| b.leads_to == Some(timeline) || stream.holds(b.timeline, b.last)).collect();
        backups.sort_by_key(|backup| (backup.last, backup.finished));
        Self { timeline, stream, backups }
    }

    /// Whether a run of another line ends on this one's, too.
    fn has(&self, run: &Run<'_>) -> bool {
        self.stream.segments.get(&run.end).is_some_and(|(timeline, _)| *timeline == run.last.0)
    }

    /// Whether everything is there that makes the backup consistent.
    fn is_whole(&self, backup: &Anchor) -> bool {
        let own = self.stream.segments.range(backup.first..=backup.last.max(backup.first)).count();
        own as u64 == backup.last.saturating_sub(backup.first) + 1
    }

    fn runs(&self) -> Vec<Run<'a>> {
        let mut runs: Vec<Run<'a>> = Vec::new();
        for &backup in self.backups.iter().filter(|backup| self.is_whole(backup)) {
            match runs.last_mut() {
                Some(run) if backup.last <= run.end => run.backups.push(backup),
                _ => {
                    let mut end = backup.last;
                    while self.stream.segments.contains_key(&(end + 1)) {
                        end += 1;
                    }
                    let last = self.stream.segments[&end];
                    runs.push(Run { timeline: self.timeline, backups: vec![backup], end, last });
                }
            }
        }
        runs
    }

    /// What is missing between the first backup's beginning and the last thing that is there.
    fn holes(&self) -> Vec<Hole> {
        let Some(mut next) = self.backups.iter().map(|backup| backup.first).min() else { return Vec::new() };
        let mut holes = Vec::new();
        let mut missing = |from: Position, to: Position| {
            holes.push(Hole { timeline: self.stream.timeline_at(from), from, to });
        };
        for &position in self.stream.segments.range(next..).map(|(position, _)| position) {
            if position > next {
                missing(next, position - 1);
            }
            next = position + 1;
        }
        let wanted = self.backups.iter().map(|backup| backup.last).max().unwrap_or(0);
        if wanted >= next {
            missing(next, wanted);
        }
        holes
    }
}

impl Run<'_> {
    fn finished(&self) -> i64 {
        self.backups.iter().map(|backup| backup.finished).min().unwrap_or_default()
    }

    /// Whether all of another run lies within this one, if they are on one line.
    fn holds(&self, other: &Self) -> bool {
        other.end <= self.end && self.backups.first().map(|b| b.last) <= other.backups.first().map(|b| b.last)
    }

    fn window(&self, naming: Naming, newest: Option<(&str, i64)>) -> Window {
        let last_segment = naming.name(self.last.0, self.end);
        let told = newest.filter(|(name, _)| *name == last_segment).map(|(_, at)| at);
        let first = self.backups.first();
        Window {
            timeline: self.timeline,
            from: self.finished(),
            to: told.or(self.last.1),
            to_by: if told.is_some() { ToBy::Postgres } else { ToBy::Object },
            first_segment: first.map_or_else(String::new, |backup| naming.name(backup.timeline, backup.last)),
            last_segment,
            backups: self.backups.iter().map(|backup| backup.label.clone()).collect(),
        }
    }
}

impl Hole {
    fn gap(self, naming: Naming, windows: &[Window], runs: &[Run<'_>], backups: &[Anchor]) -> Gap {
        let told = self.from..=self.to.min(self.from + NAMES_TOLD as u64 - 1);
        let before = runs.iter().zip(windows).find(|(run, _)| run.end + 1 == self.from);
        let after = backups.iter().filter(|backup| backup.first > self.to && backup.timeline >= self.timeline);
        Gap {
            timeline: self.timeline,
            count: self.to - self.from + 1,
            missing: told.map(|position| naming.name(self.timeline, position)).collect(),
            after: before.and_then(|(_, window)| window.to),
            until: after.map(|backup| backup.finished).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::wal::{DEFAULT_SEGMENT, Fork};

    fn naming() -> Naming {
        Naming::new(DEFAULT_SEGMENT)
    }

    /// Segment `n` was archived at `100 * n`.
    fn archive(timelines: &[(u32, &[Position])], forks: &[(u32, Fork)]) -> Archive {
        let times = |positions: &[Position]| {
            positions.iter().map(|position| (*position, i64::try_from(position * 100).ok())).collect()
        };
        Archive {
            segments: timelines.iter().map(|(timeline, positions)| (*timeline, times(positions))).collect(),
            forks: forks.iter().copied().collect(),
            ..Archive::default()
        }
    }

    fn backup(label: &str, timeline: u32, first: Position, last: Position) -> Anchor {
        let finished = i64::try_from(last * 100 - 50).expect("a small number");
        Anchor { label: label.to_owned(), timeline, first, last, finished, leads_to: None }
    }

    fn shown(found: &Restorable) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for window in &found.windows {
            let Window { timeline, from, to, backups, .. } = window;
            lines.push(format!("{timeline}: {from}-{} {}", to.expect("a time"), backups.join("+")));
        }
        for gap in &found.gaps {
            lines.push(format!("gap {}: {} after {:?} until {:?}", gap.timeline, gap.count, gap.after, gap.until));
        }
        lines.extend(found.inconsistent.iter().map(|label| format!("inconsistent {label}")));
        lines
    }

    #[test]
    fn without_a_gap_there_is_one_window() {
        let archive = archive(&[(1, &[1, 2, 3, 4, 5, 6])], &[]);
        let backups = [backup("F", 1, 2, 3), backup("D", 1, 5, 5)];
        let found = windows(&archive, &backups, naming(), None);
        assert_eq!(shown(&found), ["1: 250-600 F+D"]);
        assert_eq!(found.windows[0].to_by, ToBy::Object);
        assert_eq!(found.windows[0].first_segment, "000000010000000000000003");
        let newest = windows(&archive, &backups, naming(), Some(("000000010000000000000006", 555)));
        assert_eq!((newest.windows[0].to, newest.windows[0].to_by), (Some(555), ToBy::Postgres));
        let other = windows(&archive, &backups, naming(), Some(("000000010000000000000009", 555)));
        assert_eq!((other.windows[0].to, other.windows[0].to_by), (Some(600), ToBy::Object), "not the newest there");
    }

    #[test]
    fn a_missing_segment_ends_a_window_and_the_next_backup_begins_one() {
        let archive = archive(&[(1, &[2, 3, 4, 7, 8, 9, 10])], &[]);
        let backups = [backup("F", 1, 2, 3), backup("D", 1, 8, 9)];
        let found = windows(&archive, &backups, naming(), None);
        assert_eq!(shown(&found), ["1: 250-400 F", "1: 850-1000 D", "gap 1: 2 after Some(400) until Some(850)"]);
        assert_eq!(found.gaps[0].missing, ["000000010000000000000005", "000000010000000000000006"]);
    }

    #[test]
    fn a_gap_that_no_backup_ends_is_open() {
        let archive = archive(&[(1, &[2, 3, 5, 6])], &[]);
        let found = windows(&archive, &[backup("F", 1, 2, 3)], naming(), None);
        assert_eq!(shown(&found), ["1: 250-300 F", "gap 1: 1 after Some(300) until None"]);
    }

    #[test]
    fn a_backup_without_its_own_wal_begins_nothing() {
        let archive = archive(&[(1, &[2, 4, 5])], &[]);
        let found = windows(&archive, &[backup("F", 1, 2, 4)], naming(), None);
        assert_eq!(shown(&found), ["gap 1: 1 after None until None", "inconsistent F"]);
        let lost = windows(&Archive::default(), &[backup("F", 1, 2, 3)], naming(), None);
        assert_eq!(
            shown(&lost),
            ["gap 1: 2 after None until None", "inconsistent F"],
            "its timeline is gone as a whole"
        );
    }

    #[test]
    fn what_was_before_the_first_backup_is_not_missed() {
        let archive = archive(&[(1, &[1, 5, 6])], &[]);
        assert_eq!(shown(&windows(&archive, &[backup("F", 1, 5, 5)], naming(), None)), ["1: 450-600 F"]);
        assert_eq!(windows(&archive, &[], naming(), None), Restorable::default());
    }

    #[test]
    fn a_restore_to_an_earlier_moment_leaves_two_lines() {
        // Timeline 2 left timeline 1 at segment 5, and timeline 1 went on to 7 with a backup there.
        let archive = archive(&[(1, &[2, 3, 4, 5, 6, 7]), (2, &[5, 6])], &[(2, Fork { parent: 1, at: 5 })]);
        let backups = [backup("F", 1, 2, 3), backup("D", 1, 6, 7)];
        assert_eq!(shown(&windows(&archive, &backups, naming(), None)), ["1: 250-700 F+D", "2: 250-600 F"]);
    }

    /// Restored to the very end of the backup: its last segment is on both lines.
    #[test]
    fn a_line_that_begins_within_a_backups_last_segment_has_it_if_it_ended_before() {
        let archive = archive(&[(1, &[2, 3, 4]), (2, &[3, 4, 5])], &[(2, Fork { parent: 1, at: 3 })]);
        let full = backup("F", 1, 2, 3);
        let on_both = Anchor { leads_to: Some(2), ..full.clone() };
        assert_eq!(shown(&windows(&archive, &[full], naming(), None)), ["1: 250-400 F"]);
        assert_eq!(shown(&windows(&archive, &[on_both], naming(), None)), ["1: 250-400 F", "2: 250-500 F"]);
    }

    #[test]
    fn a_promotion_that_left_nothing_behind_is_one_line() {
        let archive = archive(&[(1, &[2, 3, 4]), (2, &[5, 6])], &[(2, Fork { parent: 1, at: 5 })]);
        let backups = [backup("F", 1, 2, 3), backup("G", 2, 6, 6)];
        assert_eq!(shown(&windows(&archive, &backups, naming(), None)), ["2: 250-600 F+G"]);
    }

    #[test]
    fn a_gap_before_a_fork_is_told_once() {
        let archive = archive(&[(1, &[2, 4, 5]), (2, &[6])], &[(2, Fork { parent: 1, at: 6 })]);
        let backups = [backup("F", 1, 2, 2)];
        assert_eq!(
            shown(&windows(&archive, &backups, naming(), None)),
            ["1: 150-200 F", "gap 1: 1 after Some(200) until None"].map(|line| line.replace("1: 150", "2: 150"))
        );
    }

    #[test]
    fn a_large_gap_is_counted_and_not_listed() {
        let archive = archive(&[(1, &[2, 3, 1_000_000])], &[]);
        let found = windows(&archive, &[backup("F", 1, 2, 3)], naming(), None);
        assert_eq!((found.gaps[0].count, found.gaps[0].missing.len()), (999_996, NAMES_TOLD));
    }

    /// Against the definition itself, on small archives of all sorts: a segment's end can be restored if a whole backup
    /// ends at it or before, and everything from there on is archived.
    #[test]
    fn windows_are_what_the_definition_says() {
        const SEGMENTS: u64 = 12;
        let mut random = fastrand::Rng::with_seed(15);
        let (mut with_gaps, mut with_many) = (0, 0);
        for round in 0..2_000 {
            let there: Vec<Position> = (0..SEGMENTS).filter(|_| random.u8(..) < 200).collect();
            let backups: Vec<Anchor> = (0..random.usize(0..4))
                .map(|number| {
                    let first = random.u64(1..SEGMENTS);
                    backup(&number.to_string(), 1, first, (first + random.u64(0..2)).min(SEGMENTS - 1))
                })
                .collect();
            let found = windows(&archive(&[(1, &there)], &[]), &backups, naming(), None);
            let whole = |from: Position, to: Position| (from..=to).all(|at| there.contains(&at));
            let possible: Vec<Position> = (0..SEGMENTS)
                .filter(|at| backups.iter().any(|b| b.last <= *at && whole(b.first, b.last) && whole(b.last, *at)))
                .collect();
            let place = |name: &str| naming().read(name).expect("a segment").1;
            let told: Vec<Position> = found
                .windows
                .iter()
                .flat_map(|window| place(&window.first_segment)..=place(&window.last_segment))
                .collect();
            assert_eq!(told, possible, "round {round}: {there:?} {backups:?}");
            let lost: Vec<&str> =
                backups.iter().filter(|b| !whole(b.first, b.last)).map(|b| b.label.as_str()).collect();
            assert_eq!(found.inconsistent.iter().map(String::as_str).collect::<Vec<_>>(), lost, "round {round}");
            let begin = backups.iter().map(|b| b.first).min();
            let end = there.last().copied().max(backups.iter().map(|b| b.last).max()).unwrap_or(0);
            let missing = begin.map_or(0, |begin| (begin..=end).filter(|at| !there.contains(at)).count() as u64);
            assert_eq!(found.gaps.iter().map(|gap| gap.count).sum::<u64>(), missing, "round {round}");
            with_gaps += usize::from(missing > 0);
            with_many += usize::from(found.windows.len() > 1);
        }
        assert!(with_gaps > 200 && with_many > 50, "the archives are of all sorts: {with_gaps}, {with_many}");
    }
}
