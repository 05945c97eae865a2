//! From what is wanted and what was seen to a plan. Pure: the same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::base::span::Span;
use crate::engine::gate::unproven;
use crate::engine::owned::{MANIFEST, Ownership, sort, unrecorded};
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::Snapshot;
use crate::engine::stages::stages;
use crate::kinds::table::{Data, Judged, Wanted};
use crate::kinds::{self, Opening, Owned, Owner, kind};
use crate::plan::change::{Action, Change, FieldChange, Limit, Reason, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::remark::Remark;
use crate::plan::step::{HostStep, Steps};
use crate::plan::{Cost, Deferred, NotSeen, Place, Plan};

/// What the operator asked for beyond the inventory.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// Plan the removal of everything that is ours.
    pub destroy: bool,
    /// Leave protected resources where they are instead of refusing the whole removal.
    pub keep_protected: bool,
    /// Resources whose data may be lost, each named by the operator.
    pub lose_data: BTreeSet<Address>,
    /// Only these resources; nothing undeclared is removed then.
    pub only: bool,
}

/// A plan, and what is worth saying about resources that are as wanted.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub plan: Plan,
    pub remarks: Vec<(Address, Remark)>,
}

/// Finds the line of the inventory that a path stands for.
pub type Locate<'a> = &'a dyn Fn(&str) -> Option<Span>;

/// Collects the parts of a plan while resources are judged one by one.
struct Draft<'a> {
    resolved: &'a Resolved,
    snapshot: &'a Snapshot,
    intent: &'a Intent,
    locate: Locate<'a>,
    changes: Vec<Change>,
    deferred: Vec<Deferred>,
    unchanged: Vec<Address>,
    unknown: Vec<NotSeen>,
    limits: Vec<Limit>,
    findings: Vec<Diagnostic>,
    remarks: Vec<(Address, Remark)>,
}

/// Plans. Objectives, cost and rule findings are the caller's to add: they depend on the inventory alone.
pub fn propose(resolved: &Resolved, snapshot: &Snapshot, intent: &Intent, locate: Locate<'_>) -> Proposal {
    let found = sort(resolved, snapshot);
    let mut draft = Draft {
        resolved,
        snapshot,
        intent,
        locate,
        changes: Vec::new(),
        deferred: Vec::new(),
        unchanged: Vec::new(),
        unknown: found.unseen.clone(),
        limits: Vec::new(),
        findings: Vec::new(),
        remarks: Vec::new(),
    };
    if intent.destroy {
        draft.destroy(&found);
    } else {
        for wanted in &resolved.wanted {
            draft.judge(wanted);
        }
        draft.defer_what_waits();
        if !intent.only {
            draft.remove_undeclared(&found);
        }
    }
    let stages = stages(draft.changes, intent.destroy);
    let plan = Plan {
        stages,
        deferred: draft.deferred,
        unchanged: draft.unchanged,
        unknown: draft.unknown,
        limits: draft.limits,
        unmanaged: found.unmanaged,
        findings: draft.findings,
        objectives: Vec::new(),
        cost: Cost::default(),
        reachability: Vec::new(),
    };
    Proposal { plan, remarks: draft.remarks }
}

/// Judges one wanted resource against a snapshot: the change to make, if any. Used again during an apply.
pub fn change_for(resolved: &Resolved, snapshot: &Snapshot, wanted: &Wanted) -> Outcome {
    let Some(answers) = snapshot.answers(&wanted.place) else {
        return Outcome::Unknown(Unseen::Misread("this place was not asked".to_owned()));
    };
    let judged = (wanted.kind.judge)(wanted, &resolved.environment, answers);
    let guard = Digest::of(&judged.observed);
    match &judged.observed {
        Observed::Unknown(why) => Outcome::Unknown(why.clone()),
        Observed::Absent => Outcome::Change {
            change: Box::new(creation(wanted, guard)),
            limits: Vec::new(),
            remarks: Vec::new(),
            refusals: Vec::new(),
            opening: (wanted.kind.create)(&wanted.desired).opening,
        },
        Observed::Present(_) => match &judged.owner {
            Owner::Foreign(why) => Outcome::Foreign(why.clone()),
            Owner::Ours => match present(wanted, judged) {
                Outcome::Unchanged { limits, remarks } if limits.is_empty() => match unrecorded(snapshot, wanted) {
                    Some(field) => record_again(wanted, guard, field, remarks),
                    None => Outcome::Unchanged { limits, remarks },
                },
                outcome => outcome,
            },
        },
    }
}

