//! Plans and drift as people read them.

use serde_json::json;

use crate::plan::Plan;
use crate::plan::change::{Action, Change, FileDiff, Reason, Risk};
use crate::view::context::PlanContext;
use crate::view::drift;
use crate::view::plan::render;
use crate::view::sample;
use crate::view::style::Style;
use crate::view::tests::same;

fn one(change: Change) -> Plan {
    Plan { stages: vec![sample::cloud(vec![change])], ..Plan::default() }
}

/// The part of a text from one line to the empty line after it.
fn part<'a>(text: &'a str, from: &str) -> &'a str {
    let start = text.find(from).expect("the text has the line");
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at + 1);
    &text[start..end]
}

#[test]
fn nothing_to_do_is_said_in_a_line() {
    let plan = Plan { unchanged: vec![sample::address("s3.bucket/backups"); 42], ..Plan::default() };
    same(
        &render(&plan, &sample::context()),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

No changes: 42 resources match inventories/prod.yaml
",
    );
    let context = PlanContext { destroy: true, sandbox: true, next: "seawall apply".to_owned(), ..sample::context() };
    same(
        &render(&Plan::default(), &context),
        r"
chronos-prod  sandbox, as account 123456789012 in ca-central-1

No changes: nothing of chronos-prod is there
",
    );
}

