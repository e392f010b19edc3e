//! Releases of the container engine: the machine's own, and later ones that are fetched from
//! Debian's suites. The latter are unpacked, not installed.
//!
//! Files in `target/docker-<release>`: `usr/`, the content of the packages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{self, Apt};

/// Environment variable: name of the release that tests use, one of [`NAMES`].
pub const VARIABLE: &str = "TESTBED_DOCKER";

/// Environment variable: reason why releases cannot be fetched, set by `cargo xtask test`.
pub const NO_FETCH_VARIABLE: &str = "TESTBED_NO_DOCKER_FETCH";

/// Name of the release that is installed on the machine.
const INSTALLED: &str = "installed";

/// Names of all releases.
pub const NAMES: [&str; 3] = [INSTALLED, FETCHED[0].name, FETCHED[1].name];

/// Releases that can be fetched.
const FETCHED: [Source; 2] = [
    Source {
        name: "26.1",
        suites: &["trixie"],
        packages: &["docker.io", "containerd", "tini"],
    },
    Source {
        name: "28.5",
        suites: &["sid", "forky"],
        packages: &["docker.io", "containerd", "tini-static"],
    },
];

/// Place of a release in Debian.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// Beginning of the engine's version.
    name: &'static str,
    /// Suites in which the release is looked for, in this order.
    suites: &'static [&'static str],
    /// Packages with the engine, its containerd and its init. The engine's client and runc are the
    /// machine's.
    packages: &'static [&'static str],
}

/// A release of the engine. The default is the one that is installed on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release(Option<&'static Source>);

impl Release {
    /// Returns the release that [`VARIABLE`] names; without it the installed one.
    pub fn selected() -> Result<Release> {
        match std::env::var(VARIABLE) {
            Ok(name) => Release::named(&name).with_context(|| format!("reading {VARIABLE}")),
            Err(_) => Ok(Release::default()),
        }
    }

    /// Returns a release of [`NAMES`].
    pub fn named(name: &str) -> Result<Release> {
        if name == INSTALLED {
            return Ok(Release::default());
        }
        match FETCHED.iter().find(|source| source.name == name) {
            Some(source) => Ok(Release(Some(source))),
            None => bail!(
                "there is no Docker release {name:?} for tests; it can be one of {}",
                NAMES.join(", ")
            ),
        }
    }

    /// Returns a command that runs a program of this release; fetches the release if it is missing.
    /// Programs that the command starts are of this release, too.
    pub fn command(&self, program: &str) -> Result<Command> {
        let Some(dir) = self.directory()? else {
            return Ok(Command::new(program));
        };
        let dirs = [dir.join("usr/sbin"), dir.join("usr/bin")];
        let found = dirs.iter().map(|dir| dir.join(program));
        let found = found.into_iter().find(|path| path.exists());
        let mut command = Command::new(found.unwrap_or_else(|| program.into()));
        command.env("PATH", search_path(&dirs)?);
        Ok(command)
    }

    /// Fetches the release if it is missing.
    pub fn fetch(&self) -> Result<()> {
        self.directory().map(drop)
    }

    /// Returns the directory of the release's files, which are fetched if they are missing;
    /// `None`: the release is the installed one.
    fn directory(&self) -> Result<Option<PathBuf>> {
        let Some(source) = self.0 else {
            return Ok(None);
        };
        let name = source.name;
        let fetch = |scratch: &Path| {
            if let Ok(reason) = std::env::var(NO_FETCH_VARIABLE) {
                bail!("{reason}");
            }
            source.fetch(scratch)
        };
        let dir = apt::directory(&format!("docker-{name}"), fetch)
            .with_context(|| format!("fetching Docker {name} from Debian"))?;
        Ok(Some(dir))
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.map_or(INSTALLED, |source| source.name))
    }
}

/// Returns the search path with these directories in front of the present one.
fn search_path(dirs: &[PathBuf]) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = dirs.iter().cloned().chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).context("a directory that cannot be in PATH")
}

impl Source {
    /// Fetches the packages, and returns the directory into which they were unpacked.
    fn fetch(&self, scratch: &Path) -> Result<PathBuf> {
        let mut faults = Vec::new();
        for suite in self.suites {
            eprintln!("fetching Docker {} from Debian {suite} (70 MB)", self.name);
            match self.fetch_from(suite, &scratch.join(suite)) {
                Ok(root) => return Ok(root),
                Err(error) => faults.push(format!("{suite}: {error:#}")),
            }
        }
        bail!("{}", faults.join("; "))
    }

    /// Fetches the packages of a suite, and returns the directory into which they were unpacked.
    fn fetch_from(&self, suite: &str, scratch: &Path) -> Result<PathBuf> {
        let apt = Apt::new(scratch, suite)?;
        let version = apt.version("docker.io")?;
        ensure!(
            version.starts_with(&format!("{}.", self.name)),
            "the suite has docker.io {version} now, which is another release than {}; name a suite that \
             has it, or the new release, in testbed/src/docker/release.rs",
            self.name
        );
        let root = scratch.join("root");
        apt.unpack(self.packages, &root)?;
        ensure!(
            root.join("usr/sbin/dockerd").exists(),
            "the package docker.io has no dockerd"
        );
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_release() {
        for name in NAMES {
            assert_eq!(Release::named(name).unwrap().to_string(), name);
        }
        assert_eq!(Release::named(INSTALLED).unwrap(), Release::default());
        let error = Release::named("27.0").unwrap_err().to_string();
        assert!(error.ends_with("one of installed, 26.1, 28.5"), "{error}");
    }

    #[test]
    fn fetched_programs_come_first() {
        let path = search_path(&["/fetched/sbin".into(), "/fetched/bin".into()]).unwrap();
        let path = path.to_str().unwrap();
        assert!(path.starts_with("/fetched/sbin:/fetched/bin:"), "{path}");
    }
}
