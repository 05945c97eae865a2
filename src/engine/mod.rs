//! From an inventory to a converged environment: resolve, refresh, propose, apply.
//!
//! Read in this order: [`resolve`] (offline), [`refresh`] (asks), [`propose`] and [`stages`] (pure), [`apply`] (acts). Beside them:
//! [`file`] (saved plans), [`store`] (what operators share), [`lock`], [`journal`], [`drift`], [`guarded`] (what may lock out).
//! Deliberately absent: a state file. What is there is asked; what is ours is marked on the thing itself.

pub mod apply;
pub mod drift;
pub mod execute;
pub mod file;
pub mod guarded;
pub mod journal;
pub mod lock;
pub mod owned;
pub mod propose;
pub mod reachability;
pub mod refresh;
pub mod resolve;
pub mod stages;
pub mod store;
