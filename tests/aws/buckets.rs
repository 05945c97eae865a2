//! Buckets: all parts of one, what others do to them, and buckets that are not ours.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration,
    LifecycleRule as SdkRule, LifecycleRuleFilter, Tag, Transition, TransitionStorageClass, VersioningConfiguration,
};
use futures::StreamExt as _;
use seawall::plan::cloud::{Bucket, Census, LifecycleRule, ObjectLock, TAG_ENVIRONMENT, Tags};
use seawall::plan::probe::CloudProbe;
use seawall::plan::step::CloudStep;
use seawall::reach::aws::store::StoreError;
use serde_json::{Value, json};

use crate::aws::{Account, REGION, SECRET, connect, connect_with, refused, tags};
use crate::support::front::{Asked, Front};

/// More versions than fit on one page of a listing, which has a thousand.
const OBJECTS: usize = 1_030;

fn probe(name: &str) -> CloudProbe {
    CloudProbe::Bucket { name: name.to_owned() }
}

fn create(name: &str) -> CloudStep {
    CloudStep::CreateBucket { name: name.to_owned(), region: REGION.to_owned(), tags: Tags::new() }
}

fn only_tls(name: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "OnlyTls", "Effect": "Deny", "Principal": { "AWS": "arn:aws:iam::999999999999:root" }, "Action": "s3:*",
        "Resource": [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")],
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    }] })
}

fn rules() -> BTreeMap<String, LifecycleRule> {
    let uploads = LifecycleRule { enabled: true, abort_incomplete_days: Some(7), ..LifecycleRule::default() };
    let versions = LifecycleRule {
        enabled: true,
        noncurrent_days: Some(30),
        expired_delete_marker: true,
        prefix: "repo/".to_owned(),
        ..LifecycleRule::default()
    };
    let exports = LifecycleRule {
        enabled: true,
        prefix: "exports/".to_owned(),
        transitions: BTreeMap::from([("GLACIER_IR".to_owned(), 31), ("DEEP_ARCHIVE".to_owned(), 121)]),
        expire_days: Some(365),
        ..LifecycleRule::default()
    };
    let rules =
        [("seawall-abort-uploads", uploads), ("seawall-old-versions", versions), ("seawall-age-exports", exports)];
    rules.map(|(id, rule)| (id.to_owned(), rule)).into()
}

/// Every step that makes a whole bucket.
fn whole(name: &str) -> Vec<CloudStep> {
    let name = name.to_owned();
    vec![
        create(&name),
        CloudStep::PutBucketTags { name: name.clone(), tags: tags([(TAG_ENVIRONMENT, "chronos"), ("team", "data")]) },
        CloudStep::BlockBucketPublicAccess { name: name.clone() },
        CloudStep::PutBucketOwnership { name: name.clone() },
        CloudStep::PutBucketEncryption { name: name.clone() },
        CloudStep::PutBucketVersioning { name: name.clone(), enabled: true },
        CloudStep::PutBucketPolicy { name: name.clone(), policy: only_tls(&name) },
        CloudStep::PutBucketLifecycle { name, rules: rules() },
    ]
}

fn wanted(name: &str) -> Bucket {
    Bucket {
        name: name.to_owned(),
        region: REGION.to_owned(),
        versioning: "Enabled".to_owned(),
        encryption: "AES256".to_owned(),
        public_access_blocked: true,
        ownership: "BucketOwnerEnforced".to_owned(),
        policy: Some(only_tls(name)),
        lifecycle: rules(),
        object_lock: None,
        tags: tags([(TAG_ENVIRONMENT, "chronos"), ("team", "data")]),
    }
}