#[test]
fn a_new_environment() {
    let context = PlanContext {
        budget_cents: Some(2500),
        next: "seawall -i inventories/prod.yaml apply".to_owned(),
        ..sample::context()
    };
    same(
        &render(&sample::fresh(), &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

cloud

  + s3.bucket/backups  not there
      name                            project-backups
      versioning                      Enabled
      public_access_blocked           yes
      lifecycle.seawall-old-versions  enabled yes, expired_delete_marker yes, noncurrent_days 30

  + cloudwatch.alarm/repository-size  not there
      metric      BucketSizeBytes
      threshold   42949672960
      dimensions  BucketName project-backups, StorageType StandardStorage

  + iam.user/repository  not there
      policy.seawall  allow s3:ListBucket; allow s3:GetObject, s3:PutObject  (-v shows it whole)

server db, after lightsail.instance/db
planned from the templates; planned again against what is there by then

  + host.users/db  not there  MAY LOCK OUT
      user  admin
      keys  ssh-ed25519 AAAAC3Nz…LswLUePy ops@example.com
      /etc/sudoers.d/90-seawall-admin (new, 440 root:root)
        + admin ALL=(ALL:ALL) NOPASSWD: ALL
      /home/admin/.ssh/authorized_keys (new)
        + ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwKEkPg0++j59LdlVn0HFnl4XblPUyiZVzfLswLUePy ops@example.com

objectives      wanted  by configuration                                 last proof
rpo             15m     NOT EVALUATED: no server has a `backup` section  NOT EVALUATED: no drill has run
monthly budget  25 USD  12 USD and storage by use                        –

cost  12.00 USD a month at list price, of a budget of 25.00 USD

Plan: 4 to create, 0 to update, 0 to replace, 0 to destroy; 0 resources as wanted
What may lock out is kept only if a new login proves it; otherwise it is put back (exit code 5)
Apply this with: seawall -i inventories/prod.yaml apply
",
    );
}

#[test]
fn a_changed_file() {
    let plan = Plan { stages: vec![sample::host(vec![sample::sysctl()])], ..Plan::default() };
    let context = PlanContext { verbose: true, ..sample::context() };
    same(
        &render(&plan, &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

server db

  ~ host.sysctl/db  differs
      /etc/other.conf     666 root:root → 644 root:root
      live.vm.swappiness  60 → 5
      /etc/sysctl.d/60-seawall.conf (600 root:root → 644 root:root)
          kernel.kptr_restrict = 2

          # Swap is for emergencies.
        - vm.swappiness = 60
        + vm.swappiness = 5
      step: write /etc/sysctl.d/60-seawall.conf
      step: record host.sysctl/db

Plan: 0 to create, 1 to update, 0 to replace, 0 to destroy; 0 resources as wanted
",
    );
}

#[test]
fn changed_words_stand_out_in_colours_only() {
    let context = PlanContext { style: Style { coloured: true }, ..sample::context() };
    let text = render(&one(sample::sysctl()), &context);
    let lines: Vec<&str> = text.split_inclusive('\n').filter(|line| line.contains("vm.")).collect();
    same(
        &lines.concat().replace('\u{1b}', "^"),
        r"
      live.vm.swappiness  60 → 5
        ^[31m-^[0m vm.swappiness = ^[31m60^[0m
        ^[32m+^[0m vm.swappiness = ^[32m5^[0m
",
    );
}

#[test]
fn a_replacement_that_is_refused() {
    let source = "servers:\n  db: { instance: { bundle: medium_3_0 } }\n";
    let context = PlanContext {
        sources: [("inventories/prod.yaml".to_owned(), source.to_owned())].into(),
        next: "seawall apply".to_owned(),
        ..sample::context()
    };
    let plan = Plan { findings: vec![sample::unproven()], ..one(sample::replaced()) };
    same(
        &render(&plan, &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

cloud

-/+ lightsail.instance/db  cannot be changed in place: bundle  LOSES DATA
      bundle  small_3_0 → medium_3_0
      everything on it goes with it

error[data-unproven]: this plan would replace `lightsail.instance/db`
 --> inventories/prod.yaml:2:3
  |
2 |   db: { instance: { bundle: medium_3_0 } }
  |   ^^^^^^^^^ declared here
  |
  = note: what is on it would be gone for good
  = hint: if nothing on it matters, name it: --lose-data lightsail.instance/db

Plan: 0 to create, 0 to update, 1 to replace, 0 to destroy; 0 resources as wanted
This cannot be applied as long as the error above stands
",
    );
}

#[test]
fn a_removal_with_what_stays() {
    let gone = |of: &str| sample::change(of, Action::Destroy, Reason::Requested);
    let server = Change { risk: Risk::LosesData, ..gone("lightsail.instance/db") };
    let stages = vec![
        sample::cloud(vec![gone("iam.user/repository"), gone("lightsail.static_ip/db")]),
        sample::cloud(vec![server]),
        sample::cloud(vec![gone("sns.topic/alerts")]),
    ];
    let plan = Plan { stages, findings: vec![sample::unproven_removal(), sample::protected()], ..Plan::default() };
    same(
        &render(&plan, &PlanContext { destroy: true, ..sample::context() }),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

cloud

  - iam.user/repository  as asked for
  - lightsail.static_ip/db  as asked for

  - lightsail.instance/db  as asked for  LOSES DATA
      everything on it goes with it

  - sns.topic/alerts  as asked for

error[data-unproven]: this plan would destroy `lightsail.instance/db`
 |
 = note: what is on it would be gone for good
 = hint: if nothing on it matters, name it: --lose-data lightsail.instance/db

error[protected]: this plan would destroy `s3.bucket/backups`, which is protected
 |
 = hint: declare it with `keep: disposable` and apply that first

2 errors

Plan: 0 to create, 0 to update, 0 to replace, 4 to destroy; 0 resources as wanted
This cannot be applied as long as the 2 errors above stand
",
    );
}

#[test]
fn what_is_no_change() {
    let remarks = vec![(sample::address("sns.topic/alerts"), "waiting for ops@example.com to confirm".to_owned())];
    let context = PlanContext { remarks, next: "seawall apply".to_owned(), ..sample::context() };
    same(
        &render(&sample::surroundings(), &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

could not look, so nothing is known and nothing will be done about
    ? host.sysctl/db, host.time/db  unreachable: connect to 203.0.113.9 port 22: timed out�[2J
    ? sns.topic/alerts  refused: the key may not ask for topics

cannot be changed on this machine
    ! host.swap/web  swap belongs to the machine
        size_mib  (absent) → 1024
        active    no → yes
    ! host.time/web  so does the clock
        daemon.active  no → yes

worth knowing
    ! sns.topic/alerts  waiting for ops@example.com to confirm

not ours, left alone
      s3.bucket  somebody-elses  not tagged

Plan: 0 to create, 0 to update, 0 to replace, 0 to destroy; 1 resource as wanted; 3 resources could not be looked at
This cannot be applied: what could not be looked at is not known to be safe to change
",
    );
}

#[test]
fn drift_tells_which_side_is_which() {
    let context = PlanContext { next: "seawall apply".to_owned(), ..sample::context() };
    let plan = Plan { unchanged: vec![sample::address("s3.bucket/backups")], ..Plan::default() };
    same(
        &drift::render(&[sample::sysctl()], &[sample::replaced()], &plan, &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

each line: as found → as the inventory wants it

changed behind us: the inventory is as it was when it was last applied

  ~ host.sysctl/db  differs
      /etc/other.conf     666 root:root → 644 root:root
      live.vm.swappiness  60 → 5
      /etc/sysctl.d/60-seawall.conf (600 root:root → 644 root:root)
          kernel.kptr_restrict = 2

          # Swap is for emergencies.
        - vm.swappiness = 60
        + vm.swappiness = 5

not applied yet: the inventory asks for this since

-/+ lightsail.instance/db  cannot be changed in place: bundle  LOSES DATA
      bundle  small_3_0 → medium_3_0
      everything on it goes with it

Drift: 1 changed behind us, 1 not applied yet, 1 as wanted
Make it as the inventory says with: seawall apply
",
    );
    same(
        &drift::render(&[], &[], &plan, &context),
        r"
chronos-prod  AWS account 123456789012 in ca-central-1

No drift: 1 resource matches inventories/prod.yaml
",
    );
    let blind = drift::render(&[sample::sysctl()], &[], &sample::surroundings(), &context);
    let last = "\nDrift: 1 changed behind us, 0 not applied yet, 1 as wanted, 3 could not be looked at\n";
    assert!(blind.ends_with(last), "no command is offered where a part is unknown: {blind}");
}

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
        vec![(sample::address("sns.topic/alerts"), "waiting for a person to confirm ".repeat(4).trim().to_owned())];
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

objectives      wanted  by configuration                                 last proof
rpo             15m     NOT EVALUATED: no server has a `backup` section  NOT EVALUATED: no drill has run
monthly budget  25 USD  12 USD and storage by use                        –

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

#[test]
fn who_can_reach_what() {
    use crate::plan::reachability::{Exposure, Gate, Path, Reachability};
    let path = |port, from: &str, why: &str, host, listener: Option<&str>| Path {
        protocol: "tcp".to_owned(),
        port,
        from: from.to_owned(),
        why: why.to_owned(),
        cloud: Gate::Open,
        host,
        listener: listener.map(str::to_owned),
    };
    let server = Reachability {
        server: "db".to_owned(),
        declared: vec![
            path(22, "203.0.113.0/24", "operators", Gate::Open, Some("sshd")),
            path(443, "::/0", "certificate validation", Gate::Open, None),
            path(5432, "198.51.100.7/32", "application", Gate::Closed, Some("postgres")),
            path(6432, "198.51.100.7/32", "pool", Gate::Unknown, Some("pgbouncer")),
        ],
        undeclared: vec![Exposure {
            protocol: "tcp".to_owned(),
            port: 8080,
            from: "0.0.0.0/0".to_owned(),
            listener: "python3".to_owned(),
        }],
        unseen: vec!["the host's firewall: connection timed out".to_owned()],
    };
    let table = crate::view::reachability::tables(&[server], &PlanContext::default());
    same(
        &table,
        "
who can reach what on db                                lightsail  host    answers
  tcp 22 from 203.0.113.0/24, operators                 open       open    sshd
  tcp 443 from anywhere (IPv6), certificate validation  open       open    nothing listens
  tcp 5432 from 198.51.100.7/32, application            open       closed  postgres is not reached
  tcp 6432 from 198.51.100.7/32, pool                   open       ?       pgbouncer?
  ! tcp 8080 from 0.0.0.0/0 reaches python3: nobody declared that
  ? not known: the host's firewall: connection timed out

",
    );
}
