//! A throw-away server as an inventory of its own: the declared one under another name, without everything that acts on the
//! world. The ordinary engine makes it.
//!
//! Deliberately absent: a key that could write into the repository, so nothing that runs there can harm it, whatever else fails.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::base::diag::Diagnostic;
use crate::engine::resolve::{Resolved, resolve};
use crate::inventory::sections::Inventory;
use crate::inventory::sections::database::SettingValue;
use crate::kinds::iam_user::IamUser;
use crate::kinds::lightsail_ports::LightsailPorts;
use crate::kinds::table::Wanted;
use crate::kinds::throw_away::{self, part_name};
use crate::kinds::{Kind as _, SERVER};
use crate::plan::restores::Repository;

/// After this time nobody can be at work on it any more: as long as a restore may take.
const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// What a throw-away server has as the real one has it. [`LEFT_OUT`] is the rest.
const KEPT: [&str; 18] = [
    "lightsail.key_pair",
    SERVER,
    LightsailPorts::NAME,
    "host.folders",
    "host.packages",
    "host.users",
    "host.updates",
    "host.sysctl",
    "host.time",
    "host.swap",
    "host.sshd",
    "host.ufw",
    "host.fail2ban",
    "postgres.cluster",
    "postgres.roles",
    "postgres.databases",
    "postgres.extensions",
    "postgres.access",
];
/// Beside them, for what stands in a database only.
const VIEWS: &str = "postgres.views";

/// Debian's own certificate, which every server has: no authority is asked for one.
const OWN_CERTIFICATE: [(&str, &str); 2] = [
    ("ssl_cert_file", "/etc/ssl/certs/ssl-cert-snakeoil.pem"),
    ("ssl_key_file", "/etc/ssl/private/ssl-cert-snakeoil.key"),
];

/// A throw-away server.
pub struct ThrowAway {
    /// Its name, as a server of [`Self::inventory`].
    pub name: String,
    /// Physical name of its instance.
    pub instance: String,
    pub inventory: Inventory,
    /// What is made for it, marked as throw-away.
    pub resolved: Resolved,
    pub expires: Timestamp,
}

/// What an inventory's server is in a rehearsal that begins at `now`. The repository that it restores from is the only one that it has.
///
/// # Errors
/// Why there can be none.
pub fn throw_away(
    inventory: &Inventory,
    server: &str,
    from: Repository,
    now: Timestamp,
) -> Result<ThrowAway, Diagnostic> {
    let environment = inventory.environment.as_str();
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let name = throw_away::name(environment, server, &stamp).ok_or_else(|| {
        Diagnostic::error("name-too-long", format!("`{environment}` leaves no room for the names of a fresh instance"))
            .note("IAM takes 64 characters for a user's name, and the time of the drill is a part of it")
            .hint("only a shorter name of the environment helps; `seawall drill` beside the database needs none")
    })?;
    let (_, section) =
        inventory.servers.iter().find(|(known, _)| known.as_str() == server).ok_or_else(|| {
            Diagnostic::error("no-backups-declared", format!("the inventory has no server `{server}`"))
        })?;
    let mut section = section.clone();
    section.instance.static_ip = false;
    section.instance.auto_snapshot = None;
    section.instance.generation = 1;
    if let Some(backup) = &mut section.backup {
        if let Some(copy) = backup.copies.first().filter(|_| from == Repository::Copy) {
            *backup = backup.of_copy(copy);
        }
        backup.drills.schedule = None;
        backup.copies = Vec::new();
    }
    if let Some(postgres) = &mut section.postgres {
        let mut set = |name: &str, value: SettingValue| drop(postgres.settings.insert(name.to_owned(), value));
        // A restored subscription would consume the real publisher's changes, and a restored job would run a second time.
        set("archive_mode", SettingValue::Text("off".to_owned()));
        set("max_logical_replication_workers", SettingValue::Number(0));
        let extensions = postgres.extensions.clone();
        let mut set = |name: &str, value: SettingValue| drop(postgres.settings.insert(name.to_owned(), value));
        if extensions.iter().any(|extension| extension == "timescaledb") {
            set("timescaledb.max_background_workers", SettingValue::Number(0));
        }
        if extensions.iter().any(|extension| extension == "pg_cron") {
            set("cron.launch_active_jobs", SettingValue::Text("off".to_owned()));
        }
        if section.certificate.is_some() {
            for (setting, path) in OWN_CERTIFICATE {
                set(setting, SettingValue::Text(path.to_owned()));
            }
        }
    }
    let ssh = i32::from(section.ssh_port());
    let derived = Inventory {
        servers: BTreeMap::from([(name.clone(), section)]),
        identities: BTreeMap::new(),
        ..inventory.clone()
    };
    let name = name.to_string();
    let mut resolved = resolve(&derived).map_err(|problems| {
        problems
            .0
            .into_iter()
            .next()
            .unwrap_or_else(|| Diagnostic::error("needs-in-a-circle", "its resources wait for each other"))
    })?;
    resolved.wanted.retain(|wanted| is_kept(wanted, environment, &name));
    let expires = now + LIFETIME;
    for wanted in &mut resolved.wanted {
        mark(&mut wanted.desired, expires);
        if wanted.address.kind() == LightsailPorts::NAME {
            only_ssh(&mut wanted.desired, ssh);
        }
    }
    let instance = part_name(environment, &name, SERVER);
    Ok(ThrowAway { name, instance, inventory: derived, resolved, expires })
}

