//! From what was seen to what it means: the table of backups, the windows, and what is not well. Pure.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::inventory::sections::database::Backup as Section;
use crate::plan::backups::{Archiving, BackupSet, Backups, Freshness, Gap, Verdict, WAITING_USUAL, Window};
use crate::plan::info::{Health, Stanza};
use crate::reach::aws::objects::Listed;
use crate::recovery::dumps;
use crate::recovery::meaning::{self, Meaning};
use crate::recovery::wal::{self, DEFAULT_SEGMENT, Naming};
use crate::recovery::windows::{Anchor, windows};

/// What was asked, and what came back; `Err` says why it could not be seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub server: String,
    pub stanza: String,
    pub bucket: String,
    pub now: i64,
    pub info: Result<Stanza, String>,
    /// Everything below the repository's prefix; `None` where the bucket is not there.
    pub objects: Result<Option<Vec<Listed>>, String>,
    /// Everything below the prefix of the dumps, where they are declared.
    pub dumps: Result<Option<Vec<Listed>>, String>,
    /// `None` where there is no cluster.
    pub archiving: Result<Option<Archiving>, String>,
}

/// The prefix of a stanza's repository in its bucket.
pub fn prefix(stanza: &str) -> String {
    format!("{stanza}/pgbackrest/")
}

/// Puts together what is known.
pub fn judge(seen: &Seen, section: &Section) -> Backups {
    let mut known = Backups {
        server: seen.server.clone(),
        stanza: seen.stanza.clone(),
        bucket: seen.bucket.clone(),
        looked_at: seen.now,
        ..Backups::default()
    };
    match &seen.archiving {
        Ok(archiving) => known.archiving.clone_from(archiving),
        Err(why) => known.unseen.push(format!("PostgreSQL's archiving: {why}")),
    }
    if let Err(why) = &seen.objects {
        known.unseen.push(format!("the objects in `{}`: {why}", seen.bucket));
    }
    match &seen.dumps {
        Ok(objects) => {
            known.dumps = dumps::good(objects.as_deref().unwrap_or_default(), &dumps::prefix(&seen.stanza));
        }
        Err(why) => known.unseen.push(format!("the dumps in `{}`: {why}", seen.bucket)),
    }
    match &seen.info {
        Ok(stanza) => {
            known.backups = stanza.backup.iter().map(crate::plan::info::Backup::set).collect();
            known.backups.sort_by_key(|backup| backup.finished);
            status(stanza, &mut known.findings);
            if let Ok(Some(objects)) = &seen.objects {
                restorable(seen, stanza, objects, &mut known);
            }
            ages(section, &mut known);
        }
        Err(why) => known.unseen.push(format!("the backups of `{}`: {why}", seen.stanza)),
    }
    for backup in known.backups.iter().filter(|backup| backup.page_errors) {
        known.findings.push(page_errors(backup));
    }
    if let Some(archiving) = known.archiving.clone() {
        archives(&archiving, seen, &mut known);
    }
    known
}

/// What pgBackRest itself says of the repository.
fn status(stanza: &Stanza, findings: &mut Vec<Diagnostic>) {
    let message = stanza.message();
    let meaning = match stanza.status.health() {
        Health::Ok => return,
        Health::NoBackups => {
            let none = Diagnostic::error("backup-none", format!("stanza `{}` has no backup yet", stanza.name));
            findings.push(none.note("nothing can be restored").hint("make the first one now: seawall backup now"));
            return;
        }
        Health::NoStanza | Health::NoStanzaData => Meaning::NoStanza,
        Health::ClusterMismatch => Meaning::OtherCluster,
        Health::Mixed | Health::BackupNotFound | Health::Other => meaning::of(error_named(message), message),
    };
    let number = i32::try_from(stanza.status.code).unwrap_or(-1);
    findings.push(meaning.diagnostic(&stanza.name, number, &format!("ERROR: {message}")));
}

