//! The process under a lab that holds its network namespace, and what other processes do with a lab from outside.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::Command;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::hidden::CLIENT;
use crate::sandbox::machines::hidden::HOLD;
use crate::sandbox::machines::hidden::SWEEP;
use crate::sandbox::machines::net::LabNet;
use crate::sandbox::machines::net::Subnet;
use crate::sandbox::machines::record::LabFile;
use crate::sandbox::machines::record::folder;
use crate::sandbox::machines::record::group_of;
use crate::sandbox::machines::record::load;
use crate::sandbox::machines::record::lock_folder;
use crate::sandbox::machines::record::remove;
use crate::sandbox::machines::record::started;
use crate::sandbox::machines::tool::run;
use crate::sandbox::surroundings::needed;

/// The holder of the network namespace stands in milliseconds, and ends when all hosts have.
const HOLDER_LIMIT: Duration = Duration::from_secs(30);
/// The kernel takes a killed lab's link away a moment after its end. A lab whose number is somebody else's waits this long
/// in vain.
const LINK_LIMIT: Duration = Duration::from_secs(3);
const LINK_POLL: Duration = Duration::from_millis(100);

/// The process that holds a lab's network namespace, and the pipe that keeps it alive.
pub(super) struct Holder {
    child: Child,
    stdin: ChildStdin,
}

impl Holder {
    /// Ends the lab's network, once its hosts have ended, and its control groups.
    pub(super) async fn end(self) -> Result<(), MachineError> {
        let Self { mut child, stdin } = self;
        drop(stdin);
        let ended = timeout(HOLDER_LIMIT, child.wait()).await;
        let ended = ended.map_err(|_| MachineError::Timeout {
            what: "the end of the lab's network".to_owned(),
            limit: HOLDER_LIMIT,
        })?;
        ended.map(drop).map_err(MachineError::io("cannot wait for the lab's network"))
    }
}

/// A command that runs in the lab of a state folder with `from` as its one address, from any process of root.
pub fn exec_from(
    state: &Path,
    exe: Option<&Path>,
    from: IpAddr,
    argv: &[OsString],
) -> Result<std::process::Command, MachineError> {
    let file: Option<LabFile> = load(&state.join("lab.json"))?;
    let live = file.filter(|file| file.holder != 0 && started(file.holder) == Some(file.started));
    let file = live.ok_or_else(|| MachineError::bad(format!("no lab runs in `{}`", state.display())))?;
    let mut command = std::process::Command::new(program(exe)?);
    command.arg(CLIENT).arg(file.holder.to_string());
    command.arg(Subnet(file.subnet).gateway().to_string()).arg(from.to_string());
    command.args(argv);
    Ok(command)
}

/// Ends what a killed lab may have left running, and removes its hosts' files. Refuses while the lab lives.
pub async fn prune(state: &Path, exe: Option<&Path>) -> Result<(), MachineError> {
    let state = folder(state)?;
    let _held = lock_folder(&state)?;
    sweep(&program(exe)?, &state, &group_of(&state)).await?;
    remove(state.join("hosts")).await
}

/// The program that is started again for hidden processes.
pub(super) fn program(exe: Option<&Path>) -> Result<PathBuf, MachineError> {
    match exe {
        Some(exe) => Ok(exe.to_owned()),
        None => std::env::current_exe().map_err(MachineError::io("cannot find this program")),
    }
}

pub(super) async fn sweep(exe: &Path, state: &Path, group: &str) -> Result<(), MachineError> {
    let (exe, tree) = (exe.display().to_string(), state.join("cgroup"));
    run(&exe, &[OsStr::new(SWEEP), tree.as_os_str(), OsStr::new(group)], "").await.map(drop)
}

pub(super) async fn hold(exe: &Path, state: &Path, group: &str) -> Result<(Holder, u32), MachineError> {
    let log = state.join("lab.log");
    let errors = std::fs::File::create(&log).map_err(MachineError::at(&log))?;
    let mut child = Command::new(exe)
        .arg(HOLD)
        .arg(state.join("cgroup"))
        .arg(group)
        .current_dir("/")
        .env_clear()
        .envs(needed())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(MachineError::io("cannot start the lab's network"))?;
    let stdin = child.stdin.take().expect("its input was asked for as a pipe");
    let pid = child.id().unwrap_or_default();
    let stdout = child.stdout.take().expect("its output was asked for as a pipe");
    let mut line = String::new();
    let ready = timeout(HOLDER_LIMIT, BufReader::new(stdout).read_line(&mut line)).await;
    if !matches!(ready, Ok(Ok(1..))) {
        let said = fs_err::read_to_string(&log).unwrap_or_default();
        return Err(MachineError::bad(format!("the lab's network did not start: {}", said.trim())));
    }
    Ok((Holder { child, stdin }, pid))
}

/// Connects, waiting for the link of a lab of the same number that was killed a moment ago.
pub(super) async fn connect(pid: u32, wanted: Option<u8>) -> Result<LabNet, MachineError> {
    let until = Instant::now() + LINK_LIMIT;
    loop {
        match LabNet::connect(pid, wanted).await {
            Err(MachineError::Bad { .. }) if wanted.is_some() && Instant::now() < until => sleep(LINK_POLL).await,
            other => return other,
        }
    }
}
