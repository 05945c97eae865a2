//! The lab as its users see it: up, status, down.
//!
//! A lab is a folder. Its daemon is known by pid and start time, so that a dead one is noticed and started again
//! with everything it remembered; `down` stops it and leaves the folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::read;
use crate::base::shell;
use crate::sandbox::emulator::{self, EmulatorError};
use crate::sandbox::files::{DAEMON, EMULATOR_FOLDER, GAPS_FILE, LIGHTSAIL_FILE};
use crate::sandbox::lightsail::catalog::blueprint;
use crate::sandbox::lightsail::state::{Delays, State};
use crate::sandbox::process::{Process, write_private};
use crate::sandbox::seal::Seals;
use crate::sandbox::surroundings::needed;
use crate::sandbox::tls::{CA_FILE, CA_KEY_FILE};

pub const SETTINGS_FILE: &str = "settings.json";
pub const STATE_FILE: &str = "state.json";
pub const SECRET_FILE: &str = "secret-access-key";
/// The operator's private SSH key within the lab's folder; the public one beside it ends in `.pub`.
pub const OPERATOR_KEY_FILE: &str = "operator_ed25519";
pub const KNOWN_HOSTS_FILE: &str = "known_hosts";
/// What a template keeps of a lab's folder besides its servers; the rest is made at each start.
pub const KEPT: [&str; 9] = [
    SETTINGS_FILE,
    SECRET_FILE,
    OPERATOR_KEY_FILE,
    "operator_ed25519.pub",
    CA_FILE,
    CA_KEY_FILE,
    LIGHTSAIL_FILE,
    GAPS_FILE,
    EMULATOR_FOLDER,
];
/// The daemon is ready when its emulator is, whose own limit times its starts is shorter.
const READY_LIMIT: Duration = Duration::from_secs(200);
const READY_LOOK: Duration = Duration::from_millis(25);
/// The daemon stops its emulator, which has ten seconds and is then killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the daemon's log that an error shows.
const LOG_TAIL: usize = 2000;

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    #[error("`{0}` is not an AWS account id; it has twelve digits")]
    Account(String),
    #[error("the sandbox's daemon did not become ready: {log}")]
    NotReady { log: String },
    #[error("the sandbox's daemon (pid {pid}) does not end")]
    DoesNotEnd { pid: i32 },
    #[error("ssh-keygen failed: {0}")]
    Keygen(String),
    #[error("the sandbox in `{}` was made for account {account} in {region}", folder.display())]
    Other { folder: PathBuf, account: String, region: String },
    #[error(
        "`{}` was not made by this user's seawall on this computer, and what is in it would run as this user; \
         if it came with a repository, look into it and remove it, else: seawall sandbox down --wipe",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error("there is no sandbox in `{}`", .0.display())]
    None(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What `up` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lab's folder, usually `.seawall/sandbox`.
    pub folder: PathBuf,
    /// Where the emulator is installed once for all labs, usually `.seawall/cache`.
    pub cache: PathBuf,
    /// The program that is started as the daemon, usually this one.
    pub program: PathBuf,
    pub account: String,
    pub region: String,
    /// From where the operator reaches the lab's hosts, for inventories that say so.
    pub operator_address: String,
    /// More names or addresses in the front's certificate, for example the gateway's.
    pub server_names: Vec<String>,
    pub delays: Delays,
    /// Without the emulator only Lightsail answers, and nothing is installed.
    pub with_emulator: bool,
    /// Without machines instances have addresses and nothing behind them.
    pub with_machines: bool,
}

/// What the daemon reads at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub account: String,
    pub region: String,
    pub operator_address: String,
    pub server_names: Vec<String>,
    pub delays: Delays,
    /// The emulator's virtual environment.
    pub emulator: Option<PathBuf>,
    /// Where the machines' image and packages are kept, where there are machines.
    pub machines: Option<PathBuf>,
    /// The port of the last run, 0 before the first.
    pub port: u16,
}

/// What the daemon writes when it is ready.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Running {
    pub version: u32,
    pub process: Process,
    pub port: u16,
}

/// A lab whose daemon runs.
#[derive(Clone, Debug)]
pub struct Lab {
    pub folder: PathBuf,
    pub settings: Settings,
    pub running: Running,
}

/// Everything that an outside tool needs, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of this format.
    pub version: u32,
    pub endpoint: String,
    pub region: String,
    pub account: String,
    pub ca_file: PathBuf,
    pub operator_address: String,
    pub credentials: Credentials,
    /// For boto3 and the AWS CLI. The secret is in it: do not print it where others read.
    pub environment: BTreeMap<String, String>,
    pub hosts: Vec<Host>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key_file: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub region: String,
    pub state: String,
    pub address: Option<String>,
    pub ipv6: Option<String>,
    pub user: String,
    pub key_file: PathBuf,
    pub known_hosts_file: PathBuf,
    /// A command line that logs in, ready for a shell.
    pub ssh_command: String,
}

