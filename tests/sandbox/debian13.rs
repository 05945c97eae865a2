//! Debian 13 from nothing to a database server: hardening, PostgreSQL 17, pool, backups and dumps converge on it, TimescaleDB does
//! its work, and what is tampered with is found and healed.

#![allow(clippy::print_stderr, reason = "how long a first apply takes is said aloud")]

use std::time::Instant;

use crate::sandbox::attacks_services::{Ground, nobody_leads_root_elsewhere_in};
use crate::sandbox::bans::{ATTACKER, Caller, PATIENCE};
use crate::support::rehearsal::{Rehearsal, Tampering, tampering};

/// What the worked example becomes: the system, its PostgreSQL, and what the example leaves out.
const EDITS: [(&str, &str); 7] = [
    ("fail2ban: {}", "fail2ban: { retries: 3 }"),
    ("blueprint: debian_12", "blueprint: debian_13"),
    ("version: 15 ", "version: 17 "),
    ("extensions: [pg_stat_statements]", "extensions: [timescaledb, pg_stat_statements]"),
    ("why: application }", "why: application }\n      - { port: 6432, from: [198.51.100.7/32], why: pool }"),
    (
        "archive_timeout: 5m ",
        "dumps: { schedule: daily 03:30, databases: [chronos_db], keep: { daily: 7, weekly: 4, monthly: 12 } }\n      archive_timeout: 5m ",
    ),
    (
        "    # --- End of the database. ---",
        "    pgbouncer: { port: 6432, mode: transaction, clients: 200, pool: 3 }\n    # --- End of the database. ---",
    ),
];

/// Sixty days of measurements, which TimescaleDB puts into chunks of seven days.
const MEASURED: &str = "
set role app;
create table measured (at timestamptz not null, sensor int not null, value float8);
select create_hypertable('measured', 'at');
insert into measured select timestamptz '2026-01-01 00:00+00' + n * interval '1 hour', n % 3, n from generate_series(0, 1439) n;
";
const DAYS: &str =
    "select count(*), sum(n) from (select time_bucket('1 day', at), count(*) n from measured group by 1) d";

/// What somebody does, and the resource that must say so. Each is another resource, so that one round finds and heals all.
const TAMPERINGS: [Tampering; 14] = [
    tampering("host.packages/db", "apt-get remove -y jq"),
    tampering("host.sysctl/db", "sysctl -w net.ipv4.conf.all.accept_redirects=1"),
    tampering(
        "host.sshd/db",
        "echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/00-a.conf; systemctl reload ssh",
    ),
    tampering("host.ufw/db", "iptables -I INPUT -j ACCEPT"),
    tampering("host.users/db", "cp /home/admin/.ssh/authorized_keys /home/admin/.ssh/authorized_keys2"),
    // The match that Debian 13's own settings have: sshd's failures come from a program of another name there.
    Tampering {
        address: "host.fail2ban/db",
        command: "fail2ban-client set sshd addjournalmatch _COMM=sshd",
        says: "runs.sshd.reads",
    },
    Tampering {
        address: "postgres.cluster/db",
        command: "runuser -u postgres -- psql -Xqd postgres -c \"alter system set shared_preload_libraries = 'pg_stat_statements'\"",
        says: "alter_system.shared_preload_libraries",
    },
    tampering("postgres.roles/db", "runuser -u postgres -- psql -Xqd postgres -c 'alter role readonly superuser'"),
    tampering(
        "postgres.databases/db",
        "runuser -u postgres -- psql -Xqd chronos_db -c 'grant select on measured to public'",
    ),
    Tampering {
        address: "postgres.extensions/db",
        command: "runuser -u postgres -- psql -Xqd chronos_db -c 'drop extension timescaledb cascade'",
        says: "chronos_db.timescaledb ",
    },
    tampering(
        "postgres.access/db",
        "echo 'host all all all trust' >>/etc/postgresql/17/main/pg_hba.conf; systemctl reload postgresql@17-main",
    ),
    tampering("pgbackrest.repo/db", "sed -i s/retention-full=14/retention-full=1/ /etc/pgbackrest/pgbackrest.conf"),
    tampering("pgbouncer.pool/db", "sed -i s/^max_client_conn.*/max_client_conn=1/ /etc/pgbouncer/pgbouncer.ini"),
    tampering("postgres.dumps/db", "systemctl disable --now seawall-dump.timer"),
];

fn nothing_to_do(lab: &Rehearsal) {
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
}

#[test]
fn debian_13_becomes_a_database_server_with_timescaledb() {
    let Some(lab) = Rehearsal::begin_with_database("debian_13_becomes_a_database_server") else { return };
    for (from, to) in EDITS {
        lab.edit_inventory(from, to);
    }
    // The lab takes the operator's address from the inventory that it starts with.
    lab.expect(0, &["sandbox", "up"]);
    lab.edit_inventory("from: [203.0.113.0/24], why: operators", "from: anywhere, why: operators");
    let started = Instant::now();
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    eprintln!("measured: the first apply on Debian 13: {} ms", started.elapsed().as_millis());
    lab.somebody_reads_alerts();
    nothing_to_do(&lab);
    let system = lab.on_server(&["cat", "/etc/os-release"]);
    assert!(system.stdout.contains("VERSION_ID=\"13\""), "{}", system.stdout);

    an_attacker_is_banned(&lab);
    timescaledb_does_its_work(&lab);
    a_restore_has_the_chunks(&lab);
    every_tampering_is_found_and_healed(&lab);
    let ground = Ground { folder: "/etc/pgbouncer", file: "pgbouncer.ini", user: "postgres" };
    nobody_leads_root_elsewhere_in(&lab, &ground);
    a_package_that_is_gone_comes_back(&lab);
    a_rebuild_is_rehearsed(&lab);
}

