//! From what was seen to what it means: the table of backups, the windows, and what is not well. Pure.

use std::collections::BTreeSet;

use crate::base::diag::Diagnostic;
use crate::inventory::sections::database::Backup as Section;
use crate::plan::backups::{Archiving, BackupSet, Backups, Freshness, Verdict, WAITING_USUAL};
use crate::plan::info::{Health, Stanza};
use crate::recovery::dumps;
use crate::recovery::meaning::{self, Meaning};
use crate::recovery::names;
use crate::recovery::restorable::restorable;
pub use crate::recovery::seen::{Seen, prefix};
use crate::recovery::wal::{DEFAULT_SEGMENT, Naming};

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
    match &seen.stops {
        Ok(stops) if stops.is_empty() => {}
        Ok(stops) => {
            let stopped = stops.iter().map(|path| format!("`{path}` is there"));
            known.findings.push(stopped.fold(Meaning::Stopped.finding(&seen.stanza), Diagnostic::note));
        }
        Err(why) => known.unseen.push(format!("whether pgBackRest was told to stop: {why}")),
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
            known.backups = stanza.sets();
            status(stanza, &mut known.findings);
            let others = match &seen.objects {
                Ok(Some(objects)) => restorable(seen, stanza, objects, &mut known),
                Ok(None) | Err(_) => BTreeSet::new(),
            };
            ages(section, &others, &mut known);
        }
        Err(why) => {
            known.unseen.push(format!("the backups of `{}`: {why}", seen.stanza));
            by_names(seen, section, &mut known);
        }
    }
    for backup in known.backups.iter().filter(|backup| backup.page_errors) {
        known.findings.push(page_errors(backup));
    }
    if let Some(archiving) = known.archiving.clone() {
        archives(&archiving, seen, &mut known);
    }
    known
}

/// What the bucket alone tells of the backups. It says nothing of what is in its objects.
fn by_names(seen: &Seen, section: &Section, known: &mut Backups) {
    let objects = match &seen.objects {
        Ok(Some(objects)) => objects,
        Ok(None) => {
            known.unseen.push(format!("what can be restored: there is no bucket `{}`", seen.bucket));
            return;
        }
        // It was said.
        Err(_) => return,
    };
    let naming = Naming::new(known.archiving.as_ref().map_or(DEFAULT_SEGMENT, |archiving| archiving.segment_bytes));
    let stanza = names::stanza(objects, &prefix(&seen.stanza), &seen.stanza, naming);
    known.by_names = true;
    known.unseen.push(
        "whether the passphrase opens the backups, whether their files are whole, and which hold wrong pages: names in a bucket \
         do not say"
            .to_owned(),
    );
    let info = |folder: &str| format!("{}{folder}/{}/{folder}.info", prefix(&seen.stanza), seen.stanza);
    let gone =
        ["backup", "archive"].map(info).into_iter().filter(|key| !objects.iter().any(|object| object.key == *key));
    let gone: Vec<String> = gone.map(|key| format!("`{key}` is not there")).collect();
    if stanza.backup.is_empty() {
        known.findings.push(none_yet(&stanza));
    } else if !gone.is_empty() {
        known.findings.push(gone.into_iter().fold(Meaning::NoStanza.finding(&seen.stanza), Diagnostic::note));
    }
    known.backups = stanza.sets();
    let others = restorable(seen, &stanza, objects, known);
    ages(section, &others, known);
}

fn none_yet(stanza: &Stanza) -> Diagnostic {
    let none = Diagnostic::error("backup-none", format!("stanza `{}` has no backup yet", stanza.name));
    none.note("nothing can be restored").hint("make the first one now: seawall backup now")
}

