//! Backups on a screen: the table, what can be restored, how old it is, whether WAL arrives, and a proof's result.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::base::diag::Severity;
use crate::plan::backups::{
    Archiving, BackupSet, Backups, DumpMade, DumpWhat, Dumps, DumpsMade, Freshness, Gap, Made, NamedDump, ToBy,
    Verdict, Verified, Window,
};
use crate::view::style::{Role, Style};
use crate::view::table;
use crate::view::text::clean_line;

/// Before each line of a table.
const INDENT: &str = "  ";

/// Everything that is known of a server's backups; the table fits `width` where there is one.
pub fn list(known: &Backups, style: Style, width: Option<usize>) -> String {
    let Backups { server, stanza, bucket, .. } = known;
    let title = format!("Backups of {server}: stanza {stanza} in {bucket}");
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    text.push_str(&if known.backups.is_empty() && !known.unseen.is_empty() && !known.by_names {
        "  not known\n".to_owned()
    } else {
        sets(&known.backups, style, width)
    });
    if known.by_names {
        let _ = writeln!(
            text,
            "  {}",
            style.paint(Role::Changed, "known by the names in the bucket alone: pgBackRest was not asked")
        );
    }
    restorable(&mut text, known, style);
    text.push('\n');
    for (what, fresh) in [("newest", &known.newest), ("newest full", &known.newest_full)] {
        if let Some(fresh) = fresh {
            age(&mut text, what, fresh, style);
        }
    }
    if let Some(archiving) = &known.archiving {
        archive(&mut text, archiving, known.looked_at);
    }
    for of in &known.dumps {
        dumps(&mut text, of, known.looked_at);
    }
    for why in &known.unseen {
        let _ = writeln!(text, "{} {}", style.paint(Role::Danger, "could not be looked at:"), clean_line(why));
    }
    text
}

fn dumps(text: &mut String, of: &Dumps, now: i64) {
    let Dumps { database, what, count, newest, newest_bytes, frozen, newest_thaw_s, named } = of;
    let many = if *count == 1 { "1 dump".to_owned() } else { format!("{count} dumps") };
    let what = match what {
        DumpWhat::Whole | DumpWhat::Roles => "",
        DumpWhat::Schema => " without rows",
        DumpWhat::Tables => " with the rows of some tables",
    };
    let age = span(now - newest);
    let _ = writeln!(
        text,
        "dumps        {}: {many}{what}, newest {age} ago, {}",
        clean_line(database),
        size(*newest_bytes)
    );
    if *frozen > 0 {
        let newest = newest_thaw_s.map_or_else(
            || "the newest is read at once".to_owned(),
            |thaw| format!("the newest takes up to {} to thaw", hours(thaw)),
        );
        let _ = writeln!(text, "{:13}{frozen} in an archive class of S3; {newest}", "");
    }
    for NamedDump { before, at, bytes } in named {
        let _ = writeln!(text, "{:13}before {}: {}, {}, kept", "", clean_line(before), moment(*at), size(*bytes));
    }
}

/// Dumps that were just made.
pub fn dumped(made: &DumpsMade, style: Style) -> String {
    let took = span(i64::try_from(made.took_s).unwrap_or(0));
    let mut text =
        format!("{} dumps from before {}, in {took}\n", style.paint(Role::Added, "made"), clean_line(&made.before));
    for DumpMade { database, at, bytes } in &made.dumps {
        let _ = writeln!(text, "  {}: {}, {}", clean_line(database), moment(*at), size(*bytes));
    }
    text.push_str("they are kept until somebody deletes them\n");
    text
}

