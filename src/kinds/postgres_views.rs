//! `postgres.views`: views for the questions that people ask at night, in a schema `seawall` of every declared database.
//!
//! A view's comment holds what to do about it and two digests: of our text, and of what PostgreSQL made of it. If either
//! differs from what is there, the text was changed, here or behind us. Deliberately absent: views over several databases,
//! history (that is `host.metrics`), and thresholds that page somebody.

mod catalog;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::Inventory;
use crate::kinds::host;
use crate::kinds::postgres::{self, CLUSTER, Cluster, Query, Told, identifier, literal};
use crate::kinds::postgres_views::catalog::{STATEMENTS, View, views};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::FieldChange;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};

const SCHEMA: &str = "seawall";
const OWNER: &str = "postgres";
/// Begins the last line of the comment on a view of ours; two digests follow.
const MARK: &str = "managed by Seawall: ";
/// Members of pg_monitor: whoever may see how the cluster is doing.
const READABLE: &str = "pg_monitor:SELECT";
const USABLE: &str = "pg_monitor:USAGE";

/// What is in the schema. A view's text as PostgreSQL shows it depends on the search path, so that is fixed.
const QUESTION: &str = "select json_build_object(\
    'schema', (select json_build_object('owner', pg_get_userbyid(n.nspowner), 'grants', \
        (select coalesce(json_agg(g.who order by g.who), '[]'::json) from (\
            select distinct case a.grantee when 0 then 'PUBLIC' else pg_get_userbyid(a.grantee)::text end \
                || ':' || a.privilege_type || case when a.is_grantable then '*' else '' end as who \
            from aclexplode(n.nspacl) a where a.grantee <> n.nspowner) g)) \
        from pg_namespace n where n.nspname = 'seawall'), \
    'objects', (select coalesce(json_agg(json_build_object(\
        'name', c.relname, 'view', c.relkind = 'v', 'owner', pg_get_userbyid(c.relowner), \
        'comment', obj_description(c.oid, 'pg_class'), \
        'definition', case when c.relkind = 'v' \
            then 'sha256:' || encode(sha256(convert_to(pg_get_viewdef(c.oid), 'UTF8')), 'hex') end, \
        'grants', (select coalesce(json_agg(g.who order by g.who), '[]'::json) from (\
            select distinct case a.grantee when 0 then 'PUBLIC' else pg_get_userbyid(a.grantee)::text end \
                || ':' || a.privilege_type || case when a.is_grantable then '*' else '' end as who \
            from aclexplode(c.relacl) a where a.grantee <> c.relowner) g)) order by c.relname), '[]'::json) \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'seawall' and c.relkind in ('r', 'v', 'm', 'S', 'f', 'p')))";

/// Takes the privileges on the schema and on our views from everybody, and gives them to those who should have them.
const SETTLE: &str = "DO $seawall$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT a.grantee FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname = 'seawall' AND a.grantee <> n.nspowner GROUP BY a.grantee
    LOOP
        EXECUTE 'REVOKE ALL ON SCHEMA seawall FROM '
            || CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(found.grantee)) END;
    END LOOP;
    FOR found IN
        SELECT c.relname, a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'seawall'::regnamespace AND a.grantee <> c.relowner
            AND obj_description(c.oid, 'pg_class') ~ '\\nmanaged by Seawall: [^\\n]*$' GROUP BY c.relname, a.grantee
    LOOP
        EXECUTE format('REVOKE ALL ON seawall.%I FROM ', found.relname)
            || CASE found.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(found.grantee)) END;
    END LOOP;
    GRANT USAGE ON SCHEMA seawall TO pg_monitor;
    FOR found IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'seawall'::regnamespace AND c.relkind = 'v'
            AND obj_description(c.oid, 'pg_class') ~ '\\nmanaged by Seawall: [^\\n]*$'
    LOOP
        EXECUTE format('GRANT SELECT ON seawall.%I TO pg_monitor', found.relname);
    END LOOP;
END
$seawall$;
";

pub struct PostgresViews;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub databases: BTreeSet<String>,
    /// Whether pg_stat_statements is among the extensions.
    pub statements: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Databases that are there.
    pub databases: BTreeMap<String, Found>,
}

/// What a database answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The schema, where it is there.
    pub schema: Option<Schema>,
    pub objects: Vec<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub owner: String,
    /// `ROLE:PRIVILEGE` of everybody but the owner.
    pub grants: Vec<String>,
}

/// A table, view, sequence or the like in the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub name: String,
    pub view: bool,
    pub owner: String,
    pub comment: Option<String>,
    /// Digest of a view's text as PostgreSQL shows it.
    pub definition: Option<String>,
    pub grants: Vec<String>,
}

