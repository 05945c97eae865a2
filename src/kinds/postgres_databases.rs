//! `postgres.databases`: databases with their owner, and what every declared role may do in them.
//!
//! Privileges are judged as the cluster has them, object by object; what is missing is granted, what goes beyond is revoked,
//! and both in the same words that found it (`privileges.rs`). Deliberately absent: dropping, renaming or converting a
//! database, and giving what is in it to another owner.

mod asking;
mod privileges;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::Inventory;
use crate::inventory::sections::database::{Grants, Postgres, Role};
use crate::kinds::postgres::{CLUSTER, Cluster, MAINTENANCE, identifier, tell, tell_alone};
use crate::kinds::{Declared, Kind, Owned, host};
use crate::plan::change::FieldChange;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};

/// What every text is stored in.
const ENCODING: &str = "UTF8";
/// Byte order for indexes, which no update of the C library can change, and Unicode's letters.
const LOCALE: &str = "C.UTF-8";
/// The version since which a database has a locale provider; which one a cluster takes by itself is the packager's choice.
const PROVIDERS: u16 = 15;
/// Predefined roles that are of no use without a connection.
const NEED_TO_CONNECT: [&str; 3] = ["pg_monitor", "pg_read_all_data", "pg_write_all_data"];
/// Why encoding and locale stay.
const SET_ONCE: &str = "PostgreSQL sets this once, when a database is made; dump it and restore it into a new one";

pub struct PostgresDatabases;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub databases: BTreeMap<String, Database>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// None: whoever owns it.
    pub owner: Option<String>,
    /// What each declared role but the owner may do here.
    pub roles: BTreeMap<String, May>,
}

/// What a role may do in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum May {
    Nothing,
    Connect,
    Read,
    Write,
    /// Connect; the rest is not judged.
    Unmanaged,
}

impl May {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => NOTHING,
            Self::Connect => "connect",
            Self::Read => "read",
            Self::Write => "write",
            Self::Unmanaged => "connect, the rest unmanaged",
        }
    }
}

const NOTHING: &str = "nothing";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Declared databases that are there.
    pub databases: BTreeMap<String, Found>,
    /// Not part of a plan's guard: nothing is done about it.
    #[serde(skip)]
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub owner: String,
    pub encoding: String,
    /// Collation and character type.
    pub locale: String,
    pub allow_connections: bool,
    /// Connections at once, of everybody; none is no limit.
    pub connections: Option<u32>,
    /// `ROLE.lacks` and `ROLE.beyond` to what it is; none where the database lets nobody in to look.
    pub privileges: Option<BTreeMap<String, Departure>>,
}

/// Objects on which a role's privileges are not as declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    pub count: u64,
    /// The first of them, for people.
    pub some: Vec<String>,
}

impl Departure {
    fn words(&self) -> String {
        let shown = self.some.join("; ");
        let hidden = self.count.saturating_sub(self.some.len() as u64);
        if hidden == 0 { shown } else { format!("{shown}; and {hidden} more") }
    }
}

/// What a role may do in a database, by the role's line in the inventory and the rules of who may connect.
fn may(postgres: &Postgres, name: &str, role: &Role, database: &str) -> May {
    match role.grants {
        Some(Grants::Read) => May::Read,
        Some(Grants::Write) => May::Write,
        Some(Grants::Unmanaged) => May::Unmanaged,
        None => {
            let lets_in =
                postgres.access.iter().any(|rule| rule.role.as_str() == name && rule.database.as_str() == database);
            let needs = role.member_of.iter().any(|group| NEED_TO_CONNECT.contains(&group.as_str()));
            if lets_in || needs { May::Connect } else { May::Nothing }
        }
    }
}

fn wanted(postgres: &Postgres, name: &str) -> Database {
    let owns = |role: &Role| role.owns.iter().any(|owned| owned.as_str() == name);
    let owner = postgres.roles.iter().find(|(_, role)| owns(role)).map(|(owner, _)| owner.to_string());
    let others = postgres.roles.iter().filter(|(_, role)| !owns(role));
    let roles = others.map(|(role, section)| (role.to_string(), may(postgres, role.as_str(), section, name)));
    Database { owner, roles: roles.collect() }
}

