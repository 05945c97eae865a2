//! Topics with their readers, and alarms, whose protocol is CBOR.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{ComparisonOperator, Statistic};
use seawall::plan::cloud::{AlarmSpec, MetricAlarm, TAG_ENVIRONMENT, Topic};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::CloudStep;
use serde_json::{Value, json};

use crate::aws::{Account, REGION, SECRET, connect, tags};
use crate::support::front::Front;

const TOPIC: &str = "chronos-alerts";
const ALARM: &str = "chronos-backup-age";

fn topic_arn(lab: &Account) -> String {
    format!("arn:aws:sns:{REGION}:{}:{TOPIC}", lab.number)
}

fn topic() -> CloudProbe {
    CloudProbe::Topic { name: TOPIC.to_owned() }
}

fn alarm() -> CloudProbe {
    CloudProbe::MetricAlarm { name: ALARM.to_owned() }
}

fn only_alarms(lab: &Account) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "Alarms", "Effect": "Allow", "Principal": { "Service": "cloudwatch.amazonaws.com" }, "Action": "sns:Publish",
        "Resource": topic_arn(lab), "Condition": { "StringEquals": { "aws:SourceAccount": lab.number } },
    }] })
}

#[tokio::test]
async fn a_topic_from_nothing_to_nothing() {
    let Some(lab) = Account::new("a_topic_from_nothing_to_nothing").await else { return };
    let arn = topic_arn(&lab);
    assert!(lab.is_absent(&topic()).await);
    let create = || CloudStep::CreateTopic { name: TOPIC.to_owned(), tags: tags([(TAG_ENVIRONMENT, "chronos")]) };
    let subscribe = |email: &str| CloudStep::Subscribe {
        topic: arn.clone(),
        protocol: "email".to_owned(),
        endpoint: email.to_owned(),
    };
    for _ in 0..2 {
        lab.act(create()).await;
        lab.act(CloudStep::PutTopicPolicy { arn: arn.clone(), policy: only_alarms(&lab) }).await;
        lab.act(subscribe("ops@example.com")).await;
    }
    lab.act(subscribe("dev@example.com")).await;
    lab.act(CloudStep::TagTopic { arn: arn.clone(), tags: tags([("seawall:keep", "protected")]) }).await;
    let made: Topic = lab.see(topic()).await;
    assert_eq!((made.name.as_str(), made.arn.as_str()), (TOPIC, arn.as_str()));
    assert_eq!(made.policy, Some(only_alarms(&lab)));
    assert_eq!(made.tags, tags([(TAG_ENVIRONMENT, "chronos"), ("seawall:keep", "protected")]));
    let readers: Vec<_> = made.subscriptions.iter().map(|s| (s.protocol.as_str(), s.endpoint.as_str())).collect();
    assert_eq!(readers, [("email", "dev@example.com"), ("email", "ops@example.com")]);

    let dev = made.subscriptions[0].arn.clone().expect("this emulator confirms at once");
    for _ in 0..2 {
        lab.act(CloudStep::Unsubscribe { arn: dev.clone() }).await;
    }
    let sns = aws_sdk_sns::Client::new(&lab.somebody_else());
    let open = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": arn } ] });
    let put = sns.set_topic_attributes().topic_arn(&arn).attribute_name("Policy").attribute_value(open.to_string());
    put.send().await.expect("others may do this");
    sns.untag_resource().resource_arn(&arn).tag_keys("seawall:keep").send().await.expect("others may do this");
    let tampered: Topic = lab.see(topic()).await;
    assert_eq!(tampered.policy, Some(open));
    assert_eq!(tampered.tags, tags([(TAG_ENVIRONMENT, "chronos")]));
    assert_eq!(tampered.subscriptions, made.subscriptions[1..]);

    for _ in 0..2 {
        lab.act(CloudStep::DeleteTopic { arn: arn.clone() }).await;
        assert!(lab.is_absent(&topic()).await);
    }
    assert!(lab.fail(subscribe("late@example.com")).await.what.contains("nothing was changed"));
}

