//! What every call to AWS needs in IAM, beside the calls, and the least policy that is made of it.
//!
//! A test holds the two tables to the calls that the files of this folder make. Deliberately absent:
//! `sts:GetCallerIdentity`, which AWS answers to everybody.

use serde_json::{Value, json};

/// For whom a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// `plan`, `drift`, `status` and `backup list`: looks, and can change nothing in AWS.
    Drift,
    /// Every command.
    Operator,
}

/// What an action may be done to. Actions that AWS cannot limit to a resource are limited to the region where they have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Account,
    Region,
    /// Every bucket of the account: what left the inventory is found by its tags.
    AnyBucket,
    Buckets,
    Objects,
    /// The one object that tells what was last applied.
    Applied,
    /// What operators share.
    State,
    Users,
    Groups,
    Topics,
    Alarms,
}

use On::{Account, Alarms, AnyBucket, Applied, Buckets, Groups, Objects, Region, State, Topics, Users};

/// A call of the SDK, the action that it needs, and to what.
type Need = (&'static str, &'static str, On);

/// What looking needs.
const LOOKS: &[Need] = &[
    // Lightsail's resources are named by ids that AWS gives, so that no policy written beforehand can name them.
    ("lightsail.get_instance", "lightsail:GetInstance", Region),
    ("lightsail.get_instance_access_details", "lightsail:GetInstanceAccessDetails", Region),
    ("lightsail.get_instance_port_states", "lightsail:GetInstancePortStates", Region),
    ("lightsail.get_instances", "lightsail:GetInstances", Region),
    ("lightsail.get_key_pair", "lightsail:GetKeyPair", Region),
    ("lightsail.get_key_pairs", "lightsail:GetKeyPairs", Region),
    ("lightsail.get_static_ip", "lightsail:GetStaticIp", Region),
    ("lightsail.get_static_ips", "lightsail:GetStaticIps", Region),
    ("s3.get_bucket_encryption", "s3:GetEncryptionConfiguration", Buckets),
    ("s3.get_bucket_lifecycle_configuration", "s3:GetLifecycleConfiguration", Buckets),
    ("s3.get_bucket_ownership_controls", "s3:GetBucketOwnershipControls", Buckets),
    ("s3.get_bucket_policy", "s3:GetBucketPolicy", Buckets),
    ("s3.get_bucket_tagging", "s3:GetBucketTagging", AnyBucket),
    ("s3.get_bucket_versioning", "s3:GetBucketVersioning", Buckets),
    ("s3.get_object", "s3:GetObject", Applied),
    ("s3.get_object_lock_configuration", "s3:GetBucketObjectLockConfiguration", Buckets),
    ("s3.get_public_access_block", "s3:GetBucketPublicAccessBlock", Buckets),
    // Both ask for the whole bucket: HeadBucket has no prefix that a condition could name.
    ("s3.head_bucket", "s3:ListBucket", Buckets),
    ("s3.list_objects_v2", "s3:ListBucket", Buckets),
    ("s3.list_buckets", "s3:ListAllMyBuckets", Account),
    ("iam.get_login_profile", "iam:GetLoginProfile", Users),
    ("iam.get_user", "iam:GetUser", Users),
    ("iam.get_user_policy", "iam:GetUserPolicy", Users),
    ("iam.list_access_keys", "iam:ListAccessKeys", Users),
    ("iam.list_attached_user_policies", "iam:ListAttachedUserPolicies", Users),
    ("iam.list_groups_for_user", "iam:ListGroupsForUser", Users),
    ("iam.list_user_policies", "iam:ListUserPolicies", Users),
    ("iam.list_user_tags", "iam:ListUserTags", Users),
    ("iam.list_users", "iam:ListUsers", Account),
    ("sns.get_topic_attributes", "sns:GetTopicAttributes", Topics),
    ("sns.list_subscriptions_by_topic", "sns:ListSubscriptionsByTopic", Topics),
    ("sns.list_tags_for_resource", "sns:ListTagsForResource", Topics),
    ("sns.list_topics", "sns:ListTopics", Region),
    ("cloudwatch.describe_alarms", "cloudwatch:DescribeAlarms", Region),
    ("cloudwatch.list_tags_for_resource", "cloudwatch:ListTagsForResource", Alarms),
];

