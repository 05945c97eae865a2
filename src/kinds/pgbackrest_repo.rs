//! `pgbackrest.repo`: a backup repository in S3, the WAL archive that feeds it, and the timers that fill it.
//!
//! It is judged by what pgBackRest and PostgreSQL say, never by an exit code: `info` ends with 0 on a repository that
//! nobody can read. Deliberately absent: a change of the passphrase (it needs a new repository), the deletion of
//! anything in the repository but by pgBackRest's own retention, and restores (`seawall restore`).

pub(crate) mod drilled;
mod files;
pub(crate) mod look;
mod restores;
mod steps;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::secret::{SecretForm, SecretUse};
use crate::inventory::extensions::preload;
use crate::inventory::scalar::{Name, TimeSpan};
use crate::inventory::sections::database::{DrillCheck, Retention};
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host;
use crate::kinds::iam_user::{IamUser, Purpose};
use crate::kinds::parts::{self, Seen};
use crate::kinds::pgbackrest::{FIRST, OK, Repository, Secrets, path};
use crate::kinds::pgbackrest_repo::files::{archive_file, parts_of};
use crate::kinds::pgbackrest_repo::look::Archive;
pub use crate::kinds::pgbackrest_repo::look::{stops, stops_probe};
use crate::kinds::pgbackrest_repo::restores::Standing;
use crate::kinds::postgres::{CLUSTER, Cluster};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::drills::Past;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, FileState, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// pgBackRest's words for kinds of backups; each has a timer of its own.
const TURNS: [&str; 3] = ["full", "diff", "incr"];

pub struct PgbackrestRepo;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub stanza: String,
    /// The bucket's name at AWS.
    pub bucket: String,
    pub region: String,
    pub retention: Retention,
    /// Kind of backup (`full`, `diff`, `incr`) to systemd's `OnCalendar=`.
    pub timers: BTreeMap<String, String>,
    /// Seconds between two turns of the schedule, at the longest.
    pub longest_gap: u64,
    /// Seconds after which a segment of WAL is shipped at the latest.
    pub archive_timeout: u64,
    /// Libraries that a restored copy loads at its start, as the original does.
    #[serde(default)]
    pub preload: Vec<String>,
    /// Drills that the server runs by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drills: Option<Drills>,
    pub cipher_pass: SecretUse,
    /// There is a second repository, which WAL is kept for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
}

/// Drills by a schedule, and what they are held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drills {
    /// systemd's `OnCalendar=`.
    pub calendar: String,
    /// Seconds, where the objective is set.
    pub rpo: Option<u64>,
    pub rto: Option<u64>,
    pub checks: Vec<DrillCheck>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub parts: Seen,
    pub archive_conf: Option<FileState>,
    #[serde(flatten)]
    pub secrets: Secrets,
    /// Units whose line in the schedule is gone.
    #[serde(default)]
    pub left: Vec<String>,
    /// Options that pgBackRest does not know; it ignores them with a warning.
    pub warnings: Vec<String>,
    /// Files by which `pgbackrest stop` is in force.
    pub stops: Vec<String>,
    pub archive: Option<Archive>,
    /// What the repository says, where it could be read.
    pub repository: Option<Repository>,
    /// Why it could not.
    pub unreadable: Option<String>,
    /// What the drills that the server ran by itself came to. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub drilled: Vec<Past>,
    /// Not part of a plan's guard: they are other commands' business, and grow older by themselves.
    #[serde(skip)]
    pub restores: Vec<Standing>,
}

/// The environment, server and section that ask for a repository.
fn desired(inventory: &Inventory, name: &Name, server: &Server) -> Option<Desired> {
    let (section, postgres) = (server.backup.as_ref()?, server.postgres.as_ref()?);
    // A dangling bucket was refused when the inventory was checked.
    let bucket = inventory.buckets.get(&section.bucket)?;
    let schedule = &section.schedule;
    let turns = [
        (TURNS[0], Some(&schedule.full)),
        (TURNS[1], schedule.differential.as_ref()),
        (TURNS[2], schedule.incremental.as_ref()),
    ];
    let turns: Vec<_> = turns.into_iter().filter_map(|(kind, when)| Some((kind, when?))).collect();
    Some(Desired {
        address: Address::new(PgbackrestRepo::NAME, name.as_str()),
        cluster: Cluster { version: postgres.version },
        stanza: section.stanza.to_string(),
        bucket: bucket.name.clone(),
        region: inventory.region_of(bucket),
        retention: section.retention.clone(),
        timers: turns.iter().map(|(kind, when)| ((*kind).to_owned(), when.on_calendar())).collect(),
        longest_gap: schedule.longest_gap().seconds(),
        archive_timeout: section.archive_timeout.seconds(),
        preload: preload(&postgres.extensions).into_iter().map(str::to_owned).collect(),
        drills: section.drills.schedule.as_ref().map(|schedule| Drills {
            calendar: schedule.on_calendar(),
            rpo: inventory.objectives.rpo.map(TimeSpan::seconds),
            rto: inventory.objectives.rto.map(TimeSpan::seconds),
            checks: section.drills.checks.clone(),
        }),
        cipher_pass: SecretUse { from: section.cipher_pass.secret(), form: SecretForm::Passphrase },
        copied: !section.copies.is_empty(),
    })
}

