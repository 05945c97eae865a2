//! Who can reach what on a server: what each line of defence says, and what comes of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One server as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reachability {
    pub server: String,
    /// What is declared, in the order of the ports; IPv4 and IPv6 apart.
    pub declared: Vec<Path>,
    /// What answers somebody whom nobody declared.
    pub undeclared: Vec<Exposure>,
    /// Why a part could not be looked at, where that is so.
    pub unseen: Vec<String>,
}

/// A declared source and port, through every line of defence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub port: u16,
    /// A network.
    pub from: String,
    pub why: String,
    /// Lightsail's firewall.
    pub cloud: Gate,
    /// The host's own firewall.
    pub host: Gate,
    /// The program that listens, on an address of the source's family.
    pub listener: Option<String>,
}

/// What a firewall does with all of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    Open,
    Closed,
    Unknown,
}

/// Something that answers and is not declared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exposure {
    pub protocol: String,
    pub port: u16,
    /// The widest network from which it can be reached.
    pub from: String,
    pub listener: String,
}

impl Path {
    /// Whether the source reaches a program; `None` where a part is not known.
    pub fn reaches(&self) -> Option<bool> {
        match (self.cloud, self.host) {
            (Gate::Closed, _) | (_, Gate::Closed) => Some(false),
            (Gate::Open, Gate::Open) => Some(self.listener.is_some()),
            (Gate::Unknown, _) | (_, Gate::Unknown) => None,
        }
    }
}
