//! What pgBackRest says of a repository.

use serde::{Deserialize, Serialize};

use crate::kinds::pgbackrest::OK;
use crate::plan::backups::Verdict;
use crate::plan::change::FieldChange;
use crate::plan::info::{self, Health};
use crate::plan::probe::CommandState;
use crate::plan::remark::Remark;

/// How the question ends when it took too long; `timeout`'s own status would be taken for the question's limit.
const SLOW: i32 = 75;

/// What a repository says of itself, as far as a plan may stand on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// `ok`, `missing`, or pgBackRest's word.
    pub stanza: String,
    /// There is a full backup that ended well.
    pub full: bool,
    /// System identifier of the cluster that the stanza belongs to.
    pub system: Option<String>,
    /// When the newest good backup ended, in seconds since 1970. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub newest: Option<i64>,
    #[serde(skip)]
    pub page_errors: Vec<String>,
    /// The timeline of the last segment in this cluster's archive by name, whoever put it there.
    #[serde(skip)]
    pub timeline: Option<u32>,
}

impl Repository {
    /// What an answer says of the stanza, or why that is not known.
    pub(super) fn told(said: &CommandState, stanza: &str, limit_s: &str) -> Result<Self, String> {
        read(&said.stdout, stanza).map_err(|why| {
            let slow = (said.status == SLOW).then(|| format!("it did not answer within {limit_s} s"));
            let told =
                || said.stderr.lines().find_map(|line| line.split_once("ERROR: ").map(|(_, told)| told.to_owned()));
            slow.or_else(told).unwrap_or(why)
        })
    }

    pub(crate) fn differences(&self) -> Vec<FieldChange> {
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("stanza", &self.stanza.as_str(), &OK));
        let word = if self.full { "there" } else { "none" };
        fields.extend(FieldChange::between("full backup", &word, &"there"));
        fields
    }

    /// A cluster takes the first free number when it begins a timeline, so a higher one in its archive is somebody else's. What
    /// `info` says anyway tells it; all that an archive holds is listed by `seawall backup list` and `status` alone.
    pub(crate) fn foreign_timeline(&self, own: u32) -> Option<Remark> {
        let there = self.timeline.filter(|there| *there > own && own > 0)?;
        Some(Remark::broken(format!(
            "somebody else archives here: the archive goes on along timeline {there}, and PostgreSQL is on timeline {own}; a restore \
             that names no timeline brings back the other's rows: see `seawall backup list`"
        )))
    }

    pub(crate) fn remarks(&self, now: i64, longest_gap: u64) -> Vec<Remark> {
        let mut remarks: Vec<Remark> = self
            .page_errors
            .iter()
            .map(|label| {
                Remark::broken(format!(
                    "backup {label} found pages whose checksums are wrong: the database itself is damaged"
                ))
            })
            .collect();
        let Some(newest) = self.newest else {
            let none =
                (!remarks.is_empty()).then_some("there is no good backup: each holds pages whose checksums are wrong");
            remarks.extend(none.map(Remark::broken));
            return remarks;
        };
        let late = match Verdict::of(now - newest, longest_gap) {
            Verdict::Ok => return remarks,
            Verdict::Late => "late",
            Verdict::Critical => "far too late",
        };
        let hours = (now - newest) / 3_600;
        remarks.push(Remark::broken(format!("the newest good backup is {hours} h old, {late} by its schedule")));
        remarks
    }
}

fn read(stdout: &str, stanza: &str) -> Result<Repository, String> {
    let missing = Repository {
        stanza: "missing".to_owned(),
        full: false,
        system: None,
        newest: None,
        page_errors: Vec::new(),
        timeline: None,
    };
    let Some(found) = info::find(stdout.as_bytes(), stanza)? else { return Ok(missing) };
    let message = found.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let word = match found.status.health() {
        Health::Ok | Health::NoBackups => OK.to_owned(),
        Health::NoStanza | Health::NoStanzaData => "missing".to_owned(),
        Health::Other => return Err(message),
        Health::Mixed | Health::ClusterMismatch | Health::BackupNotFound => message,
    };
    let broken = found.backup.iter().filter(|backup| backup.error == Some(true));
    Ok(Repository {
        stanza: word,
        full: found.backup.iter().any(|backup| backup.kind == "full"),
        system: found.current_db().map(|db| db.system_id.to_string()),
        // One that holds wrong pages is no good one, however new it is.
        newest: found.backup.iter().filter(|b| b.error != Some(true)).map(|backup| backup.timestamp.stop).max(),
        page_errors: broken.map(|backup| backup.label.clone()).collect(),
        timeline: found.last_timeline(),
    })
}
