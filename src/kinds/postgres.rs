//! What the PostgreSQL kinds have in common: which cluster it is, asking it, and telling it something.
//!
//! A server has one cluster, `main`, at port 5432, as Debian's packages make it. It is asked as user postgres through the
//! local socket (peer authentication: no password anywhere), in sessions that cannot write. Deliberately absent: anything
//! that belongs to one kind only.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::kinds::host;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, SqlAnswer, glob, sql};
use crate::plan::session::options;
use crate::plan::step::{Content, HostStep};

/// The kind that the others of a cluster stand on.
pub(crate) const CLUSTER: &str = "postgres.cluster";
/// The kind that opens a database which lets nobody in.
const DATABASES: &str = "postgres.databases";
/// The port of Debian's first cluster.
pub(crate) const PORT: u16 = 5432;
/// Where its sockets are. Named always: without it Debian's wrapper around psql reads the cluster's configuration first,
/// and fails where that is broken.
const SOCKETS: &str = "/var/run/postgresql";
/// The database that is always there.
pub(crate) const MAINTENANCE: &str = "postgres";
/// A statement of ours waits this long for a lock before it gives up: longer would queue everybody else behind it.
const LOCK_TIMEOUT: &str = "lock_timeout=10s";
/// Seconds that quick statements may take: roles, grants, a reload.
pub(crate) const SQL_S: u32 = 60;

/// One cluster of PostgreSQL on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cluster {
    /// Major version.
    pub version: u16,
}

impl Cluster {
    pub(crate) fn unit(self) -> String {
        format!("postgresql@{}-main.service", self.version)
    }

    /// Where its configuration is: postgresql.conf, conf.d/, pg_hba.conf.
    pub(crate) fn conf(self) -> String {
        format!("/etc/postgresql/{}/main", self.version)
    }

    /// Our file of settings.
    pub(crate) fn settings(self) -> String {
        format!("{}/conf.d/50-seawall.conf", self.conf())
    }

    /// Where its data is.
    pub(crate) fn data(self) -> String {
        format!("/var/lib/postgresql/{}/main", self.version)
    }

    /// Asks whether the cluster has been made; every kind that asks it something asks this, too.
    pub(crate) fn probe(self) -> Probe {
        glob(&format!("{}/postgresql.conf", self.conf()))
    }

    fn is_made(self, answers: &Answers) -> Result<bool, Unseen> {
        Ok(!answers.glob(&format!("{}/postgresql.conf", self.conf()))?.is_empty())
    }

    /// What the cluster answers to a query that makes one JSON document.
    pub(crate) fn answer<T: DeserializeOwned>(
        self,
        server: &str,
        answers: &Answers,
        query: &Query,
    ) -> Result<Told<T>, Unseen> {
        if !self.is_made(answers)? {
            return Ok(Told::NoCluster);
        }
        match answers.sql(&query.database, &query.sql)? {
            SqlAnswer::Said(row) => serde_json::from_str(row.trim())
                .map(Told::Said)
                .map_err(|error| Unseen::Misread(format!("PostgreSQL's answer: {error}"))),
            SqlAnswer::Failed(why) | SqlAnswer::NoSession(why) if lacks_library(why) => {
                Err(Unseen::NotYetCreated(Address::new(CLUSTER, server)))
            }
            SqlAnswer::Failed(why) => Err(Unseen::Misread(format!("PostgreSQL: {}", why.trim()))),
            SqlAnswer::NoSession(why) => match why.trim() {
                why if why.contains("FATAL:") && why.ends_with("does not exist") => Ok(Told::NoDatabase),
                why if why.ends_with("is not currently accepting connections") => {
                    Err(Unseen::NotYetCreated(Address::new(DATABASES, server)))
                }
                why if is_down(why) => Err(Unseen::NotYetCreated(Address::new(CLUSTER, server))),
                why => Err(Unseen::Misread(format!("PostgreSQL: {why}"))),
            },
        }
    }
}

/// Whether nothing listens at the cluster's socket: it is stopped, and `postgres.cluster` starts it. A server that answers, with a
/// missing file of its own for example, is not.
fn is_down(why: &str) -> bool {
    why.contains("connection to server")
        && !why.contains("FATAL:")
        && (why.contains("No such file or directory") || why.contains("Connection refused"))
}

