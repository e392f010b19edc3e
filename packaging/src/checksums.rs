//! Checksums of what is released.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Name of the file with the checksums.
pub const FILE: &str = "SHA256SUMS";

/// Writes the checksums of all files of a directory to its file [`FILE`], as `sha256sum --check`
/// reads them, sorted by name.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(directory: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != FILE {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut text = String::new();
    for name in names {
        let bytes = fs::read(directory.join(&name)).with_context(|| format!("reading {name}"))?;
        for byte in Sha256::digest(bytes) {
            let _ = write!(text, "{byte:02x}"); // a String accepts everything
        }
        let _ = writeln!(text, "  {name}");
    }
    fs::write(directory.join(FILE), text).context("writing the checksums")
}
