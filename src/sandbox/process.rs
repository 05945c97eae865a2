//! Processes of the lab by pid and start time, and files that only we can read.

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fs_err::os::unix::fs::OpenOptionsExt as _;
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

/// Writes a file with mode 0600, beside and renamed. Others may write the same one at the same time: each has a name of its own
/// beside it, and one of them is there at the end, whole.
pub fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = file.with_extension(format!("{}-{:x}.new", std::process::id(), fastrand::u64(..)));
    let mut options = fs_err::OpenOptions::new();
    let written =
        options.write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut new| new.write_all(bytes));
    let renamed = written.and_then(|()| fs_err::rename(&beside, file));
    if renamed.is_err() {
        // What was not written whole is in nobody's way; the reason is the first failure.
        let _ = fs_err::remove_file(&beside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_write_the_same_file_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("known_hosts");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        write_private(&file, b"the same for all").expect("each of them writes it");
                    }
                });
            }
        });
        assert_eq!(fs_err::read(&file).expect("it is there"), b"the same for all");
        assert_eq!(fs_err::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let me = Process::of(i32::try_from(std::process::id()).expect("pids fit i32")).expect("this test runs");
        assert!(me.alive());
        let other = Process { started: me.started + 1, ..me };
        assert!(!other.alive());
    }
}
