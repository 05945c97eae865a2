//! Whether an approved plan still fits: each guard against what is seen now, and each change against what this program
//! proposes from the inventory. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::plan::Plan;
use crate::plan::change::{Action, Change};
use crate::plan::step::Steps;

/// Characters of a step that a message quotes. The whole is in the plan, and `show -v` prints it.
const QUOTED: usize = 300;

/// Compares an approved plan with one that was proposed just now. The world is as it was planned from ([`check_guards`]), and
/// every change is the very change that the inventory asks for ([`check_changes`]): what was approved is what runs.
///
/// # Errors
/// Everything that moved; where nothing did, everything that the plan would do differently.
pub fn check_approved(approved: &Plan, fresh: &Plan) -> Result<BTreeSet<Address>, Diagnostics> {
    let already = check_guards(approved, fresh)?;
    check_changes(approved, fresh, &already)?;
    Ok(already)
}

/// Compares the changes of a plan, but for those that are done already, with those that were proposed just now: all their
/// fields, files and steps, whether they are done now or wait. In which stage a change stands is no part of it.
fn check_changes(approved: &Plan, fresh: &Plan, already: &BTreeSet<Address>) -> Result<(), Diagnostics> {
    let mut proposed = listed(fresh);
    let mut different = Diagnostics::default();
    let mut told: BTreeSet<&Address> = BTreeSet::new();
    for (waits_for, change) in listed(approved) {
        if already.contains(&change.address) {
            continue;
        }
        if let Some(same) = proposed.iter().position(|other| *other == (waits_for, change)) {
            proposed.remove(same);
        } else if told.insert(&change.address) {
            let other = |(when, other): &&(Option<&Address>, &Change)| {
                other.address == change.address && when.is_some() == waits_for.is_some()
            };
            different.push(other_than(change, proposed.iter().find(other).map(|(_, other)| *other)));
        }
    }
    for (_, change) in proposed {
        if told.insert(&change.address) {
            different.push(
                plan_differs(&change.address).note("the inventory asks for a change that the plan does not have"),
            );
        }
    }
    if different.is_empty() { Ok(()) } else { Err(different) }
}

/// Every change of a plan, with what it waits for.
fn listed(plan: &Plan) -> Vec<(Option<&Address>, &Change)> {
    let waiting = plan.deferred.iter().map(|deferred| (Some(&deferred.after), &deferred.change));
    plan.changes().map(|change| (None, change)).chain(waiting).collect()
}

fn plan_differs(address: &Address) -> Diagnostic {
    Diagnostic::error(
        "plan-differs",
        format!("this plan would do something else to `{address}` than its inventory asks for"),
    )
    .hint("nothing was changed by this run; make a new plan, and find out who changed this one")
}

/// What differs between a change as it was approved and as it is proposed.
fn other_than(approved: &Change, proposed: Option<&Change>) -> Diagnostic {
    let problem = plan_differs(&approved.address);
    let Some(proposed) = proposed else {
        return problem.note("the plan has a change that the inventory does not ask for");
    };
    let mut notes = Vec::new();
    let (theirs, ours) = (each_step(&approved.steps), each_step(&proposed.steps));
    for index in (0..theirs.len().max(ours.len())).filter(|index| theirs.get(*index) != ours.get(*index)) {
        let side = |steps: &[String]| steps.get(index).map_or_else(|| "nothing".to_owned(), |step| quoted(step));
        notes.push(format!("step {}: in the plan {}", index + 1, side(&theirs)));
        notes.push(format!("step {}: from the inventory {}", index + 1, side(&ours)));
    }
    let parts = [
        ("action", approved.action == proposed.action),
        ("reason", approved.reason == proposed.reason),
        ("fields", approved.fields == proposed.fields),
        ("files", approved.files == proposed.files),
        ("risk", approved.risk == proposed.risk),
        ("proofs", approved.proofs == proposed.proofs),
        ("undo", approved.undo == proposed.undo),
        ("order", approved.after == proposed.after),
    ];
    let parts: Vec<&str> = parts.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect();
    if !parts.is_empty() {
        notes.push(format!("other parts that differ: {}", parts.join(", ")));
    }
    notes.into_iter().fold(problem, Diagnostic::note)
}

