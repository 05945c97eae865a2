//! The releases of Debian that a host can run.

use serde::{Deserialize, Serialize};

/// What a host runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Release {
    #[default]
    #[serde(rename = "debian_12")]
    Debian12,
    #[serde(rename = "debian_13")]
    Debian13,
}

impl Release {
    /// What an instance of a Lightsail blueprint runs here. There are Debian's packages and no others, so every other
    /// system is played by Debian 12.
    pub fn of_blueprint(id: &str) -> Self {
        if id == "debian_13" { Self::Debian13 } else { Self::Debian12 }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "Debian 12",
            Self::Debian13 => "Debian 13",
        }
    }

    pub(super) fn suite(self) -> &'static str {
        match self {
            Self::Debian12 => "bookworm",
            Self::Debian13 => "trixie",
        }
    }
}