#[tokio::test]
async fn a_bucket_from_nothing_to_nothing() {
    let name = "seawall-test-whole";
    let Some(lab) = Account::new("a_bucket_from_nothing_to_nothing").await else { return };
    assert!(lab.is_absent(&probe(name)).await);
    for step in whole(name) {
        lab.act(step).await;
    }
    let made: Bucket = lab.see(probe(name)).await;
    assert_eq!(made, wanted(name));
    for step in whole(name) {
        lab.act(step).await;
    }
    let again: Bucket = lab.see(probe(name)).await;
    assert_eq!(again, made, "doing it twice changes nothing");

    lab.act(CloudStep::DeleteBucketPolicy { name: name.to_owned() }).await;
    lab.act(CloudStep::DeleteBucketLifecycle { name: name.to_owned() }).await;
    lab.act(CloudStep::PutBucketVersioning { name: name.to_owned(), enabled: false }).await;
    let bare: Bucket = lab.see(probe(name)).await;
    let expected =
        Bucket { policy: None, lifecycle: BTreeMap::new(), versioning: "Suspended".to_owned(), ..wanted(name) };
    assert_eq!(bare, expected);

    for _ in 0..2 {
        lab.act(CloudStep::DeleteBucket { name: name.to_owned() }).await;
        assert!(lab.is_absent(&probe(name)).await);
    }
    lab.act(CloudStep::EmptyBucket { name: name.to_owned() }).await;
    lab.act(CloudStep::DeleteBucketPolicy { name: name.to_owned() }).await;
}

