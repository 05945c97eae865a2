//! What an environment holds and what is there beside it. Lightsail's lists come from a script, the rest is real.

use seawall::plan::cloud::{Census, TAG_ENVIRONMENT, Tags};
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::CloudStep;
use serde_json::json;

use crate::aws::{Account, REGION, tags};
use crate::support::emulator;
use crate::support::front::{Asked, Front};

/// Two pages of instances, one static IP, one key pair and the account's own key pair.
fn lightsail(asked: &Asked) -> Option<(u16, String)> {
    let ours = json!([{ "key": TAG_ENVIRONMENT, "value": "chronos" }]);
    let answer = match asked.what.as_str() {
        "GetInstances" if asked.body.contains("more") => json!({ "instances": [{ "name": "somebody-elses" }] }),
        "GetInstances" => json!({ "instances": [{ "name": "chronos-db", "tags": ours }], "nextPageToken": "more" }),
        "GetStaticIps" => json!({ "staticIps": [{ "name": "chronos-db-ip", "attachedTo": "chronos-db" }] }),
        "GetKeyPairs" => {
            json!({ "keyPairs": [{ "name": "LightsailDefaultKeyPair" }, { "name": "chronos-db-key", "tags": ours }] })
        }
        _ => return None,
    };
    Some((200, answer.to_string()))
}

async fn make(lab: &Account, environment: &str) {
    let owned = || tags([(TAG_ENVIRONMENT, environment)]);
    let bucket = format!("seawall-test-census-{environment}");
    lab.act(CloudStep::CreateBucket { name: bucket.clone(), region: REGION.to_owned(), tags: Tags::new() }).await;
    lab.act(CloudStep::PutBucketTags { name: bucket, tags: owned() }).await;
    let path = format!("/seawall/{environment}/");
    lab.act(CloudStep::CreateUser { name: format!("{environment}-repository"), path, tags: owned() }).await;
    lab.act(CloudStep::CreateTopic { name: format!("{environment}-alerts"), tags: owned() }).await;
    let spec = serde_json::from_value(json!({
        "description": "", "namespace": "Seawall", "metric": "Heartbeat", "dimensions": {}, "statistic": "Sum",
        "comparison": "LessThanThreshold", "threshold": 1.0, "period_s": 60, "evaluation_periods": 3,
        "missing_data": "breaching", "actions_enabled": true, "alarm_actions": [], "ok_actions": [],
        "insufficient_data_actions": [],
    }));
    let spec = spec.expect("a whole alarm");
    lab.act(CloudStep::PutMetricAlarm { name: format!("{environment}-heartbeat"), spec, tags: owned() }).await;
}

#[tokio::test]
async fn an_environment_is_counted_without_its_neighbours() {
    let Some(cloud) = emulator::emulator("an_environment_is_counted_without_its_neighbours") else { return };
    let front = Front::new(Some(&cloud.endpoint), |asked, _| lightsail(asked)).await;
    let lab = Account::at(&front.endpoint, REGION).await;
    make(&lab, "chronos").await;
    make(&lab, "other").await;
    lab.act(CloudStep::CreateBucket {
        name: "seawall-test-census-bare".to_owned(),
        region: REGION.to_owned(),
        tags: Tags::new(),
    })
    .await;

    let census: Census = lab.see(CloudProbe::Census { environment: "chronos".to_owned() }).await;
    let found: Vec<(&str, &str, bool)> = census
        .entries
        .iter()
        .map(|entry| {
            let ours = entry.tags.get(TAG_ENVIRONMENT).is_some_and(|environment| environment == "chronos");
            (entry.kind.as_str(), entry.name.as_str(), ours)
        })
        .collect();
    let expected = [
        ("cloudwatch.alarm", "chronos-heartbeat", true),
        ("iam.user", "chronos-repository", true),
        ("lightsail.instance", "chronos-db", true),
        ("lightsail.instance", "somebody-elses", false),
        ("lightsail.key_pair", "chronos-db-key", true),
        ("lightsail.static_ip", "chronos-db-ip", false),
        ("s3.bucket", "seawall-test-census-chronos", true),
        ("sns.topic", "chronos-alerts", true),
    ];
    assert_eq!(found, expected);
    let topic = census.entries.iter().find(|entry| entry.kind == "sns.topic").expect("asserted above");
    assert_eq!(topic.arn, Some(format!("arn:aws:sns:{REGION}:{}:chronos-alerts", lab.number)));
    let address = census.entries.iter().find(|entry| entry.kind == "lightsail.static_ip").expect("asserted above");
    assert_eq!(address.attached_to.as_deref(), Some("chronos-db"));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_makes_no_short_census() {
    let Some(cloud) = emulator::emulator("a_list_that_cannot_be_read_makes_no_short_census") else { return };
    let denied = json!({ "__type": "AccessDeniedException", "message": "not you" }).to_string();
    let front = Front::new(Some(&cloud.endpoint), move |asked, _| match asked.what.as_str() {
        "GetStaticIps" => Some((400, denied.clone())),
        _ => lightsail(asked),
    })
    .await;
    let lab = Account::at(&front.endpoint, REGION).await;
    let answer = lab.aws.ask(&CloudProbe::Census { environment: "chronos".to_owned() }).await;
    let Observed::Unknown(Unseen::Refused(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("lightsail:GetStaticIps"), "the refused call is named: {why}");
}
