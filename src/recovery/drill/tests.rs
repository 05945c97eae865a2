//! What a drill comes to, for every way in which it can go wrong.

use super::*;
use crate::plan::backups::ToBy;
use crate::plan::needs::Needs;
use crate::plan::rebuild::Step;
use crate::plan::restores::{Purpose, Repository};

/// Seconds of the disaster.
const T0: i64 = 1_795_737_600;

fn plan(goal: Goal) -> RestorePlan {
    RestorePlan {
        name: "drill-1".to_owned(),
        server: "db".to_owned(),
        stanza: "chronos".to_owned(),
        bucket: "b".to_owned(),
        repository: Repository::First,
        purpose: Purpose::Drill,
        goal,
        set: "20261126-234813F".to_owned(),
        chain: Vec::new(),
        set_finished: T0 - 5000,
        timeline: 1,
        window_to: None,
        first_segment: "000000010000000000000002".to_owned(),
        last_segment: "000000010000000000000004".to_owned(),
        bytes: Some(1000),
        ttl_s: None,
        needs: Needs::default(),
        findings: Vec::new(),
        hooks: Vec::new(),
    }
}

/// What the program tells of a drill that is well: a heartbeat `lost` seconds before the disaster, a commit 20 s later.
fn told(lost: i64) -> String {
    let at = |second: i64| moment_of(second).replace(" UTC", ".500000+00");
    format!(
        "{a} phase check\n{a} fact archive-end 000000010000000000000004\n{b} phase fetch\n{c} phase replay\n{c} phase reached\n\
         {c} fact last-commit {commit}\n{d} phase look\n{d} fact heartbeat {beat}\n{d} fact bytes 1000\n{d} phase verify\n\
         {d} fact check-1 42\n{d} fact amcheck clean\n{e} finished\n",
        a = T0 + 3,
        b = T0 + 5,
        c = T0 + 25,
        d = T0 + 40,
        e = T0 + 50,
        beat = at(T0 - lost),
        commit = at(T0 - lost + 20),
    )
}

fn run(told: String) -> Run {
    Run {
        id: "drill-1".to_owned(),
        environment: "test".to_owned(),
        sandbox: true,
        server: "db".to_owned(),
        bundle: "small_3_0".to_owned(),
        scenario: Scenario::Beside,
        asked: "latest".to_owned(),
        broken: None,
        inventory: Digest::of_bytes(b"an inventory"),
        by: "tester on here".to_owned(),
        began: T0,
        ended: T0 + 55,
        clock_offset_s: 0,
        rpo_s: Some(900),
        rto_s: Some(3600),
        plan: Some(plan(Goal::Latest)),
        failure: None,
        found: Vec::new(),
        told,
        checks: vec![Check { database: "app".to_owned(), sql: "select 42".to_owned(), expect: None }],
        bytes_now: Some(3000),
        cleanup: Cleanup { proven: true, left: Vec::new(), unknown: None },
        fresh: None,
        before: None,
    }
}

/// A drill that passed.
pub(crate) fn drill() -> Drill {
    judged(run(told(120)))
}

fn codes(drill: &Drill) -> Vec<&str> {
    drill.misses.iter().map(|miss| miss.code.as_str()).collect()
}

#[test]
fn a_drill_that_is_well_says_loss_times_and_their_projection() {
    let drill = drill();
    assert!(drill.passed && drill.misses.is_empty(), "{:?}", drill.misses);
    assert_eq!(drill.rpo.lost_s, Some(120), "by the older of both witnesses");
    assert_eq!((drill.rto.serve_s, drill.rto.trust_s), (Some(40), Some(50)));
    let projection = drill.rto.projection.as_ref().expect("all is known");
    assert_eq!(projection.serve_s, 80, "what was fetched in 20 s takes three times as long");
    let seconds: Vec<(&str, i64)> = drill.phases.iter().map(|phase| (phase.name.as_str(), phase.seconds)).collect();
    assert_eq!(
        seconds,
        [
            ("plan", 3),
            ("check", 2),
            ("fetch", 20),
            ("replay", 0),
            ("reached", 15),
            ("look", 0),
            ("verify", 10),
            ("remove", 5)
        ]
    );
    assert_eq!(
        seconds.iter().map(|(_, seconds)| seconds).sum::<i64>(),
        drill.ended - drill.began,
        "no second is left out"
    );
    let facts: Vec<&str> = drill.verification.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(facts, ["archive-end", "app: select 42", "amcheck"]);
    assert_eq!(drill.evidence.told_digest, Digest::of_bytes(drill.evidence.told.as_bytes()));
    let past = Past::of(&drill);
    assert_eq!((past.lost_s, past.projected(1000)), (Some(120), Some(40)));
}