/// The steps of a server's repository before and after a restore onto a new machine: what a restore needs, and PostgreSQL's
/// archive command, which is taken up when the restore is accepted. `None` where the server has no backups.
pub fn around_restore(inventory: &Inventory, server: &str) -> Option<(Vec<HostStep>, HostStep)> {
    let (name, section) = inventory.servers.iter().find(|(name, _)| name.as_str() == server)?;
    let desired = desired(inventory, name, section)?;
    Some((steps::before_restore(&desired), archive_file(&desired).step()))
}

/// What a restore on a throw-away server needs, which must never write into the repository. `None` where the server has no
/// backups.
pub fn before_rehearsal(inventory: &Inventory, server: &str) -> Option<Vec<HostStep>> {
    let (name, section) = inventory.servers.iter().find(|(name, _)| name.as_str() == server)?;
    Some(steps::before_rehearsal(&desired(inventory, name, section)?))
}

impl Kind for PgbackrestRepo {
    const NAME: &'static str = "pgbackrest.repo";
    const SUMMARY: &'static str =
        "a backup repository in S3, the WAL archive that feeds it, and the timers that fill it";
    const EXPLAIN: &'static str = "\
Manages: pgBackRest's configuration, its stanza below the prefix STANZA/pgbackrest of the bucket, encryption on the host
(AES-256), retention, PostgreSQL's archive_command and archive_timeout, timers for full, differential and incremental
backups (one at a time, as user postgres), restore drills by a schedule (`drills`), a heartbeat row that is written every minute, and the first full backup. Two
identities come with it: SERVER-backup may read and write below the stanza's prefix, SERVER-restore may only read; the
second has a configuration of its own, /etc/pgbackrest/restore.conf, for restores and drills, which a program and a unit of
limited memory carry out on the server (`seawall explain restore`).

The repository is there before archiving begins, and archiving works before this change ends. What pgBackRest warns about (an
option that it does not know) is a difference, and so is a `pgbackrest stop` that is in force: an apply takes it back.
`archive_timeout` and the time to ship a segment are the RPO.

Does not manage: another passphrase for a repository that is there (make a new stanza), and what is in the repository: only
pgBackRest's own retention deletes there. When the section goes, timers and archive_command go; the repository stays.

