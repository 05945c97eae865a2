//! Backups on a real server: made, listed, proven, and broken in the ways that pgBackRest itself does not notice.

use serde_json::{Value, json};

use crate::support::rehearsal::{Ended, Rehearsal};

/// The bucket of the worked example.
const BUCKET: &str = "project-chronos-backups";
/// Where the repository lies in it.
const REPOSITORY: &str = "chronos/pgbackrest/";

#[test]
fn what_pgbackrest_does_not_notice_is_found() {
    let Some(lab) = Rehearsal::database("what_pgbackrest_does_not_notice_is_found") else { return };
    well(&lab);
    one_at_a_time(&lab);
    a_lost_bundle(&lab);
    a_frozen_object(&lab);
    a_wrong_passphrase(&lab);
    a_missing_segment(&lab);
    no_repository(&lab);
}

fn seawall(lab: &Rehearsal, args: &[&str]) -> Ended {
    lab.run(&[&["--sandbox"], args].concat())
}

/// Runs a command that must end with a code, and gives its JSON.
#[track_caller]
fn document(lab: &Rehearsal, code: i32, args: &[&str]) -> Value {
    let ended = seawall(lab, &[&["--format", "json"], args].concat());
    assert_eq!(ended.code, code, "{args:?}\n{}{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON on stdout")
}

