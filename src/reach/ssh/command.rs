//! One program on a host, followed line by line: for questions that take longer than a probe may.
//!
//! Deliberately absent: a shell (arguments stay arguments), and a second try. When the connection is lost, the program's
//! output has nowhere to go, and whoever asked is told; a program must bring its own limit to the host.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use crate::plan::host::Endpoint;
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::session::{Exec, Ssh};

/// The script: the arguments are the program. `LC_ALL` so that messages can be read.
const RUN: &str = r#"LC_ALL=C exec "$@" </dev/null"#;
/// Longest line that is read, in bytes. pgBackRest's answer about a stanza is one line; with a thousand backups it is
/// below one megabyte.
const LINE_LIMIT: u64 = 8 * 1024 * 1024;
/// How much of the error output is kept, in bytes.
const STDERR_LIMIT: u64 = 64 * 1024;

/// How a program on a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    pub status: i32,
    pub stderr: String,
}

impl Ssh {
    /// Runs a program as root and gives each line of its output as it comes, without its line break and with bytes that
    /// are no text replaced. `limit` is for the whole.
    ///
    /// # Errors
    /// Why its end was not seen.
    pub async fn command(
        &self,
        at: &Endpoint,
        argv: &[&str],
        limit: Duration,
        on_line: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<CommandEnd, HostError> {
        let session = self.connect(at).await?;
        let work = async {
            let Exec { child, stdin, stdout, stderr } = session.start(RUN, argv).await?;
            drop(stdin);
            let mut kept = Vec::new();
            let read = async {
                let mut reader = BufReader::new(stdout);
                let mut line = Vec::new();
                loop {
                    line.clear();
                    let mut limited = (&mut reader).take(LINE_LIMIT);
                    match limited.read_until(b'\n', &mut line).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => on_line(line.strip_suffix(b"\n").unwrap_or(&line)),
                    }
                }
            };
            let mut stderr = stderr.take(STDERR_LIMIT);
            let ((), _) = tokio::join!(read, stderr.read_to_end(&mut kept));
            let ended = session.ended(child, Vec::new(), &kept).await?;
            Ok(CommandEnd { status: ended.status, stderr: ended.stderr })
        };
        timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(HostError::TimedOut { at: place(at), seconds: limit.as_secs() }))
    }
}
