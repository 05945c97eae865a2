//! A real PostgreSQL and a real pgBackRest: restored to a moment, changed under load, and with a repository that is down.

use crate::support::rehearsal::{Rehearsal, Tampering, rounds, tampering};

/// Rows before and after the moment that is restored to.
const BEFORE: u32 = 100;
const AFTER: u32 = 50;

/// SECONDS: four clients that each note a number after the server has committed it, and go on when they are cut off. PGAPPNAME
/// tells them apart from everybody else.
const WRITERS: &str = r#"rm -f /tmp/committed.*
for client in 1 2 3 4; do
    (
        end=$(( $(date +%s) + $1 )) n=0
        while [ "$(date +%s)" -lt "$end" ]; do
            n=$((n + 1))
            runuser -u postgres -- psql -h /var/run/postgresql -XAtq -d postgres -c "insert into load values ($client, $n) returning n" >>/tmp/committed.$client 2>/dev/null
        done
    ) &
done
wait"#;

#[test]
fn a_restore_to_a_moment_brings_exactly_the_rows_before_it() {
    let Some(lab) = Rehearsal::database("a_restore_to_a_moment") else { return };
    // A server that is starting is neither as wanted nor different: it is waited for.
    lab.on_server(&["systemctl", "restart", "--no-block", "postgresql@15-main.service"]);
    let second = lab.expect(0, &["--sandbox", "plan"]);
    assert!(second.stdout.contains("No changes"), "{}", second.stdout);
    the_backup_is_encrypted(&lab);

    lab.sql("postgres", "create table marked (n integer primary key)");
    lab.sql("postgres", &format!("insert into marked select generate_series(1, {BEFORE})"));
    let moment = lab.sql("postgres", "select clock_timestamp()");
    lab.sql("postgres", &format!("insert into marked select generate_series({BEFORE} + 1, {BEFORE} + {AFTER})"));
    lab.archived();
    lab.on_server(&["systemctl", "start", "seawall-backup@diff.service"]);

    let restore = |to: &str| {
        lab.expect(0, &["--sandbox", "restore", "--to", to, "--name", "copy", "--yes"]);
        let question = ["restore", "psql", "copy", "--", "-XAtc", "select count(*), min(n), max(n) from marked"];
        let rows = lab.expect(0, &[&["--sandbox"][..], &question].concat()).stdout.trim().to_owned();
        lab.expect(0, &["--sandbox", "restore", "drop", "copy"]);
        rows
    };
    assert_eq!(restore(&moment), format!("{BEFORE}|1|{BEFORE}"), "at {moment}");
    let later = lab.sql("postgres", "select now()");
    lab.archived();
    assert_eq!(restore(&later), format!("{}|1|{}", BEFORE + AFTER, BEFORE + AFTER), "at {later}");
    // The copies were another timeline, and nothing of them is in the archive of the original.
    let listed = lab.on_server(&[
        "runuser",
        "-u",
        "postgres",
        "--",
        "pgbackrest",
        "--stanza=chronos",
        "repo-ls",
        "archive/chronos/15-1",
    ]);
    assert!(!listed.stdout.contains("00000002"), "{}", listed.stdout);
    lab.expect(0, &["--sandbox", "plan"]);
    the_keys_can_do_what_they_are_for_and_no_more(&lab);
    a_new_key_is_taken_up_at_once(&lab);
}

/// No row can be read in the bucket: what pgBackRest stores begins with the mark of OpenSSL's salted encryption.
fn the_backup_is_encrypted(lab: &Rehearsal) {
    let listed = lab.aws(
        "s3",
        "list_objects_v2",
        &serde_json::json!({ "Bucket": "project-chronos-backups", "Prefix": "chronos/pgbackrest/backup/" }),
    );
    let objects = listed["Contents"].as_array().expect("a backup has objects");
    assert!(objects.len() > 2, "{listed}");
    let info = lab.on_server(&["runuser", "-u", "postgres", "--", "pgbackrest", "info", "--output=json"]);
    assert!(info.stdout.contains("\"cipher\":\"aes-256-cbc\""), "{}", info.stdout);
}

