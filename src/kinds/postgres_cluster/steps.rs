//! How a cluster is made, and how one that is there is brought to its settings.

use crate::base::shell::FOLDERS;
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::host_folders::take_cluster;
use crate::kinds::parts;
use crate::kinds::postgres::{MAINTENANCE, PORT, identifier, tell_alone};
use crate::kinds::postgres_cluster::archives::{install, pins};
use crate::kinds::postgres_cluster::{Actual, BOOT, Desired, NO_CLUSTER, RESTART, look};
use crate::plan::change::FieldChange;
use crate::plan::step::{Content, HostStep};

/// Seconds for initdb on a slow disk.
const MAKE_S: u32 = 300;
/// Seconds for a start, the replay of WAL after a crash included, and for a restart, which waits for clients to go and
/// for the last WAL segment to be archived.
const START_S: u32 = 600;

/// Our settings before they were changed, as long as PostgreSQL has not come up with the new ones.
const BEFORE: &str = "/var/lib/seawall/postgresql-before.conf";

/// FILE BEFORE: keeps our settings as they are.
const KEEP: &str = r#"rm -f -- "$2"
[ -f "$1" ] && [ ! -L "$1" ] || exit 0
install -m 0600 -- "$1" "$2""#;

const TAKE_UP: &str = include_str!("take_up.sh");

const READ_CONF_D: &str = include_str!("read_conf_d.sh");
const COMMENT_OUT: &str = include_str!("comment_out.sh");

/// Runs a program that changes files of the cluster's.
fn edit(program: &str, words: &[&str], what: String) -> HostStep {
    let program = format!("{FOLDERS}{program}");
    host::run(&[&["sh", "-c", program.as_str(), "sh"], words].concat(), QUICK_S, what)
}

/// Has PostgreSQL take up what is on disk by a `start`, `restart` or `reload`. `changed` are the settings in our file that were
/// changed just now: if it does not come up, or nobody can log in, it is put back.
fn take_up(desired: &Desired, verb: &str, changed: &str) -> HostStep {
    let version = desired.cluster.version.to_string();
    let program = format!("{FOLDERS}{TAKE_UP}");
    let (port, path) = (PORT.to_string(), desired.path());
    let argv = ["sh", "-c", &program, "sh", &version, verb, &port, &path, BEFORE, changed];
    let what = match verb {
        "restart" => format!("RESTART PostgreSQL {version}/main and wait until it answers"),
        "start" => format!("start PostgreSQL {version}/main and wait until it answers"),
        _ => format!("reload {} and log in anew", desired.cluster.unit()),
    };
    host::run(&argv, if verb == "reload" { QUICK_S } else { START_S }, what)
}

fn no_cluster(desired: &Desired) -> Vec<HostStep> {
    let (common, folder) = ("/etc/postgresql-common", "/etc/postgresql-common/createcluster.d");
    let directory = |path| host::directory(path, "root", "root", "0755");
    vec![directory(common), directory(folder), desired.no_cluster().wanted().step(None)]
}

/// Our file, read by the server's own program before it is put in place: a value that it does not take would keep the
/// cluster from starting.
fn write(desired: &Desired, actual: Option<&Actual>) -> HostStep {
    let version = desired.cluster.version;
    let program = format!("/usr/lib/postgresql/{version}/bin/postgres");
    let data = desired.cluster.data();
    let file = desired.file(actual);
    let check = ["runuser", "-u", "postgres", "--", &program, "-D", &data, "-C", "max_connections", "--config-file={}"];
    file.wanted().step(Some(&check))
}

