//! Windows and gaps of a repository, from what pgBackRest and the bucket say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Diagnostic;
use crate::plan::backups::{Backups, Gap, Window};
use crate::plan::info::Stanza;
use crate::reach::aws::objects::Listed;
use crate::recovery::seen::{Seen, prefix};
use crate::recovery::timelines::{self, Own};
use crate::recovery::wal::{self, DEFAULT_SEGMENT, Naming};
use crate::recovery::windows::{Anchor, windows};

/// Windows and gaps, of each archive that backups belong to. Gives back the labels of backups that another cluster made.
pub(super) fn restorable(seen: &Seen, stanza: &Stanza, objects: &[Listed], known: &mut Backups) -> BTreeSet<String> {
    let bytes = known.archiving.as_ref().map_or(DEFAULT_SEGMENT, |archiving| archiving.segment_bytes);
    let naming = Naming::new(bytes);
    let below = format!("{}archive/{}/", prefix(&seen.stanza), seen.stanza);
    let keys = objects.iter().filter_map(|object| Some((object.key.strip_prefix(&below)?, object.modified)));
    let mut archives = wal::read(keys, naming);
    let mut anchors: BTreeMap<&str, Vec<Anchor>> = BTreeMap::new();
    for backup in &stanza.backup {
        let ends = backup.archive.start.as_deref().zip(backup.archive.stop.as_deref());
        let ends = ends.and_then(|(first, last)| naming.read(first).zip(naming.read(last)));
        let Some((((_, first), (timeline, last)), archive)) = ends.zip(stanza.archive_of(backup)) else {
            known.unseen.push(format!("which WAL backup `{}` needs: nothing says it", backup.label));
            continue;
        };
        let finished = backup.timestamp.stop;
        let anchor = Anchor { label: backup.label.clone(), timeline, first, last, finished, leads_to: None };
        anchors.entry(archive).or_default().push(anchor);
    }
    let mut others = BTreeSet::new();
    let mut own = None;
    let now = stanza.current_archive().and_then(|id| Some((id, archives.get_mut(id)?)));
    if let Some((id, archive)) = now {
        let backups = anchors.entry(id).or_default();
        own = line_of(archive, naming, known);
        if let Some(own) = &own {
            others = without_others(seen, own, archive, backups, known, naming);
            for backup in backups {
                let told = stanza.backup.iter().find(|told| told.label == backup.label);
                let end = told.and_then(|told| told.lsn.stop.as_deref());
                let takes_over = end.is_some_and(|end| own.takes_over(backup.timeline, backup.last, end));
                backup.leads_to = takes_over.then_some(own.timeline);
            }
        }
    }
    let mut is_whole = true;
    let newest = known.archiving.as_ref().and_then(|a| a.last_archived.clone().zip(a.last_archived_at));
    let newest = newest.as_ref().map(|(name, at)| (name.as_str(), *at));
    for (id, backups) in &anchors {
        let archive = archives.get(*id).cloned().unwrap_or_default();
        let found = windows(&archive, backups, naming, newest);
        is_whole &= found.inconsistent.is_empty();
        for label in &found.inconsistent {
            known.findings.push(
                Diagnostic::error("backup-wal-incomplete", format!("backup `{label}` cannot be restored"))
                    .note("WAL that was written while it was made is not in the archive, so it is not consistent")
                    .hint("make a new one: seawall backup now --type full"),
            );
        }
        known.findings.extend(found.gaps.iter().map(|gap| gap_found(gap, &found.windows)));
        known.windows.extend(found.windows);
        known.gaps.extend(found.gaps);
        if let Some(first) = archive.twice.first() {
            let many = archive.twice.len();
            known.findings.push(
                Diagnostic::error("backup-wal-twice", format!("two clusters archive into stanza `{}`", seen.stanza))
                    .note(format!("{many} segments are there with two contents, `{first}` is the first"))
                    .hint(
                        "find the second one (a clone, a server from a snapshot, a drill that archives) and stop its \
                         archiving; delete nothing before you know which is right",
                    ),
            );
        }
    }
    known.windows.sort_by_key(|window| (window.from, window.timeline));
    // On its first timeline it is said already why there is none.
    let bare = own.filter(|own| own.timeline > 1 && known.windows.iter().all(|window| window.timeline != own.timeline));
    if let Some(Own { timeline, .. }) = bare.filter(|_| is_whole && !stanza.backup.is_empty()) {
        known.findings.push(
            Diagnostic::error("backup-timeline-bare", format!("nothing of timeline {timeline} can be restored"))
                .note("PostgreSQL is on it since it was restored or promoted, and no backup leads to it")
                .note("what is written now cannot be restored")
                .hint("make one: seawall backup now --type full"),
        );
    }
    others
}

/// The line of the cluster that archives, as PostgreSQL tells it. Where it does not, and there is more than one timeline,
/// that is said.
fn line_of(archive: &wal::Archive, naming: Naming, known: &mut Backups) -> Option<Own> {
    let told = known.archiving.as_ref().and_then(|archiving| Some((archiving.timeline?, archiving.history.as_deref())));
    let own = match told {
        Some((timeline, history)) => Own::read(timeline, history, naming),
        None => Err("PostgreSQL on the server does not say".to_owned()),
    };
    own.map_err(|why| {
        let all: BTreeSet<&u32> = archive.segments.keys().chain(archive.histories.keys()).collect();
        if all.len() > 1 {
            let all: Vec<String> = all.into_iter().map(ToString::to_string).collect();
            known.unseen.push(format!("which of the timelines {} is this server's: {why}", all.join(", ")));
        }
    })
    .ok()
}

/// Takes out what another cluster put into the archive of this one and tells of it, so that no window leads along it.
/// Gives back the labels of that cluster's backups.
fn without_others(
    seen: &Seen,
    own: &Own,
    archive: &mut wal::Archive,
    backups: &mut Vec<Anchor>,
    known: &mut Backups,
    naming: Naming,
) -> BTreeSet<String> {
    let mut others = BTreeSet::new();
    for (timeline, found) in timelines::foreign(archive, own, naming) {
        let mut theirs = BTreeSet::new();
        // On one that this cluster once was on there may be backups of its own.
        if timeline > own.timeline {
            theirs
                .extend(backups.iter().filter(|backup| backup.timeline == timeline).map(|backup| backup.label.clone()));
            archive.remove(timeline);
            backups.retain(|backup| backup.timeline != timeline);
        }
        known.findings.push(timelines::finding(&seen.stanza, own, timeline, &found, &theirs));
        others.extend(theirs);
    }
    others
}

fn gap_found(gap: &Gap, windows: &[Window]) -> Diagnostic {
    let first = gap.missing.first().map_or("", String::as_str);
    let what = match gap.count {
        1 => format!("segment `{first}` of WAL is not in the archive"),
        many => format!("{many} segments of WAL from `{first}` on are not in the archive"),
    };
    let is_last = gap.until.is_none();
    // What a later backup has put behind it is a loss, and no danger to what comes.
    let problem =
        if is_last { Diagnostic::error("backup-wal-gap", what) } else { Diagnostic::warning("backup-wal-gap", what) };
    let problem = if windows.is_empty() {
        problem.note("no backup can be brought further than its own end")
    } else {
        problem.note("no moment between the last segment before it and the end of the next backup can be restored")
    };
    if is_last {
        problem
            .note("no backup was made since: what is written now cannot be restored to the moment")
            .hint("make a new one, from which WAL counts again: seawall backup now --type full")
    } else {
        problem
            .hint("if an older version of the object is in the bucket, bring it back; newer moments are not concerned")
    }
}
