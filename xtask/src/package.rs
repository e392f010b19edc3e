//! `cargo xtask package`: builds what is released.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use packaging::release::{self, Release};
use packaging::{checksums, contents, packages, sdk, tools};
use testbed::{install, paths};

/// Builds what is released into target/packages.
///
/// * packages for Debian and Ubuntu (.deb), for RHEL and others (.rpm), and for all (.tar.gz);
/// * mesos-overlay-sdk-….tar.gz, for compiling the module with the compiler and the headers of an
///   installed Mesos;
/// * SHA256SUMS.
///
/// The module and the program in them load on hosts with glibc 2.17 and libstdc++ of g++ 5, or
/// later ones. The same source makes the same bytes in every directory, with the date of the last
/// commit, or of SOURCE_DATE_EPOCH.
///
/// It needs Rust, g++ and binutils on x86-64 Linux with glibc, and crates from crates.io. It takes
/// minutes, and less than one if only the project's own files have changed. target/packages is
/// replaced when all is complete.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

pub fn run(Options {}: &Options) -> Result<()> {
    // What can be missing, before a build of minutes.
    install::require(install::RELEASE)?;
    let date = packages::date()?;
    tools::DEB.program()?;
    let release = release::build()?;
    let directory = paths::target().join("packages");
    let new = paths::target().join("packages.new");
    let _ = fs::remove_dir_all(&new); // of an interrupted run
    write(&release, date, &new)?;
    replace(&directory, &new)?;
    let mut names = fs::read_dir(&directory)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let size = entry.metadata()?.len();
        println!("{size:>10} {}", entry.path().display());
    }
    Ok(())
}

/// Writes all files of a release into a new directory.
fn write(release: &Release, date: u64, directory: &Path) -> Result<()> {
    let scratch = directory.join(".files");
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let files = contents::files(release, &scratch)?;
    fs::remove_dir_all(&scratch)?;
    packages::build(&files, packages::VERSION, date, directory)?;
    sdk::build(release, date, directory)?;
    checksums::write(directory)
}

/// Puts a complete directory in the place of one with files of other versions, if there is one.
fn replace(directory: &Path, new: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("removing {}", directory.display()))?;
    }
    fs::rename(new, directory).with_context(|| format!("making {}", directory.display()))
}
