//! A plan as text, read top-down by place: what will happen, what is dangerous, what to do next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::base::address::Address;
use crate::base::diag::{Diagnostics, Severity};
use crate::plan::change::{Action, Change, Limit, Reason, Risk};
use crate::plan::remark::{RemarkSeverity, broken};
use crate::plan::{Cost, Objective, Place, Plan};
use crate::view::change;
use crate::view::context::PlanContext;
use crate::view::diag;
use crate::view::reachability;
use crate::view::style::Role;
use crate::view::table;
use crate::view::text::{clean_line, wrap};
use crate::view::value::sides;

/// The whole plan.
pub fn render(plan: &Plan, context: &PlanContext) -> String {
    let mut text = header(context);
    not_well(&mut text, context);
    for (here, changes) in by_place(plan) {
        let _ = writeln!(text, "{}\n", context.style.paint(Role::Title, place(&here)));
        text.push_str(&change::render_all(changes, context));
    }
    deferred(&mut text, plan, context);
    surroundings(&mut text, plan, context);
    findings(&mut text, plan, context);
    text.push_str(&reachability::tables(&plan.reachability, context));
    text.push_str(&objectives(&plan.objectives, context.width));
    text.push_str(&cost(&plan.cost, context.budget_cents, context.verbose));
    text.push_str(&summary(plan, context));
    text
}

/// Findings of rules and kinds: what keeps the plan from being applied, and what its reader should know.
pub fn findings(text: &mut String, plan: &Plan, context: &PlanContext) {
    if !plan.findings.is_empty() {
        text.push_str(&diag::render(&Diagnostics(plan.findings.clone()), &context.sources, context.style));
        text.push('\n');
    }
}

/// How many findings keep the plan from being applied.
pub fn errors(plan: &Plan) -> usize {
    plan.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

/// Said instead of the next command.
pub fn refused(errors: usize) -> String {
    let rules =
        if errors == 1 { "the error above stands".to_owned() } else { format!("the {errors} errors above stand") };
    format!("This cannot be applied as long as {rules}")
}

/// The changes of consecutive stages at one place, together: readers need not know where one stage ends.
fn by_place(plan: &Plan) -> Vec<(Place, Vec<&Change>)> {
    let mut places: Vec<(Place, Vec<&Change>)> = Vec::new();
    for stage in plan.stages.iter().filter(|stage| !stage.changes.is_empty()) {
        match places.last_mut() {
            Some((place, changes)) if *place == stage.place() => changes.extend(&stage.changes),
            _ => places.push((stage.place(), stage.changes.iter().collect())),
        }
    }
    places
}

/// Environment, account, and whether it is AWS.
pub fn header(context: &PlanContext) -> String {
    let (account, region) = (clean_line(&context.account), clean_line(&context.region));
    let place = if context.sandbox {
        format!("sandbox, as account {account} in {region}")
    } else {
        format!("AWS account {account} in {region}")
    };
    format!("{}  {place}\n\n", context.style.paint(Role::Title, clean_line(&context.environment)))
}

fn place(place: &Place) -> String {
    match place {
        Place::Cloud => "cloud".to_owned(),
        Place::Host(server) => format!("server {server}"),
    }
}

fn deferred(text: &mut String, plan: &Plan, context: &PlanContext) {
    let mut groups: BTreeMap<(&Address, Place), Vec<&Change>> = BTreeMap::new();
    for deferred in &plan.deferred {
        groups.entry((&deferred.after, deferred.change.place())).or_default().push(&deferred.change);
    }
    for ((after, where_), changes) in groups {
        let title = format!("{}, after {after}", place(&where_));
        let _ = writeln!(text, "{}", context.style.paint(Role::Title, title));
        let _ = writeln!(text, "{}\n", context.style.paint(Role::Faint, why_later(&changes)));
        text.push_str(&change::render_all(changes, context));
    }
}

/// A server that does not exist yet, or a first part that must be proven before the rest.
fn why_later(changes: &[&Change]) -> &'static str {
    if changes.iter().all(|change| change.action == Action::Update && change.reason == Reason::Differs) {
        "the rest of the change: what closes waits until what opens has been proven"
    } else {
        "planned from the templates; planned again against what is there by then"
    }
}

