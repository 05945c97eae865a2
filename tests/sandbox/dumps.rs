//! Logical dumps on a real server: made, encrypted in the bucket, restored into a new database, thinned out, and healed.

use serde_json::{Value, json};

use super::attacks_paths::held_to;
use crate::support::rehearsal::Rehearsal;

const BUCKET: &str = "project-chronos-backups";
const FOLDER: &str = "chronos/dumps/chronos_db/";
/// A row that nobody may find in the bucket.
const ROW: &str = "the engine of the difference";
const PROGRAM: &str = "/usr/local/lib/seawall/dump";

/// What may happen to the dumps on a server.
const TAMPERINGS: [&str; 7] = [
    "systemctl disable --now seawall-dump.timer",
    "sed -i 's/^OnCalendar=.*/OnCalendar=monthly/' /etc/systemd/system/seawall-dump.timer; systemctl daemon-reload",
    "sed -i 's/^run() {/run() { exit 0/' /usr/local/lib/seawall/dump",
    "sed -i s/^daily=.*/daily=1/ /etc/seawall/dump.conf",
    "mkdir -p /etc/systemd/system/seawall-dump.service.d; \
     printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' >/etc/systemd/system/seawall-dump.service.d/x.conf; systemctl daemon-reload",
    "rm /etc/systemd/system/seawall-dump.service",
    "systemctl disable --now seawall-dump.timer; ln -sfn /dev/null /etc/systemd/system/seawall-dump.timer; systemctl daemon-reload",
];

/// Keys below the folder of the database, without the folder.
fn keys(lab: &Rehearsal) -> Vec<String> {
    let page = lab.aws("s3", "list_objects_v2", &json!({ "Bucket": BUCKET, "Prefix": FOLDER }));
    let all = page["Contents"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|object| object["Key"].as_str()?.strip_prefix(FOLDER).map(str::to_owned)).collect()
}

#[test]
fn a_dump_is_made_encrypted_proven_restored_and_healed() {
    let Some(lab) = Rehearsal::database("a_dump_is_made") else { return };
    let pass = "      cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }\n";
    // Half a day away: a schedule that comes while the test runs would dump before the test does.
    let hour = (jiff::Timestamp::now().as_second() / 3600 + 12) % 24;
    lab.edit_inventory(pass, &format!("{pass}      dumps: {{ schedule: \"daily {hour:02}:00\" }}\n"));
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let second = lab.expect(0, &["--sandbox", "plan"]);
    assert!(second.stdout.contains("No changes"), "{}", second.stdout);
    assert!(second.stdout.contains("nothing was dumped yet"), "{}", second.stdout);

    lab.sql(
        "chronos_db",
        &format!("set role app; create table engines as select '{ROW}'::text as name from generate_series(1, 50)"),
    );
    held_to(&lab, "seawall-dump.service", 40);
    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
    let time = a_good_dump_is_in_the_bucket(&lab);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(!plan.stdout.contains("nothing was dumped yet"), "{}", plan.stdout);

    let list = lab.expect(0, &["--sandbox", "--format", "json", "backup", "list"]).stdout;
    let list: Value = serde_json::from_str(&list).expect("JSON on stdout");
    let dumps = list["servers"][0]["dumps"].as_array().expect("dumps");
    assert!(dumps.iter().any(|of| of["database"] == "chronos_db" && of["count"] == 1), "{list}");

    it_comes_back_into_a_new_database(&lab, &time);
    a_trap_in_a_dump_catches_nobody(&lab);
    older_ones_are_thinned_out(&lab, &time);
    a_failure_keeps_nothing_else_from_being_dumped(&lab);
    for tampering in TAMPERINGS {
        lab.on_server(&["bash", "-c", tampering]);
        let drift = lab.expect(2, &["--sandbox", "drift"]);
        assert!(drift.stdout.contains("postgres.dumps/db"), "{tampering}: {}", drift.stdout);
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let healed = lab.expect(0, &["--sandbox", "plan"]);
        assert!(healed.stdout.contains("No changes"), "{tampering}: {}", healed.stdout);
    }
}

