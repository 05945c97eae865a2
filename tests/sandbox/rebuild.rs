//! A server that is gone or lost is made anew, by somebody who never saw it, who is killed again and again.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::page::{LOST, section, typed};
use crate::support::rehearsal::Rehearsal;

/// Two clients that write down each number after the server has committed it, with the second at which that was known.
const WRITERS: &str = r#"for client in 1 2; do
    (
        n=0
        while [ ! -e /tmp/enough ]; do
            n=$((n + 1))
            runuser -u postgres -- psql -h /var/run/postgresql -XAtq -d chronos_db \
                -c "insert into load values ($client, $n) returning client || ' ' || n || ' ' || extract(epoch from clock_timestamp())" >>/tmp/acknowledged
        done
    ) >/dev/null 2>&1 &
done"#;

/// The words with which a rebuild says that a part of it begins.
const PARTS: [&str; 6] = [
    "the old server's keys",
    "a new instance",
    "the newest backup",
    "archiving begins",
    "roles, access",
    "the address moves",
];

#[test]
fn a_destroyed_server_comes_back_although_its_rebuild_is_killed_at_every_part() {
    let Some(lab) = Rehearsal::database("a_destroyed_server") else { return };
    lab.sql("chronos_db", "create table load (client integer, n integer, primary key (client, n))");
    lab.on_server(&["sh", "-c", WRITERS]);
    let beginning = Instant::now();
    // Until a segment with a part of it is in the archive; then the server is lost in the middle of writing.
    std::thread::sleep(Duration::from_secs(3));
    lab.archived();
    let archived = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let acknowledged = lab.on_server(&["cat", "/tmp/acknowledged"]).stdout;
    let old_keys = backup_keys(&lab);
    assert_eq!(old_keys.len(), 1);

    let refused = lab.run(&["--sandbox", "rebuild", "--yes"]);
    assert!(refused.code == 3 && refused.stderr.contains("rebuild-instance-there"), "{}", refused.stderr);
    lab.aws("lightsail", "delete_instance", &json!({ "instanceName": "chronos-prod-db", "forceDeleteAddOns": true }));
    let lost = Instant::now();
    gone(&lab);
    // Nothing of what this operator knew of the environment is left on his machine.
    for known in ["plans", ".seawall/sandbox-state"] {
        let _ = std::fs::remove_dir_all(lab.path().join(known));
    }

    for part in PARTS {
        killed_at(&lab, part);
    }
    let ended = lab.expect(0, &["--sandbox", "--format", "json", "rebuild", "--yes"]);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");

    // What came back is what was acknowledged, from the first number to one after which there is nothing.
    let mut newest = 0.0_f64;
    let mut kept = 0;
    let back = lab.sql("chronos_db", "select client || ' ' || n from load order by client, n");
    let back: std::collections::BTreeSet<&str> = back.lines().collect();
    for client in ["1", "2"] {
        let mut is_over = false;
        for line in acknowledged.lines().filter(|line| line.starts_with(&format!("{client} "))) {
            let mut words = line.split(' ');
            let row = format!("{client} {}", words.nth(1).expect("a number"));
            let there = back.contains(row.as_str());
            assert!(!(there && is_over), "{row} came back, and one before it did not");
            is_over |= !there;
            if there {
                kept += 1;
                newest = newest.max(words.next().and_then(|second| second.parse().ok()).expect("a second"));
            }
        }
    }
    assert!(kept > 10, "{kept} of {} rows came back", acknowledged.lines().count());
    // What was written before the switch that was archived is all there: at most the time since it is lost.
    let lost_s =
        acknowledged.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, f64::max)
            - newest;
    let window = (lost - archived).as_secs_f64() + (archived - beginning).as_secs_f64();
    assert!(lost_s <= window, "{lost_s} s of commits are lost, and {window} s went by");
    let number = |name: &str| report["rebuilt"][name].as_f64().expect("a number");
    let own = number("begun") - newest;
    let behind = number("behind_s");
    assert!((behind - own).abs() <= 2.0, "the report says {behind} s, and the rows say {own} s");
    assert!(report["rebuilt"]["took_s"].as_i64().is_some_and(|seconds| seconds < 1800), "{report}");

    // One server archives, with a key that the old one never had; the address is where clients look for it.
    let keys = backup_keys(&lab);
    assert!(keys.len() == 1 && keys != old_keys, "{old_keys:?} and {keys:?}");
    let address = lab.aws("lightsail", "get_static_ip", &json!({ "staticIpName": "chronos-prod-db-ip" }));
    assert_eq!(address["staticIp"]["attachedTo"], "chronos-prod-db");
    lab.expect(0, &["--sandbox", "plan"]);
    lab.expect(0, &["--sandbox", "backup", "list"]);
    assert_eq!(
        lab.sql("postgres", "select count(*) from pg_settings where name = 'archive_mode' and setting = 'on'"),
        "1"
    );
    let again = lab.run(&["--sandbox", "rebuild", "--yes"]);
    assert_eq!(again.code, 3, "a finished rebuild is not begun again: {}", again.stderr);
}

