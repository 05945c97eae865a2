//! Saved plans: the sample that the repository keeps, and every way in which a file is not one.

use std::path::Path;

use seawall::base::digest::Digest;
use seawall::engine::file::{Header, PlanFile};
use seawall::plan::change::{Action, Change, FieldChange, Reason, Risk};
use seawall::plan::step::{HostStep, Steps};
use seawall::plan::{Plan, Stage};

use crate::cli::{Desk, GOOD, root};

const SAMPLE: &str = "plans/sample/swap.json";

/// One change on one server: the swap file becomes larger.
fn sample() -> PlanFile {
    let address: seawall::base::address::Address = "host.swap/db".parse().expect("an address");
    let run = |argv: &[&str], what: &str| HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: std::collections::BTreeMap::new(),
        stdin: None,
        timeout_s: 60,
        revert: None,
        what: what.to_owned(),
    };
    let change = Change {
        address: address.clone(),
        action: Action::Update,
        reason: Reason::Differs,
        fields: vec![FieldChange::new("size_mib", Some(512.into()), Some(1024.into()))],
        files: Vec::new(),
        steps: Steps::Host(vec![
            run(&["swapoff", "/swapfile"], "stop using the old swap file"),
            run(&["fallocate", "-l", "1073741824", "/swapfile"], "make the file larger"),
            run(&["mkswap", "/swapfile"], "format it"),
            run(&["swapon", "/swapfile"], "use it"),
        ]),
        guard: Digest::of_bytes(b"a swap file of 512 MiB"),
        risk: Risk::Plain,
        proofs: Vec::new(),
        undo: Vec::new(),
        after: Vec::new(),
    };
    let plan = Plan {
        stages: vec![Stage { changes: vec![change] }],
        unchanged: vec!["host.time/db".parse().expect("an address")],
        ..Plan::default()
    };
    let header = Header {
        environment: "test".to_owned(),
        account: "123456789012".to_owned(),
        region: "ca-central-1".to_owned(),
        sandbox: false,
        inventory: Digest::of_bytes(b"the inventory of the sample"),
        only: vec![address],
        destroy: false,
        keep_protected: false,
        lose_data: Vec::new(),
        made_at: "2026-11-20T09:30:00Z".parse().expect("a time"),
        made_by: "an operator".to_owned(),
        version: "0.1.0".to_owned(),
        nonce: "samesamesame".parse().expect("a nonce"),
    };
    PlanFile::new(header, plan)
}

fn bytes() -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(&sample()).expect("a plan serialises");
    bytes.push(b'\n');
    bytes
}

fn edited(from: &str, to: &str) -> String {
    let text = String::from_utf8(bytes()).expect("JSON is text");
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed, "`{from}` is in the sample");
    changed
}

/// Every way in which a file is not a plan that may be applied.
fn damage(desk: &Desk) -> Vec<&'static str> {
    desk.write("cut-short.json", &bytes()[..bytes().len() / 2]);
    desk.write("empty.json", "");
    desk.write("edited-plan.json", edited("1073741824", "9973741824"));
    desk.write("edited-header.json", edited("123456789012", "210987654321"));
    desk.write("added-field.json", edited("\"destroy\": false", "\"destroy\": false, \"extra\": 1"));
    desk.write("bad-nonce.json", edited("samesamesame", "../../../tmp"));
    desk.write("newer.json", edited("seawall.plan/2", "seawall.plan/3"));
    desk.write("other.json", "{ \"terraform_version\": \"1.9.0\" }\n");
    desk.write("notes.txt", "not JSON at all\n");
    vec![
        "cut-short.json",
        "empty.json",
        "edited-plan.json",
        "edited-header.json",
        "added-field.json",
        "bad-nonce.json",
        "newer.json",
        "other.json",
        "notes.txt",
        "nowhere.json",
        ".",
    ]
}

