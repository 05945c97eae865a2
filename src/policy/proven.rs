//! What drills have proven of the objectives, and what they have not.

use crate::base::diag::Diagnostic;
use crate::inventory::sections::Inventory;
use crate::plan::drills::{HEARTBEAT_S, Past, Proofs, Scenario};
use crate::policy::lifecycle::thaw_s;

/// A projection over this share of the objective is worth a word: the database grows on.
const RTO_PERCENT: u64 = 70;

/// The column of proofs.
pub(super) struct Proven {
    pub(super) rpo: String,
    pub(super) rto: String,
    pub(super) drill: String,
    pub(super) rebuild: String,
    /// The time to serve at the size of now, where it is known.
    pub(super) projected: Option<String>,
}

impl Proven {
    pub(super) fn of(inventory: &Inventory, proofs: Option<&Proofs>) -> Self {
        let never = |what: String| format!("NOT EVALUATED: {what}");
        let unknown = |what: String| {
            let what = never(what);
            let rebuild = proofs.map_or_else(|| what.clone(), |proofs| rehearsed(inventory, proofs));
            Self { rpo: what.clone(), rto: what.clone(), drill: what, rebuild, projected: None }
        };
        let Some(proofs) = proofs else { return unknown("no drill was looked for".to_owned()) };
        if let Err(why) = &proofs.history {
            return unknown(why.clone());
        }
        let servers: Vec<&str> = drilled(inventory).collect();
        let Some(never_passed) = servers.iter().find(|server| proofs.passed(server).is_none()) else {
            return Self::of_all(inventory, &servers, rehearsed(inventory, proofs), proofs);
        };
        let Some(failed) = proofs.of(never_passed).next() else {
            return unknown(if servers.len() == 1 {
                "no drill has run".to_owned()
            } else {
                format!("no drill has run on `{never_passed}`")
            });
        };
        let drill = never(format!("none has passed; {}", failure(failed, proofs.now)));
        let other = never(format!("no drill has passed on `{never_passed}`"));
        Self { rpo: other.clone(), rto: other, drill, rebuild: rehearsed(inventory, proofs), projected: None }
    }

    /// Every server has passed one; the worst of them speaks for all.
    fn of_all(inventory: &Inventory, servers: &[&str], rebuild: String, proofs: &Proofs) -> Self {
        let newest = |wanted: fn(&Past) -> Option<i64>| {
            let mut each = Vec::new();
            for server in servers {
                each.push(proofs.of(server).filter(|past| past.passed).find(|past| wanted(past).is_some())?);
            }
            each.into_iter().max_by_key(|past| wanted(past))
        };
        let ago = |past: &Past| format!("{} ago", age(proofs.now - past.began));
        let missing = || "NOT EVALUATED: no drill has measured it".to_owned();
        let rpo = newest(|past| past.lost_s)
            .and_then(|past| Some(format!("{} s ± {HEARTBEAT_S} s lost, {}", past.lost_s?, ago(past))));
        let rto = newest(|past| past.serve_s).and_then(|past| {
            Some(format!("{} s to serve, {} s to trust, {}", past.serve_s?, past.trust_s?, ago(past)))
        });
        let oldest = servers.iter().filter_map(|server| proofs.passed(server)).min_by_key(|past| past.began);
        let failed = servers.iter().filter_map(|server| proofs.of(server).next()).find(|past| !past.passed);
        let passed = oldest.map_or_else(missing, |past| format!("passed {}", ago(past)));
        let projected = servers.iter().filter_map(|server| projection(inventory, server, proofs)).max();
        let thaw = servers.iter().map(|server| thaw_s(inventory, server)).max().unwrap_or(0);
        Self {
            rpo: rpo.unwrap_or_else(missing),
            rto: rto.unwrap_or_else(missing),
            drill: failed.map_or(passed.clone(), |failed| format!("{}; {passed}", failure(failed, proofs.now))),
            rebuild,
            projected: projected.map(|seconds| {
                let thaw =
                    if thaw > 0 { format!(", {} h of it to thaw the backup", thaw / 3600) } else { String::new() };
                format!("projected {seconds} s to serve at the size of now{thaw}")
            }),
        }
    }
}

