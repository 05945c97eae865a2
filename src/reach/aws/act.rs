//! Steps to effects: which call a step is. Every step is here by name, so the compiler points here when there is a new one.

use std::time::Instant;

use crate::plan::step::CloudStep;
use crate::reach::Failure;
use crate::reach::aws::{Aws, Deliver};

impl Aws {
    /// Does one step and waits until its effect is there. The branches are boxed, as in [`Aws::ask`].
    pub async fn act(&self, step: &CloudStep, deliver: &impl Deliver) -> Result<(), Failure> {
        let what = step.summary();
        let what = what.as_str();
        let begun = Instant::now();
        let done = match step {
            CloudStep::ImportKeyPair { name, public_key, tags } => {
                Box::pin(self.import_key(what, name, public_key, tags)).await
            }
            CloudStep::DeleteKeyPair { name } => Box::pin(self.delete_key_pair(what, name)).await,
            CloudStep::CreateInstance(new) => Box::pin(self.create_instance(what, new)).await,
            CloudStep::StopInstance { name } => Box::pin(self.stop_instance(what, name)).await,
            CloudStep::DeleteInstance { name } => Box::pin(self.delete_instance(what, name)).await,
            CloudStep::KeepSnapshot { instance } => Box::pin(self.keep_snapshot(what, instance)).await,
            CloudStep::TagLightsail { name, tags } => Box::pin(self.tag(what, name, tags)).await,
            CloudStep::SetAutoSnapshot { instance, time } => {
                Box::pin(self.auto_snapshot(what, instance, time.as_deref())).await
            }
            CloudStep::RequireImdsV2 { instance } => Box::pin(self.require_imds_v2(what, instance)).await,
            CloudStep::AllocateStaticIp { name } => Box::pin(self.allocate(what, name)).await,
            CloudStep::AttachStaticIp { name, instance } => Box::pin(self.attach(what, name, instance)).await,
            CloudStep::DetachStaticIp { name } => Box::pin(self.detach(what, name)).await,
            CloudStep::ReleaseStaticIp { name } => Box::pin(self.release(what, name)).await,
            CloudStep::PutPorts { instance, rules } => Box::pin(self.put_ports(what, instance, rules)).await,
            CloudStep::CreateBucket { name, region, tags } => {
                Box::pin(self.near(name).create_bucket(what, name, region, tags)).await
            }
            CloudStep::PutBucketVersioning { name, enabled } => {
                Box::pin(self.near(name).put_versioning(what, name, *enabled)).await
            }
            CloudStep::PutBucketObjectLock { name, lock } => {
                Box::pin(self.near(name).put_object_lock(what, name, lock)).await
            }
            CloudStep::PutBucketEncryption { name } => Box::pin(self.near(name).put_encryption(what, name)).await,
            CloudStep::BlockBucketPublicAccess { name } => {
                Box::pin(self.near(name).block_public_access(what, name)).await
            }
            CloudStep::PutBucketOwnership { name } => Box::pin(self.near(name).put_ownership(what, name)).await,
            CloudStep::PutBucketPolicy { name, policy } => {
                Box::pin(self.near(name).put_policy(what, name, policy)).await
            }
            CloudStep::DeleteBucketPolicy { name } => Box::pin(self.near(name).delete_policy(what, name)).await,
            CloudStep::PutBucketLifecycle { name, rules } => {
                Box::pin(self.near(name).put_lifecycle(what, name, rules)).await
            }
            CloudStep::DeleteBucketLifecycle { name } => Box::pin(self.near(name).delete_lifecycle(what, name)).await,
            CloudStep::PutBucketTags { name, tags } => Box::pin(self.near(name).put_tags(what, name, tags)).await,
            CloudStep::EmptyBucket { name } => Box::pin(self.near(name).empty(what, name)).await,
            CloudStep::DeleteBucket { name } => Box::pin(self.near(name).delete_bucket(what, name)).await,
            CloudStep::CreateUser { name, path, tags } => Box::pin(self.create_user(what, name, path, tags)).await,
            CloudStep::TagUser { name, tags } => Box::pin(self.tag_user(what, name, tags)).await,
            CloudStep::PutUserPolicy { user, policy, document } => {
                Box::pin(self.put_user_policy(what, user, policy, document)).await
            }
            CloudStep::DeleteUserPolicy { user, policy } => Box::pin(self.delete_user_policy(what, user, policy)).await,
            CloudStep::DetachUserPolicy { user, arn } => Box::pin(self.detach_user_policy(what, user, arn)).await,
            CloudStep::CreateAccessKey { user, deliver: place } => {
                Box::pin(self.create_key(what, user, place, deliver)).await
            }
            CloudStep::DeleteAccessKey { user, id } => Box::pin(self.delete_key(what, user, id)).await,
            CloudStep::DeleteUser { name } => Box::pin(self.delete_user(what, name)).await,
            CloudStep::CreateTopic { name, tags } => Box::pin(self.create_topic(what, name, tags)).await,
            CloudStep::PutTopicPolicy { arn, policy } => Box::pin(self.put_topic_policy(what, arn, policy)).await,
            CloudStep::TagTopic { arn, tags } => Box::pin(self.tag_topic(what, arn, tags)).await,
            CloudStep::Subscribe { topic, protocol, endpoint } => {
                Box::pin(self.subscribe(what, topic, protocol, endpoint)).await
            }
            CloudStep::Unsubscribe { arn } => Box::pin(self.unsubscribe(what, arn)).await,
            CloudStep::DeleteTopic { arn } => Box::pin(self.delete_topic(what, arn)).await,
            CloudStep::PutMetricAlarm { name, spec, tags } => Box::pin(self.put_alarm(what, name, spec, tags)).await,
            CloudStep::DeleteMetricAlarm { name } => Box::pin(self.delete_alarm(what, name)).await,
        };
        tracing::debug!(step = what, ms = begun.elapsed().as_millis(), failed = done.is_err(), "told AWS");
        done
    }
}
