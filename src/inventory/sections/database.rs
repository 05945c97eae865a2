//! Sections of a server that are about PostgreSQL: cluster, roles, access, pool, backups.
//!
//! Deliberately absent: connections without TLS, password hashes other than SCRAM, and superuser roles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::secret::SecretRef;
use crate::inventory::names::{GroupName, SqlName, TableName};
use crate::inventory::scalar::{Cidr, Name, TimeSpan};
use crate::inventory::schedule::Schedule;

/// PostgreSQL with settings tuned from the bundle's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Postgres {
    /// Major version.
    pub version: u16,
    /// Extensions to have in every declared database.
    pub extensions: Vec<String>,
    /// Settings over the tuned ones, as `postgresql.conf` names them.
    pub settings: BTreeMap<String, SettingValue>,
    /// Databases to have. None is ever dropped.
    pub databases: Vec<SqlName>,
    /// Roles by name.
    pub roles: BTreeMap<SqlName, Role>,
    /// Who may connect from where; everybody else is refused. Always with TLS and SCRAM.
    pub access: Vec<AccessRule>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            version: 15,
            extensions: Vec::new(),
            settings: BTreeMap::new(),
            databases: Vec::new(),
            roles: BTreeMap::new(),
            access: Vec::new(),
        }
    }
}

/// `true` or `false`, a number, or a text such as `64MB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SettingValue {
    Switch(bool),
    Number(i64),
    Text(String),
}

/// A role. Without `login` it is a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Role {
    /// Whether it may connect.
    pub login: bool,
    /// How many connections it may hold at once.
    pub connections: Option<u32>,
    /// Databases that it owns.
    pub owns: Vec<SqlName>,
    /// What it may do in the declared databases that it does not own. Without it: nothing.
    pub grants: Option<Grants>,
    /// Roles that it belongs to: of this server, or such that PostgreSQL brings, for example `pg_monitor`.
    pub member_of: Vec<GroupName>,
    /// Where its password is kept. Never the password itself. Without one it has none and cannot log in over the network.
    pub password: Option<SecretRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grants {
    /// Read every table.
    Read,
    /// Read and change rows.
    Write,
    /// Connect; what else is up to the database's owner and not looked at.
    Unmanaged,
}

/// One line of who may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// A role of this server.
    pub role: SqlName,
    /// A database of this server.
    pub database: SqlName,
    /// Networks that it may connect from.
    pub from: Vec<Cidr>,
}

/// A connection pool in front of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PgBouncer {
    /// TCP port that it listens on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// When a server connection goes back to the pool.
    pub mode: PoolMode,
    /// Clients that may be connected at once.
    pub clients: u32,
    /// Server connections per role and database.
    pub pool: u32,
}

impl Default for PgBouncer {
    fn default() -> Self {
        Self { port: 6432, mode: PoolMode::default(), clients: 200, pool: 10 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// After each transaction.
    #[default]
    Transaction,
    /// When the client leaves.
    Session,
}

/// Backups with pgBackRest: full and differential ones, and every WAL segment in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// A bucket of this inventory, by its name here.
    pub bucket: Name,
    /// pgBackRest's word for the cluster in its repository; also the key prefix.
    pub stanza: Name,
    /// When backups are made, in UTC.
    #[serde(default)]
    pub schedule: BackupSchedule,
    /// How long they are kept.
    #[serde(default)]
    pub retention: Retention,
    /// Where the repository's passphrase is kept. Without it every backup is worthless.
    pub cipher_pass: CipherPass,
    /// A segment of WAL is shipped at the latest after this time; with the time to ship it, this is the RPO.
    #[serde(default = "five_minutes")]
    pub archive_timeout: TimeSpan,
    /// A second repository in another bucket, with keys and a passphrase of its own. Whoever holds the server's keys to the first one
    /// can empty it. At most one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<BackupCopy>,
    /// Logical dumps beside them: a second line that no damaged page and no other version of PostgreSQL can break.
    #[serde(default)]
    pub dumps: Option<Dumps>,
    /// Restore drills: when the server runs them, and what a restored copy must answer.
    #[serde(default)]
    pub drills: Drills,
    /// What is run after a restore has reached its target, one after the other; the first that fails ends them.
    #[serde(default)]
    pub after_restore: Vec<Hook>,
}

/// A second repository. Every segment of WAL goes to both; one that does not answer holds nothing of the first one up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupCopy {
    /// A bucket of this inventory, by its name here: not the first repository's, and best in another region.
    pub bucket: Name,
    /// When backups are made to it, in UTC. Without it: full ones only, six hours away from the first repository's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CopySchedule>,
    /// How long they are kept. Without it: as long as in the first repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Where its passphrase is kept. It must be another one than the first repository's.
    pub cipher_pass: CipherPass,
    /// MiB of WAL that wait on the server at the most while this repository does not answer. What does not fit leaves a gap in it, and
    /// the next backup to it is a full one.
    #[serde(default = "two_gib")]
    pub spool_mib: u32,
}

/// When backups are made to a second repository, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopySchedule {
    /// Full backups.
    pub full: Schedule,
    /// Differential backups: what changed since the last full one in this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differential: Option<Schedule>,
}

fn two_gib() -> u32 {
    2048
}

impl Backup {
    /// The section as it would be if the copy were the only repository: what is known of repositories holds for both.
    #[must_use]
    pub fn of_copy(&self, copy: &BackupCopy) -> Self {
        let schedule = match &copy.schedule {
            Some(CopySchedule { full, differential }) => {
                BackupSchedule { full: full.clone(), differential: differential.clone(), incremental: None }
            }
            None => BackupSchedule { full: self.schedule.full.apart(), differential: None, incremental: None },
        };
        Self {
            bucket: copy.bucket.clone(),
            schedule,
            retention: copy.retention.clone().unwrap_or_else(|| self.retention.clone()),
            cipher_pass: copy.cipher_pass.clone(),
            copies: Vec::new(),
            dumps: None,
            ..self.clone()
        }
    }
}

