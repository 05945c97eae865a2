//! `iam.user`: an identity for one purpose, limited to one prefix of one bucket.
//!
//! Lightsail has no instance roles, so the host needs a key of its own; it may do what a backup repository needs and
//! nothing else. Whether the key is where it belongs is asked by its public half. Deliberately absent: the key itself. Its
//! secret half goes from AWS to its place once and is kept nowhere by Seawall.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::address::Address;
use crate::inventory::scalar::Name;
use crate::inventory::sections::database::Backup;
use crate::inventory::sections::{Access, Identity, Inventory, KeyPlace};
use crate::kinds::cloud::{self, describe, differs, field_differs, same_policy, tag_changes};
use crate::kinds::{Declared, Kind, Owned, Owner, owner_by_tags, physical_name, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{AccessKey, Console, Tags, User};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{CloudStep, KeyDelivery};

/// Name of the one inline policy.
const POLICY: &str = "seawall";

/// Access keys that AWS lets a user have (AWS, "IAM and AWS STS quotas").
const KEYS_PER_USER: usize = 2;

pub struct IamUser;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub path: String,
    pub policy: Value,
    pub deliver: KeyDelivery,
    pub tags: Tags,
}

/// The user, and its key file where that is on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    #[serde(flatten)]
    pub user: User,
    pub key_file: Option<KeyFile>,
}

/// A key file as far as it may be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Mode, owner and group, for example `640 root:postgres`.
    pub access: String,
    /// The public half; the secret half is never read.
    pub id: String,
}

/// Mode, owner and group of a key file.
fn ask_access(path: &str) -> Vec<String> {
    ["stat", "-c", "%a %U:%G", "--", path].map(str::to_owned).to_vec()
}

/// The key id in a key file: of the secret's line nothing can match.
fn ask_id(path: &str) -> Vec<String> {
    let id = "s/^aws_access_key_id *= *\\([A-Za-z0-9]*\\) *$/\\1/p";
    ["sed", "-n", "-e", id, "--", path].map(str::to_owned).to_vec()
}

/// The key file, or `None` where there is none, or no server that could have it.
fn look_for_key(desired: &Desired, answers: &Answers) -> Result<Option<KeyFile>, Unseen> {
    let KeyDelivery::HostFile { server, path, group: _ } = &desired.deliver else { return Ok(None) };
    let asked = match answers.on_server(server, &ask_access(path)) {
        Ok(state) => state,
        Err(Unseen::NotYetCreated(_)) => return Ok(None),
        Err(why) => return Err(why),
    };
    if !asked.ok() {
        let absent = asked.stderr.contains("No such file");
        return if absent { Ok(None) } else { Err(Unseen::Misread(format!("`{path}`: {}", asked.stderr.trim()))) };
    }
    let id = answers.on_server(server, &ask_id(path))?;
    if !id.ok() {
        return Err(Unseen::Misread(format!("`{path}`: {}", id.stderr.trim())));
    }
    Ok(Some(KeyFile { access: asked.stdout.trim().to_owned(), id: id.stdout.trim().to_owned() }))
}

/// The difference that a new key closes, with what is there instead of the right one.
fn key_change(deliver: &KeyDelivery, keys: &[AccessKey], found: Option<&KeyFile>) -> Option<FieldChange> {
    let new = |before: Option<String>| Some(FieldChange::new("key", before.map(Value::from), Some("a new one".into())));
    let active = |id: &str| keys.iter().any(|key| key.active && key.id == id);
    match (deliver, found) {
        (KeyDelivery::OperatorFile { .. }, _) if keys.iter().any(|key| key.active) => None,
        (KeyDelivery::OperatorFile { .. }, _) | (KeyDelivery::HostFile { .. }, None) => new(None),
        (KeyDelivery::HostFile { .. }, Some(file)) if file.id.is_empty() => {
            new(Some("a file without a key".to_owned()))
        }
        (KeyDelivery::HostFile { .. }, Some(file)) if !active(&file.id) => {
            new(Some(format!("{}, which is no active key of this user", file.id)))
        }
        (KeyDelivery::HostFile { group, .. }, Some(file)) if file.access != format!("640 root:{group}") => {
            new(Some(format!("{} in a file of {}", file.id, file.access)))
        }
        (KeyDelivery::HostFile { .. }, Some(_)) => None,
    }
}

