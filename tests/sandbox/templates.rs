//! Templates: a lab that is kept, and labs that begin from it; a template is never written to and never half there.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::support::rehearsal::Rehearsal;

/// How long a server may take to run, and its host keys to be told.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
const BUCKET: &str = "kept-with-the-template";

/// Everything in a folder, with what a write would change.
fn fingerprint(folder: &Path) -> BTreeMap<String, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let about = entry.path().symlink_metadata().expect("its metadata");
        found.insert(
            entry.path().display().to_string(),
            (about.mode(), about.size(), about.ctime(), about.ctime_nsec()),
        );
        if about.is_dir() {
            found.extend(fingerprint(&entry.path()));
        }
    }
    found
}

fn refused(lab: &Rehearsal, args: &[&str], code: &str) -> String {
    let ended = lab.expect(1, args);
    assert!(ended.stderr.contains(&format!("error[{code}]")), "{args:?}: {}", ended.stderr);
    ended.stderr
}

fn object(lab: &Rehearsal, key: &str) -> bool {
    lab.outsider(None, "s3", "head_object", &json!({ "Bucket": BUCKET, "Key": key })).code == 0
}

#[test]
#[allow(clippy::print_stderr, reason = "a time for `benches/README.md`")]
fn a_lab_is_kept_and_others_begin_from_it() {
    let Some(lab) = Rehearsal::begin("a_lab_is_kept_and_others_begin_from_it") else { return };
    // Its own folder of templates, not the one that tests share.
    let templates = lab.path().join(".seawall/templates");
    std::fs::remove_file(&templates).expect("the link to the tests' templates");
    refused(&lab, &["sandbox", "save", "../x"], "bad-template-name");
    refused(&lab, &["sandbox", "save", "one"], "no-sandbox");
    refused(&lab, &["sandbox", "up", "--from", "one"], "no-such-template");
    lab.expect(0, &["sandbox", "up"]);
    a_server_with_something_on_it(&lab);
    let kept = lab.expect(0, &["sandbox", "save", "one"]);
    assert!(kept.stderr.contains("saved as `one`, ") && kept.stderr.contains(" MB"), "{}", kept.stderr);
    assert!(kept.stderr.contains("the sandbox here is down"), "{}", kept.stderr);
    let down = refused(&lab, &["sandbox", "status"], "no-sandbox");
    assert!(down.contains("seawall sandbox up --from one"), "{down}");
    assert!(!templates.join(".half").exists());
    let before = fingerprint(&templates.join("one"));

    refused(&lab, &["sandbox", "up", "--from", "one"], "sandbox-exists");
    lab.expect(0, &["sandbox", "up"]);
    lab.on_server(&["test", "-e", "/root/kept"]);
    refused(&lab, &["sandbox", "save", "one"], "template-exists");
    lab.expect(0, &["sandbox", "down", "--wipe"]);
    assert!(refused(&lab, &["sandbox", "up", "--from", "two"], "no-such-template").contains("one"));
    let inventory = lab.inventory();
    lab.edit_inventory("account: \"123456789012\"", "account: \"123456789013\"");
    refused(&lab, &["sandbox", "up", "--from", "one"], "other-template");
    lab.write_inventory(&inventory);

    let since = Instant::now();
    lab.expect(0, &["sandbox", "up", "--from", "one"]);
    lab.on_server(&["test", "-e", "/root/kept"]);
    eprintln!("measured: from a template to a login: {} ms", since.elapsed().as_millis());
    let beside = Rehearsal::within_turn();
    std::fs::remove_file(beside.path().join(".seawall/templates")).expect("the link to the tests' templates");
    std::os::unix::fs::symlink(&templates, beside.path().join(".seawall/templates")).expect("a link");
    beside.expect(0, &["sandbox", "up", "--from", "one"]);

    // Both are the one that was kept, with networks of their own, and neither sees what the other does.
    let network = |lab: &Rehearsal| {
        let hosts = lab.on_server(&["cat", "/etc/hosts", "/etc/apt/apt.conf.d/95lab-proxy"]).stdout;
        let gateway =
            hosts.lines().find_map(|line| line.split_once(" s3.")).expect("a line of the gateway").0.to_owned();
        assert!(hosts.contains(&format!("http://{gateway}:")), "{hosts}");
        gateway
    };
    assert_ne!(network(&lab), network(&beside));
    let cloud = "curl -sS -o /dev/null -w '%{http_code}' https://s3.ca-central-1.amazonaws.com/";
    for each in [&lab, &beside] {
        assert!(object(each, "first"), "objects come along");
        assert_eq!(each.on_server(&["sh", "-c", cloud]).stdout, "403", "the host reaches its own lab's cloud");
    }
    lab.on_server(&["sh", "-c", "rm /root/kept && rm -r /etc/cron.d && echo changed >/etc/motd && touch /usr/bin/env"]);
    lab.aws("s3", "put_object", &json!({ "Bucket": BUCKET, "Key": "second" }));
    beside.on_server(&["test", "-e", "/root/kept", "-a", "-d", "/etc/cron.d"]);
    assert!(!object(&beside, "second"));

    // A template of what began from a template needs the first no more.
    lab.expect(0, &["sandbox", "save", "two"]);
    let status = beside.expect(0, &["sandbox", "status"]).stdout;
    assert!(status.contains("template     one  ") && status.contains("template     two  "), "{status}");
    lab.expect(0, &["sandbox", "up"]);
    assert!(refused(&lab, &["sandbox", "forget", "one"], "template-in-use").contains("one"));
    lab.expect(0, &["sandbox", "down", "--wipe"]);
    drop(beside);
    assert_eq!(fingerprint(&templates.join("one")), before, "somebody wrote to the template");
    lab.expect(0, &["sandbox", "forget", "one"]);
    assert!(!templates.join("one").exists());
    lab.expect(0, &["sandbox", "up", "--from", "two"]);
    lab.on_server(&["sh", "-c", "! test -e /root/kept && ! test -e /etc/cron.d && grep changed /etc/motd"]);
    assert!(object(&lab, "second"));
}

fn a_server_with_something_on_it(lab: &Rehearsal) {
    let instance = json!({
        "instanceNames": ["chronos-prod-db"], "availabilityZone": "ca-central-1a",
        "blueprintId": "debian_12", "bundleId": "nano_3_0",
    });
    lab.aws("lightsail", "create_instances", &instance);
    let since = Instant::now();
    while lab.status()["hosts"][0]["state"] != "running" {
        assert!(since.elapsed() < PATIENCE, "the server does not run within {PATIENCE:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    lab.on_server(&["touch", "/root/kept"]);
    let place = json!({ "LocationConstraint": "ca-central-1" });
    lab.aws("s3", "create_bucket", &json!({ "Bucket": BUCKET, "CreateBucketConfiguration": place }));
    lab.aws("s3", "put_object", &json!({ "Bucket": BUCKET, "Key": "first" }));
}