/// An extension's library is gone, with the package that `postgres.cluster` installs again. Every statement fails in the
/// databases that have the extension, so nothing else can be known of them before.
fn lacks_library(why: &str) -> bool {
    // Those below `plugins` are what a database's owner may name for its sessions, which ours do not load.
    why.contains("could not access file \"$libdir/") && !why.contains("$libdir/plugins/")
}

/// What a cluster says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told<T> {
    Said(T),
    /// The cluster has not been made yet.
    NoCluster,
    /// The cluster is there, and the database is not.
    NoDatabase,
}

impl<T> Told<T> {
    /// What was said, if there is anything.
    pub(crate) fn said(self) -> Option<T> {
        match self {
            Self::Said(said) => Some(said),
            Self::NoCluster | Self::NoDatabase => None,
        }
    }
}

/// A question to a database, asked in a session that can only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    database: String,
    sql: String,
}

impl Query {
    /// Values of the inventory enter the statement through [`literal`] only.
    pub(crate) fn new(database: &str, sql: &str) -> Self {
        Self { database: database.to_owned(), sql: sql.to_owned() }
    }

    pub(crate) fn probe(&self) -> Probe {
        sql(&self.database, &self.sql)
    }
}

/// psql as user postgres at the cluster's socket, without anybody's `.psqlrc`. An error ends it.
fn psql(flags: &str, session: &str, what: [&str; 2]) -> Vec<String> {
    let port = PORT.to_string();
    let start = ["runuser", "-u", "postgres", "--", "psql", "-h", SOCKETS, "-p", &port, flags];
    let rest = ["-v", "ON_ERROR_STOP=1", "-d", session];
    start.iter().chain(&rest).chain(&what).map(|&word| word.to_owned()).collect()
}

/// Runs statements in a database as superuser, all or none. They arrive over standard input, are in no process list, and
/// are not logged: they may set passwords. `what` tells them in a few words.
pub(crate) fn tell(cluster: Cluster, database: &str, statements: Content, what: impl Into<String>) -> HostStep {
    run(cluster, database, statements, true, what)
}

/// The same for statements that PostgreSQL does not take within a transaction, such as `CREATE DATABASE`.
pub(crate) fn tell_alone(cluster: Cluster, database: &str, statements: Content, what: impl Into<String>) -> HostStep {
    run(cluster, database, statements, false, what)
}

/// Statements may set passwords, and what keeps statements is read by others: the log, what members of `pg_monitor` see of
/// running sessions, and pg_stat_statements. Its setting may be set also where nothing has loaded it: it means nothing then.
const QUIET: &str = "SET pg_stat_statements.track = 'none'; SET track_activities = off; SET log_statement = 'none'; \
                     SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';\n";

fn run(cluster: Cluster, database: &str, statements: Content, together: bool, what: impl Into<String>) -> HostStep {
    let quiet = QUIET;
    let stdin = match statements {
        Content::Text(text) => Content::Text(format!("{quiet}{text}")),
        Content::WithSecrets { template, secrets } => {
            Content::WithSecrets { template: format!("{quiet}{template}"), secrets }
        }
    };
    let own = ["default_transaction_read_only=off", "statement_timeout=0", LOCK_TIMEOUT];
    let options = options(Some(cluster.version), &own);
    let session = format!("dbname={database} connect_timeout=10 application_name=seawall options='{options}'");
    let mut argv = psql("-Xq", &session, ["-f", "-"]);
    if matches!(stdin, Content::WithSecrets { .. }) {
        // An error would quote the statement it stands in.
        argv.extend(["-v", "VERBOSITY=terse"].map(str::to_owned));
    }
    if together {
        argv.push("--single-transaction".to_owned());
    }
    HostStep::Run { argv, env: BTreeMap::new(), stdin: Some(stdin), timeout_s: SQL_S, revert: None, what: what.into() }
}

/// Whose a password's verifier is, for [`crate::base::secret::SecretForm::ScramVerifier`]: everything that sets or
/// compares the verifier of a role must name the same owner.
pub(crate) fn verifier_owner(environment: &str, server: &str, role: &str) -> String {
    format!("{environment}/{server}/{role}")
}

