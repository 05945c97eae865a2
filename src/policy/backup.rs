//! Rules about what must survive: buckets, old versions, backups, Seawall's own state.
//!
//! Deliberately absent: what only the repository itself can tell, for which there is `seawall backup verify`.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::scalar::TimeSpan;
use crate::inventory::schedule::{Period, Schedule};
use crate::inventory::sections::database::Backup;
use crate::inventory::sections::storage::{LockMode, ObjectLock};
use crate::inventory::sections::{Access, Bucket, Inventory, Keep, KeyPlace};
use crate::policy::Rule;

const DAY: u64 = 86_400;

const BUCKET_WITHOUT_VERSIONING: Rule = Rule {
    id: "bucket-without-versioning",
    severity: Severity::Warning,
    wants: "what is overwritten or deleted in a bucket can come back",
    source: "a routine clean-up deleted the data of Project Chronos; a stolen key can do the same",
};
const VERSIONS_GO_TOO_SOON: Rule = Rule {
    id: "versions-go-too-soon",
    severity: Severity::Warning,
    wants: "old versions outlive the time until a loss is noticed",
    source: "a loss is noticed by the next restore drill at the latest, and somebody must still act then",
};
const LOCK_WITHOUT_VERSIONING: Rule = Rule {
    id: "object-lock-needs-versioning",
    severity: Severity::Error,
    wants: "versions are kept where they are locked",
    source: "S3, Object Lock: it locks versions, and a bucket without versioning refuses it",
};
const LOCK_OUTLIVES_WISHES: Rule = Rule {
    id: "object-lock-outlives-wishes",
    severity: Severity::Warning,
    wants: "somebody can still end what is stored by mistake",
    source: "S3, Object Lock: what is locked in compliance mode is billed until its days are over, and not even the account's root or AWS can delete it",
};
const STATE_WITHIN_REACH: Rule = Rule {
    id: "state-within-reach",
    severity: Severity::Error,
    wants: "the lock, journals and drill history are out of reach of every server's own key",
    source: "a broken-into server must not be able to rewrite what was done to it",
};
const DISPOSABLE_STATE: Rule = Rule {
    id: "disposable-state",
    severity: Severity::Warning,
    wants: "the bucket with the state is protected",
    source: "journals and drill history are the proof that the objectives hold",
};

pub(super) const NO_CIPHER_ESCROW: Rule = Rule {
    id: "no-cipher-escrow",
    severity: Severity::Error,
    wants: "the passphrase of the backups is kept in a second place, out of this environment's reach",
    source: "pgBackRest encrypts on the host: without the passphrase, every backup is noise",
};
const RPO_BEYOND_ARCHIVE: Rule = Rule {
    id: "archive-timeout-vs-rpo",
    severity: Severity::Error,
    wants: "WAL is shipped often enough for `objectives.rpo`",
    source: "PostgreSQL, archive_timeout: what is not archived is lost with the server; differential backups do not shorten it",
};
pub(super) const SCHEDULE_COLLISION: Rule = Rule {
    id: "schedule-collision",
    severity: Severity::Error,
    wants: "no two kinds of backup, dumps included, have a turn at the same minute",
    source: "pgBackRest makes one backup of a stanza at a time: the second one ends with status 50",
};
const GENERATIONS_MISREAD: Rule = Rule {
    id: "generations-need-their-schedule",
    severity: Severity::Error,
    wants: "backups by generations are monthly full, weekly differential and daily incremental ones",
    source: "pgBackRest, retention: it counts full and differential backups, not weeks and months",
};

pub(super) const RULES: &[Rule] = &[
    BUCKET_WITHOUT_VERSIONING,
    VERSIONS_GO_TOO_SOON,
    LOCK_WITHOUT_VERSIONING,
    LOCK_OUTLIVES_WISHES,
    STATE_WITHIN_REACH,
    DISPOSABLE_STATE,
    NO_CIPHER_ESCROW,
    RPO_BEYOND_ARCHIVE,
    SCHEDULE_COLLISION,
    GENERATIONS_MISREAD,
];

/// Seconds to compress a segment of WAL and ship it, on a busy instance of the smaller bundles.
pub(super) const SHIP_S: u64 = 20;

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    buckets(inventory, places, found);
    state(inventory, places, found);
    for (name, server) in &inventory.servers {
        if let Some(section) = &server.backup {
            backups(inventory, places, &format!("servers.{name}.backup"), section, found);
        }
    }
}

