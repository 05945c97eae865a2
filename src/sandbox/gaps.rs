//! What the emulator gets wrong and matters here: e-mail subscriptions that nobody confirmed, the third access key.
//!
//! The emulator still decides who may do what; only its answers are corrected on the way back. What it is told about users'
//! policies is remembered for Lightsail, which it does not have.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::read;
use crate::sandbox::permits;

/// Access keys per IAM user.
const KEYS_PER_USER: usize = 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Subscription {
    topic: String,
    endpoint: String,
    confirmed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// E-mail subscriptions by ARN.
    subscriptions: BTreeMap<String, Subscription>,
    /// Users by access key id.
    keys: BTreeMap<String, String>,
    /// Inline policies by user and name.
    #[serde(default)]
    policies: BTreeMap<String, BTreeMap<String, Value>>,
}

/// The front's own memory about SNS and IAM.
pub struct Gaps {
    file: PathBuf,
    known: Mutex<Known>,
}

/// A refusal: status, code, message.
pub type Refusal = (u16, &'static str, String);

/// The parameters of a Query request.
pub type Form = BTreeMap<String, String>;

/// Reads `application/x-www-form-urlencoded`.
pub fn form(text: &str) -> Form {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

/// Undoes percent encoding; a malformed escape stays as it is.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn is_email(text: &str) -> bool {
    let Some((user, host)) = text.split_once('@') else {
        return false;
    };
    let plain = |c: char| !c.is_whitespace() && !"@<>,;\"".contains(c);
    !user.is_empty()
        && user.chars().all(plain)
        && host.chars().all(plain)
        && host.contains('.')
        && !host.starts_with('.')
        && !host.ends_with('.')
}

fn add(xml: &str, entry: &str, by: i64) -> String {
    let open = format!("<entry><key>{entry}</key><value>");
    let Some((before, rest)) = xml.split_once(&open) else {
        return xml.to_owned();
    };
    let Some((number, after)) = rest.split_once('<') else {
        return xml.to_owned();
    };
    format!("{before}{open}{}<{after}", (number.parse::<i64>().unwrap_or(0) + by).max(0))
}

impl Gaps {
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let known = match read::ours(&file, read::OURS) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, known: Mutex::new(known) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut known);
        let saved =
            serde_json::to_vec(&*known).map_err(io::Error::other).and_then(|bytes| fs_err::write(&self.file, bytes));
        if let Err(error) = saved {
            tracing::error!(%error, "the front's memory was not saved");
        }
        result
    }

    /// What AWS refuses and the emulator would take.
    pub fn refuse(&self, service: &str, form: &Form) -> Option<Refusal> {
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        match (service, get("Action")) {
            ("sns", "Subscribe") if get("Protocol").starts_with("email") && !is_email(get("Endpoint")) => {
                Some((400, "InvalidParameter", "Invalid parameter: Email address".to_owned()))
            }
            ("iam", "CreateAccessKey") => {
                let user = get("UserName");
                let count = self.with(|known| known.keys.values().filter(|of| *of == user).count());
                (count >= KEYS_PER_USER).then(|| {
                    (409, "LimitExceeded", format!("Cannot exceed quota for AccessKeysPerUser: {KEYS_PER_USER}"))
                })
            }
            _ => None,
        }
    }

    /// Learns from a good answer of the emulator, and corrects it.
    pub fn correct(&self, service: &str, form: &Form, xml: String) -> String {
        let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        match (service, get("Action")) {
            ("sns", "Subscribe") if get("Protocol").starts_with("email") => {
                let arn = element(&xml, "SubscriptionArn").unwrap_or_default().to_owned();
                let confirmed = self.with(|known| {
                    let subscription = known.subscriptions.entry(arn.clone()).or_insert_with(|| Subscription {
                        topic: get("TopicArn").to_owned(),
                        endpoint: get("Endpoint").to_owned(),
                        confirmed: false,
                    });
                    subscription.confirmed
                });
                if confirmed { xml } else { xml.replace(&arn, "pending confirmation") }
            }
            ("sns", "ListSubscriptions" | "ListSubscriptionsByTopic") => self.with(|known| {
                let pending = known.subscriptions.iter().filter(|(_, subscription)| !subscription.confirmed);
                pending.fold(xml, |xml, (arn, _)| xml.replace(&format!(">{arn}<"), ">PendingConfirmation<"))
            }),
            ("sns", "GetTopicAttributes") => {
                let topic = get("TopicArn");
                let pending = self
                    .with(|known| known.subscriptions.values().filter(|s| !s.confirmed && s.topic == topic).count());
                let pending = i64::try_from(pending).unwrap_or(0);
                add(&add(&xml, "SubscriptionsPending", pending), "SubscriptionsConfirmed", -pending)
            }
            ("sns", "Unsubscribe") => {
                self.with(|known| known.subscriptions.remove(get("SubscriptionArn")));
                xml
            }
            ("sns", "DeleteTopic") => {
                self.with(|known| {
                    known.subscriptions.retain(|_, subscription| subscription.topic != get("TopicArn"));
                });
                xml
            }
            ("iam", "CreateAccessKey") => {
                let key = element(&xml, "AccessKeyId").unwrap_or_default().to_owned();
                let user = element(&xml, "UserName").unwrap_or_default().to_owned();
                self.with(|known| known.keys.insert(key, user));
                xml
            }
            ("iam", "DeleteAccessKey") => {
                self.with(|known| known.keys.remove(get("AccessKeyId")));
                xml
            }
            ("iam", "DeleteUser") => {
                self.with(|known| {
                    known.keys.retain(|_, user| user != get("UserName"));
                    known.policies.remove(get("UserName"));
                });
                xml
            }
            ("iam", "PutUserPolicy") => {
                let document = serde_json::from_str(get("PolicyDocument")).unwrap_or_default();
                self.with(|known| {
                    let policies = known.policies.entry(get("UserName").to_owned()).or_default();
                    policies.insert(get("PolicyName").to_owned(), document);
                });
                xml
            }
            ("iam", "DeleteUserPolicy") => {
                self.with(|known| {
                    known.policies.get_mut(get("UserName")).map(|policies| policies.remove(get("PolicyName")))
                });
                xml
            }
            _ => xml,
        }
    }

    /// Whether the inline policies of the user of an access key allow an action in a region.
    pub fn permit(&self, key: &str, action: &str, region: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let policies = known.keys.get(key).and_then(|user| known.policies.get(user));
        policies.is_some_and(|policies| permits::allow(policies.values(), action, region))
    }

    /// Does what the person behind an address does in their mail; returns how many subscriptions it confirmed.
    pub fn confirm(&self, endpoint: &str) -> usize {
        self.with(|known| {
            let theirs = known.subscriptions.values_mut().filter(|s| s.endpoint == endpoint && !s.confirmed);
            theirs.map(|subscription| subscription.confirmed = true).count()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_mail_addresses_are_looked_at() {
        assert!(is_email("ops@example.com"));
        for bad in ["ops", "ops@", "@example.com", "ops@example", "a b@example.com", "a@b@example.com"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn counts_move() {
        let xml = "<entry><key>SubscriptionsPending</key><value>0</value></entry>";
        assert_eq!(
            add(xml, "SubscriptionsPending", 2),
            "<entry><key>SubscriptionsPending</key><value>2</value></entry>"
        );
    }
}
