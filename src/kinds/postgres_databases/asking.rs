//! What a cluster says about its databases, and how that is read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::kinds::postgres::{MAINTENANCE, Query, Told};
use crate::kinds::postgres_databases::privileges;
use crate::kinds::postgres_databases::{Actual, Departure, Desired, Found, LOCALE};
use crate::plan::observed::Unseen;
use crate::plan::probe::Answers;

/// One object by database, without templates and the one that is always there.
const DATABASES: &str = "\
SELECT coalesce(json_object_agg(datname, json_build_object(
  'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
  'collate', datcollate, 'ctype', datctype, 'allow', datallowconn, 'limit', datconnlimit)), '{}')
FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";

#[derive(Deserialize)]
struct Row {
    owner: String,
    encoding: String,
    collate: String,
    ctype: String,
    allow: bool,
    limit: i32,
}

/// What is not as wanted within a database.
#[derive(Deserialize)]
struct Within {
    wrong: Vec<Wrong>,
    /// Owners of tables that are not the database's, and how many each has.
    strangers: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Wrong {
    role: String,
    /// `lacks` or `beyond`.
    way: String,
    #[serde(flatten)]
    departure: Departure,
}

pub(super) fn query() -> Query {
    Query::new(MAINTENANCE, DATABASES)
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let (cluster, server) = (desired.cluster, desired.address.name());
    let Told::Said(rows) = cluster.answer::<BTreeMap<String, Row>>(server, answers, &query())? else {
        return Ok(None);
    };
    let mut actual = Actual { databases: BTreeMap::new(), remarks: Vec::new() };
    for (name, row) in rows {
        let Some(database) = desired.databases.get(&name) else {
            actual.remarks.push(format!("database `{name}` is not declared: nobody looks at who may do what in it"));
            continue;
        };
        let mut within = None;
        if row.allow {
            let asked = privileges::query(&name, database);
            let Told::Said(said) = cluster.answer::<Within>(server, answers, &asked)? else {
                return Err(Unseen::Misread(format!("database `{name}` was there and was gone")));
            };
            actual.remarks.extend(about_strangers(&name, &said.strangers));
            within = Some(said.wrong);
        }
        actual.databases.insert(name, found(row, within));
    }
    Ok(Some(actual))
}

fn found(row: Row, within: Option<Vec<Wrong>>) -> Found {
    let Row { owner, encoding, collate, ctype, allow, limit } = row;
    // Debian's C library knows the one that we want by two spellings.
    let [collate, ctype] =
        [collate, ctype].map(|name| if name.eq_ignore_ascii_case("c.utf8") { LOCALE.to_owned() } else { name });
    let departures = |wrong: Vec<Wrong>| {
        wrong.into_iter().map(|wrong| (format!("{}.{}", wrong.role, wrong.way), wrong.departure)).collect()
    };
    Found {
        owner,
        encoding,
        locale: if collate == ctype { collate } else { format!("{collate}, {ctype}") },
        allow_connections: allow,
        connections: u32::try_from(limit).ok(),
        privileges: within.map(departures),
    }
}

fn about_strangers(database: &str, strangers: &BTreeMap<String, u64>) -> Option<String> {
    if strangers.is_empty() {
        return None;
    }
    let tables: Vec<String> = strangers.iter().map(|(owner, count)| format!("{count} to `{owner}`")).collect();
    Some(format!("tables in `{database}` that do not belong to its owner: {}", tables.join(", ")))
}
