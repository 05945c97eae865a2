//! What can go wrong with local machines, as data.

use std::path::Path;
use std::time::Duration;

/// Why a machine, the network between machines or the image is not there.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// This computer cannot run hosts at all; the cloud half of the sandbox still works.
    #[error("this computer cannot run local hosts: {}", missing.join("; "))]
    CannotRun { missing: Vec<String> },
    #[error("`{program}` failed ({status}): {said}")]
    Tool { program: String, status: String, said: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{what} took longer than {} s", limit.as_secs())]
    Timeout { what: String, limit: Duration },
    #[error("there is no host `{name}`")]
    Unknown { name: String },
    #[error("there is a host `{name}` already")]
    Exists { name: String },
    #[error("host `{name}` is {is}, not {wanted}")]
    State { name: String, is: &'static str, wanted: &'static str },
    #[error("{what}")]
    Bad { what: String },
    /// The supervisor of a host ended by itself; `said` is the end of its console log.
    #[error("host `{name}` ended while it was started: {said}")]
    Died { name: String, said: String },
}

impl MachineError {
    pub(super) fn bad(what: impl Into<String>) -> Self {
        Self::Bad { what: what.into() }
    }

    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        Self::io(format!("`{}`", path.display()))
    }
}
