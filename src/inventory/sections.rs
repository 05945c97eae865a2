//! The sections of an inventory, as types. Field docs become the JSON Schema's descriptions and editors' help.
//!
//! Every section has safe defaults: `{}` is a good answer. A section whose kind does not exist yet has its type all the
//! same; `check` refuses it with a clear message, so that nothing in a file is ever silently ignored.

pub mod database;
pub mod host;
pub mod storage;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::public_key::PublicKey;
use crate::inventory::scalar::{Cidr, HourOfDay, Money, Name, TimeSpan};
use crate::inventory::sections::database::{Backup, PgBouncer, Postgres};
use crate::inventory::sections::host::{Certificate, Compose, Fail2ban, Job, Metrics, Sshd};

/// One environment: what should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Version of this file's format. This program knows 1.
    pub seawall: u32,
    /// Name of the environment; physical names in the cloud begin with it.
    pub environment: Name,
    /// The account and region that it lives in.
    pub aws: Aws,
    /// What must hold; `plan` refuses a configuration that cannot meet it.
    #[serde(default)]
    pub objectives: Objectives,
    /// Who is told when something is wrong.
    #[serde(default)]
    pub alerts: Option<Alerts>,
    /// Where lock, used plans and journals live. Without it they live beside the inventory and guard one machine only.
    #[serde(default)]
    pub state: Option<State>,
    /// Servers by name; the name stays when the machine is replaced.
    #[serde(default)]
    pub servers: BTreeMap<Name, Server>,
    /// S3 buckets by the name that other sections use for them.
    #[serde(default)]
    pub buckets: BTreeMap<Name, Bucket>,
    /// IAM users with least privilege, one per purpose.
    #[serde(default)]
    pub identities: BTreeMap<Name, Identity>,
    /// CloudWatch alarms beyond those that Seawall sets by itself.
    #[serde(default)]
    pub alarms: BTreeMap<Name, Alarm>,
}

/// The account and region that this environment lives in; checked with STS before any other call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    /// The 12-digit account id, quoted.
    pub account: String,
    /// For example `ca-central-1`.
    pub region: String,
}

/// What must hold. An objective that is not set is reported as NOT SET, never as met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// Recovery point objective: how much data may be lost at worst.
    pub rpo: Option<TimeSpan>,
    /// Recovery time objective: how long until the database answers again.
    pub rto: Option<TimeSpan>,
    /// How long a rebuild from nothing may take.
    pub rebuild: Option<TimeSpan>,
    /// How often a restore drill must have passed.
    pub drill_every: Option<TimeSpan>,
    /// List price of everything in this file per month.
    pub monthly_budget: Option<Money>,
}

/// Who is told when something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// E-mail addresses. Each must confirm its subscription before anything reaches it.
    pub email: Vec<String>,
}

/// Where operators and CI meet: an S3 prefix out of reach of the host's own credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// A bucket of this inventory, by its name here.
    pub bucket: Name,
    /// Key prefix within the bucket, without slashes at its ends.
    #[serde(default = "default_state_prefix")]
    pub prefix: String,
}

fn default_state_prefix() -> String {
    "seawall".to_owned()
}

/// A server and everything on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The machine itself.
    pub instance: Instance,
    /// Who logs in.
    pub login: Login,
    /// The ports that are open, in the cloud's firewall and on the host. Everything else is closed.
    #[serde(default)]
    pub firewall: Vec<FirewallRule>,
    /// Debian packages to have installed, beyond those that the other sections bring.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Automatic security updates.
    pub updates: Option<Updates>,
    /// Kernel parameters.
    pub sysctl: Option<Sysctl>,
    /// The clock.
    pub time: Option<Time>,
    /// A swap file.
    pub swap: Option<Swap>,
    /// The SSH daemon: keys only, no root.
    pub sshd: Option<Sshd>,
    /// Bans for addresses that keep failing to log in.
    pub fail2ban: Option<Fail2ban>,
    /// The TLS certificate of this server's name.
    pub certificate: Option<Certificate>,
    /// PostgreSQL: cluster, databases, roles, access.
    pub postgres: Option<Postgres>,
    /// A connection pool in front of PostgreSQL.
    pub pgbouncer: Option<PgBouncer>,
    /// Backups and WAL archive of PostgreSQL.
    pub backup: Option<Backup>,
    /// Measurements that CloudWatch does not have by itself.
    pub metrics: Option<Metrics>,
    /// Containers beside the database.
    pub compose: Option<Compose>,
    /// Programs that run on a schedule, by name.
    #[serde(default)]
    pub jobs: BTreeMap<Name, Job>,
}

