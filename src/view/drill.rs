//! Drills on a screen, as a page of Markdown, and their history.

use std::fmt::Write as _;

use crate::plan::drills::{Drill, Past, Rto, Scenario};
use crate::view::backup::{moment, size, span};
use crate::view::restore;
use crate::view::style::{Role, Style};
use crate::view::table;
use crate::view::text::clean_line;

/// What a drill came to; its misses are told after it.
pub fn report(drill: &Drill, style: Style) -> String {
    let title = format!("Drill {} of {}, {}", drill.id, drill.server, drill.scenario.word());
    let mut text = format!("{}\n\n", style.paint(Role::Title, clean_line(&title)));
    for (what, value) in rows(drill) {
        let _ = writeln!(text, "  {what:<13} {}", clean_line(&value));
    }
    for remark in &drill.remarks {
        let _ = writeln!(text, "  {} {}", style.paint(Role::Changed, "remark"), clean_line(remark));
    }
    let role = if drill.passed { Role::Title } else { Role::Danger };
    let _ = writeln!(text, "\n{}", style.paint(role, verdict(drill)));
    text
}

fn verdict(drill: &Drill) -> String {
    match (drill.passed, drill.broken) {
        (true, _) => "PASSED".to_owned(),
        (false, Some(broken)) if noticed(drill) => {
            format!(
                "FAILED, as was wanted: a broken {} was noticed. This run proves that a drill can fail",
                broken.word()
            )
        }
        (false, Some(broken)) => {
            format!("FAILED, and not as was wanted: a broken {} should have been noticed", broken.word())
        }
        (false, None) => "FAILED".to_owned(),
    }
}

/// Whether what was broken on purpose was found.
fn noticed(drill: &Drill) -> bool {
    let of_the_drill = |code: &str| code == "drill-cannot-fail" || code == "drill-inconclusive";
    !drill.misses.iter().any(|miss| of_the_drill(&miss.code))
}

/// What is told of every drill, in the order of what a reader wants first.
fn rows(drill: &Drill) -> Vec<(&'static str, String)> {
    let mut rows = vec![("disaster", format!("{} UTC, by the server's clock", moment(drill.began)))];
    if let Some(plan) = &drill.plan {
        rows.push((
            "restored",
            format!("{}, from backup {} along timeline {}", restore::target(&plan.goal), plan.set, plan.timeline),
        ));
    }
    rows.push(("loss (RPO)", loss(drill)));
    let Rto { objective_s, serve_s, trust_s, projection } = &drill.rto;
    let wanted = objective_s.map_or_else(|| "no objective".to_owned(), |wanted| format!("at most {wanted} s"));
    let measured = |seconds: &Option<i64>| seconds.map_or_else(|| "not measured".to_owned(), |s| format!("{s} s"));
    let until = match drill.scenario {
        Scenario::Beside | Scenario::BesideFromCopy => "a transaction was committed",
        Scenario::Fresh | Scenario::FreshFromCopy => "clients could have been let in, from nothing",
    };
    rows.push(("time to serve", format!("{} until {until} (RTO: {wanted})", measured(serve_s))));
    rows.push(("time to trust", format!("{} until it was verified, too", measured(trust_s))));
    if let Some(projection) = projection {
        let (now, restored) = (size(projection.bytes_now), size(projection.bytes_restored));
        rows.push(("at its size now", format!("{} s to serve, with {now} instead of {restored}", projection.serve_s)));
        rows.extend(projection.conditions.iter().map(|condition| ("  if", condition.clone())));
    }
    let phases: Vec<String> = drill.phases.iter().map(|phase| format!("{} {} s", phase.name, phase.seconds)).collect();
    rows.push(("phases", phases.join(", ")));
    let throughput = &drill.throughput;
    if let Some(bytes) = throughput.fetched_bytes {
        let rate = throughput.fetch_bytes_per_s.map_or(String::new(), |rate| format!(", {} a second", size(rate)));
        rows.push(("fetched", format!("{}{rate}", size(bytes))));
    }
    rows.extend(drill.verification.iter().map(|fact| ("verified", format!("{} → {}", fact.name, fact.value))));
    rows.push(("removed", removed(drill)));
    rows.push(("evidence", drill.evidence.told_digest.to_string()));
    rows.push(("cost", cost(drill)));
    rows
}

