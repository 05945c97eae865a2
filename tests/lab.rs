//! The lab end to end: daemon, TLS front, emulator, with the SDK clients that the program itself uses.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lightsail::types::{
    AddOnRequest, AddOnType, InstanceSnapshotState, NetworkProtocol, PortInfo, RegionName, Tag,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use seawall::base::secret::Secret;
use seawall::plan::step::CloudStep;
use seawall::reach::aws::{Aws, Connection};
use seawall::sandbox::control;
use seawall::sandbox::emulator::EmulatorError;
use seawall::sandbox::lab::{Lab, LabError, Options, down, status, up};
use seawall::sandbox::lightsail::state::Delays;

pub(crate) const ACCOUNT: &str = "210987654321";

pub(crate) fn config(lab: &Lab, key: &str, secret: &str) -> SdkConfig {
    let pem = std::fs::read(lab.folder.join("ca.pem")).expect("the CA");
    let tls =
        TlsContext::builder().with_trust_store(TrustStore::empty().with_pem_certificate(pem)).build().expect("tls");
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build_https();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ca-central-1"))
        .endpoint_url(lab.endpoint())
        .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(aws_sdk_s3::config::Credentials::new(
            key, secret, None, None, "test",
        )))
        .http_client(http)
        .build()
}

pub(crate) fn options(folder: &Path, with_emulator: bool) -> Options {
    Options {
        folder: folder.join("lab"),
        cache: Path::new(env!("CARGO_MANIFEST_DIR")).join(".seawall/cache"),
        program: env!("CARGO_BIN_EXE_seawall").into(),
        account: ACCOUNT.to_owned(),
        region: "ca-central-1".to_owned(),
        operator_address: "127.0.0.1".to_owned(),
        server_names: Vec::new(),
        delays: Delays { running: 0.3, deleting: 0.2, host_keys: 0.2, operation: 0.1, snapshot: 0.1 },
        with_emulator,
        with_machines: false,
    }
}

/// Takes the lab down also when the test fails.
pub(crate) struct Down(pub(crate) std::path::PathBuf);
impl Drop for Down {
    fn drop(&mut self) {
        down(&self.0).expect("the lab goes down");
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one life of an instance, in order")]
async fn lightsail_through_the_front() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), false);
    let lab = up(&options).await.expect("the lab is up");
    let _down = Down(options.folder.clone());
    let client = aws_sdk_lightsail::Client::new(&config(&lab, ACCOUNT, "x"));
    let missing = client.get_instance().instance_name("db").send().await.expect_err("nothing there yet");
    assert!(missing.into_service_error().is_not_found_exception());
    let create = |name: &'static str, bundle: &'static str| {
        let call = client.create_instances().instance_names(name).availability_zone("ca-central-1a");
        call.blueprint_id("debian_12").bundle_id(bundle).send()
    };
    let bad = create("db", "small_2_0").await.expect_err("an inactive bundle");
    assert!(bad.into_service_error().is_invalid_input_exception());
    client.allocate_static_ip().static_ip_name("address").send().await.expect("an address");
    let taken = create("address", "small_3_0").await.expect_err("names are unique across kinds");
    assert!(taken.into_service_error().is_invalid_input_exception());
    create("db", "small_3_0").await.expect("created");
    let early = client.attach_static_ip().static_ip_name("address").instance_name("db").send().await;
    assert!(early.expect_err("it is pending").into_service_error().is_operation_failure_exception());
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let details = client.get_instance_access_details().instance_name("db").send().await.expect("details");
        let keys = details.access_details.map(|d| d.host_keys.unwrap_or_default()).unwrap_or_default();
        if let Some(key) = keys.first() {
            assert!(key.fingerprint_sha256().expect("a fingerprint").starts_with("SHA256:"));
            break;
        }
        assert!(Instant::now() < limit, "no host keys");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.attach_static_ip().static_ip_name("address").instance_name("db").send().await.expect("attached");
    let ssh =
        PortInfo::builder().from_port(22).to_port(22).protocol(NetworkProtocol::Tcp).cidrs("192.0.2.1/32").build();
    client.put_instance_public_ports().instance_name("db").port_infos(ssh).send().await.expect("put");
    let ports =
        client.get_instance_port_states().instance_name("db").send().await.expect("ports").port_states.expect("some");
    assert_eq!(ports.len(), 1, "put replaces the whole set");
    assert_eq!(ports[0].ipv6_cidrs(), [] as [String; 0]);

    let again = up(&options).await.expect("up twice is fine");
    assert_eq!(again.running.process, lab.running.process);
    down(&options.folder).expect("down");
    assert!(!lab.running.process.alive());
    let lab = up(&options).await.expect("up again, with what it remembered");
    let client = aws_sdk_lightsail::Client::new(&config(&lab, ACCOUNT, "x"));
    let db = client.get_instance().instance_name("db").send().await.expect("still there").instance.expect("it");
    assert_eq!(db.is_static_ip, Some(true));
    assert_eq!(status(&options.folder).expect("status").hosts.len(), 1);
    client.delete_instance().instance_name("db").send().await.expect("deleted");
    let ip = client.get_static_ip().static_ip_name("address").send().await.expect("it survives").static_ip.expect("it");
    assert_eq!(ip.is_attached, Some(false));
    let stranger = aws_sdk_lightsail::Client::new(&config(&lab, "AKIAIOSFODNN7EXAMPLE", "x"));
    let refused = stranger.get_instances().send().await.expect_err("not the owner");
    assert!(refused.into_service_error().is_access_denied_exception());
}