/// The identity for restores reads, and cannot write or delete; the one for backups cannot leave its prefix.
fn the_keys_can_do_what_they_are_for_and_no_more(lab: &Rehearsal) {
    let curl = r#"credentials=$1 method=$2 key=$3
id=$(sed -n 's/^aws_access_key_id *= *//p' "$credentials") secret=$(sed -n 's/^aws_secret_access_key *= *//p' "$credentials")
printf 'user = "%s:%s"\naws-sigv4 = "aws:amz:ca-central-1:s3"\n' "$id" "$secret" |
    curl -sS -K - -o /dev/null -w '%{http_code}' -X "$method" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "https://s3.ca-central-1.amazonaws.com/project-chronos-backups/$key""#;
    let status = |credentials: &str, method: &str, key: &str| {
        let path = format!("/etc/seawall/{credentials}.credentials");
        lab.on_server(&["sh", "-c", curl, "sh", &path, method, key]).stdout.trim().to_owned()
    };
    assert_eq!(status("backup", "PUT", "chronos/probe"), "200");
    assert_eq!(status("backup", "PUT", "seawall/probe"), "403");
    assert_eq!(status("restore", "GET", "chronos/probe"), "200");
    assert_eq!(status("restore", "PUT", "chronos/probe"), "403");
    assert_eq!(status("restore", "DELETE", "chronos/probe"), "403");
    assert_eq!(status("backup", "DELETE", "chronos/probe"), "204");
    // The names of others in the bucket are not its business either.
    assert_eq!(status("backup", "GET", "?list-type=2&prefix=chronos%2F"), "200");
    for beside in
        ["list-type=2", "list-type=2&prefix=seawall%2F", "list-type=2&prefix=c", "delimiter=%2F&list-type=2&prefix="]
    {
        assert_eq!(status("backup", "GET", &format!("?{beside}")), "403", "{beside}");
    }
}

/// A key that was lost is made anew, pgBackRest has it at once, and archiving goes on.
fn a_new_key_is_taken_up_at_once(lab: &Rehearsal) {
    lab.on_server(&["rm", "/etc/seawall/backup.credentials"]);
    lab.expect(0, &["--sandbox", "apply", "--yes", "--only", "iam.user/db-backup"]);
    lab.archived();
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
}

#[test]
fn settings_change_under_load_and_no_committed_row_is_lost() {
    let Some(lab) = Rehearsal::database("settings_change_under_load") else { return };
    lab.sql("postgres", "create table load (client integer, n integer, primary key (client, n))");
    let started = lab.sql("postgres", "select pg_postmaster_start_time()");

    // A reload: nobody is cut off.
    lab.edit_inventory("work_mem: 8MB", "work_mem: 9MB");
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("8MB → 9MB (reload)") && !plan.stdout.contains("RESTART"), "{}", plan.stdout);
    under_load(&lab, || drop(lab.expect(0, &["--sandbox", "apply", "--yes"])));
    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), started, "a reload is no restart");
    assert_eq!(lab.sql("postgres", "show work_mem"), "9MB");

    // A restart, which the plan says beforehand.
    lab.edit_inventory("work_mem: 9MB", "work_mem: 9MB, max_connections: 90");
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("RESTARTS") && plan.stdout.contains("100 → 90 (RESTART)"), "{}", plan.stdout);
    under_load(&lab, || drop(lab.expect(0, &["--sandbox", "apply", "--yes"])));
    assert_ne!(lab.sql("postgres", "select pg_postmaster_start_time()"), started);
    a_restart_waits_for_a_repository_that_is_down(&lab);
    settings_that_break_it_are_put_back(&lab);
}

/// PostgreSQL takes these settings for good ones, and does not start, lets nobody in, or is somewhere else with them.
fn settings_that_break_it_are_put_back(lab: &Rehearsal) {
    let breaks = [
        ("huge_pages: \"on\"", "PostgreSQL did not start: "),
        ("session_preload_libraries: nosuchlib", "nobody can log in any more: "),
        ("shared_preload_libraries: nosuchlib", "PostgreSQL did not start: "),
        ("unix_socket_directories: /tmp", "does not listen in /var/run/postgresql"),
    ];
    for (setting, says) in breaks {
        let name = setting.split(':').next().expect("a name");
        lab.edit_inventory("work_mem: 9MB", &format!("work_mem: 9MB, {setting}"));
        let ended = lab.expect(5, &["--sandbox", "apply", "--yes", "--only", "postgres.cluster/db"]);
        for says in [says, name, "put back", "PostgreSQL is well with them"] {
            assert!(ended.stderr.contains(says), "{setting}: `{says}`: {}", ended.stderr);
        }
        assert_eq!(lab.sql("postgres", "show work_mem"), "9MB");
        let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
        assert!(plan.contains(&format!("settings.{name}")), "what was put back is still to be done: {plan}");
        lab.edit_inventory(&format!(", {setting}"), "");
        lab.expect(0, &["--sandbox", "plan"]);
    }
}

