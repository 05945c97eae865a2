//! Who gets into PostgreSQL on a real server, directly and through the pool; and what tampering is found and healed.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::rehearsal::{Ended, Rehearsal, Tampering, rounds, tampering};

/// From where the application comes, by PostgreSQL's port and the pool's.
const APPLICATION: &str = "198.51.100.7";
/// A neighbour that the firewall lets in, and that may log in as `readonly` only.
const NEIGHBOUR: &str = "198.51.100.9";
const STRANGER: &str = "192.0.2.50";

/// What is added to the server of the worked example.
const SECTION: &str = "
    certificate: { name: db.example.com, issuer: private }
    postgres:
      version: 15
      extensions: [pg_stat_statements]
      databases: [chronos_db]
      roles:
        app: { login: true, connections: 15, owns: [chronos_db], password: { file: secrets/app } }
        readonly: { login: true, connections: 2, grants: read, password: { file: secrets/readonly } }
      access:
        - { role: app, database: chronos_db, from: [198.51.100.7/32] }
        - { role: readonly, database: chronos_db, from: [198.51.100.0/28] }
    pgbouncer: { clients: 50, pool: 5 }
";
/// The application's line in its list, and the lines of the tests.
const DOOR: &str = "{ port: 5432, from: [198.51.100.7/32], why: application }";
const DOORS: &str = "{ port: 5432, from: [198.51.100.0/28], why: application }
      - { port: 6432, from: [198.51.100.0/28], why: pooled application }";

/// What is done on the server.
const ACCESS: [Tampering; 5] = [
    tampering(
        "postgres.access/db",
        "HBA=/etc/postgresql/15/main/pg_hba.conf; echo 'host all all 0.0.0.0/0 trust' >>$HBA; systemctl reload postgresql@15-main",
    ),
    tampering(
        "postgres.access/db",
        "HBA=/etc/postgresql/15/main/pg_hba.conf; echo 'nonsense' >>$HBA; systemctl reload postgresql@15-main",
    ),
    tampering("postgres.access/db", "HBA=/etc/postgresql/15/main/pg_hba.conf; sed -i '1i local all all trust' $HBA"),
    tampering("postgres.access/db", "HBA=/etc/postgresql/15/main/pg_hba.conf; chmod 644 $HBA"),
    // As wanted, and newer than what is loaded, whatever its date says.
    tampering(
        "postgres.access/db",
        "HBA=/etc/postgresql/15/main/pg_hba.conf; cp -p $HBA $HBA.x; mv $HBA.x $HBA; touch -d 2020-01-01 $HBA",
    ),
];

const VIEWS: [Tampering; 2] = [
    tampering("postgres.views/db", "runuser -u postgres -- psql -Xqc 'drop view seawall.sizes' chronos_db"),
    tampering(
        "postgres.views/db",
        "runuser -u postgres -- psql -Xqc 'grant select on seawall.sizes to public' chronos_db",
    ),
];

const POOL: [Tampering; 5] = [
    tampering("pgbouncer.pool/db", "sed -i 's/^\"app\".*/\"app\" \"md5\"/' /etc/pgbouncer/userlist.txt"),
    tampering("pgbouncer.pool/db", "sed -i 's/^admin_users =.*/admin_users = app/' /etc/pgbouncer/pgbouncer.ini"),
    tampering(
        "pgbouncer.pool/db",
        "sed -i 's/^chronos_db = /&user=app /' /etc/pgbouncer/pgbouncer.ini; systemctl restart pgbouncer",
    ),
    tampering("pgbouncer.pool/db", "echo 'host all all 0.0.0.0/0 trust' >>/etc/pgbouncer/hba.conf"),
    tampering("pgbouncer.pool/db", "systemctl disable --now pgbouncer"),
];

const ASK: &str = "select current_user || ' in ' || current_database()";

