//! Separates what somebody else changed from what was not applied yet, by the digests of the last apply.

use std::collections::BTreeMap;

use crate::base::address::Address;
use crate::base::digest::Digest;
use crate::engine::resolve::Resolved;
use crate::engine::store::LastApplied;
use crate::plan::Plan;
use crate::plan::change::{Action, Change};

/// The differences of a plan, by who caused them.
#[derive(Debug, Default)]
pub struct Drift {
    /// The inventory is as it was when it was last applied; the world is not.
    pub behind_us: Vec<Change>,
    /// The inventory has moved since, or this was never applied.
    pub not_applied: Vec<Change>,
}

/// Splits a plan's changes.
pub fn split(plan: &Plan, resolved: &Resolved, applied: &LastApplied) -> Drift {
    let wanted: BTreeMap<&Address, Digest> =
        resolved.wanted.iter().map(|w| (&w.address, Digest::of(&w.desired))).collect();
    let mut drift = Drift::default();
    let waiting = plan.deferred.iter().map(|deferred| (&deferred.change, Some(&deferred.after)));
    for (change, after) in plan.changes().map(|change| (change, None)).chain(waiting) {
        // A change that waits for another one has the other one's cause: nobody touched the users of a server that we
        // replace.
        let ours = after.is_some_and(|after| drift.not_applied.iter().any(|change| change.address == *after));
        let same = match (wanted.get(&change.address), applied.get(&change.address)) {
            (Some(now), Some(then)) => now == then,
            _ => false,
        };
        if same && !ours && change.action != Action::Destroy {
            drift.behind_us.push(change.clone());
        } else {
            drift.not_applied.push(change.clone());
        }
    }
    drift
}

/// What to remember after an apply: the desired state of everything that is as wanted now.
pub fn remember(mut applied: LastApplied, resolved: &Resolved, as_wanted: &[Address], gone: &[Address]) -> LastApplied {
    for wanted in resolved.wanted.iter().filter(|w| as_wanted.contains(&w.address)) {
        applied.insert(wanted.address.clone(), Digest::of(&wanted.desired));
    }
    applied.retain(|address, _| !gone.contains(address));
    applied
}
