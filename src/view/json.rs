//! Versioned JSON of what commands produce. Additions keep the number; anything else raises it.
//!
//! The types here are the documents: their schemas, made from the same types, stand in `docs/`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::plan::change::{Change, Limit};
use crate::plan::remark::{RemarkSeverity, broken};
use crate::plan::{NotSeen, Plan, Unmanaged};
use crate::view::context::PlanContext;
use crate::view::progress::{Ended, Reason};

/// Format of a plan that is shown.
const PLAN: &str = "seawall.plan-view/1";

/// Format of drift.
const DRIFT: &str = "seawall.drift/1";

/// Format of how an apply ended.
const APPLIED: &str = "seawall.applied/1";

/// Format of what is wrong.
const PROBLEMS: &str = "seawall.problems/1";

/// A plan as `seawall plan --format json` and `seawall show --format json` print it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Seawall plan, as shown", deny_unknown_fields)]
pub struct PlanView<'a> {
    /// `seawall.plan-view/1`.
    #[schemars(extend("const" = PLAN))]
    format: &'a str,
    environment: &'a str,
    /// The AWS account, twelve digits.
    account: &'a str,
    region: &'a str,
    /// Made against the local cloud, not against AWS.
    sandbox: bool,
    /// The inventory's file, as the operator named it.
    inventory: &'a str,
    plan: &'a Plan,
    /// Nothing is to be done.
    empty: bool,
    /// Everything could be looked at. A plan that is not complete is not applied.
    complete: bool,
    /// No remark says that something is broken.
    well: bool,
    /// What is broken comes first.
    remarks: Vec<RemarkView<'a>>,
}

/// What changed behind us, and what is not applied yet, as `seawall drift --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Seawall drift", deny_unknown_fields)]
pub struct DriftView<'a> {
    /// `seawall.drift/1`.
    #[schemars(extend("const" = DRIFT))]
    format: &'a str,
    environment: &'a str,
    /// The AWS account, twelve digits.
    account: &'a str,
    region: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    /// The inventory's file, as the operator named it.
    inventory: &'a str,
    /// The inventory is as it was when it was last applied, and the world is not. `before` is what was found.
    changed_behind_us: &'a [Change],
    /// The inventory asks for these since it was last applied.
    not_applied_yet: &'a [Change],
    not_ours: &'a [Unmanaged],
    unknown: &'a [NotSeen],
    limits: &'a [Limit],
    /// Broken rules and refusals: what is ours by name and not by its tags, for example.
    findings: &'a [Diagnostic],
    unchanged: &'a [Address],
    /// No remark says that something is broken.
    well: bool,
    /// What is broken comes first.
    remarks: Vec<RemarkView<'a>>,
}

/// Something worth saying about a resource, whether it is as wanted or not.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Remark", deny_unknown_fields)]
pub struct RemarkView<'a> {
    address: &'a Address,
    severity: RemarkSeverity,
    remark: &'a str,
}

/// How an apply ended, as `seawall apply --format json` and `seawall destroy --format json` print it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "How an apply of Seawall ended", deny_unknown_fields)]
pub struct AppliedView<'a> {
    /// `seawall.applied/1`.
    #[schemars(extend("const" = APPLIED))]
    format: &'a str,
    /// Changed, and read back as wanted.
    done: &'a [Address],
    /// As wanted before this run came to them.
    already_done: &'a [Address],
    failed: Vec<FailedView<'a>>,
    /// Not begun, because of a failure before them.
    not_started: &'a [Address],
    /// Changed and put back, because no new login proved that the change does not lock out.
    put_back: Vec<FailedView<'a>>,
    /// By server, what is as it was before.
    restored: BTreeMap<&'a str, &'a [String]>,
}

/// A resource whose change failed.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FailedView<'a> {
    address: &'a Address,
    why: &'a str,
}

/// What is wrong with an inventory, or with a run.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Problems that Seawall found", deny_unknown_fields)]
pub struct ProblemsView<'a> {
    /// `seawall.problems/1`.
    #[schemars(extend("const" = PROBLEMS))]
    format: &'a str,
    problems: &'a [Diagnostic],
}

/// A plan.
pub fn plan(plan: &Plan, context: &PlanContext) -> Value {
    to_value(&PlanView {
        format: PLAN,
        environment: &context.environment,
        account: &context.account,
        region: &context.region,
        sandbox: context.sandbox,
        inventory: &context.inventory_file,
        plan,
        empty: plan.is_empty(),
        complete: plan.is_complete(),
        well: broken(&context.remarks) == 0,
        remarks: remarks(context),
    })
}

/// Drift.
pub fn drift(behind_us: &[Change], not_applied: &[Change], plan: &Plan, context: &PlanContext) -> Value {
    to_value(&DriftView {
        format: DRIFT,
        environment: &context.environment,
        account: &context.account,
        region: &context.region,
        sandbox: context.sandbox,
        inventory: &context.inventory_file,
        changed_behind_us: behind_us,
        not_applied_yet: not_applied,
        not_ours: &plan.unmanaged,
        unknown: &plan.unknown,
        limits: &plan.limits,
        findings: &plan.findings,
        unchanged: &plan.unchanged,
        well: broken(&context.remarks) == 0,
        remarks: remarks(context),
    })
}

/// How an apply ended.
pub fn applied(ended: &Ended) -> Value {
    fn reasons(all: &[Reason]) -> Vec<FailedView<'_>> {
        all.iter().map(|reason| FailedView { address: &reason.address, why: &reason.why }).collect()
    }
    let Ended { done, already, failed, not_started, put_back, unchanged_after_revert } = ended;
    to_value(&AppliedView {
        format: APPLIED,
        done,
        already_done: already,
        failed: reasons(failed),
        not_started,
        put_back: reasons(put_back),
        restored: unchanged_after_revert.iter().map(|(server, lines)| (server.as_str(), lines.as_slice())).collect(),
    })
}

/// What is wrong with an inventory, or with a run.
pub fn problems(diagnostics: &[Diagnostic]) -> Value {
    to_value(&ProblemsView { format: PROBLEMS, problems: diagnostics })
}

/// The schema (draft 2020-12) of what a type serialises to.
pub fn schema_of<T: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

fn remarks(context: &PlanContext) -> Vec<RemarkView<'_>> {
    let all = context.remarks.iter();
    all.map(|(address, remark)| RemarkView { address, severity: remark.severity, remark: &remark.text }).collect()
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data of this program serialises")
}
