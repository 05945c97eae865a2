//! The extensions of PostgreSQL that this program knows: what brings them, where they live, what must be loaded with the
//! server. Deliberately absent: versions, languages that let a database's owner run programs, and pg_cron, which lives in one
//! database of a cluster only (jobs are the host's).

use crate::base::release::Release;

const TOOLKIT: &str = "timescaledb_toolkit";

/// Where an extension's objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// `public`, where applications look for them.
    Public,
    /// The extension says so itself, and refuses another.
    Own,
}

/// What brings an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Package {
    /// PostgreSQL's own package.
    Postgres,
    /// `postgresql-N-…`.
    Debian(&'static str),
    /// TimescaleDB's makers name theirs whole but for the version at its end.
    Timescale(&'static str),
}

#[derive(Clone, Copy)]
struct Known {
    name: &'static str,
    package: Package,
    home: Home,
    /// The library that must be in `shared_preload_libraries`.
    preload: Option<&'static str>,
}

const fn contrib(name: &'static str) -> Known {
    Known { name, package: Package::Postgres, home: Home::Public, preload: None }
}

const fn debian(name: &'static str, package: &'static str) -> Known {
    Known { name, package: Package::Debian(package), home: Home::Public, preload: None }
}

const fn own(known: Known) -> Known {
    Known { home: Home::Own, ..known }
}

const fn preloaded(known: Known) -> Known {
    Known { preload: Some(known.name), ..known }
}

const fn timescale(name: &'static str, package: &'static str) -> Known {
    Known { name, package: Package::Timescale(package), home: Home::Public, preload: None }
}

/// In the order in which they are made and loaded: TimescaleDB wants to be the first library, and what stands on another
/// extension comes after it.
const KNOWN: [Known; 61] = [
    preloaded(timescale("timescaledb", "timescaledb-2-postgresql-")),
    timescale(TOOLKIT, "timescaledb-toolkit-postgresql-"),
    preloaded(contrib("pg_stat_statements")),
    preloaded(debian("pgaudit", "pgaudit")),
    preloaded(debian("pg_qualstats", "pg-qualstats")),
    preloaded(debian("pg_stat_kcache", "pg-stat-kcache")),
    preloaded(debian("pg_wait_sampling", "pg-wait-sampling")),
    preloaded(debian("set_user", "set-user")),
    contrib("amcheck"),
    contrib("autoinc"),
    contrib("bloom"),
    contrib("btree_gin"),
    contrib("btree_gist"),
    contrib("citext"),
    contrib("cube"),
    contrib("dblink"),
    contrib("dict_int"),
    contrib("dict_xsyn"),
    contrib("earthdistance"),
    contrib("file_fdw"),
    contrib("fuzzystrmatch"),
    contrib("hstore"),
    debian("hll", "hll"),
    debian("hypopg", "hypopg"),
    contrib("insert_username"),
    contrib("intarray"),
    debian("ip4r", "ip4r"),
    contrib("isn"),
    contrib("lo"),
    contrib("ltree"),
    contrib("moddatetime"),
    debian("orafce", "orafce"),
    contrib("pageinspect"),
    contrib("pg_buffercache"),
    contrib("pg_freespacemap"),
    debian("pg_partman", "partman"),
    contrib("pg_prewarm"),
    own(debian("pg_repack", "repack")),
    contrib("pg_surgery"),
    contrib("pg_trgm"),
    contrib("pg_visibility"),
    contrib("pg_walinspect"),
    contrib("pgcrypto"),
    contrib("pgrowlocks"),
    contrib("pgstattuple"),
    debian("pgtap", "pgtap"),
    debian("postgis", "postgis-3"),
    debian("postgis_raster", "postgis-3"),
    own(debian("postgis_topology", "postgis-3")),
    debian("pgrouting", "pgrouting"),
    contrib("postgres_fdw"),
    contrib("refint"),
    debian("rum", "rum"),
    contrib("seg"),
    contrib("sslinfo"),
    contrib("tablefunc"),
    contrib("tcn"),
    contrib("tsm_system_rows"),
    contrib("unaccent"),
    contrib("uuid-ossp"),
    debian("vector", "pgvector"),
];

/// The names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Where an extension's objects go.
pub fn home(name: &str) -> Home {
    known(name).map_or(Home::Public, |known| known.home)
}

/// Extensions in the order in which they are made.
pub fn in_order(extensions: &[String]) -> Vec<String> {
    let rank = |name: &String| KNOWN.iter().position(|known| known.name == *name).unwrap_or(KNOWN.len());
    let mut sorted = extensions.to_vec();
    sorted.sort_by_key(rank);
    sorted.dedup();
    sorted
}

/// What `shared_preload_libraries` must hold for these extensions, in order.
pub fn preload(extensions: &[String]) -> Vec<&'static str> {
    let wanted = |known: &&Known| extensions.iter().any(|name| name == known.name);
    KNOWN.iter().filter(wanted).filter_map(|known| known.preload).collect()
}

/// The packages that bring these extensions, beside PostgreSQL's own. TimescaleDB is the release's where it has it, like
/// PostgreSQL; with the toolkit, which only its makers have, both are theirs.
pub fn packages(extensions: &[String], version: u16, release: Release) -> Vec<String> {
    let toolkit = extensions.iter().any(|name| name == TOOLKIT);
    let own = release.has_timescaledb() && version == release.postgres() && !toolkit;
    let mut packages: Vec<String> = extensions
        .iter()
        .filter_map(|name| match known(name)?.package {
            Package::Postgres => None,
            Package::Debian(rest) => Some(format!("postgresql-{version}-{rest}")),
            Package::Timescale(_) if own => Some(format!("postgresql-{version}-{name}")),
            Package::Timescale(start) => Some(format!("{start}{version}")),
        })
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn no_extension_stands_twice() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), KNOWN.len());
    }

    #[test]
    fn timescaledb_is_made_and_loaded_first() {
        let wanted = list(&["pgcrypto", "pg_stat_statements", "timescaledb", "pgcrypto"]);
        assert_eq!(in_order(&wanted), ["timescaledb", "pg_stat_statements", "pgcrypto"]);
        assert_eq!(preload(&wanted), ["timescaledb", "pg_stat_statements"]);
    }

    #[test]
    fn what_comes_with_postgres_needs_no_package() {
        let wanted = list(&["pg_stat_statements", "pgaudit", "timescaledb", "vector", "postgis", "postgis_raster"]);
        let expected = [
            "postgresql-15-pgaudit",
            "postgresql-15-pgvector",
            "postgresql-15-postgis-3",
            "timescaledb-2-postgresql-15",
        ];
        assert_eq!(packages(&wanted, 15, Release::Debian12), expected);
        assert_eq!(packages(&list(&["pgcrypto"]), 15, Release::Debian12), Vec::<String>::new());
    }

    #[test]
    fn timescaledb_is_debians_only_where_debian_has_it() {
        let of = |names: &[&str], version, release| packages(&list(names), version, release);
        assert_eq!(of(&["timescaledb"], 17, Release::Debian13), ["postgresql-17-timescaledb"]);
        assert_eq!(of(&["timescaledb"], 16, Release::Debian13), ["timescaledb-2-postgresql-16"]);
        assert_eq!(of(&["timescaledb"], 17, Release::Debian12), ["timescaledb-2-postgresql-17"]);
        let both = ["timescaledb-2-postgresql-17", "timescaledb-toolkit-postgresql-17"];
        assert_eq!(of(&["timescaledb", "timescaledb_toolkit"], 17, Release::Debian13), both);
    }
}
