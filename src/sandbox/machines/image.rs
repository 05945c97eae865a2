//! The images that hosts start from: Debian 12 and 13 as a fresh cloud server has them, each built when the first host
//! needs it and read-only since.
//!
//! They come from Debian's packages by mmdebstrap, from the mirror that this computer's Debian tools take. An image's
//! folder is named by a digest of its recipe, so another recipe is another image, and appears only when complete.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::BufReader;
use tokio::process::Command;
use tokio::time::timeout;

use crate::base::digest::Digest;
use crate::base::release::Release;
use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::seed::IMAGE_USER;
use crate::sandbox::machines::seed::write;
use crate::sandbox::machines::tool::run;
use crate::sandbox::seal::Seals;
use crate::sandbox::surroundings::needed;

/// What a fresh cloud server has. No firewall, no database: installing those is what hosts are for.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,sudo,python3-minimal,python3,\
ca-certificates,curl,less,procps,iproute2,iputils-ping,netbase,locales,tzdata,systemd-timesyncd,vim-tiny,cron,\
logrotate,gpg,lsb-release,apt-utils,debconf-utils,polkitd,kmod,bash-completion,openssl";
/// Raised when the steps below change without a constant changing.
const RECIPE: u32 = 4;
const CLOUD_INIT: &str = include_str!("image/cloud-init");
const FIRST_BOOT: &str = include_str!("image/first-boot");
const FIRST_BOOT_UNIT: &str = include_str!("image/cloud-final.service");
/// Lightsail's images end their main sshd_config so; its browser login and temporary keys depend on it.
const SSHD_CA: &str = "\nTrustedUserCAKeys /etc/ssh/lightsail_instance_ca.pub\n";

/// The file that names the mirrors of Debian 12's images, and the one of Debian 13's.
const SOURCES_12: &str = "etc/apt/sources.list";
const SOURCES_13: &str = "etc/apt/sources.list.d/debian.sources";

/// A cold build takes about a minute on a good line. A slow one gets this long.
const BUILD_LIMIT: Duration = Duration::from_mins(20);
/// Another process may be building the same image.
const LOCK_POLL: Duration = Duration::from_millis(200);
/// The end of a failed build's talk that is shown, in lines.
const SAID_LINES: usize = 12;

/// A complete image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The root file system; nothing writes to it.
    pub root: PathBuf,
    /// Twelve hexadecimal digits of the recipe's digest.
    pub digest: String,
}

/// Finds a release's image in the cache or builds it there, telling `on_line` what mmdebstrap says.
pub async fn ensure_image(
    cache: &Path,
    release: Release,
    mut on_line: impl FnMut(&str),
) -> Result<Image, MachineError> {
    let scripts = [CLOUD_INIT, FIRST_BOOT, FIRST_BOOT_UNIT, SSHD_CA];
    let recipe = (PACKAGES, release.suite(), RECIPE, scripts, std::env::consts::ARCH);
    let digest = Digest::of(&recipe).short().to_owned();
    let debs = cache.join(debs(release)).join("partial");
    fs_err::create_dir_all(&debs).map_err(MachineError::at(&debs))?;
    let cache = fs_err::canonicalize(cache).map_err(MachineError::at(cache))?;
    let root = cache.join(format!("image-{digest}"));
    let image = Image { root, digest };
    let seals = Seals::of_this_user().map_err(MachineError::io("cannot prove whose the image is"))?;
    if is_ours(&seals, &image.root)? {
        return Ok(image);
    }
    let built = timeout(BUILD_LIMIT, build(&cache, release, &image, &mut on_line)).await;
    let what = || format!("building the image of {}", release.name());
    built.map_err(|_| MachineError::Timeout { what: what(), limit: BUILD_LIMIT })??;
    Ok(image)
}

/// Where downloaded packages of a release are kept for its next build.
fn debs(release: Release) -> String {
    format!("debs-{}", release.suite())
}

async fn build(
    cache: &Path,
    release: Release,
    image: &Image,
    on_line: &mut impl FnMut(&str),
) -> Result<(), MachineError> {
    let lock = cache.join("image.lock");
    let mut file = std::fs::File::create(&lock).map_err(MachineError::at(&lock))?;
    let _held = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => break held,
            Err((back, _)) => file = back,
        }
        tokio::time::sleep(LOCK_POLL).await;
    };
    let seals = Seals::of_this_user().map_err(MachineError::io("cannot prove whose the image is"))?;
    if is_ours(&seals, &image.root)? {
        return Ok(());
    }
    // One name, so that what a killed build left is found and replaced; the lock says that nobody works in it.
    let half = cache.join("image.building");
    remove(&half)?;
    bootstrap(cache, release, on_line).await?;
    let root = half.display().to_string();
    let add = [&root, "useradd", "-m", "-s", "/bin/bash", "-u", "1000", "-c", "Debian", "-G", "adm,sudo", IMAGE_USER];
    run("chroot", &add, "").await?;
    finish(&half, release).map_err(MachineError::io("cannot finish the image"))?;
    fs_err::rename(&half, &image.root).map_err(MachineError::at(&image.root))?;
    seals.seal(&image.root).map_err(MachineError::io("cannot seal the image"))
}

