//! SNS's and CloudWatch's answers as state documents.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{AlarmType, MetricAlarm as Found};

use crate::plan::cloud::{AlarmSpec, MetricAlarm, Subscription, Tags, Topic};
use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::look;

/// Pages of subscriptions that are read; a page has a hundred.
const MOST_PAGES: usize = 20;
/// What SNS says in place of an ARN until the person behind the address has confirmed.
const PENDING: &str = "PendingConfirmation";

impl Aws {
    /// ARN of a topic of this account and region.
    pub(crate) fn topic_arn(&self, name: &str) -> String {
        format!("arn:aws:sns:{}:{}:{name}", self.region, self.account)
    }

    pub(crate) async fn topic(&self, name: &str) -> Result<Option<Topic>, Unseen> {
        let arn = self.topic_arn(name);
        let call = self.sns.get_topic_attributes().topic_arn(&arn);
        let Some(answer) = look("sns:GetTopicAttributes", call.send().await)? else { return Ok(None) };
        let policy = answer.attributes().and_then(|attributes| attributes.get("Policy"));
        let policy = policy
            .map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|error| Unseen::Misread(format!("policy of topic `{name}`: {error}")))?;
        let (subscriptions, tags) = futures::try_join!(self.subscriptions(&arn), self.topic_tags(&arn))?;
        Ok(Some(Topic { name: name.to_owned(), arn, policy, subscriptions, tags }))
    }

    async fn subscriptions(&self, arn: &str) -> Result<Vec<Subscription>, Unseen> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..MOST_PAGES {
            let call = self.sns.list_subscriptions_by_topic().topic_arn(arn).set_next_token(token.take());
            let Some(answer) = look("sns:ListSubscriptionsByTopic", call.send().await)? else { break };
            found.extend(answer.subscriptions().iter().map(|subscription| Subscription {
                protocol: subscription.protocol().unwrap_or_default().to_owned(),
                endpoint: subscription.endpoint().unwrap_or_default().to_owned(),
                arn: subscription.subscription_arn().filter(|arn| *arn != PENDING).map(str::to_owned),
            }));
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        found.sort();
        Ok(found)
    }

    pub(crate) async fn topic_tags(&self, arn: &str) -> Result<Tags, Unseen> {
        let answer = look("sns:ListTagsForResource", self.sns.list_tags_for_resource().resource_arn(arn).send().await)?;
        let tags = answer
            .as_ref()
            .map(aws_sdk_sns::operation::list_tags_for_resource::ListTagsForResourceOutput::tags)
            .unwrap_or_default();
        Ok(tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }

    pub(crate) async fn alarm(&self, name: &str) -> Result<Option<MetricAlarm>, Unseen> {
        let call = self.cloudwatch.describe_alarms().alarm_names(name).alarm_types(AlarmType::MetricAlarm);
        let answer = look("cloudwatch:DescribeAlarms", call.send().await)?;
        let alarms = answer
            .as_ref()
            .map(aws_sdk_cloudwatch::operation::describe_alarms::DescribeAlarmsOutput::metric_alarms)
            .unwrap_or_default();
        let Some(found) = alarms.iter().find(|alarm| alarm.alarm_name() == Some(name)) else { return Ok(None) };
        let arn = found.alarm_arn().unwrap_or_default().to_owned();
        let tags = self.alarm_tags(&arn).await?;
        let state = found.state_value().map_or_else(String::new, |state| state.as_str().to_owned());
        Ok(Some(MetricAlarm { name: name.to_owned(), arn, state, spec: spec(found), tags }))
    }

    pub(crate) async fn alarm_tags(&self, arn: &str) -> Result<Tags, Unseen> {
        let call = self.cloudwatch.list_tags_for_resource().resource_arn(arn);
        let answer = look("cloudwatch:ListTagsForResource", call.send().await)?;
        let tags = answer
            .as_ref()
            .map(aws_sdk_cloudwatch::operation::list_tags_for_resource::ListTagsForResourceOutput::tags)
            .unwrap_or_default();
        let pair = |tag: &aws_sdk_cloudwatch::types::Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
        Ok(tags.iter().filter_map(pair).collect())
    }
}

fn spec(found: &Found) -> AlarmSpec {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    let dimensions: BTreeMap<String, String> = found
        .dimensions()
        .iter()
        .filter_map(|dimension| Some((dimension.name()?.to_owned(), dimension.value()?.to_owned())))
        .collect();
    AlarmSpec {
        description: text(found.alarm_description()),
        namespace: text(found.namespace()),
        metric: text(found.metric_name()),
        dimensions,
        statistic: found.statistic().map_or_else(String::new, |s| s.as_str().to_owned()),
        comparison: found.comparison_operator().map_or_else(String::new, |c| c.as_str().to_owned()),
        threshold: found.threshold().unwrap_or_default(),
        period_s: found.period().unwrap_or_default(),
        evaluation_periods: found.evaluation_periods().unwrap_or_default(),
        // CloudWatch's own default, by which silence is no alarm.
        missing_data: found.treat_missing_data().unwrap_or("missing").to_owned(),
        actions_enabled: found.actions_enabled().unwrap_or(true),
        alarm_actions: sorted(found.alarm_actions()),
        ok_actions: sorted(found.ok_actions()),
        insufficient_data_actions: sorted(found.insufficient_data_actions()),
    }
}
