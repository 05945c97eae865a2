//! `postgres.cluster`: PostgreSQL's packages, one cluster, and its settings, judged by what the running server says.
//!
//! A setting counts when `pg_settings` has it, not when a file says it. Deliberately absent: upgrades to another major
//! version, removal of a cluster, and WAL archiving beyond the switch that only a restart can turn (`pgbackrest.repo`).

mod archives;
mod compare;
mod look;
mod steps;
pub(crate) mod tuning;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::release::Release;
use crate::inventory::extensions;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host::{self, Wanted};
use crate::kinds::parts::apt;
use crate::kinds::parts::unit::Over;
use crate::kinds::postgres::{CLUSTER, Cluster};
use crate::kinds::postgres_cluster::compare::same;
use crate::kinds::postgres_cluster::look::Said;
use crate::kinds::postgres_cluster::tuning::{Basis, Setting};
use crate::kinds::{Declared, Kind, Owned, parts};
use crate::plan::change::{FieldChange, FileDiff, Risk};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, FileState, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;
use crate::render::render;

/// Debian's service that starts every cluster whose `start.conf` says so.
const BOOT: &str = "postgresql.service";
/// Keeps a package from making a cluster of its own when it is installed.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/seawall.conf";
/// Settings that can only be changed by a restart have this context (PostgreSQL, "pg_settings").
const RESTART: &str = "postmaster";
/// Settings of the archive.
const ARCHIVE: [&str; 3] = ["archive_command", "archive_library", "archive_timeout"];
/// Memory is counted in steps of so many MiB: a machine has a little less than its bundle promises.
const MEMORY_STEP_MIB: u64 = 512;

pub struct PostgresCluster;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    /// Says which of the packages come from archives of others.
    #[serde(default)]
    pub release: Release,
    pub packages: BTreeSet<String>,
    pub basis: Basis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// The cluster has been made.
    pub made: bool,
    /// Other clusters of this host, for example `14/main`.
    pub others: BTreeSet<String>,
    /// Packages that are wanted and not installed.
    pub missing: BTreeSet<String>,
    /// MiB of memory that the host has.
    pub memory_mib: u64,
    pub files: BTreeMap<String, FileState>,
    /// What `start.conf` says: `auto`, `manual` or `disabled`.
    pub starts: String,
    /// For example `active`.
    pub service: String,
    /// Whether Debian's service of all clusters starts at boot, for example `enabled`.
    pub boot: String,
    /// What stands over the services.
    pub over: Over,
    /// What the running cluster says of itself.
    pub said: Option<Said>,
    /// The restore in place that was neither accepted nor undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<String>,
}

impl Desired {
    /// Our file of settings.
    fn path(&self) -> String {
        self.cluster.settings()
    }

    /// The memory to tune for: what the host has, never more than the bundle promises.
    fn memory(&self, actual: Option<&Actual>) -> u64 {
        actual.map_or(self.basis.memory_mib, |actual| {
            actual.memory_mib.next_multiple_of(MEMORY_STEP_MIB).min(self.basis.memory_mib)
        })
    }

    fn settings(&self, actual: Option<&Actual>) -> Vec<Setting> {
        tuning::settings(&self.basis, self.memory(actual))
    }

    /// Settings that nobody else may set: ours, and those of the archive, whose file is `pgbackrest.repo`'s.
    fn watched(&self) -> Vec<String> {
        let archive: &[&str] = if self.basis.archives { &ARCHIVE } else { &[] };
        let ours = self.settings(None).into_iter().map(|setting| setting.name);
        ours.chain(archive.iter().map(|&name| name.to_owned())).collect()
    }

    fn file(&self, actual: Option<&Actual>) -> Ours {
        let settings: Vec<Value> = self
            .settings(actual)
            .iter()
            .map(|setting| {
                json!({ "name": setting.name, "why": setting.why, "quoted": setting.value.replace('\'', "''") })
            })
            .collect();
        let memory = self.memory(actual);
        self.text(
            self.path(),
            "postgresql.conf",
            &json!({ "settings": settings, "memory_mib": memory, "address": self.address }),
        )
    }

    /// The files of ours: settings, what keeps Debian from making clusters, and what apt takes from archives of others.
    fn texts(&self, actual: Option<&Actual>) -> Vec<Ours> {
        let mut texts = vec![self.file(actual), self.no_cluster()];
        texts.extend(archives::pins(self));
        texts
    }

    fn no_cluster(&self) -> Ours {
        self.text(NO_CLUSTER.to_owned(), "createcluster.conf", &json!({ "address": self.address }))
    }

    fn text(&self, path: String, template: &str, context: &Value) -> Ours {
        let text = render(template, context).unwrap_or_else(|error| panic!("{}: {error}", self.address));
        Ours { path, text }
    }
}

