//! Roles on a real cluster: they get in or not, and may do what is declared and nothing else; what somebody changes by hand
//! is found and healed; who leaves the inventory is out.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::rehearsal::{Rehearsal, Tampering, rounds, tampering};

/// Goes below the worked example's `sshd` section. The server itself is the application: its own address is let in.
const SECTION: &str = "
    postgres:
      extensions: [pg_stat_statements, pgcrypto]
      databases: [chronos_db]
      roles:
        app: { login: true, connections: 10, owns: [chronos_db], password: { file: secrets/app } }
        readonly: { login: true, connections: 2, grants: read, password: { file: secrets/readonly } }
        writer: { login: true, connections: 3, grants: write, password: { file: secrets/writer } }
        monitoring: { login: true, connections: 3, member_of: [pg_monitor] }
        break_glass: { login: false, member_of: [pg_read_all_data], password: { file: secrets/break_glass } }
      access:
        - { role: app, database: chronos_db, from: [127.0.0.1/32] }
        - { role: readonly, database: chronos_db, from: [127.0.0.1/32] }
        - { role: writer, database: chronos_db, from: [127.0.0.1/32] }
";
const WITH_PASSWORDS: [&str; 4] = ["app", "readonly", "writer", "break_glass"];

/// Runs SQL as ROLE over TCP and TLS, with the password in a file; ends with a line `status N`.
const AS_ROLE: &str = r#"umask 077; file=$(mktemp)
printf '127.0.0.1:5432:*:%s:%s\n' "$1" "$2" >"$file"
PGPASSFILE=$file psql -XAtq -v ON_ERROR_STOP=1 -d "host=127.0.0.1 dbname=chronos_db user=$1 sslmode=require" -c "$3" 2>&1
echo "status $?"; rm -f "$file""#;

/// Holds COUNT sessions of ROLE until each is known to be there, says what one more is told, and lets go. A session that
/// nobody let go of ends by itself.
const ONE_TOO_MANY: &str = r#"umask 077; file=$(mktemp)
printf '127.0.0.1:5432:*:%s:%s\n' "$1" "$2" >"$file"; export PGPASSFILE=$file
session="host=127.0.0.1 dbname=chronos_db user=$1 sslmode=require"
for _ in $(seq "$3"); do psql -XAtq -d "$session" -c 'SELECT pg_sleep(60)' >/dev/null 2>&1 & done
count() { runuser -u postgres -- psql -XAtq -c "SELECT count(*) FROM pg_stat_activity WHERE usename = '$1' AND query LIKE '%sleep%'"; }
for _ in $(seq 100); do [ "$(count "$1")" = "$3" ] && break; sleep 0.1; done
psql -XAtq -d "$session" -c 'SELECT 1' 2>&1
runuser -u postgres -- psql -XAtq -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '$1'" >/dev/null
wait; rm -f "$file""#;

/// Role, SQL, and the words with which it is refused; none where it works.
const MATRIX: [(&str, &str, Option<&str>); 20] = [
    ("app", "CREATE TABLE orders (id serial PRIMARY KEY, note text)", None),
    ("app", "INSERT INTO orders (note) VALUES ('first')", None),
    ("app", "CREATE SCHEMA reports CREATE TABLE totals (day date)", None),
    ("app", "CREATE ROLE friend", Some("permission denied to create role")),
    ("app", "COPY orders TO PROGRAM 'cat'", Some("pg_execute_server_program")),
    ("readonly", "SELECT * FROM orders", None),
    ("readonly", "SELECT * FROM reports.totals", None),
    ("readonly", "INSERT INTO orders (note) VALUES ('mine')", Some("permission denied for table orders")),
    ("readonly", "UPDATE orders SET note = 'mine'", Some("permission denied for table orders")),
    ("readonly", "SELECT nextval('orders_id_seq')", Some("permission denied for sequence orders_id_seq")),
    ("readonly", "CREATE TABLE mine (x int)", Some("permission denied for schema public")),
    ("readonly", "CREATE TEMPORARY TABLE mine (x int)", Some("permission denied to create temporary tables")),
    ("readonly", "SET ROLE app", Some("permission denied to set role")),
    ("writer", "INSERT INTO orders (note) VALUES ('second')", None),
    ("writer", "UPDATE orders SET note = 'changed' WHERE note = 'second'", None),
    ("writer", "INSERT INTO reports.totals VALUES (now())", None),
    ("writer", "DELETE FROM orders WHERE note = 'changed'", None),
    ("writer", "TRUNCATE orders", Some("permission denied for table orders")),
    ("writer", "DROP TABLE orders", Some("must be owner of table orders")),
    ("writer", "CREATE TABLE reports.mine (x int)", Some("permission denied for schema reports")),
];

/// What is done as superuser; the commands are SQL.
const ROLES: [Tampering; 9] = [
    tampering("postgres.roles/db", "ALTER ROLE readonly SUPERUSER"),
    tampering("postgres.roles/db", "ALTER ROLE app CREATEDB CREATEROLE BYPASSRLS REPLICATION"),
    tampering("postgres.roles/db", "ALTER ROLE writer PASSWORD 'known to everybody'"),
    tampering("postgres.roles/db", "SET password_encryption = md5; ALTER ROLE writer PASSWORD 'known to everybody'"),
    tampering("postgres.roles/db", "ALTER ROLE writer PASSWORD NULL"),
    tampering("postgres.roles/db", "ALTER ROLE monitoring PASSWORD 'one of its own'"),
    tampering("postgres.roles/db", "ALTER ROLE break_glass LOGIN; ALTER ROLE readonly VALID UNTIL '2001-01-01'"),
    tampering("postgres.roles/db", "REVOKE pg_monitor FROM monitoring"),
    tampering("postgres.roles/db", "GRANT postgres TO readonly WITH ADMIN OPTION; GRANT app TO writer"),
];