impl Host {
    /// The arguments of an `ssh` that logs in and believes no host key but the lab's.
    pub fn ssh_arguments(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.known_hosts_file.display());
        let key = self.key_file.display().to_string();
        let options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR", known.as_str()];
        let mut words = vec!["-F", "/dev/null", "-i", &key];
        words.extend(options.iter().flat_map(|option| ["-o", *option]));
        let place = format!("{}@{}", self.user, self.address.as_deref().unwrap_or_default());
        words.push(&place);
        words.into_iter().map(str::to_owned).collect()
    }

    /// Sets the login user, and the command line with it.
    pub fn log_in_as(&mut self, user: &str) {
        user.clone_into(&mut self.user);
        let words = self.ssh_arguments();
        let words: Vec<String> = words.iter().map(|word| shell::word(word)).collect();
        self.ssh_command = format!("ssh {}", words.join(" "));
    }
}

fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> io::Result<Option<T>> {
    match read::ours(file, read::OURS) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Brings a lab up, or finds it up.
pub async fn up(options: &Options) -> Result<Lab, LabError> {
    if options.account.len() != 12 || !options.account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(LabError::Account(options.account.clone()));
    }
    if let Some(lab) = Lab::find(&options.folder)? {
        return lab.is_for(&options.account, &options.region);
    }
    // What a lab keeps belongs to its account: ARNs, buckets, keys.
    let kept: Option<Settings> = read(&options.folder.join(SETTINGS_FILE))?;
    if let Some(kept) = kept {
        kept.is_for(&options.folder, &options.account, &options.region)?;
    }
    let seals = Seals::of_this_user()?;
    if !options.folder.exists() {
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(&options.folder)?;
        seals.mark(&options.folder)?;
    }
    if !seals.is_marked(&options.folder) {
        return Err(LabError::Foreign(options.folder.clone()));
    }
    let folder = fs_err::canonicalize(&options.folder)?;
    fs_err::create_dir_all(&options.cache)?;
    let emulator = if options.with_emulator {
        Some(emulator::install(&fs_err::canonicalize(&options.cache)?).await?)
    } else {
        None
    };
    let before: Option<Running> = read(&folder.join(STATE_FILE))?;
    let settings = Settings {
        account: options.account.clone(),
        region: options.region.clone(),
        operator_address: options.operator_address.clone(),
        server_names: options.server_names.clone(),
        delays: options.delays,
        emulator,
        machines: options.with_machines.then(|| fs_err::canonicalize(&options.cache)).transpose()?,
        port: before.map_or(0, |before| before.port),
    };
    write_private(&folder.join(SETTINGS_FILE), &serde_json::to_vec_pretty(&settings).map_err(io::Error::other)?)?;
    keys(&folder)?;
    start(&options.program, &folder).await
}

/// Makes the owner's secret and the operator's SSH key, once.
fn keys(folder: &Path) -> Result<(), LabError> {
    let secret = folder.join(SECRET_FILE);
    if !secret.exists() {
        let text = rcgen::KeyPair::generate().map_err(io::Error::other)?.serialize_der();
        // 160 random bits, cut from the digest of a fresh private key: the strong generator at hand.
        let digest = Digest::of_bytes(&text);
        write_private(&secret, &digest.as_str().as_bytes()[7..47])?;
    }
    let key = folder.join(OPERATOR_KEY_FILE);
    if !key.exists() {
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "seawall-sandbox-operator", "-f"])
            .arg(&key)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(LabError::Keygen(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
    }
    Ok(())
}

