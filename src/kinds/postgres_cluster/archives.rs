//! Packages of a cluster, and the archives beside Debian's that some of them come from: each with the key that is known here by
//! its fingerprint, and a pin by which apt takes from it what it is for and nothing else.

use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::parts::apt;
use crate::kinds::postgres_cluster::{Desired, Ours};
use crate::plan::step::HostStep;

/// An archive of somebody who is not Debian.
struct Archive {
    /// Its host, as apt's pins name it.
    origin: &'static str,
    /// The fingerprint of the one key that signs it.
    fingerprint: &'static str,
    /// What it is for, as apt's patterns.
    packages: &'static str,
    preferences: &'static str,
}

/// PostgreSQL's own (PGDG), whose key Debian's package `postgresql-common` brings. Versions that Debian does not have, and what is
/// built for them.
const POSTGRESQL: Archive = Archive {
    origin: "apt.postgresql.org",
    fingerprint: "B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8",
    packages: "postgresql* libpq* libecpg* libpgtypes* pgdg-keyring pgbackrest pgbouncer postgis*",
    preferences: "/etc/apt/preferences.d/seawall-pgdg",
};

/// TimescaleDB's own (Timescale, "Install on Linux"). No package of Debian's vouches for its key.
const TIMESCALE: Archive = Archive {
    origin: "packagecloud.io",
    fingerprint: "1005FB68604CE9B8F6879CF759F18EDF47F24417",
    packages: "timescaledb-*",
    preferences: "/etc/apt/preferences.d/seawall-timescaledb",
};

/// The script of Debian's package that adds PostgreSQL's archive with its key, and what it writes.
const PGDG: &str = "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh";
const PGDG_LIST: &str = "/etc/apt/sources.list.d/pgdg.sources";
const TIMESCALE_LIST: &str = "/etc/apt/sources.list.d/timescaledb.list";
const TIMESCALE_KEY: &str = "/etc/apt/keyrings/timescaledb.asc";
const TIMESCALE_KEY_URL: &str = "https://packagecloud.io/timescale/timescaledb/gpgkey";

/// FILE FINGERPRINT: whether a file holds one key, and that one. A second key in it would sign as well as the first.
const IS_KEY: &str = r#"is_key() {
    keys=$(gpg --homedir "$work" --batch --no-options --with-colons --show-keys -- "$1") || return
    [ "$(printf '%s\n' "$keys" | grep -c '^pub:')" = 1 ] || return
    [ "$(printf '%s\n' "$keys" | grep -m 1 '^fpr:' | cut -d : -f 10)" = "$2" ]
}
umask 077
work=$(mktemp -d) || exit 73
trap 'rm -rf -- "$work"' EXIT
"#;

/// URL FINGERPRINT TARGET: puts a key in place when it is the known one.
const FETCH_KEY: &str = r#"curl -fsS --proto =https --max-time 60 --max-filesize 65536 -o "$work/key" "$1" || exit
is_key "$work/key" "$2" || { echo "the key at $1 is not the one with the fingerprint $2; nothing was trusted"; exit 65; }
install -D -o root -g root -m 0644 -- "$work/key" "$3""#;

/// LIST FINGERPRINT: whether the one key that an archive's list names is the known one; else the list goes.
const KNOWN_KEY: &str = r#"key=$(sed -n 's/^Signed-By: *//p' "$1" | sort -u)
[ -f "$key" ] && is_key "$key" "$2" && exit
rm -f -- "$1"
echo "the key of $1 is not the one with the fingerprint $2; the archive was taken out again"
exit 65"#;

/// The list of TimescaleDB's archive.
fn timescale(desired: &Desired) -> String {
    let (suite, origin) = (desired.release.suite(), TIMESCALE.origin);
    format!(
        "# managed by Seawall; changes here are undone when packages of this archive are installed again
deb [signed-by={TIMESCALE_KEY}] https://{origin}/timescale/timescaledb/debian/ {suite} main
"
    )
}

