//! The health views on real servers: every version of PostgreSQL that is on this machine, each as a cluster of its own.
//!
//! Debian's are found by themselves; `SEAWALL_POSTGRES` names more `bin` folders, separated by colons.

#![allow(clippy::print_stderr, reason = "which versions were tried, and a skip, are said aloud")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use seawall::base::address::Address;
use seawall::kinds::KINDS;
use seawall::kinds::table::{Entry, Wanted};
use seawall::plan::Place;
use seawall::plan::change::FieldChange;
use seawall::plan::observed::Observed;
use seawall::plan::probe::{Answers, CommandState, HostProbe, Probe, SqlAnswer};
use seawall::plan::step::{Content, HostStep, Steps};
use serde_json::{Value, json};

/// PostgreSQL does not start as root.
const USER: &str = "postgres";

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

struct Cluster {
    bin: PathBuf,
    folder: tempfile::TempDir,
    version: u16,
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--"]).arg(program).current_dir("/").env("LC_ALL", "C.UTF-8");
    command
}

fn done(output: &Output, what: &str) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {err}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Cluster {
    fn start(bin: &Path) -> Self {
        let version = done(&Command::new(bin.join("postgres")).arg("--version").output().expect("runs"), "version");
        let major = version.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
        let folder = tempfile::Builder::new().prefix("seawall-views-").tempdir().expect("a folder");
        done(&Command::new("chown").arg(USER).arg(folder.path()).output().expect("runs"), "chown");
        let cluster = Self { bin: bin.to_owned(), folder, version: major.expect("a major version") };
        let data = cluster.data();
        let init =
            as_user(&bin.join("initdb")).args(["-A", "trust", "-U", USER, "--no-sync", "-D"]).arg(&data).output();
        done(&init.expect("runs"), "initdb");
        let options = format!("-c listen_addresses= -c fsync=off -k {}", cluster.folder.path().display());
        let log = cluster.folder.path().join("log");
        let mut start = as_user(&bin.join("pg_ctl"));
        start.args(["-w", "-s", "-o", &options, "-l"]).arg(log).arg("-D").arg(&data).arg("start");
        // It goes on after its parent, and would hold a pipe open.
        let status = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("runs").success(), "version {major:?} did not start");
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn psql(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut child = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", "postgres", "-h"])
            .arg(self.folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql runs");
        child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("psql reads");
        child.wait_with_output().expect("psql ends")
    }

    #[track_caller]
    fn tell(&self, sql: &str) -> String {
        done(&self.psql(&["-f", "-"], sql), sql)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = as_user(&self.bin.join("pg_ctl"));
        let ended = stop.args(["-w", "-s", "-m", "immediate", "-D"]).arg(self.data()).arg("stop").status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("a cluster in {} did not end", self.folder.path().display());
        }
    }
}

fn binaries() -> Vec<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin"));
    let named = std::env::var("SEAWALL_POSTGRES").unwrap_or_default();
    let named: Vec<PathBuf> = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let mut found: Vec<PathBuf> = debian.chain(named).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found
}

fn kind() -> &'static Entry {
    KINDS.iter().find(|kind| kind.name == "postgres.views").expect("a kind of the table")
}

/// What the kind says about the cluster as it is now.
fn judged(cluster: &Cluster, desired: &Value) -> (Vec<FieldChange>, Steps) {
    let mut answers = Answers::default();
    for probe in (kind().probes)(desired) {
        match probe {
            Probe::Host(HostProbe::Glob { pattern }) => {
                let made = CommandState { status: 0, stdout: format!("{pattern}\n"), stderr: String::new() };
                answers.globs.insert(pattern, made);
            }
            Probe::Host(HostProbe::Sql { database, sql }) => {
                let asked = cluster.psql(&["-c", &format!("set search_path = pg_catalog; {sql}")], "");
                answers.sql.insert((database, sql), SqlAnswer::Said(done(&asked, "the kind's question")));
            }
            other => panic!("{other:?}"),
        }
    }
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

fn act(cluster: &Cluster, steps: &Steps) {
    for step in steps.host() {
        let HostStep::Run { stdin: Some(Content::Text(sql)), .. } = step else { panic!("{step:?}") };
        done(&cluster.psql(&["--single-transaction", "-f", "-"], sql), "the kind's step");
    }
}

fn try_on(bin: &Path) {
    let cluster = Cluster::start(bin);
    let version = cluster.version;
    let extension = cluster.tell("select count(*) from pg_available_extensions where name = 'pg_stat_statements'");
    let statements = extension.trim() == "1";
    eprintln!("PostgreSQL {version}, pg_stat_statements {statements}");
    cluster.tell(SCENE);
    if statements {
        cluster.tell("create schema elsewhere; create extension pg_stat_statements schema elsewhere");
    }
    let desired = json!({
        "address": "postgres.views/db", "cluster": version, "databases": ["postgres"], "statements": statements,
    });
    let (fields, steps) = judged(&cluster, &desired);
    assert!(fields.len() > 14, "PostgreSQL {version}: {fields:#?}");
    act(&cluster, &steps);
    let (fields, _) = judged(&cluster, &desired);
    assert!(fields.is_empty(), "PostgreSQL {version}: made and not as wanted: {fields:#?}");

    let names = cluster.tell("select relname from pg_class where relnamespace = 'seawall'::regnamespace order by 1");
    assert_eq!(names.lines().any(|name| name == "io"), version >= 16, "PostgreSQL {version}: {names}");
    for name in names.lines().filter(|name| *name != "slow_queries") {
        cluster.tell(&format!("set role watcher; select * from seawall.{name}"));
    }
    for (name, shows) in SHOWN {
        let said = cluster.tell(&format!("select {shows} from seawall.{name}"));
        assert_eq!(said.trim(), "t", "PostgreSQL {version}: seawall.{name} does not show what is there");
    }
    assert!(!cluster.psql(&["-c", "create role other; set role other; table seawall.sizes"], "").status.success());

    for tampering in TAMPERINGS {
        cluster.tell(tampering);
        let (fields, steps) = judged(&cluster, &desired);
        assert!(!fields.is_empty(), "PostgreSQL {version}: `{tampering}` was not found");
        act(&cluster, &steps);
        let (fields, _) = judged(&cluster, &desired);
        assert!(fields.is_empty(), "PostgreSQL {version}: `{tampering}` was not healed: {fields:#?}");
    }
}

#[test]
fn every_view_runs_and_tells_the_truth_on_every_version_that_is_here() {
    let test = "every_view_runs_and_tells_the_truth_on_every_version_that_is_here";
    if !nix::unistd::geteuid().is_root() || nix::unistd::User::from_name(USER).ok().flatten().is_none() {
        eprintln!("{test}: skipped: clusters are started as the system's user {USER}, which only root can become");
        return;
    }
    let found = binaries();
    if found.is_empty() {
        eprintln!("{test}: skipped: no PostgreSQL server is installed on this machine");
    }
    for bin in found {
        try_on(&bin);
    }
}
