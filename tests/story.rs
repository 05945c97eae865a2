//! The story of the demo and the bad luck of real nights, on a local cloud with a real Debian server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::rehearsal::Rehearsal;
use seawall::base::secret::Secret;
use seawall::engine::propose::{Intent, propose};
use seawall::engine::refresh::refresh;
use seawall::engine::resolve::resolve;
use seawall::engine::snapshot::Scope;
use seawall::inventory;
use seawall::reach::aws::{Aws, Connection};
use seawall::reach::look::Look;
use seawall::reach::ssh::session::Ssh;
use seawall::reach::world::World;
use serde_json::{Value, json};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(3);

/// Waits for a condition; never for time.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come true within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn plan_apply_tamper_drift_heal_destroy() {
    let Some(lab) = Rehearsal::begin("plan_apply_tamper_drift_heal_destroy") else { return };
    lab.expect(0, &["sandbox", "up"]);

    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("lightsail.instance/db"), "{}", plan.stdout);
    assert!(plan.stdout.contains("host.sysctl/db"), "a new server's own resources are in the plan: {}", plan.stdout);
    assert!(plan.stdout.contains("/etc/sysctl.d/60-seawall.conf"), "files are shown in full: {}", plan.stdout);

    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    // Alarms that nobody hears are not well: said first, beside each verdict, and with the exit code of those who look.
    let second = lab.expect(2, &["--sandbox", "plan"]);
    assert!(second.stdout.contains("No changes, but 1 thing is not well: "), "{}", second.stdout);
    assert!(second.stdout.contains("nobody hears of any alarm"), "{}", second.stdout);
    let applied = lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert!(applied.stdout.contains("No changes, but 1 thing is not well: "), "{}", applied.stdout);
    let drift = lab.expect(2, &["--sandbox", "drift"]);
    assert!(drift.stdout.contains("No drift, but 1 thing is not well: "), "{}", drift.stdout);
    let status = lab.expect(2, &["--sandbox", "status"]);
    assert!(status.stdout.contains("All is as wanted, but not all is well: "), "{}", status.stdout);

    one_session_and_one_program_per_host(&lab);

    lab.somebody_reads_alerts();
    lab.expect(0, &["--sandbox", "drift"]);
    let confirmed = lab.expect(0, &["--sandbox", "plan"]);
    assert!(!confirmed.stdout.contains("confirm"), "{}", confirmed.stdout);

    a_list_that_shuts_us_out_is_refused(&lab);
    lost_tags_are_no_silence(&lab);
    what_leaves_the_inventory_is_removed(&lab);

    let refused = lab.expect(3, &["--sandbox", "destroy", "--yes"]);
    assert!(refused.stdout.contains("protected") && refused.stdout.contains("data-unproven"), "{}", refused.stdout);
    lab.expect(0, &["--sandbox", "destroy", "--yes", "--keep-protected", "--lose-data", "lightsail.instance/db"]);
    let after = lab.expect(2, &["--sandbox", "plan", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&after.stdout).expect("JSON on stdout");
    let text = plan.to_string();
    assert!(text.contains("lightsail.instance/db"), "it would be made anew: {text}");
}

/// What a plan costs on a host: one login, one program, whatever the number of resources.
fn one_session_and_one_program_per_host(lab: &Rehearsal) {
    let status = lab.status();
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
    let secret = std::fs::read_to_string(text("/credentials/secret_access_key_file")).expect("the sandbox's secret");
    let connection = Connection {
        buckets: std::collections::BTreeMap::new(),
        region: text("/region"),
        account: text("/account"),
        endpoint: Some(text("/endpoint")),
        ca_file: Some(text("/ca_file").into()),
        credentials: Some((text("/credentials/access_key_id"), Secret::new(secret.trim().to_owned()))),
    };
    let inventory = inventory::load::load(&lab.inventory_path()).inventory.expect("the inventory is right");
    let resolved = resolve(&inventory).expect("the inventory resolves");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let aws = Aws::connect(&connection).await.expect("a connection");
        let ssh = Arc::new(Ssh::new(Some(text("/hosts/0/key_file").into()), None));
        let world = World { aws, ssh: Arc::clone(&ssh) };
        let snapshot = refresh(&resolved, &resolved.wanted, Scope::Whole, &Look::of(&world)).await;
        let plan = propose(&resolved, &snapshot, &Intent::default(), &|_| None).plan;
        assert!(plan.is_complete(), "{:?}", plan.unknown);
        assert!(plan.unchanged.len() > 10, "{:?}", plan.unchanged);
        assert_eq!((ssh.counters.sessions(), ssh.counters.execs()), (1, 1));
        ssh.close().await;
    });
}

