//! Proves a repository as far as that goes without a restore: storage classes, every file's checksum, every segment of WAL,
//! and one segment sent through `archive_command` from end to end.
//!
//! No exit status is believed. What is archived in S3 is found first: `pgbackrest verify` tries every single file in such
//! an object for half a minute, and would need hours to say the same.

use std::time::Instant;

use crate::base::diag::Diagnostic;
use crate::plan::backups::{Checked, RepositoryVerdict, Verified};
use crate::plan::host::Endpoint;
use crate::plan::info::Health;
use crate::plan::restores::Repository;
use crate::reach::aws::objects::Listed;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::judge::prefix;
use crate::recovery::look::Target;
use crate::recovery::meaning::{self, Meaning};
use crate::recovery::storage::{self, Reading};
use crate::recovery::verify::Reader;

/// For `pgbackrest verify`: it reads every byte of the repository. At 20 MB/s this is 800 GB.
pub const VERIFY_LIMIT_S: u32 = 12 * 3600;
/// For `pgbackrest check`: its own limit for the segment is one minute.
const CHECK_LIMIT_S: u32 = 180;
/// The same for the second repository, whose limit is ten minutes: the segment goes through a queue.
const COPY_CHECK_LIMIT_S: u32 = 660;
/// Keys that a finding names; the rest is counted.
const KEYS_TOLD: usize = 10;

impl Target {
    /// Looks at everything, and says on the way what it is at.
    pub async fn prove(&self, world: &World, on_progress: &(dyn Fn(&str) + Sync)) -> Verified {
        let begun = Instant::now();
        on_progress("listing the repository's objects");
        let seen = self
            .look(&Look::of(world), &mut |count| on_progress(&format!("listing the repository's objects: {count}")))
            .await;
        let mut proof = Verified { backups: self.judged(&seen), ..Verified::default() };
        let objects = seen.objects.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
        proof.objects = storage::classes(objects);
        let frozen = storage::frozen(objects);
        proof.backups.findings.extend(classes(&frozen, objects, &prefix(self.stanza())));
        // What keeps `info` from reading the repository keeps everything else from it, and was said.
        let readable = [Health::Ok, Health::NoBackups, Health::ClusterMismatch, Health::Mixed];
        let is_readable = seen.info.as_ref().is_ok_and(|stanza| readable.contains(&stanza.status.health()));
        match self.endpoint(world).await {
            Err(why) => proof.backups.unseen.push(format!("the repository's files: {why}")),
            Ok(at) if is_readable => {
                if frozen.is_empty() {
                    self.verify(world, &at, &mut proof, on_progress).await;
                }
                on_progress("sending one segment of WAL through archive_command");
                self.check(world, &at, &mut proof).await;
            }
            // What is wrong is a finding, or unseen, already.
            Ok(_) => {}
        }
        for finding in &mut proof.backups.findings {
            finding.hint = finding.hint.as_deref().map(|hint| self.hinted(hint));
        }
        proof.took_s = begun.elapsed().as_secs();
        proof
    }

