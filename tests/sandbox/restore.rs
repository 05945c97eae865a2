//! Restores on a real server: beside the database, in its place and back, and every one that must not succeed.

use serde_json::Value;

use crate::support::rehearsal::{Ended, Rehearsal};

fn restore(lab: &Rehearsal, name: &str, to: &str, more: &[&str]) -> Ended {
    lab.run(&[&["--sandbox", "restore", "--to", to, "--name", name, "--yes"], more].concat())
}

/// Asks a copy one thing.
#[track_caller]
fn of_copy(lab: &Rehearsal, name: &str, sql: &str) -> String {
    lab.expect(0, &["--sandbox", "restore", "psql", name, "--", "-XAtc", sql]).stdout.trim().to_owned()
}

/// The names of everything in the repository.
pub(super) fn objects(lab: &Rehearsal) -> Vec<String> {
    let listed = lab.aws(
        "s3",
        "list_objects_v2",
        &serde_json::json!({ "Bucket": "project-chronos-backups", "Prefix": "chronos/pgbackrest/" }),
    );
    let keys = listed["Contents"].as_array().into_iter().flatten();
    keys.map(|object| object["Key"].as_str().unwrap_or_default().to_owned()).collect()
}

const SET_UP: &str = "create table marked (n integer primary key, t text unique);
insert into marked select n, 'row ' || n from generate_series(1, 100) n;
create unlogged table passing (n integer);
create sequence counter; select nextval('counter');
select lo_from_bytea(4242, 'a large object');";

