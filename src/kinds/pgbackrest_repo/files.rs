//! The files and units of a repository.

use serde_json::{Value, json};

use crate::inventory::sections::database::Generations;
use crate::kinds::pgbackrest_repo::{Desired, Ours};
use crate::kinds::postgres::PORT;
use crate::render::render;

pub(super) const FOLDER: &str = "/etc/pgbackrest/conf.d";
pub(super) const RESTORE_FOLDER: &str = "/etc/pgbackrest/restore.conf.d";
pub(super) const SCRIPTS: &str = "/usr/local/lib/seawall";
pub(super) const CONF: &str = "/etc/pgbackrest/pgbackrest.conf";
pub(super) const RESTORE_CONF: &str = "/etc/pgbackrest/restore.conf";
pub(super) const CIPHER: &str = "/etc/pgbackrest/conf.d/cipher.conf";
const RESTORE_CIPHER: &str = "/etc/pgbackrest/restore.conf.d/cipher.conf";
/// The passphrase alone, for what is kept beside the repository: certificates, dumps.
pub(super) const PASS: &str = "/etc/seawall/backup.pass";
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

/// Every file without a secret.
pub(super) fn files(desired: &Desired) -> Vec<Ours> {
    let conf = |folder: &str, extra: &[&str]| {
        json!({
            "folder": folder, "path": path(desired), "bucket": desired.bucket, "region": desired.region,
            "endpoint": format!("s3.{}.amazonaws.com", desired.region), "retention": retention(desired),
            "processes": PROCESSES, "extra": extra, "stanza": desired.stanza, "data": desired.cluster.data(), "port": PORT,
        })
    };
    let push = ["# One segment at a time is enough for one small server.", "[global:archive-push]", "process-max=1"];
    // A copy that is restored elsewhere must never write into the repository of the original.
    let off = [
        "# A restored copy never archives into the repository that it came from.",
        "[global:restore]",
        "archive-mode=off",
    ];
    let version = desired.cluster.version;
    let mut files = vec![
        text(desired, CONF, "pgbackrest.conf", conf(FOLDER, &push)).private(),
        text(desired, RESTORE_CONF, "pgbackrest.conf", conf(RESTORE_FOLDER, &off)).private(),
        text(
            desired,
            &archive_conf(desired),
            "archive.conf",
            json!({ "command": archive_command(desired), "timeout": desired.archive_timeout }),
        ),
        text(desired, &format!("{SCRIPTS}/backup"), "backup.sh", json!({ "stanza": desired.stanza, "wait": WAIT_S }))
            .program(),
        text(desired, KEY_SCRIPT, "repository-key.sh", json!({})).program(),
        unit(
            desired,
            "seawall-backup@.service",
            "backup.service",
            json!({ "stanza": desired.stanza, "version": version, "limit": BACKUP_S + WAIT_S }),
        ),
        unit(
            desired,
            "seawall-heartbeat.service",
            "heartbeat.service",
            json!({ "version": version, "port": PORT, "sql": BEAT }),
        ),
        timer(desired, "seawall-heartbeat", "Heartbeat row of PostgreSQL, every minute", "*-*-* *:*:00", false),
        unit(
            desired,
            "seawall-repository-key.path",
            "repository-key.path",
            json!({ "files": KEYS.map(|(credentials, _)| credentials) }),
        ),
        unit(
            desired,
            "seawall-repository-key.service",
            "repository-key.service",
            json!({ "pairs": KEYS.map(|(credentials, target)| json!({ "credentials": credentials, "target": target })) }),
        ),
    ];
    for (kind, calendar) in &desired.timers {
        let what = format!("Backup of stanza {} ({kind})", desired.stanza);
        let context = timer_context(&what, calendar, true, &format!("seawall-backup@{kind}.service"));
        files.push(unit(desired, &format!("seawall-backup-{kind}.timer"), "timer", context));
    }
    files
}

/// Units that are switched on, with the state that they must have.
pub(super) fn units(desired: &Desired) -> Vec<(String, &'static str)> {
    let backups = desired.timers.keys().map(|kind| format!("seawall-backup-{kind}.timer"));
    let others = ["seawall-heartbeat.timer", "seawall-repository-key.path"].map(str::to_owned);
    backups.chain(others).map(|unit| (unit, "enabled, active")).collect()
}

fn timer(desired: &Desired, name: &str, what: &str, calendar: &str, persistent: bool) -> Ours {
    let context = timer_context(what, calendar, persistent, &format!("{name}.service"));
    unit(desired, &format!("{name}.timer"), "timer", context)
}

fn timer_context(what: &str, calendar: &str, persistent: bool, unit: &str) -> Value {
    json!({ "what": what, "calendar": calendar, "persistent": persistent, "unit": unit })
}

fn unit(desired: &Desired, name: &str, template: &str, context: Value) -> Ours {
    text(desired, &format!("/etc/systemd/system/{name}"), template, context)
}

fn text(desired: &Desired, path: &str, template: &str, mut context: Value) -> Ours {
    context["address"] = desired.address.to_string().into();
    let text = render(template, &context).unwrap_or_else(|error| panic!("{}: {error}", desired.address));
    Ours { path: path.to_owned(), group: "root", mode: "0644", text }
}

impl Ours {
    fn program(self) -> Self {
        Self { mode: "0755", ..self }
    }

    /// For root and postgres.
    fn private(self) -> Self {
        Self { mode: "0640", group: "postgres", ..self }
    }
}