fn backups(inventory: &Inventory, places: &Places, base: &str, section: &Backup, found: &mut Vec<Diagnostic>) {
    if !section.cipher_pass.is_escrowed() {
        let finding = NO_CIPHER_ESCROW
            .broken(format!("`{base}.cipher_pass` is kept in one place, as far as this file knows"), "no `escrow`")
            .at(places.span(&format!("{base}.cipher_pass")), "lost with this place")
            .hint("keep it in a second place that this environment cannot reach, then write `escrow: confirmed`");
        found.push(NO_CIPHER_ESCROW.cite(finding));
    }
    let worst = section.archive_timeout.seconds() + SHIP_S;
    if let Some(rpo) = inventory.objectives.rpo.filter(|rpo| rpo.seconds() < worst) {
        let finding = RPO_BEYOND_ARCHIVE
            .broken(
                format!("`{base}` can lose {}, and at most {rpo} may be lost", TimeSpan::from_seconds(worst)),
                format!("`archive_timeout: {}` and {SHIP_S} s to ship a segment", section.archive_timeout),
            )
            .at(places.span(&format!("{base}.archive_timeout")), "shipped at the latest after this")
            .at(places.span("objectives.rpo"), "the objective")
            .hint("300 s is usual, and costs 5 cents a month in requests");
        found.push(RPO_BEYOND_ARCHIVE.cite(finding));
    }
    let schedule = &section.schedule;
    let kinds = [
        ("full", Some(&schedule.full)),
        ("differential", schedule.differential.as_ref()),
        ("incremental", schedule.incremental.as_ref()),
    ];
    let kinds: Vec<_> = kinds.into_iter().filter_map(|(kind, when)| Some((kind, when?))).collect();
    for (index, (kind, when)) in kinds.iter().enumerate() {
        for (other, at) in kinds[..index].iter().filter(|(_, at)| when.collides(at)) {
            let finding = SCHEDULE_COLLISION
                .broken(
                    format!("`{base}.schedule` makes two backups at once"),
                    format!("{other} `{at}`, {kind} `{when}`"),
                )
                .at(places.span(&format!("{base}.schedule.{kind}")), "at the same minute")
                .at(places.span(&format!("{base}.schedule.{other}")), "as this")
                .hint("give them different hours or days");
            found.push(SCHEDULE_COLLISION.cite(finding));
        }
    }
    let dumps = section.dumps.iter().map(|dumps| &dumps.schedule);
    for (dumps, (kind, when)) in dumps.flat_map(|dumps| kinds.iter().map(move |kind| (dumps, kind))) {
        if dumps.collides(when) {
            let finding = SCHEDULE_COLLISION
                .broken(
                    format!("`{base}.dumps` begins at the same minute as a backup"),
                    format!("{kind} `{when}`, dumps `{dumps}`"),
                )
                .at(places.span(&format!("{base}.dumps.schedule")), "at the same minute")
                .at(places.span(&format!("{base}.schedule.{kind}")), "as this")
                .hint("give the dumps another hour: both read everything there is");
            found.push(SCHEDULE_COLLISION.cite(finding));
        }
    }
    let period = |when: Option<&Schedule>| when.map(Schedule::period);
    let fits = period(Some(&schedule.full)) == Some(Period::Month)
        && period(schedule.differential.as_ref()) == Some(Period::Week)
        && period(schedule.incremental.as_ref()) == Some(Period::Day);
    if section.retention.generations.is_some() && !fits {
        let finding = GENERATIONS_MISREAD
            .broken(
                format!("`{base}.retention.generations` does not fit its schedule"),
                "kept by count, made by another clock",
            )
            .at(places.span(&format!("{base}.retention.generations")), "wanted here")
            .at(places.span(&format!("{base}.schedule")), "made like this")
            .hint("schedule: { full: monthly 1 02:00, differential: Sun 03:00, incremental: Mon..Sat 04:00 }");
        found.push(GENERATIONS_MISREAD.cite(finding));
    }
}

fn locked(bucket: &Bucket, lock: ObjectLock, places: &Places, base: &str, found: &mut Vec<Diagnostic>) {
    let at = places.span(&format!("{base}.object_lock"));
    if !bucket.versioning {
        let finding = LOCK_WITHOUT_VERSIONING
            .broken(format!("`{base}` locks versions and keeps none"), "`versioning: false`")
            .at(at.clone(), "S3 refuses this")
            .hint("write `versioning: true`, or leave `object_lock` away");
        found.push(LOCK_WITHOUT_VERSIONING.cite(finding));
    }
    let days = lock.days;
    let why = match (lock.mode, bucket.keep) {
        (LockMode::Compliance, _) => {
            Some(("`mode: compliance`", "`mode: governance` leaves a way to the account's owner"))
        }
        (LockMode::Governance, Keep::Disposable) => {
            Some(("`keep: disposable`", "`keep: protected`, or no `object_lock`"))
        }
        (LockMode::Governance, Keep::Protected) => None,
    };
    if let Some((evidence, hint)) = why {
        let days = if days == 1 { "a day".to_owned() } else { format!("{days} days") };
        let message = format!("nothing in `{base}` can be deleted for {days} after it was written");
        found.push(LOCK_OUTLIVES_WISHES.cite(LOCK_OUTLIVES_WISHES.broken(message, evidence).at(at, "here").hint(hint)));
    }
}

