//! `cloudwatch.alarm`: a threshold that somebody is told about.
//!
//! CloudWatch overwrites an alarm whole on every put, so all of it is stated. Deliberately absent: Lightsail's own
//! metrics, which are not in CloudWatch, and CloudWatch's default for missing data, by which a dead host looks healthy.

use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::inventory::sections::{Alarm, Comparison, Inventory, MissingData, Statistic};
use crate::kinds::cloud::{self, Home, describe, tag_changes};
use crate::kinds::sns_topic::{ALERTS, topic_name};
use crate::kinds::{Declared, Kind, Owned, Owner, owner_by_tags, physical_name, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{AlarmSpec, MetricAlarm, Tags};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::CloudStep;

pub struct CloudwatchAlarm;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub spec: AlarmSpec,
    pub tags: Tags,
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::MetricAlarm { name: desired.name.clone() }
}

fn spec(alarm: &Alarm, topic: Option<&String>) -> AlarmSpec {
    let tell: Vec<String> = topic.into_iter().cloned().collect();
    AlarmSpec {
        description: alarm.why.clone(),
        namespace: alarm.namespace.clone(),
        metric: alarm.metric.clone(),
        dimensions: alarm.dimensions.clone(),
        statistic: match alarm.statistic {
            Statistic::Average => "Average",
            Statistic::Maximum => "Maximum",
            Statistic::Minimum => "Minimum",
            Statistic::Sum => "Sum",
        }
        .to_owned(),
        comparison: match alarm.when {
            Comparison::Above => "GreaterThanThreshold",
            Comparison::AtLeast => "GreaterThanOrEqualToThreshold",
            Comparison::Below => "LessThanThreshold",
            Comparison::AtMost => "LessThanOrEqualToThreshold",
        }
        .to_owned(),
        threshold: alarm.threshold,
        // The check refuses periods and counts that do not fit.
        period_s: i32::try_from(alarm.period.seconds()).unwrap_or(i32::MAX),
        evaluation_periods: i32::try_from(alarm.periods).unwrap_or(i32::MAX),
        missing_data: match alarm.missing {
            MissingData::Breaching => "breaching",
            MissingData::Ignore => "ignore",
            MissingData::Missing => "missing",
        }
        .to_owned(),
        actions_enabled: true,
        insufficient_data_actions: if alarm.missing == MissingData::Missing { tell.clone() } else { Vec::new() },
        ok_actions: tell.clone(),
        alarm_actions: tell,
    }
}

/// Field by field; `AlarmSpec`'s own names are the paths.
fn spec_changes(wanted: &AlarmSpec, found: &AlarmSpec) -> Vec<FieldChange> {
    let (wanted, found) = (cloud::json(wanted), cloud::json(found));
    let (Some(wanted), Some(found)) = (wanted.as_object(), found.as_object()) else { return Vec::new() };
    let differing = wanted.iter().filter(|(key, value)| found.get(*key) != Some(value));
    differing.map(|(key, value)| FieldChange::new(key, found.get(key).cloned(), Some(value.clone()))).collect()
}

impl Kind for CloudwatchAlarm {
    const NAME: &'static str = "cloudwatch.alarm";
    const SUMMARY: &'static str = "a threshold that somebody is told about";
    const EXPLAIN: &'static str = "\
Creates the CloudWatch alarm ENVIRONMENT-NAME and sends it, and its end, to the topic of `alerts`. Silence is an alarm:
missing data counts as breaching unless the alarm says `missing: ignore` or `missing: missing`.

It does not watch Lightsail's own metrics (CPU, burst capacity, status checks): they are not in CloudWatch.

alarms:
  heartbeat:
    metric: Heartbeat
    dimensions: { Server: db }
    when: below
    threshold: 1
    period: 5m
    periods: 3
    why: the server has not reported for 15 minutes";

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = MetricAlarm;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let topic = inventory.alerts.as_ref().map(|_| Home::of(inventory).topic_arn(&topic_name(environment)));
        let mut found = Vec::new();
        for (name, alarm) in &inventory.alarms {
            let address = Address::new(Self::NAME, name.as_str());
            let tags = tags(environment, &address);
            found.push(Declared {
                address,
                place: Place::Cloud,
                after: topic.iter().map(|_| Address::new("sns.topic", ALERTS)).collect(),
                path: format!("alarms.{name}"),
                desired: Desired {
                    name: physical_name(environment, name.as_str(), ""),
                    spec: spec(alarm, topic.as_ref()),
                    tags,
                },
            });
        }
        found
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<MetricAlarm> {
        cloud::read(answers, &probe(desired))
    }

    fn diff(desired: &Desired, actual: &MetricAlarm) -> Vec<FieldChange> {
        let Desired { name: _, spec, tags } = desired;
        let MetricAlarm { name: _, arn: _, state: _, spec: has_spec, tags: found } = actual;
        let mut fields = spec_changes(spec, has_spec);
        fields.extend(tag_changes(tags, found));
        fields
    }

    fn steps(desired: &Desired, _: Option<&MetricAlarm>, _: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { name, spec, tags } = desired.clone();
        vec![CloudStep::PutMetricAlarm { name, spec: Box::new(spec), tags }]
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        vec![CloudStep::DeleteMetricAlarm { name: owned.name.clone() }]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let mut fields = describe([("name", desired.name.clone().into())]);
        if let Some(spec) = cloud::json(&desired.spec).as_object() {
            fields.extend(spec.iter().map(|(key, value)| FieldChange::new(key, None, Some(value.clone()))));
        }
        fields
    }

    fn owner(declared: &Address, environment: &str, actual: &MetricAlarm) -> Owner {
        owner_by_tags(declared, environment, &actual.tags)
    }

    fn remarks(_: &Desired, actual: &MetricAlarm) -> Vec<Remark> {
        if actual.state == "INSUFFICIENT_DATA" {
            vec!["it has no data: nothing sends this metric".into()]
        } else {
            Vec::new()
        }
    }
}