/// What judging one resource comes to.
pub enum Outcome {
    Unknown(Unseen),
    Foreign(String),
    Unchanged {
        limits: Vec<FieldChange>,
        remarks: Vec<Remark>,
    },
    Change {
        change: Box<Change>,
        limits: Vec<FieldChange>,
        remarks: Vec<Remark>,
        refusals: Vec<Diagnostic>,
        opening: Option<Opening>,
    },
}

fn present(wanted: &Wanted, judged: Judged) -> Outcome {
    let guard = Digest::of(&judged.observed);
    let (limits, fields): (Vec<_>, Vec<_>) = judged.fields.into_iter().partition(|field| field.limit.is_some());
    if fields.is_empty() {
        return Outcome::Unchanged { limits, remarks: judged.remarks };
    }
    let replacing: Vec<String> = fields.iter().filter(|f| f.replaces).map(|f| f.path.clone()).collect();
    let change = if replacing.is_empty() {
        Change {
            address: wanted.address.clone(),
            action: Action::Update,
            reason: Reason::Differs,
            fields,
            files: judged.files,
            steps: recorded(wanted, judged.steps),
            guard,
            risk: judged.risk,
            proofs: (wanted.kind.proofs)(&wanted.desired),
            undo: judged.undo,
            after: wanted.after.clone(),
        }
    } else {
        let creation = (wanted.kind.create)(&wanted.desired);
        let steps = (wanted.kind.replace)(&owned_by_declaration(wanted, &judged.observed), &wanted.desired);
        Change {
            address: wanted.address.clone(),
            action: Action::Replace,
            reason: Reason::CannotUpdateInPlace(replacing),
            fields,
            files: creation.files,
            steps: recorded(wanted, steps),
            guard,
            risk: if wanted.kind.holds_data { Risk::LosesData } else { wanted.kind.risk },
            proofs: (wanted.kind.proofs)(&wanted.desired),
            undo: Vec::new(),
            after: wanted.after.clone(),
        }
    };
    let Judged { remarks, refusals, opening, .. } = judged;
    Outcome::Change { change: Box::new(change), limits, remarks, refusals, opening }
}

/// Writes the record of a resource that is as wanted, and nothing else.
fn record_again(wanted: &Wanted, guard: Digest, field: FieldChange, remarks: Vec<Remark>) -> Outcome {
    let change = Change {
        address: wanted.address.clone(),
        action: Action::Update,
        reason: Reason::Differs,
        fields: vec![field],
        files: Vec::new(),
        steps: recorded(wanted, Steps::Host(Vec::new())),
        guard,
        risk: Risk::Plain,
        proofs: Vec::new(),
        undo: Vec::new(),
        after: Vec::new(),
    };
    Outcome::Change { change: Box::new(change), limits: Vec::new(), remarks, refusals: Vec::new(), opening: None }
}

fn creation(wanted: &Wanted, guard: Digest) -> Change {
    let creation = (wanted.kind.create)(&wanted.desired);
    Change {
        address: wanted.address.clone(),
        action: Action::Create,
        reason: Reason::NotThere,
        fields: creation.fields,
        files: creation.files,
        steps: recorded(wanted, creation.steps),
        guard,
        risk: wanted.kind.risk,
        proofs: (wanted.kind.proofs)(&wanted.desired),
        undo: Vec::new(),
        after: wanted.after.clone(),
    }
}

