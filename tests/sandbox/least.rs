//! A user of AWS's who may look and nothing else, with a real host: all commands that look run to their end.

use serde_json::{Value, json};

use crate::support::rehearsal::{Ended, Rehearsal};

const USER: &str = "drift";

/// Runs a command against the lab as if it were AWS, as a user with a key.
fn as_user(lab: &Rehearsal, key: &Value, args: &[&str]) -> Ended {
    let status = lab.status();
    let environment = status["environment"].as_object().expect("an object");
    let mut command = lab.command(args);
    command.envs(environment.iter().map(|(name, value)| (name, value.as_str().unwrap_or_default())));
    for (name, part) in [("AWS_ACCESS_KEY_ID", "AccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey")] {
        command.env(name, key[part].as_str().expect("a key has both halves"));
    }
    command.env("SEAWALL_SSH_IDENTITY", status["hosts"][0]["key_file"].as_str().expect("a key file"));
    Ended::from(command.output().expect("the binary runs"))
}

/// The policy that the program prints. The emulator does not know which topic tags are asked of, and allows it only to who
/// may ask of all.
fn policy(lab: &Rehearsal) -> Value {
    let mut policy: Value = serde_json::from_str(&lab.expect(0, &["policy", "drift"]).stdout).expect("JSON");
    let tags = json!({ "Effect": "Allow", "Action": "sns:ListTagsForResource", "Resource": "*" });
    policy["Statement"].as_array_mut().expect("a list").push(tags);
    policy
}

fn put(lab: &Rehearsal, policy: &Value) {
    let document = policy.to_string();
    lab.aws("iam", "put_user_policy", &json!({ "UserName": USER, "PolicyName": "drift", "PolicyDocument": document }));
}

#[test]
fn who_may_only_look_sees_everything_and_changes_nothing() {
    let Some(lab) = Rehearsal::database("who_may_only_look_sees_everything_and_changes_nothing") else { return };
    // What `--sandbox` adds by itself: the operator's key.
    let file = lab.status()["hosts"][0]["key_file"].as_str().expect("a key file").to_owned();
    let public = std::fs::read_to_string(format!("{file}.pub")).expect("the public half");
    lab.edit_inventory("      rescue: ", &format!("        - {}\n      rescue: ", public.trim()));
    lab.expect(0, &["--sandbox", "plan"]);

    lab.aws("iam", "create_user", &json!({ "UserName": USER }));
    let key = lab.aws("iam", "create_access_key", &json!({ "UserName": USER }))["AccessKey"].clone();
    let nothing = as_user(&lab, &key, &["drift"]);
    assert!(nothing.code == 1 && nothing.stdout.contains("AccessDenied"), "{nothing:?}");
    let policy = policy(&lab);
    put(&lab, &policy);
    for args in [&["drift"][..], &["plan"], &["status"], &["backup", "list"]] {
        let ended = as_user(&lab, &key, args);
        assert_eq!(ended.code, 0, "{args:?}\n{}\n{}", ended.stdout, ended.stderr);
    }

    // What AWS must refuse is refused before a host is touched, too.
    lab.edit_inventory("packages: [htop, jq]", "packages: [htop, jq, tree]");
    let refused = as_user(&lab, &key, &["apply", "--yes"]);
    assert!(refused.code == 1 && refused.stderr.contains("AccessDenied"), "{refused:?}");
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    assert_ne!(lab.tried_on_server(&["dpkg", "-s", "tree"]).code, 0, "nothing was installed");
    let drift = as_user(&lab, &key, &["drift"]);
    assert!(drift.code == 2 && drift.stdout.contains("host.packages/db"), "{drift:?}");
}