#[test]
fn a_copy_has_exactly_the_rows_of_its_moment_and_production_is_not_touched() {
    let Some(lab) = Rehearsal::database("a_copy_has_exactly") else { return };
    // Data of its own folder, as a tablespace: a copy must not write into production's.
    lab.on_server(&["sh", "-c", "install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/space"]);
    lab.sql("postgres", "create tablespace elsewhere location '/var/lib/postgresql/space'");
    lab.sql(
        "postgres",
        &format!("{SET_UP} create table apart (n integer) tablespace elsewhere; insert into apart values (1)"),
    );
    // A backup that was made before the tablespace leads to the place of production's own, and must not get there.
    let made = lab.archived();
    let ended = restore(&lab, "outside", &made, &[]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == 1 && said.contains("error[restore-tablespace]"), "{said}");
    lab.expect(0, &["--sandbox", "restore", "drop", "outside"]);
    lab.on_server(&["systemctl", "start", "seawall-backup@diff.service"]);
    let before = lab.archived();
    lab.sql("postgres", "select pg_create_restore_point('before_the_mistake')");
    lab.sql("postgres", "delete from marked where n > 10; insert into apart values (2); drop table passing");
    let after = lab.archived();
    lab.archived();

    let started = lab.sql("postgres", "select pg_postmaster_start_time()");
    let there = objects(&lab);
    // The moment before the mistake, its restore point, and now: three copies side by side.
    for (name, to, rows) in [("early", before.as_str(), "100"), ("late", after.as_str(), "10"), ("now", "latest", "10")]
    {
        let ended = restore(&lab, name, to, &[]);
        assert_eq!(ended.code, 0, "{name}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(of_copy(&lab, name, "select count(*) from marked"), rows, "{name}");
    }
    // By default everything since the first backup is replayed, to meet the first point of that name.
    let newest = "runuser -u postgres -- pgbackrest info --output=json | grep -o '\"label\":\"[^\"]*\"' | tail -1 | cut -d'\"' -f4";
    let newest = lab.on_server(&["sh", "-c", newest]).stdout;
    let point = [
        "--sandbox",
        "--format",
        "json",
        "restore",
        "--to",
        "name:before_the_mistake",
        "--yes",
        "--name",
        "point",
        "--set",
        newest.trim(),
    ];
    let point = lab.expect(0, &point);
    let told: Value = serde_json::from_str(&point.stdout).expect("JSON on stdout");
    let fact = |name: &str| {
        let facts = told["told"]["facts"].as_array().into_iter().flatten();
        facts
            .into_iter()
            .find(|fact| fact["name"] == name)
            .map(|fact| fact["value"].as_str().unwrap_or_default().to_owned())
    };
    assert!(fact("stopped").is_some_and(|line| line.contains("restore point \"before_the_mistake\"")), "{told}");
    for (sql, answer) in [
        ("select count(*) from marked", "100"),
        ("select count(*) from apart", "1"),
        ("select last_value from counter", "1"),
        ("select convert_from(lo_get(4242), 'UTF8')", "a large object"),
        ("select count(*) from passing", "0"),
        (
            "select count(*) from pg_tablespace where spcname = 'elsewhere' and pg_tablespace_location(oid) like '%/seawall-restores/point/%'",
            "1",
        ),
        ("set enable_seqscan = off; select n from marked where t = 'row 42'", "SET\n42"),
        ("show archive_mode", "off"),
        ("show listen_addresses", ""),
    ] {
        assert_eq!(of_copy(&lab, "point", sql), answer, "{sql}");
    }
    // The end of the first backup, before anything of this test.
    let first = lab.on_server(&["sh", "-c", "runuser -u postgres -- pgbackrest info --output=json | grep -o '\"label\":\"[0-9-]*F\"' | head -1 | cut -d'\"' -f4"]);
    let ended = restore(&lab, "first", &format!("backup:{}", first.stdout.trim()), &[]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(of_copy(&lab, "first", "select count(*) from pg_class where relname = 'marked'"), "0");

    // Rows come back under a name of their own, and what is there is not written over.
    lab.sql("postgres", "alter table marked owner to app");
    let copied = lab.expect(0, &["--sandbox", "restore", "copy-table", "early", "postgres", "marked"]);
    assert!(copied.stderr.contains("100 rows"), "{}", copied.stderr);
    assert_eq!(lab.sql("postgres", "select count(*) from marked_restored"), "100");
    // It belongs to whom the table belongs here, not to whom it belonged in the copy.
    assert_eq!(lab.sql("postgres", "select tableowner from pg_tables where tablename = 'marked_restored'"), "app");
    let again = lab.run(&["--sandbox", "restore", "copy-table", "early", "postgres", "marked"]);
    assert_eq!(
        (again.code, lab.sql("postgres", "select count(*) from marked")),
        (1, "10".to_owned()),
        "{}",
        again.stderr
    );

    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), started, "production was restarted");
    assert_eq!(lab.sql("postgres", "select count(*) from apart"), "2", "a copy wrote into production's tablespace");
    // The heartbeat goes on, so segments of timeline 1 come; nothing of a copy's may.
    let new: Vec<String> = objects(&lab).into_iter().filter(|key| !there.contains(key)).collect();
    assert!(new.iter().all(|key| key.contains("/0000000100000000/")), "{new:?}");
    // What a copy told is not taken for another one's.
    let again = restore(&lab, "early", "latest", &[]);
    assert!(again.code == 1 && again.stderr.contains("error[restore-name-taken]"), "{}{}", again.stdout, again.stderr);
    assert_eq!(of_copy(&lab, "early", "select count(*) from marked"), "100");
    let listed = lab.expect(0, &["--sandbox", "restore", "list"]).stdout;
    for name in ["early", "late", "now", "point", "first"] {
        assert!(listed.contains(name), "{listed}");
        lab.expect(0, &["--sandbox", "restore", "drop", name]);
    }
    let left = lab.on_server(&["sh", "-c", "ls -A /var/lib/postgresql/seawall-restores /etc/seawall/restores /run/seawall-restore; pgrep -fc '[c]luster_name=seawall-restore-' || true"]);
    assert!(!left.stdout.contains("early") && left.stdout.trim().ends_with('0'), "{}", left.stdout);
    lab.expect(0, &["--sandbox", "plan"]);
}

