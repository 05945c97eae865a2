//! Does the changes of one stage: cloud changes side by side, a host's changes as one transaction.
//!
//! Takes no decisions: the steps stand in the changes. Every step is in the journal before it acts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::StreamExt as _;

use crate::base::address::Address;
use crate::engine::guarded::{self, Guard, NotKept};
use crate::engine::journal::Journal;
use crate::plan::Stage;
use crate::plan::change::Change;
use crate::plan::event::JournalEvent;
use crate::plan::host::Endpoint;
use crate::plan::step::{CloudStep, HostStep, Steps};
use crate::reach::{Act, Failure, HostEvent, Transaction, TransactionStep};

/// How many cloud changes are done at the same time. Mutations are throttled harder than reads.
const CLOUD_CHANGES_AT_ONCE: usize = 8;

/// How the changes of a stage ended.
#[derive(Debug, Default)]
pub struct StageEnd {
    pub acted: Vec<Address>,
    pub failed: Vec<(Address, Failure)>,
    pub not_started: Vec<Address>,
    /// Put back, because nothing proved that they do not lock out.
    pub put_back: Vec<(Address, Failure)>,
    /// By server, what is unchanged because it was put back: a line for each file, program and port.
    pub unchanged_after_revert: Vec<(String, Vec<String>)>,
}

/// What a guarded change of a host needs to know beyond its steps.
#[derive(Clone, Debug)]
pub struct Guarding {
    /// The host's own limit in seconds.
    pub limit_s: u32,
    /// The way in that the plan promises after the change.
    pub after: Endpoint,
    /// Puts back what this apply changed in the cloud in front of the host.
    pub undo: Vec<CloudStep>,
}

/// Does a stage. `id` names a host's transaction and is unique within the apply.
pub async fn stage(
    stage: &Stage,
    id: &str,
    endpoints: &[Endpoint],
    guarding: Option<Guarding>,
    reach: &impl Act,
    journal: &Journal<'_>,
) -> StageEnd {
    let (mut in_cloud, mut on_hosts) = (Vec::new(), BTreeMap::<&str, Vec<(&Change, &[HostStep])>>::new());
    for change in &stage.changes {
        match &change.steps {
            Steps::Cloud(steps) => in_cloud.push((change, steps.as_slice())),
            Steps::Host(steps) => on_hosts.entry(change.address.name()).or_default().push((change, steps)),
        }
    }
    let mut end = cloud(&in_cloud, endpoints, reach, journal).await;
    for (server, changes) in on_hosts {
        end.add(match endpoints.iter().find(|endpoint| endpoint.server == server) {
            Some(at) => host(&changes, id, at, guarding.clone(), reach, journal).await,
            None => no_way_in(server, &changes, journal),
        });
    }
    end
}

fn no_way_in(server: &str, changes: &[(&Change, &[HostStep])], journal: &Journal<'_>) -> StageEnd {
    let failure = Failure::new(format!("no way to log in to `{server}` is known"));
    let mut end = StageEnd::default();
    for (index, (change, _)) in changes.iter().enumerate() {
        if index == 0 {
            journal.record(&JournalEvent::Failed { address: change.address.clone(), why: failure.to_string() });
            end.failed.push((change.address.clone(), failure.clone()));
        } else {
            journal.record(&JournalEvent::NotStarted { address: change.address.clone() });
            end.not_started.push(change.address.clone());
        }
    }
    end
}

async fn cloud(
    changes: &[(&Change, &[CloudStep])],
    endpoints: &[Endpoint],
    reach: &impl Act,
    journal: &Journal<'_>,
) -> StageEnd {
    let results: Vec<(Address, Result<(), Failure>)> = futures::stream::iter(changes)
        .map(|(change, steps)| async move {
            (change.address.clone(), one(&change.address, steps, endpoints, reach, journal).await)
        })
        .buffer_unordered(CLOUD_CHANGES_AT_ONCE)
        .collect()
        .await;
    let mut end = StageEnd::default();
    for (address, result) in results {
        match result {
            Ok(()) => end.acted.push(address),
            Err(failure) => end.failed.push((address, failure)),
        }
    }
    end.acted.sort();
    end
}

impl StageEnd {
    fn add(&mut self, other: Self) {
        let Self { acted, failed, not_started, put_back, unchanged_after_revert } = other;
        self.acted.extend(acted);
        self.failed.extend(failed);
        self.not_started.extend(not_started);
        self.put_back.extend(put_back);
        self.unchanged_after_revert.extend(unchanged_after_revert);
    }

    /// Has the cloud's ports put back that shut everybody out. `endpoints` are those after the stage: a static IP may have
    /// moved within it.
    pub async fn keep_or_put_back_ports(
        &mut self,
        changes: &[Change],
        endpoints: &[Endpoint],
        reach: &impl Act,
        journal: &Journal<'_>,
    ) {
        for change in changes.iter().filter(|change| !change.undo.is_empty()) {
            let at = endpoints.iter().find(|at| at.server == change.address.name());
            let Some(at) = at.filter(|_| self.acted.contains(&change.address)) else { continue };
            if let Err(not_kept) = guarded::keep_or_put_back_ports(change, at, reach, journal).await {
                self.acted.retain(|address| *address != change.address);
                self.take(&at.server, [&change.address], not_kept, journal);
            }
        }
    }

