//! Three answers, never two: present, absent, or not seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::address::Address;

/// What was found when a resource was looked at. `Unknown` never becomes "nothing to do", and never "create".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    Present(T),
    Absent,
    Unknown(Unseen),
}

/// Why something could not be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// What it lives on does not exist yet.
    NotYetCreated(Address),
    /// Nobody answered.
    Unreachable(String),
    /// Somebody answered, and said no.
    Refused(String),
    /// An answer came that could not be understood.
    Misread(String),
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotYetCreated(address) => write!(f, "`{address}` does not exist yet"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Misread(why) => write!(f, "not understood: {why}"),
        }
    }
}

impl<T> Observed<T> {
    /// Applies a function to what is present.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Self::Present(value) => Observed::Present(f(value)),
            Self::Absent => Observed::Absent,
            Self::Unknown(why) => Observed::Unknown(why),
        }
    }

    /// Chains a reading that can itself fail to see.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Observed<U>) -> Observed<U> {
        match self {
            Self::Present(value) => f(value),
            Self::Absent => Observed::Absent,
            Self::Unknown(why) => Observed::Unknown(why),
        }
    }

    pub fn as_ref(&self) -> Observed<&T> {
        match self {
            Self::Present(value) => Observed::Present(value),
            Self::Absent => Observed::Absent,
            Self::Unknown(why) => Observed::Unknown(why.clone()),
        }
    }

    /// The value, if it is there. For display; decisions match on all three.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}
