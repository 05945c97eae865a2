//! The settings of a cluster: tuned from memory, hardened, and the inventory's own over them.
//!
//! The formulas are those of timescaledb-tune and PGTune where they agree, with the sum of all autovacuum workers kept
//! small. Deliberately absent: anything about WAL archiving, which belongs to `pgbackrest.repo`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::inventory::sections::database::SettingValue;

/// One setting, its value, and why it has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub name: String,
    pub value: String,
    pub why: String,
}

/// Where the certificate is that `host.certificate` looks after.
const CERTIFICATE: &str = "/etc/seawall/tls/server.crt";
const KEY: &str = "/etc/seawall/tls/server.key";

/// Connections where the inventory names no number: PostgreSQL's own default.
pub(crate) const CONNECTIONS: u32 = 100;

/// What the settings follow from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    pub version: u16,
    /// MiB that the bundle promises.
    pub memory_mib: u64,
    /// Libraries that the extensions need from the start.
    pub preload: Vec<String>,
    /// There is a certificate of our own.
    pub certificate: bool,
    /// Somebody connects over the network.
    pub network: bool,
    /// WAL is archived.
    pub archives: bool,
    /// The inventory's own settings.
    pub own: BTreeMap<String, String>,
}

/// MiB of memory of a Lightsail bundle, by the first word of its id (AWS, "Lightsail pricing"); what is unknown is
/// taken for the smallest that PostgreSQL makes sense on.
pub(crate) fn memory_of(bundle: &str) -> u64 {
    match bundle.split('_').next().unwrap_or_default() {
        "nano" => 512,
        "small" => 2_048,
        "medium" => 4_096,
        "large" => 8_192,
        "xlarge" => 16_384,
        "2xlarge" => 32_768,
        "4xlarge" => 65_536,
        _ => 1_024,
    }
}

/// A value of the inventory as PostgreSQL writes it.
pub(crate) fn text(value: &SettingValue) -> String {
    match value {
        SettingValue::Switch(on) => if *on { "on" } else { "off" }.to_owned(),
        SettingValue::Number(number) => number.to_string(),
        SettingValue::Text(text) => text.clone(),
    }
}

fn mib(value: u64) -> String {
    format!("{value}MB")
}

/// Every setting of ours, by name, for a host with so many MiB of memory.
pub(crate) fn settings(basis: &Basis, memory_mib: u64) -> Vec<Setting> {
    let mut found = BTreeMap::new();
    let mut set = |name: &str, value: String, why: &str| {
        let setting = Setting { name: name.to_owned(), value, why: why.to_owned() };
        found.insert(name.to_owned(), setting);
    };
    memory(basis, memory_mib, &mut set);
    for (name, value, why) in HARDENED {
        set(name, (*value).to_owned(), why);
    }
    let listen = if basis.network { "*" } else { "localhost" };
    set("listen_addresses", listen.to_owned(), "all addresses where `access` names a network; two firewalls filter");
    if basis.certificate {
        set("ssl", "on".to_owned(), "connections over the network are encrypted");
        set("ssl_cert_file", CERTIFICATE.to_owned(), "host.certificate looks after it");
        set("ssl_key_file", KEY.to_owned(), "host.certificate looks after it");
    }
    if basis.archives {
        set("archive_mode", "on".to_owned(), "pgbackrest.repo sets the command once the repository is there");
        set("wal_level", "replica".to_owned(), "what a restore to any moment needs");
    }
    if !basis.preload.is_empty() {
        set("shared_preload_libraries", basis.preload.join(","), "the extensions need them from the start");
    }
    if basis.version >= 15 {
        set("wal_compression", "lz4".to_owned(), "less to write and to ship for a little processor time");
    } else {
        set("wal_compression", "on".to_owned(), "less to write and to ship for a little processor time");
    }
    for (name, value) in &basis.own {
        set(name, value.clone(), "from the inventory");
    }
    found.into_values().collect()
}