/// The ports are Lightsail's, and who is connected is known on the server alone.
fn a_list_that_shuts_us_out_is_refused(lab: &Rehearsal) {
    let before = lab.inventory();
    lab.edit_inventory("from: [203.0.113.0/24], why: operators", "from: [192.0.2.0/24], why: operators");
    let plan = lab.expect(3, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("error[operator-shut-out]"), "{}", plan.stdout);
    assert!(plan.stdout.contains("would be closed to 203.0.113."), "{}", plan.stdout);
    assert!(plan.stdout.contains("inventories/chronos-prod.yaml:"), "its line is named: {}", plan.stdout);
    lab.expect(3, &["--sandbox", "apply", "--yes"]);
    lab.write_inventory(&before);
    lab.expect(0, &["--sandbox", "plan"]);
}

/// A bucket without its tags is not known to be ours: nothing is done to it, and drift does not call that "no drift".
fn lost_tags_are_no_silence(lab: &Rehearsal) {
    let bucket = json!({ "Bucket": "project-chronos-backups" });
    let tags = lab.aws("s3", "get_bucket_tagging", &bucket)["TagSet"].clone();
    lab.aws("s3", "delete_bucket_tagging", &bucket);
    let drift = lab.expect(3, &["--sandbox", "drift"]);
    assert!(drift.stdout.contains("error[not-ours]: `s3.bucket/backups`"), "{}", drift.stdout);
    assert!(!drift.stdout.contains("No drift") && drift.stdout.contains("cannot be applied"), "{}", drift.stdout);
    let json = lab.expect(3, &["--sandbox", "drift", "--format", "json"]);
    assert!(json.stdout.contains("not-ours"), "{}", json.stdout);
    lab.aws("s3", "put_bucket_tagging", &with(&bucket, "Tagging", &json!({ "TagSet": tags })));
    lab.expect(0, &["--sandbox", "drift"]);
}

