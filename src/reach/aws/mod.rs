//! AWS by its official SDK: probes to state documents, steps to effects, and the store that operators share.
//!
//! One file per service and direction. Every limit is a constant here or beside its loop. Deliberately absent: instance
//! metadata credentials. On Lightsail they belong to an account of AWS's own, and an SDK that finds them works in the
//! wrong account without an error.

mod act;
mod act_iam;
mod act_lightsail;
mod act_notify;
mod act_s3;
mod act_snapshots;
mod ask_iam;
mod ask_lightsail;
mod ask_notify;
mod ask_s3;
mod census;
pub mod credentials;
pub mod fault;
pub mod identity;
pub mod objects;
pub mod permissions;
pub mod store;
mod wait;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use serde::Serialize;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::base::read;
use crate::base::secret::Secret;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::CloudProbe;
use crate::reach::Failure;

/// Attempts per call. AWS's own tools use three to five; Lightsail throttles per account, so other tools' work counts.
const ATTEMPTS: u32 = 5;
/// First pause between two attempts; it doubles, with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// To open a connection. A region answers in a tenth of a second; ten mean that there is no way.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For one attempt. Creating an instance answers within seconds.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
/// For one call with all its attempts.
const CALL_LIMIT: Duration = Duration::from_mins(2);

/// How to reach AWS. Everything but region and account has the SDK's own defaults.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub region: String,
    /// The account that the inventory names; see [`identity`].
    pub account: String,
    /// Regions of buckets that are not in the environment's, by their names at AWS.
    pub buckets: BTreeMap<String, String>,
    /// One endpoint for all services instead of AWS's.
    pub endpoint: Option<String>,
    /// Certificates to trust instead of the system's; `AWS_CA_BUNDLE` is used where this is not set.
    pub ca_file: Option<PathBuf>,
    /// Access key id and secret; the usual chain where this is not set.
    pub credentials: Option<(String, Secret<String>)>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the certificates in `{}` could not be read: {why}", path.display())]
    Certificates { path: PathBuf, why: String },
}

/// Clients for one account and region. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws {
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) lightsail: aws_sdk_lightsail::Client,
    /// For the environment's region.
    pub(crate) s3: aws_sdk_s3::Client,
    /// Regions of buckets that are elsewhere, by name, and a client for each of these regions.
    buckets: Arc<BTreeMap<String, String>>,
    elsewhere: Arc<BTreeMap<String, aws_sdk_s3::Client>>,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) sns: aws_sdk_sns::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(crate) sts: aws_sdk_sts::Client,
    /// The credentials were given and not looked for.
    given: bool,
}