/// What pgBackRest itself says of the repository.
fn status(stanza: &Stanza, findings: &mut Vec<Diagnostic>) {
    let message = stanza.message();
    let meaning = match stanza.status.health() {
        Health::Ok => return,
        Health::NoBackups => {
            findings.push(none_yet(stanza));
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

/// Age against the schedule, of what counts: backups of this cluster that hold no wrong pages, nor stand on one that does.
fn ages(section: &Section, others: &BTreeSet<String>, known: &mut Backups) {
    let schedule = &section.schedule;
    let wrong: BTreeSet<&String> = known.backups.iter().filter(|b| b.page_errors).map(|b| &b.label).collect();
    let counts = |backup: &&BackupSet| {
        !others.contains(&backup.label)
            && !wrong.contains(&backup.label)
            && !backup.needs.iter().any(|label| wrong.contains(label))
    };
    let newest = known.backups.iter().rev().find(counts);
    let full = known.backups.iter().rev().filter(|backup| backup.kind == "full").find(counts);
    if newest.is_none() && !known.backups.is_empty() {
        known.findings.push(
            Diagnostic::error("backup-none", format!("stanza `{}` has no good backup", known.stanza))
                .note("each holds wrong pages, stands on one that does, or is of another cluster")
                .hint("when the pages are right again, make a new one: seawall backup now --type full"),
        );
    }
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
    use crate::reach::aws::objects::Listed;

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
            stops: Ok(Vec::new()),
            spool: None,
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
    fn a_stop_that_is_in_force_is_found() {
        let stopped = Seen { stops: Ok(vec!["/run/postgresql/pgbackrest/all.stop".to_owned()]), ..seen(FINISHED, &[]) };
        assert_eq!(codes(&stopped), ["Error backup-stopped"]);
    }

    /// What a promoted copy leaves: its history, and one segment. pgBackRest's `info` does not know of it.
    #[test]
    fn a_timeline_of_somebody_else_is_found_and_no_window_leads_along_it() {
        let mut poisoned = seen(FINISHED, &[]);
        let below = "chronos/pgbackrest/archive/chronos/15-1";
        for key in [
            format!("{below}/00000002.history"),
            format!("{below}/0000000200000000/00000002000000000000000A-{SUM}.zst"),
        ] {
            let object = Listed { key, bytes: 1, modified: Some(8), class: "STANDARD".to_owned(), is_restored: false };
            poisoned.objects.as_mut().expect("objects").as_mut().expect("a bucket").push(object);
        }
        let mut on = |timeline, history: Option<&str>| {
            let history = history.map(str::to_owned);
            poisoned.archiving = Ok(Some(Archiving { timeline, history, ..archiving() }));
            judge(&poisoned, &section())
        };
        let known = on(Some(1), None);
        assert_eq!(known.findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["foreign-timeline"]);
        assert!(known.windows.iter().all(|window| window.timeline == 1), "{:?}", known.windows);
        // The same objects, where PostgreSQL itself was restored and promoted.
        let known = on(Some(2), Some("1\t0/A000000\tno recovery target specified\n"));
        assert_eq!(known.findings, [], "a wanted restore is no finding");
        assert_eq!(known.windows.iter().map(|window| window.timeline).collect::<Vec<_>>(), [2]);
        // On a timeline to which no backup leads nothing of today can be restored.
        let known = on(Some(3), Some("1\t0/A000000\tx\n2\t0/B000000\tx\n"));
        assert_eq!(known.findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["backup-timeline-bare"]);
        for (timeline, history) in [(None, None), (Some(2), None)] {
            assert_eq!(on(timeline, history).unseen.len(), 1, "unknown is never well");
        }
    }

    #[test]
    fn a_backup_with_wrong_pages_is_not_the_newest() {
        let with = |marked: &[usize]| {
            let mut seen = seen(FINISHED + HOUR, &[]);
            let stanza = seen.info.as_mut().expect("an answer");
            for &index in marked {
                stanza.backup[index].error = Some(true);
            }
            judge(&seen, &section())
        };
        let known = with(&[1]);
        assert_eq!(known.newest.map(|fresh| fresh.label), Some("20261121-143736F".to_owned()));
        assert_eq!(known.findings[0].code, "backup-page-checksums");
        // The differential one stands on the full one.
        let known = with(&[0]);
        assert_eq!((known.newest, known.newest_full), (None, None));
        assert!(known.findings.iter().any(|finding| finding.code == "backup-none"), "{:?}", known.findings);
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

    /// The server is away, and the bucket is not.
    #[test]
    fn without_the_server_the_bucket_tells_what_it_can() {
        let mut seen = seen(FINISHED + HOUR, &[]);
        let away = || Err("the server is away".to_owned());
        (seen.info, seen.archiving, seen.stops) =
            (away().map(|()| Stanza::default()), away().map(|()| None), away().map(|()| Vec::new()));
        let known = judge(&seen, &section());
        assert_eq!(known.findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["backup-none"]);
        let objects = seen.objects.as_mut().expect("objects").as_mut().expect("a bucket");
        let below = "chronos/pgbackrest";
        for (key, modified) in [
            (format!("{below}/archive/chronos/archive.info"), 1),
            (format!("{below}/backup/chronos/backup.info"), 1),
            (format!("{below}/archive/chronos/15-1/0000000100000000/000000010000000000000002.00000028.backup"), 3),
            (format!("{below}/backup/chronos/20261121-143736F/backup.manifest"), 4),
        ] {
            let class = "STANDARD".to_owned();
            objects.push(Listed { key, bytes: 1, modified: Some(modified), class, is_restored: false });
        }
        let known = judge(&seen, &section());
        assert!(known.by_names && known.unseen.len() == 4, "{:?}", known.unseen);
        assert_eq!(known.backups.iter().map(|backup| backup.label.as_str()).collect::<Vec<_>>(), ["20261121-143736F"]);
        assert_eq!((known.windows.len(), known.windows[0].from, known.windows[0].to), (1, 4, Some(9)));
        let info = format!("{below}/backup/chronos/backup.info");
        seen.objects.as_mut().expect("objects").as_mut().expect("a bucket").retain(|object| object.key != info);
        let known = judge(&seen, &section());
        assert!(known.findings.iter().any(|finding| finding.code == "backup-no-stanza"), "{:?}", known.findings);
    }

    #[test]
    fn what_was_not_seen_is_not_well() {
        let mut seen = seen(FINISHED, &[]);
        seen.info = Err("the server is away".to_owned());
        seen.archiving = Err("the server is away".to_owned());
        seen.objects = Err("refused".to_owned());
        seen.stops = Err("the server is away".to_owned());
        let known = judge(&seen, &section());
        assert_eq!(known.unseen.len(), 4, "{known:?}");
        assert!(known.windows.is_empty() && known.newest.is_none());
    }
}
