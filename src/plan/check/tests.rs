//! Each promise is broken once, beginning with a plan that keeps all of them.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::base::secret::{SecretRef, SecretUse};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::step::CloudStep;
use crate::plan::{Deferred, NotSeen};

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn absent() -> Digest {
    Digest::of(&Observed::<()>::Absent)
}

fn change(of: &str, action: Action, steps: Steps, after: &[&str]) -> Change {
    let fields = match action {
        Action::Destroy => Vec::new(),
        _ => vec![FieldChange::new("value", Some(json!(1)), Some(json!(2)))],
    };
    Change {
        address: address(of),
        action,
        reason: Reason::Differs,
        fields,
        files: Vec::new(),
        steps,
        guard: if action == Action::Create { absent() } else { Digest::of_bytes(b"seen") },
        risk: Risk::Plain,
        proofs: Vec::new(),
        undo: Vec::new(),
        after: after.iter().map(|text| address(text)).collect(),
    }
}

fn in_cloud(of: &str, action: Action, after: &[&str]) -> Change {
    let steps = Steps::Cloud(vec![CloudStep::AllocateStaticIp { name: of.to_owned() }]);
    change(of, action, steps, after)
}

fn on_host(of: &str, action: Action, after: &[&str]) -> Change {
    let record = HostStep::Record { address: address(of), desired: (action != Action::Destroy).then(|| json!({})) };
    let steps = Steps::Host(vec![HostStep::RemoveFile { path: "/etc/old".to_owned() }, record]);
    change(of, action, steps, after)
}

fn stage(changes: Vec<Change>) -> Stage {
    Stage { changes }
}

/// A plan that keeps every promise: two stages, a host's transaction, something that waits.
fn sound() -> Plan {
    let waits = in_cloud("iam.user/late", Action::Create, &[]);
    Plan {
        stages: vec![
            stage(vec![in_cloud("s3.bucket/a", Action::Create, &[])]),
            stage(vec![
                on_host("host.packages/db", Action::Update, &["s3.bucket/a"]),
                on_host("host.time/db", Action::Update, &["host.packages/db"]),
            ]),
        ],
        deferred: vec![Deferred { after: address("host.time/db"), change: waits }],
        unchanged: vec![address("host.swap/db")],
        unknown: vec![NotSeen { address: address("host.manifest/web"), why: Unseen::Refused("no".to_owned()) }],
        ..Plan::default()
    }
}

/// The breaches of the sound plan after one thing was done to it.
fn broken(how: impl FnOnce(&mut Plan)) -> Vec<Breach> {
    let mut plan = sound();
    how(&mut plan);
    check(plan).err().unwrap_or_default()
}

fn first(plan: &mut Plan) -> &mut Change {
    &mut plan.stages[0].changes[0]
}

fn packages(plan: &mut Plan) -> &mut Change {
    &mut plan.stages[1].changes[0]
}

/// The steps of the host's first change.
fn steps(plan: &mut Plan) -> &mut Vec<HostStep> {
    match &mut packages(plan).steps {
        Steps::Host(steps) => steps,
        Steps::Cloud(_) => panic!("packages are on a host"),
    }
}

#[test]
fn a_sound_plan_passes_as_it_is() {
    assert_eq!(check(sound()).map(|checked| Plan::clone(&checked)), Ok(sound()));
}

#[test]
fn each_resource_is_in_one_list() {
    assert_eq!(broken(|plan| plan.stages[0].changes.clear()), [Breach::EmptyStage(0)]);
    let twice = |plan: &mut Plan| plan.stages.push(plan.stages[0].clone());
    assert_eq!(broken(twice), [Breach::ChangedTwice(address("s3.bucket/a"))]);
    let both_go = |plan: &mut Plan| {
        let gone = |name: &str| stage(vec![in_cloud(name, Action::Destroy, &[])]);
        plan.stages.extend([gone("s3.bucket/old"), gone("s3.bucket/old")]);
    };
    assert_eq!(broken(both_go), []);
    let waits_twice = |plan: &mut Plan| plan.deferred.push(plan.deferred[0].clone());
    assert_eq!(broken(waits_twice), [Breach::DeferredTwice(address("iam.user/late"))]);
    for changed in ["s3.bucket/a", "iam.user/late"] {
        let found = broken(|plan| plan.unchanged.push(address(changed)));
        assert_eq!(found, [Breach::UnchangedAndChanged(address(changed))]);
        let found = broken(|plan| plan.unknown[0].address = address(changed));
        assert_eq!(found, [Breach::UnknownAndChanged(address(changed))]);
    }
}

