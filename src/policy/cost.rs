//! What an inventory costs per month by list price, and whether that is within its budget.
//!
//! Only what is fixed is counted. What depends on use is named with its unit price, and never guessed.

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::scalar::Money;
use crate::inventory::sections::Inventory;
use crate::inventory::similar::{choices, similar};
use crate::plan::{Cost, CostLine};
use crate::policy::Rule;
use crate::policy::price::{ALARM, BUNDLES, FREE_ALARMS, S3_STANDARD, SNAPSHOT, bundle_of};

const OVER_BUDGET: Rule = Rule {
    id: "over-budget",
    severity: Severity::Error,
    wants: "the list price is within `objectives.monthly_budget`",
    source: "Project Chronos, Sprint 7: 25 USD a month are allocated",
};
const UNKNOWN_BUNDLE: Rule = Rule {
    id: "unknown-bundle",
    severity: Severity::Warning,
    wants: "the bundle is one that AWS offers for Linux today",
    source: "AWS Lightsail bundles, 2026-11; the `_2_0` generation is no longer offered",
};

pub(super) const RULES: &[Rule] = &[OVER_BUDGET, UNKNOWN_BUNDLE];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let bundle = &server.instance.bundle;
        if bundle_of(bundle).is_none() {
            let ids = || BUNDLES.iter().map(|bundle| bundle.id);
            let label = similar(bundle, ids()).map_or("not known".to_owned(), |id| format!("did you mean `{id}`?"));
            let finding = UNKNOWN_BUNDLE
                .broken(
                    format!("`{bundle}` is no bundle that this version knows, so its price is not counted"),
                    format!("the price table of {} has {} bundles", BUNDLES[0].evidence.as_of, BUNDLES.len()),
                )
                .at(places.span(&format!("servers.{name}.instance.bundle")), label)
                .hint(format!("known are {}", choices(ids())));
            found.push(UNKNOWN_BUNDLE.cite(finding));
        }
    }
    let cost = of(inventory);
    if let Some(budget) = inventory.objectives.monthly_budget
        && cost.monthly_cents() > budget.cents()
    {
        let price = Money::from_cents(cost.monthly_cents());
        let mut finding = OVER_BUDGET
            .broken(
                format!("this costs {price} a month before any use, and the budget is {budget}"),
                "list prices of what is declared, the parts below",
            )
            .at(places.span("objectives.monthly_budget"), "the budget");
        for line in cost.lines.iter().filter(|line| line.monthly_cents > 0) {
            let each = Money::from_cents(line.monthly_cents);
            finding = finding.note(format!("{each} for `{}`: {}", line.address, line.what));
        }
        let finding = finding.hint("take a smaller bundle, or raise the budget in a commit of its own");
        found.push(OVER_BUDGET.cite(finding));
    }
}

/// The fixed list price by resource, and what comes on top by use.
pub(super) fn of(inventory: &Inventory) -> Cost {
    let mut cost = Cost::default();
    for (name, server) in &inventory.servers {
        let instance = Address::new("lightsail.instance", name.as_str());
        match bundle_of(&server.instance.bundle) {
            Some(bundle) => cost.lines.push(CostLine {
                address: instance.clone(),
                what: format!(
                    "bundle {} ({} MiB, {} vCPU, {} GB; {}, {}{})",
                    bundle.id,
                    bundle.memory_mib,
                    bundle.vcpus,
                    bundle.disk_gb,
                    bundle.evidence.source,
                    bundle.evidence.as_of,
                    if bundle.evidence.verified { "" } else { ", not verified" }
                ),
                monthly_cents: bundle.monthly_cents,
            }),
            None => cost
                .not_included
                .push(format!("`{instance}`: the price of bundle `{}` is not known", server.instance.bundle)),
        }
        if server.instance.static_ip {
            cost.lines.push(CostLine {
                address: Address::new("lightsail.static_ip", name.as_str()),
                what: "static IP, free while it is attached".to_owned(),
                monthly_cents: 0,
            });
        }
        if server.instance.auto_snapshot.is_some() {
            cost.not_included.push(format!("automatic snapshots of `{instance}`: {}", SNAPSHOT.in_words()));
        }
        cost.not_included.push(format!("traffic of `{instance}` beyond what its bundle includes"));
    }
    for name in inventory.alarms.keys().skip(FREE_ALARMS) {
        cost.lines.push(CostLine {
            address: Address::new("cloudwatch.alarm", name.as_str()),
            what: format!("alarm beyond the {FREE_ALARMS} free ones of an account ({})", ALARM.evidence.source),
            monthly_cents: ALARM.millicents / 1_000,
        });
    }
    for name in inventory.buckets.keys() {
        cost.not_included.push(format!(
            "what `{}` holds, old versions too, and its requests: {} in ca-central-1",
            Address::new("s3.bucket", name.as_str()),
            S3_STANDARD.in_words()
        ));
    }
    cost
}
