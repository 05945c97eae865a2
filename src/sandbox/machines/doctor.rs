//! Whether this computer can run hosts, decided by trying each thing that a host needs, in a throw-away namespace.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::unistd::Uid;
use tokio::time::timeout;

use crate::sandbox::machines::cgroup;
use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::hidden::PROBE;
use crate::sandbox::machines::supervise::ended;

/// The probe makes a few namespaces and one mount: milliseconds.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// Tools and the Debian package that each is in.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("kill", "procps"),
    ("chroot", "coreutils"),
    ("ssh-keygen", "openssh-client"),
    ("mmdebstrap", "mmdebstrap"),
];

/// Says what is missing. `exe` is a program whose `main` calls `hidden_entry`; `folder` is where hosts would be kept.
pub(super) async fn doctor(exe: &Path, folder: &Path) -> Result<(), MachineError> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("Linux".to_owned());
    } else if !Uid::effective().is_root() {
        missing.push("root".to_owned());
    }
    for (tool, package) in TOOLS {
        if !found(tool) {
            missing.push(format!("`{tool}` (Debian package {package})"));
        }
    }
    if missing.is_empty() {
        fs_err::create_dir_all(folder).map_err(MachineError::at(folder))?;
        // The probe changes its directory, so a relative path would mean another place there.
        let folder = fs_err::canonicalize(folder).map_err(MachineError::at(folder))?;
        let probe = tokio::process::Command::new(exe)
            .arg(PROBE)
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(PROBE_LIMIT, probe)
            .await
            .map_err(|_| MachineError::Timeout {
                what: "looking at what this computer can do".to_owned(),
                limit: PROBE_LIMIT,
            })?
            .map_err(MachineError::io("cannot start the probe"))?;
        if !output.status.success() {
            missing.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(MachineError::CannotRun { missing }) }
}

fn found(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// `__probe FOLDER`: tries everything in namespaces that end with this process.
pub(super) fn probe(folder: &Path) -> ExitCode {
    let scratch = folder.join(format!(".probe-{}", std::process::id()));
    let tried = attempts(&scratch);
    // The mounts are in this process's namespace only; the folder is removed through a view without them.
    let _ = nix::mount::umount2(&scratch.join("root"), nix::mount::MntFlags::MNT_DETACH);
    let _ = nix::mount::umount2(&scratch.join("cgroup"), nix::mount::MntFlags::MNT_DETACH);
    let _ = fs_err::remove_dir_all(&scratch);
    ended(tried)
}

fn attempts(scratch: &Path) -> io::Result<()> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(all).map_err(|e| missing("mount, network, uts, ipc and cgroup namespaces", e))?;
    let tree = scratch.join("cgroup");
    cgroup::mount_private(&tree).map_err(|e| missing("cgroup v2", e))?;
    let group = PathBuf::from(format!("seawall-probe-{}", std::process::id()));
    let groups = cgroup::make(group.clone()).and_then(|_| {
        fs_err::metadata(group.join("cgroup.kill"))?;
        fs_err::remove_dir(&group)
    });
    groups.map_err(|e| missing("control groups with cgroup.kill (Linux 5.14)", e))?;
    for name in ["lower", "upper", "work", "root"] {
        fs_err::create_dir_all(scratch.join(name))?;
    }
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work,volatile", scratch.display());
    let kind = Some("overlay");
    mount(kind, &scratch.join("root"), kind, MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| missing("an overlay over the state folder", e))?;
    fs_err::metadata("/proc/sys/net/ipv6/conf/all/forwarding").map_err(|e| missing("IPv6", e))?;
    succeed("veth links", "ip", &["link", "add", "probe0", "type", "veth", "peer", "name", "probe1"])?;
    let rule = "add table inet probe; add chain inet probe c { type filter hook forward priority 0; }; \
                add rule inet probe c ct state established accept; \
                add chain inet probe n { type nat hook postrouting priority 100; }";
    succeed("nftables with connection tracking and NAT", "nft", &[rule])
}

fn missing(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

fn succeed(what: &str, program: &str, args: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(missing(what, String::from_utf8_lossy(&output.stderr).trim()))
}
