//! What holds for every kind, over every case and over an inventory that uses all of them.
//!
//! Each law is a function that lists what breaks it, so that the last module can show that it finds a broken kind.

mod folders;
mod plans;

use std::collections::BTreeSet;

use crate::support::case::{self, Case};
use crate::support::model::Model;
use seawall::inventory::sections::Inventory;
use seawall::kinds::cloudwatch_alarm::CloudwatchAlarm;
use seawall::kinds::host_certificate::HostCertificate;
use seawall::kinds::host_compose::HostCompose;
use seawall::kinds::host_fail2ban::HostFail2ban;
use seawall::kinds::host_folders::HostFolders;
use seawall::kinds::host_jobs::HostJobs;
use seawall::kinds::host_packages::HostPackages;
use seawall::kinds::host_sshd::HostSshd;
use seawall::kinds::host_swap::HostSwap;
use seawall::kinds::host_sysctl::HostSysctl;
use seawall::kinds::host_time::HostTime;
use seawall::kinds::host_ufw::HostUfw;
use seawall::kinds::host_updates::HostUpdates;
use seawall::kinds::host_users::HostUsers;
use seawall::kinds::iam_user::IamUser;
use seawall::kinds::lightsail_instance::LightsailInstance;
use seawall::kinds::lightsail_key_pair::LightsailKeyPair;
use seawall::kinds::lightsail_ports::LightsailPorts;
use seawall::kinds::lightsail_static_ip::LightsailStaticIp;
use seawall::kinds::pgbackrest_copy::PgbackrestCopy;
use seawall::kinds::pgbackrest_repo::PgbackrestRepo;
use seawall::kinds::pgbouncer_pool::PgbouncerPool;
use seawall::kinds::postgres_access::PostgresAccess;
use seawall::kinds::postgres_cluster::PostgresCluster;
use seawall::kinds::postgres_databases::PostgresDatabases;
use seawall::kinds::postgres_dumps::PostgresDumps;
use seawall::kinds::postgres_extensions::PostgresExtensions;
use seawall::kinds::postgres_roles::PostgresRoles;
use seawall::kinds::postgres_views::PostgresViews;
use seawall::kinds::s3_bucket::S3Bucket;
use seawall::kinds::sns_topic::SnsTopic;
use seawall::kinds::table::{Data, Entry, Judged, Wanted};
use seawall::kinds::{KINDS, Kind, Owner};
use seawall::plan::Place;
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::Answers;
use serde_json::{Value, json};

/// A value that stands in a secret's file. It must not appear in anything that a kind says.
const POISON: &str = "poison-5f2c1e";

/// Every kind's section at once, with secrets as references.
fn inventory(secret_file: &str) -> Inventory {
    let keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops"];
    let server = |stanza: &str, roles: Value| {
        json!({
            "instance": { "bundle": "small_3_0", "blueprint": "debian_12", "zone": "ca-central-1a", "auto_snapshot": "06:00" },
            "login": { "keys": keys },
            "firewall": [
                { "port": 22, "from": ["203.0.113.0/24"], "why": "operators" },
                { "port": 22, "from": ["2001:db8::/32", "203.0.113.0/24"], "why": "the other office" },
                { "port": 443, "from": "anywhere", "why": "certificate validation" },
                { "port": 123, "protocol": "udp", "from": ["198.51.100.7/32"], "why": "time" },
            ],
            "packages": ["jq"],
            "updates": {}, "sysctl": {}, "time": {}, "swap": {}, "sshd": {}, "fail2ban": {},
            "postgres": { "roles": roles, "databases": ["shop"], "extensions": ["pgcrypto"] },
            "backup": { "bucket": "backups", "stanza": stanza, "cipher_pass": { "file": secret_file }, "dumps": {}, "copies": [{ "bucket": "copies", "cipher_pass": { "file": secret_file } }] },
            "certificate": { "name": "db.example.org", "contact": "ops@example.org" },
            "pgbouncer": {},
            "compose": { "project": "web", "file": "compose.yaml", "secrets": { "TOKEN": { "env": "WEB_TOKEN" } } },
            "jobs": { "ingest": {
                "run": "/opt/ingest --all", "schedule": "daily 06:00", "user": "app", "environment": { "MODE": "fast" },
                "secrets": { "TOKEN": { "env": "INGEST_TOKEN" } },
            } },
        })
    };
    let role = json!({ "app": { "login": true, "password": { "file": secret_file } } });
    let whole = json!({
        "seawall": 1,
        "environment": "test",
        "aws": { "account": "123456789012", "region": "ca-central-1" },
        "alerts": { "email": ["ops@example.org", "lead@example.org"] },
        "servers": { "db": server("db", role), "web": server("web", json!({})) },
        "buckets": {
            "backups": { "name": "test-backups" },
            "copies": { "name": "test-copies", "region": "eu-west-1" },
            "scratch": { "name": "test-scratch", "keep": "disposable", "versioning": false },
        },
        "identities": {
            "repository": {
                "bucket": "backups", "prefix": "pgbackrest/test",
                "key": { "server": "db", "file": "/etc/seawall/credentials", "group": "postgres" },
            },
            "drills": {
                "bucket": "backups", "prefix": "pgbackrest/test", "access": "read-only",
                "key": { "operator_file": "secrets/drills" },
            },
        },
        "alarms": {
            "heartbeat": { "metric": "Heartbeat", "when": "below", "threshold": 1, "missing": "missing", "why": "silence" },
            "disk": { "metric": "DiskUsed", "when": "above", "threshold": 80.5, "why": "the disk fills" },
        },
    });
    serde_json::from_value(whole).expect("this is an inventory")
}

