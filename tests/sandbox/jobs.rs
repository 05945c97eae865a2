//! Scheduled commands on a real Debian server: they run, and a failure is recorded and shown.

use std::time::{Duration, Instant};

use super::attacks_paths::held_to;
use super::attacks_services::{Ground, nobody_leads_root_elsewhere_in};
use crate::support::rehearsal::{Rehearsal, Tampering, tampering};

/// How long systemd may take to run a job and what records its failure; the machine is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Words that a shell, systemd's quotes, its specifiers and its variables would each change. What arrives is printed.
const JOBS: &str = r#"jobs:
      ingest:
        run: /opt/ingest 'a b' '$HOME %n %%' "q\"uote" --x=50% ';' '\n' ''
        schedule: Mon..Sat 06:00
        user: chronos
        timeout: 90m
        environment: { MODE: 'fast "x" 100% $Y \z' }
        secrets: { TOKEN: { file: token } }
      report: { run: /bin/true, schedule: "hourly :15", user: admin }
"#;
const TOKEN: &str = r#"s3cr"et $x \y %n"#;
const PROGRAM: &str = r#"#!/bin/sh
if [ -e /srv/broken ]; then echo 'the "source" is \ gone' >&2; exit 3; fi
printf '%s|' "$MODE" "$TOKEN" "$@" >~/arrived
"#;
const ARRIVED: &str = r#"fast "x" 100% $Y \z|s3cr"et $x \y %n|a b|$HOME %n %%|q"uote|--x=50%|;|\n||"#;

/// What is done to the jobs of the server; `tamper.rs` does it.
pub(super) const TAMPERINGS: [Tampering; 12] = [
    of_jobs(
        "systemctl stop seawall-job-ingest.timer",
    ),
    of_jobs(
        "systemctl disable seawall-job-ingest.timer",
    ),
    of_jobs(
        "ln -sf /dev/null /etc/systemd/system/seawall-job-ingest.timer; systemctl daemon-reload",
    ),
    of_jobs(
        "ln -sf /dev/null /etc/systemd/system/seawall-job-ingest.service",
    ),
    of_jobs(
        "sed -i s/^User=.*/User=root/ /etc/systemd/system/seawall-job-ingest.service; systemctl daemon-reload",
    ),
    // The file is as it was, and what is loaded is not.
    of_jobs(
        "cd /etc/systemd/system; cp -p seawall-job-ingest.service /root/kept; sed -i s/^User=.*/User=root/ seawall-job-ingest.service;
     systemctl daemon-reload; cp -p /root/kept seawall-job-ingest.service; touch -d @1 seawall-job-ingest.service",
    ),
    of_jobs(
        "mkdir -p /etc/systemd/system/seawall-job-ingest.service.d;
     printf '[Service]\\nUser=root\\n' >/etc/systemd/system/seawall-job-ingest.service.d/x.conf; systemctl daemon-reload",
    ),
    of_jobs(
        "mkdir -p /run/systemd/system/seawall-job-ingest.timer.d;
     printf '[Timer]\\nOnCalendar=*:0/1\\n' >/run/systemd/system/seawall-job-ingest.timer.d/x.conf",
    ),
    of_jobs(
        "rm /etc/systemd/system/seawall-job-report.*",
    ),
    of_jobs(
        "chmod 644 /etc/seawall/jobs/ingest.env",
    ),
    of_jobs(
        "echo \"EXTRA='1'\" >>/etc/seawall/jobs/ingest.env",
    ),
    of_jobs(
        "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/seawall-job-old.service",
    ),
];

const fn of_jobs(command: &'static str) -> Tampering {
    tampering("host.jobs/db", command)
}

#[test]
fn jobs_run_and_their_failures_are_shown() {
    let Some(lab) = Rehearsal::base("jobs_run_and_their_failures_are_shown") else { return };
    declared(&lab);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes, but 2 things are not well"), "{}", plan.stdout);
    assert!(plan.stdout.contains("job `ingest` runs as `chronos`, and there is no such user"), "{}", plan.stdout);
    assert!(plan.stdout.contains("job `ingest` runs `/opt/ingest`, which is not there"), "{}", plan.stdout);

    there(&lab);
    held_to(&lab, "seawall-job-ingest.service", 60);
    lab.on_server(&["systemctl", "start", "seawall-job-ingest.service"]);
    assert_eq!(lab.on_server(&["cat", "/home/chronos/arrived"]).stdout, ARRIVED);
    let owner = lab.on_server(&["stat", "-c", "%U", "/home/chronos/arrived"]);
    assert_eq!(owner.stdout.trim(), "chronos");
    assert!(!shown(&lab, 0).contains("job `"), "nothing is wrong any more");

    let ground = Ground { folder: "/etc/seawall/jobs", file: "ingest.env", user: "chronos" };
    nobody_leads_root_elsewhere_in(&lab, &ground);
    a_failure_is_shown_until_a_run_succeeds(&lab);
    the_timer_runs_a_job_that_was_missed(&lab);
    somebody_elses_drop_in_is_named_and_kept(&lab);
    what_is_not_declared_any_more_goes(&lab);
}

