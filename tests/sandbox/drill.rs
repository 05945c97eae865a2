//! Drills on a real server: what they measure is measured a second time, what is broken is noticed, and nothing stays.

use std::time::Instant;

use serde_json::{Value, json};

use crate::sandbox::attacks_paths::held_to;
use crate::sandbox::restore::objects;
use crate::support::rehearsal::{Ended, Rehearsal};

/// Writes until it is stopped, and notes each commit after it was acknowledged: its second and its segment of WAL.
const LOAD: &str = r#"while :; do runuser -u postgres -- psql -XAtq -F ' ' -d postgres -c "insert into acked (t) values (repeat('x', 2000))" \
    -c "select extract(epoch from clock_timestamp()), pg_walfile_name(pg_current_wal_lsn())" >>/root/acked; done"#;

fn drill(lab: &Rehearsal, more: &[&str]) -> (Ended, Value) {
    let ended = lab.run(&[&["--sandbox", "--format", "json", "drill", "--yes"], more].concat());
    let document: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr));
    (ended, document["drill"].clone())
}

fn codes(drill: &Value) -> Vec<String> {
    let misses = drill["misses"].as_array().into_iter().flatten();
    misses.map(|miss| miss["code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn passes(lab: &Rehearsal, more: &[&str]) -> Value {
    let (ended, drill) = drill(lab, more);
    assert_eq!((ended.code, codes(&drill)), (0, Vec::new()), "{drill:#}\n{}", ended.stderr);
    drill
}

/// A drill that must fail with a code, whatever else it says.
#[track_caller]
fn fails(lab: &Rehearsal, more: &[&str], code: &str) -> Value {
    let (ended, drill) = drill(lab, more);
    assert!(
        ended.code == 1 && codes(&drill).contains(&code.to_owned()),
        "{more:?}: not {code}: {drill:#}\n{}",
        ended.stderr
    );
    assert_eq!(drill["cleanup"]["proven"], true, "{more:?}: {drill:#}");
    drill
}

/// Nothing of any drill is on the server.
#[track_caller]
fn nothing_is_left(lab: &Rehearsal) {
    let look = "ls -A /var/lib/postgresql/seawall-restores /etc/seawall/restores /run/seawall-restore 2>/dev/null | grep drill-; pgrep -fl '[s]eawall-restore-drill'; true";
    assert_eq!(lab.on_server(&["sh", "-c", look]).stdout.trim(), "");
}

fn beat(lab: &Rehearsal) {
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
}

/// After a drill that passed, a plan that would replace the server says what stands for its data, and is refused as soon as that is not
/// to be seen.
fn a_proof_stands_for_the_server(lab: &Rehearsal) {
    let edits = [("bundle: small_3_0 ", "bundle: medium_3_0"), ("monthly_budget: 25 USD", "monthly_budget: 50 USD")];
    for (from, to) in edits {
        lab.edit_inventory(from, to);
    }
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    for words in [
        "warning[data-proven]: this plan would replace `lightsail.instance/db`",
        "of backup 2",
        "lost are what was written after",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(plan.contains("LOSES DATA") && !plan.contains("data-unproven"), "{plan}");
    lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "stop"]);
    let refused = lab.expect(3, &["--sandbox", "plan"]).stdout;
    assert!(refused.contains("error[data-unproven]") && refused.contains("no proof: of its backups"), "{refused}");
    assert!(refused.contains("the last drill that passed is of"), "{refused}");
    lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "start"]);
    for (from, to) in edits {
        lab.edit_inventory(to, from);
    }
}

