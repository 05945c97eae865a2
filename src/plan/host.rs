//! How a host is reached.

use serde::{Deserialize, Serialize};

/// Where and as whom to log in, and which host keys to accept. There is no trust on first use: an endpoint without
/// host keys is not connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The server's name in the inventory, for messages.
    pub server: String,
    /// IP address that the cloud reports.
    pub address: String,
    pub port: u16,
    pub user: String,
    /// Host keys as known_hosts has them: `ssh-ed25519 AAAA…`. They come from the cloud's API.
    pub host_keys: Vec<String>,
}
