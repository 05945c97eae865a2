//! Applies a plan: looks again, refuses what has moved, acts stage by stage, looks again until equal.
//!
//! Nothing resumes from a record: after a failure observation is the truth, so plan again. Resources on servers that did
//! not exist when the plan was made are planned anew when they do, and must come out as they were shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use crate::base::address::Address;
use crate::engine::execute::{self, Guarding};
use crate::engine::journal::Journal;
use crate::engine::propose::{Intent, Outcome, change_for, propose};
use crate::engine::refresh::{SSH_PORT, refresh, way};
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::{Scope, Snapshot};
use crate::kinds::Kind as _;
use crate::kinds::host_sshd::HostSshd;
use crate::kinds::table::Wanted;
use crate::plan::change::{Action, Change, Risk};
use crate::plan::check::{CheckedPlan, check};
use crate::plan::event::{ApplyVerdict, JournalEvent};
use crate::plan::host::Endpoint;
use crate::plan::probe::CloudProbe;
use crate::plan::step::{CloudStep, KeyDelivery};
use crate::plan::{Place, Stage};
use crate::reach::{Act, Failure};

/// How often deferred changes are planned anew. Each round brings up what the next one stands on: cloud, hosts, what
/// needs hosts. A fourth round is never needed; a plan that still waits after it has a circle that we missed.
const ROUNDS: usize = 4;

/// How long a change may take to show in what is read back. S3 and IAM lag by seconds, in bad hours by tens of seconds.
const VERIFY_LIMIT: Duration = Duration::from_secs(45);

/// First pause between two readings; it doubles up to [`VERIFY_PAUSE_MAX`].
const VERIFY_PAUSE_MIN: Duration = Duration::from_millis(100);
const VERIFY_PAUSE_MAX: Duration = Duration::from_secs(3);

/// How an apply ended.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub done: Vec<Address>,
    pub already: Vec<Address>,
    pub failed: Vec<(Address, Failure)>,
    pub not_started: Vec<Address>,
    /// Changed and put back, because no new login proved that the change does not lock out.
    pub put_back: Vec<(Address, Failure)>,
    /// By server, what is unchanged because it was put back: a line for each file, program and port.
    pub unchanged_after_revert: Vec<(String, Vec<String>)>,
}

impl Applied {
    /// The verdict for journal and exit code.
    pub fn verdict(&self) -> ApplyVerdict {
        if !self.put_back.is_empty() {
            return ApplyVerdict::RolledBack;
        }
        if self.failed.is_empty() && self.not_started.is_empty() { ApplyVerdict::Done } else { ApplyVerdict::Failed }
    }
}

impl Applied {
    /// What did not come to be as wanted. Nothing that needs any of it is begun.
    fn broken(&self) -> BTreeSet<Address> {
        let ended = self.failed.iter().chain(&self.put_back).map(|(address, _)| address);
        ended.chain(&self.not_started).cloned().collect()
    }
}

/// What an apply works with.
pub struct Run<'a, 'j, R: Act> {
    pub resolved: &'a Resolved,
    pub intent: &'a Intent,
    pub reach: &'a R,
    pub journal: &'a Journal<'j>,
    /// Names this apply: part of every transaction's id on hosts. Lower-case letters and digits.
    pub nonce: &'a str,
    undo: Mutex<BTreeMap<String, Vec<CloudStep>>>,
    /// By server, the port at which sshd was found last.
    ways: Mutex<BTreeMap<String, u16>>,
}

impl<'a, 'j, R: Act> Run<'a, 'j, R> {
    pub fn new(
        resolved: &'a Resolved,
        intent: &'a Intent,
        reach: &'a R,
        journal: &'a Journal<'j>,
        nonce: &'a str,
    ) -> Self {
        Self { resolved, intent, reach, journal, nonce, undo: Mutex::default(), ways: Mutex::default() }
    }

    /// Remembers at which port each server's sshd was found.
    pub fn learn(&self, snapshot: &Snapshot) {
        let mut ways = self.ways.lock().expect("no thread panics while it holds a list");
        let found = snapshot.hosts.iter().filter(|(_, view)| view.answers.unseen.is_none());
        ways.extend(found.filter_map(|(name, view)| Some((name.clone(), view.endpoint.as_ref()?.port))));
    }

