//! Steps as a reviewer reads them.

use std::collections::BTreeMap;

use serde_json::json;

use crate::base::secret::SecretRef;
use crate::plan::change::{Action, Change, FileDiff, Proof, Reason};
use crate::plan::step::{CloudStep, Content, HostStep, Steps};
use crate::view::context::PlanContext;
use crate::view::plan::render;
use crate::view::sample;
use crate::view::tests::{one, part, same};

fn run(argv: &[&str], stdin: Option<Content>) -> HostStep {
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]),
        stdin,
        timeout_s: 60,
        revert: Some(vec!["systemctl".to_owned(), "reload".to_owned(), "ssh".to_owned()]),
        what: "reload postgresql@15-main.service".to_owned(),
    }
}

fn whole() -> PlanContext {
    PlanContext { verbose: true, whole_steps: true, ..sample::context() }
}

/// The summary of a step is the planner's word for it. What it runs is what counts, and is shown beside it.
#[test]
fn everything_that_would_run_is_shown() {
    let secrets = BTreeMap::from([("password".to_owned(), SecretRef::Env { env: "APP_PASSWORD".to_owned() }.into())]);
    let stdin = Content::WithSecrets { template: "ALTER ROLE app PASSWORD '{{password}}';\n".to_owned(), secrets };
    let new = FileDiff { path: "/etc/new".to_owned(), before: None, after: Some("a\n".to_owned()) };
    let write = |text: &str| HostStep::WriteFile {
        path: "/etc/new".to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "0644".to_owned(),
        content: Content::Text(text.to_owned()),
        validate: Some(vec!["visudo".to_owned(), "-cf".to_owned(), "{}".to_owned()]),
    };
    let change = Change {
        files: vec![new],
        steps: Steps::Host(vec![
            run(&["sh", "-c", "id >/run/forged\u{1b}[2J\nrm x"], None),
            run(&["psql"], Some(stdin)),
            write("a\n"),
            write("a\nevil\n"),
        ]),
        proofs: vec![Proof::KeysOnly],
        ..sample::change("host.sysctl/db", Action::Update, Reason::Differs)
    };
    let text = render(&one(change), &whole());
    same(
        part(&text, "  ~ host.sysctl/db"),
        r#"
  ~ host.sysctl/db  differs
      /etc/new (new)
        + a
      step: reload postgresql@15-main.service
        argv: sh -c 'id >/run/forged\u{1b}[2J\nrm x'
        env: {"LC_ALL":"C"}
        revert: systemctl reload ssh
        timeout_s: 60
      step: reload postgresql@15-main.service
        argv: psql
        env: {"LC_ALL":"C"}
        revert: systemctl reload ssh
        stdin:
          with_secrets:
            secrets: {"password":{"form":"line","from":{"env":"APP_PASSWORD"}}}
            template:
              | ALTER ROLE app PASSWORD '{{password}}';
        timeout_s: 60
      step: write /etc/new
        content: as shown above
        group: root
        mode: 0644
        owner: root
        path: /etc/new
        validate: visudo -cf '{}'
      step: write /etc/new
        content:
          text:
            | a
            | evil
        group: root
        mode: 0644
        owner: root
        path: /etc/new
        validate: visudo -cf '{}'
      kept if: "keys_only"
"#,
    );
}

#[test]
fn policies_are_shown_whole_and_so_is_what_puts_back() {
    let policy =
        json!({ "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::backups/*" }] });
    let change = Change {
        steps: Steps::Cloud(vec![
            CloudStep::PutBucketPolicy { name: "backups".to_owned(), policy },
            CloudStep::DeleteBucket { name: "x\u{202e}".to_owned() },
        ]),
        undo: vec![CloudStep::DeleteBucketPolicy { name: "backups".to_owned() }],
        ..sample::change("s3.bucket/backups", Action::Update, Reason::Differs)
    };
    let text = render(&one(change), &whole());
    same(
        part(&text, "  ~ s3.bucket/backups"),
        r#"
  ~ s3.bucket/backups  differs
      step: set the policy of backups
        name: backups
        policy: {"Statement":[{"Action":"s3:*","Effect":"Allow","Resource":"arn:aws:s3:::backups/*"}]}
      step: delete bucket x\u{202e}
        name: "x\u{202e}"
      puts back: remove the policy of backups
        name: backups
"#,
    );
}

#[test]
fn drift_names_steps_and_does_not_spell_them_out() {
    let change = Change {
        steps: Steps::Host(vec![run(&["id"], None)]),
        ..sample::change("host.sysctl/db", Action::Update, Reason::Differs)
    };
    let context = PlanContext { verbose: true, ..sample::context() };
    let text = render(&one(change), &context);
    assert!(text.contains("step: reload postgresql") && !text.contains("argv"), "{text}");
}