fn declared() -> Vec<Wanted> {
    let inventory = inventory("secrets/app");
    KINDS.iter().flat_map(|kind| (kind.declare)(&inventory)).collect()
}

/// Whether a kind's resources are on a server.
fn is_on_a_host(kind: &Entry) -> bool {
    ["host.", "postgres.", "pgbackrest.", "pgbouncer."].iter().any(|room| kind.name.starts_with(room))
}

/// All that judging says, as one text.
fn said(judged: &Judged) -> String {
    let Judged { observed, owner, fields, files, steps, remarks, risk, refusals, undo, opening } = judged;
    format!(
        "{observed:?} {owner:?} {fields:?} {files:?} {steps:?} {remarks:?} {risk:?} {refusals:?} {undo:?} {opening:?}"
    )
}

/// All that creating says, as one text.
fn promised(kind: &Entry, desired: &Value) -> String {
    let creation = (kind.create)(desired);
    format!("{:?} {:?} {:?}", creation.fields, creation.files, creation.steps)
}

fn each_case(law: impl Fn(&'static Entry, &Case) -> Vec<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, cases) in case::all() {
        for case in &cases {
            problems.extend(law(kind, case).into_iter().map(|what| format!("{}: {}: {what}", kind.name, case.name)));
        }
    }
    problems
}

fn holds(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_kind_declares_and_its_wishes_survive_saving() {
    fn survives<K: Kind>(inventory: &Inventory) -> &'static str {
        let declared = K::declare(inventory);
        assert!(!declared.is_empty(), "{}: the inventory of this test does not use it", K::NAME);
        for one in declared {
            let saved = serde_json::to_value(&one.desired).expect("a desired state serialises");
            let read: K::Desired = serde_json::from_value(saved.clone()).expect("a desired state can be read again");
            assert_eq!(serde_json::to_value(&read).expect("a desired state serialises"), saved, "{}", one.address);
        }
        K::NAME
    }
    let inventory = inventory("secrets/app");
    let names = [
        survives::<LightsailKeyPair>(&inventory),
        survives::<LightsailInstance>(&inventory),
        survives::<LightsailStaticIp>(&inventory),
        survives::<LightsailPorts>(&inventory),
        survives::<S3Bucket>(&inventory),
        survives::<IamUser>(&inventory),
        survives::<SnsTopic>(&inventory),
        survives::<CloudwatchAlarm>(&inventory),
        survives::<HostFolders>(&inventory),
        survives::<HostPackages>(&inventory),
        survives::<HostUsers>(&inventory),
        survives::<HostUpdates>(&inventory),
        survives::<HostSysctl>(&inventory),
        survives::<HostTime>(&inventory),
        survives::<HostSwap>(&inventory),
        survives::<HostCertificate>(&inventory),
        survives::<HostSshd>(&inventory),
        survives::<HostUfw>(&inventory),
        survives::<HostFail2ban>(&inventory),
        survives::<PostgresCluster>(&inventory),
        survives::<PostgresRoles>(&inventory),
        survives::<PostgresDatabases>(&inventory),
        survives::<PostgresExtensions>(&inventory),
        survives::<PgbackrestRepo>(&inventory),
        survives::<PgbackrestCopy>(&inventory),
        survives::<PostgresDumps>(&inventory),
        survives::<PostgresAccess>(&inventory),
        survives::<PostgresViews>(&inventory),
        survives::<PgbouncerPool>(&inventory),
        survives::<HostJobs>(&inventory),
        survives::<HostCompose>(&inventory),
    ];
    assert_eq!(names.to_vec(), KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>(), "a kind is missing here");
}

