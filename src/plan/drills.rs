//! A drill as data: a restore that was carried out to be measured, what it proved, and what it missed.
//!
//! Times are seconds since 1970-01-01 UTC by the server's clock; sizes are bytes. What was not measured is `None`: a drill
//! that ended early has measured less, and nothing of it counts as met.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::plan::backups::Backups;
use crate::plan::restores::{Fact, Repository, RestorePlan};

/// The heartbeat row is written so often; nothing that is measured by it is finer.
pub const HEARTBEAT_S: i64 = 60;

/// Where a drill restores to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A copy beside the database on the server itself. It proves the repository, not the loss of a server.
    Beside,
    /// The same from the second repository. It says nothing of the first one, and is held against no objective.
    BesideFromCopy,
    /// A server of its own, from nothing, as after a loss: without the fence, archiving, and the move of the address.
    Fresh,
    /// The same from the second repository: as after the loss of the server and its bucket. It says nothing of the first one.
    FreshFromCopy,
}

impl Scenario {
    /// It was on a server of its own.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::FreshFromCopy)
    }

    /// Where a drill restored to, and which repository it read.
    pub fn of(fresh: bool, repository: Repository) -> Self {
        match (fresh, repository) {
            (false, Repository::First) => Self::Beside,
            (false, Repository::Copy) => Self::BesideFromCopy,
            (true, Repository::First) => Self::Fresh,
            (true, Repository::Copy) => Self::FreshFromCopy,
        }
    }

    /// Which repository it read.
    pub fn repository(self) -> Repository {
        match self {
            Self::Beside | Self::Fresh => Repository::First,
            Self::BesideFromCopy | Self::FreshFromCopy => Repository::Copy,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::BesideFromCopy => "beside, from the copy",
            Self::Fresh => "fresh",
            Self::FreshFromCopy => "fresh, from the copy",
        }
    }
}

/// What is broken on purpose, so that a drill must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    Segment,
    Passphrase,
    StorageClass,
    Timeline,
}

impl Broken {
    /// The one that a word means.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Segment, Self::Passphrase, Self::StorageClass, Self::Timeline].into_iter().find(|one| one.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Passphrase => "passphrase",
            Self::StorageClass => "storage-class",
            Self::Timeline => "timeline",
        }
    }

    /// The findings that show that the drill saw just this.
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Self::Segment => &["restore-wal-missing", "restore-target-not-reached"],
            Self::Passphrase => &["restore-fetch"],
            Self::StorageClass => &["backup-objects-archived"],
            // To the newest moment nothing is fetched: the archive has no segment there. Otherwise newer versions of pgBackRest
            // look at the timeline before they fetch anything.
            Self::Timeline => &["restore-no-archive", "restore-timeline", "restore-fetch"],
        }
    }
}

/// Everything about one drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Names the drill, and its restore on the server.
    pub id: String,
    pub environment: String,
    /// Of the local cloud, not of AWS.
    pub sandbox: bool,
    pub server: String,
    /// Lightsail's name for the size of the server.
    pub bundle: String,
    pub scenario: Scenario,
    /// What was asked for: `latest`, `random` or a target.
    pub asked: String,
    /// What was broken on purpose. Such a drill never passes; it shows that a drill can fail.
    pub broken: Option<Broken>,
    /// Of the inventory that it ran with.
    pub inventory: Digest,
    /// Of Seawall.
    pub version: String,
    /// Who ran it, and on which machine.
    pub by: String,
    /// The disaster: the moment in which the server would have been lost.
    pub began: i64,
    /// When the last of it was over, the removal of the copy included.
    pub ended: i64,
    /// The server's clock minus that of the machine that ran this, in seconds, to the second.
    pub clock_offset_s: i64,
    /// What was decided; `None` where nothing could be chosen.
    pub plan: Option<RestorePlan>,
    pub phases: Vec<Lasted>,
    pub throughput: Throughput,
    pub rpo: Rpo,
    pub rto: Rto,
    /// What the copy was asked and what its files were checked against, with the answers.
    pub verification: Vec<Fact>,
    /// What should be known and is no miss.
    pub remarks: Vec<String>,
    pub evidence: Evidence,
    pub cleanup: Cleanup,
    /// List price of the fresh instance for the hours that it was there, begun ones whole, in thousandths of a US cent; `None`
    /// where there was none or its bundle has no known price.
    pub cost_millicents: Option<u64>,
    /// Everything that was not as it must be.
    pub misses: Vec<Diagnostic>,
    pub passed: bool,
}

/// A part of a drill, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lasted {
    pub name: String,
    pub seconds: i64,
}

/// How fast it went. Rates are not given where the time was below a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// Size of the databases as PostgreSQL counts it.
    pub database_bytes: Option<u64>,
    /// Files of the cluster as they were fetched.
    pub fetched_bytes: Option<u64>,
    pub fetch_bytes_per_s: Option<u64>,
    /// Segments of WAL that were replayed at most.
    pub segments: u64,
}

/// How much was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rpo {
    /// As the inventory states it, in seconds.
    pub objective_s: Option<u64>,
    /// What the loss is measured to: the disaster, or, where an older moment was restored, that moment. Then it says nothing
    /// about the objective.
    pub measured_to: Option<i64>,
    pub counts: bool,
    /// First witness: the heartbeat row that the copy has.
    pub heartbeat: Option<i64>,
    /// Second witness: the last transaction that PostgreSQL says it replayed.
    pub last_commit: Option<i64>,
    /// The loss in seconds by the older of both.
    pub lost_s: Option<i64>,
    /// The heartbeat is written so often, in seconds.
    pub resolution_s: i64,
}

