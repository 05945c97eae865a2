//! What was observed of a server's backups, as data: the backups, what can be restored from them, and what archives them.
//!
//! Times are seconds since 1970-01-01 UTC, as pgBackRest and S3 give them; sizes are bytes. What was not said is `None`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::diag::Diagnostic;

/// Everything that is known of one server's backups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    pub server: String,
    pub stanza: String,
    pub bucket: String,
    /// When this was looked at.
    pub looked_at: i64,
    /// pgBackRest could not be asked: the backups are known by the names and times of their objects alone.
    #[serde(default)]
    pub by_names: bool,
    /// Oldest first.
    pub backups: Vec<BackupSet>,
    /// What can be restored, oldest first.
    pub windows: Vec<Window>,
    /// What cannot be restored although a backup is older, oldest first.
    pub gaps: Vec<Gap>,
    /// The newest backup of any type against the schedule; `None` where there is none, or it could not be seen.
    pub newest: Option<Freshness>,
    /// The newest full backup against its schedule.
    pub newest_full: Option<Freshness>,
    /// What PostgreSQL says of its archiving; `None` where it could not be asked.
    pub archiving: Option<Archiving>,
    /// Logical dumps, where they are declared: what counts, by database.
    #[serde(default)]
    pub dumps: Vec<Dumps>,
    /// What is not well.
    pub findings: Vec<Diagnostic>,
    /// What could not be looked at, and why. While there is anything, nothing here is known to be well.
    pub unseen: Vec<String>,
}

/// The logical dumps of one database that have their checksum beside them; `.globals` is roles and memberships. What has
/// other rows is listed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dumps {
    pub database: String,
    /// What of it they hold.
    #[serde(default)]
    pub what: DumpWhat,
    pub count: u64,
    /// When the newest was made.
    pub newest: i64,
    pub newest_bytes: u64,
    /// How many of them lie in an archive class of S3, and cannot be read before it is asked for them.
    #[serde(default)]
    pub frozen: u64,
    /// Seconds until the newest can be read, once S3 is asked for it; `None` where it is read at once.
    #[serde(default)]
    pub newest_thaw_s: Option<u64>,
    /// Those among them that have a name and are never thinned out, oldest first.
    #[serde(default)]
    pub named: Vec<NamedDump>,
}

/// What a logical dump holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DumpWhat {
    /// All of a database.
    #[default]
    Whole,
    /// Everything but the rows.
    Schema,
    /// The rows of some tables only.
    Tables,
    /// Roles and memberships, without passwords.
    Roles,
}

/// A dump that was made before something, and is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedDump {
    /// What it was made before.
    pub before: String,
    pub at: i64,
    pub bytes: u64,
}

/// One backup in the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupSet {
    /// pgBackRest's name of it, for example `20261121-143736F`.
    pub label: String,
    /// `full`, `diff` or `incr`.
    #[serde(rename = "type")]
    pub kind: String,
    pub started: i64,
    /// Nothing before this moment can be restored from it.
    pub finished: i64,
    /// Size of the database at that time.
    pub database_bytes: Option<u64>,
    /// How much the backup added to the repository.
    pub repository_bytes: Option<u64>,
    /// First and last segment of WAL that it needs to be consistent.
    pub wal: Option<(String, String)>,
    /// pgBackRest found pages whose checksums are wrong.
    pub page_errors: bool,
    /// Labels of the backups that it cannot be restored without.
    pub needs: Vec<String>,
    /// What made it; nothing of it is known where pgBackRest could not be asked.
    #[serde(default)]
    pub made_with: MadeWith,
}

/// The programs that made a backup, and the cluster that it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MadeWith {
    /// PostgreSQL's major version, for example `15`.
    pub postgres: Option<String>,
    /// For example `2.45`.
    pub pgbackrest: Option<String>,
    /// The identity of the cluster.
    pub system_id: Option<String>,
}

/// A stretch of time of which every moment can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The timeline to restore along.
    pub timeline: u32,
    /// When the first backup of it was finished.
    pub from: i64,
    /// When the last segment was archived.
    pub to: Option<i64>,
    /// Where `to` comes from.
    pub to_by: ToBy,
    pub first_segment: String,
    pub last_segment: String,
    /// Labels of the backups within it.
    pub backups: Vec<String>,
}

