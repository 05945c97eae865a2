//! S3's answers as one state document per bucket. Every call names the account that must own the bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule as Rule};
use serde_json::Value;

use crate::plan::cloud::{Bucket, LifecycleRule, ObjectLock, Tags};
use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, FaultKind, look};

/// Region of a bucket that names none (S3's oldest).
const FIRST_REGION: &str = "us-east-1";

impl Aws {
    pub(crate) async fn bucket(&self, name: &str) -> Result<Option<Bucket>, Unseen> {
        let Some(region) = self.bucket_region(name).await? else { return Ok(None) };
        let (versioning, encryption, blocked, ownership, policy, lifecycle, object_lock, tags) = futures::try_join!(
            self.versioning(name),
            self.encryption(name),
            self.public_access_blocked(name),
            self.ownership(name),
            self.policy(name),
            self.lifecycle(name),
            self.object_lock(name),
            self.bucket_tags(name),
        )?;
        Ok(Some(Bucket {
            name: name.to_owned(),
            region,
            versioning,
            encryption,
            public_access_blocked: blocked,
            ownership,
            policy,
            lifecycle,
            object_lock,
            tags,
        }))
    }

    /// Where a bucket is; refused when it is somebody else's.
    async fn bucket_region(&self, name: &str) -> Result<Option<String>, Unseen> {
        match self.s3.head_bucket().bucket(name).expected_bucket_owner(&self.account).send().await {
            Ok(answer) => Ok(Some(answer.bucket_region().unwrap_or(FIRST_REGION).to_owned())),
            Err(error) => {
                let fault = Fault::of("s3:HeadBucket", &error);
                match fault.kind {
                    FaultKind::NotThere => Ok(None),
                    // HeadBucket has no body: only the status tells.
                    FaultKind::NotAllowed => Err(Unseen::Refused(format!(
                        "bucket `{name}` exists and is not in account {}, or these credentials may not see it",
                        self.account
                    ))),
                    _ => match error.raw_response().and_then(|r| r.headers().get("x-amz-bucket-region")) {
                        // A bucket in another region answers 301 or 400 and names the region.
                        Some(region) => Ok(Some(region.to_owned())),
                        None => Err(fault.unseen()),
                    },
                }
            }
        }
    }

    async fn versioning(&self, name: &str) -> Result<String, Unseen> {
        let call = self.s3.get_bucket_versioning().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketVersioning", call.send().await)?;
        Ok(answer.and_then(|a| a.status().map(|s| s.as_str().to_owned())).unwrap_or_else(|| "Off".to_owned()))
    }

    async fn encryption(&self, name: &str) -> Result<String, Unseen> {
        let call = self.s3.get_bucket_encryption().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetEncryptionConfiguration", call.send().await)?;
        let algorithm = answer
            .as_ref()
            .and_then(|answer| answer.server_side_encryption_configuration())
            .and_then(|config| config.rules().first())
            .and_then(|rule| rule.apply_server_side_encryption_by_default())
            .map(|default| default.sse_algorithm().as_str().to_owned());
        Ok(algorithm.unwrap_or_else(|| "none".to_owned()))
    }

    async fn public_access_blocked(&self, name: &str) -> Result<bool, Unseen> {
        let call = self.s3.get_public_access_block().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketPublicAccessBlock", call.send().await)?;
        Ok(answer.as_ref().and_then(|answer| answer.public_access_block_configuration()).is_some_and(|block| {
            [
                block.block_public_acls(),
                block.block_public_policy(),
                block.ignore_public_acls(),
                block.restrict_public_buckets(),
            ]
            .into_iter()
            .all(|set| set == Some(true))
        }))
    }

    async fn ownership(&self, name: &str) -> Result<String, Unseen> {
        let call = self.s3.get_bucket_ownership_controls().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketOwnershipControls", call.send().await)?;
        let rule = answer.as_ref().and_then(|answer| answer.ownership_controls()).and_then(|c| c.rules().first());
        Ok(rule.map_or_else(|| "none".to_owned(), |rule| rule.object_ownership().as_str().to_owned()))
    }

    async fn policy(&self, name: &str) -> Result<Option<Value>, Unseen> {
        let call = self.s3.get_bucket_policy().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketPolicy", call.send().await)?;
        let Some(text) = answer.as_ref().and_then(|answer| answer.policy()) else { return Ok(None) };
        serde_json::from_str(text).map(Some).map_err(|error| Unseen::Misread(format!("policy of `{name}`: {error}")))
    }

