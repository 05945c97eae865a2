//! What a lab tells of its hosts.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde::Serialize;

/// A host that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    /// As known_hosts has them, without the name: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Running,
    /// Between two boots.
    Rebooting,
    Stopped,
}

/// What a lab knows of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    pub name: String,
    pub state: HostState,
    pub user: String,
    #[serde(flatten)]
    pub at: Running,
    /// The supervisor, whose network namespace is the host's.
    pub pid: Option<u32>,
}
