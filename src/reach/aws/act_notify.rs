//! Steps in SNS and CloudWatch.

use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, Statistic, Tag as AlarmTag};
use aws_sdk_sns::types::Tag as TopicTag;
use serde_json::Value;

use crate::plan::cloud::{AlarmSpec, Tags};
use crate::reach::Failure;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{done, gone};

/// Request types are built from values that are all set; a builder that misses one is a fault of this program.
const COMPLETE: &str = "every required field was set just above";

fn topic_tags(tags: &Tags) -> Vec<TopicTag> {
    tags.iter().map(|(key, value)| TopicTag::builder().key(key).value(value).build().expect(COMPLETE)).collect()
}

impl Aws {
    pub(super) async fn create_topic(&self, what: &str, name: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.sns.create_topic().name(name).set_tags(Some(topic_tags(tags)));
        done("sns:CreateTopic", what, call.send().await).map(|_| ())
    }

    pub(super) async fn put_topic_policy(&self, what: &str, arn: &str, policy: &Value) -> Result<(), Failure> {
        let call = self.sns.set_topic_attributes().topic_arn(arn).attribute_name("Policy");
        let sent = call.attribute_value(policy.to_string()).send().await;
        done("sns:SetTopicAttributes", what, sent).map(|_| ())
    }

    pub(super) async fn tag_topic(&self, what: &str, arn: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.sns.tag_resource().resource_arn(arn).set_tags(Some(topic_tags(tags)));
        done("sns:TagResource", what, call.send().await).map(|_| ())
    }

    pub(super) async fn subscribe(
        &self,
        what: &str,
        topic: &str,
        protocol: &str,
        endpoint: &str,
    ) -> Result<(), Failure> {
        let call = self.sns.subscribe().topic_arn(topic).protocol(protocol).endpoint(endpoint);
        done("sns:Subscribe", what, call.send().await).map(|_| ())
    }

    pub(super) async fn unsubscribe(&self, what: &str, arn: &str) -> Result<(), Failure> {
        gone("sns:Unsubscribe", what, self.sns.unsubscribe().subscription_arn(arn).send().await)
    }

    pub(super) async fn delete_topic(&self, what: &str, arn: &str) -> Result<(), Failure> {
        gone("sns:DeleteTopic", what, self.sns.delete_topic().topic_arn(arn).send().await)
    }

    pub(super) async fn delete_alarm(&self, what: &str, name: &str) -> Result<(), Failure> {
        gone("cloudwatch:DeleteAlarms", what, self.cloudwatch.delete_alarms().alarm_names(name).send().await)
    }

    pub(super) async fn put_alarm(&self, what: &str, name: &str, spec: &AlarmSpec, tags: &Tags) -> Result<(), Failure> {
        let dimensions =
            spec.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build()).collect();
        let alarm_tags: Vec<AlarmTag> =
            tags.iter().map(|(key, value)| AlarmTag::builder().key(key).value(value).build()).collect();
        let call = self
            .cloudwatch
            .put_metric_alarm()
            .alarm_name(name)
            .alarm_description(&spec.description)
            .namespace(&spec.namespace)
            .metric_name(&spec.metric)
            .set_dimensions(Some(dimensions))
            .statistic(Statistic::from(spec.statistic.as_str()))
            .comparison_operator(ComparisonOperator::from(spec.comparison.as_str()))
            .threshold(spec.threshold)
            .period(spec.period_s)
            .evaluation_periods(spec.evaluation_periods)
            .treat_missing_data(&spec.missing_data)
            .actions_enabled(spec.actions_enabled)
            .set_alarm_actions(Some(spec.alarm_actions.clone()))
            .set_ok_actions(Some(spec.ok_actions.clone()))
            .set_insufficient_data_actions(Some(spec.insufficient_data_actions.clone()))
            .set_tags(Some(alarm_tags.clone()));
        done("cloudwatch:PutMetricAlarm", what, call.send().await)?;
        // Tags of a put are taken at creation only (CloudWatch reference, PutMetricAlarm).
        let arn = format!("arn:aws:cloudwatch:{}:{}:alarm:{name}", self.region, self.account);
        let sent = self.cloudwatch.tag_resource().resource_arn(arn).set_tags(Some(alarm_tags)).send().await;
        done("cloudwatch:TagResource", what, sent).map(|_| ())
    }
}
