//! State documents of cloud resources: what AWS says, in one shape per resource, free of SDK types.
//!
//! `reach` fills them, kinds compare them, test cases write them by hand. Unordered things are sorted when read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Tag that says which environment a resource belongs to.
pub const TAG_ENVIRONMENT: &str = "seawall:environment";
/// Tag that says which resource of the inventory it is, as `kind/name`.
pub const TAG_ADDRESS: &str = "seawall:address";
/// Tag that protects a resource although its line in the inventory is gone. Its value is [`PROTECTED`].
pub const TAG_KEEP: &str = "seawall:keep";
/// Value of [`TAG_KEEP`] on a protected resource.
pub const PROTECTED: &str = "protected";
/// Tag with the digest of what a resource was made from, where AWS cannot be asked for it (an imported key).
pub const TAG_SOURCE: &str = "seawall:source";
/// Tag that says what a resource beside the inventory is for. Its value is [`THROW_AWAY`].
pub const TAG_PURPOSE: &str = "seawall:purpose";
/// Value of [`TAG_PURPOSE`]: made for a rehearsal, and removed after it.
pub const THROW_AWAY: &str = "throw-away";
/// Tag with the time from which a throw-away resource is certainly nobody's any more, in RFC 3339.
pub const TAG_EXPIRES: &str = "seawall:expires";

pub type Tags = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    pub name: String,
    pub fingerprint: String,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub name: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down`, `terminated`.
    pub state: String,
    pub bundle: String,
    pub blueprint: String,
    pub zone: String,
    /// The login user that AWS names for the blueprint.
    pub username: String,
    pub public_ip: Option<String>,
    pub ipv6: Vec<String>,
    pub is_static_ip: bool,
    pub key_pair: String,
    /// Hour of the automatic snapshot in UTC, `HH:00`, where the add-on is on.
    pub auto_snapshot: Option<String>,
    /// `required` or `optional`: whether IMDSv2 is enforced.
    pub http_tokens: String,
    /// How many hops a metadata answer may travel; 1 keeps containers out.
    pub hop_limit: i32,
    /// Host keys that Lightsail witnessed, as known_hosts has them. Empty right after boot.
    pub host_keys: Vec<String>,
    /// TCP ports that Lightsail opens, one by one. Used to find the port of sshd only: no plan of the instance depends
    /// on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_tcp: Vec<u16>,
    #[serde(default)]
    pub tags: Tags,
}

/// Lightsail cannot tag static IPs: whose it is follows from its name and from what it is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticIp {
    pub name: String,
    pub address: String,
    pub attached_to: Option<String>,
}

/// The whole set of open ports of one instance. Lightsail replaces the set as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub rules: Vec<PortRule>,
}

/// One normalised rule; sets are sorted. `Ord` makes rule sets comparable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortRule {
    /// `tcp`, `udp`, `icmp`, `icmpv6` or `all`.
    pub protocol: String,
    pub from: i32,
    pub to: i32,
    pub cidrs: Vec<String>,
    pub ipv6_cidrs: Vec<String>,
    /// `lightsail-connect` is the only alias that AWS has.
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    pub name: String,
    pub region: String,
    /// `Enabled`, `Suspended` or `Off` (never switched on).
    pub versioning: String,
    /// `AES256`, `aws:kms` or `none`.
    pub encryption: String,
    /// All four blocks are on.
    pub public_access_blocked: bool,
    /// `BucketOwnerEnforced`, `BucketOwnerPreferred`, `ObjectWriter` or `none`.
    pub ownership: String,
    /// The bucket policy as JSON.
    pub policy: Option<Value>,
    /// Lifecycle rules in AWS's JSON field names, by rule id, normalised.
    pub lifecycle: BTreeMap<String, LifecycleRule>,
    /// The default retention of new objects; `None` also where Object Lock is on and sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    #[serde(default)]
    pub tags: Tags,
}

/// For how long nobody may delete a version of what is written into a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: String,
    pub days: i32,
}

impl std::fmt::Display for ObjectLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} days, {}", self.days, self.mode.to_ascii_lowercase())
    }
}

/// What a bucket does with objects by their age: clean-up of failed uploads and of old versions, and what the inventory
/// says below a prefix. A foreign rule keeps what we do not model in `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleRule {
    pub enabled: bool,
    pub prefix: String,
    pub abort_incomplete_days: Option<i32>,
    pub noncurrent_days: Option<i32>,
    pub expired_delete_marker: bool,
    /// Storage class, in S3's words, to the days after which a current object is moved there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transitions: BTreeMap<String, i32>,
    /// Days after which a current object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_days: Option<i32>,
    /// Anything else the rule does (dates, other filters, moves of old versions), in words: never ours.
    #[serde(default)]
    pub other: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub path: String,
    pub arn: String,
    /// Inline policies: name to document.
    pub policies: BTreeMap<String, Value>,
    /// ARNs of managed policies that are attached.
    pub attached: Vec<String>,
    pub groups: Vec<String>,
    pub keys: Vec<AccessKey>,
    /// Whether it may log in to the console with a password.
    #[serde(default)]
    pub console: Console,
    /// ARN of the policy that bounds what it may do, whatever its own policies say.
    #[serde(default)]
    pub boundary: Option<String>,
    #[serde(default)]
    pub tags: Tags,
}

/// Whether a user has a password for the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Console {
    #[default]
    None,
    Password,
    /// Nobody would say.
    NotKnown,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    pub id: String,
    pub active: bool,
    /// RFC 3339, UTC.
    pub created: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub name: String,
    pub arn: String,
    pub policy: Option<Value>,
    pub subscriptions: Vec<Subscription>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    pub protocol: String,
    pub endpoint: String,
    /// `None` until the person behind the endpoint has confirmed.
    pub arn: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricAlarm {
    pub name: String,
    pub arn: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`. Not compared; shown.
    pub state: String,
    pub spec: AlarmSpec,
    #[serde(default)]
    pub tags: Tags,
}

/// What an alarm is set to. CloudWatch overwrites all of it on every put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmSpec {
    pub description: String,
    pub namespace: String,
    pub metric: String,
    pub dimensions: BTreeMap<String, String>,
    /// `Average`, `Maximum`, `Minimum`, `Sum` or `SampleCount`.
    pub statistic: String,
    /// As CloudWatch names it, for example `GreaterThanThreshold`.
    pub comparison: String,
    pub threshold: f64,
    /// Seconds.
    pub period_s: i32,
    pub evaluation_periods: i32,
    /// `breaching`, `notBreaching`, `ignore` or `missing`.
    pub missing_data: String,
    pub actions_enabled: bool,
    pub alarm_actions: Vec<String>,
    pub ok_actions: Vec<String>,
    pub insufficient_data_actions: Vec<String>,
}

/// What the account and region hold, as far as our kinds know it: ours by tag, and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Census {
    pub entries: Vec<CensusEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CensusEntry {
    /// Our kind, for example `lightsail.instance`.
    pub kind: String,
    /// Physical name.
    pub name: String,
    /// ARN where later steps need it (topics).
    pub arn: Option<String>,
    /// For a static IP: the instance that it is attached to.
    pub attached_to: Option<String>,
    /// For an instance: whether Lightsail takes automatic snapshots of it, which go with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_snapshots: bool,
    pub tags: Tags,
}
