//! The journal of an apply: one JSON line per record, written and synced before the act that it announces.

use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use jiff::Timestamp;
use serde::Serialize;

use crate::engine::private;
use crate::plan::event::JournalEvent;

/// Where records go: to the file first, then to whoever watches.
pub struct Journal<'a> {
    folder: PathBuf,
    inner: Mutex<Inner<'a>>,
}

struct Inner<'a> {
    file: File,
    watch: &'a mut (dyn FnMut(&JournalEvent) + Send),
    /// The first write that failed. Nothing more is begun after it.
    broken: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(flatten)]
    record: &'a JournalEvent,
}

impl<'a> Journal<'a> {
    /// Makes `folder` and opens its `journal.jsonl`, both for this user only; a folder of that name must not exist.
    pub fn create(folder: &Path, watch: &'a mut (dyn FnMut(&JournalEvent) + Send)) -> std::io::Result<Self> {
        if let Some(parent) = folder.parent() {
            private::folders(parent)?;
        }
        DirBuilder::new().mode(private::FOLDER).create(folder)?;
        let file =
            File::options().append(true).create_new(true).mode(private::FILE).open(folder.join("journal.jsonl"))?;
        let inner = Mutex::new(Inner { file, watch, broken: None });
        Ok(Self { folder: folder.to_owned(), inner })
    }

    /// The folder with everything about this apply.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a record. A failed write is remembered: see [`Journal::check`].
    pub fn record(&self, record: &JournalEvent) {
        let mut inner = self.inner.lock().expect("no thread panics while it holds the journal");
        let line = Line { at: Timestamp::now(), record };
        let written = serde_json::to_vec(&line).map_err(std::io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            inner.file.write_all(&bytes)?;
            inner.file.sync_data()
        });
        if let Err(error) = written {
            inner.broken.get_or_insert_with(|| error.to_string());
        }
        (inner.watch)(record);
    }

    /// Whether everything was written. Asked before each act: what cannot be recorded is not begun.
    pub fn check(&self) -> Result<(), String> {
        let inner = self.inner.lock().expect("no thread panics while it holds the journal");
        match &inner.broken {
            None => Ok(()),
            Some(why) => Err(format!("the journal could not be written, so nothing more was begun: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::engine::store::Store;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn what_was_done_is_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (plans, mut watch) = (folder.path().join("plans"), |_: &JournalEvent| ());
        Journal::create(&plans.join("one"), &mut watch).expect("a journal");
        assert_eq!((mode(&plans), mode(&plans.join("one"))), (0o700, 0o700));
        assert_eq!(mode(&plans.join("one/journal.jsonl")), 0o600);

        // Also where an older version made the folder.
        let state = folder.path().join("state");
        std::fs::create_dir(&state).expect("a temporary folder is writable");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        let store = Store::Local(state.clone());
        store.put("used/plan", b"x").await.expect("it is stored");
        store.claim("lock", b"x").await.expect("it is stored");
        assert_eq!((mode(&state), mode(&state.join("used"))), (0o700, 0o700));
        assert_eq!((mode(&state.join("used/plan")), mode(&state.join("lock"))), (0o600, 0o600));
    }
}
