//! Packages of a cluster, and the archives beside Debian's that some of them come from: each with the key that is known here by
//! its fingerprint, and a pin by which apt takes from it what it is for and nothing else.

use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::parts::apt;
use crate::kinds::postgres_cluster::Desired;
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

impl Archive {
    /// Before the archive is known to apt: nothing of it is taken but what it is for.
    fn pin(&self) -> HostStep {
        let Self { origin, packages, preferences, fingerprint: _ } = self;
        let text = format!(
            "# managed by Seawall; changes here are undone when packages of this archive are installed again
Package: *
Pin: origin {origin}
Pin-Priority: -1

Package: {packages}
Pin: origin {origin}
Pin-Priority: 500
"
        );
        Wanted::public(preferences, text).step(None)
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
        steps.push(POSTGRESQL.pin());
        steps.push(apt::run(&[PGDG, "-y"], apt::UPDATE_S, "add PostgreSQL's own archive"));
        let known = [PGDG_LIST, POSTGRESQL.fingerprint];
        steps.push(with_key(KNOWN_KEY, &known, QUICK_S, "prove the key of PostgreSQL's archive"));
    }
    if packages.iter().any(|package| package.starts_with("timescaledb")) {
        steps.push(apt::install(&["curl", "ca-certificates", "gpg"]));
        steps.push(TIMESCALE.pin());
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
    use std::process::Command;

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