#[test]
fn who_may_log_in_gets_in_and_nobody_else() {
    let Some(lab) = Rehearsal::base("who_may_log_in_gets_in_and_nobody_else") else { return };
    let secrets = lab.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a folder for passwords");
    for (name, password) in [("app", "app's own\n"), ("readonly", "readonly's own\n")] {
        let path = secrets.join(name);
        std::fs::write(&path, password).expect("a password");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    lab.edit_inventory(DOOR, DOORS);
    lab.edit_inventory("\n    sshd: {}", &format!("{SECTION}\n    sshd: {{}}"));
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    who_gets_in(&lab);
    who_is_too_many_waits(&lab);

    for round in rounds(&[&ACCESS, &VIEWS, &POOL]) {
        lab.tampered(&round);
    }
    who_gets_in(&lab);
}

/// Logs in several times at once and says what each psql says. `$1` is the session, `$2` the query, `$3` how often.
const AT_ONCE: &str = "i=0; while [ $i -lt $3 ]; do psql -XAt -d \"$1\" -c \"$2\" & i=$((i+1)); done; wait";

fn logins(lab: &Rehearsal, from: &str, session: &str, password: &str, sql: &str, times: &str) -> Ended {
    let addresses = lab.on_server(&["hostname", "-I"]).stdout;
    let address = addresses.split_whitespace().next().expect("an address");
    let session = format!("host={address} connect_timeout=3 {session}");
    let password = format!("PGPASSWORD={password}");
    let client = ["env", &password, "sh", "-c", AT_ONCE, "sh", &session, sql, times];
    let mut args = vec!["sandbox", "exec", "--from", from, "--"];
    args.extend(client);
    lab.run(&args)
}

fn who_gets_in(lab: &Rehearsal) {
    let (app, readonly) = ("app's own", "readonly's own");
    let doors = [
        // from, port, session, password, what is said
        (APPLICATION, 5432, "dbname=chronos_db user=app sslmode=require", app, "app in chronos_db"),
        (APPLICATION, 6432, "dbname=chronos_db user=app sslmode=require", app, "app in chronos_db"),
        (NEIGHBOUR, 5432, "dbname=chronos_db user=readonly sslmode=require", readonly, "readonly in chronos_db"),
        (NEIGHBOUR, 6432, "dbname=chronos_db user=readonly sslmode=require", readonly, "readonly in chronos_db"),
        // The wrong password, no TLS, a place that is not its own, a database that is not, a superuser, a stranger.
        (APPLICATION, 5432, "dbname=chronos_db user=app sslmode=require", readonly, "password authentication failed"),
        (APPLICATION, 6432, "dbname=chronos_db user=app sslmode=require", readonly, "SASL authentication failed"),
        (APPLICATION, 5432, "dbname=chronos_db user=app sslmode=disable", app, "pg_hba.conf rejects connection"),
        (APPLICATION, 6432, "dbname=chronos_db user=app sslmode=disable", app, "SSL required"),
        (NEIGHBOUR, 5432, "dbname=chronos_db user=app sslmode=require", app, "pg_hba.conf rejects connection"),
        (NEIGHBOUR, 6432, "dbname=chronos_db user=app sslmode=require", app, "login rejected"),
        (APPLICATION, 5432, "dbname=postgres user=app sslmode=require", app, "pg_hba.conf rejects connection"),
        (APPLICATION, 6432, "dbname=postgres user=app sslmode=require", app, "FATAL"),
        (APPLICATION, 5432, "dbname=chronos_db user=postgres sslmode=require", app, "pg_hba.conf rejects connection"),
        (APPLICATION, 6432, "dbname=chronos_db user=postgres sslmode=require", app, "login rejected"),
        (APPLICATION, 6432, "dbname=pgbouncer user=pgbouncer sslmode=require", app, "not allowed"),
        (STRANGER, 5432, "dbname=chronos_db user=app sslmode=require", app, "timeout expired"),
        (STRANGER, 6432, "dbname=chronos_db user=app sslmode=require", app, "timeout expired"),
    ];
    for (from, port, session, password, says) in doors {
        let ended = logins(lab, from, &format!("port={port} {session}"), password, ASK, "1");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains(says), "port {port} from {from}, {session}: {said}");
    }
}

/// `readonly` may hold two connections in PostgreSQL; six clients of the pool all get their answer.
fn who_is_too_many_waits(lab: &Rehearsal) {
    let session = "port=6432 dbname=chronos_db user=readonly sslmode=require";
    let ended = logins(lab, NEIGHBOUR, session, "readonly's own", "select pg_sleep(0.3), 'served'", "6");
    assert_eq!(ended.stdout.matches("served").count(), 6, "{}", ended.stderr);
    // PgBouncer has its clients wait also when PostgreSQL refuses it; it must not come to that.
    lab.on_server(&["sh", "-c", "! grep 'too many connections for role' /var/log/postgresql/*.log"]);
}
