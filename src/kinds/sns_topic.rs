//! `sns.topic`: where alarms go, and who reads them.
//!
//! One topic per environment with the e-mail addresses of `alerts`. Deliberately absent: confirming a subscription;
//! only the person behind the address can, and until then nothing reaches it, which is said on every plan.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::address::Address;
use crate::inventory::sections::Inventory;
use crate::kinds::cloud::{self, Home, describe, differs, field_differs, same_policy, tag_changes};
use crate::kinds::{Declared, Kind, Owned, Owner, owner_by_tags, physical_name, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{Tags, Topic};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::CloudStep;

/// The resource's name; there is one topic.
pub(crate) const ALERTS: &str = "alerts";
const EMAIL: &str = "email";

pub struct SnsTopic;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub arn: String,
    pub policy: Value,
    pub emails: BTreeSet<String>,
    pub tags: Tags,
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::Topic { name: desired.name.clone() }
}

/// Name of an environment's topic.
pub(crate) fn topic_name(environment: &str) -> String {
    physical_name(environment, ALERTS, "")
}

/// The account's own principals as AWS sets it up, and CloudWatch alarms of this account.
fn policy(arn: &str, home: &Home) -> Value {
    let account = &home.account;
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Account", "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
                "Action": ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Publish", "sns:Subscribe"],
                "Resource": arn,
            },
            {
                "Sid": "Alarms", "Effect": "Allow", "Principal": { "Service": "cloudwatch.amazonaws.com" },
                "Action": "sns:Publish", "Resource": arn,
                "Condition": { "StringEquals": { "aws:SourceAccount": account } },
            },
        ],
    })
}

impl Kind for SnsTopic {
    const NAME: &'static str = "sns.topic";
    const SUMMARY: &'static str = "where alarms go, and who reads them";
    const EXPLAIN: &'static str = "\
Creates the topic ENVIRONMENT-alerts, lets CloudWatch alarms of this account publish to it, and subscribes the e-mail
addresses of `alerts`. A confirmed subscription that is not declared is removed.

A subscription works only when the person behind the address has confirmed it; AWS mails a link that is good for two days.
Until then every plan says so: an alarm that nobody receives is no alarm. As long as no address at all has confirmed, `plan`,
`drift` and `status` end with 2.

alerts: { email: [ops@example.com] }";

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = Topic;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let Some(alerts) = &inventory.alerts else { return Vec::new() };
        let environment = inventory.environment.as_str();
        let home = Home::of(inventory);
        let name = topic_name(environment);
        let arn = home.topic_arn(&name);
        let address = Address::new(Self::NAME, ALERTS);
        let tags = tags(environment, &address);
        let policy = policy(&arn, &home);
        let desired = Desired { name, arn, policy, emails: alerts.email.iter().cloned().collect(), tags };
        vec![Declared { address, place: Place::Cloud, after: Vec::new(), path: "alerts".to_owned(), desired }]
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Topic> {
        cloud::read(answers, &probe(desired))
    }

    fn diff(desired: &Desired, actual: &Topic) -> Vec<FieldChange> {
        let Desired { name: _, arn: _, policy, emails, tags } = desired;
        let Topic { name: _, arn: _, policy: has_policy, subscriptions, tags: found } = actual;
        let mut fields = Vec::new();
        if !same_policy(has_policy.as_ref(), Some(policy)) {
            fields.push(FieldChange::new("policy", has_policy.clone(), Some(policy.clone())));
        }
        for email in emails {
            if !subscriptions.iter().any(|s| s.protocol == EMAIL && s.endpoint == *email) {
                fields.push(FieldChange::new(format!("subscriptions.{email}"), None, Some(EMAIL.into())));
            }
        }
        // One that is not confirmed has no ARN and cannot be removed; AWS forgets it after two days.
        for extra in subscriptions.iter().filter(|s| s.arn.is_some()) {
            if extra.protocol != EMAIL || !emails.contains(&extra.endpoint) {
                let before = Some(Value::from(extra.protocol.clone()));
                fields.push(FieldChange::new(format!("subscriptions.{}", extra.endpoint), before, None));
            }
        }
        fields.extend(tag_changes(tags, found));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Topic>, fields: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { name, arn, policy, emails, tags } = desired.clone();
        let new = actual.is_none();
        let mut steps = Vec::new();
        if new {
            steps.push(CloudStep::CreateTopic { name, tags });
        } else if differs(fields, "tags") {
            steps.push(CloudStep::TagTopic { arn: arn.clone(), tags });
        }
        if new || differs(fields, "policy") {
            steps.push(CloudStep::PutTopicPolicy { arn: arn.clone(), policy });
        }
        for endpoint in emails {
            if new || field_differs(fields, &format!("subscriptions.{endpoint}")) {
                steps.push(CloudStep::Subscribe { topic: arn.clone(), protocol: EMAIL.to_owned(), endpoint });
            }
        }
        for found in actual.into_iter().flat_map(|topic| &topic.subscriptions) {
            let gone = found.protocol != EMAIL || !desired.emails.contains(&found.endpoint);
            if let Some(arn) = found.arn.clone().filter(|_| gone) {
                steps.push(CloudStep::Unsubscribe { arn });
            }
        }
        steps
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        // Without its ARN it was not found, and then there is nothing to remove.
        owned.arn.clone().map(|arn| CloudStep::DeleteTopic { arn }).into_iter().collect()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let emails: Vec<Value> = desired.emails.iter().cloned().map(Value::from).collect();
        describe([
            ("name", desired.name.clone().into()),
            ("policy", "CloudWatch alarms of this account may publish".into()),
            ("subscriptions", Value::from(emails)),
        ])
    }

    fn owner(declared: &Address, environment: &str, actual: &Topic) -> Owner {
        owner_by_tags(declared, environment, &actual.tags)
    }

    fn remarks(desired: &Desired, actual: &Topic) -> Vec<Remark> {
        let waiting = actual.subscriptions.iter().filter(|s| s.arn.is_none());
        let is_heard = actual.subscriptions.iter().any(|s| s.arn.is_some());
        waiting
            .map(|s| match desired.emails.contains(&s.endpoint) {
                true if is_heard => {
                    format!("waiting for {} to confirm; no alarm reaches that address until then", s.endpoint).into()
                }
                true => Remark::broken(format!(
                    "waiting for {} to confirm; until then nobody hears of any alarm",
                    s.endpoint
                )),
                false => format!(
                    "{} was asked to subscribe and is not declared; it cannot be removed before it confirms",
                    s.endpoint
                )
                .into(),
            })
            .collect()
    }
}
