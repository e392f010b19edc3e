//! Thread that writes the snapshot, which can take seconds on a slow disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::SystemTime;

use overlay_dns::snapshot;

use super::{Status, spawn};
use crate::output::Failure;

/// Writer of the snapshot.
#[derive(Debug)]
pub struct Writer {
    contents: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
    path: PathBuf,
    status: Arc<Status>,
}

impl Writer {
    /// Writes a snapshot soon, unless an earlier one is not written yet.
    pub fn write(&self, content: Vec<u8>) {
        let _ = self.contents.try_send(content);
    }

    /// Writes the last snapshot, after the one that is being written.
    pub fn finish(self, content: &[u8]) {
        drop(self.contents);
        let _ = self.thread.join();
        store(&self.path, content, &self.status);
    }
}

/// Starts the thread.
///
/// # Errors
/// The system has no room for it.
pub fn start(path: &Path, status: Arc<Status>) -> Result<Writer, Failure> {
    let (contents, wanted) = mpsc::sync_channel::<Vec<u8>>(1);
    let (file, shared) = (path.to_owned(), Arc::clone(&status));
    let thread = spawn("dns-snapshot", move || {
        for content in wanted {
            store(&file, &content, &shared);
        }
    })?;
    Ok(Writer {
        contents,
        thread,
        path: path.to_owned(),
        status,
    })
}

fn store(path: &Path, content: &[u8], status: &Status) {
    let outcome = snapshot::store(path, content);
    let error = outcome
        .err()
        .map(|error| format!("cannot write the snapshot {}: {error}", path.display()));
    status.change(|shown| {
        if let Some(error) = &error
            && shown.snapshot_error.as_ref() != Some(error)
        {
            log::error!("{error}; the names are not kept over a restart");
        }
        if error.is_none() {
            shown.snapshot = Some(SystemTime::now());
        }
        shown.snapshot_error = error;
    });
}