#[test]
fn addresses_are_unique_and_needs_are_declared() {
    let declared = declared();
    let addresses: BTreeSet<String> = declared.iter().map(|wanted| wanted.address.to_string()).collect();
    assert_eq!(addresses.len(), declared.len(), "two resources have one address");
    for wanted in &declared {
        assert_eq!(wanted.address.kind(), wanted.kind.name);
        assert_eq!(matches!(wanted.place, Place::Host(_)), is_on_a_host(wanted.kind), "{}", wanted.address);
        for need in &wanted.after {
            assert!(addresses.contains(&need.to_string()), "{} needs {need}, which nothing declares", wanted.address);
        }
    }
}

#[test]
fn the_same_input_gives_the_same_output() {
    let (first, second) = (declared(), declared());
    for (one, two) in first.iter().zip(&second) {
        assert_eq!((&one.address, &one.after, &one.desired), (&two.address, &two.after, &two.desired));
        assert_eq!(promised(one.kind, &one.desired), promised(two.kind, &two.desired), "{}", one.address);
    }
    holds(&each_case(|kind, case| {
        let once = || said(&case.judge(kind, &case.answers()));
        if once() == once() { Vec::new() } else { vec!["judged twice, it says two things".to_owned()] }
    }));
}

/// What could not be seen never becomes "create", nor a difference, nor a step.
fn unseen_is_unknown(kind: &'static Entry, case: &Case) -> Vec<String> {
    let mut problems = Vec::new();
    for why in [Unseen::Unreachable("away".to_owned()), Unseen::Refused("no".to_owned())] {
        let judged = case.judge(kind, &Answers::unseen(why));
        if !matches!(judged.observed, Observed::Unknown(_)) {
            problems.push(format!("unseen, and yet {:?}", judged.observed));
        }
        if !judged.fields.is_empty() || !judged.steps.is_empty() || !judged.files.is_empty() {
            problems.push("unseen, and yet it wants to change something".to_owned());
        }
    }
    problems
}

#[test]
fn what_was_not_seen_is_unknown() {
    holds(&each_case(unseen_is_unknown));
}

/// Every way to lose one of the answers.
fn with_one_answer_lost(answers: &Answers) -> Vec<(String, Answers)> {
    let mut ways = Vec::new();
    let mut lose = |what: String, forget: &dyn Fn(&mut Answers)| {
        let mut rest = answers.clone();
        forget(&mut rest);
        ways.push((what, rest));
    };
    for key in answers.cloud.keys() {
        lose(format!("{key:?}"), &|rest| drop(rest.cloud.remove(key)));
    }
    for key in answers.on_servers.keys() {
        lose(format!("{key:?}"), &|rest| drop(rest.on_servers.remove(key)));
    }
    for key in answers.files.keys() {
        lose(key.clone(), &|rest| drop(rest.files.remove(key)));
    }
    for key in answers.globs.keys() {
        lose(key.clone(), &|rest| drop(rest.globs.remove(key)));
    }
    for key in answers.commands.keys() {
        lose(key.join(" "), &|rest| drop(rest.commands.remove(key)));
    }
    for key in answers.sql.keys() {
        lose(format!("{key:?}"), &|rest| drop(rest.sql.remove(key)));
    }
    ways
}

/// An answer that is lost makes the whole unknown, or it did not matter.
fn a_lost_answer_is_no_answer(kind: &'static Entry, case: &Case) -> Vec<String> {
    let answers = case.answers();
    let complete = said(&case.judge(kind, &answers));
    let guessed = |(what, rest): (String, Answers)| {
        let judged = case.judge(kind, &rest);
        let honest = matches!(judged.observed, Observed::Unknown(_)) || said(&judged) == complete;
        (!honest).then(|| format!("without the answer to `{what}` it guesses {:?}", judged.observed))
    };
    with_one_answer_lost(&answers).into_iter().filter_map(guessed).collect()
}

