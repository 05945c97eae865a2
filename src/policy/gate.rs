//! Whether a backup of a server's data is proven, so that the server may go without its address being typed.
//!
//! A proof is three things at once: a drill of this server that passed and is the last one that ran; the backup that it restored,
//! in the repository as it is seen now; and WAL without a gap from there to a moment that is younger than the objective. What is not
//! known is no proof. Deliberately absent: a proof by what the server says of its own drills, which goes with it, and one for
//! anything that is not in PostgreSQL.

use jiff::Timestamp;

use crate::base::diag::Severity;
use crate::inventory::scalar::TimeSpan;
use crate::inventory::sections::{Inventory, Server};
use crate::plan::backups::Backups;
use crate::plan::drills::{Past, Proofs};
use crate::policy::proven::{age, failure};

/// What is known of the backups of a server that a plan would take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The last drill that passed and the backups, in sentences, as far as they are known.
    pub known: Vec<String>,
    /// The last moment that can be restored by the proof, in seconds since 1970-01-01 UTC, or everything that the proof lacks.
    pub proof: Result<i64, Vec<String>>,
}

/// Judges what is known of a server's backups. `repository_goes` says that the same plan takes the bucket of its repository away.
pub(super) fn evidence(
    inventory: &Inventory,
    proofs: Option<&Proofs>,
    server: &str,
    repository_goes: bool,
) -> Evidence {
    let mut found = Evidence { known: Vec::new(), proof: Err(Vec::new()) };
    let mut lacks: Vec<String> = Vec::new();
    if repository_goes {
        lacks.push("the bucket of its repository goes with the same plan".to_owned());
    }
    let declared = inventory.servers.iter().find(|(name, _)| name.as_str() == server).map(|(_, server)| server);
    lacks.extend(declared.map_or_else(
        || Some("it is not declared, so nothing says which backups are its own".to_owned()),
        not_in_backups,
    ));
    let rpo = inventory.objectives.rpo;
    if rpo.is_none() {
        lacks.push("`objectives.rpo` is not set, so no backup is known to be young enough".to_owned());
    }
    let Some(proofs) = proofs else {
        lacks.push("no drill was looked for".to_owned());
        found.proof = Err(lacks);
        return found;
    };
    let set = match drilled(inventory, proofs, server) {
        Ok(past) => {
            let of = past.set.as_deref().unwrap_or("?");
            let ago = age(proofs.now - past.began);
            found
                .known
                .push(format!("the last drill that passed is of {}, {ago} ago, of backup {of}", moment(past.began)));
            past.set.clone()
        }
        Err(why) => {
            lacks.push(why);
            None
        }
    };
    let mut to = None;
    match proofs.backups.get(server) {
        None => lacks.push("its repository was not looked at".to_owned()),
        Some(backups) => {
            let end = set.as_deref().map(|set| reaches(backups, set));
            let archived = end.as_ref().and_then(|end| end.as_ref().ok()).copied();
            found.known.extend(newest(backups, archived, rpo));
            match end {
                Some(Ok(moment)) => to = Some(moment),
                Some(Err(why)) => lacks.push(why),
                None => {}
            }
            lacks.extend(unwell(backups));
            if let (Some(to), Some(rpo)) = (to, rpo)
                && u64::try_from(backups.looked_at - to).unwrap_or(0) > rpo.seconds()
            {
                lacks.push(format!(
                    "what can be restored ends {} ago, and the objective is {rpo}",
                    age(backups.looked_at - to)
                ));
            }
        }
    }
    found.proof = match to {
        Some(to) if lacks.is_empty() => Ok(to),
        _ => Err(lacks),
    };
    found
}

/// Why the data of a server is not all in its backups, as far as its sections tell.
fn not_in_backups(server: &Server) -> Option<String> {
    if server.backup.is_none() {
        return Some("it has no section `backup`".to_owned());
    }
    server.compose.as_ref().map(|_| "what its containers keep in volumes is in no backup".to_owned())
}

