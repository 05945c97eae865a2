//! The first process of a guest: lays its API file systems, enters its root and becomes systemd.
//!
//! What a guest must not change belongs to this computer: the clock, the kernel's settings, the kernel's log. The
//! capabilities for them are dropped, and `/proc/sys` is read-only but for `net`, which is the guest's own and real.
//! Swap cannot be turned on because an overlay file system does not carry swap files.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::makedev;
use nix::sys::stat::mknod;
use nix::sys::stat::umask;
use nix::unistd::chdir;
use nix::unistd::pivot_root;
use nix::unistd::sethostname;

use crate::sandbox::machines::cgroup;
use crate::sandbox::machines::supervise::Orders;
use crate::sandbox::machines::supervise::ended;

/// Capabilities that reach beyond the guest: modules, raw hardware, the clock, the kernel log, suspend.
const DROPPED: &str =
    "-sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override,-wake_alarm,-block_suspend,-audit_read";

/// `__init ORDERS PAYLOAD`. Returns only when it failed.
pub(super) fn init(orders: &Path, payload: &Path) -> ExitCode {
    ended(become_systemd(orders, payload))
}

fn become_systemd(orders: &Path, payload: &Path) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let orders: Orders = serde_json::from_slice(&fs_err::read(orders)?)?;
    cgroup::enter(payload)?;
    unshare(
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP,
    )?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    umask(Mode::from_bits_truncate(0o022));
    sethostname(&orders.hostname)?;
    let root = orders.folder.join("root");
    proc(&root, &orders.folder)?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attach("sysfs", &root.join("sys"), quiet | MsFlags::MS_RDONLY, "")?;
    attach("cgroup2", &root.join("sys/fs/cgroup"), quiet, "")?;
    dev(&root.join("dev"))?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    attach("tmpfs", &root.join("run"), plain, "mode=755,size=256m")?;
    attach("tmpfs", &root.join("tmp"), plain, "mode=1777")?;
    chdir(&root)?;
    fs_err::create_dir_all(".old")?;
    pivot_root(".", ".old")?;
    umount2("/.old", MntFlags::MNT_DETACH)?;
    fs_err::remove_dir("/.old")?;
    let failed = Command::new("/usr/bin/setpriv")
        .args(["--bounding-set", DROPPED, "/lib/systemd/systemd", "--log-target=journal"])
        .env_clear()
        .env("container", "sandbox")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .exec();
    Err(failed)
}

fn attach(kind: &str, at: &Path, flags: MsFlags, options: &str) -> io::Result<()> {
    let options = (!options.is_empty()).then_some(options);
    mount(Some(kind), at, Some(kind), flags, options)
        .map_err(|e| io::Error::other(format!("cannot mount {kind} on `{}`: {e}", at.display())))
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .map_err(|e| io::Error::other(format!("cannot bind `{}` to `{}`: {e}", from.display(), to.display())))
}

/// `/proc` of the guest's pid namespace. Its settings are this computer's and read-only, but for those of the network,
/// which are the guest's own: what a container cannot show must fail there, not seem to work.
fn proc(root: &Path, folder: &Path) -> io::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (proc, real) = (root.join("proc"), folder.join("proc"));
    attach("proc", &proc, quiet, "")?;
    fs_err::create_dir_all(&real)?;
    attach("proc", &real, quiet, "")?;
    let (settings, real) = (proc.join("sys"), real.join("sys"));
    bind(&settings, &settings)?;
    let none = None::<&str>;
    mount(none, &settings, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | quiet, none)?;
    bind(&real.join("net"), &settings.join("net"))?;
    // A boot of the guest is a boot, for journalctl and for whoever waits for a reboot.
    let boot = folder.join("boot_id");
    fs_err::write(&boot, new_boot_id())?;
    bind(&boot, &settings.join("kernel/random/boot_id"))?;
    for hidden in ["sysrq-trigger", "kmsg", "kcore"] {
        let path = proc.join(hidden);
        if path.exists() {
            bind(Path::new("/dev/null"), &path)?;
        }
    }
    Ok(())
}

/// A random UUID, version 4.
fn new_boot_id() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A `/dev` with the harmless devices only.
fn dev(dev: &Path) -> io::Result<()> {
    attach("tmpfs", dev, MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=4m")?;
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(major, minor))?;
        fs_err::set_permissions(dev.join(name), std::fs::Permissions::from_mode(0o666))?;
    }
    for folder in ["pts", "shm"] {
        fs_err::create_dir(dev.join(folder))?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    attach("devpts", &dev.join("pts"), quiet, "newinstance,ptmxmode=0666,mode=620,gid=5")?;
    attach("tmpfs", &dev.join("shm"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    for (name, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("console", "null"),
    ] {
        symlink(to, dev.join(name))?;
    }
    Ok(())
}
