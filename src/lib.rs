//! Seawall provisions and hardens a production PostgreSQL server on AWS Lightsail from one inventory, and keeps it so.
//!
//! The rooms, in reading order; `docs/ARCHITECTURE.md` walks through them and `tests/tidy.rs` holds them apart.

pub mod base;
pub mod cli;
pub mod engine;
pub mod inventory;
pub mod kinds;
pub mod plan;
pub mod policy;
pub mod reach;
pub mod recovery;
pub mod render;
pub mod sandbox;
pub mod view;
