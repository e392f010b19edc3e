//! Include directories of an installed Mesos. Part of the build script, and of a test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the include directories of an installed Mesos by the value of `MESOS_PREFIX`: the
/// directory that it is installed in; if the variable is not set, what `pkg_config` finds. `None`:
/// there is no Mesos, or the variable is empty, so none is wanted.
///
/// # Errors
/// As [`below`].
pub fn installed(
    prefix: Option<&OsStr>,
    pkg_config: impl FnOnce() -> Option<Vec<PathBuf>>,
) -> Result<Option<Vec<PathBuf>>, String> {
    match prefix {
        Some(prefix) if prefix.is_empty() => Ok(None),
        Some(prefix) => below(Path::new(prefix)).map(Some),
        None => Ok(pkg_config()),
    }
}

/// Returns the include directories of the Mesos that is installed below `prefix`, by
/// `make install`.
///
/// # Errors
/// There is none; the error says what was looked for.
pub fn below(prefix: &Path) -> Result<Vec<PathBuf>, String> {
    let include = prefix.join("include");
    if !include.join("mesos/module.hpp").exists() {
        return Err(format!(
            "MESOS_PREFIX: {} has no include/mesos/module.hpp; name the directory that Mesos is installed in, or \
             unset it; MESOS_PREFIX= (empty) builds without an installed Mesos",
            prefix.display()
        ));
    }
    let others = ["lib", "lib64"].map(|lib| prefix.join(lib).join("mesos/3rdparty/include"));
    let directories = [include].into_iter().chain(others);
    Ok(with_zookeeper(directories.collect()))
}

/// Returns the include directories that `pkg-config mesos` prints; `None` if it knows no Mesos.
pub fn of_pkg_config() -> Option<Vec<PathBuf>> {
    let include = pkg_config("--variable=includedir")?;
    let flags = pkg_config("--cflags-only-I")?;
    Some(of_flags(&include, &flags))
}

fn pkg_config(option: &str) -> Option<String> {
    let output = Command::new("pkg-config")
        .args([option, "mesos"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// Returns the include directories of an installed Mesos by what pkg-config prints: its directory
/// of headers, which has no flag if it is one of the compiler's own, and the flags.
pub fn of_flags(include: &str, flags: &str) -> Vec<PathBuf> {
    let flags = flags.split_whitespace();
    let flags = flags.filter_map(|flag| flag.strip_prefix("-I"));
    let mut directories = with_zookeeper(flags.map(PathBuf::from).collect());
    let zookeeper = Path::new(include.trim()).join("zookeeper");
    if zookeeper.exists() && !directories.contains(&zookeeper) {
        directories.push(zookeeper);
    }
    directories
}

/// Directories that the compiler searches in any case. In another order than its own it does not
/// find the headers of the C library.
const SEARCHED: [&str; 2] = ["/usr/include", "/usr/local/include"];

/// Returns the directories that exist, each with the one of ZooKeeper in it: Mesos's headers
/// include `zookeeper.h` without a directory, and `make install` puts it into `zookeeper/`.
fn with_zookeeper(directories: Vec<PathBuf>) -> Vec<PathBuf> {
    let both = |directory: PathBuf| [directory.join("zookeeper"), directory];
    let mut all: Vec<PathBuf> = directories.into_iter().flat_map(both).collect();
    all.retain(|directory| directory.exists());
    all.retain(|directory| {
        SEARCHED
            .iter()
            .all(|searched| directory != Path::new(searched))
    });
    all
}