#[tokio::test]
async fn what_others_change_is_seen() {
    let name = "seawall-test-tampered";
    let Some(lab) = Account::new("what_others_change_is_seen").await else { return };
    for step in whole(name) {
        lab.act(step).await;
    }
    let s3 = lab.s3();
    s3.delete_public_access_block().bucket(name).send().await.expect("others may do this");
    s3.delete_bucket_ownership_controls().bucket(name).send().await.expect("others may do this");
    s3.delete_bucket_policy().bucket(name).send().await.expect("others may do this");
    s3.delete_bucket_tagging().bucket(name).send().await.expect("others may do this");
    let suspended = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    s3.put_bucket_versioning()
        .bucket(name)
        .versioning_configuration(suspended)
        .send()
        .await
        .expect("others may do this");
    let seen: Bucket = lab.see(probe(name)).await;
    let expected = Bucket {
        public_access_blocked: false,
        ownership: "none".to_owned(),
        policy: None,
        tags: tags([]),
        versioning: "Suspended".to_owned(),
        ..wanted(name)
    };
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn lifecycle_rules_of_others_are_put_into_words_and_never_overwritten() {
    let name = "seawall-test-lifecycle";
    let Some(lab) = Account::new("lifecycle_rules_of_others_are_put_into_words_and_never_overwritten").await else {
        return;
    };
    lab.act(create(name)).await;
    let glacier = Transition::builder().days(90).storage_class(TransitionStorageClass::Glacier).build();
    let rule = |id: &str| SdkRule::builder().id(id).status(ExpirationStatus::Enabled);
    let everything = LifecycleRuleFilter::builder().prefix("").build();
    let freeze = rule("freeze").filter(everything.clone()).transitions(glacier).build().expect("complete");
    let expire = LifecycleExpiration::builder().days(365).build();
    let expire = rule("expire").filter(everything).expiration(expire).build().expect("complete");
    let put = async |all: Vec<SdkRule>| {
        let config = BucketLifecycleConfiguration::builder().set_rules(Some(all)).build().expect("complete");
        let put = lab.s3().put_bucket_lifecycle_configuration().bucket(name).lifecycle_configuration(config);
        put.send().await.expect("others may do this");
    };
    put(vec![freeze.clone(), expire.clone()]).await;

    // What can be put back as it was is kept beside ours.
    let seen: Bucket = lab.see(probe(name)).await;
    assert_eq!(seen.lifecycle["freeze"].transitions, BTreeMap::from([("GLACIER".to_owned(), 90)]), "{seen:?}");
    assert_eq!(seen.lifecycle["expire"].expire_days, Some(365), "{seen:?}");
    let mut all = rules();
    all.extend(seen.lifecycle.clone());
    lab.act(CloudStep::PutBucketLifecycle { name: name.to_owned(), rules: all.clone() }).await;
    let after: Bucket = lab.see(probe(name)).await;
    assert_eq!(after.lifecycle, all);

    // What cannot is put into words, and keeps ours from being written.
    let tag = LifecycleRuleFilter::builder().tag(Tag::builder().key("team").value("data").build().expect("complete"));
    let days = LifecycleExpiration::builder().days(1).build();
    let tagged = rule("tagged").filter(tag.build()).expiration(days).build().expect("complete");
    put(vec![freeze, tagged]).await;
    let seen: Bucket = lab.see(probe(name)).await;
    let words = seen.lifecycle["tagged"].other.clone().unwrap_or_default();
    assert!(words.contains("filter by tag"), "{seen:?}");
    let mut all = rules();
    all.extend(seen.lifecycle.clone());
    let failure = lab.fail(CloudStep::PutBucketLifecycle { name: name.to_owned(), rules: all }).await;
    assert!(failure.what.contains("nothing was changed"), "{failure:?}");
    let after: Bucket = lab.see(probe(name)).await;
    assert_eq!(after, seen);
}

#[tokio::test]
async fn a_bucket_of_somebody_else_is_neither_absent_nor_ours() {
    let name = "seawall-test-of-somebody-else";
    let Some(theirs) = Account::new("a_bucket_of_somebody_else_is_neither_absent_nor_ours").await else { return };
    theirs.act(create(name)).await;
    let Some(ours) = Account::new("a_bucket_of_somebody_else_is_neither_absent_nor_ours").await else { return };
    let why = refused(ours.aws.ask(&probe(name)).await);
    assert!(why.contains(name) && why.contains(&ours.number), "{why}");

    let failure = ours.fail(create(name)).await;
    assert_eq!(failure.code.as_deref(), Some("BucketAlreadyExists"));
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("belongs to somebody else")), "{failure:?}");
    ours.fail(CloudStep::PutBucketVersioning { name: name.to_owned(), enabled: true }).await;
    ours.fail(CloudStep::DeleteBucket { name: name.to_owned() }).await;
    let unseen = ours.aws.bucket_exists(name).await.expect_err("it is not ours to keep locks in, and not absent");
    assert!(matches!(unseen, StoreError::NotSeen { .. }) && unseen.to_string().contains(name), "{unseen}");
    theirs.act(create(name)).await;
    let untouched: Bucket = theirs.see(probe(name)).await;
    assert_eq!(untouched.versioning, "Off");
}

#[tokio::test]
async fn every_call_names_the_account_that_must_own_the_bucket() {
    let name = "seawall-test-owner-named";
    let Some(lab) = Account::new("every_call_names_the_account_that_must_own_the_bucket").await else { return };
    let front = Front::new(Some(&lab.endpoint), |_, _| None).await;
    let aws = connect(&front.endpoint, &lab.number, REGION, &lab.number, SECRET).await;
    let lab = Account { number: lab.number, endpoint: front.endpoint.clone(), aws };
    for step in whole(name) {
        lab.act(step).await;
    }
    let _: Bucket = lab.see(probe(name)).await;
    for _ in 0..2 {
        lab.aws.put_if_absent(name, "lock", b"mine").await.expect("the bucket is there");
    }
    lab.aws.put_object(name, "journal", b"done").await.expect("the bucket is there");
    let lock = lab.aws.get_object(name, "lock").await.expect("the bucket is there").expect("it was just put");
    assert!(lab.aws.delete_if_match(name, "lock", &lock.etag).await.expect("the bucket is there"));
    assert!(lab.aws.bucket_exists(name).await.expect("AWS answers"));
    lab.act(CloudStep::DeleteBucketPolicy { name: name.to_owned() }).await;
    lab.act(CloudStep::DeleteBucketLifecycle { name: name.to_owned() }).await;
    lab.act(CloudStep::EmptyBucket { name: name.to_owned() }).await;
    lab.act(CloudStep::DeleteBucket { name: name.to_owned() }).await;
    let asked = front.asked();
    let nameless = asked.iter().filter(|asked| asked.owner.as_deref() != Some(&lab.number));
    let nameless: Vec<&str> = nameless.map(|asked| asked.what.as_str()).collect();
    assert!(asked.len() > 25, "{asked:?}");
    assert_eq!(nameless, [format!("PUT /{name}/")], "only the creation cannot name an owner");
}

