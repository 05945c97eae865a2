//! One line of a journal; the same record drives the progress display.

use serde::{Deserialize, Serialize};

use crate::base::address::Address;

/// What happened during an apply, in order. Journals explain; they never steer a later run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JournalEvent {
    /// Apply begins: how many changes, and the digest of the plan.
    Begun {
        changes: usize,
        plan: String,
        environment: String,
    },
    /// A resource's steps begin.
    ChangeBegun {
        address: Address,
    },
    /// Written before the step acts.
    StepBegun {
        address: Address,
        step: usize,
        what: String,
    },
    StepDone {
        address: Address,
        step: usize,
    },
    /// Output worth keeping, for example of a failing command.
    Output {
        address: Address,
        text: String,
    },
    /// Observed again and equal to what was wanted.
    Verified {
        address: Address,
    },
    /// Nothing to do any more: the world was already as wanted.
    AlreadyDone {
        address: Address,
    },
    Failed {
        address: Address,
        why: String,
    },
    /// Not started, because of a failure before it.
    NotStarted {
        address: Address,
    },
    /// The connection to a host was lost and found again.
    Reattached {
        server: String,
        after_ms: u64,
    },
    /// A host puts a guarded change back after so many seconds, unless a new login proves it.
    Armed {
        server: String,
        seconds: usize,
    },
    /// A new login proved a guarded change: it stays.
    Kept {
        server: String,
    },
    /// A guarded change was put back: what is as it was, line by line.
    PutBack {
        server: String,
        what: Vec<String>,
    },
    Finished {
        verdict: ApplyVerdict,
    },
}

/// How an apply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyVerdict {
    Done,
    Failed,
    RolledBack,
    Interrupted,
}
