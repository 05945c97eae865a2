//! JSON for machines: the published schemas accept what is written, and refuse what is not.

use serde_json::{Value, json};

use crate::base::diag::Diagnostic;
use crate::plan::Plan;
use crate::plan::remark::Remark;
use crate::view::context::PlanContext;
use crate::view::json;
use crate::view::progress::{Ended, Reason};
use crate::view::sample;

fn published(name: &str) -> jsonschema::Validator {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
    let text = std::fs::read_to_string(&path).expect("the schema is published");
    let schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is valid")
}

#[track_caller]
fn fits(name: &str, document: &Value) {
    let errors: Vec<String> =
        published(name).iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{document:#}");
}

/// Each of these changes alone must make the document invalid.
#[track_caller]
fn breaks(name: &str, document: &Value, pointer: &str, change: impl Fn(&mut Value)) {
    let mut broken = document.clone();
    change(broken.pointer_mut(pointer).expect("the document has this place"));
    assert!(!published(name).is_valid(&broken), "{name}: a change at `{pointer}` passes");
}

/// A plan with something in every list.
fn everything() -> Plan {
    Plan {
        stages: vec![sample::cloud(vec![sample::bucket(), sample::replaced()]), sample::host(vec![sample::sysctl()])],
        findings: vec![sample::unproven()],
        deferred: sample::fresh().deferred,
        objectives: sample::fresh().objectives,
        cost: sample::fresh().cost,
        ..sample::surroundings()
    }
}

fn context() -> PlanContext {
    let remarks = vec![
        (sample::address("pgbackrest.repo/db"), Remark::broken("nothing is archived")),
        (sample::address("sns.topic/alerts"), "unconfirmed".into()),
    ];
    PlanContext { remarks, ..sample::context() }
}

#[test]
fn plans() {
    let document = json::plan(&everything(), &context());
    fits("plan-view", &document);
    assert_eq!(document["plan"]["stages"][1]["changes"][0]["fields"][2]["after"], json!("5"));
    assert_eq!((&document["empty"], &document["complete"]), (&json!(false), &json!(false)));
    assert_eq!((&document["well"], &document["remarks"][0]["severity"]), (&json!(false), &json!("broken")));
    assert_eq!(document["remarks"][1]["severity"], json!("worth_knowing"));
    breaks("plan-view", &document, "/format", |format| *format = json!("seawall.plan-view/2"));
    breaks("plan-view", &document, "", |plan| {
        plan.as_object_mut().expect("an object").remove("complete");
    });
    breaks("plan-view", &document, "/plan/stages/0/changes/0/action", |action| *action = json!("explode"));
    breaks("plan-view", &document, "/plan/stages/1/changes/0/steps/host/0", |step| {
        *step = json!({ "shell": "rm" });
    });
    breaks("plan-view", &document, "/plan/unknown/0", |unseen| unseen["why"] = json!("nobody knows"));
    fits("plan-view", &json::plan(&Plan::default(), &sample::context()));
}

#[test]
fn drift() {
    let document = json::drift(&[sample::sysctl()], &[sample::replaced()], &everything(), &context());
    fits("drift", &document);
    assert_eq!(document["changed_behind_us"][0]["address"], json!("host.sysctl/db"));
    assert_eq!(document["not_applied_yet"][0]["risk"], json!("loses_data"));
    breaks("drift", &document, "/changed_behind_us/0/guard", |guard| *guard = json!(7));
    breaks("drift", &document, "", |drift| drift["surprise"] = json!(true));
}

#[test]
fn applied() {
    let (a, b) = (sample::address("sns.topic/alerts"), sample::address("host.users/db"));
    let document = json::applied(&Ended {
        done: vec![a.clone()],
        failed: vec![Reason { address: b.clone(), why: "no route".to_owned(), hint: None }],
        not_started: vec![b],
        ..Ended::default()
    });
    assert_eq!(
        document,
        json!({
            "format": "seawall.applied/1",
            "done": ["sns.topic/alerts"],
            "already_done": [],
            "failed": [{ "address": "host.users/db", "why": "no route" }],
            "not_started": ["host.users/db"],
            "put_back": [],
            "restored": {},
        })
    );
    fits("applied", &document);
    breaks("applied", &document, "/failed/0", |failed| *failed = json!("host.users/db"));
    breaks("applied", &document, "/done/0", |address| *address = json!(null));
}

#[test]
fn problems() {
    let document = json::problems(&[sample::unproven(), Diagnostic::warning("plain", "a warning")]);
    fits("problems", &document);
    assert_eq!(document["problems"][0]["labels"][0]["span"]["line"], json!(2));
    breaks("problems", &document, "/problems/0/severity", |severity| *severity = json!("fatal"));
    breaks("problems", &document, "/problems/1", |problem| {
        problem.as_object_mut().expect("an object").remove("code");
    });
}
