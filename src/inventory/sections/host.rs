//! Sections of a server that are about the host: sshd, fail2ban, certificate, metrics, containers, jobs.
//!
//! Deliberately absent: any way to allow passwords.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::secret::SecretRef;
use crate::inventory::scalar::{Cidr, Name, TimeSpan};
use crate::inventory::schedule::Schedule;

/// The SSH daemon: public keys only, no root, no forwarding. A change is kept only if a fresh login succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sshd {
    /// TCP port that it listens on; the firewall list must open it. Lightsail's browser login works on port 22 only.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Users that may log in beside `login.user`.
    pub allow_users: Vec<String>,
    /// Failed attempts per connection.
    pub max_auth_tries: u32,
    /// How long a connection may take to log in.
    pub login_grace: TimeSpan,
    /// After how long without an answer a connection is closed.
    pub idle: TimeSpan,
    /// Allow port forwarding, for example to reach the database through SSH.
    pub forwarding: bool,
    /// The host puts the old configuration back by itself if no fresh login succeeds within this time.
    pub revert_after: TimeSpan,
}

impl Default for Sshd {
    fn default() -> Self {
        Self {
            port: 22,
            allow_users: Vec::new(),
            max_auth_tries: 3,
            login_grace: TimeSpan::from_seconds(30),
            idle: TimeSpan::from_seconds(600),
            forwarding: false,
            revert_after: TimeSpan::from_seconds(90),
        }
    }
}

/// Bans for addresses that keep failing to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fail2ban {
    /// Failures until a ban.
    pub retries: u32,
    /// Within what time the failures count together.
    pub within: TimeSpan,
    /// How long the first ban lasts; each further one lasts longer.
    pub ban: TimeSpan,
    /// The longest ban.
    pub longest_ban: TimeSpan,
    /// Networks that are never banned.
    pub ignore: Vec<Cidr>,
}

impl Default for Fail2ban {
    fn default() -> Self {
        Self {
            retries: 5,
            within: TimeSpan::from_seconds(600),
            ban: TimeSpan::from_seconds(3_600),
            longest_ban: TimeSpan::from_seconds(604_800),
            ignore: Vec::new(),
        }
    }
}

/// The TLS certificate of this server's name: obtained, renewed, and reloaded into what serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The name that clients connect to; it must resolve to this server.
    pub name: String,
    /// Further names in the certificate.
    #[serde(default)]
    pub also: Vec<String>,
    /// Who signs it.
    #[serde(default)]
    pub issuer: Issuer,
    /// How the issuer is convinced that the name is ours.
    #[serde(default)]
    pub challenge: Challenge,
    /// E-mail address for the issuer; public issuers want one.
    pub contact: Option<String>,
    /// For `dns-01`: the acme-dns service that answers for the name, for example `https://auth.example.org`.
    pub acme_dns: Option<String>,
    /// What seals the copy of keys, certificates and the private CA in the bucket of the backups. Without it there is no copy. It is not the
    /// backups' passphrase, which PostgreSQL may read.
    pub copy_pass: Option<SecretRef>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Issuer {
    /// Let's Encrypt.
    #[default]
    Letsencrypt,
    /// Let's Encrypt's staging service: for rehearsals, no client trusts it.
    LetsencryptStaging,
    /// A certificate authority of this server's own; clients are given its certificate.
    Private,
}

impl Issuer {
    /// Whether a public service signs, which wants to see that the name is ours.
    pub fn is_public(self) -> bool {
        match self {
            Self::Letsencrypt | Self::LetsencryptStaging => true,
            Self::Private => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Challenge {
    /// Answered on port 443, which must be open to anywhere.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// Answered on port 80, which must be open to anywhere.
    #[serde(rename = "http-01")]
    Http01,
    /// Answered in DNS by an acme-dns service; no port is needed, and one CNAME at your DNS provider, once.
    #[serde(rename = "dns-01")]
    Dns01,
}

impl Challenge {
    /// The port on which the issuer looks for the answer, where it does.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::TlsAlpn01 => Some(443),
            Self::Http01 => Some(80),
            Self::Dns01 => None,
        }
    }
}

/// A small timer that publishes memory, disk, steal, backup age, WAL lag, certificate days and a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// How often it publishes.
    pub every: TimeSpan,
    /// CloudWatch namespace.
    pub namespace: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { every: TimeSpan::from_seconds(60), namespace: "Seawall".to_owned() }
    }
}

/// Containers beside the database, from one Compose file. Their ports are bound to this server only, because Docker
/// publishes past the host's firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The project's name.
    pub project: Name,
    /// The Compose file on the operator's machine, relative to the inventory.
    pub file: String,
    /// Variables of the Compose file that come from secrets: `${NAME}` under `environment`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRef>,
    /// What the file says; put here when the inventory is loaded. It is written out, so that it is part of the
    /// inventory's digest, and never read.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub contents: Option<String>,
}

/// A program that runs on a schedule, as a systemd timer. A run that fails or does not happen is reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Program with its full path, and arguments. No shell reads it; quotes keep words together.
    pub run: String,
    /// When, in UTC.
    pub schedule: Schedule,
    /// User that it runs as; it must exist.
    pub user: String,
    /// After how long it is ended.
    #[serde(default = "one_hour")]
    pub timeout: TimeSpan,
    /// Directory that it starts in; the user's home if not set.
    pub directory: Option<String>,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Environment variables that come from secrets.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRef>,
}

fn one_hour() -> TimeSpan {
    TimeSpan::from_seconds(3_600)
}
