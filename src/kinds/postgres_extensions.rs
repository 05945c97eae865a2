//! `postgres.extensions`: extensions that are installed in every declared database.
//!
//! Deliberately absent: new versions (an update can be a way without return, so the command for it is said and not run),
//! removal, and what must be loaded with the server (that is `postgres.cluster`'s, from the same list).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::extensions::{self, Home};
use crate::inventory::sections::Inventory;
use crate::kinds::postgres::{CLUSTER, Cluster, Query, Told, identifier, tell};
use crate::kinds::{Declared, Kind, Owned, host};
use crate::plan::change::FieldChange;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};

pub use crate::inventory::extensions::{packages, preload};

pub struct PostgresExtensions;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub databases: Vec<String>,
    /// In the order in which they are made.
    pub extensions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Database to the declared extensions that it has; a database that is not there has none.
    pub installed: BTreeMap<String, Vec<String>>,
    /// Not part of a plan's guard: nothing is done about it.
    #[serde(skip)]
    pub remarks: Vec<String>,
}

/// What a database says about one extension.
#[derive(Deserialize)]
struct Row {
    version: String,
    /// What the packages on the host would update it to.
    available: Option<String>,
    /// Whether another extension stands on it.
    needed: bool,
}

/// One object by extension. `plpgsql` is in every database.
const INSTALLED: &str = "\
SELECT coalesce(json_object_agg(e.extname, json_build_object('version', e.extversion, 'available', a.default_version,
  'needed', EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    AND d.classid = 'pg_extension'::regclass))), '{}')
FROM pg_extension e LEFT JOIN pg_available_extensions a ON a.name = e.extname WHERE e.extname <> 'plpgsql'";

fn query(database: &str) -> Query {
    Query::new(database, INSTALLED)
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let mut actual = Actual { installed: BTreeMap::new(), remarks: Vec::new() };
    for database in &desired.databases {
        let rows: BTreeMap<String, Row> =
            match desired.cluster.answer(desired.address.name(), answers, &query(database))? {
                Told::NoCluster => return Ok(None),
                Told::NoDatabase => BTreeMap::new(),
                Told::Said(rows) => rows,
            };
        let declared = |name: &&String| desired.extensions.contains(name);
        let installed = rows.keys().filter(declared).cloned().collect();
        actual.remarks.extend(rows.iter().filter_map(|(name, row)| remark(desired, database, name, row)));
        actual.installed.insert(database.clone(), installed);
    }
    Ok(Some(actual))
}

fn remark(desired: &Desired, database: &str, name: &str, row: &Row) -> Option<String> {
    if !desired.extensions.iter().any(|declared| declared == name) {
        return (!row.needed).then(|| format!("`{name}` is installed in `{database}` and not declared"));
    }
    let available = row.available.as_ref().filter(|available| **available != row.version)?;
    Some(format!(
        "`{name}` in `{database}` is {}, and the packages bring {available}; read its release notes, then: \
         sudo -u postgres psql -X -d {database} -c 'ALTER EXTENSION {} UPDATE'",
        row.version,
        identifier(name)
    ))
}

fn field(database: &str, extension: &str) -> FieldChange {
    FieldChange::new(format!("{database}.{extension}"), None, Some(Value::from("installed")))
}

/// Extensions that stand on others bring them along.
fn create(extension: &str) -> String {
    let home = match extensions::home(extension) {
        Home::Public => " SCHEMA public",
        Home::Own => "",
    };
    format!("CREATE EXTENSION IF NOT EXISTS {}{home} CASCADE;\n", identifier(extension))
}

impl Kind for PostgresExtensions {
    const NAME: &'static str = "postgres.extensions";
    const SUMMARY: &'static str = "extensions that every declared database has";
    const EXPLAIN: &'static str = "\
Manages: that every extension of the list is installed in every declared database: TimescaleDB first, in the schema `public`
unless the extension has one of its own, with the extensions that it stands on. The packages that bring them and
`shared_preload_libraries` come from the same list.

Does not manage: their versions. A newer one on the host is reported with the command that updates to it: TimescaleDB
and PostGIS change what is stored, and not every update has a way back. An extension that leaves the list stays, because
dropping it drops every column that uses it; like any that is not declared it is reported.

    servers:
      db:
        postgres:
          databases: [chronos_db]
          extensions: [timescaledb, pg_stat_statements]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(server, section)| {
                let postgres = section.postgres.as_ref()?;
                if postgres.databases.is_empty() || postgres.extensions.is_empty() {
                    return None;
                }
                let address = Address::new(Self::NAME, server.as_str());
                let desired = Desired {
                    address: address.clone(),
                    cluster: Cluster { version: postgres.version },
                    databases: postgres.databases.iter().map(ToString::to_string).collect(),
                    extensions: extensions::in_order(&postgres.extensions),
                };
                Some(host::declared(address, server, &[CLUSTER, "postgres.databases"], "postgres.extensions", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let within = desired.databases.iter().map(|name| query(name).probe());
        std::iter::once(desired.cluster.probe()).chain(within).collect()
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, cluster: _, databases, extensions } = desired;
        let Actual { installed, remarks: _ } = actual;
        let has = |database: &String, name: &String| installed.get(database).is_some_and(|list| list.contains(name));
        databases
            .iter()
            .flat_map(|database| extensions.iter().map(move |name| (database, name)))
            .filter(|(database, name)| !has(database, name))
            .map(|(database, name)| field(database, name))
            .collect()
    }

    fn steps(desired: &Desired, _actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let missing = |database: &str| -> Vec<&str> {
            let differs = |name: &&str| host::differs(fields, &format!("{database}.{name}"));
            desired.extensions.iter().map(String::as_str).filter(differs).collect()
        };
        let each = desired.databases.iter().map(|database| (database, missing(database)));
        each.filter(|(_, missing)| !missing.is_empty())
            .map(|(database, missing)| {
                let text: String = missing.iter().map(|name| create(name)).collect();
                tell(
                    desired.cluster,
                    database,
                    Content::Text(text),
                    format!("install {} in {database}", missing.join(", ")),
                )
            })
            .collect()
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let each = desired
            .databases
            .iter()
            .flat_map(|database| desired.extensions.iter().map(move |extension| field(database, extension)));
        each.collect()
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        actual.remarks.iter().cloned().map(Remark::from).collect()
    }
}
