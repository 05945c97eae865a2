//! Sample plans for the tests of this room: written by hand, so that no other room can change what they expect.

use serde_json::{Value, json};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::base::span::Span;
use crate::plan::change::{Action, Change, FieldChange, FileDiff, Limit, Reason, Risk};
use crate::plan::observed::Unseen;
use crate::plan::step::{CloudStep, Content, HostStep, Steps};
use crate::plan::{Cost, CostLine, Deferred, NotSeen, Objective, Place, Plan, Stage, Unmanaged};
use crate::view::context::PlanContext;

pub(super) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwKEkPg0++j59LdlVn0HFnl4XblPUyiZVzfLswLUePy ops@example.com";

pub(super) fn address(text: &str) -> Address {
    text.parse().expect("a sample's address")
}

pub(super) fn context() -> PlanContext {
    PlanContext {
        environment: "chronos-prod".to_owned(),
        account: "123456789012".to_owned(),
        region: "ca-central-1".to_owned(),
        inventory_file: "inventories/prod.yaml".to_owned(),
        ..PlanContext::default()
    }
}

pub(super) fn change(of: &str, action: Action, reason: Reason) -> Change {
    let on_a_host = of.starts_with("host.");
    Change {
        address: address(of),
        action,
        reason,
        fields: Vec::new(),
        files: Vec::new(),
        steps: if on_a_host { Steps::Host(Vec::new()) } else { Steps::Cloud(Vec::new()) },
        guard: Digest::of_bytes(b"a sample"),
        risk: Risk::Plain,
        proofs: Vec::new(),
        undo: Vec::new(),
        after: Vec::new(),
    }
}

pub(super) fn field(path: &str, before: Value, after: Value) -> FieldChange {
    let side = |value: Value| (!value.is_null()).then_some(value);
    FieldChange::new(path, side(before), side(after))
}

pub(super) fn new_field(path: &str, after: impl Into<Value>) -> FieldChange {
    FieldChange::new(path, None, Some(after.into()))
}

pub(super) fn cloud(changes: Vec<Change>) -> Stage {
    Stage { changes }
}

pub(super) fn host(changes: Vec<Change>) -> Stage {
    Stage { changes }
}

pub(super) fn bucket() -> Change {
    let rule = json!({
        "enabled": true, "prefix": "", "abort_incomplete_days": null, "noncurrent_days": 30,
        "expired_delete_marker": true, "other": null,
    });
    Change {
        fields: vec![
            new_field("name", "project-backups"),
            new_field("versioning", "Enabled"),
            new_field("public_access_blocked", true),
            new_field("lifecycle.seawall-old-versions", rule),
        ],
        ..change("s3.bucket/backups", Action::Create, Reason::NotThere)
    }
}

pub(super) fn alarm() -> Change {
    Change {
        fields: vec![
            new_field("metric", "BucketSizeBytes"),
            new_field("threshold", 42_949_672_960.0),
            new_field("dimensions", json!({ "BucketName": "project-backups", "StorageType": "StandardStorage" })),
        ],
        ..change("cloudwatch.alarm/repository-size", Action::Create, Reason::NotThere)
    }
}

pub(super) fn policy(actions: &[&str]) -> Value {
    json!({
        "Statement": [
            { "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::project-backups" },
            { "Effect": "Allow", "Action": actions, "Resource": "arn:aws:s3:::project-backups/pgbackrest/*" },
        ],
        "Version": "2012-10-17",
    })
}

pub(super) fn identity() -> Change {
    Change {
        fields: vec![new_field("policy.seawall", policy(&["s3:GetObject", "s3:PutObject"]))],
        ..change("iam.user/repository", Action::Create, Reason::NotThere)
    }
}

pub(super) fn users() -> Change {
    let keys = "/home/admin/.ssh/authorized_keys";
    Change {
        fields: vec![
            new_field("user", "admin"),
            new_field("/etc/sudoers.d/90-seawall-admin", "440 root:root 290b3d36ec6c"),
            new_field(&format!("keys.{}", KEY.rsplit_once(' ').expect("a key has a comment").0), KEY),
        ],
        files: vec![
            FileDiff {
                path: "/etc/sudoers.d/90-seawall-admin".to_owned(),
                before: None,
                after: Some("admin ALL=(ALL:ALL) NOPASSWD: ALL\n".to_owned()),
            },
            FileDiff { path: keys.to_owned(), before: None, after: Some(format!("{KEY}\n")) },
        ],
        risk: Risk::MayLockOut,
        ..change("host.users/db", Action::Create, Reason::NotThere)
    }
}

