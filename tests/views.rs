//! The health views on a real server. `versions` brings it, one for each Debian.

use seawall::base::address::Address;
use seawall::kinds::KINDS;
use seawall::kinds::table::{Entry, Wanted};
use seawall::plan::Place;
use seawall::plan::change::FieldChange;
use seawall::plan::observed::Observed;
use seawall::plan::step::Steps;
use serde_json::{Value, json};

use crate::support::postgres::PostgresHost;

/// Something for every view to be about.
const SCENE: &str = "
create role watcher login in role pg_monitor;
create table parent (id serial primary key, v text) with (autovacuum_enabled = off);
insert into parent (v) select repeat('x', 500) from generate_series(1, 2000);
delete from parent where id % 3 > 0;
create index one on parent (v); create index two on parent (v);
select setval('parent_id_seq', 2000000000);
update pg_index set indisvalid = false where indexrelid = 'two'::regclass;
analyze parent;
";

/// What each view must show of the scene: a query that gives true.
const SHOWN: &[(&str, &str)] = &[
    ("sequences_near_end", "bool_or(sequence = 'parent_id_seq' and ends_at = 2147483647 and used_percent > 90)"),
    ("invalid_indexes", "bool_or(index = 'two' and not being_built)"),
    ("duplicate_indexes", "bool_or(indexes = array['one', 'two']::name[])"),
    ("unused_indexes", "bool_or(index = 'one' and scans = 0) and not bool_or(index = 'parent_pkey')"),
    ("neglected_tables", "bool_or(\"table\" = 'parent' and not autovacuum)"),
    ("table_bloat", "bool_or(\"table\" = 'parent' and waste_percent > 30)"),
    ("wraparound", "count(*) > 3 and bool_and(percent < 1)"),
    ("wal_archiving", "bool_and(archive_mode = 'off' and not failing)"),
    ("connections", "bool_or(state = 'active') and bool_or(state = 'checkpointer')"),
    ("sizes", "bool_or(\"table\" = 'parent')"),
];

/// What somebody may do to the views; each must be found and healed.
const TAMPERINGS: &[&str] = &[
    // The same columns, and never a failure.
    "create or replace view seawall.wal_archiving as select 'on'::text as archive_mode, ''::text as archive_timeout,
        archived_count, last_archived_wal, last_archived_time, null::interval as since_last, failed_count, last_failed_wal,
        last_failed_time, false as failing, 0::bigint as segments_waiting, stats_reset as counted_since
        from pg_stat_archiver",
    "drop view seawall.sizes",
    // Of an older Seawall.
    "create view seawall.older as select 1 as x; comment on view seawall.older is E'x\\nmanaged by Seawall: a b'",
    "grant select on seawall.connections to public",
    "grant usage on schema seawall to public",
    "alter view seawall.wraparound owner to watcher",
    "alter default privileges in schema seawall grant select on tables to public; drop view seawall.table_bloat",
];

fn kind() -> &'static Entry {
    KINDS.iter().find(|kind| kind.name == "postgres.views").expect("a kind of the table")
}

/// What the kind says about the cluster as it is now.
fn judged(host: &PostgresHost, desired: &Value) -> (Vec<FieldChange>, Steps) {
    let answers = host.answers((kind().probes)(desired));
    let address = Address::new("postgres.views", "db");
    let place = Place::Host("db".to_owned());
    let desired = desired.clone();
    let wanted = Wanted { kind: kind(), address, place, after: Vec::new(), path: String::new(), desired };
    let judged = (kind().judge)(&wanted, "test", &answers);
    assert!(!matches!(judged.observed, Observed::Unknown(_)), "{:?}", judged.observed);
    if matches!(judged.observed, Observed::Absent) {
        let creation = (kind().create)(&wanted.desired);
        return (creation.fields, creation.steps);
    }
    (judged.fields, judged.steps)
}

pub(crate) fn every_view_tells_the_truth(host: &PostgresHost) {
    let version = host.version;
    let tell = |sql: &str| host.superuser("postgres", sql);
    for statement in SCENE.split(";\n") {
        tell(statement);
    }
    tell("create schema elsewhere; create extension pg_stat_statements schema elsewhere");
    let desired = json!({
        "address": "postgres.views/db", "cluster": version, "databases": ["postgres"], "statements": true,
    });
    let (fields, steps) = judged(host, &desired);
    assert!(fields.len() > 14, "PostgreSQL {version}: {fields:#?}");
    host.steps(&steps);
    let (fields, _) = judged(host, &desired);
    assert!(fields.is_empty(), "PostgreSQL {version}: made and not as wanted: {fields:#?}");

    let names = tell("select relname from pg_class where relnamespace = 'seawall'::regnamespace order by 1");
    assert_eq!(names.lines().any(|name| name == "io"), version >= 16, "PostgreSQL {version}: {names}");
    for name in names.lines().filter(|name| *name != "slow_queries") {
        tell(&format!("set role watcher; select * from seawall.{name}"));
    }
    for (name, shows) in SHOWN {
        let said = tell(&format!("select {shows} from seawall.{name}"));
        assert_eq!(said, "t", "PostgreSQL {version}: seawall.{name} does not show what is there");
    }
    assert!(!host.tried("postgres", "create role other; set role other; table seawall.sizes").ok());

    for tampering in TAMPERINGS {
        tell(tampering);
        let (fields, steps) = judged(host, &desired);
        assert!(!fields.is_empty(), "PostgreSQL {version}: `{tampering}` was not found");
        host.steps(&steps);
        let (fields, _) = judged(host, &desired);
        assert!(fields.is_empty(), "PostgreSQL {version}: `{tampering}` was not healed: {fields:#?}");
    }
}
