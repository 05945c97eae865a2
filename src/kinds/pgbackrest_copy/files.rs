//! The files and units of a second repository.

use serde_json::{Value, json};

use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::pgbackrest::{BACKUP_S, COPY, COPY_PROGRAM, COPY_SPOOL, Conf, WAIT_S, configurations, text, timer};
use crate::kinds::pgbackrest_copy::Desired;
use crate::kinds::programs;

pub(super) const SETTINGS: &str = "/etc/seawall/copy.conf";
/// Sends WAL.
pub(super) const WAL_SERVICE: &str = "seawall-copy-wal.service";
const WAL_PATH: &str = "seawall-copy-wal.path";
const KEY_SERVICE: &str = "seawall-copy-key.service";

/// How WAL comes to the repository: file by file, from the queue. A backup waits until its own has come.
const ARCHIVING: [&str; 3] =
    ["# Another program sends WAL here, after it was kept for it.", "archive-async=n", "archive-timeout=600"];

/// The units, each with its text.
fn units(desired: &Desired) -> Vec<(Unit, String)> {
    let (stanza, version) = (&desired.stanza, desired.cluster.version);
    let of = |template: &str, context: Value| text(&desired.address, template, context);
    let pairs = COPY.keys.map(|(credentials, target)| json!({ "credentials": credentials, "target": target }));
    let watched = COPY.keys.map(|(credentials, _)| credentials);
    let backup = json!({
        "stanza": stanza, "version": version, "limit": BACKUP_S + WAIT_S, "program": format!("{COPY_PROGRAM} backup"),
        "writes": format!(" {COPY_SPOOL}"),
    });
    let wal = json!({ "stanza": stanza, "program": COPY_PROGRAM, "spool": COPY_SPOOL });
    let mut all = vec![
        ("seawall-copy@.service".to_owned(), of("backup.service", backup)),
        (WAL_SERVICE.to_owned(), of("copy-wal.service", wal)),
        (WAL_PATH.to_owned(), of("copy-wal.path", json!({ "spool": COPY_SPOOL, "unit": WAL_SERVICE }))),
        (KEY_SERVICE.to_owned(), of("repository-key.service", json!({ "pairs": pairs }))),
        (COPY.key_path.to_owned(), of("repository-key.path", json!({ "files": watched, "unit": KEY_SERVICE }))),
    ];
    for (kind, calendar) in &desired.timers {
        let what = format!("Backup of stanza {stanza} to the second repository ({kind})");
        let unit = format!("seawall-copy@{kind}.service");
        all.push((timer_of(kind), timer(&desired.address, &what, calendar, true, &unit)));
    }
    all.into_iter().map(|(name, text)| (Unit::named(name), text)).collect()
}

fn timer_of(kind: &str) -> String {
    format!("seawall-copy-{kind}.timer")
}

/// Every file without a secret, and every unit.
pub(super) fn parts_of(desired: &Desired) -> Parts {
    let conf = Conf {
        address: &desired.address,
        stanza: &desired.stanza,
        bucket: &desired.bucket,
        region: &desired.region,
        retention: &desired.retention,
        cluster: desired.cluster,
        archiving: &ARCHIVING,
    };
    let settings = [("stanza", desired.stanza.clone()), ("spool_mib", desired.spool_mib.to_string())];
    let mut files = Vec::from(configurations(&COPY, &conf));
    files.push(File::program(COPY_PROGRAM, programs::COPY.to_owned()));
    files.push(programs::configuration(&desired.address, SETTINGS, "postgres", COPY_PROGRAM, &settings));
    let units = units(desired);
    files.extend(units.iter().map(|(unit, text)| File::public(unit.path(), text.clone())));
    Parts::of(files, units.into_iter().map(|(unit, _)| unit).collect())
}
