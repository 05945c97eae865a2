//! Questions and steps against AWS's interfaces: S3, IAM, SNS, CloudWatch and STS on a local emulator that checks
//! signatures and policies, Lightsail and AWS's bad moods by scripted answers.
//!
//! Each resource goes the whole way: absent, made, seen as made, changed by somebody else, seen as changed, removed,
//! absent. The changes by somebody else go through SDK clients of the test, not through the code under test.

mod alerts;
mod buckets;
mod census;
mod identity;
mod lightsail;
mod snapshots;
mod store;
mod users;

use std::collections::BTreeMap;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use seawall::base::secret::Secret;
use seawall::plan::cloud::Tags;
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::CloudStep;
use seawall::reach::Failure;
use seawall::reach::aws::{Aws, Connection};
use serde::de::DeserializeOwned;

use crate::support::emulator;

const REGION: &str = "ca-central-1";
/// The secret half of every root key in these tests; it must appear in no message.
const SECRET: &str = "poison-secret-of-the-root-key";

/// An account of a test's own on the emulator.
struct Account {
    number: String,
    endpoint: String,
    aws: Aws,
}

impl Account {
    /// A fresh account, or `None` after saying that the test is skipped.
    async fn new(test: &str) -> Option<Self> {
        let endpoint = emulator::emulator(test)?.endpoint.clone();
        Some(Self::at(&endpoint, REGION).await)
    }

    async fn at(endpoint: &str, region: &str) -> Self {
        let number = emulator::new_account();
        let aws = connect(endpoint, &number, region, &number, SECRET).await;
        Self { number, endpoint: endpoint.to_owned(), aws }
    }

    /// Settings for a client of somebody else who works in this account.
    fn somebody_else(&self) -> aws_config::SdkConfig {
        aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(&self.endpoint)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                &self.number,
                SECRET,
                None,
                None,
                "test",
            )))
            .build()
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::new(&self.somebody_else())
    }

    /// Does a step that must succeed and delivers no key.
    #[track_caller]
    fn act(&self, step: CloudStep) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            if let Err(failure) = self.aws.act(&step, &nowhere).await {
                panic!("{at}: {}: {failure:?}", step.summary());
            }
        }
    }

    /// Does a step that must fail, without telling the secret.
    async fn fail(&self, step: CloudStep) -> Failure {
        let failure = self.aws.act(&step, &nowhere).await.expect_err("this step cannot succeed");
        assert!(!format!("{failure:?}").contains(SECRET), "{failure:?}");
        assert!(!failure.what.is_empty());
        failure
    }

    /// What is seen, which must be there.
    #[track_caller]
    fn see<T: DeserializeOwned>(&self, probe: CloudProbe) -> impl Future<Output = T> {
        let at = std::panic::Location::caller();
        async move {
            match self.aws.ask(&probe).await {
                Observed::Present(value) => {
                    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{at}: {error}: {value:#}"))
                }
                other => panic!("{at}: {probe:?}: {other:?}"),
            }
        }
    }

    async fn is_absent(&self, probe: &CloudProbe) -> bool {
        matches!(self.aws.ask(probe).await, Observed::Absent)
    }
}

async fn connect(endpoint: &str, account: &str, region: &str, key: &str, secret: &str) -> Aws {
    connect_with(endpoint, account, region, key, secret, BTreeMap::new()).await
}

/// The same with buckets that are in other regions.
async fn connect_with(
    endpoint: &str,
    account: &str,
    region: &str,
    key: &str,
    secret: &str,
    buckets: BTreeMap<String, String>,
) -> Aws {
    let connection = Connection {
        buckets,
        region: region.to_owned(),
        account: account.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        ca_file: None,
        credentials: Some((key.to_owned(), Secret::new(secret.to_owned()))),
    };
    Aws::connect(&connection).await.expect("these settings are complete")
}

/// The delivery of tests whose steps deliver nothing to a host.
async fn nowhere(_: String, _: String, _: String, _: Secret<Vec<u8>>) -> Result<(), Failure> {
    panic!("this step delivers no key to a host")
}

/// The reason of a refusal.
#[track_caller]
fn refused(answer: Observed<serde_json::Value>) -> String {
    match answer {
        Observed::Unknown(Unseen::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn tags<const N: usize>(pairs: [(&str, &str); N]) -> Tags {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
}
