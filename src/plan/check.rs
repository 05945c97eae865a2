//! What every plan promises, whoever made it: checked before a plan is shown and again before one is applied.
//!
//! Pure, and about the form only: whether a change is a good idea is for rules and refusals. A breach is a bug in seawall
//! (or a plan file that somebody made by hand). Deliberately absent: secrets' values, which nothing here knows; what is
//! checked is that a plan has no place where one could stand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use serde::Serialize;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::digest::Digest;
use crate::plan::change::{Action, Change, RECORD, Reason, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::step::{Content, HostStep, Steps};
use crate::plan::{Place, Plan, Stage};

/// A plan that keeps its promises. Only [`check`] makes one, and nothing else is shown or applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct CheckedPlan(Plan);

impl Deref for CheckedPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    #[error("stage {0} has no changes")]
    EmptyStage(usize),
    #[error("`{0}` is changed in two stages")]
    ChangedTwice(Address),
    #[error("`{0}` waits twice")]
    DeferredTwice(Address),
    #[error("`{0}` is as wanted, and yet it is changed")]
    UnchangedAndChanged(Address),
    #[error("`{0}` could not be looked at, and yet it is changed")]
    UnknownAndChanged(Address),
    #[error("`{0}` has a change that does nothing")]
    NoSteps(Address),
    #[error("`{0}` has steps, and no field says what they change")]
    NoFields(Address),
    #[error("`{0}`: field `{1}` changes to what it is")]
    SameField(Address, String),
    #[error("`{0}`: field `{1}` is named twice")]
    FieldTwice(Address, String),
    #[error("`{0}`: field `{1}` cannot be changed here, and yet it is planned")]
    LimitedField(Address, String),
    #[error("`{0}` is in a stage of another place")]
    WrongPlace(Address),
    #[error("`{0}` is recorded on its host {1} times, not once at its end")]
    Recorded(Address, usize),
    #[error("`{0}` has the guard of something that is not there, or the other way round")]
    Guard(Address),
    #[error("`{0}` comes before `{1}`, which it needs")]
    Order(Address, Address),
    #[error("`{0}` is destroyed after `{1}`, on which it stands")]
    DestroyOrder(Address, Address),
    #[error("`{0}` is done now and needs `{1}`, which waits")]
    NeedsDeferred(Address, Address),
    #[error("`{0}` and others wait for each other")]
    WaitInCircle(Address),
    #[error("`{0}` may lock out, and shares a transaction with `{1}`, which may not")]
    MixedGuard(Address, Address),
    #[error("`{0}` would write a secret to `{1}` where others can read it")]
    ReadableSecret(Address, String),
    #[error("`{0}` shows the text of `{1}`, which holds a secret")]
    ShownSecret(Address, String),
    #[error("`{0}`: the template of `{1}` and its secrets do not fit")]
    TemplateSecrets(Address, String),
    #[error("`{0}` hands a program a private key or a password in plain text")]
    SecretValue(Address),
}

/// Every broken promise of a plan, as our own bug.
pub fn report(breaches: Vec<Breach>) -> Diagnostics {
    let problem = Diagnostic::error("unsound-plan", "this plan breaks a promise of plans; this is a bug in seawall");
    let problem = breaches.into_iter().fold(problem, |problem, breach| problem.note(breach.to_string()));
    problem
        .note("nothing was changed by this run")
        .hint("report it with the inventory; another version of seawall may plan this correctly")
        .into()
}

/// Takes a plan that keeps every promise, and lists what breaks one.
///
/// # Errors
/// Every breach, in the order in which it stands in the plan.
pub fn check(plan: Plan) -> Result<CheckedPlan, Vec<Breach>> {
    let mut breaches = Vec::new();
    lists(&plan, &mut breaches);
    for stage in &plan.stages {
        stage_holds_together(stage, &mut breaches);
        for change in &stage.changes {
            what_it_does(change, &mut breaches);
            recorded(change, &mut breaches);
            let absent = change.guard == Digest::of(&Observed::<()>::Absent);
            if absent != (change.action == Action::Create) {
                breaches.push(Breach::Guard(change.address.clone()));
            }
            secrets(change, &mut breaches);
        }
    }
    for deferred in &plan.deferred {
        let change = &deferred.change;
        // What is fitted to a new server is known when that server is there.
        if change.reason != Reason::ServerReplaced {
            what_it_does(change, &mut breaches);
        }
        recorded(change, &mut breaches);
        let seen_nothing = [Observed::Absent, Observed::<()>::Unknown(Unseen::NotYetCreated(deferred.after.clone()))];
        if change.action == Action::Create && !seen_nothing.iter().any(|seen| change.guard == Digest::of(seen)) {
            breaches.push(Breach::Guard(change.address.clone()));
        }
        secrets(change, &mut breaches);
    }
    order(&plan, &mut breaches);
    waiting(&plan, &mut breaches);
    if breaches.is_empty() { Ok(CheckedPlan(plan)) } else { Err(breaches) }
}

