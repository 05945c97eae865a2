//! Hostile input on a real host: what somebody writes into a plan, a secret or a statement gets nobody further.

use std::collections::BTreeMap;

use seawall::engine::file::PlanFile;
use seawall::plan::Plan;
use seawall::plan::step::{HostStep, Steps};

use crate::support::rehearsal::Rehearsal;

/// What a forged plan would leave on the server if it ran.
const TRACE: &str = "/run/forged-plan";

/// A step under the name of a harmless one.
fn inserted() -> HostStep {
    HostStep::Run {
        argv: ["sh", "-c", &format!("id >{TRACE}")].map(str::to_owned).into(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s: 60,
        revert: None,
        what: "reload ssh.service".to_owned(),
    }
}

/// Somebody who can write to the folder of plans inserts a step under a harmless name and makes the digest fit.
#[test]
fn a_forged_plan_runs_nothing_and_shows_what_it_would() {
    let Some(lab) = Rehearsal::base("a_forged_plan_runs_nothing_and_shows_what_it_would") else { return };
    lab.on_server(&["sysctl", "-qw", "net.ipv4.tcp_syncookies=0"]);
    let honest = lab.path().join("plans/honest.json");
    lab.expect(2, &["--sandbox", "plan", "--out", &honest.display().to_string()]);
    let PlanFile { header, plan, .. } = PlanFile::read(&honest).expect("a saved plan");
    let forge = |name: &str, change: &dyn Fn(&mut Vec<HostStep>)| {
        let mut plan: Plan = plan.clone();
        let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.changes).find_map(|change| {
            let Steps::Host(steps) = &mut change.steps else { return None };
            Some(steps)
        });
        change(steps.expect("a change on the host"));
        let path = lab.path().join("plans").join(name);
        PlanFile::new(header.clone(), plan).save(&path).expect("there is none of this name");
        path.display().to_string()
    };
    let last = |steps: &mut Vec<HostStep>| steps.insert(steps.len() - 1, inserted());
    let instead = |steps: &mut Vec<HostStep>| steps[0] = inserted();
    for forged in [forge("last.json", &last), forge("instead.json", &instead)] {
        let shown = lab.expect(0, &["show", "-v", &forged]).stdout;
        assert!(shown.contains(&format!("argv: sh -c 'id >{TRACE}'")), "{shown}");
        let refused = lab.expect(4, &["--sandbox", "apply", &forged]);
        assert!(refused.stderr.contains("error[plan-differs]") && refused.stderr.contains(TRACE), "{}", refused.stderr);
        lab.on_server(&["test", "!", "-e", TRACE]);
    }
    // Refusing does not use a plan up, and the honest one does what it shows.
    lab.expect(0, &["--sandbox", "apply", &honest.display().to_string()]);
    lab.expect(0, &["--sandbox", "plan"]);
    lab.on_server(&["test", "!", "-e", TRACE]);
}

/// The password of `app` as the rehearsals have it, and where its verifier must not be found.
const VERIFIERS: &str = "select count(*) from pg_stat_statements where query ~* 'scram-sha-256'";

