//! A local cloud for tests: ministack in a virtual environment of this project, on loopback, with signatures checked.
//!
//! One emulator serves a whole test program. An access key id of twelve digits is the root key of the account of that
//! number, so every test has an account for itself. Deliberately absent: Lightsail, which no emulator has (`front.rs`).
//! The emulator ends with the test program, however that ends: it watches its standard input, which closes then.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The emulator and the decoder without which it does not understand CloudWatch's protocol.
const PACKAGES: [&str; 2] = ["ministack==1.5.33", "cbor2==6.2.1"];
/// Where the packages are kept, below the project.
const FOLDER: &str = ".seawall/cache/emulator-ministack-1.5.33-cbor2-6.2.1";
/// How long the emulator may take to answer. It needs 0.3 s on a quiet machine; builders share this one.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Pause between two looks at the emulator's health page.
const START_PAUSE: Duration = Duration::from_millis(20);
/// Another program can take a port between our choice and the emulator's start; it will not do so thrice.
const PORTS_TRIED: usize = 3;
/// Number of the first test account; the following tests count on.
const FIRST_ACCOUNT: u64 = 100_000_000_001;

/// Ends the emulator when standard input closes, and takes its temporary folder with it.
const WATCHER: &str = "
import os, shutil, sys, tempfile, threading
folder = tempfile.mkdtemp(prefix='seawall-emulator-')
os.environ['TMPDIR'] = tempfile.tempdir = folder
def watch():
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
from ministack.app import main
sys.argv = ['ministack']
main()
";

pub(crate) struct Emulator {
    pub(crate) endpoint: String,
    /// Holds the pipe that keeps the emulator alive.
    _child: Child,
}

static EMULATOR: OnceLock<Result<Emulator, String>> = OnceLock::new();
static ACCOUNTS: AtomicU64 = AtomicU64::new(FIRST_ACCOUNT);

/// Set to 1 where the emulator cannot be installed: every test that needs it is skipped then, and proves nothing.
const WITHOUT_EMULATOR: &str = "SEAWALL_TESTS_WITHOUT_EMULATOR";

/// The emulator of this test program. Where there is none the test fails, unless somebody said that it shall be skipped.
pub(crate) fn emulator(test: &str) -> Option<&'static Emulator> {
    match EMULATOR.get_or_init(|| install().and_then(|folder| start(&folder))) {
        Ok(emulator) => Some(emulator),
        Err(why) => {
            assert!(
                std::env::var(WITHOUT_EMULATOR).is_ok_and(|value| value == "1"),
                "{test}: no emulator: {why}; {WITHOUT_EMULATOR}=1 skips every test that needs it"
            );
            let _ = writeln!(std::io::stderr(), "{test}: SKIPPED: no emulator: {why}");
            None
        }
    }
}

/// The number of an account that no other test of this program uses.
pub(crate) fn new_account() -> String {
    ACCOUNTS.fetch_add(1, Ordering::Relaxed).to_string()
}

/// Makes the virtual environment unless it is complete. Test programs that run at the same time wait for one another.
fn install() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let parent = folder.parent().ok_or("the cache has no folder")?;
    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    let guard = File::create(folder.with_extension("guard")).map_err(|error| error.to_string())?;
    guard.lock().map_err(|error| error.to_string())?;
    let complete = folder.join("complete");
    if !complete.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
        File::create(complete).map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}: {said}", output.status)) }
}

fn start(folder: &Path) -> Result<Emulator, String> {
    let mut why = String::new();
    for _ in 0..PORTS_TRIED {
        match start_at(folder, free_port()?) {
            Ok(emulator) => return Ok(emulator),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(|error| error.to_string())
}

fn start_at(folder: &Path, address: SocketAddr) -> Result<Emulator, String> {
    let mut child = Command::new(folder.join("bin/python"))
        .args(["-c", WATCHER])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", "/nonexistent")
        .env("BIND_HOST", address.ip().to_string())
        .env("GATEWAY_PORT", address.port().to_string())
        .env("LOG_LEVEL", "ERROR")
        .env("AUTH", "true")
        .env("AWS_ACCESS_KEY_ID", "unused")
        .env("AWS_SECRET_ACCESS_KEY", "unused")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("it ended at its start: {status}"));
        }
        if healthy(address) {
            return Ok(Emulator { endpoint: format!("http://{address}"), _child: child });
        }
        if started.elapsed() > START_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not answer within {START_LIMIT:?}"));
        }
        std::thread::sleep(START_PAUSE);
    }
}

fn healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