/// The codes of a list's or a proof's findings.
fn codes(findings: &Value) -> Vec<String> {
    let all = findings.as_array().expect("findings");
    all.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

/// A proof that finds exactly one sort of error.
#[track_caller]
fn proof_finds(lab: &Rehearsal, code: &str) -> Value {
    let proof = document(lab, 3, &["backup", "verify"]);
    let found = codes(&proof["servers"][0]["backups"]["findings"]);
    assert!(!found.is_empty() && found.iter().all(|found| found == code), "{found:?}, not {code}");
    proof
}

/// Keys below the repository that hold a text.
fn keys(lab: &Rehearsal, part: &str) -> Vec<String> {
    let page = lab.aws("s3", "list_objects_v2", &json!({ "Bucket": BUCKET, "Prefix": REPOSITORY }));
    let all = page["Contents"].as_array().expect("objects");
    let keys = all.iter().map(|object| object["Key"].as_str().expect("a key").to_owned());
    keys.filter(|key| key.contains(part)).collect()
}

/// Takes an object's newest version away, or brings it back: the bucket keeps versions.
fn delete(lab: &Rehearsal, key: &str) {
    lab.aws("s3", "delete_object", &json!({ "Bucket": BUCKET, "Key": key }));
}

fn bring_back(lab: &Rehearsal, key: &str) {
    let versions = lab.aws("s3", "list_object_versions", &json!({ "Bucket": BUCKET, "Prefix": key }));
    let marker = versions["DeleteMarkers"][0]["VersionId"].as_str().expect("a delete marker");
    lab.aws("s3", "delete_object", &json!({ "Bucket": BUCKET, "Key": key, "VersionId": marker }));
}

fn well(lab: &Rehearsal) {
    let made = document(lab, 0, &["backup", "now", "--type", "diff"]);
    assert_eq!(made["made"]["backup"]["type"], "diff");
    assert!(made["made"]["window"].is_object(), "{made}");
    let list = document(lab, 0, &["backup", "list"]);
    let server = &list["servers"][0];
    assert!(server["backups"].as_array().expect("backups").len() >= 2, "{server}");
    assert_eq!(server["windows"].as_array().map(Vec::len), Some(1), "{server}");
    assert_eq!(server["newest"]["verdict"], "ok");
    let proof = document(lab, 0, &["backup", "verify"]);
    let proof = &proof["servers"][0];
    assert_eq!(proof["repository"]["status"], "ok");
    assert!(proof["archived_segment"].is_string(), "{proof}");
    assert_eq!(proof["objects"][0]["class"], "STANDARD");
}

/// A backup that somebody else started by hand.
fn one_at_a_time(lab: &Rehearsal) {
    let hold = "mkdir -p /run/postgresql/pgbackrest && chown postgres: /run/postgresql/pgbackrest && \
                systemd-run --quiet --collect --unit=lock-holder --uid=postgres \
                flock /run/postgresql/pgbackrest/chronos-backup.lock sleep 60";
    lab.on_server(&["bash", "-c", hold]);
    let second = seawall(lab, &["backup", "now", "--type", "diff"]);
    assert_eq!(second.code, 1, "{}{}", second.stdout, second.stderr);
    assert!(second.stderr.contains("error[backup-running]"), "{}", second.stderr);
    lab.on_server(&["systemctl", "stop", "lock-holder"]);
    let ended = seawall(lab, &["backup", "now", "--follow"]);
    assert!(ended.stderr.contains("no backup runs"), "{}", ended.stderr);
}

fn a_lost_bundle(lab: &Rehearsal) {
    let bundles = keys(lab, "/bundle/1");
    let bundle = bundles.first().expect("a bundle");
    delete(lab, bundle);
    // Everything that people look at says that all is well.
    assert_eq!(document(lab, 0, &["backup", "list"])["servers"][0]["findings"], json!([]));
    let proof = proof_finds(lab, "backup-invalid");
    let invalid = proof["servers"][0]["backups"]["findings"].as_array().map_or(0, Vec::len);
    assert!(invalid >= 2, "the differential backup depends on it: {proof}");
    bring_back(lab, bundle);
    document(lab, 0, &["backup", "verify"]);
}

fn a_frozen_object(lab: &Rehearsal) {
    let bundles = keys(lab, "/bundle/1");
    let bundle = bundles.first().expect("a bundle");
    let copy = |class: &str| {
        let source = json!({ "Bucket": BUCKET, "Key": bundle });
        let copy = json!({ "Bucket": BUCKET, "Key": bundle, "CopySource": source, "StorageClass": class });
        lab.aws("s3", "copy_object", &copy);
    };
    copy("DEEP_ARCHIVE");
    let proof = proof_finds(lab, "backup-objects-archived");
    assert_eq!(proof["servers"][0]["repository"], Value::Null, "it would try every file for half a minute");
    // What is in the archive cannot be copied from there: the version before it is brought back.
    let versions = lab.aws("s3", "list_object_versions", &json!({ "Bucket": BUCKET, "Prefix": bundle }));
    let frozen = versions["Versions"].as_array().and_then(|all| all.iter().find(|version| version["IsLatest"] == true));
    let version = frozen.expect("the newest version")["VersionId"].as_str().expect("its id");
    lab.aws("s3", "delete_object", &json!({ "Bucket": BUCKET, "Key": bundle, "VersionId": version }));
    document(lab, 0, &["backup", "verify"]);
}

fn a_wrong_passphrase(lab: &Rehearsal) {
    let file = "/etc/pgbackrest/conf.d/cipher.conf";
    lab.on_server(&["cp", "-a", file, "/root/secrets"]);
    lab.on_server(&["sed", "-i", "s/^repo1-cipher-pass=.*/repo1-cipher-pass=another/", file]);
    let list = document(lab, 2, &["backup", "list"]);
    assert_eq!(codes(&list["servers"][0]["findings"]), ["backup-passphrase"]);
    let now = seawall(lab, &["backup", "now"]);
    assert_eq!(now.code, 1, "{}{}", now.stdout, now.stderr);
    assert!(now.stderr.contains("error[backup-passphrase]"), "{}", now.stderr);
    lab.on_server(&["cp", "-a", "/root/secrets", file]);
    document(lab, 0, &["backup", "list"]);
}

/// pgBackRest's own verify says `ok` of this.
fn a_missing_segment(lab: &Rehearsal) {
    for _ in 0..3 {
        let switch = "CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t SELECT 1; SELECT pg_switch_wal()";
        lab.on_server(&["runuser", "-u", "postgres", "--", "psql", "-qAtc", switch]);
    }
    // `check` waits until what was switched has arrived.
    document(lab, 0, &["backup", "verify"]);
    let is_segment = |key: &String| key.rsplit('/').next().is_some_and(|file| file.contains('-'));
    let mut segments: Vec<String> = keys(lab, "/archive/").into_iter().filter(is_segment).collect();
    segments.sort();
    let lost = segments.get(segments.len() - 2).expect("segments after the backup").clone();
    delete(lab, &lost);
    let shown = document(lab, 2, &["backup", "list"]);
    assert_eq!(codes(&shown["servers"][0]["findings"]), ["backup-wal-gap"]);
    let name = lost.rsplit('/').next().and_then(|file| file.split('-').next()).expect("a segment");
    assert_eq!(shown["servers"][0]["gaps"][0]["missing"], json!([name]));
    proof_finds(lab, "backup-wal-gap");
    bring_back(lab, &lost);
    document(lab, 0, &["backup", "list"]);
}

/// The info files are gone: what a clean-up of old objects does first.
fn no_repository(lab: &Rehearsal) {
    for key in keys(lab, "backup.info") {
        delete(lab, &key);
    }
    let list = document(lab, 2, &["backup", "list"]);
    assert_eq!(codes(&list["servers"][0]["findings"]), ["backup-no-stanza"]);
    proof_finds(lab, "backup-no-stanza");
}
