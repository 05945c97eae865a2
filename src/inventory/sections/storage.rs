//! What happens to objects in a bucket with age.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::scalar::TimeSpan;

/// What happens to objects of one age: one of `to` and `delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aging {
    /// Key prefix without slashes at its ends.
    pub prefix: String,
    /// Age in whole days. S3 acts at the next midnight UTC.
    pub after: TimeSpan,
    /// The storage class that they are moved to. Nothing comes back from there.
    #[serde(default)]
    pub to: Option<StorageClass>,
    /// They are deleted; what was deleted stays as an old version for `noncurrent_days`.
    #[serde(default)]
    pub delete: bool,
}

/// Nobody deletes or overwrites a version of an object for so many days after it was written (S3 Object Lock, default
/// retention of the bucket). Once on, it cannot be switched off; another number holds for what is written later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Days, from 1 to 36500.
    pub days: u32,
    #[serde(default)]
    pub mode: LockMode,
}

/// Who may end a lock before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Only who is allowed `s3:BypassGovernanceRetention`: no key that Seawall makes, and no policy that it prints.
    #[default]
    Governance,
    /// Nobody, the account's root included.
    Compliance,
}

impl LockMode {
    /// S3's word.
    pub const fn api(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

impl Aging {
    /// The age in days, where it is a number of whole ones that S3 takes.
    pub fn days(&self) -> Option<i32> {
        const DAY: u64 = 86_400;
        let seconds = self.after.seconds();
        (seconds > 0 && seconds.is_multiple_of(DAY)).then(|| i32::try_from(seconds / DAY).ok()).flatten()
    }
}

/// Storage classes that objects may be moved to, from the dearest to the cheapest. S3 moves them in this direction only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageClass {
    /// Read at once.
    StandardIa,
    /// Read at once, at a price.
    GlacierInstant,
    /// Read after hours.
    Glacier,
    /// Read after half a day and more.
    DeepArchive,
}

impl StorageClass {
    /// S3's word.
    pub const fn api(self) -> &'static str {
        match self {
            Self::StandardIa => "STANDARD_IA",
            Self::GlacierInstant => "GLACIER_IR",
            Self::Glacier => "GLACIER",
            Self::DeepArchive => "DEEP_ARCHIVE",
        }
    }

    /// As the inventory writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::StandardIa => "standard-ia",
            Self::GlacierInstant => "glacier-instant",
            Self::Glacier => "glacier",
            Self::DeepArchive => "deep-archive",
        }
    }

    /// Whether an object must be asked for hours before it can be read.
    pub const fn is_archive(self) -> bool {
        matches!(self, Self::Glacier | Self::DeepArchive)
    }

    /// Seconds until an object can be read once S3 is asked for it, at the most that its standard retrieval takes; 0 for what is read
    /// at once. The cheaper bulk retrieval takes up to 12 hours from glacier and 48 from deep-archive.
    pub const fn thaw_s(self) -> u64 {
        match self {
            Self::StandardIa | Self::GlacierInstant => 0,
            Self::Glacier => 5 * 3600,
            Self::DeepArchive => 12 * 3600,
        }
    }

    /// Days that are billed at least (S3 pricing, minimum storage duration).
    pub const fn minimum_days(self) -> i32 {
        match self {
            Self::StandardIa => 30,
            Self::GlacierInstant | Self::Glacier => 90,
            Self::DeepArchive => 180,
        }
    }
}
