//! Kinds behind one face: the engine works with JSON values and function pointers, each kind with its own types.
//!
//! No boxing and no macro: [`entry`] makes a plain struct of function pointers for a kind, and the table is a slice.

use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::Inventory;
use crate::kinds::{Kind, Opening, Owned, Owner};
use crate::plan::Place;
use crate::plan::change::{FieldChange, FileDiff, Proof, Risk};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{CloudStep, Step as _, Steps};

/// A kind with its types erased.
pub struct Entry {
    pub name: &'static str,
    pub summary: &'static str,
    pub explain: &'static str,
    pub risk: Risk,
    pub holds_data: bool,
    pub goes_with_server: bool,
    /// Whether its resources are on a host, whose name they bear; otherwise they are in AWS.
    pub on_host: fn() -> bool,
    /// Why a record of this kind holds what no inventory could have said; see [`Kind::doubts`].
    pub doubts: fn(&Value) -> Option<String>,
    pub declare: fn(&Inventory) -> Vec<Wanted>,
    pub probes: fn(&Value) -> Vec<Probe>,
    pub judge: fn(&Wanted, &str, &Answers) -> Judged,
    /// What would be done if nothing were there: for creation, replacement, and servers that do not exist yet.
    pub create: fn(&Value) -> Creation,
    pub remove: fn(&Owned, Data) -> Steps,
    /// What takes away the thing that is there and makes it anew.
    pub replace: fn(&Owned, &Value) -> Steps,
    pub proofs: fn(&Value) -> Vec<Proof>,
}

/// One resource that the inventory asks for, its desired state as JSON.
#[derive(Clone)]
pub struct Wanted {
    pub kind: &'static Entry,
    pub address: Address,
    pub place: Place,
    pub after: Vec<Address>,
    pub path: String,
    pub desired: Value,
}

/// What a kind says about one wanted resource after looking.
pub struct Judged {
    /// What was observed, as JSON: what a plan's guard digests.
    pub observed: Observed<Value>,
    pub owner: Owner,
    /// Empty when as wanted, and when absent or unknown.
    pub fields: Vec<FieldChange>,
    pub files: Vec<FileDiff>,
    /// Steps to close `fields`; empty when absent (see [`Entry::create`]) or unknown.
    pub steps: Steps,
    pub remarks: Vec<Remark>,
    pub risk: Risk,
    /// Why `fields` must not be closed.
    pub refusals: Vec<Diagnostic>,
    /// How to put the cloud back.
    pub undo: Vec<CloudStep>,
    /// The part of the change that comes first, where the rest must wait.
    pub opening: Option<Opening>,
}

/// Whether the operator named a resource whose data may be lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Stays,
    Goes,
}

/// What making a resource from nothing consists of.
pub struct Creation {
    pub fields: Vec<FieldChange>,
    pub files: Vec<FileDiff>,
    pub steps: Steps,
    pub opening: Option<Opening>,
}

/// The table's entry for a kind.
pub const fn entry<K: Kind>() -> Entry {
    Entry {
        name: K::NAME,
        summary: K::SUMMARY,
        explain: K::EXPLAIN,
        risk: K::RISK,
        holds_data: K::HOLDS_DATA,
        goes_with_server: K::GOES_WITH_SERVER,
        on_host: on_host::<K>,
        doubts: doubts::<K>,
        declare: declare::<K>,
        probes: probes::<K>,
        judge: judge::<K>,
        create: create::<K>,
        remove: remove::<K>,
        replace: replace::<K>,
        proofs: proofs::<K>,
    }
}

fn declare<K: Kind>(inventory: &Inventory) -> Vec<Wanted> {
    let kind = crate::kinds::kind(K::NAME).expect("only kinds of the table declare");
    K::declare(inventory)
        .into_iter()
        .map(|declared| Wanted {
            kind,
            address: declared.address,
            place: declared.place,
            after: declared.after,
            path: declared.path,
            desired: serde_json::to_value(&declared.desired).expect("a kind's desired state serialises"),
        })
        .collect()
}

fn typed<K: Kind>(desired: &Value) -> K::Desired {
    serde_json::from_value(desired.clone()).expect("the desired state came from this kind")
}

fn probes<K: Kind>(desired: &Value) -> Vec<Probe> {
    K::probes(&typed::<K>(desired))
}

fn doubts<K: Kind>(record: &Value) -> Option<String> {
    K::doubts(&serde_json::from_value(record.clone()).ok()?)
}

fn proofs<K: Kind>(desired: &Value) -> Vec<Proof> {
    K::proofs(&typed::<K>(desired))
}

fn judge<K: Kind>(wanted: &Wanted, environment: &str, answers: &Answers) -> Judged {
    let desired = typed::<K>(&wanted.desired);
    let observed = K::read(&desired, answers);
    let mut judged = Judged {
        observed: observed.as_ref().map(|actual| serde_json::to_value(actual).expect("a kind's state serialises")),
        owner: Owner::Ours,
        fields: Vec::new(),
        files: Vec::new(),
        steps: K::Step::list(Vec::new()),
        remarks: Vec::new(),
        risk: K::RISK,
        refusals: Vec::new(),
        undo: Vec::new(),
        opening: None,
    };
    if let Observed::Present(actual) = &observed {
        judged.owner = K::owner(&wanted.address, environment, actual);
        judged.fields = K::diff(&desired, actual);
        judged.remarks = K::remarks(&desired, actual);
        if !judged.fields.is_empty() {
            judged.risk = K::risk(&desired, actual, &judged.fields);
            judged.refusals = K::refusals(&desired, actual, &judged.fields);
            judged.files = K::files(&desired, Some(actual)).into_iter().filter(|f| f.before != f.after).collect();
            judged.steps = K::Step::list(K::steps(&desired, Some(actual), &judged.fields));
            judged.undo = K::undo(&desired, actual);
            judged.opening = opening::<K>(&desired, Some(actual));
        }
    }
    judged
}

fn create<K: Kind>(desired: &Value) -> Creation {
    let desired = typed::<K>(desired);
    let fields = K::describe(&desired);
    let (files, steps) = (K::files(&desired, None), K::Step::list(K::steps(&desired, None, &fields)));
    Creation { files, steps, opening: opening::<K>(&desired, None), fields }
}

fn opening<K: Kind>(desired: &K::Desired, actual: Option<&K::Actual>) -> Option<Opening> {
    let Opening { fields, steps, until } = K::opening(desired, actual)?;
    Some(Opening { fields, steps: K::Step::list(steps), until })
}

fn on_host<K: Kind>() -> bool {
    match K::Step::list(Vec::new()) {
        Steps::Host(_) => true,
        Steps::Cloud(_) => false,
    }
}

fn remove<K: Kind>(owned: &Owned, data: Data) -> Steps {
    let mut steps = match data {
        Data::Stays => Vec::new(),
        Data::Goes => K::empty(owned),
    };
    steps.extend(K::remove(owned));
    K::Step::list(steps)
}

fn replace<K: Kind>(owned: &Owned, desired: &Value) -> Steps {
    let desired = typed::<K>(desired);
    let mut steps = K::remove(owned);
    steps.extend(K::steps(&desired, None, &K::describe(&desired)));
    K::Step::list(steps)
}
