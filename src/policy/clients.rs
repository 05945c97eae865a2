//! Rules about the database's clients: by which door they come, and how many connections they may take.
//!
//! A door is a port that the firewall opens and behind which a login waits: PostgreSQL's own, and the pool's.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::scalar::Cidr;
use crate::inventory::sections::database::{Postgres, SettingValue};
use crate::inventory::sections::{Inventory, Protocol, Server, Sources};
use crate::kinds::firewall::opening;
use crate::kinds::postgres_access::{is_loopback, logins, pairs};
use crate::policy::Rule;

/// The port that PostgreSQL listens on.
const POSTGRES: u16 = 5432;
/// Connections that PostgreSQL keeps for superusers unless told otherwise (`superuser_reserved_connections`).
const RESERVED: u64 = 3;

const ACCESS_FROM_ANYWHERE: Rule = Rule {
    id: "access-from-anywhere",
    severity: Severity::Error,
    wants: "a role logs in from named networks only",
    source: "CIS PostgreSQL 17, 5.2-5.6: no wide networks",
};
const ACCESS_NOT_REACHABLE: Rule = Rule {
    id: "access-not-reachable",
    severity: Severity::Error,
    wants: "who may log in to the database gets through the firewall",
    source: "three lists of who may connect (cloud, host, pg_hba) that disagree are found out by the application",
};
const OPEN_WITHOUT_ACCESS: Rule = Rule {
    id: "open-without-access",
    severity: Severity::Warning,
    wants: "the firewall opens the database to nobody who may not log in",
    source: "an open port without a use is there for guessing passwords",
};
const POOL_WITHOUT_CERTIFICATE: Rule = Rule {
    id: "pool-without-certificate",
    severity: Severity::Error,
    wants: "nobody talks to the pool without TLS",
    source: "PgBouncer brings no certificate, and rows would go over the network for all to read",
};
const POOL_FOR_NOBODY: Rule = Rule {
    id: "pool-for-nobody",
    severity: Severity::Warning,
    wants: "somebody may use the pool",
    source: "PgBouncer refuses whom no `access` rule names from a network that is open at its port",
};
const POOL_EXCEEDS_CONNECTIONS: Rule = Rule {
    id: "pool-exceeds-connections",
    severity: Severity::Error,
    wants: "the pool never asks PostgreSQL for more connections than it has",
    source: "PgBouncer's usual 25 per role and database beside 25 in all: refused logins under load, and only then",
};

pub(super) const RULES: &[Rule] = &[
    ACCESS_FROM_ANYWHERE,
    ACCESS_NOT_REACHABLE,
    OPEN_WITHOUT_ACCESS,
    POOL_WITHOUT_CERTIFICATE,
    POOL_FOR_NOBODY,
    POOL_EXCEEDS_CONNECTIONS,
];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let base = format!("servers.{name}");
        let Some(postgres) = &server.postgres else { continue };
        for (index, rule) in postgres.access.iter().enumerate() {
            for (place, network) in rule.from.iter().enumerate() {
                let path = format!("{base}.postgres.access[{index}].from[{place}]");
                found.extend(access(&base, server, &rule.role.to_string(), network, &path, places));
            }
        }
        found.extend(open_without_access(&base, server, postgres, places));
        found.extend(pool(&base, server, postgres, places));
    }
}

/// The ports behind which a login waits.
fn doors(server: &Server) -> Vec<(u16, &'static str)> {
    let pool = server.pgbouncer.as_ref().map(|pool| (pool.port, "the pool"));
    std::iter::once((POSTGRES, "PostgreSQL")).chain(pool).collect()
}

fn access(base: &str, server: &Server, role: &str, network: &Cidr, path: &str, places: &Places) -> Option<Diagnostic> {
    if network.is_as_good_as_anywhere() {
        let finding = ACCESS_FROM_ANYWHERE
            .broken(
                format!(
                    "`{role}` may log in to the database of `{base}` from `{network}`, which is as good as anywhere"
                ),
                format!("`from: [{network}]`"),
            )
            .at(places.span(path), "everybody may try")
            .hint("name the networks of the applications; people go through SSH");
        return Some(ACCESS_FROM_ANYWHERE.cite(finding));
    }
    let net = network.net();
    let doors = doors(server);
    let open = |port: u16| opening(server, port).is_some_and(|open| open.lets_in(&net).is_some());
    if is_loopback(&net) || doors.iter().any(|(port, _)| open(*port)) {
        return None;
    }
    let shown: Vec<String> = doors.iter().map(|(port, what)| format!("{port} ({what})")).collect();
    let finding = ACCESS_NOT_REACHABLE
        .broken(
            format!("`{role}` may log in to the database of `{base}` from `{network}`, which the firewall keeps out"),
            format!("`{network}` is not within what `firewall` opens at {}", shown.join(" or ")),
        )
        .at(places.span(path), "never gets to log in")
        .at(places.span(&format!("{base}.firewall")), "not opened here")
        .hint(format!("add the network to the firewall's rule for port {POSTGRES}, or take it out here"));
    Some(ACCESS_NOT_REACHABLE.cite(finding))
}

