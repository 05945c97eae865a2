//! The files and units of a repository.

use serde_json::{Value, json};

use crate::inventory::sections::database::Generations;
use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::pgbackrest_repo::{Desired, drilled};
use crate::kinds::postgres::PORT;
use crate::kinds::programs;
use crate::render::render;

pub(super) const FOLDER: &str = "/etc/pgbackrest/conf.d";
pub(super) const RESTORE_FOLDER: &str = "/etc/pgbackrest/restore.conf.d";
/// CANDIDATE: ends with 0 unless pgBackRest warns of an option or cannot read the file. Key and passphrase are not in
/// it: that they are missing (37) comes after everything else has been read.
const CHECK_CONF: &str = r#"said=$(runuser -u postgres -- env -i PATH="$PATH" timeout 20 pgbackrest --config="$1" --config-include-path=/var/spool/pgbackrest --stanza=check --log-level-console=off --log-level-stderr=warn info 2>&1)
status=$?
if printf '%s' "$said" | grep -q 'invalid option' || { [ "$status" != 37 ] && [ "$status" != 0 ]; }; then
    printf '%s\n' "$said"
    exit 78
fi"#;

pub(super) const CONF: &str = "/etc/pgbackrest/pgbackrest.conf";
const RESTORE_CONF: &str = "/etc/pgbackrest/restore.conf";
pub(super) const CIPHER: &str = "/etc/pgbackrest/conf.d/cipher.conf";
const RESTORE_CIPHER: &str = "/etc/pgbackrest/restore.conf.d/cipher.conf";
/// The passphrase alone, for what is kept beside the repository: certificates, dumps.
pub(super) const PASS: &str = "/etc/seawall/backup.pass";
const BACKUP_SCRIPT: &str = "/usr/local/lib/seawall/backup";
/// Restores, and what it needs to know of this server.
const RESTORE_PROGRAM: &str = "/usr/local/lib/seawall/restore";
const RESTORE_SETTINGS: &str = "/etc/seawall/restore.conf";
/// What a restored copy beside the database may use of memory, its page cache included.
const RESTORE_MEMORY: &str = "384M";
pub(super) const KEY_SCRIPT: &str = "/usr/local/lib/seawall/repository-key";
/// Where an access key comes from, and where pgBackRest reads it.
pub(super) const KEYS: [(&str, &str); 2] = [
    ("/etc/seawall/backup.credentials", "/etc/pgbackrest/conf.d/key.conf"),
    ("/etc/seawall/restore.credentials", "/etc/pgbackrest/restore.conf.d/key.conf"),
];
/// Access to a file with a secret that postgres needs.
const SECRET: &str = "640 root:postgres";

/// A backup that takes longer is ended by its unit, in seconds: two days are for terabytes.
const BACKUP_S: u32 = 172_800;
/// A backup waits so long for another one, in seconds.
const WAIT_S: u32 = 43_200;
/// Processes that compress and ship: the smaller bundles have two processors.
const PROCESSES: u8 = 2;

/// Where pgBackRest keeps its locks, and the files by which `pgbackrest stop` keeps it from working.
const LOCKS: &str = "/run/postgresql/pgbackrest";

/// The heartbeat: one row that is written every minute.
const BEAT: &str =
    "insert into seawall.heartbeat (id, at) values (1, now()) on conflict (id) do update set at = excluded.at";

/// The repository within its bucket.
pub(super) fn path(desired: &Desired) -> String {
    format!("/{}/pgbackrest", desired.stanza)
}

pub(super) fn archive_command(desired: &Desired) -> String {
    format!("pgbackrest --stanza={} archive-push %p", desired.stanza)
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

/// The files that hold the passphrase.
pub(super) fn pass_files() -> [&'static str; 3] {
    [CIPHER, RESTORE_CIPHER, PASS]
}

/// The files with secrets, with the access that they must have.
pub(super) fn secret_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    pass_files().into_iter().chain(KEYS.map(|(_, target)| target)).map(|path| (path, SECRET))
}

