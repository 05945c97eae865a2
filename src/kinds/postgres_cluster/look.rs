//! What a cluster is asked, and what its answers mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::kinds::parts::{apt, unit};
use crate::kinds::postgres::{MAINTENANCE, Query, Told, literal};
use crate::kinds::postgres_cluster::{Actual, BOOT, Desired};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, file, glob};

/// Not `pg_lsclusters`: it fails where one line of one cluster is broken.
const CLUSTERS: &str = "/etc/postgresql/*/*/postgresql.conf";
const MEMORY: &str = "/proc/meminfo";

/// Files in a cluster's folder that hold something else than settings.
const NO_SETTINGS: [&str; 5] = ["pg_hba.conf", "pg_ident.conf", "start.conf", "pg_ctl.conf", "environment"];

/// What a running cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub checksums: String,
    /// Our file is among those that it reads.
    pub reads: bool,
    pub settings: BTreeMap<String, Has>,
    /// What ALTER SYSTEM set.
    pub auto: BTreeMap<String, String>,
    /// Lines of other files that come after ours and set the same.
    pub overrides: Vec<Override>,
    /// Lines that cannot be read.
    pub errors: Vec<String>,
    /// Settings beside ours that wait for a restart.
    pub pending: BTreeSet<String>,
}

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Has {
    pub value: String,
    pub unit: Option<String>,
    pub context: String,
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub file: String,
    pub line: u32,
    pub name: String,
    pub value: String,
}

impl Override {
    pub(super) fn text(&self) -> String {
        format!("{} = {}", self.name, self.value)
    }

    /// Whether the line is one that Seawall takes out: a setting of ours in a file of settings below the cluster's own
    /// folder. What the server tells of its files is what a superuser of the database has it tell.
    pub(super) fn is_ours_to_edit(&self, desired: &Desired) -> bool {
        let conf = desired.cluster.conf();
        let is_settings = NO_SETTINGS.iter().all(|other| self.file != format!("{conf}/{other}"));
        host::is_below(&self.file, [conf.as_str()]) && is_settings && desired.watched().contains(&self.name)
    }
}

/// One question about everything. `pg_file_settings` also calls it an error that a value waits for a restart, with no
/// line where it left the files; `pending_restart` tells that.
fn settings_query(desired: &Desired) -> Query {
    let ours = literal(&desired.path());
    let archive = literal(&format!("{}/conf.d/60-seawall-archive.conf", desired.cluster.conf()));
    let names = |names: &[String]| names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let watched = names(&desired.watched());
    let names = names(&desired.settings(None).into_iter().map(|setting| setting.name).collect::<Vec<_>>());
    let sql = format!(
        "with files as materialized (select * from pg_file_settings), \
         auto as (select * from files where sourcefile like '%/postgresql.auto.conf') \
         select json_build_object(\
         'checksums', current_setting('data_checksums'), \
         'reads', exists (select from files where sourcefile = {ours}), \
         'settings', (select coalesce(json_object_agg(name, json_build_object('value', current_setting(name), 'unit', unit, \
            'context', context)), '{{}}') from pg_settings where name in ({names})), \
         'auto', (select coalesce(json_object_agg(name, setting), '{{}}') from auto where name is not null), \
         'overrides', (select coalesce(json_agg(json_build_object('file', sourcefile, 'line', sourceline, 'name', name, \
            'value', setting) order by seqno), '[]') from files where name in ({watched}) and sourcefile not in ({ours}, {archive}) \
            and sourcefile not like '%/postgresql.auto.conf' \
            and seqno > (select max(seqno) from files where sourcefile = {ours})), \
         'errors', (select coalesce(json_agg(concat_ws(':', sourcefile, sourceline, ' ' || error) order by seqno), '[]') \
            from files where error is not null and sourcefile is not null and error <> 'setting could not be applied' \
            and not coalesce(name in ({watched}) and seqno > (select max(seqno) from files where sourcefile = {ours}), false)), \
         'pending', (select coalesce(json_agg(name order by name), '[]') from pg_settings where pending_restart \
            and name not in ({names})))"
    );
    Query::new(MAINTENANCE, &sql)
}

fn unit_query(desired: &Desired) -> Vec<String> {
    ["systemctl", "is-active", &desired.cluster.unit()].map(str::to_owned).to_vec()
}

/// The services that start the cluster at boot.
pub(super) fn services(desired: &Desired) -> [String; 2] {
    [BOOT.to_owned(), desired.cluster.unit()]
}

fn boot_query() -> Vec<String> {
    ["systemctl", "is-enabled", BOOT].map(str::to_owned).to_vec()
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

/// The restores in place that wait for a decision, the newest last (`programs/restore/place.sh`).
const RESTORING: &str = "/etc/seawall/restores/in-place";

pub(super) fn starts(desired: &Desired) -> String {
    format!("{}/start.conf", desired.cluster.conf())
}

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let mut probes = vec![
        desired.cluster.probe(),
        settings_query(desired).probe(),
        command(&words(&unit_query(desired))),
        command(&words(&boot_query())),
        unit::probe_debian(&services(desired)),
        apt::probe(&desired.packages),
        glob(CLUSTERS),
        file(MEMORY),
        file(&starts(desired)),
        file(RESTORING),
    ];
    probes.extend(desired.texts(None).iter().map(|text| file(&text.path)));
    probes
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let this = format!("{}/main", desired.cluster.version);
    let paths = answers.glob(CLUSTERS)?.into_iter();
    let cluster = |path: &str| {
        path.strip_prefix("/etc/postgresql/").and_then(|rest| rest.strip_suffix("/postgresql.conf")).map(str::to_owned)
    };
    let mut clusters: BTreeSet<String> = paths.filter_map(cluster).collect();
    let told = desired.cluster.answer::<Said>(desired.address.name(), answers, &settings_query(desired));
    let said = match told {
        Ok(Told::NoCluster) if clusters.is_empty() => return Ok(None),
        Ok(told) => told.said(),
        // Stopped, which this kind mends.
        Err(Unseen::NotYetCreated(_)) => None,
        Err(why) => return Err(why),
    };
    let made = clusters.remove(&this);
    let mut files = BTreeMap::new();
    for path in desired.texts(None).into_iter().map(|text| text.path) {
        files.extend(host::file(answers, &path)?.map(|state| (path, state)));
    }
    let start = host::file(answers, &starts(desired))?.and_then(|state| state.text).unwrap_or_default();
    let start = start.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let packages = apt::look(&desired.packages, answers)?;
    let is_installed = |name: &&String| apt::status(&packages, name).is_some_and(apt::installed);
    Ok(Some(Actual {
        made,
        others: clusters,
        missing: desired.packages.iter().filter(|name| !is_installed(name)).cloned().collect(),
        memory_mib: memory(answers)?,
        files,
        // An empty file means `auto` (pg_createcluster(1)).
        starts: start.unwrap_or("auto").to_owned(),
        service: answers.command(&words(&unit_query(desired)))?.stdout.trim().to_owned(),
        boot: answers.command(&words(&boot_query()))?.stdout.trim().to_owned(),
        over: unit::look_debian(&services(desired), answers)?,
        said,
        restoring: host::file(answers, RESTORING)?
            .and_then(|state| state.text.unwrap_or_default().lines().last().map(|name| name.trim().to_owned())),
    }))
}

/// MiB of memory (proc(5), `MemTotal`).
fn memory(answers: &Answers) -> Result<u64, Unseen> {
    let text = host::file(answers, MEMORY)?.and_then(|state| state.text).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| kib / 1_024).ok_or_else(|| Unseen::Misread(format!("{MEMORY} has no MemTotal")))
}