async fn start(program: &Path, folder: &Path) -> Result<Lab, LabError> {
    let log = folder.join("daemon.log");
    let file = fs_err::File::create(&log)?.into_parts().0;
    let mut child = Command::new(program)
        .arg(DAEMON)
        .arg(folder)
        .env_clear()
        .envs(needed())
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let limit = Instant::now() + READY_LIMIT;
    let mut ready = None;
    while Instant::now() < limit && child.try_wait()?.is_none() {
        ready = Lab::find(folder)?.filter(|lab| lab.running.process.pid == pid);
        if ready.is_some() {
            break;
        }
        tokio::time::sleep(READY_LOOK).await;
    }
    if ready.is_none()
        && let Some(process) = Process::of(pid)
    {
        process.end(STOP_LIMIT);
    }
    // Whoever lives longer than the daemon collects it, or it would stay as a zombie.
    std::thread::spawn(move || child.wait());
    ready.ok_or_else(|| {
        let text = read::ours(&log, read::OURS).unwrap_or_default();
        let tail = text.get(text.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        LabError::NotReady { log: String::from_utf8_lossy(tail).trim().to_owned() }
    })
}

impl Settings {
    fn is_for(&self, folder: &Path, account: &str, region: &str) -> Result<(), LabError> {
        if self.account == account && self.region == region {
            return Ok(());
        }
        let (account, region) = (self.account.clone(), self.region.clone());
        Err(LabError::Other { folder: folder.to_owned(), account, region })
    }
}

impl Lab {
    /// This lab, if it is of an account and region.
    pub fn is_for(self, account: &str, region: &str) -> Result<Self, LabError> {
        self.settings.is_for(&self.folder, account, region).map(|()| self)
    }

    /// The lab of a folder if its daemon runs.
    pub fn find(folder: &Path) -> Result<Option<Self>, LabError> {
        let running: Option<Running> = read(&folder.join(STATE_FILE))?;
        let settings: Option<Settings> = read(&folder.join(SETTINGS_FILE))?;
        Ok(match (running, settings) {
            (Some(running), Some(settings)) if running.process.alive() => {
                if !Seals::of_this_user()?.is_marked(folder) {
                    return Err(LabError::Foreign(folder.to_owned()));
                }
                Some(Self { folder: fs_err::canonicalize(folder)?, settings, running })
            }
            _ => None,
        })
    }

    /// The front's address.
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.running.port)
    }

    /// Everything that an outside tool needs; writes the hosts' keys into `known_hosts` on the way.
    pub fn status(&self) -> Result<Status, LabError> {
        let state: State = read(&self.folder.join(LIGHTSAIL_FILE))?.unwrap_or_default();
        let secret_file = self.folder.join(SECRET_FILE);
        let ca_file = self.folder.join(CA_FILE);
        let known_hosts = self.folder.join(KNOWN_HOSTS_FILE);
        write_private(&known_hosts, known_hosts_text(&state).as_bytes())?;
        let environment = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_CA_BUNDLE", ca_file.display().to_string()),
            ("AWS_ACCESS_KEY_ID", self.settings.account.clone()),
            ("AWS_SECRET_ACCESS_KEY", read::our_text(&secret_file, read::OURS)?.trim().to_owned()),
            ("AWS_REGION", self.settings.region.clone()),
            ("AWS_DEFAULT_REGION", self.settings.region.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        let hosts = state.instances.values().map(|instance| {
            let mut host = Host {
                name: instance.common.name.clone(),
                region: instance.common.region.clone(),
                state: instance.state.clone(),
                address: instance.v4.clone(),
                ipv6: instance.v6.clone(),
                user: String::new(),
                key_file: self.folder.join(OPERATOR_KEY_FILE),
                known_hosts_file: known_hosts.clone(),
                ssh_command: String::new(),
            };
            host.log_in_as(blueprint(&instance.blueprint).map_or("", |blueprint| blueprint.username));
            host
        });
        Ok(Status {
            version: 1,
            endpoint: self.endpoint(),
            region: self.settings.region.clone(),
            account: self.settings.account.clone(),
            operator_address: self.settings.operator_address.clone(),
            credentials: Credentials {
                access_key_id: self.settings.account.clone(),
                secret_access_key_file: secret_file,
            },
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            hosts: hosts.collect(),
            ca_file,
        })
    }
}

fn known_hosts_text(state: &State) -> String {
    let mut text = String::new();
    for instance in state.instances.values() {
        let names: Vec<&str> = instance.v4.iter().chain(&instance.v6).map(String::as_str).collect();
        for key in instance.host_keys.iter().filter(|_| !names.is_empty()) {
            text.extend([names.join(",").as_str(), " ", &key.algorithm, " ", &key.public_key, "\n"]);
        }
    }
    text
}

/// Ends the daemon of a lab and everything it started. The folder stays; a lab that is down already is fine.
pub fn down(folder: &Path) -> Result<(), LabError> {
    let Some(lab) = Lab::find(folder)? else { return Ok(()) };
    if lab.running.process.end(STOP_LIMIT) {
        Ok(())
    } else {
        Err(LabError::DoesNotEnd { pid: lab.running.process.pid })
    }
}

/// What a running lab says of itself.
pub fn status(folder: &Path) -> Result<Status, LabError> {
    Lab::find(folder)?.ok_or_else(|| LabError::None(folder.to_owned()))?.status()
}
