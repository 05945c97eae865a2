//! Kinds: one file per kind of resource; pure and synchronous, no sockets, no clock.
//!
//! A kind says what part of the inventory it owns ([`Kind::declare`]), what to ask ([`Kind::probes`]), what the answers
//! mean ([`Kind::read`]), what differs ([`Kind::diff`]), what to do ([`Kind::steps`]) and what must not be done
//! ([`Kind::refusals`]). [`KINDS`] lists them; `explain`, the cases and the laws come from that table.

mod cloud;
pub mod cloudwatch_alarm;
pub mod firewall;
mod host;
pub mod host_certificate;
pub mod host_compose;
pub mod host_fail2ban;
pub mod host_folders;
pub mod host_jobs;
pub mod host_packages;
pub mod host_sshd;
pub mod host_swap;
pub mod host_sysctl;
pub mod host_time;
pub mod host_ufw;
pub mod host_updates;
pub mod host_users;
pub mod iam_user;
pub mod lightsail_instance;
pub mod lightsail_key_pair;
pub mod lightsail_ports;
pub mod lightsail_static_ip;
mod operator;
mod parts;
pub mod pgbackrest;
pub mod pgbackrest_copy;
pub mod pgbackrest_repo;
pub mod pgbouncer_pool;
pub mod postgres;
pub mod postgres_access;
pub mod postgres_cluster;
pub mod postgres_databases;
pub mod postgres_dumps;
pub mod postgres_extensions;
pub mod postgres_roles;
pub mod postgres_views;
pub mod programs;
pub mod s3_bucket;
pub mod sns_topic;
pub mod table;
pub mod throw_away;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::table::Entry;
use crate::plan::Place;
use crate::plan::change::{FieldChange, FileDiff, Proof, Risk};
use crate::plan::cloud::{PROTECTED, TAG_ADDRESS, TAG_ENVIRONMENT, TAG_KEEP, Tags};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{CloudStep, Step, Steps};

/// Every kind there is, in the order in which a reader meets them. Cloud kinds first, then host kinds.
pub static KINDS: &[Entry] = &[
    table::entry::<lightsail_key_pair::LightsailKeyPair>(),
    table::entry::<lightsail_instance::LightsailInstance>(),
    table::entry::<lightsail_static_ip::LightsailStaticIp>(),
    table::entry::<lightsail_ports::LightsailPorts>(),
    table::entry::<s3_bucket::S3Bucket>(),
    table::entry::<iam_user::IamUser>(),
    table::entry::<sns_topic::SnsTopic>(),
    table::entry::<cloudwatch_alarm::CloudwatchAlarm>(),
    table::entry::<host_folders::HostFolders>(),
    table::entry::<host_packages::HostPackages>(),
    table::entry::<host_users::HostUsers>(),
    table::entry::<host_updates::HostUpdates>(),
    table::entry::<host_sysctl::HostSysctl>(),
    table::entry::<host_time::HostTime>(),
    table::entry::<host_swap::HostSwap>(),
    table::entry::<host_certificate::HostCertificate>(),
    table::entry::<host_sshd::HostSshd>(),
    table::entry::<host_ufw::HostUfw>(),
    table::entry::<host_fail2ban::HostFail2ban>(),
    table::entry::<postgres_cluster::PostgresCluster>(),
    table::entry::<postgres_roles::PostgresRoles>(),
    table::entry::<postgres_databases::PostgresDatabases>(),
    table::entry::<postgres_extensions::PostgresExtensions>(),
    table::entry::<pgbackrest_repo::PgbackrestRepo>(),
    table::entry::<pgbackrest_copy::PgbackrestCopy>(),
    table::entry::<postgres_dumps::PostgresDumps>(),
    table::entry::<postgres_access::PostgresAccess>(),
    table::entry::<postgres_views::PostgresViews>(),
    table::entry::<pgbouncer_pool::PgbouncerPool>(),
    table::entry::<host_jobs::HostJobs>(),
    table::entry::<host_compose::HostCompose>(),
];

/// The kind that is a server: what is on a host lives on one of these, and goes with it.
pub const SERVER: &str = <lightsail_instance::LightsailInstance as Kind>::NAME;

/// The entry of a kind, by name.
pub fn kind(name: &str) -> Option<&'static Entry> {
    KINDS.iter().find(|entry| entry.name == name)
}