/// The number of an error that `info` gives by its name only.
fn error_named(message: &str) -> i32 {
    const NAMES: [(&str, i32); 6] = [
        ("[CryptoError]", 95),
        ("[FormatError]", 29),
        ("[FileMissingError]", 55),
        ("[HostConnectError]", 49),
        ("[ProtocolError]", 39),
        ("[ServiceError]", 101),
    ];
    NAMES.iter().find(|(name, _)| message.contains(name)).map_or(-1, |(_, number)| *number)
}

/// Windows and gaps, of each archive that backups belong to.
fn restorable(seen: &Seen, stanza: &Stanza, objects: &[Listed], known: &mut Backups) {
    let bytes = known.archiving.as_ref().map_or(DEFAULT_SEGMENT, |archiving| archiving.segment_bytes);
    let naming = Naming::new(bytes);
    let below = format!("{}archive/{}/", prefix(&seen.stanza), seen.stanza);
    let keys = objects.iter().filter_map(|object| Some((object.key.strip_prefix(&below)?, object.modified)));
    let archives = wal::read(keys, naming);
    let newest = known.archiving.as_ref().and_then(|a| a.last_archived.as_deref().zip(a.last_archived_at));
    let mut anchors: BTreeMap<&str, Vec<Anchor>> = BTreeMap::new();
    for backup in &stanza.backup {
        let ends = backup.archive.start.as_deref().zip(backup.archive.stop.as_deref());
        let ends = ends.and_then(|(first, last)| naming.read(first).zip(naming.read(last)));
        let Some((((_, first), (timeline, last)), archive)) = ends.zip(stanza.archive_of(backup)) else {
            known.unseen.push(format!("which WAL backup `{}` needs: pgBackRest does not say", backup.label));
            continue;
        };
        let finished = backup.timestamp.stop;
        let anchor = Anchor { label: backup.label.clone(), timeline, first, last, finished };
        anchors.entry(archive).or_default().push(anchor);
    }
    for (id, backups) in &anchors {
        let archive = archives.get(*id).cloned().unwrap_or_default();
        let found = windows(&archive, backups, naming, newest);
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

fn page_errors(backup: &BackupSet) -> Diagnostic {
    Diagnostic::error(
        "backup-page-checksums",
        format!("backup `{}` holds pages whose checksums are wrong", backup.label),
    )
    .note("the pages were wrong in the database when they were copied")
    .hint(
        "pgBackRest's log on the server names the files; find the tables with pg_amcheck, and keep an older backup \
             without this mark",
    )
}

/// Age against the schedule.
fn ages(section: &Section, known: &mut Backups) {
    let schedule = &section.schedule;
    let newest = known.backups.last();
    let full = known.backups.iter().rev().find(|backup| backup.kind == "full");
    known.newest = newest.map(|backup| freshness(backup, schedule.longest_gap().seconds(), known.looked_at));
    known.newest_full = full.map(|backup| freshness(backup, schedule.full.longest_gap().seconds(), known.looked_at));
    for (what, fresh) in [("backup", &known.newest), ("full backup", &known.newest_full)] {
        let Some(fresh) = fresh else { continue };
        let say = format!("the newest {what} is too old: `{}`", fresh.label);
        let problem = match fresh.verdict {
            Verdict::Ok => continue,
            Verdict::Late => Diagnostic::warning("backup-stale", say),
            Verdict::Critical => Diagnostic::error("backup-stale", say),
        };
        known.findings.push(
            problem
                .note(format!(
                    "it was finished {} h ago, and one is due every {} h",
                    fresh.age_s / 3600,
                    fresh.due_every_s / 3600
                ))
                .hint("look at `systemctl list-timers seawall-backup*` and the journal of the services on the server"),
        );
    }
}

fn freshness(backup: &BackupSet, due_every_s: u64, now: i64) -> Freshness {
    let age_s = now.saturating_sub(backup.finished);
    let verdict = Verdict::of(age_s, due_every_s);
    Freshness { label: backup.label.clone(), age_s, due_every_s, verdict }
}

/// What PostgreSQL says of its archiving. Age alone says nothing: an idle server fills no segment.
fn archives(archiving: &Archiving, seen: &Seen, known: &mut Backups) {
    let findings = &mut known.findings;
    if archiving.mode == "off" {
        findings.push(Meaning::ArchiveOff.finding(&seen.stanza));
        return;
    }
    if !archiving.command.contains("pgbackrest") || !archiving.command.contains("archive-push") {
        findings.push(
            Meaning::ForeignArchiveCommand
                .finding(&seen.stanza)
                .note(format!("`archive_command` is `{}`", archiving.command)),
        );
    }
    if let Ok(stanza) = &seen.info
        && let Some(db) = stanza.current_db()
        && !archiving.system_id.is_empty()
        && db.system_id.to_string() != archiving.system_id
    {
        let finding = Meaning::OtherCluster.finding(&seen.stanza);
        findings.push(finding.note(format!("the stanza knows {}, this one is {}", db.system_id, archiving.system_id)));
    }
    let fails = archiving.last_failed_at.is_some_and(|failed| archiving.last_archived_at.is_none_or(|ok| failed > ok));
    if fails {
        let failed = archiving.last_failed.as_deref().unwrap_or("a segment");
        findings.push(
            Diagnostic::error("backup-archiving-fails", "PostgreSQL fails to archive WAL")
                .note(format!(
                    "`{failed}` failed after the last one that was archived, {} in all",
                    archiving.failed_count
                ))
                .note("what is written since then is on the server alone")
                .hint("look at the end of /var/log/postgresql on the server: archive_command says there why it fails"),
        );
    } else if archiving.ready > WAITING_USUAL {
        findings.push(
            Diagnostic::warning(
                "backup-archiving-behind",
                format!("{} segments of WAL wait to be archived", archiving.ready),
            )
            .note("what is in them is on the server alone")
            .hint("if the number grows from look to look, the way to S3 is slower than the database writes"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::info;

    const INFO: &str = include_str!("recorded/info-two.json");
    const SUM: &str = "984d92a44d22d0365136d643d9f28d8a991a0e8c";
    /// When the second backup of [`INFO`] was finished.
    const FINISHED: i64 = 1_795_271_905;
    const HOUR: i64 = 3_600;

    fn section() -> Section {
        serde_json::from_str(r#"{"bucket":"backups","stanza":"chronos","cipher_pass":{"env":"X"}}"#).expect("a section")
    }

    /// A sound repository: backups in segments 2 to 3 and 7, and WAL up to 9 without those left out.
    fn seen(now: i64, without: &[u64]) -> Seen {
        let object = |position: u64| Listed {
            key: format!("chronos/pgbackrest/archive/chronos/15-1/0000000100000000/00000001{position:016X}-{SUM}.zst"),
            bytes: 1,
            modified: i64::try_from(position).ok(),
            class: "STANDARD".to_owned(),
            is_restored: false,
        };
        Seen {
            server: "db".to_owned(),
            stanza: "chronos".to_owned(),
            bucket: "b".to_owned(),
            now,
            info: info::read(INFO.as_bytes(), "chronos"),
            objects: Ok(Some((1..=9).filter(|position| !without.contains(position)).map(object).collect())),
            dumps: Ok(None),
            archiving: Ok(Some(archiving())),
        }
    }

    fn archiving() -> Archiving {
        Archiving {
            mode: "on".to_owned(),
            command: "pgbackrest --stanza=chronos archive-push %p".to_owned(),
            last_archived: Some("000000010000000000000009".to_owned()),
            last_archived_at: Some(FINISHED + 60),
            segment_bytes: DEFAULT_SEGMENT,
            system_id: "7710633751692447044".to_owned(),
            ..Archiving::default()
        }
    }

    fn codes(seen: &Seen) -> Vec<String> {
        judge(seen, &section())
            .findings
            .into_iter()
            .map(|finding| format!("{:?} {}", finding.severity, finding.code))
            .collect()
    }

    #[test]
    fn what_is_well_has_no_findings() {
        let known = judge(&seen(FINISHED + HOUR, &[]), &section());
        assert_eq!((known.findings.as_slice(), known.unseen.as_slice()), (&[][..], &[][..]));
        assert_eq!((known.windows.len(), known.windows[0].to), (1, Some(FINISHED + 60)));
        assert_eq!(known.newest.map(|fresh| fresh.due_every_s), Some(86_400), "full and differential ones together");
        assert_eq!(known.newest_full.map(|fresh| fresh.due_every_s), Some(7 * 86_400));
    }

    #[test]
    fn age_is_judged_by_the_schedule() {
        for (hours, found) in [
            (25, &[][..]),
            (26, &["Warning backup-stale"]),
            (36, &["Warning backup-stale"]),
            (37, &["Error backup-stale"]),
            (8 * 24, &["Error backup-stale", "Warning backup-stale"]),
        ] {
            assert_eq!(codes(&seen(FINISHED + hours * HOUR, &[])), found, "{hours} h");
        }
    }

    #[test]
    fn a_gap_is_an_error_until_a_backup_ends_it() {
        assert_eq!(codes(&seen(FINISHED, &[8])), ["Error backup-wal-gap"]);
        assert_eq!(codes(&seen(FINISHED, &[5])), ["Warning backup-wal-gap"]);
        assert_eq!(codes(&seen(FINISHED, &[2])), ["Error backup-wal-incomplete", "Warning backup-wal-gap"]);
    }

    #[test]
    fn archiving_is_judged_by_what_is_at_risk() {
        let with = |change: &dyn Fn(&mut Archiving)| {
            let mut archiving = archiving();
            change(&mut archiving);
            codes(&Seen { archiving: Ok(Some(archiving)), ..seen(FINISHED, &[]) })
        };
        assert_eq!(with(&|a| a.mode = "off".to_owned()), ["Error backup-archive-off"]);
        assert_eq!(with(&|a| a.command = "/bin/true".to_owned()), ["Error backup-archive-command"]);
        assert_eq!(with(&|a| a.system_id = "1".to_owned()), ["Error backup-other-cluster"]);
        assert_eq!(with(&|a| a.ready = 9), ["Warning backup-archiving-behind"]);
        assert_eq!(with(&|a| a.last_failed_at = Some(FINISHED + 61)), ["Error backup-archiving-fails"]);
        assert!(with(&|a| a.last_failed_at = Some(FINISHED + 1)).is_empty(), "one failed and a later one did not");
        // An idle server archives nothing for days.
        assert!(with(&|a| a.last_archived_at = Some(1)).is_empty());
    }

    #[test]
    fn what_info_says_beside_its_exit_code_counts() {
        let status = |code: i64, message: &str| {
            let text = format!(r#"[{{"name":"chronos","status":{{"code":{code},"message":"{message}"}}}}]"#);
            codes(&Seen { info: info::read(text.as_bytes(), "chronos"), ..seen(FINISHED, &[]) })
        };
        assert_eq!(status(1, "missing stanza path"), ["Error backup-no-stanza"]);
        assert_eq!(status(2, "no valid backups"), ["Error backup-none"]);
        assert_eq!(status(3, "missing stanza data"), ["Error backup-no-stanza"]);
        assert_eq!(status(99, "[FormatError] unable to load info file")[0], "Error backup-passphrase");
        assert_eq!(status(99, "[ProtocolError] 403: <Code>AccessDenied</Code>")[0], "Error backup-storage-refused");
        assert_eq!(status(99, "something new")[0], "Error backup-failed");
    }

    #[test]
    fn what_was_not_seen_is_not_well() {
        let mut seen = seen(FINISHED, &[]);
        seen.info = Err("the server is away".to_owned());
        seen.archiving = Err("the server is away".to_owned());
        seen.objects = Err("refused".to_owned());
        let known = judge(&seen, &section());
        assert_eq!(known.unseen.len(), 3, "{known:?}");
        assert!(known.windows.is_empty() && known.newest.is_none());
    }
}
