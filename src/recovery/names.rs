//! A repository as the names and times of its objects tell it, for when the server that could read it is gone.
//!
//! What is in the objects is encrypted. A backup's name says its type, when it was begun and on which full one it stands; its
//! manifest is written last, so the manifest's time is when it was finished; and PostgreSQL archives for each backup a
//! file that is named after the first segment that it needs. The last one is not told: here it is the newest that
//! was archived by then, which is the needed one or comes after it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::plan::info::{Archive, Backrest, Backup, DatabaseRef, Db, Range, RepositorySizes, Sizes, Stanza};
use crate::reach::aws::objects::Listed;
use crate::recovery::wal::{self, Naming, Position};

/// What is written last into a backup's folder.
const MANIFEST: &str = "backup.manifest";
/// The file that PostgreSQL archives for a backup may come after the manifest by so much, in seconds: the archiver sends
/// one thing after the other.
const LATE_S: i64 = 60;

/// The first segment of a backup, in an archive, and when PostgreSQL told.
#[derive(Clone, Copy, Debug)]
struct Begin<'a> {
    archive: &'a str,
    timeline: u32,
    position: Position,
    at: i64,
}

/// Reads what lies below a repository's prefix as if pgBackRest had told it. What names cannot tell is not set.
pub fn stanza(objects: &[Listed], prefix: &str, name: &str, naming: Naming) -> Stanza {
    let below = |folder: &str| {
        let folder = format!("{prefix}{folder}/{name}/");
        objects.iter().filter_map(move |object| Some((object.key.strip_prefix(&folder)?.to_owned(), object)))
    };
    let wal: Vec<(String, &Listed)> = below("archive").collect();
    let keys = wal.iter().map(|(key, object)| (key.as_str(), object.modified));
    let archives = wal::read(keys, naming);
    let begins: Vec<Begin<'_>> = wal.iter().filter_map(|(key, object)| begin(key, object.modified?, naming)).collect();
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    let mut finished: Vec<(i64, String)> = Vec::new();
    for (key, object) in below("backup") {
        let Some((label, file)) = key.split_once('/') else { continue };
        if read_label(label).is_none() {
            continue;
        }
        *bytes.entry(label.to_owned()).or_default() += object.bytes;
        if file == MANIFEST {
            finished.extend(object.modified.map(|at| (at, label.to_owned())));
        }
    }
    finished.sort();
    let mut backups = Vec::new();
    let mut before = i64::MIN;
    for (index, (at, label)) in finished.iter().enumerate() {
        let (at, label) = (*at, label.clone());
        let (kind, started, needs) = read_label(&label).unwrap_or_default();
        // One backup of a stanza is made at a time. What comes later than its manifest is taken for it only where the next
        // one had not been begun.
        let next = finished.get(index + 1).and_then(|(_, label)| read_label(label)?.1);
        let late = (at + LATE_S).min(next.unwrap_or(i64::MAX));
        let on_time = begins.iter().filter(|begin| begin.at > before && begin.at <= at).max_by_key(|begin| begin.at);
        let later = begins.iter().filter(|begin| begin.at > at && begin.at <= late).min_by_key(|begin| begin.at);
        let of = on_time.or(later);
        let ends = of.map(|begin| (naming.name(begin.timeline, begin.position), last(&archives, *begin, at, naming)));
        let (start, stop) = ends.unzip();
        backups.push(Backup {
            kind: kind.to_owned(),
            reference: needs.map(|full| vec![full]),
            error: None,
            timestamp: Range { start: started.unwrap_or(at), stop: at },
            archive: Range { start, stop },
            lsn: Range::default(),
            backrest: Backrest::default(),
            database: DatabaseRef { id: of.map_or(0, |begin| number(begin.archive)) },
            info: Sizes { size: None, repository: RepositorySizes { delta: bytes.get(&label).copied(), size: None } },
            label,
        });
        before = of.map_or(at, |begin| begin.at.max(at));
    }
    let ids: BTreeSet<&String> = archives.keys().collect();
    Stanza {
        name: name.to_owned(),
        db: ids.iter().map(|id| Db { id: number(id), ..Db::default() }).collect(),
        archive: ids.iter().map(|id| archive(id)).collect(),
        backup: backups,
        ..Stanza::default()
    }
}

fn archive(id: &str) -> Archive {
    Archive { id: id.to_owned(), database: DatabaseRef { id: number(id) }, min: None, max: None }
}