fn open_without_access(base: &str, server: &Server, postgres: &Postgres, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, rule) in server.firewall.iter().enumerate() {
        let Some((port, what)) = doors(server).into_iter().find(|(port, _)| *port == rule.port) else { continue };
        // What is open to the world is an error already.
        let Sources::Networks(networks) = &rule.from else { continue };
        if rule.protocol != Protocol::Tcp {
            continue;
        }
        for (place, network) in networks.iter().enumerate().filter(|(_, network)| !network.is_as_good_as_anywhere()) {
            let open = network.net();
            let overlaps = |other: &Cidr| other.net().contains(&open) || open.contains(&other.net());
            let named = |other: &Cidr| overlaps(other) && !other.is_as_good_as_anywhere();
            if postgres.access.iter().flat_map(|access| &access.from).any(named) {
                continue;
            }
            let finding = OPEN_WITHOUT_ACCESS
                .broken(
                    format!("port {port} of `{base}` is open for `{network}`, from where no role may log in"),
                    format!("no rule of `access` names a network within `{network}`"),
                )
                .at(places.span(&format!("{base}.firewall[{index}].from[{place}]")), format!("reaches {what}"))
                .hint("add a rule to `postgres.access`, or close the port for this network");
            found.push(OPEN_WITHOUT_ACCESS.cite(finding));
        }
    }
    found
}

fn pool(base: &str, server: &Server, postgres: &Postgres, places: &Places) -> Vec<Diagnostic> {
    let Some(section) = &server.pgbouncer else { return Vec::new() };
    let path = format!("{base}.pgbouncer");
    let mut found = Vec::new();
    if server.certificate.is_none() {
        let finding = POOL_WITHOUT_CERTIFICATE
            .broken(format!("the pool of `{base}` has no certificate to show"), "no `certificate` section")
            .at(places.key(&path), "no TLS")
            .hint(format!("declare `{base}.certificate`"));
        found.push(POOL_WITHOUT_CERTIFICATE.cite(finding));
    }
    let pairs = pairs(&logins(server, section.port));
    if pairs.is_empty() {
        let finding = POOL_FOR_NOBODY
            .broken(
                format!("nobody may use the pool of `{base}`"),
                format!("no rule of `access` names a network that `firewall` opens at port {}", section.port),
            )
            .at(places.key(&path), "a pool for nobody")
            .hint(format!(
                "open port {} for the application in `firewall`, or let a role in from this host: `from: [127.0.0.1/32]`",
                section.port
            ));
        found.push(POOL_FOR_NOBODY.cite(finding));
    }
    let limit = |role: &str| {
        let declared = postgres.roles.iter().find(|(name, _)| name.as_str() == role);
        declared.and_then(|(_, role)| role.connections).map_or(u64::MAX, u64::from)
    };
    // PgBouncer holds a role to its limit over all databases.
    let mut roles: Vec<&str> = pairs.iter().map(|pair| pair.role.as_str()).collect();
    roles.sort_unstable();
    roles.dedup();
    let of_role = |role: &str| {
        let databases = pairs.iter().filter(|pair| pair.role == role).count() as u64;
        (databases * u64::from(section.pool)).min(limit(role))
    };
    let wanted: u64 = roles.iter().map(|role| of_role(role)).sum();
    if let Some(most) = max_connections(postgres).filter(|most| wanted + RESERVED > *most) {
        let parts: Vec<String> = roles.iter().map(|role| format!("{role} {}", of_role(role))).collect();
        let finding = POOL_EXCEEDS_CONNECTIONS
            .broken(
                format!("the pool of `{base}` may ask PostgreSQL for {wanted} connections, and it has {most}"),
                format!("{}; {RESERVED} are kept for superusers", parts.join(", ")),
            )
            .at(places.span(&format!("{path}.pool")), format!("{} per role and database", section.pool))
            .hint("make `pool` smaller, or give the roles `connections`: the pool keeps to them");
        found.push(POOL_EXCEEDS_CONNECTIONS.cite(finding));
    }
    found
}

/// How many connections PostgreSQL takes, where the inventory says it.
fn max_connections(postgres: &Postgres) -> Option<u64> {
    match postgres.settings.get("max_connections")? {
        SettingValue::Number(number) => u64::try_from(*number).ok(),
        SettingValue::Text(text) => text.parse().ok(),
        SettingValue::Switch(_) => None,
    }
}
