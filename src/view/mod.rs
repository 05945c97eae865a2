//! The only room that formats: text, JSON, progress. It reads data and decides nothing.
//!
//! Everything returns text or writes to a given writer. Start with [`plan`]; [`style`] is what the rest paints with.

pub mod backup;
pub mod change;
pub mod context;
pub mod diag;
pub mod diff;
pub mod drift;
pub mod drill;
pub mod explain;
pub mod json;
pub mod json_backup;
pub mod json_drill;
pub mod json_restore;
pub mod plan;
pub mod progress;
pub mod reachability;
pub mod restore;
#[cfg(test)]
mod sample;
pub mod status;
mod steps;
pub mod style;
mod table;
#[cfg(test)]
mod tests;
pub mod text;
pub mod value;
pub mod working;
