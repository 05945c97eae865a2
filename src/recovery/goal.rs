//! From what was asked for to a backup, a timeline and a target, all of them named. Pure.
//!
//! The backup is the newest good one that ended before the target, of a window without a gap in which the target lies. One
//! whose pages had wrong checksums is never chosen by itself.

use jiff::Timestamp;

use crate::base::diag::Diagnostic;
use crate::plan::backups::{BackupSet, Backups, Window};
use crate::plan::needs::Needs;
use crate::plan::restores::{Goal, Purpose, Repository, RestorePlan};
use crate::reach::aws::objects::Listed;
use crate::recovery::judge::prefix;
use crate::recovery::storage;
use crate::recovery::wal::DEFAULT_SEGMENT;

/// Objects that a finding names; the rest is counted.
const KEYS_TOLD: usize = 5;

/// What the operator may say beside the goal, where a window or a backup is not to be chosen for him.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub set: Option<String>,
    pub timeline: Option<u32>,
}

/// Reads `latest`, `backup:LABEL`, `name:RESTORE_POINT` or a moment with its offset from UTC.
///
/// # Errors
/// What is wrong with it, in words for the operator.
pub fn goal(text: &str) -> Result<Goal, String> {
    let named = |name: &str, of: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+:".contains(c);
        (!name.is_empty() && name.len() <= 63 && name.chars().all(plain))
            .then(|| name.to_owned())
            .ok_or_else(|| format!("`{name}` is no name of a {of}: letters, digits and . _ - + : only, at most 63"))
    };
    if text == "latest" {
        return Ok(Goal::Latest);
    }
    if let Some(label) = text.strip_prefix("backup:") {
        return named(label, "backup").map(Goal::Backup);
    }
    if let Some(point) = text.strip_prefix("name:") {
        return named(point, "restore point").map(Goal::Point);
    }
    let moment = moment(text)?;
    Ok(Goal::Time(written(moment)))
}

/// A moment. Without an offset it would mean one thing to pgBackRest and another to PostgreSQL.
///
/// # Errors
/// What is wrong with it, in words for the operator.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    // `+00` is how PostgreSQL writes what others write as `+00:00`.
    let short = text.len() > 16 && text.as_bytes()[text.len() - 3..].first().is_some_and(|sign| b"+-".contains(sign));
    let whole = if short { format!("{text}:00") } else { text.replace(" UTC", "Z") };
    whole.trim().parse::<Timestamp>().map_err(|_| {
        format!(
            "`{text}` is no moment with an offset from UTC; write it as 2026-11-21T02:21:10Z or as \"2026-11-21 02:21:10+00\", \
             or say `latest`, `backup:LABEL` or `name:RESTORE_POINT`"
        )
    })
}