#[test]
fn a_lost_answer_never_becomes_a_guess() {
    holds(&each_case(a_lost_answer_is_no_answer));
}

/// Nothing is done about what is as wanted, and every difference has two sides that differ.
fn only_differences_are_acted_on(kind: &'static Entry, case: &Case) -> Vec<String> {
    let judged = case.judge(kind, &case.answers());
    let mut problems = Vec::new();
    if !judged.fields.iter().any(|field| field.limit.is_none()) && !judged.steps.is_empty() {
        problems.push("nothing to close, and yet steps".to_owned());
    }
    let visible = judged.fields.iter().filter(|field| field.limit.is_none());
    if visible.clone().count() > 0 && judged.steps.is_empty() && !visible.clone().any(|field| field.replaces) {
        problems.push("a difference, and no step to close it".to_owned());
    }
    let blind = judged.fields.iter().filter(|field| field.before == field.after);
    problems.extend(blind.map(|field| format!("`{}` changes to what it is", field.path)));
    let paths: BTreeSet<&str> = judged.fields.iter().map(|field| field.path.as_str()).collect();
    if paths.len() != judged.fields.len() {
        problems.push("one field is named twice".to_owned());
    }
    problems
}

#[test]
fn nothing_is_done_without_a_difference() {
    holds(&each_case(only_differences_are_acted_on));
}

/// What an apply leads to, in a cloud of the case's own, must be what was wanted.
fn steps_lead_to_what_is_wanted(kind: &'static Entry, case: &Case) -> Vec<String> {
    let (outcome, steps) = case.outcome(kind);
    if is_on_a_host(kind) || !matches!(outcome.action.as_str(), "create" | "update" | "replace") {
        return Vec::new();
    }
    let mut cloud = Model::of(&case.answers());
    cloud.act(&steps);
    let judged = case.judge(kind, &cloud.answers(&(kind.probes)(&case.desired)));
    if matches!(judged.observed, Observed::Present(_)) && judged.fields.is_empty() && judged.owner == Owner::Ours {
        Vec::new()
    } else {
        vec![format!("after {} it is still not as wanted: {:?} {:?}", outcome.action, judged.owner, judged.fields)]
    }
}

#[test]
fn an_apply_leads_to_an_empty_plan() {
    holds(&each_case(steps_lead_to_what_is_wanted));
}

#[test]
fn an_environment_is_made_kept_and_taken_away() {
    let wanted: Vec<Wanted> = declared().into_iter().filter(|wanted| wanted.place == Place::Cloud).collect();
    let mut cloud = Model::default();
    let judge = |cloud: &Model, wanted: &Wanted| {
        (wanted.kind.judge)(wanted, "test", &cloud.answers(&(wanted.kind.probes)(&wanted.desired)))
    };
    // As the engine does it: each is judged when its turn comes. A new server brings open ports of its own.
    for one in &wanted {
        let judged = judge(&cloud, one);
        match judged.observed {
            Observed::Absent => cloud.act(&(one.kind.create)(&one.desired).steps),
            _ => cloud.act(&judged.steps),
        }
    }
    for one in &wanted {
        let judged = judge(&cloud, one);
        assert!(matches!(judged.observed, Observed::Present(_)), "{}: {:?}", one.address, judged.observed);
        assert_eq!((judged.owner, judged.fields), (Owner::Ours, Vec::new()), "{}", one.address);
    }
    for one in wanted.iter().rev() {
        if let Observed::Present(state) = judge(&cloud, one).observed {
            cloud.act(&(one.kind.remove)(&case::owned(one, &state), Data::Stays));
        }
    }
    for one in &wanted {
        assert_eq!(judge(&cloud, one).observed, Observed::Absent, "{}", one.address);
    }
}

/// Everything that a kind says about one wish.
fn everything_said(kind: &Entry, desired: &Value) -> String {
    format!("{desired} {} {:?}", promised(kind, desired), (kind.probes)(desired))
}

