//! `s3.bucket`: a private, encrypted, versioned bucket that only TLS can reach.
//!
//! All of its parts are one resource: versioning, encryption, public access block, ownership, policy, lifecycle, tags.
//! Lifecycle rules that move or expire current objects are the inventory's, below a prefix each; `policy` refuses those that
//! would reach a backup repository, where retention belongs to the backup tool (pgBackRest's maintainers, pull request
//! 1855).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::storage::{self, Aging};
use crate::inventory::sections::{Inventory, Keep};
use crate::kinds::cloud::{self, describe, differs, missing, same_policy, tag_changes};
use crate::kinds::{Declared, Kind, Owned, Owner, owner_by_tags, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{Bucket, LifecycleRule, ObjectLock, PROTECTED, TAG_KEEP, Tags};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::CloudStep;

/// Our lifecycle rules' ids begin with this; other rules are other people's.
const OURS: &str = "seawall-";
/// A crashed multipart upload leaves parts that are billed and never seen. A week is longer than any upload.
const ABORT_UPLOADS_DAYS: i32 = 7;
/// Value of the keep tag on a bucket that may go.
const DISPOSABLE: &str = "disposable";

pub struct S3Bucket;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub region: String,
    pub versioning: bool,
    pub policy: Value,
    pub lifecycle: BTreeMap<String, LifecycleRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    pub tags: Tags,
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::Bucket { name: desired.name.clone() }
}

