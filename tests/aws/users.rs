//! Users, and the one moment in which a secret exists here: from AWS to its place, or gone again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use seawall::base::secret::Secret;
use seawall::plan::cloud::{Bucket, TAG_ENVIRONMENT, Tags, User};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::{CloudStep, KeyDelivery};
use seawall::reach::Failure;
use serde_json::{Value, json};

use crate::aws::{Account, REGION, SECRET, connect, nowhere, refused, tags};
use crate::support::front::Front;

const NAME: &str = "chronos-repository";
const PATH: &str = "/seawall/chronos/";

fn probe() -> CloudProbe {
    CloudProbe::User { name: NAME.to_owned() }
}

/// A document with characters that IAM encodes on the way back.
fn document(bucket: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "List", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": format!("arn:aws:s3:::{bucket}"),
        "Condition": { "StringLike": { "s3:prefix": ["", "a b+c%d", "é/*"] } },
    }] })
}

fn put_policy(policy: &str, document: Value) -> CloudStep {
    CloudStep::PutUserPolicy { user: NAME.to_owned(), policy: policy.to_owned(), document }
}

fn create_key(deliver: KeyDelivery) -> CloudStep {
    CloudStep::CreateAccessKey { user: NAME.to_owned(), deliver }
}

fn here(path: &Path) -> CloudStep {
    create_key(KeyDelivery::OperatorFile {
        path: path.to_str().expect("temporary folders have plain names").to_owned(),
    })
}

fn create() -> CloudStep {
    CloudStep::CreateUser {
        name: NAME.to_owned(),
        path: PATH.to_owned(),
        tags: tags([(TAG_ENVIRONMENT, "chronos"), ("seawall:address", "iam.user/repository")]),
    }
}

/// Id and secret in a credentials file of one profile.
fn read_key(text: &str) -> (String, String) {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
    };
    assert!(text.starts_with(&format!("[{NAME}]\n")), "the profile is the user");
    (value("aws_access_key_id"), value("aws_secret_access_key"))
}

#[tokio::test]
async fn a_user_from_nothing_to_nothing() {
    let Some(lab) = Account::new("a_user_from_nothing_to_nothing").await else { return };
    assert!(lab.is_absent(&probe()).await);
    lab.act(create()).await;
    lab.act(put_policy("seawall", document("a"))).await;
    let made: User = lab.see(probe()).await;
    let expected = User {
        name: NAME.to_owned(),
        path: PATH.to_owned(),
        arn: format!("arn:aws:iam::{}:user{PATH}{NAME}", lab.number),
        policies: [("seawall".to_owned(), document("a"))].into(),
        attached: Vec::new(),
        groups: Vec::new(),
        keys: Vec::new(),
        console: seawall::plan::cloud::Console::None,
        boundary: None,
        tags: tags([(TAG_ENVIRONMENT, "chronos"), ("seawall:address", "iam.user/repository")]),
    };
    assert_eq!(made, expected);
    assert!(!lab.fail(create()).await.code.unwrap_or_default().is_empty(), "a user is not made twice");

    let iam = aws_sdk_iam::Client::new(&lab.somebody_else());
    let admin = "arn:aws:iam::aws:policy/AdministratorAccess";
    let other = document("b").to_string();
    iam.attach_user_policy().user_name(NAME).policy_arn(admin).send().await.expect("others may do this");
    iam.put_user_policy().user_name(NAME).policy_name("more").policy_document(&other).send().await.expect("others may");
    iam.create_group().group_name("admins").send().await.expect("others may do this");
    iam.add_user_to_group().user_name(NAME).group_name("admins").send().await.expect("others may do this");
    iam.create_access_key().user_name(NAME).send().await.expect("others may do this");
    let tampered: User = lab.see(probe()).await;
    assert_eq!(tampered.attached, [admin]);
    assert_eq!(tampered.groups, ["admins"]);
    assert_eq!(tampered.policies["more"], document("b"));
    assert!(tampered.keys.len() == 1 && tampered.keys[0].active, "{:?}", tampered.keys);
    assert!(tampered.keys[0].created.ends_with('Z'), "{:?}", tampered.keys);

    for _ in 0..2 {
        lab.act(CloudStep::DetachUserPolicy { user: NAME.to_owned(), arn: admin.to_owned() }).await;
        lab.act(CloudStep::DeleteUserPolicy { user: NAME.to_owned(), policy: "more".to_owned() }).await;
        lab.act(CloudStep::DeleteAccessKey { user: NAME.to_owned(), id: tampered.keys[0].id.clone() }).await;
    }
    lab.act(CloudStep::TagUser { name: NAME.to_owned(), tags: tags([("seawall:keep", "protected")]) }).await;
    let healed: User = lab.see(probe()).await;
    let mut all = expected.tags.clone();
    all.extend(tags([("seawall:keep", "protected")]));
    assert_eq!(healed, User { groups: vec!["admins".to_owned()], tags: all, ..expected });

    iam.attach_user_policy().user_name(NAME).policy_arn(admin).send().await.expect("others may do this");
    iam.create_access_key().user_name(NAME).send().await.expect("others may do this");
    for _ in 0..2 {
        lab.act(CloudStep::DeleteUser { name: NAME.to_owned() }).await;
        assert!(lab.is_absent(&probe()).await, "it goes with its keys, policies and groups");
    }
}

