//! One primitive action: a closed enum, so that everything an apply can do is listed here.
//!
//! Host steps carry argument lists and file contents, never shell strings. Secrets stay references until `reach`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::secret::SecretUse;
use crate::plan::cloud::{AlarmSpec, LifecycleRule, ObjectLock, PortRule, Tags};

/// What is done to one resource, in order: all of it in AWS or all of it on the resource's host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Steps {
    Cloud(Vec<CloudStep>),
    Host(Vec<HostStep>),
}

/// [`CloudStep`] or [`HostStep`]: a kind names one of them as its own and cannot plan the other.
pub trait Step: Sized {
    fn list(steps: Vec<Self>) -> Steps;
}

impl Step for CloudStep {
    fn list(steps: Vec<Self>) -> Steps {
        Steps::Cloud(steps)
    }
}

impl Step for HostStep {
    fn list(steps: Vec<Self>) -> Steps {
        Steps::Host(steps)
    }
}

/// One effect in AWS. Each ends when AWS reports that the effect is there, not when the call returns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudStep {
    ImportKeyPair {
        name: String,
        public_key: String,
        tags: Tags,
    },
    DeleteKeyPair {
        name: String,
    },
    /// Ends when the instance is `running`, Lightsail has witnessed its host keys and its user data has run.
    CreateInstance(Box<NewInstance>),
    /// Ends when the instance is gone.
    DeleteInstance {
        name: String,
    },
    /// Copies the newest automatic snapshot to a manual one, which outlives the instance and is protected by its tag. Ends when
    /// the copy is whole. Nothing happens where there is no automatic snapshot: which one is the newest is asked then.
    KeepSnapshot {
        instance: String,
    },
    /// As pulling the plug does. Ends when the instance is `stopped`.
    StopInstance {
        name: String,
    },
    /// Adds or overwrites tags of a Lightsail resource.
    TagLightsail {
        name: String,
        tags: Tags,
    },
    SetAutoSnapshot {
        instance: String,
        time: Option<String>,
    },
    /// IMDSv2 only, hop limit 1.
    RequireImdsV2 {
        instance: String,
    },
    AllocateStaticIp {
        name: String,
    },
    AttachStaticIp {
        name: String,
        instance: String,
    },
    DetachStaticIp {
        name: String,
    },
    ReleaseStaticIp {
        name: String,
    },
    /// Replaces the whole set; `reach` reads it back until it is equal.
    PutPorts {
        instance: String,
        rules: Vec<PortRule>,
    },
    /// With its tags in the same call: there is no moment in which it is not ours.
    CreateBucket {
        name: String,
        region: String,
        tags: Tags,
    },
    PutBucketVersioning {
        name: String,
        enabled: bool,
    },
    /// What is written from then on cannot be deleted for a while. S3 never takes Object Lock off a bucket again.
    PutBucketObjectLock {
        name: String,
        lock: ObjectLock,
    },
    PutBucketEncryption {
        name: String,
    },
    BlockBucketPublicAccess {
        name: String,
    },
    PutBucketOwnership {
        name: String,
    },
    PutBucketPolicy {
        name: String,
        policy: Value,
    },
    DeleteBucketPolicy {
        name: String,
    },
    PutBucketLifecycle {
        name: String,
        rules: BTreeMap<String, LifecycleRule>,
    },
    DeleteBucketLifecycle {
        name: String,
    },
    PutBucketTags {
        name: String,
        tags: Tags,
    },
    /// Deletes every object and every version. Only ever planned after the bucket's name was typed.
    EmptyBucket {
        name: String,
    },
    DeleteBucket {
        name: String,
    },
    CreateUser {
        name: String,
        path: String,
        tags: Tags,
    },
    TagUser {
        name: String,
        tags: Tags,
    },
    PutUserPolicy {
        user: String,
        policy: String,
        document: Value,
    },
    DeleteUserPolicy {
        user: String,
        policy: String,
    },
    DetachUserPolicy {
        user: String,
        arn: String,
    },
    /// Makes a key and delivers it; when the delivery fails the key is deleted again at once.
    CreateAccessKey {
        user: String,
        deliver: KeyDelivery,
    },
    DeleteAccessKey {
        user: String,
        id: String,
    },
    DeleteUser {
        name: String,
    },
    CreateTopic {
        name: String,
        tags: Tags,
    },
    PutTopicPolicy {
        arn: String,
        policy: Value,
    },
    TagTopic {
        arn: String,
        tags: Tags,
    },
    Subscribe {
        topic: String,
        protocol: String,
        endpoint: String,
    },
    Unsubscribe {
        arn: String,
    },
    DeleteTopic {
        arn: String,
    },
    PutMetricAlarm {
        name: String,
        spec: Box<AlarmSpec>,
        tags: Tags,
    },
    DeleteMetricAlarm {
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInstance {
    pub name: String,
    pub zone: String,
    pub blueprint: String,
    pub bundle: String,
    pub key_pair: String,
    /// Runs once as root at first boot and can be read by any process on the host: never a secret.
    pub user_data: String,
    pub auto_snapshot: Option<String>,
    pub tags: Tags,
}

/// Where a new access key goes. Its secret half exists once, in memory, between AWS and this place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyDelivery {
    /// An AWS credentials file on a host, mode 0640, with one profile named after the user.
    HostFile { server: String, path: String, group: String },
    /// A file on the operator's machine, mode 0600.
    OperatorFile { path: String },
}

