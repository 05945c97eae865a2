//! Rules about the age of objects: what would break a restore, what S3 refuses, and what costs more than it saves.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::database::{Backup, Generations};
use crate::inventory::sections::storage::{Aging, StorageClass};
use crate::inventory::sections::{Bucket, Inventory};
use crate::policy::Rule;
use crate::policy::backup::covers;

const BREAKS_RESTORE: Rule = Rule {
    id: "lifecycle-breaks-restore",
    severity: Severity::Error,
    wants: "what a restore reads is neither deleted nor frozen by the age of its objects",
    source: "observed with pgBackRest 2.45: with one frozen object `info` and new backups stay fine, and a restore ends half-way, after it cleared the target",
};
const SLOW_RESTORE: Rule = Rule {
    id: "lifecycle-slow-restore",
    severity: Severity::Warning,
    wants: "a dump can be read when it is needed",
    source: "S3: what is in GLACIER is asked for 3 to 5 hours before it can be read, in DEEP_ARCHIVE 12; `dump restore` does not wait",
};
const ORDER: Rule = Rule {
    id: "lifecycle-order",
    severity: Severity::Error,
    wants: "objects move to cheaper classes only, and are deleted after the last move",
    source: "S3, lifecycle transitions: nothing moves up again; a rule with other ages is refused as a whole",
};
const TOO_EARLY: Rule = Rule {
    id: "lifecycle-too-early",
    severity: Severity::Error,
    wants: "objects are 30 days old before they move to standard-ia, and stay there for 30",
    source: "S3, lifecycle transitions: STANDARD_IA takes no younger ones",
};
const NEVER_REACHED: Rule = Rule {
    id: "lifecycle-never-reached",
    severity: Severity::Warning,
    wants: "some object gets old enough for each line",
    source: "S3: deletion beats transition; pgBackRest deletes what it no longer keeps",
};
const MINIMUM_DURATION: Rule = Rule {
    id: "lifecycle-minimum-duration",
    severity: Severity::Warning,
    wants: "objects stay in a class for as long as it is billed",
    source: "S3 pricing: 30 days in standard-ia, 90 in glacier-instant and glacier, 180 in deep-archive, whatever goes earlier",
};

pub(super) const RULES: &[Rule] = &[BREAKS_RESTORE, SLOW_RESTORE, ORDER, TOO_EARLY, NEVER_REACHED, MINIMUM_DURATION];

/// What lies below a prefix, as far as ages of objects concern it.
struct Holding {
    prefix: String,
    what: String,
    /// Whether it must never be frozen, and never deleted by age.
    vital: bool,
    /// Days after which whoever wrote it by a schedule has deleted it, the longest.
    kept: Option<i32>,
    /// Some of it is kept for longer: dumps with a name.
    has_older: bool,
}

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, bucket) in &inventory.buckets {
        let held = holdings(inventory, name.as_str());
        let lines = Lines { name: name.as_str(), bucket, places };
        for (index, aging) in bucket.lifecycle.iter().enumerate() {
            for holding in
                held.iter().filter(|held| covers(&aging.prefix, &held.prefix) || covers(&held.prefix, &aging.prefix))
            {
                lines.reaches(index, aging, holding, found);
            }
        }
        lines.among_themselves(found);
    }
}

/// Seconds until S3 gives out what the newest restore of a server needs: 0, unless a line freezes its repository before the next full
/// backup is made. Such a line is refused, and the table of objectives does not pass over it all the same.
pub(super) fn thaw_s(inventory: &Inventory, server: &str) -> u64 {
    let section = inventory.servers.iter().find(|(name, _)| name.as_str() == server);
    let Some(section) = section.and_then(|(_, server)| server.backup.as_ref()) else { return 0 };
    let Some(bucket) = inventory.buckets.get(&section.bucket) else { return 0 };
    let repository = format!("{}/pgbackrest", section.stanza);
    let frozen = bucket.lifecycle.iter().filter(|aging| {
        (covers(&aging.prefix, &repository) || covers(&repository, &aging.prefix))
            && aging.after.seconds() <= section.schedule.full.longest_gap().seconds()
    });
    frozen.filter_map(|aging| aging.to).map(StorageClass::thaw_s).max().unwrap_or(0)
}

