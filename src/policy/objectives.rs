//! The objectives table: wanted, by configuration, last proof.
//!
//! What was not looked at or cannot be known yet says NOT EVALUATED and why; what is not set says NOT SET. Neither is
//! ever reported as met.

use crate::inventory::scalar::{Money, TimeSpan};
use crate::inventory::sections::Inventory;
use crate::inventory::sections::database::Backup;
use crate::plan::Objective;
use crate::plan::drills::Proofs;
use crate::policy::backup::SHIP_S;
use crate::policy::cost;
use crate::policy::price::bundle_of;
use crate::policy::proven::Proven;

const NOT_SET: &str = "NOT SET";
/// For what no drill proves.
const NOTHING: &str = "–";

pub(super) fn table(inventory: &Inventory, proofs: Option<&Proofs>) -> Vec<Objective> {
    let wanted = &inventory.objectives;
    let never = |what: &str| format!("NOT EVALUATED: {what}");
    let backups: Vec<&Backup> = inventory.servers.values().filter_map(|server| server.backup.as_ref()).collect();
    let no_backup = never(if backups.is_empty() {
        "no server has a `backup` section"
    } else {
        "only a drill can tell how long a restore takes"
    });
    let worst = backups.iter().map(|section| section.archive_timeout.seconds()).max();
    let rpo = worst.map_or_else(
        || no_backup.clone(),
        |timeout| {
            let bound = TimeSpan::from_seconds(timeout + SHIP_S);
            format!("≤ {bound} (archive_timeout {} and {SHIP_S} s to ship)", TimeSpan::from_seconds(timeout))
        },
    );
    let proven = Proven::of(inventory, proofs);
    vec![
        row("rpo", set(wanted.rpo), rpo, proven.rpo),
        row("rto", set(wanted.rto), proven.projected.unwrap_or(no_backup), proven.rto),
        row("rebuild", set(wanted.rebuild), NOTHING.to_owned(), proven.rebuild),
        row(
            "drill",
            wanted.drill_every.map_or(NOT_SET.to_owned(), |span| format!("every {span}")),
            scheduled(&backups),
            proven.drill,
        ),
        row(
            "monthly budget",
            wanted.monthly_budget.map_or(NOT_SET.to_owned(), |money| money.to_string()),
            price(inventory),
            NOTHING.to_owned(),
        ),
    ]
}

/// How often servers drill by themselves.
fn scheduled(backups: &[&Backup]) -> String {
    let schedules: Option<Vec<_>> = backups.iter().map(|section| section.drills.schedule.as_ref()).collect();
    match schedules.as_deref().and_then(|all| all.iter().max_by_key(|schedule| schedule.longest_gap().seconds())) {
        Some(schedule) => format!("≤ {} ({schedule})", schedule.longest_gap()),
        None => "NOT EVALUATED: drills are not scheduled".to_owned(),
    }
}

fn row(name: &str, wanted: String, by_configuration: String, last_proof: String) -> Objective {
    Objective { name: name.to_owned(), wanted, by_configuration, last_proof }
}

fn set(span: Option<TimeSpan>) -> String {
    span.map_or(NOT_SET.to_owned(), |span| span.to_string())
}

/// The fixed price. If the price of any part is unknown, no sum is given.
fn price(inventory: &Inventory) -> String {
    let unknown = inventory.servers.values().map(|server| &server.instance.bundle).find(|id| bundle_of(id).is_none());
    if let Some(bundle) = unknown {
        return format!("NOT EVALUATED: the price of bundle `{bundle}` is not known");
    }
    let fixed = Money::from_cents(cost::of(inventory).monthly_cents());
    if inventory.buckets.is_empty() { fixed.to_string() } else { format!("{fixed} and storage by use") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::load::parse;

    fn rows(objectives: &str, bundle: &str) -> Vec<Objective> {
        let text = format!(
            "
seawall: 1
environment: test
aws: {{ account: \"123456789012\", region: ca-central-1 }}
objectives: {objectives}
servers:
  db:
    instance: {{ bundle: {bundle}, blueprint: debian_12, zone: ca-central-1a }}
    login: {{ keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }}
"
        );
        let loaded = parse("test.yaml", &text);
        table(&loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)), None)
    }

    #[test]
    fn what_is_not_set_or_not_evaluated_says_so() {
        let rows = rows("{}", "huge_9_0");
        assert!(rows.iter().all(|row| row.wanted == NOT_SET), "{rows:?}");
        for (row, start) in rows.iter().zip([
            "NOT EVALUATED: no server",
            "NOT EVALUATED: no server",
            "–",
            "NOT EVALUATED: drills",
            "NOT EVALUATED: the price of bundle `huge_9_0`",
        ]) {
            assert!(row.by_configuration.starts_with(start), "{row:?}");
            assert!(!row.by_configuration.contains("OK"), "{row:?}");
        }
    }

    #[test]
    fn what_is_set_is_shown_as_it_was_written() {
        let rows = rows("{ rpo: 15m, drill_every: 7d, monthly_budget: 25 USD }", "small_3_0");
        let shown: Vec<(&str, &str)> = rows.iter().map(|row| (row.name.as_str(), row.wanted.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("rpo", "15m"),
                ("rto", "NOT SET"),
                ("rebuild", "NOT SET"),
                ("drill", "every 7d"),
                ("monthly budget", "25 USD")
            ]
        );
        assert_eq!(rows[4].by_configuration, "12 USD");
    }
}
