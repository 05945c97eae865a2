//! Rules about being told: alarms that reach nobody, that cannot ring, or that take silence for health.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::{Inventory, MissingData};
use crate::policy::Rule;

/// The namespace that servers publish in unless their `metrics` says otherwise.
const OUR_NAMESPACE: &str = "Seawall";

const NO_ALERTS: Rule = Rule {
    id: "no-alerts",
    severity: Severity::Warning,
    wants: "somebody is told when something is wrong",
    source: "backups of Project Chronos stopped for five days and nobody knew",
};
const HEARTBEAT_SILENCE: Rule = Rule {
    id: "heartbeat-silence",
    severity: Severity::Error,
    wants: "a heartbeat that stops is an alarm",
    source: "a heartbeat has nothing to say but its presence; CloudWatch keeps the last state when silence is ignored",
};
const METRIC_SOURCE_MISSING: Rule = Rule {
    id: "metric-source-missing",
    severity: Severity::Warning,
    wants: "an alarm watches a metric that somebody publishes",
    source: "Lightsail publishes no metric of the host in CloudWatch by itself",
};

pub(super) const RULES: &[Rule] = &[NO_ALERTS, HEARTBEAT_SILENCE, METRIC_SOURCE_MISSING];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    // Alarms without anybody to tell are an error of `check`.
    if inventory.alerts.is_none() && !inventory.servers.is_empty() && inventory.alarms.is_empty() {
        let finding = NO_ALERTS
            .broken(
                format!("nobody is told when something is wrong in `{}`", inventory.environment),
                "there are servers, and neither `alerts` nor `alarms`",
            )
            .at(places.span("servers"), "these servers have no `alerts`")
            .hint("add `alerts: { email: [you@example.org] }`");
        found.push(NO_ALERTS.cite(finding));
    }
    for (name, alarm) in &inventory.alarms {
        let base = format!("alarms.{name}");
        if alarm.metric.to_lowercase().contains("heartbeat") && alarm.missing != MissingData::Breaching {
            let finding = HEARTBEAT_SILENCE
                .broken(
                    format!("`{base}` stays quiet when `{}` stops", alarm.metric),
                    format!("`missing: {}`", if alarm.missing == MissingData::Ignore { "ignore" } else { "missing" }),
                )
                .at(places.span(&format!("{base}.missing")), "silence is not an alarm")
                .hint("leave `missing` away: silence is an alarm by default");
            found.push(HEARTBEAT_SILENCE.cite(finding));
        }
        found.extend(source_missing(inventory, &base, &alarm.namespace, places));
    }
}

fn source_missing(inventory: &Inventory, base: &str, namespace: &str, places: &Places) -> Option<Diagnostic> {
    let published = inventory
        .servers
        .values()
        .filter_map(|server| server.metrics.as_ref())
        .any(|metrics| metrics.namespace == namespace);
    if namespace != OUR_NAMESPACE || published {
        return None;
    }
    let finding = METRIC_SOURCE_MISSING
        .broken(
            format!("`{base}` watches `{namespace}`, and no server of this file publishes there"),
            format!("no server has `metrics` with `namespace: {namespace}`"),
        )
        .at(places.span(&format!("{base}.metric")), "nothing measures this")
        .note("it will be in ALARM, or without data, until something publishes the metric")
        .hint("watch a metric of AWS, or publish this one yourself");
    Some(METRIC_SOURCE_MISSING.cite(finding))
}
