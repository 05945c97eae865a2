//! What a running PgBouncer says of itself at its console, and what it should say.
//!
//! The console lets in the user that PgBouncer runs as, over the socket. Deliberately absent: settings that Seawall does
//! not set, and numbers that change by themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kinds::pgbouncer_pool::{CERTIFICATE, Desired, HBA, KEY, USERLIST};
use crate::kinds::postgres::PORT;
use crate::plan::change::FieldChange;
use crate::plan::observed::Unseen;
use crate::plan::probe::CommandState;

/// psql's status when it could not connect.
const NO_CONNECTION: i32 = 2;

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Of what [`wanted`] names.
    pub settings: BTreeMap<String, String>,
    /// Those of them, and those databases, that only a restart changes.
    pub fixed: BTreeSet<String>,
    /// Databases that it serves: name to where it goes.
    pub databases: BTreeMap<String, String>,
}

/// The question, with an empty line between the two answers.
pub(super) fn ask(port: u16) -> Vec<String> {
    let session = format!("host=/var/run/postgresql port={port} dbname=pgbouncer user=pgbouncer connect_timeout=5");
    let psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-F", "|", "-v", "ON_ERROR_STOP=1", "-d", &session];
    let questions = ["-c", "SHOW CONFIG", "-c", "\\echo", "-c", "SHOW DATABASES"];
    psql.into_iter().chain(questions).map(str::to_owned).collect()
}

fn settings(desired: &Desired) -> BTreeMap<&'static str, String> {
    [
        ("listen_addr", desired.listen().to_owned()),
        ("listen_port", desired.port.to_string()),
        ("unix_socket_dir", "/var/run/postgresql".to_owned()),
        ("admin_users", String::new()),
        ("stats_users", String::new()),
        ("auth_type", "hba".to_owned()),
        ("auth_file", USERLIST.to_owned()),
        ("auth_hba_file", HBA.to_owned()),
        ("auth_user", String::new()),
        ("client_tls_sslmode", "require".to_owned()),
        ("client_tls_protocols", "secure".to_owned()),
        ("client_tls_cert_file", CERTIFICATE.to_owned()),
        ("client_tls_key_file", KEY.to_owned()),
        ("server_tls_sslmode", "disable".to_owned()),
        ("pool_mode", desired.mode().to_owned()),
        ("max_client_conn", desired.clients.to_string()),
        ("default_pool_size", desired.pool.to_string()),
    ]
    .into()
}

fn databases(desired: &Desired) -> BTreeMap<String, String> {
    let served = |name: &String| format!("{name} at 127.0.0.1 port {PORT}, {} connections per role", desired.pool);
    desired.logins.iter().map(|login| (login.database.clone(), served(&login.database))).collect()
}

/// Everything that should run, by the name of its field.
pub(super) fn wanted(desired: &Desired) -> BTreeMap<String, String> {
    let settings = settings(desired).into_iter().map(|(name, value)| (name.to_owned(), value));
    let databases = databases(desired).into_iter().map(|(name, value)| (format!("databases.{name}"), value));
    settings.filter(|(_, value)| !value.is_empty()).chain(databases).collect()
}

/// What the console answered; `None` where nobody answers.
pub(super) fn read(desired: &Desired, said: &CommandState) -> Result<Option<Running>, Unseen> {
    // Not installed, no such user, or nothing at the socket: nothing runs there.
    if matches!(said.status, 1 | 126 | 127) && said.stdout.is_empty() || said.status == NO_CONNECTION {
        return Ok(None);
    }
    if !said.ok() {
        return Err(Unseen::Misread(format!("PgBouncer: {}", said.stderr.trim())));
    }
    let wanted = settings(desired);
    let mut running = Running::default();
    let mut lines = said.stdout.lines();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        // key|value|default|changeable
        let words: Vec<&str> = line.split('|').collect();
        let [name, value, .., changeable] = words.as_slice() else {
            return Err(Unseen::Misread(format!("PgBouncer's SHOW CONFIG printed `{line}`")));
        };
        if wanted.contains_key(name) {
            running.settings.insert((*name).to_owned(), (*value).to_owned());
            if *changeable == "no" {
                running.fixed.insert((*name).to_owned());
            }
        }
    }
    for line in lines {
        let words: Vec<&str> = line.split('|').collect();
        let [name, host, port, database, user, pool, ..] = words.as_slice() else {
            return Err(Unseen::Misread(format!("PgBouncer's SHOW DATABASES printed `{line}`")));
        };
        // Its own console.
        if *name == "pgbouncer" {
            continue;
        }
        let mut served = format!("{database} at {host} port {port}, {pool} connections per role");
        if !user.is_empty() {
            served.extend([", always as ", user]);
            // A reload of version 1.18 takes the user out of what it reads, and goes on with it.
            running.fixed.insert(format!("databases.{name}"));
        }
        running.databases.insert((*name).to_owned(), served);
    }
    Ok(Some(running))
}

/// What differs from what should run. Where nothing runs, that is one difference.
pub(super) fn differences(desired: &Desired, running: Option<&Running>) -> Vec<FieldChange> {
    let Some(running) = running else {
        return vec![FieldChange::new("runs", None, Some(Value::from("as in the inventory")))];
    };
    let Running { settings: found, fixed: _, databases: served } = running;
    let mut fields = Vec::new();
    for (name, value) in settings(desired) {
        fields.extend(FieldChange::between(&format!("runs.{name}"), &found.get(name), &Some(value)));
    }
    let wanted = databases(desired);
    let names: BTreeSet<&String> = served.keys().chain(wanted.keys()).collect();
    for name in names {
        fields.extend(FieldChange::between(&format!("runs.databases.{name}"), &served.get(name), &wanted.get(name)));
    }
    fields
}

/// What differs and is not changed by a reload.
pub(super) fn needs_restart(desired: &Desired, running: &Running) -> Vec<String> {
    let wanted = wanted(desired);
    let runs = |name: &String| match name.strip_prefix("databases.") {
        Some(database) => running.databases.get(database),
        None => running.settings.get(name),
    };
    running.fixed.iter().filter(|name| runs(name) != wanted.get(*name)).cloned().collect()
}
