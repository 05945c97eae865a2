//! What must not go unproven: data. A change that loses data is refused unless its address was typed, or a backup of that data
//! is proven to restore. The refusal is what stands without anybody's doing; a proof takes it away.
//!
//! Deliberately absent: a proof for anything but a declared server. A bucket holds what a proof is made of.

use std::collections::BTreeSet;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::span::Span;
use crate::engine::resolve::Resolved;
use crate::inventory::sections::Inventory;
use crate::kinds::s3_bucket::S3Bucket;
use crate::kinds::{Kind as _, SERVER};
use crate::plan::Plan;
use crate::plan::change::{Action, Change, Reason, Risk};
use crate::plan::drills::Proofs;
use crate::plan::step::{CloudStep, Steps};
use crate::policy::{self, Evidence};

/// The refusal of a change that loses data which nobody named.
pub(super) fn unproven(address: &Address, action: Action, place: Option<Span>) -> Diagnostic {
    let finding = Diagnostic::error("data-unproven", message(address, action))
        .note("what is on it would be gone for good")
        .hint(format!("if nothing on it matters, name it: --lose-data {address}"));
    match place {
        Some(span) => finding.at(span, "declared here"),
        None => finding,
    }
}

fn message(address: &Address, action: Action) -> String {
    let verb = verb(action);
    format!("this plan would {verb} `{address}`, and nobody has named it as data that may be lost")
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Replace => "replace",
        Action::NoOp | Action::Create | Action::Update | Action::Destroy => "destroy",
    }
}

/// The servers that a plan is refused for: what is known of their backups decides.
pub fn in_question(plan: &Plan, resolved: &Resolved) -> BTreeSet<String> {
    let refused = plan.changes().filter(|change| refusal(plan, change).is_some() && can_be_proven(resolved, change));
    refused.map(|change| change.address.name().to_owned()).collect()
}

/// Where the refusal of a change stands among the findings.
fn refusal(plan: &Plan, change: &Change) -> Option<usize> {
    let message = message(&change.address, change.action);
    let is_it = |finding: &Diagnostic| finding.code == "data-unproven" && finding.message == message;
    (change.risk == Risk::LosesData).then(|| plan.findings.iter().position(is_it)).flatten()
}

/// Whether it is the instance of a declared server that goes, and not one of an earlier generation or of a line that was deleted.
fn can_be_proven(resolved: &Resolved, change: &Change) -> bool {
    let Some(server) = resolved.servers.get(change.address.name()) else { return false };
    let asked_for = match (change.action, &change.reason) {
        (Action::Replace, _) | (Action::Destroy, Reason::Requested) => true,
        (Action::NoOp | Action::Create | Action::Update | Action::Destroy, _) => false,
    };
    let deletes = |step: &CloudStep| match step {
        CloudStep::DeleteInstance { name } => Some(*name == server.instance),
        _ => None,
    };
    let its_own = match &change.steps {
        Steps::Cloud(steps) => {
            let mut own = steps.iter().filter_map(deletes).peekable();
            own.peek().is_some() && own.all(|is_own| is_own)
        }
        Steps::Host(_) => false,
    };
    change.address.kind() == SERVER && asked_for && its_own
}

/// Puts what is known of a server's backups to its refusal, and takes the refusal away where they are proven.
pub(super) fn judge(plan: &mut Plan, inventory: &Inventory, resolved: &Resolved, proofs: Option<&Proofs>) {
    let asked: Vec<(usize, Change)> =
        plan.changes().filter_map(|change| Some((refusal(plan, change)?, change.clone()))).collect();
    for (at, change) in asked {
        let before = plan.findings[at].clone();
        plan.findings[at] = if change.address.kind() == S3Bucket::NAME {
            before.note("no proof stands for a bucket: it holds what a proof is made of")
        } else if can_be_proven(resolved, &change) {
            let server = change.address.name();
            let evidence = policy::evidence(inventory, proofs, server, repository_goes(plan, inventory, server));
            judged(before, &change, evidence)
        } else {
            before.note("no proof stands for it: it is not the instance of a declared server")
        };
    }
}

/// Whether a plan takes the bucket of a server's repository away.
fn repository_goes(plan: &Plan, inventory: &Inventory, server: &str) -> bool {
    let declared = inventory.servers.iter().find(|(name, _)| name.as_str() == server);
    let Some(section) = declared.and_then(|(_, server)| server.backup.as_ref()) else { return false };
    let bucket = Address::new(S3Bucket::NAME, section.bucket.as_str());
    let goes = |change: &Change| matches!(change.action, Action::Destroy | Action::Replace);
    plan.changes().any(|change| change.address == bucket && goes(change))
}

fn judged(refusal: Diagnostic, change: &Change, evidence: Evidence) -> Diagnostic {
    let Change { address, action, .. } = change;
    let Evidence { known, proof } = evidence;
    match proof {
        Ok(until) => {
            let message = format!("this plan would {} `{address}`; a backup of its data is proven", verb(*action));
            let proven = Diagnostic::warning("data-proven", message);
            let finding = Diagnostic { labels: refusal.labels, notes: known, ..proven };
            let lost = format!(
                "lost are what was written after {}, and everything on it that is not in PostgreSQL",
                Evidence::until(until)
            );
            let hint = match action {
                Action::Replace => {
                    "the new server begins with an empty database; `seawall rebuild` with a later `instance.generation` brings the \
                     data along"
                }
                Action::NoOp | Action::Create | Action::Update | Action::Destroy => {
                    "`seawall rebuild` makes it anew from the backup, as long as the bucket stands"
                }
            };
            finding.note(lost).hint(hint)
        }
        Err(lacks) => {
            let finding = known.into_iter().fold(refusal, Diagnostic::note);
            let finding = lacks.into_iter().fold(finding, |finding, why| finding.note(format!("no proof: {why}")));
            let hint = format!(
                "prove a backup of it: seawall drill; or, if nothing on it matters, name it: --lose-data {address}"
            );
            Diagnostic { hint: None, ..finding }.hint(hint)
        }
    }
}
