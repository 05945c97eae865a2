//! The only room with sockets, processes and credentials: probes to answers, steps to effects, no decisions.
//!
//! [`Ask`] looks and cannot change anything; `plan` and `drift` hold nothing else. [`Act`] adds the effects.

pub mod aws;
pub mod look;
mod scram;
pub mod sealed;
pub mod ssh;
pub mod world;

use std::future::Future;
use std::time::Duration;

use serde_json::Value;

use crate::base::address::Address;
use crate::base::secret::SecretUse;
use crate::plan::change::Proof;
use crate::plan::host::Endpoint;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, HostProbe};
use crate::plan::step::{CloudStep, HostStep};

/// Looks at the world. Never fails as a whole: what could not be seen is `Unknown` in the answer.
pub trait Ask: Sync {
    /// Asks AWS one thing.
    fn cloud(&self, probe: &CloudProbe) -> impl Future<Output = Observed<Value>> + Send;

    /// Asks a host everything at once: one connection, one program, one answer.
    fn host(&self, at: &Endpoint, probes: &[HostProbe]) -> impl Future<Output = Answers> + Send;

    /// Words of a tool without any piece of the operator's secrets.
    fn redacted(&self, words: &str) -> String;

    /// `sha256:…` of a secret of the operator's in its form, or why it is not to be had.
    fn fingerprint(&self, secret: &SecretUse) -> impl Future<Output = Result<String, String>> + Send;
}

/// Changes the world.
pub trait Act: Ask {
    /// Does one step in AWS and waits until its effect is there. `hosts` tells where keys are delivered to.
    fn act_cloud(&self, step: &CloudStep, hosts: &[Endpoint]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits until a new server can be logged in to and its first boot has finished, within a named limit.
    fn wait_ready(&self, at: &Endpoint) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Runs a host's steps as one transaction that a lost connection neither stops nor half-does.
    fn act_host(
        &self,
        at: &Endpoint,
        transaction: &Transaction,
        on_event: &(dyn Fn(HostEvent) + Sync),
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Proves that a host can be logged in to over a new connection, that the login becomes root, and that what should
    /// be refused is. Tries until `limit` is over where trying again can help.
    fn prove(
        &self,
        at: &Endpoint,
        proofs: &[Proof],
        limit: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Tells a host that a guarded change stays. What it answers counts: it may have put everything back just before.
    fn keep(&self, at: &Endpoint, transaction: &str) -> impl Future<Output = Result<Guarded, Failure>> + Send;

    /// Has a guarded change put back now where one of the ways to the host still works, or waits until the host has
    /// done so by itself.
    fn put_back(
        &self,
        ways: &[Endpoint],
        transaction: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<Guarded, Failure>> + Send;
}

/// The steps of all changes of one host, in order, as one unit of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Names the unit and the folder on the host: lower-case letters, digits, hyphens.
    pub id: String,
    /// For a change that may lock out: the host puts it back by itself after so many seconds, unless it is told that
    /// the change stays.
    pub guard_s: Option<u32>,
    pub steps: Vec<TransactionStep>,
}

/// What a host says about a guarded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// It never began.
    None,
    /// Nobody has decided yet; the host puts it back when its time is over.
    Armed,
    /// It stays.
    Kept,
    /// It was put back: a line for each file and for each program that was run.
    PutBack(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct TransactionStep {
    pub address: Address,
    /// Index of the step within its change.
    pub index: usize,
    pub step: HostStep,
}

/// What a host reports while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// The host will put everything back after so many seconds, unless it is told that the change stays.
    Armed {
        seconds: usize,
    },
    /// Step `position` of the transaction begins; it is in the host's journal already.
    Begun {
        position: usize,
    },
    Done {
        position: usize,
    },
    Failed {
        position: usize,
        status: i32,
        output: String,
    },
    Reattached {
        after_ms: u64,
    },
}

/// Why a step did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// One sentence: what was tried and what came back.
    pub what: String,
    /// The position of the failing step, where it was a transaction.
    pub position: Option<usize>,
    /// The code that AWS gave, for example `NotFoundException`.
    pub code: Option<String>,
    /// Something to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of our own, without anybody else's code.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), position: None, code: None, hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What was there before is in effect again, and was found to work.
    #[must_use]
    pub fn put_back(self) -> Self {
        Self { code: Some("put-back".to_owned()), ..self }.hint("change what the message names, then plan again")
    }

    pub fn was_put_back(&self) -> bool {
        self.code.as_deref() == Some("put-back")
    }

    /// What was to be changed stands where somebody else than root could put a link.
    #[must_use]
    pub fn unsafe_folder(self) -> Self {
        Self { code: Some("unsafe-folder".to_owned()), ..self }.hint(
            "find out who had that folder, and why, before it is given back to root: whatever stands in it may be his",
        )
    }
}
