//! A cloud in memory: state documents, and what each step makes of them. Enough to see that steps lead to what is wanted.
//!
//! It is strict where a mistake of a kind would show (names exist once, what is changed is there), and knows what
//! Lightsail does by itself: a new server has 22 and 80 open to the world and asks for no metadata token.

use std::collections::BTreeMap;

use seawall::plan::cloud::{
    AccessKey, Bucket, Instance, KeyPair, MetricAlarm, PortRule, Ports, StaticIp, Subscription, Topic, User,
};
use seawall::plan::observed::Observed;
use seawall::plan::probe::{Answers, CloudProbe, CommandState, Probe};
use seawall::plan::step::{CloudStep, KeyDelivery, NewInstance, Steps};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Default)]
pub(crate) struct Model {
    documents: BTreeMap<CloudProbe, Value>,
    /// Key files on servers: mode with owners, and key id.
    key_files: BTreeMap<(String, String), (String, String)>,
}

fn json(document: &impl Serialize) -> Value {
    serde_json::to_value(document).expect("a state document serialises")
}

fn open_to_all(port: i32) -> PortRule {
    PortRule {
        protocol: "tcp".to_owned(),
        from: port,
        to: port,
        cidrs: vec!["0.0.0.0/0".to_owned()],
        ipv6_cidrs: vec!["::/0".to_owned()],
        aliases: Vec::new(),
    }
}

/// The topic that an ARN names.
fn topic_of(arn: &str) -> CloudProbe {
    CloudProbe::Topic { name: arn.split(':').nth(5).expect("an ARN of SNS has six parts").to_owned() }
}

fn user(name: &str) -> CloudProbe {
    CloudProbe::User { name: name.to_owned() }
}

fn bucket(name: &str) -> CloudProbe {
    CloudProbe::Bucket { name: name.to_owned() }
}

fn instance(name: &str) -> CloudProbe {
    CloudProbe::Instance { name: name.to_owned() }
}

fn ports(name: &str) -> CloudProbe {
    CloudProbe::Ports { instance: name.to_owned() }
}

fn static_ip(name: &str) -> CloudProbe {
    CloudProbe::StaticIp { name: name.to_owned() }
}

impl Model {
    /// A cloud that holds what some answers say is there.
    pub(crate) fn of(answers: &Answers) -> Self {
        let present =
            answers.cloud.iter().filter_map(|(probe, answer)| Some((probe.clone(), answer.present()?.clone())));
        let mut key_files: BTreeMap<_, (String, String)> = BTreeMap::new();
        for ((server, argv), answer) in &answers.on_servers {
            let Some(answer) = answer.as_ref().ok().filter(|answer| answer.ok()) else { continue };
            let path = argv.last().expect("a command has words").clone();
            let file = key_files.entry((server.clone(), path)).or_default();
            let half = if argv[0] == "stat" { &mut file.0 } else { &mut file.1 };
            half.clone_from(&answer.stdout);
        }
        Self { documents: present.collect(), key_files }
    }

    fn key_file(&self, server: &str, argv: &[String]) -> CommandState {
        let path = argv.last().expect("a command has words").clone();
        match self.key_files.get(&(server.to_owned(), path)) {
            Some((access, id)) => {
                let stdout = if argv[0] == "stat" { access } else { id }.clone();
                CommandState { status: 0, stdout, stderr: String::new() }
            }
            None => CommandState { status: 1, stdout: String::new(), stderr: "No such file or directory".to_owned() },
        }
    }

    pub(crate) fn answers(&self, probes: &[Probe]) -> Answers {
        let mut answers = Answers::default();
        for probe in probes {
            match probe {
                Probe::Cloud(probe) => {
                    let answer = self.documents.get(probe).cloned().map_or(Observed::Absent, Observed::Present);
                    answers.cloud.insert(probe.clone(), answer);
                }
                Probe::OnServer { server, argv } => {
                    let answer = self.key_file(server, argv);
                    answers.on_servers.insert((server.clone(), argv.clone()), Ok(answer));
                }
                Probe::Host(_) | Probe::Secret(_) => panic!("{probe:?} is no question to the cloud"),
            }
        }
        answers
    }