/// The last rehearsal of each server; the slowest speaks for all, and one that failed or never was for all others.
fn rehearsed(inventory: &Inventory, proofs: &Proofs) -> String {
    if let Err(why) = &proofs.history {
        return format!("NOT EVALUATED: {why}");
    }
    let mut slowest: Option<(i64, &Past)> = None;
    for server in drilled(inventory) {
        let Some(last) = proofs.of(server).find(|past| past.scenario == Scenario::Fresh) else {
            return format!("NOT EVALUATED: `{server}` was never rehearsed (seawall rebuild --rehearse)");
        };
        match last.serve_s.filter(|_| last.passed) {
            Some(seconds) if slowest.is_none_or(|(most, _)| seconds > most) => slowest = Some((seconds, last)),
            Some(_) => {}
            None => return format!("rehearsal {}", failure(last, proofs.now)),
        }
    }
    slowest.map_or_else(
        || "NOT EVALUATED: never rehearsed".to_owned(),
        |(seconds, last)| {
            format!("{seconds} s on a fresh instance, without fence and address, {} ago", age(proofs.now - last.began))
        },
    )
}

pub(super) fn failure(past: &Past, now: i64) -> String {
    format!("FAILED {} ago ({})", age(now - past.began), past.misses.join(", "))
}

/// Servers that have something to restore.
fn drilled(inventory: &Inventory) -> impl Iterator<Item = &str> {
    inventory.servers.iter().filter(|(_, server)| server.backup.is_some()).map(|(name, _)| name.as_str())
}

/// Seconds to serve at the size of now, from the newest drill that measured enough, with those that S3 takes to give the backup out.
fn projection(inventory: &Inventory, server: &str, proofs: &Proofs) -> Option<i64> {
    let bytes = *proofs.bytes.get(server)?;
    let serve = proofs.of(server).filter(|past| past.passed).find_map(|past| past.projected(bytes))?;
    Some(serve + i64::try_from(thaw_s(inventory, server)).unwrap_or(i64::MAX / 2))
}