fn buckets(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, bucket) in &inventory.buckets {
        let base = format!("buckets.{name}");
        if let Some(lock) = bucket.object_lock {
            locked(bucket, lock, places, &base, found);
        }
        if !bucket.versioning {
            let finding = BUCKET_WITHOUT_VERSIONING
                .broken(format!("what is deleted in `{base}` is gone for good"), "`versioning: false`")
                .at(places.span(&format!("{base}.versioning")), "no versions are kept")
                .hint("write `versioning: true`, or leave the line away");
            found.push(BUCKET_WITHOUT_VERSIONING.cite(finding));
            continue;
        }
        let Some(drill) = inventory.objectives.drill_every else {
            continue;
        };
        if u64::from(bucket.noncurrent_days) * DAY < drill.seconds() {
            let finding = VERSIONS_GO_TOO_SOON
                .broken(
                    format!(
                        "old versions in `{base}` go after {} days, before the drill that would notice the loss",
                        bucket.noncurrent_days
                    ),
                    format!("`noncurrent_days: {}`, `drill_every: {drill}`", bucket.noncurrent_days),
                )
                .at(places.span(&format!("{base}.noncurrent_days")), "gone by then")
                .at(places.span("objectives.drill_every"), format!("a drill every {drill}"))
                .hint(format!("keep them for {} days at least", drill.seconds().div_ceil(DAY)));
            found.push(VERSIONS_GO_TOO_SOON.cite(finding));
        }
    }
}

fn state(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    let Some(state) = &inventory.state else {
        return;
    };
    for (name, identity) in &inventory.identities {
        let on_a_server = matches!(identity.key, KeyPlace::Server { .. });
        let reaches = covers(&identity.prefix, &state.prefix) || covers(&state.prefix, &identity.prefix);
        if on_a_server && identity.access == Access::ReadWrite && identity.bucket == state.bucket && reaches {
            let finding = STATE_WITHIN_REACH
                .broken(
                    format!("the key of `identities.{name}` lies on a server and can rewrite Seawall's state"),
                    format!(
                        "read and write in `{}/{}`, the state in `{}/{}`",
                        identity.bucket, identity.prefix, state.bucket, state.prefix
                    ),
                )
                .at(places.span(&format!("identities.{name}.prefix")), "reaches the state")
                .at(places.span("state.prefix"), format!("the state: `{}`", state.prefix))
                .hint("give the identity and the state prefixes that do not overlap");
            found.push(STATE_WITHIN_REACH.cite(finding));
        }
    }
    for (name, server) in &inventory.servers {
        let writes = |section: &&Backup| {
            section.bucket == state.bucket || section.copies.iter().any(|copy| copy.bucket == state.bucket)
        };
        let Some(section) = server.backup.as_ref().filter(writes) else { continue };
        let stanza = section.stanza.as_str();
        if covers(stanza, &state.prefix) || covers(&state.prefix, stanza) {
            let finding = STATE_WITHIN_REACH
                .broken(
                    format!("the key of `servers.{name}.backup` lies on a server and can rewrite Seawall's state"),
                    format!("stanza `{stanza}` and state `{}` are in one bucket", state.prefix),
                )
                .at(places.span(&format!("servers.{name}.backup.stanza")), "the server writes below this prefix")
                .at(places.span("state.prefix"), format!("the state: `{}`", state.prefix))
                .hint("give the stanza and the state prefixes that do not overlap");
            found.push(STATE_WITHIN_REACH.cite(finding));
        }
    }
    if let Some(bucket) = inventory.buckets.get(&state.bucket)
        && bucket.keep == Keep::Disposable
    {
        let finding = DISPOSABLE_STATE
            .broken(format!("`buckets.{}` holds the state and may be destroyed", state.bucket), "`keep: disposable`")
            .at(places.span(&format!("buckets.{}.keep", state.bucket)), "disposable")
            .at(places.span("state.bucket"), "the state is here")
            .hint("write `keep: protected`");
        found.push(DISPOSABLE_STATE.cite(finding));
    }
}

/// Whether a prefix is the other one or above it.
pub(super) fn covers(above: &str, below: &str) -> bool {
    below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn prefixes_end_at_slashes() {
        assert!(covers("seawall", "seawall"));
        assert!(covers("seawall", "seawall/locks"));
        assert!(!covers("sea", "seawall"));
        assert!(!covers("seawall/locks", "seawall"));
    }
}
