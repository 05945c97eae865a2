//! What a repository and its archive are asked, and what the answers mean.

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::kinds::pgbackrest::FIRST;
use crate::kinds::pgbackrest_repo::files::{
    archive_command, archive_conf, parts_of, stop_of, stop_of_all, stop_pattern,
};
use crate::kinds::pgbackrest_repo::{Actual, Desired, drilled, restores};
use crate::kinds::postgres::{Cluster, MAINTENANCE, Query};
use crate::plan::backups::WAITING_USUAL;
use crate::plan::change::FieldChange;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, file, glob};
use crate::plan::remark::Remark;

/// What PostgreSQL says of its archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    pub mode: String,
    pub command: String,
    /// Seconds.
    pub timeout: u64,
    /// The cluster's system identifier.
    pub system: String,
    /// The table of the heartbeat is there.
    pub heartbeat: bool,
    /// The segment that could not be archived, where that was the last thing to happen.
    #[serde(skip_serializing, default)]
    pub failing: Option<String>,
    /// Segments that wait.
    #[serde(skip_serializing, default)]
    pub waiting: u64,
    /// Seconds since 1970.
    #[serde(skip_serializing, default)]
    pub now: i64,
    /// The timeline that PostgreSQL is on.
    #[serde(skip_serializing, default)]
    pub timeline: u32,
}

impl Archive {
    pub(super) fn differences(&self, desired: &Desired) -> Vec<FieldChange> {
        let Self { mode: _, command, timeout, system: _, heartbeat, failing: _, waiting: _, now: _, timeline: _ } =
            self;
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("archive_command", command, &archive_command(desired)));
        fields.extend(FieldChange::between("archive_timeout", timeout, &desired.archive_timeout));
        fields.extend(FieldChange::between("heartbeat", heartbeat, &true));
        fields
    }

    pub(super) fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Some(segment) = &self.failing {
            let lost = format!("WAL segment {segment} could not be archived: nothing since then can be restored");
            remarks.push(Remark::broken(lost));
        }
        if self.waiting > WAITING_USUAL {
            let waiting = self.waiting;
            remarks.push(format!("{waiting} segments of WAL wait to be archived and fill the disk meanwhile").into());
        }
        remarks
    }
}

fn archive_query() -> Query {
    let sql = "select json_build_object(\
        'mode', current_setting('archive_mode'), 'command', current_setting('archive_command'), \
        'timeout', (select setting::bigint from pg_settings where name = 'archive_timeout'), \
        'system', (select system_identifier::text from pg_control_system()), \
        'heartbeat', to_regclass('seawall.heartbeat') is not null, \
        'failing', (select last_failed_wal from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')), \
        'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'), \
        'now', extract(epoch from now())::bigint, \
        'timeline', greatest((select timeline_id from pg_control_checkpoint()), case when pg_is_in_recovery() then 0 \
        else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end))";
    Query::new(MAINTENANCE, sql)
}

/// The size of all databases in bytes, which a restore's time grows with. It is no part of what is wanted.
pub(crate) fn size_query() -> Query {
    let sql = "select json_build_object('bytes', sum(pg_database_size(oid))::bigint) from pg_database";
    Query::new(MAINTENANCE, sql)
}

/// What [`size_query`] says, where PostgreSQL answers.
pub(crate) fn size(cluster: Cluster, server: &str, answers: &Answers) -> Option<u64> {
    #[derive(Deserialize)]
    struct Size {
        bytes: u64,
    }
    cluster.answer::<Size>(server, answers, &size_query()).ok()?.said().map(|size| size.bytes)
}

/// Units of ours that come and go with lines of the schedule.
const SCHEDULED: [&str; 2] = ["/etc/systemd/system/seawall-backup-*.timer", "/etc/systemd/system/seawall-drill.*"];

/// A path that a server tells, if it can be one of [`SCHEDULED`].
fn scheduled(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/etc/systemd/system/seawall-")?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)).then_some(path)
}

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let info = FIRST.info_probe(&desired.stanza);
    let mut probes = vec![desired.cluster.probe(), archive_query().probe(), size_query().probe(), info];
    probes.extend(parts_of(desired).probes());
    probes.push(command(&restores::query()));
    probes.push(file(&archive_conf(desired)));
    probes.extend(FIRST.secret_probes(&desired.cipher_pass));
    probes.push(stops_probe());
    probes.extend(SCHEDULED.map(glob));
    if desired.drills.is_some() {
        probes.extend(drilled::RESULTS.map(file));
    }
    probes
}

/// Asks whether pgBackRest was told to stop; [`stops`] reads the answer.
pub fn stops_probe() -> Probe {
    glob(&stop_pattern())
}

/// The files by which `pgbackrest stop` keeps pgBackRest from serving a stanza.
///
/// # Errors
/// Why that could not be seen.
pub fn stops(answers: &Answers, stanza: &str) -> Result<Vec<String>, Unseen> {
    let (all, one) = (stop_of_all(), stop_of(stanza));
    let found = answers.glob(&stop_pattern())?.into_iter();
    Ok(found.filter(|path| *path == all || *path == one).map(str::to_owned).collect())
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let seen = parts_of(desired).look(answers)?;
    let archive = desired.cluster.answer::<Archive>(desired.address.name(), answers, &archive_query())?.said();
    // Nothing of ours: all of it is to be made, whatever else there is.
    if archive.is_none() || !seen.files.contains_key(FIRST.conf) {
        return Ok(None);
    }
    let stops = stops(answers, &desired.stanza)?;
    let wanted = parts_of(desired);
    let is_wanted = |path: &str| wanted.files.iter().any(|file| file.path == path);
    let mut left = Vec::new();
    for pattern in SCHEDULED {
        left.extend(answers.glob(pattern)?.into_iter().filter_map(scheduled).filter(|path| !is_wanted(path)));
    }
    let said = FIRST.said(answers, &desired.stanza)?;
    let (repository, unreadable) = match said.repository {
        Ok(repository) => (Some(repository), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Some(Actual {
        parts: seen,
        archive_conf: host::file(answers, &archive_conf(desired))?,
        secrets: FIRST.secrets(answers, &desired.cipher_pass)?,
        warnings: said.warnings,
        stops,
        archive,
        repository,
        unreadable,
        left: left.into_iter().map(str::to_owned).collect(),
        drilled: if desired.drills.is_some() { drilled::read(desired.address.name(), answers) } else { Vec::new() },
        restores: restores::read(&answers.command(&restores::query())?.stdout),
    }))
}