/// A time for people.
pub(super) fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Only of servers whose database is there: what does not exist yet cannot have been drilled.
pub(super) fn check(inventory: &Inventory, proofs: &Proofs) -> Vec<Diagnostic> {
    let objectives = &inventory.objectives;
    let mut found = Vec::new();
    if let (Err(why), Some(_)) = (&proofs.history, objectives.drill_every) {
        let problem = Diagnostic::warning("drill-history-unseen", "whether drills have passed is not known");
        found.push(
            problem
                .note(why.clone())
                .hint("the reports are below `drills/` beside the list; a new drill begins a new list"),
        );
        return found;
    }
    for server in drilled(inventory).filter(|server| proofs.bytes.contains_key(*server)) {
        if let Some(every) = objectives.drill_every {
            let passed = proofs.passed(server);
            let stale = passed.is_none_or(|past| u64::try_from(proofs.now - past.began).unwrap_or(0) > every.seconds());
            if stale {
                let what = match passed {
                    None => format!("no drill of `{server}` has passed"),
                    Some(past) => {
                        format!("the last drill of `{server}` that passed is {} old", age(proofs.now - past.began))
                    }
                };
                let problem = Diagnostic::warning("drill-stale", what).note(format!(
                    "`objectives.drill_every` is {every}: a backup that nobody has restored lately is a hope"
                ));
                let newest = proofs.of(server).next().filter(|newest| !newest.passed);
                let problem = newest.iter().fold(problem, |problem, failed| problem.note(failure(failed, proofs.now)));
                found.push(problem.hint(format!("seawall drill --server {server}")));
            }
        }
        if let (Some(rto), Some(seconds)) = (objectives.rto, projection(inventory, server, proofs))
            && u64::try_from(seconds).unwrap_or(0) * 100 > rto.seconds() * RTO_PERCENT
        {
            found.push(
                Diagnostic::warning(
                    "rto-projection",
                    format!("at its size now, `{server}` would serve after {seconds} s, and the objective is {rto}"),
                )
                .note(format!("that is over {RTO_PERCENT} % of it, and the database grows on"))
                .note("projected from the last drill that passed: what was fetched grows with the database, the rest stays")
                .hint("drill again to measure it; then more frequent backups, a larger bundle, or less data"),
            );
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inventory::load::parse;
    use crate::plan::drills::Broken;

    pub(in crate::policy) const NOW: i64 = 1_000_000;

    fn inventory() -> Inventory {
        inventory_with("{ rto: 100s, drill_every: 7d }")
    }

    pub(in crate::policy) fn inventory_with(objectives: &str) -> Inventory {
        let text = format!(
            "
seawall: 1
environment: test
aws: {{ account: \"123456789012\", region: ca-central-1 }}
objectives: {objectives}
servers:
  db:
    instance: {{ bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a }}
    login: {{ keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }}
    postgres: {{}}
    backup: {{ bucket: backups, stanza: xy, cipher_pass: {{ env: PASS, escrow: confirmed }} }}
buckets:
  backups: {{ name: test-backups }}
"
        );
        let loaded = parse("test.yaml", &text);
        loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
    }

    pub(in crate::policy) fn past(began: i64, passed: bool) -> Past {
        Past {
            id: format!("drill-{began}"),
            server: "db".to_owned(),
            bundle: "small_3_0".to_owned(),
            scenario: Scenario::Beside,
            by_itself: false,
            asked: "latest".to_owned(),
            broken: None,
            began,
            passed,
            misses: if passed { Vec::new() } else { vec!["drill-rpo".to_owned()] },
            lost_s: Some(48),
            heartbeat: Some(began),
            serve_s: Some(40),
            trust_s: Some(50),
            fetch_s: Some(30),
            bytes: Some(1000),
            set: None,
        }
    }

    fn proofs(history: Vec<Past>, bytes: u64) -> Proofs {
        let bytes = BTreeMap::from([("db".to_owned(), bytes)]);
        Proofs { history: Ok(history), bytes, backups: BTreeMap::new(), now: NOW }
    }

    fn codes(proofs: &Proofs) -> Vec<String> {
        check(&inventory(), proofs).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_drill_is_stale_after_its_time_or_where_none_has_passed() {
        let week = 7 * 86_400;
        assert_eq!(codes(&proofs(vec![past(NOW - week, true)], 1000)), [""; 0]);
        assert_eq!(codes(&proofs(vec![past(NOW - week - 1, true)], 1000)), ["drill-stale"]);
        assert_eq!(codes(&proofs(vec![past(NOW - week - 1, true), past(NOW - 5, false)], 1000)), ["drill-stale"]);
        assert_eq!(codes(&proofs(vec![], 1000)), ["drill-stale"]);
        let other = Past { server: "other".to_owned(), ..past(NOW - 5, true) };
        assert_eq!(codes(&proofs(vec![other], 1000)), ["drill-stale"]);
        let broken = Past { broken: Some(Broken::Segment), ..past(NOW - 5, true) };
        assert_eq!(codes(&proofs(vec![broken], 1000)), ["drill-stale"], "what was broken on purpose proves no restore");
        let copy = Past { scenario: Scenario::BesideFromCopy, ..past(NOW - 5, true) };
        assert_eq!(
            codes(&proofs(vec![copy], 1000)),
            ["drill-stale"],
            "the second repository proves nothing of the first"
        );
        let absent = Proofs { bytes: BTreeMap::new(), ..proofs(vec![], 0) };
        assert_eq!(codes(&absent), [""; 0], "there is no database yet");
        let unread = Proofs { history: Err("it is noise".to_owned()), ..proofs(vec![], 1000) };
        assert_eq!(codes(&unread), ["drill-history-unseen"]);
    }

    #[test]
    fn a_projection_near_the_objective_is_said() {
        let drill = || vec![past(NOW - 5, true)];
        assert_eq!(codes(&proofs(drill(), 2000)), [""; 0], "70 s of 100 s");
        assert_eq!(codes(&proofs(drill(), 2100)), ["rto-projection"], "73 s of 100 s");
    }

    #[test]
    fn what_must_be_thawed_first_is_part_of_the_projection() {
        let with = |after: &str, to: &str| {
            let mut inventory = inventory();
            for bucket in inventory.buckets.values_mut() {
                let aging = serde_json::json!({ "prefix": "xy", "after": after, "to": to });
                bucket.lifecycle = vec![serde_json::from_value(aging).expect("a line")];
            }
            inventory
        };
        let proofs = proofs(vec![past(NOW - 5, true)], 1000);
        let line = |inventory: &Inventory| Proven::of(inventory, Some(&proofs)).projected.unwrap_or_default();
        assert_eq!(line(&inventory()), "projected 40 s to serve at the size of now");
        let thawed = "projected 43240 s to serve at the size of now, 12 h of it to thaw the backup";
        assert_eq!(line(&with("1d", "deep-archive")), thawed);
        assert_eq!(line(&with("1d", "glacier-instant")), line(&inventory()));
        assert_eq!(line(&with("90d", "deep-archive")), line(&inventory()), "the newest backup is younger by then");
        let found = check(&with("1d", "glacier"), &proofs);
        assert_eq!(found.iter().map(|finding| finding.code.as_str()).collect::<Vec<_>>(), ["rto-projection"]);
    }

    #[test]
    fn the_table_says_what_was_proven_and_when() {
        let table = |proofs: &Proofs| {
            let Proven { rpo, rto, drill, rebuild: _, projected } = Proven::of(&inventory(), Some(proofs));
            [rpo, rto, drill, projected.unwrap_or_default()]
        };
        assert_eq!(
            table(&proofs(vec![past(NOW - 7_300, true)], 2000)),
            [
                "48 s ± 60 s lost, 2 h ago",
                "40 s to serve, 50 s to trust, 2 h ago",
                "passed 2 h ago",
                "projected 70 s to serve at the size of now"
            ]
        );
        let failed = table(&proofs(vec![past(NOW - 7_300, true), past(NOW - 60, false)], 2000));
        assert_eq!(failed[2], "FAILED 60 s ago (drill-rpo); passed 2 h ago");
        assert_eq!(failed[0], "48 s ± 60 s lost, 2 h ago", "one that failed proves nothing");
        let none = table(&proofs(vec![past(NOW - 60, false)], 2000));
        assert_eq!(none[2], "NOT EVALUATED: none has passed; FAILED 60 s ago (drill-rpo)");
        assert!(table(&proofs(vec![], 1))[..3].iter().all(|row| row == "NOT EVALUATED: no drill has run"));
        let unread = Proofs { history: Err("it is noise".to_owned()), ..proofs(vec![], 1000) };
        assert!(table(&unread)[..3].iter().all(|row| row == "NOT EVALUATED: it is noise"));
    }

    #[test]
    fn the_line_of_a_rebuild_has_its_last_rehearsal() {
        let line = |history: Vec<Past>| Proven::of(&inventory(), Some(&proofs(history, 1000))).rebuild;
        let never = "NOT EVALUATED: `db` was never rehearsed (seawall rebuild --rehearse)";
        assert_eq!(line(vec![]), never);
        assert_eq!(line(vec![past(NOW - 7_300, true)]), never, "a copy beside the database is none");
        let fresh =
            |began: i64, passed: bool| Past { scenario: Scenario::Fresh, serve_s: Some(412), ..past(began, passed) };
        let passed = "412 s on a fresh instance, without fence and address, 2 h ago";
        assert_eq!(line(vec![fresh(NOW - 7_300, true), past(NOW - 60, false)]), passed);
        assert_eq!(
            line(vec![fresh(NOW - 7_300, true), fresh(NOW - 60, false)]),
            "rehearsal FAILED 60 s ago (drill-rpo)"
        );
        let unread = Proofs { history: Err("it is noise".to_owned()), ..proofs(vec![], 1000) };
        assert_eq!(Proven::of(&inventory(), Some(&unread)).rebuild, "NOT EVALUATED: it is noise");
    }
}
