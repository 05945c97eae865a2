//! How a repository comes to be, and how one that is there is mended: configuration, stanza, archive, first backup.

use std::collections::BTreeMap;

use crate::base::secret::SecretUse;
use crate::kinds::host::{self, QUICK_S, run};
use crate::kinds::pgbackrest_repo::files::{
    CIPHER, CONF, FOLDER, KEY_SCRIPT, KEYS, PASS, RESTORE_CONF, RESTORE_FOLDER, SCRIPTS, archive_conf, files,
    pass_files, units,
};
use crate::kinds::pgbackrest_repo::{Actual, Desired};
use crate::kinds::postgres::{MAINTENANCE, reload, tell};
use crate::plan::change::FieldChange;
use crate::plan::step::{Content, HostStep};

/// Seconds for the commands that talk to S3 and wait for one segment of WAL.
const STANZA_S: u32 = 120;
const CHECK_S: u32 = 180;
/// Seconds for the first full backup: 60 GB at 10 MB/s are 100 minutes.
const FIRST_BACKUP_S: u32 = 14_400;

/// CANDIDATE: ends with 0 unless pgBackRest warns of an option or cannot read the file. Key and passphrase are not in
/// it: that they are missing (37) comes after everything else has been read.
const CHECK_CONF: &str = r#"said=$(runuser -u postgres -- env -i PATH="$PATH" timeout 20 pgbackrest --config="$1" --config-include-path=/var/spool/pgbackrest --stanza=check --log-level-console=off --log-level-stderr=warn info 2>&1)
status=$?
if printf '%s' "$said" | grep -q 'invalid option' || { [ "$status" != 37 ] && [ "$status" != 0 ]; }; then
    printf '%s\n' "$said"
    exit 78
fi"#;

/// The table of the heartbeat: one row, in the database that is always there.
const HEARTBEAT: &str = "create schema if not exists seawall;
create table if not exists seawall.heartbeat (id integer primary key check (id = 1), at timestamptz not null);
comment on table seawall.heartbeat is 'One row, written every minute by seawall-heartbeat.timer. After a restore it says how far back the data is.';
insert into seawall.heartbeat (id, at) values (1, now()) on conflict (id) do update set at = excluded.at;
";

fn passphrase(path: &str, secret: &SecretUse) -> HostStep {
    let template = if path == PASS { "{{pass}}\n" } else { "[global]\nrepo1-cipher-pass={{pass}}\n" };
    HostStep::WriteFile {
        path: path.to_owned(),
        owner: "root".to_owned(),
        group: "postgres".to_owned(),
        mode: "0640".to_owned(),
        content: Content::WithSecrets {
            template: template.to_owned(),
            secrets: BTreeMap::from([("pass".to_owned(), secret.clone())]),
        },
        validate: None,
    }
}

fn pgbackrest(desired: &Desired, command: &str, timeout_s: u32, what: &str) -> HostStep {
    let stanza = format!("--stanza={}", desired.stanza);
    run(&["runuser", "-u", "postgres", "--", "pgbackrest", &stanza, command], timeout_s, what)
}

/// Everything that `fields` says differs; all of it where nothing is there yet. The repository comes before archiving,
/// and archiving before the first backup.
pub(super) fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
    let new = actual.is_none();
    let differs = |path: &str| new || host::differs(fields, path);
    let mut steps = folders(new);
    let mut units_changed = false;
    let again = |path: &str| path == CONF && host::differs(fields, "configuration");
    for file in files(desired).iter().filter(|file| differs(&file.path) || again(&file.path)) {
        // The archive waits until there is something to archive to.
        if file.path == archive_conf(desired) {
            continue;
        }
        units_changed |= file.path.starts_with("/etc/systemd/");
        let check = [CONF, RESTORE_CONF].contains(&file.path.as_str());
        steps.push(file.wanted().step(check.then_some(&["sh", "-c", CHECK_CONF, "sh", "{}"])));
    }
    for path in pass_files().into_iter().filter(|path| differs(path) || differs(&format!("passphrase.{path}"))) {
        steps.push(passphrase(path, &desired.cipher_pass));
    }
    for (credentials, target) in KEYS {
        if differs(&format!("key.{target}")) || differs(target) {
            let argv = [KEY_SCRIPT, "write", credentials, target];
            steps.push(run(&argv, QUICK_S, format!("hand the key in {credentials} to pgBackRest")));
        }
    }
    if units_changed {
        steps.push(run(&["systemctl", "daemon-reload"], QUICK_S, "have systemd read the units"));
    }
    if differs("heartbeat") {
        steps.push(tell(MAINTENANCE, Content::Text(HEARTBEAT.to_owned()), "make the table of the heartbeat"));
    }
    if differs("stanza") {
        steps.push(pgbackrest(desired, "stanza-create", STANZA_S, "create the stanza in the repository"));
    }
    let archive = archive_conf(desired);
    let archiving = differs(&archive) || differs("archive_command") || differs("archive_timeout");
    if archiving {
        steps.extend(files(desired).iter().filter(|file| file.path == archive).map(|file| file.wanted().step(None)));
        steps.push(reload(desired.cluster));
    }
    if archiving || differs("stanza") || differs(CIPHER) || differs(CONF) {
        steps.push(pgbackrest(desired, "check", CHECK_S, "archive one segment of WAL and find it in the repository"));
    }
    let units: Vec<String> =
        units(desired).into_iter().map(|(unit, _)| unit).filter(|unit| differs(unit) || units_changed).collect();
    if !units.is_empty() {
        let words: Vec<&str> = units.iter().map(String::as_str).collect();
        steps.push(run(&[&["systemctl", "enable"], words.as_slice()].concat(), QUICK_S, "switch the timers on"));
        steps.push(run(&[&["systemctl", "restart"], words.as_slice()].concat(), QUICK_S, "start the timers"));
    }
    if differs("full backup") {
        let argv = ["systemctl", "start", "seawall-backup@full.service"];
        steps.push(run(&argv, FIRST_BACKUP_S, "make a full backup"));
    }
    steps
}

fn folders(new: bool) -> Vec<HostStep> {
    if !new {
        return Vec::new();
    }
    let mut steps =
        vec![host::directory("/etc/seawall", "root", "root", "0755"), host::directory(SCRIPTS, "root", "root", "0755")];
    steps.extend(
        ["/etc/pgbackrest", FOLDER, RESTORE_FOLDER].map(|path| host::directory(path, "root", "postgres", "0750")),
    );
    steps
}

/// Takes away what runs and what archives. The repository, its passphrase and the keys stay: without them it is noise.
pub(super) fn remove(desired: &Desired) -> Vec<HostStep> {
    let units: Vec<String> = units(desired).into_iter().map(|(unit, _)| unit).collect();
    let words: Vec<&str> = units.iter().map(String::as_str).collect();
    let mut steps =
        vec![run(&[&["systemctl", "disable", "--now"], words.as_slice()].concat(), QUICK_S, "switch the timers off")];
    let gone = files(desired)
        .into_iter()
        .filter(|file| file.path.starts_with("/etc/systemd/") || file.path == archive_conf(desired));
    steps.extend(gone.map(|file| host::remove_file(&file.path)));
    steps.push(run(&["systemctl", "daemon-reload"], QUICK_S, "have systemd read the units"));
    steps.push(reload(desired.cluster));
    steps
}
