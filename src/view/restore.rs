//! Restores on a screen: what will be done, how it ended, and those that stand on a server.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::plan::needs::{Library, Needs, Number, Versions};
use crate::plan::rebuild::Rebuilt;
use crate::plan::restores::{DumpPlan, End, Goal, Purpose, RestorePlan, Standing, Told};
use crate::view::backup::{hours, moment, size, span};
use crate::view::style::{Role, Style};
use crate::view::table;
use crate::view::text::clean_line;

/// What will be restored, to which moment, and what it touches. `segments` is how many of WAL may be replayed.
pub fn plan(plan: &RestorePlan, segments: u64, style: Style) -> String {
    let RestorePlan { name, server, stanza, bucket, purpose, goal, set, chain, set_finished, timeline, .. } = plan;
    let title = match purpose {
        Purpose::Beside => format!("Restore {name}: a copy beside the database of {server}"),
        Purpose::Drill => format!("Drill {name}: a copy beside the database of {server}, verified and removed"),
        Purpose::InPlace => format!("Restore {name}: IN PLACE of the database of {server}"),
        Purpose::Rehearsal => {
            format!("Drill {name}: the database of {server} on a fresh instance, verified and removed")
        }
    };
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<10} {}", clean_line(value));
    };
    row("target", &target(goal));
    row("backup", &format!("{set}, ended {} UTC", moment(*set_finished)));
    if !chain.is_empty() {
        row("", &format!("stands on {}", chain.join(", ")));
    }
    let to = plan.window_to.map_or_else(|| "an end that is not known".to_owned(), |to| format!("{} UTC", moment(to)));
    row(
        "WAL",
        &format!("timeline {timeline}, at most {segments} segments from {}, archived to {to}", plan.first_segment),
    );
    row("size", &plan.bytes.map_or_else(|| "not known".to_owned(), size));
    needs(&mut row, &plan.needs);
    row("from", &format!("stanza {stanza} in {bucket}, with the key that can only read"));
    let does: &[&str] = match purpose {
        Purpose::Beside => &[
            "the database itself is not touched; the copy listens on a socket that only postgres reaches, and archives nothing",
        ],
        Purpose::Drill => &["the database itself is not touched; the copy archives nothing and is removed at the end"],
        Purpose::InPlace => &[
            "PostgreSQL and PgBouncer are STOPPED first; clients lose their connections",
            "the data that is there now is moved aside and never deleted; `seawall restore undo` brings it back",
            "nothing is archived until `seawall restore accept`, which begins with a full backup",
        ],
        Purpose::Rehearsal => {
            &["the live server is not touched; the fresh one archives nothing and is deleted at the end"]
        }
    };
    for line in does {
        row("effect", line);
    }
    for hook in &plan.hooks {
        let limit = span(i64::try_from(hook.limit_s).unwrap_or(0));
        let words = hook.run.join(" ");
        row("then", &format!("`{words}` as {} against {}, for {limit} at most", hook.user, hook.database));
    }
    if let Some(ttl) = plan.ttl_s {
        row(
            "kept",
            &format!(
                "for {}, then PostgreSQL of the copy is ended; `seawall restore drop {name}` removes it",
                span(i64::try_from(ttl).unwrap_or(0))
            ),
        );
    }
    text
}

/// What it needs of its server, beside what is there.
fn needs(row: &mut impl FnMut(&str, &str), needs: &Needs) {
    let word = |version: &Option<String>| version.clone().unwrap_or_else(|| "not known".to_owned());
    let Needs { postgres, pgbackrest, numbers, room, libraries, unknown } = needs;
    for (program, Versions { backup, installed }) in [("PostgreSQL", postgres), ("pgBackRest", pgbackrest)] {
        row(program, &format!("of the backup {}; installed: {}", word(backup), word(installed)));
    }
    let one = |number: &Number| {
        let count = |count: Option<u64>| count.map_or_else(|| "not known".to_owned(), |count| count.to_string());
        let Number { name, original, copy } = number;
        format!("{name} {} of the original, at least {} of the copy", count(*original), count(*copy))
    };
    if numbers.is_empty() {
        row("settings", "the copy gets those of the backup; of the original, they are not known");
    }
    for (index, number) in numbers.iter().enumerate() {
        row(if index == 0 { "settings" } else { "" }, &one(number));
    }
    let needed = room.needed_bytes.map_or_else(|| "not known".to_owned(), size);
    row(
        "room",
        &format!(
            "needs {needed}, {} of them at most for WAL and {} that stay free, and {} inodes",
            size(room.wal_bytes),
            size(room.left_bytes),
            room.needed_inodes
        ),
    );
    if let (Some(place), Some(bytes)) = (&room.place, room.free_bytes) {
        let inodes = room.free_inodes.map_or_else(|| "not known".to_owned(), |inodes| inodes.to_string());
        row("", &format!("free in {place}: {}, inodes {inodes}", size(bytes)));
    } else {
        row("", "what is free is not known");
    }
    let library = |library: &Library| {
        let there = match library.is_there {
            Some(true) => "",
            Some(false) => " (MISSING)",
            None => " (not looked for)",
        };
        format!("{}{there}", library.name)
    };
    if !libraries.is_empty() {
        row("libraries", &libraries.iter().map(library).collect::<Vec<_>>().join(", "));
    }
    for (index, why) in unknown.iter().enumerate() {
        row(if index == 0 { "not known" } else { "" }, why);
    }
}