/// The drill that stands for a server's data.
fn drilled<'a>(inventory: &Inventory, proofs: &'a Proofs, server: &'a str) -> Result<&'a Past, String> {
    if let Err(why) = &proofs.history {
        return Err(why.clone());
    }
    let last = proofs.of(server).next().ok_or("no drill has run on it")?;
    if !last.passed {
        return Err(format!("its last drill {}", failure(last, proofs.now)));
    }
    let by_operators = proofs.of(server).filter(|past| !past.by_itself);
    let past = by_operators.into_iter().next().ok_or(
        "only drills that it ran by itself have passed, and what it says of itself goes with it: seawall drill",
    )?;
    if !past.passed {
        return Err(format!("the last drill that an operator ran {}", failure(past, proofs.now)));
    }
    if past.set.is_none() {
        return Err("its last drill does not say which backup it restored".to_owned());
    }
    let old = |every: &TimeSpan| u64::try_from(proofs.now - past.began).unwrap_or(0) > every.seconds();
    match inventory.objectives.drill_every.filter(old) {
        Some(every) => {
            Err(format!("its last drill is {} old, and one is due every {every}", age(proofs.now - past.began)))
        }
        None => Ok(past),
    }
}

/// Until when every moment can be restored from a backup that was drilled, for the cluster that runs on the server now.
fn reaches(backups: &Backups, label: &str) -> Result<i64, String> {
    let Some(set) = backups.backups.iter().find(|set| set.label == label) else {
        return Err(format!("backup {label}, which was drilled, is not in the repository any more"));
    };
    if set.page_errors {
        return Err(format!("backup {label}, which was drilled, holds pages whose checksums are wrong"));
    }
    let Some(archiving) = &backups.archiving else {
        return Err("PostgreSQL does not say which cluster runs on the server".to_owned());
    };
    if set.made_with.system_id.as_deref() != Some(archiving.system_id.as_str()) {
        return Err(format!("backup {label}, which was drilled, is of another cluster than the one that runs now"));
    }
    let along = |timeline: u32| archiving.timeline == Some(timeline);
    let windows = backups.windows.iter();
    let mut of_set = windows.filter(|window| along(window.timeline) && window.backups.iter().any(|one| one == label));
    let window = of_set.next().ok_or_else(|| format!("WAL is missing behind backup {label}, which was drilled"))?;
    // Behind a gap, a younger window may have begun: what the server writes now is not restored from this backup.
    let later = backups.windows.iter().any(|other| along(other.timeline) && other.from > window.to.unwrap_or(i64::MAX));
    if later {
        return Err(format!("WAL is missing behind backup {label}, which was drilled"));
    }
    window.to.ok_or_else(|| "it is not known until when WAL is archived".to_owned())
}

fn newest(backups: &Backups, archived: Option<i64>, rpo: Option<TimeSpan>) -> Option<String> {
    let newest = backups.newest.as_ref()?;
    let objective = rpo.map_or_else(|| "no objective is set".to_owned(), |rpo| format!("objective {rpo}"));
    let archived = archived.map_or_else(String::new, |to| {
        format!("; what was drilled can be restored until {} ago ({objective})", age(backups.looked_at - to))
    });
    Some(format!("the newest good backup is {}, {} old{archived}", newest.label, age(newest.age_s)))
}

/// What is wrong with the repository, and what could not be seen of it.
fn unwell(backups: &Backups) -> Vec<String> {
    let errors = backups.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let errors = errors.map(|finding| format!("of its backups: {}", finding.message));
    errors.chain(backups.unseen.iter().map(|why| format!("of its backups could not be seen: {why}"))).collect()
}

