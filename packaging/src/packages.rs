//! Packages: `.deb`, `.rpm` and `.tar.gz`, of the files of [`crate::contents`].
//!
//! The same files and the same [`date`] make the same packages, byte by byte, in every directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testbed::paths;

use crate::contents::{File, Format};
use crate::{archive, deb, rpm, run};

/// Version of the packages.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One line about the package.
pub const SUMMARY: &str = "Overlay networks for the containers of Apache Mesos";

/// Paths of the packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packages {
    /// For Debian and Ubuntu.
    pub deb: PathBuf,
    /// For RHEL, CentOS, Fedora and SUSE.
    pub rpm: PathBuf,
    /// For all others.
    pub archive: PathBuf,
}

/// Returns the date of the packages and their files, in seconds since 1970: that of the variable
/// `SOURCE_DATE_EPOCH`, or of the last commit.
///
/// # Errors
/// The variable is no number; or it is not set, and git does not know the commit.
pub fn date() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.args(["log", "-1", "--format=%ct"]);
            run::output(git.current_dir(paths::workspace()))
                .context("finding the date of the last commit; set SOURCE_DATE_EPOCH instead")?
        }
    };
    let text = text.trim();
    text.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, and not a number of seconds"))
}

/// Returns the paths of the packages of a version in a directory.
pub fn named(version: &str, directory: &Path) -> Packages {
    Packages {
        deb: directory.join(format!("mesos-overlay_{version}-1_amd64.deb")),
        rpm: directory.join(format!("mesos-overlay-{version}-1.x86_64.rpm")),
        archive: directory.join(format!("mesos-overlay-{version}-x86_64.tar.gz")),
    }
}

/// Writes the packages into a directory.
///
/// # Errors
/// A tool is missing and cannot be built, or fails; or a file cannot be written.
pub fn build(files: &[File], version: &str, date: u64, directory: &Path) -> Result<Packages> {
    let packages = named(version, directory);
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let of = |format| of(files, format);
    std::thread::scope(|scope| {
        // Compression takes most of the time.
        let deb = scope.spawn(|| deb::write(&of(Format::Deb), version, date, &packages.deb));
        rpm::write(&of(Format::Rpm), version, date, &packages.rpm)?;
        archive::write(&of(Format::Archive), version, date, &packages.archive)?;
        match deb.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(packages)
}

/// Returns the files of one kind of package.
pub fn of(files: &[File], format: Format) -> Vec<&File> {
    let has = |file: &&File| file.formats.contains(&format);
    files.iter().filter(has).collect()
}