    async fn verify(&self, world: &World, at: &Endpoint, proof: &mut Verified, on_progress: &(dyn Fn(&str) + Sync)) {
        let words = ["verify", "--output=text", "--verbose", "--log-level-console=info", "--log-level-stderr=off"];
        let total: u64 = proof.objects.iter().map(|count| count.objects).sum();
        let bytes: u64 = proof.objects.iter().map(|count| count.bytes).sum();
        on_progress(&format!("pgBackRest reads {total} objects, {} MB", bytes / 1_000_000));
        let (mut reader, mut said) = (Reader::default(), String::new());
        let mut take = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            if line.contains("ERROR: [") || (!said.is_empty() && said.len() < 4096) {
                said.push_str(&line);
                said.push('\n');
            }
            reader.line(&line);
        };
        let end = match self.run(world, at, VERIFY_LIMIT_S, &words, &mut take).await {
            Ok(end) => end,
            Err(why) => {
                proof.backups.unseen.push(format!("the repository's files: {why}"));
                return;
            }
        };
        let verdict = reader.verdict();
        proof.backups.findings.extend(judged(&verdict, self.stanza()));
        let meaning = meaning::of(meaning::number(&said).unwrap_or(end.status), &said);
        if end.status != 0 && !proof.backups.findings.iter().any(|finding| finding.code == meaning.code()) {
            proof.backups.findings.push(meaning.diagnostic(self.stanza(), end.status, &said));
        }
        proof.repository = Some(verdict);
    }

    async fn check(&self, world: &World, at: &Endpoint, proof: &mut Verified) {
        let limit = match self.repository {
            Repository::First => CHECK_LIMIT_S,
            Repository::Copy => COPY_CHECK_LIMIT_S,
        };
        let words = ["check", "--log-level-console=info", "--log-level-stderr=off"];
        let mut said = String::new();
        let mut take = |line: &[u8]| {
            said.push_str(&String::from_utf8_lossy(line));
            said.push('\n');
        };
        match self.run(world, at, limit, &words, &mut take).await {
            Err(why) => proof.backups.unseen.push(format!("whether WAL reaches the repository: {why}")),
            Ok(end) => match archived(&said) {
                Some(segment) if end.status == 0 => proof.archived_segment = Some(segment.to_owned()),
                _ => {
                    let meaning = meaning::of(meaning::number(&said).unwrap_or(end.status), &said);
                    if !proof.backups.findings.iter().any(|finding| finding.code == meaning.code()) {
                        proof.backups.findings.push(meaning.diagnostic(self.stanza(), end.status, &said));
                    }
                }
            },
        }
    }
}

/// The segment that `check` saw arrive. A status of 0 alone is not taken for it.
fn archived(said: &str) -> Option<&str> {
    let before = said.split(" successfully archived to ").next().filter(|before| before.len() < said.len())?;
    before.rsplit("WAL segment ").next()
}

/// What is wrong with storage classes.
fn classes(frozen: &[&Listed], objects: &[Listed], prefix: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !frozen.is_empty() {
        let mut problem = Meaning::StorageArchived.finding("").note(format!(
            "{} of {} objects take hours to be read; a restore that needs one fails half-way",
            frozen.len(),
            objects.len()
        ));
        for object in frozen.iter().take(KEYS_TOLD) {
            let key = object.key.strip_prefix(prefix).unwrap_or(&object.key);
            problem = problem.note(format!("{}: {key}", object.class));
        }
        found.push(problem.note("`pgbackrest verify` was not run: it would try each file in them for half a minute"));
    }
    for (reading, what) in [
        (Reading::UnlessArchived, "can be moved to an archive by S3 itself, if the bucket's archive tiers are on"),
        (Reading::NotKnown, "have a storage class that this version of Seawall does not know"),
    ] {
        let many = objects.iter().filter(|object| storage::reading(&object.class) == reading).count();
        if many > 0 {
            found.push(
                Diagnostic::warning("backup-storage-class", format!("{many} objects of the repository {what}"))
                    .hint("keep the repository in STANDARD, STANDARD_IA or GLACIER_IR; pgBackRest's retention deletes what is old"),
            );
        }
    }
    found
}