/// A restore from a dump: what it will do, or that it was done.
pub fn dump(plan: &DumpPlan, restored: bool, style: Style) -> String {
    let DumpPlan { server, bucket, database, stamp, at, bytes, class, thaw_s, into } = plan;
    let title = format!("Restore {database} of {server} from a dump");
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<10} {}", clean_line(value));
    };
    row("dump", &format!("{stamp}, begun {} UTC; nothing that was written later is in it", moment(*at)));
    row("size", &format!("{} in {bucket}, compressed", size(*bytes)));
    if let Some(thaw) = thaw_s {
        row(
            "thaw",
            &format!("{class}: S3 takes up to {} before it can be read, once it is asked for it", hours(*thaw)),
        );
    }
    row("into", &format!("{into}, a new database"));
    row(
        "effect",
        &format!(
            "{database} itself is not touched; only the owner of {database} and superusers may connect to the new one"
        ),
    );
    row("", "event triggers, publications and subscriptions are left out: they would act by themselves");
    if restored {
        let _ = writeln!(text, "\nRestored into {}.", clean_line(into));
    }
    text
}

/// The goal in words.
pub fn target(goal: &Goal) -> String {
    match goal {
        Goal::Latest => "the newest moment that is archived".to_owned(),
        Goal::Time(at) => format!("{at} (what committed at that very moment is in)"),
        Goal::Backup(label) => format!("the end of backup {label}"),
        Goal::Point(name) => format!("restore point {name}, the first of that name"),
    }
}

/// How a restore ended, with the evidence.
pub fn told(plan: &RestorePlan, told: &Told, style: Style) -> String {
    let mut text = String::new();
    evidence(&mut text, told);
    let left: Vec<&str> =
        told.facts.iter().filter(|fact| fact.name == "leftover").map(|fact| fact.value.as_str()).collect();
    if plan.purpose == Purpose::InPlace && !left.is_empty() {
        let left = clean_line(&left.join(", "));
        let _ = writeln!(text, "  settings   {left} stay in postgresql.auto.conf until it is accepted");
    }
    for remark in &told.remarks {
        let _ = writeln!(text, "  {} {}", style.paint(Role::Changed, "remark"), clean_line(remark));
    }
    let name = &plan.name;
    let server = &plan.server;
    let end = match (&told.end, plan.purpose) {
        (Some(End::Ready), _) => format!(
            "Restored. Look at it: seawall restore psql {name} -- -d DATABASE\nCopy a table out: seawall restore copy-table {name} DATABASE TABLE\n\
             Remove it: seawall restore drop {name}"
        ),
        (Some(End::Finished), Purpose::InPlace) => format!(
            "Restored in place on {server}. Clients can connect; NOTHING IS ARCHIVED until it is accepted.\n\
             Keep it: seawall restore accept {name}\nGo back: seawall restore undo {name}"
        ),
        (Some(End::Finished), _) => "The copy was verified and removed.".to_owned(),
        (Some(End::Failed { .. } | End::Interrupted | End::Over) | None, _) => return text,
    };
    let _ = writeln!(text, "\n{end}");
    text
}

/// Phases with their seconds, and what PostgreSQL said of how far it got.
pub fn evidence(text: &mut String, told: &Told) {
    let phases: Vec<String> = told.durations().iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    let _ = writeln!(text, "  took       {}", clean_line(&phases.join(", ")));
    for (fact, what) in [
        ("stopped", "stopped"),
        ("replay-end", "replayed"),
        ("archive-end", "archive"),
        ("last-commit", "last write"),
        ("heartbeat", "heartbeat"),
        ("timeline", "timeline"),
        ("system-id", "cluster"),
        ("amcheck", "pg_amcheck"),
        ("checksums", "checksums"),
    ] {
        if let Some(value) = told.fact(fact) {
            let value = match fact {
                "replay-end" => format!("to {value}, the end of what is archived"),
                "archive-end" => format!("ends with segment {value}"),
                "timeline" => format!("{value} since it was opened"),
                _ => value.to_owned(),
            };
            let _ = writeln!(text, "  {what:<10} {}", clean_line(&value));
        }
    }
    hooks(text, told);
}

/// What each hook printed last.
fn hooks(text: &mut String, told: &Told) {
    for fact in &told.facts {
        if let Some(number) = fact.name.strip_prefix("hook-") {
            let _ = writeln!(text, "  {:<10} {}", format!("hook {number}"), clean_line(&fact.value));
        }
    }
}

