//! Steps in S3. Every call names the account that must own the bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, DefaultRetention, Delete, ExpirationStatus, LifecycleExpiration, LifecycleRule as Rule,
    LifecycleRuleFilter, NoncurrentVersionExpiration, ObjectIdentifier, ObjectLockConfiguration, ObjectLockEnabled,
    ObjectLockRetentionMode, ObjectLockRule, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging, Transition, TransitionStorageClass,
    VersioningConfiguration,
};
use serde_json::Value;

use crate::plan::cloud::{LifecycleRule, ObjectLock, Tags};
use crate::reach::Failure;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, done, gone};

/// The region that must not be named at creation (S3's oldest).
const FIRST_REGION: &str = "us-east-1";
/// Pages of a thousand versions that one emptying deletes. Ten million objects are not emptied by a command line.
const MOST_PAGES: usize = 10_000;

/// Request types are built from values that are all set; a builder that misses one is a fault of this program.
const COMPLETE: &str = "every required field was set just above";

fn sdk_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build().expect(COMPLETE)).collect()
}

impl Aws {
    pub(super) async fn put_policy(&self, what: &str, name: &str, policy: &Value) -> Result<(), Failure> {
        let call = self.s3.put_bucket_policy().bucket(name).expected_bucket_owner(&self.account);
        let sent = call.policy(policy.to_string()).send().await;
        done("s3:PutBucketPolicy", what, sent).map(|_| ())
    }

    pub(super) async fn delete_policy(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.s3.delete_bucket_policy().bucket(name).expected_bucket_owner(&self.account);
        gone("s3:DeleteBucketPolicy", what, call.send().await)
    }

    pub(super) async fn delete_lifecycle(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.s3.delete_bucket_lifecycle().bucket(name).expected_bucket_owner(&self.account);
        gone("s3:PutLifecycleConfiguration", what, call.send().await)
    }

    pub(super) async fn create_bucket(&self, what: &str, name: &str, region: &str, tags: &Tags) -> Result<(), Failure> {
        let place = (region != FIRST_REGION).then(|| BucketLocationConstraint::from(region));
        let tags = (!tags.is_empty()).then(|| sdk_tags(tags));
        // The first region is the one that is not named; a configuration that says nothing is not sent.
        let config = (place.is_some() || tags.is_some())
            .then(|| CreateBucketConfiguration::builder().set_location_constraint(place).set_tags(tags).build());
        let call = self.s3.create_bucket().bucket(name).set_create_bucket_configuration(config);
        let fault = match call.send().await {
            Ok(_) => return Ok(()),
            Err(error) => Fault::of("s3:CreateBucket", &error),
        };
        // Ours already: a first try whose answer was lost.
        if fault.has_code("BucketAlreadyOwnedByYou") {
            return Ok(());
        }
        let mut failure = fault.failure(what);
        if fault.has_code("BucketAlreadyExists") {
            failure.hint = Some(format!(
                "bucket names are unique in the world and `{name}` belongs to somebody else: give the bucket another name"
            ));
        }
        Err(failure)
    }

    pub(super) async fn put_versioning(&self, what: &str, name: &str, enabled: bool) -> Result<(), Failure> {
        let status = if enabled { BucketVersioningStatus::Enabled } else { BucketVersioningStatus::Suspended };
        let config = VersioningConfiguration::builder().status(status).build();
        let call = self.s3.put_bucket_versioning().bucket(name).expected_bucket_owner(&self.account);
        done("s3:PutBucketVersioning", what, call.versioning_configuration(config).send().await).map(|_| ())
    }

    pub(super) async fn put_object_lock(&self, what: &str, name: &str, lock: &ObjectLock) -> Result<(), Failure> {
        let default = DefaultRetention::builder().mode(ObjectLockRetentionMode::from(lock.mode.as_str()));
        let rule = ObjectLockRule::builder().default_retention(default.days(lock.days).build()).build();
        let config =
            ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
        let call = self.s3.put_object_lock_configuration().bucket(name).expected_bucket_owner(&self.account);
        done("s3:PutBucketObjectLockConfiguration", what, call.object_lock_configuration(config).send().await)
            .map(|_| ())
    }

