//! Connections: strict host keys from a private file, a limit on every wait, one connection per host.
//!
//! [`Ssh`] keeps one open connection per endpoint, so that observe, act and observe again log in once;
//! [`Ssh::fresh`] makes a new one, for the proof that a login still works. `~/.ssh/config` and `~/.ssh/known_hosts` are
//! not read: what a plan sees must not depend on them. A file of the operator's own (jump hosts) is named by `config`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::base::digest::of_public_key;
use crate::base::read;
use crate::base::shell::quote_all;
use crate::plan::host::Endpoint;
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::secrets::Vault;

/// For TCP and the SSH handshake. A server on the other side of the world needs less than 2 s.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For the whole login, authentication included: a PAM stack that waits for a dead directory server stops here.
pub const LOGIN_LIMIT: Duration = Duration::from_secs(25);
/// Silence after which the server is asked for a sign of life; with [`ALIVE_COUNT`] a dead host is noticed in 15 s.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered signs of life until the connection counts as lost.
pub const ALIVE_COUNT: u32 = 3;
/// A connection that nobody used for this long ends by itself, also when this program was killed. In seconds.
pub const IDLE_LIMIT_S: usize = 120;
/// Largest error output kept of a program on a host, in bytes.
const STDERR_LIMIT: u64 = 64 * 1024;

/// Beginning of the names of connections' folders; the process id follows.
const FOLDERS: &str = "seawall-ssh-";

/// The program that every exec runs: it reads a script of the given length from its input and leaves the rest of the
/// input to the script. So scripts and data travel neither in arguments nor in sudo's log.
const BOOTSTRAP: &str = r#"eval "$(head -c "$1")""#;

/// How many connections and programs it took.
#[derive(Debug, Default)]
pub struct Counters {
    sessions: AtomicUsize,
    execs: AtomicUsize,
}

impl Counters {
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub fn execs(&self) -> usize {
        self.execs.load(Ordering::Relaxed)
    }
}

/// The way to all hosts.
pub struct Ssh {
    /// Private key file; without one the agent and the usual files in `~/.ssh` are tried.
    identity: Option<PathBuf>,
    /// An ssh_config of the operator, read after ours: it can add (jump hosts), not weaken.
    config: Option<PathBuf>,
    pub counters: Arc<Counters>,
    /// The operator's secrets, each asked for once.
    pub vault: Vault,
    open: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// One login on one host.
pub struct Session {
    inner: Arc<openssh::Session>,
    at: Endpoint,
    counters: Arc<Counters>,
    /// Holds known_hosts, configuration and control socket; removed with the last user.
    _folder: Folder,
}

/// What a program on a host printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A program that is running on a host.
pub(crate) struct Exec {
    pub(crate) child: openssh::Child<Arc<openssh::Session>>,
    pub(crate) stdin: openssh::ChildStdin,
    pub(crate) stdout: openssh::ChildStdout,
    pub(crate) stderr: openssh::ChildStderr,
}

impl Ssh {
    pub fn new(identity: Option<PathBuf>, config: Option<PathBuf>) -> Self {
        Self { identity, config, counters: Arc::default(), vault: Vault::default(), open: Mutex::default() }
    }

