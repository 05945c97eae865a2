//! What two repositories of a server know of each other: messages about the first one lead to the second, and those about the
//! second one say what waits for it.
//!
//! Deliberately absent: a choice between the two. Which one is read, the operator says.

use crate::base::diag::Diagnostic;
use crate::kinds::pgbackrest_copy::BEHIND_S;
use crate::kinds::pgbackrest_copy::look::Spool;
use crate::plan::backups::Backups;
use crate::plan::restores::Repository;
use crate::recovery::judge::judge;
use crate::recovery::look::Target;
use crate::recovery::seen::Seen;

/// Findings that say that a repository has nothing, or that nobody can read it.
const LACKING: [&str; 8] = [
    "backup-none",
    "backup-no-stanza",
    "backup-access",
    "backup-passphrase",
    "backup-storage-refused",
    "backup-storage-unreachable",
    "backup-other-cluster",
    "backup-objects-archived",
];
/// Reasons for which nothing of a repository can be restored.
const NOTHING: [&str; 4] = ["backup-none", "backup-unseen", "rebuild-unseen", "restore-outside-window"];
const THERE_IS_A_COPY: &str = "there is a second repository: the same command with `--copy` asks that one";

/// The commands in a hint, for the second repository.
fn led(hint: &str) -> String {
    let verbs = ["backup now", "backup list", "backup verify"];
    let led = verbs.iter().fold(hint.to_owned(), |hint, verb| {
        hint.replace(&format!("seawall {verb}"), &format!("seawall {verb}{}", Repository::Copy.option()))
    });
    led.replace("seawall-backup", "seawall-copy")
}

impl Target {
    /// What was seen means, with hints that lead to the repository that is meant.
    pub fn judged(&self, seen: &Seen) -> Backups {
        let mut known = judge(seen, &self.section);
        match self.repository {
            Repository::First => {
                let lacks = |finding: &Diagnostic| LACKING.contains(&finding.code.as_str());
                for finding in known.findings.iter_mut().filter(|finding| self.copy.is_some() && lacks(finding)) {
                    finding.notes.push(THERE_IS_A_COPY.to_owned());
                }
                if self.copy.is_some() && seen.info.is_err() && !seen.objects.as_ref().is_ok_and(Option::is_some) {
                    known.unseen.push(THERE_IS_A_COPY.to_owned());
                }
            }
            Repository::Copy => {
                match &seen.spool {
                    Some(Ok(spool)) => known.findings.extend(waiting(self.stanza(), spool)),
                    Some(Err(why)) => known.unseen.push(format!("what waits for the second repository: {why}")),
                    None => {}
                }
                for hint in known.findings.iter_mut().filter_map(|finding| finding.hint.as_mut()) {
                    *hint = led(hint);
                }
            }
        }
        known
    }

    /// A reason why nothing of this repository can be restored, with the way to the second one, where there is one.
    pub fn pointed(&self, why: Diagnostic) -> Diagnostic {
        match &self.copy {
            Some(_) if NOTHING.contains(&why.code.as_str()) => why.note(THERE_IS_A_COPY),
            _ => Diagnostic { hint: why.hint.as_deref().map(|hint| self.hinted(hint)), ..why },
        }
    }

    /// A hint with the option that leads to the repository that is meant.
    pub fn hinted(&self, hint: &str) -> String {
        match self.repository {
            Repository::First => hint.to_owned(),
            Repository::Copy => led(hint),
        }
    }
}

/// What waits for a second repository, and what it lacks.
fn waiting(stanza: &str, spool: &Spool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Some((count, since, file)) = spool.waits.as_ref().filter(|(_, since, _)| spool.now - since > BEHIND_S) {
        let problem = Diagnostic::error("copy-behind", format!("the second repository of `{stanza}` falls behind"));
        let problem = problem
            .note(format!("{count} files of WAL wait for it, `{file}` for {} min", (spool.now - since) / 60))
            .hint("on the server: journalctl -u seawall-copy-wal.service says why it takes none");
        found.push(spool.said.iter().fold(problem, |problem, said| problem.note(said.clone())));
    }
    if let Some(why) = &spool.gap {
        found.push(
            Diagnostic::error("copy-gap", format!("the second repository of `{stanza}` lacks WAL"))
                .note(why.clone())
                .note("moments from there to its next full backup can be restored from the first one only")
                .hint("make a full backup: seawall backup now"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(spool: &Spool) -> Vec<String> {
        waiting("chronos", spool).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn what_waits_is_a_finding_after_a_quarter_of_an_hour() {
        let waits = |since| Some((3, since, "000000010000000000000004".to_owned()));
        let spool = |since, gap: Option<&str>| Spool {
            now: 10_000,
            gap: gap.map(str::to_owned),
            waits: waits(since),
            said: Some("ERROR: [049]: no way".to_owned()),
        };
        assert_eq!(codes(&spool(10_000 - BEHIND_S, None)), [""; 0]);
        assert_eq!(codes(&spool(10_000 - BEHIND_S - 1, None)), ["copy-behind"]);
        assert_eq!(codes(&spool(10_000, Some("the disk is nearly full"))), ["copy-gap"]);
        let told = waiting("chronos", &spool(0, None));
        assert_eq!(
            told[0].notes,
            ["3 files of WAL wait for it, `000000010000000000000004` for 166 min", "ERROR: [049]: no way"]
        );
    }

    #[test]
    fn a_hint_leads_to_the_repository_that_is_meant() {
        assert_eq!(led("make one: seawall backup now --type full"), "make one: seawall backup now --copy --type full");
        assert_eq!(led("`seawall backup verify` looks"), "`seawall backup verify --copy` looks");
        assert_eq!(led("`systemctl list-timers seawall-backup*`"), "`systemctl list-timers seawall-copy*`");
    }
}
