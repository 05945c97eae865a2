//! Files and folders of this machine that nobody but their owner reads: journals and state name hosts, addresses and what
//! was done.

use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;

/// Mode of such a folder.
pub(super) const FOLDER: u32 = 0o700;
/// Mode of a file in it.
pub(super) const FILE: u32 = 0o600;

/// Makes a folder with everything above it that is missing. One that is there stays as it is: it may be the user's own.
pub fn folders(path: &Path) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(FOLDER).create(path).map_err(named)
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(FILE).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())
}