    /// The open connection to this endpoint, or a new one.
    pub async fn connect(&self, at: &Endpoint) -> Result<Arc<Session>, HostError> {
        let key = format!("{at:?}");
        if let Some(session) = self.open.lock().await.get(&key) {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.fresh(at).await?);
        self.open.lock().await.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// Forgets the connection to this endpoint, so that the next one is new.
    pub async fn forget(&self, at: &Endpoint) {
        self.open.lock().await.remove(&format!("{at:?}"));
    }

    /// Ends all connections. Without it they end by themselves after [`IDLE_LIMIT_S`], and their files stay in the
    /// temporary folder.
    pub async fn close(&self) {
        self.open.lock().await.clear();
    }

    /// A new connection whatever is open: its own TCP connection, key exchange and login.
    pub async fn fresh(&self, at: &Endpoint) -> Result<Session, HostError> {
        let pinned = pinned(at)?;
        if at.address.is_empty() || at.address.starts_with('-') {
            // `ssh` would take it for an option.
            return Err(HostError::NoRoute { at: place(at), why: "that is not an address".to_owned() });
        }
        // `ssh` would read whatever is there, and wait for it.
        for file in self.identity.iter().chain(&self.config) {
            read::is_regular(file)
                .map_err(|why| HostError::Local(format!("`{}` cannot be read: {why}", file.display())))?;
        }
        let (folder, config) = self.files(at)?;
        let known_hosts = folder.0.join("known_hosts");
        let mut builder = openssh::SessionBuilder::default();
        builder
            .user(at.user.clone())
            .port(at.port)
            .known_hosts_check(openssh::KnownHosts::Strict)
            .user_known_hosts_file(known_hosts)
            .config_file(config)
            .control_directory(&folder.0)
            .control_persist(openssh::ControlPersist::IdleFor(IDLE_LIMIT_S.try_into().expect("the limit is not zero")))
            .connect_timeout(CONNECT_LIMIT)
            .server_alive_interval(ALIVE_INTERVAL);
        if let Some(identity) = &self.identity {
            builder.keyfile(identity);
        }
        self.counters.sessions.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let inner = match timeout(LOGIN_LIMIT, builder.connect(&at.address)).await {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => return Err(connect_error(at, error, pinned)),
            Err(_) => {
                return Err(HostError::TimedOut { at: place(at), seconds: LOGIN_LIMIT.as_secs() });
            }
        };
        tracing::debug!(server = at.server, ms = begun.elapsed().as_millis(), "logged in");
        Ok(Session { inner: Arc::new(inner), at: at.clone(), counters: Arc::clone(&self.counters), _folder: folder })
    }

    /// A private folder with the pinned keys as `known_hosts`, and the configuration that `ssh` is given.
    pub(crate) fn files(&self, at: &Endpoint) -> Result<(Folder, PathBuf), HostError> {
        let local = |error: std::io::Error| HostError::Local(error.to_string());
        let folder = Folder::new().map_err(local)?;
        folder.write("known_hosts", &known_hosts(at)).map_err(local)?;
        let config = folder.write("config", &self.config_text()).map_err(local)?;
        Ok((folder, config))
    }

    /// Runs a script as root over the open connection; where that one turns out to be dead before the script could
    /// start, over a new one. Only for scripts that may run twice.
    pub(crate) async fn run_again(
        &self,
        at: &Endpoint,
        script: &str,
        args: &[&str],
        limit: Limit,
    ) -> Result<Printed, HostError> {
        let first = self.connect(at).await?.run(script, args, b"", limit).await;
        match first {
            Err(HostError::Lost(_)) => {
                self.forget(at).await;
                self.connect(at).await?.run(script, args, b"", limit).await
            }
            other => other,
        }
    }

    /// Ours come first: `ssh` takes the first value that it reads.
    fn config_text(&self) -> String {
        let mut text = format!(
            "Host *\n  GlobalKnownHostsFile /dev/null\n  HostKeyAlias {HOST_ALIAS}\n  ServerAliveCountMax {ALIVE_COUNT}\n  \
             UpdateHostKeys no\n  VerifyHostKeyDNS no\n  KnownHostsCommand none\n  \
             NoHostAuthenticationForLocalhost no\n  CheckHostIP no\n  ForwardAgent no\n  ForwardX11 no\n  \
             PermitLocalCommand no\n  NumberOfPasswordPrompts 0\n  PreferredAuthentications publickey\n"
        );
        if let Some(config) = &self.config {
            let path = std::path::absolute(config).unwrap_or_else(|_| config.clone());
            writeln!(text, "  Include \"{}\"", path.display()).expect("writing to a String does not fail");
        }
        text
    }
}

/// What a run may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) time: Duration,
    /// Of standard output, in bytes.
    pub(crate) bytes: u64,
}

impl Session {
    /// Starts a script as root. `args` are `$1`, `$2`…; they can be seen in the host's process list.
    pub(crate) async fn start(&self, script: &str, args: &[&str]) -> Result<Exec, HostError> {
        // Braces: a script that arrives cut is a syntax error, not half a program.
        let script = format!("shift\n{{\n{script}\n}}");
        let length = script.len().to_string();
        let mut words = vec!["sh", "-c", BOOTSTRAP, "seawall", &length];
        words.extend(args);
        let line = quote_all(&words).map_err(|nul| HostError::Local(nul.to_string()))?;
        let line = if self.at.user == "root" { line } else { format!("sudo -n -- {line}") };
        self.counters.execs.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(server = self.at.server, bytes = script.len(), "begins a program on a host");
        let mut child = Arc::clone(&self.inner)
            .arc_raw_command(line)
            .stdin(openssh::Stdio::piped())
            .stdout(openssh::Stdio::piped())
            .stderr(openssh::Stdio::piped())
            .spawn()
            .await
            .map_err(|error| HostError::Local(error.to_string()))?;
        let mut stdin = child.stdin().take().expect("its input was asked for");
        let stdout = child.stdout().take().expect("its output was asked for");
        let stderr = child.stderr().take().expect("its errors were asked for");
        // A program that ended already (sudo said no) closes its input; the reason follows on its error output.
        let _ = stdin.write_all(script.as_bytes()).await;
        Ok(Exec { child, stdin, stdout, stderr })
    }