/// What leaves the inventory leaves the world, in the cloud and on the host; what nobody declared was never ours.
fn what_leaves_the_inventory_is_removed(lab: &Rehearsal) {
    let before = lab.inventory();
    let (kept, alarm) = before.split_once("\nalarms:").expect("the example has alarms");
    lab.write_inventory(kept);
    lab.edit_inventory("    updates:", "    # updates:");
    lab.on_server(&["sh", "-c", "echo mine > /etc/sysctl.d/10-mine.conf"]);

    let plan = lab.expect(2, &["--sandbox", "plan"]);
    for gone in ["- cloudwatch.alarm/repository-size", "- host.updates/db"] {
        assert!(plan.stdout.contains(gone), "{gone} is missing: {}", plan.stdout);
    }
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    let alarms = lab.aws("cloudwatch", "describe_alarms", &json!({}));
    assert_eq!(alarms["MetricAlarms"], json!([]), "after {} bytes of alarms left", alarm.len());
    assert_eq!(lab.on_server(&["cat", "/etc/sysctl.d/10-mine.conf"]).stdout, "mine\n");

    lab.write_inventory(&before);
    lab.expect(2, &["--sandbox", "plan"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
}

#[test]
fn saved_plans_are_applied_exactly_and_once() {
    let Some(lab) = Rehearsal::begin("saved_plans_are_applied_exactly_and_once") else { return };
    lab.expect(0, &["sandbox", "up"]);
    let save = |name: &str| {
        let path = format!("plans/{name}.json");
        lab.expect(2, &["--sandbox", "plan", "--only", "s3.bucket/backups", "--out", &path]);
        path
    };
    let refused = |code: i32, plan: &str, because: &str| {
        let ended = lab.expect(code, &["--sandbox", "apply", plan]);
        assert!(ended.stderr.contains(&format!("error[{because}]")), "{because}: {}", ended.stderr);
        assert!(ended.stderr.contains("nothing was changed"), "{because}: {}", ended.stderr);
        ended.stderr
    };
    let bucket = json!({ "Bucket": "project-chronos-backups" });

    let first = save("first");
    assert!(lab.expect(0, &["show", &first]).stdout.contains("s3.bucket/backups"));
    lab.expect(1, &["--sandbox", "plan", "--only", "s3.bucket/backups", "--out", &first]);

    // Cut short, edited, from the future, and made for AWS: each is told from the others, and none does anything.
    let text = std::fs::read_to_string(lab.path().join(&first)).expect("the saved plan");
    let variants = [
        ("cut", text[..text.len() / 2].to_owned(), 1, "plan-damaged"),
        ("edited", text.replace("\"noncurrent_days\": 30", "\"noncurrent_days\": 1"), 1, "plan-edited"),
        ("newer", text.replace("seawall.plan/2", "seawall.plan/3"), 1, "plan-format"),
    ];
    for (name, variant, code, because) in variants {
        assert_ne!(variant, text, "{name} is the same plan");
        let path = format!("plans/{name}.json");
        std::fs::write(lab.path().join(&path), variant).expect("a broken plan is written");
        refused(code, &path, because);
    }
    let there = lab.outsider(None, "s3", "head_bucket", &bucket);
    assert_ne!(there.code, 0, "a refused plan made the bucket: {}", there.stdout);

    // Another inventory, by one letter in a comment's neighbour.
    let before = lab.inventory();
    lab.edit_inventory("noncurrent_days: 30", "noncurrent_days: 31");
    refused(4, &first, "stale-plan");
    lab.write_inventory(&before);

    lab.expect(0, &["--sandbox", "apply", &first]);
    refused(4, &first, "plan-used");

    // What a plan was made from must still be so; the message has all three sides.
    lab.aws(
        "s3",
        "put_bucket_versioning",
        &with(&bucket, "VersioningConfiguration", &json!({ "Status": "Suspended" })),
    );
    let second = save("second");
    lab.aws("s3", "delete_public_access_block", &bucket);
    let stale = refused(4, &second, "stale-plan");
    assert!(stale.contains("planned from as wanted, now"), "{stale}");
    let versioning = lab.aws("s3", "get_bucket_versioning", &bucket);
    assert_eq!(versioning["Status"], "Suspended", "a stale plan was applied in part");

    // What is done already is not done again.
    lab.expect(0, &["--sandbox", "apply", "--only", "s3.bucket/backups", "--yes"]);
    lab.expect(0, &["--sandbox", "plan", "--only", "s3.bucket/backups"]);
}

fn with(object: &Value, key: &str, value: &Value) -> Value {
    let mut object = object.clone();
    object[key] = value.clone();
    object
}

#[test]
fn a_killed_apply_converges_and_its_lock_tells_who() {
    let Some(lab) = Rehearsal::begin("a_killed_apply_converges_and_its_lock_tells_who") else { return };
    lab.expect(0, &["sandbox", "up"]);
    // Killed after ever more records, until an apply gets through before its turn comes. One that meets a server that
    // was just made and is still pending refuses to guess, and the next one goes on.
    for records in (2..400).step_by(5) {
        let before = lab.journals().len();
        let mut child = lab.start(&["--sandbox", "apply", "--yes"]);
        let mut ended = None;
        eventually("the apply reaches its record", || {
            ended = child.try_wait().expect("the child can be waited for");
            let journals = lab.journals();
            let lines = journals
                .get(before)
                .map_or(0, |path| std::fs::read_to_string(path).unwrap_or_default().lines().count());
            ended.is_some() || lines >= records
        });
        child.kill().expect("the child can be killed");
        child.wait().expect("the child ends");
        if ended.is_some_and(|status| status.success()) {
            break;
        }
    }
    let lock = lab.path().join(".seawall/sandbox-state/chronos-prod/lock.json");
    // A refused destroy is short; one of a few is caught while it holds the lock.
    let caught = (0..20).any(|_| {
        let mut child = lab.start(&["--sandbox", "destroy", "--yes"]);
        eventually("the lock is taken", || lock.exists() || child.try_wait().expect("a child").is_some());
        child.kill().expect("the child can be killed");
        child.wait().expect("the child ends");
        lock.exists()
    });
    assert!(caught, "no run was killed while it held the lock");
    let next = lab.run(&["--sandbox", "apply", "--yes"]);
    assert!(next.stderr.contains("took over the lock of tester on"), "{}", next.stderr);
    assert!(next.stderr.contains("for `seawall destroy`"), "{}", next.stderr);
    eventually("the server runs", || lab.run(&["--sandbox", "plan"]).code != 1);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.somebody_reads_alerts();
    // One that was killed before its change was proven says so, until the host has put that back.
    let undecided = || lab.run(&["--sandbox", "plan"]).stdout.contains("is not decided");
    eventually("what nobody decided is put back", || !undecided());
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
}

#[test]
fn two_applies_at_once_do_not_both_write() {
    let Some(lab) = Rehearsal::open("two_applies_at_once_do_not_both_write") else { return };
    let mut first = lab.start(&["--sandbox", "apply", "--yes"]);
    eventually("the first apply has begun", || !lab.journals().is_empty());
    let second = lab.expect(1, &["--sandbox", "apply", "--yes"]);
    assert!(second.stderr.contains("error[locked]"), "{}", second.stderr);
    assert!(second.stderr.contains("held by tester on"), "{}", second.stderr);
    let hasty = lab.expect(64, &["unlock", "--sandbox", "--reason", "?"]);
    assert!(hasty.stderr.contains("error[reason-missing]"), "{}", hasty.stderr);
    assert!(first.wait().expect("the first apply ends").success());
    lab.expect(0, &["--sandbox", "plan"]);
    let idle = lab.expect(0, &["--sandbox", "unlock", "--reason", "a look at every lock there is"]);
    for place in ["in folder .seawall/", "in s3://project-chronos-backups/seawall/", "on host `db`"] {
        assert!(idle.stderr.contains(&format!("nobody holds the lock {place}")), "{place}: {}", idle.stderr);
    }
}

/// The server's size cannot be changed in place: a new one, everything on it made anew, and what outlives it fitted to it.
#[test]
fn a_replaced_server_comes_back_whole() {
    let Some(lab) = Rehearsal::base("a_replaced_server_comes_back_whole") else { return };
    let address = || lab.aws("lightsail", "get_static_ip", &json!({ "staticIpName": "chronos-prod-db-ip" }));
    let (before, key) = (address(), lab.on_server(&["cat", "/etc/seawall/credentials"]).stdout);
    lab.edit_inventory("bundle: small_3_0 ", "bundle: medium_3_0");
    lab.edit_inventory("monthly_budget: 25 USD", "monthly_budget: 50 USD");

    let refused = lab.expect(3, &["--sandbox", "apply", "--yes"]);
    assert!(refused.stdout.contains("error[data-unproven]"), "{}", refused.stdout);
    let drift = lab.expect(2, &["--sandbox", "drift"]);
    assert!(drift.stdout.contains("0 changed behind us"), "{}", drift.stdout);
    lab.expect(0, &["--sandbox", "apply", "--yes", "--lose-data", "lightsail.instance/db"]);
    lab.expect(0, &["--sandbox", "plan"]);
    let after = address();
    assert_eq!(after["staticIp"]["ipAddress"], before["staticIp"]["ipAddress"], "the address stays");
    assert_eq!(after["staticIp"]["isAttached"], true);
    let new_key = lab.on_server(&["cat", "/etc/seawall/credentials"]).stdout;
    assert_ne!(new_key, key, "the old key is nobody's any more");
    let keys = lab.aws("iam", "list_access_keys", &json!({ "UserName": "chronos-prod-repository" }));
    assert_eq!(keys["AccessKeyMetadata"].as_array().map(Vec::len), Some(1), "{keys}");
}

#[test]
fn a_changed_host_key_is_not_talked_to() {
    let Some(lab) = Rehearsal::base("a_changed_host_key_is_not_talked_to") else { return };
    lab.on_server(&["sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh"]);
    let plan = lab.expect(1, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("host key"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("No changes"), "{}", plan.stdout);
}
