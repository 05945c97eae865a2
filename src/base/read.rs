//! Reads a file that somebody named: a regular one, of a bounded size, at once. The only input of this room.
//!
//! A name can lead to a pipe that nobody writes to, to a device that never ends, to a socket or to a directory. None of
//! them is waited for, and the message says which it was.

use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// Largest file of our own, in bytes: the state of a lab, what was applied, a key. Far above any of them.
pub const OURS: u64 = 64 * 1024 * 1024;

/// Why a file was not read. Its text says nothing of the file's content, and not its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    #[error("there is no such file")]
    Missing,
    #[error("this user may not read it")]
    Forbidden,
    #[error("it is a directory")]
    Directory,
    #[error("it is {0}, and no file")]
    Special(&'static str),
    #[error("it is larger than {}", size(*.0))]
    TooLarge(u64),
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("others may read it")]
    Open,
    #[error("it belongs to another user")]
    Foreign,
    #[error("{0}")]
    Other(String),
}

impl From<std::io::Error> for NotRead {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            std::io::ErrorKind::PermissionDenied => Self::Forbidden,
            std::io::ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The bytes of a regular file of at most `limit` bytes. Links are followed: it is what they lead to that counts.
///
/// # Errors
/// What it is instead, or why it cannot be read.
pub fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, NotRead> {
    Ok(open(path, limit)?.1)
}

/// The same for text.
///
/// # Errors
/// As [`bytes`], and where it is not UTF-8.
pub fn text(path: &Path, limit: u64) -> Result<String, NotRead> {
    String::from_utf8(bytes(path, limit)?).map_err(|_| NotRead::NotText)
}

/// The text of a file that holds a secret: this user's or root's, and closed to all others.
///
/// # Errors
/// As [`text`], and where somebody else could read or replace it.
pub fn private(path: &Path, limit: u64) -> Result<String, NotRead> {
    let (metadata, bytes) = open(path, limit)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(NotRead::Open);
    }
    if ![0, nix::unistd::geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(NotRead::Foreign);
    }
    String::from_utf8(bytes).map_err(|_| NotRead::NotText)
}

/// The same as [`bytes`] for a file of our own, with its name in the error.
///
/// # Errors
/// As [`bytes`]; a file that is not there has its usual kind.
pub fn ours(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    bytes(path, limit).map_err(|why| {
        let kind = match why {
            NotRead::Missing => std::io::ErrorKind::NotFound,
            NotRead::Forbidden => std::io::ErrorKind::PermissionDenied,
            _ => std::io::ErrorKind::InvalidData,
        };
        std::io::Error::new(kind, format!("`{}` was not read: {why}", path.display()))
    })
}

/// The same for text.
///
/// # Errors
/// As [`ours`], and where it is not UTF-8.
pub fn our_text(path: &Path, limit: u64) -> std::io::Result<String> {
    String::from_utf8(ours(path, limit)?).map_err(std::io::Error::other)
}

/// That a path leads to a regular file, for one that another program reads.
///
/// # Errors
/// What it is instead.
pub fn is_regular(path: &Path) -> Result<(), NotRead> {
    regular(&std::fs::metadata(path)?)
}

fn open(path: &Path, limit: u64) -> Result<(std::fs::Metadata, Vec<u8>), NotRead> {
    // Before it is opened: opening alone does something to some devices. And after it, for what was put there meanwhile.
    is_regular(path)?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    let mut bytes = Vec::new();
    // The size that it has now says nothing of the size that it has when it has been read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(NotRead::TooLarge(limit)) } else { Ok((metadata, bytes)) }
}

fn regular(metadata: &std::fs::Metadata) -> Result<(), NotRead> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(if kind.is_dir() {
        NotRead::Directory
    } else if kind.is_fifo() {
        NotRead::Special("a pipe")
    } else if kind.is_socket() {
        NotRead::Special("a socket")
    } else {
        NotRead::Special("a device")
    })
}

fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        bytes if bytes >= KIB * KIB && bytes.is_multiple_of(KIB * KIB) => format!("{} MiB", bytes / (KIB * KIB)),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    const LIMIT: u64 = 1024;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let begun = Instant::now();
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs_err::write(at("good"), "good").expect("a file");
        fs_err::write(at("large"), vec![b'x'; 1025]).expect("a file");
        fs_err::write(at("binary"), [0xff, 0xfe]).expect("a file");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let _socket = UnixListener::bind(at("socket")).expect("a socket");
        for (name, to) in [("to-good", "good"), ("to-pipe", "pipe"), ("to-zero", "/dev/zero"), ("to-none", "none")] {
            symlink(to, at(name)).expect("a link");
        }
        symlink("circle", at("circle")).expect("a link");
        for (name, expected) in [
            ("good", Ok("good".to_owned())),
            ("to-good", Ok("good".to_owned())),
            ("large", Err(NotRead::TooLarge(LIMIT))),
            ("binary", Err(NotRead::NotText)),
            ("pipe", Err(NotRead::Special("a pipe"))),
            ("to-pipe", Err(NotRead::Special("a pipe"))),
            ("to-zero", Err(NotRead::Special("a device"))),
            ("socket", Err(NotRead::Special("a socket"))),
            (".", Err(NotRead::Directory)),
            ("none", Err(NotRead::Missing)),
            ("to-none", Err(NotRead::Missing)),
        ] {
            assert_eq!(text(&at(name), LIMIT), expected, "{name}");
        }
        assert!(matches!(text(&at("circle"), LIMIT), Err(NotRead::Other(_))));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(NotRead::TooLarge(131_072).to_string(), "it is larger than 128 KiB");
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs_err::write(&path, "secret").expect("a file");
        for (mode, expected) in
            [(0o600, Ok("secret".to_owned())), (0o640, Err(NotRead::Open)), (0o604, Err(NotRead::Open))]
        {
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
            assert_eq!(private(&path, LIMIT), expected, "{mode:o}");
        }
        // Only root can give a file away.
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        if nix::unistd::chown(&path, Some(nix::unistd::Uid::from_raw(65_534)), None).is_ok() {
            assert_eq!(private(&path, LIMIT), Err(NotRead::Foreign));
        }
    }
}
