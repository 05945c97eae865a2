//! Drills that a server runs by itself: what they are told, and what they left.

use std::collections::BTreeMap;

use crate::kinds::host;
use crate::kinds::pgbackrest_repo::Drills;
use crate::plan::drills::{Broken, Past, Scenario};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, HostProbe};
use crate::plan::remark::Remark;

/// What the last drill came to, and the last one that was broken on purpose. Root's.
pub(super) const RESULTS: [&str; 2] = ["/var/lib/seawall/drills/last", "/var/lib/seawall/drills/last-broken"];
/// What the program asks for in `asked`.
const BY_SCHEDULE: &str = "latest, by the schedule";

/// The lines of the program's configuration that are about drills.
pub(super) fn settings(drills: &Drills) -> Vec<(String, String)> {
    let objectives = [("rpo", drills.rpo), ("rto", drills.rto)];
    let mut lines: Vec<(String, String)> =
        objectives.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_string()))).collect();
    for (number, check) in (1..).zip(&drills.checks) {
        lines.push((format!("check-{number}-database"), check.database.to_string()));
        lines.push((format!("check-{number}-sql"), check.sql.clone()));
        lines.extend(check.expect.clone().map(|expect| (format!("check-{number}-expect"), expect)));
    }
    lines
}

/// What to ask for them.
pub(crate) fn probes() -> Vec<HostProbe> {
    RESULTS.iter().map(|path| HostProbe::File { path: (*path).to_owned() }).collect()
}

/// The results that are there.
///
/// # Errors
/// Why that is not known.
pub(crate) fn look(server: &str, answers: &Answers) -> Result<Vec<Past>, Unseen> {
    let results = RESULTS.iter().map(|path| host::file(answers, path)).collect::<Result<Vec<_>, _>>()?;
    // Whoever else could write them could claim anything.
    let ours = results.into_iter().flatten().filter(|file| file.owner == "root" && file.mode == "600");
    Ok(ours.filter_map(|file| past(server, &file.text?)).collect())
}

/// The results that are known; that a host was not seen is told of its resources.
pub(crate) fn read(server: &str, answers: &Answers) -> Vec<Past> {
    look(server, answers).unwrap_or_default()
}