#[tokio::test]
async fn a_bucket_in_another_region_is_asked_there_and_counted_once() {
    let names = ["seawall-test-here", "seawall-test-elsewhere"];
    let regions = [REGION, "eu-west-1"];
    let Some(lab) = Account::new("a_bucket_in_another_region_is_asked_there").await else { return };
    let empty = ["GetInstances", "GetStaticIps", "GetKeyPairs"];
    let lightsail = move |asked: &Asked, _| empty.contains(&asked.what.as_str()).then(|| (200, "{}".to_owned()));
    let front = Front::new(Some(&lab.endpoint), lightsail).await;
    let buckets = BTreeMap::from([(names[1].to_owned(), regions[1].to_owned())]);
    let aws = connect_with(&front.endpoint, &lab.number, REGION, &lab.number, SECRET, buckets).await;
    let lab = Account { number: lab.number, endpoint: front.endpoint.clone(), aws };
    for (name, region) in names.into_iter().zip(regions) {
        let tags = tags([(TAG_ENVIRONMENT, "regions")]);
        lab.act(CloudStep::CreateBucket { name: name.to_owned(), region: region.to_owned(), tags: tags.clone() }).await;
        lab.act(CloudStep::PutBucketTags { name: name.to_owned(), tags }).await;
        let seen: Bucket = lab.see(probe(name)).await;
        assert_eq!(seen.region, region);
    }
    let told = front.asked();
    for (name, region) in names.into_iter().zip(regions) {
        let about: Vec<_> = told.iter().filter(|asked| asked.what.contains(name)).collect();
        assert!(about.len() > 5, "{about:?}");
        assert!(about.iter().all(|asked| asked.region.as_deref() == Some(region)), "{about:?}");
    }
    let census: Census = lab.see(CloudProbe::Census { environment: "regions".to_owned() }).await;
    let mut counted: Vec<&str> =
        census.entries.iter().filter(|one| one.kind == "s3.bucket").map(|one| one.name.as_str()).collect();
    counted.sort_unstable();
    assert_eq!(counted, [names[1], names[0]]);
    let lists: Vec<_> = front.asked().into_iter().filter(|asked| asked.what.contains("bucket-region=")).collect();
    for region in regions {
        let there = lists.iter().filter(|asked| asked.what.contains(&format!("bucket-region={region}")));
        assert!(there.count() == 1, "{lists:?}");
    }
}

#[tokio::test]
async fn a_full_bucket_is_kept_until_it_is_emptied_of_every_version() {
    let name = "seawall-test-full";
    let Some(lab) = Account::new("a_full_bucket_is_kept_until_it_is_emptied_of_every_version").await else { return };
    lab.act(create(name)).await;
    lab.act(CloudStep::PutBucketVersioning { name: name.to_owned(), enabled: true }).await;
    let s3 = lab.s3();
    let puts = futures::stream::iter(0..OBJECTS).map(|number| {
        let put = s3.put_object().bucket(name).key(format!("repo/{number}")).body(Vec::from("x").into());
        async move { put.send().await.map(|_| ()) }
    });
    let put: Vec<_> = puts.buffer_unordered(16).collect().await;
    assert!(put.iter().all(Result::is_ok));
    s3.delete_object().bucket(name).key("repo/0").send().await.expect("leaves a marker");

    let failure = lab.fail(CloudStep::DeleteBucket { name: name.to_owned() }).await;
    assert_eq!(failure.code.as_deref(), Some("BucketNotEmpty"));
    assert!(failure.hint.is_some(), "{failure:?}");
    lab.act(CloudStep::EmptyBucket { name: name.to_owned() }).await;
    let left = s3.list_object_versions().bucket(name).send().await.expect("the bucket is there");
    assert!(left.versions().is_empty() && left.delete_markers().is_empty());
    lab.act(CloudStep::DeleteBucket { name: name.to_owned() }).await;
    assert!(lab.is_absent(&probe(name)).await);
}

