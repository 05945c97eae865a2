//! One running host, as the process that made it sees it: its supervisor, its life, its orders.

use std::io;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::hidden::SUPERVISE;
use crate::sandbox::machines::net::LabNet;
use crate::sandbox::machines::net::in_net;
use crate::sandbox::machines::supervise::GO;
use crate::sandbox::machines::supervise::Said;
use crate::sandbox::surroundings::needed;

/// From the start of the supervisor to its namespaces, and from the wiring to the guest's first process: 50 ms each.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// From the guest's first process to sshd: 0.4 s measured alone, some seconds with twenty at once.
const SSH_LIMIT: Duration = Duration::from_secs(90);
const SSH_POLL: Duration = Duration::from_millis(20);
/// How long sshd may take to say its name once connected, and to accept on the loopback.
const BANNER_LIMIT: Duration = Duration::from_secs(2);
/// How much of the console log a failure shows, in bytes.
const CONSOLE_TAIL: usize = 2000;

/// Where a host is in its life, as its supervisor reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Up,
    Rebooting,
    /// Powered off by itself or on order.
    Off,
    /// The supervisor ended in another way.
    Dead,
}

/// A phase and how often the guest booted since its supervisor started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub phase: Phase,
    pub boots: u32,
}

impl Life {
    pub(super) fn over(self) -> bool {
        matches!(self.phase, Phase::Off | Phase::Dead)
    }
}

/// A supervisor and the pipe that keeps it alive.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub pid: u32,
    stdin: ChildStdin,
    life: watch::Receiver<Life>,
}

impl Supervisor {
    /// Starts a host and waits until its sshd answers.
    pub(super) async fn start(
        name: &str,
        exe: &Path,
        folder: &Path,
        net: &LabNet,
        (index, last): (u8, u8),
    ) -> Result<Self, MachineError> {
        let console = folder.join("console.log");
        let started = Self::start_inner(exe, folder, &console, net, (index, last)).await;
        started.map_err(|error| match error {
            MachineError::Died { .. } => MachineError::Died { name: name.to_owned(), said: tail(&console) },
            other => other,
        })
    }

    async fn start_inner(
        exe: &Path,
        folder: &Path,
        console: &Path,
        net: &LabNet,
        (index, last): (u8, u8),
    ) -> Result<Self, MachineError> {
        let log = std::fs::File::create(console).map_err(MachineError::at(console))?;
        let mut child = Command::new(exe)
            .arg(SUPERVISE)
            .arg(folder.join("orders.json"))
            .current_dir("/")
            .env_clear()
            .envs(needed())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(MachineError::io("cannot start a supervisor"))?;
        let pid = child.id().unwrap_or_default();
        let stdin = child.stdin.take().expect("its input was asked for as a pipe");
        let (tell, life) = watch::channel(Life { phase: Phase::Starting, boots: 0 });
        tokio::spawn(follow(child, tell));
        let mut host = Self { pid, stdin, life };
        host.wait("the namespaces of a host", STEP_LIMIT, |life| life.phase == Phase::Ready).await?;
        net.wire(index, pid, last).await?;
        host.order(GO).await?;
        host.wait("the first process of a host", STEP_LIMIT, |life| life.boots > 0).await?;
        host.wait_ssh().await?;
        Ok(host)
    }

    pub(super) fn life(&self) -> Life {
        *self.life.borrow()
    }

    /// Gives an order, see `supervise`.
    pub(super) async fn order(&mut self, order: &str) -> Result<(), MachineError> {
        let sent = self.stdin.write_all(order.as_bytes()).await;
        sent.map_err(MachineError::io("cannot reach the supervisor"))
    }

    /// Waits for a life that fits; the end of the supervisor ends the wait.
    pub(super) async fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        fits: impl Fn(Life) -> bool,
    ) -> Result<Life, MachineError> {
        let seen = timeout(limit, self.life.wait_for(|life| fits(*life) || life.over())).await;
        let seen = seen.map_err(|_| MachineError::Timeout { what: what.to_owned(), limit })?;
        match seen {
            Ok(life) if fits(*life) => Ok(*life),
            _ => Err(MachineError::Died { name: String::new(), said: what.to_owned() }),
        }
    }

    /// Waits until sshd says its name on the guest's own loopback, which no firewall of the lab is in front of.
    pub(super) async fn wait_ssh(&self) -> Result<(), MachineError> {
        let until = Instant::now() + SSH_LIMIT;
        loop {
            let pid = self.pid;
            let asked = tokio::task::spawn_blocking(move || in_net(pid, banner)).await;
            if matches!(asked, Ok(Ok(()))) {
                return Ok(());
            }
            if self.life().over() {
                return Err(MachineError::Died { name: String::new(), said: String::new() });
            }
            if Instant::now() > until {
                return Err(MachineError::Timeout { what: "sshd of a host".to_owned(), limit: SSH_LIMIT });
            }
            sleep(SSH_POLL).await;
        }
    }

    /// Ends the host at once, as a power cut does, and waits until nothing of it runs.
    pub(super) async fn kill(self) -> Result<(), MachineError> {
        let Self { stdin, mut life, .. } = self;
        drop(stdin);
        let over = timeout(STEP_LIMIT, life.wait_for(|life| life.over())).await;
        over.map(drop).map_err(|_| MachineError::Timeout { what: "the end of a host".to_owned(), limit: STEP_LIMIT })
    }
}

/// Turns what a supervisor says into its life, to its end.
async fn follow(mut child: Child, tell: watch::Sender<Life>) {
    let mut off = false;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(said) = Said::parse(&line) else { continue };
            off = said == Said::Off;
            tell.send_modify(|life| match said {
                Said::Ready => life.phase = Phase::Ready,
                Said::Rebooting => life.phase = Phase::Rebooting,
                Said::Booted => {
                    life.phase = Phase::Up;
                    life.boots += 1;
                }
                Said::Off => {}
            });
        }
    }
    // Only a reaped supervisor is over: its namespaces and mounts have gone with it.
    let _ = child.wait().await;
    tell.send_modify(|life| life.phase = if off { Phase::Off } else { Phase::Dead });
}

fn banner() -> io::Result<()> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 22));
    let mut stream = TcpStream::connect_timeout(&at, BANNER_LIMIT)?;
    stream.set_read_timeout(Some(BANNER_LIMIT))?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    if &start == b"SSH-" { Ok(()) } else { Err(io::Error::other("not SSH")) }
}

fn tail(console: &Path) -> String {
    let text = fs_err::read(console).unwrap_or_default();
    let from = text.len().saturating_sub(CONSOLE_TAIL);
    String::from_utf8_lossy(&text[from..]).trim().to_owned()
}