impl Server {
    /// The port that sshd is wanted on.
    pub fn ssh_port(&self) -> u16 {
        self.sshd.as_ref().map_or(Sshd::default().port, |sshd| sshd.port)
    }
}

/// The Lightsail instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Size, as Lightsail names it, for example `small_3_0`.
    pub bundle: String,
    /// Operating system: `debian_12` or `debian_13`. Lightsail says which of them it has in a region (`GetBlueprints`).
    pub blueprint: String,
    /// Availability zone, for example `ca-central-1a`.
    pub zone: String,
    /// Keep a static IP on it, so that a rebuilt server has the same address.
    #[serde(default = "yes")]
    pub static_ip: bool,
    /// Take an automatic snapshot every day at this hour (UTC).
    pub auto_snapshot: Option<HourOfDay>,
    /// Which one of the server's instances is meant: 1, and one more each time a lost server is rebuilt beside what is left of it.
    #[serde(default = "first")]
    pub generation: u32,
}

fn first() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user that operators log in as; Debian's images bring `admin`.
    #[serde(default = "default_user")]
    pub user: String,
    /// OpenSSH public keys that may log in.
    pub keys: Vec<PublicKey>,
    /// What is left when every key is lost: Lightsail's browser login, or nothing.
    #[serde(default)]
    pub rescue: Rescue,
}

fn default_user() -> String {
    "admin".to_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rescue {
    /// Keep Lightsail's certificate authority in sshd's trust.
    #[default]
    LightsailConnect,
    /// No way in but the declared keys.
    None,
}

/// One open port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirewallRule {
    /// TCP or UDP port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Networks that may connect, or `anywhere`.
    pub from: Sources,
    /// Why it is open; printed beside the rule everywhere.
    pub why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// `anywhere`, or a list of networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Sources {
    Anywhere(Anywhere),
    Networks(Vec<Cidr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Anywhere {
    Anywhere,
}

/// Automatic updates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    /// What happens with security updates.
    pub security: SecurityUpdates,
    /// What happens when an update wants a reboot.
    pub reboot: RebootPolicy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecurityUpdates {
    /// Installed every day by unattended-upgrades.
    #[default]
    Automatic,
    /// Only reported.
    Report,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RebootPolicy {
    /// Say that a reboot is due; never reboot by itself.
    #[default]
    Report,
}

/// Kernel parameters: a hardened set, and values of your own over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sysctl {
    /// Parameter to value, over the hardened set; for example `vm.swappiness: 5`.
    pub settings: BTreeMap<String, SysctlValue>,
}

/// A number, or a text such as `4096 87380 6291456`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SysctlValue {
    Number(i64),
    Text(String),
}

/// The clock: one time daemon, and which one. Signatures to AWS fail when it is five minutes off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// Time zone, as `timedatectl` names it.
    pub zone: String,
    /// NTP servers; empty means the distribution's pool.
    pub servers: Vec<String>,
}

impl Default for Time {
    fn default() -> Self {
        Self { zone: "Etc/UTC".to_owned(), servers: Vec::new() }
    }
}

/// A swap file, so that a short peak of memory does not end PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Swap {
    /// Size in MiB.
    pub size_mib: u32,
}

impl Default for Swap {
    fn default() -> Self {
        Self { size_mib: 1024 }
    }
}