#[tokio::test]
async fn automatic_snapshots_go_with_their_instance_unless_they_were_copied_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), false);
    let lab = up(&options).await.expect("the lab is up");
    let _down = Down(options.folder.clone());
    let status = lab.status().expect("its status");
    let secret = std::fs::read_to_string(&status.credentials.secret_access_key_file).expect("a secret");
    let connection = Connection {
        buckets: BTreeMap::new(),
        region: "ca-central-1".to_owned(),
        account: ACCOUNT.to_owned(),
        endpoint: Some(status.endpoint.clone()),
        ca_file: Some(status.ca_file.clone()),
        credentials: Some((status.credentials.access_key_id.clone(), Secret::new(secret.trim().to_owned()))),
    };
    let aws = Aws::connect(&connection).await.expect("a connection");
    let client = aws_sdk_lightsail::Client::new(&config(&lab, ACCOUNT, "x"));
    let nowhere = async |_: String, _: String, _: String, _: Secret<Vec<u8>>| panic!("no key is delivered");
    let make = async || {
        let add_on = AddOnRequest::builder().add_on_type(AddOnType::AutoSnapshot).build().expect("complete");
        let call = client.create_instances().instance_names("db").availability_zone("ca-central-1a").add_ons(add_on);
        let tag = Tag::builder().key("seawall:environment").value("prod").build();
        call.blueprint_id("debian_12").bundle_id("small_3_0").tags(tag).send().await.expect("created");
    };
    let kept = async || {
        let found = client.get_instance_snapshots().send().await.expect("a list").instance_snapshots;
        found.unwrap_or_default()
    };
    make().await;
    let keep = || CloudStep::KeepSnapshot { instance: "db".to_owned() };
    aws.act(&keep(), &nowhere).await.expect("there is nothing to keep yet");
    assert!(kept().await.is_empty());
    let (_, said) = control::post(&lab, "/_sandbox/snapshots", "{}").await.expect("taken");
    assert_eq!(said, r#"{"taken":1}"#);
    aws.act(&keep(), &nowhere).await.expect("kept");
    aws.act(&keep(), &nowhere).await.expect("kept already");
    aws.act(&CloudStep::DeleteInstance { name: "db".to_owned() }, &nowhere).await.expect("gone");
    let left = kept().await;
    assert!(left.len() == 1 && left[0].name().is_some_and(|name| name.starts_with("db-kept-2")), "{left:?}");
    assert_eq!(left[0].state(), Some(&InstanceSnapshotState::Available));
    let tags: Vec<_> = left[0].tags().iter().map(|tag| (tag.key(), tag.value())).collect();
    assert_eq!(tags, [(Some("seawall:environment"), Some("prod")), (Some("seawall:keep"), Some("protected"))]);

    // The next one of this name has none of the first one's; a copy that was not waited for is lost.
    make().await;
    let none = client.get_auto_snapshots().resource_name("db").send().await.expect("a list");
    assert!(none.auto_snapshots().is_empty());
    control::post(&lab, "/_sandbox/snapshots", "{}").await.expect("taken");
    let call = client.copy_snapshot().source_resource_name("db").use_latest_restorable_auto_snapshot(true);
    let call = call.source_region(RegionName::CaCentral1).target_snapshot_name("hasty");
    call.send().await.expect("begun");
    client.delete_instance().instance_name("db").force_delete_add_ons(true).send().await.expect("deleted");
    let hasty = client.get_instance_snapshot().instance_snapshot_name("hasty").send().await.expect("listed");
    assert_eq!(hasty.instance_snapshot.and_then(|found| found.state), Some(InstanceSnapshotState::Error));
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one lab is brought up once for all services")]
async fn the_other_services_through_the_front() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), true);
    let skip = std::env::var("SEAWALL_TESTS_WITHOUT_EMULATOR").is_ok_and(|value| value == "1");
    let lab = match up(&options).await {
        Err(LabError::Emulator(error @ EmulatorError::Install { .. })) if skip => {
            let _ = writeln!(std::io::stderr(), "the_other_services_through_the_front: SKIPPED: {error}");
            return;
        }
        other => other.expect("the lab is up"),
    };
    let _down = Down(options.folder.clone());
    let root = config(&lab, ACCOUNT, "x");
    let identity = aws_sdk_sts::Client::new(&root).get_caller_identity().send().await.expect("an identity");
    assert_eq!(identity.account(), Some(ACCOUNT));
    let watch = aws_sdk_cloudwatch::Client::new(&root);
    watch.describe_alarms().send().await.expect("CloudWatch speaks CBOR");

    let sns = aws_sdk_sns::Client::new(&root);
    let topic = sns.create_topic().name("alerts").send().await.expect("a topic").topic_arn.expect("its ARN");
    let subscribe = |to: &'static str| sns.subscribe().topic_arn(&topic).protocol("email").endpoint(to).send();
    subscribe("nobody").await.expect_err("a bad address");
    let arn = subscribe("ops@example.com").await.expect("subscribed").subscription_arn;
    assert_eq!(arn.as_deref(), Some("pending confirmation"));
    let list = sns.list_subscriptions_by_topic().topic_arn(&topic).send().await.expect("a list");
    assert_eq!(list.subscriptions()[0].subscription_arn(), Some("PendingConfirmation"));
    let attributes =
        sns.get_topic_attributes().topic_arn(&topic).send().await.expect("attributes").attributes.expect("some");
    assert_eq!(attributes["SubscriptionsPending"], "1");
    assert_eq!(attributes["SubscriptionsConfirmed"], "0");

    let s3 = aws_sdk_s3::Client::new(&root);
    let place =
        aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint("ca-central-1".into()).build();
    s3.create_bucket().bucket("seawall-state").create_bucket_configuration(place).send().await.expect("a bucket");
    let put =
        || s3.put_object().bucket("seawall-state").key("lock").if_none_match("*").body(b"me".to_vec().into()).send();
    put().await.expect("the lock is free");
    let held = put().await.expect_err("the lock is held");
    assert_eq!(held.raw_response().map(|r| r.status().as_u16()), Some(412));

    let iam = aws_sdk_iam::Client::new(&root);
    iam.create_user().user_name("backup").send().await.expect("a user");
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::seawall-state/repo/*"}]}"#;
    iam.put_user_policy().user_name("backup").policy_name("p").policy_document(policy).send().await.expect("a policy");
    let key = iam.create_access_key().user_name("backup").send().await.expect("a key").access_key.expect("it");
    iam.create_access_key().user_name("backup").send().await.expect("a second key");
    let third = iam.create_access_key().user_name("backup").send().await.expect_err("no third key");
    assert!(third.into_service_error().is_limit_exceeded_exception());
    let user = aws_sdk_s3::Client::new(&config(&lab, key.access_key_id(), key.secret_access_key()));
    let put = |key: &'static str| user.put_object().bucket("seawall-state").key(key).body(b"x".to_vec().into()).send();
    put("repo/a").await.expect("allowed");
    put("lock").await.expect_err("not allowed");
    let forged = aws_sdk_s3::Client::new(&config(&lab, key.access_key_id(), "wrong"));
    forged.put_object().bucket("seawall-state").key("repo/b").send().await.expect_err("a wrong secret");
    let user_sts = aws_sdk_sts::Client::new(&config(&lab, key.access_key_id(), key.secret_access_key()));
    let identity = user_sts.get_caller_identity().send().await.expect("an identity");
    assert_eq!(identity.account(), Some(ACCOUNT));

    let daemon = lab.running.process;
    let venv = lab.settings.emulator.clone().expect("a venv");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid)).expect("children");
    assert!(children.split_whitespace().count() > 0, "the emulator is the daemon's child");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/second_opinion.py");
    let output = std::process::Command::new(venv.join("bin/python"))
        .arg(script)
        .envs(lab.status().expect("status").environment)
        .output()
        .expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    down(&options.folder).expect("down");
    for pid in children.split_whitespace() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is left over");
    }
}

/// A repository can bring an emulator of its own, with whatever mark an older version trusted: nothing of it runs.
#[tokio::test]
async fn an_emulator_that_somebody_brought_is_made_anew() {
    use seawall::sandbox::emulator::install;
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let (cache, trace) = (folder.path().join("cache"), folder.path().join("trace"));
    let skip = std::env::var("SEAWALL_TESTS_WITHOUT_EMULATOR").is_ok_and(|value| value == "1");
    let venv = match install(&cache).await {
        Err(error @ EmulatorError::Install { .. }) if skip => {
            let _ = writeln!(std::io::stderr(), "an_emulator_that_somebody_brought_is_made_anew: SKIPPED: {error}");
            return;
        }
        other => other.expect("an emulator"),
    };
    // Made a moment ago, and only looked at now.
    let made = std::fs::metadata(&venv).expect("it is there").modified().expect("a time");
    assert_eq!(install(&cache).await.expect("it is there"), venv);
    assert_eq!(std::fs::metadata(&venv).expect("it is there").modified().expect("a time"), made);
    // What a commit puts over an ignored file.
    let python = venv.join("bin/python");
    std::fs::remove_file(&python).expect("a link of the environment");
    std::fs::write(&python, format!("#!/bin/sh\nid >{}\nexec python3 \"$@\"\n", trace.display())).expect("a file");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    std::fs::write(venv.join("complete"), "").expect("a file");
    assert_eq!(install(&cache).await.expect("it is made anew"), venv);
    assert!(std::fs::symlink_metadata(&python).expect("it is there").is_symlink(), "the environment's own");
    assert!(!trace.exists(), "what was brought ran");
}