    pub(crate) fn act(&mut self, steps: &Steps) {
        let Steps::Cloud(steps) = steps else { panic!("{:?} are no steps in the cloud", steps.summaries()) };
        for step in steps {
            match step {
                CloudStep::CreateInstance(new) => self.create_instance(new),
                step if step_of_bucket(step) => self.act_on_bucket(step),
                step if step_of_identity(step) => self.act_on_user(step),
                step if step_of_alerts(step) => self.act_on_alerts(step),
                step => self.act_on_lightsail(step),
            }
        }
    }

    fn add(&mut self, probe: CloudProbe, document: &impl Serialize) {
        assert!(!self.documents.contains_key(&probe), "{probe:?} exists already");
        self.documents.insert(probe, json(document));
    }

    fn remove(&mut self, probe: &CloudProbe) {
        assert!(self.documents.remove(probe).is_some(), "{probe:?} is not there");
    }

    fn change<T: Serialize + DeserializeOwned>(&mut self, probe: &CloudProbe, change: impl FnOnce(&mut T)) {
        let document = self.documents.get_mut(probe).unwrap_or_else(|| panic!("{probe:?} is not there"));
        let mut typed = serde_json::from_value(document.clone()).expect("a document of the probe's type");
        change(&mut typed);
        *document = json(&typed);
    }

    fn create_instance(&mut self, new: &NewInstance) {
        let NewInstance { name, zone, blueprint, bundle, key_pair, user_data: _, auto_snapshot, tags } = new.clone();
        self.add(ports(&name), &Ports { rules: vec![open_to_all(22), open_to_all(80)] });
        let document = Instance {
            name: name.clone(),
            state: "running".to_owned(),
            bundle,
            blueprint,
            zone,
            username: "admin".to_owned(),
            public_ip: Some("203.0.113.10".to_owned()),
            ipv6: Vec::new(),
            is_static_ip: false,
            key_pair,
            auto_snapshot,
            http_tokens: "optional".to_owned(),
            hop_limit: 2,
            open_tcp: Vec::new(),
            host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
            tags,
        };
        self.add(instance(&name), &document);
    }

    fn act_on_lightsail(&mut self, step: &CloudStep) {
        match step.clone() {
            CloudStep::ImportKeyPair { name, public_key: _, tags } => {
                let document = KeyPair { name: name.clone(), fingerprint: "aa:bb".to_owned(), tags };
                self.add(CloudProbe::KeyPair { name }, &document);
            }
            CloudStep::DeleteKeyPair { name } => self.remove(&CloudProbe::KeyPair { name }),
            // Snapshots are not modelled.
            CloudStep::KeepSnapshot { instance: _ } => {}
            CloudStep::DeleteInstance { name } => {
                self.remove(&instance(&name));
                self.documents.remove(&ports(&name));
            }
            CloudStep::TagLightsail { name, tags } => {
                let pair = CloudProbe::KeyPair { name: name.clone() };
                if self.documents.contains_key(&pair) {
                    self.change(&pair, |pair: &mut KeyPair| pair.tags.extend(tags));
                } else {
                    self.change(&instance(&name), |server: &mut Instance| server.tags.extend(tags));
                }
            }
            CloudStep::SetAutoSnapshot { instance: name, time } => {
                self.change(&instance(&name), |server: &mut Instance| server.auto_snapshot = time);
            }
            CloudStep::RequireImdsV2 { instance: name } => self.change(&instance(&name), |server: &mut Instance| {
                server.http_tokens = String::from("required");
                server.hop_limit = 1;
            }),
            CloudStep::AllocateStaticIp { name } => {
                let document = StaticIp { name: name.clone(), address: "203.0.113.10".to_owned(), attached_to: None };
                self.add(static_ip(&name), &document);
            }
            CloudStep::AttachStaticIp { name, instance } => {
                self.change(&static_ip(&name), |ip: &mut StaticIp| ip.attached_to = Some(instance));
            }
            CloudStep::DetachStaticIp { name } => {
                self.change(&static_ip(&name), |ip: &mut StaticIp| ip.attached_to = None);
            }
            CloudStep::ReleaseStaticIp { name } => self.remove(&static_ip(&name)),
            CloudStep::PutPorts { instance, rules } => {
                self.documents.insert(ports(&instance), json(&Ports { rules }));
            }
            other => panic!("the model does not know how to {}", other.summary()),
        }
    }

