//! Packages that tests share: made once for the same files, and kept in `target/package-tests`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use testbed::paths;

use crate::built;
use crate::contents::{self, File};
use crate::packages::{self, Packages, VERSION};

/// Date of the packages.
const DATE: u64 = 1_700_000_000;

/// Version of the packages to upgrade to.
pub const NEXT_VERSION: &str = "99.0.0";

/// Sources of what writes packages, with the versions of its crates and programs. When they change,
/// packages are made anew.
const SOURCES: [&str; 11] = [
    include_str!("archive.rs"),
    include_str!("deb.rs"),
    include_str!("packages.rs"),
    include_str!("kept.rs"),
    include_str!("rpm.rs"),
    include_str!("tarball.rs"),
    include_str!("tools.rs"),
    include_str!("../Cargo.toml"),
    include_str!("../../Cargo.lock"),
    include_str!("../../Cargo.toml"),
    include_str!("../archive/install.sh"),
];

/// Packages of the present release build.
#[derive(Debug)]
pub struct Kept {
    /// Files of all packages.
    pub files: Vec<File>,
    /// Packages of this version.
    pub packages: Packages,
    /// Packages of [`NEXT_VERSION`], in which each file of configuration ends with one more blank
    /// line.
    pub next: Packages,
}

/// Builds the release, and its packages if they are not kept.
///
/// # Errors
/// As [`built::get`], [`contents::files`] and [`packages::build`].
pub fn get() -> Result<Kept> {
    let root = paths::target().join("package-tests");
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let lock = fs::File::create(root.join("lock")).context("the lock of target/package-tests")?;
    lock.lock().context("locking target/package-tests")?;
    let scratch = root.join("scratch");
    let _ = fs::remove_dir_all(&scratch); // of an interrupted run
    fs::create_dir(&scratch).context("making a directory")?;
    let files = contents::files(&built::get()?.release, &scratch)?;
    let directory = root.join(hash(&files));
    if !directory.exists() {
        remove_others(&root)?;
        make(&files, &scratch)?;
        fs::rename(&scratch, &directory).context("moving packages into place")?;
    }
    let in_it = |version: &str| packages::named(version, &directory);
    let (packages, next) = (in_it(VERSION), in_it(NEXT_VERSION));
    Ok(Kept {
        files,
        packages,
        next,
    })
}

/// Removes packages of other files, but for the directory that is worked in.
fn remove_others(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != "scratch" {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn make(files: &[File], directory: &Path) -> Result<()> {
    packages::build(files, VERSION, DATE, directory)?;
    let mut files = files.to_vec();
    for file in files.iter_mut().filter(|file| file.config) {
        file.content.push(b'\n');
    }
    packages::build(&files, NEXT_VERSION, DATE, directory)?;
    Ok(())
}

/// Makes the packages once more, in another directory.
///
/// # Errors
/// As [`packages::build`].
pub fn again(files: &[File], directory: &Path) -> Result<Packages> {
    packages::build(files, VERSION, DATE, directory)
}

fn hash(files: &[File]) -> String {
    let mut hash = Sha256::new();
    SOURCES.iter().for_each(|source| hash.update(source));
    for file in files {
        hash.update(format!(
            "{} {:o} {:?}\n",
            file.path, file.mode, file.formats
        ));
        hash.update(Sha256::digest(&file.content));
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