/// One resource that the inventory asks for.
#[derive(Clone, Debug)]
pub struct Declared<D> {
    pub address: Address,
    pub place: Place,
    /// What must be done before this, if it changes too.
    pub after: Vec<Address>,
    /// Path of its section in the inventory, for example `servers.db.swap`; messages point there.
    pub path: String,
    pub desired: D,
}

/// Something that Seawall put there, found by tag or manifest: enough to remove it without its declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    pub address: Address,
    pub place: Place,
    /// Physical name of a cloud resource.
    pub name: String,
    pub arn: Option<String>,
    /// For a static IP: the instance that it is attached to.
    pub attached_to: Option<String>,
    /// For an instance: whether there may be automatic snapshots of it, which go with it.
    pub auto_snapshots: bool,
    /// What was recorded on the host when it was put there: the kind's `Desired` as JSON.
    pub record: Option<Value>,
    pub protected: bool,
}

/// The first part of a change that opens something new before something old is closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening<S = Steps> {
    pub fields: Vec<FieldChange>,
    pub steps: S,
    /// The kind on the same server whose change must be done before the rest.
    pub until: &'static str,
}

/// Whose a thing is that already bears the name we want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Ours,
    /// Somebody else's, with what tells so.
    Foreign(String),
}

/// A kind of resource. All functions are pure.
pub trait Kind {
    /// For example `host.sysctl`.
    const NAME: &'static str;
    /// One line for `explain`.
    const SUMMARY: &'static str;
    /// The whole explanation for `explain`: what it manages, what it does not, its inventory section with an example.
    const EXPLAIN: &'static str;
    const RISK: Risk = Risk::Plain;
    /// Whether losing the thing loses data: a server's disk, a bucket's objects.
    const HOLDS_DATA: bool = false;
    /// Whether a thing in the cloud is gone with the server that bears its name.
    const GOES_WITH_SERVER: bool = false;

    /// Where the kind acts: in AWS or on a host. A host's resource bears the name of its server.
    type Step: Step;
    /// What is wanted; saved in the host's manifest, so it holds no secret.
    type Desired: Serialize + DeserializeOwned + Clone + fmt::Debug;
    /// What is there.
    type Actual: Serialize + DeserializeOwned + Clone + fmt::Debug;

    /// The resources of this kind that the inventory asks for.
    fn declare(inventory: &Inventory) -> Vec<Declared<Self::Desired>>;
    /// What to ask. Asking changes nothing.
    fn probes(desired: &Self::Desired) -> Vec<Probe>;
    /// What the answers mean. What could not be asked is `Unknown`.
    fn read(desired: &Self::Desired, answers: &Answers) -> Observed<Self::Actual>;
    /// What differs. Empty means as wanted. Destructures both sides without `..`, so that a new field forces a decision.
    fn diff(desired: &Self::Desired, actual: &Self::Actual) -> Vec<FieldChange>;
    /// How to get from `actual` (absent: `None`) to `desired`, doing only what `fields` says differs.
    fn steps(desired: &Self::Desired, actual: Option<&Self::Actual>, fields: &[FieldChange]) -> Vec<Self::Step>;
    /// Why a record that was found on a host cannot be what an inventory asked for. A record is hostile input: names and paths in
    /// it decide what is taken away.
    fn doubts(_recorded: &Self::Desired) -> Option<String> {
        None
    }
    /// How to take away what is ours. `actual` is not known here: steps must tolerate that parts are gone already.
    fn remove(owned: &Owned) -> Vec<Self::Step>;
    /// How to delete the data that would keep it from being removed. Only planned after the operator named it.
    fn empty(_owned: &Owned) -> Vec<Self::Step> {
        Vec::new()
    }
    /// Fields to show when the resource is created: what it will be.
    fn describe(desired: &Self::Desired) -> Vec<FieldChange>;

    /// Text of the files this resource consists of, before and after, for unified diffs.
    fn files(_desired: &Self::Desired, _actual: Option<&Self::Actual>) -> Vec<FileDiff> {
        Vec::new()
    }

    /// Whose the thing is that was found under our name. Host kinds own what they declare.
    fn owner(_declared: &Address, _environment: &str, _actual: &Self::Actual) -> Owner {
        Owner::Ours
    }

    /// Why this change must not be made, each with a code: it would lock its operator out, or AWS would not take it.
    fn refusals(_desired: &Self::Desired, _actual: &Self::Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        Vec::new()
    }