/// What acting needs beyond looking.
const ACTS: &[Need] = &[
    ("lightsail.allocate_static_ip", "lightsail:AllocateStaticIp", Region),
    ("lightsail.attach_static_ip", "lightsail:AttachStaticIp", Region),
    ("lightsail.copy_snapshot", "lightsail:CopySnapshot", Region),
    ("lightsail.create_instances", "lightsail:CreateInstances", Region),
    ("lightsail.delete_instance", "lightsail:DeleteInstance", Region),
    ("lightsail.delete_key_pair", "lightsail:DeleteKeyPair", Region),
    ("lightsail.detach_static_ip", "lightsail:DetachStaticIp", Region),
    ("lightsail.disable_add_on", "lightsail:DisableAddOn", Region),
    ("lightsail.enable_add_on", "lightsail:EnableAddOn", Region),
    ("lightsail.get_auto_snapshots", "lightsail:GetAutoSnapshots", Region),
    ("lightsail.get_instance_snapshot", "lightsail:GetInstanceSnapshot", Region),
    ("lightsail.get_operation", "lightsail:GetOperation", Region),
    ("lightsail.import_key_pair", "lightsail:ImportKeyPair", Region),
    ("lightsail.put_instance_public_ports", "lightsail:PutInstancePublicPorts", Region),
    ("lightsail.release_static_ip", "lightsail:ReleaseStaticIp", Region),
    ("lightsail.stop_instance", "lightsail:StopInstance", Region),
    ("lightsail.tag_resource", "lightsail:TagResource", Region),
    ("lightsail.update_instance_metadata_options", "lightsail:UpdateInstanceMetadataOptions", Region),
    ("s3.create_bucket", "s3:CreateBucket", Buckets),
    ("s3.create_bucket", "s3:TagResource", Buckets),
    ("s3.delete_bucket", "s3:DeleteBucket", Buckets),
    ("s3.delete_bucket_lifecycle", "s3:PutLifecycleConfiguration", Buckets),
    ("s3.delete_bucket_policy", "s3:DeleteBucketPolicy", Buckets),
    ("s3.delete_object", "s3:DeleteObject", State),
    ("s3.delete_objects", "s3:DeleteObject", Objects),
    ("s3.delete_objects", "s3:DeleteObjectVersion", Objects),
    ("s3.get_object", "s3:GetObject", State),
    ("s3.list_object_versions", "s3:ListBucketVersions", Buckets),
    ("s3.put_bucket_encryption", "s3:PutEncryptionConfiguration", Buckets),
    ("s3.put_bucket_lifecycle_configuration", "s3:PutLifecycleConfiguration", Buckets),
    ("s3.put_bucket_ownership_controls", "s3:PutBucketOwnershipControls", Buckets),
    ("s3.put_bucket_policy", "s3:PutBucketPolicy", Buckets),
    ("s3.put_bucket_tagging", "s3:PutBucketTagging", Buckets),
    ("s3.put_bucket_versioning", "s3:PutBucketVersioning", Buckets),
    ("s3.put_object", "s3:PutObject", State),
    ("s3.put_object_lock_configuration", "s3:PutBucketObjectLockConfiguration", Buckets),
    ("s3.put_public_access_block", "s3:PutBucketPublicAccessBlock", Buckets),
    ("iam.create_access_key", "iam:CreateAccessKey", Users),
    ("iam.create_user", "iam:CreateUser", Users),
    ("iam.create_user", "iam:TagUser", Users),
    ("iam.delete_access_key", "iam:DeleteAccessKey", Users),
    ("iam.delete_user", "iam:DeleteUser", Users),
    ("iam.delete_user_policy", "iam:DeleteUserPolicy", Users),
    ("iam.detach_user_policy", "iam:DetachUserPolicy", Users),
    ("iam.put_user_policy", "iam:PutUserPolicy", Users),
    // IAM asks for the group and not for the user; which group somebody put ours into is not known beforehand.
    ("iam.remove_user_from_group", "iam:RemoveUserFromGroup", Groups),
    ("iam.tag_user", "iam:TagUser", Users),
    ("sns.create_topic", "sns:CreateTopic", Topics),
    ("sns.create_topic", "sns:TagResource", Topics),
    ("sns.delete_topic", "sns:DeleteTopic", Topics),
    ("sns.set_topic_attributes", "sns:SetTopicAttributes", Topics),
    ("sns.subscribe", "sns:Subscribe", Topics),
    ("sns.tag_resource", "sns:TagResource", Topics),
    ("sns.unsubscribe", "sns:Unsubscribe", Region),
    ("cloudwatch.delete_alarms", "cloudwatch:DeleteAlarms", Alarms),
    ("cloudwatch.put_metric_alarm", "cloudwatch:PutMetricAlarm", Alarms),
    ("cloudwatch.put_metric_alarm", "cloudwatch:TagResource", Alarms),
    ("cloudwatch.tag_resource", "cloudwatch:TagResource", Alarms),
];

