//! The second half of a guarded change: a new login proves it, or the host puts it back.
//!
//! The host armed itself before the first step ([`program`](crate::reach::ssh::program)); its timer is on disk. Here is who
//! decides: [`Ssh::prove`] looks over a new connection, [`Ssh::keep`] says that it stays, [`Ssh::put_back`] has it put back
//! at once where an old connection still works, and otherwise waits for the host to do it. Decided is once, on the
//! host: a word that comes too late is told so.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::plan::change::Proof;
use crate::plan::host::Endpoint;
use crate::plan::probe::{Answers, HostProbe};
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::program::{DEADMAN, Layout};
use crate::reach::ssh::session::{LOGIN_LIMIT, Limit, Ssh};
use crate::reach::{Failure, Guarded};

const DECIDE: &str = include_str!("decide.sh");
/// For the word that a change stays. Putting back runs every service's own reload, which may take as long as the change.
const KEEP: Limit = Limit { time: Duration::from_secs(30), bytes: 64 * 1024 };
const PUT_BACK: Limit = Limit { time: Duration::from_mins(3), bytes: 256 * 1024 };
/// Between two tries to log in; a service that restarts is back within a second.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Ssh {
    /// Logs in anew, becomes root, and sees refused what should be.
    ///
    /// # Errors
    /// What did not hold, as one sentence.
    pub async fn prove(&self, at: &Endpoint, proofs: &[Proof], limit: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let error = match self.log_in_anew(at).await {
                Ok(()) => break,
                Err(error) => error,
            };
            // A restarting service refuses for a moment; a login that is denied stays denied.
            if !error.may_pass() || start.elapsed() + TRY_AGAIN >= limit {
                return Err(error.failure());
            }
            sleep(TRY_AGAIN).await;
        }
        for proof in proofs {
            self.prove_one(at, proof).await?;
        }
        Ok(())
    }

    async fn log_in_anew(&self, at: &Endpoint) -> Result<(), HostError> {
        let session = self.fresh(at).await?;
        let printed = session.run("id -u", &[], b"", KEEP).await?;
        if printed.status == 0 && printed.stdout.trim_ascii() == b"0" {
            return Ok(());
        }
        let why = format!("`id -u` ended with status {} and printed {:?}", printed.status, printed.stderr);
        Err(HostError::SudoRefused { at: place(at), user: at.user.clone(), why })
    }

    async fn prove_one(&self, at: &Endpoint, proof: &Proof) -> Result<(), Failure> {
        let said = |what: String| Err(Failure::new(what));
        match proof {
            Proof::KeysOnly => {
                let heard = self.try_without_key(at).await?;
                match heard.split_once("Permission denied (").and_then(|(_, rest)| rest.split_once(')')) {
                    Some(("publickey", _)) => Ok(()),
                    Some((methods, _)) => said(format!("{} offers logins by {methods}, not by key alone", place(at))),
                    None => said(format!("{} did not refuse a login without a key: {}", place(at), heard.trim())),
                }
            }
            Proof::RefusesUser(user) => {
                let other = Endpoint { user: user.clone(), ..at.clone() };
                match self.fresh(&other).await {
                    Err(HostError::PermissionDenied { .. }) => Ok(()),
                    Ok(_) => said(format!("{} lets {user} in", place(at))),
                    Err(error) => said(format!("whether {user} is refused was not seen: {error}")),
                }
            }
            Proof::PortClosed(port) => {
                let other = Endpoint { port: *port, ..at.clone() };
                match self.fresh(&other).await {
                    Err(HostError::ConnectionRefused(_) | HostError::TimedOut { .. } | HostError::NoRoute { .. }) => {
                        Ok(())
                    }
                    Ok(_) => said(format!("port {port} of `{}` still lets us in", at.server)),
                    Err(error) => said(format!("port {port} of `{}` still answers: {error}", at.server)),
                }
            }
        }
    }

    /// What `ssh` says when it offers no key. Nobody is there to type a password.
    async fn try_without_key(&self, at: &Endpoint) -> Result<String, Failure> {
        let failed =
            |why: String| Failure::new(format!("a login without a key could not be tried at {}: {why}", place(at)));
        let (folder, config) = self.files(at).map_err(|error| error.failure())?;
        let port = at.port.to_string();
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(config)
            .args(["-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "-o", "IdentityAgent=none"])
            .args(["-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "StrictHostKeyChecking=yes"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", folder.0.join("known_hosts").display()))
            .args(["-p", &port, "-l", &at.user, "--", &at.address, "true"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(LOGIN_LIMIT, command.output()).await;
        let output = output.map_err(|_| failed("it took too long".to_owned()))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Says that a guarded change stays, over a new connection: the proof is not complete before that.
    pub async fn keep(&self, at: &Endpoint, transaction: &str) -> Result<Guarded, Failure> {
        let session = self.fresh(at).await.map_err(|error| error.failure())?;
        let printed = session.run(&script(), &[transaction, &Layout::default().state, "keep"], b"", KEEP).await;
        let printed = printed.map_err(|error| error.failure())?;
        read(&String::from_utf8_lossy(&printed.stdout)).ok_or_else(|| {
            Failure::new(format!("{} did not say whether the change stays: {}", place(at), printed.stderr.trim()))
        })
    }

    /// Has a guarded change put back over whatever way still works, or waits until the host has done it by itself.
    ///
    /// # Errors
    /// The host could not be reached within `limit`, or has not put it back by then.
    pub async fn put_back(&self, ways: &[Endpoint], transaction: &str, limit: Duration) -> Result<Guarded, Failure> {
        let start = Instant::now();
        let mut last = Failure::new("no way to the host is known");
        loop {
            for at in ways {
                match self.ask_to_put_back(at, transaction).await {
                    Ok(Some(said)) => return Ok(said),
                    Ok(None) => last = Failure::new(format!("{} has not put the change back", place(at))),
                    Err(error) => {
                        self.forget(at).await;
                        last = error.failure();
                    }
                }
            }
            if start.elapsed() >= limit {
                return Err(last);
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// `None` where the host is at it.
    async fn ask_to_put_back(&self, at: &Endpoint, transaction: &str) -> Result<Option<Guarded>, HostError> {
        let session = self.connect(at).await?;
        let args = [transaction, &Layout::default().state, "revert"];
        let printed = session.run(&script(), &args, b"", PUT_BACK).await?;
        Ok(read(&String::from_utf8_lossy(&printed.stdout)).filter(|said| *said != Guarded::Armed))
    }
}

/// Where the timers of changes are that nobody has decided yet.
const TIMERS: &str = "/etc/systemd/system/seawall-deadman-*.timer";

/// Asks which changes of a host are not decided; [`armed`] reads the answer.
pub fn armed_probe() -> HostProbe {
    HostProbe::Glob { pattern: TIMERS.to_owned() }
}

/// Changes that the host will put back unless a login proves them. A host that did not answer is unseen as a whole.
pub fn armed(answers: &Answers) -> Vec<String> {
    let id = |path: &str| {
        let id = path.strip_prefix("/etc/systemd/system/seawall-deadman-")?.strip_suffix(".timer")?;
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain.then(|| id.to_owned())
    };
    answers.glob(TIMERS).unwrap_or_default().into_iter().filter_map(id).collect()
}

fn script() -> String {
    format!("id=$1 state=$2 ask=$3\n{DEADMAN}{DECIDE}")
}

/// Reads what `decide.sh` printed; `None` while the host is putting back.
fn read(said: &str) -> Option<Guarded> {
    let mut lines = said.lines();
    match lines.next()? {
        "none" => Some(Guarded::None),
        "armed" => Some(Guarded::Armed),
        "kept" => Some(Guarded::Kept),
        "reverted" => Some(Guarded::PutBack(lines.map(words).collect())),
        _ => None,
    }
}

/// A line of the host's report, for people.
fn words(line: &str) -> String {
    match line.split_once(' ') {
        Some(("back", path)) => format!("{path} is as it was"),
        Some(("ran", argv)) => format!("ran `{argv}`"),
        Some(("failed", what)) => format!("FAILED: {what}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::probe::CommandState;

    #[test]
    fn what_nobody_has_decided_is_named() {
        let state = |stdout: &str| {
            let stdout = stdout.to_owned();
            Answers {
                globs: [(TIMERS.to_owned(), CommandState { status: 0, stdout, stderr: String::new() })].into(),
                ..Answers::default()
            }
        };
        let folder = "/etc/systemd/system/seawall-deadman-";
        assert_eq!(armed(&state(&format!("{folder}a1b2-3.timer\n{folder}x y.timer\n"))), ["a1b2-3"]);
        assert_eq!(armed(&state("")), [""; 0]);
        assert_eq!(armed(&Answers::default()), [""; 0]);
    }

    #[test]
    fn what_the_host_decided_is_read() {
        assert_eq!(read("none\n"), Some(Guarded::None));
        assert_eq!(read("kept\n"), Some(Guarded::Kept));
        assert_eq!(read("reverting\n"), None);
        assert_eq!(read(""), None);
        let lines = ["/etc/x is as it was", "ran `systemctl reload ssh`", "FAILED: ufw reload"].map(str::to_owned);
        let said = "reverted\nback /etc/x\nran systemctl reload ssh\nfailed ufw reload\n";
        assert_eq!(read(said), Some(Guarded::PutBack(lines.to_vec())));
    }
}
