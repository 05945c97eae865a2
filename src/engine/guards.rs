//! Whether an approved plan still fits the world: each guard against what is seen now. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::plan::Plan;
use crate::plan::change::{Action, Change};

/// Compares a plan with the world as it is now: every change must still start from what it was planned from, or be done
/// already. Returns the changes that are done already; an error names each attribute that moved.
pub fn check_guards(approved: &Plan, fresh: &Plan) -> Result<BTreeSet<Address>, Diagnostics> {
    let now: BTreeMap<&Address, &Change> =
        fresh.changes().chain(fresh.deferred.iter().map(|d| &d.change)).map(|c| (&c.address, c)).collect();
    let unseen: BTreeMap<&Address, String> = fresh.unknown.iter().map(|u| (&u.address, u.why.to_string())).collect();
    let mut already = BTreeSet::new();
    let mut stale = Diagnostics::default();
    let planned: Vec<&Change> = approved.changes().chain(approved.deferred.iter().map(|d| &d.change)).collect();
    for change in &planned {
        match now.get(&change.address) {
            Some(found) if found.guard == change.guard && found.action == change.action => {}
            Some(found) => stale.push(moved(change, found)),
            None => match unseen.get(&change.address) {
                Some(why) => stale.push(stale_plan(&change.address).note(format!("it cannot be seen now: {why}"))),
                None => {
                    already.insert(change.address.clone());
                }
            },
        }
    }
    let planned: BTreeSet<&Address> = planned.iter().map(|change| &change.address).collect();
    for change in now.values().filter(|change| !planned.contains(&change.address)) {
        stale.push(stale_plan(&change.address).note(format!(
            "the plan leaves it alone, and now it would be {}",
            match change.action {
                Action::Create => "created",
                Action::Destroy => "destroyed",
                Action::Replace => "replaced",
                Action::Update | Action::NoOp => "updated",
            }
        )));
    }
    if stale.is_empty() { Ok(already) } else { Err(stale) }
}

fn stale_plan(address: &Address) -> Diagnostic {
    Diagnostic::error("stale-plan", format!("`{address}` is no longer as it was when this plan was made"))
        .hint("nothing was changed by this run; make a new plan")
}

/// Three sides for each attribute: planned from, now, wanted.
fn moved(planned: &Change, found: &Change) -> Diagnostic {
    let mut problem = stale_plan(&planned.address);
    if planned.action != found.action {
        problem = problem.note(format!("planned {:?}, now {:?}", planned.action, found.action).to_lowercase());
    }
    let text = |value: &Option<serde_json::Value>| value.as_ref().map_or("(absent)".to_owned(), ToString::to_string);
    let old: BTreeMap<&str, _> = planned.fields.iter().map(|field| (field.path.as_str(), field)).collect();
    let new: BTreeMap<&str, _> = found.fields.iter().map(|field| (field.path.as_str(), field)).collect();
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let note = match (old.get(path), new.get(path)) {
            (Some(a), Some(b)) if a.before == b.before => continue,
            (Some(a), Some(b)) => {
                format!("{path}: planned from {}, now {}, wanted {}", text(&a.before), text(&b.before), text(&a.after))
            }
            (Some(a), None) => {
                format!("{path}: planned from {}, now as wanted, {}", text(&a.before), text(&a.after))
            }
            (None, Some(b)) => {
                format!("{path}: planned from as wanted, now {}, wanted {}", text(&b.before), text(&b.after))
            }
            (None, None) => continue,
        };
        problem = problem.note(note);
    }
    problem
}