    /// What is opened at once where the rest of the change must wait: a port that moves is open at both places until the
    /// new one has been proven. `None` for `actual` where nothing is there yet.
    fn opening(_desired: &Self::Desired, _actual: Option<&Self::Actual>) -> Option<Opening<Vec<Self::Step>>> {
        None
    }

    /// What may go wrong for the operator when `fields` are closed, where that depends on them.
    fn risk(_desired: &Self::Desired, _actual: &Self::Actual, _fields: &[FieldChange]) -> Risk {
        Self::RISK
    }

    /// What must hold before a change of this kind is kept, where [`Kind::RISK`] is [`Risk::MayLockOut`].
    fn proofs(_desired: &Self::Desired) -> Vec<Proof> {
        Vec::new()
    }

    /// How to put the cloud back to what was observed, for when a change locked everybody out.
    fn undo(_desired: &Self::Desired, _actual: &Self::Actual) -> Vec<CloudStep> {
        Vec::new()
    }

    /// Words to show with a resource, whether it is as wanted or not. [`Remark::broken`] is for what makes commands that look end
    /// with 2; see decision 83.
    fn remarks(_desired: &Self::Desired, _actual: &Self::Actual) -> Vec<Remark> {
        Vec::new()
    }
}

/// The tags that every resource of ours carries.
pub fn tags(environment: &str, address: &Address) -> Tags {
    Tags::from([(TAG_ENVIRONMENT.to_owned(), environment.to_owned()), (TAG_ADDRESS.to_owned(), address.to_string())])
}

/// Whose a tagged thing is.
pub fn owner_by_tags(declared: &Address, environment: &str, found: &Tags) -> Owner {
    match (found.get(TAG_ENVIRONMENT), found.get(TAG_ADDRESS)) {
        (Some(env), Some(address)) if env == environment && *address == declared.to_string() => Owner::Ours,
        (Some(env), Some(address)) => Owner::Foreign(format!("its tags say environment `{env}`, resource `{address}`")),
        _ => Owner::Foreign("it has no tags of Seawall".to_owned()),
    }
}

/// Whether tags protect a resource from being destroyed.
pub fn protected_by_tags(found: &Tags) -> bool {
    found.get(TAG_KEEP).is_some_and(|value| value == PROTECTED)
}

/// The physical name of a server's thing in the cloud: environment and server, and a word for what it is.
/// Lightsail names are unique per account and region across all kinds of resource, hence the word.
pub fn physical_name(environment: &str, server: &str, what: &str) -> String {
    if what.is_empty() { format!("{environment}-{server}") } else { format!("{environment}-{server}-{what}") }
}

/// The physical name of a server's instance. One that is rebuilt beside what is left of the old one is of a later generation.
pub fn instance_name(environment: &str, server: &str, section: &Server) -> String {
    match section.instance.generation {
        1 => physical_name(environment, server, ""),
        generation => physical_name(environment, server, &format!("g{generation}")),
    }
}

/// Which one of a server's instances has a name; `None` where it is none of them.
pub fn generation(environment: &str, server: &str, instance: &str) -> Option<u32> {
    generation_of(&physical_name(environment, server, ""), instance)
}

/// The same, where `first` is the name of the server's first one.
pub fn generation_of(first: &str, instance: &str) -> Option<u32> {
    let rest = instance.strip_prefix(first)?;
    if rest.is_empty() {
        return Some(1);
    }
    let number = rest.strip_prefix("-g")?.parse().ok()?;
    (number > 1 && rest == format!("-g{number}")).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::generation;

    #[test]
    fn only_a_servers_own_instances_have_a_generation() {
        for (instance, number) in [
            ("prod-db", Some(1)),
            ("prod-db-g2", Some(2)),
            ("prod-db-g10", Some(10)),
            ("prod-db-g1", None),
            ("prod-db-g02", None),
            ("prod-db-2", None),
            ("prod-db2", None),
            ("prod-2-db", None),
        ] {
            assert_eq!(generation("prod", "db", instance), number, "{instance}");
        }
        // A server may have a name that looks like another one's second instance, as long as that one has none.
        assert_eq!(generation("prod", "db-g2", "prod-db-g2"), Some(1));
        assert_eq!(generation("prod", "db-g2", "prod-db-g2-g2"), Some(2));
    }
}
