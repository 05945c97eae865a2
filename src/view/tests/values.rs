//! Values, long texts and lines of a width, within plans.

use serde_json::json;

use crate::plan::Plan;
use crate::plan::change::{Action, Change, FileDiff, Reason};
use crate::view::context::PlanContext;
use crate::view::plan::render;
use crate::view::sample;
use crate::view::tests::{one, part, same};

#[test]
fn documents_are_short_lines_or_blocks() {
    let before = sample::policy(&["s3:GetObject"]);
    let after = sample::policy(&["s3:GetObject", "s3:PutObject"]);
    let updated = Change {
        fields: vec![sample::field("policy.seawall", before, after.clone())],
        ..sample::change("iam.user/repository", Action::Update, Reason::Differs)
    };
    same(
        part(&render(&one(updated), &sample::context()), "  ~ iam"),
        r#"
  ~ iam.user/repository  differs
      policy.seawall  differs
              },
              {
                "Action": [
        -         "s3:GetObject"
        +         "s3:GetObject",
        +         "s3:PutObject"
                ],
                "Effect": "Allow",
                "Resource": "arn:aws:s3:::project-backups/pgbackrest/*"
"#,
    );
    let context = PlanContext { verbose: true, ..sample::context() };
    let gone = Change {
        fields: vec![sample::field("policy.old", sample::policy(&["s3:*"]), json!(null))],
        ..sample::change("iam.user/repository", Action::Update, Reason::Differs)
    };
    same(
        part(&render(&one(gone), &context), "  ~ iam"),
        r#"
  ~ iam.user/repository  differs
      policy.old  allow s3:ListBucket; allow s3:* → (absent)
        {
          "Statement": [
            {
              "Action": "s3:ListBucket",
              "Effect": "Allow",
              "Resource": "arn:aws:s3:::project-backups"
            },
            {
              "Action": [
                "s3:*"
              ],
              "Effect": "Allow",
              "Resource": "arn:aws:s3:::project-backups/pgbackrest/*"
            }
          ],
          "Version": "2012-10-17"
        }
"#,
    );
}

#[test]
fn objects_are_compared_by_their_members() {
    let rule = |days: i32, marker: bool| json!({ "enabled": true, "noncurrent_days": days, "expired_delete_marker": marker, "prefix": "" });
    let change = Change {
        fields: vec![
            sample::field("lifecycle.ours", rule(30, true), rule(60, false)),
            sample::field(
                "lifecycle.foreign",
                json!({ "enabled": true, "other": "expires after 3 days" }),
                json!(null),
            ),
        ],
        ..sample::change("s3.bucket/backups", Action::Update, Reason::Differs)
    };
    same(
        part(&render(&one(change), &sample::context()), "  ~ s3"),
        r"
  ~ s3.bucket/backups  differs
      lifecycle.ours.expired_delete_marker  yes → no
      lifecycle.ours.noncurrent_days        30 → 60
      lifecycle.foreign                     enabled yes, other expires after 3 days → (absent)
",
    );
}

#[test]
fn nothing_of_a_host_writes_to_the_terminal() {
    let change = Change {
        fields: vec![sample::field("live.\u{1b}[31mkey", json!("a\u{1b}]0;title\u{7}"), json!("b\nc"))],
        files: vec![FileDiff {
            path: "/etc/\u{9b}2Jx".to_owned(),
            before: Some("one \u{1b}[2J\r\n".to_owned()),
            after: Some("two\u{202e}\n".to_owned()),
        }],
        ..sample::change("host.sysctl/db", Action::Update, Reason::Differs)
    };
    let text = render(&one(change), &PlanContext { verbose: true, ..sample::context() });
    let bad: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n' || *c == '\u{202e}').collect();
    assert!(bad.is_empty(), "{bad:?} in {text}");
    same(
        part(&text, "  ~ host"),
        r#"
  ~ host.sysctl/db  differs
      live.�[31mkey  "a\u{1b}]0;title\u{7}" → "b\nc"
      /etc/�2Jx
        - one �[2J
        + two�
"#,
    );
}

#[test]
fn long_diffs_are_cut_and_whole_with_v() {
    let text = (1..=60).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    let change = Change {
        files: vec![FileDiff { path: "/etc/long".to_owned(), before: None, after: Some(text) }],
        ..sample::change("host.packages/db", Action::Create, Reason::NotThere)
    };
    let short = render(&one(change.clone()), &sample::context());
    assert!(short.contains("        + line 40\n        … 20 more lines; -v shows them\n"), "{short}");
    let long = render(&one(change), &PlanContext { verbose: true, ..sample::context() });
    assert!(long.contains("        + line 60\n") && !long.contains('…'), "{long}");
}

#[test]
fn lines_break_at_the_width_of_a_terminal_and_nowhere_else() {
    let remarks =
        vec![(sample::address("sns.topic/alerts"), "waiting for a person to confirm ".repeat(4).trim().into())];
    let piped = PlanContext { remarks, ..sample::context() };
    let terminal = PlanContext { width: Some(80), ..piped.clone() };
    let change = Change {
        fields: vec![sample::new_field(
            "description",
            "the repository holds more than 40 GiB; look at its retention first",
        )],
        ..sample::change("cloudwatch.alarm/size", Action::Create, Reason::NotThere)
    };
    let plan = Plan { objectives: sample::fresh().objectives, ..one(change) };
    same(
        &render(&plan, &terminal),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

cloud

  + cloudwatch.alarm/size  not there
      description  the repository holds more than 40 GiB; look at its retention
                   first

worth knowing
    ! sns.topic/alerts  waiting for a person to confirm waiting for a person to
        confirm waiting for a person to confirm waiting for a person to confirm

objectives      wanted  by configuration             last proof
rpo             15m     NOT EVALUATED: no server     NOT EVALUATED: no drill has
                        has a `backup` section       run
monthly budget  25 USD  12 USD and storage by use    –

Plan: 1 to create, 0 to update, 0 to replace, 0 to destroy; 0 resources as
    wanted
",
    );
    let whole = render(&plan, &piped);
    assert!(whole.lines().any(|line| line.chars().count() > 80), "{whole}");
}

#[test]
fn a_missing_line_break_at_the_end_is_a_difference_that_shows() {
    let change = Change {
        files: vec![FileDiff {
            path: "/etc/a".to_owned(),
            before: Some("x".to_owned()),
            after: Some("x\n".to_owned()),
        }],
        ..sample::change("host.packages/db", Action::Update, Reason::Differs)
    };
    same(
        part(&render(&one(change), &sample::context()), "  ~ host"),
        r"
  ~ host.packages/db  differs
      /etc/a
        - x
        \ no line break at the end
        + x
",
    );
}
