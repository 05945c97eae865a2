//! Processes of the lab by pid and start time, and files that only we can read.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often a process that should go is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// State letter and start time of a pid.
fn look(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; the rest follows the last one.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?.chars().next()?;
    Some((state, rest.nth(18)?.parse().ok()?))
}

impl Process {
    pub fn of(pid: i32) -> Option<Self> {
        look(pid).map(|(_, started)| Self { pid, started })
    }

    pub fn alive(self) -> bool {
        look(self.pid).is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }

    /// Asks it to go, and after `patience` makes it; returns whether it is gone.
    pub fn end(self, patience: Duration) -> bool {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.alive() {
                return true;
            }
            if kill(Pid::from_raw(self.pid), signal).is_err() {
                return !self.alive();
            }
            let limit = Instant::now() + patience;
            while self.alive() && Instant::now() < limit {
                std::thread::sleep(LOOK);
            }
        }
        !self.alive()
    }
}

/// Writes a file with mode 0600, beside and renamed.
pub fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    fs_err::write(&beside, b"")?;
    fs_err::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs_err::write(&beside, bytes)?;
    fs_err::rename(beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let me = Process::of(i32::try_from(std::process::id()).expect("pids fit i32")).expect("this test runs");
        assert!(me.alive());
        let other = Process { started: me.started + 1, ..me };
        assert!(!other.alive());
    }
}