/// fail2ban sees failures of a sshd that logs from another program than the one that listens. This sshd turns away by itself
/// who fails too often, too, for some seconds: it is fail2ban that must say so.
fn an_attacker_is_banned(lab: &Rehearsal) {
    let caller = Caller::new(lab);
    assert!(caller.reaches(Some(ATTACKER)), "nobody is banned yet");
    let banned = || lab.on_server(&["fail2ban-client", "get", "sshd", "banip"]).stdout.contains(ATTACKER);
    let started = Instant::now();
    while !banned() {
        assert!(started.elapsed() < PATIENCE, "not banned within {PATIENCE:?}");
        caller.fails_to_log_in(Some(ATTACKER));
    }
    assert!(!caller.reaches(Some(ATTACKER)) && caller.reaches(None), "the attacker is out and the operator is not");
}

/// A hypertable has its chunks, is asked through the pool's and the reader's roles like any table, and is no difference.
fn timescaledb_does_its_work(lab: &Rehearsal) {
    lab.sql("chronos_db", MEASURED);
    assert_eq!(lab.sql("chronos_db", DAYS), "60|1440");
    let chunks =
        lab.sql("chronos_db", "select count(*) from timescaledb_information.chunks where hypertable_name = 'measured'");
    assert_eq!(chunks, "9", "60 days in chunks of seven");
    let plan = lab.sql("chronos_db", "explain select * from measured where at >= '2026-02-26'");
    assert_eq!(plan.matches("Scan").count(), 1, "one chunk is read: {plan}");
    assert_eq!(lab.sql("chronos_db", "set role readonly; select count(*) from measured"), "1440");
    assert_eq!(lab.sql("chronos_db", "show timescaledb.license"), "apache", "Debian's edition");
    nothing_to_do(lab);
}

/// What pgBackRest 2.55 restores to a moment is a hypertable with all of its rows, and TimescaleDB opens it.
fn a_restore_has_the_chunks(lab: &Rehearsal) {
    let moment = lab.sql("chronos_db", "select clock_timestamp()");
    lab.sql("chronos_db", "delete from measured where sensor = 0");
    lab.archived();
    lab.expect(0, &["--sandbox", "restore", "--to", &moment, "--name", "copy", "--yes"]);
    let restored = lab.expect(0, &["--sandbox", "restore", "psql", "copy", "--", "-d", "chronos_db", "-XAtc", DAYS]);
    assert_eq!(restored.stdout.trim(), "60|1440", "at {moment}");
    assert_eq!(lab.sql("chronos_db", "select count(*) from measured"), "960");
    lab.expect(0, &["--sandbox", "restore", "drop", "copy"]);
    // A drill has them, too, and reads every index of the chunks; and it notices what newer versions refuse in another place.
    lab.edit_inventory(
        "      stanza: chronos ",
        "      drills: { checks: [{ database: chronos_db, sql: \"select count(*) from public.measured\", expect: \"960\" }] }\n      stanza: chronos ",
    );
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
    lab.archived();
    lab.expect(0, &["--sandbox", "drill", "--yes"]);
    for what in ["segment", "passphrase", "timeline"] {
        let broken = lab.expect(1, &["--sandbox", "drill", "--yes", "--break", what]);
        assert!(
            broken.stdout.contains("as was wanted: a broken") && !broken.stdout.contains("not as was"),
            "{}",
            broken.stdout
        );
    }
}

/// All at once, and TimescaleDB works again.
fn every_tampering_is_found_and_healed(lab: &Rehearsal) {
    lab.tampered(&TAMPERINGS);
    lab.sql("chronos_db", &MEASURED.replace("measured", "measured_again"));
    assert_eq!(lab.sql("chronos_db", &DAYS.replace("measured", "measured_again")), "60|1440");
}

/// Without its library no statement works in the database, so nothing is known of it; the package comes back all the same.
fn a_package_that_is_gone_comes_back(lab: &Rehearsal) {
    lab.on_server(&["apt-get", "remove", "-y", "postgresql-17-timescaledb"]);
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    assert!(drift.contains("packages.postgresql-17-timescaledb"), "{drift}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    nothing_to_do(lab);
    assert_eq!(lab.sql("chronos_db", &DAYS.replace("measured", "measured_again")), "60|1440", "no row was lost");
}

/// The loss of the server, rehearsed on a fresh instance of this system with TimescaleDB, pool and dumps declared.
fn a_rebuild_is_rehearsed(lab: &Rehearsal) {
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
    lab.archived();
    // The table that the drills before were asked about went with its extension.
    lab.edit_inventory(
        r#"sql: "select count(*) from public.measured", expect: "960""#,
        r#"sql: "select count(*) from public.measured_again", expect: "1440""#,
    );
    let rehearsed = lab.expect(0, &["--sandbox", "drill", "--fresh", "--yes"]);
    assert!(rehearsed.stdout.contains("PASSED") && rehearsed.stdout.contains("not rehearsed"), "{}", rehearsed.stdout);
}