/// What a policy is about, in the names that AWS knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub account: String,
    pub region: String,
    pub environment: String,
    pub buckets: Vec<String>,
    pub users: Vec<String>,
    /// Where operators share what they share, where they do.
    pub state: Option<SharedState>,
}

/// A prefix of a bucket, and the object below it that tells what was last applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedState {
    pub bucket: String,
    pub prefix: String,
    pub applied: String,
}

impl Extent {
    /// ARNs, sorted; none where the inventory has nothing of that kind.
    fn resources(&self, on: On) -> Vec<String> {
        let Self { account, region, environment, buckets, users, state } = self;
        let each = |names: &[String], arn: &dyn Fn(&str) -> String| names.iter().map(|name| arn(name)).collect();
        match on {
            Account | Region => vec!["*".to_owned()],
            AnyBucket => vec!["arn:aws:s3:::*".to_owned()],
            Buckets => each(buckets, &|name| format!("arn:aws:s3:::{name}")),
            Objects => each(buckets, &|name| format!("arn:aws:s3:::{name}/*")),
            Applied => state.iter().map(|s| format!("arn:aws:s3:::{}/{}/{}", s.bucket, s.prefix, s.applied)).collect(),
            State => state.iter().map(|s| format!("arn:aws:s3:::{}/{}/*", s.bucket, s.prefix)).collect(),
            // By path also those that left the inventory. By name those that are not there yet: IAM knows no path of them.
            Users => std::iter::once(format!("arn:aws:iam::{account}:user/seawall/{environment}/*"))
                .chain(users.iter().map(|name| format!("arn:aws:iam::{account}:user/{name}")))
                .collect(),
            Groups => vec![format!("arn:aws:iam::{account}:group/*")],
            Topics => vec![format!("arn:aws:sns:{region}:{account}:{environment}-*")],
            Alarms => vec![format!("arn:aws:cloudwatch:{region}:{account}:alarm:{environment}-*")],
        }
    }