/// Host resources end with their ownership record: what was put there can then be taken away again.
fn recorded(wanted: &Wanted, mut steps: Steps) -> Steps {
    if let Steps::Host(steps) = &mut steps {
        let desired = Some(wanted.desired.clone());
        steps.push(HostStep::Record { address: wanted.address.clone(), desired });
    }
    steps
}

/// A declared resource that is there, in the form in which kinds remove things.
fn owned_by_declaration(wanted: &Wanted, observed: &Observed<serde_json::Value>) -> Owned {
    let text =
        |key: &str| observed.present().and_then(|value| value.get(key)).and_then(|v| v.as_str()).map(str::to_owned);
    Owned {
        address: wanted.address.clone(),
        place: wanted.place.clone(),
        name: text("name").unwrap_or_else(|| wanted.address.name().to_owned()),
        arn: text("arn"),
        attached_to: text("attached_to"),
        auto_snapshots: text("auto_snapshot").is_some(),
        record: Some(wanted.desired.clone()),
        protected: observed
            .present()
            .and_then(|value| value.get("tags"))
            .and_then(|tags| serde_json::from_value(tags.clone()).ok())
            .is_some_and(|tags| crate::kinds::protected_by_tags(&tags)),
    }
}

impl Draft<'_> {
    fn judge(&mut self, wanted: &Wanted) {
        match change_for(self.resolved, self.snapshot, wanted) {
            Outcome::Unknown(Unseen::NotYetCreated(after)) => self.defer(wanted, after),
            Outcome::Unknown(why) => self.unknown.push(NotSeen { address: wanted.address.clone(), why }),
            Outcome::Foreign(why) => self.findings.push(self.foreign(wanted, &why)),
            Outcome::Unchanged { limits, remarks } => {
                self.unchanged.push(wanted.address.clone());
                self.limited(&wanted.address, limits);
                self.remarked(&wanted.address, remarks);
            }
            Outcome::Change { change, limits, remarks, refusals, opening } => {
                self.limited(&wanted.address, limits);
                let place = (self.locate)(&wanted.path);
                self.findings.extend(refusals.into_iter().map(|refusal| match place.clone() {
                    Some(span) => refusal.at(span, "wanted here"),
                    None => refusal,
                }));
                self.remarked(&wanted.address, remarks);
                if change.risk == Risk::LosesData && !self.intent.lose_data.contains(&change.address) {
                    let place = (self.locate)(&wanted.path);
                    self.findings.push(unproven(&change.address, change.action, place));
                }
                match opening {
                    Some(opening) => self.open_first(wanted, *change, opening),
                    None => self.changes.push(*change),
                }
            }
        }
    }

    /// Plans the first part of a change; the whole of it waits until what it makes room for is done. Where everything that
    /// the first part would open is open already, the whole waits all the same, and nothing is done before.
    fn open_first(&mut self, wanted: &Wanted, whole: Change, opening: Opening) {
        let Opening { fields, steps, until } = opening;
        let until = Address::new(until, wanted.address.name());
        if !fields.is_empty() {
            self.changes.push(Change { fields, files: Vec::new(), steps, ..whole.clone() });
        }
        let mut rest = whole;
        if rest.address != until {
            rest.after.push(until.clone());
        }
        self.deferred.push(Deferred { after: until, change: rest });
    }

    fn defer(&mut self, wanted: &Wanted, after: Address) {
        // The rest of a change in two parts is in this creation, too.
        self.deferred.retain(|deferred| deferred.change.address != wanted.address);
        let guard = Digest::of(&Observed::<()>::Unknown(Unseen::NotYetCreated(after.clone())));
        let change = creation(wanted, guard);
        self.deferred.push(Deferred { after, change });
    }

    /// Defers what needs something deferred, and what lives on a server that this plan replaces.
    fn defer_what_waits(&mut self) {
        let replaced: BTreeSet<Address> = self
            .changes
            .iter()
            .filter(|change| change.action == Action::Replace && change.address.kind() == kinds::SERVER)
            .map(|change| change.address.clone())
            .collect();
        for instance in replaced {
            let place = Place::Host(instance.name().to_owned());
            let resolved = self.resolved;
            for wanted in resolved.wanted.iter().filter(|w| w.place == place || w.after.contains(&instance)) {
                let address = &wanted.address;
                let planned = self.changes.iter().position(|change| change.address == *address);
                let planned = planned.map(|index| self.changes.remove(index));
                let as_wanted = self.unchanged.iter().position(|unchanged| unchanged == address);
                if let Some(index) = as_wanted {
                    self.unchanged.remove(index);
                }
                // The old server may not even answer: what is on it goes with it.
                self.unknown.retain(|unseen| unseen.address != *address);
                let is_there = as_wanted.is_some() || planned.is_some_and(|change| change.action != Action::Create);
                self.defer(wanted, instance.clone());
                // What lives in the cloud outlives the server: it stays, and is fitted to the new one.
                if let Some(waiting) = self.deferred.last_mut().filter(|_| is_there && wanted.place == Place::Cloud) {
                    waiting.change.action = Action::Update;
                    waiting.change.reason = Reason::ServerReplaced;
                    (waiting.change.fields, waiting.change.steps) = (Vec::new(), Steps::Cloud(Vec::new()));
                }
            }
            let manifest = Address::new(MANIFEST, instance.name());
            self.unknown.retain(|unseen| unseen.address != manifest);
        }
        loop {
            let waiting: BTreeMap<Address, Address> =
                self.deferred.iter().map(|d| (d.change.address.clone(), d.after.clone())).collect();
            let next = self.changes.iter().position(|change| {
                change.action != Action::Destroy && change.after.iter().any(|after| waiting.contains_key(after))
            });
            let Some(next) = next else { break };
            let change = self.changes.remove(next);
            let after = change
                .after
                .iter()
                .find(|after| waiting.contains_key(*after))
                .cloned()
                .expect("the position was found by this very condition");
            // A first part that waits is no part of its own: the whole waits already.
            if waiting.contains_key(&change.address) {
                continue;
            }
            self.deferred.push(Deferred { after, change });
        }
    }

    fn limited(&mut self, address: &Address, limits: Vec<FieldChange>) {
        self.limits.extend(limits.into_iter().map(|field| Limit { address: address.clone(), field }));
    }

    fn remarked(&mut self, address: &Address, remarks: Vec<Remark>) {
        self.remarks.extend(remarks.into_iter().map(|remark| (address.clone(), remark)));
    }

    fn foreign(&self, wanted: &Wanted, why: &str) -> Diagnostic {
        let finding =
            Diagnostic::error("not-ours", format!("`{}` exists already and is not ours to change", wanted.address))
                .note(why.to_owned())
                .hint("give the environment or the resource another name, or remove the existing one yourself");
        match (self.locate)(&wanted.path) {
            Some(span) => finding.at(span, "wanted here"),
            None => finding,
        }
    }

    /// What is ours and no longer declared.
    fn remove_undeclared(&mut self, found: &Ownership) {
        for owned in &found.owned {
            if self.resolved.wanted(&owned.address).is_none() {
                self.removal(owned, Reason::NoLongerDeclared, &[]);
            }
        }
    }

    /// Everything that is ours, in reverse. What lives on a server that goes goes with it.
    fn destroy(&mut self, found: &Ownership) {
        let mut owned: BTreeMap<Address, Owned> = BTreeMap::new();
        if !self.intent.only {
            owned.extend(found.owned.iter().map(|thing| (thing.address.clone(), thing.clone())));
        }
        let mut after: BTreeMap<Address, Vec<Address>> = BTreeMap::new();
        for wanted in &self.resolved.wanted {
            after.insert(wanted.address.clone(), wanted.after.clone());
            let Some(answers) = self.snapshot.answers(&wanted.place) else { continue };
            let judged = (wanted.kind.judge)(wanted, &self.resolved.environment, answers);
            match &judged.observed {
                Observed::Absent | Observed::Unknown(Unseen::NotYetCreated(_)) => {}
                // Its tags say that it is ours and where it is; a host that does not answer keeps nothing from going.
                Observed::Unknown(_) if owned.contains_key(&wanted.address) => {}
                Observed::Unknown(why) => {
                    self.unknown.push(NotSeen { address: wanted.address.clone(), why: why.clone() });
                }
                Observed::Present(_) if judged.owner != Owner::Ours => {}
                Observed::Present(_) => {
                    let thing = owned_by_declaration(wanted, &judged.observed);
                    owned.insert(wanted.address.clone(), thing);
                }
            }
        }
        let going: BTreeSet<String> = owned
            .keys()
            .filter(|address| address.kind() == kinds::SERVER)
            .map(|address| address.name().to_owned())
            .collect();
        for thing in owned.values() {
            let goes_with_its_server = matches!(&thing.place, Place::Host(server) if going.contains(server))
                || (going.contains(thing.address.name())
                    && kind(thing.address.kind()).is_some_and(|kind| kind.goes_with_server));
            if !goes_with_its_server {
                let needs = after.get(&thing.address).map_or(&[][..], Vec::as_slice);
                self.removal(thing, Reason::Requested, needs);
            }
        }
        self.unknown.retain(|unseen| !going.contains(unseen.address.name()));
    }

    fn removal(&mut self, owned: &Owned, reason: Reason, after: &[Address]) {
        let Some(kind) = kind(owned.address.kind()) else {
            self.findings.push(
                Diagnostic::warning(
                    "unknown-kind",
                    format!("`{}` is ours, but this version does not know its kind", owned.address),
                )
                .hint("use the version of seawall that made it"),
            );
            return;
        };
        if owned.protected {
            let finding = if self.intent.keep_protected || reason == Reason::NoLongerDeclared {
                Diagnostic::warning("protected", format!("`{}` is protected and stays", owned.address))
            } else {
                Diagnostic::error(
                    "protected",
                    format!("this plan would destroy `{}`, which is protected", owned.address),
                )
            };
            self.findings.push(
                finding
                    .note(format!("`{}` carries the tag `seawall:keep`, which outlives its line in the inventory", owned.name))
                    .hint("declare it with `keep: disposable` and apply that first, in a commit of its own; or leave it with --keep-protected"),
            );
            return;
        }
        let loses = kind.holds_data;
        let named = self.intent.lose_data.contains(&owned.address);
        if loses && !named {
            self.findings.push(unproven(&owned.address, Action::Destroy, None));
        }
        let mut steps = (kind.remove)(owned, if named { Data::Goes } else { Data::Stays });
        if let Steps::Host(steps) = &mut steps {
            steps.push(HostStep::Record { address: owned.address.clone(), desired: None });
        }
        let change = Change {
            address: owned.address.clone(),
            action: Action::Destroy,
            reason,
            fields: Vec::new(),
            files: Vec::new(),
            steps,
            guard: guard_of_owned(owned),
            risk: if loses { Risk::LosesData } else { kind.risk },
            proofs: Vec::new(),
            undo: Vec::new(),
            after: after.to_vec(),
        };
        self.changes.push(change);
    }
}

/// What a removal's guard holds: the thing as it was found.
pub fn guard_of_owned(owned: &Owned) -> Digest {
    Digest::of(&(&owned.address, &owned.name, &owned.arn, &owned.attached_to, owned.auto_snapshots, owned.protected))
}
