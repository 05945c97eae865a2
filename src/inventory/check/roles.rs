//! Checks of a server's databases, roles, extensions and access rules: names that PostgreSQL keeps, references, and who
//! belongs to whom.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::diag::Diagnostic;
use crate::inventory::check::Report;
use crate::inventory::extensions;
use crate::inventory::names::{GroupName, SqlName};
use crate::inventory::sections::database::{Postgres, Role};
use crate::inventory::similar::{choices, similar};

/// Names that mean something else: the superuser, and two words of SQL.
const RESERVED_ROLES: [&str; 4] = ["postgres", "public", "none", "seawall_restore"];
/// Databases that are always there, and are not for applications.
const RESERVED_DATABASES: [&str; 3] = ["postgres", "template0", "template1"];
/// Connections that one role may hold at once. Each takes memory; no bundle has any for so many.
const CONNECTIONS: (u32, u32) = (1, 5_000);
/// Roles that PostgreSQL brings, and the version since which it does (its documentation, "Predefined Roles").
const PREDEFINED: [(&str, u16); 11] = [
    ("pg_checkpoint", 15),
    ("pg_create_subscription", 16),
    ("pg_maintain", 17),
    ("pg_monitor", 10),
    ("pg_read_all_data", 14),
    ("pg_read_all_settings", 10),
    ("pg_read_all_stats", 10),
    ("pg_signal_backend", 10),
    ("pg_stat_scan_tables", 10),
    ("pg_use_reserved_connections", 16),
    ("pg_write_all_data", 14),
];
/// Roles whose members can become superuser, as PostgreSQL's documentation warns: they read, write and run as the system's
/// user that holds the data.
const AS_GOOD_AS_SUPERUSER: [&str; 3] = ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"];

pub(super) fn check(report: &mut Report<'_>, base: &str, postgres: &Postgres) {
    names(report, base, postgres);
    extensions(report, base, postgres);
    owners(report, base, postgres);
    for (name, role) in &postgres.roles {
        let path = format!("{base}.roles.{name}");
        connections(report, &path, role);
        report.repeats("duplicate-group", &format!("{path}.member_of"), &role.member_of);
        for (index, _) in role.member_of.iter().enumerate() {
            group(report, base, postgres, role, &format!("{path}.member_of[{index}]"), index);
        }
    }
    circles(report, base, postgres);
}

fn names(report: &mut Report<'_>, base: &str, postgres: &Postgres) {
    for (index, name) in postgres.databases.iter().enumerate() {
        if RESERVED_DATABASES.contains(&name.as_str()) {
            let path = format!("{base}.databases[{index}]");
            let message = format!("`{name}` cannot be declared: PostgreSQL brings it, for its own use");
            report.error("reserved-name", message, &path, "not for applications").hint =
                Some("give the application a database of its own".to_owned());
        }
    }
    report.repeats("duplicate-database", &format!("{base}.databases"), &postgres.databases);
    for name in postgres.roles.keys().filter(|name| RESERVED_ROLES.contains(&name.as_str())) {
        let path = format!("{base}.roles.{name}");
        let message = format!("`{name}` cannot be declared as a role: PostgreSQL has its own meaning for it");
        let problem = Diagnostic::error("reserved-name", message)
            .at(report.places.key(&path), "not a role of yours")
            .hint("the superuser stays on the host: `sudo -u postgres psql` through SSH");
        report.found.push(problem);
    }
}

fn extensions(report: &mut Report<'_>, base: &str, postgres: &Postgres) {
    for (index, name) in postgres.extensions.iter().enumerate() {
        if extensions::names().any(|known| known == name) {
            continue;
        }
        let path = format!("{base}.extensions[{index}]");
        let near = if name == "pgvector" { Some("vector") } else { similar(name, extensions::names()) };
        let message = format!("`{name}` is not an extension that Seawall knows");
        match near {
            Some(near) => drop(report.error("unknown-extension", message, &path, &format!("did you mean `{near}`?"))),
            None => {
                report.error("unknown-extension", message, &path, "no package is known that brings it").hint =
                    Some("take it out, and install it by hand: what is not declared is left alone".to_owned());
            }
        }
    }
    report.repeats("duplicate-extension", &format!("{base}.extensions"), &postgres.extensions);
}

/// An error, if a name is not declared in this `postgres` section.
fn reference<'n>(
    report: &mut Report<'_>,
    path: &str,
    name: &str,
    section: &str,
    declared: impl Iterator<Item = &'n SqlName>,
) {
    let names: Vec<&str> = declared.map(SqlName::as_str).collect();
    if names.contains(&name) {
        return;
    }
    let problem =
        Diagnostic::error("dangling-reference", format!("`{path}` names `{name}`, which is not in `{section}`"))
            .at(report.places.span(path), "not declared");
    let problem = match similar(name, names.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if names.is_empty() => problem.hint(format!("declare it under `{section}`")),
        None => problem.hint(format!("`{section}` declares {}", choices(names))),
    };
    report.found.push(problem);
}

