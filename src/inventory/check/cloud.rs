//! Checks of what lives in the cloud: buckets, identities, alarms.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::inventory::check::{Report, text};
use crate::inventory::scalar::TimeSpan;
use crate::inventory::sections::storage::Aging;
use crate::inventory::sections::{Alarm, KeyPlace};

/// CloudWatch: a day of periods, or a week where a period is at least an hour (PutMetricAlarm, EvaluationPeriods).
const LONGEST_ALARM_S: u64 = 86_400;
const LONGEST_SLOW_ALARM_S: u64 = 7 * 86_400;
/// IAM: characters of a user's name.
const LONGEST_USER: usize = 64;
/// A lifecycle rule's name has 255 characters at most; ours are made of the prefix.
const LONGEST_AGING_PREFIX: usize = 240;
/// CloudWatch cuts no description: it refuses more than this.
const LONGEST_DESCRIPTION: usize = 1_024;

pub(super) fn check(report: &mut Report<'_>) {
    buckets(report);
    identities(report);
    alarms(report);
}

fn buckets(report: &mut Report<'_>) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for (name, bucket) in &report.inventory.buckets {
        let path = format!("buckets.{name}.name");
        report.text("bad-bucket-name", &path, text::bucket_name(&bucket.name));
        if let Some(first) = names.get(bucket.name.as_str()) {
            let problem = Diagnostic::error(
                "duplicate-bucket",
                format!("`buckets.{name}` is the same bucket as `{first}`: `{}`", bucket.name),
            )
            .at(report.places.span(&path), "the same name")
            .at(report.places.span(&format!("{first}.name")), "and here")
            .hint("one bucket has one name here; others refer to it by that");
            report.found.push(problem);
        } else {
            names.insert(&bucket.name, format!("buckets.{name}"));
        }
        if let Some(region) = &bucket.region {
            report.text("bad-region", &format!("buckets.{name}.region"), text::region(region));
        }
        if bucket.noncurrent_days == 0 {
            let path = format!("buckets.{name}.noncurrent_days");
            let message = format!("`{path}` must be at least 1");
            report.error("out-of-range", message, &path, "S3 counts in whole days");
        }
        if bucket.object_lock.is_some_and(|lock| !(1..=LONGEST_LOCK_DAYS).contains(&lock.days)) {
            let path = format!("buckets.{name}.object_lock.days");
            let message = format!("`{path}` must be from 1 to {LONGEST_LOCK_DAYS}");
            report.error("out-of-range", message, &path, "S3 takes no other number of days");
        }
        lifecycle(report, &format!("buckets.{name}.lifecycle"), &bucket.lifecycle);
    }
}

/// S3's longest default retention (S3 API, DefaultRetention).
const LONGEST_LOCK_DAYS: u32 = 36_500;

fn lifecycle(report: &mut Report<'_>, base: &str, all: &[Aging]) {
    for (index, aging) in all.iter().enumerate() {
        let base = format!("{base}[{index}]");
        report.text("bad-prefix", &format!("{base}.prefix"), text::prefix(&aging.prefix));
        if aging.prefix.len() > LONGEST_AGING_PREFIX {
            let path = format!("{base}.prefix");
            let message = format!("`{path}` has more than {LONGEST_AGING_PREFIX} characters");
            report.error("bad-prefix", message, &path, "S3's name for the rule is made of it");
        }
        if aging.days().is_none() {
            let path = format!("{base}.after");
            let message = format!("`{path}` is not a number of whole days: `{}`", aging.after);
            report.error("out-of-range", message, &path, "S3 counts in whole days");
        }
        if aging.to.is_some() == aging.delete {
            let message = format!("`{base}` says neither or both of what happens: `to: CLASS` or `delete: true`");
            report.error("bad-lifecycle", message, &base, "one of the two");
        }
        let same =
            |other: &&Aging| other.prefix == aging.prefix && (other.to, other.delete) == (aging.to, aging.delete);
        if all[..index].iter().any(|other| same(&other)) {
            let message = format!("`{base}` says again what happens to objects below `{}`", aging.prefix);
            report.error("bad-lifecycle", message, &base, "one age for each");
        }
    }
}

