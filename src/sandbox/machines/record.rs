//! What a lab keeps on disk beside its hosts' files, and the folder that it is kept in.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use serde::Deserialize;
use serde::Serialize;

use crate::base::digest::Digest;
use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::firewall::PortRule;
use crate::sandbox::machines::seed::Spec;

/// What is kept of a host beside its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub spec: Spec,
    /// The digest of the image that it was made from: its files are differences to that one.
    pub image: String,
    /// Read-only layers between its own files and the image, topmost first: what it took over from a template.
    pub layers: Vec<PathBuf>,
    /// Names its link and its IPv6 address.
    pub index: u8,
    /// The last part of its IPv4 address.
    pub last: u8,
    pub host_keys: Vec<String>,
    pub ports: Vec<PortRule>,
}

/// What is kept of a lab: where the next one goes on, and where [`exec_from`] enters this one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct LabFile {
    pub subnet: u8,
    pub holder: u32,
    /// Start time of the holder in clock ticks since boot: a pid alone may be somebody else's by now.
    pub started: u64,
    /// Last parts of addresses that are kept for static IPs.
    pub reserved: BTreeSet<u8>,
    /// The hosts come from a template and were never up here: they may get another number than `subnet`, which their
    /// layers still name.
    #[serde(default)]
    pub copied: bool,
}

/// The absolute path of a folder that is there now. Its text goes into overlayfs options, which have no quoting.
pub(super) fn folder(state: &Path) -> Result<PathBuf, MachineError> {
    fs_err::create_dir_all(state).map_err(MachineError::at(state))?;
    let path = fs_err::canonicalize(state).map_err(MachineError::at(state))?;
    let text = path.display().to_string();
    if text.contains([',', ':', '\\']) {
        return Err(MachineError::bad(format!("`{text}` cannot hold hosts: the path contains `,`, `:` or `\\`")));
    }
    Ok(path)
}

/// A lab that was killed holds its folder until the last of its processes is gone: on a busy machine a second.
const DYING: Duration = Duration::from_secs(3);
const DYING_LOOK: Duration = Duration::from_millis(50);

pub(super) fn lock_folder(state: &Path) -> Result<Flock<std::fs::File>, MachineError> {
    let path = state.join("lab.lock");
    let mut file = std::fs::File::create(&path).map_err(MachineError::at(&path))?;
    let limit = Instant::now() + DYING;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, _)) if Instant::now() < limit => file = back,
            Err(_) => return Err(MachineError::bad(format!("another lab runs in `{}`", state.display()))),
        }
        std::thread::sleep(DYING_LOOK);
    }
}

/// Control groups are the computer's, so the name says which folder they belong to.
pub(super) fn group_of(state: &Path) -> String {
    format!("seawall-{}", Digest::of_bytes(state.as_os_str().as_encoded_bytes()).short())
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of `stat`).
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

pub(super) fn records(state: &Path) -> Result<Vec<Record>, MachineError> {
    let hosts = state.join("hosts");
    fs_err::create_dir_all(&hosts).map_err(MachineError::at(&hosts))?;
    let mut all = Vec::new();
    for entry in fs_err::read_dir(&hosts).map_err(MachineError::at(&hosts))? {
        let path = entry.map_err(MachineError::at(&hosts))?.path();
        match load(&path.join("host.json"))? {
            Some(record) => all.push(record),
            // Killed while it was made: nobody was told of it.
            None => fs_err::remove_dir_all(&path).map_err(MachineError::at(&path))?,
        }
    }
    Ok(all)
}

pub(super) fn load<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, MachineError> {
    match fs_err::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| MachineError::bad(format!("`{}` is not readable: {e}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MachineError::at(path)(error)),
    }
}

pub(super) fn save(path: &Path, value: &impl Serialize) -> Result<(), MachineError> {
    let bytes = serde_json::to_vec_pretty(value).expect("plain data of this program serialises");
    let half = path.with_extension("half");
    fs_err::write(&half, bytes).map_err(MachineError::at(&half))?;
    fs_err::rename(&half, path).map_err(MachineError::at(path))
}

pub(super) async fn remove(folder: PathBuf) -> Result<(), MachineError> {
    let path = folder.clone();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await;
    match removed.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(MachineError::at(&folder)(error)),
        _ => Ok(()),
    }
}
