//! Checks of a server's `postgres` section that are about the cluster itself, and of its backups.

use crate::base::diag::Diagnostic;
use crate::inventory::check::{Report, drills, hooks};
use crate::inventory::names::SqlName;
use crate::inventory::scalar::Name;
use crate::inventory::sections::database::{Backup, Dumps, Generations, Postgres, SettingValue};
use crate::inventory::similar::{choices, similar};

/// Major versions that the kinds know: what PostgreSQL maintained in 2025 ("Versioning Policy").
const VERSIONS: [u16; 5] = [13, 14, 15, 16, 17];

/// Seconds. More often than every 10 s makes more segments than rows; an hour is no RPO that anybody wants.
const ARCHIVE_TIMEOUT_S: (u64, u64) = (10, 3_600);

/// MiB for WAL that waits for a second repository: eight segments, which a restart of its service may take.
const SPOOL_MIB: u32 = 128;

/// With another value fail2ban would see no failed login, or believe one that a client made up.
const BANS: &str = "bans go by what PostgreSQL writes into its log";

/// Settings that are not the inventory's to set, with who decides.
const RESERVED: [(&str, &str); 28] = [
    ("port", "the cluster always listens on 5432"),
    ("data_directory", "Debian's packages decide where the data is"),
    ("hba_file", "the `access` list makes it"),
    ("ident_file", "the `access` list makes do without"),
    ("config_file", "Debian's packages decide where it is"),
    ("external_pid_file", "Debian's packages decide where it is"),
    ("include", "everything Seawall sets is in one file"),
    ("include_dir", "everything Seawall sets is in one file"),
    ("include_if_exists", "everything Seawall sets is in one file"),
    ("archive_mode", "the `backup` section decides"),
    ("archive_command", "the `backup` section decides"),
    ("archive_library", "the `backup` section decides"),
    ("archive_timeout", "`backup.archive_timeout` says it"),
    ("wal_level", "backups and replicas need `replica`"),
    ("ssl", "the `certificate` section decides"),
    ("ssl_cert_file", "the `certificate` section decides"),
    ("ssl_key_file", "the `certificate` section decides"),
    ("password_encryption", "passwords are always SCRAM"),
    ("log_line_prefix", BANS),
    ("log_destination", BANS),
    ("logging_collector", BANS),
    ("log_hostname", BANS),
    ("log_error_verbosity", BANS),
    ("log_min_messages", BANS),
    ("log_timezone", BANS),
    ("lc_messages", BANS),
    ("fsync", "without it a crash loses the cluster"),
    ("full_page_writes", "without it a crash loses the cluster"),
];

pub(super) fn check(report: &mut Report<'_>, base: &str, section: &Postgres) {
    if !VERSIONS.contains(&section.version) {
        let path = format!("{base}.version");
        let message = format!("`{path}` is {}, and Seawall sets up {}", section.version, versions());
        report.error("unsupported-postgres", message, &path, "not supported");
    }
    for (name, value) in &section.settings {
        let path = format!("{base}.settings.{name}");
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
            report.error(
                "reserved-setting",
                format!("`{path}` is not for this list: {why}"),
                &path,
                "decided elsewhere",
            );
        } else if !is_name(name) {
            let message = format!("`{name}` is no name of a setting: lower-case letters, digits, underscores, one dot");
            report.error("bad-setting", message, &path, "not a name");
        } else if let SettingValue::Text(text) = value
            && text.contains(|c: char| c.is_control())
        {
            report.error("bad-setting", format!("`{path}` must be one line"), &path, "has a control character");
        }
    }
}