/// One effect on a host, done as root within the host's transaction; in a folder of a user's, files and folders are made
/// and removed as that user. A path that anybody else can lead elsewhere is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostStep {
    /// Writes beside the target, validates, keeps the pre-image, syncs, renames.
    WriteFile {
        path: String,
        owner: String,
        group: String,
        /// Octal permission bits, for example `0644`.
        mode: String,
        content: Content,
        /// Run before the rename with `{}` replaced by the candidate's path; a status other than 0 stops the step.
        #[serde(default)]
        validate: Option<Vec<String>>,
    },
    /// Removes a file; keeps the pre-image; nothing happens if it is not there.
    RemoveFile {
        path: String,
    },
    MakeDirectory {
        path: String,
        owner: String,
        group: String,
        mode: String,
    },
    /// Runs a program with arguments; a status other than 0 stops the transaction.
    Run {
        argv: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// What it reads from its standard input: the one way for a secret into a program.
        #[serde(default)]
        stdin: Option<Content>,
        timeout_s: u32,
        /// Run when a guarded change is put back, after every file is: the program that makes a service take up what
        /// is on disk again. `None` where putting back the files is enough.
        #[serde(default)]
        revert: Option<Vec<String>>,
        /// For the progress line and the journal: what this does, for example `install chrony`.
        what: String,
    },
    /// Writes (or with `None` removes) the ownership record of a resource in the host's manifest.
    Record {
        address: Address,
        desired: Option<Value>,
    },
}

/// File content: literal, or with secrets put in by `reach` at the last moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Text(String),
    /// `{{name}}` in `template` is replaced by the secret of that name.
    WithSecrets {
        template: String,
        secrets: BTreeMap<String, SecretUse>,
    },
}

impl Steps {
    /// What each step does, in a few words. Holds no secret.
    pub fn summaries(&self) -> Vec<String> {
        match self {
            Self::Cloud(steps) => steps.iter().map(CloudStep::summary).collect(),
            Self::Host(steps) => steps.iter().map(HostStep::summary).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Cloud(steps) => steps.is_empty(),
            Self::Host(steps) => steps.is_empty(),
        }
    }

    /// The steps in AWS; none where the resource is on a host.
    pub fn cloud(&self) -> &[CloudStep] {
        match self {
            Self::Cloud(steps) => steps,
            Self::Host(_) => &[],
        }
    }

    /// The steps on the resource's host; none where the resource is in AWS.
    pub fn host(&self) -> &[HostStep] {
        match self {
            Self::Cloud(_) => &[],
            Self::Host(steps) => steps,
        }
    }
}

impl HostStep {
    /// The secrets that `reach` puts in, by their name in the template.
    pub fn secrets(&self) -> impl Iterator<Item = (&String, &SecretUse)> {
        let content = match self {
            Self::WriteFile { content, .. } | Self::Run { stdin: Some(content), .. } => Some(content),
            Self::Run { stdin: None, .. }
            | Self::RemoveFile { .. }
            | Self::MakeDirectory { .. }
            | Self::Record { .. } => None,
        };
        content
            .into_iter()
            .filter_map(|content| match content {
                Content::Text(_) => None,
                Content::WithSecrets { secrets, .. } => Some(secrets),
            })
            .flatten()
    }

    /// Whether the step itself names what it changes by a path. What a program does is the program's.
    pub fn acts_by_path(&self) -> bool {
        match self {
            Self::WriteFile { .. } | Self::RemoveFile { .. } | Self::MakeDirectory { .. } | Self::Record { .. } => true,
            Self::Run { .. } => false,
        }
    }