/// VERSION PORT: has the cluster read its files again and waits until it has, five seconds at most: with a broken file it
/// never says so, and `pg_reload_conf()` says true.
const RELOAD: &str = r#"when() { runuser -u postgres -- psql -h /var/run/postgresql -p "$2" -XAtq -d postgres -c 'select pg_conf_load_time()'; }
before=$(when "$@")
systemctl reload "postgresql@$1-main.service" || exit
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(when "$@")" = "$before" ] || exit 0
    sleep 0.5
done"#;

/// Has the cluster read its files again. What came of it is seen when it is asked again.
pub(crate) fn reload(cluster: Cluster) -> HostStep {
    let argv = ["sh", "-c", RELOAD, "sh", &cluster.version.to_string(), &PORT.to_string()];
    host::run(&argv, host::QUICK_S, format!("reload {}", cluster.unit()))
}

/// A text as SQL has it. Standard strings: a backslash is itself.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL has it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::probe::CommandState;

    fn answers(said: SqlAnswer) -> Answers {
        let mut answers = Answers::default();
        let stdout = "/etc/postgresql/15/main/postgresql.conf\n".to_owned();
        let made = CommandState { status: 0, stdout, stderr: String::new() };
        answers.globs.insert("/etc/postgresql/15/main/postgresql.conf".to_owned(), made);
        answers.sql.insert(("x".to_owned(), "select 1".to_owned()), said);
        answers
    }

    fn read(answers: &Answers) -> Result<Told<u32>, Unseen> {
        Cluster { version: 15 }.answer("db", answers, &Query::new("x", "select 1"))
    }

    fn no_session(why: &str) -> Result<Told<u32>, Unseen> {
        let socket = "psql: error: connection to server on socket \"/var/run/postgresql/.s.PGSQL.5432\" failed: ";
        read(&answers(SqlAnswer::NoSession(format!("{socket}{why}\n"))))
    }

    #[test]
    fn an_answer_a_missing_database_and_a_stopped_cluster_are_three_things() {
        assert_eq!(read(&answers(SqlAnswer::Said("7".to_owned()))), Ok(Told::Said(7)));
        assert_eq!(no_session("FATAL:  database \"x\" does not exist"), Ok(Told::NoDatabase));
        let down =
            "No such file or directory\n\tIs the server running locally and accepting connections on that socket?";
        assert_eq!(no_session(down), Err(Unseen::NotYetCreated(Address::new("postgres.cluster", "db"))));
        let closed = "FATAL:  database \"x\" is not currently accepting connections";
        assert_eq!(no_session(closed), Err(Unseen::NotYetCreated(Address::new("postgres.databases", "db"))));
        let gone = "ERROR:  could not access file \"$libdir/timescaledb-2.19.3\": No such file or directory".to_owned();
        for said in [SqlAnswer::Failed(gone.clone()), SqlAnswer::NoSession(gone)] {
            assert_eq!(read(&answers(said)), Err(Unseen::NotYetCreated(Address::new("postgres.cluster", "db"))));
        }
        for answer in [
            "FATAL:  the database system is starting up",
            "FATAL:  could not access file \"$libdir/plugins/nope\": No such file or directory",
            "FATAL:  could not open file \"base/5/1259\": No such file or directory",
        ] {
            assert!(matches!(no_session(answer), Err(Unseen::Misread(_))), "{answer}");
        }
        let failed = SqlAnswer::Failed("relation \"x\" does not exist".to_owned());
        for unclear in [SqlAnswer::Said("seven".to_owned()), failed] {
            assert!(matches!(read(&answers(unclear)), Err(Unseen::Misread(_))));
        }
    }

    #[test]
    fn a_cluster_that_was_never_made_is_no_riddle() {
        let mut answers = answers(SqlAnswer::NoSession("setpriv: failed to parse reuid".to_owned()));
        answers.globs.clear();
        let none = CommandState { status: 0, stdout: String::new(), stderr: String::new() };
        answers.globs.insert("/etc/postgresql/15/main/postgresql.conf".to_owned(), none);
        assert_eq!(read(&answers), Ok(Told::NoCluster));
    }

    #[test]
    fn values_stay_values() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
