//! Rules: one file per family; findings with stable ids. One rule set serves plan, audit and drift.
//!
//! The checks of `inventory` refuse what cannot be meant; rules judge what can be meant and is dangerous, contradictory
//! or dear. Deliberately absent: rules about what is observed, which come with the kinds that observe it.

mod access;
mod backup;
mod clients;
mod copies;
mod cost;
mod gate;
mod lifecycle;
mod monitoring;
mod network;
mod objectives;
pub mod price;
mod proven;
mod roles;

use std::fmt::Display;

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::Inventory;
use crate::plan::drills::Proofs;
use crate::plan::{Cost, Objective};
pub use crate::policy::gate::Evidence;

/// A rule that a finding can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable; the finding's code.
    pub id: &'static str,
    pub severity: Severity,
    /// What the rule wants, in one sentence.
    pub wants: &'static str,
    /// Where it comes from: a benchmark's id, AWS's own rule, or what happened to somebody.
    pub source: &'static str,
}

/// Every rule there is, by family.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        network::RULES,
        access::RULES,
        roles::RULES,
        clients::RULES,
        backup::RULES,
        copies::RULES,
        lifecycle::RULES,
        monitoring::RULES,
        cost::RULES,
    ]
    .into_iter()
    .flatten()
}

/// Every broken rule of an inventory, errors first, then in the file's order.
pub fn check(inventory: &Inventory, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    network::check(inventory, places, &mut found);
    access::check(inventory, places, &mut found);
    roles::check(inventory, places, &mut found);
    clients::check(inventory, places, &mut found);
    backup::check(inventory, places, &mut found);
    copies::check(inventory, places, &mut found);
    lifecycle::check(inventory, places, &mut found);
    monitoring::check(inventory, places, &mut found);
    cost::check(inventory, places, &mut found);
    found.sort_by_key(|d| {
        let at = d.labels.first().map(|label| (label.span.line, label.span.column));
        (d.severity, at)
    });
    found
}

/// The objectives as the inventory states them, what its configuration can reach, and what is proven. Nothing that was
/// not evaluated says that it holds.
pub fn objectives(inventory: &Inventory, proofs: Option<&Proofs>) -> Vec<Objective> {
    objectives::table(inventory, proofs)
}

/// What drills have not proven, or not lately. Warnings: a new environment has no drill and must still be applied.
pub fn proven(inventory: &Inventory, proofs: Option<&Proofs>) -> Vec<Diagnostic> {
    proofs.map(|proofs| proven::check(inventory, proofs)).unwrap_or_default()
}

/// What is known of the backups of a server that a plan would take away, and whether they are proven. `repository_goes` says that
/// the same plan takes the bucket of its repository away.
pub fn evidence(inventory: &Inventory, proofs: Option<&Proofs>, server: &str, repository_goes: bool) -> Evidence {
    gate::evidence(inventory, proofs, server, repository_goes)
}

/// The monthly list price of what the inventory declares.
pub fn cost(inventory: &Inventory) -> Cost {
    cost::of(inventory)
}

impl Rule {
    /// A finding about this rule, with what in the inventory breaks it.
    fn broken(&self, message: impl Into<String>, evidence: impl Display) -> Diagnostic {
        let mut finding = Diagnostic::error(self.id, message).note(format!("evidence: {evidence}"));
        finding.severity = self.severity;
        finding
    }

    /// Ends a finding with where the rule comes from.
    fn cite(&self, finding: Diagnostic) -> Diagnostic {
        finding.note(format!("rule: {} ({})", self.wants, self.source))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rule_ids_are_unique_and_kebab() {
        let ids: Vec<&str> = rules().map(|rule| rule.id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        let kebab = |id: &&str| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(ids.iter().all(kebab), "{ids:?}");
    }
}