    /// What the step does, in a few words for progress lines and journals. Holds no secret.
    pub fn summary(&self) -> String {
        match self {
            Self::WriteFile { path, .. } => format!("write {path}"),
            Self::RemoveFile { path } => format!("remove {path}"),
            Self::MakeDirectory { path, .. } => format!("make {path}/"),
            Self::Run { what, .. } => what.clone(),
            Self::Record { address, desired: Some(_) } => format!("record {address}"),
            Self::Record { address, desired: None } => format!("forget {address}"),
        }
    }
}

impl CloudStep {
    /// What the step does, in a few words for progress lines and journals. Holds no secret.
    pub fn summary(&self) -> String {
        match self {
            Self::ImportKeyPair { name, .. } => format!("import key pair {name}"),
            Self::DeleteKeyPair { name } => format!("delete key pair {name}"),
            Self::CreateInstance(new) => format!("create instance {} and wait until it can be logged in to", new.name),
            Self::StopInstance { name } => format!("stop instance {name} and wait until it is stopped"),
            Self::DeleteInstance { name } => format!("delete instance {name} and wait until it is gone"),
            Self::KeepSnapshot { instance } => {
                format!(
                    "copy the newest automatic snapshot of {instance}, if there is one, and wait until the copy is whole"
                )
            }
            Self::TagLightsail { name, .. } | Self::PutBucketTags { name, .. } => format!("tag {name}"),
            Self::SetAutoSnapshot { instance, time: Some(time) } => format!("snapshot {instance} daily at {time} UTC"),
            Self::SetAutoSnapshot { instance, time: None } => format!("stop automatic snapshots of {instance}"),
            Self::RequireImdsV2 { instance } => format!("require IMDSv2 on {instance}"),
            Self::AllocateStaticIp { name } => format!("allocate static IP {name}"),
            Self::AttachStaticIp { name, instance } => format!("attach static IP {name} to {instance}"),
            Self::DetachStaticIp { name } => format!("detach static IP {name}"),
            Self::ReleaseStaticIp { name } => format!("release static IP {name}"),
            Self::PutPorts { instance, rules } => format!("set the {} open ports of {instance}", rules.len()),
            Self::CreateBucket { name, .. } => format!("create bucket {name}"),
            Self::PutBucketVersioning { name, .. } => format!("set versioning of {name}"),
            Self::PutBucketObjectLock { name, lock } => format!("lock what is written into {name} ({lock})"),
            Self::PutBucketEncryption { name } => format!("encrypt {name}"),
            Self::BlockBucketPublicAccess { name } => format!("block public access to {name}"),
            Self::PutBucketOwnership { name } => format!("enforce bucket ownership of {name}"),
            Self::PutBucketPolicy { name, .. } => format!("set the policy of {name}"),
            Self::DeleteBucketPolicy { name } => format!("remove the policy of {name}"),
            Self::PutBucketLifecycle { name, .. } => format!("set the lifecycle of {name}"),
            Self::DeleteBucketLifecycle { name } => format!("remove the lifecycle of {name}"),
            Self::EmptyBucket { name } => format!("delete every object and version in {name}"),
            Self::DeleteBucket { name } => format!("delete bucket {name}"),
            Self::CreateUser { name, .. } => format!("create user {name}"),
            Self::TagUser { name, .. } => format!("tag user {name}"),
            Self::PutUserPolicy { user, policy, .. } => format!("set policy {policy} of {user}"),
            Self::DeleteUserPolicy { user, policy } => format!("remove policy {policy} of {user}"),
            Self::DetachUserPolicy { user, arn } => format!("detach {arn} from {user}"),
            Self::CreateAccessKey { user, deliver: KeyDelivery::HostFile { server, path, .. } } => {
                format!("create an access key of {user} and write it to {path} on {server}")
            }
            Self::CreateAccessKey { user, deliver: KeyDelivery::OperatorFile { path } } => {
                format!("create an access key of {user} and write it to {path} here")
            }
            Self::DeleteAccessKey { user, id } => format!("delete access key {id} of {user}"),
            Self::DeleteUser { name } => format!("delete user {name}"),
            Self::CreateTopic { name, .. } => format!("create topic {name}"),
            Self::PutTopicPolicy { arn, .. } => format!("set the policy of {arn}"),
            Self::TagTopic { arn, .. } => format!("tag {arn}"),
            Self::Subscribe { endpoint, .. } => format!("subscribe {endpoint}"),
            Self::Unsubscribe { arn } => format!("unsubscribe {arn}"),
            Self::DeleteTopic { arn } => format!("delete topic {arn}"),
            Self::PutMetricAlarm { name, .. } => format!("set alarm {name}"),
            Self::DeleteMetricAlarm { name } => format!("delete alarm {name}"),
        }
    }
}
