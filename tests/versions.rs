//! The PostgreSQL kinds and the health views on the version that each Debian brings: their own questions, answers, judgements
//! and steps, on a real host of that release with nothing else of ours on it.
//!
//! Versions in between come from PostgreSQL's own archive, which a sandbox does not reach.

use seawall::base::release::Release;
use seawall::kinds::table::{Judged, Wanted};
use seawall::kinds::{KINDS, kind};
use seawall::plan::observed::Observed;
use serde_json::{Value, json};

use crate::support::postgres::PostgresHost;
use crate::views;

/// What is done as superuser in `shop`, and the kind that must notice.
const TAMPERINGS: [(&str, &str); 13] = [
    ("ALTER ROLE readonly SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS NOINHERIT", "postgres.roles"),
    ("SET password_encryption = md5; ALTER ROLE app PASSWORD 'another'", "postgres.roles"),
    ("ALTER ROLE app VALID UNTIL '2001-01-01' CONNECTION LIMIT -1 NOLOGIN", "postgres.roles"),
    ("REVOKE pg_monitor FROM monitoring; GRANT app TO readonly WITH ADMIN OPTION", "postgres.roles"),
    // The other half of a membership that is wanted.
    ("REVOKE owners FROM app; GRANT app TO owners", "postgres.roles"),
    ("CREATE TABLE by_hand (x int, y int)", "postgres.databases"),
    ("GRANT ALL ON ALL TABLES IN SCHEMA public TO readonly", "postgres.databases"),
    ("GRANT UPDATE (y) ON by_hand TO readonly; GRANT SELECT (x) ON by_hand TO PUBLIC", "postgres.databases"),
    ("GRANT ALL ON DATABASE shop TO PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC, readonly", "postgres.databases"),
    (
        "CREATE ROLE eve; GRANT SELECT, UPDATE ON by_hand TO eve WITH GRANT OPTION; SET ROLE eve; \
         GRANT SELECT, UPDATE ON by_hand TO readonly",
        "postgres.databases",
    ),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE owners GRANT ALL ON TABLES TO readonly, PUBLIC", "postgres.databases"),
    ("ALTER DATABASE shop OWNER TO readonly; ALTER DATABASE shop CONNECTION LIMIT 7", "postgres.databases"),
    ("DROP EXTENSION hstore", "postgres.extensions"),
];

fn judge(host: &PostgresHost, wanted: &Wanted) -> Judged {
    (wanted.kind.judge)(wanted, "test", &host.answers((wanted.kind.probes)(&wanted.desired)))
}

/// Judges every resource and does what it takes. Returns the kinds that differed.
fn converge(host: &PostgresHost, all: &[Wanted]) -> Vec<String> {
    // As a plan does it: all are judged before anything is done.
    let judged: Vec<Judged> = all.iter().map(|wanted| judge(host, wanted)).collect();
    let mut changed = Vec::new();
    for (wanted, judged) in all.iter().zip(judged) {
        match judged.observed {
            Observed::Present(_) if judged.fields.is_empty() => continue,
            Observed::Present(_) => host.steps(&judged.steps),
            Observed::Absent => host.steps(&(wanted.kind.create)(&wanted.desired).steps),
            Observed::Unknown(why) => panic!("{}: {}: {why}", host.version, wanted.address),
        }
        changed.push(wanted.kind.name.to_owned());
    }
    for wanted in all {
        let again = judge(host, wanted);
        assert!(again.fields.is_empty(), "{}: {}: still {:?}", host.version, wanted.address, again.fields);
    }
    changed
}

/// The resources of a server with everything that these kinds know.
fn wanted(version: u16) -> Vec<Wanted> {
    let secret = json!({ "env": "APP" });
    let inventory: Value = json!({
        "seawall": 1,
        "environment": "test",
        "aws": { "account": "123456789012", "region": "ca-central-1" },
        "servers": { "db": {
            "instance": { "bundle": "small_3_0", "blueprint": "debian_12", "zone": "ca-central-1a" },
            "login": { "keys": [] },
            "postgres": {
                "version": version,
                "extensions": ["hstore", "pgcrypto"],
                "databases": ["shop", "plain"],
                "roles": {
                    "owners": { "owns": ["shop"] },
                    "app": { "login": true, "connections": 5, "member_of": ["owners"], "password": secret },
                    "readonly": { "login": true, "connections": 2, "grants": "read", "password": secret },
                    "writer": { "login": true, "connections": 2, "grants": "write", "password": secret },
                    "monitoring": { "login": true, "connections": 1, "member_of": ["pg_monitor"] },
                    "tool": { "login": true, "connections": 1, "grants": "unmanaged" },
                    "nothing": { "login": true, "connections": 1 },
                },
            },
        } },
    });
    let inventory = serde_json::from_value(inventory).expect("this is an inventory");
    let order = ["postgres.roles", "postgres.databases", "postgres.extensions"];
    assert!(KINDS.len() > order.len());
    order.iter().flat_map(|name| (kind(name).expect("a kind of the table").declare)(&inventory)).collect()
}

/// A version is made, tampered with and healed.
fn every_difference_is_found_and_healed(host: &PostgresHost) {
    let version = host.version;
    let all = wanted(version);
    assert_eq!(converge(host, &all).len(), 3, "{version}");
    let owner = "SET ROLE owners; CREATE TABLE a (id serial); CREATE VIEW v AS SELECT 1 AS one; \
                 CREATE SCHEMA s CREATE TABLE b (x int)";
    host.superuser("shop", owner);
    host.superuser("shop", "GRANT ALL ON a TO tool");
    assert_eq!(converge(host, &all), Vec::<String>::new(), "{version}: what its owner makes");
    for (sql, notices) in TAMPERINGS {
        host.superuser("shop", sql);
        assert_eq!(converge(host, &all), [notices], "{version}: {sql}");
    }
    limits_of_the_owner(host, &all);
    host.superuser("postgres", "COMMENT ON ROLE eve IS 'managed by Seawall'; ALTER ROLE eve LOGIN");
    assert_eq!(converge(host, &all), ["postgres.roles"], "{version}: a role that left");
    host.superuser("postgres", "DROP DATABASE shop");
    assert_eq!(converge(host, &all), ["postgres.databases", "postgres.extensions"], "{version}");
}

/// What the owner of a database may set for it, so short that a session ends before its first statement.
fn limits_of_the_owner(host: &PostgresHost, all: &[Wanted]) {
    let version = host.version;
    host.superuser("shop", "DROP EXTENSION hstore");
    let mut limits = vec!["idle_session_timeout", "statement_timeout", "lock_timeout"];
    limits.extend((version >= 17).then_some("transaction_timeout"));
    for limit in limits {
        host.superuser("postgres", &format!("SET ROLE owners; ALTER DATABASE shop SET {limit} = '1ms'"));
    }
    assert_eq!(converge(host, all), ["postgres.extensions"], "{version}: a step under the owner's limits");
    for _ in 0..5 {
        assert_eq!(converge(host, all), Vec::<String>::new(), "{version}: questions under the owner's limits");
    }
    host.superuser("postgres", "ALTER DATABASE shop RESET ALL");
}

fn everything_on(test: &str, release: Release, version: u16) {
    let Some(host) = PostgresHost::begin(test, release, version) else { return };
    every_difference_is_found_and_healed(&host);
    views::every_view_tells_the_truth(&host);
}

#[test]
fn postgresql_15_of_debian_12() {
    everything_on("postgresql_15_of_debian_12", Release::Debian12, 15);
}

#[test]
fn postgresql_17_of_debian_13() {
    everything_on("postgresql_17_of_debian_13", Release::Debian13, 17);
}
