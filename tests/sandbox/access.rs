//! Who gets into PostgreSQL on a real server, directly and through the pool; and what tampering is found and healed.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::rehearsal::{Ended, Rehearsal};

/// From where the application comes, by PostgreSQL's port and the pool's.
const APPLICATION: &str = "198.51.100.7";
/// A neighbour that the firewall lets in, and that may log in as `readonly` only.
const NEIGHBOUR: &str = "198.51.100.9";
const STRANGER: &str = "192.0.2.50";

const INVENTORY: &str = "
seawall: 1
environment: access
aws: { account: \"123456789012\", region: ca-central-1 }
alerts: { email: [ops@example.com] }
servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a }
    login:
      keys:
        - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwKEkPg0++j59LdlVn0HFnl4XblPUyiZVzfLswLUePy ops@example.com
    firewall:
      - { port: 22, from: [203.0.113.0/24], why: operators }
      - { port: 5432, from: [198.51.100.0/28], why: application }
      - { port: 6432, from: [198.51.100.0/28], why: pooled application }
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

/// What is done on the server, and the resource that must notice.
const TAMPERINGS: &[(&str, &str)] = &[
    ("echo 'host all all 0.0.0.0/0 trust' >>$HBA; systemctl reload postgresql@15-main", "postgres.access/db"),
    ("echo 'nonsense' >>$HBA; systemctl reload postgresql@15-main", "postgres.access/db"),
    ("sed -i '1i local all all trust' $HBA", "postgres.access/db"),
    ("chmod 644 $HBA", "postgres.access/db"),
    // As wanted, and newer than what is loaded, whatever its date says.
    ("cp -p $HBA $HBA.x; mv $HBA.x $HBA; touch -d 2020-01-01 $HBA", "postgres.access/db"),
    ("runuser -u postgres -- psql -Xqc 'drop view seawall.sizes' chronos_db", "postgres.views/db"),
    ("runuser -u postgres -- psql -Xqc 'grant select on seawall.sizes to public' chronos_db", "postgres.views/db"),
    ("sed -i 's/^\"app\".*/\"app\" \"md5\"/' /etc/pgbouncer/userlist.txt", "pgbouncer.pool/db"),
    ("sed -i 's/^admin_users =.*/admin_users = app/' /etc/pgbouncer/pgbouncer.ini", "pgbouncer.pool/db"),
    (
        "sed -i 's/^chronos_db = /&user=app /' /etc/pgbouncer/pgbouncer.ini; systemctl restart pgbouncer",
        "pgbouncer.pool/db",
    ),
    ("echo 'host all all 0.0.0.0/0 trust' >>/etc/pgbouncer/hba.conf", "pgbouncer.pool/db"),
    ("systemctl disable --now pgbouncer", "pgbouncer.pool/db"),
];

const ASK: &str = "select current_user || ' in ' || current_database()";

#[test]
fn who_may_log_in_gets_in_and_nobody_else() {
    let Some(lab) = Rehearsal::begin("who_may_log_in_gets_in_and_nobody_else") else { return };
    let secrets = lab.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a folder for passwords");
    for (name, password) in [("app", "app's own\n"), ("readonly", "readonly's own\n")] {
        let path = secrets.join(name);
        std::fs::write(&path, password).expect("a password");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    }
    lab.write_inventory(INVENTORY);
    lab.expect(0, &["sandbox", "up"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    who_gets_in(&lab);
    who_is_too_many_waits(&lab);

    for (tampering, address) in TAMPERINGS {
        let command = format!("HBA=/etc/postgresql/15/main/pg_hba.conf; {tampering}");
        lab.on_server(&["sh", "-c", &command]);
        let drift = lab.expect(2, &["--sandbox", "drift"]);
        assert!(drift.stdout.contains(address), "`{tampering}` was not found: {}", drift.stdout);
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let healed = lab.run(&["--sandbox", "plan"]);
        assert_eq!(healed.code, 0, "`{tampering}` was not healed: {}", healed.stdout);
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