fn owners(report: &mut Report<'_>, base: &str, postgres: &Postgres) {
    let mut owned: BTreeMap<&SqlName, String> = BTreeMap::new();
    for (name, role) in &postgres.roles {
        for (index, database) in role.owns.iter().enumerate() {
            let path = format!("{base}.roles.{name}.owns[{index}]");
            reference(report, &path, database.as_str(), &format!("{base}.databases"), postgres.databases.iter());
            if let Some(first) = owned.get(database) {
                let problem = Diagnostic::error("owned-twice", format!("`{database}` has two owners"))
                    .at(report.places.span(&path), "owned here")
                    .at(report.places.span(first), "and here")
                    .hint("let a group without `login` own it, and both roles be its members");
                report.found.push(problem);
            } else {
                owned.insert(database, path);
            }
        }
    }
}

fn connections(report: &mut Report<'_>, path: &str, role: &Role) {
    let (least, most) = CONNECTIONS;
    let Some(limit) = role.connections.filter(|limit| !(least..=most).contains(limit)) else {
        return;
    };
    let path = format!("{path}.connections");
    let message = format!("`{path}` must be {least} to {most}, and this is {limit}");
    let problem = report.error("out-of-range", message, &path, "connections at once");
    if limit == 0 {
        problem.hint = Some("to let a role in no more, write `login: false`".to_owned());
    }
}

fn group(report: &mut Report<'_>, base: &str, postgres: &Postgres, role: &Role, path: &str, index: usize) {
    let group = &role.member_of[index];
    let name = group.as_str();
    if !group.is_predefined() {
        reference(report, path, name, &format!("{base}.roles"), postgres.roles.keys());
        return;
    }
    if AS_GOOD_AS_SUPERUSER.contains(&name) {
        let message = format!("`{name}` is as good as superuser, so no role may belong to it");
        report.error("as-good-as-superuser", message, path, "reads, writes or runs as the cluster's own user").hint =
            Some("`COPY … FROM STDIN` and psql's `\\copy` move files without it".to_owned());
        return;
    }
    let known = || PREDEFINED.iter().filter(|(_, since)| *since <= postgres.version).map(|(known, _)| *known);
    let (message, near) = match PREDEFINED.iter().find(|(predefined, _)| *predefined == name) {
        Some((_, since)) if *since > postgres.version => {
            (format!("`{name}` comes with PostgreSQL {since}, and `{base}.version` is {}", postgres.version), None)
        }
        Some(_) => return,
        None => {
            (format!("`{name}` is not a role that PostgreSQL brings for others to belong to"), similar(name, known()))
        }
    };
    let label = near.map_or_else(|| "not known".to_owned(), |near| format!("did you mean `{near}`?"));
    let problem = report.error("unknown-predefined-role", message, path, &label);
    if near.is_none() {
        problem.hint = Some(format!("with PostgreSQL {} it can be {}", postgres.version, choices(known())));
    }
}

/// PostgreSQL refuses a membership that closes a circle, half-way through an apply.
fn circles(report: &mut Report<'_>, base: &str, postgres: &Postgres) {
    let groups = |name: &str| -> Vec<&str> {
        let role = postgres.roles.iter().find(|(role, _)| role.as_str() == name);
        role.iter().flat_map(|(_, role)| role.member_of.iter().map(GroupName::as_str)).collect()
    };
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for name in postgres.roles.keys().map(SqlName::as_str) {
        // Every way up from this role until it comes back to it. A role once seen leads nowhere new.
        let (mut ways, mut seen) = (vec![vec![name]], BTreeSet::new());
        while let Some(way) = ways.pop() {
            let last = *way.last().expect("a way begins with its role");
            let next = groups(last);
            if next.contains(&name) {
                if !way.iter().any(|role| told.contains(role)) {
                    let path = format!("{base}.roles.{name}.member_of");
                    let circle = format!("{} → {name}", way.join(" → "));
                    let message = format!("roles belong to each other in a circle: {circle}");
                    report.error("roles-in-a-circle", message, &path, "it begins here").hint =
                        Some("let both belong to a third role".to_owned());
                }
                told.extend(way);
                break;
            }
            let unseen = next.into_iter().filter(|group| seen.insert(*group));
            ways.extend(unseen.map(|group| way.iter().copied().chain([group]).collect()));
        }
    }
}
