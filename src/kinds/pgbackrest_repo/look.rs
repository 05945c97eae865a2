//! What a repository and its archive are asked, and what the answers mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::kinds::pgbackrest_repo::files::{
    CONF, FOLDER, KEY_SCRIPT, KEYS, PASS, RESTORE_FOLDER, archive_command, archive_conf, parts_of, pass_files,
    secret_files, stop_of, stop_of_all, stop_pattern,
};
use crate::kinds::pgbackrest_repo::{Actual, Desired, drilled, restores};
use crate::kinds::postgres::{Cluster, MAINTENANCE, Query};
use crate::plan::backups::{Verdict, WAITING_USUAL};
use crate::plan::change::FieldChange;
use crate::plan::info::{self, Health};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, file, glob};

pub(super) const AS_DECLARED: &str = "as declared";
pub(super) const ANOTHER: &str = "another";
pub(super) const NOT_COMPARED: &str = "not compared";
pub(super) const CURRENT: &str = "current";
pub(super) const OK: &str = "ok";

/// FILE: the digest of the passphrase in it, never the passphrase.
const PASS_DIGEST: &str = r#"[ -f "$1" ] || exit 66
sed -e '/^\[global\]$/d' -e 's/^repo1-cipher-pass=//' -- "$1" | tr -d '\n' | sha256sum"#;

/// What PostgreSQL says of its archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    pub mode: String,
    pub command: String,
    /// Seconds.
    pub timeout: u64,
    /// The cluster's system identifier.
    pub system: String,
    /// The table of the heartbeat is there.
    pub heartbeat: bool,
    /// The segment that could not be archived, where that was the last thing to happen.
    #[serde(skip_serializing, default)]
    pub failing: Option<String>,
    /// Segments that wait.
    #[serde(skip_serializing, default)]
    pub waiting: u64,
    /// Seconds since 1970.
    #[serde(skip_serializing, default)]
    pub now: i64,
}

impl Archive {
    pub(super) fn differences(&self, desired: &Desired) -> Vec<FieldChange> {
        let Self { mode: _, command, timeout, system: _, heartbeat, failing: _, waiting: _, now: _ } = self;
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("archive_command", command, &archive_command(desired)));
        fields.extend(FieldChange::between("archive_timeout", timeout, &desired.archive_timeout));
        fields.extend(FieldChange::between("heartbeat", heartbeat, &true));
        fields
    }

    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(segment) = &self.failing {
            remarks.push(format!("WAL segment {segment} could not be archived: nothing since then can be restored"));
        }
        if self.waiting > WAITING_USUAL {
            remarks.push(format!("{} segments of WAL wait to be archived and fill the disk meanwhile", self.waiting));
        }
        remarks
    }
}

/// What the repository says of itself, as far as a plan may stand on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// `ok`, `missing`, or pgBackRest's word.
    pub stanza: String,
    /// There is a full backup that ended well.
    pub full: bool,
    /// System identifier of the cluster that the stanza belongs to.
    pub system: Option<String>,
    /// When the newest good backup ended, in seconds since 1970. Not part of a plan's guard: it changes by itself.
    #[serde(skip)]
    pub newest: Option<i64>,
    #[serde(skip)]
    pub page_errors: Vec<String>,
}

impl Repository {
    pub(super) fn differences(&self) -> Vec<FieldChange> {
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("stanza", &self.stanza.as_str(), &OK));
        let word = if self.full { "there" } else { "none" };
        fields.extend(FieldChange::between("full backup", &word, &"there"));
        fields
    }

    pub(super) fn remarks(&self, now: i64, longest_gap: u64) -> Vec<String> {
        let mut remarks: Vec<String> = self
            .page_errors
            .iter()
            .map(|label| {
                format!("backup {label} found pages whose checksums are wrong: the database itself is damaged")
            })
            .collect();
        let Some(newest) = self.newest else {
            let none =
                (!remarks.is_empty()).then_some("there is no good backup: each holds pages whose checksums are wrong");
            remarks.extend(none.map(str::to_owned));
            return remarks;
        };
        let late = match Verdict::of(now - newest, longest_gap) {
            Verdict::Ok => return remarks,
            Verdict::Late => "late",
            Verdict::Critical => "far too late",
        };
        remarks.push(format!("the newest good backup is {} h old, {late} by its schedule", (now - newest) / 3_600));
        remarks
    }
}

