//! The control groups of a lab: one folder per lab, one per host, all in the v2 tree.
//!
//! A cgroup2 mount shows the same tree wherever it is made, also where the computer mounts v1 or a hybrid, so each
//! process of ours mounts it in its own mount namespace and nothing depends on what `/sys/fs/cgroup` is.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::unistd::chdir;

/// How long killed processes may take to be gone. Tens of milliseconds as measured; more when the disk is slow.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at `cgroup.events`.
const EMPTY_POLL: Duration = Duration::from_millis(5);

/// Makes every mount of this (fresh) mount namespace private, mounts cgroup2 on `at` and makes it the working folder.
/// Groups are named relative to it from then on: a mount point that somebody else removes takes the mount off its path,
/// and a working folder stays.
pub(super) fn mount_private(at: &Path) -> io::Result<()> {
    fs_err::create_dir_all(at)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("cgroup2"), at, Some("cgroup2"), flags, none)?;
    chdir(at)?;
    Ok(())
}

/// Makes a group and its parents.
pub(super) fn make(group: PathBuf) -> io::Result<PathBuf> {
    fs_err::create_dir_all(&group)?;
    Ok(group)
}

/// Moves the calling process into a group.
pub(super) fn enter(group: &Path) -> io::Result<()> {
    fs_err::write(group.join("cgroup.procs"), "0")
}

/// Kills everything in a group and below, waits until it is gone and removes the folders. Absent is fine, also when it
/// becomes so on the way: a killed lab's holder and the next lab may both be cleaning up.
pub(super) fn destroy(group: &Path) -> io::Result<()> {
    absent_is_fine(kill(group))?;
    remove(group)
}

/// Kills everything in a group and below and waits until it is gone.
pub(super) fn kill(group: &Path) -> io::Result<()> {
    fs_err::write(group.join("cgroup.kill"), "1")?;
    let since = Instant::now();
    while fs_err::read_to_string(group.join("cgroup.events"))?.contains("populated 1") {
        if since.elapsed() > EMPTY_LIMIT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes outlive SIGKILL"));
        }
        sleep(EMPTY_POLL);
    }
    Ok(())
}

/// Removes the folders below an empty group, and the group.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    absent_is_fine(remove_below(group))?;
    absent_is_fine(fs_err::remove_dir(group))
}

/// Removes the folders below an empty group; a guest's systemd leaves some at each boot.
pub(super) fn remove_below(group: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// A group that goes while one of its files is open answers ENODEV.
fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
        other => other,
    }
}
