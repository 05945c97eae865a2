//! The local cloud: a Lightsail API of our own, an emulator for the rest, and real Debian machines behind it.

pub mod acme;
pub mod control;
pub mod daemon;
pub mod emulator;
pub mod faults;
pub mod files;
pub mod front;
pub mod gaps;
pub mod joined;
pub mod lab;
pub mod lightsail;
pub mod machines;
mod permits;
pub mod process;
pub mod seal;
pub mod surroundings;
pub mod template;
pub mod tls;