/// Whether an image is there and as it was made. One that somebody brought or changed is not taken, and not removed either:
/// hosts may stand on it.
fn is_ours(seals: &Seals, root: &Path) -> Result<bool, MachineError> {
    if fs_err::symlink_metadata(root).is_err() {
        return Ok(false);
    }
    if seals.holds(root).map_err(MachineError::io("cannot prove whose the image is"))? {
        return Ok(true);
    }
    Err(MachineError::bad(format!(
        "the image `{}` was not made by this user here, was changed since, or is half made; end the sandboxes that use it and remove it",
        root.display()
    )))
}

fn remove(folder: &Path) -> Result<(), MachineError> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(MachineError::at(folder)(error)),
        _ => Ok(()),
    }
}

/// Runs mmdebstrap in a pid and a mount namespace of its own: one kill ends all of it, mounts included. The paths are
/// relative to the cache, because mmdebstrap takes its hooks apart like a shell.
async fn bootstrap(cache: &Path, release: Release, on_line: &mut impl FnMut(&str)) -> Result<(), MachineError> {
    let include = format!("--include={PACKAGES}");
    let debs = debs(release);
    let mut child = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private"])
        .args(["mmdebstrap", "--mode=root", "--variant=minbase", "--skip=essential/unlink", &include])
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives/")
        .arg(format!("--setup-hook=sync-in {debs} /var/cache/apt/archives/"))
        .arg(format!("--customize-hook=sync-out /var/cache/apt/archives {debs}"))
        .args([release.suite(), "image.building"])
        .current_dir(cache)
        .env_clear()
        .envs(needed())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(MachineError::io("cannot start `mmdebstrap`"))?;
    let mut tail = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            on_line(&line);
            if tail.len() == SAID_LINES {
                tail.remove(0);
            }
            tail.push(line);
        }
    }
    let status = child.wait().await.map_err(MachineError::io("cannot wait for `mmdebstrap`"))?;
    if status.success() {
        return Ok(());
    }
    Err(MachineError::Tool { program: "mmdebstrap".to_owned(), status: status.to_string(), said: tail.join("\n") })
}

/// Writes what distinguishes a cloud server from a bare Debian, and removes what must differ per host.
fn finish(root: &Path, release: Release) -> io::Result<()> {
    if release == Release::Debian13 {
        let sources = deb822(&fs_err::read_to_string(root.join(SOURCES_12))?);
        write(root, SOURCES_13, &sources, 0o644)?;
        fs_err::remove_file(root.join(SOURCES_12))?;
    }
    let rule = format!("{IMAGE_USER} ALL=(ALL) NOPASSWD:ALL\n");
    write(root, "etc/sudoers.d/90-cloud-init-users", &rule, 0o440)?;
    let sshd = fs_err::read_to_string(root.join("etc/ssh/sshd_config"))? + SSHD_CA;
    write(root, "etc/ssh/sshd_config", &sshd, 0o644)?;
    write(root, "etc/ssh/lightsail_instance_ca.pub", "", 0o644)?;
    write(root, "usr/bin/cloud-init", CLOUD_INIT, 0o755)?;
    write(root, "usr/lib/cloud-init/first-boot", FIRST_BOOT, 0o755)?;
    write(root, "usr/lib/systemd/system/cloud-final.service", FIRST_BOOT_UNIT, 0o644)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs_err::create_dir_all(&wants)?;
    symlink("/usr/lib/systemd/system/cloud-final.service", wants.join("cloud-final.service"))?;
    // There is no console; its login prompt would fail over and over.
    symlink("/dev/null", root.join("etc/systemd/system/console-getty.service"))?;
    write(root, "etc/default/locale", "LANG=C.UTF-8\n", 0o644)?;
    // No name server: names that a host may reach stand in its /etc/hosts, everything else fails at once.
    write(root, "etc/resolv.conf", "", 0o644)?;
    write(root, "etc/machine-id", "", 0o444)?;
    remove_files(&root.join("etc/ssh"), |path| path.to_string_lossy().contains("ssh_host_"))?;
    for folder in ["var/cache/apt", "var/cache/apt/archives"] {
        remove_files(&root.join(folder), |path| path.extension().is_some_and(|e| e == "bin" || e == "deb"))?;
    }
    let home = root.join(format!("home/{IMAGE_USER}"));
    fs_err::set_permissions(&home, std::fs::Permissions::from_mode(0o755))
}

/// Sources of packages in the form that Debian 13's images have them in: one paragraph for each line of the old form.
fn deb822(lines: &str) -> String {
    let words = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let paragraphs = words.filter_map(|words| match words.as_slice() {
        ["deb", mirror, suite, components @ ..] => Some(format!(
            "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: {}\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            components.join(" ")
        )),
        _ => None,
    });
    paragraphs.collect::<Vec<_>>().join("\n")
}

fn remove_files(folder: &Path, which: impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if which(&path) {
            fs_err::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_become_paragraphs() {
        let old = "deb http://192.0.2.7/debian trixie main\n\n# no line\ndeb http://192.0.2.7/security trixie-security main\n";
        let new = deb822(old);
        assert_eq!(new.matches("Types: deb\n").count(), 2);
        assert!(new.contains("URIs: http://192.0.2.7/debian\nSuites: trixie\nComponents: main\n"), "{new}");
    }
}