/// Which keys go when a new one is made: before it, because AWS allows two per user, and after it, because the new one
/// takes their place. A key that somebody switched off stays if there is room: it may be evidence.
fn keys_that_go(keys: &[AccessKey]) -> (Vec<&AccessKey>, Vec<&AccessKey>) {
    let mut keys: Vec<&AccessKey> = keys.iter().collect();
    keys.sort_by_key(|key| (key.active, &key.created));
    let room = keys.len().saturating_sub(KEYS_PER_USER - 1);
    let last = keys.split_off(room).into_iter().filter(|key| key.active).collect();
    (keys, last)
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::User { name: desired.name.clone() }
}

/// What pgBackRest's user guide asks for, and the prefix itself: `repo-ls` asks for it as if it were an object. Never
/// versions' deletion, policies or lifecycle: a stolen key cannot destroy history. Never a listing of the whole bucket, which has other
/// servers' names and the operators' state.
fn policy(bucket: &str, identity: &Identity) -> Value {
    let prefix = &identity.prefix;
    let arn = format!("arn:aws:s3:::{bucket}");
    let objects = [format!("{arn}/{prefix}"), format!("{arn}/{prefix}/*")];
    let (list, act): (&[&str], &[&str]) = match identity.access {
        Access::ReadWrite => (&["s3:ListBucket"], &["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]),
        Access::ReadOnly => (&["s3:ListBucket", "s3:ListBucketVersions"], &["s3:GetObject", "s3:GetObjectVersion"]),
    };
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "List", "Effect": "Allow", "Action": list, "Resource": arn,
                "Condition": { "StringLike": { "s3:prefix": [prefix, format!("{prefix}/*")] } },
            },
            { "Sid": "Objects", "Effect": "Allow", "Action": act, "Resource": objects },
        ],
    })
}

fn deliver(place: &KeyPlace) -> KeyDelivery {
    match place {
        KeyPlace::Server { server, file, group } => {
            KeyDelivery::HostFile { server: server.to_string(), path: file.clone(), group: group.clone() }
        }
        KeyPlace::Here { operator_file } => KeyDelivery::OperatorFile { path: operator_file.clone() },
    }
}

/// What a server's own identities are for. They come with its `backup` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Fills the repository: reads and writes.
    Backup,
    /// Restores and drills: reads, and cannot write.
    Restore,
    /// Fills the second repository.
    Copy,
    /// Restores and drills from the second repository.
    CopyRestore,
    /// Keeps the copy of the certificate and its CA, which PostgreSQL may neither read nor write.
    Certificate,
}

impl Purpose {
    /// What the name of an identity ends in that only reads a repository.
    pub(crate) const RESTORE: &'static str = "restore";

    /// The identity's name in this environment.
    pub(crate) fn identity(self, server: &Name) -> String {
        match self {
            Self::Backup => format!("{server}-backup"),
            Self::Restore => format!("{server}-{}", Self::RESTORE),
            Self::Copy => format!("{server}-copy"),
            Self::CopyRestore => format!("{server}-copy-restore"),
            Self::Certificate => format!("{server}-certificate"),
        }
    }

    fn of(self, server: &Name, section: &Backup) -> Option<(Name, Identity)> {
        let (access, file) = match self {
            Self::Backup => (Access::ReadWrite, "/etc/seawall/backup.credentials"),
            Self::Restore => (Access::ReadOnly, "/etc/seawall/restore.credentials"),
            Self::Copy => (Access::ReadWrite, "/etc/seawall/copy.credentials"),
            Self::CopyRestore => (Access::ReadOnly, "/etc/seawall/copy-restore.credentials"),
            Self::Certificate => (Access::ReadWrite, "/etc/seawall/certificate.credentials"),
        };
        let key = KeyPlace::Server { server: server.clone(), file: file.to_owned(), group: "root".to_owned() };
        let prefix = match self {
            Self::Backup | Self::Restore | Self::Copy | Self::CopyRestore => section.stanza.to_string(),
            Self::Certificate => certificate_prefix(section),
        };
        let bucket = match self {
            Self::Backup | Self::Restore | Self::Certificate => section.bucket.clone(),
            Self::Copy | Self::CopyRestore => section.copies.first()?.bucket.clone(),
        };
        let name = self.identity(server).parse().ok()?;
        Some((name, Identity { bucket, prefix, access, key }))
    }
}