/// Denies everything that does not come over TLS 1.2 or newer (AWS, "Security best practices for Amazon S3").
fn policy(name: &str) -> Value {
    let resources = [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")];
    let deny = |sid: &str, condition: Value| json!({ "Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": resources, "Condition": condition });
    json!({
        "Version": "2012-10-17",
        "Statement": [
            deny("SeawallOnlyTls", json!({ "Bool": { "aws:SecureTransport": "false" } })),
            deny("SeawallOnlyModernTls", json!({ "NumericLessThan": { "s3:TlsVersion": "1.2" } })),
        ],
    })
}

fn lifecycle(versioning: bool, noncurrent_days: u32, agings: &[Aging]) -> BTreeMap<String, LifecycleRule> {
    let uploads =
        LifecycleRule { enabled: true, abort_incomplete_days: Some(ABORT_UPLOADS_DAYS), ..LifecycleRule::default() };
    let mut rules = BTreeMap::from([(format!("{OURS}abort-uploads"), uploads)]);
    if versioning {
        let versions = LifecycleRule {
            enabled: true,
            noncurrent_days: i32::try_from(noncurrent_days).ok(),
            expired_delete_marker: true,
            ..LifecycleRule::default()
        };
        rules.insert(format!("{OURS}old-versions"), versions);
    }
    for aging in agings {
        // Other ages were refused when the inventory was checked.
        let Some(days) = aging.days() else { continue };
        let prefix = format!("{}/", aging.prefix);
        let rule = rules.entry(format!("{OURS}age-{}", aging.prefix));
        let rule = rule.or_insert(LifecycleRule { enabled: true, prefix, ..LifecycleRule::default() });
        match aging.to {
            Some(class) => drop(rule.transitions.insert(class.api().to_owned(), days)),
            None => rule.expire_days = Some(days),
        }
    }
    rules
}

/// What S3 is told. A number of days that it does not take was refused when the inventory was checked.
fn lock(section: storage::ObjectLock) -> Option<ObjectLock> {
    Some(ObjectLock { mode: section.mode.api().to_owned(), days: i32::try_from(section.days).ok()? })
}

/// What a rule does to current objects and whatever else may break what is read from a bucket, in words.
fn harm(rule: &LifecycleRule) -> Option<String> {
    let moves = rule.transitions.iter().map(|(class, days)| format!("moves objects to {class} after {days} days"));
    let deletes = rule.expire_days.map(|days| format!("deletes objects after {days} days"));
    let words: Vec<String> = moves.chain(deletes).chain(rule.other.clone()).collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

fn is_ours(id: &str) -> bool {
    id.starts_with(OURS)
}

fn versioning_word(enabled: bool) -> &'static str {
    if enabled { "Enabled" } else { "Off" }
}

impl Kind for S3Bucket {
    const NAME: &'static str = "s3.bucket";
    const SUMMARY: &'static str = "a private, encrypted, versioned bucket that only TLS can reach";
    const EXPLAIN: &'static str = "\
Keeps a bucket private (all four public access blocks, no ACLs), encrypted (AES256), reachable by TLS 1.2 or newer only,
versioned, and cleaned of what nobody will ever read: parts of broken uploads after 7 days, overwritten and deleted
versions after `noncurrent_days`.

Current objects are moved to a cheaper storage class or deleted only as `lifecycle` says, below a prefix each, and never below
that of a repository: that would break it silently. Lifecycle rules of others are kept and reported. A bucket is protected unless it says `keep: disposable`; the mark is a tag of the bucket, so deleting the line
from the inventory does not lift it. The region of a bucket cannot be changed in place.

With `object_lock`, S3 lets nobody delete a version of an object for so many days after it was written: a stolen key can hide
objects behind delete markers, and end none. `governance` leaves a way to who may `s3:BypassGovernanceRetention` (no identity of
Seawall's), `compliance` to nobody. S3 never takes the lock off a bucket again; when the line goes, it stays.

buckets:
  backups:
    name: project-chronos-backups
    keep: protected
    versioning: true
    noncurrent_days: 30
    object_lock: { days: 30 }              # mode: governance or compliance
    lifecycle:
    - { prefix: exports, after: 30d, to: glacier-instant }   # or standard-ia, glacier, deep-archive
    - { prefix: exports, after: 365d, delete: true }";

    const HOLDS_DATA: bool = true;

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = Bucket;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let mut found = Vec::new();
        for (key, section) in &inventory.buckets {
            let address = Address::new(Self::NAME, key.as_str());
            let mut tags = tags(inventory.environment.as_str(), &address);
            let keep = match section.keep {
                Keep::Protected => PROTECTED,
                Keep::Disposable => DISPOSABLE,
            };
            tags.insert(TAG_KEEP.to_owned(), keep.to_owned());
            found.push(Declared {
                address,
                place: Place::Cloud,
                after: Vec::new(),
                path: format!("buckets.{key}"),
                desired: Desired {
                    name: section.name.clone(),
                    region: inventory.region_of(section),
                    versioning: section.versioning,
                    policy: policy(&section.name),
                    lifecycle: lifecycle(section.versioning, section.noncurrent_days, &section.lifecycle),
                    object_lock: section.object_lock.and_then(lock),
                    tags,
                },
            });
        }
        found
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Bucket> {
        cloud::read(answers, &probe(desired))
    }

    fn diff(desired: &Desired, actual: &Bucket) -> Vec<FieldChange> {
        let Desired { name: _, region, versioning, policy, lifecycle, object_lock, tags } = desired;
        let Bucket {
            name: _,
            region: has_region,
            versioning: has_versioning,
            encryption,
            public_access_blocked,
            ownership,
            policy: has_policy,
            lifecycle: has_lifecycle,
            object_lock: has_lock,
            tags: found,
        } = actual;
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("region", has_region, region).map(FieldChange::replacing));
        // Versioning that was on can only be suspended, never switched off (S3 guide, "Using versioning").
        let as_wanted = if *versioning { has_versioning == "Enabled" } else { has_versioning != "Enabled" };
        if !as_wanted {
            fields.extend(FieldChange::between("versioning", has_versioning, &versioning_word(*versioning)));
        }
        fields.extend(FieldChange::between("encryption", encryption, &"AES256"));
        fields.extend(FieldChange::between("public_access_blocked", public_access_blocked, &true));
        fields.extend(FieldChange::between("ownership", ownership, &"BucketOwnerEnforced"));
        if !same_policy(Some(policy), has_policy.as_ref()) {
            fields.push(FieldChange::new("policy", has_policy.clone(), Some(policy.clone())));
        }
        for (id, rule) in missing(lifecycle, has_lifecycle) {
            let before = has_lifecycle.get(id).map(cloud::json);
            fields.push(FieldChange::new(format!("lifecycle.{id}"), before, Some(cloud::json(rule))));
        }
        for (id, rule) in has_lifecycle.iter().filter(|(id, _)| is_ours(id) && !lifecycle.contains_key(*id)) {
            fields.push(FieldChange::new(format!("lifecycle.{id}"), Some(cloud::json(rule)), None));
        }
        // A lock that is not declared is kept: a line that goes takes no protection away.
        if let Some(lock) = object_lock.as_ref().filter(|lock| has_lock.as_ref() != Some(lock)) {
            let before = has_lock.as_ref().map(|lock| lock.to_string().into());
            fields.push(FieldChange::new("object_lock", before, Some(lock.to_string().into())));
        }
        fields.extend(tag_changes(tags, found));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Bucket>, fields: &[FieldChange]) -> Vec<CloudStep> {
        let name = desired.name.clone();
        let new = actual.is_none();
        let mut steps = Vec::new();
        if new {
            // With its tags: a bucket that was made and not finished is ours, and the next run goes on with it.
            let (region, tags) = (desired.region.clone(), desired.tags.clone());
            steps.push(CloudStep::CreateBucket { name: name.clone(), region, tags });
        } else if differs(fields, "tags") {
            let mut tags = actual.map(|bucket| bucket.tags.clone()).unwrap_or_default();
            tags.extend(desired.tags.clone());
            steps.push(CloudStep::PutBucketTags { name: name.clone(), tags });
        }
        if new || differs(fields, "public_access_blocked") {
            steps.push(CloudStep::BlockBucketPublicAccess { name: name.clone() });
        }
        if new || differs(fields, "ownership") {
            steps.push(CloudStep::PutBucketOwnership { name: name.clone() });
        }
        if new || differs(fields, "encryption") {
            steps.push(CloudStep::PutBucketEncryption { name: name.clone() });
        }
        if (new && desired.versioning) || (!new && differs(fields, "versioning")) {
            steps.push(CloudStep::PutBucketVersioning { name: name.clone(), enabled: desired.versioning });
        }
        if let Some(lock) = desired.object_lock.clone().filter(|_| new || differs(fields, "object_lock")) {
            // After versioning, without which S3 refuses it.
            steps.push(CloudStep::PutBucketObjectLock { name: name.clone(), lock });
        }
        if new || differs(fields, "policy") {
            let policy = desired.policy.clone();
            steps.push(CloudStep::PutBucketPolicy { name: name.clone(), policy });
        }
        if new || differs(fields, "lifecycle") {
            // S3 replaces the whole document: rules of others are read and put again.
            let mut rules = desired.lifecycle.clone();
            let others = actual.into_iter().flat_map(|bucket| &bucket.lifecycle).filter(|(id, _)| !is_ours(id));
            rules.extend(others.map(|(id, rule)| (id.clone(), rule.clone())));
            steps.push(CloudStep::PutBucketLifecycle { name, rules });
        }
        steps
    }

    fn empty(owned: &Owned) -> Vec<CloudStep> {
        vec![CloudStep::EmptyBucket { name: owned.name.clone() }]
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        vec![CloudStep::DeleteBucket { name: owned.name.clone() }]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let mut fields = describe([
            ("name", desired.name.clone().into()),
            ("region", desired.region.clone().into()),
            ("versioning", versioning_word(desired.versioning).into()),
            ("encryption", "AES256".into()),
            ("public_access_blocked", true.into()),
            ("ownership", "BucketOwnerEnforced".into()),
            ("policy", "TLS 1.2 or newer only".into()),
            ("keep", desired.tags.get(TAG_KEEP).cloned().into()),
        ]);
        if let Some(lock) = &desired.object_lock {
            fields.push(FieldChange::new("object_lock", None, Some(lock.to_string().into())));
        }
        for (id, rule) in &desired.lifecycle {
            fields.push(FieldChange::new(format!("lifecycle.{id}"), None, Some(cloud::json(rule))));
        }
        fields
    }

    fn owner(declared: &Address, environment: &str, actual: &Bucket) -> Owner {
        owner_by_tags(declared, environment, &actual.tags)
    }

    fn refusals(_: &Desired, actual: &Bucket, fields: &[FieldChange]) -> Vec<Diagnostic> {
        if !differs(fields, "lifecycle") {
            return Vec::new();
        }
        let foreign = actual.lifecycle.iter().filter(|(id, _)| !is_ours(id));
        let refusal = |(id, what): (&String, &String)| {
            Diagnostic::error(
                "foreign-lifecycle-rule",
                format!("the lifecycle of `{}` cannot be changed beside rule `{id}`, which {what}", actual.name),
            )
            .note("S3 replaces all rules at once, and this one holds more than Seawall can put back")
            .hint("remove that rule, or move it to another bucket")
        };
        foreign.filter_map(|(id, rule)| Some((id, rule.other.as_ref()?))).map(refusal).collect()
    }

    fn remarks(desired: &Desired, actual: &Bucket) -> Vec<Remark> {
        let kept = actual.object_lock.as_ref().filter(|_| desired.object_lock.is_none());
        let kept =
            kept.map(|lock| format!("what is written is locked ({lock}), which is not declared; it is kept").into());
        let others = actual.lifecycle.iter().filter(|(id, _)| !is_ours(id));
        others
            .map(|(id, rule)| match harm(rule) {
                Some(what) => Remark::broken(format!(
                    "lifecycle rule `{id}` is not ours and {what}: it can break a backup repository silently"
                )),
                None => format!("lifecycle rule `{id}` is not ours; it is kept").into(),
            })
            .chain(kept)
            .collect()
    }
}
