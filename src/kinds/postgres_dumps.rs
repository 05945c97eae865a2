//! `postgres.dumps`: logical dumps of single databases in the bucket of the backups, encrypted, and thinned out with age.
//!
//! A second line beside pgBackRest, for what copies of files cannot do: another major version, one table, a damaged page.
//! The program on the server does the work; here are its files, its timer, and whether they are in effect. Deliberately
//! absent: a restore over a database that is there, deleting the dumps of a database that is no longer declared, and a
//! key or passphrase of its own (pgBackRest's are used).

mod files;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::names::{SqlName, TableName};
use crate::inventory::scalar::Name;
use crate::inventory::sections::database::Generations;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host;
use crate::kinds::parts::apt;
use crate::kinds::parts::unit::Unit;
use crate::kinds::parts::{self, Seen};
use crate::kinds::pgbackrest_repo::PgbackrestRepo;
use crate::kinds::postgres::Cluster;
use crate::kinds::postgres_databases::PostgresDatabases;
pub use crate::kinds::postgres_dumps::files::{PROGRAM, RUN_S};
use crate::kinds::postgres_dumps::files::{SERVICE, SETTINGS, UNITS, parts_of};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// The packages that `host.packages` installs for this section.
pub const PACKAGES: [&str; 2] = ["openssl", "rclone"];

/// Dumps that are older than the longest gap of their schedule and so much of it again are late: one run may be slow.
const SLACK: (u64, u64) = (1, 2);

pub struct PostgresDumps;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub databases: Vec<String>,
    /// The bucket's name at AWS, and the folder in it.
    pub bucket: String,
    pub folder: String,
    pub region: String,
    /// systemd's `OnCalendar=`.
    pub calendar: String,
    /// Seconds between two turns of the schedule, at the longest.
    pub longest_gap: u64,
    pub keep: Generations,
    /// Databases of which no rows are dumped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema_only: Vec<String>,
    /// Databases of which the rows of these tables are dumped and no others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub parts: Seen,
    /// When everything was dumped last and what time it is, in seconds since 1970.
    #[serde(skip)]
    pub dumped: Option<u64>,
    #[serde(skip)]
    pub now: u64,
}

fn desired(inventory: &Inventory, name: &Name, server: &Server) -> Option<Desired> {
    let (backup, postgres) = (server.backup.as_ref()?, server.postgres.as_ref()?);
    let section = backup.dumps.as_ref()?;
    // A dangling bucket was refused when the inventory was checked.
    let bucket = inventory.buckets.get(&backup.bucket)?;
    let databases = if section.databases.is_empty() { &postgres.databases } else { &section.databases };
    Some(Desired {
        address: Address::new(PostgresDumps::NAME, name.as_str()),
        cluster: Cluster { version: postgres.version },
        databases: databases.iter().map(SqlName::to_string).collect(),
        bucket: bucket.name.clone(),
        folder: format!("{}/dumps", backup.stanza),
        region: inventory.region_of(bucket),
        calendar: section.schedule.on_calendar(),
        longest_gap: section.schedule.longest_gap().seconds(),
        keep: section.keep.clone(),
        schema_only: section.schema_only.iter().map(SqlName::to_string).collect(),
        tables: section
            .tables
            .iter()
            .map(|(database, tables)| (database.to_string(), tables.iter().map(TableName::to_string).collect()))
            .collect(),
    })
}

impl Kind for PostgresDumps {
    const NAME: &'static str = "postgres.dumps";
    const SUMMARY: &'static str = "logical dumps of single databases in S3, encrypted, and thinned out with age";
    const EXPLAIN: &'static str = "\
Manages: the program /usr/local/lib/seawall/dump, its configuration /etc/seawall/dump.conf, and seawall-dump.timer, which
runs it as user postgres. For each database it makes a `pg_dump -Fc`, and of the roles and memberships a `pg_dumpall
--globals-only` without passwords; encrypts them on the server (openssl, AES-256, the passphrase of the backups) and sends
them to STANZA/dumps/DATABASE/TIME.dump.enc. What the bucket has is then read back and compared; only then the dump's
.sha256 is sent, and without that it does not count.

After a new good dump of a database its older ones are thinned out: the newest of each of the last `daily` days, `weekly`
ISO weeks and `monthly` months that have one are kept. A database that could not be dumped keeps no other from it; the run
ends with status 1, and nothing of that database is deleted.

`schema_only` and `tables` have less of a database dumped: TIME.schema.enc has no rows, TIME.tables.enc those of the named tables
only. `seawall backup dump --before NAME` dumps every database whole, now: TIME.before-NAME.dump.enc is never thinned out.

`dump list` on the server shows the good dumps, `dump restore DATABASE TIME` makes a new database DATABASE_restored_TIME of one.
A dump holds one moment. What was written since then is lost with it: pgBackRest and its WAL are what `objectives.rpo` needs.

Does not manage: dumps of a database that is no longer dumped (they stay), and large servers: a dump and its encrypted copy
may take a third of the disk's free space each, and a database that needs more is not dumped. When the section goes,
program and timer go; the dumps stay.

    buckets:
      backups: { name: project-chronos-backups }
    servers:
      db:
        postgres: { databases: [chronos_db] }
        backup:
          bucket: backups
          stanza: chronos
          cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }
          dumps:
            schedule: daily 03:30
            keep: { daily: 7, weekly: 4, monthly: 12 }
            # schema_only: [events], tables: { shop: [public.orders] }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let desired = desired(inventory, name, server)?;
                let needs = [apt::KIND, PgbackrestRepo::NAME, PostgresDatabases::NAME];
                Some(host::declared(desired.address.clone(), name, &needs, "backup.dumps", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        seen::probes(desired)
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(seen::look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Actual {
            parts: seen,
            // Remarks.
            dumped: _,
            now: _,
        } = actual;
        parts::fields(parts_of(desired).differences(Some(seen)))
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, _fields: &[FieldChange]) -> Vec<HostStep> {
        let closing = parts::close(&parts_of(desired).differences(actual.map(|actual| &actual.parts)));
        [closing.files, closing.start].concat()
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        parts::remove(&UNITS.map(Unit::named), &[PROGRAM, SETTINGS])
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields = parts::fields(parts_of(desired).differences(None));
        fields.push(new("databases", desired.databases.join(", ").into()));
        fields.push(new("dumps", format!("s3://{}/{}", desired.bucket, desired.folder).into()));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        parts_of(desired).diffs(actual.map(|actual| &actual.parts))
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Some(how) = actual.parts.units.get(SERVICE).and_then(|state| state.failed.as_ref()) {
            let failed = format!("the last run of {SERVICE} failed ({how}): see `journalctl -u {SERVICE}`");
            remarks.push(Remark::broken(failed));
        }
        match actual.dumped {
            None => remarks.push(format!("nothing was dumped yet; `systemctl start {SERVICE}` does it now").into()),
            Some(at) => {
                let age = actual.now.saturating_sub(at);
                if age > desired.longest_gap + desired.longest_gap * SLACK.0 / SLACK.1 {
                    let late = format!("the last run that dumped everything was {} hours ago", age / 3_600);
                    remarks.push(Remark::broken(late));
                }
            }
        }
        let mut shared: Vec<&String> = actual.parts.units.values().flat_map(|state| &state.shared).collect();
        shared.dedup();
        remarks.extend(shared.into_iter().map(|path| format!("{path} is in effect for these units, too").into()));
        remarks
    }
}
