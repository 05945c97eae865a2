//! Segments of WAL by their names in the repository: which are there, which follow each other, where timelines fork.
//!
//! The bucket is listed with the operator's own credentials: it tells the same as `pgbackrest repo-ls`, with storage
//! classes, in one look, and also when the server is gone.

use std::collections::{BTreeMap, BTreeSet};

/// PostgreSQL's default size of a segment, in bytes (`wal_segment_size`).
pub const DEFAULT_SEGMENT: u64 = 16 * 1024 * 1024;
/// Digits of a segment's name: timeline, log and segment with eight each.
const NAME: usize = 24;
/// Digits of the checksum behind it: SHA-1.
const SUM: usize = 40;

/// The place of a segment in the stream of WAL, counted from its beginning.
pub type Position = u64;

/// How segments are named; it depends on their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Segments of one log: 256 with 16 MiB.
    per_log: u64,
}

impl Naming {
    /// For a size in bytes; one that PostgreSQL cannot have (a power of two from 1 MiB to 1 GiB) counts as the default.
    pub fn new(segment_bytes: u64) -> Self {
        let possible = segment_bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&segment_bytes);
        let size = if possible { segment_bytes } else { DEFAULT_SEGMENT };
        Self { per_log: (1 << 32) / size }
    }

    /// Timeline and position of a name of 24 hexadecimal digits.
    pub fn read(self, name: &str) -> Option<(u32, Position)> {
        if name.len() != NAME || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let part = |at: usize| u32::from_str_radix(&name[at..at + 8], 16).ok();
        let (timeline, log, segment) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
        (segment < self.per_log).then_some((timeline, log * self.per_log + segment))
    }

    /// The segment that a place in the stream lies in, as PostgreSQL writes places: `16/B374D848`.
    pub fn holding(self, lsn: &str) -> Option<Position> {
        let (log, byte) = lsn.split_once('/')?;
        let part = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        Some(part(log)? * self.per_log + part(byte)? / ((1 << 32) / self.per_log))
    }

    pub fn name(self, timeline: u32, position: Position) -> String {
        format!("{timeline:08X}{:08X}{:08X}", position / self.per_log, position % self.per_log)
    }
}

/// One archive of a stanza: the WAL of one cluster at one major version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Segments by timeline and position, with the time at which they were archived where it is known.
    pub segments: BTreeMap<u32, BTreeMap<Position, Option<i64>>>,
    /// Timelines whose history is archived, with the time of that: PostgreSQL archives it before the first segment.
    pub histories: BTreeMap<u32, Option<i64>>,
    /// Where each timeline left the one before it.
    pub forks: BTreeMap<u32, Fork>,
    /// Segments that are there twice with different content: two clusters archive into one stanza.
    pub twice: BTreeSet<String>,
}

/// Where a timeline begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    pub parent: u32,
    /// The first segment of the new timeline.
    pub at: Position,
}

