//! List prices in US dollars, each with where it is from and as of when. Nothing here asks AWS.
//!
//! Prices marked as not verified come from second hand; a plan that counts on one says so.

/// A size of a Lightsail instance, Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub id: &'static str,
    pub monthly_cents: u64,
    pub memory_mib: u32,
    pub vcpus: u32,
    pub disk_gb: u32,
    pub evidence: Evidence,
}

impl Bundle {
    /// List price of an hour, in thousandths of a US cent, rounded up. AWS counts 744 hours for a month, the longest that there is.
    pub fn hourly_millicents(&self) -> u64 {
        (self.monthly_cents * 1_000).div_ceil(744)
    }
}

/// How a price is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub source: &'static str,
    /// Year and month in which it was looked up.
    pub as_of: &'static str,
    /// Whether it was read from AWS itself.
    pub verified: bool,
}

const LIGHTSAIL_PAGE: Evidence = Evidence { source: "AWS Lightsail pricing", as_of: "2026-11", verified: true };
const USERS: Evidence = Evidence { source: "reports of users", as_of: "2026-11", verified: false };

const fn bundle(id: &'static str, dollars: u64, memory_mib: u32, vcpus: u32, disk_gb: u32) -> Bundle {
    Bundle { id, monthly_cents: dollars * 100, memory_mib, vcpus, disk_gb, evidence: LIGHTSAIL_PAGE }
}

/// The bundles that AWS offers for Linux today.
pub const BUNDLES: [Bundle; 9] = [
    bundle("nano_3_0", 5, 512, 2, 20),
    bundle("micro_3_0", 7, 1_024, 2, 40),
    bundle("small_3_0", 12, 2_048, 2, 60),
    bundle("medium_3_0", 24, 4_096, 2, 80),
    bundle("large_3_0", 44, 8_192, 2, 160),
    bundle("xlarge_3_0", 84, 16_384, 4, 320),
    bundle("2xlarge_3_0", 164, 32_768, 8, 640),
    Bundle { id: "nano_ipv6_3_0", monthly_cents: 350, memory_mib: 512, vcpus: 2, disk_gb: 20, evidence: USERS },
    Bundle { id: "small_ipv6_3_0", monthly_cents: 1_000, memory_mib: 2_048, vcpus: 2, disk_gb: 60, evidence: USERS },
];

/// A price per unit, in thousandths of a US cent, so that S3's prices are whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub millicents: u64,
    pub per: &'static str,
    pub evidence: Evidence,
}

/// S3 Standard in ca-central-1.
pub const S3_STANDARD: Price = Price {
    millicents: 2_500,
    per: "GB and month",
    evidence: Evidence { source: "AWS price list for ca-central-1", as_of: "2026-07", verified: true },
};

/// What becomes of the automatic snapshots of an instance that goes.
pub fn kept_snapshot(instance: &str) -> String {
    format!(
        "its newest automatic snapshot, if there is one, is copied first to {instance}-kept-TIME: {} until \
         `aws lightsail delete-instance-snapshot`",
        SNAPSHOT.in_words()
    )
}

/// Lightsail snapshots.
pub const SNAPSHOT: Price = Price { millicents: 5_000, per: "GB and month", evidence: LIGHTSAIL_PAGE };

/// A CloudWatch alarm beyond [`FREE_ALARMS`].
pub const ALARM: Price = Price {
    millicents: 10_000,
    per: "alarm and month",
    evidence: Evidence { source: "secondary pages about CloudWatch", as_of: "2026-11", verified: false },
};

/// Alarms per account that cost nothing.
pub const FREE_ALARMS: usize = 10;

/// The bundle of an id.
pub fn bundle_of(id: &str) -> Option<&'static Bundle> {
    BUNDLES.iter().find(|bundle| bundle.id == id)
}

impl Price {
    /// For example `0.025 USD per GB and month`.
    pub fn in_words(&self) -> String {
        let fraction = format!("{:05}", self.millicents % 100_000);
        let fraction = fraction.trim_end_matches('0');
        let fraction = if fraction.len() < 2 { format!("{fraction:0<2}") } else { fraction.to_owned() };
        format!("{}.{fraction} USD per {}", self.millicents / 100_000, self.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_in_words() {
        assert_eq!(S3_STANDARD.in_words(), "0.025 USD per GB and month");
        assert_eq!(ALARM.in_words(), "0.10 USD per alarm and month");
    }
}
