//! What the cloud kinds have in common: reading one state document, tags, policy documents.
//!
//! Deliberately absent: anything that belongs to one kind only.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::plan::change::FieldChange;
use crate::plan::cloud::Tags;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};

/// Region and account that ARNs are made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Home {
    pub(crate) account: String,
    pub(crate) region: String,
}

impl Home {
    pub(crate) fn of(inventory: &crate::inventory::sections::Inventory) -> Self {
        Self { account: inventory.aws.account.clone(), region: inventory.aws.region.clone() }
    }

    /// ARN of a topic (AWS, "Service Authorization Reference", Amazon SNS).
    pub(crate) fn topic_arn(&self, name: &str) -> String {
        format!("arn:aws:sns:{}:{}:{name}", self.region, self.account)
    }
}

pub(crate) fn probe(probe: CloudProbe) -> Vec<Probe> {
    vec![Probe::Cloud(probe)]
}

/// The one state document that most cloud kinds ask for.
pub(crate) fn read<T: DeserializeOwned>(answers: &Answers, probe: &CloudProbe) -> Observed<T> {
    answers.cloud(probe)
}

/// Tags that we want and that are missing or different. Tags of others on the same thing are theirs.
pub(crate) fn tag_changes(wanted: &Tags, found: &Tags) -> Vec<FieldChange> {
    wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| {
            let before = found.get(key).map(|value| Value::from(value.clone()));
            FieldChange::new(format!("tags.{key}"), before, Some(Value::from(value.clone())))
        })
        .collect()
}

/// Whether any field of a group differs: `tags` stands for `tags.seawall:keep`.
pub(crate) fn differs(fields: &[FieldChange], group: &str) -> bool {
    fields.iter().any(|field| field.path == group || field.path.strip_prefix(group).is_some_and(|r| r.starts_with('.')))
}

/// Whether exactly this field differs: `subscriptions.ops@example.co` is not `subscriptions.ops@example.co.uk`.
pub(crate) fn field_differs(fields: &[FieldChange], path: &str) -> bool {
    fields.iter().any(|field| field.path == path)
}

/// Fields that describe something that does not exist yet.
pub(crate) fn describe<const N: usize>(fields: [(&str, Value); N]) -> Vec<FieldChange> {
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(path, value)| FieldChange::new(path, None, Some(value)))
        .collect()
}

/// A policy document with its statements in order of their `Sid` and single-element lists as that element: AWS accepts
/// and returns both forms, and they mean the same (IAM JSON policy elements reference).
pub(crate) fn normal_policy(policy: &Value) -> Value {
    match policy {
        Value::Array(items) if items.len() == 1 => normal_policy(&items[0]),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(normal_policy).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), normal_policy(value))).collect())
        }
        other => other.clone(),
    }
}

/// Whether two policy documents say the same.
pub(crate) fn same_policy(a: Option<&Value>, b: Option<&Value>) -> bool {
    a.map(normal_policy) == b.map(normal_policy)
}

/// A map as JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("plain data of this program serialises")
}

/// Entries of one map that another does not have, or has differently.
pub(crate) fn missing<'a, V: PartialEq>(
    wanted: &'a BTreeMap<String, V>,
    found: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    wanted.iter().filter(|(key, value)| found.get(*key) != Some(value))
}
