//! Everything in the account and region that our kinds know: ours by tag, and the rest.

use std::collections::BTreeMap;

use futures::StreamExt as _;

use aws_sdk_cloudwatch::types::AlarmType;
use aws_sdk_s3::operation::list_buckets::ListBucketsOutput;

use crate::plan::cloud::{Census, CensusEntry, Tags};
use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::ask_lightsail::{auto_snapshot, tags};
use crate::reach::aws::fault::look;

/// Pages that are read of one list. At a page of fifty to a hundred this is more than any account of our users holds; a
/// list that goes on is refused as not seen rather than cut.
const MOST_PAGES: usize = 100;
/// Tag look-ups in flight: one per bucket, user, topic and alarm.
const LOOKUPS_AT_ONCE: usize = 8;

fn entry(kind: &str, name: &str, arn: Option<&str>, tags: Tags) -> CensusEntry {
    CensusEntry {
        kind: kind.to_owned(),
        name: name.to_owned(),
        arn: arn.map(str::to_owned),
        attached_to: None,
        auto_snapshots: false,
        tags,
    }
}

fn endless(what: &str) -> Unseen {
    Unseen::Misread(format!("{what} goes on after {MOST_PAGES} pages"))
}

impl Aws {
    pub(crate) async fn census(&self, environment: &str) -> Result<Census, Unseen> {
        let (instances, addresses, keys, buckets, users, topics, alarms) = futures::try_join!(
            self.all_instances(),
            self.all_static_ips(),
            self.all_key_pairs(),
            self.all_buckets(environment),
            self.all_users(environment),
            self.all_topics(environment),
            self.all_alarms(environment),
        )?;
        let mut entries = [instances, addresses, keys, buckets, users, topics, alarms].concat();
        entries.sort();
        Ok(Census { entries })
    }

    async fn all_instances(&self) -> Result<Vec<CensusEntry>, Unseen> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.lightsail.get_instances().set_page_token(token.take());
            let Some(answer) = look("lightsail:GetInstances", call.send().await)? else { return Ok(found) };
            found.extend(answer.instances().iter().map(|instance| CensusEntry {
                auto_snapshots: auto_snapshot(instance).is_some(),
                ..entry(
                    "lightsail.instance",
                    instance.name().unwrap_or_default(),
                    instance.arn(),
                    tags(instance.tags()),
                )
            }));
            token = answer.next_page_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of instances"))
    }

    async fn all_static_ips(&self) -> Result<Vec<CensusEntry>, Unseen> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.lightsail.get_static_ips().set_page_token(token.take());
            let Some(answer) = look("lightsail:GetStaticIps", call.send().await)? else { return Ok(found) };
            found.extend(answer.static_ips().iter().map(|ip| CensusEntry {
                attached_to: ip.attached_to().filter(|name| !name.is_empty()).map(str::to_owned),
                ..entry("lightsail.static_ip", ip.name().unwrap_or_default(), ip.arn(), Tags::new())
            }));
            token = answer.next_page_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of static IPs"))
    }

    async fn all_key_pairs(&self) -> Result<Vec<CensusEntry>, Unseen> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.lightsail.get_key_pairs().set_page_token(token.take());
            let Some(answer) = look("lightsail:GetKeyPairs", call.send().await)? else { return Ok(found) };
            // The account's default key pair is AWS's and always there.
            let named =
                answer.key_pairs().iter().filter(|pair| pair.name().is_some_and(|n| n != "LightsailDefaultKeyPair"));
            found.extend(named.map(|pair| {
                entry("lightsail.key_pair", pair.name().unwrap_or_default(), pair.arn(), tags(pair.tags()))
            }));
            token = answer.next_page_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of key pairs"))
    }

    /// Buckets of ours. Other buckets of the account are other people's work and are not listed.
    async fn all_buckets(&self, environment: &str) -> Result<Vec<CensusEntry>, Unseen> {
        // A bucket is read in its region, and one of another region than those that are declared is not looked for.
        let mut names: BTreeMap<String, Self> = BTreeMap::new();
        for region in self.regions() {
            let there = self.within(region);
            let Some(answer) = there.buckets_of(region).await? else { continue };
            for name in answer.buckets().iter().filter_map(|bucket| bucket.name()) {
                // An endpoint that is not AWS's may tell all buckets everywhere.
                names.entry(name.to_owned()).or_insert_with(|| there.near(name));
            }
        }
        let tagged: Vec<(String, Result<Tags, Unseen>)> = futures::stream::iter(names)
            .map(|(name, there)| async move {
                let tags = there.bucket_tags(&name).await;
                (name, tags)
            })
            .buffer_unordered(LOOKUPS_AT_ONCE)
            .collect()
            .await;
        let mut found = Vec::new();
        for (name, tags) in tagged {
            match tags {
                Ok(tags) if is_ours(&tags, environment) => found.push(entry("s3.bucket", &name, None, tags)),
                // A bucket whose policy shuts us out is not ours to count.
                Ok(_) | Err(Unseen::Refused(_)) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(found)
    }

    async fn buckets_of(&self, region: &str) -> Result<Option<ListBucketsOutput>, Unseen> {
        look("s3:ListAllMyBuckets", self.s3.list_buckets().bucket_region(region).send().await)
    }

    async fn all_users(&self, environment: &str) -> Result<Vec<CensusEntry>, Unseen> {
        let path = format!("/seawall/{environment}/");
        let (mut found, mut marker) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.iam.list_users().path_prefix(&path).set_marker(marker.take());
            let Some(answer) = look("iam:ListUsers", call.send().await)? else { return Ok(found) };
            for user in answer.users() {
                let tags = self.user_tags(user.user_name()).await?;
                found.push(entry("iam.user", user.user_name(), Some(user.arn()), tags));
            }
            marker = answer.marker().filter(|_| answer.is_truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of users"))
    }

    async fn all_topics(&self, environment: &str) -> Result<Vec<CensusEntry>, Unseen> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self.sns.list_topics().set_next_token(token.take());
            let Some(answer) = look("sns:ListTopics", call.send().await)? else { return Ok(found) };
            for arn in answer.topics().iter().filter_map(|topic| topic.topic_arn()) {
                let name = arn.rsplit(':').next().unwrap_or_default();
                if name.starts_with(&format!("{environment}-")) {
                    found.push(entry("sns.topic", name, Some(arn), self.topic_tags(arn).await?));
                }
            }
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of topics"))
    }

    async fn all_alarms(&self, environment: &str) -> Result<Vec<CensusEntry>, Unseen> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = self
                .cloudwatch
                .describe_alarms()
                .alarm_name_prefix(format!("{environment}-"))
                .alarm_types(AlarmType::MetricAlarm)
                .set_next_token(token.take());
            let Some(answer) = look("cloudwatch:DescribeAlarms", call.send().await)? else { return Ok(found) };
            for alarm in answer.metric_alarms() {
                let (name, arn) = (alarm.alarm_name().unwrap_or_default(), alarm.alarm_arn().unwrap_or_default());
                found.push(entry("cloudwatch.alarm", name, Some(arn), self.alarm_tags(arn).await?));
            }
            token = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("the list of alarms"))
    }
}

fn is_ours(tags: &Tags, environment: &str) -> bool {
    tags.get(crate::plan::cloud::TAG_ENVIRONMENT).is_some_and(|found| found == environment)
}
