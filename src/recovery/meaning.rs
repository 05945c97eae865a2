//! What pgBackRest's failures mean, in one table. Its exit status is the number of its error (`error.yaml` of its source).
//!
//! Number 39 stands for every error that S3 answers with; the reason is in the `<Code>` of S3's answer.

use crate::base::diag::Diagnostic;

/// Lines of pgBackRest's own words that are shown.
const LINES_SHOWN: usize = 6;
/// Characters of such a line that are shown.
const LINE_SHOWN: usize = 300;

/// A class of failures that have the same remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Config,
    NoStanza,
    StorageArchived,
    StorageRefused,
    StorageClock,
    StorageUnreachable,
    WalTwice,
    TooOld,
    Running,
    Database,
    OtherCluster,
    Stopped,
    Ended,
    ForeignArchiveCommand,
    NothingFits,
    ArchiveTimeout,
    ArchiveOff,
    Passphrase,
    Access,
    Other,
}

/// Finds what a failure means from its number and everything that was said.
pub fn of(number: i32, said: &str) -> Meaning {
    // A page of S3's tells more than the number around it, which depends on who asked S3 for what.
    if let Some(code) = s3_code(said) {
        return match code {
            "InvalidObjectState" => Meaning::StorageArchived,
            "RequestTimeTooSkewed" => Meaning::StorageClock,
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" => Meaning::StorageUnreachable,
            _ => Meaning::StorageRefused,
        };
    }
    match number {
        // 31 to 37 are options that are unknown, missing or do not go together.
        27 | 31..=37 => Meaning::Config,
        28 | 51 | 58 => Meaning::OtherCluster,
        45 => Meaning::WalTwice,
        47 => Meaning::TooOld,
        50 => Meaning::Running,
        55 if said.contains(".info") || said.trim().is_empty() => Meaning::NoStanza,
        56 | 57 => Meaning::Database,
        62 => Meaning::Stopped,
        63 => Meaning::Ended,
        68 => Meaning::ForeignArchiveCommand,
        // 55 is said of any file that is missing; the info files came first.
        55 | 75 => Meaning::NothingFits,
        82 => Meaning::ArchiveTimeout,
        87 => Meaning::ArchiveOff,
        // With a wrong passphrase 2.45 also says that what it decrypted has no format it knows.
        29 | 95 => Meaning::Passphrase,
        39 | 42 | 49 | 101 | 103 => Meaning::StorageUnreachable,
        41 | 105 => Meaning::Access,
        _ => Meaning::Other,
    }
}

/// The number of the first error that pgBackRest names in a text: `ERROR: [055]`.
pub fn number(said: &str) -> Option<i32> {
    let rest = said.split("ERROR: [").nth(1)?;
    rest.split(']').next()?.parse().ok()
}

/// S3's reason in a text.
pub fn s3_code(said: &str) -> Option<&str> {
    let rest = said.split("<Code>").nth(1)?;
    rest.split("</Code>").next().filter(|code| code.len() < 64)
}