#[test]
fn steps_have_fields_and_fields_have_steps() {
    let bucket = || address("s3.bucket/a");
    assert_eq!(broken(|plan| first(plan).fields.clear()), [Breach::NoFields(bucket())]);
    assert_eq!(broken(|plan| first(plan).steps = Steps::Cloud(Vec::new())), [Breach::NoSteps(bucket())]);
    // A record says whose a thing is. It closes no difference.
    assert_eq!(broken(|plan| drop(steps(plan).remove(0))), [Breach::NoSteps(address("host.packages/db"))]);
    let nothing = |plan: &mut Plan| packages(plan).action = Action::NoOp;
    assert_eq!(broken(nothing), [Breach::NoSteps(address("host.packages/db"))]);
    let same = |plan: &mut Plan| first(plan).fields[0].after = Some(json!(1));
    assert_eq!(broken(same), [Breach::SameField(bucket(), "value".to_owned())]);
    let twice = |plan: &mut Plan| {
        let field = first(plan).fields[0].clone();
        first(plan).fields.push(field);
    };
    assert_eq!(broken(twice), [Breach::FieldTwice(bucket(), "value".to_owned())]);
    let limited = |plan: &mut Plan| first(plan).fields[0].limit = Some("a container".to_owned());
    assert_eq!(broken(limited), [Breach::LimitedField(bucket(), "value".to_owned())]);
    // What is removed has no fields, and what waits keeps the same promises, unless it is fitted to a new server.
    let removed = |plan: &mut Plan| plan.stages[0].changes[0] = in_cloud("s3.bucket/a", Action::Destroy, &[]);
    assert_eq!(broken(removed), []);
    let late = |plan: &mut Plan| {
        plan.deferred[0].change.fields.clear();
        plan.deferred[0].change.steps = Steps::Cloud(Vec::new());
    };
    assert_eq!(broken(late), [Breach::NoSteps(address("iam.user/late"))]);
    let fitted = |plan: &mut Plan| {
        late(plan);
        plan.deferred[0].change.action = Action::Update;
        plan.deferred[0].change.reason = Reason::ServerReplaced;
    };
    assert_eq!(broken(fitted), []);
}

#[test]
fn steps_are_for_their_place_and_a_host_records_once_and_last() {
    let host = address("host.packages/db");
    let elsewhere = |plan: &mut Plan| plan.stages[0].changes.push(on_host("host.users/db", Action::Update, &[]));
    assert_eq!(broken(elsewhere), [Breach::WrongPlace(address("host.users/db"))]);
    let other_host = |plan: &mut Plan| plan.stages[1].changes.push(on_host("host.time/web", Action::Update, &[]));
    assert_eq!(broken(other_host), [Breach::WrongPlace(address("host.time/web"))]);
    let not_last = |plan: &mut Plan| steps(plan).swap(0, 1);
    assert_eq!(broken(not_last), [Breach::Recorded(host.clone(), 1)]);
    let twice = |plan: &mut Plan| {
        let record = steps(plan)[1].clone();
        steps(plan).push(record);
    };
    assert_eq!(broken(twice), [Breach::Recorded(host.clone(), 2)]);
    let foreign = HostStep::Record { address: address("host.time/db"), desired: Some(json!({})) };
    assert_eq!(broken(|plan| steps(plan)[1] = foreign), [Breach::Recorded(host.clone(), 1)]);
    let forgotten = HostStep::Record { address: host.clone(), desired: None };
    assert_eq!(broken(|plan| steps(plan)[1] = forgotten), [Breach::Recorded(host, 1)]);
}

#[test]
fn guards_hold_what_was_seen() {
    let seen = |plan: &mut Plan| first(plan).guard = Digest::of_bytes(b"seen");
    assert_eq!(broken(seen), [Breach::Guard(address("s3.bucket/a"))]);
    assert_eq!(broken(|plan| packages(plan).guard = absent()), [Breach::Guard(address("host.packages/db"))]);
    let late = |plan: &mut Plan| plan.deferred[0].change.guard = Digest::of_bytes(b"seen");
    assert_eq!(broken(late), [Breach::Guard(address("iam.user/late"))]);
    let not_created = Observed::<()>::Unknown(Unseen::NotYetCreated(address("host.time/db")));
    assert_eq!(broken(|plan| plan.deferred[0].change.guard = Digest::of(&not_created)), []);
}

#[test]
fn nothing_comes_before_what_it_needs() {
    let order = |first: &str, then: &str| Breach::Order(address(first), address(then));
    assert_eq!(broken(|plan| plan.stages.swap(0, 1)), [order("host.packages/db", "s3.bucket/a")]);
    assert_eq!(broken(|plan| plan.stages[1].changes.swap(0, 1)), [order("host.time/db", "host.packages/db")]);
    // The changes of one stage in the cloud run side by side.
    let beside = |plan: &mut Plan| {
        plan.stages[0].changes.push(in_cloud("iam.user/b", Action::Create, &["s3.bucket/a"]));
    };
    assert_eq!(broken(beside), [order("iam.user/b", "s3.bucket/a")]);
}