pub(super) fn make(desired: &Desired) -> Vec<HostStep> {
    let version = desired.cluster.version.to_string();
    let packages: Vec<&str> = desired.packages.iter().map(String::as_str).collect();
    let mut steps = no_cluster(desired);
    steps.extend(install(desired, &packages));
    let port = format!("--port={PORT}");
    let argv = [
        "pg_createcluster",
        &version,
        "main",
        &port,
        "--locale=C.UTF-8",
        "--encoding=UTF8",
        "--start-conf=auto",
        "--",
        "--data-checksums",
        "--auth-local=peer",
        "--auth-host=scram-sha-256",
    ];
    steps.push(host::run(&argv, MAKE_S, format!("make cluster {version}/main with data checksums")));
    steps.extend(take_cluster(desired.cluster));
    steps.push(write(desired, None));
    steps.push(take_up(desired, "start", ""));
    steps
}

/// Whether closing these differences takes a restart.
pub(super) fn restarts(_desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> bool {
    let Some(said) = &actual.said else { return false };
    fields
        .iter()
        .filter_map(|field| field.path.strip_prefix("settings."))
        .any(|name| said.settings.get(name).is_none_or(|has| has.context == RESTART))
}

pub(super) fn mend(desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> Vec<HostStep> {
    let conf = desired.cluster.conf();
    let mut steps = parts::close(&actual.over.differences()).files;
    if host::differs(fields, NO_CLUSTER) {
        steps.extend(no_cluster(desired));
    }
    let pins = pins(desired).into_iter().filter(|pin| host::differs(fields, &pin.path));
    steps.extend(pins.map(|pin| pin.wanted().step(None)));
    let missing: Vec<&str> = actual.missing.iter().map(String::as_str).collect();
    if !missing.is_empty() {
        let install: Vec<HostStep> =
            install(desired, &missing).into_iter().filter(|step| !steps.contains(step)).collect();
        steps.extend(install);
        // postgresql-common gives its folder back to postgres whenever it is configured.
        steps.extend(take_cluster(desired.cluster));
    }
    if host::differs(fields, &desired.path()) {
        steps.push(host::directory(&format!("{conf}/conf.d"), "root", "postgres", "0755"));
        let keep = ["sh", "-c", KEEP, "sh", &desired.path(), BEFORE];
        steps.push(host::run(&keep, QUICK_S, "keep the settings of before"));
        steps.push(write(desired, Some(actual)));
    }
    if host::differs(fields, "conf.d") {
        steps.push(edit(READ_CONF_D, &[&conf], "have postgresql.conf read conf.d".to_owned()));
    }
    if let Some(said) = &actual.said {
        for line in said.overrides.iter().filter(|line| line.is_ours_to_edit(desired)) {
            let what = format!("take {}:{} out of effect", line.file, line.line);
            steps.push(edit(COMMENT_OUT, &[&line.file, &line.line.to_string(), &line.name], what));
        }
        for name in said.auto.keys().filter(|name| host::differs(fields, &format!("alter_system.{name}"))) {
            let statement = Content::Text(format!("ALTER SYSTEM RESET {};\n", name_of(name)));
            steps.push(tell_alone(
                desired.cluster,
                MAINTENANCE,
                statement,
                format!("take back ALTER SYSTEM SET {name}"),
            ));
        }
    }
    if host::differs(fields, "start") {
        steps.push(Wanted::public(&look::starts(desired), "auto\n".to_owned()).step(None));
        steps.push(host::run(&["systemctl", "daemon-reload"], QUICK_S, "have systemd see it"));
    }
    if actual.boot != "enabled" {
        steps.push(host::run(&["systemctl", "enable", BOOT], QUICK_S, "start PostgreSQL at boot"));
    }
    if fields.iter().all(|field| field.limit.is_some()) {
        return steps;
    }
    let names: Vec<&str> = fields.iter().filter_map(|field| field.path.strip_prefix("settings.")).collect();
    let changed = match names.as_slice() {
        _ if !host::differs(fields, &desired.path()) => String::new(),
        [] => "our settings".to_owned(),
        names => names.join(", "),
    };
    let verb = match &actual.said {
        None => "start",
        Some(_) if restarts(desired, actual, fields) => "restart",
        Some(_) => "reload",
    };
    steps.push(take_up(desired, verb, &changed));
    steps
}

/// A setting's name as SQL has it: an extension's has two parts.
fn name_of(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}
