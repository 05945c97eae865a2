//! Real hosts, broken on purpose: what may lock out is put back, and what was tampered with is found.

#[path = "../support/rehearsal.rs"]
mod rehearsal;

mod bans;
mod firewall;
mod judges;
mod lockout;
mod tamper;