    /// Notes how a guarded change ended that was not kept.
    fn take<'a>(
        &mut self,
        server: &str,
        addresses: impl IntoIterator<Item = &'a Address>,
        not_kept: NotKept,
        journal: &Journal<'_>,
    ) {
        let (failure, ended) = match not_kept {
            NotKept::Failed(failure) => (failure, &mut self.failed),
            NotKept::PutBack(failure, lines) => {
                self.unchanged_after_revert.push((server.to_owned(), lines));
                (failure, &mut self.put_back)
            }
        };
        for address in addresses {
            journal.record(&JournalEvent::Failed { address: address.clone(), why: failure.to_string() });
            ended.push((address.clone(), failure.clone()));
        }
    }
}

async fn one(
    address: &Address,
    steps: &[CloudStep],
    endpoints: &[Endpoint],
    reach: &impl Act,
    journal: &Journal<'_>,
) -> Result<(), Failure> {
    journal.record(&JournalEvent::ChangeBegun { address: address.clone() });
    for (index, step) in steps.iter().enumerate() {
        journal.record(&JournalEvent::StepBegun { address: address.clone(), step: index, what: step.summary() });
        let done = match journal.check() {
            Err(why) => Err(Failure::new(why)),
            Ok(()) => reach.act_cloud(step, endpoints).await,
        };
        if let Err(failure) = done {
            journal.record(&JournalEvent::Failed { address: address.clone(), why: failure.to_string() });
            return Err(failure);
        }
        journal.record(&JournalEvent::StepDone { address: address.clone(), step: index });
    }
    Ok(())
}

async fn host(
    changes: &[(&Change, &[HostStep])],
    id: &str,
    at: &Endpoint,
    guarding: Option<Guarding>,
    reach: &impl Act,
    journal: &Journal<'_>,
) -> StageEnd {
    let mut transaction_steps: Vec<TransactionStep> = Vec::new();
    for (change, steps) in changes {
        for (index, step) in steps.iter().enumerate() {
            transaction_steps.push(TransactionStep { address: change.address.clone(), index, step: step.clone() });
        }
    }
    let guard_s = guarding.as_ref().map(|guarding| guarding.limit_s);
    let transaction = Transaction { id: id.to_owned(), guard_s, steps: transaction_steps };
    let since = Instant::now();
    let done = std::sync::Mutex::new(BTreeMap::<Address, usize>::new());
    let on_event = |event: HostEvent| note(&event, at, &transaction, journal, &done);
    let result = match journal.check() {
        Ok(()) => reach.act_host(at, &transaction, &on_event).await,
        Err(why) => Err(Failure::new(why)),
    };
    let done = done.into_inner().expect("no thread panics while it counts steps");
    let mut end = StageEnd::default();
    let result = match guarding {
        None => result,
        Some(Guarding { limit_s, after, undo }) => {
            let proofs = changes.iter().flat_map(|(change, _)| &change.proofs).cloned().collect::<BTreeSet<_>>();
            let proofs = proofs.into_iter().collect();
            let guard = Guard { id, limit_s, since, before: at, after: &after, proofs, undo };
            match guard.keep_or_put_back(result, reach, journal).await {
                Ok(()) => Ok(()),
                Err(NotKept::Failed(failure)) => Err(failure),
                Err(put_back) => {
                    end.take(&at.server, changes.iter().map(|(change, _)| &change.address), put_back, journal);
                    return end;
                }
            }
        }
    };
    match result {
        Ok(()) => end.acted = changes.iter().map(|(change, _)| change.address.clone()).collect(),
        Err(failure) => {
            // The failed step says which resource failed. If none is known, it is the first one that is not done.
            let failed = failure.position.and_then(|p| transaction.steps.get(p)).map(|step| step.address.clone());
            for (change, _) in changes {
                let all = transaction.steps.iter().filter(|step| step.address == change.address).count();
                let address = change.address.clone();
                if done.get(&address).copied().unwrap_or(0) == all {
                    end.acted.push(address);
                } else if end.failed.is_empty()
                    && end.put_back.is_empty()
                    && failed.as_ref().is_none_or(|failed| *failed == address)
                {
                    journal.record(&JournalEvent::Failed { address: address.clone(), why: failure.to_string() });
                    let ended = if failure.was_put_back() { &mut end.put_back } else { &mut end.failed };
                    ended.push((address, failure.clone()));
                } else {
                    journal.record(&JournalEvent::NotStarted { address: address.clone() });
                    end.not_started.push(address);
                }
            }
        }
    }
    end
}

/// Writes what the host reports into the journal.
fn note(
    event: &HostEvent,
    at: &Endpoint,
    transaction: &Transaction,
    journal: &Journal<'_>,
    done: &std::sync::Mutex<BTreeMap<Address, usize>>,
) {
    let step = |position: usize| transaction.steps.get(position);
    match event {
        HostEvent::Begun { position } => {
            let Some(step) = step(*position) else { return };
            if step.index == 0 {
                journal.record(&JournalEvent::ChangeBegun { address: step.address.clone() });
            }
            let what = step.step.summary();
            journal.record(&JournalEvent::StepBegun { address: step.address.clone(), step: step.index, what });
        }
        HostEvent::Done { position } => {
            let Some(step) = step(*position) else { return };
            *done.lock().expect("no thread panics while it counts steps").entry(step.address.clone()).or_default() += 1;
            journal.record(&JournalEvent::StepDone { address: step.address.clone(), step: step.index });
        }
        HostEvent::Failed { position, status, output } => {
            let Some(step) = step(*position) else { return };
            let text = format!("status {status}\n{output}");
            journal.record(&JournalEvent::Output { address: step.address.clone(), text });
        }
        HostEvent::Armed { seconds } => {
            journal.record(&JournalEvent::Armed { server: at.server.clone(), seconds: *seconds });
        }
        HostEvent::Reattached { after_ms } => {
            journal.record(&JournalEvent::Reattached { server: at.server.clone(), after_ms: *after_ms });
        }
    }
}
