//! `pgbackrest.copy`: a second repository in another bucket, and the WAL that waits for it.
//!
//! It is one of its own beside the first one, with which it shares nothing that could hold that one up: `archive_command` puts a
//! copy of each file aside and goes on. Deliberately absent: pgBackRest's `repo2` (a repository that does not answer would keep
//! WAL from both), a second copy, and another account.

mod files;
pub mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::secret::{SecretForm, SecretUse};
use crate::inventory::scalar::Name;
use crate::inventory::sections::database::Retention;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host::{self, QUICK_S, run};
use crate::kinds::iam_user::{IamUser, Purpose};
use crate::kinds::parts::unit::Unit;
use crate::kinds::parts::{self, Close, Difference, Seen};
use crate::kinds::pgbackrest::{
    COPY, COPY_PROGRAM, COPY_SPOOL, FIRST_BACKUP_S, LOCKS, OK, Repository, Secrets, mark_gap, path,
};
use crate::kinds::pgbackrest_copy::files::{SETTINGS, WAL_SERVICE, parts_of};
use crate::kinds::pgbackrest_copy::look::Spool;
use crate::kinds::pgbackrest_repo::PgbackrestRepo;
use crate::kinds::postgres::{CLUSTER, Cluster};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// pgBackRest's words for the kinds of backups that it may have.
const TURNS: [&str; 2] = ["full", "diff"];
/// Seconds to archive one segment and find it: it goes through the queue.
const CHECK_S: u32 = 660;
/// A repository that has taken nothing for this many seconds falls behind: three segments of `archive_timeout`.
pub const BEHIND_S: i64 = 900;
/// Access to the spool.
const SPOOL: &str = "700 postgres:postgres";
/// Everything else of a server that stands on the first repository or waits for the database: a second one that cannot be made must keep
/// nothing else from being done.
const BEFORE: [&str; 8] = [
    PgbackrestRepo::NAME,
    "postgres.dumps",
    "postgres.access",
    "postgres.views",
    "pgbouncer.pool",
    "host.fail2ban",
    "host.jobs",
    "host.compose",
];

pub struct PgbackrestCopy;

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
    /// Kind of backup (`full`, `diff`) to systemd's `OnCalendar=`.
    pub timers: BTreeMap<String, String>,
    /// Seconds between two turns of the schedule, at the longest.
    pub longest_gap: u64,
    /// MiB of WAL that may wait.
    pub spool_mib: u32,
    pub cipher_pass: SecretUse,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub parts: Seen,
    #[serde(flatten)]
    pub secrets: Secrets,
    /// Units whose line in the schedule is gone.
    pub left: Vec<String>,
    /// Options that pgBackRest does not know; it ignores them with a warning.
    pub warnings: Vec<String>,
    /// Mode, owner and group of the folder in which WAL waits.
    pub spool: String,
    /// Why the repository lacks WAL, where it does.
    pub gap: Option<String>,
    /// What the repository says, where it could be read.
    pub repository: Option<Repository>,
    /// Why it could not.
    pub unreadable: Option<String>,
    /// What waits. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub waiting: Spool,
}

fn desired(inventory: &Inventory, name: &Name, server: &Server) -> Option<Desired> {
    let (first, postgres) = (server.backup.as_ref()?, server.postgres.as_ref()?);
    let copy = first.copies.first()?;
    let section = first.of_copy(copy);
    // A dangling bucket was refused when the inventory was checked.
    let bucket = inventory.buckets.get(&section.bucket)?;
    let schedule = &section.schedule;
    let turns = [(TURNS[0], Some(&schedule.full)), (TURNS[1], schedule.differential.as_ref())];
    let turns = turns.into_iter().filter_map(|(kind, when)| Some((kind.to_owned(), when?.on_calendar())));
    Some(Desired {
        address: Address::new(PgbackrestCopy::NAME, name.as_str()),
        cluster: Cluster { version: postgres.version },
        stanza: section.stanza.to_string(),
        bucket: bucket.name.clone(),
        region: inventory.region_of(bucket),
        timers: turns.collect(),
        longest_gap: schedule.longest_gap().seconds(),
        spool_mib: copy.spool_mib,
        cipher_pass: SecretUse { from: section.cipher_pass.secret(), form: SecretForm::Passphrase },
        retention: section.retention,
    })
}

/// What a server needs of a second repository before a restore onto a new machine: where to read it, and where WAL is kept for it.
/// Nothing where there is none.
pub fn before_restore(inventory: &Inventory, server: &str) -> Vec<HostStep> {
    let found = inventory.servers.iter().find(|(name, _)| name.as_str() == server);
    let Some(desired) = found.and_then(|(name, section)| desired(inventory, name, section)) else { return Vec::new() };
    let mut steps = COPY.directories();
    steps.extend(spool());
    steps.extend(parts::close(&parts_of(&desired).differences(None)).files);
    steps.extend(COPY.secret_steps(&desired.cipher_pass, |_| true));
    steps
}