const DATABASES: [Tampering; 5] = [
    tampering("postgres.databases/db", "GRANT ALL ON ALL TABLES IN SCHEMA public TO readonly"),
    tampering("postgres.databases/db", "GRANT UPDATE (note) ON orders TO readonly; GRANT SELECT ON orders TO PUBLIC"),
    tampering("postgres.databases/db", "CREATE TABLE made_by_hand (x int)"),
    tampering(
        "postgres.databases/db",
        "GRANT CONNECT ON DATABASE chronos_db TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC",
    ),
    tampering("postgres.databases/db", "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT ALL ON TABLES TO readonly"),
];

const EXTENSIONS: [Tampering; 1] = [tampering("postgres.extensions/db", "DROP EXTENSION pgcrypto")];

fn password(role: &str) -> String {
    format!("the password of {role}")
}

#[test]
fn roles_get_in_and_do_what_is_declared() {
    let Some(lab) = Rehearsal::base("roles_get_in_and_do_what_is_declared") else { return };
    let folder = lab.path().join("secrets");
    std::fs::create_dir(&folder).expect("a folder for passwords");
    for role in WITH_PASSWORDS {
        let file = folder.join(role);
        std::fs::write(&file, password(role)).expect("a password is written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("and closed to others");
    }
    lab.edit_inventory("\n    sshd: {}", &format!("{SECTION}\n    sshd: {{}}"));
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(&lab, "the first apply");

    for (role, sql, refused) in MATRIX {
        let said = as_role(&lab, role, &password(role), sql);
        match refused {
            None => assert!(said.ends_with("status 0"), "{role}: {sql}: {said}"),
            Some(why) => assert!(said.contains(why) && !said.ends_with("status 0"), "{role}: {sql}: {said}"),
        }
    }
    as_wanted(&lab, "what the owner made since");
    strangers_stay_out(&lab);
    limits_hold(&lab);
    for round in rounds(&[&ROLES, &DATABASES, &EXTENSIONS]) {
        for Tampering { command: sql, .. } in &round {
            superuser(&lab, sql);
        }
        lab.healed(&round);
    }
    strangers_stay_out(&lab);
    assert_eq!(as_role(&lab, "writer", &password("writer"), "SELECT 1"), "1\nstatus 0");
    who_leaves_is_out(&lab);
}

#[track_caller]
fn as_wanted(lab: &Rehearsal, after: &str) {
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "after {after}: {}", plan.stdout);
}

fn as_role(lab: &Rehearsal, role: &str, password: &str, sql: &str) -> String {
    lab.on_server(&["bash", "-c", AS_ROLE, "as-role", role, password, sql]).stdout.trim().to_owned()
}

fn superuser(lab: &Rehearsal, sql: &str) -> String {
    let psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "chronos_db"];
    lab.on_server(&[&psql[..], &["-c", sql]].concat()).stdout.trim().to_owned()
}

/// A wrong password, a role without one, and a role that may not log in.
fn strangers_stay_out(lab: &Rehearsal) {
    for (role, password) in [
        ("readonly", "a guess".to_owned()),
        ("writer", "known to everybody".to_owned()),
        ("writer", password("readonly")),
        ("monitoring", "one of its own".to_owned()),
        ("break_glass", password("break_glass")),
        ("nobody", "at all".to_owned()),
    ] {
        let said = as_role(lab, role, &password, "SELECT 'let in'");
        assert!(said.contains("FATAL") && said.ends_with("status 2"), "{role}: {said}");
    }
}

fn limits_hold(lab: &Rehearsal) {
    let ask = |count: &str| {
        let argv = ["bash", "-c", ONE_TOO_MANY, "one-too-many", "readonly", &password("readonly"), count];
        lab.on_server(&argv).stdout.trim().to_owned()
    };
    assert_eq!(ask("1"), "1", "one more is within the limit");
    let refused = ask("2");
    assert!(refused.contains("too many connections for role \"readonly\""), "{refused}");
}

/// Its login and its sessions end, what it may do and what it wrote stays, and it can come back.
fn who_leaves_is_out(lab: &Rehearsal) {
    const LINE: &str =
        "        writer: { login: true, connections: 3, grants: write, password: { file: secrets/writer } }\n";
    const RULE: &str = "        - { role: writer, database: chronos_db, from: [127.0.0.1/32] }\n";
    let inventory = lab.inventory();
    let rows = superuser(lab, "SELECT count(*) FROM orders");
    let hold = "SELECT pg_sleep(300)";
    let argv = ["systemd-run", "--quiet", "--collect", "bash", "-c", AS_ROLE, "as-role", "writer"];
    lab.on_server(&[&argv[..], &[&password("writer"), hold]].concat());
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'writer'";
    // Each look takes a login; the session is there after the first few.
    assert!((0..50).any(|_| superuser(lab, sessions) == "1"), "the session of `writer` did not begin");
    lab.edit_inventory(LINE, "");
    lab.edit_inventory(RULE, "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(lab, "a role left");
    assert!((0..50).any(|_| superuser(lab, sessions) == "0"), "the session of `writer` went on");
    let said = as_role(lab, "writer", &password("writer"), "SELECT 1");
    assert!(said.contains("FATAL"), "{said}");
    assert_eq!(superuser(lab, "SELECT count(*) FROM orders"), rows);
    lab.write_inventory(&inventory);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    as_wanted(lab, "it came back");
    assert_eq!(as_role(lab, "writer", &password("writer"), "SELECT 1"), "1\nstatus 0");
}