fn moment(second: i64) -> String {
    Timestamp::from_second(second)
        .map_or_else(|_| second.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

impl Evidence {
    /// The moment to which the proof reaches, in words.
    pub fn until(second: i64) -> String {
        moment(second)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::diag::Diagnostic;
    use crate::plan::backups::{Archiving, BackupSet, Freshness, MadeWith, ToBy, Verdict, Window};
    use crate::plan::drills::{Broken, Scenario};
    use crate::policy::proven::tests::{NOW, inventory_with, past};

    const SET: &str = "20261126-234813F";

    fn inventory() -> Inventory {
        inventory_with("{ rpo: 15m, drill_every: 7d }")
    }

    fn drill() -> Past {
        Past { set: Some(SET.to_owned()), ..past(NOW - 7_300, true) }
    }

    fn backups() -> Backups {
        Backups {
            server: "db".to_owned(),
            looked_at: NOW,
            backups: vec![BackupSet {
                label: SET.to_owned(),
                kind: "full".to_owned(),
                started: NOW - 9_000,
                finished: NOW - 8_000,
                database_bytes: None,
                repository_bytes: None,
                wal: None,
                page_errors: false,
                needs: Vec::new(),
                made_with: MadeWith { system_id: Some("7".to_owned()), ..MadeWith::default() },
            }],
            windows: vec![Window {
                timeline: 1,
                from: NOW - 8_000,
                to: Some(NOW - 40),
                to_by: ToBy::Object,
                first_segment: String::new(),
                last_segment: String::new(),
                backups: vec![SET.to_owned()],
            }],
            newest: Some(Freshness { label: SET.to_owned(), age_s: 8_000, due_every_s: 86_400, verdict: Verdict::Ok }),
            archiving: Some(Archiving { system_id: "7".to_owned(), timeline: Some(1), ..Archiving::default() }),
            ..Backups::default()
        }
    }

    fn proofs(history: Vec<Past>, backups: Backups) -> Proofs {
        Proofs {
            history: Ok(history),
            bytes: BTreeMap::new(),
            backups: BTreeMap::from([("db".to_owned(), backups)]),
            now: NOW,
        }
    }

    #[track_caller]
    fn lacks(inventory: &Inventory, proofs: Option<&Proofs>, says: &str) {
        let why = evidence(inventory, proofs, "db", false).proof.expect_err(says);
        assert!(why.iter().any(|why| why.contains(says)), "{says}: {why:?}");
    }

    #[test]
    fn a_drill_its_backup_and_the_archive_together_are_a_proof() {
        let found = evidence(&inventory(), Some(&proofs(vec![drill()], backups())), "db", false);
        assert_eq!(found.proof, Ok(NOW - 40));
        assert_eq!(
            found.known,
            [
                "the last drill that passed is of 1970-01-12 11:45:00 UTC, 2 h ago, of backup 20261126-234813F",
                "the newest good backup is 20261126-234813F, 2 h old; what was drilled can be restored until 40 s ago (objective 15m)"
            ]
        );
        let fresh = Past { scenario: Scenario::Fresh, ..drill() };
        assert!(evidence(&inventory(), Some(&proofs(vec![fresh], backups())), "db", false).proof.is_ok());
        // A drill that the server ran by itself afterwards takes nothing away.
        let own = Past { by_itself: true, set: None, ..past(NOW - 60, true) };
        assert!(evidence(&inventory(), Some(&proofs(vec![drill(), own], backups())), "db", false).proof.is_ok());
    }

    #[test]
    fn a_drill_that_is_none_of_this_server_is_no_proof() {
        let well = inventory();
        let of = |history: Vec<Past>| proofs(history, backups());
        lacks(&well, None, "no drill was looked for");
        lacks(&well, Some(&of(vec![])), "no drill has run on it");
        lacks(&well, Some(&of(vec![Past { server: "other".to_owned(), ..drill() }])), "no drill has run on it");
        lacks(&well, Some(&of(vec![Past { broken: Some(Broken::Segment), ..drill() }])), "no drill has run on it");
        lacks(&well, Some(&of(vec![Past { scenario: Scenario::BesideFromCopy, ..drill() }])), "no drill has run on it");
        lacks(&well, Some(&of(vec![drill(), past(NOW - 60, false)])), "its last drill FAILED 60 s ago");
        let own = Past { by_itself: true, ..past(NOW - 60, false) };
        lacks(&well, Some(&of(vec![drill(), own])), "its last drill FAILED 60 s ago");
        lacks(&well, Some(&of(vec![Past { by_itself: true, ..drill() }])), "what it says of itself goes with it");
        lacks(&well, Some(&of(vec![Past { set: None, ..drill() }])), "does not say which backup");
        lacks(&well, Some(&of(vec![Past { began: NOW - 7 * 86_400 - 1, ..drill() }])), "one is due every 7d");
        let unread = Proofs { history: Err("it is noise".to_owned()), ..of(vec![drill()]) };
        lacks(&well, Some(&unread), "it is noise");
    }

    #[test]
    fn a_backup_that_is_not_there_now_is_no_proof() {
        let well = inventory();
        let of = |change: &dyn Fn(&mut Backups)| {
            let mut backups = backups();
            change(&mut backups);
            proofs(vec![drill()], backups)
        };
        lacks(&well, Some(&of(&|b| b.backups.clear())), "is not in the repository any more");
        lacks(&well, Some(&of(&|b| b.backups[0].page_errors = true)), "checksums are wrong");
        lacks(&well, Some(&of(&|b| b.windows.clear())), "WAL is missing behind backup");
        lacks(&well, Some(&of(&|b| b.windows[0].to = None)), "not known until when");
        lacks(&well, Some(&of(&|b| b.windows[0].timeline = 2)), "WAL is missing behind backup");
        lacks(&well, Some(&of(&|b| b.archiving = None)), "which cluster runs");
        let other = |b: &mut Backups| {
            b.archiving = Some(Archiving { system_id: "8".to_owned(), timeline: Some(1), ..Archiving::default() });
        };
        lacks(&well, Some(&of(&other)), "of another cluster");
        lacks(&well, Some(&of(&|b| b.backups[0].made_with = MadeWith::default())), "of another cluster");
        lacks(&well, Some(&of(&|b| b.unseen.push("the objects".to_owned()))), "could not be seen: the objects");
        let error = |b: &mut Backups| b.findings.push(Diagnostic::error("backup-late", "it is late"));
        lacks(&well, Some(&of(&error)), "it is late");
        let gap = |b: &mut Backups| {
            let later = Window { from: NOW - 20, to: Some(NOW), backups: Vec::new(), ..b.windows[0].clone() };
            b.windows.push(later);
        };
        lacks(&well, Some(&of(&gap)), "WAL is missing behind backup");
        let unasked = Proofs { backups: BTreeMap::new(), ..of(&|_| {}) };
        lacks(&well, Some(&unasked), "was not looked at");
        let exactly = of(&|b| b.windows[0].to = Some(NOW - 900));
        assert!(evidence(&well, Some(&exactly), "db", false).proof.is_ok());
        lacks(&well, Some(&of(&|b| b.windows[0].to = Some(NOW - 901))), "ends 15 min ago, and the objective is 15m");
    }

    #[test]
    fn what_is_not_in_the_repository_or_goes_with_it_is_not_proven() {
        let all = proofs(vec![drill()], backups());
        let mut with_containers = inventory();
        let compose = serde_json::json!({ "project": "app", "file": "compose.yaml" });
        for server in with_containers.servers.values_mut() {
            server.compose = Some(serde_json::from_value(compose.clone()).expect("a section"));
        }
        lacks(&with_containers, Some(&all), "in volumes is in no backup");
        lacks(&inventory_with("{ drill_every: 7d }"), Some(&all), "`objectives.rpo` is not set");
        let gone = evidence(&inventory(), Some(&all), "db", true).proof.expect_err("its bucket goes");
        assert_eq!(gone, ["the bucket of its repository goes with the same plan"]);
        let stranger = evidence(&inventory(), Some(&all), "web", false).proof.expect_err("nobody declares it");
        assert!(stranger[0].contains("it is not declared"), "{stranger:?}");
    }
}
