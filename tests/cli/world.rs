//! Where a world is needed and there is none to be had: refusals that come before any call.

use crate::cli::{Desk, GOOD};

/// No profile, no variable, and instance metadata is never asked: that would hang for seconds on other clouds, and on a
/// server of ours would be somebody else's identity.
#[test]
fn without_credentials_every_command_that_needs_them_says_which_were_tried() {
    let desk = Desk::with_inventory(GOOD);
    for args in [&["plan"][..], &["drift"], &["apply", "--yes"], &["destroy", "--yes"], &["apply"]] {
        let output = desk.run(args);
        let said = desk.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error[no-credentials]: no AWS credentials were found\n"), "{args:?}: {said}");
        for word in ["environment", "AWS_PROFILE", "web identity", "container", "nothing was asked or changed", "hint:"]
        {
            assert!(said.contains(word), "{args:?} does not say `{word}`: {said}");
        }
        for word in ["DispatchFailure", "169.254", "imds", "Some("] {
            assert!(!said.contains(word), "{args:?} says `{word}`: {said}");
        }
        assert_eq!(desk.plain(&output.stdout), "", "{args:?}");
    }
    assert!(!desk.path().join(".seawall").exists(), "state was made");
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let desk = Desk::with_inventory(GOOD);
    let output = desk.command(&["plan"]).env("AWS_PROFILE", "no-such-profile").output().expect("the binary starts");
    let said = desk.plain(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error[no-credentials]") && said.contains("profile `no-such-profile` is in no profile file"),
        "{said}"
    );
}

#[test]
fn a_problem_is_json_where_json_was_asked_for() {
    let desk = Desk::with_inventory(GOOD);
    let output = desk.run(&["--format", "json", "plan"]);
    assert_eq!(desk.plain(&output.stderr), "");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["format"], "seawall.problems/1");
    assert_eq!(document["problems"][0]["code"], "no-credentials");
}

#[test]
fn a_mistyped_address_is_told_before_anything_is_connected() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.case(64, &["plan", "--only", "lightsail.instance/bd"]);
    desk.case(64, &["--sandbox", "apply", "--yes", "--only", "lightsail.instance/bd"]);
    assert!(!desk.path().join(".seawall").exists(), "a sandbox was begun");
    desk.must_match("unknown-address");
}

#[test]
fn a_sandbox_that_does_not_run_is_told_how_to_start() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.case(1, &["sandbox", "status"]);
    desk.case(1, &["sandbox", "ssh", "db"]);
    desk.must_match("no-sandbox");
}
