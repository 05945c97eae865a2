//! The operating systems that Seawall knows, and what each one's own archive brings. Deliberately absent: which of them
//! Lightsail has in a region, which only its `GetBlueprints` knows.

use serde::{Deserialize, Serialize};

/// A release of Debian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Release {
    #[default]
    #[serde(rename = "debian_12")]
    Debian12,
    #[serde(rename = "debian_13")]
    Debian13,
}

/// All of them, by their blueprints.
pub const BLUEPRINTS: [&str; 2] = [Release::Debian12.blueprint(), Release::Debian13.blueprint()];

impl Release {
    /// The release of a Lightsail blueprint, and Debian 12 for every other: the inventory's check refuses those, and the
    /// sandbox plays them, for instances that are not ours, with the packages that it has.
    pub fn of_blueprint(id: &str) -> Self {
        [Self::Debian12, Self::Debian13].into_iter().find(|release| release.blueprint() == id).unwrap_or_default()
    }

    const fn blueprint(self) -> &'static str {
        match self {
            Self::Debian12 => "debian_12",
            Self::Debian13 => "debian_13",
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "Debian 12",
            Self::Debian13 => "Debian 13",
        }
    }

    /// The name that archives know it by.
    pub fn suite(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
        }
    }

    /// The major version of PostgreSQL that its own archive brings.
    pub fn postgres(self) -> u16 {
        match self {
            Self::Debian12 => 15,
            Self::Debian13 => 17,
        }
    }

    /// Whether its own archive brings TimescaleDB, in the Apache edition, for its own PostgreSQL.
    pub fn has_timescaledb(self) -> bool {
        match self {
            Self::Debian12 => false,
            Self::Debian13 => true,
        }
    }
}