/// What backups need beside their own section.
pub(super) fn backup(report: &mut Report<'_>, name: &Name, section: &Backup) {
    let base = format!("servers.{name}.backup");
    report.bucket(&format!("{base}.bucket"), &section.bucket);
    if report.inventory.servers.get(name).is_some_and(|server| server.postgres.is_none()) {
        let message = format!("`{base}` backs up PostgreSQL, and `servers.{name}` has no `postgres` section");
        report.error("backup-without-postgres", message, &base, "nothing to back up");
    }
    // Two clusters in one stanza overwrite each other's history.
    let earlier = report.inventory.servers.iter().take_while(|(other, _)| *other != name);
    let buckets = |of: &Backup| -> Vec<Name> {
        std::iter::once(&of.bucket).chain(of.copies.iter().map(|copy| &copy.bucket)).cloned().collect()
    };
    let own = buckets(section);
    let same = |other: &Backup| other.stanza == section.stanza && buckets(other).iter().any(|name| own.contains(name));
    let taken = earlier.filter(|(_, server)| server.backup.as_ref().is_some_and(same)).map(|(other, _)| other).next();
    if let Some(other) = taken {
        let problem =
            Diagnostic::error("stanza-taken", format!("`{base}.stanza` is the stanza of `servers.{other}`, too"))
                .at(report.places.span(&format!("{base}.stanza")), "again here")
                .at(report.places.span(&format!("servers.{other}.backup.stanza")), "first here")
                .hint("give each server a stanza of its own: two servers in one overwrite each other's WAL");
        report.found.push(problem);
    }
    copies(report, &base, section);
    for word in ["backup", "restore", "certificate", "copy", "copy-restore"] {
        let identity = format!("{name}-{word}");
        if report.inventory.identities.keys().any(|taken| taken.as_str() == identity) {
            let path = format!("identities.{identity}");
            let message = format!("`{path}` has the name of the identity that comes with `{base}`");
            report.error("identity-taken", message, &path, "taken");
        }
    }
    let days = section.retention.days;
    if days == 0 {
        let path = format!("{base}.retention.days");
        report.error("out-of-range", format!("`{path}` must be 1 or more"), &path, "nothing would be kept");
    }
    if let Some(Generations { daily, weekly, monthly }) = section.retention.generations
        && [daily, weekly, monthly].contains(&0)
    {
        let path = format!("{base}.retention.generations");
        report.error("out-of-range", format!("`{path}` must have 1 or more of each"), &path, "0 of one kind");
    }
    let timeout = section.archive_timeout.seconds();
    if !(ARCHIVE_TIMEOUT_S.0..=ARCHIVE_TIMEOUT_S.1).contains(&timeout) {
        let path = format!("{base}.archive_timeout");
        let message = format!("`{path}` must be from {} s to {} s", ARCHIVE_TIMEOUT_S.0, ARCHIVE_TIMEOUT_S.1);
        report.error("out-of-range", message, &path, "out of range");
    }
    if let Some(section) = &section.dumps {
        dumps(report, name, &format!("{base}.dumps"), section);
    }
    let postgres = report.inventory.servers.get(name).and_then(|server| server.postgres.as_ref());
    let databases = postgres.map(|postgres| postgres.databases.as_slice()).unwrap_or_default();
    drills::check(report, &format!("{base}.drills"), &section.drills, databases);
    hooks::check(report, name, &section.after_restore);
}

/// At most one second repository, with room for a segment at least.
fn copies(report: &mut Report<'_>, base: &str, section: &Backup) {
    if section.copies.len() > 1 {
        let path = format!("{base}.copies[1]");
        report
            .error("too-many-copies", format!("`{base}.copies` has more than one copy"), &path, "one too many")
            .hint =
            Some("keep one: each further one reads the whole database and sends every segment once more".to_owned());
    }
    for (index, copy) in section.copies.iter().enumerate() {
        let path = format!("{base}.copies[{index}]");
        report.bucket(&format!("{path}.bucket"), &copy.bucket);
        if copy.retention.as_ref().is_some_and(|kept| kept.days == 0) {
            let path = format!("{path}.retention.days");
            report.error("out-of-range", format!("`{path}` must be 1 or more"), &path, "nothing would be kept");
        }
        if let Some(Generations { daily, weekly, monthly }) =
            copy.retention.as_ref().and_then(|kept| kept.generations.as_ref())
            && [daily, weekly, monthly].contains(&&0)
        {
            let path = format!("{path}.retention.generations");
            report.error("out-of-range", format!("`{path}` must have 1 or more of each"), &path, "0 of one kind");
        }
        if copy.spool_mib < SPOOL_MIB {
            let path = format!("{path}.spool_mib");
            let message = format!("`{path}` must be {SPOOL_MIB} or more");
            report.error("out-of-range", message, &path, "a few minutes would fill it");
        }
    }
}