/// Gives back its time.
fn a_good_dump_is_in_the_bucket(lab: &Rehearsal) -> String {
    let keys = keys(lab);
    let [dump, sum] = keys.as_slice() else { panic!("a dump and its checksum: {keys:?}") };
    assert_eq!(*sum, format!("{dump}.sha256"));
    // As somebody would who has the bucket and the passphrase, and not Seawall.
    let check = format!(
        r#"set -e
value() {{ sed -n "s/^$1=//p" /etc/pgbackrest/conf.d/key.conf; }}
export RCLONE_CONFIG_X_TYPE=s3 RCLONE_CONFIG_X_PROVIDER=Other RCLONE_CONFIG_X_FORCE_PATH_STYLE=true RCLONE_CONFIG_X_REGION=ca-central-1
export RCLONE_CONFIG_X_ENDPOINT=https://s3.ca-central-1.amazonaws.com RCLONE_CONFIG_X_ACCESS_KEY_ID=$(value repo1-s3-key)
export RCLONE_CONFIG_X_SECRET_ACCESS_KEY=$(value repo1-s3-key-secret)
rm -rf /tmp/seen && mkdir /tmp/seen && cd /tmp/seen
rclone --config '' copy "X:{BUCKET}/{FOLDER}" .
sha256sum -c -- *.sha256
openssl enc -d -aes-256-cbc -pbkdf2 -pass file:/etc/seawall/backup.pass -in {dump} -out plain
grep -q '{ROW}' {dump} && echo READABLE
pg_restore -f - plain | grep -c '{ROW}'"#
    );
    let seen = lab.on_server(&["bash", "-c", &check]).stdout;
    assert!(seen.contains(&format!("{dump}: OK")) && seen.trim().ends_with("50"), "{seen}");
    assert!(!seen.contains("READABLE"), "{seen}");
    let left = lab.on_server(&["sh", "-c", "ls -A /var/lib/postgresql/seawall-dumps 2>/dev/null | wc -l"]);
    assert_eq!(left.stdout.trim(), "0", "nothing readable stays on the disk");
    let time = dump.strip_suffix(".dump.enc").expect("a dump").to_owned();
    let listed = lab.on_server(&[PROGRAM, "list"]).stdout;
    assert!(listed.contains(&format!("chronos_db {time} ")) && listed.contains(".globals"), "{listed}");
    time
}

/// What the owner of a database can leave in it for whoever restores it: run by a superuser, each of these would make him one.
const TRAP: &str = "set role app; \
    create function named(int) returns text language plpgsql immutable as $$ declare way text; begin \
      foreach way in array array['reset role', 'set role postgres', 'reset session authorization', \
          'set session authorization postgres', 'alter role app superuser', 'grant pg_execute_server_program to app', \
          'copy (select 1) to program ''touch /var/lib/postgresql/taken'' '] loop \
        begin execute way; exception when others then null; end; \
      end loop; return 'x'; end $$; \
    create function become() returns trigger language plpgsql as $$ begin perform public.named(1); return new; end $$; \
    create table trap (id int check (public.named(id) = 'x'), name text generated always as (public.named(id)) stored); \
    create index trapped on trap ((public.named(id))); \
    create materialized view seen as select public.named(id) from trap; \
    create trigger t before insert on trap for each row execute function become(); \
    grant select on trap to readonly; \
    insert into trap values (1); refresh materialized view seen";