/// What the inventory puts into a bucket.
fn holdings(inventory: &Inventory, bucket: &str) -> Vec<Holding> {
    let mut held = Vec::new();
    for (name, server) in &inventory.servers {
        let Some(first) = &server.backup else { continue };
        for copy in first.copies.iter().filter(|copy| copy.bucket.as_str() == bucket) {
            held.push(repository(&first.of_copy(copy), format!("the copy of the backups of `servers.{name}`")));
        }
        let Some(section) = Some(first).filter(|section| section.bucket.as_str() == bucket) else { continue };
        let stanza = &section.stanza;
        held.push(repository(section, format!("the backups of `servers.{name}`")));
        if let Some(dumps) = &section.dumps {
            held.push(Holding {
                prefix: format!("{stanza}/dumps"),
                what: format!("the dumps of `servers.{name}`"),
                vital: false,
                kept: Some(longest(&dumps.keep)),
                has_older: true,
            });
        }
        if server.certificate.is_some() {
            held.push(Holding {
                prefix: format!("{stanza}.certificate"),
                what: format!("the copy of the certificate of `servers.{name}`"),
                vital: true,
                kept: None,
                has_older: false,
            });
        }
    }
    if let Some(state) = inventory.state.as_ref().filter(|state| state.bucket.as_str() == bucket) {
        held.push(Holding {
            prefix: state.prefix.clone(),
            what: "Seawall's own state".to_owned(),
            vital: true,
            kept: None,
            has_older: false,
        });
    }
    held
}

fn repository(section: &Backup, what: String) -> Holding {
    let days = section.retention.days;
    Holding {
        prefix: format!("{}/pgbackrest", section.stanza),
        what,
        vital: true,
        kept: section.retention.generations.is_none().then(|| i32::try_from(days).ok()).flatten(),
        has_older: false,
    }
}

/// Days until the oldest dump that is kept is deleted, at the longest.
fn longest(keep: &Generations) -> i32 {
    let days = [keep.daily, 7 * keep.weekly, 31 * keep.monthly].into_iter().max().unwrap_or(0);
    i32::try_from(days).unwrap_or(i32::MAX)
}

/// The lines of one bucket.
struct Lines<'a> {
    name: &'a str,
    bucket: &'a Bucket,
    places: &'a Places,
}