fn cost(drill: &Drill) -> String {
    match (drill.scenario, drill.cost_millicents) {
        (Scenario::Beside | Scenario::BesideFromCopy, _) => "none: the copy was on the server itself".to_owned(),
        (_, None) => format!("not known: bundle {} has no known price", drill.bundle),
        (_, Some(price)) => {
            let tenths = price.div_ceil(100);
            format!(
                "{}.{:03} USD by list price, for the hours of the instance that began",
                tenths / 1_000,
                tenths % 1_000
            )
        }
    }
}

fn loss(drill: &Drill) -> String {
    let rpo = &drill.rpo;
    let Some(lost) = rpo.lost_s else { return "not measured".to_owned() };
    if !rpo.counts {
        return format!(
            "an older moment was restored; its newest row is {lost} s older, which says nothing about the objective"
        );
    }
    let wanted = rpo.objective_s.map_or_else(|| "no objective".to_owned(), |wanted| format!("at most {wanted} s"));
    let witness = |at: Option<i64>| at.map_or_else(|| "none".to_owned(), |at| format!("{} s", drill.began - at));
    format!(
        "{lost} s ± {} s (heartbeat {}, last transaction {}; objective: {wanted})",
        rpo.resolution_s,
        witness(rpo.heartbeat),
        witness(rpo.last_commit)
    )
}

fn removed(drill: &Drill) -> String {
    let cleanup = &drill.cleanup;
    match &cleanup.unknown {
        Some(why) => format!("not known: {why}"),
        None if cleanup.proven => {
            let asked = if drill.scenario.is_fresh() { "AWS" } else { "the server" };
            format!("yes; {asked} was asked again, and nothing of it is there")
        }
        None => format!("NO: {}", cleanup.left.join(", ")),
    }
}

/// The report for people who were not there. `findings` are the misses as text.
pub fn markdown(drill: &Drill, findings: &str) -> String {
    let line = |text: &str| clean_line(text).replace('|', "\\|");
    let mut text = format!("# Restore drill {}\n\n**{}**\n\n", line(&drill.id), line(&verdict(drill)));
    let _ = writeln!(
        text,
        "Server `{}` ({}) of environment `{}`{}, inventory `{}`, seawall {}, run by {}.\n",
        line(&drill.server),
        line(&drill.bundle),
        line(&drill.environment),
        if drill.sandbox { " in the sandbox" } else { "" },
        drill.inventory,
        drill.version,
        line(&drill.by)
    );
    text.push_str("| what | measured |\n| --- | --- |\n");
    for (what, value) in rows(drill) {
        let _ = writeln!(text, "| {} | {} |", what.trim(), line(&value));
    }
    for remark in &drill.remarks {
        let _ = writeln!(text, "| remark | {} |", line(remark));
    }
    if !findings.is_empty() {
        let _ = writeln!(text, "\n## What was missed\n\n```\n{}\n```", findings.trim_end());
    }
    let _ = writeln!(text, "\n## What the server told\n\n{}\n\n```", drill.evidence.told_digest);
    for told in drill.evidence.told.lines() {
        // A line of the server's does not end the block that it stands in.
        let _ = writeln!(text, "{}", clean_line(told).replace("```", "'''"));
    }
    text.push_str("```\n");
    text
}

/// The drills that were run, the newest last.
pub fn history(drills: &[Past], now: i64, style: Style, width: Option<usize>) -> String {
    if drills.is_empty() {
        return "No drill has run\n".to_owned();
    }
    let head = ["drill", "server", "where", "target", "age", "result", "loss", "serve", "trust"];
    let seconds = |value: Option<i64>| value.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds} s"));
    let row = |past: &Past| {
        let result = match (past.passed, past.broken) {
            (true, _) => "passed".to_owned(),
            (false, Some(broken)) => format!("broke {}: {}", broken.word(), past.misses.join(", ")),
            (false, None) => past.misses.join(", "),
        };
        [
            clean_line(&past.id),
            clean_line(&past.server),
            if past.by_itself { "by itself" } else { past.scenario.word() }.to_owned(),
            clean_line(&past.asked),
            span(now - past.began),
            clean_line(&result),
            seconds(past.lost_s),
            seconds(past.serve_s),
            seconds(past.trust_s),
        ]
    };
    let mut text = format!("{}\n\n", style.paint(Role::Title, "Drills"));
    for line in table::lines(head, drills.iter().map(row).collect(), width.map(|width| width.saturating_sub(2))) {
        let _ = writeln!(text, "  {line}");
    }
    text
}
