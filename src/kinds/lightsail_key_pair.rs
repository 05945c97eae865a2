//! `lightsail.key_pair`: the key that Lightsail puts on a new instance.
//!
//! One per server, from the first key of `login.keys`. Deliberately absent: the other keys (user data installs all of
//! them, `host.users` keeps them) and keys on running instances: Lightsail reads a key pair at creation only.

use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::base::digest::Digest;
use crate::inventory::sections::Inventory;
use crate::kinds::cloud::{self, describe, differs, tag_changes};
use crate::kinds::{Declared, Kind, Owned, Owner, owner_by_tags, physical_name, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{KeyPair, TAG_SOURCE, Tags};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::step::CloudStep;

pub struct LightsailKeyPair;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    /// An OpenSSH public key line.
    pub public_key: String,
    pub tags: Tags,
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::KeyPair { name: desired.name.clone() }
}

impl Kind for LightsailKeyPair {
    const NAME: &'static str = "lightsail.key_pair";
    const SUMMARY: &'static str = "the key that Lightsail puts on a new instance";
    const EXPLAIN: &'static str = "\
Imports the first key of `login.keys` as a Lightsail key pair named ENVIRONMENT-SERVER-key. Lightsail cannot say which
key it holds, so the digest of the imported key is kept in its tag `seawall:source`; another key replaces the pair. A pair of
exactly this name that has no tags at all is taken to be one whose import was cut short, and is replaced.

It does not touch running instances: Lightsail puts a key pair on an instance at its creation only. The keys that may log
in are kept by `host.users`.

servers:
  db:
    login: { user: admin, keys: [ssh-ed25519 AAAA… ops] }";

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = KeyPair;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let mut found = Vec::new();
        for (server, section) in &inventory.servers {
            let Some(key) = section.login.keys.first() else { continue };
            let address = Address::new(Self::NAME, server.as_str());
            let mut tags = tags(environment, &address);
            let source = Digest::of_bytes(key.identity().as_bytes());
            tags.insert(TAG_SOURCE.to_owned(), source.short().to_owned());
            found.push(Declared {
                address,
                place: Place::Cloud,
                after: Vec::new(),
                path: format!("servers.{server}.login.keys"),
                desired: Desired {
                    name: physical_name(environment, server.as_str(), "key"),
                    public_key: key.as_str().to_owned(),
                    tags,
                },
            });
        }
        found
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<KeyPair> {
        cloud::read(answers, &probe(desired))
    }

    fn diff(desired: &Desired, actual: &KeyPair) -> Vec<FieldChange> {
        let Desired { name: _, public_key: _, tags } = desired;
        let KeyPair { name: _, fingerprint: _, tags: found } = actual;
        let replaces = format!("tags.{TAG_SOURCE}");
        let fields = tag_changes(tags, found).into_iter();
        fields.map(|field| if field.path == replaces { field.replacing() } else { field }).collect()
    }

    fn steps(desired: &Desired, actual: Option<&KeyPair>, fields: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { name, public_key, tags } = desired.clone();
        match actual {
            None => vec![CloudStep::ImportKeyPair { name, public_key, tags }],
            Some(_) if differs(fields, "tags") => vec![CloudStep::TagLightsail { name, tags }],
            Some(_) => Vec::new(),
        }
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        vec![CloudStep::DeleteKeyPair { name: owned.name.clone() }]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let words: Vec<&str> = desired.public_key.split_whitespace().collect();
        let shown = format!("{} {}", words.first().unwrap_or(&""), words.get(2).unwrap_or(&"")).trim().to_owned();
        describe([("name", desired.name.clone().into()), ("public_key", shown.into())])
    }

    fn owner(declared: &Address, environment: &str, actual: &KeyPair) -> Owner {
        // Lightsail takes a key pair's tags in a second call: without any it is one whose import was cut short.
        if actual.tags.is_empty() { Owner::Ours } else { owner_by_tags(declared, environment, &actual.tags) }
    }
}
