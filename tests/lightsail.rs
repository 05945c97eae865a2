//! The Lightsail service in process, over plain HTTP: injected faults, as the SDK meets them.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_lightsail::Client;
use aws_sdk_lightsail::config::retry::RetryConfig;
use aws_sdk_lightsail::config::{Config, Credentials};
use aws_sdk_lightsail::error::ProvideErrorMetadata as _;
use seawall::sandbox::faults::{Fault, FaultKind, Faults};
use seawall::sandbox::front::{Door, Front};
use seawall::sandbox::gaps::Gaps;
use seawall::sandbox::lightsail::api::{EXPIRED_TOKEN, Lightsail, Setup};
use seawall::sandbox::lightsail::machine::NoMachines;
use seawall::sandbox::lightsail::state::Delays;

const ACCOUNT: &str = "210987654321";

fn client(endpoint: &str, token: Option<&str>) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ca-central-1"))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(ACCOUNT, "x", token.map(str::to_owned), None, "test"));
    Client::from_conf(config.build())
}

#[tokio::test]
async fn faults_are_met_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup {
        account: ACCOUNT.to_owned(),
        access_key: ACCOUNT.to_owned(),
        delays: Delays { running: 0.0, deleting: 0.0, host_keys: 0.0, operation: 0.0, snapshot: 0.0 },
        file: None,
        user_ca: None,
    };
    let faults = Arc::new(Faults::default());
    let service = Lightsail::open(setup, Arc::new(NoMachines::default()), Arc::clone(&faults)).expect("a service");
    let gaps = Gaps::open(folder.path().join("gaps.json")).expect("gaps");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(Front::new(service, gaps, ACCOUNT, None, None).serve(listener, None, Door::Loopback));
    let inject = |operation: &str, kind| {
        let operation = operation.to_owned();
        faults.add(Fault { service: "lightsail".to_owned(), operation, times: 1, kind });
    };

    let owner = client(&endpoint, None);
    inject("GetInstances", FaultKind::Throttle);
    let error = owner.get_instances().send().await.expect_err("throttled");
    assert_eq!(error.code(), Some("ThrottlingException"));
    owner.get_instances().send().await.expect("once only");
    inject("AllocateStaticIp", FaultKind::FailOperation);
    let answer = owner.allocate_static_ip().static_ip_name("ip").send().await.expect("accepted");
    let id = answer.operations()[0].id().expect("an id");
    let operation = owner.get_operation().operation_id(id).send().await.expect("found").operation.expect("it");
    assert_eq!(operation.status().map(aws_sdk_lightsail::types::OperationStatus::as_str), Some("Failed"));
    owner.get_static_ip().static_ip_name("ip").send().await.expect_err("it has no effect");
    let late = client(&endpoint, Some(EXPIRED_TOKEN));
    let error = late.get_instances().send().await.expect_err("expired");
    assert_eq!(error.code(), Some("ExpiredTokenException"));
}