#[test]
fn what_is_destroyed_goes_before_what_it_stands_on() {
    let gone = |of: &str, after: &[&str]| stage(vec![in_cloud(of, Action::Destroy, after)]);
    let user_then_bucket = vec![gone("iam.user/a", &["s3.bucket/a"]), gone("s3.bucket/a", &[])];
    let mut bucket_then_user = user_then_bucket.clone();
    bucket_then_user.reverse();
    assert_eq!(broken(|plan| *plan = Plan { stages: user_then_bucket, ..Plan::default() }), []);
    let breach = Breach::DestroyOrder(address("iam.user/a"), address("s3.bucket/a"));
    assert_eq!(broken(|plan| *plan = Plan { stages: bucket_then_user, ..Plan::default() }), [breach]);
}

#[test]
fn nothing_needs_what_waits_and_nothing_waits_for_itself() {
    let needs = |plan: &mut Plan| first(plan).after.push(address("iam.user/late"));
    assert_eq!(broken(needs), [Breach::NeedsDeferred(address("s3.bucket/a"), address("iam.user/late"))]);
    let itself = |plan: &mut Plan| plan.deferred[0].after = address("iam.user/late");
    assert!(broken(itself).contains(&Breach::WaitInCircle(address("iam.user/late"))));
    // The first part of a change is done now, and its rest waits for just that.
    let first_part = |plan: &mut Plan| {
        plan.stages.push(stage(vec![in_cloud("iam.user/late", Action::Create, &[])]));
        plan.deferred[0].after = address("iam.user/late");
    };
    assert_eq!(broken(first_part), []);
}

#[test]
fn what_may_lock_out_is_a_transaction_of_its_own() {
    let mixed = |plan: &mut Plan| packages(plan).risk = Risk::MayLockOut;
    assert_eq!(broken(mixed), [Breach::MixedGuard(address("host.packages/db"), address("host.time/db"))]);
    let whole = |plan: &mut Plan| plan.stages[1].changes.iter_mut().for_each(|change| change.risk = Risk::MayLockOut);
    assert_eq!(broken(whole), []);
}

fn with_secret(template: &str, mode: &str) -> HostStep {
    let secret = SecretUse::from(SecretRef::Env { env: "TOKEN".to_owned() });
    HostStep::WriteFile {
        path: "/etc/key".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: mode.to_owned(),
        content: Content::WithSecrets {
            template: template.to_owned(),
            secrets: BTreeMap::from([("token".to_owned(), secret)]),
        },
        validate: None,
    }
}

#[test]
fn a_secret_is_a_reference_that_nobody_else_can_read() {
    let host = || address("host.packages/db");
    let path = || "/etc/key".to_owned();
    let written = |step: HostStep| move |plan: &mut Plan| steps(plan)[0] = step;
    assert_eq!(broken(written(with_secret("key={{token}}", "0640"))), []);
    let readable = broken(written(with_secret("key={{token}}", "0644")));
    assert_eq!(readable, [Breach::ReadableSecret(host(), path())]);
    let unused = broken(written(with_secret("key=", "0600")));
    assert_eq!(unused, [Breach::TemplateSecrets(host(), path())]);
    let shown = broken(|plan| {
        steps(plan)[0] = with_secret("key={{token}}", "0600");
        packages(plan).files.push(FileDiff { path: path(), before: None, after: Some("key=".to_owned()) });
    });
    assert_eq!(shown, [Breach::ShownSecret(host(), path())]);
    for plain in [concat!("-----BEGIN PRIVATE ", "KEY-----\nMC4CAQ"), "ALTER ROLE app PASSWORD 'hunter2'"] {
        let run = |argv: &[&str], stdin: Option<Content>| HostStep::Run {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::new(),
            stdin,
            timeout_s: 1,
            revert: None,
            what: "run it".to_owned(),
        };
        assert_eq!(broken(written(run(&["psql", "-c", plain], None))), [Breach::SecretValue(host())], "{plain}");
        let stdin = Some(Content::Text(plain.to_owned()));
        assert_eq!(broken(written(run(&["psql"], stdin))), [Breach::SecretValue(host())], "{plain}");
        // What somebody else wrote is shown as it is, and stops no plan.
        assert_eq!(broken(|plan| packages(plan).fields[0].after = Some(json!(plain))), [], "{plain}");
    }
}

#[test]
fn a_breach_is_our_bug_and_names_the_resource() {
    let breaches = broken(|plan| first(plan).steps = Steps::Cloud(Vec::new()));
    let problems = report(breaches);
    assert_eq!(problems.0[0].code, "unsound-plan");
    assert!(problems.0[0].notes.iter().any(|note| note.contains("s3.bucket/a")), "{problems:?}");
}