/// What is kept (pgBackRest, "Backup Retention"). By generations: as many monthly full backups, differential ones for
/// each week and one that `repo1-retention-diff` counts although it is full, and the daily ones that stand on these.
/// WAL is kept for the two newest full backups then; older ones restore to their own end.
fn retention(desired: &Desired) -> Vec<String> {
    match &desired.retention.generations {
        None => vec![
            "repo1-retention-full-type=time".to_owned(),
            format!("repo1-retention-full={}", desired.retention.days),
        ],
        Some(Generations { daily: _, weekly, monthly }) => vec![
            "repo1-retention-full-type=count".to_owned(),
            format!("repo1-retention-full={monthly}"),
            format!("repo1-retention-diff={}", weekly + 1),
            "repo1-retention-archive-type=full".to_owned(),
            "repo1-retention-archive=2".to_owned(),
        ],
    }
}

fn text(desired: &Desired, template: &str, mut context: Value) -> String {
    context["address"] = desired.address.to_string().into();
    render(template, &context).unwrap_or_else(|error| panic!("{}: {error}", desired.address))
}

/// What makes PostgreSQL archive. It is written when there is something to archive to.
pub(super) fn archive_file(desired: &Desired) -> File {
    let context = json!({ "command": archive_command(desired), "timeout": desired.archive_timeout });
    File::public(archive_conf(desired), text(desired, "archive.conf", context))
}

/// The units, each with its template and what goes into that.
fn units(desired: &Desired) -> Vec<(Unit, String)> {
    let (stanza, version) = (&desired.stanza, desired.cluster.version);
    let pairs = KEYS.map(|(credentials, target)| json!({ "credentials": credentials, "target": target }));
    let watched = KEYS.map(|(credentials, _)| credentials);
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
            json!({ "stanza": stanza, "version": version, "limit": BACKUP_S + WAIT_S }),
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
        ("seawall-repository-key.path".to_owned(), "repository-key.path", json!({ "files": watched })),
        ("seawall-repository-key.service".to_owned(), "repository-key.service", json!({ "pairs": pairs })),
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
    all.into_iter().map(|(name, template, context)| (Unit::named(name), text(desired, template, context))).collect()
}

/// Every file without a secret but [`archive_file`], and every unit.
pub(super) fn parts_of(desired: &Desired) -> Parts {
    let conf = |folder: &str, extra: &[&str]| {
        let context = json!({
            "folder": folder, "path": path(desired), "bucket": desired.bucket, "region": desired.region,
            "endpoint": format!("s3.{}.amazonaws.com", desired.region), "retention": retention(desired),
            "processes": PROCESSES, "locks": LOCKS, "extra": extra, "stanza": desired.stanza, "data": desired.cluster.data(), "port": PORT,
        });
        text(desired, "pgbackrest.conf", context)
    };
    let checked = |path, text| File::private(path, "postgres", text).checked(&["sh", "-c", CHECK_CONF, "sh", "{}"]);
    let push = ["# One segment at a time is enough for one small server.", "[global:archive-push]", "process-max=1"];
    // A copy that is restored elsewhere must never write into the repository of the original.
    let off = [
        "# A restored copy never archives into the repository that it came from.",
        "[global:restore]",
        "archive-mode=off",
    ];
    let backup = text(desired, "backup.sh", json!({ "stanza": desired.stanza, "wait": WAIT_S }));
    let mut settings = vec![
        ("stanza".to_owned(), desired.stanza.clone()),
        ("version".to_owned(), desired.cluster.version.to_string()),
        ("preload".to_owned(), desired.preload.join(",")),
    ];
    settings.extend(desired.drills.iter().flat_map(drilled::settings));
    let settings: Vec<(&str, String)> = settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let mut files = vec![
        checked(CONF, conf(FOLDER, &push)),
        checked(RESTORE_CONF, conf(RESTORE_FOLDER, &off)),
        File::program(BACKUP_SCRIPT, backup),
        File::program(KEY_SCRIPT, text(desired, "repository-key.sh", json!({}))),
        File::program(RESTORE_PROGRAM, programs::RESTORE.to_owned()),
        programs::configuration(&desired.address, RESTORE_SETTINGS, "postgres", RESTORE_PROGRAM, &settings),
    ];
    let units = units(desired);
    files.extend(units.iter().map(|(unit, text)| File::public(unit.path(), text.clone())));
    Parts::of(files, units.into_iter().map(|(unit, _)| unit).collect())
}