#[test]
fn a_drill_under_load_measures_what_would_be_lost_and_touches_nothing() {
    let Some(lab) = Rehearsal::database("a_drill_under_load") else { return };
    lab.edit_inventory(
        "      stanza: chronos ",
        "      drills: { checks: [{ database: postgres, sql: \"select count(*) > 100 from public.acked\", expect: t }] }\n      stanza: chronos ",
    );
    lab.sql("postgres", "create table acked (n bigserial primary key, t text)");
    lab.on_server(&["systemd-run", "--unit=load", "sh", "-c", LOAD]);
    lab.on_server(&["sh", "-c", "until [ \"$(wc -l </root/acked)\" -gt 150 ]; do sleep 0.2; done"]);
    beat(&lab);
    lab.archived();
    let started = lab.sql("postgres", "select pg_postmaster_start_time()");
    let there = objects(&lab);

    let clock = Instant::now();
    let report = passes(&lab, &[]);
    let took = i64::try_from(clock.elapsed().as_secs()).expect("seconds");
    lab.on_server(&["systemctl", "stop", "load"]);

    // The loss, from the commits that were acknowledged: those whose segment is archived have survived.
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("no number: {report:#}"));
    let began = number(&report["began"]);
    let facts = report["verification"].as_array().expect("facts");
    let end =
        facts.iter().find(|fact| fact["name"] == "archive-end").expect("it was told")["value"].as_str().expect("text");
    let acked = lab.on_server(&["cat", "/root/acked"]).stdout;
    let commits: Vec<(f64, &str)> = acked
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(second, segment)| Some((second.parse().ok()?, segment)))
        .collect();
    let survived = commits.iter().filter(|(_, segment)| *segment <= end).map(|(second, _)| *second).fold(0.0, f64::max);
    #[allow(clippy::cast_possible_truncation, reason = "seconds of this century")]
    let survived = survived as i64;
    let said = number(&report["rpo"]["last_commit"]);
    assert!(
        (said - survived).abs() <= 2,
        "the newest commit that survived is of {survived}, and the drill says {said}"
    );
    let oldest = said.min(number(&report["rpo"]["heartbeat"]));
    assert_eq!(number(&report["rpo"]["lost_s"]), began - oldest);
    assert!(report["rpo"]["counts"] == true && report["rpo"]["objective_s"] == 900);
    // The time, by the test's own clock.
    let (serve, trust) = (number(&report["rto"]["serve_s"]), number(&report["rto"]["trust_s"]));
    assert!(0 < serve && serve <= trust && trust <= took + 1, "{serve} {trust} {took}");
    let phases: i64 = report["phases"].as_array().expect("phases").iter().map(|phase| number(&phase["seconds"])).sum();
    assert_eq!(phases, number(&report["ended"]) - began, "no second is left out");
    assert!(facts.iter().any(|fact| fact["value"] == "t"), "the declared question was asked: {facts:?}");

    // Production goes on as it was, while it ran, too.
    #[allow(clippy::cast_precision_loss, reason = "seconds of this century")]
    let meanwhile = commits.iter().filter(|(second, _)| *second > began as f64).count();
    assert!(meanwhile > 20, "only {meanwhile} commits while the drill ran");
    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), started, "production was restarted");
    let new: Vec<String> = objects(&lab).into_iter().filter(|key| !there.contains(key)).collect();
    assert!(new.iter().all(|key| key.contains("/0000000100000000/")), "{new:?}");
    let limits = lab.on_server(&["systemctl", "show", "-p", "MemoryMax,MemorySwapMax", "seawall-restore@any.service"]);
    assert!(
        limits.stdout.contains("MemoryMax=402653184") && limits.stdout.contains("MemorySwapMax=0"),
        "{}",
        limits.stdout
    );
    nothing_is_left(&lab);

    // What is kept, here and for others, and for the owner only.
    let id = report["id"].as_str().expect("a name");
    for ending in ["json", "md"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = lab.path().join(format!("reports/{id}.{ending}"));
        let mode = std::fs::metadata(&path).expect("the report is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let kept = lab.aws(
        "s3",
        "get_object",
        &json!({ "Bucket": "project-chronos-backups", "Key": format!("seawall/chronos-prod/drills/{id}.json") }),
    );
    assert!(kept["ContentLength"].as_i64().is_some_and(|length| length > 1000), "{kept}");
    assert!(lab.expect(0, &["--sandbox", "drill", "list"]).stdout.contains("passed"));
    a_proof_stands_for_the_server(&lab);
    // Nothing was archived since: the same data once more proves nothing.
    let again = fails(&lab, &[], "drill-not-fresh");
    assert!(again["rto"]["serve_s"].is_number());
    lab.expect(0, &["--sandbox", "plan"]);
}

