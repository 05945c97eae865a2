//! What was observed and what will be done, as data: saved, compared, printed, and executed without further choices.
//!
//! Start with [`observed`], then [`probe`] (what can be asked), [`step`] (what can be done) and [`change`].
//! Deliberately absent: any way to ask or to act (that is `reach`), and any closure or trait object in a plan.

pub mod backups;
pub mod change;
pub mod check;
pub mod cloud;
pub mod drills;
pub mod event;
pub mod host;
pub mod info;
pub mod needs;
pub mod observed;
pub mod order;
pub mod probe;
pub mod reachability;
pub mod rebuild;
pub mod remark;
pub mod restores;
pub mod session;
pub mod step;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::plan::change::{Change, Limit, Risk};
use crate::plan::observed::Unseen;
use crate::plan::reachability::Reachability;

/// Everything that an apply will do, in order, and everything that is worth saying before it.
///
/// A pure function of what is wanted and what was observed: the same input gives the same bytes. Who planned it and
/// when stands in the plan file around it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Changes that can be done now; the changes within one stage do not depend on each other's results.
    pub stages: Vec<Stage>,
    /// Changes on something that does not exist yet: shown in full, planned again when it does.
    pub deferred: Vec<Deferred>,
    /// Resources that are as wanted.
    pub unchanged: Vec<Address>,
    /// Resources that could not be looked at. A plan with any of these is not complete.
    pub unknown: Vec<NotSeen>,
    /// Differences that this machine cannot close, each with its reason.
    pub limits: Vec<Limit>,
    /// Things that are there and not ours. Reported, never touched.
    pub unmanaged: Vec<Unmanaged>,
    /// Broken rules and refusals; an error among them keeps the plan from being applied.
    pub findings: Vec<Diagnostic>,
    pub objectives: Vec<Objective>,
    pub cost: Cost,
    /// Who can reach what, as it was seen.
    #[serde(default)]
    pub reachability: Vec<Reachability>,
}

/// Changes that belong together: all in the cloud, or all on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub changes: Vec<Change>,
}

impl Stage {
    /// Where its changes are done. A stage is never empty.
    pub fn place(&self) -> Place {
        self.changes.first().map_or(Place::Cloud, Change::place)
    }

    /// Whether a host must prove a new login before this stays.
    pub fn is_guarded(&self) -> bool {
        self.changes.iter().any(|change| change.risk == Risk::MayLockOut && change.place() != Place::Cloud)
    }
}

/// Where a resource lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Cloud,
    /// A server, by its name in the inventory.
    Host(String),
}

/// A change that waits for another resource to exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deferred {
    /// The resource that must exist first, for example `lightsail.instance/db`.
    pub after: Address,
    /// The change as it would be on a new server. Apply plans it anew against what is there by then.
    pub change: Change,
}

/// A resource that could not be looked at, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotSeen {
    pub address: Address,
    pub why: Unseen,
}

/// Something that exists beside what we manage, and that nobody declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmanaged {
    pub place: Place,
    /// The kind of ours that it would belong to, for example `lightsail.instance`.
    pub kind: String,
    pub name: String,
    pub note: String,
}

/// One line of the objectives table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    pub name: String,
    /// As the inventory states it, or `NOT SET`.
    pub wanted: String,
    /// What the configuration can reach, or `NOT EVALUATED: why`.
    pub by_configuration: String,
    /// What a drill measured, or `NOT EVALUATED: why`.
    pub last_proof: String,
}

/// The monthly list price of what the inventory declares, in US cents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub lines: Vec<CostLine>,
    /// What the lines leave out, in words: usage that no inventory states.
    pub not_included: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostLine {
    pub address: Address,
    pub what: String,
    pub monthly_cents: u64,
}

impl Cost {
    /// The sum of all lines in US cents.
    pub fn monthly_cents(&self) -> u64 {
        self.lines.iter().map(|line| line.monthly_cents).sum()
    }
}

impl Plan {
    /// All changes that can be done now, in order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.stages.iter().flat_map(|stage| &stage.changes)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.changes.is_empty()) && self.deferred.is_empty()
    }

    /// Whether everything could be looked at.
    pub fn is_complete(&self) -> bool {
        self.unknown.is_empty()
    }
}