#[test]
fn a_server_that_is_there_and_lost_is_stopped_and_kept() {
    let Some(lab) = Rehearsal::database("a_server_that_is_there") else { return };
    // With a pool that serves the certificate, and a job: both come after the restore.
    lab.edit_inventory(
        "why: application }\n",
        "why: application }\n      - { port: 6432, from: [198.51.100.7/32], why: pooled application }\n",
    );
    lab.edit_inventory(
        "\n    sshd: {}",
        "\n    pgbouncer: { clients: 50, pool: 5 }\n    jobs: { report: { run: /bin/true, user: postgres, schedule: \"daily 05:00\" } }\n    sshd: {}",
    );
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let served = || {
        let asked = "openssl s_client -starttls postgres -connect 127.0.0.1:6432 </dev/null 2>/dev/null | openssl x509 -noout -fingerprint";
        lab.on_server(&["sh", "-c", asked]).stdout
    };
    let certificate = served();
    lab.sql("chronos_db", "create table kept (n integer); insert into kept select generate_series(1, 100)");
    lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=chronos", "check"]);
    // Lost to its operators, and still writing into the repository.
    lab.on_server(&["sh", "-c", "systemctl mask --now ssh.socket ssh.service >/dev/null 2>&1 & sleep 1"]);
    let old_keys = backup_keys(&lab);
    lab.edit_inventory("auto_snapshot: \"06:00\"", "generation: 2\n      auto_snapshot: \"06:00\"");
    // As the page for the night has it.
    let commands = section(LOST);
    let [rebuild, plan, accept] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(
        (&rebuild.words[1..], &accept.words[1..]),
        (&["rebuild".into()][..], &["rebuild".into(), "--accept".into()][..])
    );
    let ended = typed(&lab, rebuild, "");
    assert!(
        ended.stdout.contains("chronos-prod-db, stopped; `seawall rebuild --accept` deletes it"),
        "{}",
        ended.stdout
    );
    assert_eq!(lab.sql("chronos_db", "select count(*) from kept"), "100");
    assert_eq!(served(), certificate, "the pool serves the certificate that clients know");
    let instance = |name: &str| lab.aws("lightsail", "get_instance", &json!({ "instanceName": name }));
    assert_eq!(instance("chronos-prod-db")["instance"]["state"]["name"], "stopped");
    let keys = backup_keys(&lab);
    assert!(keys.len() == 1 && keys != old_keys, "{old_keys:?} and {keys:?}");
    let address = lab.aws("lightsail", "get_static_ip", &json!({ "staticIpName": "chronos-prod-db-ip" }));
    assert_eq!(address["staticIp"]["attachedTo"], "chronos-prod-db-g2");
    // What is kept is named, and no apply takes it away.
    assert!(plan.says.contains("\"No changes\""), "{plan:?}");
    let plan = typed(&lab, plan, "").stdout;
    assert!(plan.contains("chronos-prod-db"), "{plan}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(instance("chronos-prod-db")["instance"]["state"]["name"], "stopped");
    // What Lightsail would delete with it is copied first, once, and is nobody's to remove.
    lab.expect(0, &["sandbox", "snapshot"]);
    let accepted = typed(&lab, accept, "");
    assert!(
        accepted.stderr.contains("chronos-prod-db: its newest automatic snapshot, if there is one, is copied first"),
        "{accepted:?}"
    );
    gone(&lab);
    let kept = lab.aws("lightsail", "get_instance_snapshots", &json!({}))["instanceSnapshots"].clone();
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "{kept}");
    assert!(kept[0]["name"].as_str().is_some_and(|name| name.starts_with("chronos-prod-db-kept-2")), "{kept}");
    let marks = json!([
        { "key": "seawall:address", "value": "lightsail.instance/db" },
        { "key": "seawall:environment", "value": "chronos-prod" },
        { "key": "seawall:keep", "value": "protected" },
    ]);
    assert_eq!((&kept[0]["state"], &kept[0]["tags"]), (&json!("available"), &marks));
    lab.expect(0, &["--sandbox", "plan"]);
    assert_eq!(lab.sql("chronos_db", "select count(*) from kept"), "100");
}

/// Runs a rebuild until it says that a part begins, and kills it there.
fn killed_at(lab: &Rehearsal, part: &str) {
    let mut command = lab.command(&["--sandbox", "rebuild", "--yes"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        if line.contains(part) {
            child.kill().expect("it runs");
            break;
        }
    }
    let status = child.wait().expect("it ends");
    assert!(said.contains(part) && !status.success(), "`{part}` was not begun:\n{said}");
}

fn backup_keys(lab: &Rehearsal) -> Vec<String> {
    let found = lab.aws("iam", "list_access_keys", &json!({ "UserName": "chronos-prod-db-backup" }));
    let keys = found["AccessKeyMetadata"].as_array().into_iter().flatten();
    keys.map(|key| key["AccessKeyId"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until the instance is gone.
fn gone(lab: &Rehearsal) {
    let begun = Instant::now();
    while lab.outsider(None, "lightsail", "get_instance", &json!({ "instanceName": "chronos-prod-db" })).code == 0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "the instance does not go");
        std::thread::sleep(Duration::from_millis(300));
    }
}
