//! The files and units of a repository.

use serde_json::json;

use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::pgbackrest::{BACKUP_S, COPY_PROGRAM, Conf, FIRST, KEY_SCRIPT, LOCKS, WAIT_S, configurations, text};
use crate::kinds::pgbackrest_repo::{Desired, drilled};
use crate::kinds::postgres::PORT;
use crate::kinds::programs;

/// How WAL comes to the repository.
const ARCHIVING: [&str; 3] = [
    "# WAL goes in batches. It is never dropped when the repository is away: a gap would end the way back to any moment after it.",
    "archive-async=y",
    "spool-path=/var/spool/pgbackrest",
];
const KEY_SERVICE: &str = "seawall-repository-key.service";
const BACKUP_SCRIPT: &str = "/usr/local/lib/seawall/backup";
/// Restores, and what it needs to know of this server.
const RESTORE_PROGRAM: &str = "/usr/local/lib/seawall/restore";
const RESTORE_SETTINGS: &str = "/etc/seawall/restore.conf";
/// What a restored copy beside the database may use of memory, its page cache included.
const RESTORE_MEMORY: &str = "384M";
/// The heartbeat: one row that is written every minute.
const BEAT: &str =
    "insert into seawall.heartbeat (id, at) values (1, now()) on conflict (id) do update set at = excluded.at";

/// What keeps a file for the second repository stands before what archives it to the first one, and its end is not looked at.
pub(super) fn archive_command(desired: &Desired) -> String {
    let push = format!("pgbackrest --stanza={} archive-push %p", desired.stanza);
    if desired.copied { format!("{COPY_PROGRAM} keep \"%p\"; {push}") } else { push }
}

pub(super) fn archive_conf(desired: &Desired) -> String {
    format!("{}/conf.d/60-seawall-archive.conf", desired.cluster.conf())
}

/// Files by which `pgbackrest stop` is in force: for all stanzas, and for one.
pub(super) fn stop_pattern() -> String {
    format!("{LOCKS}/*.stop")
}

pub(super) fn stop_of_all() -> String {
    format!("{LOCKS}/all.stop")
}

pub(super) fn stop_of(stanza: &str) -> String {
    format!("{LOCKS}/{stanza}.stop")
}

/// What makes PostgreSQL archive. It is written when there is something to archive to.
pub(super) fn archive_file(desired: &Desired) -> File {
    let context = json!({ "command": archive_command(desired), "timeout": desired.archive_timeout });
    File::public(archive_conf(desired), text(&desired.address, "archive.conf", context))
}

/// The units, each with its template and what goes into that.
fn units(desired: &Desired) -> Vec<(Unit, String)> {
    let (stanza, version) = (&desired.stanza, desired.cluster.version);
    let pairs = FIRST.keys.map(|(credentials, target)| json!({ "credentials": credentials, "target": target }));
    let watched = FIRST.keys.map(|(credentials, _)| credentials);
    let timer = |what: String, calendar: &str, persistent: bool, unit: String| json!({ "what": what, "calendar": calendar, "persistent": persistent, "unit": unit });
    let beat = timer(
        "Heartbeat row of PostgreSQL, every minute".to_owned(),
        "*-*-* *:*:00",
        false,
        "seawall-heartbeat.service".to_owned(),
    );
    let mut all = vec![
        (
            "seawall-backup@.service".to_owned(),
            "backup.service",
            json!({ "stanza": stanza, "version": version, "limit": BACKUP_S + WAIT_S, "program": BACKUP_SCRIPT, "writes": "" }),
        ),
        (
            "seawall-heartbeat.service".to_owned(),
            "heartbeat.service",
            json!({ "version": version, "port": PORT, "sql": BEAT }),
        ),
        ("seawall-heartbeat.timer".to_owned(), "timer", beat),
        (
            "seawall-restore@.service".to_owned(),
            "restore.service",
            json!({ "stanza": stanza, "memory": RESTORE_MEMORY }),
        ),
        (FIRST.key_path.to_owned(), "repository-key.path", json!({ "files": watched, "unit": KEY_SERVICE })),
        (KEY_SERVICE.to_owned(), "repository-key.service", json!({ "pairs": pairs })),
    ];
    for (kind, calendar) in &desired.timers {
        let what = format!("Backup of stanza {stanza} ({kind})");
        let context = timer(what, calendar, true, format!("seawall-backup@{kind}.service"));
        all.push((format!("seawall-backup-{kind}.timer"), "timer", context));
    }
    if let Some(drills) = &desired.drills {
        all.push((
            "seawall-drill.service".to_owned(),
            "drill.service",
            json!({ "stanza": stanza, "version": version }),
        ));
        let what = format!("Restore drill of stanza {stanza}");
        let context = timer(what, &drills.calendar, true, "seawall-drill.service".to_owned());
        all.push(("seawall-drill.timer".to_owned(), "timer", context));
    }
    all.into_iter()
        .map(|(name, template, context)| (Unit::named(name), text(&desired.address, template, context)))
        .collect()
}

/// Every file without a secret but [`archive_file`], and every unit.
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
    let backup = text(&desired.address, "backup.sh", json!({ "stanza": desired.stanza, "wait": WAIT_S }));
    let mut settings = vec![
        ("stanza".to_owned(), desired.stanza.clone()),
        ("version".to_owned(), desired.cluster.version.to_string()),
        ("preload".to_owned(), desired.preload.join(",")),
    ];
    settings.extend(desired.drills.iter().flat_map(drilled::settings));
    let settings: Vec<(&str, String)> = settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let mut files = Vec::from(configurations(&FIRST, &conf));
    files.extend([
        File::program(BACKUP_SCRIPT, backup),
        File::program(KEY_SCRIPT, text(&desired.address, "repository-key.sh", json!({}))),
        File::program(RESTORE_PROGRAM, programs::RESTORE.to_owned()),
        programs::configuration(&desired.address, RESTORE_SETTINGS, "postgres", RESTORE_PROGRAM, &settings),
    ]);
    let units = units(desired);
    files.extend(units.iter().map(|(unit, text)| File::public(unit.path(), text.clone())));
    Parts::of(files, units.into_iter().map(|(unit, _)| unit).collect())
}