/// What is broken, which no apply mends. It stands first.
pub fn not_well(text: &mut String, context: &PlanContext) {
    section(text, context, "not well", Role::Danger, &remarks(context, RemarkSeverity::Broken));
}

fn remarks(context: &PlanContext, severity: RemarkSeverity) -> Vec<String> {
    let these = context.remarks.iter().filter(|(_, remark)| remark.severity == severity);
    these.map(|(address, remark)| format!("! {address}  {}", clean_line(&remark.text))).collect()
}

fn section(text: &mut String, context: &PlanContext, title: &str, role: Role, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "{}", context.style.paint(role, title));
        for line in lines {
            let _ = writeln!(text, "{}", wrap(&format!("    {line}"), 8, context.width));
        }
        text.push('\n');
    }
}

/// Said beside a verdict, so that none stands alone beside what is broken: `2 things are not well`.
pub fn count_not_well(context: &PlanContext) -> Option<String> {
    match broken(&context.remarks) {
        0 => None,
        1 => Some("1 thing is not well".to_owned()),
        many => Some(format!("{many} things are not well")),
    }
}

/// What is not a change and yet worth knowing.
pub fn surroundings(text: &mut String, plan: &Plan, context: &PlanContext) {
    let mut section = |title: &str, role: Role, lines: Vec<String>| section(text, context, title, role, &lines);
    section("could not look, so nothing is known and nothing will be done about", Role::Danger, unseen(plan));
    section("cannot be changed on this machine", Role::Changed, limits(plan));
    section("worth knowing", Role::Changed, remarks(context, RemarkSeverity::WorthKnowing));
    section(
        "not ours, left alone",
        Role::Faint,
        plan.unmanaged
            .iter()
            .map(|thing| clean_line(&format!("  {}  {}  {}", thing.kind, thing.name, thing.note)))
            .collect(),
    );
}

/// What could not be looked at, a line for each reason: a server that does not answer is one fact, not eight.
fn unseen(plan: &Plan) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for unseen in &plan.unknown {
        let (why, address) = (clean_line(&unseen.why.to_string()), unseen.address.to_string());
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, addresses)) => addresses.push(address),
            None => reasons.push((why, vec![address])),
        }
    }
    reasons.into_iter().map(|(why, addresses)| format!("? {}  {why}", addresses.join(", "))).collect()
}

/// Limits, grouped by resource and reason.
fn limits(plan: &Plan) -> Vec<String> {
    let why = |limit: &Limit| limit.field.limit.clone().unwrap_or_default();
    let mut lines = Vec::new();
    let mut told: Vec<(&Address, String)> = Vec::new();
    for first in &plan.limits {
        let group = (&first.address, why(first));
        if told.contains(&group) {
            continue;
        }
        let reason = if group.1.is_empty() { "no reason is known" } else { &group.1 };
        lines.push(format!("! {}  {}", first.address, clean_line(reason)));
        let same: Vec<_> = plan.limits.iter().filter(|limit| (&limit.address, why(limit)) == group).collect();
        let width = same.iter().map(|limit| limit.field.path.chars().count()).max().unwrap_or(0);
        for limit in same {
            let field = &limit.field;
            let sides = sides(field.before.as_ref(), field.after.as_ref());
            lines.push(format!("    {:width$}  {sides}", clean_line(&field.path)));
        }
        told.push(group);
    }
    lines
}