/// What the report of `pgbackrest verify` means.
fn judged(verdict: &RepositoryVerdict, stanza: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for backup in verdict.backups.iter().filter(|backup| !backup.is_fine()) {
        let status = backup.status.as_deref().unwrap_or("not said");
        found.push(
            counted(
                Diagnostic::error("backup-invalid", format!("backup `{}` cannot be restored: {status}", backup.name)),
                backup,
            )
            .hint("bring deleted objects back from their old versions, or make a new full backup now: seawall backup now --type full"),
        );
    }
    for archive in verdict.archives.iter().filter(|archive| !archive.is_fine()) {
        let problem = Diagnostic::error(
            "backup-wal-invalid",
            format!("segments of WAL in archive `{}` are not what they were", archive.name),
        );
        found.push(counted(problem, archive).hint(
            "no moment after them can be restored until the next backup: make one now: seawall backup now --type full",
        ));
    }
    if verdict.is_fine() || (!found.is_empty() && verdict.remarks.is_empty()) {
        return with_files(found, verdict);
    }
    if verdict
        .remarks
        .iter()
        .any(|remark| remark.contains("usable backup.info") || remark.contains("usable archive.info"))
    {
        let problem = verdict
            .remarks
            .iter()
            .fold(Meaning::NoStanza.finding(stanza), |problem, remark| problem.note(remark.clone()));
        found.push(problem);
    } else {
        let status = verdict.status.as_deref().unwrap_or("nothing");
        let problem = Diagnostic::error(
            "backup-verify-unclear",
            format!("pgBackRest does not say that the repository is sound: {status}"),
        );
        let problem = verdict.remarks.iter().fold(problem, |problem, remark| problem.note(remark.clone()));
        found.push(problem.hint("run it again; pgBackRest's log is in /var/log/pgbackrest on the server"));
    }
    with_files(found, verdict)
}

fn counted(problem: Diagnostic, of: &Checked) -> Diagnostic {
    let Checked { checked, valid, missing, checksum_invalid, size_invalid, other, .. } = of;
    problem.note(format!(
        "{valid} of {checked} files are as they were; {missing} missing, {checksum_invalid} with another checksum, \
         {size_invalid} with another size, {other} not readable"
    ))
}

/// The names of wrong files go to the first finding: with a lost bundle they are the same in all.
fn with_files(mut found: Vec<Diagnostic>, verdict: &RepositoryVerdict) -> Vec<Diagnostic> {
    if let Some(first) = found.first_mut() {
        for file in &verdict.wrong_files {
            first.notes.push(format!("for example `{file}`"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> RepositoryVerdict {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.verdict()
    }

    fn codes(text: &str) -> Vec<String> {
        judged(&verdict(text), "chronos").into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn every_report_becomes_its_findings() {
        assert!(codes(include_str!("recorded/verify-ok.txt")).is_empty());
        assert_eq!(codes(include_str!("recorded/verify-bundle-deleted.txt")), ["backup-invalid", "backup-invalid"]);
        assert_eq!(codes(include_str!("recorded/verify-manifest-missing.txt")), ["backup-invalid"]);
        assert_eq!(codes(include_str!("recorded/verify-no-info.txt")), ["backup-no-stanza"]);
        assert_eq!(codes(""), ["backup-verify-unclear"]);
    }

    #[test]
    fn what_is_lost_is_told_with_names_and_counts() {
        let found = judged(&verdict(include_str!("recorded/verify-bundle-deleted.txt")), "chronos");
        let notes = found[0].notes.join("\n");
        assert!(notes.contains("215 of 961 files are as they were; 746 missing"), "{notes}");
        assert!(notes.contains("for example `20261121-143736F/pg_data/PG_VERSION.zst`"), "{notes}");
    }

    #[test]
    fn frozen_objects_are_told_without_a_run() {
        let object = |key: &str, class: &str| Listed {
            key: format!("chronos/pgbackrest/{key}"),
            bytes: 1,
            modified: None,
            class: class.to_owned(),
            is_restored: false,
        };
        let objects = [object("a", "STANDARD"), object("b", "DEEP_ARCHIVE"), object("c", "INTELLIGENT_TIERING")];
        let found = classes(&storage::frozen(&objects), &objects, "chronos/pgbackrest/");
        let codes: Vec<&str> = found.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["backup-objects-archived", "backup-storage-class"]);
        assert!(found[0].notes.contains(&"DEEP_ARCHIVE: b".to_owned()), "{:?}", found[0]);
    }

    #[test]
    fn a_segment_counts_when_it_was_seen_to_arrive() {
        let said = "P00   INFO: check repo1 archive for WAL (primary)\nP00   INFO: WAL segment 000000010000000000000001 \
                    successfully archived to '/chronos/x' on repo1\n";
        assert_eq!(archived(said), Some("000000010000000000000001"));
        assert_eq!(archived("P00   INFO: check command end: completed successfully"), None);
    }
}