/// The pins of the archives that packages of a cluster come from.
pub(super) fn pins(desired: &Desired) -> Vec<Ours> {
    let pgdg = (desired.cluster.version != desired.release.postgres()).then_some(POSTGRESQL);
    let timescale = desired.packages.iter().any(|package| is_timescale(package)).then_some(TIMESCALE);
    [pgdg, timescale].into_iter().flatten().map(|archive| archive.pin()).collect()
}

fn is_timescale(package: &str) -> bool {
    package.starts_with("timescaledb")
}

impl Archive {
    /// Nothing of the archive is taken but what it is for. It is there before the archive is known to apt.
    fn pin(&self) -> Ours {
        let Self { origin, packages, preferences, fingerprint: _ } = self;
        let text = format!(
            "# managed by Seawall; changes here are undone by the next apply
Package: *
Pin: origin {origin}
Pin-Priority: -1

Package: {packages}
Pin: origin {origin}
Pin-Priority: 500
"
        );
        Ours { path: (*preferences).to_owned(), text }
    }
}

fn with_key(program: &str, words: &[&str], timeout_s: u32, what: &str) -> HostStep {
    let program = format!("{IS_KEY}{program}");
    host::run(&[&["sh", "-c", &program, "sh"], words].concat(), timeout_s, what)
}