    fn known_port(&self, server: &str) -> Option<u16> {
        self.ways.lock().expect("no thread panics while it holds a list").get(server).copied()
    }

    /// Looks at resources, and learns where their servers are.
    async fn look(&self, wanted: &[Wanted], scope: Scope) -> Snapshot {
        let snapshot = refresh(self.resolved, wanted, scope, self.reach).await;
        self.learn(&snapshot);
        snapshot
    }

    /// Applies an approved plan whose guards were checked just now.
    pub async fn apply(&self, approved: &CheckedPlan, already: &BTreeSet<Address>) -> Applied {
        let mut applied = Applied { already: already.iter().cloned().collect(), ..Applied::default() };
        for address in already {
            self.journal.record(&JournalEvent::AlreadyDone { address: address.clone() });
        }
        let mut stages = approved.stages.clone();
        let mut deferred: BTreeSet<Address> = approved.deferred.iter().map(|d| d.change.address.clone()).collect();
        let shown: BTreeMap<Address, Change> = approved
            .changes()
            .chain(approved.deferred.iter().map(|d| &d.change))
            .map(|change| (change.address.clone(), change.clone()))
            .collect();
        for round in 0..ROUNDS {
            for (index, stage) in stages.iter().enumerate() {
                let id = format!("{}-{round}-{index}", self.nonce);
                self.stage(stage, &id, already, &deferred, &mut applied).await;
            }
            self.give_up_what_needs_failures(&shown, &mut deferred, &mut applied);
            if deferred.is_empty() {
                break;
            }
            match self.next_round(&shown, &deferred).await {
                Ok(Round { stages: next, waiting }) => {
                    // A first part is done in this round, and its rest waits on.
                    for change in next.iter().flat_map(|stage| &stage.changes) {
                        if !waiting.contains(&change.address) {
                            deferred.remove(&change.address);
                        }
                    }
                    if next.is_empty() {
                        // Everything that waited turned out to be as wanted.
                        applied.already.extend(std::mem::take(&mut deferred));
                        break;
                    }
                    stages = next;
                }
                Err((address, failure)) => {
                    self.journal.record(&JournalEvent::Failed { address: address.clone(), why: failure.to_string() });
                    applied.failed.push((address, failure));
                    break;
                }
            }
        }
        for address in deferred {
            if !applied.failed.iter().any(|(failed, _)| *failed == address) {
                self.not_started(address, &mut applied);
            }
        }
        applied
    }

    fn not_started(&self, address: Address, applied: &mut Applied) {
        self.journal.record(&JournalEvent::NotStarted { address: address.clone() });
        applied.not_started.push(address);
    }

    /// Takes out of `deferred` what stands, by any number of steps, on something that failed. The rest goes on.
    fn give_up_what_needs_failures(
        &self,
        shown: &BTreeMap<Address, Change>,
        deferred: &mut BTreeSet<Address>,
        applied: &mut Applied,
    ) {
        loop {
            let broken = applied.broken();
            // If the first part of a change failed, its rest is not reported as a second failure.
            deferred.retain(|address| !broken.contains(address));
            let next = deferred.iter().find(|address| {
                shown.get(*address).is_some_and(|change| change.after.iter().any(|after| broken.contains(after)))
            });
            let Some(next) = next.cloned() else { return };
            deferred.remove(&next);
            self.not_started(next, applied);
        }
    }