/// The source of the time at which a window's last segment was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToBy {
    /// `pg_stat_archiver`, whose newest segment it is.
    Postgres,
    /// The object's time in S3. What is in the segment is not newer than that.
    Object,
}

/// Segments of WAL that are not in the archive, between two that are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    pub timeline: u32,
    /// How many are missing.
    pub count: u64,
    /// The first of them by name.
    pub missing: Vec<String>,
    /// The last moment before it that can be restored, if any can.
    pub after: Option<i64>,
    /// When the next backup after it was finished, if there is one.
    pub until: Option<i64>,
}

/// How old something is, against how old it may become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    pub label: String,
    pub age_s: i64,
    /// The longest time between two on time, by the schedule.
    pub due_every_s: u64,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    Late,
    Critical,
}

/// A backup is late when it is older than this part of the schedule's longest gap: a run may take its time.
const LATE_PERCENT: u64 = 105;
/// At one and a half gaps at least one backup was missed.
const CRITICAL_PERCENT: u64 = 150;
/// Segments of WAL that may wait to be archived before it is worth a word: a burst of writes makes some.
pub const WAITING_USUAL: u64 = 8;

impl Verdict {
    /// How late something of this age is, where one is due every so many seconds.
    pub fn of(age_s: i64, due_every_s: u64) -> Self {
        let age = u64::try_from(age_s).unwrap_or(0);
        if age * 100 > due_every_s * CRITICAL_PERCENT {
            Self::Critical
        } else if age * 100 > due_every_s * LATE_PERCENT {
            Self::Late
        } else {
            Self::Ok
        }
    }
}

/// What PostgreSQL says of its archiving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Archiving {
    /// `archive_mode`.
    pub mode: String,
    /// `archive_command`.
    pub command: String,
    pub archived_count: u64,
    pub last_archived: Option<String>,
    pub last_archived_at: Option<i64>,
    pub failed_count: u64,
    pub last_failed: Option<String>,
    pub last_failed_at: Option<i64>,
    /// Segments that wait to be archived.
    pub ready: u64,
    /// The segment that is being written; `None` on a standby.
    pub current: Option<String>,
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// The cluster's identity; the repository has the same one.
    pub system_id: String,
    /// The timeline that the cluster writes, or a standby replays.
    #[serde(default)]
    pub timeline: Option<u32>,
    /// The history file of that timeline as PostgreSQL wrote it; the first timeline has none.
    #[serde(default)]
    pub history: Option<String>,
}

/// What the proof of a repository found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    pub backups: Backups,
    /// Objects of the repository by their storage class.
    pub objects: Vec<ClassCount>,
    /// What `pgbackrest verify` said; `None` where it was not run.
    pub repository: Option<RepositoryVerdict>,
    /// The segment that `pgbackrest check` saw go through `archive_command`; `None` where it failed or was not run.
    pub archived_segment: Option<String>,
    pub took_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassCount {
    pub class: String,
    pub objects: u64,
    pub bytes: u64,
}

/// What `pgbackrest verify` said, read from its report: its exit status says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryVerdict {
    /// `ok` or `error`; `None` where the report did not come to its end.
    pub status: Option<String>,
    /// Sentences of the report beside the counts, for example `No usable backup.info file`.
    pub remarks: Vec<String>,
    pub archives: Vec<Checked>,
    pub backups: Vec<Checked>,
    /// The first of the files that are missing or wrong.
    pub wrong_files: Vec<String>,
    pub wrong_file_count: u64,
}

/// One archive or backup in the report of `pgbackrest verify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    pub name: String,
    /// `valid`, `invalid`, `manifest missing`, …; archives have none.
    pub status: Option<String>,
    pub checked: u64,
    pub valid: u64,
    pub missing: u64,
    pub checksum_invalid: u64,
    pub size_invalid: u64,
    pub other: u64,
}

/// A backup that was just made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub backup: BackupSet,
    pub took_s: u64,
    /// The window that it lies in; `None` where none is known.
    pub window: Option<Window>,
}

/// Dumps of a server's databases that were just made before something, under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpsMade {
    pub before: String,
    pub dumps: Vec<DumpMade>,
    pub took_s: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpMade {
    /// `.globals` is roles and memberships.
    pub database: String,
    pub at: i64,
    pub bytes: u64,
}