fn is_kept(wanted: &Wanted, environment: &str, name: &str) -> bool {
    let (kind, of) = (wanted.address.kind(), wanted.address.name());
    // Of its identities, the one that can only read.
    let reads = kind == IamUser::NAME && wanted.desired["name"] == part_name(environment, name, IamUser::NAME);
    reads || (of == name && (KEPT.contains(&kind) || kind == VIEWS))
}

fn mark(desired: &mut Value, expires: Timestamp) {
    let Some(tags) = desired.get_mut("tags").and_then(Value::as_object_mut) else { return };
    tags.extend(throw_away::marks(expires).into_iter().map(|(key, value)| (key, Value::from(value))));
}

/// Whoever may log in to the real one may log in here, and nobody else comes near it: clients of the real one have no business
/// here, nor has the cloud's own rescue login.
fn only_ssh(desired: &mut Value, port: i32) {
    let Some(rules) = desired.get_mut("rules").and_then(Value::as_array_mut) else { return };
    rules.retain(|rule| rule["protocol"] == "tcp" && rule["from"] == port && rule["to"] == port);
    for rule in rules {
        rule["aliases"] = Value::Array(Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::load::parse;
    use crate::kinds::KINDS;
    use crate::plan::cloud::{TAG_EXPIRES, TAG_PURPOSE, THROW_AWAY};

    /// What a rehearsal leaves out, with the reason.
    const LEFT_OUT: [(&str, &str); 11] = [
        ("lightsail.static_ip", "clients stay where they are"),
        ("s3.bucket", "it is the live one's"),
        ("sns.topic", "it alarms nobody"),
        ("cloudwatch.alarm", "it alarms nobody"),
        ("host.certificate", "no authority is asked for another one"),
        ("pgbackrest.repo", "it must not write"),
        ("pgbackrest.copy", "it must not write"),
        ("postgres.dumps", "it must not write"),
        ("pgbouncer.pool", "it needs the certificate"),
        ("host.jobs", "jobs act on the world"),
        ("host.compose", "containers act on the world"),
    ];

    const TEXT: &str = "
seawall: 1
environment: prod
aws: { account: \"123456789012\", region: ca-central-1 }
alerts: { email: [ops@example.com] }
servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a, generation: 3, auto_snapshot: \"06:00\" }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
    firewall:
      - { port: 22, from: [203.0.113.0/24], why: operators }
      - { port: 5432, from: [198.51.100.7/32], why: application }
    certificate: { name: db.example.com, issuer: letsencrypt, challenge: tls-alpn-01, contact: ops@example.com, copy_pass: { env: COPY } }
    postgres: { version: 17, extensions: [timescaledb], settings: { work_mem: 8MB } }
    backup: { bucket: backups, stanza: chronos, cipher_pass: { env: PASS, escrow: confirmed }, drills: { schedule: \"Sun 04:00\" }, dumps: {} }
    jobs: { report: { run: /opt/report, user: postgres, schedule: \"daily 05:00\" } }
  web:
    instance: { bundle: nano_3_0, blueprint: debian_12, zone: ca-central-1a }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
identities:
  exporter: { bucket: backups, prefix: exports, key: { server: db, file: /etc/seawall/exporter.credentials } }
buckets: { backups: { name: prod-backups } }
";

    fn derived(text: &str, from: Repository) -> ThrowAway {
        let loaded = parse("test.yaml", text);
        let inventory = loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        throw_away(&inventory, "db", from, "2026-11-27T05:00:00Z".parse().expect("a time"))
            .expect("a throw-away server")
    }

    #[test]
    fn every_kind_is_decided_about() {
        let views = [VIEWS, IamUser::NAME];
        for kind in KINDS {
            let kept = KEPT.contains(&kind.name) || views.contains(&kind.name);
            let left = LEFT_OUT.iter().any(|(name, _)| *name == kind.name);
            assert!(kept != left, "{}: does a throw-away server have it, or does it act on the world?", kind.name);
        }
    }

    #[test]
    fn nothing_of_the_real_server_is_among_it_and_everything_is_marked() {
        let made = derived(TEXT, Repository::First);
        assert_eq!(
            (made.name.as_str(), made.instance.as_str()),
            ("db-drill-20261127-050000", "prod-db-drill-20261127-050000")
        );
        assert_eq!(made.expires.to_string(), "2026-11-27T17:00:00Z");
        assert_eq!(made.resolved.servers[&made.name].instance, made.instance, "the first generation");
        let users: Vec<_> =
            made.resolved.wanted.iter().filter(|wanted| wanted.address.kind() == IamUser::NAME).collect();
        assert_eq!(users.len(), 1, "the identity that reads, and no other");
        assert_eq!(users[0].desired["name"], "prod-db-drill-20261127-050000-restore");
        assert_eq!(users[0].desired["deliver"]["host_file"]["server"], made.name);
        let may = users[0].desired["policy"].to_string();
        assert!(may.contains("s3:GetObject") && !may.contains("Put") && !may.contains("Delete"), "{may}");
        for wanted in &made.resolved.wanted {
            assert!(wanted.address.name().starts_with(&made.name), "{}", wanted.address);
            if let Some(tags) = wanted.desired.get("tags") {
                assert_eq!(
                    (&tags[TAG_PURPOSE], &tags[TAG_EXPIRES]),
                    (&THROW_AWAY.into(), &"2026-11-27T17:00:00Z".into()),
                    "{}",
                    wanted.address
                );
            }
        }
        let instance = made.resolved.wanted.iter().find(|wanted| wanted.address.kind() == SERVER).expect("an instance");
        assert_eq!(instance.desired["auto_snapshot"], Value::Null);
    }

    #[test]
    fn after_the_loss_of_a_bucket_the_second_repository_is_its_only_one() {
        let text = TEXT
            .replace(
                "drills: {",
                "copies: [{ bucket: elsewhere, cipher_pass: { env: OTHER, escrow: confirmed } }], drills: {",
            )
            .replace("buckets: {", "buckets: { elsewhere: { name: prod-elsewhere, region: eu-west-1 },");
        let made = derived(&text, Repository::Copy);
        let user = made.resolved.wanted.iter().find(|wanted| wanted.address.kind() == IamUser::NAME);
        let may = user.expect("the identity that reads").desired["policy"].to_string();
        assert!(may.contains("prod-elsewhere") && !may.contains("prod-backups"), "{may}");
        let backup =
            made.inventory.servers.values().next().and_then(|server| server.backup.as_ref()).expect("a backup");
        assert!(backup.bucket.as_str() == "elsewhere" && backup.copies.is_empty() && backup.drills.schedule.is_none());
        assert_eq!(serde_json::to_value(&backup.cipher_pass).expect("JSON")["env"], "OTHER");
    }

    #[test]
    fn it_lets_operators_in_and_acts_on_nothing() {
        let made = derived(TEXT, Repository::First);
        let wanted = |kind: &str| {
            &made.resolved.wanted.iter().find(|wanted| wanted.address.kind() == kind).expect("it is wanted").desired
        };
        assert_eq!(
            wanted(LightsailPorts::NAME)["rules"],
            serde_json::json!([{ "protocol": "tcp", "from": 22, "to": 22, "cidrs": ["203.0.113.0/24"], "ipv6_cidrs": [], "aliases": [] }])
        );
        let own = &wanted("postgres.cluster")["basis"]["own"];
        for (setting, value) in [
            ("archive_mode", "off"),
            ("max_logical_replication_workers", "0"),
            ("timescaledb.max_background_workers", "0"),
            ("ssl_key_file", "/etc/ssl/private/ssl-cert-snakeoil.key"),
            ("work_mem", "8MB"),
        ] {
            assert_eq!(own[setting], value, "{setting}: {own}");
        }
    }
}
