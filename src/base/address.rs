//! The address of a resource: `kind/name`, as a person types it after `--only`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names one resource: its kind and its name within that kind, for example `host.sysctl/db`.
///
/// `Ord` is by kind, then name; every listing is in this order unless a plan's stages say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    kind: String,
    name: String,
}

/// What is wrong with a text that should have been an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an address; an address is `kind/name`, for example `host.sysctl/db`")]
pub struct BadAddress(String);

impl Address {
    /// Makes an address from a kind's name and a resource's name.
    pub fn new(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned() }
    }

    /// The kind, for example `host.sysctl`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name within the kind, for example `db`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.split_once('/') {
            Some((kind, name)) if kind.contains('.') && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(kind, name))
            }
            _ => Err(BadAddress(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let address: Address = "host.sysctl/db".parse().expect("an address");
        assert_eq!(address.to_string(), "host.sysctl/db");
        assert_eq!((address.kind(), address.name()), ("host.sysctl", "db"));
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for bad in ["", "db", "host.sysctl", "host.sysctl/", "host/db", "a.b/c/d"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