#[tokio::test]
async fn a_key_goes_into_one_private_file_and_works() {
    let Some(lab) = Account::new("a_key_goes_into_one_private_file_and_works").await else { return };
    let bucket = "seawall-test-key-works";
    lab.act(CloudStep::CreateBucket { name: bucket.to_owned(), region: REGION.to_owned(), tags: Tags::new() }).await;
    lab.act(create()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("keys/repository.credentials");
    lab.act(here(&file)).await;
    let mode = std::fs::metadata(&file).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (id, secret) = read_key(&std::fs::read_to_string(&file).expect("the file is readable"));
    let user: User = lab.see(probe()).await;
    assert_eq!(user.keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);

    let aws = connect(&lab.endpoint, &lab.number, REGION, &id, &secret).await;
    let identity = aws.identify().await.expect("the key is good");
    assert_eq!(identity.arn, user.arn);
    let why = refused(aws.ask(&CloudProbe::Bucket { name: bucket.to_owned() }).await);
    assert!(why.contains(bucket) || why.contains("s3:"), "{why}");
    let why = refused(aws.ask(&probe()).await);
    assert!(why.contains("iam:GetUser"), "the refused call is named: {why}");
    let step = CloudStep::PutBucketVersioning { name: bucket.to_owned(), enabled: true };
    let failure = aws.act(&step, &nowhere).await.expect_err("this user may do nothing");
    assert!(failure.hint.is_some_and(|hint| hint.contains("s3:PutBucketVersioning")));
    let untouched: Bucket = lab.see(CloudProbe::Bucket { name: bucket.to_owned() }).await;
    assert_eq!(untouched.versioning, "Off");

    // The policy of a bucket may be hidden while the bucket is not: that is no bucket without a policy.
    let only_list = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketVersioning"], "Resource": "*" } ] });
    lab.act(put_policy("look", only_list)).await;
    let why = refused(aws.ask(&CloudProbe::Bucket { name: bucket.to_owned() }).await);
    assert!(why.contains("s3:Get"), "the refused call is named: {why}");

    let wrong = connect(&lab.endpoint, &lab.number, REGION, &id, "not-the-secret").await;
    let error = wrong.identify().await.expect_err("the signature is wrong");
    assert!(!format!("{error:?} {:?}", error.diagnostic()).contains(&secret));
}

#[tokio::test]
async fn a_key_file_is_never_overwritten_and_no_key_is_left_over() {
    let Some(lab) = Account::new("a_key_file_is_never_overwritten_and_no_key_is_left_over").await else { return };
    lab.act(create()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("repository.credentials");
    std::fs::write(&file, "the key in use").expect("the temporary folder is writable");
    let failure = lab.fail(here(&file)).await;
    assert!(failure.what.contains("deleted again"), "{failure:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file is still there"), "the key in use");
    let user: User = lab.see(probe()).await;
    assert_eq!(user.keys, []);
}

#[tokio::test]
async fn a_key_is_handed_to_its_host_or_deleted_again() {
    let Some(lab) = Account::new("a_key_is_handed_to_its_host_or_deleted_again").await else { return };
    lab.act(create()).await;
    let step = create_key(KeyDelivery::HostFile {
        server: "db".to_owned(),
        path: "/etc/seawall/repository.credentials".to_owned(),
        group: "postgres".to_owned(),
    });
    let got = Mutex::new(Vec::new());
    let host_is_full = |server: String, path: String, group: String, bytes: Secret<Vec<u8>>| {
        got.lock().expect("no test panics with it").push((server, path, group, bytes.reveal().clone()));
        async {
            Err(Failure {
                what: "db: no space left".to_owned(),
                position: None,
                code: None,
                hint: Some("make space".to_owned()),
            })
        }
    };
    let failure = lab.aws.act(&step, &host_is_full).await.expect_err("the host has no space");
    assert!(failure.what.contains("no space left") && failure.what.contains("deleted again"), "{failure:?}");
    assert_eq!(failure.hint.as_deref(), Some("make space"));
    let (_, lost) = read_key(&String::from_utf8(got.lock().expect("no panic")[0].3.clone()).expect("text"));
    assert!(!format!("{failure:?}").contains(&lost), "the secret is in the failure");
    let user: User = lab.see(probe()).await;
    assert_eq!(user.keys, []);

    let keep = |server: String, path: String, group: String, bytes: Secret<Vec<u8>>| {
        got.lock().expect("no test panics with it").push((server, path, group, bytes.reveal().clone()));
        async { Ok(()) }
    };
    lab.aws.act(&step, &keep).await.expect("the host takes it");
    let (server, path, group, bytes) = got.lock().expect("no panic")[1].clone();
    assert_eq!(
        (server.as_str(), path.as_str(), group.as_str()),
        ("db", "/etc/seawall/repository.credentials", "postgres")
    );
    let (id, _) = read_key(&String::from_utf8(bytes).expect("text"));
    let user: User = lab.see(probe()).await;
    assert_eq!(user.keys[0].id, id);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_does_not_show_the_secret_in_it() {
    const LEAKY: &str = "poison-secret-half-of-a-new-key";
    let garbled = format!(
        "<CreateAccessKeyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><CreateAccessKeyResult><AccessKey>\
         <UserName>u</UserName><AccessKeyId>AKIANEW</AccessKeyId><SecretAccessKey>{LEAKY}</SecretAccessKey>\
         <CreateDate>no date</CreateDate></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>"
    );
    let iam = Front::new(None, move |_, _| Some((200, garbled.clone()))).await;
    let aws = connect(&iam.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let failure = aws.act(&here(&folder.path().join("k")), &nowhere).await.expect_err("a key has a date");
    let text = format!("{failure:?}");
    assert!(!text.contains(LEAKY) && !text.contains("111, 105, 115, 111, 110"), "{text}");
    assert!(failure.what.contains("not known"), "a key may exist: {text}");
}