    /// The least policy with which one can do one's part, as IAM takes it.
    pub fn policy(&self, whose: Whose) -> Value {
        let mut needs: Vec<(On, &str)> = LOOKS.iter().map(|(_, action, on)| (*on, *action)).collect();
        if whose == Whose::Operator {
            needs.extend(ACTS.iter().map(|(_, action, on)| (*on, *action)));
        }
        needs.sort_unstable();
        needs.dedup();
        let mut statements = Vec::new();
        for group in needs.chunk_by(|one, next| one.0 == next.0) {
            let (on, resources) = (group[0].0, self.resources(group[0].0));
            if resources.is_empty() {
                continue;
            }
            let actions: Vec<&str> = group.iter().map(|(_, action)| *action).collect();
            let mut statement =
                json!({ "Sid": format!("{on:?}"), "Effect": "Allow", "Action": actions, "Resource": resources });
            if on == Region {
                statement["Condition"] = json!({ "StringEquals": { "aws:RequestedRegion": self.region } });
            }
            statements.push(statement);
        }
        json!({ "Version": "2012-10-17", "Statement": statements })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    /// Characters of a managed policy without blanks (AWS, "IAM and AWS STS quotas").
    const LONGEST_POLICY: usize = 6144;
    const SERVICES: [&str; 6] = ["lightsail", "s3", "iam", "sns", "cloudwatch", "sts"];

    /// Calls of the SDK in a text: `self.SERVICE.CALL(`, also over several lines.
    fn calls(text: &str) -> BTreeSet<String> {
        let text: String = text.split_whitespace().collect();
        let mut found = BTreeSet::new();
        for service in SERVICES {
            for (at, begin) in text.match_indices(&format!("self.{service}.")) {
                let rest = &text[at + begin.len()..];
                if let Some((call, _)) = rest.split_once('(')
                    && call.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                {
                    found.insert(format!("{service}.{call}"));
                }
            }
        }
        found
    }

    /// Calls by the file that makes them.
    fn made() -> BTreeMap<String, BTreeSet<String>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reach/aws");
        let files = std::fs::read_dir(folder).expect("this folder").filter_map(Result::ok);
        files
            .map(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                (name, calls(&std::fs::read_to_string(file.path()).expect("a source")))
            })
            .collect()
    }

    fn named(needs: &[Need]) -> BTreeSet<String> {
        needs.iter().map(|(call, _, _)| (*call).to_owned()).collect()
    }

    #[test]
    fn every_call_is_in_the_tables_and_nothing_else_is() {
        let mut made = made();
        assert_eq!(made.remove("identity.rs"), Some(["sts.get_caller_identity".to_owned()].into()));
        let all: BTreeSet<String> = made.values().flatten().cloned().collect();
        let known: BTreeSet<String> = named(LOOKS).union(&named(ACTS)).cloned().collect();
        assert_eq!(all, known);
        // Files that only look, and the store, whose reads `Look` has.
        let looking = |name: &str| name.starts_with("ask_") || ["census.rs", "objects.rs"].contains(&name);
        let mut looks: BTreeSet<String> =
            made.iter().filter(|(name, _)| looking(name)).flat_map(|(_, calls)| calls.clone()).collect();
        looks.insert("s3.get_object".to_owned());
        assert_eq!(looks, named(LOOKS), "who looks may do what looking files call, and nothing else");
        assert!(looks.iter().all(|call| {
            ["get_", "list_", "head_", "describe_"]
                .iter()
                .any(|verb| call.split_once('.').is_some_and(|(_, name)| name.starts_with(verb)))
        }));
    }

    #[test]
    fn calls_are_found_over_lines() {
        let text = "self.s3.list_buckets().send(); self\n    .cloudwatch\n    .describe_alarms()\n self.iam_user(x)";
        assert_eq!(calls(text), ["cloudwatch.describe_alarms".to_owned(), "s3.list_buckets".to_owned()].into());
    }

    fn extent() -> Extent {
        Extent {
            account: "123456789012".to_owned(),
            region: "ca-central-1".to_owned(),
            environment: "chronos".to_owned(),
            buckets: vec!["backups".to_owned()],
            users: vec!["chronos-repository".to_owned()],
            state: Some(SharedState {
                bucket: "backups".to_owned(),
                prefix: "seawall/chronos".to_owned(),
                applied: "applied.json".to_owned(),
            }),
        }
    }

    #[test]
    fn policies_fit_and_name_what_they_are_about() {
        for whose in [Whose::Drift, Whose::Operator] {
            let text = extent().policy(whose).to_string();
            assert!(text.len() <= LONGEST_POLICY, "{whose:?}: {}", text.len());
        }
        let drift = extent().policy(Whose::Drift);
        let of = |sid: &str| {
            let statements = drift["Statement"].as_array().expect("a list");
            statements.iter().find(|statement| statement["Sid"] == sid).expect("a statement").clone()
        };
        assert_eq!(of("Applied")["Resource"], json!(["arn:aws:s3:::backups/seawall/chronos/applied.json"]));
        assert_eq!(of("Region")["Condition"]["StringEquals"]["aws:RequestedRegion"], "ca-central-1");
        assert!(!drift.to_string().contains("Put") && !drift.to_string().contains("Delete"), "{drift:#}");
        let without = Extent { buckets: Vec::new(), state: None, ..extent() };
        assert!(!without.policy(Whose::Operator).to_string().contains("\"Resource\":[]"));
    }
}