fn archive_query() -> Query {
    let sql = "select json_build_object(\
        'mode', current_setting('archive_mode'), 'command', current_setting('archive_command'), \
        'timeout', (select setting::bigint from pg_settings where name = 'archive_timeout'), \
        'system', (select system_identifier::text from pg_control_system()), \
        'heartbeat', to_regclass('seawall.heartbeat') is not null, \
        'failing', (select last_failed_wal from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')), \
        'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'), \
        'now', extract(epoch from now())::bigint)";
    Query::new(MAINTENANCE, sql)
}

/// The size of all databases in bytes, which a restore's time grows with. It is no part of what is wanted.
pub(crate) fn size_query() -> Query {
    let sql = "select json_build_object('bytes', sum(pg_database_size(oid))::bigint) from pg_database";
    Query::new(MAINTENANCE, sql)
}

/// What [`size_query`] says, where PostgreSQL answers.
pub(crate) fn size(cluster: Cluster, server: &str, answers: &Answers) -> Option<u64> {
    #[derive(Deserialize)]
    struct Size {
        bytes: u64,
    }
    cluster.answer::<Size>(server, answers, &size_query()).ok()?.said().map(|size| size.bytes)
}

/// Seconds for `info`, below the limit of a question: with a repository that does not answer it takes minutes.
const INFO_S: &str = "7";
/// How the question below ends when that was too long; `timeout`'s own status would be taken for the question's limit.
const SLOW: i32 = 75;

/// SECONDS STANZA: as postgres, with warnings on standard error: what they say is not in the JSON.
const INFO: &str = r#"timeout -k 1 "$1" runuser -u postgres -- pgbackrest --stanza="$2" --log-level-console=off --log-level-stderr=warn --io-timeout=8 info --output=json
status=$?
[ "$status" -lt 124 ] || exit 75
exit "$status""#;

fn info_query(desired: &Desired) -> Vec<String> {
    script(INFO, &[INFO_S, &desired.stanza])
}

fn script(text: &str, words: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "sh"].iter().chain(words).map(|&word| word.to_owned()).collect()
}

fn access_query(path: &str) -> Vec<String> {
    ["stat", "-c", "%a %U:%G", "--", path].map(str::to_owned).to_vec()
}

fn key_query(credentials: &str, target: &str) -> Vec<String> {
    [KEY_SCRIPT, "check", credentials, target].map(str::to_owned).to_vec()
}

fn folders() -> [String; 2] {
    [FOLDER, RESTORE_FOLDER].map(|folder| format!("{folder}/*"))
}

/// Units of ours that come and go with lines of the schedule.
const SCHEDULED: [&str; 2] = ["/etc/systemd/system/seawall-backup-*.timer", "/etc/systemd/system/seawall-drill.*"];

/// A path that a server tells, if it can be one of [`SCHEDULED`].
fn scheduled(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/etc/systemd/system/seawall-")?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)).then_some(path)
}

fn ask(argv: &[String]) -> Probe {
    command(&words(argv))
}

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let mut probes =
        vec![desired.cluster.probe(), archive_query().probe(), size_query().probe(), ask(&info_query(desired))];
    probes.push(Probe::Secret(desired.cipher_pass.clone()));
    probes.extend(parts_of(desired).probes());
    probes.push(command(&restores::query()));
    probes.push(file(&archive_conf(desired)));
    probes.extend(secret_files().map(|(path, _)| ask(&access_query(path))));
    probes.extend(pass_files().map(|path| ask(&script(PASS_DIGEST, &[path]))));
    probes.extend(KEYS.map(|(credentials, target)| ask(&key_query(credentials, target))));
    probes.extend(folders().iter().map(|pattern| glob(pattern)));
    probes.push(stops_probe());
    probes.extend(SCHEDULED.map(glob));
    if desired.drills.is_some() {
        probes.extend(drilled::RESULTS.map(file));
    }
    probes
}

/// Asks whether pgBackRest was told to stop; [`stops`] reads the answer.
pub fn stops_probe() -> Probe {
    glob(&stop_pattern())
}

