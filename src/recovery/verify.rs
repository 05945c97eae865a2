//! Reads the report of `pgbackrest verify`. It ends with status 0 whatever it finds, and says `status: ok` of a repository
//! whose backup has lost its manifest, so every line of it counts.
//!
//! What it does not look for at all is missing WAL: [`crate::recovery::windows`] does. Segments and files that are there
//! and wrong are in its report.

use crate::plan::backups::{Checked, RepositoryVerdict};

/// Names of wrong files that are kept; the rest is counted. One lost bundle is a line for each file in it.
const FILES_KEPT: usize = 10;
/// What its log says of a file that is not as it should be.
const WRONG: [&str; 5] = ["file missing ", "invalid checksum ", "invalid size ", "invalid result ", "invalid verify "];

/// Takes the lines of a run in, in order.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    verdict: RepositoryVerdict,
    /// Within the report itself: it is printed once in the log and once, plainly, on standard output.
    in_report: bool,
    last: Option<(Part, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Archive,
    Backup,
}

impl Reader {
    pub fn line(&mut self, line: &str) {
        let is_log = line.get(..5).is_some_and(|begin| begin.ends_with('-') && begin[..4].parse::<u16>().is_ok());
        if is_log {
            self.in_report = false;
            self.log(line);
        } else if line.starts_with("stanza: ") {
            self.in_report = true;
        } else if self.in_report {
            self.report(line.trim());
        }
    }

    fn log(&mut self, line: &str) {
        let Some(said) = WRONG.iter().find_map(|what| line.split(&format!("INFO: {what}")).nth(1)) else { return };
        self.verdict.wrong_file_count += 1;
        let name = said.trim_matches('\'').split(": [").next().unwrap_or(said);
        if self.verdict.wrong_files.len() < FILES_KEPT && !self.verdict.wrong_files.iter().any(|known| known == name) {
            self.verdict.wrong_files.push(name.to_owned());
        }
    }

    fn report(&mut self, line: &str) {
        let verdict = &mut self.verdict;
        if let Some(status) = line.strip_prefix("status: ") {
            verdict.status = Some(status.to_owned());
        } else if let Some(rest) = line.strip_prefix("archiveId: ") {
            self.last = Some((Part::Archive, verdict.archives.len()));
            verdict.archives.push(checked(rest, "total WAL checked: ", "total valid WAL: "));
        } else if let Some(rest) = line.strip_prefix("backup: ") {
            self.last = Some((Part::Backup, verdict.backups.len()));
            verdict.backups.push(checked(rest, "total files checked: ", "total valid files: "));
        } else if line.starts_with("missing: ") {
            let part = match self.last {
                Some((Part::Archive, at)) => verdict.archives.get_mut(at),
                Some((Part::Backup, at)) => verdict.backups.get_mut(at),
                None => None,
            };
            if let Some(part) = part {
                part.missing = field(line, "missing: ");
                part.checksum_invalid = field(line, "checksum invalid: ");
                part.size_invalid = field(line, "size invalid: ");
                part.other = field(line, "other: ");
            }
        } else if !line.is_empty() {
            verdict.remarks.push(line.to_owned());
        }
    }

    /// What was read.
    pub fn verdict(self) -> RepositoryVerdict {
        self.verdict
    }
}

fn checked(rest: &str, all: &str, valid: &str) -> Checked {
    let name = rest.split(',').next().unwrap_or_default().to_owned();
    let status = rest.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
    Checked { name, status, checked: field(rest, all), valid: field(rest, valid), ..Checked::default() }
}

/// The number behind a word; 0 where the word is not there.
fn field(line: &str, word: &str) -> u64 {
    let number = line.split(word).nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Checked {
    /// Whether everything of it was found as it should be.
    pub fn is_fine(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == "valid")
            && self.valid == self.checked
            && self.missing + self.checksum_invalid + self.size_invalid + self.other == 0
    }
}

impl RepositoryVerdict {
    /// Whether the report came to its end and has nothing to say against anything.
    pub fn is_fine(&self) -> bool {
        self.status.as_deref() == Some("ok")
            && self.remarks.is_empty()
            && self.wrong_file_count == 0
            && self.archives.iter().chain(&self.backups).all(Checked::is_fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RepositoryVerdict {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.verdict()
    }

    #[test]
    fn a_sound_repository_is_fine() {
        let verdict = read(include_str!("recorded/verify-ok.txt"));
        assert!(verdict.is_fine(), "{verdict:?}");
        assert_eq!(
            (verdict.archives.len(), verdict.backups.len()),
            (1, 2),
            "the report is printed twice and read once"
        );
        assert_eq!((verdict.backups[1].checked, verdict.backups[1].valid), (963, 963));
        assert_eq!(verdict.archives[0].name, "15-1");
    }

    #[test]
    fn a_lost_bundle_is_every_backup_that_needs_it() {
        let verdict = read(include_str!("recorded/verify-bundle-deleted.txt"));
        assert!(!verdict.is_fine());
        assert_eq!(verdict.status.as_deref(), Some("error"));
        let lost: Vec<(&str, u64)> = verdict.backups.iter().map(|b| (b.name.as_str(), b.missing)).collect();
        assert_eq!(lost, [("20261121-143736F", 746), ("20261121-143736F_20261121-143823D", 727)]);
        assert_eq!((verdict.wrong_file_count, verdict.wrong_files.len()), (14, FILES_KEPT));
        assert_eq!(verdict.wrong_files[0], "20261121-143736F/pg_data/PG_VERSION.zst");
    }

    #[test]
    fn a_status_of_ok_is_not_believed_over_a_backup_without_a_manifest() {
        let verdict = read(include_str!("recorded/verify-manifest-missing.txt"));
        assert_eq!(verdict.status.as_deref(), Some("ok"), "that is what it says");
        assert_eq!(verdict.backups[0].status.as_deref(), Some("manifest missing"));
        assert!(!verdict.is_fine());
    }

    #[test]
    fn what_it_says_in_words_counts() {
        let verdict = read(include_str!("recorded/verify-no-info.txt"));
        assert_eq!(verdict.remarks, ["No usable backup.info file"]);
        assert!(!verdict.is_fine());
    }

    #[test]
    fn an_archived_object_is_a_wrong_file() {
        let verdict = read(include_str!("recorded/archived.txt"));
        assert_eq!(verdict.wrong_files, ["20261121-143736F/pg_data/base/1/2601_vm.zst"]);
    }

    #[test]
    fn a_report_that_stops_half_way_is_not_fine() {
        let whole = include_str!("recorded/verify-ok.txt");
        let half: String =
            whole.lines().take_while(|line| !line.starts_with("stanza: ")).collect::<Vec<_>>().join("\n");
        assert!(half.contains("stanza: chronos"), "the log was cut before the report");
        assert!(!read(&half).is_fine());
        assert!(!read("").is_fine());
    }
}