/// Each resource is in one list. Only the first part of a change is in two: it is done now, and the whole waits.
fn lists(plan: &Plan, breaches: &mut Vec<Breach>) {
    let empty = plan.stages.iter().enumerate().filter(|(_, stage)| stage.changes.is_empty());
    breaches.extend(empty.map(|(index, _)| Breach::EmptyStage(index)));
    let mut now = BTreeSet::new();
    for change in plan.changes() {
        // Two things may bear one address when both go: a bucket, and the one that it was before it was renamed.
        if !now.insert(&change.address) && change.action != Action::Destroy {
            breaches.push(Breach::ChangedTwice(change.address.clone()));
        }
    }
    let mut later = BTreeSet::new();
    for deferred in &plan.deferred {
        if !later.insert(&deferred.change.address) {
            breaches.push(Breach::DeferredTwice(deferred.change.address.clone()));
        }
    }
    let changed = |address: &Address| now.contains(address) || later.contains(address);
    let unchanged = plan.unchanged.iter().filter(|address| changed(address));
    breaches.extend(unchanged.map(|address| Breach::UnchangedAndChanged(address.clone())));
    let unknown = plan.unknown.iter().map(|unseen| &unseen.address).filter(|address| changed(address));
    breaches.extend(unknown.map(|address| Breach::UnknownAndChanged(address.clone())));
}

/// A stage is in one place. What may lock out is a host's transaction of its own: the host guards all of it or nothing.
fn stage_holds_together(stage: &Stage, breaches: &mut Vec<Breach>) {
    let elsewhere = stage.changes.iter().filter(|change| change.place() != stage.place());
    breaches.extend(elsewhere.map(|change| Breach::WrongPlace(change.address.clone())));
    if stage.place() == Place::Cloud {
        return;
    }
    let (locking, plain): (Vec<&Change>, Vec<&Change>) =
        stage.changes.iter().partition(|change| change.risk == Risk::MayLockOut);
    if let (Some(locking), Some(plain)) = (locking.first(), plain.first()) {
        breaches.push(Breach::MixedGuard(locking.address.clone(), plain.address.clone()));
    }
}

/// Steps have fields that say what they are for, and fields have steps that close them.
fn what_it_does(change: &Change, breaches: &mut Vec<Breach>) {
    let address = || change.address.clone();
    let (acts, records) = match &change.steps {
        Steps::Cloud(steps) => (!steps.is_empty(), false),
        Steps::Host(steps) => {
            let records = steps.iter().filter(|step| is_record(step)).count();
            (steps.len() > records, records > 0)
        }
    };
    // A creation or a removal may be no more than its record: packages stay when nobody wants them any more.
    // What is as wanted and has no record gets one, and says so.
    let of_record = change.fields.iter().all(|field| field.path == RECORD);
    let may_only_record = records && (matches!(change.action, Action::Create | Action::Destroy) || of_record);
    if change.action == Action::NoOp || !(acts || may_only_record) {
        breaches.push(Breach::NoSteps(address()));
    }
    if acts && change.fields.is_empty() && change.action != Action::Destroy {
        breaches.push(Breach::NoFields(address()));
    }
    let mut paths = BTreeSet::new();
    for field in &change.fields {
        if field.before == field.after {
            breaches.push(Breach::SameField(address(), field.path.clone()));
        }
        if !paths.insert(&field.path) {
            breaches.push(Breach::FieldTwice(address(), field.path.clone()));
        }
        if field.limit.is_some() {
            breaches.push(Breach::LimitedField(address(), field.path.clone()));
        }
    }
}

fn is_record(step: &HostStep) -> bool {
    matches!(step, HostStep::Record { .. })
}

/// A host ends each of its changes by recording whose it is, once. The first part of a change leaves the record as it is.
fn recorded(change: &Change, breaches: &mut Vec<Breach>) {
    let Steps::Host(steps) = &change.steps else { return };
    let records = steps.iter().filter(|step| is_record(step)).count();
    let well = match steps.last() {
        Some(HostStep::Record { address, desired }) => {
            records == 1 && *address == change.address && desired.is_none() == (change.action == Action::Destroy)
        }
        Some(_) | None => records == 0,
    };
    if !well {
        breaches.push(Breach::Recorded(change.address.clone(), records));
    }
}

