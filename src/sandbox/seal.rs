//! Proves that what the sandbox runs is what it made: a project's folder is whatever its repository put there.
//!
//! A repository can bring `.seawall/cache/…/bin/python`, and a later commit can write over it, because the folder is ignored.
//! So each program folder in the cache has a seal: a MAC over the name, kind, owner, size, inode and times of everything in
//! it, with a key that only this user has, outside of every project. A changed file has another change time, which nobody
//! can set back. A lab or a template grows while it is used; its mark binds the folder itself ([`Seals::mark`]).

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;

use crate::base::read;
use crate::base::secret::Secret;

/// Where the key is, below the user's home as the system knows it: an environment is set by whoever starts us.
const KEY_FILE: &str = ".local/state/seawall/seal.key";
/// Bytes of the key: as many as the digest has.
const KEY_BYTES: usize = 32;
/// The mark in a folder that grows.
const MARK: &str = ".made-by-seawall";

/// Makes and proves seals, with this user's key.
pub struct Seals {
    key: hmac::Key,
}

impl Seals {
    /// With the key of this user, which is made when it is first needed.
    ///
    /// # Errors
    /// The key can neither be read nor made, or others could read it.
    pub fn of_this_user() -> io::Result<Self> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).map_err(io::Error::from)?;
        let home = user.ok_or_else(|| io::Error::other("this user has no home where a key could be kept"))?.dir;
        Self::at(&home.join(KEY_FILE))
    }

    fn at(file: &Path) -> io::Result<Self> {
        if !file.exists() {
            let folder = file.parent().unwrap_or(Path::new("/"));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // Made beside and linked: of two that begin at once, one wins, and nobody sees half a key.
            let beside = file.with_extension(format!("{}-{:x}", std::process::id(), fastrand::u64(..)));
            let mut new = fs_err::File::options();
            fs_err::os::unix::fs::OpenOptionsExt::mode(new.write(true).create_new(true), 0o600);
            let made = random().and_then(|key| new.open(&beside)?.write_all(key.reveal().as_bytes()));
            let linked = made.and_then(|()| fs_err::hard_link(&beside, file));
            fs_err::remove_file(&beside)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let named = |why: read::NotRead| io::Error::other(format!("the key `{}`: {why}", file.display()));
        let key = read::private(file, read::OURS).map_err(named)?;
        if key.trim().len() < KEY_BYTES * 2 {
            return Err(io::Error::other(format!("the key `{}` is cut short; remove it", file.display())));
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.trim().as_bytes()) })
    }

    /// Seals a folder as it is now.
    pub fn seal(&self, folder: &Path) -> io::Result<()> {
        let seal = self.of_content(folder)?;
        let file = seal_file(folder);
        let beside = file.with_extension("new");
        fs_err::write(&beside, seal)?;
        fs_err::rename(beside, file)
    }

    /// Whether a folder is there and as it was sealed.
    pub fn holds(&self, folder: &Path) -> io::Result<bool> {
        // A link is no folder of ours, wherever it leads.
        if !fs_err::symlink_metadata(folder).is_ok_and(|about| about.is_dir()) {
            return Ok(false);
        }
        let Ok(said) = read::our_text(&seal_file(folder), 4096) else { return Ok(false) };
        Ok(said.trim() == self.of_content(folder)?)
    }

    /// Marks a folder as made by this user's Seawall. Its content may change; a copy of it has no mark that holds.
    pub fn mark(&self, folder: &Path) -> io::Result<()> {
        fs_err::write(folder.join(MARK), self.of_folder(folder)?)
    }

    /// Whether a folder has a mark that holds.
    pub fn is_marked(&self, folder: &Path) -> bool {
        let said = read::our_text(&folder.join(MARK), 4096);
        said.is_ok_and(|said| self.of_folder(folder).is_ok_and(|mark| said.trim() == mark))
    }

    fn of_folder(&self, folder: &Path) -> io::Result<String> {
        let about = fs_err::metadata(folder)?;
        let text = format!("folder {} {}", about.dev(), about.ino());
        Ok(hex(hmac::sign(&self.key, text.as_bytes()).as_ref()))
    }

    fn of_content(&self, folder: &Path) -> io::Result<String> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"content\n");
        walk(folder, Path::new(""), &mut |path, about, target| {
            let facts = [
                u64::from(about.mode()),
                u64::from(about.uid()),
                u64::from(about.gid()),
                about.dev(),
                about.ino(),
                about.size(),
                about.mtime().cast_unsigned(),
                about.mtime_nsec().cast_unsigned(),
                about.ctime().cast_unsigned(),
                about.ctime_nsec().cast_unsigned(),
            ];
            // Lengths first: no name can pass for two.
            for bytes in [path.as_os_str().as_bytes(), target.as_os_str().as_bytes()] {
                context.update(&bytes.len().to_le_bytes());
                context.update(bytes);
            }
            for fact in facts {
                context.update(&fact.to_le_bytes());
            }
        })?;
        Ok(hex(context.sign().as_ref()))
    }
}