    servers:
      db:
        postgres: {}
        backup:
          bucket: backups
          stanza: chronos
          schedule: { full: \"Sun 02:00\", differential: \"Mon..Sat 02:00\" }
          retention: { days: 14 }
          cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let desired = desired(inventory, name, server)?;
                let mut declared = host::declared(desired.address.clone(), name, &[CLUSTER], "backup", desired);
                let bucket = server.backup.as_ref().map(|section| Address::new("s3.bucket", section.bucket.as_str()));
                declared.after.extend(bucket);
                let purposes = [Purpose::Backup, Purpose::Restore];
                declared.after.extend(purposes.map(|purpose| Address::new(IamUser::NAME, &purpose.identity(name))));
                Some(declared)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        look::probes(desired)
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look::look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Actual {
            parts: seen,
            archive_conf,
            secrets,
            left,
            warnings,
            stops,
            archive,
            repository,
            // Unknown is no difference; see `remarks`.
            unreadable: _,
            drilled: _,
            restores: _,
        } = actual;
        let mut fields = parts::fields(parts_of(desired).differences(Some(seen)));
        fields.extend(archive_file(desired).change(archive_conf.as_ref()));
        fields.extend(secrets.differences(&FIRST));
        fields.extend(left.iter().map(|path| FieldChange::new(path, Some("there".into()), None)));
        let more: Vec<&str> = secrets.foreign.iter().chain(warnings).map(String::as_str).collect();
        if !more.is_empty() {
            fields.push(FieldChange::new("configuration", Some(more.join("; ").into()), Some("ours alone".into())));
        }
        if !stops.is_empty() {
            fields.push(FieldChange::new("stop", Some(stops.join(", ").into()), Some("not in force".into())));
        }
        if let Some(archive) = archive {
            fields.extend(archive.differences(desired));
        }
        if let Some(repository) = repository {
            fields.extend(repository.differences());
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        steps::steps(desired, actual, fields)
    }

    fn doubts(recorded: &Desired) -> Option<String> {
        let odd = recorded.timers.keys().find(|kind| !TURNS.contains(&kind.as_str()));
        odd.map(|kind| format!("it has a timer `{kind}`, which is no kind of backup"))
    }

    fn remove(owned: &Owned) -> Vec<HostStep> {
        let desired = owned.record.as_ref().and_then(|record| serde_json::from_value::<Desired>(record.clone()).ok());
        desired.map(|desired| steps::remove(&desired)).unwrap_or_default()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields = vec![
            new("stanza", desired.stanza.clone().into()),
            new("repository", format!("s3://{}{}", desired.bucket, path(&desired.stanza)).into()),
            new("archive_command", files::archive_command(desired).into()),
            new("archive_timeout", format!("{} s", desired.archive_timeout).into()),
            new("full backup", "at once".into()),
        ];
        fields.extend(parts_of(desired).units.iter().filter_map(|unit| Some(new(&unit.name, unit.wanted()?.into()))));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let mut diffs = parts_of(desired).diffs(actual.map(|actual| &actual.parts));
        diffs.push(archive_file(desired).diff(actual.and_then(|actual| actual.archive_conf.as_ref())));
        diffs
    }

    fn refusals(desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if !actual.secrets.foreign.is_empty() {
            let mut problem = Diagnostic::error(
                "foreign-backup-configuration",
                format!("`{}` shares its configuration with files of somebody else", desired.address),
            )
            .hint("move what is needed into the inventory, and remove these files");
            for path in &actual.secrets.foreign {
                problem = problem.note(format!("`{path}` is read, too"));
            }
            found.push(problem);
        }
        let there = actual.repository.as_ref().is_some_and(|repository| repository.stanza == OK);
        if let Some(path) = actual.secrets.other_passphrase(&FIRST).filter(|_| there) {
            found.push(
                Diagnostic::error(
                    "passphrase-changed",
                    format!("`{}` is encrypted with another passphrase than the declared one", desired.address),
                )
                .note(format!("`{path}` holds the one that opens the repository"))
                .note("the passphrase of a stanza cannot be changed: with the new one, every backup of before is noise")
                .hint("declare the old passphrase again, or declare a new `stanza` and keep the old one until its backups are not needed"),
            );
        }
        let system = actual.archive.as_ref().map(|archive| archive.system.as_str());
        if let (Some(repository), Some(system)) = (&actual.repository, system)
            && repository.system.as_deref().is_some_and(|of| of != system)
            && !fields.is_empty()
        {
            found.push(
                Diagnostic::error(
                    "stanza-of-another-cluster",
                    format!("stanza `{}` holds the backups of another cluster than this one", desired.stanza),
                )
                .note("the cluster was made anew, or two servers archive into one stanza")
                .hint("restore from it if this server lost its data; otherwise declare a new `stanza`. Nothing was deleted"),
            );
        }
        found
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Some(why) = &actual.unreadable {
            remarks.push(Remark::broken(format!("the repository could not be read: {why}")));
        }
        remarks.extend(actual.secrets.remark(&desired.cipher_pass));
        if let Some(archive) = &actual.archive {
            remarks.extend(archive.remarks());
        }
        if let (Some(repository), Some(archive)) = (&actual.repository, &actual.archive) {
            if repository.system.as_ref() == Some(&archive.system) {
                remarks.extend(repository.foreign_timeline(archive.timeline));
            }
            remarks.extend(repository.remarks(archive.now, desired.longest_gap));
        }
        let now = actual.archive.as_ref().map(|archive| archive.now);
        remarks.extend(actual.drilled.iter().filter_map(|past| drilled::remark(past, now?)));
        remarks.extend(actual.restores.iter().map(Standing::remark));
        remarks
    }
}