/// The files by which `pgbackrest stop` keeps pgBackRest from serving a stanza.
///
/// # Errors
/// Why that could not be seen.
pub fn stops(answers: &Answers, stanza: &str) -> Result<Vec<String>, Unseen> {
    let (all, one) = (stop_of_all(), stop_of(stanza));
    let found = answers.glob(&stop_pattern())?.into_iter();
    Ok(found.filter(|path| *path == all || *path == one).map(str::to_owned).collect())
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let seen = parts_of(desired).look(answers)?;
    let archive = desired.cluster.answer::<Archive>(desired.address.name(), answers, &archive_query())?.said();
    // Nothing of ours: all of it is to be made, whatever else there is.
    if archive.is_none() || !seen.files.contains_key(CONF) {
        return Ok(None);
    }
    let mut secret = BTreeMap::new();
    for (path, _) in secret_files() {
        let said = answers.command(&words(&access_query(path)))?;
        if said.ok() {
            secret.insert(path.to_owned(), said.stdout.trim().to_owned());
        }
    }
    let mut passphrases = BTreeMap::new();
    for path in pass_files() {
        let said = answers.command(&words(&script(PASS_DIGEST, &[path])))?;
        let digest = said.stdout.split_whitespace().next().map(|hex| format!("sha256:{hex}"));
        let state = match (answers.fingerprint(&desired.cipher_pass), digest.filter(|_| said.ok())) {
            (_, None) => "none",
            (None, Some(_)) => NOT_COMPARED,
            (Some(wanted), Some(has)) if wanted == has => AS_DECLARED,
            (Some(_), Some(_)) => ANOTHER,
        };
        passphrases.insert(path.to_owned(), state.to_owned());
    }
    let mut keys = BTreeMap::new();
    for (credentials, target) in KEYS {
        let said = answers.command(&words(&key_query(credentials, target)))?;
        keys.insert(target.to_owned(), if said.ok() { said.stdout.trim() } else { "none" }.to_owned());
    }
    let mut foreign = Vec::new();
    for pattern in folders() {
        let ours = |path: &&str| secret.contains_key(*path) && *path != PASS;
        foreign.extend(answers.glob(&pattern)?.into_iter().filter(|path| !ours(path)).map(str::to_owned));
    }
    let stops = stops(answers, &desired.stanza)?;
    let wanted = parts_of(desired);
    let is_wanted = |path: &str| wanted.files.iter().any(|file| file.path == path);
    let mut left = Vec::new();
    for pattern in SCHEDULED {
        left.extend(answers.glob(pattern)?.into_iter().filter_map(scheduled).filter(|path| !is_wanted(path)));
    }
    let said = answers.command(&words(&info_query(desired)))?;
    let mut warnings: Vec<String> =
        said.stderr.lines().filter(|line| line.contains("invalid option")).map(str::to_owned).collect();
    warnings.dedup();
    let (repository, unreadable) = match repository(&said.stdout, &desired.stanza) {
        Ok(repository) => (Some(repository), None),
        Err(why) => {
            let slow = (said.status == SLOW).then(|| format!("it did not answer within {INFO_S} s"));
            let told =
                || said.stderr.lines().find_map(|line| line.split_once("ERROR: ").map(|(_, told)| told.to_owned()));
            (None, Some(slow.or_else(told).unwrap_or(why)))
        }
    };
    Ok(Some(Actual {
        parts: seen,
        archive_conf: host::file(answers, &archive_conf(desired))?,
        secret_files: secret,
        passphrases,
        keys,
        foreign,
        warnings,
        stops,
        archive,
        repository,
        unreadable,
        left: left.into_iter().map(str::to_owned).collect(),
        drilled: if desired.drills.is_some() { drilled::read(desired.address.name(), answers) } else { Vec::new() },
        restores: restores::read(&answers.command(&restores::query())?.stdout),
    }))
}

/// What the answer says of the stanza, or why that is not known.
fn repository(stdout: &str, stanza: &str) -> Result<Repository, String> {
    let missing =
        Repository { stanza: "missing".to_owned(), full: false, system: None, newest: None, page_errors: Vec::new() };
    let Some(found) = info::find(stdout.as_bytes(), stanza)? else { return Ok(missing) };
    let message = found.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let word = match found.status.health() {
        Health::Ok | Health::NoBackups => OK.to_owned(),
        Health::NoStanza | Health::NoStanzaData => "missing".to_owned(),
        Health::Other => return Err(message),
        Health::Mixed | Health::ClusterMismatch | Health::BackupNotFound => message,
    };
    let broken = found.backup.iter().filter(|backup| backup.error == Some(true));
    Ok(Repository {
        stanza: word,
        full: found.backup.iter().any(|backup| backup.kind == "full"),
        system: found.current_db().map(|db| db.system_id.to_string()),
        // One that holds wrong pages is no good one, however new it is.
        newest: found.backup.iter().filter(|b| b.error != Some(true)).map(|backup| backup.timestamp.stop).max(),
        page_errors: broken.map(|backup| backup.label.clone()).collect(),
    })
}
