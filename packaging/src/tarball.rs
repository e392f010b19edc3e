//! Compressed archives with the same bytes for the same content.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file of an archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Permissions, such as 0o644.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

/// Writes a `.tar.gz` with these files, by their paths, in the directory `top`. All belong to root
/// and were changed at `date`, in seconds since 1970. Who reads the archive meanwhile finds the
/// previous one, since the new one has another name until it is complete: with `.part` behind it.
///
/// # Errors
/// The archive cannot be written.
pub fn write(archive: &Path, top: &str, files: &BTreeMap<String, Entry>, date: u64) -> Result<()> {
    let mut part = archive.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let output = File::create(part).with_context(|| format!("making {}", part.display()))?;
    let mut tar = Builder::new(GzBuilder::new().write(output, Compression::best()));
    for (path, file) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(date);
        header.set_size(file.content.len() as u64);
        tar.append_data(
            &mut header,
            format!("{top}/{path}"),
            file.content.as_slice(),
        )
        .with_context(|| format!("archiving {path}"))?;
    }
    let gzip = tar.into_inner().context("writing an archive")?;
    gzip.finish().context("compressing an archive")?;
    fs::rename(part, archive).with_context(|| format!("making {}", archive.display()))
}
