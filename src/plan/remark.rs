//! What is no change and yet worth saying about a resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::address::Address;

/// How much a remark matters. The first is shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RemarkSeverity {
    /// Something that the inventory asks for does not do its work, or data is being lost, and no apply mends it. Commands that
    /// look end with 2 beside one.
    Broken,
    WorthKnowing,
}

/// A line about a resource, whether that changes or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub severity: RemarkSeverity,
    pub text: String,
}

impl Remark {
    pub fn broken(text: impl Into<String>) -> Self {
        Self { severity: RemarkSeverity::Broken, text: text.into() }
    }

    pub fn is_broken(&self) -> bool {
        self.severity == RemarkSeverity::Broken
    }
}

impl<T: Into<String>> From<T> for Remark {
    /// Most are only worth knowing.
    fn from(text: T) -> Self {
        Self { severity: RemarkSeverity::WorthKnowing, text: text.into() }
    }
}

/// How many of them say that something is broken.
pub fn broken(remarks: &[(Address, Remark)]) -> usize {
    remarks.iter().filter(|(_, remark)| remark.is_broken()).count()
}