/// Makes the folder in which WAL waits. What is in it is postgres' business.
fn spool() -> [HostStep; 2] {
    let queue = format!("{COPY_SPOOL}/queue");
    let argv = ["runuser", "-u", "postgres", "--", "mkdir", "-p", "-m", "0700", "--", &queue];
    [
        host::directory(COPY_SPOOL, "postgres", "postgres", "0700"),
        run(&argv, QUICK_S, "make the queue of WAL for the second repository"),
    ]
}

impl Kind for PgbackrestCopy {
    const NAME: &'static str = "pgbackrest.copy";
    const SUMMARY: &'static str = "a second backup repository in another bucket, and the WAL that waits for it";
    const EXPLAIN: &'static str = "\
Manages: a second stanza below the prefix STANZA/pgbackrest of another bucket, best in another region, with a passphrase and two
identities of its own (SERVER-copy reads and writes, SERVER-copy-restore only reads), timers for its backups, and the WAL
that waits for it in /var/spool/seawall-copy.

PostgreSQL's archive_command puts a copy of each segment aside and goes on to the first repository; a service sends what waits. A
second repository that does not answer holds nothing up. When more than `spool_mib` wait, or the disk is nearly full, segments are
left out: the gap is a difference, which a full backup closes. That it falls behind by a quarter of an hour is said in
every plan. Backups of both repositories wait for each other.

`--copy` leads `backup list`, `verify` and `now`, `restore`, `drill` and `rebuild` to it.

Does not manage: another account, a second copy, and copies of dumps or of the certificate. When the section goes, its timers and
services go; the repository and what waits stay.

