//! The published schemas are those of the program, and tell a saved plan from what is none.

use std::path::Path;

use clap::ValueEnum as _;
use jiff::Timestamp;
use seawall::base::digest::Digest;
use seawall::cli::args::Document;
use seawall::cli::housekeeping::schema_of;
use seawall::engine::file::{Header, PlanFile};
use seawall::plan::change::{Action, Change, FieldChange, FileDiff, Reason, Risk};
use seawall::plan::step::{Content, HostStep, Steps};
use seawall::plan::{Plan, Stage};
use serde_json::{Value, json};

/// Every schema in `docs/` is what `seawall schema` prints. `SEAWALL_UPDATE=1` writes them anew.
#[test]
fn published_schemas_are_in_step() {
    for document in Document::value_variants() {
        let name = document.to_possible_value().expect("no document is hidden").get_name().to_owned();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
        let text = format!("{:#}\n", schema_of(*document));
        if std::env::var_os("SEAWALL_UPDATE").is_some() {
            std::fs::write(&file, &text).expect("the schema can be written");
        }
        let published = std::fs::read_to_string(&file).expect("the schema is published");
        assert!(published == text, "docs/{name}.schema.json is not in step; run this test with SEAWALL_UPDATE=1");
    }
}

fn saved() -> Value {
    let address: seawall::base::address::Address = "host.sysctl/db".parse().expect("an address");
    let path = "/etc/sysctl.d/60-seawall.conf".to_owned();
    let write = HostStep::WriteFile {
        path: path.clone(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "0644".to_owned(),
        content: Content::Text("vm.swappiness = 5\n".to_owned()),
        validate: None,
    };
    let change = Change {
        address: address.clone(),
        action: Action::Update,
        reason: Reason::CannotUpdateInPlace(vec!["a".to_owned()]),
        fields: vec![FieldChange::new("live.vm.swappiness", None, Some(json!("5")))],
        files: vec![FileDiff { path, before: None, after: Some("vm.swappiness = 5\n".to_owned()) }],
        steps: Steps::Host(vec![write, HostStep::Record { address: address.clone(), desired: None }]),
        guard: Digest::of_bytes(b"a sample"),
        risk: Risk::MayLockOut,
        proofs: Vec::new(),
        undo: Vec::new(),
        after: vec![address],
    };
    let plan = Plan { stages: vec![Stage { changes: vec![change] }], ..Plan::default() };
    let header = Header {
        environment: "chronos-prod".to_owned(),
        account: "123456789012".to_owned(),
        region: "ca-central-1".to_owned(),
        sandbox: true,
        inventory: Digest::of_bytes(b"an inventory"),
        only: Vec::new(),
        destroy: false,
        keep_protected: false,
        lose_data: Vec::new(),
        made_at: Timestamp::UNIX_EPOCH,
        made_by: "tester".to_owned(),
        version: "0.1.0".to_owned(),
        nonce: "abcdefghijkm".parse().expect("a nonce"),
    };
    serde_json::to_value(PlanFile::new(header, plan)).expect("a plan serialises")
}

#[test]
fn a_saved_plan_fits_and_a_broken_one_does_not() {
    let validator = jsonschema::validator_for(&schema_of(Document::Plan)).expect("a valid schema");
    let good = saved();
    let errors: Vec<String> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let breaks: [(&str, Value); 6] = [
        ("/format", json!("seawall.plan/1")),
        ("/header/sandbox", json!("yes")),
        ("/plan/stages/0/changes/0/risk", json!("server")),
        ("/plan/stages/0/changes/0/steps/host/0", json!({ "shell": "rm" })),
        ("/plan/stages/0/changes/0/fields/0", json!({ "path": "x", "before": null, "after": 1, "secret": 2 })),
        ("/digest", json!(null)),
    ];
    for (pointer, value) in breaks {
        let mut broken = good.clone();
        *broken.pointer_mut(pointer).expect("the plan has this place") = value;
        assert!(!validator.is_valid(&broken), "a change at `{pointer}` passes");
    }
}
