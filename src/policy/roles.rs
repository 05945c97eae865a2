//! Rules about the roles of a cluster: how many connections they may hold together.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::database::{PgBouncer, Postgres, Role, SettingValue};
use crate::inventory::sections::{Inventory, Server};
use crate::policy::Rule;

const CONNECTIONS_OVERSUBSCRIBED: Rule = Rule {
    id: "connections-oversubscribed",
    severity: Severity::Error,
    wants: "roles that use all their connections leave some for the superuser",
    source: "PostgreSQL refuses whoever comes after `max_connections`, the operator with the remedy included",
};
const ROLE_WITHOUT_LIMIT: Rule = Rule {
    id: "role-without-limit",
    severity: Severity::Warning,
    wants: "no role can take every connection",
    source: "CIS PostgreSQL 17, 5.2-5.6: limits per role; a leak in one program stops all others",
};
const POOL_EXCEEDS_ROLE: Rule = Rule {
    id: "pool-exceeds-role",
    severity: Severity::Warning,
    wants: "a pool opens no more connections than its role may hold",
    source: "PgBouncer: `pool` is per role and database; PostgreSQL refuses what goes beyond the role's limit",
};

pub(super) const RULES: &[Rule] = &[CONNECTIONS_OVERSUBSCRIBED, ROLE_WITHOUT_LIMIT, POOL_EXCEEDS_ROLE];

/// What a cluster takes where `settings` says nothing: PostgreSQL's own default.
const MAX_CONNECTIONS: u64 = 100;
const RESERVED: u64 = 3;

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let Some(postgres) = &server.postgres else { continue };
        let base = format!("servers.{name}.postgres");
        found.extend(oversubscribed(&base, postgres, places));
        found.extend(logins(postgres).filter_map(|(role, section)| unlimited(&base, role, section, places)));
        found.extend(pool_exceeds(&base, server, postgres, places));
    }
}

fn logins(postgres: &Postgres) -> impl Iterator<Item = (&str, &Role)> {
    postgres.roles.iter().filter(|(_, role)| role.login).map(|(name, role)| (name.as_str(), role))
}

/// A whole number of `settings`. A value that is no whole number is reported elsewhere.
fn setting(postgres: &Postgres, name: &str, default: u64) -> Option<u64> {
    match postgres.settings.get(name) {
        None => Some(default),
        Some(SettingValue::Number(number)) => u64::try_from(*number).ok(),
        Some(SettingValue::Text(text)) => text.parse().ok(),
        Some(SettingValue::Switch(_)) => None,
    }
}

fn oversubscribed(base: &str, postgres: &Postgres, places: &Places) -> Option<Diagnostic> {
    let most = setting(postgres, "max_connections", MAX_CONNECTIONS)?;
    // `reserved_connections` came with PostgreSQL 16; nothing is kept back for it by default.
    let reserved = setting(postgres, "superuser_reserved_connections", RESERVED)?.saturating_add(setting(
        postgres,
        "reserved_connections",
        0,
    )?);
    let limits: Vec<(&str, u64)> =
        logins(postgres).filter_map(|(name, role)| Some((name, u64::from(role.connections?)))).collect();
    let sum = limits.iter().fold(reserved, |sum, (_, limit)| sum.saturating_add(*limit));
    if sum < most {
        return None;
    }
    let shares: Vec<String> = limits.iter().map(|(name, limit)| format!("{name} {limit}")).collect();
    let finding = CONNECTIONS_OVERSUBSCRIBED
        .broken(
            format!("the roles of `{base}` and what is reserved take {sum} connections, and there are {most}"),
            format!("{}, and {reserved} reserved; `max_connections` is {most}", shares.join(", ")),
        )
        .at(places.span(&format!("{base}.roles")), format!("{sum} together"))
        .at(places.span(&format!("{base}.settings.max_connections")), format!("{most} at once"))
        .hint("lower `connections` of a role, or put `pgbouncer` between, or raise `settings.max_connections`");
    Some(CONNECTIONS_OVERSUBSCRIBED.cite(finding))
}

fn unlimited(base: &str, name: &str, role: &Role, places: &Places) -> Option<Diagnostic> {
    if role.connections.is_some() {
        return None;
    }
    let finding = ROLE_WITHOUT_LIMIT
        .broken(
            format!("`{base}.roles.{name}` may take every connection of its server"),
            "`login: true` without `connections`",
        )
        .at(places.span(&format!("{base}.roles.{name}")), "no `connections`")
        .hint("write `connections: 5`, or as many as it opens at once");
    Some(ROLE_WITHOUT_LIMIT.cite(finding))
}

/// Roles for which a pool would open more connections than their limit allows. Only roles with an access rule use the pool.
fn pool_exceeds(base: &str, server: &Server, postgres: &Postgres, places: &Places) -> Vec<Diagnostic> {
    let Some(PgBouncer { pool, .. }) = server.pgbouncer.as_ref() else {
        return Vec::new();
    };
    let exceeds = |(name, role): (&str, &Role)| {
        let limit = u64::from(role.connections?);
        let rules = postgres.access.iter().filter(|rule| rule.role.as_str() == name);
        let mut databases: Vec<&str> = rules.map(|rule| rule.database.as_str()).collect();
        databases.sort_unstable();
        databases.dedup();
        let opens = u64::from(*pool).saturating_mul(databases.len() as u64);
        (opens > limit).then(|| {
            let finding = POOL_EXCEEDS_ROLE
                .broken(
                    format!("the pool opens up to {opens} connections as `{name}`, which may hold {limit}"),
                    format!("`pool: {pool}`, {} of its databases: {}", databases.len(), databases.join(", ")),
                )
                .at(places.span(&format!("{base}.roles.{name}.connections")), "its limit")
                .at(places.span(&base.replace(".postgres", ".pgbouncer.pool")), "per role and database")
                .hint("raise `connections`, or lower `pool`");
            POOL_EXCEEDS_ROLE.cite(finding)
        })
    };
    logins(postgres).filter_map(exceeds).collect()
}
