//! Real Debian machines on this computer, made of Linux namespaces: half a second from create to login.
//!
//! [`Machines`] is one lab: images, a network and its hosts. The lab lives in processes of this same program, started
//! again by hidden arguments ([`hidden_entry`]), and ends with the process that made it, however that ends: what stays
//! are folders, from which the next lab goes on. Nothing of this computer is changed besides one veth link per lab.
//! What hosts cannot show: the clock, the kernel's own settings (they are read-only), its log, swap.

mod cgroup;
mod client;
mod doctor;
mod error;
mod firewall;
mod guest;
mod hidden;
mod holder;
mod host;
mod image;
mod lab;
mod layers;
mod net;
mod packages;
mod record;
mod seed;
mod status;
mod supervise;
mod tool;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub use crate::sandbox::machines::error::MachineError;
pub use crate::sandbox::machines::firewall::PortRule;
pub use crate::sandbox::machines::firewall::Protocol;
pub use crate::sandbox::machines::holder::exec_from;
pub use crate::sandbox::machines::holder::prune;
pub use crate::sandbox::machines::image::Image;
pub use crate::sandbox::machines::image::ensure_image;
pub use crate::sandbox::machines::lab::Machines;
pub use crate::sandbox::machines::lab::Options;
pub use crate::sandbox::machines::layers::copy;
pub use crate::sandbox::machines::layers::images;
pub use crate::sandbox::machines::layers::keep;
pub use crate::sandbox::machines::layers::stand_on;
pub use crate::sandbox::machines::layers::stands_on;
pub use crate::sandbox::machines::seed::Spec;
pub use crate::sandbox::machines::status::HostState;
pub use crate::sandbox::machines::status::HostStatus;
pub use crate::sandbox::machines::status::Running;

/// Runs a hidden process of a lab if `args` (the program's own, with its name first) ask for one. `main` calls this
/// before it starts a thread: namespaces are made by single-threaded processes.
pub fn hidden_entry(args: &[OsString]) -> Option<ExitCode> {
    let word = args.get(1)?.to_str()?;
    let rest = args.get(2..).unwrap_or_default();
    let code = match (word, rest) {
        (hidden::HOLD, [tree, group]) => supervise::hold(Path::new(tree), group.to_str()?),
        (hidden::SWEEP, [tree, group]) => supervise::sweep(Path::new(tree), group.to_str()?),
        (hidden::SUPERVISE, [orders]) => supervise::supervise(Path::new(orders)),
        (hidden::INIT, [orders, payload]) => guest::init(Path::new(orders), Path::new(payload)),
        (hidden::CLIENT, rest) => client::client(rest),
        (hidden::PROBE, [folder]) => doctor::probe(Path::new(folder)),
        _ => return None,
    };
    Some(code)
}

/// Says what keeps this computer from running hosts, as [`MachineError::CannotRun`], by trying. `exe` is a program whose
/// `main` calls [`hidden_entry`], by default this one; `folder` is where the state would be.
pub async fn doctor(exe: Option<&Path>, folder: &Path) -> Result<(), MachineError> {
    doctor::doctor(&holder::program(exe)?, folder).await
}