/// A new environment, in short.
pub(super) fn fresh() -> Plan {
    Plan {
        stages: vec![cloud(vec![bucket()]), cloud(vec![alarm()]), cloud(vec![identity()])],
        deferred: vec![Deferred { after: address("lightsail.instance/db"), change: users() }],
        objectives: vec![
            Objective {
                name: "rpo".to_owned(),
                wanted: "15m".to_owned(),
                by_configuration: "NOT EVALUATED: no server has a `backup` section".to_owned(),
                last_proof: "NOT EVALUATED: no drill has run".to_owned(),
            },
            Objective {
                name: "monthly budget".to_owned(),
                wanted: "25 USD".to_owned(),
                by_configuration: "12 USD and storage by use".to_owned(),
                last_proof: "–".to_owned(),
            },
        ],
        cost: Cost {
            lines: vec![CostLine {
                address: address("lightsail.instance/db"),
                what: "small_3_0".to_owned(),
                monthly_cents: 1200,
            }],
            not_included: vec!["storage and requests of buckets".to_owned()],
        },
        ..Plan::default()
    }
}

/// A file with a changed word, a changed mode, and a file whose mode alone differs.
pub(super) fn sysctl() -> Change {
    let text = |value: &str| {
        format!("# managed\nkernel.kptr_restrict = 2\n\n# Swap is for emergencies.\nvm.swappiness = {value}\n")
    };
    let path = "/etc/sysctl.d/60-seawall.conf";
    Change {
        fields: vec![
            field(path, json!("600 root:root 5f993695dfb1"), json!("644 root:root 6d3f3a01df6d")),
            field("/etc/other.conf", json!("666 root:root 6d3f3a01df6d"), json!("644 root:root 6d3f3a01df6d")),
            field("live.vm.swappiness", json!("60"), json!("5")),
        ],
        files: vec![FileDiff { path: path.to_owned(), before: Some(text("60")), after: Some(text("5")) }],
        steps: Steps::Host(vec![
            HostStep::WriteFile {
                path: path.to_owned(),
                owner: "root".to_owned(),
                group: "root".to_owned(),
                mode: "0644".to_owned(),
                content: Content::Text(text("5")),
                validate: None,
            },
            HostStep::Record { address: address("host.sysctl/db"), desired: Some(json!({})) },
        ]),
        ..change("host.sysctl/db", Action::Update, Reason::Differs)
    }
}

pub(super) fn replaced() -> Change {
    Change {
        fields: vec![field("bundle", json!("small_3_0"), json!("medium_3_0")).replacing()],
        steps: Steps::Cloud(vec![
            CloudStep::KeepSnapshot { instance: "chronos-prod-db".to_owned() },
            CloudStep::DeleteInstance { name: "chronos-prod-db".to_owned() },
        ]),
        risk: Risk::LosesData,
        ..change("lightsail.instance/db", Action::Replace, Reason::CannotUpdateInPlace(vec!["bundle".to_owned()]))
    }
}

pub(super) fn unproven() -> Diagnostic {
    Diagnostic::error("data-unproven", "this plan would replace `lightsail.instance/db`")
        .at(Span { file: "inventories/prod.yaml".to_owned(), line: 2, column: 3, length: 9 }, "declared here")
        .note("what is on it would be gone for good")
        .hint("if nothing on it matters, name it: --lose-data lightsail.instance/db")
}

pub(super) fn protected() -> Diagnostic {
    Diagnostic::error("protected", "this plan would destroy `s3.bucket/backups`, which is protected")
        .hint("declare it with `keep: disposable` and apply that first")
}

/// Everything that is no change.
pub(super) fn surroundings() -> Plan {
    let limit = |of: &str, field: FieldChange, why: &str| Limit { address: address(of), field: field.limited(why) };
    let unseen = |of: &str, why: Unseen| NotSeen { address: address(of), why };
    let timeout = || Unseen::Unreachable("connect to 203.0.113.9 port 22: timed out\u{1b}[2J".to_owned());
    Plan {
        unchanged: vec![address("s3.bucket/backups")],
        unknown: vec![
            unseen("host.sysctl/db", timeout()),
            unseen("host.time/db", timeout()),
            unseen("sns.topic/alerts", Unseen::Refused("the key may not ask for topics".to_owned())),
        ],
        limits: vec![
            limit("host.swap/web", field("size_mib", json!(null), json!(1024)), "swap belongs to the machine"),
            limit("host.swap/web", field("active", json!(false), json!(true)), "swap belongs to the machine"),
            limit("host.time/web", field("daemon.active", json!(false), json!(true)), "so does the clock"),
        ],
        unmanaged: vec![Unmanaged {
            place: Place::Cloud,
            kind: "s3.bucket".to_owned(),
            name: "somebody-elses".to_owned(),
            note: "not tagged".to_owned(),
        }],
        ..Plan::default()
    }
}

pub(super) fn unproven_removal() -> Diagnostic {
    Diagnostic::error("data-unproven", "this plan would destroy `lightsail.instance/db`")
        .note("what is on it would be gone for good")
        .hint("if nothing on it matters, name it: --lose-data lightsail.instance/db")
}