/// The number behind an archive's major version: `15-1`.
fn number(id: &str) -> u64 {
    id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Type of a backup, when it was begun, and the full one that it stands on: `20261121-143736F_20261122-020000D`.
fn read_label(label: &str) -> Option<(&'static str, Option<i64>, Option<String>)> {
    let (full, own) = label.split_once('_').map_or((label, label), |(full, own)| (full, own));
    let time = own.get(..own.len().checked_sub(1)?)?;
    // In the server's zone, which is UTC unless somebody changed it.
    let at = DateTime::strptime("%Y%m%d-%H%M%S", time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    match own.as_bytes().last()? {
        b'F' if own == label => Some(("full", Some(at), None)),
        b'D' if own != label => Some(("diff", Some(at), Some(full.to_owned()))),
        b'I' if own != label => Some(("incr", Some(at), Some(full.to_owned()))),
        _ => None,
    }
}

/// What PostgreSQL archives at the end of a backup: `15-1/0000000100000000/000000010000000000000002.00000028.backup`.
fn begin(key: &str, at: i64, naming: Naming) -> Option<Begin<'_>> {
    let (archive, rest) = key.split_once('/')?;
    let file = rest.split_once('/')?.1.strip_suffix(".backup")?;
    let (timeline, position) = naming.read(file.split_once('.')?.0)?;
    Some(Begin { archive, timeline, position, at })
}

/// The newest segment on a backup's timeline that was archived when it was finished.
fn last(archives: &BTreeMap<String, wal::Archive>, begin: Begin<'_>, finished: i64, naming: Naming) -> String {
    let there = archives.get(begin.archive).and_then(|archive| archive.segments.get(&begin.timeline));
    let there = there.into_iter().flatten().filter(|(_, at)| at.is_some_and(|at| at <= finished));
    let position = there.map(|(position, _)| *position).max().unwrap_or_default().max(begin.position);
    naming.name(begin.timeline, position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::wal::DEFAULT_SEGMENT;

    const SUM: &str = "984d92a44d22d0365136d643d9f28d8a991a0e8c";

    fn object(key: &str, modified: i64) -> Listed {
        Listed {
            key: format!("chronos/pgbackrest/{key}"),
            bytes: 10,
            modified: Some(modified),
            class: "STANDARD".to_owned(),
            is_restored: false,
        }
    }

    fn segment(number: u64, modified: i64) -> Listed {
        object(&format!("archive/chronos/15-1/0000000100000000/00000001{number:016X}-{SUM}.zst"), modified)
    }

    fn read(objects: &[Listed]) -> Stanza {
        stanza(objects, "chronos/pgbackrest/", "chronos", Naming::new(DEFAULT_SEGMENT))
    }

    #[test]
    fn backups_are_known_by_their_names() {
        let objects = [
            object("archive/chronos/archive.info", 1),
            segment(2, 100),
            object("archive/chronos/15-1/0000000100000000/000000010000000000000002.00000028.backup", 101),
            segment(3, 102),
            segment(4, 300),
            object("archive/chronos/15-1/0000000100000000/000000010000000000000005.00000060.backup", 400),
            segment(5, 399),
            segment(6, 500),
            object("backup/chronos/backup.info", 1),
            object("backup/chronos/20261121-143736F/backup.manifest", 110),
            object("backup/chronos/20261121-143736F/backup.manifest.copy", 109),
            object("backup/chronos/20261121-143736F/bundle/1", 105),
            object("backup/chronos/20261121-143736F_20261122-020000D/backup.manifest", 401),
            // One that is being made.
            object("backup/chronos/20261121-143736F_20261123-020000I/backup.manifest.copy", 600),
            object("backup/chronos/backup.history/2026/20261121-143736F.manifest.gz", 111),
            object("backup/chronos/latest", 1),
        ];
        let found = read(&objects);
        let told = |backup: &Backup| {
            let ends = [&backup.archive.start, &backup.archive.stop].map(|name| name.clone().unwrap_or_default());
            format!("{} {} {} {}", backup.label, backup.kind, backup.timestamp.stop, ends.join("-"))
        };
        assert_eq!(
            found.backup.iter().map(told).collect::<Vec<_>>(),
            [
                "20261121-143736F full 110 000000010000000000000002-000000010000000000000003",
                "20261121-143736F_20261122-020000D diff 401 000000010000000000000005-000000010000000000000005",
            ]
        );
        assert_eq!(found.backup[0].timestamp.start, 1_795_271_856);
        assert_eq!(found.backup[0].info.repository.delta, Some(30));
        assert_eq!(found.backup[1].reference, Some(vec!["20261121-143736F".to_owned()]));
        assert_eq!((found.current_archive(), found.archive_of(&found.backup[1])), (Some("15-1"), Some("15-1")));
    }

    /// Backups within a minute, and PostgreSQL's file of the first one after its manifest.
    #[test]
    fn backups_close_to_each_other_are_told_apart() {
        let begin = |segment: u64, modified| {
            let name = format!("00000001{segment:016X}.00000028.backup");
            object(&format!("archive/chronos/15-1/0000000100000000/{name}"), modified)
        };
        let first = 1_795_271_856;
        let at = |seconds: i64| first + seconds;
        let manifest = |label: &str, seconds| object(&format!("backup/chronos/{label}/backup.manifest"), at(seconds));
        let objects = |late: i64| {
            let labels = ["20261121-143736F", "20261121-143736F_20261121-143750D"];
            [manifest(labels[0], 4), begin(2, at(late)), manifest(labels[1], 20), begin(5, at(18))]
        };
        let starts = |late| {
            let found = read(&objects(late));
            found.backup.iter().map(|backup| backup.archive.start.clone()).collect::<Vec<_>>()
        };
        let (two, five) = (Some("000000010000000000000002".to_owned()), Some("000000010000000000000005".to_owned()));
        for late in [3, 6] {
            assert_eq!(starts(late), [two.clone(), five.clone()], "{late}");
        }
        // After the next one was begun it could be of either, and is taken for none of the first.
        assert_eq!(starts(16), [None, five]);
    }

    #[test]
    fn what_names_do_not_tell_is_not_guessed() {
        let lonely = read(&[object("backup/chronos/20261121-143736F/backup.manifest", 110), segment(2, 100)]);
        assert_eq!(lonely.backup[0].archive, Range::default(), "no file says where it begins");
        for label in ["", "F", "20261121-143736", "20261121-143736D", "20261121-143736F_20261122-020000F", "latest"] {
            assert_eq!(read_label(label), None, "{label:?}");
        }
        assert_eq!(read(&[]), Stanza { name: "chronos".to_owned(), ..Stanza::default() });
    }
}