impl Lines<'_> {
    fn path(&self, index: usize) -> String {
        format!("buckets.{}.lifecycle[{index}]", self.name)
    }

    fn tell(
        &self,
        rule: &Rule,
        index: usize,
        message: impl Into<String>,
        evidence: impl Display,
        hint: impl Into<String>,
        found: &mut Vec<Diagnostic>,
    ) {
        let finding = rule.broken(message, evidence).at(self.places.span(&self.path(index)), "here").hint(hint);
        found.push(rule.cite(finding));
    }

    /// What one line does to something that the inventory puts there.
    fn reaches(&self, index: usize, aging: &Aging, held: &Holding, found: &mut Vec<Diagnostic>) {
        let path = self.path(index);
        let what = &held.what;
        let evidence = format!("{} below `{}`, and `{}` is {what}", does(aging), aging.prefix, held.prefix);
        let frozen = aging.to.is_some_and(StorageClass::is_archive);
        if held.vital && (frozen || aging.delete) {
            let message = format!("`{path}` {} {what}", if frozen { "freezes" } else { "deletes" });
            let hint = "give it a prefix of its own; pgBackRest's `retention` deletes backups that are not needed";
            self.tell(&BREAKS_RESTORE, index, message, evidence, hint, found);
            return;
        }
        if frozen {
            let message = format!("`{path}` freezes {what}: a dump is asked for hours before it can be restored");
            self.tell(&SLOW_RESTORE, index, message, evidence, "glacier-instant is read at once", found);
        }
        let age = aging.days().unwrap_or_default();
        let Some((class, kept)) = aging.to.zip(held.kept) else { return };
        if age >= kept {
            if !held.has_older {
                let message = format!("`{path}` comes too late for {what}: none gets {age} days old");
                let evidence = format!("they are kept for {kept} days at the longest");
                self.tell(&NEVER_REACHED, index, message, evidence, "an earlier age, or leave the line away", found);
            }
        } else if kept - age < class.minimum_days() {
            let message = format!("`{path}` is paid for longer than {what} are kept");
            let evidence = format!(
                "from day {age} in {}, gone by day {kept} at the latest, billed for {} days",
                class.word(),
                class.minimum_days()
            );
            self.tell(&MINIMUM_DURATION, index, message, evidence, "leave them where they are", found);
        }
    }

    /// What lines do to each other.
    fn among_themselves(&self, found: &mut Vec<Diagnostic>) {
        let mut chains: BTreeMap<&str, Vec<(usize, StorageClass, i32)>> = BTreeMap::new();
        for (index, aging) in self.bucket.lifecycle.iter().enumerate() {
            let Some((class, days)) = aging.to.zip(aging.days()) else { continue };
            chains.entry(&aging.prefix).or_default().push((index, class, days));
        }
        for chain in chains.values_mut() {
            chain.sort_by_key(|(_, class, _)| *class);
            for pair in chain.windows(2) {
                let [(_, before, earlier), (index, class, days)] = pair else { continue };
                let evidence = format!("{} after {earlier} days, {} after {days}", before.word(), class.word());
                let path = self.path(*index);
                if days <= earlier {
                    let message = format!("`{path}` moves objects on before they have come to {}", before.word());
                    self.tell(&ORDER, *index, message, evidence, "the cheaper the class, the older the object", found);
                } else if *before == StorageClass::StandardIa && days - earlier < before.minimum_days() {
                    let message = format!("`{path}` takes objects out of standard-ia too early");
                    self.tell(&TOO_EARLY, *index, message, evidence, "30 days later, or without standard-ia", found);
                } else if days - earlier < before.minimum_days() {
                    self.short(*index, *before, days - earlier, &evidence, found);
                }
            }
            if let Some((index, _, days)) =
                chain.iter().find(|(_, class, days)| *class == StorageClass::StandardIa && *days < 30)
            {
                let message = format!("`{}` moves objects that are too young", self.path(*index));
                self.tell(&TOO_EARLY, *index, message, format!("{days} days"), "after: 30d, or another class", found);
            }
        }
        for (index, aging) in self.bucket.lifecycle.iter().enumerate().filter(|(_, aging)| aging.delete) {
            let Some(gone) = aging.days() else { continue };
            let below = chains.iter().filter(|(prefix, _)| covers(&aging.prefix, prefix));
            for (prefix, chain) in below {
                let at_most = chain.iter().max_by_key(|(_, class, _)| *class);
                let late: Vec<_> = chain.iter().filter(|(_, _, days)| *days >= gone).collect();
                for (line, class, days) in &late {
                    let message = format!("`{}` is reached by no object: all are deleted before", self.path(*line));
                    let evidence = format!("{} after {days} days, deleted after {gone}", class.word());
                    // Of one prefix they are one rule of S3's, which it refuses.
                    let rule = if *prefix == aging.prefix { &ORDER } else { &NEVER_REACHED };
                    self.tell(rule, *line, message, evidence, "delete later, or leave this line away", found);
                }
                if let Some((_, class, days)) = at_most.filter(|_| late.is_empty())
                    && gone - days < class.minimum_days()
                {
                    let evidence = format!("{} after {days} days, deleted after {gone}", class.word());
                    self.short(index, *class, gone - days, &evidence, found);
                }
            }
        }
    }

    fn short(&self, index: usize, class: StorageClass, days: i32, evidence: &str, found: &mut Vec<Diagnostic>) {
        let message = format!(
            "`{}` ends {} days in {}, and {} are billed",
            self.path(index),
            days,
            class.word(),
            class.minimum_days()
        );
        self.tell(&MINIMUM_DURATION, index, message, evidence, "later, or without that class", found);
    }
}

/// What a line does, in its own words.
fn does(aging: &Aging) -> String {
    match aging.to {
        Some(class) => format!("`after: {}, to: {}`", aging.after, class.word()),
        None => format!("`after: {}, delete: true`", aging.after),
    }
}