/// As PostgreSQL and pgBackRest read it alike.
fn written(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

/// The words `type` and `target` of an order.
pub fn target(goal: &Goal) -> (&'static str, String) {
    match goal {
        Goal::Latest => ("latest", String::new()),
        Goal::Time(at) => ("time", at.clone()),
        Goal::Backup(_) => ("immediate", String::new()),
        Goal::Point(name) => ("name", name.clone()),
    }
}

/// Chooses, or says why nothing can be chosen. `objects` are the repository's, where they could be listed.
///
/// # Errors
/// Why the goal cannot be reached.
pub fn choose(
    known: &Backups,
    objects: &[Listed],
    goal: Goal,
    purpose: Purpose,
    wish: &Wish,
    name: &str,
) -> Result<RestorePlan, Diagnostic> {
    if known.backups.is_empty() {
        let why = if known.unseen.is_empty() {
            Diagnostic::error(
                "backup-none",
                format!("nothing of `{}` can be restored: there is no backup yet", known.server),
            )
            .hint("make the first one now: seawall backup now")
        } else {
            known.unseen.iter().fold(
                Diagnostic::error("backup-unseen", format!("the backups of `{}` could not be looked at", known.server)),
                |problem, why| problem.note(why.clone()),
            )
        };
        return Err(why);
    }
    let windows: Vec<&Window> = known
        .windows
        .iter()
        .filter(|window| wish.timeline.is_none_or(|timeline| window.timeline == timeline))
        .collect();
    let (window, set) = match &goal {
        Goal::Latest => last(known, &windows, wish)?,
        Goal::Backup(label) => of_label(known, &windows, label)?,
        Goal::Time(at) => at_time(known, &windows, at, wish)?,
        Goal::Point(_) => from_first(known, &windows, wish)?,
    };
    let mut plan = RestorePlan {
        name: name.to_owned(),
        server: known.server.clone(),
        stanza: known.stanza.clone(),
        bucket: known.bucket.clone(),
        repository: Repository::First,
        purpose,
        set: set.label.clone(),
        chain: set.needs.clone(),
        set_finished: set.finished,
        timeline: if matches!(goal, Goal::Backup(_)) {
            own_timeline(set).unwrap_or(window.timeline)
        } else {
            window.timeline
        },
        window_to: window.to,
        first_segment: set.wal.as_ref().map_or_else(|| window.first_segment.clone(), |(first, _)| first.clone()),
        last_segment: window.last_segment.clone(),
        bytes: set.database_bytes,
        ttl_s: None,
        hooks: Vec::new(),
        needs: Needs::of_backup(&set.made_with),
        findings: Vec::new(),
        goal,
    };
    plan.findings.extend(frozen(&plan, objects));
    if !known.unseen.is_empty() {
        let partly =
            Diagnostic::warning("restore-partly-seen", "this was chosen without everything that could be known");
        plan.findings.push(known.unseen.iter().fold(partly, |partly, why| partly.note(why.clone())));
    }
    if set.page_errors {
        plan.findings.push(
            Diagnostic::error(
                "backup-with-errors",
                format!("backup `{}` holds pages whose checksums are wrong", set.label),
            )
            .note("it would be restored without a complaint, with the same damage")
            .hint("choose an older one with --set; seawall backup list marks which are good"),
        );
    }
    Ok(plan)
}

fn good<'a>(known: &'a Backups, window: &'a Window) -> impl DoubleEndedIterator<Item = &'a BackupSet> {
    known.backups.iter().filter(|backup| window.backups.contains(&backup.label))
}

/// The timeline on which a backup was made: the first eight digits of its segments.
fn own_timeline(set: &BackupSet) -> Option<u32> {
    let (_, last) = set.wal.as_ref()?;
    u32::from_str_radix(last.get(..8)?, 16).ok()
}

fn wished<'a>(mut sets: impl DoubleEndedIterator<Item = &'a BackupSet>, wish: &Wish) -> Option<&'a BackupSet> {
    match &wish.set {
        Some(label) => sets.find(|set| set.label == *label),
        None => sets.rev().find(|set| !set.page_errors),
    }
}

fn last<'a>(
    known: &'a Backups,
    windows: &[&'a Window],
    wish: &Wish,
) -> Result<(&'a Window, &'a BackupSet), Diagnostic> {
    let newest = windows.iter().max_by_key(|window| (window.to.unwrap_or(window.from), window.timeline));
    let found = newest.and_then(|window| Some((*window, wished(good(known, window), wish)?)));
    found.ok_or_else(|| nothing(known, wish, "nothing can be restored to its newest moment"))
}

fn of_label<'a>(
    known: &'a Backups,
    windows: &[&'a Window],
    label: &str,
) -> Result<(&'a Window, &'a BackupSet), Diagnostic> {
    let set = known.backups.iter().find(|set| set.label == label);
    let window = windows.iter().find(|window| window.backups.iter().any(|of| of == label));
    match (window, set) {
        (Some(window), Some(set)) => Ok((window, set)),
        (None, Some(_)) => {
            Err(Diagnostic::error("backup-wal-incomplete", format!("backup `{label}` cannot be restored"))
                .note("WAL that was written while it was made is not in the archive, so it is not consistent"))
        }
        (_, None) => {
            let labels: Vec<&str> = known.backups.iter().map(|set| set.label.as_str()).collect();
            Err(Diagnostic::error("no-such-backup", format!("`{}` has no backup `{label}`", known.server))
                .note(format!("it has {}", labels.join(", "))))
        }
    }
}