fn sets(backups: &[BackupSet], style: Style, width: Option<usize>) -> String {
    if backups.is_empty() {
        return "  no backup that can be read\n".to_owned();
    }
    let head = ["backup", "type", "finished (UTC)", "took", "database", "repository", "WAL", ""];
    let row = |backup: &BackupSet| {
        [
            clean_line(&backup.label),
            clean_line(&backup.kind),
            moment(backup.finished),
            span(backup.finished - backup.started),
            backup.database_bytes.map_or_else(|| "?".to_owned(), size),
            backup.repository_bytes.map_or_else(|| "?".to_owned(), size),
            backup.wal.as_ref().map_or_else(|| "?".to_owned(), |(first, last)| range(first, last)),
            if backup.page_errors { "PAGE ERRORS".to_owned() } else { String::new() },
        ]
    };
    let width = width.map(|width| width.saturating_sub(INDENT.len()));
    let mut text = String::new();
    for (number, line) in table::lines(head, backups.iter().map(row).collect(), width).into_iter().enumerate() {
        let line = if number == 0 { style.paint(Role::Faint, line) } else { line };
        let _ = writeln!(text, "{INDENT}{line}");
    }
    text
}

/// The first name, and of the last what differs.
fn range(first: &str, last: &str) -> String {
    let (first, last) = (clean_line(first), clean_line(last));
    if first == last {
        return first;
    }
    let common = first.chars().zip(last.chars()).take_while(|(a, b)| a == b).count();
    let tail: String = last.chars().skip(common.min(16)).collect();
    format!("{first}–{tail}")
}

fn restorable(text: &mut String, known: &Backups, style: Style) {
    let _ = writeln!(text, "\n{}", style.paint(Role::Title, "Every moment can be restored (UTC)"));
    if known.windows.is_empty() {
        let why = match (known.unseen.is_empty() || known.by_names, known.backups.is_empty()) {
            (false, _) => "not known",
            (true, true) => "nothing can be restored: there is no backup yet",
            (true, false) => "of no time at all",
        };
        let _ = writeln!(text, "  {}", style.paint(Role::Danger, why));
    }
    for window in &known.windows {
        let _ = writeln!(text, "  {}", window_line(window, known.looked_at));
    }
    for gap in &known.gaps {
        let _ = writeln!(text, "  {}", style.paint(Role::Danger, gap_line(gap)));
    }
}

/// A window in words.
fn window_line(window: &Window, now: i64) -> String {
    let many = match window.backups.len() {
        1 => "1 backup".to_owned(),
        many => format!("{many} backups"),
    };
    let Some(to) = window.to else {
        return format!("from {}, {many}, timeline {}, end not known", moment(window.from), window.timeline);
    };
    let by = match window.to_by {
        ToBy::Postgres => "says PostgreSQL",
        ToBy::Object => "at most: the object's time",
    };
    format!(
        "{} – {} ({by}; {} ago), {many}, timeline {}",
        moment(window.from),
        moment(to),
        span(now - to),
        window.timeline
    )
}

fn gap_line(gap: &Gap) -> String {
    let first = gap.missing.first().map_or("", String::as_str);
    let what =
        if gap.count == 1 { format!("GAP: {first}") } else { format!("GAP: {} segments from {first}", gap.count) };
    let after = gap.after.map(|at| format!(" after {}", moment(at))).unwrap_or_default();
    let until = gap.until.map_or_else(|| ", open to this day".to_owned(), |at| format!(", until {}", moment(at)));
    clean_line(&format!("{what}{after}{until}"))
}

fn age(text: &mut String, what: &str, fresh: &Freshness, style: Style) {
    let due = i64::try_from(fresh.due_every_s).unwrap_or(i64::MAX);
    let verdict = match fresh.verdict {
        Verdict::Ok => "ok".to_owned(),
        Verdict::Late => style.paint(Role::Changed, "LATE"),
        Verdict::Critical => style.paint(Role::Danger, "TOO OLD"),
    };
    let _ = writeln!(text, "{what:<12} {} ago, due every {}: {verdict}", span(fresh.age_s), span(due));
}

fn archive(text: &mut String, archiving: &Archiving, now: i64) {
    let last = match (&archiving.last_archived, archiving.last_archived_at) {
        (Some(name), Some(at)) => format!("{} {} ago", clean_line(name), span(now - at)),
        _ => "nothing yet".to_owned(),
    };
    let current = archiving.current.as_deref().map(|name| format!(", {} is being written", clean_line(name)));
    let _ = writeln!(
        text,
        "archiving    {last}{}; {} waiting, {} failed since the statistics began",
        current.unwrap_or_default(),
        archiving.ready,
        archiving.failed_count
    );
}