#[test]
fn what_is_broken_on_purpose_is_noticed_and_a_killed_drill_leaves_nothing() {
    let Some(lab) = Rehearsal::database("what_is_broken_on_purpose") else { return };
    beat(&lab);
    lab.archived();
    for (what, code) in [
        ("segment", "restore-wal-missing"),
        ("passphrase", "restore-fetch"),
        ("storage-class", "backup-objects-archived"),
        ("timeline", "restore-no-archive"),
    ] {
        let text = lab.run(&["--sandbox", "drill", "--yes", "--break", what]);
        let said = format!("{}{}", text.stdout, text.stderr);
        assert!(
            text.code == 1 && said.contains(code) && said.contains("as was wanted: a broken"),
            "{what}: {} {said}",
            text.code
        );
        assert!(!said.contains("not as was wanted"), "{what}: {said}");
        nothing_is_left(&lab);
    }
    // Killed without a word, while nobody looks: systemd removes what was restored.
    lab.sql("postgres", "create table large as select n, repeat(md5(n::text), 30) t from generate_series(1, 50000) n");
    lab.archived();
    let run = lab.start(&["--sandbox", "drill", "--yes"]);
    let kill = "for i in $(seq 600); do name=$(ls /etc/seawall/restores 2>/dev/null | sed -n 's/^\\(drill-.*\\)[.]conf$/\\1/p'); \
        [ -n \"$name\" ] && [ -d \"/var/lib/postgresql/seawall-restores/$name/data/base\" ] && break; sleep 0.1; done; \
        [ -n \"$name\" ] && systemctl kill --signal=KILL \"seawall-restore@$name.service\" || exit 1; \
        while systemctl is-active -q \"seawall-restore@$name.service\"; do sleep 0.1; done; \
        for i in $(seq 100); do [ -e \"/var/lib/postgresql/seawall-restores/$name/data\" ] || exit 0; sleep 0.1; done; exit 1";
    lab.on_server(&["sh", "-c", kill]);
    let ended = run.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let report =
        said.rsplit(' ').find(|word| word.trim().strip_suffix(".json").is_some()).expect("it names its report");
    let report = std::fs::read_to_string(lab.path().join(report.trim())).expect("the report is there");
    assert!(ended.status.code() == Some(1) && report.contains("\"restore-failed\""), "{:?} {report}", ended.status);
    nothing_is_left(&lab);

    // A moment that nobody chose, as soon as there is something to choose from.
    let long_enough = "stop=$(runuser -u postgres -- pgbackrest info --output=json | grep -o '\"stop\":[0-9]\\{9,\\}' | head -n 1 | cut -d : -f 2); \
        until [ $(($(date +%s) - stop)) -gt 150 ]; do sleep 1; done";
    lab.on_server(&["sh", "-c", long_enough]);
    lab.archived();
    let random = passes(&lab, &["--to", "random"]);
    assert_eq!(random["rpo"]["counts"], false);

    // Without the server: what is in the bucket and the passphrase are enough, and another passphrase is told apart.
    lab.on_server(&["systemctl", "stop", "ssh.socket", "ssh.service"]);
    lab.expect(0, &["--sandbox", "drill", "--preflight"]);
    lab.edit_inventory("cipher_pass: { env: SEAWALL_CIPHER_PASS", "cipher_pass: { env: SEAWALL_CERTIFICATE_PASS");
    let wrong = lab.expect(1, &["--sandbox", "drill", "--preflight"]);
    assert!(wrong.stderr.contains("error[preflight-passphrase]"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("for rehearsals only"), "{}", wrong.stderr);
}

#[test]
fn a_server_drills_by_itself_and_its_failures_are_heard() {
    let Some(lab) = Rehearsal::database("a_server_drills_by_itself") else { return };
    lab.edit_inventory(
        "      stanza: chronos ",
        "      drills: { schedule: \"Sun 04:00\", checks: [{ database: postgres, sql: \"select count(*) from public.t\", expect: \"3\" }] }\n      stanza: chronos ",
    );
    let first = lab.expect(2, &["--sandbox", "plan"]).stdout;
    assert!(first.contains("no drill of `db` has passed"), "{first}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let timer = lab.on_server(&["systemctl", "is-active", "seawall-drill.timer"]);
    assert_eq!(timer.stdout.trim(), "active");
    held_to(&lab, "seawall-drill.service", 60);

    lab.sql("postgres", "create table t as select generate_series(1, 3) n");
    beat(&lab);
    lab.archived();
    lab.on_server(&["systemctl", "start", "seawall-drill.service"]);
    let result = |name: &str| lab.on_server(&["cat", &format!("/var/lib/seawall/drills/{name}")]).stdout;
    let last = result("last");
    assert!(last.contains("\npassed=yes\n") && last.contains("\ncode=\n"), "{last}");
    let number = |text: &str, key: &str| -> i64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key}: {text}"))
    };
    assert_eq!(number(&last, "lost"), number(&last, "began") - number(&last, "heartbeat"));
    assert!(number(&last, "serve") > 0 && number(&last, "serve") <= number(&last, "trust"), "{last}");
    let id = last.lines().find_map(|line| line.strip_prefix("id=")).expect("it has a name");
    let history = lab.expect(0, &["--sandbox", "drill", "list"]).stdout;
    let row = history.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id} is not in {history}"));
    assert!(row.contains("by itself") && row.contains("passed"), "{history}");
    assert!(history.contains("broke segment: wal-missing"), "{history}");
    // Once a quarter one that must fail, which alerts nobody.
    let broken = result("last-broken");
    assert!(broken.contains("\nbroken=segment\n") && broken.contains("\ncode=wal-missing\n"), "{broken}");
    let alerts = "ls /var/lib/seawall/alerts 2>/dev/null | grep -e drill -e restore; true";
    assert_eq!(lab.on_server(&["sh", "-c", alerts]).stdout, "");
    nothing_is_left(&lab);
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(
        !plan.contains("drill-stale")
            && plan.contains("passed")
            && plan.contains("its last drill by the schedule passed"),
        "{plan}"
    );

    // The declared question is answered otherwise: the drill fails, and somebody hears of it.
    lab.sql("postgres", "delete from t where n = 3");
    beat(&lab);
    lab.archived();
    assert_ne!(lab.tried_on_server(&["systemctl", "start", "seawall-drill.service"]).code, 0);
    assert!(result("last").contains("\ncode=check\n"), "{}", result("last"));
    assert_eq!(result("last-broken"), broken, "it was broken in this quarter already");
    let heard = "for i in $(seq 50); do [ -s /var/lib/seawall/alerts/seawall-drill.service.jsonl ] && exit 0; sleep 0.2; done; exit 1";
    lab.on_server(&["sh", "-c", heard]);
    nothing_is_left(&lab);
    let status = lab.run(&["--sandbox", "status"]).stdout;
    assert!(status.contains("FAILED"), "{status}");

    // Without its line the timer goes.
    lab.edit_inventory("schedule: \"Sun 04:00\", ", "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let units = "ls /etc/systemd/system | grep seawall-drill; systemctl list-timers --all | grep seawall-drill; true";
    assert_eq!(lab.on_server(&["sh", "-c", units]).stdout, "");
    lab.expect(0, &["--sandbox", "plan"]);
}

