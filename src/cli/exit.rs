//! Exit codes: the same meaning for every command. They are an interface; scripts depend on them.

use std::process::ExitCode;

use crate::base::diag::{Diagnostic, Diagnostics};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    Failed = 1,
    /// `plan` and `drift` found differences; `status` and they found something broken.
    Differences = 2,
    /// Refused by a rule or a protection.
    Refused = 3,
    /// The plan does not fit the world any more.
    Stale = 4,
    RolledBack = 5,
    /// The command line could not be understood (sysexits' EX_USAGE; clap's own 2 would read as differences).
    Usage = 64,
    /// Our bug (sysexits' EX_SOFTWARE).
    Bug = 70,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that stopped: why, and with which code.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub diagnostics: Diagnostics,
}

impl Stop {
    pub fn new(exit: Exit, diagnostics: impl Into<Diagnostics>) -> Self {
        Self { exit, diagnostics: diagnostics.into() }
    }

    /// A failure with one message.
    pub fn failed(diagnostic: Diagnostic) -> Self {
        Self::new(Exit::Failed, diagnostic)
    }
}

impl From<std::io::Error> for Stop {
    /// Output that cannot be written: a closed pipe is the reader's choice, anything else is said.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Failed, Diagnostics::default());
        }
        Self::failed(Diagnostic::error("output-failed", format!("the output could not be written: {error}")))
    }
}