fn at_time<'a>(
    known: &'a Backups,
    windows: &[&'a Window],
    at: &str,
    wish: &Wish,
) -> Result<(&'a Window, &'a BackupSet), Diagnostic> {
    let second = moment(at).map(Timestamp::as_second).unwrap_or_default();
    let holds = |window: &&&Window| window.from <= second && window.to.is_none_or(|to| second <= to);
    let mut holding: Vec<&&Window> = windows.iter().filter(holds).collect();
    // Where two lines of timelines hold the moment, the newer one is what the server became; the other one needs a word.
    holding.sort_by_key(|window| window.timeline);
    let Some(window) = holding.last() else {
        let now = known.looked_at;
        let problem = Diagnostic::error("restore-outside-window", format!("`{at}` cannot be restored"));
        let problem = windows.iter().fold(problem, |problem, window| {
            let to = window.to.map_or_else(|| "an end that is not known".to_owned(), moment_of);
            problem.note(format!("timeline {}: from {} to {to}", window.timeline, moment_of(window.from)))
        });
        let problem = known.gaps.iter().fold(problem, |problem, gap| {
            problem.note(format!("{} segments of WAL are missing on timeline {}", gap.count, gap.timeline))
        });
        return Err(if second > now {
            problem.note(format!("it is in the future: now is {}", moment_of(now)))
        } else {
            problem.hint("choose a moment within one of these, or `--to latest`")
        });
    };
    let before = good(known, window).filter(|set| set.finished <= second);
    let found = wished(before, wish).map(|set| (**window, set));
    found.ok_or_else(|| nothing(known, wish, &format!("no good backup ended before `{at}`")))
}

/// A restore point may lie anywhere, so everything from the first backup on is replayed unless a backup is named.
fn from_first<'a>(
    known: &'a Backups,
    windows: &[&'a Window],
    wish: &Wish,
) -> Result<(&'a Window, &'a BackupSet), Diagnostic> {
    let newest = windows.iter().max_by_key(|window| (window.to.unwrap_or(window.from), window.timeline));
    let found = newest.and_then(|window| {
        let set = match &wish.set {
            Some(_) => wished(good(known, window), wish),
            None => good(known, window).find(|set| !set.page_errors),
        };
        Some((*window, set?))
    });
    found.ok_or_else(|| nothing(known, wish, "there is no good backup to begin at"))
}

fn nothing(known: &Backups, wish: &Wish, what: &str) -> Diagnostic {
    let problem = Diagnostic::error("restore-no-backup", what.to_owned());
    let problem = match (&wish.set, wish.timeline) {
        (Some(set), _) => problem.note(format!("`{set}` is not in the window that leads there")),
        (None, Some(timeline)) => problem.note(format!("only timeline {timeline} was looked at")),
        (None, None) => problem,
    };
    let problem = known.unseen.iter().fold(problem, |problem, why| problem.note(format!("not looked at: {why}")));
    problem.hint("`seawall backup list` shows what can be restored")
}

