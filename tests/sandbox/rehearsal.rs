//! A rebuild on a fresh instance beside a server that works: it measures, touches nothing, and leaves nothing, however it ends.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::sandbox::restore::objects;
use crate::support::rehearsal::Rehearsal;

/// Two clients that write until they are stopped.
const WRITERS: &str = r#"for client in 1 2; do
    (
        n=0
        while [ ! -e /tmp/enough ]; do
            n=$((n + 1))
            runuser -u postgres -- psql -h /var/run/postgresql -XAtq -d chronos_db -c "insert into load values ($client, $n)"
        done
    ) >/dev/null 2>&1 &
done"#;
/// All rows up to the fiftieth of each client, in one word.
const ROWS: &str = "select md5(string_agg(client || ' ' || n, ',' order by client, n)) from public.load where n <= 50";
/// What a fresh instance of this server is named after.
const FRESH: &str = "chronos-prod-db-drill-";

/// Names of everything that a drill could make, or take away.
fn standing(lab: &Rehearsal) -> BTreeSet<String> {
    let names = |service: &str, call: &str, list: &str, name: &str| {
        let found = lab.aws(service, call, &json!({}));
        let names = found[list].as_array().into_iter().flatten().map(|one| one[name].as_str().unwrap_or_default());
        names.map(|name| format!("{list} {name}")).collect::<Vec<_>>()
    };
    let mut all = names("lightsail", "get_instances", "instances", "name");
    all.extend(names("lightsail", "get_key_pairs", "keyPairs", "name"));
    all.extend(names("lightsail", "get_static_ips", "staticIps", "name"));
    all.extend(names("iam", "list_users", "Users", "UserName"));
    all.into_iter().collect()
}

fn keys(lab: &Rehearsal) -> Vec<Value> {
    let of = |user: &str| lab.aws("iam", "list_access_keys", &json!({ "UserName": user }))["AccessKeyMetadata"].clone();
    ["chronos-prod-db-backup", "chronos-prod-db-restore"].map(of).to_vec()
}

/// Starts a command, and waits until it says that a part begins.
fn until(lab: &Rehearsal, args: &[&str], part: &str) -> (Child, std::thread::JoinHandle<String>) {
    let mut child = lab.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut said = String::new();
    let begun = lines.by_ref().any(|line| {
        said.push_str(&line);
        said.push('\n');
        line.contains(part)
    });
    assert!(begun, "`{part}` was not begun:\n{said}");
    let rest = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
    (child, rest)
}

#[test]
fn a_rebuild_is_rehearsed_beside_production_and_leaves_nothing() {
    let Some(lab) = Rehearsal::database("a_rebuild_is_rehearsed") else { return };
    lab.sql("chronos_db", "create table load (client integer, n integer, primary key (client, n))");
    lab.on_server(&["sh", "-c", WRITERS]);
    let enough = "until [ \"$(runuser -u postgres -- psql -XAtqd chronos_db -c 'select min(m) from (select max(n) m from load group by client) l')\" -gt 60 ]; do sleep 0.2; done";
    lab.on_server(&["sh", "-c", enough]);
    lab.edit_inventory(
        "      stanza: chronos ",
        &format!(
            "      drills: {{ checks: [{{ database: chronos_db, sql: \"{ROWS}\", expect: \"{}\" }}] }}\n      stanza: chronos ",
            lab.sql("chronos_db", ROWS)
        ),
    );
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
    lab.archived();
    let (before, own_keys, there) = (standing(&lab), keys(&lab), objects(&lab));
    let started = lab.sql("postgres", "select pg_postmaster_start_time()");

    killed_in_the_middle_it_is_found_and_nothing_else(&lab, &before);
    interrupted_it_is_gone(&lab, &before);

    let written = lab.sql("chronos_db", "select count(*) from load").parse::<u64>().expect("a number");
    let ended = lab.run(&["--sandbox", "--format", "json", "drill", "--fresh", "--yes"]);
    assert!(ended.stderr.contains("USD for each hour that begins"), "the price comes first: {}", ended.stderr);
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr));
    let report = &report["drill"];
    assert!(ended.code == 0 && report["passed"] == true, "{report:#}\n{}", ended.stderr);
    assert_eq!(report["scenario"], "fresh");
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("no number: {report:#}"));
    let (serve, trust) = (number(&report["rto"]["serve_s"]), number(&report["rto"]["trust_s"]));
    assert!(0 < serve && serve <= trust, "{serve} {trust}");
    let phases: i64 = report["phases"].as_array().expect("phases").iter().map(|phase| number(&phase["seconds"])).sum();
    assert_eq!(phases, number(&report["ended"]) - number(&report["began"]), "no second is left out");
    let facts = report["verification"].as_array().expect("facts");
    assert!(facts.iter().any(|fact| fact["value"] == lab.sql("chronos_db", ROWS)), "the rows are the same: {facts:?}");
    assert!(facts.iter().any(|fact| fact["name"] == "checksums"), "{facts:?}");
    // An hour of this bundle.
    assert_eq!(number(&report["cost_millicents"]), 1_613);
    assert_eq!(report["cleanup"]["proven"], true);
    let id = report["id"].as_str().expect("a name");

    // Production has gone on as it was, and nobody else has written into its repository.
    let meanwhile = lab.sql("chronos_db", "select count(*) from load").parse::<u64>().expect("a number") - written;
    assert!(meanwhile > 100, "only {meanwhile} rows while it ran");
    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), started, "production was restarted");
    assert_eq!(
        (standing(&lab), keys(&lab)),
        (before, own_keys),
        "nothing is left, and no key of the live server has changed"
    );
    let address = lab.aws("lightsail", "get_static_ip", &json!({ "staticIpName": "chronos-prod-db-ip" }));
    assert_eq!(address["staticIp"]["attachedTo"], "chronos-prod-db");
    lab.archived();
    let new: Vec<String> =
        objects(&lab).into_iter().filter(|key| !there.contains(key) && key.starts_with("chronos/")).collect();
    assert!(!new.is_empty() && new.iter().all(|key| key.contains("/0000000100000000/")), "{new:?}");

    // What is known of it afterwards.
    let list = lab.expect(0, &["--sandbox", "drill", "list"]).stdout;
    assert!(list.contains(id) && list.contains("fresh") && list.contains("passed"), "{list}");
    lab.on_server(&["touch", "/tmp/enough"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains(&format!("{serve} s on a fresh instance, without fence and address")), "{plan}");
    assert!(!plan.contains(FRESH), "{plan}");
}

