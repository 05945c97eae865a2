//! The state of an environment on one screen: who can reach what, what is not well, and whether all is as wanted.

use std::fmt::Write as _;

use crate::plan::Plan;
use crate::view::context::PlanContext;
use crate::view::plan::{header, surroundings};
use crate::view::reachability;

/// The whole screen.
pub fn render(plan: &Plan, context: &PlanContext) -> String {
    let mut text = header(context);
    text.push_str(&reachability::tables(&plan.reachability, context));
    surroundings(&mut text, plan, context);
    let changes = plan.changes().count() + plan.deferred.len();
    let _ = match (changes, plan.unknown.len(), plan.unchanged.len()) {
        (0, 0, wanted) => writeln!(text, "All is as wanted: {wanted} resources"),
        (changes, 0, wanted) => {
            writeln!(text, "{changes} not as wanted, {wanted} as wanted: `seawall plan` shows them")
        }
        (changes, unknown, wanted) => {
            writeln!(text, "{changes} not as wanted, {wanted} as wanted, {unknown} could not be looked at")
        }
    };
    text
}