fn promised(name: &str, database: &Database) -> Vec<FieldChange> {
    let Database { owner, roles } = database;
    let new = |path: String, value: &str| FieldChange::new(path, None, Some(Value::from(value)));
    let mut fields = vec![
        new(format!("{name}.encoding"), ENCODING),
        new(format!("{name}.locale"), LOCALE),
        new(format!("{name}.owner"), owner.as_deref().unwrap_or("postgres")),
        new(format!("{name}.PUBLIC"), NOTHING),
    ];
    let given = roles.iter().filter(|(_, may)| **may != May::Nothing);
    fields.extend(given.map(|(role, may)| new(format!("{name}.{role}"), may.word())));
    fields
}

fn differences(name: &str, database: &Database, found: &Found) -> Vec<FieldChange> {
    let Database { owner, roles: _ } = database;
    let Found { owner: has, encoding, locale, allow_connections, connections, privileges } = found;
    let path = |what: &str| format!("{name}.{what}");
    let no_limit = connections.map_or_else(|| Value::from("no limit"), Value::from);
    let fields = [
        owner.as_ref().and_then(|owner| FieldChange::between(&path("owner"), has, owner)),
        FieldChange::between(&path("allow_connections"), allow_connections, &true),
        FieldChange::between(&path("connections"), &no_limit, &"no limit"),
        FieldChange::between(&path("encoding"), encoding, &ENCODING).map(|field| field.limited(SET_ONCE)),
        FieldChange::between(&path("locale"), locale, &LOCALE).map(|field| field.limited(SET_ONCE)),
    ];
    let departures = privileges.iter().flatten();
    let departures =
        departures.filter_map(|(what, departure)| FieldChange::between(&path(what), &departure.words(), &NOTHING));
    fields.into_iter().flatten().chain(departures).collect()
}

/// Makes a database. The template is the one that nobody may have changed.
fn create(cluster: Cluster, name: &str, database: &Database) -> HostStep {
    let provider = if cluster.version >= PROVIDERS { " LOCALE_PROVIDER libc" } else { "" };
    let owner = database.owner.as_deref().map(|owner| format!(" OWNER {}", identifier(owner))).unwrap_or_default();
    let statement = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING '{ENCODING}' LOCALE '{LOCALE}'{provider}{owner};\n",
        identifier(name)
    );
    tell_alone(cluster, MAINTENANCE, Content::Text(statement), format!("create database {name}"))
}

/// Changes what is a database's own.
fn alter(cluster: Cluster, name: &str, database: &Database, fields: &[FieldChange]) -> Option<HostStep> {
    let differs = |what: &str| host::differs(fields, &format!("{name}.{what}"));
    let quoted = identifier(name);
    let owner = database.owner.as_ref().filter(|_| differs("owner"));
    let statements = [
        owner.map(|owner| format!("OWNER TO {}", identifier(owner))),
        differs("allow_connections").then(|| "ALLOW_CONNECTIONS true".to_owned()),
        differs("connections").then(|| "CONNECTION LIMIT -1".to_owned()),
    ];
    let statements: Vec<String> =
        statements.iter().flatten().map(|what| format!("ALTER DATABASE {quoted} {what};\n")).collect();
    (!statements.is_empty())
        .then(|| tell(cluster, MAINTENANCE, Content::Text(statements.concat()), format!("change database {name}")))
}

impl Kind for PostgresDatabases {
    const NAME: &'static str = "postgres.databases";
    const SUMMARY: &'static str = "databases, their owners, and what every role may do in them";
    const EXPLAIN: &'static str = "\
Manages: that every declared database is there (UTF8, C.UTF-8), who owns it (the role with it in `owns`), that it takes
connections, and what each declared role may do in it:

