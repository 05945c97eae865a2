//! A host's transaction from here: start it once, follow it, find it again when the connection is lost.
//!
//! The transaction runs as a unit of the host's systemd and needs nobody. Sending the same transaction again is safe: its
//! id is started at most once, and whoever comes later is attached to it. Deliberately absent: a retry of a step, and
//! a resume. After a failure the host is observed again.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::base::secret::Secret;
use crate::base::shell::FOLDERS;
use crate::plan::host::Endpoint;
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::event::{Frame, Frames};
use crate::reach::ssh::lock::STALE_S;
use crate::reach::ssh::program::{Layout, compile};
use crate::reach::ssh::secrets::Vault;
use crate::reach::ssh::session::{Exec, Session, Ssh};
use crate::reach::ssh::watch::{Watch, failure};
use crate::reach::{Failure, HostEvent, Transaction};

const SYSTEMD: &str = include_str!("systemd.sh");
pub(crate) const LAUNCH: &str = include_str!("launch.sh");

/// How long a lost host is looked for: a reboot of a small server takes 30 to 60 s.
pub const REATTACH_LIMIT: Duration = Duration::from_mins(2);
/// Before the second try to connect again; doubled each time up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause between two tries: short beside a reboot, long beside a login.
const BACKOFF_MAX: Duration = Duration::from_secs(4);
/// For the start and the last word, over what the steps themselves may take.
const MARGIN: Duration = Duration::from_mins(1);
/// For the host's clean-up after the last word; the work is done by then.
const FAREWELL: Duration = Duration::from_secs(5);
/// Longest transaction id: it becomes a file name and a unit name.
const ID_LENGTH: usize = 60;