    /// Does one stage and looks again until it is as wanted.
    /// What is also deferred is the first part of a change: the whole is looked at when the rest is done.
    async fn stage(
        &self,
        stage: &Stage,
        id: &str,
        already: &BTreeSet<Address>,
        deferred: &BTreeSet<Address>,
        applied: &mut Applied,
    ) {
        let broken = applied.broken();
        let mut changes = Vec::new();
        for change in stage.changes.iter().filter(|change| !already.contains(&change.address)) {
            // Not begun: what needs something that failed; any removal after a failure, since what failed may still use
            // it; and what may lock out, after it did so on another host.
            let stopped = change.after.iter().any(|after| broken.contains(after))
                || (change.action == Action::Destroy && !broken.is_empty())
                || (change.risk == Risk::MayLockOut && !applied.put_back.is_empty());
            if stopped {
                self.not_started(change.address.clone(), applied);
            } else {
                changes.push(change.clone());
            }
        }
        if changes.is_empty() {
            return;
        }
        let work = Stage { changes };
        self.wait_to_deliver(&work).await;
        let endpoints = self.endpoints_for(&work).await;
        let guarding = self.guarding(&work, &endpoints);
        let promised = guarding.as_ref().map(|guarding| guarding.after.clone());
        let mut end = execute::stage(&work, id, &endpoints, guarding, self.reach, self.journal).await;
        if work.place() == Place::Cloud && work.changes.iter().any(|change| !change.undo.is_empty()) {
            let endpoints = self.endpoints_for(&work).await;
            end.keep_or_put_back_ports(&work.changes, &endpoints, self.reach, self.journal).await;
        }
        applied.failed.extend(end.failed);
        applied.not_started.extend(end.not_started);
        applied.put_back.extend(end.put_back);
        applied.unchanged_after_revert.extend(end.unchanged_after_revert);
        self.remember_undo(&work, &end.acted);
        if let Some(after) = promised.filter(|_| !end.acted.is_empty()) {
            self.ways.lock().expect("no thread panics while it holds a list").insert(after.server, after.port);
        }
        let whole = |change: &&Change| end.acted.contains(&change.address) && !deferred.contains(&change.address);
        let acted: Vec<&Change> = work.changes.iter().filter(whole).collect();
        for (address, result) in self.verify(&acted).await {
            match result {
                Ok(()) => {
                    self.journal.record(&JournalEvent::Verified { address: address.clone() });
                    applied.done.push(address);
                }
                Err(failure) => {
                    self.journal.record(&JournalEvent::Failed { address: address.clone(), why: failure.to_string() });
                    applied.failed.push((address, failure));
                }
            }
        }
    }

    /// How a host's stage is guarded, if it may lock out.
    fn guarding(&self, stage: &Stage, endpoints: &[Endpoint]) -> Option<Guarding> {
        let Place::Host(name) = &stage.place() else { return None };
        if !stage.is_guarded() {
            return None;
        }
        let server = self.resolved.servers.get(name)?;
        let mut after = endpoints.iter().find(|at| at.server == *name)?.clone();
        if stage.changes.iter().any(|change| change.address.kind() == HostSshd::NAME) {
            after.port = server.port;
        }
        let undo = self.undo.lock().expect("no thread panics while it holds a list").get(name).cloned();
        Some(Guarding { limit_s: server.revert_after_s, after, undo: undo.unwrap_or_default() })
    }

    /// Remembers how the cloud in front of a server was before this apply changed it.
    fn remember_undo(&self, stage: &Stage, acted: &[Address]) {
        let mut undo = self.undo.lock().expect("no thread panics while it holds a list");
        for change in stage.changes.iter().filter(|change| !change.undo.is_empty() && acted.contains(&change.address)) {
            // The first change of this apply saw what was there before it.
            undo.entry(change.address.name().to_owned()).or_insert_with(|| change.undo.clone());
        }
    }