/// A backup that was just made.
pub fn made(made: &Made, style: Style) -> String {
    let backup = &made.backup;
    let mut text = format!(
        "{} {} ({}), {} of database, {} in the repository, in {}\n",
        style.paint(Role::Added, "made"),
        clean_line(&backup.label),
        clean_line(&backup.kind),
        backup.database_bytes.map_or_else(|| "?".to_owned(), size),
        backup.repository_bytes.map_or_else(|| "?".to_owned(), size),
        span(i64::try_from(made.took_s).unwrap_or(0)),
    );
    let _ = match &made.window {
        Some(window) => writeln!(
            text,
            "every moment can be restored: {}",
            window_line(window, backup.finished.max(window.to.unwrap_or(0)))
        ),
        None => writeln!(
            text,
            "{}",
            style.paint(Role::Danger, "no moment can be restored from it: `seawall backup list` says why")
        ),
    };
    text
}

/// How a proof ended.
pub fn verified(proof: &Verified, style: Style) -> String {
    let known = &proof.backups;
    let title = format!("Proof of {}: stanza {} in {}", known.server, known.stanza, known.bucket);
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    let classes: Vec<String> = proof
        .objects
        .iter()
        .map(|count| format!("{} {} ({})", count.objects, clean_line(&count.class), size(count.bytes)))
        .collect();
    let classes = if classes.is_empty() { "none".to_owned() } else { classes.join(", ") };
    let _ = writeln!(text, "  objects    {classes}");
    match &proof.repository {
        Some(verdict) => {
            for part in verdict.archives.iter().chain(&verdict.backups) {
                let fine = part.valid == part.checked && part.status.as_deref().is_none_or(|status| status == "valid");
                let word = if fine { "valid".to_owned() } else { style.paint(Role::Danger, "NOT VALID") };
                let _ = writeln!(
                    text,
                    "  files      {}: {} of {} {word}",
                    clean_line(&part.name),
                    part.valid,
                    part.checked
                );
            }
        }
        None => {
            let _ = writeln!(text, "  files      NOT EVALUATED");
        }
    }
    let windows = known.windows.len();
    let _ = writeln!(
        text,
        "  WAL        {windows} {}, {} gaps",
        if windows == 1 { "window" } else { "windows" },
        known.gaps.len()
    );
    let arrives = proof
        .archived_segment
        .as_deref()
        .map_or_else(|| "NOT PROVEN".to_owned(), |s| format!("{} arrived", clean_line(s)));
    let _ = writeln!(text, "  archiving  {arrives}");
    for why in &known.unseen {
        let _ = writeln!(text, "{} {}", style.paint(Role::Danger, "could not be looked at:"), clean_line(why));
    }
    let errors = known.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let took = span(i64::try_from(proof.took_s).unwrap_or(0));
    let _ = match (errors, known.unseen.len()) {
        (0, 0) => writeln!(text, "\nThe repository is whole as far as it can be seen without a restore ({took})"),
        (0, _) => writeln!(text, "\nNot everything could be looked at ({took})"),
        (1, _) => writeln!(text, "\n1 error ({took})"),
        (many, _) => writeln!(text, "\n{many} errors ({took})"),
    };
    text
}

/// A moment to the second, in UTC.
pub(super) fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A length of time in its two largest units.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A time that is known to the hour.
pub(super) fn hours(seconds: u64) -> String {
    format!("{} h", seconds.div_ceil(3600))
}

