//! What the engine makes of a world that has moved: servers that are replaced, things that bear an old name, words that
//! belong to a resource that changes. Worlds are data; that real ones give such data is shown by the rehearsals.

#[allow(dead_code, reason = "the laws use the rest")]
use std::collections::BTreeMap;
use std::path::Path;

use crate::support::model::Model;
use seawall::base::address::Address;
use seawall::base::diag::Severity;
use seawall::engine::drift;
use seawall::engine::gate::in_question;
use seawall::engine::propose::{Intent, Proposal, propose};
use seawall::engine::resolve::{Resolved, resolve};
use seawall::engine::snapshot::{HostView, Snapshot};
use seawall::engine::store::LastApplied;
use seawall::engine::{self, Declared};
use seawall::inventory::load;
use seawall::kinds::table::Wanted;
use seawall::plan::change::{Action, Reason, Risk};
use seawall::plan::check::check;
use seawall::plan::cloud::{Census, CensusEntry, Topic};
use seawall::plan::drills::Proofs;
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::{Answers, CloudProbe, Probe};
use seawall::plan::remark::Remark;
use seawall::plan::{Place, Plan};

/// The worked example with some of its text replaced.
fn resolved(replacements: &[(&str, &str)]) -> Resolved {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories/chronos-prod.yaml");
    let mut text = std::fs::read_to_string(path).expect("the worked example");
    for (from, to) in replacements {
        assert!(text.contains(from), "the example has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    let loaded = load::parse("test.yaml", &text);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    resolve(&loaded.inventory.expect("an inventory")).expect("it resolves")
}

fn cloud(resolved: &Resolved) -> impl Iterator<Item = &Wanted> {
    resolved.wanted.iter().filter(|wanted| wanted.place == Place::Cloud)
}

/// A world in which an inventory was applied; its server does not answer any more, unless `answers` has what it says.
fn world_of(before: &Resolved, asked: &Resolved) -> Snapshot {
    let mut model = Model::default();
    for wanted in cloud(before) {
        let judged = (wanted.kind.judge)(wanted, &before.environment, &model.answers(&probes(wanted)));
        match judged.observed {
            Observed::Absent => model.act(&(wanted.kind.create)(&wanted.desired).steps),
            _ => model.act(&judged.steps),
        }
    }
    let all: Vec<Probe> = cloud(asked).flat_map(probes).collect();
    let silent = || Unseen::Unreachable("it does not answer".to_owned());
    let view = HostView { endpoint: None, answers: Answers::unseen(silent()) };
    Snapshot {
        cloud: model.answers(&all),
        census: Some(Observed::Present(Census { entries: Vec::new() })),
        hosts: [("db".to_owned(), view)].into(),
        proofs: None,
    }
}

fn probes(wanted: &Wanted) -> Vec<Probe> {
    (wanted.kind.probes)(&wanted.desired)
}

fn planned(resolved: &Resolved, snapshot: &Snapshot) -> Proposal {
    let proposal = propose(resolved, snapshot, &Intent::default(), &|_| None);
    check(proposal.plan.clone()).unwrap_or_else(|breaches| panic!("{breaches:?}"));
    proposal
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// Every valid inventory, planned where nothing is yet and where only its cloud is: each plan keeps its promises.
#[test]
fn every_inventory_is_planned_soundly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventories/valid");
    let mut changes = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of inventories") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let loaded = load::load(&path);
        let resolved = resolve(&loaded.inventory.expect("a valid inventory")).expect("it resolves");
        let mut fresh = world_of(&Resolved { wanted: Vec::new(), ..resolved.clone() }, &resolved);
        fresh.hosts = resolved
            .servers
            .iter()
            .map(|(name, server)| {
                let answers = Answers::unseen(Unseen::NotYetCreated(server.address.clone()));
                (name.clone(), HostView { endpoint: None, answers })
            })
            .collect();
        for (snapshot, destroy) in [(&fresh, false), (&world_of(&resolved, &resolved), true)] {
            let intent = Intent { destroy, ..Intent::default() };
            let plan = propose(&resolved, snapshot, &intent, &|_| None).plan;
            changes += plan.changes().count() + plan.deferred.len();
            check(plan).unwrap_or_else(|breaches| panic!("{}: {breaches:?}", path.display()));
        }
    }
    assert!(changes > 50, "inventories ask for something: {changes}");
}

const LARGER: (&str, &str) = ("bundle: small_3_0 ", "bundle: medium_3_0");

#[test]
fn a_replaced_server_takes_along_what_stands_on_it_and_asks_for_proof() {
    let after = resolved(&[LARGER, ("monthly_budget: 25 USD", "monthly_budget: 50 USD")]);
    let snapshot = world_of(&resolved(&[]), &after);
    let plan: Plan = planned(&after, &snapshot).plan;

    let replaced: Vec<&Address> = plan.changes().filter(|c| c.action == Action::Replace).map(|c| &c.address).collect();
    assert_eq!(replaced, [&address("lightsail.instance/db")]);
    assert!(plan.findings.iter().any(|finding| finding.code == "data-unproven"), "{:?}", plan.findings);
    assert!(plan.unknown.is_empty(), "the old server's silence is no obstacle: {:?}", plan.unknown);
    for fitted in ["lightsail.ports/db", "lightsail.static_ip/db", "iam.user/repository"] {
        let deferred = plan.deferred.iter().find(|d| d.change.address == address(fitted)).expect(fitted);
        assert_eq!((deferred.change.action, &deferred.change.reason), (Action::Update, &Reason::ServerReplaced));
        assert!(!plan.unchanged.contains(&address(fitted)), "{fitted}");
    }
    for anew in ["host.packages/db", "host.sysctl/db", "host.users/db"] {
        let deferred = plan.deferred.iter().find(|d| d.change.address == address(anew)).expect(anew);
        assert_eq!(deferred.change.action, Action::Create);
    }
    assert!(plan.unchanged.contains(&address("s3.bucket/backups")), "the data stays where it is");
}

#[test]
fn what_waits_for_our_own_replacement_did_not_change_behind_us() {
    let before = resolved(&[]);
    let after = resolved(&[LARGER, ("monthly_budget: 25 USD", "monthly_budget: 50 USD")]);
    let everything: Vec<Address> = before.wanted.iter().map(|wanted| wanted.address.clone()).collect();
    let applied = drift::remember(LastApplied::new(), &before, &everything, &[]);
    let plan = planned(&after, &world_of(&before, &after)).plan;
    let split = drift::split(&plan, &after, &applied);
    assert!(split.behind_us.is_empty(), "{:?}", split.behind_us);
    assert_eq!(split.not_applied.len(), plan.deferred.len() + 1);

    // The same server taken away by somebody else: that, and all that was on it, did change behind us.
    let mut snapshot = world_of(&before, &before);
    snapshot.cloud.cloud.insert(CloudProbe::Instance { name: "chronos-prod-db".to_owned() }, Observed::Absent);
    let gone = Unseen::NotYetCreated(address("lightsail.instance/db"));
    snapshot.hosts.insert("db".to_owned(), HostView { endpoint: None, answers: Answers::unseen(gone) });
    let plan = planned(&before, &snapshot).plan;
    let split = drift::split(&plan, &before, &applied);
    let behind: Vec<&Address> = split.behind_us.iter().map(|change| &change.address).collect();
    assert!(behind.contains(&&address("lightsail.instance/db")) && behind.contains(&&address("host.users/db")));
}

#[test]
fn a_bucket_that_the_inventory_renamed_is_reported_and_stays() {
    let before = resolved(&[]);
    let name = "name: project-chronos-backups ";
    let after = resolved(&[(name, "name: project-chronos-second")]);
    let mut snapshot = world_of(&before, &after);
    let tags = [("seawall:environment", "chronos-prod"), ("seawall:address", "s3.bucket/backups")];
    let old = CensusEntry {
        kind: "s3.bucket".to_owned(),
        name: "project-chronos-backups".to_owned(),
        arn: None,
        attached_to: None,
        auto_snapshots: false,
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    snapshot.census = Some(Observed::Present(Census { entries: vec![old] }));
    let plan = planned(&after, &snapshot).plan;
    let reported: Vec<&str> = plan.unmanaged.iter().map(|thing| thing.name.as_str()).collect();
    assert_eq!(reported, ["project-chronos-backups"]);
    assert!(plan.changes().all(|change| change.action != Action::Destroy), "{:?}", plan.stages);
}

#[test]
fn words_about_a_resource_are_kept_when_it_also_changes() {
    let inventory = resolved(&[]);
    let mut snapshot = world_of(&inventory, &inventory);
    let probe = CloudProbe::Topic { name: "chronos-prod-alerts".to_owned() };
    let mut topic = snapshot.cloud.cloud::<Topic>(&probe).present().cloned().expect("the topic");
    topic.policy = None;
    let document = serde_json::to_value(topic).expect("a document");
    snapshot.cloud.cloud.insert(probe, Observed::Present(document));
    let proposal = planned(&inventory, &snapshot);
    let topic = address("sns.topic/alerts");
    assert!(proposal.plan.changes().any(|change| change.address == topic));
    let words: Vec<&Remark> = proposal.remarks.iter().filter(|(of, _)| *of == topic).map(|(_, words)| words).collect();
    assert!(words.iter().any(|words| words.text.contains("to confirm")), "{words:?}");
}

/// The worked example with some of its text replaced, planned against a world with everything that a plan has.
fn whole(replacements: &[(&str, &str)], snapshot: &Snapshot, intent: &Intent) -> (Plan, Resolved) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories/chronos-prod.yaml");
    let text = std::fs::read_to_string(path).expect("the worked example");
    let text = replacements.iter().fold(text, |text, (from, to)| text.replacen(from, to, 1));
    let loaded = load::parse("test.yaml", &text);
    let inventory = loaded.inventory.expect("an inventory");
    let resolved = resolve(&inventory).expect("it resolves");
    let declared = Declared { inventory: &inventory, places: &loaded.places };
    let planned = engine::plan(declared, &resolved, snapshot, intent).unwrap_or_else(|breaches| panic!("{breaches:?}"));
    ((*planned.plan).clone(), resolved)
}

/// A drill that passed two hours ago, and its backup in a repository that is well.
fn proven() -> Proofs {
    let (now, set) = (1_795_737_600, "20261126-200000F".to_owned());
    let past = serde_json::json!({
        "id": "drill-1", "server": "db", "bundle": "small_3_0", "scenario": "beside", "asked": "latest", "broken": null,
        "began": now - 7_200, "passed": true, "misses": [], "lost_s": 48, "heartbeat": null, "serve_s": 40, "trust_s": 50,
        "fetch_s": 30, "bytes": 1000, "set": set,
    });
    let backups = serde_json::json!({
        "server": "db", "stanza": "chronos", "bucket": "b", "looked_at": now, "gaps": [], "newest": null, "newest_full": null,
        "backups": [{
            "label": set, "type": "full", "started": now - 9_000, "finished": now - 8_000, "database_bytes": null,
            "repository_bytes": null, "wal": null, "page_errors": false, "needs": [],
            "made_with": { "postgres": "15", "pgbackrest": "2.45", "system_id": "7" },
        }],
        "windows": [{
            "timeline": 1, "from": now - 8_000, "to": now - 40, "to_by": "object", "first_segment": "", "last_segment": "", "backups": [set],
        }],
        "archiving": {
            "mode": "on", "command": "", "archived_count": 1, "last_archived": null, "last_archived_at": null, "failed_count": 0,
            "last_failed": null, "last_failed_at": null, "ready": 0, "current": null, "segment_bytes": 1, "system_id": "7", "timeline": 1,
        },
        "findings": [], "unseen": [],
    });
    Proofs {
        history: Ok(vec![serde_json::from_value(past).expect("a drill")]),
        bytes: BTreeMap::new(),
        backups: [("db".to_owned(), serde_json::from_value(backups).expect("backups"))].into(),
        now,
    }
}

/// The findings about data, as `code: message` with their notes.
fn about_data(plan: &Plan) -> Vec<String> {
    let about = plan.findings.iter().filter(|finding| finding.code.starts_with("data-"));
    about.map(|finding| format!("{}: {} ({})", finding.code, finding.message, finding.notes.join("; "))).collect()
}

#[test]
fn a_server_whose_backup_is_proven_may_be_replaced_and_its_bucket_may_not_go() {
    let replaced = [LARGER, ("monthly_budget: 25 USD", "monthly_budget: 50 USD")];
    let mut snapshot = world_of(&resolved(&[]), &resolved(&replaced));
    let any = Intent::default();

    let (plan, resolved_after) = whole(&replaced, &snapshot, &any);
    assert_eq!(in_question(&plan, &resolved_after), ["db".to_owned()].into(), "its repository is to be looked at");
    let [unproven] = &about_data(&plan)[..] else { panic!("{:?}", plan.findings) };
    assert!(unproven.starts_with("data-unproven: this plan would replace `lightsail.instance/db`"), "{unproven}");
    assert!(unproven.contains("no proof: no drill was looked for"), "{unproven}");
    // One that the inventory means no longer, or not yet, has no backups of its own.
    let mut earlier = resolved_after;
    earlier.servers.get_mut("db").expect("it is declared").instance = "chronos-prod-db-g2".to_owned();
    assert!(in_question(&plan, &earlier).is_empty());

    snapshot.proofs = Some(proven());
    let (plan, _) = whole(&replaced, &snapshot, &any);
    let [said] = &about_data(&plan)[..] else { panic!("{:?}", plan.findings) };
    for words in [
        "data-proven: this plan would replace `lightsail.instance/db`",
        "the last drill that passed is of",
        "of backup 20261126-200000F",
        "lost are what was written after 2026-11-26 23:59:20 UTC",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(plan.findings.iter().all(|finding| finding.severity != Severity::Error), "{:?}", plan.findings);
    assert!(plan.changes().any(|change| change.risk == Risk::LosesData), "it is shown as what it is");

    // What is stale when it is planned again is refused again, whatever was shown before.
    snapshot.proofs.as_mut().expect("proofs").backups.clear();
    let (plan, _) = whole(&replaced, &snapshot, &any);
    assert!(about_data(&plan)[0].contains("no proof: its repository was not looked at"), "{:?}", about_data(&plan));
}

#[test]
fn a_proof_does_not_outlive_the_bucket_that_it_lies_in() {
    let mut snapshot = world_of(&resolved(&[]), &resolved(&[]));
    snapshot.proofs = Some(proven());
    let destroy = Intent { destroy: true, keep_protected: true, ..Intent::default() };
    let (plan, _) = whole(&[], &snapshot, &destroy);
    let said = about_data(&plan);
    assert!(said.len() == 1 && said[0].starts_with("data-proven: this plan would destroy"), "{said:?}");

    let disposable = [("keep: protected ", "keep: disposable")];
    let mut snapshot = world_of(&resolved(&disposable), &resolved(&disposable));
    snapshot.proofs = Some(proven());
    let (plan, _) = whole(&disposable, &snapshot, &destroy);
    let said = about_data(&plan);
    assert!(said.iter().all(|said| said.starts_with("data-unproven")) && said.len() == 2, "{said:?}");
    assert!(said.iter().any(|said| said.contains("it holds what a proof is made of")), "{said:?}");
    assert!(said.iter().any(|said| said.contains("the bucket of its repository goes with the same plan")), "{said:?}");
    // Also where the bucket was named and the server was not.
    let bucket = Intent { lose_data: [address("s3.bucket/backups")].into(), ..destroy };
    let (plan, _) = whole(&disposable, &snapshot, &bucket);
    let said = about_data(&plan);
    assert!(
        said.len() == 1 && said[0].starts_with("data-unproven: this plan would destroy `lightsail.instance/db`"),
        "{said:?}"
    );
}
