//! What the user wrote: the inventory's sections as types, loading with positions, checks that need no kind, schema.
//!
//! Start with [`sections`], then [`load`] (text to types, every problem with its place) and [`check`] (what the types
//! cannot say). Deliberately absent: anything that asks the world; secrets stay references.

pub mod check;
pub mod compose;
pub mod extensions;
pub mod load;
pub mod names;
pub mod packages;
pub mod places;
pub mod public_key;
pub mod scalar;
pub mod schedule;
pub mod schema;
pub mod sections;
pub mod similar;
mod structure;
pub mod words;
mod yaml;
