//! The package for every distribution: an archive with the files, and a script that installs and
//! removes them.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::contents::File;

/// The script, in the archive `install.sh`.
const SCRIPT: &[u8] = include_bytes!("../archive/install.sh");

/// Writes the archive. All of it is in the directory `mesos-overlay-<version>`, files of the host
/// below its `files`.
pub fn write(files: &[&File], version: &str, date: u64, archive: &Path) -> Result<()> {
    let output =
        std::fs::File::create(archive).with_context(|| format!("making {}", archive.display()))?;
    let gzip = GzBuilder::new().write(output, Compression::best());
    let mut tar = Builder::new(gzip);
    let top = format!("mesos-overlay-{version}");
    append(&mut tar, &format!("{top}/install.sh"), 0o755, date, SCRIPT)?;
    for file in files {
        let path = format!("{top}/files/{}", file.path);
        append(&mut tar, &path, file.mode, date, &file.content)?;
    }
    let gzip = tar.into_inner().context("writing an archive")?;
    gzip.finish().context("compressing an archive")?;
    Ok(())
}

/// Appends a file that belongs to root.
fn append(
    tar: &mut Builder<impl Write>,
    path: &str,
    mode: u32,
    date: u64,
    content: &[u8],
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_mtime(date);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("archiving {path}"))
}