impl Ssh {
    /// Runs a host's steps as one transaction and reports each step as it begins and ends.
    ///
    /// # Errors
    /// The step that failed with the end of its output, or why the transaction did not start, or what is known where its
    /// end could not be seen.
    pub async fn act(
        &self,
        at: &Endpoint,
        transaction: &Transaction,
        on_event: &(dyn Fn(HostEvent) + Sync),
    ) -> Result<(), Failure> {
        let launch = Launch::new(&self.vault, at, transaction).await?;
        let redactor = self.vault.redactor();
        let mut watch = Watch::new(at, transaction, on_event, redactor);
        let mut lost: Option<Instant> = None;
        let mut pause = BACKOFF_MIN;
        let mut sent = false;
        loop {
            let error = match self.connect(at).await {
                Ok(session) => {
                    sent = true;
                    match launch.follow(&session, &mut watch, &mut lost).await {
                        Ok(outcome) => return outcome,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.forget(at).await;
            // A login or a sudo that says no is before the start, unless the start was seen.
            if !sent || !(error.may_pass() || watch.confirmed) {
                return Err(error.failure());
            }
            if !error.may_pass() {
                return Err(watch.unseen_end(&error.to_string()));
            }
            // Found and lost again: the limit counts anew, and so does the pause.
            if lost.is_none() {
                pause = BACKOFF_MIN;
            }
            let first = *lost.get_or_insert_with(Instant::now);
            if first.elapsed() >= REATTACH_LIMIT {
                return Err(watch.unseen_end(&format!(
                    "{error}, and it was not found again within {} s",
                    REATTACH_LIMIT.as_secs()
                )));
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

/// What is sent to start a transaction, the same each time.
struct Launch {
    script: String,
    program: Secret<String>,
    id: String,
    layout: Layout,
    who: String,
    seconds: u64,
    /// Whether the program holds secrets.
    secret: bool,
}

impl Launch {
    async fn new(vault: &Vault, at: &Endpoint, transaction: &Transaction) -> Result<Self, Failure> {
        let id = &transaction.id;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || id.len() > ID_LENGTH || !id.chars().all(plain) || id.starts_with('-') {
            return Err(failure(format!("`{id}` is not a transaction id"), None));
        }
        let what = |position: usize| transaction.steps.get(position).map_or(String::new(), |step| step.step.summary());
        let secrets = vault.of_transaction(transaction).await.map_err(|(position, missing)| {
            missing.failure(position, &format!("to {} on `{}`, where nothing was changed", what(position), at.server))
        })?;
        let layout = Layout::default();
        let (program, seconds) = compile(transaction, &secrets, &layout).map_err(|(position, why)| {
            let what = what(position);
            failure(
                format!("step {} ({what}) cannot be done: {why}; nothing was changed", position + 1),
                Some(position),
            )
        })?;
        let secret = secrets.iter().any(|step| !step.is_empty());
        let script = format!("{SYSTEMD}{FOLDERS}{LAUNCH}");
        Ok(Self { script, program, id: id.clone(), layout, who: who(), seconds, secret })
    }

    /// One connection's part: `Err` where the connection was lost.
    async fn follow(
        &self,
        session: &Session,
        watch: &mut Watch<'_>,
        lost: &mut Option<Instant>,
    ) -> Result<Result<(), Failure>, HostError> {
        if self.secret {
            session.keeps_no_input().await?;
        }
        let numbers = [self.program.reveal().len() as u64, watch.offset, self.seconds, STALE_S].map(|n| n.to_string());
        let [length, offset, limit, stale] = &numbers;
        let args = [&self.id, length, offset, &self.layout.run, &self.layout.state, &self.who, limit, stale];
        let exec = session.start(&self.script, &args.map(String::as_str)).await?;
        let work = self.listen(session, exec, watch, lost);
        match timeout(Duration::from_secs(self.seconds) + MARGIN, work).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Err(watch.unseen_end("the host did not end it within its own limit"))),
        }
    }

    async fn listen(
        &self,
        session: &Session,
        exec: Exec,
        watch: &mut Watch<'_>,
        lost: &mut Option<Instant>,
    ) -> Result<Result<(), Failure>, HostError> {
        let Exec { child, mut stdin, mut stdout, stderr } = exec;
        let _ = stdin.write_all(self.program.reveal().as_bytes()).await;
        let mut frames = Frames::from(watch.offset);
        let mut buffer = vec![0; 16 * 1024];
        let mut anything = false;
        loop {
            let read = stdout.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                let mut said = Vec::new();
                let _ = stderr.take(16 * 1024).read_to_end(&mut said).await;
                let heard = if anything { vec![b'.'] } else { Vec::new() };
                let ended = session.ended(child, heard, &said).await?;
                tracing::debug!(status = ended.status, said = ended.stderr, "the way to the transaction ended");
                return Err(HostError::Lost(place(watch.at)));
            }
            anything = true;
            frames.push(&buffer[..read]);
            loop {
                let misread = |why| HostError::Misread { at: place(watch.at), why };
                let Some(frame) = frames.next_frame().map_err(misread)? else {
                    break;
                };
                watch.offset = frames.offset;
                if matches!(frame, Frame::Started | Frame::Attached)
                    && let Some(since) = lost.take()
                    && watch.confirmed
                {
                    let after_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    (watch.on_event)(HostEvent::Reattached { after_ms });
                }
                if let Some(outcome) = watch.take(frame) {
                    // The last word was heard, so the host may clean up.
                    let _ = stdin.write_all(format!("seen {}\n", self.id).as_bytes()).await;
                    drop(stdin);
                    let _ = timeout(FAREWELL, child.wait()).await;
                    return Ok(outcome);
                }
            }
        }
    }
}

/// Who we are to the next operator who finds the lock.
fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_control() { '?' } else { c };
    format!("{user}@{host}").chars().map(plain).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::ssh::tests::{endpoint, transaction};

    #[test]
    fn futures_can_move_between_threads() {
        fn sendable<T: Send>(_: &T) {}
        let (ssh, at, work) = (Ssh::new(None, None), endpoint(), transaction(1));
        sendable(&ssh.act(&at, &work, &|_| ()));
        sendable(&ssh.ask(&at, &[]));
        sendable(&ssh.wait_ready(&at));
        sendable(&ssh.unlock(&at));
    }

    #[tokio::test]
    async fn nothing_is_sent_where_an_id_or_a_secret_is_wrong() {
        for id in ["", "-a", "A", "a/b", "a b", &"a".repeat(61)] {
            let work = Transaction { id: id.to_owned(), guard_s: None, steps: Vec::new() };
            assert!(Launch::new(&Vault::default(), &endpoint(), &work).await.is_err(), "{id}");
        }
    }
}