/// How a rebuild went, against its objectives.
pub fn rebuilt(report: &Rebuilt, style: Style) -> String {
    let title = format!("Rebuilt {}: {}", report.plan.server, report.id);
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    let steps: Vec<String> = report.durations().iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    let _ = writeln!(text, "  steps      {}", clean_line(&steps.join(", ")));
    evidence(&mut text, &report.told);
    let of = |wanted: Option<u64>| {
        wanted.map_or_else(
            || "no objective is set".to_owned(),
            |s| format!("the objective is {}", span(i64::try_from(s).unwrap_or(0))),
        )
    };
    let took = exactly(report.took_s);
    let _ =
        writeln!(text, "  rebuild    {took}, from the command until the address had moved; {}", of(report.wanted_s));
    let behind = report.behind_s.map_or_else(
        || "NOT EVALUATED: nothing tells when the newest commit that came back was made".to_owned(),
        |s| {
            format!(
                "the newest commit that came back is {} older than the command; {}",
                exactly(s),
                of(report.rpo_wanted_s)
            )
        },
    );
    let _ = writeln!(text, "  data       {behind}");
    for miss in &report.misses {
        let _ = writeln!(text, "  {} {}", style.paint(Role::Danger, "MISSED"), clean_line(&miss.message));
    }
    if !report.kept.is_empty() {
        let kept = clean_line(&report.kept.join(", "));
        let _ = writeln!(
            text,
            "  kept       {kept}, stopped; `seawall rebuild --accept` deletes it, once nobody needs it any more"
        );
    }
    let _ = writeln!(
        text,
        "\nThe server is rebuilt: WAL is archived on timeline {}, and a full backup was made.",
        report.told.fact("timeline").map_or("?".to_owned(), clean_line)
    );
    text
}

/// Minutes and seconds: an objective is judged by them.
fn exactly(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

/// The restores that are on a server.
pub fn standing(server: &str, all: &[Standing], style: Style, width: Option<usize>) -> String {
    if all.is_empty() {
        return format!("No restore is on {}\n", clean_line(server));
    }
    let now = Timestamp::now().as_second();
    let head = ["restore", "purpose", "age", "runs", "size", "told last"];
    let row = |one: &Standing| {
        [
            clean_line(&one.name),
            clean_line(&one.purpose),
            span(now - one.ordered),
            if one.is_running { "yes" } else { "no" }.to_owned(),
            size(one.bytes),
            clean_line(&one.last),
        ]
    };
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&format!("Restores on {server}"))));
    for line in table::lines(head, all.iter().map(row).collect(), width.map(|width| width.saturating_sub(2))) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::needs::{NeededBy, Room};

    fn shown(of: &Needs) -> String {
        let mut rows = Vec::new();
        needs(&mut |what, value| rows.push(format!("{what}|{value}\n")), of);
        rows.concat()
    }

    #[test]
    fn what_a_restore_needs_stands_beside_what_is_there() {
        let number = |name: &str, original| Number { name: name.to_owned(), original, copy: Some(100) };
        let library = |name: &str, is_there| Library { name: name.to_owned(), needed_by: NeededBy::Start, is_there };
        let versions = |installed: Option<&str>| Versions {
            backup: Some("15".to_owned()),
            installed: installed.map(str::to_owned),
        };
        let text = shown(&Needs {
            postgres: versions(Some("15.20")),
            pgbackrest: versions(None),
            numbers: vec![number("max_connections", Some(100)), number("max_wal_senders", None)],
            room: Room {
                wal_bytes: 1_000_000,
                left_bytes: 2_000_000,
                needed_bytes: Some(9_000_000),
                needed_inodes: 20_000,
                place: Some("/var/lib/postgresql".to_owned()),
                free_bytes: Some(10_000_000),
                free_inodes: None,
            },
            libraries: vec![library("pgaudit", Some(true)), library("old", Some(false)), library("/opt/x", None)],
            unknown: vec!["which pgBackRest is installed: no answer".to_owned(), "more".to_owned()],
        });
        assert_eq!(
            text,
            "PostgreSQL|of the backup 15; installed: 15.20\n\
             pgBackRest|of the backup 15; installed: not known\n\
             settings|max_connections 100 of the original, at least 100 of the copy\n\
             |max_wal_senders not known of the original, at least 100 of the copy\n\
             room|needs 9.0 MB, 1.0 MB of them at most for WAL and 2.0 MB that stay free, and 20000 inodes\n\
             |free in /var/lib/postgresql: 10.0 MB, inodes not known\n\
             libraries|pgaudit, old (MISSING), /opt/x (not looked for)\n\
             not known|which pgBackRest is installed: no answer\n|more\n"
        );
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_fitting() {
        let text = shown(&Needs::default());
        for line in [
            "PostgreSQL|of the backup not known; installed: not known",
            "room|needs not known",
            "|what is free is not known",
            "of the original, they are not known",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
