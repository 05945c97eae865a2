//! The emulator for S3, SNS, IAM, STS and CloudWatch: installed once into the cache, started per lab.
//!
//! ministack decodes CloudWatch's CBOR only with cbor2 beside it. An access key id of twelve digits is the account
//! itself, so the lab's owner signs with the inventory's account as key id; policies bind everyone else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::base::digest::Digest;
use crate::base::read;
use crate::base::secret::Secret;
use crate::sandbox::process::{Process, write_private};
use crate::sandbox::seal::Seals;
use crate::sandbox::surroundings::needed_by_pip;

/// What is installed: `ministack==1.5.33` and `cbor2==6.2.1` with all that they need, each version pinned (emulators drift from AWS
/// in just the places that hurt) and each file by its digest. `uv pip compile --universal --generate-hashes` makes the list.
pub const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Raised when it is installed in another way.
const INSTALL: u32 = 2;
/// Installing takes seconds; a slow mirror gets this long.
const INSTALL_LIMIT: Duration = Duration::from_mins(4);
/// It is ready after 0.3 s on an idle machine; a busy one gets this long.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// How often its health page is asked.
const READY_LOOK: Duration = Duration::from_millis(50);
/// It writes its state on SIGTERM; after this it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Which process it is, for a daemon that finds one whose own daemon was killed.
const PROCESS_FILE: &str = "process.json";
/// Starts that may lose the port they chose to somebody else.
const STARTS: u32 = 3;

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    #[error("the emulator cannot be installed: `{command}` failed: {output}")]
    Install { command: String, output: String },
    #[error("the emulator was not ready within {} s; its log is `{}`", READY_LIMIT.as_secs(), log.display())]
    NotReady { log: PathBuf },
    #[error("the emulator cannot be started: {0}")]
    Io(#[from] io::Error),
}

/// How to start it.
pub struct Launch<'a> {
    pub venv: &'a Path,
    /// Where it keeps its state, objects and log.
    pub folder: &'a Path,
    pub region: &'a str,
    pub access_key: &'a str,
    pub secret_key: &'a Secret<String>,
}

/// A running emulator.
pub struct Emulator {
    child: Child,
    process: Option<Process>,
    pub address: SocketAddr,
}

/// Installs the emulator into `cache` unless it is there, and returns its virtual environment.
///
/// It is there when its seal holds, which is written last: a killed install is done again, and so is one that somebody else
/// brought or changed. Nothing of it runs before.
pub async fn install(cache: &Path) -> Result<PathBuf, EmulatorError> {
    let digest = Digest::of(&(REQUIREMENTS, INSTALL));
    let venv = cache.join(format!("emulator-{}", digest.short()));
    let seals = Seals::of_this_user()?;
    if seals.holds(&venv)? {
        return Ok(venv);
    }
    fs_err::create_dir_all(cache)?;
    let lock = nix::fcntl::Flock::lock(
        fs_err::File::create(cache.join("emulator.lock"))?.into_parts().0,
        nix::fcntl::FlockArg::LockExclusive,
    )
    .map_err(|(_, error)| io::Error::from(error))?;
    // Another process may have installed it meanwhile.
    if !seals.holds(&venv)? {
        if fs_err::symlink_metadata(&venv).is_ok() {
            fs_err::remove_dir_all(&venv)?;
        }
        // Isolated (-I): modules beside where it is started, or that a variable names, are not its own.
        run(Command::new("python3").args(["-I", "-m", "venv"]).arg(&venv)).await?;
        let list = venv.join("requirements.txt");
        fs_err::write(&list, REQUIREMENTS)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        // Wheels only: to build a package means to run its author's program first.
        run(pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&list)).await?;
        seals.seal(&venv)?;
    }
    drop(lock);
    Ok(venv)
}

async fn run(tool: &mut Command) -> Result<(), EmulatorError> {
    let command = tool.as_std().get_program().to_string_lossy().into_owned();
    let running = tool.env_clear().envs(needed_by_pip()).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(INSTALL_LIMIT, running).await {
        Err(_) => Err(EmulatorError::Install { command, output: "it took too long".to_owned() }),
        Ok(Err(error)) => Err(EmulatorError::Install { command, output: error.to_string() }),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            Err(EmulatorError::Install { command, output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
        }
    }
}

impl Emulator {
    /// Starts it on a free loopback port and waits until its health page answers.
    ///
    /// Call it on the thread that lives as long as the daemon: the death signal follows the thread that forks.
    pub async fn start(launch: &Launch<'_>) -> Result<Self, EmulatorError> {
        orphan(launch.folder).await?;
        let mut last = None;
        for _ in 0..STARTS {
            match Self::start_once(launch).await {
                Ok(emulator) => return Ok(emulator),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("STARTS is above 0"))
    }

    async fn start_once(launch: &Launch<'_>) -> Result<Self, EmulatorError> {
        fs_err::create_dir_all(launch.folder)?;
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = launch.folder.join("emulator.log");
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&log)?.into_parts().0;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(launch.venv.join("bin/python"))
            // What it would write beside its modules would break their seal; and nothing but those modules is its own.
            .args(["-B", "-I"])
            .arg(launch.venv.join("bin/ministack"))
            .current_dir(launch.folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", launch.folder)
            // It leaves a file with its process id there when it is killed.
            .env("TMPDIR", launch.folder)
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", launch.region)
            .env("LOG_LEVEL", "WARNING")
            .env("AWS_ACCESS_KEY_ID", launch.access_key)
            .env("AWS_SECRET_ACCESS_KEY", launch.secret_key.reveal())
            .env("S3_PERSIST", "1")
            .env("S3_DATA_DIR", launch.folder.join("s3"))
            .env("PERSIST_STATE", "1")
            .env("STATE_DIR", launch.folder.join("state"))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let process = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Process::of);
        if let Some(process) = process {
            let text = serde_json::to_vec(&process).map_err(io::Error::other)?;
            write_private(&launch.folder.join(PROCESS_FILE), &text)?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut emulator = Self { child, process, address };
        let limit = Instant::now() + READY_LIMIT;
        while Instant::now() < limit && emulator.child.try_wait()?.is_none() {
            if healthy(address).await {
                return Ok(emulator);
            }
            tokio::time::sleep(READY_LOOK).await;
        }
        emulator.stop().await;
        Err(EmulatorError::NotReady { log })
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) {
        drop(self.child.wait().await);
    }

    /// Stops it so that it saves its state, and kills it when it takes too long.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process {
            let gone = tokio::task::spawn_blocking(move || process.end(STOP_LIMIT)).await;
            if !matches!(gone, Ok(true)) {
                tracing::error!(pid = process.pid, "the emulator did not end");
            }
        }
        drop(tokio::time::timeout(STOP_LIMIT, self.child.wait()).await);
    }
}

/// Removes what says which process an emulator was from the copy of its folder: that one is not its own.
pub fn forget_process(folder: &Path) -> io::Result<()> {
    match fs_err::remove_file(folder.join(PROCESS_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Waits for the emulator of a killed daemon: it got its signal with that, and may still be writing its state.
async fn orphan(folder: &Path) -> io::Result<()> {
    let Ok(text) = read::ours(&folder.join(PROCESS_FILE), read::OURS) else { return Ok(()) };
    let Ok(process) = serde_json::from_slice::<Process>(&text) else { return Ok(()) };
    let gone = tokio::task::spawn_blocking(move || process.end(STOP_LIMIT)).await.map_err(io::Error::other)?;
    if gone { Ok(()) } else { Err(io::Error::other(format!("an earlier emulator (pid {}) does not end", process.pid))) }
}

async fn healthy(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, io::Error>(&head == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}
