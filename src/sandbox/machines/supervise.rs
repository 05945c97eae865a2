//! The hidden processes: this program started again as the holder of a lab or as the supervisor of a host.
//!
//! Each lives exactly as long as its parent holds the other end of its standard input, so a lab ends with the process
//! that made it, also when that is killed: the pipe closes, and the control group is killed as a whole. A guest dies
//! with its supervisor by the parent-death signal. Nothing here starts threads before the namespaces are made.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::io::BufRead as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;

use nix::libc;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sched::unshare;
use nix::unistd::setsid;
use serde::Deserialize;
use serde::Serialize;

use crate::sandbox::machines::cgroup;
use crate::sandbox::machines::hidden::INIT;

/// mount(2) takes a page of options and cuts off the rest without a word.
const OPTIONS_LIMIT: usize = 4096;
/// The lab routes, and never rations its refusals.
const LAB_SETTINGS: [(&str, &str); 4] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// What a supervisor is told, as a file beside the host's folders; written at each boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub hostname: String,
    /// The read-only layers, topmost first; the last is the image.
    pub lower: Vec<PathBuf>,
    /// Holds `upper`, `work`, `root`, `cgroup`.
    pub folder: PathBuf,
    /// The host's group, relative to the root of the tree.
    pub group: String,
}

/// What a supervisor says on its standard output, one word a line and perhaps a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The namespaces stand; the network may be wired. Answered by [`GO`].
    Ready,
    /// The guest's first process exists.
    Booted,
    /// The guest asked for a reboot, and gets it.
    Rebooting,
    /// The guest powered off.
    Off,
}

impl Said {
    pub(super) fn parse(line: &str) -> Option<Self> {
        [Self::Ready, Self::Booted, Self::Rebooting, Self::Off].into_iter().find(|said| said.word() == line.trim())
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Booted => "booted",
            Self::Rebooting => "rebooting",
            Self::Off => "off",
        }
    }
}

/// Orders on a supervisor's standard input.
pub(super) const GO: &str = "go\n";
pub(super) const POWER_OFF: &str = "poweroff\n";
pub(super) const REBOOT: &str = "reboot\n";

/// `__lab TREE GROUP`: makes and holds the lab's network namespace; cleans up after the lab at the end of its input.
pub(super) fn hold(tree: &Path, group: &str) -> ExitCode {
    let work = || -> io::Result<()> {
        // A terminal's interrupt is for the parent, which ends the lab in order.
        setsid()?;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        cgroup::mount_private(tree)?;
        let group = cgroup::make(PathBuf::from(group))?;
        // `/proc/sys/net` shows the namespace of whoever opens it, so these are the lab's own.
        for (setting, value) in LAB_SETTINGS {
            fs_err::write(format!("/proc/sys/net/{setting}"), value)?;
        }
        say(Said::Ready);
        for line in io::stdin().lock().lines() {
            line?;
        }
        cgroup::destroy(&group)
    };
    ended(work())
}

/// `__sweep TREE GROUP`: kills and removes what a killed lab may have left in the control groups.
pub(super) fn sweep(tree: &Path, group: &str) -> ExitCode {
    let work = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        cgroup::mount_private(tree)?;
        cgroup::destroy(Path::new(group))
    };
    ended(work())
}

/// `__supervise ORDERS`: owns a host's overlay, network namespace and control group, and boots it again when it asks.
pub(super) fn supervise(orders: &Path) -> ExitCode {
    ended(supervised(orders))
}

fn supervised(path: &Path) -> io::Result<()> {
    let orders: Orders = serde_json::from_slice(&fs_err::read(path)?)?;
    setsid()?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    cgroup::mount_private(&orders.folder.join("cgroup"))?;
    let group = Path::new(&orders.group);
    let payload = cgroup::make(group.join("payload"))?;
    cgroup::enter(&cgroup::make(group.join("supervisor"))?)?;
    overlay(&orders)?;
    say(Said::Ready);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line != GO {
        return Ok(());
    }
    let guest = Arc::new(AtomicU32::new(0));
    listen(Arc::clone(&guest), payload.clone());
    loop {
        // Who has waited for a process may still find it in its group for a moment: a group is empty when it says so.
        cgroup::kill(&payload)?;
        cgroup::remove_below(&payload)?;
        let status = boot(path, &payload, &guest)?;
        // The kernel ends the first process of a pid namespace with SIGHUP for a reboot, SIGINT for a power-off.
        if status.signal() == Some(libc::SIGHUP) {
            say(Said::Rebooting);
            continue;
        }
        if status.signal() == Some(libc::SIGINT) {
            say(Said::Off);
            return Ok(());
        }
        return Err(io::Error::other(format!("the guest's first process ended with {status}")));
    }
}

/// Mounts the host's root: image below, its own changes above. `volatile` leaves out syncs, which only a crash of
/// this computer would miss; the kernel then marks the work folder, and refuses it once more unless the mark goes.
fn overlay(orders: &Orders) -> io::Result<()> {
    let folder = &orders.folder;
    let mark = folder.join("work/work/incompat");
    if mark.exists() {
        fs_err::remove_dir_all(mark)?;
    }
    let lower: Vec<String> = orders.lower.iter().map(|layer| layer.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.join(":"),
        folder.join("upper").display(),
        folder.join("work").display()
    );
    if options.len() >= OPTIONS_LIMIT {
        return Err(io::Error::other(format!("the names of its {} layers are too long together", lower.len())));
    }
    let (kind, flags) = (Some("overlay"), MsFlags::empty());
    mount(kind, &folder.join("root"), kind, flags, Some(options.as_str()))?;
    Ok(())
}

/// One life of the guest, from its first process to its end.
fn boot(orders: &Path, payload: &Path, guest: &AtomicU32) -> io::Result<std::process::ExitStatus> {
    // After the first boot this thread's children would go to the dead namespace: go back to our own first.
    setns(fs_err::File::open("/proc/self/ns/pid")?.as_fd(), CloneFlags::CLONE_NEWPID)?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let mut child = Command::new("/proc/self/exe")
        .args([OsStr::new(INIT), orders.as_os_str(), payload.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    guest.store(child.id(), Ordering::SeqCst);
    say(Said::Booted);
    let status = child.wait();
    guest.store(0, Ordering::SeqCst);
    status
}

/// Obeys the orders on standard input, on a thread; the end of the input is the end of the host.
fn listen(guest: Arc<AtomicU32>, payload: PathBuf) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            // systemd(1), SIGNALS: RTMIN+4 starts poweroff.target, RTMIN+5 starts reboot.target.
            let signal = match format!("{line}\n").as_str() {
                POWER_OFF => "RTMIN+4",
                REBOOT => "RTMIN+5",
                _ => continue,
            };
            let pid = guest.load(Ordering::SeqCst);
            if pid != 0 {
                // Real-time signals have no safe call in Rust; the tool's own failure shows on the console log.
                let _ = Command::new("kill")
                    .args(["-s", signal, &pid.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status();
            }
        }
        if let Err(error) = cgroup::kill(&payload) {
            log(&format_args!("cannot end the guest: {error}"));
        }
        std::process::exit(0);
    });
}

/// Writes an event; nobody may be there to read it any more, which the end of the input tells.
fn say(said: Said) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", said.word());
    let _ = out.flush();
}

/// Writes a line to the console log, which is this process's standard error.
pub(super) fn log(what: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "seawall: {what}");
}

/// Turns the result of a hidden process into its exit code.
pub(super) fn ended(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error);
            ExitCode::FAILURE
        }
    }
}