    fn act_on_bucket(&mut self, step: &CloudStep) {
        match step.clone() {
            CloudStep::CreateBucket { name, region, tags } => {
                let document = Bucket {
                    name: name.clone(),
                    region,
                    versioning: "Off".to_owned(),
                    encryption: "none".to_owned(),
                    public_access_blocked: false,
                    ownership: "none".to_owned(),
                    policy: None,
                    lifecycle: BTreeMap::new(),
                    object_lock: None,
                    tags,
                };
                self.add(bucket(&name), &document);
            }
            CloudStep::PutBucketVersioning { name, enabled } => self.change(&bucket(&name), |it: &mut Bucket| {
                it.versioning = String::from(if enabled { "Enabled" } else { "Suspended" });
            }),
            CloudStep::PutBucketObjectLock { name, lock } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.object_lock = Some(lock));
            }
            CloudStep::PutBucketEncryption { name } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.encryption = String::from("AES256"));
            }
            CloudStep::BlockBucketPublicAccess { name } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.public_access_blocked = true);
            }
            CloudStep::PutBucketOwnership { name } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.ownership = String::from("BucketOwnerEnforced"));
            }
            CloudStep::PutBucketPolicy { name, policy } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.policy = Some(policy));
            }
            CloudStep::PutBucketLifecycle { name, rules } => {
                self.change(&bucket(&name), |it: &mut Bucket| it.lifecycle = rules);
            }
            CloudStep::PutBucketTags { name, tags } => self.change(&bucket(&name), |it: &mut Bucket| it.tags = tags),
            CloudStep::DeleteBucket { name } => self.remove(&bucket(&name)),
            other => panic!("the model does not know how to {}", other.summary()),
        }
    }

    fn act_on_user(&mut self, step: &CloudStep) {
        match step.clone() {
            CloudStep::CreateUser { name, path, tags } => {
                let document = User {
                    arn: format!("arn:aws:iam::123456789012:user{path}{name}"),
                    name: name.clone(),
                    path,
                    policies: BTreeMap::new(),
                    attached: Vec::new(),
                    groups: Vec::new(),
                    console: seawall::plan::cloud::Console::None,
                    boundary: None,
                    keys: Vec::new(),
                    tags,
                };
                self.add(user(&name), &document);
            }
            CloudStep::TagUser { name, tags } => self.change(&user(&name), |it: &mut User| it.tags.extend(tags)),
            CloudStep::PutUserPolicy { user: name, policy, document } => {
                self.change(&user(&name), |it: &mut User| it.policies.insert(policy, document).map_or((), drop));
            }
            CloudStep::DeleteUserPolicy { user: name, policy } => self.change(&user(&name), |it: &mut User| {
                assert!(it.policies.remove(&policy).is_some(), "{name} has no policy {policy}");
            }),
            CloudStep::DetachUserPolicy { user: name, arn } => {
                self.change(&user(&name), |it: &mut User| it.attached.retain(|attached| *attached != arn));
            }
            CloudStep::CreateAccessKey { user: name, deliver } => {
                let id = "AKIANEW".to_owned();
                if let KeyDelivery::HostFile { server, path, group } = deliver {
                    self.key_files.insert((server, path), (format!("640 root:{group}"), id.clone()));
                }
                self.change(&user(&name), |it: &mut User| {
                    assert!(it.keys.len() < 2, "AWS allows two keys");
                    it.keys.push(AccessKey { id, active: true, created: "2026-11-01T00:00:00Z".to_owned() });
                });
            }
            CloudStep::DeleteAccessKey { user: name, id } => {
                self.change(&user(&name), |it: &mut User| it.keys.retain(|key| key.id != id));
            }
            CloudStep::DeleteUser { name } => self.remove(&user(&name)),
            other => panic!("the model does not know how to {}", other.summary()),
        }
    }

    fn act_on_alerts(&mut self, step: &CloudStep) {
        match step.clone() {
            CloudStep::CreateTopic { name, tags } => {
                let arn = format!("arn:aws:sns:ca-central-1:123456789012:{name}");
                let document = Topic { name: name.clone(), arn, policy: None, subscriptions: Vec::new(), tags };
                self.add(CloudProbe::Topic { name }, &document);
            }
            CloudStep::PutTopicPolicy { arn, policy } => {
                self.change(&topic_of(&arn), |it: &mut Topic| it.policy = Some(policy));
            }
            CloudStep::TagTopic { arn, tags } => self.change(&topic_of(&arn), |it: &mut Topic| it.tags.extend(tags)),
            CloudStep::Subscribe { topic, protocol, endpoint } => self.change(&topic_of(&topic), |it: &mut Topic| {
                it.subscriptions.push(Subscription { protocol, endpoint, arn: None });
            }),
            CloudStep::Unsubscribe { arn } => self.change(&topic_of(&arn), |it: &mut Topic| {
                let before = it.subscriptions.len();
                it.subscriptions.retain(|subscription| subscription.arn.as_ref() != Some(&arn));
                assert_ne!(it.subscriptions.len(), before, "there is no subscription {arn}");
            }),
            CloudStep::DeleteTopic { arn } => self.remove(&topic_of(&arn)),
            CloudStep::PutMetricAlarm { name, spec, tags } => {
                let arn = format!("arn:aws:cloudwatch:ca-central-1:123456789012:alarm:{name}");
                let document = MetricAlarm { name: name.clone(), arn, state: "OK".to_owned(), spec: *spec, tags };
                self.documents.insert(CloudProbe::MetricAlarm { name }, json(&document));
            }
            CloudStep::DeleteMetricAlarm { name } => self.remove(&CloudProbe::MetricAlarm { name }),
            other => panic!("the model does not know how to {}", other.summary()),
        }
    }
}

