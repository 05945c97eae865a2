//! One resource's change: everything that apply will do to it, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::digest::Digest;
use crate::plan::Place;
use crate::plan::step::{CloudStep, Steps};

/// What happens to a resource, in Terraform's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    NoOp,
    Create,
    Update,
    Replace,
    Destroy,
}

impl Action {
    /// The sign that Terraform users know.
    pub fn sign(self) -> &'static str {
        match self {
            Self::NoOp => " ",
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Destroy => "-",
        }
    }
}

/// Why. For people only: nothing at apply may depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    NotThere,
    Differs,
    /// These fields cannot be changed in place.
    CannotUpdateInPlace(Vec<String>),
    NoLongerDeclared,
    /// The server that it belongs to is replaced; what it needs then is known when the new one is there.
    ServerReplaced,
    Requested,
}

/// What may go wrong for the operator. `MayLockOut` changes go last, one host at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    Plain,
    Restarts,
    MayLockOut,
    LosesData,
}

/// The field of a resource that is as wanted on its host, and whose record in the host's manifest is not.
pub const RECORD: &str = "record";

/// One attribute before and after. `None` is absence. A secret's sides are never its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    pub path: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// Changing this field means replacing the resource.
    #[serde(default)]
    pub replaces: bool,
    /// Why this machine cannot close the difference (a container cannot set `kernel.*`), where that is so.
    #[serde(default)]
    pub limit: Option<String>,
}

impl FieldChange {
    /// A difference of two values that serialise.
    pub fn new(path: impl Into<String>, before: Option<Value>, after: Option<Value>) -> Self {
        Self { path: path.into(), before, after, replaces: false, limit: None }
    }

    /// The field change if the sides differ.
    pub fn between(path: &str, before: &impl Serialize, after: &impl Serialize) -> Option<Self> {
        let before = serde_json::to_value(before).expect("plain data of this program serialises");
        let after = serde_json::to_value(after).expect("plain data of this program serialises");
        let shown = |value: Value| (!value.is_null()).then_some(value);
        (before != after).then(|| Self::new(path, shown(before), shown(after)))
    }

    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replaces = true;
        self
    }

    #[must_use]
    pub fn limited(mut self, why: impl Into<String>) -> Self {
        self.limit = Some(why.into());
        self
    }
}

/// A file's text before and after, for a unified diff. Files that hold secrets have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDiff {
    pub path: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A difference that cannot be closed here, said aloud in plan and drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub address: Address,
    pub field: FieldChange,
}

/// What must hold before a guarded change is kept, besides that a new connection logs in and becomes root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The server offers a login by public key and by nothing else.
    KeysOnly,
    /// This user is not let in, whatever the key.
    RefusesUser(String),
    /// Nothing answers on this TCP port from here.
    PortClosed(u16),
}

/// Everything that apply will do to one resource; apply takes no decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub address: Address,
    pub action: Action,
    pub reason: Reason,
    pub fields: Vec<FieldChange>,
    pub files: Vec<FileDiff>,
    pub steps: Steps,
    /// Digest of what was observed when this was planned, absence included.
    pub guard: Digest,
    pub risk: Risk,
    /// For [`Risk::MayLockOut`]: what must hold before the change is kept.
    #[serde(default)]
    pub proofs: Vec<Proof>,
    /// Cloud steps that put back what was observed, for when a host cannot be reached after this change. A host puts
    /// back what is on it by itself.
    #[serde(default)]
    pub undo: Vec<CloudStep>,
    /// Resources that must be done before this one.
    pub after: Vec<Address>,
}

impl Change {
    /// Where it is done. A host's resource bears the name of its server.
    pub fn place(&self) -> Place {
        match &self.steps {
            Steps::Cloud(_) => Place::Cloud,
            Steps::Host(_) => Place::Host(self.address.name().to_owned()),
        }
    }
}