#[tokio::test]
async fn who_has_not_confirmed_is_no_reader_yet_and_long_lists_are_read_to_the_end() {
    const ATTRIBUTES: &str = "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes></Attributes>\
        </GetTopicAttributesResult></GetTopicAttributesResponse>";
    const TAGS: &str = "<ListTagsForResourceResponse><ListTagsForResourceResult><Tags></Tags>\
        </ListTagsForResourceResult></ListTagsForResourceResponse>";
    let page = |arn: &str, endpoint: &str, next: &str| {
        format!(
            "<ListSubscriptionsByTopicResponse><ListSubscriptionsByTopicResult><Subscriptions><member>\
             <SubscriptionArn>{arn}</SubscriptionArn><Protocol>email</Protocol><Endpoint>{endpoint}</Endpoint></member>\
             </Subscriptions>{next}</ListSubscriptionsByTopicResult></ListSubscriptionsByTopicResponse>"
        )
    };
    let first = page("PendingConfirmation", "new@example.com", "<NextToken>more</NextToken>");
    let second = page("arn:aws:sns:x:1:t:uuid", "old@example.com", "");
    let sns = Front::new(None, move |asked, _| {
        Some((
            200,
            match asked.what.as_str() {
                "GetTopicAttributes" => ATTRIBUTES.to_owned(),
                "ListTagsForResource" => TAGS.to_owned(),
                _ if asked.body.contains("NextToken=more") => second.clone(),
                _ => first.clone(),
            },
        ))
    })
    .await;
    let aws = connect(&sns.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    let answer = aws.ask(&topic()).await;
    let topic: Topic = serde_json::from_value(answer.present().cloned().unwrap_or_default()).expect("a topic");
    let readers: Vec<_> = topic.subscriptions.iter().map(|s| (s.endpoint.as_str(), s.arn.is_some())).collect();
    assert_eq!(readers, [("new@example.com", false), ("old@example.com", true)]);
}

fn spec(topic: &str) -> AlarmSpec {
    AlarmSpec {
        description: "No backup for 26 hours, says cloudwatch.alarm/backup-age".to_owned(),
        namespace: "Seawall".to_owned(),
        metric: "BackupAgeSeconds".to_owned(),
        dimensions: BTreeMap::from([
            ("Server".to_owned(), "db".to_owned()),
            ("Stanza".to_owned(), "chronos".to_owned()),
        ]),
        statistic: "Maximum".to_owned(),
        comparison: "GreaterThanThreshold".to_owned(),
        threshold: 93_600.5,
        period_s: 300,
        evaluation_periods: 3,
        missing_data: "breaching".to_owned(),
        actions_enabled: true,
        alarm_actions: vec![topic.to_owned()],
        ok_actions: vec![topic.to_owned()],
        insufficient_data_actions: Vec::new(),
    }
}

#[tokio::test]
async fn an_alarm_from_nothing_to_nothing() {
    let Some(lab) = Account::new("an_alarm_from_nothing_to_nothing").await else { return };
    assert!(lab.is_absent(&alarm()).await);
    let spec = spec(&topic_arn(&lab));
    let put = |spec: &AlarmSpec, value: &str| CloudStep::PutMetricAlarm {
        name: ALARM.to_owned(),
        spec: Box::new(spec.clone()),
        tags: tags([(TAG_ENVIRONMENT, value)]),
    };
    lab.act(put(&spec, "old")).await;
    lab.act(put(&spec, "chronos")).await;
    let made: MetricAlarm = lab.see(alarm()).await;
    let expected = MetricAlarm {
        name: ALARM.to_owned(),
        arn: format!("arn:aws:cloudwatch:{REGION}:{}:alarm:{ALARM}", lab.number),
        state: "INSUFFICIENT_DATA".to_owned(),
        spec: spec.clone(),
        tags: tags([(TAG_ENVIRONMENT, "chronos")]),
    };
    assert_eq!(made, expected, "tags of an alarm that was there already are changed, too");

    let cloudwatch = aws_sdk_cloudwatch::Client::new(&lab.somebody_else());
    cloudwatch.disable_alarm_actions().alarm_names(ALARM).send().await.expect("others may do this");
    let muted: MetricAlarm = lab.see(alarm()).await;
    assert_eq!(muted.spec, AlarmSpec { actions_enabled: false, ..spec.clone() });

    let weaker = cloudwatch
        .put_metric_alarm()
        .alarm_name(ALARM)
        .namespace("Seawall")
        .metric_name("BackupAgeSeconds")
        .statistic(Statistic::Average)
        .comparison_operator(ComparisonOperator::LessThanThreshold)
        .threshold(1.0)
        .period(60)
        .evaluation_periods(1);
    weaker.send().await.expect("others may do this");
    let tampered: MetricAlarm = lab.see(alarm()).await;
    let expected = AlarmSpec {
        description: String::new(),
        namespace: "Seawall".to_owned(),
        metric: "BackupAgeSeconds".to_owned(),
        dimensions: BTreeMap::new(),
        statistic: "Average".to_owned(),
        comparison: "LessThanThreshold".to_owned(),
        threshold: 1.0,
        period_s: 60,
        evaluation_periods: 1,
        missing_data: "missing".to_owned(),
        actions_enabled: true,
        alarm_actions: Vec::new(),
        ok_actions: Vec::new(),
        insufficient_data_actions: Vec::new(),
    };
    assert_eq!(tampered.spec, expected, "a put overwrites everything");

    for _ in 0..2 {
        lab.act(CloudStep::DeleteMetricAlarm { name: ALARM.to_owned() }).await;
        assert!(lab.is_absent(&alarm()).await);
    }
}