/// What members of `pg_monitor` can read holds no verifier of a password, and sudo's log none of what was sent.
#[test]
fn nobody_reads_a_password_beside_the_way_that_it_takes() {
    let Some(lab) = Rehearsal::database("nobody_reads_a_password_beside_the_way_that_it_takes") else { return };
    let extension = lab.sql("chronos_db", "select count(*) from pg_extension where extname = 'pg_stat_statements'");
    assert_eq!(extension, "1", "the worked example has it");
    lab.sql("chronos_db", "select pg_stat_statements_reset()");
    lab.sql("postgres", "alter role app password 'another one'; alter role readonly password 'another one'");
    lab.sql("chronos_db", "select pg_stat_statements_reset()");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(lab.sql("chronos_db", VERIFIERS), "0");
    // The view works, and would have shown one.
    lab.sql("postgres", "alter role app password 'SCRAM-SHA-256$4096:x'");
    assert_eq!(lab.sql("chronos_db", VERIFIERS), "1");

    daemons_keep_no_secret(&lab);

    let log = "printf 'Defaults log_input\\n' >/etc/sudoers.d/zz-log && chmod 440 /etc/sudoers.d/zz-log";
    lab.on_server(&["sh", "-c", log]);
    let refused = lab.expect(1, &["--sandbox", "apply", "--yes"]);
    assert!(refused.stdout.contains("sudo on") || refused.stderr.contains("sudo on"), "{refused:?}");
    let kept = |count: &str| {
        let script = format!("find /var/log/sudo-io -name stdin {count}; true");
        lab.on_server(&["sh", "-c", &script]).stdout.trim().to_owned()
    };
    assert_ne!(kept("| wc -l"), "0", "sudo writes down what is sent");
    let secret = "-exec zcat -f -- {} + | grep -acF 'SCRAM-SHA-256$4096:'";
    assert_eq!(kept(secret), "0", "sudo wrote down a verifier");
    lab.on_server(&["rm", "/etc/sudoers.d/zz-log"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
}

/// A passphrase of two lines would be one line of passphrase and one of somebody's choice. All bad secrets are told at once,
/// before anything is changed.
#[test]
fn secrets_that_are_no_lines_change_nothing() {
    let test = "secrets_that_are_no_lines_change_nothing";
    let Some(lab) = Rehearsal::begin_with_database(test) else { return };
    lab.expect(0, &["sandbox", "up"]);
    let apply = |pass: &str, app: &str| {
        let mut command = lab.command(&["--sandbox", "apply", "--yes"]);
        command.env("SEAWALL_CIPHER_PASS", pass).env("CHRONOS_APP_PASSWORD", app);
        crate::support::rehearsal::Ended::from(command.output().expect("the binary runs"))
    };
    let hostile = "the first line of a passphrase\nrepo1-storage-verify-tls=n";
    for (pass, app, problems) in [
        (hostile, "password of app", 1),
        ("too short", "password of app", 1),
        (hostile, "password of app\r", 2),
        (" outer Kp2-Xq7-passphrase ", "a\tb", 2),
    ] {
        let refused = apply(pass, app);
        assert_eq!(refused.code, 1, "{refused:?}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert_eq!(said.matches("error[secret-form]").count(), problems, "{said}");
        assert!(said.contains("nothing was changed") && said.contains("cipher_pass"), "{said}");
        for piece in ["the first line", "storage-verify", "Kp2-Xq7"] {
            assert!(!said.contains(piece), "{piece:?} is shown: {said}");
        }
    }
    let bucket = serde_json::json!({ "Bucket": "project-chronos-backups" });
    assert_ne!(lab.outsider(None, "s3", "head_bucket", &bucket).code, 0, "a refused apply made the bucket");
    assert!(lab.journals().is_empty(), "a refused apply began");
}

/// What the daemon of a lab and everything that it began have in their environment.
fn daemons_keep_no_secret(lab: &Rehearsal) {
    let text = std::fs::read_to_string(lab.path().join(".seawall/sandbox/state.json")).expect("the daemon runs");
    let running: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let daemon = running["process"]["pid"].as_u64().expect("a pid");
    let parents: BTreeMap<u64, u64> = std::fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u64| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family = vec![daemon];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    assert!(family.len() > 3, "the daemon, the emulator and a host: {family:?}");
    for pid in family {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let environment = String::from_utf8_lossy(&environment);
        for secret in ["SEAWALL_CIPHER_PASS", "CHRONOS_APP_PASSWORD", "password of app"] {
            assert!(!environment.contains(secret), "process {pid} keeps {secret}");
        }
    }
}

/// A repository that brings a lab of its own: hosts with programs of its choice would run as root on this computer.
#[test]
fn a_sandbox_that_came_with_a_repository_is_not_started() {
    let Some(lab) = Rehearsal::begin("a_sandbox_that_came_with_a_repository_is_not_started") else { return };
    let brought = lab.path().join(".seawall/sandbox");
    std::fs::create_dir_all(brought.join("machines/hosts/db/upper")).expect("a folder");
    std::fs::write(brought.join("machines/lab.json"), "{}").expect("a file");
    for command in [&["sandbox", "up"][..], &["--sandbox", "plan"]] {
        let refused = lab.expect(1, command);
        assert!(refused.stderr.contains("was not made by this user"), "{}", refused.stderr);
    }
    lab.expect(0, &["sandbox", "down", "--wipe"]);
}
