//! Runs the few system tools that the machines need: argument lists, text in, text out, a time limit.
//!
//! Deliberately absent: shells, and secrets (nothing here may be one; failures quote their input).

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::sandbox::machines::error::MachineError;

/// One call of `ip`, `nft` or `ssh-keygen`: they take milliseconds; a busy machine gets this much.
const TOOL_LIMIT: Duration = Duration::from_secs(20);
/// How much of a tool's complaint is kept, in characters.
const SAID_LIMIT: usize = 600;

/// Runs a tool to its end and gives back what it printed.
pub(super) async fn run<S: AsRef<OsStr>>(program: &str, args: &[S], input: &str) -> Result<String, MachineError> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(MachineError::io(format!("cannot start `{program}`")))?;
    let mut stdin = child.stdin.take();
    let work = async {
        if let Some(stdin) = &mut stdin {
            // A tool that does not read its input closes the pipe; its exit status says whether that matters.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
        child.wait_with_output().await
    };
    let output = timeout(TOOL_LIMIT, work)
        .await
        .map_err(|_| MachineError::Timeout { what: format!("`{program}`"), limit: TOOL_LIMIT })?
        .map_err(MachineError::io(format!("cannot wait for `{program}`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID_LIMIT).collect();
    Err(MachineError::Tool {
        program: program.to_owned(),
        status: output.status.to_string(),
        said: format!("{said} (input: {})", input.trim().replace('\n', "; ")),
    })
}

/// Runs a tool inside the network namespace of a process.
pub(super) async fn run_in_net(pid: u32, program: &str, args: &[&str], input: &str) -> Result<String, MachineError> {
    let net = format!("--net=/proc/{pid}/ns/net");
    let mut all = vec![net.as_str(), program];
    all.extend(args);
    run("nsenter", &all, input).await
}