impl Object {
    /// The two digests under a view of ours: of our text, and of what was made of it.
    fn marks(&self) -> Option<(&str, &str)> {
        let last = self.comment.as_ref()?.lines().last()?;
        last.strip_prefix(MARK)?.split_once(' ').filter(|_| self.view)
    }

    fn is_ours(&self) -> bool {
        self.marks().is_some()
    }

    /// What is wrong with a view of ours, if anything.
    fn verdict(&self, view: &View) -> Option<&'static str> {
        let (source, made) = self.marks()?;
        if source != view.source().as_str() {
            Some("another version of it")
        } else if Some(made) != self.definition.as_deref() {
            Some("changed behind us")
        } else if self.comment.as_deref() != Some(&comment(view, made)) {
            Some("its comment was changed")
        } else {
            None
        }
    }
}

/// What stands under a view.
fn comment(view: &View, made: &str) -> String {
    format!("{}\n{MARK}{} {made}", view.advice(), view.source().as_str())
}

impl Found {
    fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }
}

impl Desired {
    fn views(&self) -> impl Iterator<Item = &'static View> + use<> {
        views(self.cluster.version, self.statements)
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.views().any(|view| view.name == name)
    }
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let mut databases = BTreeMap::new();
    for database in &desired.databases {
        let query = Query::new(database, QUESTION);
        match desired.cluster.answer(desired.address.name(), answers, &query)? {
            Told::Said(found) => drop(databases.insert(database.clone(), found)),
            // It will be made; until then there is nothing in it.
            Told::NoDatabase => {}
            Told::NoCluster => return Ok(None),
        }
    }
    let none = databases.values().all(|found: &Found| found.schema.is_none());
    Ok((!none || desired.databases.is_empty()).then_some(Actual { databases }))
}

/// The fields of one database; `None` where it is not there yet.
fn of_database(desired: &Desired, database: &str, found: Option<&Found>) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    let field = |what: &str, before: Option<&str>, after: Option<&str>| {
        FieldChange::new(format!("{database}.{what}"), before.map(Value::from), after.map(Value::from))
    };
    match found.and_then(|found| found.schema.as_ref()) {
        None => fields.push(field("schema", None, Some(SCHEMA))),
        Some(Schema { owner, grants }) => {
            fields.extend(FieldChange::between(&format!("{database}.schema.owner"), owner, &OWNER));
            fields.extend(FieldChange::between(&format!("{database}.schema.grants"), grants, &[USABLE]));
        }
    }
    for view in desired.views() {
        let Some(object) = found.and_then(|found| found.object(view.name)) else {
            fields.push(field(view.name, None, Some(AS_SHIPPED)));
            continue;
        };
        let Object { name: _, view: _, owner, comment: _, definition: _, grants } = object;
        let wrong = if object.is_ours() { object.verdict(view) } else { Some("not Seawall's") };
        if let Some(wrong) = wrong {
            fields.push(field(view.name, Some(wrong), Some(AS_SHIPPED)));
        }
        fields.extend(FieldChange::between(&format!("{database}.{}.owner", view.name), owner, &OWNER));
        fields.extend(FieldChange::between(&format!("{database}.{}.grants", view.name), grants, &[READABLE]));
    }
    let old = found.into_iter().flat_map(|found| &found.objects);
    let old = old.filter(|object| object.is_ours() && !desired.is_wanted(&object.name));
    fields.extend(old.map(|object| field(&object.name, Some("of another version of Seawall"), None)));
    fields
}

const AS_SHIPPED: &str = "as shipped";

