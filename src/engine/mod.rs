//! From an inventory to a converged environment: resolve, refresh, plan, apply.
//!
//! Read in this order: [`resolve`] (offline), [`refresh`] (asks, gives a [`snapshot`]), [`propose`] and [`stages`] (pure), [`apply`] (acts);
//! [`plan`] below is the one way to a plan that may be shown. Beside them:
//! [`file`] (saved plans), [`store`] (what operators share), [`lock`], [`journal`], [`drift`], [`guarded`] (what may lock out),
//! [`guards`] (whether a plan still fits), [`gate`] (whose data may go).
//! Deliberately absent: a state file. What is there is asked; what is ours is marked on the thing itself.

pub mod apply;
pub mod drift;
pub mod execute;
pub mod file;
pub mod gate;
pub mod guarded;
pub mod guards;
pub mod journal;
pub mod lock;
pub mod nonce;
pub mod owned;
pub mod private;
pub mod propose;
pub mod reachability;
pub mod refresh;
pub mod resolve;
pub mod snapshot;
pub mod stages;
pub mod store;

use crate::base::address::Address;
use crate::engine::propose::{Intent, Locate, Proposal, propose};
use crate::engine::reachability::reachability;
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::Snapshot;
use crate::inventory::places::Places;
use crate::inventory::sections::Inventory;
use crate::plan::check::{Breach, CheckedPlan, check};
use crate::plan::remark::Remark;
use crate::policy;
use crate::reach::ssh::guard;

/// What the user wrote, and where each line of it stands.
#[derive(Clone, Copy)]
pub struct Declared<'a> {
    pub inventory: &'a Inventory,
    pub places: &'a Places,
}

/// A plan that may be shown and applied, and what is worth saying about resources that are as wanted.
#[derive(Clone, Debug)]
pub struct Planned {
    pub plan: CheckedPlan,
    pub remarks: Vec<(Address, Remark)>,
}

/// Kind of the address that stands for a change which a host may still put back.
const GUARD: &str = "host.guard";

/// Changes that a host will put back unless somebody proves them: what is as wanted now may not be in a minute.
fn undecided(snapshot: &Snapshot) -> Vec<(Address, Remark)> {
    let mut found = Vec::new();
    for (server, view) in &snapshot.hosts {
        for change in guard::armed(&view.answers) {
            let said = format!(
                "change {change} is not decided: the host puts back what it found before it, unless the run that made it proves a login"
            );
            found.push((Address::new(GUARD, server), Remark::broken(said)));
        }
    }
    found
}

/// Plans against what was seen: the changes, and with them everything that the inventory alone says about them (broken
/// rules, objectives, cost) and who can reach what. Pure.
///
/// # Errors
/// The promises of plans that this one breaks, which is a bug of ours.
pub fn plan(
    declared: Declared<'_>,
    resolved: &Resolved,
    snapshot: &Snapshot,
    intent: &Intent,
) -> Result<Planned, Vec<Breach>> {
    let Declared { inventory, places } = declared;
    let locate: Locate<'_> = &|path| Some(places.span(path));
    let Proposal { mut plan, mut remarks } = propose(resolved, snapshot, intent, locate);
    gate::judge(&mut plan, inventory, resolved, snapshot.proofs.as_ref());
    remarks.extend(undecided(snapshot));
    // What is broken stands first.
    remarks.sort_by_key(|(_, remark)| remark.severity);
    // What goes has neither rules nor a price.
    if !intent.destroy {
        plan.findings.extend(policy::check(inventory, places));
        plan.findings.extend(policy::proven(inventory, snapshot.proofs.as_ref()));
        plan.objectives = policy::objectives(inventory, snapshot.proofs.as_ref());
        plan.cost = policy::cost(inventory);
        plan.reachability = reachability(inventory, resolved, snapshot);
    }
    Ok(Planned { plan: check(plan)?, remarks })
}
