//! Small objects with one atomic operation, from which locks and single use are made.

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use seawall::plan::cloud::Tags;
use seawall::plan::step::CloudStep;
use seawall::reach::aws::store::Put;

use crate::aws::{Account, REGION, SECRET, connect};
use crate::support::front::{Front, LOST};

/// As many operators as a busy CI matrix has.
const RACERS: usize = 8;
const ROUNDS: usize = 5;
const BUCKET: &str = "seawall-test-store";

async fn lab(test: &str, bucket: &str) -> Option<Account> {
    let lab = Account::new(test).await?;
    lab.act(CloudStep::CreateBucket { name: bucket.to_owned(), region: REGION.to_owned(), tags: Tags::new() }).await;
    Some(lab)
}

#[tokio::test]
async fn one_of_many_wins_and_the_others_see_whose_it_is() {
    let Some(lab) = lab("one_of_many_wins_and_the_others_see_whose_it_is", BUCKET).await else { return };
    for round in 0..ROUNDS {
        let key = format!("chronos-prod/lock-{round}");
        let race = (0..RACERS).map(|racer| {
            let (aws, key) = (lab.aws.clone(), key.clone());
            tokio::spawn(async move { (racer, aws.put_if_absent(BUCKET, &key, racer.to_string().as_bytes()).await) })
        });
        let mut winner = None;
        let mut seen = Vec::new();
        for result in futures::future::join_all(race).await {
            let (racer, put) = result.expect("no racer panics");
            match put.expect("every racer gets an answer") {
                Put::Created => assert_eq!(winner.replace(racer), None, "two winners in round {round}"),
                Put::Exists(bytes) => seen.push(bytes),
            }
        }
        let winner = winner.expect("one racer wins").to_string();
        assert_eq!(seen, vec![winner.into_bytes(); RACERS - 1]);
    }
}

#[tokio::test]
async fn of_many_with_the_same_content_one_wins() {
    let bucket = "seawall-test-store-same";
    let Some(lab) = lab("of_many_with_the_same_content_one_wins", bucket).await else { return };
    let race = (0..RACERS).map(|_| lab.aws.put_if_absent(bucket, "used/plan", b"used"));
    let puts = futures::future::try_join_all(race).await.expect("every racer gets an answer");
    assert_eq!(puts.iter().filter(|put| **put == Put::Created).count(), 1, "a plan is used once: {puts:?}");
}

#[tokio::test]
async fn who_won_and_lost_the_answer_still_won() {
    let bucket = "seawall-test-store-lost";
    let Some(lab) = lab("who_won_and_lost_the_answer_still_won", bucket).await else { return };
    let front = Front::new(Some(&lab.endpoint), |asked, before| {
        (asked.what.starts_with("PUT") && before == 0).then(|| (LOST, String::new()))
    })
    .await;
    let aws = connect(&front.endpoint, &lab.number, REGION, &lab.number, SECRET).await;
    assert_eq!(aws.put_if_absent(bucket, "lock", b"mine").await.expect("the bucket is there"), Put::Created);
    assert!(front.asked().len() >= 3, "put, put again, look: {:?}", front.asked());
    assert_eq!(lab.aws.put_if_absent(bucket, "lock", b"mine").await.expect("there"), Put::Exists(b"mine".to_vec()));
}

#[tokio::test]
async fn objects_are_deleted_only_as_they_were_read() {
    let bucket = "seawall-test-store-etag";
    let Some(lab) = lab("objects_are_deleted_only_as_they_were_read", bucket).await else { return };
    let aws = &lab.aws;
    assert!(aws.get_object(bucket, "lock").await.expect("the bucket is there").is_none());
    assert_eq!(aws.put_if_absent(bucket, "lock", b"mine").await.expect("the bucket is there"), Put::Created);
    let mine = aws.get_object(bucket, "lock").await.expect("the bucket is there").expect("it was just put");
    assert_eq!(mine.bytes, b"mine");

    aws.put_object(bucket, "lock", b"theirs").await.expect("the bucket is there");
    assert!(
        !aws.delete_if_match(bucket, "lock", &mine.etag).await.expect("the bucket is there"),
        "it is theirs by now"
    );
    let theirs = aws.get_object(bucket, "lock").await.expect("the bucket is there").expect("it is still there");
    assert_eq!(theirs.bytes, b"theirs");
    assert!(aws.delete_if_match(bucket, "lock", &theirs.etag).await.expect("the bucket is there"));
    assert!(aws.get_object(bucket, "lock").await.expect("the bucket is there").is_none());
    assert!(
        !aws.delete_if_match(bucket, "lock", &theirs.etag).await.expect("the bucket is there"),
        "it is gone already"
    );
    assert_eq!(aws.put_if_absent(bucket, "lock", b"again").await.expect("the bucket is there"), Put::Created);
}

#[tokio::test]
async fn a_lock_is_free_again_in_a_versioned_bucket() {
    let bucket = "seawall-test-store-versioned";
    let Some(lab) = lab("a_lock_is_free_again_in_a_versioned_bucket", bucket).await else { return };
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    lab.s3()
        .put_bucket_versioning()
        .bucket(bucket)
        .versioning_configuration(enabled)
        .send()
        .await
        .expect("versions are kept");
    assert_eq!(lab.aws.put_if_absent(bucket, "lock", b"one").await.expect("the bucket is there"), Put::Created);
    let one = lab.aws.get_object(bucket, "lock").await.expect("the bucket is there").expect("it was just put");
    assert!(lab.aws.delete_if_match(bucket, "lock", &one.etag).await.expect("the bucket is there"));
    assert_eq!(lab.aws.put_if_absent(bucket, "lock", b"two").await.expect("the bucket is there"), Put::Created);
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let Some(lab) = Account::new("a_missing_bucket_is_no_missing_object").await else { return };
    let bucket = "seawall-test-never-made";
    assert!(!lab.aws.bucket_exists(bucket).await.expect("AWS answers"));
    assert!(lab.aws.get_object(bucket, "lock").await.is_err());
    assert!(lab.aws.put_if_absent(bucket, "lock", b"x").await.is_err());
    assert!(lab.aws.put_object(bucket, "lock", b"x").await.is_err());
    let error = lab.aws.get_object(bucket, "lock").await.expect_err("there is no such bucket");
    assert!(error.to_string().contains(bucket), "the bucket is named: {error}");
    lab.act(CloudStep::CreateBucket { name: bucket.to_owned(), region: REGION.to_owned(), tags: Tags::new() }).await;
    assert!(lab.aws.bucket_exists(bucket).await.expect("AWS answers"));
}

#[tokio::test]
async fn conflicts_between_writers_are_ridden_out_but_not_for_ever() {
    const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code><Message>two at once</Message></Error>";
    const LOCK: &str = "/bucket/lock";
    let twice = Front::new(None, |asked, before| {
        assert!(asked.what.starts_with("PUT") && asked.what.contains(LOCK), "{asked:?}");
        Some(if before < 2 { (409, CONFLICT.to_owned()) } else { (200, String::new()) })
    })
    .await;
    let aws = connect(&twice.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    assert_eq!(aws.put_if_absent("bucket", "lock", b"mine").await.expect("the third try wins"), Put::Created);
    assert_eq!(twice.asked().len(), 3);

    let always = Front::new(None, |_, _| Some((409, CONFLICT.to_owned()))).await;
    let aws = connect(&always.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    let error = aws.put_if_absent("bucket", "lock", b"mine").await.expect_err("nobody ever wins");
    assert!(always.asked().len() > 2, "{:?}", always.asked());
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
}