/// The objectives table.
fn objectives(objectives: &[Objective], terminal: Option<usize>) -> String {
    if objectives.is_empty() {
        return String::new();
    }
    let head = ["objectives", "wanted", "by configuration", "last proof"];
    let row = |o: &Objective| [o.name.clone(), o.wanted.clone(), o.by_configuration.clone(), o.last_proof.clone()];
    let mut text = String::new();
    for line in table::lines(head, objectives.iter().map(row).collect(), terminal) {
        let _ = writeln!(text, "{line}");
    }
    text.push('\n');
    text
}

fn dollars(cents: u64) -> String {
    format!("{}.{:02} USD", cents / 100, cents % 100)
}

fn cost(cost: &Cost, budget: Option<u64>, verbose: bool) -> String {
    if cost.lines.is_empty() {
        return String::new();
    }
    let mut text = format!("cost  {} a month at list price", dollars(cost.monthly_cents()));
    if let Some(budget) = budget {
        let _ = write!(text, ", of a budget of {}", dollars(budget));
    }
    text.push('\n');
    if verbose {
        for line in &cost.lines {
            let _ = writeln!(text, "    {:>10}  {}  {}", dollars(line.monthly_cents), line.address, line.what);
        }
        for left_out in &cost.not_included {
            let _ = writeln!(text, "    not included: {left_out}");
        }
    }
    text.push('\n');
    text
}

/// The last lines: what it comes to, and what to do next where there is something to do.
pub fn summary(plan: &Plan, context: &PlanContext) -> String {
    let errors = errors(plan);
    let mut text = if plan.is_empty() && plan.is_complete() {
        let but = (errors > 0).then(|| "refused by a rule".to_owned());
        let but: Vec<String> = but.into_iter().chain(count_not_well(context)).collect();
        let what =
            if but.is_empty() { "No changes".to_owned() } else { format!("No changes, but {}", but.join(" and ")) };
        match (context.destroy, plan.unchanged.len()) {
            (true, 0) => format!("{what}: nothing of {} is there", clean_line(&context.environment)),
            (_, count) => format!("{what}: {} {} {}", resources(count), matches(count), context.inventory_file),
        }
    } else {
        let not_well = count_not_well(context).map(|count| format!("; {count}"));
        counts(plan) + &not_well.unwrap_or_default()
    };
    if !plan.is_complete() {
        let _ = write!(text, "; {} could not be looked at", resources(plan.unknown.len()));
    }
    text = wrap(&clean_line(&text), 4, context.width);
    text.push('\n');
    let _ = if errors > 0 {
        writeln!(text, "{}", refused(errors))
    } else if !plan.is_complete() {
        writeln!(text, "This cannot be applied: what could not be looked at is not known to be safe to change")
    } else {
        if may_lock_out(plan) {
            let guarded =
                "What may lock out is kept only if a new login proves it; otherwise it is put back (exit code 5)";
            text.push_str(&wrap(guarded, 4, context.width));
            text.push('\n');
        }
        if plan.is_empty() || context.next.is_empty() {
            Ok(())
        } else {
            writeln!(text, "Apply this with: {}", context.next)
        }
    };
    text
}

fn may_lock_out(plan: &Plan) -> bool {
    plan.changes().chain(plan.deferred.iter().map(|d| &d.change)).any(|change| change.risk == Risk::MayLockOut)
}

fn counts(plan: &Plan) -> String {
    // A change in two parts is one.
    let changes: BTreeMap<&Address, &Change> =
        plan.changes().chain(plan.deferred.iter().map(|d| &d.change)).map(|change| (&change.address, change)).collect();
    let count = |action: Action| changes.values().filter(|change| change.action == action).count();
    format!(
        "Plan: {} to create, {} to update, {} to replace, {} to destroy; {} as wanted",
        count(Action::Create),
        count(Action::Update),
        count(Action::Replace),
        count(Action::Destroy),
        resources(plan.unchanged.len())
    )
}

fn matches(count: usize) -> &'static str {
    if count == 1 { "matches" } else { "match" }
}

fn resources(count: usize) -> String {
    if count == 1 { "1 resource".to_owned() } else { format!("{count} resources") }
}
