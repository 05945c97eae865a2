//! The programs that run on hosts, run here: the same texts, the same bootstrap, a local `sh` and a temporary folder.

use crate::base::address::Address;
use crate::plan::host::Endpoint;
use crate::plan::step::HostStep;
use crate::reach::{Transaction, TransactionStep};

mod asking;
mod doing;
mod folders;

/// A place where nobody listens.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint {
        server: "db".to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 9,
        user: "admin".to_owned(),
        host_keys: Vec::new(),
    }
}

/// A transaction whose steps are told apart by their paths.
pub(crate) fn transaction(steps: usize) -> Transaction {
    let step = |index| TransactionStep {
        address: Address::new("host.test", "db"),
        index,
        step: HostStep::RemoveFile { path: format!("/{index}") },
    };
    Transaction { id: "t-1".to_owned(), guard_s: None, steps: (0..steps).map(step).collect() }
}