/// The owner of a database gains nothing when it is restored, and loses nothing.
fn a_trap_in_a_dump_catches_nobody(lab: &Rehearsal) {
    lab.sql("chronos_db", TRAP);
    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
    let list = lab.on_server(&[PROGRAM, "list"]).stdout;
    let newest = list.lines().filter(|line| line.starts_with("chronos_db ")).max().expect("a dump");
    let time = newest.split(' ').nth(1).expect("its time");
    let powers = "select string_agg(concat_ws(' ', rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls), ',' order by rolname) \
        from pg_roles";
    let before = lab.sql("postgres", powers);
    let copy = lab.on_server(&[PROGRAM, "restore", "chronos_db", time]).stdout.trim().to_owned();
    assert_eq!(lab.sql("postgres", powers), before, "no role is more, and none is left over");
    let member = "select pg_has_role('app', 'pg_execute_server_program', 'member')";
    assert_eq!(lab.sql("postgres", member), "f");
    lab.on_server(&["test", "!", "-e", "/var/lib/postgresql/taken"]);
    let whole = "select (select count(*) from trap), (select count(*) from seen), pg_get_userbyid(relowner), \
        has_table_privilege('readonly', 'trap', 'select'), \
        (select pg_get_userbyid(datdba) from pg_database where datname = current_database()) from pg_class where relname = 'trap'";
    assert_eq!(lab.sql(&copy, whole), "1|1|app|t|app");
    lab.sql("postgres", &format!("drop database \"{copy}\""));
    lab.sql("chronos_db", "set role app; drop table trap cascade; drop function become, named");
}

fn it_comes_back_into_a_new_database(lab: &Rehearsal, time: &str) {
    lab.sql("chronos_db", "drop table engines");
    let copy = format!("chronos_db_restored_{time}");
    let there = || lab.sql("postgres", &format!("select count(*) from pg_database where datname = '{copy}'"));
    let restore =
        |more: &[&str]| lab.run(&[&["--sandbox", "restore", "--from-dump", time, "--database"], more].concat());
    let planned = restore(&["chronos_db", "--plan"]);
    assert!(planned.code == 0 && planned.stdout.contains(&copy), "{}{}", planned.stdout, planned.stderr);
    frozen_one_is_refused_with_its_time(lab, time);
    let unconfirmed = restore(&["chronos_db"]);
    assert!(unconfirmed.code == 64 && unconfirmed.stderr.contains("nobody-to-ask"), "{unconfirmed:?}");
    let of_nobody = restore(&["chronos", "--yes"]);
    assert!(of_nobody.code == 3 && of_nobody.stderr.contains("restore-no-dump"), "{}", of_nobody.stderr);
    assert_eq!(there(), "0", "nothing was made yet");
    let json = lab.run(&[
        "--sandbox",
        "--format",
        "json",
        "restore",
        "--from-dump",
        time,
        "--database",
        "chronos_db",
        "--yes",
    ]);
    assert_eq!(json.code, 0, "{}{}", json.stdout, json.stderr);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON on stdout");
    assert!(json["restored"] == true && json["plan"]["into"] == copy.as_str(), "{json}");
    // Never over one that is there, whoever asks.
    let again = restore(&["chronos_db", "--yes"]);
    assert!(again.code == 1 && again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(lab.sql(&copy, &format!("select count(*) from engines where name = '{ROW}'")), "50");
    assert_eq!(lab.sql("chronos_db", "select to_regclass('engines') is null"), "t", "the original is as it was");
    let like =
        "select count(distinct (encoding, datcollate, datctype)) from pg_database where datname like 'chronos_db%'";
    assert_eq!(lab.sql("postgres", like), "1");
    // Never over one that is there.
    let again = lab.tried_on_server(&[PROGRAM, "restore", "chronos_db", time]);
    assert_ne!(again.code, 0);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(lab.sql(&copy, "select count(*) from engines"), "50");
    let roles = lab.on_server(&[PROGRAM, "globals", time]).stdout;
    assert!(roles.contains("CREATE ROLE app") && !roles.contains("SCRAM-SHA-256"), "{roles}");
    lab.sql("postgres", &format!("drop database \"{copy}\""));
}

/// As a lifecycle rule would freeze it.
fn frozen_one_is_refused_with_its_time(lab: &Rehearsal, time: &str) {
    let key = format!("{FOLDER}{time}.dump.enc");
    let source = json!({ "Bucket": BUCKET, "Key": key });
    let copy = json!({ "Bucket": BUCKET, "Key": key, "CopySource": source, "StorageClass": "DEEP_ARCHIVE" });
    lab.aws("s3", "copy_object", &copy);
    let listed = lab.expect(0, &["--sandbox", "backup", "list"]).stdout;
    assert!(listed.contains("1 in an archive class of S3; the newest takes up to 12 h to thaw"), "{listed}");
    for how in ["--plan", "--yes"] {
        let refused = lab.run(&["--sandbox", "restore", "--from-dump", time, "--database", "chronos_db", how]);
        assert!(refused.code == 3 && refused.stderr.contains("error[dump-archived]"), "{how}: {refused:?}");
        assert_eq!(refused.stdout.contains("DEEP_ARCHIVE: S3 takes up to 12 h"), how == "--plan", "{}", refused.stdout);
    }
    // What is in the archive cannot be copied from there: the version before it is brought back.
    let versions = lab.aws("s3", "list_object_versions", &json!({ "Bucket": BUCKET, "Prefix": key }));
    let mut all = versions["Versions"].as_array().into_iter().flatten();
    let frozen = all.find(|version| version["IsLatest"] == true && version["Key"] == key.as_str());
    let version = frozen.expect("the newest version")["VersionId"].clone();
    lab.aws("s3", "delete_object", &json!({ "Bucket": BUCKET, "Key": key, "VersionId": version }));
}

fn older_ones_are_thinned_out(lab: &Rehearsal, time: &str) {
    let put =
        |name: &str| drop(lab.aws("s3", "put_object", &json!({ "Bucket": BUCKET, "Key": format!("{FOLDER}{name}") })));
    // Two of one day long ago, one without its checksum, and something of somebody else's.
    for name in [
        "20240101T010000Z.dump.enc",
        "20240101T010000Z.dump.enc.sha256",
        "20240101T020000Z.dump.enc",
        "20240101T020000Z.dump.enc.sha256",
        "20240301T010000Z.dump.enc",
        "notes.txt",
    ] {
        put(name);
    }
    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
    let keys = keys(lab);
    let has = |name: &str| keys.iter().any(|key| key == name);
    assert!(!has("20240101T010000Z.dump.enc") && !has("20240101T010000Z.dump.enc.sha256"), "{keys:?}");
    assert!(has("20240101T020000Z.dump.enc") && has("20240101T020000Z.dump.enc.sha256"), "{keys:?}");
    assert!(!has("20240301T010000Z.dump.enc") && has("notes.txt"), "{keys:?}");
    // Of today, only the newest.
    assert!(!has(&format!("{time}.dump.enc")), "{keys:?}");
    assert_eq!(keys.len(), 5, "{keys:?}");
}

fn a_failure_keeps_nothing_else_from_being_dumped(lab: &Rehearsal) {
    let before = keys(lab);
    let globals = || {
        lab.on_server(&[PROGRAM, "list"]).stdout.lines().find(|line| line.starts_with(".globals")).map(str::to_owned)
    };
    let roles = globals();
    lab.sql("postgres", "alter database chronos_db rename to elsewhere");
    let run = lab.tried_on_server(&["systemctl", "start", "seawall-dump.service"]);
    assert_ne!(run.code, 0);
    lab.sql("postgres", "alter database elsewhere rename to chronos_db");
    assert_eq!(keys(lab), before, "nothing of it was sent, and nothing thinned out");
    assert_ne!(globals(), roles, "the roles were dumped all the same");
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("the last run of seawall-dump.service failed"), "{}", plan.stdout);
    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
}