impl Meaning {
    /// The code of the message, with a section in `docs/errors.md`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "backup-configuration",
            Self::NoStanza => "backup-no-stanza",
            Self::StorageArchived => "backup-objects-archived",
            Self::StorageRefused => "backup-storage-refused",
            Self::StorageClock => "backup-storage-clock",
            Self::StorageUnreachable => "backup-storage-unreachable",
            Self::WalTwice => "backup-wal-twice",
            Self::TooOld => "backup-pgbackrest-too-old",
            Self::Running => "backup-running",
            Self::Database => "backup-database",
            Self::OtherCluster => "backup-other-cluster",
            Self::Stopped => "backup-stopped",
            Self::Ended => "backup-ended",
            Self::ForeignArchiveCommand => "backup-archive-command",
            Self::NothingFits => "backup-nothing-fits",
            Self::ArchiveTimeout => "backup-archive-timeout",
            Self::ArchiveOff => "backup-archive-off",
            Self::Passphrase => "backup-passphrase",
            Self::Access => "backup-access",
            Self::Other => "backup-failed",
        }
    }

    /// One sentence about the operator's thing.
    fn sentence(self, stanza: &str) -> String {
        match self {
            Self::Config => "pgBackRest does not take its configuration".to_owned(),
            Self::NoStanza => format!("the repository knows no stanza `{stanza}`, or its info files are gone"),
            Self::StorageArchived => {
                "S3 has put objects of the repository into an archive, where they cannot be read".to_owned()
            }
            Self::StorageRefused => "S3 refuses the server's access to the repository".to_owned(),
            Self::StorageClock => "S3 refuses the server because its clock is wrong".to_owned(),
            Self::StorageUnreachable => "the repository does not answer the server".to_owned(),
            Self::WalTwice => format!("two clusters archive into stanza `{stanza}`"),
            Self::TooOld => "this pgBackRest is older than what it should back up".to_owned(),
            Self::Running => format!("a backup of `{stanza}` is running already"),
            Self::Database => "pgBackRest cannot talk to PostgreSQL".to_owned(),
            Self::OtherCluster => format!("the cluster is not the one whose backups are in stanza `{stanza}`"),
            Self::Stopped => format!("pgBackRest was told to stop for `{stanza}`, and never to start again"),
            Self::Ended => "pgBackRest was ended from outside".to_owned(),
            Self::ForeignArchiveCommand => {
                "`archive_command` is not pgBackRest's, so no WAL reaches the repository".to_owned()
            }
            Self::NothingFits => "the repository has no backup that fits".to_owned(),
            Self::ArchiveTimeout => "PostgreSQL did not archive a segment of WAL in time".to_owned(),
            Self::ArchiveOff => "PostgreSQL does not archive: `archive_mode` is off".to_owned(),
            Self::Passphrase => {
                format!("the repository of `{stanza}` cannot be decrypted with the server's passphrase")
            }
            Self::Access => "pgBackRest may not read or write something that it must".to_owned(),
            Self::Other => "pgBackRest failed".to_owned(),
        }
    }

    /// Something to do.
    fn hint(self) -> &'static str {
        match self {
            Self::Config => "`seawall plan` shows what differs from the configuration that Seawall writes",
            Self::NoStanza => {
                "if this is a new environment, `seawall apply` makes the stanza; if it had backups, look for who deleted \
                 objects below the stanza's prefix, and bring old versions back before anything writes there"
            }
            Self::StorageArchived => {
                "take the lifecycle rule away that moves them, and restore the objects with S3's RestoreObject; \
                 `seawall backup verify` lists them"
            }
            Self::StorageRefused => {
                "S3's reason stands above: a key that is gone, a wrong secret or a policy; `seawall plan` shows what \
                 differs from the identity that Seawall makes"
            }
            Self::StorageClock => "look at `timedatectl` on the server; `host.time` keeps the clock right",
            Self::StorageUnreachable => {
                "look at name resolution and the way to S3 on the server; WAL waits in pg_wal meanwhile"
            }
            Self::WalTwice => {
                "find the second one (a clone, a server from a snapshot, a drill that archives) and stop its archiving; \
                 delete nothing before you know which is right"
            }
            Self::TooOld => "install a pgBackRest that knows this version of PostgreSQL and of the repository",
            Self::Running => "follow it with: seawall backup now --follow",
            Self::Database => "look at `systemctl status postgresql@*` on the server",
            Self::OtherCluster => {
                "if it was upgraded, pgbackrest stanza-upgrade takes it in; if it was made anew by mistake, restore from the \
                 backups first; a new cluster that is meant gets a new stanza name"
            }
            Self::Stopped => "ask who stopped it and why; `seawall apply` takes it back",
            Self::Ended => {
                "look at who stopped it: a reboot, `systemctl stop`, memory (`journalctl -k`); then try again"
            }
            Self::ForeignArchiveCommand => {
                "`seawall plan` shows who set it; a full backup is needed after it is right again"
            }
            Self::NothingFits => "`seawall backup list` shows what there is, and what can be restored",
            Self::ArchiveTimeout => {
                "look at the end of /var/log/postgresql on the server: archive_command says there why it fails"
            }
            Self::ArchiveOff => "`seawall plan` shows the difference; turning it on restarts PostgreSQL",
            Self::Passphrase => {
                "the passphrase is fixed when a repository is made: bring back the one it was made with; a new passphrase \
                 is a new stanza"
            }
            Self::Access => "`seawall plan` shows owners and modes that differ; pgBackRest runs as user postgres",
            Self::Other => "pgBackRest's own words stand above; its log is in /var/log/pgbackrest on the server",
        }
    }

    /// The message, where it was seen without pgBackRest.
    pub fn finding(self, stanza: &str) -> Diagnostic {
        Diagnostic::error(self.code(), self.sentence(stanza)).hint(self.hint())
    }

    /// The message, with pgBackRest's own words as notes.
    pub fn diagnostic(self, stanza: &str, number: i32, said: &str) -> Diagnostic {
        let mut problem = self.finding(stanza);
        if let Some(code) = s3_code(said) {
            problem = problem.note(format!("S3 answered {code}"));
        }
        for line in own_words(said) {
            problem = problem.note(line);
        }
        problem.note(format!("pgBackRest's number for it is {number}"))
    }
}

