//! A command on the operator's machine that prints a secret: bounded in time and words, and ended with everything it began.
//!
//! It leads a process group of its own, so that its children end with it. Where a person sits at a terminal, that group gets
//! the terminal meanwhile: a password manager may ask there.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::base::secret::LARGEST;
use crate::base::visible;

/// For the command: password managers ask over the network, and sometimes a person.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_mins(1);
/// Bytes of what it says beside the secret that are passed on: a prompt, an error. The rest is read and dropped.
const SAID_LIMIT: usize = 16 * 1024;

/// How long its last words are waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A group of processes that ends when this is dropped, and gives the terminal back.
struct Group {
    leader: Pid,
    terminal: Option<File>,
}

impl Group {
    /// Of a child that was started as the leader of its group.
    fn of(leader: Pid) -> Self {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok();
        // Only whoever has the terminal can lend it: not a job in the background, not a second command beside the first.
        let terminal = terminal.filter(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()));
        if let Some(terminal) = &terminal {
            give(terminal, leader);
            // It may have asked before it had the terminal, and was stopped for it.
            let _ = killpg(leader, Signal::SIGCONT);
        }
        Self { leader, terminal }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // No such group: everything in it has ended.
        let _ = killpg(self.leader, Signal::SIGKILL);
        if let Some(terminal) = &self.terminal {
            give(terminal, getpgrp());
        }
    }
}

/// Gives the terminal to a group. Whoever does so from the background is stopped for it, unless he does not hear that.
fn give(terminal: &File, group: Pid) {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let before = SigSet::thread_get_mask();
    let _ = stop.thread_block();
    let _ = tcsetpgrp(terminal, group);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
}

/// What a command prints.
///
/// # Errors
/// That it cannot be started, takes too long, prints too much or no text, or ends with another status than 0. What it says on
/// its error output goes to ours, without what a terminal would obey.
pub(crate) async fn printed_by(command: &[String], limit: Duration) -> Result<String, String> {
    let (program, args) = command.split_first().ok_or("it names no program")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let leader = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let _group = leader.map(Group::of);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.expect("its output was asked for");
    let stderr = stderr.expect("its errors were asked for");
    let read = async {
        let mut bytes = Vec::new();
        stdout.take(LARGEST + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("it printed more than {LARGEST} bytes"));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it printed something that is not UTF-8 text")?;
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() { Ok(text) } else { Err(format!("it ended with {status}")) }
    };
    let all = async {
        tokio::pin!(read);
        let passing = pass_on(stderr, |text| eprint_clean(&text));
        tokio::pin!(passing);
        tokio::select! {
            done = &mut read => {
                // Its last words. Somebody whom it left behind may hold the pipe open, and is not waited for.
                let _ = tokio::time::timeout(LAST_WORDS, passing).await;
                done
            }
            () = &mut passing => read.await,
        }
    };
    let timed_out =
        |_| Err(format!("it took longer than {} s, and was ended with all that it had begun", limit.as_secs()));
    tokio::time::timeout(limit, all).await.unwrap_or_else(timed_out)
}

/// Reads to the end and passes on the first [`SAID_LIMIT`] bytes, as they come.
async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl FnMut(String)) {
    let mut left = SAID_LIMIT;
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let shown = read.min(left);
        if shown > 0 {
            to(visible::clean(&String::from_utf8_lossy(&buffer[..shown])));
            left -= shown;
            if left == 0 {
                to("\n… the rest is not shown\n".to_owned());
            }
        }
    }
}

fn eprint_clean(text: &str) {
    use std::io::Write as _;
    // A closed stderr is no reason to have no secret.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// A command that hangs ends with its children, at its limit.
    #[tokio::test]
    async fn a_command_that_hangs_leaves_nobody_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 300 & echo $! >{}; wait", pid.display());
        let begun = Instant::now();
        let why = printed_by(&words(&["sh", "-c", &script]), Duration::from_secs(2)).await.expect_err("it hangs");
        assert!(why.contains("took longer than 2 s"), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let child = fs_err::read_to_string(&pid).expect("the child's id");
        let stat = format!("/proc/{}/stat", child.trim());
        let alive = || fs_err::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        for _ in 0..100 {
            if !alive() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("process {child} lives on");
    }

    /// A child that keeps the pipe open must not keep us: the command itself has ended.
    #[tokio::test]
    async fn what_a_command_says_beside_is_clean_and_bounded() {
        let mut said = String::new();
        let long = format!("\u{1b}[2J\u{9b}1Apin:{}", "x".repeat(3 * SAID_LIMIT));
        pass_on(long.as_bytes(), |text| said.push_str(&text)).await;
        assert!(said.starts_with("\u{fffd}[2J\u{fffd}1Apin:xxx"), "{}", &said[..40]);
        assert!(said.len() < SAID_LIMIT + 200 && said.ends_with("not shown\n"));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said() {
        let limit = Duration::from_secs(20);
        assert_eq!(printed_by(&words(&["printf", "a secret"]), limit).await.as_deref(), Ok("a secret"));
        for (command, why) in [
            (words(&["sh", "-c", "echo half; exit 3"]), "ended with"),
            (words(&["sh", "-c", "yes secret | head -c 100000"]), "more than"),
            (words(&["printf", "\\377"]), "UTF-8"),
            (Vec::new(), "no program"),
        ] {
            let error = printed_by(&command, limit).await.expect_err("it is no secret");
            assert!(error.contains(why), "{command:?}: {error}");
        }
    }
}