/// Lines `key=value` as the program writes them. What it has not measured is empty.
fn past(server: &str, text: &str) -> Option<Past> {
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let word = |key: &str| lines.get(key).copied().filter(|value| !value.is_empty());
    let number = |key: &str| word(key).and_then(|value| value.parse::<i64>().ok());
    let code = word("code").map(str::to_owned);
    Some(Past {
        id: word("id")?.to_owned(),
        server: server.to_owned(),
        bundle: String::new(),
        scenario: Scenario::Beside,
        by_itself: true,
        asked: BY_SCHEDULE.to_owned(),
        broken: word("broken").and_then(Broken::of),
        began: number("began")?,
        passed: word("passed") == Some("yes") && word("broken").is_none() && code.is_none(),
        misses: code.into_iter().collect(),
        lost_s: number("lost"),
        heartbeat: number("heartbeat"),
        serve_s: number("serve"),
        trust_s: number("trust"),
        fetch_s: number("fetch"),
        bytes: number("bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        set: None,
    })
}

/// What is worth a word about a result.
pub(super) fn remark(past: &Past, now: i64) -> Option<Remark> {
    let hours = (now - past.began) / 3_600;
    match past.broken {
        None if past.passed => Some(
            format!(
                "its last drill by the schedule passed {hours} h ago: {} s lost, {} s to serve",
                past.lost_s?, past.serve_s?
            )
            .into(),
        ),
        None => {
            let misses = past.misses.join(", ");
            Some(Remark::broken(format!("its last drill by the schedule FAILED {hours} h ago: {misses}")))
        }
        Some(broken) if past.misses.is_empty() => Some(Remark::broken(format!(
            "a drill with a broken {} PASSED {hours} h ago: its drills prove nothing",
            broken.word()
        ))),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::pgbackrest_repo::files;

    const WELL: &str = "id=drill-1\nbroken=\nbegan=1000\npassed=yes\ncode=\nwhy=\nlost=48\nheartbeat=952\nserve=40\ntrust=50\nfetch=2\nbytes=31046200\n";

    #[test]
    fn a_schedule_brings_a_timer_and_what_it_is_held_to() {
        let desired = |drills: serde_json::Value| {
            let desired = serde_json::json!({
                "address": "pgbackrest.repo/db", "archive_timeout": 300, "bucket": "b", "cluster": 15, "longest_gap": 1,
                "cipher_pass": { "form": "passphrase", "from": { "env": "PASS" } }, "region": "r", "stanza": "chronos",
                "retention": { "days": 14, "generations": null }, "timers": {}, "drills": drills,
            });
            serde_json::from_value::<crate::kinds::pgbackrest_repo::Desired>(desired).expect("a repository")
        };
        let drills = serde_json::json!({
            "calendar": "Sun *-*-* 04:00:00 UTC", "rpo": 900, "rto": null,
            "checks": [{ "database": "app", "sql": "select 1" }, { "database": "app", "sql": "select 2", "expect": "2" }],
        });
        let with = files::parts_of(&desired(drills));
        let text = |path: &str| {
            with.files.iter().find(|file| file.path == path).map(|file| file.text.as_str()).unwrap_or_default()
        };
        assert!(
            text("/etc/systemd/system/seawall-drill.timer")
                .contains("OnCalendar=Sun *-*-* 04:00:00 UTC\nUnit=seawall-drill.service\n")
        );
        assert!(
            text("/etc/systemd/system/seawall-drill.service")
                .contains("ExecStart=/usr/local/lib/seawall/restore drill\n")
        );
        assert!(text("/etc/seawall/restore.conf").ends_with(
            "rpo=900\ncheck-1-database=app\ncheck-1-sql=select 1\ncheck-2-database=app\ncheck-2-sql=select 2\ncheck-2-expect=2\n"
        ));
        let without = files::parts_of(&desired(serde_json::Value::Null));
        assert!(!without.files.iter().any(|file| file.path.contains("drill") || file.text.contains("\nrpo=")));
    }

    #[test]
    fn a_result_is_read_and_only_a_whole_one_is_a_proof() {
        let well = past("db", WELL).expect("a result");
        assert!(well.passed && well.misses.is_empty());
        assert_eq!(
            (well.lost_s, well.serve_s, well.fetch_s, well.bytes),
            (Some(48), Some(40), Some(2), Some(31_046_200))
        );
        assert_eq!(
            remark(&well, 8_200),
            Some("its last drill by the schedule passed 2 h ago: 48 s lost, 40 s to serve".into())
        );
        let failed = past("db", &WELL.replace("passed=yes\ncode=", "passed=no\ncode=wal-missing")).expect("a result");
        assert!(
            !failed.passed
                && remark(&failed, 1000)
                    .is_some_and(|said| said.is_broken() && said.text.contains("FAILED 0 h ago: wal-missing"))
        );
        let wanted =
            past("db", &WELL.replace("broken=\n", "broken=segment\n").replace("code=\n", "code=wal-missing\n"));
        let wanted = wanted.expect("a result");
        assert!(!wanted.passed && wanted.broken == Some(Broken::Segment) && remark(&wanted, 1000).is_none());
        let blind = past("db", &WELL.replace("broken=\n", "broken=segment\n")).expect("a result");
        assert!(
            !blind.passed
                && remark(&blind, 1000).is_some_and(|said| said.is_broken() && said.text.contains("prove nothing"))
        );
        for noise in ["", "id=\nbegan=1\n", "id=x\nbegan=soon\n"] {
            assert_eq!(past("db", noise), None, "{noise}");
        }
    }
}