/// Drills that the server runs by itself, and what each drill asks a restored copy beyond what every drill looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drills {
    /// When the server drills by itself, in UTC, for example `Sun 04:00`. Without it only `seawall drill` does.
    pub schedule: Option<Schedule>,
    /// Questions that the copy must answer.
    pub checks: Vec<DrillCheck>,
}

/// A question to a restored copy. An answer that is empty, 0 or false is a miss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillCheck {
    /// The database that is asked.
    pub database: SqlName,
    /// One query in one line, for example `select count(*) from public.orders`. Tables have their schema before them.
    pub sql: String,
    /// The answer that it must give, as psql prints it.
    #[serde(default)]
    pub expect: Option<String>,
}

/// A program that looks at what was restored, or brings it up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments; no shell reads them. A name without `/` is looked for in /usr/sbin and /usr/bin.
    pub run: Vec<String>,
    /// After which restores.
    #[serde(default)]
    pub when: HookWhen,
    /// `PGDATABASE`. Without it: the one declared database, or `postgres` where none or several are declared.
    #[serde(default)]
    pub database: Option<SqlName>,
    /// User of the server that it runs as, and the role that it connects as.
    #[serde(default = "postgres")]
    pub user: String,
    /// After how long it is ended, which is a failure.
    #[serde(default = "five_minutes")]
    pub limit: TimeSpan,
}

/// After which restores a hook runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookWhen {
    /// After every one, also of a copy.
    #[default]
    Always,
    /// Only where the restored data takes the place of the server's own: in place, and in a rebuild.
    Promoted,
}

fn postgres() -> String {
    "postgres".to_owned()
}

/// Logical dumps of single databases. They restore to the moment that they were made at, and to none in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dumps {
    /// When they are made, in UTC.
    pub schedule: Schedule,
    /// Which databases of this server. Without it: all that are declared.
    pub databases: Vec<SqlName>,
    /// Databases of which everything but the rows is dumped.
    pub schema_only: Vec<SqlName>,
    /// Databases of which only these tables are dumped with their rows; everything else is in it without rows.
    pub tables: BTreeMap<SqlName, Vec<TableName>>,
    /// How many are kept.
    pub keep: Generations,
}

impl Default for Dumps {
    fn default() -> Self {
        Self {
            schedule: "daily 03:30".parse().expect("the default schedule is well written"),
            databases: Vec::new(),
            schema_only: Vec::new(),
            tables: BTreeMap::new(),
            keep: Generations { daily: 7, weekly: 4, monthly: 12 },
        }
    }
}

fn five_minutes() -> TimeSpan {
    TimeSpan::from_seconds(300)
}

/// When backups are made, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackupSchedule {
    /// Full backups.
    pub full: Schedule,
    /// Differential backups: what changed since the last full one.
    pub differential: Option<Schedule>,
    /// Incremental backups: what changed since the last backup of any kind.
    pub incremental: Option<Schedule>,
}

impl BackupSchedule {
    /// The longest time between two backups of any kind that are on time.
    pub fn longest_gap(&self) -> TimeSpan {
        let others = [self.differential.as_ref(), self.incremental.as_ref()].into_iter().flatten();
        let with = others.clone().map(|other| self.full.longest_gap_with(other));
        let between = others.clone().flat_map(|a| others.clone().map(|b| a.longest_gap_with(b)));
        with.chain(between).min().unwrap_or_else(|| self.full.longest_gap())
    }
}

impl Default for BackupSchedule {
    fn default() -> Self {
        let parse = |text: &str| text.parse().expect("the default schedules are well written");
        Self { full: parse("Sun 02:00"), differential: Some(parse("Mon..Sat 02:00")), incremental: None }
    }
}

/// How long backups are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Any moment of the last so many days can be restored. Not beside `generations`.
    pub days: u32,
    /// So many daily, weekly and monthly backups instead of a window: with monthly full, weekly differential and daily
    /// incremental backups.
    pub generations: Option<Generations>,
}

/// How many backups or dumps of each age are kept, at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generations {
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 14, generations: None }
    }
}

/// Where the passphrase is kept, with or without the word whether a second person has it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum CipherPass {
    /// An environment variable of the operator's shell or CI job.
    Env {
        /// The variable's name.
        env: String,
        /// `confirmed` once the passphrase is kept in a second place, out of this environment's reach.
        escrow: Option<Escrow>,
    },
    /// A file on the operator's machine.
    File {
        /// Its path.
        file: PathBuf,
        /// `confirmed` once the passphrase is kept in a second place, out of this environment's reach.
        escrow: Option<Escrow>,
    },
    /// A command on the operator's machine that prints it: program and arguments, no shell.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// `confirmed` once the passphrase is kept in a second place, out of this environment's reach.
        escrow: Option<Escrow>,
    },
}

impl CipherPass {
    /// The reference without the word about escrow.
    pub fn secret(&self) -> SecretRef {
        match self.clone() {
            Self::Env { env, .. } => SecretRef::Env { env },
            Self::File { file, .. } => SecretRef::File { file },
            Self::Command { command, .. } => SecretRef::Command { command },
        }
    }

    /// Whether somebody confirmed that it is kept in a second place.
    pub fn is_escrowed(&self) -> bool {
        let (Self::Env { escrow, .. } | Self::File { escrow, .. } | Self::Command { escrow, .. }) = self;
        escrow.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Escrow {
    Confirmed,
}
