//! Repositories of which pgBackRest itself says that all is well: stopped, written by a second cluster, with damaged pages.

use serde_json::{Value, json};

use crate::support::rehearsal::Rehearsal;

const INSTANCE: &str = "chronos-prod-db";
const DATA: &str = "/var/lib/postgresql/15/main";

/// Waits, at most a minute, until the newest segment of the cluster at a socket's folder ($0) is in the archive.
const ARCHIVED: &str = "psql() { runuser -u postgres -- psql -h \"$0\" -XAtqd postgres -c \"$1\"; }
psql \"select pg_logical_emit_message(true, 'test', 'a segment with something in it')\" >/dev/null
segment=$(psql 'select pg_walfile_name(pg_switch_wal())')
for i in $(seq 120); do
    [ \"$(psql \"select last_archived_wal >= '$segment' from pg_stat_archiver\")\" = t ] && exit 0
    sleep 0.5
done
exit 1";
const SOCKET: &str = "/var/run/postgresql";

/// A copy of the newest backup beside the server, promoted, with archiving on: what a server made from a snapshot does.
const COPY: &str = "set -e
copy=/var/lib/postgresql/copy bin=/usr/lib/postgresql/15/bin
postgres() { (cd / && runuser -u postgres -- \"$@\"); }
install -d -o postgres -g postgres -m 0700 $copy
postgres pgbackrest --stanza=chronos --pg1-path=$copy --type=immediate --target-action=promote restore
postgres sh -c \"cd $copy && : >postgresql.conf && echo 'local all postgres peer' >pg_hba.conf && : >pg_ident.conf\"
libraries=$(postgres $bin/postgres -D $1 --config-file=/etc/postgresql/15/main/postgresql.conf -C shared_preload_libraries)
postgres $bin/pg_ctl -D $copy -w -t 120 -l $copy/start.log -o \"-p 5432 -c listen_addresses= -c unix_socket_directories=$copy \
    -c hot_standby=off -c shared_preload_libraries='$libraries' -c archive_mode=on \
    -c archive_command='pgbackrest --stanza=chronos --pg1-path=$copy --no-archive-async archive-push %p'\" start >/dev/null
for i in $(seq 120); do
    [ \"$(postgres psql -h $copy -XAtqd postgres -c 'select pg_is_in_recovery()' 2>/dev/null)\" = f ] && exit 0
    sleep 0.5
done
cat $copy/start.log >&2
exit 1";

/// HOW...: the server itself goes back, to a moment or to the end of its newest backup.
const GO_BACK: &str = "set -e
systemctl stop postgresql@15-main
cd / && runuser -u postgres -- pgbackrest --stanza=chronos --delta \"$@\" --target-action=promote restore
systemctl start postgresql@15-main
for i in $(seq 120); do
    [ \"$(runuser -u postgres -- psql -XAtqd postgres -c 'select pg_is_in_recovery()' 2>/dev/null)\" = f ] && exit 0
    sleep 0.5
done
exit 1";

/// Runs a command that must end with a code, and gives its JSON.
#[track_caller]
fn document(lab: &Rehearsal, code: i32, args: &[&str]) -> Value {
    let ended = lab.expect(code, &[&["--sandbox", "--format", "json"], args].concat());
    serde_json::from_str(&ended.stdout).expect("JSON on stdout")
}

fn codes(findings: &Value) -> Vec<String> {
    let all = findings.as_array().expect("findings");
    all.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

/// Gives back what `backup list` shows of the server: exactly these findings.
#[track_caller]
fn list(lab: &Rehearsal, found: &[&str]) -> Value {
    let list = document(lab, if found.is_empty() { 0 } else { 2 }, &["backup", "list"]);
    let server = list["servers"][0].clone();
    assert_eq!(codes(&server["findings"]), found, "{server}");
    server
}

/// `status` sees the finding, too.
#[track_caller]
fn status_has(lab: &Rehearsal, code: &str) {
    let status = document(lab, 2, &["status"]);
    let found = codes(&status["plan"]["findings"]);
    assert!(found.iter().any(|found| found == code), "{found:?}");
    let shown = lab.expect(2, &["--sandbox", "status"]).stdout;
    assert!(shown.contains(&format!("error[{code}]")), "{shown}");
}

/// Those who look and do not list the archive see it, too: nothing differs, and that is never all they say.
#[track_caller]
fn plans_say(lab: &Rehearsal, words: &str) {
    for (command, verdict) in
        [("plan", "No changes, but 1 thing is not well"), ("drift", "No drift, but 1 thing is not well")]
    {
        let shown = lab.expect(2, &["--sandbox", command]).stdout;
        assert!(shown.contains(verdict) && shown.contains(words), "{shown}");
    }
    let plan = document(lab, 2, &["plan"]);
    let remark = &plan["remarks"][0];
    assert!(plan["empty"] == true && plan["well"] == false && remark["severity"] == "broken", "{plan}");
    let applied = lab.expect(0, &["--sandbox", "apply", "--yes"]).stdout;
    assert!(applied.contains("No changes, but 1 thing is not well"), "{applied}");
}

/// Everything that pgBackRest can be asked says that all is well.
#[track_caller]
fn pgbackrest_is_content(lab: &Rehearsal) {
    for command in ["check", "verify"] {
        lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=chronos", command]);
    }
    let info = lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=chronos", "info"]);
    assert!(info.stdout.contains("status: ok"), "{}", info.stdout);
}

#[test]
fn what_pgbackrest_calls_well_and_is_not_is_found() {
    let Some(lab) = Rehearsal::database("what_pgbackrest_calls_well") else { return };
    list(&lab, &[]);
    lab.expect(0, &["--sandbox", "status"]);
    a_stop(&lab);
    a_wanted_restore_is_no_finding(&lab);
    a_promoted_copy(&lab);
    damaged_pages(&lab);
    without_the_server(&lab);
}

/// Nobody archives and nothing says so, until an apply takes it back.
fn a_stop(lab: &Rehearsal) {
    for (stop, file) in [("pgbackrest stop", "all.stop"), ("pgbackrest --stanza=chronos stop", "chronos.stop")] {
        lab.on_server(&["runuser", "-u", "postgres", "--", "sh", "-c", &format!("cd / && {stop}")]);
        let info = lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=chronos", "info"]);
        assert!(info.stdout.contains("status: ok"), "{}", info.stdout);
        list(lab, &["backup-stopped"]);
        status_has(lab, "backup-stopped");
        let proof = document(lab, 3, &["backup", "verify"]);
        assert!(codes(&proof["servers"][0]["backups"]["findings"]).contains(&"backup-stopped".to_owned()), "{proof}");
        let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
        assert!(drift.contains("pgbackrest.repo/db") && drift.contains(file), "{drift}");
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
        assert!(plan.contains("No changes"), "{plan}");
        lab.on_server(&["test", "!", "-e", &format!("/run/postgresql/pgbackrest/{file}")]);
        list(lab, &[]);
    }
}

/// The server is on a new timeline, its own history leads there, and so do its backups.
fn a_wanted_restore_is_no_finding(lab: &Rehearsal) {
    document(lab, 0, &["backup", "now", "--type", "diff"]);
    lab.on_server(&["sh", "-c", ARCHIVED, SOCKET]);
    let moment = lab.sql("postgres", "select clock_timestamp()");
    for _ in 0..2 {
        lab.on_server(&["sh", "-c", ARCHIVED, SOCKET]);
    }
    let target = format!("--target={moment}");
    // The second time to the very end of the newest backup: its last segment is on both lines.
    for (timeline, how) in [(2, &["--type=time", &target][..]), (3, &["--type=immediate"])] {
        lab.on_server(&[&["sh", "-c", GO_BACK, "go-back"], how].concat());
        lab.on_server(&["sh", "-c", ARCHIVED, SOCKET]);
        let server = list(lab, &[]);
        assert_eq!(server["archiving"]["timeline"], timeline, "{server}");
        let windows = server["windows"].as_array().expect("windows");
        assert!(windows.iter().any(|window| window["timeline"] == timeline), "{server}");
    }
}

fn a_promoted_copy(lab: &Rehearsal) {
    lab.on_server(&["sh", "-c", COPY, "copy", DATA]);
    lab.on_server(&["sh", "-c", ARCHIVED, "/var/lib/postgresql/copy"]);
    lab.on_server(&["sh", "-c", ARCHIVED, SOCKET]);
    pgbackrest_is_content(lab);
    let server = list(lab, &["foreign-timeline"]);
    let finding = server["findings"][0].to_string();
    assert!(finding.contains("on timeline 4") && finding.contains("restore along timeline 3"), "{finding}");
    assert!(server["windows"].as_array().expect("windows").iter().all(|window| window["timeline"] != 4), "{server}");
    status_has(lab, "foreign-timeline");
    plans_say(lab, "the archive goes on along timeline 4, and PostgreSQL is on timeline 3");
    let proof = document(lab, 3, &["backup", "verify"]);
    assert_eq!(codes(&proof["servers"][0]["backups"]["findings"]), ["foreign-timeline"], "{proof}");
    // It ends, and what it left is taken away: the bucket keeps versions.
    let end = "runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl -D /var/lib/postgresql/copy -m immediate -w stop && rm -rf /var/lib/postgresql/copy";
    lab.on_server(&["sh", "-c", &format!("cd / && {end}")]);
    let page = lab.aws(
        "s3",
        "list_objects_v2",
        &json!({ "Bucket": "project-chronos-backups", "Prefix": "chronos/pgbackrest/archive/chronos/15-1/00000004" }),
    );
    for object in page["Contents"].as_array().expect("what the copy archived") {
        lab.aws("s3", "delete_object", &json!({ "Bucket": "project-chronos-backups", "Key": object["Key"] }));
    }
    list(lab, &[]);
    lab.expect(0, &["--sandbox", "drift"]);
}

/// The backup ends with status 0 and holds the damage.
fn damaged_pages(lab: &Rehearsal) {
    lab.sql("postgres", "create table damaged as select n, repeat('x', 500) as x from generate_series(1, 2000) as n");
    let path = lab.sql("postgres", "checkpoint; select pg_relation_filepath('damaged')");
    let damage = format!(
        "systemctl stop postgresql@15-main && printf DAMAGE | dd of={DATA}/{path} bs=1 seek=16500 conv=notrunc status=none && systemctl start postgresql@15-main"
    );
    lab.on_server(&["sh", "-c", &damage]);
    let good = list(lab, &[])["newest"]["label"].clone();
    let made = document(lab, 0, &["backup", "now", "--type", "full"]);
    assert_eq!(made["made"]["backup"]["page_errors"], true, "{made}");
    let server = list(lab, &["backup-page-checksums"]);
    assert_eq!(server["newest"]["label"], good, "the newest one holds the damage: {server}");
    status_has(lab, "backup-page-checksums");
    plans_say(lab, "found pages whose checksums are wrong");
    lab.sql("postgres", "drop table damaged");
}

/// The server is gone; what the bucket tells is what pgBackRest told before, as far as it goes.
fn without_the_server(lab: &Rehearsal) {
    let before = list(lab, &["backup-page-checksums"]);
    let ends = |server: &Value| {
        let all = server["backups"].as_array().expect("backups").clone();
        all.iter()
            .map(|backup| (backup["label"].clone(), backup["type"].clone(), backup["wal"].clone()))
            .collect::<Vec<_>>()
    };
    lab.aws("lightsail", "stop_instance", &json!({ "instanceName": INSTANCE, "force": true }));
    let after = document(lab, 1, &["backup", "list"])["servers"][0].clone();
    assert_eq!(after["by_names"], true, "{after}");
    assert_eq!(ends(&after), ends(&before));
    let timelines = |server: &Value| -> Vec<Value> {
        server["windows"].as_array().expect("windows").iter().map(|window| window["timeline"].clone()).collect()
    };
    assert_eq!(timelines(&after), timelines(&before), "{after}");
    let unseen = after["unseen"].to_string();
    for what in ["the passphrase", "wrong pages", "archiving", "timelines 1, 2, 3"] {
        assert!(unseen.contains(what), "{what:?} is not in {unseen}");
    }
    let shown = lab.expect(1, &["--sandbox", "backup", "list"]).stdout;
    assert!(shown.contains("known by the names in the bucket alone"), "{shown}");
    let proof = document(lab, 1, &["backup", "verify"])["servers"][0].clone();
    assert_eq!((&proof["repository"], &proof["backups"]["by_names"]), (&Value::Null, &Value::Bool(true)), "{proof}");
}
