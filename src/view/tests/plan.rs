//! Plans and drift as people read them.

use crate::plan::Plan;
use crate::plan::change::{Action, Change, Reason, Risk};
use crate::plan::remark::Remark;
use crate::view::context::PlanContext;
use crate::view::drift;
use crate::view::plan::render;
use crate::view::sample;
use crate::view::status;
use crate::view::style::Style;
use crate::view::tests::{one, same};

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
      its newest automatic snapshot, if there is one, is copied first to chronos-prod-db-kept-TIME: 0.05 USD per GB and month until `aws lightsail delete-instance-snapshot`

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
    let remarks = vec![(sample::address("sns.topic/alerts"), "waiting for ops@example.com to confirm".into())];
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

/// A verdict never stands alone beside something that is broken.
#[test]
fn what_is_broken_stands_first_and_beside_every_verdict() {
    let remarks = vec![
        (sample::address("pgbackrest.repo/db"), Remark::broken("WAL segment 7 could not be archived")),
        (sample::address("sns.topic/alerts"), "waiting for ops@example.com to confirm".into()),
    ];
    let context = PlanContext { remarks, next: "seawall apply".to_owned(), ..sample::context() };
    let plan = Plan { unchanged: vec![sample::address("pgbackrest.repo/db")], ..Plan::default() };
    let shown = |verdict: &str| {
        format!(
            r"
chronos-prod  AWS account 123456789012 in ca-central-1

not well
    ! pgbackrest.repo/db  WAL segment 7 could not be archived

worth knowing
    ! sns.topic/alerts  waiting for ops@example.com to confirm

{verdict}
"
        )
    };
    let matches = "1 resource matches inventories/prod.yaml";
    same(&render(&plan, &context), &shown(&format!("No changes, but 1 thing is not well: {matches}")));
    same(&drift::render(&[], &[], &plan, &context), &shown(&format!("No drift, but 1 thing is not well: {matches}")));
    same(&status::render(&plan, "", &context), &shown("All is as wanted, but not all is well: 1 resources"));
    let changing = drift::render(&[sample::sysctl()], &[], &plan, &context);
    assert!(
        changing.contains("\nDrift: 1 changed behind us, 0 not applied yet, 1 as wanted; 1 thing is not well\n"),
        "{changing}"
    );
    let well = PlanContext { remarks: Vec::new(), ..context.clone() };
    assert!(status::render(&plan, "", &well).ends_with("\nAll is as wanted: 1 resources\n"));
    let backups = status::render(&plan, "error[foreign-timeline]: x\n", &well);
    assert!(backups.ends_with("\nAll is as wanted, but not all is well: 1 resources\n"), "{backups}");
    assert!(backups.contains("in ca-central-1\n\nerror[foreign-timeline]: x\n\n"), "{backups}");
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
      its newest automatic snapshot, if there is one, is copied first to chronos-prod-db-kept-TIME: 0.05 USD per GB and month until `aws lightsail delete-instance-snapshot`

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