/// Clients write while `change` happens; every row that one of them was told is committed is there afterwards.
fn under_load(lab: &Rehearsal, change: impl FnOnce()) {
    let unit = "--unit=writers";
    lab.on_server(&["systemd-run", "--quiet", "--collect", unit, "sh", "-c", WRITERS, "sh", "12"]);
    change();
    lab.on_server(&["sh", "-c", "while systemctl is-active -q writers; do sleep 0.5; done"]);
    let committed =
        lab.on_server(&["sh", "-c", "for c in 1 2 3 4; do sed \"s/^/$c|/\" /tmp/committed.$c; done | sort"]);
    let there = lab.on_server(&[
        "sh",
        "-c",
        "runuser -u postgres -- psql -XAtqd postgres -c 'select client, n from load' | sort",
    ]);
    let there: std::collections::BTreeSet<&str> = there.stdout.lines().collect();
    let lost: Vec<&str> = committed.stdout.lines().filter(|row| !there.contains(row)).collect();
    assert!(committed.stdout.lines().count() > 20, "the clients wrote {} rows", committed.stdout.lines().count());
    assert!(lost.is_empty(), "{lost:?}");
    lab.sql("postgres", "truncate load");
}

/// A stop waits for the archiver: with a repository that is down it is not begun, and nothing is lost.
fn a_restart_waits_for_a_repository_that_is_down(lab: &Rehearsal) {
    let started = lab.sql("postgres", "select pg_postmaster_start_time()");
    lab.on_server(&["cp", "/etc/hosts", "/etc/hosts.before"]);
    lab.on_server(&["sed", "-i", "s/^[0-9.]* .*amazonaws.*$/127.0.0.1 s3.ca-central-1.amazonaws.com/", "/etc/hosts"]);
    lab.sql("postgres", "insert into load values (9, 9)");
    let failing = "runuser -u postgres -- psql -XAtqd postgres -c 'select pg_switch_wal()' >/dev/null; for i in $(seq 120); do \
        [ \"$(runuser -u postgres -- psql -XAtqd postgres -c 'select failed_count > 0 from pg_stat_archiver')\" = t ] && exit 0; \
        sleep 0.5; done; exit 1";
    lab.sql("postgres", "select pg_stat_reset_shared('archiver')");
    lab.on_server(&["sh", "-c", failing]);
    let plan = lab.run(&["--sandbox", "plan"]);
    assert!(plan.stdout.contains("could not be archived"), "{}", plan.stdout);
    lab.edit_inventory("max_connections: 90", "max_connections: 95");
    let refused = lab.expect(1, &["--sandbox", "apply", "--yes", "--only", "postgres.cluster/db"]);
    assert!(refused.stderr.contains("PostgreSQL was not restarted"), "{}{}", refused.stdout, refused.stderr);
    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), started);
    lab.on_server(&["mv", "/etc/hosts.before", "/etc/hosts"]);
    lab.archived();
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(lab.sql("postgres", "show max_connections"), "95");
    assert_eq!(lab.sql("postgres", "select count(*) from load"), "1");
}

/// Makes the folder of WAL a small disk of its own; the second word is its size.
const SMALL_DISK: &str = "systemctl stop postgresql@15-main && cd /var/lib/postgresql/15/main && mkdir -p /root/wal && \
    cp -a pg_wal/. /root/wal/ && mount -t tmpfs -o size=$1,mode=0700,uid=postgres,gid=postgres tmpfs pg_wal && \
    cp -a /root/wal/. pg_wal/ && systemctl start postgresql@15-main";

/// Writes until the disk is full: prints how many rows were committed.
const FILL: &str = "n=0; while [ $n -lt 400 ]; do \
    runuser -u postgres -- psql -h /var/run/postgresql -XAtqd postgres -c \"insert into filled select $n, repeat(md5(random()::text), 20000)\" >/dev/null 2>&1 || break; \
    n=$((n + 1)); done; echo $n";