    async fn lifecycle(&self, name: &str) -> Result<BTreeMap<String, LifecycleRule>, Unseen> {
        let call = self.s3.get_bucket_lifecycle_configuration().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetLifecycleConfiguration", call.send().await)?;
        let rules = answer
            .as_ref()
            .map(
                aws_sdk_s3::operation::get_bucket_lifecycle_configuration::GetBucketLifecycleConfigurationOutput::rules,
            )
            .unwrap_or_default();
        Ok(rules.iter().map(|rule| (rule.id().unwrap_or("(no id)").to_owned(), normal(rule))).collect())
    }

    /// The default retention; a bucket that never had Object Lock answers with an error of its own.
    async fn object_lock(&self, name: &str) -> Result<Option<ObjectLock>, Unseen> {
        const DAYS_OF_A_YEAR: i32 = 365;
        let call = self.s3.get_object_lock_configuration().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketObjectLockConfiguration", call.send().await)?;
        let rule = answer.and_then(|answer| answer.object_lock_configuration).and_then(|config| config.rule);
        Ok(rule.and_then(|rule| rule.default_retention).and_then(|default| {
            let mode = default.mode?.as_str().to_owned();
            let days = default.days.or_else(|| default.years.map(|years| years.saturating_mul(DAYS_OF_A_YEAR)))?;
            Some(ObjectLock { mode, days })
        }))
    }

    pub(crate) async fn bucket_tags(&self, name: &str) -> Result<Tags, Unseen> {
        let call = self.s3.get_bucket_tagging().bucket(name).expected_bucket_owner(&self.account);
        let answer = look("s3:GetBucketTagging", call.send().await)?;
        let tags = answer
            .as_ref()
            .map(aws_sdk_s3::operation::get_bucket_tagging::GetBucketTaggingOutput::tag_set)
            .unwrap_or_default();
        Ok(tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }
}

/// A rule in our terms. An empty filter, an empty prefix and the old top-level prefix mean the same: everything.
#[expect(deprecated, reason = "old buckets still answer with the top-level prefix")]
fn normal(rule: &Rule) -> LifecycleRule {
    let filter = rule.filter();
    let prefix = rule.prefix().or_else(|| filter.and_then(|f| f.prefix())).unwrap_or_default();
    let mut other = Vec::new();
    let mut transitions = BTreeMap::new();
    for transition in rule.transitions() {
        let class = transition.storage_class().map(|class| class.as_str().to_owned());
        match class.zip(transition.days()) {
            Some((class, days)) if !transitions.contains_key(&class) => drop(transitions.insert(class, days)),
            _ => other.push("moves current objects to another storage class at a date"),
        }
    }
    if !rule.noncurrent_version_transitions().is_empty() {
        other.push("moves old versions to another storage class");
    }
    let expiration = rule.expiration();
    if expiration.is_some_and(|e| e.date().is_some()) {
        other.push("deletes current objects at a date");
    }
    let filtered = filter.is_some_and(|f| {
        f.tag().is_some()
            || f.and().is_some()
            || f.object_size_greater_than().is_some()
            || f.object_size_less_than().is_some()
    });
    if filtered {
        other.push("has a filter by tag or size");
    }
    let versions = rule.noncurrent_version_expiration();
    if versions.is_some_and(|v| v.newer_noncurrent_versions().is_some_and(|n| n > 0)) {
        other.push("keeps a number of old versions");
    }
    LifecycleRule {
        enabled: *rule.status() == ExpirationStatus::Enabled,
        prefix: prefix.to_owned(),
        abort_incomplete_days: rule
            .abort_incomplete_multipart_upload()
            .and_then(aws_sdk_s3::types::AbortIncompleteMultipartUpload::days_after_initiation),
        noncurrent_days: versions.and_then(aws_sdk_s3::types::NoncurrentVersionExpiration::noncurrent_days),
        expired_delete_marker: expiration
            .and_then(aws_sdk_s3::types::LifecycleExpiration::expired_object_delete_marker)
            .unwrap_or(false),
        transitions,
        // Some answers have a 0 for what is not set.
        expire_days: expiration.and_then(aws_sdk_s3::types::LifecycleExpiration::days).filter(|days| *days > 0),
        other: (!other.is_empty()).then(|| other.join(" and ")),
    }
}