fn dumps(report: &mut Report<'_>, server: &Name, base: &str, section: &Dumps) {
    let Some(postgres) = report.inventory.servers.get(server).and_then(|server| server.postgres.as_ref()) else {
        // Said of the backups already.
        return;
    };
    let declared = || postgres.databases.iter().map(SqlName::as_str);
    if postgres.databases.is_empty() {
        let message = format!("`{base}` dumps the declared databases, and `servers.{server}.postgres` declares none");
        report.error("nothing-to-dump", message, base, "no database to dump").hint =
            Some(format!("name them in `servers.{server}.postgres.databases`"));
    }
    for (index, name) in section.databases.iter().enumerate() {
        if postgres.databases.is_empty() || postgres.databases.contains(name) {
            continue;
        }
        let path = format!("{base}.databases[{index}]");
        let message = format!("`{path}` names `{name}`, which is not in `servers.{server}.postgres.databases`");
        let hint = match similar(name.as_str(), declared()) {
            Some(near) => format!("a similar name: `{near}`"),
            None => format!("declared are {}", choices(declared())),
        };
        report.error("dangling-reference", message, &path, "not declared").hint = Some(hint);
    }
    report.repeats("duplicate-database", &format!("{base}.databases"), &section.databases);
    scopes(report, base, section, &postgres.databases);
    let Generations { daily, weekly, monthly } = section.keep;
    if [daily, weekly, monthly].contains(&0) {
        let path = format!("{base}.keep");
        report.error("out-of-range", format!("`{path}` must have 1 or more of each"), &path, "0 of one kind");
    }
}

/// What of single databases is dumped: of those that are dumped at all, and one thing of each.
fn scopes(report: &mut Report<'_>, base: &str, section: &Dumps, declared: &[SqlName]) {
    let dumped = if section.databases.is_empty() { declared } else { &section.databases };
    let schemas =
        section.schema_only.iter().enumerate().map(|(index, name)| (format!("{base}.schema_only[{index}]"), name));
    let tables = section.tables.keys().map(|name| (format!("{base}.tables.{name}"), name));
    for (path, name) in schemas.chain(tables) {
        if !dumped.contains(name) {
            let message = format!("`{path}` is about `{name}`, which is not dumped");
            let hint = format!("dumped are {}", choices(dumped.iter().map(SqlName::as_str)));
            report.error("dangling-reference", message, &path, "not dumped").hint = Some(hint);
        }
    }
    report.repeats("duplicate-database", &format!("{base}.schema_only"), &section.schema_only);
    for (name, tables) in &section.tables {
        let path = format!("{base}.tables.{name}");
        if section.schema_only.contains(name) {
            let message = format!("`{path}` wants rows of `{name}`, and `{base}.schema_only` wants none");
            report.error("contradictory-dumps", message, &path, "one of the two");
        }
        if tables.is_empty() {
            let message = format!("`{path}` names no table");
            report.error("nothing-to-dump", message, &path, "no table").hint =
                Some(format!("name one, or put `{name}` into `schema_only`"));
        }
        report.repeats("duplicate-table", &path, tables);
    }
}

fn versions() -> String {
    let versions = VERSIONS.map(|version| version.to_string());
    choices(versions.iter().map(String::as_str))
}

/// `work_mem`, or `timescaledb.telemetry_level` for an extension's.
fn is_name(name: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.split('.').count() <= 2 && name.split('.').all(word)
}