/// Reads the archives of a stanza from the keys below `archive/STANZA/`, with the time of each object.
pub fn read<'a>(keys: impl IntoIterator<Item = (&'a str, Option<i64>)>, naming: Naming) -> BTreeMap<String, Archive> {
    let mut archives: BTreeMap<String, Archive> = BTreeMap::new();
    for (key, time) in keys {
        if let Some((archive, timeline)) =
            key.split_once('/').and_then(|(archive, file)| Some((archive, history(file)?)))
        {
            archives.entry(archive.to_owned()).or_default().histories.insert(timeline, time);
            continue;
        }
        let mut parts = key.split('/');
        // ARCHIVE/TIMELINE+LOG/NAME-SUM.EXT; what lies elsewhere is no segment.
        let (Some(archive), Some(_), Some(file), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let Some((timeline, position)) = segment(file).and_then(|name| naming.read(name)) else { continue };
        let archive = archives.entry(archive.to_owned()).or_default();
        let there = archive.segments.entry(timeline).or_default();
        if there.insert(position, time).is_some() {
            archive.twice.insert(naming.name(timeline, position));
        }
    }
    for archive in archives.values_mut() {
        archive.forks = forks(&archive.segments);
    }
    archives
}

/// The name of a whole segment in a file name: `NAME-SUM` or `NAME-SUM.EXT`. Not `.partial`, `.backup` and `.history`.
fn segment(file: &str) -> Option<&str> {
    let (name, rest) = file.split_once('-')?;
    let sum = rest.split('.').next()?;
    (sum.len() == SUM && sum.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// The timeline of a history file, `00000002.history`.
fn history(file: &str) -> Option<u32> {
    let name = file.strip_suffix(".history").filter(|name| name.len() == 8)?;
    u32::from_str_radix(name, 16).ok()
}

/// Where each timeline left its parent, from what is archived. A new timeline begins with a copy of the segment at which
/// it left, so its parent is the youngest older timeline that has this segment, or the one before it.
fn forks(segments: &BTreeMap<u32, BTreeMap<Position, Option<i64>>>) -> BTreeMap<u32, Fork> {
    let mut forks = BTreeMap::new();
    for (&timeline, own) in segments {
        let Some(&at) = own.keys().next() else { continue };
        let parent = segments.range(..timeline).rev().find(|(_, older)| {
            older.contains_key(&at) || at.checked_sub(1).is_some_and(|before| older.contains_key(&before))
        });
        if let Some((&parent, _)) = parent {
            forks.insert(timeline, Fork { parent, at });
        }
    }
    forks
}

impl Archive {
    /// Takes a timeline out, as if nothing of it were there.
    pub fn remove(&mut self, timeline: u32) {
        self.segments.remove(&timeline);
        self.histories.remove(&timeline);
        self.forks = forks(&self.segments);
    }

    /// The stream of WAL that leads to a timeline: its own segments, and its ancestors' before each fork.
    pub fn stream(&self, timeline: u32) -> Stream {
        let mut stream = Stream::default();
        let (mut now, mut below) = (timeline, None);
        loop {
            stream.parts.insert(now, below);
            for (&position, &time) in self.segments.get(&now).into_iter().flatten() {
                if below.is_none_or(|below| position < below) {
                    stream.segments.insert(position, (now, time));
                }
            }
            let Some(fork) = self.forks.get(&now) else { return stream };
            // A parent is always older, so this ends.
            (now, below) = (fork.parent, Some(fork.at));
        }
    }
}

/// The segments along one line of timelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Timeline and time of each segment.
    pub segments: BTreeMap<Position, (u32, Option<i64>)>,
    /// Each timeline of the line, and the position at which it is left (`None`: not at all).
    pub parts: BTreeMap<u32, Option<Position>>,
}

impl Stream {
    /// Whether a backup that ended at a place lies on this line.
    pub fn holds(&self, timeline: u32, position: Position) -> bool {
        self.parts.get(&timeline).is_some_and(|left| left.is_none_or(|left| position < left))
    }

    /// The timeline that a position lies on.
    pub fn timeline_at(&self, position: Position) -> u32 {
        let on = self.parts.iter().find(|(_, left)| left.is_none_or(|left| position < left));
        on.map_or(0, |(timeline, _)| *timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM_A: &str = "984d92a44d22d0365136d643d9f28d8a991a0e8c";
    const SUM_B: &str = "21718b0c0cae9593d5b8b7505d126d22167ec4fa";

    #[test]
    fn names_and_positions_are_the_same_thing() {
        let usual = Naming::new(DEFAULT_SEGMENT);
        assert_eq!(usual.read("000000010000000000000003"), Some((1, 3)));
        assert_eq!(usual.read("0000000200000001000000FF"), Some((2, 511)));
        assert_eq!(usual.read("000000020000000100000100"), None, "no such segment with 16 MiB");
        assert_eq!(usual.name(2, 512), "000000020000000200000000");
        let large = Naming::new(1 << 30);
        assert_eq!(large.read("000000010000000200000003"), Some((1, 11)));
        assert_eq!(large.name(1, 12), "000000010000000300000000");
        assert_eq!(Naming::new(12345), usual);
        for name in ["", "00000001000000000000000", "00000001000000000000000G", "0000000100000000000000001"] {
            assert_eq!(usual.read(name), None, "{name}");
        }
        for position in [0, 1, 255, 256, 257, 65_535, 1 << 30] {
            assert_eq!(usual.read(&usual.name(7, position)), Some((7, position)));
        }
    }

    #[test]
    fn only_whole_segments_count() {
        let folder = "15-1/0000000100000000";
        let keys = [
            format!("{folder}/000000010000000000000001-{SUM_A}.zst"),
            format!("{folder}/000000010000000000000002-{SUM_A}"),
            format!("{folder}/000000010000000000000002.00000028.backup"),
            format!("{folder}/000000010000000000000003.partial-{SUM_A}.zst"),
            format!("{folder}/000000010000000000000004-short.zst"),
            "15-1/00000002.history".to_owned(),
            "archive.info".to_owned(),
            format!("15-2/0000000100000000/000000010000000000000009-{SUM_A}.gz"),
        ];
        let found = read(keys.iter().map(|key| (key.as_str(), Some(7))), Naming::new(DEFAULT_SEGMENT));
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["15-1", "15-2"], "each cluster has its own archive");
        assert_eq!(found["15-1"].segments, BTreeMap::from([(1, BTreeMap::from([(1, Some(7)), (2, Some(7))]))]));
        assert_eq!(found["15-1"].histories, BTreeMap::from([(2, Some(7))]));
        assert!(found["15-1"].twice.is_empty());
    }

    #[test]
    fn a_place_in_the_stream_lies_in_a_segment() {
        let usual = Naming::new(DEFAULT_SEGMENT);
        for (lsn, position) in [("0/5000028", 5), ("0/5FFFFFF", 5), ("0/6000000", 6), ("1/1000000", 257)] {
            assert_eq!(usual.holding(lsn), Some(position), "{lsn}");
        }
        assert_eq!(Naming::new(1 << 30).holding("2/C0000000"), Some(11));
        for lsn in ["", "5", "x/0", "0/100000000"] {
            assert_eq!(usual.holding(lsn), None, "{lsn}");
        }
    }

    #[test]
    fn one_segment_with_two_contents_is_noticed() {
        let folder = "15-1/0000000100000000";
        let keys = [SUM_A, SUM_B].map(|sum| format!("{folder}/000000010000000000000001-{sum}.zst"));
        let found = read(keys.iter().map(|key| (key.as_str(), None)), Naming::new(DEFAULT_SEGMENT));
        assert_eq!(found["15-1"].twice, BTreeSet::from(["000000010000000000000001".to_owned()]));
    }

    fn archive(timelines: &[(u32, &[Position])]) -> Archive {
        let segments: BTreeMap<u32, BTreeMap<Position, Option<i64>>> = timelines
            .iter()
            .map(|(timeline, positions)| (*timeline, positions.iter().map(|position| (*position, None)).collect()))
            .collect();
        Archive { forks: forks(&segments), segments, ..Archive::default() }
    }

    #[test]
    fn a_timeline_that_was_left_is_followed_up_to_the_fork() {
        // Restored to a moment in segment 4; the old line went on to 6.
        let archive = archive(&[(1, &[1, 2, 3, 4, 5, 6]), (2, &[4, 5]), (3, &[6, 7])]);
        assert_eq!(archive.forks[&2], Fork { parent: 1, at: 4 });
        assert_eq!(archive.forks[&3], Fork { parent: 2, at: 6 }, "the youngest that leads there");
        let stream = archive.stream(3);
        let line: Vec<(Position, u32)> = stream.segments.iter().map(|(at, (timeline, _))| (*at, *timeline)).collect();
        assert_eq!(line, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)]);
        assert!(stream.holds(1, 3) && !stream.holds(1, 4), "a backup after the fork lies on the other line");
        assert!(stream.holds(3, 100) && !stream.holds(9, 1));
        assert_eq!([3, 4, 6, 9].map(|at| stream.timeline_at(at)), [1, 2, 3, 3]);
    }

    #[test]
    fn a_timeline_of_nobody_stands_alone() {
        let archive = archive(&[(1, &[1, 2]), (2, &[90])]);
        assert!(archive.forks.is_empty());
        assert_eq!(archive.stream(2).segments.len(), 1);
    }
}
