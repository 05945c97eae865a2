//! The Lightsail API (AWS JSON 1.1) over a state of our own.
//!
//! One file per family of operations; each operation is a plain function from the state and the request to an
//! answer and a list of [`Effect`]s. Only `api` talks to machines, so everything else is testable without one.
//! Deliberately absent: load balancers, databases, containers, disks, DNS, buckets.

pub mod access;
pub mod addons;
pub mod addresses;
pub mod alarms;
pub mod api;
pub mod call;
pub mod catalog;
pub mod check;
pub mod error;
pub mod instances;
pub mod keys;
pub mod machine;
pub mod operations;
pub mod ports;
pub mod snapshots;
pub mod state;

/// What remains to be done on a machine after an answer was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub what: Deed,
    pub region: String,
    pub instance: String,
    /// The operation that ends with it.
    pub operation: String,
}

/// The kinds of work on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Create,
    Start,
    Stop,
    Reboot,
    Delete,
    Ports,
    Address,
}
