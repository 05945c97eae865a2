//! Drift as text: what changed behind us, what is not applied yet, what is not ours.

use std::fmt::Write as _;

use crate::plan::Plan;
use crate::plan::change::Change;
use crate::view::change;
use crate::view::context::PlanContext;
use crate::view::plan::{count_not_well, errors, findings, header, not_well, refused, surroundings};
use crate::view::reachability;
use crate::view::style::Role;

/// The whole report. `plan` holds what is no change: the unseen, limits, what is not ours.
pub fn render(behind_us: &[Change], not_applied: &[Change], plan: &Plan, context: &PlanContext) -> String {
    let mut text = header(context);
    not_well(&mut text, context);
    let sections = [
        ("changed behind us: the inventory is as it was when it was last applied", Role::Danger, behind_us),
        ("not applied yet: the inventory asks for this since", Role::Title, not_applied),
    ];
    if !(behind_us.is_empty() && not_applied.is_empty()) {
        // Arrows and diffs are those of a plan: a reader of drift expects what happened, and must be told.
        let _ =
            writeln!(text, "{}\n", context.style.paint(Role::Faint, "each line: as found → as the inventory wants it"));
    }
    for (title, role, changes) in sections {
        if !changes.is_empty() {
            let _ = writeln!(text, "{}\n", context.style.paint(role, title));
            text.push_str(&change::render_all(changes, context));
        }
    }
    let exposed = plan.reachability.iter().filter(|server| !server.undeclared.is_empty()).cloned();
    text.push_str(&reachability::tables(&exposed.collect::<Vec<_>>(), context));
    surroundings(&mut text, plan, context);
    findings(&mut text, plan, context);
    text.push_str(&summary(behind_us.len(), not_applied.len(), plan, context));
    text
}

fn summary(behind_us: usize, not_applied: usize, plan: &Plan, context: &PlanContext) -> String {
    let (wanted, unknown) = (plan.unchanged.len(), plan.unknown.len());
    let errors = errors(plan);
    if behind_us + not_applied + unknown + errors == 0 {
        let (resources, matches) = if wanted == 1 { ("resource", "matches") } else { ("resources", "match") };
        let but = count_not_well(context).map(|count| format!(", but {count}")).unwrap_or_default();
        return format!("No drift{but}: {wanted} {resources} {matches} {}\n", context.inventory_file);
    }
    let mut text = format!("Drift: {behind_us} changed behind us, {not_applied} not applied yet, {wanted} as wanted");
    if unknown > 0 {
        let _ = write!(text, ", {unknown} could not be looked at");
    }
    if let Some(count) = count_not_well(context) {
        let _ = write!(text, "; {count}");
    }
    text.push('\n');
    if errors > 0 {
        let _ = writeln!(text, "{}", refused(errors));
    } else if behind_us + not_applied > 0 && unknown == 0 && !context.next.is_empty() {
        let _ = writeln!(text, "Make it as the inventory says with: {}", context.next);
    }
    text
}