fn identities(report: &mut Report<'_>) {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (name, identity) in &report.inventory.identities {
        let base = format!("identities.{name}");
        let user = format!("{}-{name}", report.inventory.environment);
        if user.len() > LONGEST_USER {
            let message = format!("`{user}` is longer than an IAM user's name may be: {LONGEST_USER} characters");
            report.error("name-too-long", message, &base, "shorten this, or the environment's name");
        }
        report.bucket(&format!("{base}.bucket"), &identity.bucket);
        report.text("bad-prefix", &format!("{base}.prefix"), text::prefix(&identity.prefix));
        let place = match &identity.key {
            KeyPlace::Server { server, file, group } => {
                report.server(&format!("{base}.key.server"), server);
                report.text("bad-path", &format!("{base}.key.file"), text::server_path(file));
                report.text("bad-account-name", &format!("{base}.key.group"), text::account(group));
                format!("{server}:{file}")
            }
            KeyPlace::Here { operator_file } => {
                report.text("bad-path", &format!("{base}.key.operator_file"), text::operator_path(operator_file));
                operator_file.clone()
            }
        };
        if let Some(first) = files.get(&place) {
            let problem =
                Diagnostic::error("duplicate-key-file", format!("`{base}` writes its key over that of `{first}`"))
                    .at(report.places.span(&format!("{base}.key")), "the same file")
                    .at(report.places.span(&format!("{first}.key")), "and here")
                    .hint("give each identity a file of its own");
            report.found.push(problem);
        } else {
            files.insert(place, base);
        }
    }
}

fn alarms(report: &mut Report<'_>) {
    for (name, alarm) in &report.inventory.alarms {
        let base = format!("alarms.{name}");
        if report.inventory.alerts.is_none() {
            let message = format!("`{base}` would ring and nobody would hear it: there is no `alerts`");
            report.error("alarm-without-alerts", message, &base, "goes to `alerts`").hint =
                Some("add `alerts: { email: […] }`".to_owned());
        }
        report.text("bad-text", &format!("{base}.metric"), text::ascii_line(&alarm.metric, 255));
        report.text("bad-text", &format!("{base}.namespace"), text::ascii_line(&alarm.namespace, 255));
        report.text("bad-text", &format!("{base}.why"), text::line(&alarm.why, LONGEST_DESCRIPTION));
        period(report, &base, alarm);
        for (dimension, value) in &alarm.dimensions {
            let path = format!("{base}.dimensions.{dimension}");
            report.text(
                "bad-text",
                &path,
                text::ascii_line(dimension, 255).and_then(|()| text::ascii_line(value, 1_024)),
            );
        }
        // PutMetricAlarm takes 30 dimensions.
        if alarm.dimensions.len() > 30 {
            let path = format!("{base}.dimensions");
            report.error("out-of-range", format!("`{path}` has more than 30 dimensions"), &path, "too many");
        }
    }
}

fn period(report: &mut Report<'_>, base: &str, alarm: &Alarm) {
    let seconds = alarm.period.seconds();
    let path = format!("{base}.period");
    if !([10, 20, 30].contains(&seconds) || (seconds > 0 && seconds.is_multiple_of(60))) {
        let message = format!("`{path}` must be 10s, 20s, 30s or whole minutes, and this is {}", alarm.period);
        report.error("bad-alarm-period", message, &path, "CloudWatch takes no other period");
        return;
    }
    if alarm.periods == 0 {
        let path = format!("{base}.periods");
        report.error("out-of-range", format!("`{path}` must be at least 1"), &path, "no period, no alarm");
        return;
    }
    let longest = if seconds < 3_600 { LONGEST_ALARM_S } else { LONGEST_SLOW_ALARM_S };
    if seconds.saturating_mul(u64::from(alarm.periods)) > longest {
        let message = format!(
            "`{base}` looks back further than CloudWatch does: {} periods of {} are longer than {}",
            alarm.periods,
            alarm.period,
            TimeSpan::from_seconds(longest)
        );
        report.error("bad-alarm-period", message, &path, "shorten this, or `periods`");
    }
}