/// A second as people and PostgreSQL write it.
pub fn moment_of(second: i64) -> String {
    Timestamp::from_second(second)
        .map_or_else(|_| second.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How many segments of WAL lie from one to the other, both included; 0 where a name cannot be read.
pub fn segments(first: &str, last: &str) -> u64 {
    let naming = crate::recovery::wal::Naming::new(DEFAULT_SEGMENT);
    let place = |name: &str| naming.read(name).map(|(_, position)| position);
    place(first).zip(place(last)).map_or(0, |(first, last)| last.saturating_sub(first) + 1)
}

/// Objects of the backup, of those that it needs, or of the WAL, which take hours to be read.
fn frozen(plan: &RestorePlan, objects: &[Listed]) -> Option<Diagnostic> {
    let repository = prefix(&plan.stanza);
    let labels: Vec<String> =
        plan.chain.iter().chain([&plan.set]).map(|set| format!("{repository}backup/{}/{set}/", plan.stanza)).collect();
    let others = [format!("{repository}backup/{}/backup.info", plan.stanza), format!("{repository}archive/")];
    let needed = |key: &str| labels.iter().chain(&others).any(|prefix| key.starts_with(prefix.as_str()));
    let frozen: Vec<&Listed> = storage::frozen(objects).into_iter().filter(|object| needed(&object.key)).collect();
    frozen.first()?;
    let problem = Diagnostic::error(
        "backup-objects-archived",
        format!("{} objects that this restore needs take hours to be read", frozen.len()),
    );
    let problem = frozen.iter().take(KEYS_TOLD).fold(problem, |problem, object| {
        problem.note(format!("{}: {}", object.class, object.key.strip_prefix(&repository).unwrap_or(&object.key)))
    });
    Some(problem.note("pgBackRest would begin and fail half-way with 403 InvalidObjectState").hint(format!(
        "ask S3 to bring them back (restore-object; up to {} h by standard retrieval), or choose another backup with --set",
        frozen.iter().filter_map(|object| storage::thaw_s(object)).max().unwrap_or_default().div_ceil(3600)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::backups::{MadeWith, ToBy};

    fn set(label: &str, finished: i64) -> BackupSet {
        BackupSet {
            label: label.to_owned(),
            kind: "full".to_owned(),
            started: finished - 10,
            finished,
            database_bytes: Some(1000),
            repository_bytes: Some(100),
            wal: Some(("000000010000000000000002".to_owned(), "000000010000000000000003".to_owned())),
            page_errors: false,
            needs: Vec::new(),
            made_with: MadeWith::default(),
        }
    }

    fn window(timeline: u32, from: i64, to: i64, backups: &[&str]) -> Window {
        Window {
            timeline,
            from,
            to: Some(to),
            to_by: ToBy::Object,
            first_segment: "000000010000000000000003".to_owned(),
            last_segment: "000000010000000000000009".to_owned(),
            backups: backups.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    fn known() -> Backups {
        Backups {
            server: "db".to_owned(),
            stanza: "chronos".to_owned(),
            looked_at: 10_000,
            backups: vec![set("A", 1000), set("B", 2000), set("C", 5000)],
            windows: vec![window(1, 1000, 3000, &["A", "B"]), window(2, 5000, 6000, &["C"])],
            ..Backups::default()
        }
    }

    fn at(second: i64) -> Goal {
        Goal::Time(written(Timestamp::from_second(second).expect("a second")))
    }

    fn chosen(known: &Backups, goal: Goal, wish: &Wish) -> Result<(String, u32), String> {
        choose(known, &[], goal, Purpose::Beside, wish, "r")
            .map(|plan| (plan.set, plan.timeline))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn a_goal_is_read_or_refused_with_its_reason() {
        assert_eq!(goal("latest"), Ok(Goal::Latest));
        assert_eq!(goal("backup:20261121-143736F"), Ok(Goal::Backup("20261121-143736F".to_owned())));
        assert_eq!(goal("name:before_migration"), Ok(Goal::Point("before_migration".to_owned())));
        let same = Goal::Time("2026-11-21 02:21:10.000000+00".to_owned());
        for text in [
            "2026-11-21T02:21:10Z",
            "2026-11-21 02:21:10+00",
            "2026-11-21 02:21:10+00:00",
            "2026-11-21 02:21:10 UTC",
            "2026-11-20T21:21:10-05:00",
            "2026-11-21 04:21:10+02",
        ] {
            assert_eq!(goal(text).as_ref(), Ok(&same), "{text}");
        }
        assert_eq!(goal("2026-11-21 02:21:10.123456+00"), Ok(Goal::Time("2026-11-21 02:21:10.123456+00".to_owned())));
        for text in [
            "",
            "now",
            "2026-11-21 02:21:10",
            "2026-11-21",
            "backup:",
            "name:a b",
            "name:'; drop",
            "Latest",
            "02:21+00",
        ] {
            assert!(goal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_good_backup_before_the_target_is_chosen() {
        let any = Wish::default();
        assert_eq!(chosen(&known(), at(2500), &any), Ok(("B".to_owned(), 1)));
        assert_eq!(chosen(&known(), at(2000), &any), Ok(("B".to_owned(), 1)));
        assert_eq!(chosen(&known(), at(1999), &any), Ok(("A".to_owned(), 1)));
        assert_eq!(chosen(&known(), Goal::Latest, &any), Ok(("C".to_owned(), 2)));
        assert_eq!(chosen(&known(), Goal::Point("x".to_owned()), &any), Ok(("C".to_owned(), 2)));
        assert_eq!(
            chosen(&known(), Goal::Backup("A".to_owned()), &any),
            Ok(("A".to_owned(), 1)),
            "along its own timeline"
        );
        let mut damaged = known();
        damaged.backups[1].page_errors = true;
        assert_eq!(chosen(&damaged, at(2500), &any), Ok(("A".to_owned(), 1)));
        let named = Wish { set: Some("B".to_owned()), timeline: None };
        let plan = choose(&damaged, &[], at(2500), Purpose::Beside, &named, "r").expect("it was asked for");
        assert_eq!(plan.findings[0].code, "backup-with-errors");
    }

    #[test]
    fn what_cannot_be_reached_is_refused_before_anything_is_restored() {
        let any = Wish::default();
        for second in [500, 3001, 4000, 6001, 20_000] {
            assert_eq!(chosen(&known(), at(second), &any), Err("restore-outside-window".to_owned()), "{second}");
        }
        assert_eq!(chosen(&known(), Goal::Backup("Z".to_owned()), &any), Err("no-such-backup".to_owned()));
        let one = Wish { set: None, timeline: Some(7) };
        assert_eq!(chosen(&known(), Goal::Latest, &one), Err("restore-no-backup".to_owned()));
        let none = Backups { backups: Vec::new(), windows: Vec::new(), ..known() };
        assert_eq!(chosen(&none, Goal::Latest, &any), Err("backup-none".to_owned()));
        let unseen = Backups { unseen: vec!["the server is away".to_owned()], ..none };
        assert_eq!(chosen(&unseen, Goal::Latest, &any), Err("backup-unseen".to_owned()));
        let gone = Backups { windows: Vec::new(), ..known() };
        assert_eq!(chosen(&gone, Goal::Backup("A".to_owned()), &any), Err("backup-wal-incomplete".to_owned()));
    }

    #[test]
    fn what_was_not_seen_is_said_and_keeps_nothing_from_being_planned() {
        let known = Backups { unseen: vec!["PostgreSQL's archiving: the server is away".to_owned()], ..known() };
        let plan = choose(&known, &[], Goal::Latest, Purpose::Beside, &Wish::default(), "r").expect("a plan");
        assert_eq!(plan.findings.len(), 1);
        assert_eq!(
            (plan.findings[0].code.as_str(), plan.findings[0].severity),
            ("restore-partly-seen", crate::base::diag::Severity::Warning)
        );
    }

    #[test]
    fn archived_objects_of_this_restore_and_of_no_other_refuse_it() {
        let object = |key: &str| Listed {
            key: format!("chronos/pgbackrest/{key}"),
            bytes: 1,
            modified: None,
            class: "DEEP_ARCHIVE".to_owned(),
            is_restored: false,
        };
        let codes = |key: &str| {
            let plan = choose(&known(), &[object(key)], Goal::Latest, Purpose::Beside, &Wish::default(), "r");
            plan.expect("a plan").findings.into_iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(codes("backup/chronos/C/bundle/1"), ["backup-objects-archived"]);
        assert_eq!(codes("archive/chronos/15-1/x"), ["backup-objects-archived"]);
        assert!(codes("backup/chronos/A/bundle/1").is_empty());
    }

    #[test]
    fn segments_are_counted() {
        assert_eq!(segments("000000010000000000000003", "000000010000000000000009"), 7);
        assert_eq!(segments("000000010000000000000009", "000000010000000000000003"), 1);
        assert_eq!(segments("?", "000000010000000000000003"), 0);
    }
}