/// A size in the unit of a thousand that leaves at most three digits before the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1_000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (23_177_582, "23.1 MB"),
            (999_999_999, "999.9 MB"),
            (5_000_000_000_000, "5.0 TB"),
        ];
        for (bytes, shown) in sizes {
            assert_eq!(size(bytes), shown);
        }
        for (seconds, shown) in
            [(-5, "0 s"), (59, "59 s"), (3_599, "59 min"), (90_000, "25 h 0 min"), (180_000, "2 d 2 h")]
        {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(moment(1_795_271_858), "2026-11-21 14:37:38");
        assert_eq!(range("000000010000000000000002", "000000010000000000000003"), "000000010000000000000002–00000003");
    }

    fn known() -> Backups {
        let backup = BackupSet {
            label: "20261121-143736F".to_owned(),
            kind: "full".to_owned(),
            started: 1_795_271_856,
            finished: 1_795_271_858,
            database_bytes: Some(23_177_582),
            repository_bytes: Some(2_831_680),
            wal: Some(("000000010000000000000002".to_owned(), "000000010000000000000003".to_owned())),
            page_errors: true,
            needs: Vec::new(),
            made_with: crate::plan::backups::MadeWith::default(),
        };
        let fresh = |verdict| Freshness { label: backup.label.clone(), age_s: 150_000, due_every_s: 86_400, verdict };
        Backups {
            server: "db".to_owned(),
            stanza: "chronos".to_owned(),
            bucket: "b".to_owned(),
            looked_at: 1_795_421_858,
            newest: Some(fresh(Verdict::Critical)),
            newest_full: Some(fresh(Verdict::Ok)),
            windows: vec![Window {
                timeline: 1,
                from: 1_795_271_858,
                to: Some(1_795_271_906),
                to_by: ToBy::Postgres,
                first_segment: "000000010000000000000003".to_owned(),
                last_segment: "000000010000000000000004".to_owned(),
                backups: vec![backup.label.clone()],
            }],
            gaps: vec![Gap {
                timeline: 1,
                count: 1,
                missing: vec!["000000010000000000000005".to_owned()],
                after: Some(1_795_271_906),
                until: None,
            }],
            backups: vec![backup],
            archiving: Some(Archiving {
                last_archived: Some("\u{1b}x".to_owned()),
                last_archived_at: Some(1),
                ..Archiving::default()
            }),
            dumps: vec![Dumps {
                database: "chronos_db".to_owned(),
                what: DumpWhat::Schema,
                frozen: 1,
                newest_thaw_s: Some(43_200),
                named: vec![NamedDump { before: "the-move".to_owned(), at: 1_795_271_858, bytes: 34_624 }],
                count: 2,
                newest: 1_795_421_858 - 7_200,
                newest_bytes: 34_624,
            }],
            unseen: vec!["the objects".to_owned()],
            ..Backups::default()
        }
    }

    #[test]
    fn what_is_wrong_is_on_the_screen_without_colours() {
        let text = list(&known(), Style::PLAIN, None);
        for part in [
            "20261121-143736F  full  2026-11-21 14:37:38  2 s   23.1 MB   2.8 MB",
            "PAGE ERRORS",
            "2026-11-21 14:37:38 – 2026-11-21 14:38:26 (says PostgreSQL; 41 h 39 min ago), 1 backup, timeline 1",
            "GAP: 000000010000000000000005 after 2026-11-21 14:38:26, open to this day",
            "newest       41 h 40 min ago, due every 24 h 0 min: TOO OLD",
            "dumps        chronos_db: 2 dumps without rows, newest 2 h 0 min ago, 34.6 kB",
            "1 in an archive class of S3; the newest takes up to 12 h to thaw",
            "             before the-move: 2026-11-21 14:37:38, 34.6 kB, kept",
            "could not be looked at: the objects",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "what a server says does not write to the terminal");
    }

    #[test]
    fn a_proof_that_did_not_look_does_not_say_whole() {
        let mut proof = Verified { backups: known(), ..Verified::default() };
        let text = verified(&proof, Style::PLAIN);
        assert!(text.contains("NOT EVALUATED") && text.contains("NOT PROVEN"), "{text}");
        assert!(text.contains("Not everything could be looked at"), "{text}");
        proof.backups.unseen.clear();
        assert!(verified(&proof, Style::PLAIN).contains("The repository is whole"));
    }
}