/// Where dumps by need come from: a partitioned table and one beside it, and a database of which no row is wanted.
const TABLES: &str = "set role app; \
    create table engines (id int, name text) partition by range (id); \
    create table engines_low partition of engines for values from (0) to (26); \
    create table engines_high partition of engines for values from (26) to (1000); \
    insert into engines select n, 'engine' from generate_series(1, 50) as n; \
    create type mood as enum ('good', 'bad'); \
    create table \"No.tes\" (id int primary key, mood mood); \
    insert into \"No.tes\" select n, 'bad' from generate_series(1, 10) as n";
const ROWS: &str = "select (select count(*) from engines), (select count(*) from \"No.tes\")";

#[test]
fn dumps_by_need_hold_what_is_wanted_and_named_ones_are_kept() {
    let Some(lab) = Rehearsal::database("dumps_by_need") else { return };
    let pass = "      cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }\n";
    lab.edit_inventory(
        pass,
        &format!("{pass}      dumps: {{ schema_only: [events], tables: {{ chronos_db: [public.engines] }} }}\n"),
    );
    lab.edit_inventory("databases: [chronos_db]", "databases: [chronos_db, events]");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let second = lab.expect(0, &["--sandbox", "plan"]);
    assert!(second.stdout.contains("No changes"), "{}", second.stdout);
    lab.sql("chronos_db", TABLES);
    lab.sql("events", "create table happened as select n from generate_series(1, 7) as n");

    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
    let scheduled = lab.on_server(&[PROGRAM, "list"]).stdout;
    assert_eq!(scheduled.lines().count(), 3, "{scheduled}");
    assert_eq!(restored(&lab, "chronos_db", "tables", ROWS), "50|0", "of the partitions, too, and of no other table");
    assert_eq!(restored(&lab, "events", "schema", "select count(*) from happened"), "0");
    a_table_that_is_gone_is_said(&lab);

    let made = lab.expect(0, &["--sandbox", "--format", "json", "backup", "dump", "--before", "the-move"]).stdout;
    let made: Value = serde_json::from_str(&made).expect("JSON on stdout");
    let names: Vec<&str> = made["made"]["dumps"]
        .as_array()
        .expect("dumps")
        .iter()
        .map(|dump| dump["database"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, [".globals", "chronos_db", "events"], "{made}");
    assert_eq!(restored(&lab, "chronos_db", "before-the-move.dump", ROWS), "50|10", "named ones are whole");
    let again = lab.expect(1, &["--sandbox", "backup", "dump", "--before", "the-move"]);
    assert!(again.stderr.contains("error[dump-name-taken]"), "{}", again.stderr);

    // Two more of the schedule: they thin each other out, and nothing else.
    for _ in 0..2 {
        lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
    }
    let list = lab.on_server(&[PROGRAM, "list"]).stdout;
    let many = |what: &str| list.lines().filter(|line| line.ends_with(what)).count();
    assert_eq!((many(" tables"), many(" schema"), many(" before-the-move.dump")), (1, 1, 2), "{list}");
    let shown = lab.expect(0, &["--sandbox", "backup", "list"]).stdout;
    assert!(shown.contains("before the-move: ") && shown.contains("with the rows of some tables"), "{shown}");
    half_of_it(&lab);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
}

/// What a statement gives in a copy of the newest dump of a sort.
fn restored(lab: &Rehearsal, database: &str, what: &str, statement: &str) -> String {
    let list = lab.on_server(&[PROGRAM, "list"]).stdout;
    let newest =
        list.lines().filter(|line| line.starts_with(&format!("{database} ")) && line.ends_with(&format!(" {what}")));
    let time = newest.max().and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("no {what}: {list}"));
    let copy = lab.on_server(&[PROGRAM, "restore", database, time]).stdout.trim().to_owned();
    let said = lab.sql(&copy, statement);
    lab.sql("postgres", &format!("drop database \"{copy}\""));
    said
}

/// A dump without the rows that somebody counts on is none.
fn a_table_that_is_gone_is_said(lab: &Rehearsal) {
    lab.sql("chronos_db", "alter table engines rename to motors");
    assert_ne!(lab.tried_on_server(&["systemctl", "start", "seawall-dump.service"]).code, 0);
    let journal = lab.on_server(&["journalctl", "-u", "seawall-dump.service", "-o", "cat", "--no-pager"]).stdout;
    assert!(journal.contains("missing public.engines"), "{journal}");
    lab.sql("chronos_db", "alter table motors rename to engines");
    lab.on_server(&["systemctl", "start", "seawall-dump.service"]);
}

/// What could be dumped is kept, and what could not be is named.
fn half_of_it(lab: &Rehearsal) {
    lab.sql("postgres", "alter database events rename to elsewhere");
    let failed = lab.expect(1, &["--sandbox", "backup", "dump", "--before", "half"]);
    lab.sql("postgres", "alter database elsewhere rename to events");
    for part in ["error[dump-failed]", "not dumped: `events`", "dumped, and kept: `chronos_db`"] {
        assert!(failed.stderr.contains(part), "{part:?} is not in {}", failed.stderr);
    }
}