    /// Reads what was changed until it is as wanted, within [`VERIFY_LIMIT`].
    async fn verify(&self, acted: &[&Change]) -> Vec<(Address, Result<(), Failure>)> {
        let mut results = Vec::new();
        let mut waiting: BTreeMap<Address, Action> =
            acted.iter().map(|change| (change.address.clone(), change.action)).collect();
        // What is no longer declared has no kind that could be asked. Its steps ended only when it was gone.
        waiting.retain(|address, _| {
            let declared = self.resolved.wanted(address).is_some();
            if !declared {
                results.push((address.clone(), Ok(())));
            }
            declared
        });
        let started = tokio::time::Instant::now();
        let mut pause = VERIFY_PAUSE_MIN;
        while !waiting.is_empty() {
            let wanted: Vec<Wanted> =
                self.resolved.wanted.iter().filter(|w| waiting.contains_key(&w.address)).cloned().collect();
            let snapshot = self.look(&wanted, Scope::Only).await;
            let out_of_time = started.elapsed() > VERIFY_LIMIT;
            for wanted in &wanted {
                let action = waiting[&wanted.address];
                let verdict = judge_after(action, change_for(self.resolved, &snapshot, wanted));
                // A host's first answer is final: its steps have ended, and waiting changes nothing there.
                let last = out_of_time || matches!(wanted.place, Place::Host(_));
                match verdict {
                    Ok(()) => {}
                    Err(_) if !last => continue,
                    Err(why) => {
                        waiting.remove(&wanted.address);
                        results.push((wanted.address.clone(), Err(not_converged(&why))));
                        continue;
                    }
                }
                waiting.remove(&wanted.address);
                results.push((wanted.address.clone(), Ok(())));
            }
            if !waiting.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(VERIFY_PAUSE_MAX);
            }
        }
        results
    }

    /// Waits for the servers that now exist and plans what waited for them. What comes out must be what was shown.
    async fn next_round(
        &self,
        shown: &BTreeMap<Address, Change>,
        deferred: &BTreeSet<Address>,
    ) -> Result<Round, (Address, Failure)> {
        let first = deferred.first().cloned().expect("called only while something waits");
        self.wait_for_servers(deferred).await?;
        let snapshot = self.look(&self.resolved.wanted, Scope::Whole).await;
        let again = check(propose(self.resolved, &snapshot, self.intent, &|_| None).plan).map_err(|breaches| {
            let broken: Vec<String> = breaches.iter().map(ToString::to_string).collect();
            let why = format!("planned again, it breaks a promise of plans: {}", broken.join("; "));
            (first.clone(), Failure::new(why).hint("this is a bug in seawall"))
        })?;
        if let Some(unseen) = again.unknown.first() {
            return Err((unseen.address.clone(), Failure::new(format!("it cannot be seen: {}", unseen.why))));
        }
        let mut stages = Vec::new();
        for stage in &again.stages {
            let mut changes = Vec::new();
            for change in &stage.changes {
                let Some(approved) = shown.get(&change.address) else {
                    return Err((change.address.clone(), Failure::new("it needs a change that the plan did not show")));
                };
                // What failed in this run is told already, and is not tried twice.
                if !deferred.contains(&change.address) {
                    continue;
                }
                let rest = again.deferred.iter().find(|deferred| deferred.change.address == change.address);
                if !same_end(approved, rest.map_or(change, |deferred| &deferred.change)) {
                    return Err((
                        change.address.clone(),
                        Failure::new("it would come out differently than the plan showed"),
                    ));
                }
                changes.push(change.clone());
            }
            if !changes.is_empty() {
                stages.push(Stage { changes });
            }
        }
        let waiting: BTreeSet<Address> = again.deferred.iter().map(|d| d.change.address.clone()).collect();
        if stages.is_empty() && !waiting.is_empty() {
            return Err((first, Failure::new("what it waits for did not come to exist")));
        }
        Ok(Round { stages, waiting })
    }

    /// Where the servers that a stage touches are logged in to. Asked anew each time: a static IP may have moved.
    async fn endpoints_for(&self, stage: &Stage) -> Vec<Endpoint> {
        let mut servers = delivered_to(stage);
        let in_front = stage.changes.iter().filter(|change| !change.undo.is_empty());
        servers.extend(in_front.map(|change| change.address.name()));
        let place = stage.place();
        if let Place::Host(server) = &place {
            servers.insert(server);
        }
        let mut endpoints = Vec::new();
        for (name, server) in self.resolved.servers.iter().filter(|(name, _)| servers.contains(name.as_str())) {
            let answer = self.reach.cloud(&CloudProbe::Instance { name: server.instance.clone() }).await;
            // A server without an endpoint fails in the stage, with its address in the message.
            endpoints.extend(way(name, server, &answer, self.known_port(name)).ok());
        }
        endpoints
    }

    /// Waits for servers that get access keys and that nobody has logged in to yet: they were made a moment ago. If one
    /// does not come up, the delivery fails and says so.
    async fn wait_to_deliver(&self, stage: &Stage) {
        for name in delivered_to(stage).into_iter().filter(|name| self.known_port(name).is_none()) {
            let Some(server) = self.resolved.servers.get(name) else { continue };
            let answer = self.reach.cloud(&CloudProbe::Instance { name: server.instance.clone() }).await;
            let Ok(at) = way(name, server, &answer, Some(SSH_PORT)) else { continue };
            if self.reach.wait_ready(&at).await.is_ok() {
                self.ways.lock().expect("no thread panics while it holds a list").insert(name.to_owned(), at.port);
            }
        }
    }

    /// Waits until every server that deferred changes wait for can be logged in to and has finished its first boot.
    async fn wait_for_servers(&self, deferred: &BTreeSet<Address>) -> Result<(), (Address, Failure)> {
        for (name, server) in &self.resolved.servers {
            let place = Place::Host(name.clone());
            let waited_for = self.resolved.wanted.iter().any(|w| w.place == place && deferred.contains(&w.address));
            if !waited_for {
                continue;
            }
            let answer = self.reach.cloud(&CloudProbe::Instance { name: server.instance.clone() }).await;
            // A server that nobody has found yet is new, and its sshd where the image put it.
            let at = way(name, server, &answer, self.known_port(name).or(Some(SSH_PORT)))
                .map_err(|why| (server.address.clone(), Failure::new(format!("it cannot be logged in to: {why}"))))?;
            self.reach.wait_ready(&at).await.map_err(|failure| (server.address.clone(), failure))?;
        }
        Ok(())
    }
}

