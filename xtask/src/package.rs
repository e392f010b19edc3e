//! `cargo xtask package`: builds what is released.

use std::fs;

use anyhow::{Context, Result};
use packaging::{checksums, contents, packages, release};
use testbed::paths;

/// Builds the packages into target/packages.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

pub fn run(Options {}: &Options) -> Result<()> {
    let release = release::build()?;
    let directory = paths::target().join("packages");
    let _ = fs::remove_dir_all(&directory); // packages of other versions
    let scratch = directory.join(".files");
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let files = contents::files(&release, &scratch)?;
    fs::remove_dir_all(&scratch)?;
    packages::build(&files, packages::VERSION, packages::date()?, &directory)?;
    checksums::write(&directory)?;
    let mut names = fs::read_dir(&directory)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let size = entry.metadata()?.len();
        println!("{size:>10} {}", entry.path().display());
    }
    Ok(())
}