fn memory(basis: &Basis, ram: u64, set: &mut impl FnMut(&str, String, &str)) {
    let connections = basis.own.get("max_connections").and_then(|text| text.parse().ok()).unwrap_or(CONNECTIONS);
    let buffers = ram / 4;
    set("max_connections", connections.to_string(), "each costs memory; a pool serves more clients");
    set("shared_buffers", mib(buffers), "memory / 4 (timescaledb-tune, PGTune)");
    set("effective_cache_size", mib(ram * 3 / 4), "memory × 3 / 4 (timescaledb-tune, PGTune)");
    set("maintenance_work_mem", mib((ram / 16).clamp(64, 2_048)), "memory / 16 (PGTune)");
    set("autovacuum_work_mem", mib((ram / 32).clamp(32, 512)), "memory / 32, because several workers run at once");
    let work = (ram - buffers) * 1_024 / (u64::from(connections) * 3);
    let why = "(memory − shared_buffers) / (max_connections × 3) (PGTune), at least 1 MB";
    set("work_mem", format!("{}kB", work.max(1_024)), why);
    set("wal_buffers", mib((buffers / 32).clamp(1, 16)), "shared_buffers / 32, at most 16 MB");
    if basis.preload.iter().any(|library| library == "timescaledb") {
        set("max_worker_processes", "21".to_owned(), "16 for TimescaleDB's jobs and 5 (timescaledb-tune)");
        set("timescaledb.max_background_workers", "16".to_owned(), "timescaledb-tune");
        set("max_locks_per_transaction", "128".to_owned(), "a query locks every chunk (timescaledb-tune)");
    }
}

/// What does not depend on the machine.
const HARDENED: &[(&str, &str, &str)] = &[
    ("random_page_cost", "1.1", "Lightsail's disks are solid state"),
    ("effective_io_concurrency", "200", "Lightsail's disks are solid state"),
    ("jit", "off", "compiling costs more than it saves on short queries and small machines"),
    ("min_wal_size", "256MB", "files are used again instead of being made anew"),
    ("max_wal_size", "1GB", "a crash is replayed within a minute or two"),
    ("checkpoint_completion_target", "0.9", "writes are spread, not bunched"),
    ("password_encryption", "scram-sha-256", "md5 hashes are passwords (PostgreSQL, \"Password Authentication\")"),
    ("ssl_min_protocol_version", "TLSv1.2", "older ones are broken"),
    ("log_connections", "on", "who came"),
    ("log_disconnections", "on", "and how long they stayed"),
    (
        "log_line_prefix",
        "%m [%p] app=%a,client=%h ",
        "host.fail2ban finds failed logins by it; nothing a client can break a line with",
    ),
    ("log_destination", "stderr", "host.fail2ban reads this file"),
    ("logging_collector", "off", "host.fail2ban reads the file that Debian's service writes"),
    ("log_hostname", "off", "a name in the place of an address is the client's own word"),
    ("log_error_verbosity", "default", "host.fail2ban knows these words"),
    ("log_min_messages", "warning", "failed logins are in the log"),
    ("log_checkpoints", "on", "the first thing to look at when writes stall"),
    ("log_lock_waits", "on", "who waits for whom"),
    ("log_temp_files", "10MB", "queries that need more work_mem"),
    ("log_autovacuum_min_duration", "10s", "tables that vacuuming is hard work for"),
    ("log_min_duration_statement", "1s", "slow statements, with their time"),
    ("log_statement", "ddl", "who changed what structure"),
    ("log_timezone", "Etc/UTC", "one clock for all logs"),
    ("lc_messages", "C", "host.fail2ban and searches know one language"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        Basis {
            version: 15,
            memory_mib: 2_048,
            preload: vec!["pg_stat_statements".to_owned()],
            certificate: true,
            network: true,
            archives: true,
            own: BTreeMap::from([("work_mem".to_owned(), "16MB".to_owned())]),
        }
    }

    fn value(settings: &[Setting], name: &str) -> String {
        settings.iter().find(|setting| setting.name == name).map(|setting| setting.value.clone()).unwrap_or_default()
    }

    #[test]
    fn two_gibibytes() {
        let settings = settings(&basis(), 2_048);
        assert_eq!(value(&settings, "shared_buffers"), "512MB");
        assert_eq!(value(&settings, "effective_cache_size"), "1536MB");
        assert_eq!(value(&settings, "maintenance_work_mem"), "128MB");
        assert_eq!(value(&settings, "autovacuum_work_mem"), "64MB");
        assert_eq!(value(&settings, "wal_buffers"), "16MB");
        // The inventory's own.
        assert_eq!(value(&settings, "work_mem"), "16MB");
    }

    #[test]
    fn no_memory_setting_is_ever_more_than_there_is() {
        for ram in [512_u64, 1_024, 4_096, 65_536] {
            let settings = settings(&Basis { own: BTreeMap::new(), ..basis() }, ram);
            let megabytes = |name| value(&settings, name).trim_end_matches("MB").parse::<u64>().expect("a number");
            let workers = 3 * megabytes("autovacuum_work_mem");
            assert!(megabytes("shared_buffers") + megabytes("maintenance_work_mem") + workers <= ram, "{ram}");
        }
    }
}