/// SIGKILL while it restores: nothing removes it but `gc`, which takes it and nothing else, whatever tags others have.
fn killed_in_the_middle_it_is_found_and_nothing_else(lab: &Rehearsal, before: &BTreeSet<String>) {
    let (mut child, rest) =
        until(lab, &["--sandbox", "rebuild", "--rehearse", "--yes"], "the backup, and the WAL after it");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let _ = rest.join();
    let left: Vec<String> = standing(lab).difference(before).cloned().collect();
    assert_eq!(left.len(), 3, "an instance, its key pair and its identity: {left:?}");
    assert!(left.iter().all(|name| name.contains(FRESH)), "{left:?}");

    // Tags alone make nothing throw-away: neither the live server, nor its identity, nor somebody else's.
    let tags = |key: &str, value: &str| json!([{ key: "seawall:purpose", value: "throw-away" }, { key: "seawall:expires", value: "2020-01-01T00:00:00Z" }]);
    lab.aws("lightsail", "tag_resource", &json!({ "resourceName": "chronos-prod-db", "tags": tags("key", "value") }));
    lab.aws("iam", "tag_user", &json!({ "UserName": "chronos-prod-db-restore", "Tags": tags("Key", "Value") }));
    let other = "chronos-prod-db-drill-20200101-000000-restore";
    lab.aws("iam", "create_user", &json!({ "UserName": other, "Tags": tags("Key", "Value") }));
    let mut others = before.clone();
    others.insert(format!("Users {other}"));

    let plan = lab.run(&["--sandbox", "plan"]).stdout;
    assert!(plan.contains(FRESH) && plan.contains("seawall drill gc --all"), "{plan}");
    let status = lab.run(&["--sandbox", "status"]).stdout;
    assert!(status.contains(FRESH) && status.contains("seawall drill gc --all"), "{status}");
    // No apply takes away what a drill may be using.
    let kept = lab.expect(0, &["--sandbox", "drill", "gc", "--yes"]);
    assert!(kept.stderr.contains("--all removes it, too"), "{}", kept.stderr);
    lab.run(&["--sandbox", "apply", "--yes"]);
    assert!(standing(lab).is_superset(&left.into_iter().collect()));

    lab.expect(0, &["--sandbox", "drill", "gc", "--all", "--yes"]);
    assert_eq!(standing(lab), others);
    lab.expect(0, &["--sandbox", "drill", "gc", "--all", "--yes"]);
    assert_eq!(standing(lab), others, "the second run removes nothing");

    let marks = ["seawall:purpose", "seawall:expires"];
    lab.aws("lightsail", "untag_resource", &json!({ "resourceName": "chronos-prod-db", "tagKeys": marks }));
    lab.aws("iam", "untag_user", &json!({ "UserName": "chronos-prod-db-restore", "TagKeys": marks }));
    lab.aws("iam", "delete_user", &json!({ "UserName": other }));
}

/// Ended by somebody: what it made goes before it does.
fn interrupted_it_is_gone(lab: &Rehearsal, before: &BTreeSet<String>) {
    let (mut child, rest) = until(lab, &["--sandbox", "drill", "--fresh", "--yes"], "a fresh instance");
    let begun = std::time::Instant::now();
    while standing(lab) == *before {
        assert!(begun.elapsed().as_secs() < 120, "nothing was made");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs").success());
    let status = child.wait().expect("it ends");
    let said = rest.join().expect("it was read");
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("nothing of it is there"), "{said}");
    assert_eq!(standing(lab), *before);
}