  the owner          everything; in `public`, too, where PostgreSQL before 15 gave it to postgres
  grants: read       connect, and read every table, view and sequence
  grants: write      that, and insert, update and delete rows
  grants: unmanaged  connect; what else is up to the owner and not looked at
  an `access` rule   connect; so does member_of pg_monitor, pg_read_all_data or pg_write_all_data
  none of these      nothing

The same holds for tables that the owner makes later (default privileges). What goes beyond is found and revoked:
privileges on the database, schemas, tables, columns and sequences, options to grant them on, default privileges of anybody.
So is whatever PUBLIC may do with the database or a table, and that it may create things in a schema.

Does not manage: privileges of roles that are not declared, and on functions, types and large objects; what belongs to
an extension, the schema `seawall`, and TimescaleDB's inner schemas (its chunks have the privileges of their hypertable). A
table that another role than the owner makes has no privileges for others until the next apply. The owner of tables is
never changed; tables that belong to somebody else are reported. Encoding and locale of a database that is there cannot be
changed, and are shown as limited.

No database is ever dropped. When one leaves the inventory, nothing in it is changed.

    servers:
      db:
        postgres:
          databases: [chronos_db]
          roles:
            app: { login: true, connections: 15, owns: [chronos_db], password: { env: CHRONOS_APP_PASSWORD } }
            readonly: { login: true, connections: 5, grants: read, password: { file: secrets/readonly } }
          access: [{ role: app, database: chronos_db, from: [198.51.100.7/32] }]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(server, section)| {
                let postgres = section.postgres.as_ref().filter(|postgres| !postgres.databases.is_empty())?;
                let databases =
                    postgres.databases.iter().map(|name| (name.to_string(), wanted(postgres, name.as_str())));
                let address = Address::new(Self::NAME, server.as_str());
                let cluster = Cluster { version: postgres.version };
                let desired = Desired { address: address.clone(), cluster, databases: databases.collect() };
                Some(host::declared(address, server, &[CLUSTER, "postgres.roles"], "postgres.databases", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let within = desired.databases.iter().map(|(name, database)| privileges::query(name, database).probe());
        [desired.cluster.probe(), asking::query().probe()].into_iter().chain(within).collect()
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(asking::look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, cluster: _, databases } = desired;
        let Actual { databases: found, remarks: _ } = actual;
        databases
            .iter()
            .flat_map(|(name, database)| match found.get(name) {
                Some(found) => differences(name, database, found),
                None => promised(name, database),
            })
            .collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        for (name, database) in &desired.databases {
            let Some(found) = actual.and_then(|actual| actual.databases.get(name)) else {
                steps.extend([
                    create(desired.cluster, name, database),
                    privileges::set(desired.cluster, name, database),
                ]);
                continue;
            };
            let altered = alter(desired.cluster, name, database, fields);
            let differs = found.privileges.as_ref().is_some_and(|departures| !departures.is_empty());
            // What a new owner lacks, and what is in a database that let nobody in, is not known yet.
            let unknown = found.privileges.is_none() || host::differs(fields, &format!("{name}.owner"));
            steps.extend(altered);
            if differs || unknown {
                steps.push(privileges::set(desired.cluster, name, database));
            }
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        desired.databases.iter().flat_map(|(name, database)| promised(name, database)).collect()
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        actual.remarks.iter().cloned().map(Remark::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_from_the_untouched_template_with_a_locale_of_the_c_library() {
        let made = |version, owner: Option<&str>| {
            let database = Database { owner: owner.map(str::to_owned), roles: BTreeMap::new() };
            let step = serde_json::to_value(create(Cluster { version }, "shop", &database)).expect("a step serialises");
            let said = step["run"]["stdin"]["text"].as_str().expect("a text").to_owned();
            said.lines().last().expect("a statement").to_owned()
        };
        let start = "CREATE DATABASE \"shop\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'";
        assert_eq!(made(15, Some("app")), format!("{start} LOCALE_PROVIDER libc OWNER \"app\";"));
        assert_eq!(made(14, None), format!("{start};"));
    }
}