    /// Runs a script as root with `input` as its standard input and waits for its end.
    pub(crate) async fn run(
        &self,
        script: &str,
        args: &[&str],
        input: &[u8],
        limit: Limit,
    ) -> Result<Printed, HostError> {
        let run = async {
            let Exec { child, mut stdin, stdout, stderr } = self.start(script, args).await?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let feed = async {
                let _ = stdin.write_all(input).await;
                drop(stdin);
            };
            let mut stdout = stdout.take(limit.bytes + 1);
            let mut stderr = stderr.take(STDERR_LIMIT);
            let ((), read_out, read_err) =
                tokio::join!(feed, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
            read_out.and(read_err).map_err(|_| HostError::Lost(place(&self.at)))?;
            if out.len() as u64 > limit.bytes {
                return Err(HostError::Misread {
                    at: place(&self.at),
                    why: format!("more than {} bytes", limit.bytes),
                });
            }
            self.ended(child, out, &err).await
        };
        timeout(limit.time, run)
            .await
            .unwrap_or_else(|_| Err(HostError::TimedOut { at: place(&self.at), seconds: limit.time.as_secs() }))
    }

    /// How a program ended, once its output was read.
    pub(crate) async fn ended(
        &self,
        child: openssh::Child<Arc<openssh::Session>>,
        stdout: Vec<u8>,
        stderr: &[u8],
    ) -> Result<Printed, HostError> {
        let stderr = String::from_utf8_lossy(stderr).into_owned();
        let why = || stderr.lines().next().unwrap_or_default().to_owned();
        let refused = || HostError::SudoRefused { at: place(&self.at), user: self.at.user.clone(), why: why() };
        match child.wait().await {
            Ok(status) if stdout.is_empty() && !status.success() && stderr.starts_with("sudo:") => Err(refused()),
            Ok(status) => Ok(Printed { status: status.code().unwrap_or(-1), stdout, stderr }),
            // Status 127: the login shell did not find sudo, or the script's last command was not there.
            Err(openssh::Error::Remote(_)) if stdout.is_empty() && stderr.contains("sudo") => Err(refused()),
            Err(openssh::Error::Remote(_)) => Ok(Printed { status: 127, stdout, stderr }),
            Err(_) => Err(HostError::Lost(place(&self.at))),
        }
    }

    /// Runs a line of the login shell as the user who logged in.
    pub(crate) async fn as_login(&self, line: &str) -> Result<Printed, HostError> {
        match Arc::clone(&self.inner).arc_raw_command(line).stdin(openssh::Stdio::null()).output().await {
            Ok(std::process::Output { status, stdout, stderr }) => {
                let stderr = String::from_utf8_lossy(&stderr).into_owned();
                Ok(Printed { status: status.code().unwrap_or(-1), stdout, stderr })
            }
            Err(_) => Err(HostError::Lost(place(&self.at))),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.at
    }

    /// The control socket of the connection's own process, for a test that takes the connection away.
    pub fn control_socket(&self) -> &Path {
        self.inner.control_socket()
    }
}

/// The name that keys are pinned to. One file serves one endpoint, so the host's own name does not matter, and neither
/// do brackets around ports.
const HOST_ALIAS: &str = "seawall-pinned-host";

/// Checks the pinned keys and gives their fingerprints as `ssh` prints them.
fn pinned(at: &Endpoint) -> Result<Vec<String>, HostError> {
    if at.host_keys.is_empty() {
        return Err(HostError::NoHostKeys(at.server.clone()));
    }
    at.host_keys
        .iter()
        .map(|line| fingerprint(line).map_err(|why| HostError::BadHostKey { server: at.server.clone(), why }))
        .collect()
}

/// The SHA-256 fingerprint of a key line `ssh-ed25519 AAAA…`.
fn fingerprint(line: &str) -> Result<String, String> {
    let mut words = line.split_ascii_whitespace();
    let (Some(algorithm), Some(key)) = (words.next(), words.next()) else {
        return Err(format!("`{line}` is not a type and a key"));
    };
    if line.contains(['\n', '\r']) || !algorithm.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(format!("`{}` is not a key type", algorithm.escape_debug()));
    }
    let bytes = STANDARD.decode(key).map_err(|error| error.to_string())?;
    Ok(of_public_key(&bytes))
}

fn known_hosts(at: &Endpoint) -> String {
    at.host_keys.iter().fold(String::new(), |mut text, line| {
        let mut words = line.split_ascii_whitespace();
        if let (Some(algorithm), Some(key)) = (words.next(), words.next()) {
            writeln!(text, "{HOST_ALIAS} {algorithm} {key}").expect("writing to a String does not fail");
        }
        text
    })
}

fn connect_error(at: &Endpoint, error: openssh::Error, pinned: Vec<String>) -> HostError {
    match error {
        openssh::Error::Connect(inner) if inner.kind() == std::io::ErrorKind::NotFound => {
            HostError::Local(inner.to_string())
        }
        openssh::Error::Connect(inner) => HostError::from_log(at, &inner.to_string(), pinned, CONNECT_LIMIT.as_secs()),
        other => HostError::Local(other.to_string()),
    }
}

/// A private folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        // The socket's path must stay under 104 bytes, so the name is short.
        let name = format!("{FOLDERS}{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = parent.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        let path = self.0.join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }
}

/// Removes what killed runs left. Best effort: a leftover is in nobody's way and holds no secret.
fn sweep(parent: &Path) {
    for entry in fs_err::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDERS)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs_err::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs_err::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(keys: &[&str]) -> Endpoint {
        Endpoint {
            server: "db".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: 9,
            user: "admin".to_owned(),
            host_keys: keys.iter().map(|&key| key.to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_lives_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let living = format!("{FOLDERS}{}-1", std::process::id());
        // Process ids end at 2^22 (proc(5), pid_max).
        for name in [&living, "seawall-ssh-4194305-1", "seawall-ssh-other", "else"] {
            std::fs::create_dir(parent.path().join(name)).expect("a folder");
        }
        sweep(parent.path());
        let mut left: Vec<_> =
            std::fs::read_dir(parent.path()).expect("listed").map(|e| e.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["else", living.as_str(), "seawall-ssh-other"]);
    }

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // A key made for this test; the fingerprint is what `ssh-keygen -lf` printed.
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7m3sGBRkt8lBZ7dWSvwZ8Ltnh2pJWeWpjYPQQqIu1H x";
        assert_eq!(fingerprint(line).as_deref(), Ok("SHA256:v+mxQosNtPXNxorIrbvBz9OOih2glG2FFwvsvGSdDGQ"));
    }

    #[tokio::test]
    async fn no_key_or_a_strange_one_is_never_connected_to() {
        let ssh = Ssh::new(None, None);
        let none = ssh.fresh(&endpoint(&[])).await.err().expect("refused");
        assert_eq!(none.code(), "no-host-keys");
        for strange in ["@cert-authority AAAA", "ssh-ed25519 AAAA\n* ssh-rsa BBBB", "ssh-ed25519", "ssh-ed25519 ???"] {
            let error = ssh.fresh(&endpoint(&[strange])).await.err().expect("refused");
            assert_eq!(error.code(), "bad-host-key", "{strange}");
        }
        assert_eq!(ssh.counters.sessions(), 0);
    }

    /// What `ssh` itself makes of our configuration with an operator's behind it.
    #[test]
    fn an_operators_configuration_adds_and_does_not_weaken() {
        let folder = Folder::new().expect("a folder");
        let theirs = "Host *\n  HostKeyAlias other\n  GlobalKnownHostsFile /etc/x\n  KnownHostsCommand /bin/keys\n  \
                      NoHostAuthenticationForLocalhost yes\n  ForwardAgent yes\n  ProxyJump bastion\n";
        let theirs = folder.write("their config", theirs).expect("a file");
        let ours = Ssh::new(None, Some(theirs)).config_text();
        let ours = folder.write("config", &ours).expect("a file");
        let shown = std::process::Command::new("ssh").arg("-F").arg(&ours).args(["-G", "192.0.2.7"]).output();
        let shown = shown.expect("ssh runs");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let has = |line: &str| text.lines().any(|shown| shown == line);
        assert!(has("hostkeyalias seawall-pinned-host") && has("globalknownhostsfile /dev/null"), "{text}");
        assert!(has("nohostauthenticationforlocalhost no") && has("forwardagent no"), "{text}");
        assert!(has("proxyjump bastion") && !text.contains("/bin/keys"), "{text}");
    }

    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new().expect("a folder");
        let path = folder.write("known_hosts", "x").expect("a file");
        let mode = |path: &Path| fs_err::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&path)), (0o700, 0o600));
        let gone = folder.0.clone();
        drop(folder);
        assert!(!gone.exists());
    }
}