#[test]
fn no_secret_is_ever_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("app-password");
    std::fs::write(&file, POISON).expect("a temporary folder is writable");
    let path = file.to_string_lossy();
    let inventory = inventory(&path);
    assert!(format!("{inventory:?}").contains(&*path), "the inventory of this test refers to the secret");
    for kind in KINDS {
        for wanted in (kind.declare)(&inventory) {
            let text = everything_said(kind, &wanted.desired);
            assert!(!text.contains(POISON), "{}: {text}", wanted.address);
            // Whoever does not need the password does not say where it is kept either, user data above all.
            let app = kind.name == "postgres.roles" && wanted.address.name() == "db";
            let needs_it = app || ["pgbackrest.repo", "pgbackrest.copy"].contains(&kind.name);
            assert_eq!(text.contains(&*path), needs_it, "{}: {text}", wanted.address);
        }
    }
}

/// Laws that nothing can break prove nothing: here are kinds that break them.
mod the_laws_themselves {
    use super::*;
    use seawall::kinds::table::{Creation, entry};
    use seawall::plan::step::{CloudStep, Steps};

    /// Takes "could not look" for "not there".
    fn blind(wanted: &Wanted, environment: &str, answers: &Answers) -> Judged {
        let mut judged = (entry::<LightsailStaticIp>().judge)(wanted, environment, answers);
        if matches!(judged.observed, Observed::Unknown(_)) {
            judged.observed = Observed::Absent;
        }
        judged
    }

    /// Forgets the last step of a creation.
    fn half(desired: &Value) -> Creation {
        let mut creation = (entry::<LightsailStaticIp>().create)(desired);
        if let Steps::Cloud(steps) = &mut creation.steps {
            steps.pop();
        }
        creation
    }

    /// Does something about nothing, and says a secret.
    fn eager(wanted: &Wanted, environment: &str, answers: &Answers) -> Judged {
        let mut judged = (entry::<LightsailStaticIp>().judge)(wanted, environment, answers);
        if let Steps::Cloud(steps) = &mut judged.steps {
            steps.push(CloudStep::ReleaseStaticIp { name: POISON.to_owned() });
        }
        judged
    }

    /// Creates something and names no field.
    fn shy(desired: &Value) -> Creation {
        let mut creation = (entry::<LightsailStaticIp>().create)(desired);
        creation.fields.clear();
        creation
    }

    static BLIND: Entry = Entry { judge: blind, ..entry::<LightsailStaticIp>() };
    static HALF: Entry = Entry { create: half, ..entry::<LightsailStaticIp>() };
    static SHY: Entry = Entry { create: shy, ..entry::<LightsailStaticIp>() };
    static EAGER: Entry = Entry { judge: eager, ..entry::<LightsailStaticIp>() };
    static SOUND: Entry = entry::<LightsailStaticIp>();

    const CASES: &str = "\
- case: absent
  desired: {name: test-db-ip, attached_to: test-db}
  cloud: [{probe: {static_ip: {name: test-db-ip}}, answer: absent}]
- case: equal
  desired: {name: test-db-ip, attached_to: test-db}
  cloud:
    - probe: {static_ip: {name: test-db-ip}}
      answer: {present: {name: test-db-ip, address: 203.0.113.10, attached_to: test-db}}
";

    #[test]
    fn a_broken_kind_breaks_them() {
        let [absent, equal] = case::parse("text", CASES).try_into().unwrap_or_else(|_| panic!("two cases"));
        for law in [
            unseen_is_unknown,
            a_lost_answer_is_no_answer,
            steps_lead_to_what_is_wanted,
            only_differences_are_acted_on,
            plans::keep_their_promises,
        ] {
            assert_eq!((law(&SOUND, &absent), law(&SOUND, &equal)), (Vec::new(), Vec::new()));
        }
        assert!(!unseen_is_unknown(&BLIND, &equal).is_empty());
        assert!(!a_lost_answer_is_no_answer(&BLIND, &equal).is_empty());
        assert!(!steps_lead_to_what_is_wanted(&HALF, &absent).is_empty());
        assert!(!plans::keep_their_promises(&SHY, &absent).is_empty());
        assert!(!only_differences_are_acted_on(&EAGER, &equal).is_empty());
        assert!(!unseen_is_unknown(&EAGER, &equal).is_empty());
        assert!(said(&equal.judge(&EAGER, &equal.answers())).contains(POISON));
    }

    #[test]
    #[should_panic(expected = "exists already")]
    fn the_model_refuses_what_the_cloud_would_refuse() {
        let steps = Steps::Cloud(vec![CloudStep::AllocateStaticIp { name: "ip".to_owned() }]);
        let mut cloud = Model::default();
        cloud.act(&steps);
        cloud.act(&steps);
    }
}