#[test]
fn the_sample_of_the_repository_is_readable_and_whole() {
    let path = root().join(SAMPLE);
    if std::env::var_os("SEAWALL_UPDATE").is_some() {
        std::fs::write(&path, bytes()).expect("the sample can be written");
    }
    let read = PlanFile::read(&path).expect("the sample is a saved plan");
    assert_eq!(read, sample());
    assert_eq!(read.digest, Digest::of(&(&read.header, &read.plan)));
}

#[test]
fn a_plan_is_saved_once_for_its_owner_only_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::empty();
    let path = desk.path().join("plans/new/a.json");
    sample().save(&path).expect("there is none yet");
    assert_eq!(std::fs::metadata(&path).expect("it was written").permissions().mode() & 0o777, 0o600);
    assert_eq!(PlanFile::read(&path), Ok(sample()));
    let again = sample().save(&path).expect_err("there is one");
    assert_eq!(again.code, "plan-exists");
    let left: Vec<_> = std::fs::read_dir(path.parent().expect("a folder")).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn show_prints_a_saved_plan_and_needs_no_inventory() {
    let mut desk = Desk::empty();
    desk.write("plan.json", bytes());
    desk.case(0, &["show", "plan.json"]);
    desk.case(0, &["show", "plan.json", "--verbose"]);
    desk.must_match("show");
    let desk = Desk::empty();
    let sample = root().join(SAMPLE);
    let output = desk.run(&["--format", "json", "show", &sample.display().to_string()]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown["format"], "seawall.plan-view/1");
    assert_eq!(shown["plan"], serde_json::to_value(self::sample().plan).expect("a plan serialises"));
}

/// Whoever writes the file by hand names himself and the place as he likes; none of it reaches the terminal raw.
#[test]
fn show_prints_no_control_character_of_a_header() {
    let desk = Desk::empty();
    let PlanFile { mut header, plan, .. } = sample();
    let hostile = "x\u{1b}]0;pwn\u{7}\u{202e}\u{9b}\nx operator";
    header.made_by = hostile.to_owned();
    for field in [&mut header.environment, &mut header.region, &mut header.version] {
        field.push_str(hostile);
    }
    desk.write("header.json", serde_json::to_vec(&PlanFile::new(header, plan)).expect("a plan serialises"));
    let output = desk.run(&["show", "header.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", desk.plain(&output.stderr));
    let said = desk.plain(&output.stdout);
    assert!(said.lines().next().is_some_and(|line| line.contains("operator with seawall")), "{said}");
    let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!said.contains(raw), "{said:?}");
}

#[test]
fn show_says_what_is_wrong_with_a_file() {
    let mut desk = Desk::empty();
    for name in damage(&desk) {
        desk.case(1, &["show", name]);
    }
    desk.must_match("show-damaged");
}

/// The very first thing: also before the inventory is looked for, let alone AWS.
#[test]
fn apply_refuses_a_damaged_plan_before_anything_is_asked() {
    let desk = Desk::empty();
    for name in damage(&desk) {
        let (shown, applied) = (desk.run(&["show", name]), desk.run(&["apply", "--yes", name]));
        assert_eq!(applied.status.code(), Some(1), "{name}");
        assert_eq!(desk.plain(&applied.stdout), "", "{name}");
        assert_eq!(desk.plain(&applied.stderr), desk.plain(&shown.stderr), "{name}");
        assert!(desk.plain(&applied.stderr).starts_with("error[plan-"), "{name}");
    }
    assert!(!Path::new(&desk.path().join(".seawall")).exists(), "state was made");
    assert!(!Path::new(&desk.path().join("plans")).exists(), "a journal was made");
}

#[test]
fn a_saved_plan_takes_no_options_that_would_change_it() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.write("plan.json", bytes());
    desk.case(64, &["apply", "plan.json", "--only", "host.swap/db"]);
    desk.case(64, &["apply", "plan.json", "--lose-data", "lightsail.instance/db"]);
    desk.must_match("apply-saved-options");
}
