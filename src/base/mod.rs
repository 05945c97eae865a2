//! Words that every room shares: addresses, diagnostics, spans, digests, releases of Debian, secrets, words of a shell.
//!
//! Deliberately absent: input (but for [`read`], which all of it goes through), output, the current time and anything asynchronous. Whoever reads only this room
//! learns the vocabulary of the rest.

pub mod address;
pub mod diag;
pub mod digest;
pub mod read;
pub mod redact;
pub mod release;
pub mod secret;
pub mod shell;
pub mod span;
pub mod visible;