#[tokio::test]
async fn a_bucket_is_ours_from_its_first_moment() {
    let name = "seawall-test-first-moment";
    let Some(lab) = Account::new("a_bucket_is_ours_from_its_first_moment").await else { return };
    for region in [REGION, "us-east-1"] {
        let lab = Account::at(&lab.endpoint, region).await;
        let tags = Tags::from([(TAG_ENVIRONMENT.to_owned(), "test".to_owned())]);
        lab.act(CloudStep::CreateBucket { name: name.to_owned(), region: region.to_owned(), tags: tags.clone() }).await;
        let made: Bucket = lab.see(probe(name)).await;
        assert_eq!((made.region.as_str(), made.tags), (region, tags));
        lab.act(CloudStep::DeleteBucket { name: name.to_owned() }).await;
    }
}

#[tokio::test]
async fn the_oldest_region_is_not_named_at_creation() {
    let name = "seawall-test-oldest-region";
    let Some(lab) = Account::new("the_oldest_region_is_not_named_at_creation").await else { return };
    let lab = Account::at(&lab.endpoint, "us-east-1").await;
    lab.act(CloudStep::CreateBucket { name: name.to_owned(), region: "us-east-1".to_owned(), tags: Tags::new() }).await;
    let made: Bucket = lab.see(probe(name)).await;
    assert_eq!(made.region, "us-east-1");
}

#[tokio::test]
async fn nothing_that_we_print_of_a_client_shows_its_secret() {
    let aws = connect("http://127.0.0.1:9", "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    assert!(!format!("{aws:?}").contains(SECRET));
}

#[tokio::test]
async fn what_a_locked_bucket_holds_can_be_hidden_and_not_ended() {
    let name = "seawall-test-locked";
    let Some(lab) = Account::new("what_a_locked_bucket_holds").await else { return };
    for step in whole(name) {
        lab.act(step).await;
    }
    let lock = |days| ObjectLock { mode: "GOVERNANCE".to_owned(), days };
    // On a bucket that is there already, twice, and then for longer.
    for days in [7, 7, 30] {
        lab.act(CloudStep::PutBucketObjectLock { name: name.to_owned(), lock: lock(days) }).await;
        assert_eq!(lab.see::<Bucket>(probe(name)).await, Bucket { object_lock: Some(lock(days)), ..wanted(name) });
    }
    let s3 = lab.s3();
    let kept = s3.put_object().bucket(name).key("repo/archive.info").body(b"kept".to_vec().into());
    let version = kept.send().await.expect("it is written").version_id.expect("its version");
    s3.delete_object().bucket(name).key("repo/archive.info").send().await.expect("a marker is made");
    let ended = s3.delete_object().bucket(name).key("repo/archive.info").version_id(&version).send().await;
    assert!(ended.is_err(), "the version is locked");
    let failure = lab.fail(CloudStep::EmptyBucket { name: name.to_owned() }).await;
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("object_lock")), "{failure:?}");
    let there = s3.get_object().bucket(name).key("repo/archive.info").version_id(&version).send().await;
    let body = there.expect("the version is there").body.collect().await.expect("its bytes");
    assert_eq!(body.into_bytes().as_ref(), b"kept");
}