#[test]
fn a_full_disk_stops_the_server_and_loses_no_row() {
    let Some(lab) = Rehearsal::database("a_full_disk_stops_the_server") else { return };
    lab.sql("postgres", "create table filled (n integer primary key, what text)");
    lab.sql("postgres", "alter table filled alter what set storage external");
    lab.on_server(&["sh", "-c", SMALL_DISK, "sh", "160m"]);
    lab.on_server(&["cp", "/etc/hosts", "/etc/hosts.before"]);
    lab.on_server(&["sed", "-i", "s/^[0-9.]* .*amazonaws.*$/127.0.0.1 s3.ca-central-1.amazonaws.com/", "/etc/hosts"]);
    let committed = lab.on_server(&["sh", "-c", FILL]).stdout.trim().to_owned();
    assert_ne!(committed, "400", "the disk was not full");
    // WAL is not dropped to make room: the server stands, and says why.
    let plan = lab.run(&["--sandbox", "plan"]);
    assert!(plan.stdout.contains("postgres.cluster/db"), "{}{}", plan.stdout, plan.stderr);
    let apply = lab.expect(1, &["--sandbox", "apply", "--yes", "--only", "postgres.cluster/db"]);
    assert!(apply.stderr.contains("No space left on device"), "{}{}", apply.stdout, apply.stderr);
    // With room and a repository it goes on where it stood.
    lab.on_server(&["mount", "-o", "remount,size=1g", "/var/lib/postgresql/15/main/pg_wal"]);
    lab.on_server(&["mv", "/etc/hosts.before", "/etc/hosts"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.archived();
    assert_eq!(lab.sql("postgres", "select count(*) from filled"), committed);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
}

/// What an intruder, a colleague or a package may do to a database server.
const CLUSTER: [Tampering; 2] = [
    tampering(
        "postgres.cluster/db",
        "runuser -u postgres -- psql -Xqd postgres -c \"alter system set work_mem = '64MB'\" -c 'select pg_reload_conf()'",
    ),
    tampering(
        "postgres.cluster/db",
        "echo \"log_statement = 'none'\" >/etc/postgresql/15/main/conf.d/99-x.conf; systemctl reload postgresql@15-main",
    ),
];

const REPOSITORY: [Tampering; 3] = [
    tampering("pgbackrest.repo/db", "systemctl disable --now seawall-backup-full.timer"),
    tampering("pgbackrest.repo/db", "sed -i s/retention-full=14/retention-full=1/ /etc/pgbackrest/pgbackrest.conf"),
    tampering("pgbackrest.repo/db", "chmod 644 /etc/pgbackrest/conf.d/cipher.conf"),
];

/// What touches more than its own resource, so each is alone. What is not to be seen in a server that is down is no drift.
const ALONE: [(&str, &str); 4] = [
    (
        "sed -i s/include_dir/#include_dir/ /etc/postgresql/15/main/postgresql.conf; systemctl reload postgresql@15-main",
        "postgres.cluster/db",
    ),
    ("systemctl stop postgresql@15-main", "postgres.cluster/db"),
    ("printf '[global]\\nrepo1-s3-key=X\\n' >/etc/pgbackrest/conf.d/key.conf", "pgbackrest.repo/db"),
    ("runuser -u postgres -- psql -Xqd postgres -c 'drop table seawall.heartbeat'", "pgbackrest.repo/db"),
];

#[test]
fn every_tampering_with_the_database_is_found_and_healed() {
    let Some(lab) = Rehearsal::database("every_tampering_with_the_database") else { return };
    for round in rounds(&[&CLUSTER, &REPOSITORY]) {
        lab.tampered(&round);
    }
    for (tampering, address) in ALONE {
        lab.on_server(&["bash", "-c", tampering]);
        let drift = lab.expect(2, &["--sandbox", "drift"]);
        assert!(drift.stdout.contains(address), "{tampering}: {}", drift.stdout);
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let healed = lab.expect(0, &["--sandbox", "plan"]);
        assert!(healed.stdout.contains("No changes"), "{tampering}: {}", healed.stdout);
    }
    what_is_not_ours_to_repair_is_refused(&lab);
}

fn what_is_not_ours_to_repair_is_refused(lab: &Rehearsal) {
    for (tampering, mending, code) in [
        (
            "echo 'work_mem = banana' >/etc/postgresql/15/main/conf.d/00-x.conf; echo broken >>/etc/postgresql/15/main/conf.d/00-x.conf",
            "rm /etc/postgresql/15/main/conf.d/00-x.conf",
            "broken-postgres-configuration",
        ),
        (
            "printf '[global]\\nrepo1-retention-fulll=1\\n' >/etc/pgbackrest/conf.d/zz.conf",
            "rm /etc/pgbackrest/conf.d/zz.conf",
            "foreign-backup-configuration",
        ),
    ] {
        lab.on_server(&["bash", "-c", tampering]);
        let plan = lab.expect(3, &["--sandbox", "plan"]);
        assert!(plan.stdout.contains(code), "{}", plan.stdout);
        lab.on_server(&["bash", "-c", mending]);
        lab.expect(0, &["--sandbox", "plan"]);
    }
    let mut other = lab.command(&["--sandbox", "plan"]);
    let other = other.env("SEAWALL_CIPHER_PASS", "another passphrase, as long").output().expect("the binary runs");
    assert_eq!(other.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&other.stdout).contains("passphrase-changed"));
}