#[test]
fn each_miss_has_its_code() {
    let before = |heartbeat| Some(Past { heartbeat: Some(heartbeat), ..Past::of(&drill()) });
    let without = |what: &str| {
        let text = told(120);
        text.split_inclusive('\n').filter(|line| !line.contains(what)).collect::<String>()
    };
    let left = Cleanup { proven: false, left: vec!["/run/x".to_owned()], unknown: None };
    for (case, expected) in [
        (run(told(1000)), "drill-rpo"),
        (Run { rto_s: Some(39), ..run(told(120)) }, "drill-rto"),
        (run(without("heartbeat")), "drill-not-measured"),
        (run(without("last-commit")), "drill-not-measured"),
        (run(without("phase look")), "drill-not-measured"),
        (run(told(120).replace("fact last-commit", "fact last-commit 2026-11-27 23:00:00+00 ")), "drill-not-measured"),
        (
            run(told(120).replace(" fact heartbeat ", " fact heartbeat 2026-11-25 23:00:00+00\n1 fact heartbeat ")),
            "drill-witnesses-disagree",
        ),
        (Run { before: before(T0 - 120), ..run(told(120)) }, "drill-not-fresh"),
        (Run { cleanup: left, ..run(told(120)) }, "drill-not-removed"),
        (Run { cleanup: unknown("the server is away"), ..run(told(120)) }, "drill-not-removed"),
    ] {
        let drill = judged(case);
        assert!(codes(&drill).contains(&expected) && !drill.passed, "{expected}: {:?}", drill.misses);
    }
    assert!(judged(Run { before: before(T0 - 121), ..run(told(120)) }).passed);
    // Neither objective is set, so neither is missed.
    assert!(judged(Run { rpo_s: None, rto_s: None, ..run(told(100_000)) }).passed);
}

#[test]
fn a_drill_that_ended_early_proves_nothing() {
    let problem = Diagnostic::error("restore-wal-missing", "a segment is missing");
    for text in ["", "1 phase check\n", &told(120).replace("finished", "failed wal-missing it is gone")] {
        let failed = judged(Run { failure: Some(problem.clone()), ..run(text.to_owned()) });
        assert!(!failed.passed && codes(&failed) == ["restore-wal-missing"], "{text}: {:?}", failed.misses);
        let silent = judged(run(text.to_owned()));
        assert!(!silent.passed, "{text}: nobody told of a failure, and it did not end well either");
    }
}

#[test]
fn an_older_moment_says_nothing_about_the_objective() {
    let of = |to: i64| {
        let goal = Goal::Time(moment_of(to).replace(" UTC", ".000000+00"));
        judged(Run { plan: Some(plan(goal)), asked: "random".to_owned(), ..run(told(5000)) })
    };
    let good = of(T0 - 4970);
    assert!(good.passed && !good.rpo.counts && good.rpo.lost_s == Some(30), "{:?}", good.misses);
    assert_eq!(Past::of(&good).lost_s, None);
    assert_eq!(codes(&of(T0 - 6000)), ["drill-wrong-moment"]);
}

#[test]
fn a_broken_drill_never_passes_and_must_see_what_was_broken() {
    let broken = |failure: Option<&str>| {
        let failure = failure.map(|code| Diagnostic::error(code, "it failed"));
        judged(Run { broken: Some(Broken::Segment), failure, ..run(told(120)) })
    };
    assert_eq!(codes(&broken(Some("restore-wal-missing"))), ["restore-wal-missing"]);
    assert_eq!(codes(&broken(Some("restore-no-room"))), ["drill-inconclusive", "restore-no-room"]);
    let blind = broken(None);
    assert!(codes(&blind) == ["drill-cannot-fail"] && !blind.passed);
}

