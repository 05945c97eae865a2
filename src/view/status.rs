//! The state of an environment on one screen: what is not well, who can reach what, and whether all is as wanted.

use std::fmt::Write as _;

use crate::plan::Plan;
use crate::plan::remark::broken;
use crate::view::context::PlanContext;
use crate::view::plan::{header, not_well, surroundings};
use crate::view::reachability;

/// The whole screen. `backups` is what was found about them, as text; empty where all is well with them.
pub fn render(plan: &Plan, backups: &str, context: &PlanContext) -> String {
    let mut text = header(context);
    not_well(&mut text, context);
    if !backups.is_empty() {
        let _ = writeln!(text, "{}\n", backups.trim());
    }
    text.push_str(&reachability::tables(&plan.reachability, context));
    surroundings(&mut text, plan, context);
    let changes = plan.changes().count() + plan.deferred.len();
    let but = if backups.is_empty() && broken(&context.remarks) == 0 { "" } else { ", but not all is well" };
    let _ = match (changes, plan.unknown.len(), plan.unchanged.len()) {
        (0, 0, wanted) => writeln!(text, "All is as wanted{but}: {wanted} resources"),
        (changes, 0, wanted) => {
            writeln!(text, "{changes} not as wanted, {wanted} as wanted{but}: `seawall plan` shows them")
        }
        (changes, unknown, wanted) => {
            writeln!(text, "{changes} not as wanted, {wanted} as wanted, {unknown} could not be looked at{but}")
        }
    };
    text
}