/// The lines in which pgBackRest says what is wrong, without its time stamps, headers and what it redacted.
fn own_words(said: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut within = false;
    for line in said.lines() {
        let begins = line.find("ERROR: [");
        let is_new = line.get(..4).is_some_and(|year| year.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(at) = begins {
            within = true;
            lines.push(line[at..].to_owned());
        } else if is_new {
            within = false;
        } else if within {
            let text = line.trim();
            // What was asked of S3 and answered is for pgBackRest's log; the reason was taken out of it.
            if text.starts_with("***") {
                within = false;
            } else if !text.is_empty() {
                lines.push(text.to_owned());
            }
        }
        if lines.len() == LINES_SHOWN {
            break;
        }
    }
    // With a wrong passphrase the words go over into what was decrypted with it.
    let noise = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    let readable = |line: String| line.split(noise).next().unwrap_or_default().chars().take(LINE_SHOWN).collect();
    lines.into_iter().map(readable).filter(|line: &String| line.contains(' ')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pgBackRest 2.45 printed, and how it ended.
    const RECORDED: [(i32, &str, Meaning); 8] = [
        (55, include_str!("recorded/no-stanza.txt"), Meaning::NoStanza),
        (39, include_str!("recorded/wrong-key.txt"), Meaning::StorageRefused),
        (39, include_str!("recorded/archived.txt"), Meaning::StorageArchived),
        (29, include_str!("recorded/wrong-passphrase.txt"), Meaning::Passphrase),
        (68, include_str!("recorded/foreign-archive-command.txt"), Meaning::ForeignArchiveCommand),
        (82, include_str!("recorded/archive-timeout.txt"), Meaning::ArchiveTimeout),
        (50, include_str!("recorded/running.txt"), Meaning::Running),
        (62, include_str!("recorded/stopped.txt"), Meaning::Stopped),
    ];

    #[test]
    fn what_pgbackrest_says_is_told_apart() {
        for (status, said, meaning) in RECORDED {
            assert_eq!(of(status, said), meaning, "{said}");
            if said.contains("ERROR: [") {
                assert_eq!(number(said), Some(status), "{said}");
            }
            let problem = meaning.diagnostic("chronos", status, said);
            assert!(problem.notes.len() <= LINES_SHOWN + 2 && problem.hint.is_some(), "{problem:?}");
            let shown = format!("{problem:?}");
            assert!(!shown.contains("authorization") && !shown.contains("x-amz"), "{shown}");
        }
    }

    #[test]
    fn the_reason_is_shown_and_its_wrapping_is_not() {
        let (status, said, meaning) = RECORDED[1];
        let problem = meaning.diagnostic("chronos", status, said);
        assert!(problem.notes.contains(&"S3 answered InvalidAccessKeyId".to_owned()), "{problem:?}");
        let (status, said, meaning) = RECORDED[5];
        let notes = meaning.diagnostic("chronos", status, said).notes.join("\n");
        assert!(notes.contains("was not archived before the 5000ms timeout"), "{notes}");
        assert!(notes.ends_with("pgBackRest's number for it is 82"), "{notes}");
    }

    #[test]
    fn every_number_of_the_table_has_its_meaning() {
        for (status, meaning) in [
            (27, Meaning::Config),
            (31, Meaning::Config),
            (28, Meaning::OtherCluster),
            (58, Meaning::OtherCluster),
            (45, Meaning::WalTwice),
            (47, Meaning::TooOld),
            (55, Meaning::NoStanza),
            (56, Meaning::Database),
            (63, Meaning::Ended),
            (75, Meaning::NothingFits),
            (87, Meaning::ArchiveOff),
            (95, Meaning::Passphrase),
            (103, Meaning::StorageUnreachable),
            (105, Meaning::Access),
            (122, Meaning::Other),
            (1, Meaning::Other),
        ] {
            assert_eq!(of(status, ""), meaning, "{status}");
        }
        assert_eq!(of(103, "<Error><Code>RequestTimeTooSkewed</Code>"), Meaning::StorageClock);
        assert_eq!(of(55, "unable to open missing file '/x/bundle/1'"), Meaning::NothingFits);
    }
}
