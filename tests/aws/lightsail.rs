//! Lightsail's answers as documents, and steps that end when their effect is there. The answers are scripted from AWS's
//! service model; the sandbox's own Lightsail is tested with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use seawall::plan::cloud::{Instance, PortRule, Ports, StaticIp, TAG_ENVIRONMENT};
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::{CloudStep, NewInstance};
use seawall::reach::Failure;
use seawall::reach::aws::Aws;
use serde_json::{Value, json};

use crate::aws::{REGION, SECRET, connect, nowhere, tags};
use crate::support::front::{Answer, Asked, Front};

#[expect(clippy::unnecessary_wraps, reason = "a script answers with it")]
pub(super) fn ok(value: &Value) -> Answer {
    Some((200, value.to_string()))
}

#[expect(clippy::unnecessary_wraps, reason = "a script answers with it")]
pub(super) fn error(code: &str, message: &str) -> Answer {
    Some((400, json!({ "__type": code, "code": code, "message": message, "tip": "look again" }).to_string()))
}

pub(super) async fn lab(script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> (Front, Aws) {
    let front = Front::new(None, script).await;
    let aws = connect(&front.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    (front, aws)
}

pub(super) async fn act(aws: &Aws, step: CloudStep) -> Result<(), Failure> {
    aws.act(&step, &nowhere).await
}

pub(super) fn instance(state: &str) -> Value {
    json!({ "instance": {
        "name": "db", "state": { "code": 16, "name": state }, "bundleId": "small_3_0", "blueprintId": "debian_12",
        "location": { "availabilityZone": "ca-central-1a", "regionName": REGION }, "username": "admin",
        "publicIpAddress": "203.0.113.9", "ipv6Addresses": ["2600:1::2", "2600:1::1"], "isStaticIp": true,
        "sshKeyName": "chronos-db-key", "tags": [{ "key": TAG_ENVIRONMENT, "value": "chronos" }, { "key": "bare" }],
        "addOns": [{ "name": "AutoSnapshot", "status": "Enabled", "snapshotTimeOfDay": "06:00" }],
        "metadataOptions": { "state": "applied", "httpTokens": "required", "httpPutResponseHopLimit": 1 },
        "networking": { "ports": [
            { "fromPort": 22, "toPort": 22, "protocol": "tcp" }, { "fromPort": 8000, "toPort": 8080, "protocol": "tcp" },
            { "fromPort": 53, "toPort": 53, "protocol": "udp" },
        ] },
    } })
}

fn access() -> Value {
    let key = |algorithm: &str, public: &str| json!({ "algorithm": algorithm, "publicKey": public });
    json!({ "accessDetails": { "username": "admin", "hostKeys": [
        key("ssh-rsa", "AAAAB3NzaC1yc2E"), key("ssh-ed25519", "ssh-ed25519 AAAAC3NzaC1lZDI1 root@db\n"),
        key("ssh-ed25519", "AAAAC3NzaC1lZDI1"), key("ssh-dss", "nonsense"),
    ] } })
}

async fn see(aws: &Aws, probe: CloudProbe) -> Value {
    match aws.ask(&probe).await {
        Observed::Present(value) => value,
        other => panic!("{probe:?}: {other:?}"),
    }
}

#[tokio::test]
async fn an_instance_is_read_with_its_witnessed_keys() {
    let (_front, aws) = lab(|asked, _| match asked.what.as_str() {
        "GetInstance" => ok(&instance("running")),
        "GetInstanceAccessDetails" => ok(&access()),
        _ => None,
    })
    .await;
    let seen: Instance =
        serde_json::from_value(see(&aws, CloudProbe::Instance { name: "db".to_owned() }).await).expect("whole");
    let expected = Instance {
        name: "db".to_owned(),
        state: "running".to_owned(),
        bundle: "small_3_0".to_owned(),
        blueprint: "debian_12".to_owned(),
        zone: "ca-central-1a".to_owned(),
        username: "admin".to_owned(),
        public_ip: Some("203.0.113.9".to_owned()),
        ipv6: vec!["2600:1::1".to_owned(), "2600:1::2".to_owned()],
        is_static_ip: true,
        key_pair: "chronos-db-key".to_owned(),
        auto_snapshot: Some("06:00".to_owned()),
        http_tokens: "required".to_owned(),
        hop_limit: 1,
        host_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1".to_owned(), "ssh-rsa AAAAB3NzaC1yc2E".to_owned()],
        open_tcp: vec![22],
        tags: tags([(TAG_ENVIRONMENT, "chronos"), ("bare", "")]),
    };
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn not_there_not_allowed_and_not_known_are_three_answers() {
    let probes = [
        CloudProbe::KeyPair { name: "k".to_owned() },
        CloudProbe::Instance { name: "db".to_owned() },
        CloudProbe::StaticIp { name: "ip".to_owned() },
        CloudProbe::Ports { instance: "db".to_owned() },
    ];
    for probe in &probes {
        let (_front, aws) = lab(|_, _| error("NotFoundException", "no such thing")).await;
        assert_eq!(aws.ask(probe).await, Observed::Absent, "{probe:?}");
        let (_front, aws) = lab(|_, _| error("AccessDeniedException", "not you")).await;
        let answer = aws.ask(probe).await;
        assert!(
            matches!(&answer, Observed::Unknown(Unseen::Refused(why)) if why.contains("lightsail:Get")),
            "{answer:?}"
        );
        let (_front, aws) = lab(|_, _| Some((200, "<html>a proxy's page</html>".to_owned()))).await;
        let answer = aws.ask(probe).await;
        assert!(matches!(answer, Observed::Unknown(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_throttled_call_is_asked_again() {
    for code in ["Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException"] {
        let (front, aws) = lab(move |_, before| match before {
            0 => error(code, "Rate exceeded"),
            _ => ok(&json!({ "staticIp": { "name": "ip", "ipAddress": "203.0.113.9", "isAttached": false } })),
        })
        .await;
        let seen = see(&aws, CloudProbe::StaticIp { name: "ip".to_owned() }).await;
        let expected = StaticIp { name: "ip".to_owned(), address: "203.0.113.9".to_owned(), attached_to: None };
        assert_eq!(serde_json::from_value::<StaticIp>(seen).expect("whole"), expected);
        assert_eq!(front.count("GetStaticIp"), 2, "{code}");
    }
}

fn rule(from: i32, cidrs: &[&str], ipv6_cidrs: &[&str]) -> PortRule {
    let owned = |list: &[&str]| list.iter().map(|&cidr| cidr.to_owned()).collect();
    PortRule {
        protocol: "tcp".to_owned(),
        from,
        to: from,
        cidrs: owned(cidrs),
        ipv6_cidrs: owned(ipv6_cidrs),
        aliases: Vec::new(),
    }
}

fn states(rules: &[(i32, &[&str], &[&str])]) -> Value {
    let state = |(port, cidrs, ipv6): &(i32, &[&str], &[&str])| {
        json!({ "fromPort": port, "toPort": port, "protocol": "tcp", "state": "open", "cidrs": cidrs, "ipv6Cidrs": ipv6,
                "cidrListAliases": [] })
    };
    json!({ "portStates": rules.iter().map(state).collect::<Vec<_>>() })
}

#[tokio::test]
async fn ports_are_sets() {
    let (_front, aws) = lab(|_, _| {
        ok(&states(&[
            (443, &["0.0.0.0/0"], &["::/0"]),
            (22, &["203.0.113.0/24", "198.51.100.7/32"], &["2001:DB8::/32"]),
        ]))
    })
    .await;
    let seen: Ports =
        serde_json::from_value(see(&aws, CloudProbe::Ports { instance: "db".to_owned() }).await).expect("whole");
    let expected =
        [rule(22, &["198.51.100.7/32", "203.0.113.0/24"], &["2001:db8::/32"]), rule(443, &["0.0.0.0/0"], &["::/0"])];
    assert_eq!(seen.rules, expected);
}

#[tokio::test]
async fn ports_are_put_until_they_read_back_in_any_order() {
    let (front, aws) = lab(|asked, before| match asked.what.as_str() {
        "PutInstancePublicPorts" => {
            ok(&json!({ "operation": { "id": "o1", "status": "Started", "isTerminal": false } }))
        }
        "GetOperation" if before == 0 => ok(&json!({ "operation": { "id": "o1", "status": "Started" } })),
        "GetOperation" => ok(&json!({ "operation": { "id": "o1", "status": "Succeeded", "isTerminal": true } })),
        "GetInstancePortStates" if before == 0 => ok(&states(&[(80, &["0.0.0.0/0"], &["::/0"])])),
        _ => ok(&states(&[(22, &["198.51.100.7/32", "203.0.113.0/24"], &[]), (5432, &[], &["2001:db8::/32"])])),
    })
    .await;
    let rules = vec![rule(5432, &[], &["2001:DB8::/32"]), rule(22, &["203.0.113.0/24", "198.51.100.7/32"], &[])];
    let step = CloudStep::PutPorts { instance: "db".to_owned(), rules };
    act(&aws, step).await.expect("what reads back says the same in another order");
    assert_eq!(front.count("PutInstancePublicPorts"), 1);
    assert!(front.count("GetOperation") == 2 && front.count("GetInstancePortStates") == 2, "{:?}", front.asked());
}

fn new_instance() -> CloudStep {
    CloudStep::CreateInstance(Box::new(NewInstance {
        name: "db".to_owned(),
        zone: "ca-central-1a".to_owned(),
        blueprint: "debian_12".to_owned(),
        bundle: "small_3_0".to_owned(),
        key_pair: "chronos-db-key".to_owned(),
        user_data: "#!/bin/sh\n".to_owned(),
        auto_snapshot: Some("06:00".to_owned()),
        tags: tags([(TAG_ENVIRONMENT, "chronos")]),
    }))
}

#[tokio::test]
async fn an_instance_is_there_when_it_runs_and_its_keys_were_witnessed() {
    let (front, aws) = lab(|asked, before| match (asked.what.as_str(), before) {
        ("CreateInstances", _) => ok(&json!({ "operations": [{ "id": "o1", "status": "Started" }] })),
        ("GetOperation", _) => ok(&json!({ "operation": { "id": "o1", "status": "Succeeded", "isTerminal": true } })),
        ("GetInstance", 0) => error("NotFoundException", "not listed yet"),
        ("GetInstance", 1) => ok(&instance("pending")),
        ("GetInstance", _) => ok(&instance("running")),
        ("GetInstanceAccessDetails", 0) => error("OperationFailureException", "too early"),
        ("GetInstanceAccessDetails", 1) => ok(&json!({ "accessDetails": { "hostKeys": [] } })),
        ("GetInstanceAccessDetails", _) => ok(&access()),
        _ => None,
    })
    .await;
    act(&aws, new_instance()).await.expect("it comes up in the end");
    assert!(front.count("GetInstanceAccessDetails") >= 3, "{:?}", front.asked());
    let sent: Value = serde_json::from_str(&front.asked()[0].body).expect("JSON");
    assert_eq!(sent["addOns"][0]["autoSnapshotAddOnRequest"]["snapshotTimeOfDay"], "06:00");
    assert_eq!(sent["tags"], json!([{ "key": TAG_ENVIRONMENT, "value": "chronos" }]));
}

#[tokio::test]
async fn an_instance_whose_first_answer_was_lost_is_the_one_that_was_asked_for() {
    let script = |tag: &'static str| {
        move |asked: &Asked, before: usize| match (asked.what.as_str(), before) {
            ("CreateInstances", 0) => Some((503, String::new())),
            ("CreateInstances", _) => error("InvalidInputException", "Some names are already in use: db"),
            ("GetInstance", _) => Some((200, instance("running").to_string().replace("chronos\"", tag))),
            ("GetInstanceAccessDetails", _) => ok(&access()),
            _ => None,
        }
    };
    let (_front, aws) = lab(script("chronos\"")).await;
    act(&aws, new_instance()).await.expect("the first try made it");
    let (_front, aws) = lab(script("theirs\"")).await;
    let failure = act(&aws, new_instance()).await.expect_err("somebody else's instance has this name");
    assert!(failure.what.contains("already in use"), "{failure:?}");
}

#[tokio::test]
async fn what_fails_after_something_was_changed_does_not_say_that_nothing_was() {
    let (_front, aws) = lab(|asked, _| match asked.what.as_str() {
        "CreateInstances" => ok(&json!({ "operations": [{ "id": "o1", "status": "Started" }] })),
        _ => error("AccessDeniedException", "not you"),
    })
    .await;
    let failure = act(&aws, new_instance()).await.expect_err("its operation cannot be read");
    assert!(!failure.what.contains("nothing was changed"), "{failure:?}");
    let (_front, aws) = lab(|asked, _| match asked.what.as_str() {
        "PutInstancePublicPorts" => {
            ok(&json!({ "operation": { "id": "o1", "status": "Succeeded", "isTerminal": true } }))
        }
        _ => error("AccessDeniedException", "not you"),
    })
    .await;
    let failure = act(&aws, CloudStep::PutPorts { instance: "db".to_owned(), rules: Vec::new() }).await;
    let failure = failure.expect_err("the ports cannot be read back");
    assert!(!failure.what.contains("nothing was changed"), "{failure:?}");
}

#[tokio::test]
async fn aws_says_why_in_its_own_words() {
    let (_front, aws) = lab(|_, _| {
        error("InvalidInputException", "Sorry, your account can not create an instance using this Lightsail plan size.")
    })
    .await;
    let failure = act(&aws, new_instance()).await.expect_err("refused");
    assert_eq!(failure.code.as_deref(), Some("InvalidInputException"));
    assert!(
        failure.what.contains("Sorry, your account") && failure.what.contains("nothing was changed"),
        "{failure:?}"
    );
    assert!(failure.hint.is_some_and(|hint| hint.contains("AWS Support")));

    let (_front, aws) = lab(|asked, _| match asked.what.as_str() {
        "GetOperation" => ok(&json!({ "operation": { "id": "o1", "status": "Failed", "isTerminal": true,
            "errorCode": "InsufficientCapacity", "errorDetails": "no room in this zone" } })),
        _ => ok(&json!({ "operations": [{ "id": "o1", "status": "Started" }] })),
    })
    .await;
    let failure = act(&aws, new_instance()).await.expect_err("the operation failed");
    assert_eq!(failure.code.as_deref(), Some("InsufficientCapacity"));
    assert!(failure.what.contains("no room in this zone"), "{failure:?}");
}

#[tokio::test]
async fn what_is_taken_away_is_waited_for_and_may_be_gone_already() {
    let name = || "thing".to_owned();
    let steps = [
        CloudStep::DeleteKeyPair { name: name() },
        CloudStep::DeleteInstance { name: name() },
        CloudStep::DetachStaticIp { name: name() },
        CloudStep::ReleaseStaticIp { name: name() },
    ];
    for step in steps {
        let (_front, aws) = lab(|_, _| error("NotFoundException", "no such thing")).await;
        act(&aws, step.clone()).await.unwrap_or_else(|failure| panic!("{step:?}: {failure:?}"));
    }

    let polls = AtomicUsize::new(0);
    let (front, aws) = lab(move |asked, _| match asked.what.as_str() {
        "DeleteInstance" if asked.body.contains("\"forceDeleteAddOns\":true") => ok(&json!({ "operations": [] })),
        "GetInstance" if polls.fetch_add(1, Ordering::Relaxed) < 2 => ok(&instance("shutting-down")),
        "GetInstance" => error("NotFoundException", "gone"),
        _ => None,
    })
    .await;
    act(&aws, CloudStep::DeleteInstance { name: name() }).await.expect("it is gone in the end");
    assert_eq!(front.count("GetInstance"), 3);

    let (front, aws) = lab(|asked, before| match (asked.what.as_str(), before) {
        ("DetachStaticIp", _) => ok(&json!({ "operations": [{ "id": "o1", "status": "Started" }] })),
        ("GetOperation", _) => ok(&json!({ "operation": { "id": "o1", "status": "Succeeded", "isTerminal": true } })),
        ("GetStaticIp", 0) => {
            ok(&json!({ "staticIp": { "name": "ip", "ipAddress": "203.0.113.9", "attachedTo": "db" } }))
        }
        ("GetStaticIp", _) => ok(&json!({ "staticIp": { "name": "ip", "ipAddress": "203.0.113.9" } })),
        _ => None,
    })
    .await;
    act(&aws, CloudStep::DetachStaticIp { name: "ip".to_owned() }).await.expect("it is free in the end");
    assert!(front.count("GetOperation") == 1 && front.count("GetStaticIp") == 2, "{:?}", front.asked());
}
