//! Everything the service remembers, as one JSON file.
//!
//! Resources are kept by region and name in one map per kind. Times are seconds since 1970, as on the wire. What
//! merely takes time (operations, snapshots, host keys) holds the time at which it is done and needs no timer.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::read;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::machine::{HostKey, PortRule};

/// Region and name.
pub type Key = String;

/// How long things take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// From a machine being up to the state `running`.
    pub running: f64,
    /// How long a deleted instance stays visible as `shutting-down`.
    pub deleting: f64,
    /// From `running` to the first host key that the service has seen.
    pub host_keys: f64,
    /// From Started to Succeeded, for operations without a machine.
    pub operation: f64,
    /// From `pending` to `available`, for snapshots.
    pub snapshot: f64,
}

impl Default for Delays {
    /// Long enough that a client which does not wait fails, short enough for an interactive lab.
    fn default() -> Self {
        Self { running: 0.5, deleting: 0.5, host_keys: 0.5, operation: 0.2, snapshot: 1.0 }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub account: String,
    pub instances: BTreeMap<Key, Instance>,
    pub static_ips: BTreeMap<Key, StaticIp>,
    pub key_pairs: BTreeMap<Key, KeyPair>,
    pub snapshots: BTreeMap<Key, Snapshot>,
    pub alarms: BTreeMap<Key, Alarm>,
    pub operations: Vec<Operation>,
    pub next_number: u32,
}

/// What all resources have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Common {
    pub name: String,
    pub arn: String,
    pub region: String,
    pub zone: String,
    pub created_at: f64,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    pub common: Common,
    pub blueprint: String,
    pub bundle: String,
    pub key_pair: String,
    /// The key's line, as it was when the instance was made: deleting the pair does not take it away.
    pub authorized_key: String,
    pub user_data: String,
    /// The state's name, for example `pending`.
    pub state: String,
    pub private_v4: String,
    pub v4: Option<String>,
    pub v6: Option<String>,
    pub ip_address_type: String,
    pub ports: Vec<PortRule>,
    pub host_keys: Vec<HostKey>,
    /// From when on the service tells the host keys.
    pub witnessed_at: Option<f64>,
    /// `HH:00` in UTC where automatic snapshots are on.
    pub auto_snapshot: Option<String>,
    /// When automatic snapshots were taken, oldest first. They go with the instance.
    #[serde(default)]
    pub auto_snapshots: Vec<f64>,
    pub http_tokens: String,
    pub http_endpoint: String,
    pub http_hop_limit: i64,
    /// An injected fault keeps it `pending`.
    pub stuck: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StaticIp {
    pub common: Common,
    pub address: String,
    pub attached_to: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyPair {
    pub common: Common,
    pub public_key: String,
    pub fingerprint: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub common: Common,
    pub instance: String,
    pub instance_arn: String,
    pub blueprint: String,
    pub bundle: String,
    pub size_gb: i64,
    pub available_at: f64,
    /// A copy of an automatic one.
    #[serde(default)]
    pub from_auto: bool,
    /// What it was being copied from went before it was whole.
    #[serde(default)]
    pub broken_off: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alarm {
    pub common: Common,
    pub monitored: String,
    pub monitored_arn: String,
    /// The request's members that come back as they are.
    pub settings: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operation {
    pub id: String,
    pub resource: String,
    pub resource_type: String,
    pub region: String,
    pub zone: String,
    pub kind: String,
    pub details: String,
    pub created_at: f64,
    /// When it ends; none while a machine works on it.
    pub done_at: Option<f64>,
    /// Why it fails, if it does.
    pub error: Option<String>,
}

/// The newest operations that are kept; the API forgets older ones too.
const OPERATIONS_KEPT: usize = 2000;

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| (passed.as_secs_f64() * 1000.0).floor() / 1000.0)
}

pub fn key(region: &str, name: &str) -> Key {
    format!("{region}/{name}")
}

/// A random identifier in the usual grouping.
pub fn uuid() -> String {
    let bits = fastrand::u128(..);
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

impl State {
    /// Reads a saved state; a missing file is an empty state.
    pub fn load(file: &Path, account: &str) -> io::Result<Self> {
        let mut state: Self = match read::ours(file, read::OURS) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error),
        };
        account.clone_into(&mut state.account);
        Ok(state)
    }

    /// Puts other addresses in the place of those of the lab; a second time changes nothing.
    pub fn move_addresses(&mut self, here: impl Fn(IpAddr) -> IpAddr) {
        let moved = |text: &mut String| {
            if let Ok(address) = text.parse() {
                *text = here(address).to_string();
            }
        };
        for instance in self.instances.values_mut() {
            instance.v4.iter_mut().chain(&mut instance.v6).for_each(moved);
        }
        self.static_ips.values_mut().map(|ip| &mut ip.address).for_each(moved);
    }

    /// Writes beside and renames, so that a killed daemon leaves the old or the new state.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let beside = file.with_extension("new");
        fs_err::write(&beside, serde_json::to_vec_pretty(self).map_err(io::Error::other)?)?;
        fs_err::rename(beside, file)
    }

