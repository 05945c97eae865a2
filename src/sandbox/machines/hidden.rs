//! The words by which this program starts itself again as a process of the lab's machines. Each process has its own.

/// Holds the lab's namespaces: `__hold TREE GROUP`.
pub(super) const HOLD: &str = "__hold";
/// Ends what a killed lab left behind: `__sweep TREE GROUP`.
pub(super) const SWEEP: &str = "__sweep";
/// Owns one host and boots it: `__supervise ORDERS`.
pub(super) const SUPERVISE: &str = "__supervise";
/// A host's first process, before it becomes systemd: `__init ORDERS PAYLOAD`.
pub(super) const INIT: &str = "__init";
/// Runs a program inside the lab's network: `__client HOLDER GATEWAY ADDRESS COMMAND…`.
pub(super) const CLIENT: &str = "__client";
/// Tries whether this computer can run hosts: `__probe FOLDER`.
pub(super) const PROBE: &str = "__probe";
