//! Hosts over SSH: one connection and one program for all questions, one transaction for all steps.
//!
//! Read [`session`] first (how a host is reached and what can go wrong), then [`ask`] (questions to one read-only
//! program and its framed answer), [`program`] (steps to one program), [`act`] (start it, follow it, find it again) and [`guard`] (keep what may lock out, or
//! have it put back).
//! Everything that runs on a host is POSIX shell and coreutils; the texts are the `.sh` files beside the modules.
//! Deliberately absent: trust on first use, secrets in arguments, and any retry of a step.

pub mod act;
pub mod ask;
mod asked;
pub mod command;
pub mod deliver;
pub mod error;
pub mod event;
mod files;
mod frame;
pub mod guard;
pub mod interactive;
pub mod limits;
pub mod lock;
pub mod manifest;
pub mod program;
pub mod secrets;
pub mod session;
mod sql;
mod sudo;
mod watch;

#[cfg(test)]
mod tests;
