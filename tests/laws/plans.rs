//! What every plan promises, over the plan of every case.

use std::collections::BTreeMap;

use seawall::engine::propose::{Intent, propose};
use seawall::engine::resolve::Resolved;
use seawall::engine::snapshot::{HostView, Snapshot};
use seawall::kinds::table::Entry;
use seawall::plan::check::check;
use seawall::plan::cloud::Census;
use seawall::plan::observed::Observed;
use seawall::plan::{Place, Plan};

use super::{each_case, holds};
use crate::support::case::{self, Case};

/// The plan of one case alone, as the engine makes it. A law of its own checks the promises of all plans.
fn plan_of(kind: &'static Entry, case: &Case) -> Plan {
    let wanted = case.wanted(kind);
    let (answers, place) = (case.answers(), wanted.place.clone());
    let mut snapshot =
        Snapshot { census: Some(Observed::Present(Census { entries: Vec::new() })), ..Snapshot::default() };
    match &place {
        Place::Cloud => snapshot.cloud = answers,
        Place::Host(server) => {
            // A manifest that was not asked about is nothing that a case is about.
            snapshot.hosts.insert(server.clone(), HostView { endpoint: None, answers });
        }
    }
    let resolved = Resolved {
        environment: case.environment().to_owned(),
        account: "123456789012".to_owned(),
        region: "ca-central-1".to_owned(),
        wanted: vec![wanted],
        servers: BTreeMap::new(),
    };
    propose(&resolved, &snapshot, &Intent { only: true, ..Intent::default() }, &|_| None).plan
}

/// What a plan of a case breaks of the promises of all plans.
pub(crate) fn keep_their_promises(kind: &'static Entry, case: &Case) -> Vec<String> {
    check(plan_of(kind, case)).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn every_plan_is_sound() {
    holds(&each_case(keep_their_promises));
    let planned = case::all().flat_map(|(kind, cases)| cases.into_iter().map(move |case| plan_of(kind, &case)));
    let changes: usize = planned.map(|plan| plan.changes().count() + plan.deferred.len()).sum();
    assert!(changes > 100, "the cases make plans with changes: {changes}");
}
