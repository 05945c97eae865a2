//! The PostgreSQL kinds on every version of PostgreSQL that is at hand: their own questions, answers, judgements and steps,
//! on a throw-away cluster without a host around it.
//!
//! Versions are looked for where Debian puts them and in the folders of `SEAWALL_POSTGRES` (each with `bin/initdb`),
//! separated by colons. A skip says so.

#![allow(clippy::print_stderr, reason = "a skip is said aloud")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use seawall::kinds::table::{Judged, Wanted};
use seawall::kinds::{KINDS, kind};
use seawall::plan::observed::Observed;
use seawall::plan::probe::{Answers, CommandState, HostProbe, Probe, SqlAnswer};
use seawall::plan::step::{Content, HostStep, Steps};
use serde_json::{Value, json};

/// The verifier of a password, as it would come from the operator's machine; any will do here.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
/// Who runs clusters: PostgreSQL refuses root.
const NOBODY: &str = "nobody";

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

fn versions() -> Vec<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = std::env::var("SEAWALL_POSTGRES").unwrap_or_default();
    let named = named.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from);
    debian.chain(named).filter(|folder| folder.join("bin/initdb").exists()).collect()
}

/// A cluster of its own, ended when dropped.
struct Scratch {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    version: u16,
}

impl Scratch {
    fn begin(installed: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("seawall-pg-").tempdir_in("/tmp").expect("a temporary folder");
        let owned = Command::new("chown").args([NOBODY.as_ref(), folder.path().as_os_str()]).status();
        assert!(owned.expect("chown runs").success());
        let mut scratch = Self { folder, binaries: installed.join("bin"), version: 0 };
        let data = scratch.path("data");
        scratch.program("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "-N"]);
        let version =
            std::fs::read_to_string(scratch.folder.path().join("data/PG_VERSION")).expect("a cluster was made");
        scratch.version = version.trim().parse().expect("a number");
        let options = format!("-k {} -c listen_addresses= -c fsync=off", scratch.path(""));
        scratch.program("pg_ctl", &["-D", &data, "-w", "-l", &scratch.path("log"), "-o", &options, "start"]);
        scratch
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn program(&self, name: &str, args: &[&str]) {
        let program = self.binaries.join(name);
        let mut command = Command::new("runuser");
        command.args(["-u", NOBODY, "--"]).arg(program).args(args).stdout(Stdio::null()).current_dir("/");
        assert!(command.status().expect("runuser is there").success(), "{name} {args:?}");
    }

    /// Runs psql as a kind would have it, at this cluster's socket.
    fn psql(&self, argv: &[String], stdin: &str) -> Output {
        let file = self.path("stdin");
        std::fs::write(&file, stdin).expect("a temporary folder is writable");
        assert_eq!(argv[..5], ["runuser", "-u", "postgres", "--", "psql"].map(str::to_owned));
        // The kinds name the sockets of Debian's cluster; this one has its own.
        let named = |word: &&String| *word != "/var/run/postgresql" && *word != "-h";
        Command::new("psql")
            .args(argv[5..].iter().filter(named))
            .env("PGHOST", self.folder.path())
            .env("PGUSER", "postgres")
            .env("LC_ALL", "C")
            .stdin(std::fs::File::open(&file).expect("it was just written"))
            .output()
            .expect("psql is installed")
    }

    /// Asks as a host would: one statement in a session that can only read.
    fn ask(&self, database: &str, sql: &str) -> SqlAnswer {
        let session = format!(
            "dbname={database} options='-c default_transaction_read_only=on -c statement_timeout=8s -c search_path=pg_catalog'"
        );
        let argv =
            ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &session, "-c", sql];
        let ended = self.psql(&argv.map(str::to_owned), "");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match ended.status.code() {
            Some(0) => SqlAnswer::Said(text(&ended.stdout)),
            Some(1) => SqlAnswer::Failed(text(&ended.stderr)),
            _ => SqlAnswer::NoSession(text(&ended.stderr)),
        }
    }

    fn superuser(&self, database: &str, sql: &str) {
        let argv =
            ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"];
        let ended = self.psql(&argv.map(str::to_owned), sql);
        assert!(ended.status.success(), "{}: {sql}: {}", self.version, String::from_utf8_lossy(&ended.stderr));
    }

    fn answers(&self, probes: Vec<Probe>) -> Answers {
        let mut answers = Answers::default();
        for probe in probes {
            match probe {
                Probe::Host(HostProbe::Glob { pattern }) => {
                    let state = CommandState { status: 0, stdout: format!("{pattern}\n"), stderr: String::new() };
                    answers.globs.insert(pattern, state);
                }
                Probe::Host(HostProbe::Sql { database, sql }) => {
                    answers.sql.insert((database.clone(), sql.clone()), self.ask(&database, &sql));
                }
                Probe::Secret(secret) => {
                    let digest = seawall::base::digest::Digest::of_bytes(VERIFIER.as_bytes());
                    answers.secrets.insert(secret, Ok(digest.to_string()));
                }
                other @ (Probe::Cloud(_)
                | Probe::OnServer { .. }
                | Probe::Host(HostProbe::File { .. } | HostProbe::Command { .. })) => {
                    panic!("{other:?} is not a question to a cluster")
                }
            }
        }
        answers
    }

    fn judge(&self, wanted: &Wanted) -> Judged {
        (wanted.kind.judge)(wanted, "test", &self.answers((wanted.kind.probes)(&wanted.desired)))
    }

    fn act(&self, steps: &Steps) {
        for step in steps.host() {
            let HostStep::Run { argv, stdin: Some(content), what, .. } = step else {
                panic!("{step:?} is not a statement")
            };
            let text = match content {
                Content::Text(text) => text.clone(),
                Content::WithSecrets { template, secrets } => secrets
                    .keys()
                    .fold(template.clone(), |text, name| text.replace(&format!("{{{{{name}}}}}"), VERIFIER)),
            };
            let ended = self.psql(argv, &text);
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{}: {what}: {said}\n{text}", self.version);
        }
    }

    /// Judges every resource and does what it takes. Returns the kinds that differed.
    fn converge(&self, all: &[Wanted]) -> Vec<String> {
        // As a plan does it: all are judged before anything is done.
        let judged: Vec<Judged> = all.iter().map(|wanted| self.judge(wanted)).collect();
        let mut changed = Vec::new();
        for (wanted, judged) in all.iter().zip(judged) {
            match judged.observed {
                Observed::Present(_) if judged.fields.is_empty() => continue,
                Observed::Present(_) => self.act(&judged.steps),
                Observed::Absent => self.act(&(wanted.kind.create)(&wanted.desired).steps),
                Observed::Unknown(why) => panic!("{}: {}: {why}", self.version, wanted.address),
            }
            changed.push(wanted.kind.name.to_owned());
        }
        for wanted in all {
            let again = self.judge(wanted);
            assert!(again.fields.is_empty(), "{}: {}: still {:?}", self.version, wanted.address, again.fields);
        }
        changed
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.program("pg_ctl", &["-D", &self.path("data"), "-w", "-m", "immediate", "stop"]);
    }
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

#[test]
fn every_version_is_made_tampered_with_and_healed() {
    let versions = versions();
    if versions.is_empty() || !nix::unistd::geteuid().is_root() {
        eprintln!("every_version_is_made_tampered_with_and_healed: skipped: it needs root and a PostgreSQL server");
        return;
    }
    for installed in versions {
        let scratch = Scratch::begin(&installed);
        let all = wanted(scratch.version);
        assert_eq!(scratch.converge(&all).len(), 3, "{}", scratch.version);
        let owner = "SET ROLE owners; CREATE TABLE a (id serial); CREATE VIEW v AS SELECT 1 AS one; \
                     CREATE SCHEMA s CREATE TABLE b (x int)";
        scratch.superuser("shop", owner);
        scratch.superuser("shop", "GRANT ALL ON a TO tool");
        assert_eq!(scratch.converge(&all), Vec::<String>::new(), "{}: what its owner makes", scratch.version);
        for (sql, notices) in TAMPERINGS {
            scratch.superuser("shop", sql);
            assert_eq!(scratch.converge(&all), [notices], "{}: {sql}", scratch.version);
        }
        scratch.superuser("postgres", "COMMENT ON ROLE eve IS 'managed by Seawall'; ALTER ROLE eve LOGIN");
        assert_eq!(scratch.converge(&all), ["postgres.roles"], "{}: a role that left", scratch.version);
        scratch.superuser("postgres", "DROP DATABASE shop");
        assert_eq!(scratch.converge(&all), ["postgres.databases", "postgres.extensions"], "{}", scratch.version);
    }
}
