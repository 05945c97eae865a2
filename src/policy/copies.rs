//! Rules about a second repository: what it must not share with the first one.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::Inventory;
use crate::inventory::sections::database::{Backup, BackupCopy};
use crate::policy::Rule;
use crate::policy::backup::{NO_CIPHER_ESCROW, SCHEDULE_COLLISION};

const COPY_IN_SAME_BUCKET: Rule = Rule {
    id: "copy-in-same-bucket",
    severity: Severity::Error,
    wants: "a second repository is in another bucket than the first one",
    source: "who can empty or delete a bucket takes everything in it",
};
const COPY_SHARES_PASSPHRASE: Rule = Rule {
    id: "copy-shares-passphrase",
    severity: Severity::Error,
    wants: "each repository has a passphrase of its own",
    source: "a passphrase that is lost or known to somebody else would end both",
};
const COPY_IN_SAME_REGION: Rule = Rule {
    id: "copy-in-same-region",
    severity: Severity::Warning,
    wants: "a second repository is in another region than the first one",
    source: "AWS: an event that takes a region away takes every bucket in it",
};

pub(super) const RULES: &[Rule] = &[COPY_IN_SAME_BUCKET, COPY_SHARES_PASSPHRASE, COPY_IN_SAME_REGION];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let Some(section) = &server.backup else { continue };
        for (index, copy) in section.copies.iter().enumerate() {
            let base = format!("servers.{name}.backup");
            shared(inventory, places, &base, &format!("{base}.copies[{index}]"), (section, copy), found);
            own(places, &base, &format!("{base}.copies[{index}]"), (section, copy), found);
        }
    }
}

/// What both must not have in common.
fn shared(
    inventory: &Inventory,
    places: &Places,
    base: &str,
    path: &str,
    (section, copy): (&Backup, &BackupCopy),
    found: &mut Vec<Diagnostic>,
) {
    if copy.bucket == section.bucket {
        let finding = COPY_IN_SAME_BUCKET
            .broken(format!("`{path}` is lost with the first repository"), format!("both are in `{}`", copy.bucket))
            .at(places.span(&format!("{path}.bucket")), "the same bucket")
            .at(places.span(&format!("{base}.bucket")), "as this")
            .hint("declare a second bucket under `buckets`, with a `region` of its own");
        found.push(COPY_IN_SAME_BUCKET.cite(finding));
        return;
    }
    let regions = [&section.bucket, &copy.bucket].map(|name| inventory.buckets.get(name));
    if let [Some(first), Some(second)] = regions.map(|bucket| bucket.map(|bucket| inventory.region_of(bucket)))
        && first == second
    {
        let finding = COPY_IN_SAME_REGION
            .broken(
                format!("`{path}` is lost when the region of the first repository is"),
                format!("both are in {first}"),
            )
            .at(places.span(&format!("{path}.bucket")), "in the same region")
            .hint(format!("give the bucket a region: buckets.{}.region", copy.bucket));
        found.push(COPY_IN_SAME_REGION.cite(finding));
    }
}

/// What the copy needs, as the first one does, and what both must have of their own.
fn own(places: &Places, base: &str, path: &str, (section, copy): (&Backup, &BackupCopy), found: &mut Vec<Diagnostic>) {
    if copy.cipher_pass.secret() == section.cipher_pass.secret() {
        let finding = COPY_SHARES_PASSPHRASE
            .broken(format!("`{path}` is opened by the passphrase of the first repository"), copy.cipher_pass.secret())
            .at(places.span(&format!("{path}.cipher_pass")), "the same place")
            .at(places.span(&format!("{base}.cipher_pass")), "as this")
            .hint("draw another one, for example with `openssl rand -base64 48`, and keep it in a place of its own");
        found.push(COPY_SHARES_PASSPHRASE.cite(finding));
    }
    if !copy.cipher_pass.is_escrowed() {
        let finding = NO_CIPHER_ESCROW
            .broken(format!("`{path}.cipher_pass` is kept in one place, as far as this file knows"), "no `escrow`")
            .at(places.span(&format!("{path}.cipher_pass")), "lost with this place")
            .hint("keep it in a second place that this environment cannot reach, then write `escrow: confirmed`");
        found.push(NO_CIPHER_ESCROW.cite(finding));
    }
    let turns = |of: &Backup| {
        let schedule = &of.schedule;
        let all = [Some(&schedule.full), schedule.differential.as_ref(), schedule.incremental.as_ref()];
        all.into_iter().flatten().cloned().collect::<Vec<_>>()
    };
    let as_if = section.of_copy(copy);
    let dumps = section.dumps.iter().map(|dumps| dumps.schedule.clone());
    let mut others: Vec<_> = turns(section).into_iter().chain(dumps).collect();
    for when in turns(&as_if) {
        for other in others.iter().filter(|other| other.collides(&when)) {
            let finding = SCHEDULE_COLLISION
                .broken(format!("`{path}` makes a backup at the minute of another one"), format!("`{when}`, `{other}`"))
                .at(places.span(&format!("{path}.schedule")), "at the same minute")
                .hint("give it another hour: each reads everything there is");
            found.push(SCHEDULE_COLLISION.cite(finding));
        }
        others.push(when);
    }
}