/// The servers that a stage delivers access keys to.
fn delivered_to(stage: &Stage) -> BTreeSet<&str> {
    let steps = stage.changes.iter().flat_map(|change| change.steps.cloud());
    let server = |step| match step {
        &CloudStep::CreateAccessKey { deliver: KeyDelivery::HostFile { ref server, .. }, .. } => Some(server.as_str()),
        _ => None,
    };
    steps.filter_map(server).collect()
}

/// What can be done now of what waited, and what waits on.
struct Round {
    stages: Vec<Stage>,
    waiting: BTreeSet<Address>,
}

fn not_converged(why: &str) -> Failure {
    Failure::new(format!("after its steps it is not as wanted: {why}"))
        .hint("if nobody else changed it meanwhile, this is a bug in seawall")
}

/// Whether a resource is, after its steps, what they were to make of it.
fn judge_after(action: Action, outcome: Outcome) -> Result<(), String> {
    match (action, outcome) {
        (Action::Destroy, Outcome::Change { change, .. }) if change.action == Action::Create => Ok(()),
        (Action::Destroy, Outcome::Unknown(_)) => Ok(()),
        (Action::Destroy, _) => Err("it is still there".to_owned()),
        (_, Outcome::Unchanged { .. }) => Ok(()),
        (_, Outcome::Unknown(why)) => Err(format!("it cannot be seen: {why}")),
        (_, Outcome::Foreign(why)) => Err(format!("it is not ours: {why}")),
        (_, Outcome::Change { change, .. }) if change.action == Action::Create => Err("it is not there".to_owned()),
        (_, Outcome::Change { change, .. }) => {
            let fields: Vec<&str> = change.fields.iter().map(|field| field.path.as_str()).collect();
            Err(fields.join(", "))
        }
    }
}

/// Whether two changes of a resource end at the same values. Their starts may differ: a package brings a default file.
fn same_end(shown: &Change, now: &Change) -> bool {
    let ends = |change: &Change| -> BTreeMap<String, Option<serde_json::Value>> {
        change.fields.iter().map(|field| (field.path.clone(), field.after.clone())).collect()
    };
    let shown_ends = ends(shown);
    let files: BTreeMap<&str, &Option<String>> = shown.files.iter().map(|f| (f.path.as_str(), &f.after)).collect();
    ends(now).iter().all(|(path, after)| shown_ends.get(path).is_none_or(|shown| shown == after))
        && now.files.iter().all(|f| files.get(f.path.as_str()).is_none_or(|after| **after == f.after))
}