/// Brings a new access key's file to a server. The bytes are a secret.
pub trait Deliver: Sync {
    fn deliver(
        &self,
        server: String,
        path: String,
        group: String,
        bytes: Secret<Vec<u8>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

impl<F, R> Deliver for F
where
    F: Fn(String, String, String, Secret<Vec<u8>>) -> R + Sync,
    R: Future<Output = Result<(), Failure>> + Send,
{
    fn deliver(
        &self,
        server: String,
        path: String,
        group: String,
        bytes: Secret<Vec<u8>>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        self(server, path, group, bytes)
    }
}

impl Aws {
    /// Makes the clients. Nothing is asked yet.
    pub async fn connect(connection: &Connection) -> Result<Self, ConnectError> {
        let config = config(connection).await?;
        // Path style works with an endpoint that is an address; AWS itself prefers the bucket in the host name.
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(config.endpoint_url().is_some());
        let client = |region: &String| {
            let there = s3.clone().region(Region::new(region.clone()));
            (region.clone(), aws_sdk_s3::Client::from_conf(there.build()))
        };
        let elsewhere = connection.buckets.values().filter(|region| **region != connection.region).map(client);
        Ok(Self {
            given: connection.credentials.is_some(),
            region: connection.region.clone(),
            account: connection.account.clone(),
            lightsail: aws_sdk_lightsail::Client::new(&config),
            elsewhere: Arc::new(elsewhere.collect()),
            buckets: Arc::new(connection.buckets.clone()),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            iam: aws_sdk_iam::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
        })
    }

    /// The same with the client for a bucket's region: in another one, S3 only says where the bucket is.
    pub(crate) fn near(&self, bucket: &str) -> Self {
        self.buckets.get(bucket).map_or_else(|| self.clone(), |region| self.within(region))
    }

    /// The same with the client for a region that a bucket is in.
    pub(crate) fn within(&self, region: &str) -> Self {
        let s3 = self.elsewhere.get(region).unwrap_or(&self.s3).clone();
        Self { s3, ..self.clone() }
    }

    /// The regions that buckets of the environment are in.
    pub(crate) fn regions(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.region).chain(self.elsewhere.keys())
    }

    /// Asks one thing; the answer is the state document of the probe. The branches are boxed, here and in `Aws::act`:
    /// a future is as large as its largest branch, and every caller's future would hold it.
    pub async fn ask(&self, probe: &CloudProbe) -> Observed<Value> {
        let begun = Instant::now();
        let answer = match probe {
            CloudProbe::KeyPair { name } => document(Box::pin(self.key_pair(name)).await),
            CloudProbe::Instance { name } => document(Box::pin(self.instance(name)).await),
            CloudProbe::StaticIp { name } => document(Box::pin(self.static_ip(name)).await),
            CloudProbe::Ports { instance } => document(Box::pin(self.ports(instance)).await),
            CloudProbe::Bucket { name } => document(Box::pin(self.near(name).bucket(name)).await),
            CloudProbe::User { name } => document(Box::pin(self.user(name)).await),
            CloudProbe::Topic { name } => document(Box::pin(self.topic(name)).await),
            CloudProbe::MetricAlarm { name } => document(Box::pin(self.alarm(name)).await),
            CloudProbe::Census { environment } => document(Box::pin(self.census(environment)).await.map(Some)),
        };
        tracing::debug!(?probe, ms = begun.elapsed().as_millis(), "asked AWS");
        answer
    }
}

/// An answer as JSON.
fn document<T: Serialize>(answer: Result<Option<T>, Unseen>) -> Observed<Value> {
    match answer {
        Ok(Some(state)) => Observed::Present(serde_json::to_value(state).expect("a state document serialises")),
        Ok(None) => Observed::Absent,
        Err(why) => Observed::Unknown(why),
    }
}

async fn config(connection: &Connection) -> Result<SdkConfig, ConnectError> {
    let retry = RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(BACKOFF_MIN)
        .with_max_backoff(BACKOFF_MAX);
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_attempt_timeout(ATTEMPT_LIMIT)
        .operation_timeout(CALL_LIMIT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(connection.region.clone()))
        .retry_config(retry)
        .timeout_config(limits.clone());
    if let Some(endpoint) = &connection.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let bundle = connection.ca_file.clone().or_else(|| std::env::var_os("AWS_CA_BUNDLE").map(PathBuf::from));
    let http = bundle.map(|path| trusting(&path)).transpose()?;
    if let Some(http) = &http {
        loader = loader.http_client(http.clone());
    }
    let credentials = match &connection.credentials {
        Some((id, secret)) => {
            SharedCredentialsProvider::new(Credentials::new(id, secret.reveal(), None, None, "seawall"))
        }
        None => {
            SharedCredentialsProvider::new(credentials::chain(Region::new(connection.region.clone()), limits, http))
        }
    };
    Ok(loader.credentials_provider(credentials).load().await)
}

/// Largest file of authorities, in bytes; Debian's has a quarter of a MiB.
const BUNDLE_LIMIT: u64 = 8 * 1024 * 1024;

fn trusting(path: &Path) -> Result<aws_smithy_runtime_api::client::http::SharedHttpClient, ConnectError> {
    let failed = |why: String| ConnectError::Certificates { path: path.to_owned(), why };
    let pem = read::bytes(path, BUNDLE_LIMIT).map_err(|why| failed(why.to_string()))?;
    // An authority's file without an authority would trust nobody, and say so only when AWS does not answer.
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(failed(error.to_string())),
        None => return Err(failed("there is no certificate in it".to_owned())),
    }
    let store = tls::TrustStore::empty().with_pem_certificate(pem);
    let context =
        tls::TlsContext::builder().with_trust_store(store).build().map_err(|error| failed(error.to_string()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}