/// Puts the jobs into the inventory.
pub(super) fn declared(lab: &Rehearsal) {
    lab.edit_inventory("    swap: { size_mib: 1024 }", &format!("    {JOBS}\n    swap: {{ size_mib: 1024 }}"));
    lab.write_secret("token", TOKEN);
}

/// Whom the job runs as, and what it runs.
pub(super) fn there(lab: &Rehearsal) {
    lab.on_server(&["useradd", "--create-home", "chronos"]);
    lab.on_server(&["sh", "-c", "printf %s \"$1\" >/opt/ingest && chmod 755 /opt/ingest", "sh", PROGRAM]);
}

/// What `status` shows, and its exit code: 2 beside what is broken.
#[track_caller]
fn shown(lab: &Rehearsal, code: i32) -> String {
    lab.expect(code, &["--sandbox", "status"]).stdout
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_failure_is_shown_until_a_run_succeeds(lab: &Rehearsal) {
    lab.on_server(&["touch", "/srv/broken"]);
    lab.on_server(&["sh", "-c", "systemctl start seawall-job-ingest.service; test $? = 1"]);
    let record = "/var/lib/seawall/alerts/seawall-job-ingest.service.jsonl";
    until("a failure is recorded", || {
        lab.on_server(&["sh", "-c", "cat \"$1\" 2>/dev/null; true", "sh", record]).stdout.contains("exit-code")
    });
    let line = lab.on_server(&["cat", record]).stdout;
    let read: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!((&read["result"], &read["status"]), (&"exit-code".into(), &"3".into()), "{line}");
    assert_eq!(read["lines"], serde_json::json!(["the \"source\" is \\ gone"]));
    let status = shown(lab, 2);
    assert!(
        status.contains("job `ingest` failed ") && status.contains(r#"ago, status 3: the "source" is \ gone"#),
        "{status}"
    );
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(
        plan.stdout.contains("No changes, but 1 thing is not well"),
        "a failed run is no difference: {}",
        plan.stdout
    );
    lab.on_server(&["rm", "/srv/broken"]);
    lab.on_server(&["systemctl", "start", "seawall-job-ingest.service"]);
    assert!(!shown(lab, 0).contains("job `ingest` failed"), "a run has succeeded since");
}

/// The server was off when the job should have run: an old stamp is all that systemd would have of it.
fn the_timer_runs_a_job_that_was_missed(lab: &Rehearsal) {
    let stamp = "/var/lib/systemd/timers/stamp-seawall-job-ingest.timer";
    lab.on_server(&[
        "sh",
        "-c",
        "systemctl stop seawall-job-ingest.timer; rm /home/chronos/arrived; touch -d '9 days ago' \"$1\"",
        "sh",
        stamp,
    ]);
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    assert!(drift.contains("job `ingest` has not run for 9 d, and should run every 2 d at least"), "{drift}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    until("the missed run is made up for", || {
        lab.on_server(&["sh", "-c", "cat /home/chronos/arrived; true"]).stdout == ARRIVED
    });
    assert!(!shown(lab, 0).contains("job `ingest`"), "it has run");
}

fn somebody_elses_drop_in_is_named_and_kept(lab: &Rehearsal) {
    let path = "/etc/systemd/system/service.d/limit.conf";
    let write =
        "mkdir -p /etc/systemd/system/service.d; printf '[Service]\\n%s\\n' \"$1\" >\"$2\"; systemctl daemon-reload";
    lab.on_server(&["sh", "-c", write, "sh", "CPUWeight=50", path]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains(&format!("`{path}` changes the units of jobs, too")), "{}", plan.stdout);
    lab.on_server(&["sh", "-c", write, "sh", "TimeoutStartSec=5s", path]);
    let refused = lab.expect(3, &["--sandbox", "apply", "--yes"]);
    assert!(refused.stdout.contains("job-overruled") && refused.stdout.contains(path), "{}", refused.stdout);
    lab.on_server(&["sh", "-c", "rm \"$1\"; systemctl daemon-reload", "sh", path]);
    lab.expect(0, &["--sandbox", "plan"]);
}

fn what_is_not_declared_any_more_goes(lab: &Rehearsal) {
    let left = "find /etc/systemd/system /etc/seawall/jobs /var/lib/systemd/timers ! -type d \
                '(' -name '*seawall-job*' -o -path '*/seawall/jobs/*' ')'; \
                systemctl list-units --all --no-legend 'seawall-job-*.timer'";
    lab.edit_inventory("      report: { run: /bin/true, schedule: \"hourly :15\", user: admin }\n", "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let rest = lab.on_server(&["sh", "-c", left]).stdout;
    assert!(rest.contains("seawall-job-ingest.timer") && !rest.contains("report"), "{rest}");
    let start = lab.inventory().find("    jobs:").expect("the section is there");
    let end = lab.inventory().find("    swap:").expect("it comes after");
    let section = lab.inventory()[start..end].to_owned();
    lab.edit_inventory(&section, "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(lab.on_server(&["sh", "-c", left]).stdout, "");
    lab.expect(0, &["--sandbox", "plan"]);
}
