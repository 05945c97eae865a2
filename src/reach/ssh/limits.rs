//! Limits of one question to a host, whoever asks it.

/// Largest standard output of a command that is an answer, in bytes.
pub const OUTPUT_LIMIT: usize = 256 * 1024;
/// Longest time for one command, in seconds, as `HostProbe::Command` promises.
pub const COMMAND_LIMIT_S: u32 = 10;
/// What `timeout` exits with, and what it exits with where it had to kill.
pub(crate) const TIMED_OUT: [i32; 2] = [124, 137];