/// Beside the folder: writing it changes nothing in the folder.
fn seal_file(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".seal");
    PathBuf::from(name)
}

type Visit<'a> = &'a mut dyn FnMut(&Path, &std::fs::Metadata, &Path);

/// Everything below a folder and the folder itself, in order of names. Links are told and not followed.
fn walk(root: &Path, below: &Path, visit: Visit<'_>) -> io::Result<()> {
    let path = root.join(below);
    let about = fs_err::symlink_metadata(&path)?;
    let target = if about.is_symlink() { fs_err::read_link(&path)? } else { PathBuf::new() };
    visit(below, &about, &target);
    if !about.is_dir() {
        return Ok(());
    }
    let mut names: Vec<_> = fs_err::read_dir(&path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        walk(root, &below.join(name), visit)?;
    }
    Ok(())
}

fn random() -> io::Result<Secret<String>> {
    let mut bytes = [0; KEY_BYTES];
    io::Read::read_exact(&mut fs_err::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(Secret::new(hex(&bytes)))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn bench() -> (tempfile::TempDir, Seals, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let seals = Seals::at(&folder.path().join("state/seal.key")).expect("a key");
        let made = folder.path().join("made");
        fs_err::create_dir_all(made.join("bin")).expect("a folder");
        fs_err::write(made.join("bin/python"), "ours").expect("a file");
        std::os::unix::fs::symlink("python", made.join("bin/python3")).expect("a link");
        (folder, seals, made)
    }

    #[test]
    fn a_folder_that_somebody_brought_or_changed_is_not_ours() {
        let (folder, seals, made) = bench();
        assert!(!seals.holds(&made).expect("readable"), "brought");
        seals.seal(&made).expect("sealed");
        assert!(seals.holds(&made).expect("readable"));
        let python = made.join("bin/python");
        let before = fs_err::metadata(&python).expect("there").modified().expect("a time");
        // The same length and the old modification time: the change time gives it away.
        fs_err::write(&python, "evil").expect("writable");
        let file = std::fs::File::options().write(true).open(&python).expect("writable");
        file.set_modified(before).expect("its time");
        assert!(!seals.holds(&made).expect("readable"), "written over");
        seals.seal(&made).expect("sealed");
        fs_err::write(made.join("bin/more"), "").expect("writable");
        assert!(!seals.holds(&made).expect("readable"), "added");
        seals.seal(&made).expect("sealed");
        // Somebody else's seal, a copy, and a link to what is sealed.
        let other = Seals::at(&folder.path().join("other/seal.key")).expect("a key");
        assert!(!other.holds(&made).expect("readable"));
        let copy = folder.path().join("copy");
        let copied =
            std::process::Command::new("cp").args(["-a", "--"]).arg(&made).arg(&copy).status().expect("cp runs");
        assert!(copied.success());
        fs_err::copy(seal_file(&made), seal_file(&copy)).expect("a seal can be copied");
        assert!(!seals.holds(&copy).expect("readable"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&made, &link).expect("a link");
        fs_err::copy(seal_file(&made), seal_file(&link)).expect("a seal can be copied");
        assert!(!seals.holds(&link).expect("readable"));
    }

    #[test]
    fn a_mark_is_the_folders_own() {
        let (folder, seals, made) = bench();
        assert!(!seals.is_marked(&made));
        seals.mark(&made).expect("marked");
        fs_err::write(made.join("grown"), "").expect("writable");
        assert!(seals.is_marked(&made));
        let moved = folder.path().join("moved");
        fs_err::rename(&made, &moved).expect("movable");
        assert!(seals.is_marked(&moved), "it is the same folder");
        fs_err::create_dir(&made).expect("a folder");
        fs_err::copy(moved.join(MARK), made.join(MARK)).expect("a mark can be copied");
        assert!(!seals.is_marked(&made));
    }

    #[test]
    fn a_key_that_others_can_read_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("seal.key");
        Seals::at(&file).expect("a key");
        assert_eq!(fs_err::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("its mode");
        assert!(Seals::at(&file).is_err());
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        fs_err::write(&file, "short").expect("writable");
        assert!(Seals::at(&file).is_err());
    }
}