    servers:
      db:
        backup:
          copies:
          - { bucket: elsewhere, cipher_pass: { env: SEAWALL_COPY_PASS, escrow: confirmed } }
    buckets:
      elsewhere: { name: project-chronos-copy, region: eu-west-1 }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let declared = |(name, server): (&Name, &Server)| {
            let desired = desired(inventory, name, server)?;
            let needs = [&[CLUSTER], &BEFORE[..]].concat();
            let mut declared = host::declared(desired.address.clone(), name, &needs, "backup.copies[0]", desired);
            let copy = server.backup.as_ref().and_then(|section| section.copies.first());
            declared.after.extend(copy.map(|copy| Address::new("s3.bucket", copy.bucket.as_str())));
            let purposes = [Purpose::Copy, Purpose::CopyRestore];
            declared.after.extend(purposes.map(|purpose| Address::new(IamUser::NAME, &purpose.identity(name))));
            Some(declared)
        };
        inventory.servers.iter().filter_map(declared).collect()
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
            secrets,
            left,
            warnings,
            spool,
            gap,
            repository,
            // Unknown is no difference; see `remarks`.
            unreadable: _,
            waiting: _,
        } = actual;
        let mut fields = parts::fields(parts_of(desired).differences(Some(seen)));
        fields.extend(secrets.differences(&COPY));
        fields.extend(left.iter().map(|path| FieldChange::new(path, Some("there".into()), None)));
        let more: Vec<&str> = secrets.foreign.iter().chain(warnings).map(String::as_str).collect();
        if !more.is_empty() {
            fields.push(FieldChange::new("configuration", Some(more.join("; ").into()), Some("ours alone".into())));
        }
        fields.extend(FieldChange::between("spool", &spool.as_str(), &SPOOL));
        if let Some(repository) = repository {
            fields.extend(repository.differences());
            // A repository that does not answer takes no backup that would close it.
            fields.extend(
                gap.as_ref().map(|why| {
                    FieldChange::new("gap", Some(why.as_str().into()), Some("closed by a full backup".into()))
                }),
            );
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let new = actual.is_none();
        let differs = |path: &str| new || host::differs(fields, path);
        let mut differences = parts_of(desired).differences(actual.map(|actual| &actual.parts));
        // A warning of pgBackRest's is about a file that is as it should be, or one beside it: written again, it is checked.
        if let Some(field) = fields.iter().find(|field| field.path == "configuration" && field.limit.is_none()) {
            let files = parts_of(desired).files.into_iter().filter(|file| file.path == COPY.conf);
            differences.push(Difference { field: field.clone(), closes: files.map(Close::Write).collect() });
        }
        let closing = parts::close(&differences);
        let mut steps = if new { COPY.directories() } else { Vec::new() };
        if differs("spool") {
            steps.extend(spool());
            if !new {
                steps.push(mark_gap("the folder in which WAL waits was not as it must be"));
            }
        }
        let gone = actual.map(|actual| actual.left.as_slice()).unwrap_or_default();
        let gone: Vec<Unit> = gone.iter().filter_map(|path| Some(Unit::named(path.rsplit('/').next()?))).collect();
        if !gone.is_empty() {
            steps.extend(parts::remove(&gone, &[]));
        }
        steps.extend(closing.files);
        steps.extend(COPY.secret_steps(&desired.cipher_pass, differs));
        // Before anything is waited for that comes through the queue.
        steps.extend(closing.start);
        if differs("stanza") {
            // The first repository's archiver may hold the lock of both.
            let lock = format!("--lock-path={LOCKS}/copy");
            steps.extend(COPY.stanza(&desired.stanza, &[&lock]));
        }
        if differs("stanza") || differs(COPY.pass[0]) || differs(COPY.conf) {
            let what = "archive one segment of WAL and find it in the second repository";
            steps.push(COPY.pgbackrest(&desired.stanza, &["check"], CHECK_S, what));
        }
        // What was lost with the spool, a full backup makes good, where the repository answers.
        let keys = COPY.keys.iter().any(|(_, target)| differs(&format!("key.{target}")) || differs(target));
        let readable = actual.is_some_and(|actual| actual.repository.is_some());
        // It could not be read for want of a key, so its gap was no difference yet.
        let known_gap =
            !readable && (keys || differs(COPY.key_path)) && actual.is_some_and(|actual| actual.gap.is_some());
        let lost = !new && differs("spool") && readable;
        if differs("full backup") || differs("gap") || lost || known_gap {
            let argv = ["systemctl", "start", "seawall-copy@full.service"];
            steps.push(run(&argv, FIRST_BACKUP_S, "make a full backup in the second repository"));
        }
        steps
    }

    fn doubts(recorded: &Desired) -> Option<String> {
        let odd = recorded.timers.keys().find(|kind| !TURNS.contains(&kind.as_str()));
        odd.map(|kind| format!("it has a timer `{kind}`, which is no kind of backup"))
    }

    fn remove(owned: &Owned) -> Vec<HostStep> {
        let desired = owned.record.as_ref().and_then(|record| serde_json::from_value::<Desired>(record.clone()).ok());
        let Some(desired) = desired else { return Vec::new() };
        let mut steps = parts::remove(&parts_of(&desired).units, &[COPY_PROGRAM, SETTINGS]);
        // Should it come back, it lacks what was not kept meanwhile.
        steps.push(mark_gap("it left the inventory"));
        steps
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields = vec![
            new("stanza", desired.stanza.clone().into()),
            new("repository", format!("s3://{}{} in {}", desired.bucket, path(&desired.stanza), desired.region).into()),
            new("spool", format!("{COPY_SPOOL}, at most {} MiB", desired.spool_mib).into()),
            new("full backup", "at once".into()),
        ];
        fields.extend(parts_of(desired).units.iter().filter_map(|unit| Some(new(&unit.name, unit.wanted()?.into()))));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        parts_of(desired).diffs(actual.map(|actual| &actual.parts))
    }

    fn refusals(desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if !actual.secrets.foreign.is_empty() {
            let problem = Diagnostic::error(
                "foreign-backup-configuration",
                format!("`{}` shares its configuration with files of somebody else", desired.address),
            );
            let problem = problem.hint("move what is needed into the inventory, and remove these files");
            let foreign = actual.secrets.foreign.iter();
            found.push(foreign.fold(problem, |problem, path| problem.note(format!("`{path}` is read, too"))));
        }
        let there = actual.repository.as_ref().is_some_and(|repository| repository.stanza == OK);
        if let Some(path) = actual.secrets.other_passphrase(&COPY).filter(|_| there) {
            found.push(
                Diagnostic::error(
                    "passphrase-changed",
                    format!("`{}` is encrypted with another passphrase than the declared one", desired.address),
                )
                .note(format!("`{path}` holds the one that opens the repository"))
                .note("the passphrase of a stanza cannot be changed: with the new one, every backup of before is noise")
                .hint("declare the old passphrase again, or a new bucket for the copy"),
            );
        }
        found
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Some(why) = &actual.unreadable {
            remarks.push(Remark::broken(format!("the second repository could not be read: {why}")));
            let gap = actual.gap.as_ref().map(|why| format!("the second repository has a gap: {why}"));
            remarks.extend(gap.map(Remark::broken));
        }
        remarks.extend(actual.secrets.remark(&desired.cipher_pass));
        let Spool { now, gap: _, waits, said } = &actual.waiting;
        if let Some((count, since, file)) = waits.as_ref().filter(|(_, since, _)| now - since > BEHIND_S) {
            let why = said.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
            remarks.push(Remark::broken(format!(
                "the second repository falls behind: {count} files of WAL wait, {file} for {} min{why}",
                (now - since) / 60
            )));
        }
        if let Some(how) = actual.parts.units.get(WAL_SERVICE).and_then(|state| state.failed.as_ref()) {
            remarks.push(Remark::broken(format!("{WAL_SERVICE} failed ({how}): see `journalctl -u {WAL_SERVICE}`")));
        }
        if let Some(repository) = &actual.repository {
            remarks.extend(repository.remarks(*now, desired.longest_gap));
        }
        remarks
    }
}
