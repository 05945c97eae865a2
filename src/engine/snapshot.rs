//! What the world looked like, as data: the answers of the cloud and of every host.
//!
//! Filled by `refresh` and read by everything that judges. What could not be seen is in it as such.

use std::collections::BTreeMap;

use crate::engine::resolve::Resolved;
use crate::kinds::table::Wanted;
use crate::plan::Place;
use crate::plan::cloud::Census;
use crate::plan::drills::Proofs;
use crate::plan::host::Endpoint;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::Answers;

/// What the world looked like.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub cloud: Answers,
    /// Everything of ours in the account. `Unknown` when not asked for (a partial refresh).
    pub census: Option<Observed<Census>>,
    pub hosts: BTreeMap<String, HostView>,
    /// What drills have proven; `None` where it was not asked for.
    pub proofs: Option<Proofs>,
}

/// What one host looked like.
#[derive(Clone, Debug)]
pub struct HostView {
    pub endpoint: Option<Endpoint>,
    pub answers: Answers,
}

impl Snapshot {
    /// The answers of a place.
    pub fn answers(&self, place: &Place) -> Option<&Answers> {
        match place {
            Place::Cloud => Some(&self.cloud),
            Place::Host(server) => self.hosts.get(server).map(|view| &view.answers),
        }
    }

    /// The hosts that can be logged in to.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.hosts.values().filter_map(|view| view.endpoint.clone()).collect()
    }
}

/// How much to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The given resources, and what else is there.
    Whole,
    /// Only the given resources: for looking again during an apply.
    Only,
}

/// What was seen of one wanted resource.
pub fn observed(resolved: &Resolved, snapshot: &Snapshot, wanted: &Wanted) -> Observed<serde_json::Value> {
    match snapshot.answers(&wanted.place) {
        Some(answers) => (wanted.kind.judge)(wanted, &resolved.environment, answers).observed,
        None => Observed::Unknown(Unseen::Misread("this place was not asked".to_owned())),
    }
}