#[test]
fn in_place_can_be_tried_again_undone_and_accepted() {
    let Some(lab) = Rehearsal::database("in_place") else { return };
    lab.sql("postgres", SET_UP);
    let good = lab.archived();
    lab.sql("postgres", "delete from marked");
    let wrong = lab.archived();
    lab.sql("postgres", "insert into marked values (1000, 'written after')");
    lab.archived();

    let ended = restore(&lab, "wrong", &wrong, &["--in-place"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(lab.sql("postgres", "select count(*) from marked"), "0");
    assert_eq!(lab.sql("postgres", "show archive_mode"), "off");
    // Nobody heals it away meanwhile.
    let apply = lab.run(&["--sandbox", "apply", "--yes"]);
    assert_eq!(apply.code, 3, "{}{}", apply.stdout, apply.stderr);
    assert!(format!("{}{}", apply.stdout, apply.stderr).contains("restore-not-accepted"));
    assert_eq!(lab.sql("postgres", "show archive_mode"), "off");
    // The wrong target is tried again, over the first try, and then everything is undone, down to what was there at first.
    let ended = restore(&lab, "right", &good, &["--in-place"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(lab.sql("postgres", "select count(*) from marked"), "100");
    let out_of_turn = lab.run(&["--sandbox", "restore", "undo", "wrong", "--yes"]);
    assert_eq!(out_of_turn.code, 1, "{}", out_of_turn.stderr);
    lab.expect(0, &["--sandbox", "restore", "undo", "right", "--yes"]);
    assert_eq!(lab.sql("postgres", "select count(*) from marked"), "0");
    lab.expect(0, &["--sandbox", "restore", "undo", "wrong", "--yes"]);
    assert_eq!(lab.sql("postgres", "select n from marked"), "1000", "every row of before is back");
    assert_eq!(lab.sql("postgres", "show archive_mode"), "on");
    lab.expect(0, &["--sandbox", "plan"]);

    // One that cannot reach its target leaves PostgreSQL stopped, also over a reboot, and the way back open.
    lab.sql("postgres", "select pg_create_restore_point('never_archived')");
    let failed = restore(&lab, "never", "name:no_such_point", &["--in-place"]);
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    assert!(
        failed.stderr.contains("restore-target-not-reached") && failed.stderr.contains("restore undo never"),
        "{}",
        failed.stderr
    );
    assert_ne!(lab.tried_on_server(&["systemctl", "start", "postgresql@15-main.service"]).code, 0, "it is masked");
    assert_eq!(lab.run(&["--sandbox", "apply", "--yes"]).code, 3);
    lab.expect(0, &["--sandbox", "restore", "undo", "never", "--yes"]);
    assert_eq!(lab.sql("postgres", "select n from marked"), "1000");

    let ended = restore(&lab, "kept", &good, &["--in-place"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    lab.sql("postgres", "insert into marked values (2000, 'after the restore')");
    lab.expect(0, &["--sandbox", "restore", "accept", "kept"]);
    assert_eq!(lab.sql("postgres", "show archive_mode"), "on");
    assert_eq!(lab.sql("postgres", "select count(*) from pg_file_settings where name in ('restore_command', 'archive_mode') and sourcefile like '%auto.conf'"), "0");
    assert_eq!(lab.sql("postgres", "select count(*) from marked"), "101");
    lab.on_server(&["test", "-d", "/var/lib/postgresql/15/main.before-kept"]);
    lab.expect(0, &["--sandbox", "plan"]);
    lab.expect(0, &["--sandbox", "backup", "list"]);
    // The new timeline is in the archive with its history: a copy along it has what was written since.
    lab.archived();
    let ended = restore(&lab, "after", "latest", &[]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("timeline 2, at most"), "{}", ended.stdout);
    assert_eq!(of_copy(&lab, "after", "select count(*) from marked"), "101");
}

#[test]
fn what_cannot_be_restored_fails_loudly_and_says_why() {
    let Some(lab) = Rehearsal::database("what_cannot_be_restored") else { return };
    lab.sql("postgres", SET_UP);
    let moment = lab.archived();
    lab.sql("postgres", "insert into marked values (101, 'in the segment that will be missing')");
    let missing = lab.sql("postgres", "select pg_walfile_name(pg_current_wal_lsn())");
    lab.archived();
    lab.sql("postgres", "insert into marked values (102, 'behind it')");
    let last = lab.archived();

    // Refused before anything is restored.
    for (to, code, says) in [
        ("2026-11-21 02:21:10", 64, "offset from UTC"),
        ("2020-01-01 00:00:00+00", 3, "restore-outside-window"),
        ("2099-01-01 00:00:00+00", 3, "in the future"),
        ("backup:20200101-000000F", 3, "no-such-backup"),
    ] {
        let ended = restore(&lab, "refused", to, &[]);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.code == code && said.contains(says), "{to}: {} {said}", ended.code);
    }
    // A name that nobody has written: PostgreSQL replays everything and would promote by default.
    fails(&lab, "name:no_such_point", "restore-target-not-reached");

    // Stopped by an operator: archive-get of this version fails, and PostgreSQL would take that for the end of the archive.
    lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "stop"]);
    fails(&lab, &moment, "restore-repository-stopped");
    lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "start"]);

    // Another passphrase than the repository's.
    let cipher = "/etc/pgbackrest/restore.conf.d/cipher.conf";
    lab.on_server(&["sh", "-c", "cp -p $0 /root/cipher && sed -i 's/=.*/=another passphrase than that/' $0", cipher]);
    fails(&lab, "latest", "restore-fetch");
    lab.on_server(&["cp", "-p", "/root/cipher", cipher]);

    // Not enough room, as the kernel tells it: the home of restores is a small file system.
    lab.on_server(&["sh", "-c", "runuser -u postgres -- mkdir -p -m 0700 /var/lib/postgresql/seawall-restores && mount -t tmpfs -o size=8m,mode=0700,uid=$(id -u postgres),gid=$(id -g postgres) tmpfs /var/lib/postgresql/seawall-restores"]);
    let refused = restore(&lab, "small", "latest", &[]);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.code == 3 && said.contains("error[restore-no-room]") && said.contains("1074 MB that stay free"),
        "{said}"
    );
    assert!(lab.on_server(&["sh", "-c", "ls -A /etc/seawall/restores"]).stdout.trim().is_empty(), "nothing was begun");
    // An order that was given before the disk filled up: the server's own program looks, too.
    let told = by_hand(&lab, "small");
    assert!(told.contains("failed no-room the restore needs"), "{told}");
    lab.on_server(&["umount", "/var/lib/postgresql/seawall-restores"]);

    raised_after_the_backup(&lab);

    // The repository goes away while WAL is replayed: to PostgreSQL that looks like the end of the archive.
    lab.on_server(&["sh", "-c", r#"mv /usr/bin/pgbackrest /usr/bin/pgbackrest.real && printf '#!/bin/sh\ncase "$*" in *archive-get*) echo "P00  ERROR: [039]: HTTP request failed with 503 (Service Unavailable)"; exit 39 ;; esac\nexec /usr/bin/pgbackrest.real "$@"\n' >/usr/bin/pgbackrest && chmod 0755 /usr/bin/pgbackrest"#]);
    fails(&lab, "latest", "restore-repository-lost");
    fails(&lab, &moment, "restore-repository-lost");
    lab.on_server(&["mv", "/usr/bin/pgbackrest.real", "/usr/bin/pgbackrest"]);

    // A segment that is missing in the middle: a default restore would end there and look well.
    let segment = lab.aws(
        "s3",
        "list_objects_v2",
        &serde_json::json!({ "Bucket": "project-chronos-backups", "Prefix": "chronos/pgbackrest/archive/chronos/15-1/0000000100000000/" }),
    );
    let keys: Vec<&str> =
        segment["Contents"].as_array().into_iter().flatten().filter_map(|object| object["Key"].as_str()).collect();
    let key = *keys.iter().find(|key| key.contains(&missing)).expect("it was archived");
    lab.aws("s3", "delete_object", &serde_json::json!({ "Bucket": "project-chronos-backups", "Key": key }));
    let ended = restore(&lab, "gap", &last, &[]);
    assert_eq!(ended.code, 3, "{}{}", ended.stdout, ended.stderr);
    assert!(
        format!("{}{}", ended.stdout, ended.stderr).contains("restore-outside-window"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    // The part before the hole can still be had.
    let ended = restore(&lab, "before", &moment, &[]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(of_copy(&lab, "before", "select count(*) from marked"), "100");
}

/// A setting that recovery needs, raised after the backup: a copy that goes on as the backup says stands still where the WAL says so.
fn raised_after_the_backup(lab: &Rehearsal) {
    let planned = |to: &str| {
        let ended = lab.expect(0, &["--sandbox", "--format", "json", "restore", "--to", to, "--plan"]);
        serde_json::from_str::<Value>(&ended.stdout).expect("JSON on stdout")["plan"].clone()
    };
    let number = |plan: &Value| plan["needs"]["numbers"][0].clone();
    let before = number(&planned("latest"));
    let raised = before["original"].as_u64().expect("the server answers") + 37;
    lab.sql("postgres", &format!("alter system set max_connections = {raised}"));
    lab.on_server(&["systemctl", "restart", "postgresql@15-main.service"]);
    lab.archived();
    let plan = planned("latest");
    assert_eq!(number(&plan), serde_json::json!({ "name": "max_connections", "original": raised, "copy": raised }));
    let needs = &plan["needs"];
    assert_eq!(
        (&needs["postgres"]["backup"], &needs["unknown"]),
        (&Value::from("15"), &serde_json::json!([])),
        "{plan}"
    );
    assert!(needs["room"]["free_bytes"].as_u64() > needs["room"]["needed_bytes"].as_u64(), "{needs}");
    let libraries = needs["libraries"].as_array().expect("a list");
    assert_eq!(libraries.len(), 1, "what comes with PostgreSQL itself is not listed: {needs}");
    assert_eq!(
        (&libraries[0]["name"], &libraries[0]["is_there"]),
        (&Value::from("pg_stat_statements"), &Value::from(true))
    );

    let told = by_hand(lab, "still");
    assert!(told.contains(&format!("fact raised max_connections to {raised}, as the WAL asks")), "{told}");
    assert!(told.contains(" ready"), "{told}");
    let ended = restore(lab, "raised", "latest", &[]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(&format!("max_connections {raised} of the original")), "{}", ended.stdout);
    assert_eq!(of_copy(lab, "raised", "show max_connections"), raised.to_string());
    lab.expect(0, &["--sandbox", "restore", "drop", "raised"]);
    // The server's own drill orders the same.
    lab.on_server(&["/usr/local/lib/seawall/restore", "drill"]);

    lab.sql("postgres", "alter system reset max_connections");
    lab.on_server(&["systemctl", "restart", "postgresql@15-main.service"]);
    // The WAL asks for more than the server has now: the copy gets that on the way.
    lab.archived();
    let ended = restore(lab, "lowered", "latest", &[]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    lab.expect(0, &["--sandbox", "restore", "drop", "lowered"]);
}

/// Carries out an order that was written by hand, of the first backup to the newest moment, and gives what was told.
#[track_caller]
fn by_hand(lab: &Rehearsal, name: &str) -> String {
    let set = lab.on_server(&["sh", "-c", "runuser -u postgres -- pgbackrest info --output=json | grep -o '\"label\":\"[0-9-]*F\"' | head -1 | cut -d'\"' -f4"]);
    let lines = [
        "purpose=beside",
        &format!("set={}", set.stdout.trim()),
        "timeline=1",
        "type=latest",
        "target=",
        "bytes=1",
        "ttl=0",
    ];
    let text = lines.join("\n");
    let run = "umask 027; printf '%s\\n' \"$1\" >/etc/seawall/restores/$0.conf && chgrp postgres /etc/seawall/restores/$0.conf && \
        systemctl start seawall-restore@$0.service; \
        while systemctl is-active -q seawall-restore@$0.service; do sleep 0.5; done; \
        /usr/local/lib/seawall/restore told $0; /usr/local/lib/seawall/restore drop $0; systemctl reset-failed";
    lab.on_server(&["sh", "-c", run, name, &text]).stdout
}

/// A restore that must fail with a code, and leaves nothing running.
#[track_caller]
fn fails(lab: &Rehearsal, to: &str, code: &str) {
    let ended = restore(lab, "broken", to, &[]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == 1 && said.contains(&format!("error[{code}")), "{to}: {} {said}", ended.code);
    assert!(said.contains("the database beside it was not touched"), "{said}");
    let runs = lab.on_server(&["sh", "-c", "pgrep -fc '[c]luster_name=seawall-restore-' || true"]);
    assert_eq!(runs.stdout.trim(), "0", "{to} left a copy running");
    lab.expect(0, &["--sandbox", "restore", "drop", "broken"]);
}