/// Where the copy of a server's certificate is. No stanza has a dot in its name, so the keys of the backups reach no copy.
pub(crate) fn certificate_prefix(section: &Backup) -> String {
    format!("{}.certificate", section.stanza)
}

/// The identities that the inventory names, and those that come with backups.
fn identities(inventory: &Inventory) -> Vec<(String, Name, Identity)> {
    let named = inventory.identities.iter().map(|(n, i)| (format!("identities.{n}"), n.clone(), i.clone()));
    let servers = inventory.servers.iter().filter(|(_, server)| server.postgres.is_some());
    let own = servers.filter_map(|(name, server)| Some((name, server.backup.as_ref()?))).flat_map(|(name, section)| {
        let copies = inventory.servers[name].certificate.as_ref().is_some_and(|of| of.copy_pass.is_some());
        let own = [Purpose::Backup, Purpose::Restore, Purpose::Copy, Purpose::CopyRestore].into_iter();
        let own = own.chain(copies.then_some(Purpose::Certificate));
        own.filter_map(move |purpose| purpose.of(name, section))
            .map(move |(identity, what)| (format!("servers.{name}.backup"), identity, what))
    });
    named.chain(own).collect()
}

impl Kind for IamUser {
    const NAME: &'static str = "iam.user";
    const SUMMARY: &'static str = "an identity for one purpose, limited to one prefix of one bucket";
    const EXPLAIN: &'static str = "\
Creates the IAM user ENVIRONMENT-NAME under /seawall/ENVIRONMENT/ with one inline policy: list, get, put and delete below
one prefix (`read-write`), or list and get with versions (`read-only`). Attached policies and other inline policies are
removed. A user without a key gets one; it goes straight into an AWS credentials file on a server (0640) or on your machine
(0600), and exists nowhere else: not in a plan, not in a journal.

A key file on a server is looked at by its owner, mode and key id. One that is gone, holds no active key of the user, or
could be read by others, gets a new key; the user's other active keys are deleted then, because nobody has them or too
many do. Your own machine's file is not looked at. A second active key beside the right one is reported and stays.

identities:
  repository:
    bucket: backups
    prefix: pgbackrest/chronos
    access: read-write
    key: { server: db, file: /etc/seawall/repository.credentials, group: root }";

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let mut found = Vec::new();
        for (path, name, identity) in identities(inventory) {
            // A dangling bucket was refused when the inventory was checked.
            let Some(bucket) = inventory.buckets.get(&identity.bucket) else { continue };
            let address = Address::new(Self::NAME, name.as_str());
            let mut after = vec![Address::new("s3.bucket", identity.bucket.as_str())];
            if let KeyPlace::Server { server, group, .. } = &identity.key {
                after.push(Address::new("lightsail.instance", server.as_str()));
                // The key goes to the server's address, which moves when the static IP is attached.
                if inventory.servers.get(server).is_some_and(|server| server.instance.static_ip) {
                    after.push(Address::new("lightsail.static_ip", server.as_str()));
                }
                // A group of the operator's may come with a package or a user; root's is always there. What is on the
                // host and needs this key cannot be waited for.
                if group != "root" {
                    after.push(Address::new("host.users", server.as_str()));
                }
            }
            let tags = tags(environment, &address);
            found.push(Declared {
                address,
                place: Place::Cloud,
                after,
                path,
                desired: Desired {
                    name: physical_name(environment, name.as_str(), ""),
                    path: format!("/seawall/{environment}/"),
                    policy: policy(&bucket.name, &identity),
                    deliver: deliver(&identity.key),
                    tags,
                },
            });
        }
        found
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = cloud::probe(probe(desired));
        if let KeyDelivery::HostFile { server, path, group: _ } = &desired.deliver {
            let on_server = |argv| Probe::OnServer { server: server.clone(), argv };
            probes.extend([on_server(ask_access(path)), on_server(ask_id(path))]);
        }
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        cloud::read(answers, &probe(desired)).and_then(|user| match look_for_key(desired, answers) {
            Ok(key_file) => Observed::Present(Actual { user, key_file }),
            Err(why) => Observed::Unknown(why),
        })
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { name: _, path, policy, deliver, tags } = desired;
        let Actual { user, key_file } = actual;
        let User {
            name: _,
            path: has_path,
            arn: _,
            policies,
            attached,
            groups: _,
            keys,
            console: _,
            boundary: _,
            tags: found,
        } = user;
        let mut fields = Vec::new();
        fields.extend(FieldChange::between("path", has_path, path).map(FieldChange::replacing));
        if !same_policy(policies.get(POLICY), Some(policy)) {
            fields.push(FieldChange::new(
                format!("policy.{POLICY}"),
                policies.get(POLICY).cloned(),
                Some(policy.clone()),
            ));
        }
        for (other, document) in policies.iter().filter(|(name, _)| *name != POLICY) {
            fields.push(FieldChange::new(format!("policy.{other}"), Some(document.clone()), None));
        }
        for arn in attached {
            fields.push(FieldChange::new(format!("attached.{arn}"), Some(true.into()), None));
        }
        if let Some(field) = key_change(deliver, keys, key_file.as_ref()) {
            fields.push(field);
            let (first, last) = keys_that_go(keys);
            let state = |key: &AccessKey| Some(Value::from(if key.active { "active" } else { "inactive" }));
            fields.extend(
                first.into_iter().chain(last).map(|k| FieldChange::new(format!("keys.{}", k.id), state(k), None)),
            );
        }
        fields.extend(tag_changes(tags, found));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { name, path, policy, deliver, tags } = desired.clone();
        let actual = actual.map(|actual| &actual.user);
        let mut steps = Vec::new();
        let new = actual.is_none();
        if new {
            steps.push(CloudStep::CreateUser { name: name.clone(), path, tags: tags.clone() });
        } else if differs(fields, "tags") {
            steps.push(CloudStep::TagUser { name: name.clone(), tags });
        }
        if new || field_differs(fields, &format!("policy.{POLICY}")) {
            let (user, document) = (name.clone(), policy);
            steps.push(CloudStep::PutUserPolicy { user, policy: POLICY.to_owned(), document });
        }
        if let Some(user) = actual {
            for other in user.policies.keys().filter(|policy| *policy != POLICY) {
                steps.push(CloudStep::DeleteUserPolicy { user: name.clone(), policy: other.clone() });
            }
            for arn in &user.attached {
                steps.push(CloudStep::DetachUserPolicy { user: name.clone(), arn: arn.clone() });
            }
        }
        if new || field_differs(fields, "key") {
            let (first, last) = actual.map_or_else(Default::default, |user| keys_that_go(&user.keys));
            let delete = |key: &AccessKey| CloudStep::DeleteAccessKey { user: name.clone(), id: key.id.clone() };
            steps.extend(first.into_iter().map(delete));
            steps.push(CloudStep::CreateAccessKey { user: name.clone(), deliver });
            steps.extend(last.into_iter().map(delete));
        }
        steps
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        // Its keys and inline policies go with it; see the step.
        vec![CloudStep::DeleteUser { name: owned.name.clone() }]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let key = match &desired.deliver {
            KeyDelivery::HostFile { server, path, .. } => format!("to {path} on {server}"),
            KeyDelivery::OperatorFile { path } => format!("to {path} here"),
        };
        describe([
            ("name", desired.name.clone().into()),
            ("path", desired.path.clone().into()),
            ("policy.seawall", desired.policy.clone()),
            ("key", key.into()),
        ])
    }

    fn owner(declared: &Address, environment: &str, actual: &Actual) -> Owner {
        owner_by_tags(declared, environment, &actual.user.tags)
    }

    fn remarks(_: &Desired, actual: &Actual) -> Vec<Remark> {
        let actual = &actual.user;
        let mut remarks: Vec<String> = Vec::new();
        let active: Vec<&str> = actual.keys.iter().filter(|key| key.active).map(|key| key.id.as_str()).collect();
        if active.len() > 1 {
            remarks.push(format!("it has {} active keys, {}, and needs one", active.len(), active.join(" and ")));
        }
        match actual.console {
            Console::None => {}
            Console::Password => remarks.push(format!(
                "it has a password for the console, and needs none: `aws iam delete-login-profile --user-name {}`",
                actual.name
            )),
            Console::NotKnown => remarks.push(
                "whether it has a password for the console is not known: iam:GetLoginProfile is not allowed".to_owned(),
            ),
        }
        remarks.extend(actual.boundary.iter().map(|arn| format!("it is bounded by {arn}, which is not ours")));
        if !actual.groups.is_empty() {
            remarks.push(format!("it is in {}, whose rights it has, too", actual.groups.join(", ")));
        }
        remarks.into_iter().map(Remark::from).collect()
    }
}