/// The steps that install packages, with what must come before it.
pub(super) fn install(desired: &Desired, packages: &[&str]) -> Vec<HostStep> {
    let mut steps = vec![apt::update()];
    if desired.cluster.version != desired.release.postgres() {
        steps.push(apt::install(&["postgresql-common", "ca-certificates", "gpg"]));
        steps.push(POSTGRESQL.pin().wanted().step(None));
        steps.push(apt::run(&[PGDG, "-y"], apt::UPDATE_S, "add PostgreSQL's own archive"));
        let known = [PGDG_LIST, POSTGRESQL.fingerprint];
        steps.push(with_key(KNOWN_KEY, &known, QUICK_S, "prove the key of PostgreSQL's archive"));
    }
    if packages.iter().any(|package| is_timescale(package)) {
        steps.push(apt::install(&["curl", "ca-certificates", "gpg"]));
        steps.push(TIMESCALE.pin().wanted().step(None));
        let fetch = [TIMESCALE_KEY_URL, TIMESCALE.fingerprint, TIMESCALE_KEY];
        steps.push(with_key(FETCH_KEY, &fetch, apt::UPDATE_S, "fetch and prove the key of TimescaleDB's archive"));
        steps.push(Wanted::public(TIMESCALE_LIST, timescale(desired)).step(None));
        steps.push(apt::update());
    }
    steps.push(apt::install(packages));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    use crate::base::digest::Digest;
    use crate::base::release::Release;
    use crate::kinds::Kind as _;
    use crate::kinds::parts::unit::Over;
    use crate::kinds::postgres::Cluster;
    use crate::kinds::postgres_cluster::{Actual, PostgresCluster};
    use crate::plan::probe::FileState;

    fn cluster(version: u16, packages: &[&str]) -> Desired {
        let basis = serde_json::json!({
            "archives": false, "certificate": false, "memory_mib": 2048, "network": false, "own": {}, "preload": [],
            "version": version,
        });
        Desired {
            address: "postgres.cluster/db".parse().expect("an address"),
            cluster: Cluster { version },
            release: Release::Debian12,
            packages: packages.iter().map(|&name| name.to_owned()).collect(),
            basis: serde_json::from_value(basis).expect("a basis"),
        }
    }

    /// What is found on a host that has the cluster, with some of the files of ours.
    fn found(desired: &Desired, files: &[&Ours], missing: &[&str]) -> Actual {
        let state = |file: &&Ours| {
            let text = Some(file.text.clone());
            let digest = Digest::of_bytes(file.text.as_bytes()).as_str().to_owned();
            let [owner, group, mode] = ["root", "root", "644"].map(str::to_owned);
            (file.path.clone(), FileState { owner, group, mode, size: file.text.len() as u64, text, digest })
        };
        Actual {
            made: true,
            others: BTreeSet::new(),
            missing: missing.iter().map(|&name| name.to_owned()).collect(),
            memory_mib: desired.basis.memory_mib,
            files: files.iter().map(state).collect(),
            starts: "auto".to_owned(),
            service: "active".to_owned(),
            boot: "enabled".to_owned(),
            over: Over::default(),
            said: None,
            restoring: None,
        }
    }

    #[test]
    fn a_pin_that_somebody_changed_is_a_difference() {
        assert!(pins(&cluster(15, &["postgresql-15"])).is_empty(), "all of it is Debian's");
        let desired = cluster(16, &["postgresql-16", "timescaledb-2-postgresql-16"]);
        let mut texts = desired.texts(None);
        let all: Vec<&Ours> = texts.iter().collect();
        assert_eq!(PostgresCluster::diff(&desired, &found(&desired, &all, &[])), []);

        // One lets everything in, the other is gone.
        let pgdg = texts.iter().position(|text| text.path == POSTGRESQL.preferences).expect("a pin");
        texts[pgdg].text = texts[pgdg].text.replace("-1", "990");
        let left: Vec<&Ours> = texts.iter().filter(|text| text.path != TIMESCALE.preferences).collect();
        for missing in [&[][..], &["timescaledb-2-postgresql-16"]] {
            let actual = found(&desired, &left, missing);
            let fields = PostgresCluster::diff(&desired, &actual);
            for pin in [POSTGRESQL.preferences, TIMESCALE.preferences] {
                assert!(fields.iter().any(|field| field.path == pin), "{pin}: {fields:?}");
                let steps = PostgresCluster::steps(&desired, Some(&actual), &fields);
                let at = |step: &HostStep| matches!(step, HostStep::WriteFile { path, .. } if path == pin);
                assert_eq!(steps.iter().filter(|step| at(step)).count(), 1, "{pin} is written once");
                let install = steps.iter().position(|step| step.summary().starts_with("install"));
                assert!(install.is_none_or(|install| steps.iter().position(at) < Some(install)), "{pin} comes first");
            }
        }
    }

    /// gpg and curl of our own making: what they would say, and where they would write.
    fn bench(keys: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let tool = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        };
        tool("gpg", &format!("printf '%b' '{keys}'"));
        tool("curl", r#"while [ "$1" != -o ]; do shift; done; echo a key >"$2""#);
        folder
    }

    fn run(bench: &tempfile::TempDir, program: &str, words: &[&str]) -> bool {
        let path = format!("{}:/usr/bin:/bin", bench.path().display());
        let program = format!("{IS_KEY}{program}").replace("-o root -g root ", "");
        let ended = Command::new("sh").args(["-c", &program, "sh"]).args(words).env("PATH", path).output();
        ended.expect("sh runs").status.success()
    }

    #[test]
    fn a_key_is_trusted_by_its_fingerprint_and_alone() {
        let one = |print: &str| {
            format!("pub:-:4096:1:X:1::::::\\nfpr:::::::::{print}:\\nsub:-:1:1:Y::::::\\nfpr:::::::::SUBKEY:\\n")
        };
        let (known, other) = (one("KNOWN"), one("OTHER"));
        for (keys, trusted) in [
            (known.clone(), true),
            (other.clone(), false),
            (format!("{known}{other}"), false),
            (format!("{other}{known}"), false),
            (String::new(), false),
            (one("SUBKEY"), false),
        ] {
            let bench = bench(&keys);
            let at = |name: &str| bench.path().join(name).display().to_string();
            assert_eq!(run(&bench, FETCH_KEY, &["https://x", "KNOWN", &at("keyrings/target")]), trusted, "{keys}");
            assert_eq!(bench.path().join("keyrings/target").exists(), trusted, "{keys}");
            fs_err::write(at("key"), "a key").expect("a file");
            fs_err::write(at("list"), format!("Types: deb\nSigned-By: {}\n", at("key"))).expect("a file");
            assert_eq!(run(&bench, KNOWN_KEY, &[&at("list"), "KNOWN"]), trusted, "{keys}");
            assert_eq!(bench.path().join("list").exists(), trusted, "a list whose key is not known goes: {keys}");
        }
    }
}