/// A file of ours.
struct Ours {
    path: String,
    text: String,
}

impl Ours {
    fn wanted(&self) -> Wanted<'_> {
        Wanted::public(&self.path, self.text.clone())
    }
}

fn desired(name: &str, server: &Server) -> Option<Desired> {
    let section = server.postgres.as_ref()?;
    let version = section.version;
    let release = Release::of_blueprint(&server.instance.blueprint);
    let mut packages = BTreeSet::from([format!("postgresql-{version}")]);
    packages.extend(extensions::packages(&section.extensions, version, release));
    if server.backup.is_some() {
        packages.insert("pgbackrest".to_owned());
    }
    let own = section.settings.iter().map(|(name, value)| (name.clone(), tuning::text(value))).collect();
    Some(Desired {
        address: Address::new(CLUSTER, name),
        cluster: Cluster { version },
        release,
        packages,
        basis: Basis {
            version,
            memory_mib: tuning::memory_of(&server.instance.bundle),
            preload: extensions::preload(&section.extensions).into_iter().map(str::to_owned).collect(),
            certificate: server.certificate.is_some(),
            network: !section.access.is_empty() || server.pgbouncer.is_some(),
            archives: server.backup.is_some(),
            own,
        },
    })
}

/// What a setting comes to, and how: `512MB (RESTART)`.
fn becomes(value: &str, restarts: bool) -> Value {
    Value::from(format!("{value} ({})", if restarts { "RESTART" } else { "reload" }))
}

fn setting_fields(desired: &Desired, actual: &Actual, said: &Said) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    for setting in desired.settings(Some(actual)) {
        let path = format!("settings.{}", setting.name);
        match said.settings.get(&setting.name) {
            // A library's setting is not known before the library is loaded.
            None => fields.push(FieldChange::new(path, None, Some(becomes(&setting.value, true)))),
            Some(has) if !same(&setting.value, &has.value, has.unit.as_deref()) => {
                let after = becomes(&setting.value, has.context == RESTART);
                fields.push(FieldChange::new(path, Some(has.value.clone().into()), Some(after)));
            }
            Some(_) => {}
        }
    }
    let watched = desired.watched();
    for (name, value) in said.auto.iter().filter(|(name, _)| watched.contains(name)) {
        fields.push(FieldChange::new(format!("alter_system.{name}"), Some(value.clone().into()), None));
    }
    for line in &said.overrides {
        fields.push(FieldChange::new(format!("{}:{}", line.file, line.line), Some(line.text().into()), None));
    }
    fields
}

impl Kind for PostgresCluster {
    const NAME: &'static str = CLUSTER;
    const SUMMARY: &'static str = "PostgreSQL's packages, one cluster, and its settings as the running server has them";
    const EXPLAIN: &'static str = "\
Manages: the packages of the declared major version (Debian's own where it has that version, else PostgreSQL's archive), one
cluster `main` at port 5432 with data checksums, UTF-8 and the locale C.UTF-8, the file conf.d/50-seawall.conf, and what apt
may take from archives of others.

Settings are tuned from the memory that the host has, never more than its bundle promises; the file names the formula beside
each value. The inventory's `settings` win over them. They are judged by `pg_settings`: a plan says for each setting
whether it takes a reload or a RESTART, and a restart happens only when the plan said so. Before a restart the WAL archive
must work: a stop waits for it. What ALTER SYSTEM or a later file sets for one of these settings is taken back.

Does not manage: other clusters of the host, upgrades to another major version (use pg_upgradecluster, and restore tests),
and settings that it does not name. A cluster is never removed: when the section goes, it stays as it is and is forgotten.