#[test]
fn a_random_moment_lies_in_a_window_and_away_from_its_end() {
    let window = |from: i64, to: Option<i64>| Window {
        timeline: 1,
        from,
        to,
        to_by: ToBy::Object,
        first_segment: String::new(),
        last_segment: String::new(),
        backups: Vec::new(),
    };
    let windows = [window(0, Some(MARGIN_S + 10)), window(500, None), window(1000, Some(1000 + MARGIN_S + 5))];
    let drawn = |number: i64| {
        draw(&windows, |below| {
            assert_eq!(below, 15);
            number
        })
    };
    assert_eq!([0, 9, 10, 14].map(drawn), [Some(0), Some(9), Some(1000), Some(1004)]);
    assert_eq!(draw(&windows[1..2], |_| 0), None, "its end is not known");
    assert_eq!(draw(&[window(0, Some(MARGIN_S))], |_| 0), None);
}

#[test]
fn an_object_of_the_chosen_backup_is_frozen_and_no_other() {
    let object = |key: &str| Listed {
        key: format!("chronos/pgbackrest/{key}"),
        bytes: 1,
        modified: None,
        class: "STANDARD".to_owned(),
        is_restored: true,
    };
    let mut objects = [object("backup/chronos/20261125-234813F/a"), object("backup/chronos/20261126-234813F/a")];
    freeze(&mut objects, &plan(Goal::Latest));
    assert_eq!(objects.map(|object| object.class), ["STANDARD", "DEEP_ARCHIVE"]);
}

/// What a fresh server told: the restore ends, and is verified when everything else is set up.
fn told_fresh() -> String {
    told(120).replace("phase verify", &format!("finished\n{} phase verify", T0 + 44))
}

fn fresh() -> Fresh {
    let step = |name: &str, began: i64| Step { name: name.to_owned(), began };
    Fresh {
        steps: vec![step("server", T0), step("rest", T0 + 41), step("remove", T0 + 51)],
        served: Some(T0 + 44),
        rebuild_s: Some(44),
        hourly_millicents: Some(1_644),
        remarks: vec!["without the fence".to_owned()],
    }
}

#[test]
fn a_fresh_server_is_timed_to_the_first_client_and_held_to_both_objectives() {
    let drill = judged(Run { scenario: Scenario::Fresh, fresh: Some(fresh()), ..run(told_fresh()) });
    assert!(drill.passed && drill.scenario == Scenario::Fresh, "{:?}", drill.misses);
    assert_eq!((drill.rto.serve_s, drill.cost_millicents), (Some(44), Some(1_644)));
    assert!(
        drill.rto.trust_s.is_some_and(|trust| trust > 44) && drill.remarks.contains(&"without the fence".to_owned())
    );
    assert_eq!(drill.phases.iter().map(|phase| phase.seconds).sum::<i64>(), drill.ended - drill.began);

    let slow = Fresh { rebuild_s: Some(43), ..fresh() };
    assert_eq!(codes(&judged(Run { fresh: Some(slow), ..run(told_fresh()) })), ["rebuild-too-slow"]);
    // Restored, and then roles could not be set up: nothing of it passes, and nothing else is said of it.
    let problem = Diagnostic::error("rebuild-failed", "a part of the new server could not be made");
    let half = Fresh { served: None, ..fresh() };
    let restored = told_fresh().split_inclusive("finished\n").next().unwrap_or_default().to_owned();
    let drill = judged(Run { fresh: Some(half.clone()), failure: Some(problem), ..run(restored.clone()) });
    assert!(!drill.passed && codes(&drill) == ["rebuild-failed"], "{:?}", drill.misses);
    assert_eq!(drill.rto.trust_s, None, "it was not verified");
    assert!(!judged(Run { fresh: Some(half), ..run(restored) }).passed, "nor does it pass where nobody says why");
    let left = Cleanup { proven: false, left: vec!["lightsail.instance prod-x".to_owned()], unknown: None };
    let drill = judged(Run { fresh: Some(fresh()), cleanup: left, ..run(told_fresh()) });
    assert!(drill.misses[0].hint.as_deref().is_some_and(|hint| hint.contains("drill gc")), "{:?}", drill.misses);
}