/// An S3 bucket: private, encrypted, TLS only, with clean-up of what nobody will ever read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The bucket's name at AWS, unique in the world. No dots.
    pub name: String,
    /// The region that it is in, for example `eu-west-1`. Without it: the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `protected` buckets are never deleted; the mark is on the bucket too and outlives this line.
    #[serde(default)]
    pub keep: Keep,
    /// Keep what was overwritten or deleted, so that neither an accident nor a stolen key ends the data.
    #[serde(default = "yes")]
    pub versioning: bool,
    /// Days after which a version that was overwritten or deleted goes for good.
    #[serde(default = "default_noncurrent_days")]
    pub noncurrent_days: u32,
    /// What happens to objects below a prefix with age. Never below the prefix of a repository: pgBackRest deletes there itself.
    #[serde(default)]
    pub lifecycle: Vec<storage::Aging>,
    /// What is written cannot be ended by a stolen key for a while. Needs `versioning`.
    #[serde(default)]
    pub object_lock: Option<storage::ObjectLock>,
}

impl Inventory {
    /// The region that a bucket of this inventory is in.
    pub fn region_of(&self, bucket: &Bucket) -> String {
        bucket.region.clone().unwrap_or_else(|| self.aws.region.clone())
    }
}

fn default_noncurrent_days() -> u32 {
    30
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Never destroyed by this tool, not even when its line is gone.
    #[default]
    Protected,
    /// May be destroyed when it leaves the inventory.
    Disposable,
}

/// An IAM user for one purpose, limited to one prefix of one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// A bucket of this inventory, by its name here.
    pub bucket: Name,
    /// Key prefix without slashes at its ends; nothing outside of it can be read or written.
    pub prefix: String,
    /// What it may do under the prefix.
    #[serde(default)]
    pub access: Access,
    /// Where its access key is written. The key exists nowhere else.
    pub key: KeyPlace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// List, get, put and delete; never versions, policies or lifecycle.
    #[default]
    ReadWrite,
    /// List and get, versions included: for restores and drills.
    ReadOnly,
}

/// A place on a server, or on the operator's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum KeyPlace {
    /// A credentials file on a server, 0640.
    Server {
        /// A server of this inventory.
        server: Name,
        /// Absolute path on the server.
        file: String,
        /// Group that may read the file.
        #[serde(default = "root")]
        group: String,
    },
    /// A credentials file here, 0600.
    Here {
        /// Path on the operator's machine, relative to the inventory.
        operator_file: String,
    },
}

fn root() -> String {
    "root".to_owned()
}

/// A CloudWatch alarm that goes to `alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// The metric's name, for example `Heartbeat`.
    pub metric: String,
    /// The metric's namespace; `Seawall` is what the servers publish themselves.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Dimensions, exactly as the metric is published with; an alarm with others sees nothing.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// How the values of one period become one.
    #[serde(default)]
    pub statistic: Statistic,
    /// On which side of the threshold it alarms.
    pub when: Comparison,
    /// The value to compare with, in the metric's unit.
    pub threshold: f64,
    /// Length of one period: 10s, 20s, 30s or whole minutes.
    #[serde(default = "five_minutes")]
    pub period: TimeSpan,
    /// How many periods in a row.
    #[serde(default = "three")]
    pub periods: u32,
    /// What silence means. Silence is an alarm unless you say otherwise.
    #[serde(default)]
    pub missing: MissingData,
    /// What the person who is woken should know.
    pub why: String,
}

fn default_namespace() -> String {
    "Seawall".to_owned()
}

fn five_minutes() -> TimeSpan {
    TimeSpan::from_seconds(300)
}

fn three() -> u32 {
    3
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    #[default]
    Average,
    Maximum,
    Minimum,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingData {
    #[default]
    Breaching,
    Ignore,
    /// The alarm says INSUFFICIENT_DATA, and that is sent as well.
    Missing,
}