    pub fn common(&self, kind: &str, region: &str, zone: &str, name: &str, tags: BTreeMap<String, String>) -> Common {
        Common {
            name: name.to_owned(),
            arn: format!("arn:aws:lightsail:{region}:{}:{kind}/{}", self.account, uuid()),
            region: region.to_owned(),
            zone: zone.to_owned(),
            created_at: now(),
            tags,
        }
    }

    /// Names are unique per account and region, across all kinds.
    pub fn refuse_taken(&self, region: &str, name: &str) -> Result<(), ApiError> {
        let key = key(region, name);
        let taken = self.instances.contains_key(&key)
            || self.static_ips.contains_key(&key)
            || self.key_pairs.contains_key(&key)
            || self.snapshots.contains_key(&key)
            || self.alarms.contains_key(&key);
        if taken {
            return Err(ApiError::invalid(format!("Some names are already in use: {name}"))
                .tip("Names must be unique for each AWS Region in your account, whatever the kind of resource."));
        }
        Ok(())
    }

    pub fn instance(&self, region: &str, name: &str) -> Result<&Instance, ApiError> {
        self.instances.get(&key(region, name)).ok_or_else(|| ApiError::not_found("Instance", name))
    }

    pub fn instance_mut(&mut self, region: &str, name: &str) -> Result<&mut Instance, ApiError> {
        self.instances.get_mut(&key(region, name)).ok_or_else(|| ApiError::not_found("Instance", name))
    }

    /// Records an operation and returns it as it is answered.
    pub fn operation(&mut self, kind: &str, resource_type: &str, on: &Common, done_at: Option<f64>) -> Operation {
        let operation = Operation {
            id: uuid(),
            resource: on.name.clone(),
            resource_type: resource_type.to_owned(),
            region: on.region.clone(),
            zone: on.zone.clone(),
            kind: kind.to_owned(),
            details: String::new(),
            created_at: now(),
            done_at,
            error: None,
        };
        if self.operations.len() >= OPERATIONS_KEPT {
            self.operations.remove(0);
        }
        self.operations.push(operation.clone());
        operation
    }

    /// Ends an operation that a machine worked on.
    pub fn finish(&mut self, id: &str, error: Option<String>) {
        if let Some(operation) = self.operations.iter_mut().find(|o| o.id == id) {
            operation.done_at = Some(now());
            operation.error = error;
        }
    }
}

impl Common {
    /// The members that all resources show.
    pub fn view(&self, resource_type: &str) -> Value {
        let tags: Vec<Value> = self.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        json!({
            "name": self.name, "arn": self.arn, "createdAt": self.created_at, "resourceType": resource_type,
            "supportCode": format!("000000000000/{}", self.arn.rsplit('/').next().unwrap_or_default()),
            "location": {"availabilityZone": self.zone, "regionName": self.region}, "tags": tags,
        })
    }
}

impl Operation {
    pub fn view(&self) -> Value {
        let ended = self.done_at.is_some_and(|at| at <= now());
        let status = match (ended, &self.error) {
            (false, _) => "Started",
            (true, None) => "Succeeded",
            (true, Some(_)) => "Failed",
        };
        let mut view = json!({
            "id": self.id, "resourceName": self.resource, "resourceType": self.resource_type,
            "createdAt": self.created_at, "isTerminal": ended, "operationType": self.kind, "status": status,
            "operationDetails": self.details,
            "statusChangedAt": if ended { self.done_at.unwrap_or(self.created_at) } else { self.created_at },
            "location": {"availabilityZone": self.zone, "regionName": self.region},
        });
        // The model has no type for changes of tags and key pairs; an empty one is no member of its enumeration.
        if self.kind.is_empty()
            && let Some(members) = view.as_object_mut()
        {
            members.remove("operationType");
        }
        if let (true, Some(error)) = (ended, &self.error) {
            view["errorCode"] = json!("OperationFailed");
            view["errorDetails"] = json!(error);
        }
        view
    }
}

/// Puts the members of `more` into the object `base`.
pub fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}
