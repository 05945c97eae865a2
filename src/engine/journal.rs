//! The journal of an apply: one JSON line per record, written and synced before the act that it announces.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;
use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use jiff::Timestamp;
use serde::Serialize;

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
    /// Makes `folder` and opens its `journal.jsonl`, both for this user only: it holds the output of programs. A folder of that
    /// name must not exist.
    pub fn create(folder: &Path, watch: &'a mut (dyn FnMut(&JournalEvent) + Send)) -> std::io::Result<Self> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700).create(folder)?;
        let file = File::options().append(true).create_new(true).mode(0o600).open(folder.join("journal.jsonl"))?;
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