/// The statements that make a database's schema as it should be.
fn statements(desired: &Desired, database: &str, found: Option<&Found>, fields: &[FieldChange]) -> String {
    let mut sql = "SET LOCAL search_path = pg_catalog;\n".to_owned();
    let mut say = |line: String| writeln!(sql, "{line}").expect("writing to a String does not fail");
    say(format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {OWNER};"));
    let differs = |what: &str| host::differs(fields, &format!("{database}.{what}"));
    let changed: Vec<&View> = desired.views().filter(|view| differs(view.name)).collect();
    if changed.iter().any(|view| view.query().contains(":\"statements\"")) {
        say(format!(
            "SELECT n.nspname AS statements FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
             WHERE e.extname = {} \\gset",
            literal(STATEMENTS)
        ));
    }
    // Without CASCADE: what somebody built on a view of ours stops this, and stays.
    let old = found.into_iter().flat_map(|found| &found.objects);
    for object in old.filter(|object| object.is_ours() && differs(&object.name)) {
        say(format!("DROP VIEW {SCHEMA}.{};", identifier(&object.name)));
    }
    for view in &changed {
        let name = format!("{SCHEMA}.{}", view.name);
        say(format!("CREATE VIEW {name} AS\n{};", view.query()));
        // What PostgreSQL makes of a text, only it can tell.
        say(format!(
            "DO $seawall$ BEGIN EXECUTE format('COMMENT ON VIEW {name} IS %L', {} || encode(sha256(convert_to(\
             pg_get_viewdef('{name}'::regclass), 'UTF8')), 'hex')); END $seawall$;",
            literal(&comment(view, "sha256:"))
        ));
    }
    for view in desired.views().filter(|view| differs(&format!("{}.owner", view.name)) && !differs(view.name)) {
        say(format!("ALTER VIEW {SCHEMA}.{} OWNER TO {OWNER};", view.name));
    }
    sql.push_str(SETTLE);
    sql
}

impl Kind for PostgresViews {
    const NAME: &'static str = "postgres.views";
    const SUMMARY: &'static str = "views that answer what people ask about a database at night";
    const EXPLAIN: &'static str = "\
Manages: a schema `seawall` in every declared database, with views that run on every version of PostgreSQL from 13 to 17:
slow_queries (where pg_stat_statements is among the extensions), long_transactions, blocking_locks, connections,
table_bloat, neglected_tables, unused_indexes, duplicate_indexes, invalid_indexes, sequences_near_end, wraparound,
wal_archiving, replication_slots, cache_hit_ratio, sizes, and io from version 16 on. The comment on each says what to do
about what it shows: `\\d+ seawall.*`, and then `select * from seawall.blocking_locks`.

They belong to postgres; members of pg_monitor may read them, and nobody else. Under each comment stand two digests, of
the text as Seawall has it and of the view as PostgreSQL made it: a view that somebody replaced is found and made anew.

Does not manage: anything else in the schema, which is named and never dropped. A view of somebody else's that has one of
the names above, or a schema of somebody else's with the name `seawall`, is not touched; the change is refused. What
somebody built on one of these views keeps it from being made anew. Everything stays when a database or the section
leaves the inventory.

    servers:
      db:
        postgres:
          extensions: [pg_stat_statements]
          databases: [chronos_db]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.postgres.as_ref()?;
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    cluster: Cluster { version: section.version },
                    databases: section.databases.iter().map(ToString::to_string).collect(),
                    statements: section.extensions.iter().any(|extension| extension == STATEMENTS),
                };
                let mut needs = vec![CLUSTER, "postgres.databases"];
                needs.extend((!section.extensions.is_empty()).then_some("postgres.extensions"));
                let declared = || host::declared(address, name, &needs, "postgres", desired);
                (!section.databases.is_empty()).then(declared)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let ask = |database: &String| Query::new(database, QUESTION).probe();
        std::iter::once(desired.cluster.probe()).chain(desired.databases.iter().map(ask)).collect()
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, cluster: _, databases, statements: _ } = desired;
        let Actual { databases: found } = actual;
        databases.iter().flat_map(|database| of_database(desired, database, found.get(database))).collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let differs = |database: &&String| fields.iter().any(|field| field.path.starts_with(&format!("{database}.")));
        let step = |database: &String| {
            let found = actual.and_then(|actual| actual.databases.get(database));
            let sql = statements(desired, database, found, fields);
            postgres::tell(desired.cluster, database, Content::Text(sql), format!("make the views of {database}"))
        };
        desired.databases.iter().filter(differs).map(step).collect()
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        desired.databases.iter().flat_map(|database| of_database(desired, database, None)).collect()
    }

    fn refusals(desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let mut refusals = Vec::new();
        for (database, found) in &actual.databases {
            if let Some(schema) = found.schema.as_ref().filter(|schema| schema.owner != OWNER) {
                let message = format!("the schema `{SCHEMA}` of database `{database}` is somebody else's");
                let refusal = Diagnostic::error("schema-not-ours", message)
                    .note(format!("it belongs to `{}`", schema.owner))
                    .hint("rename it; Seawall keeps its views in a schema of this name");
                refusals.push(refusal);
            }
            let foreign = found.objects.iter().filter(|object| !object.is_ours() && desired.is_wanted(&object.name));
            for object in foreign {
                let message = format!("`{SCHEMA}.{}` of database `{database}` is not Seawall's", object.name);
                let refusal = Diagnostic::error("view-not-ours", message)
                    .note("its comment does not say that Seawall made it, so it is not replaced")
                    .hint("move it to another schema, or rename it");
                refusals.push(refusal);
            }
        }
        refusals
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let strangers = actual.databases.iter().flat_map(|(database, found)| {
            let foreign = found.objects.iter().filter(|object| !object.is_ours() && !desired.is_wanted(&object.name));
            foreign
                .map(move |object| format!("`{SCHEMA}.{}` in database `{database}` is not ours and stays", object.name))
        });
        strangers.map(Remark::from).collect()
    }
}