/// Each step as JSON: the form in which it stands in the file. Secrets are references in it.
fn each_step(steps: &Steps) -> Vec<String> {
    fn text<S: Serialize>(steps: &[S]) -> Vec<String> {
        steps.iter().map(|step| serde_json::to_string(step).expect("a step serialises")).collect()
    }
    match steps {
        Steps::Cloud(steps) => text(steps),
        Steps::Host(steps) => text(steps),
    }
}

fn quoted(step: &str) -> String {
    let head: String = step.chars().take(QUOTED).collect();
    if head.len() < step.len() { format!("{head}…") } else { head }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::plan::change::{FieldChange, Reason, Risk};
    use crate::plan::step::HostStep;
    use crate::plan::{Deferred, Stage};

    fn change(name: &str, programs: &[&str]) -> Change {
        let run = |program: &&str| HostStep::Run {
            argv: vec![(*program).to_owned()],
            env: BTreeMap::new(),
            stdin: None,
            timeout_s: 60,
            revert: None,
            what: "reload a service".to_owned(),
        };
        Change {
            address: name.parse().expect("an address"),
            action: Action::Update,
            reason: Reason::Differs,
            fields: vec![FieldChange::new("size", Some(1.into()), Some(2.into()))],
            files: Vec::new(),
            steps: Steps::Host(programs.iter().map(run).collect()),
            guard: Digest::of_bytes(b"seen"),
            risk: Risk::Plain,
            proofs: Vec::new(),
            undo: Vec::new(),
            after: Vec::new(),
        }
    }

    fn plan(changes: Vec<Change>) -> Plan {
        Plan { stages: changes.into_iter().map(|change| Stage { changes: vec![change] }).collect(), ..Plan::default() }
    }

    fn refused(approved: &Plan, fresh: &Plan) -> Diagnostics {
        let problems = check_approved(approved, fresh).expect_err("they differ");
        assert!(problems.0.iter().all(|problem| problem.code == "plan-differs"), "{problems:?}");
        problems
    }

    #[test]
    fn the_same_changes_in_other_stages_are_the_same_plan() {
        let (swap, time) = (change("host.swap/db", &["swapon"]), change("host.time/db", &["date"]));
        let approved = plan(vec![swap.clone(), time.clone()]);
        let fresh = Plan { stages: vec![Stage { changes: vec![time, swap] }], ..Plan::default() };
        assert_eq!(check_approved(&approved, &fresh), Ok(BTreeSet::new()));
    }

    #[test]
    fn a_step_that_was_put_in_is_refused_and_named() {
        let fresh = plan(vec![change("host.swap/db", &["swapon"])]);
        let problems = refused(&plan(vec![change("host.swap/db", &["evil", "swapon"])]), &fresh);
        assert!(problems.0[0].notes[0].contains("step 1: in the plan") && problems.0[0].notes[0].contains("evil"));
        // Also one that is left out, and one that comes twice.
        drop(refused(&plan(vec![change("host.swap/db", &[])]), &fresh));
        drop(refused(&plan(vec![change("host.swap/db", &["swapon"]), change("host.swap/db", &["swapon"])]), &fresh));
    }

    #[test]
    fn every_part_of_a_change_counts() {
        let honest = change("host.swap/db", &["swapon"]);
        let fresh = plan(vec![honest.clone()]);
        let forged = [
            Change { fields: Vec::new(), ..honest.clone() },
            Change { risk: Risk::Restarts, ..honest.clone() },
            Change { reason: Reason::Requested, ..honest.clone() },
            Change { after: vec!["host.time/db".parse().expect("an address")], ..honest.clone() },
        ];
        for change in forged {
            drop(refused(&plan(vec![change]), &fresh));
        }
        let waiting = |change: Change| Plan {
            deferred: vec![Deferred { after: "lightsail.instance/db".parse().expect("an address"), change }],
            ..Plan::default()
        };
        drop(refused(&waiting(honest.clone()), &fresh));
        drop(refused(&waiting(change("host.swap/db", &["evil"])), &waiting(honest)));
    }

    #[test]
    fn what_is_done_already_is_not_compared() {
        let (done, open) = (change("host.swap/db", &["swapon"]), change("host.time/db", &["date"]));
        let already = check_approved(&plan(vec![done.clone(), open.clone()]), &plan(vec![open])).expect("it fits");
        assert_eq!(already, BTreeSet::from([done.address]));
    }
}