#[test]
fn damage_that_nobody_has_noticed_is_found() {
    let Some(lab) = Rehearsal::database("damage_that_nobody") else { return };
    lab.sql("postgres", "create table t (n integer primary key, w text); insert into t select n, md5(n::text) from generate_series(1, 20000) n; create index broken on t (w); checkpoint");
    what_is_locked_is_not_damaged(&lab);
    let file = lab.sql("postgres", "select pg_relation_filepath('broken')");
    let damage = |checksums: &str| {
        let text = "systemctl stop postgresql@15-main && $1 && \
            dd if=/dev/urandom of=/var/lib/postgresql/15/main/$0 bs=8192 seek=3 count=1 conv=notrunc status=none && systemctl start postgresql@15-main";
        let text = text.replace("$1", checksums);
        lab.on_server(&["sh", "-c", &text, &file]);
        lab.on_server(&["systemctl", "start", "seawall-backup@full.service"]);
        beat(&lab);
        lab.archived();
    };
    // pgBackRest sees it and says nothing that anybody would read.
    damage("true");
    fails(&lab, &[], "backup-with-errors");
    // Without checksums nobody sees it but the drill, which reads every index.
    damage(
        "runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_checksums --disable -D /var/lib/postgresql/15/main >/dev/null",
    );
    let report = fails(&lab, &[], "restore-damaged");
    assert!(report["misses"][0]["message"].as_str().is_some_and(|why| why.contains("broken")), "{report:#}");
    nothing_is_left(&lab);
}

/// A lock that was held at the moment of the target comes back with it: the drill ends within its limits and says so, and a copy of
/// that moment can be had.
fn what_is_locked_is_not_damaged(lab: &Rehearsal) {
    lab.edit_inventory("settings: { work_mem: 8MB }", "settings: { work_mem: 8MB, max_prepared_transactions: 4 }");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.sql("postgres", "create table held as select 1 as n");
    let prepared = "begin; lock table held in access exclusive mode; prepare transaction 'nobody''s'";
    lab.sql("postgres", prepared);
    lab.sql("postgres", "select pg_create_restore_point('while_it_is_held')");
    beat(lab);
    lab.archived();
    let begun = Instant::now();
    let report = fails(lab, &[], "restore-not-verified");
    assert!(begun.elapsed().as_secs() < 300, "it waited for {} s", begun.elapsed().as_secs());
    let why = report["misses"].to_string();
    assert!(why.contains("held") && why.contains("canceling statement due to lock timeout"), "{why}");
    let point = ["--sandbox", "restore", "--to", "name:while_it_is_held", "--name", "point", "--yes"];
    let said = lab.expect(0, &point);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("nobody's in database postgres since"), "{said:?}");
    lab.expect(0, &["--sandbox", "restore", "drop", "point"]);
    lab.sql("postgres", "rollback prepared 'nobody''s'");
    lab.sql("postgres", "drop table held");
    beat(lab);
    lab.archived();
    passes(lab, &[]);
}