fn step_of_bucket(step: &CloudStep) -> bool {
    matches!(
        step,
        CloudStep::CreateBucket { .. }
            | CloudStep::PutBucketVersioning { .. }
            | CloudStep::PutBucketObjectLock { .. }
            | CloudStep::PutBucketEncryption { .. }
            | CloudStep::BlockBucketPublicAccess { .. }
            | CloudStep::PutBucketOwnership { .. }
            | CloudStep::PutBucketPolicy { .. }
            | CloudStep::PutBucketLifecycle { .. }
            | CloudStep::PutBucketTags { .. }
            | CloudStep::DeleteBucket { .. }
    )
}

fn step_of_identity(step: &CloudStep) -> bool {
    matches!(
        step,
        CloudStep::CreateUser { .. }
            | CloudStep::TagUser { .. }
            | CloudStep::PutUserPolicy { .. }
            | CloudStep::DeleteUserPolicy { .. }
            | CloudStep::DetachUserPolicy { .. }
            | CloudStep::CreateAccessKey { .. }
            | CloudStep::DeleteAccessKey { .. }
            | CloudStep::DeleteUser { .. }
    )
}

fn step_of_alerts(step: &CloudStep) -> bool {
    matches!(
        step,
        CloudStep::CreateTopic { .. }
            | CloudStep::PutTopicPolicy { .. }
            | CloudStep::TagTopic { .. }
            | CloudStep::Subscribe { .. }
            | CloudStep::Unsubscribe { .. }
            | CloudStep::DeleteTopic { .. }
            | CloudStep::PutMetricAlarm { .. }
            | CloudStep::DeleteMetricAlarm { .. }
    )
}