/// How long it took from the disaster on, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rto {
    /// As the inventory states it.
    pub objective_s: Option<u64>,
    /// Until the copy was open and had committed a transaction; on a fresh instance, until roles and access were set up, too.
    pub serve_s: Option<i64>,
    /// Until it was verified, too.
    pub trust_s: Option<i64>,
    pub projection: Option<Projection>,
}

/// The time to serve at another size, and under which conditions that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Size of the database now, and as it was restored.
    pub bytes_now: u64,
    pub bytes_restored: u64,
    pub serve_s: i64,
    pub conditions: Vec<String>,
}

/// What the server's program told, word for word, and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub told: String,
    pub told_digest: Digest,
}

impl Evidence {
    pub fn of(told: &str) -> Self {
        Self { told: told.to_owned(), told_digest: Digest::of_bytes(told.as_bytes()) }
    }
}

/// Whether the server was asked again after the copy was removed, and what of it was there still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cleanup {
    /// It was asked, and nothing was there.
    pub proven: bool,
    pub left: Vec<String>,
    /// Why it is not known.
    pub unknown: Option<String>,
}

/// One line of the history of drills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Past {
    pub id: String,
    pub server: String,
    pub bundle: String,
    pub scenario: Scenario,
    /// The server ran it by its schedule, and keeps what came of it; the state bucket knows nothing of it.
    #[serde(default)]
    pub by_itself: bool,
    pub asked: String,
    pub broken: Option<Broken>,
    pub began: i64,
    pub passed: bool,
    /// Codes of the misses.
    pub misses: Vec<String>,
    /// As in [`Rpo`], where it counts.
    pub lost_s: Option<i64>,
    /// The heartbeat row that the copy had, where the newest moment was restored.
    pub heartbeat: Option<i64>,
    /// As in [`Rto`].
    pub serve_s: Option<i64>,
    pub trust_s: Option<i64>,
    pub fetch_s: Option<i64>,
    /// Size of the database as it was restored.
    pub bytes: Option<u64>,
    /// Label of the backup that was restored; older lists do not have it.
    #[serde(default)]
    pub set: Option<String>,
}

impl Past {
    pub fn of(drill: &Drill) -> Self {
        let counts = drill.rpo.counts;
        Self {
            id: drill.id.clone(),
            server: drill.server.clone(),
            bundle: drill.bundle.clone(),
            scenario: drill.scenario,
            by_itself: false,
            asked: drill.asked.clone(),
            broken: drill.broken,
            began: drill.began,
            passed: drill.passed,
            misses: drill.misses.iter().map(|miss| miss.code.clone()).collect(),
            lost_s: drill.rpo.lost_s.filter(|_| counts),
            heartbeat: drill.rpo.heartbeat.filter(|_| counts),
            serve_s: drill.rto.serve_s,
            trust_s: drill.rto.trust_s,
            fetch_s: drill.phases.iter().find(|phase| phase.name == "fetch").map(|phase| phase.seconds),
            bytes: drill.throughput.database_bytes,
            set: drill.plan.as_ref().map(|plan| plan.set.clone()),
        }
    }

    /// The time to serve at the size that the database has now.
    pub fn projected(&self, bytes_now: u64) -> Option<i64> {
        projected(self.serve_s?, self.fetch_s?, self.bytes?, bytes_now)
    }
}

/// What is known of drills when a plan is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Proofs {
    /// Every drill that is listed, oldest first, or why the list could not be read.
    pub history: Result<Vec<Past>, String>,
    /// Size of each server's databases, where PostgreSQL answered.
    pub bytes: BTreeMap<String, u64>,
    /// The backups of each server that a plan would take away, as they were seen now; nothing is asked about others.
    pub backups: BTreeMap<String, Backups>,
    /// When this was looked at.
    pub now: i64,
}

impl Proofs {
    /// The drills of a server's first repository that were meant to pass, newest first.
    pub fn of<'a>(&'a self, server: &'a str) -> impl Iterator<Item = &'a Past> {
        let all = self.history.iter().flatten().rev();
        all.filter(move |past| {
            past.server == server && past.broken.is_none() && past.scenario.repository() == Repository::First
        })
    }

    /// The newest that passed.
    pub fn passed<'a>(&'a self, server: &'a str) -> Option<&'a Past> {
        self.of(server).find(|past| past.passed)
    }
}

/// The time to serve at another size: what was fetched grows with it, the rest stays. `None` where nothing can be said.
pub fn projected(serve_s: i64, fetch_s: i64, bytes_restored: u64, bytes_now: u64) -> Option<i64> {
    if bytes_restored == 0 || fetch_s > serve_s {
        return None;
    }
    let grown = u128::try_from(fetch_s).ok()? * u128::from(bytes_now) / u128::from(bytes_restored);
    i64::try_from(grown).ok()?.checked_add(serve_s - fetch_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_grows_and_the_rest_stays() {
        assert_eq!(projected(100, 40, 1000, 1000), Some(100));
        assert_eq!(projected(100, 40, 1000, 3000), Some(180));
        assert_eq!(projected(100, 40, 1000, 500), Some(80));
        assert_eq!(projected(100, 40, 0, 500), None);
        assert_eq!(projected(10, 40, 1000, 500), None, "it was not open before it was fetched");
    }
}
