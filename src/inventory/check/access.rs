//! Checks of who may connect to PostgreSQL, and of the pool in front of it.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::inventory::check::Report;
use crate::inventory::names::SqlName;
use crate::inventory::places::child;
use crate::inventory::sections::Server;
use crate::inventory::sections::database::{AccessRule, PgBouncer, Postgres};
use crate::inventory::similar::{choices, similar};

/// The port of Debian's first cluster.
const POSTGRES: u16 = 5432;
/// systemd starts services with 1,024 open files; PgBouncer needs one for each client, and some for itself.
const MOST_CLIENTS: u32 = 900;
/// More server connections than any bundle's PostgreSQL takes.
const LARGEST_POOL: u32 = 500;
/// PgBouncer's own database and user: its console.
const CONSOLE: &str = "pgbouncer";

pub(super) fn check(report: &mut Report<'_>) {
    for (name, server) in &report.inventory.servers {
        let base = format!("servers.{name}");
        if let Some(postgres) = &server.postgres {
            let mut seen = BTreeMap::new();
            for (index, rule) in postgres.access.iter().enumerate() {
                access(report, &format!("{base}.postgres"), index, postgres, rule);
                repeated(report, &format!("{base}.postgres.access"), index, rule, &mut seen);
            }
        }
        if let Some(section) = &server.pgbouncer {
            pool(report, &base, server, section);
        }
    }
}

fn access(report: &mut Report<'_>, base: &str, index: usize, postgres: &Postgres, rule: &AccessRule) {
    let path = format!("{base}.access[{index}]");
    declared(report, &format!("{path}.role"), &rule.role, &format!("{base}.roles"), postgres.roles.keys());
    declared(
        report,
        &format!("{path}.database"),
        &rule.database,
        &format!("{base}.databases"),
        postgres.databases.iter(),
    );
    if rule.from.is_empty() {
        let from = format!("{path}.from");
        report
            .error("empty-sources", format!("`{from}` names no network: nobody could connect"), &from, "empty")
            .hint = Some("name the networks, or take the rule out".to_owned());
    }
    report.repeats("duplicate-network", &format!("{path}.from"), &rule.from);
    let Some(section) = postgres.roles.get(&rule.role) else { return };
    let missing = match (section.login, &section.password) {
        (false, _) => "`login: true`",
        (true, None) => "a `password`",
        (true, Some(_)) => return,
    };
    let problem = Diagnostic::error(
        "role-cannot-log-in",
        format!("`{path}` lets in `{}`, which cannot log in without {missing}", rule.role),
    )
    .at(report.places.span(&format!("{path}.role")), "let in here")
    .at(report.places.key(&format!("{base}.roles.{}", rule.role)), "declared here")
    .hint("name the role that the application logs in as");
    report.found.push(problem);
}

/// An error, if a name is in none of the two lists that a server has for PostgreSQL.
fn declared<'n>(
    report: &mut Report<'_>,
    path: &str,
    name: &SqlName,
    section: &str,
    known: impl Iterator<Item = &'n SqlName>,
) {
    let names: Vec<&str> = known.map(SqlName::as_str).collect();
    if names.contains(&name.as_str()) {
        return;
    }
    let problem =
        Diagnostic::error("dangling-reference", format!("`{path}` names `{name}`, which is not in `{section}`"))
            .at(report.places.span(path), "not declared");
    let problem = match similar(name.as_str(), names.iter().copied()) {
        Some(near) => problem.at(report.places.key(&child(section, near)), format!("a similar name: `{near}`")),
        None if names.is_empty() => problem.hint(format!("declare it under `{section}`")),
        None => problem.hint(format!("`{section}` declares {}", choices(names))),
    };
    report.found.push(problem);
}

/// The same role, database and network in two rules.
fn repeated<'r>(
    report: &mut Report<'_>,
    path: &str,
    index: usize,
    rule: &'r AccessRule,
    seen: &mut BTreeMap<(&'r SqlName, &'r SqlName, String), usize>,
) {
    for network in &rule.from {
        let key = (&rule.role, &rule.database, network.to_string());
        let first = *seen.entry(key).or_insert(index);
        if first != index {
            let message = format!("`{path}` lets `{}` into `{}` from `{network}` twice", rule.role, rule.database);
            let problem = Diagnostic::error("duplicate-access", message)
                .at(report.places.span(&format!("{path}[{index}].from")), "again here")
                .at(report.places.span(&format!("{path}[{first}].from")), "first here")
                .hint("one of the two is enough");
            report.found.push(problem);
        }
    }
}

fn pool(report: &mut Report<'_>, base: &str, server: &Server, section: &PgBouncer) {
    let path = format!("{base}.pgbouncer");
    let Some(postgres) = &server.postgres else {
        let message = format!("`{path}` is a pool for PostgreSQL, and `{base}` has no `postgres` section");
        report.error("pool-without-postgres", message, &path, "nothing to pool").hint =
            Some(format!("declare `{base}.postgres`, or take the section out"));
        return;
    };
    let taken = [(POSTGRES, "PostgreSQL"), (server.ssh_port(), "sshd")];
    if let Some((port, whose)) = taken.into_iter().find(|(port, _)| *port == section.port) {
        let message = format!("`{path}.port` is {port}, where {whose} listens");
        report.error("port-taken", message, &format!("{path}.port"), "taken").hint =
            Some("6432 is what PgBouncer is usually found at".to_owned());
    }
    let numbers = [
        ("port", u32::from(section.port), u32::from(u16::MAX)),
        ("clients", section.clients, MOST_CLIENTS),
        ("pool", section.pool, LARGEST_POOL),
    ];
    for (name, value, most) in numbers {
        if !(1..=most).contains(&value) {
            let path = format!("{path}.{name}");
            report.error(
                "out-of-range",
                format!("`{path}` must be 1 to {most}, and this is {value}"),
                &path,
                "not within",
            );
        }
    }
    for (index, rule) in postgres.access.iter().enumerate() {
        for (what, name) in [("role", &rule.role), ("database", &rule.database)] {
            if name.as_str() == CONSOLE {
                let path = format!("{base}.postgres.access[{index}].{what}");
                let message = format!("`{path}` is `{CONSOLE}`, which is PgBouncer's name for its console");
                report.error("reserved-by-pgbouncer", message, &path, "not through a pool").hint =
                    Some("give it another name".to_owned());
            }
        }
    }
}
