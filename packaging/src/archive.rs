//! The package for every distribution: an archive with the files, and a script that installs and
//! removes them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::contents::File;
use crate::tarball::{self, Entry};

/// The script, in the archive `install.sh`.
const SCRIPT: &[u8] = include_bytes!("../archive/install.sh");

/// Writes the archive. All of it is in the directory `mesos-overlay-<version>`, files of the host
/// below its `files`.
///
/// # Errors
/// The archive cannot be written.
pub fn write(files: &[&File], version: &str, date: u64, archive: &Path) -> Result<()> {
    let mut entries = BTreeMap::from([("install.sh".to_owned(), entry(0o755, SCRIPT))]);
    for file in files {
        let path = format!("files/{}", file.path);
        entries.insert(path, entry(file.mode, &file.content));
    }
    let top = format!("mesos-overlay-{version}");
    tarball::write(archive, &top, &entries, date)
}

fn entry(mode: u32, content: &[u8]) -> Entry {
    Entry {
        mode,
        content: content.to_owned(),
    }
}