    servers:
      db:
        postgres:
          version: 15
          settings: { work_mem: 16MB, log_min_duration_statement: 500ms }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let desired = desired(name.as_str(), server)?;
                let mut declared = host::declared(desired.address.clone(), name, &[apt::KIND], "postgres", desired);
                let certificate = server.certificate.as_ref().map(|_| Address::new("host.certificate", name.as_str()));
                declared.after.extend(certificate);
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
        let Desired { address: _, cluster, release: _, packages: _, basis: _ } = desired;
        let Actual { made, others, missing, memory_mib: _, files, starts, service, boot, over, said, restoring } =
            actual;
        if !made {
            let before = others.iter().cloned().collect::<Vec<_>>().join(", ");
            let after = Some(format!("{}/main", cluster.version).into());
            return vec![FieldChange::new("cluster", Some(before.into()), after)];
        }
        let mut fields: Vec<FieldChange> = missing.iter().map(|name| package(name)).collect();
        if let Some(name) = restoring {
            let after = Some("accepted or undone".into());
            fields.push(FieldChange::new("restore in place", Some(format!("{name} waits").into()), after));
        }
        for text in desired.texts(Some(actual)) {
            fields.extend(text.wanted().change(files.get(&text.path)));
        }
        fields.extend(FieldChange::between("start", starts, &"auto"));
        fields.extend(parts::fields(over.differences()));
        fields.extend(FieldChange::between(BOOT, boot, &"enabled"));
        fields.extend(FieldChange::between("service", service, &"active"));
        let Some(said) = said else { return fields };
        fields.extend(FieldChange::between("conf.d", &if said.reads { "read" } else { "not read" }, &"read"));
        fields.extend(setting_fields(desired, actual, said));
        for problem in &said.errors {
            fields.push(FieldChange::new("configuration", Some(problem.clone().into()), Some("loads".into())));
        }
        if said.checksums != "on" {
            let mut field = FieldChange::new("data_checksums", Some(said.checksums.clone().into()), Some("on".into()));
            field.limit = Some("only `pg_checksums --enable` on a stopped cluster can switch them on".to_owned());
            fields.push(field);
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        match actual {
            None => steps::make(desired),
            Some(actual) => steps::mend(desired, actual, fields),
        }
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: String, value: Value| FieldChange::new(path, None, Some(value));
        let mut fields: Vec<FieldChange> = desired.packages.iter().map(|name| package(name)).collect();
        fields.push(new("cluster".to_owned(), format!("{}/main", desired.cluster.version).into()));
        fields.push(new("data_checksums".to_owned(), "on".into()));
        fields.push(new("service".to_owned(), "active".into()));
        for setting in desired.settings(None) {
            fields.push(new(format!("settings.{}", setting.name), setting.value.into()));
        }
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = |path: &str| actual.and_then(|actual| actual.files.get(path));
        desired.texts(actual).iter().map(|text| text.wanted().diff(before(&text.path))).collect()
    }

    fn risk(desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> Risk {
        if steps::restarts(desired, actual, fields) { Risk::Restarts } else { Risk::Plain }
    }

    fn refusals(desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        if let Some(name) = &actual.restoring {
            found.push(
                Diagnostic::error(
                    "restore-not-accepted",
                    format!(
                        "`{}` was restored in place (`{name}`), which nobody has accepted or undone",
                        desired.address
                    ),
                )
                .note("nothing is archived meanwhile, and what is written now is in no backup")
                .hint(format!("keep it: seawall restore accept {name}; or go back: seawall restore undo {name}")),
            );
        }
        if !actual.made {
            let others = actual.others.iter().cloned().collect::<Vec<_>>().join(", ");
            found.push(
                Diagnostic::error(
                    "another-cluster",
                    format!(
                        "`{}` wants PostgreSQL {}, and the host has {others}",
                        desired.address, desired.cluster.version
                    ),
                )
                .note("a new, empty cluster beside it would look like lost data to every client")
                .hint("upgrade the old one with pg_upgradecluster, or declare its version"),
            );
        }
        if let Some(said) = actual.said.as_ref().filter(|said| !said.errors.is_empty()) {
            let mut problem = Diagnostic::error(
                "broken-postgres-configuration",
                format!(
                    "`{}` has configuration that PostgreSQL cannot read: its next restart would fail",
                    desired.address
                ),
            )
            .hint("correct these lines by hand; they are not Seawall's");
            for error in &said.errors {
                problem = problem.note(error.clone());
            }
            found.push(problem);
        }
        let elsewhere =
            actual.said.iter().flat_map(|said| &said.overrides).filter(|line| !line.is_ours_to_edit(desired));
        found.extend(elsewhere.map(|line| {
            let message = format!("`{}` is set again by a file that is not the cluster's", line.name);
            Diagnostic::error("setting-elsewhere", message)
                .note(format!("PostgreSQL tells of `{}` in {}:{}", line.text(), line.file, line.line))
                .note(format!("Seawall changes settings below {}/ only, whatever a server tells of others", desired.cluster.conf()))
                .hint("see whether that line is there, and take it out by hand; if it is not, find out who had the server say so")
        }));
        found
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks: Vec<Remark> = actual.over.remarks();
        let Some(said) = &actual.said else { return remarks };
        let ours = desired.watched();
        let foreign = said.auto.iter().filter(|(name, _)| !ours.contains(name));
        remarks.extend(foreign.map(|(name, value)| {
            format!("ALTER SYSTEM sets {name} = {value}, which the inventory does not name").into()
        }));
        let waiting: Vec<&str> = said.pending.iter().map(String::as_str).collect();
        if !waiting.is_empty() {
            let restart = format!("the next restart changes {}, which the inventory does not name", waiting.join(", "));
            remarks.push(restart.into());
        }
        remarks
    }
}

fn package(name: &str) -> FieldChange {
    FieldChange::new(format!("packages.{name}"), None, Some("installed".into()))
}