    pub(super) async fn put_encryption(&self, what: &str, name: &str) -> Result<(), Failure> {
        let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build();
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default.expect(COMPLETE))
            .build();
        let config = ServerSideEncryptionConfiguration::builder().rules(rule).build().expect(COMPLETE);
        let call = self.s3.put_bucket_encryption().bucket(name).expected_bucket_owner(&self.account);
        let sent = call.server_side_encryption_configuration(config).send().await;
        done("s3:PutEncryptionConfiguration", what, sent).map(|_| ())
    }

    pub(super) async fn block_public_access(&self, what: &str, name: &str) -> Result<(), Failure> {
        let config = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true)
            .build();
        let call = self.s3.put_public_access_block().bucket(name).expected_bucket_owner(&self.account);
        let sent = call.public_access_block_configuration(config).send().await;
        done("s3:PutBucketPublicAccessBlock", what, sent).map(|_| ())
    }

    pub(super) async fn put_ownership(&self, what: &str, name: &str) -> Result<(), Failure> {
        let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::BucketOwnerEnforced).build();
        let config = OwnershipControls::builder().rules(rule.expect(COMPLETE)).build().expect(COMPLETE);
        let call = self.s3.put_bucket_ownership_controls().bucket(name).expected_bucket_owner(&self.account);
        done("s3:PutBucketOwnershipControls", what, call.ownership_controls(config).send().await).map(|_| ())
    }

    pub(super) async fn put_lifecycle(
        &self,
        what: &str,
        name: &str,
        rules: &BTreeMap<String, LifecycleRule>,
    ) -> Result<(), Failure> {
        // What we do not model cannot be put back as it was; replacing the document would lose it.
        if let Some((id, _)) = rules.iter().find(|(_, rule)| rule.other.is_some()) {
            return Err(Failure::new(format!(
                    "could not {what}: rule `{id}` is not ours and holds more than Seawall can keep; nothing was changed by it"
                )).hint("remove that rule, or move it to another bucket, and apply again"));
        }
        let rules: Vec<Rule> = rules.iter().map(|(id, rule)| sdk_rule(id, rule)).collect();
        let config = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().expect(COMPLETE);
        let call = self.s3.put_bucket_lifecycle_configuration().bucket(name).expected_bucket_owner(&self.account);
        done("s3:PutLifecycleConfiguration", what, call.lifecycle_configuration(config).send().await).map(|_| ())
    }

    pub(super) async fn put_tags(&self, what: &str, name: &str, tags: &Tags) -> Result<(), Failure> {
        let tagging = Tagging::builder().set_tag_set(Some(sdk_tags(tags))).build().expect(COMPLETE);
        let call = self.s3.put_bucket_tagging().bucket(name).expected_bucket_owner(&self.account);
        done("s3:PutBucketTagging", what, call.tagging(tagging).send().await).map(|_| ())
    }

    pub(super) async fn empty(&self, what: &str, name: &str) -> Result<(), Failure> {
        for _ in 0..MOST_PAGES {
            let call = self.s3.list_object_versions().bucket(name).expected_bucket_owner(&self.account);
            let page = match call.send().await {
                Ok(page) => page,
                Err(error) => {
                    let fault = Fault::of("s3:ListBucketVersions", &error);
                    return if fault.is_not_there() { Ok(()) } else { Err(fault.failure(what)) };
                }
            };
            let versions = page.versions().iter().map(|v| (v.key(), v.version_id()));
            let markers = page.delete_markers().iter().map(|m| (m.key(), m.version_id()));
            let objects: Vec<ObjectIdentifier> = versions
                .chain(markers)
                .filter_map(|(key, version)| {
                    ObjectIdentifier::builder().key(key?).set_version_id(version.map(str::to_owned)).build().ok()
                })
                .collect();
            if objects.is_empty() {
                return Ok(());
            }
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().expect(COMPLETE);
            let call = self.s3.delete_objects().bucket(name).expected_bucket_owner(&self.account);
            let answer = done("s3:DeleteObjects", what, call.delete(delete).send().await)?;
            if let Some(error) = answer.errors().first() {
                return Err(Failure {
                    what: format!(
                        "could not {what}: {} stays: {}; other objects are gone",
                        error.key().unwrap_or("an object"),
                        error.message().unwrap_or("no reason was given")
                    ),
                    position: None,
                    code: error.code().map(str::to_owned),
                    hint: (error.code() == Some("AccessDenied")).then(|| {
                        "where the bucket has `object_lock`, a version stays until its days are over".to_owned()
                    }),
                });
            }
        }
        Err(Failure::new(format!("could not {what}: it holds more than {MOST_PAGES} pages of versions"))
            .hint("empty it with a lifecycle rule first"))
    }

    pub(super) async fn delete_bucket(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.s3.delete_bucket().bucket(name).expected_bucket_owner(&self.account);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let fault = Fault::of("s3:DeleteBucket", &error);
                if fault.is_not_there() {
                    return Ok(());
                }
                let mut failure = fault.failure(what);
                if fault.has_code("BucketNotEmpty") {
                    failure.hint = Some("it still holds objects or old versions".to_owned());
                }
                Err(failure)
            }
        }
    }
}

fn sdk_rule(id: &str, rule: &LifecycleRule) -> Rule {
    let status = if rule.enabled { ExpirationStatus::Enabled } else { ExpirationStatus::Disabled };
    let abort = rule
        .abort_incomplete_days
        .map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build());
    let versions =
        rule.noncurrent_days.map(|days| NoncurrentVersionExpiration::builder().noncurrent_days(days).build());
    // S3 takes one of the two: a rule with days clears its delete markers by itself.
    let expiration = match rule.expire_days {
        Some(days) => Some(LifecycleExpiration::builder().days(days).build()),
        None => rule
            .expired_delete_marker
            .then(|| LifecycleExpiration::builder().expired_object_delete_marker(true).build()),
    };
    let transitions = rule.transitions.iter().map(|(class, days)| {
        Transition::builder().days(*days).storage_class(TransitionStorageClass::from(class.as_str())).build()
    });
    let transitions: Vec<Transition> = transitions.collect();
    Rule::builder()
        .id(id)
        .status(status)
        .filter(LifecycleRuleFilter::builder().prefix(&rule.prefix).build())
        .set_abort_incomplete_multipart_upload(abort)
        .set_noncurrent_version_expiration(versions)
        .set_expiration(expiration)
        .set_transitions((!transitions.is_empty()).then_some(transitions))
        .build()
        .expect(COMPLETE)
}