/// Nothing comes before what it needs; what is destroyed goes before what it stands on.
fn order(plan: &Plan, breaches: &mut Vec<Breach>) {
    // The cloud's changes of one stage run side by side; a host's run one after the other.
    let position = |stage: usize, index: usize| match plan.stages[stage].place() {
        Place::Cloud => (stage, 0),
        Place::Host(_) => (stage, index),
    };
    let mut at: BTreeMap<&Address, ((usize, usize), &Change)> = BTreeMap::new();
    for (stage, changes) in plan.stages.iter().enumerate() {
        for (index, change) in changes.changes.iter().enumerate() {
            // A resource that is changed twice is a breach of its own; its first change counts here.
            at.entry(&change.address).or_insert((position(stage, index), change));
        }
    }
    for (here, change) in at.values() {
        for need in &change.after {
            let Some((there, needed)) = at.get(need) else { continue };
            match (change.action == Action::Destroy, needed.action == Action::Destroy) {
                (false, false) if here <= there => {
                    breaches.push(Breach::Order(change.address.clone(), need.clone()));
                }
                (true, true) if here >= there => {
                    breaches.push(Breach::DestroyOrder(change.address.clone(), need.clone()));
                }
                _ => {}
            }
        }
    }
}

/// Nothing is done now that needs what waits, and nothing waits for itself.
fn waiting(plan: &Plan, breaches: &mut Vec<Breach>) {
    let now: BTreeSet<&Address> = plan.changes().map(|change| &change.address).collect();
    let waits: BTreeMap<&Address, &Address> =
        plan.deferred.iter().map(|deferred| (&deferred.change.address, &deferred.after)).collect();
    for change in plan.changes().filter(|change| change.action != Action::Destroy) {
        let need = change.after.iter().find(|need| waits.contains_key(need) && **need != change.address);
        if let Some(need) = need {
            breaches.push(Breach::NeedsDeferred(change.address.clone(), need.clone()));
        }
    }
    // What is done now ends a chain of waiting, also the first part of the very change that waits.
    let next = |address: &Address| waits.get(address).copied().filter(|next| !now.contains(*next));
    for start in waits.keys() {
        let end = (0..=waits.len()).try_fold(*start, |here, _| next(here));
        if end.is_some() {
            breaches.push(Breach::WaitInCircle((*start).clone()));
        }
    }
}

/// A secret is a reference, put in where only root and the file's group can read it; what holds one is not shown.
fn secrets(change: &Change, breaches: &mut Vec<Breach>) {
    let address = || change.address.clone();
    let steps = match &change.steps {
        Steps::Host(steps) => steps.as_slice(),
        Steps::Cloud(_) => &[],
    };
    for step in steps {
        let (content, name) = match step {
            HostStep::WriteFile { content, path, mode, .. } => {
                let holds_secret = matches!(content, Content::WithSecrets { .. });
                if holds_secret && u32::from_str_radix(mode, 8).map_or(true, |mode| mode & 0o007 != 0) {
                    breaches.push(Breach::ReadableSecret(address(), path.clone()));
                }
                if holds_secret && change.files.iter().any(|file| file.path == *path) {
                    breaches.push(Breach::ShownSecret(address(), path.clone()));
                }
                (content, path)
            }
            HostStep::Run { stdin: Some(content), what, .. } => (content, what),
            HostStep::Run { stdin: None, .. }
            | HostStep::RemoveFile { .. }
            | HostStep::MakeDirectory { .. }
            | HostStep::Record { .. } => continue,
        };
        if let Content::WithSecrets { template, secrets } = content {
            let used = |name: &String| template.contains(&format!("{{{{{name}}}}}"));
            if secrets.is_empty() || !secrets.keys().all(used) {
                breaches.push(Breach::TemplateSecrets(address(), name.clone()));
            }
        }
    }
    // Only what we compose ourselves: a file of the operator's, or one that somebody left on a host, may say what it likes.
    let composed = steps.iter().filter_map(|step| match step {
        HostStep::Run { argv, stdin, .. } => Some((argv, stdin)),
        HostStep::WriteFile { .. }
        | HostStep::RemoveFile { .. }
        | HostStep::MakeDirectory { .. }
        | HostStep::Record { .. } => None,
    });
    for (argv, stdin) in composed {
        let read = stdin.as_ref().map_or("", |content| match content {
            Content::Text(text) | Content::WithSecrets { template: text, .. } => text,
        });
        if argv.iter().map(String::as_str).chain([read]).any(looks_like_a_secret) {
            breaches.push(Breach::SecretValue(address()));
        }
    }
}

/// Secrets whose form gives them away: a private key in PEM, and a password written into SQL.
fn looks_like_a_secret(text: &str) -> bool {
    let pem = text.match_indices("PRIVATE KEY-----").any(|(at, _)| text[..at].contains("-----BEGIN "));
    let password = text.split("PASSWORD '").skip(1).any(|rest| !rest.starts_with("{{"));
    pem || password
}

#[cfg(test)]
mod tests;
