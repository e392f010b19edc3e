//! A stand-in for DC/OS's file system: a mount namespace with `/opt/mesosphere` and `/pkg`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testbed::mesos::Mesos;
use testbed::{paths, skip};

use crate::checkout::copy;

/// Shell script that makes the mount namespace.
const ENTER: &str = include_str!("enter.sh");

/// Shell script with the environment of DC/OS's programs. The headers are a subset of Mesos's.
const ENVIRONMENT: &str = "export LD_LIBRARY_PATH=/opt/mesosphere/lib\n\
                           export PATH=/opt/mesosphere/bin:$PATH\n\
                           export CPPFLAGS=-DMESOS_OVERLAY_SUBSET\n";

/// A file system.
pub struct Container {
    directory: TempDir,
}

impl Container {
    /// Makes a container with the packages `mesos` and `boost-libs`. `None`: this machine cannot,
    /// and the test is reported as skipped.
    pub fn new(test: &str, mesos: &Mesos) -> Option<Container> {
        let unshare = Command::new("unshare").args(["--mount", "true"]).output();
        if !unshare.is_ok_and(|output| output.status.success()) {
            skip::skip(test, "cannot make a mount namespace");
            return None;
        }
        let container = Container {
            directory: TempDir::new().unwrap(),
        };
        for directory in [
            "mesosphere/active",
            "mesosphere/lib",
            "pkg",
            "var/lib",
            "var/log",
        ] {
            fs::create_dir_all(container.path(directory)).unwrap();
        }
        symlink("../run", container.path("var/run")).unwrap();
        fs::write(container.path("mesosphere/environment.export"), ENVIRONMENT).unwrap();
        let installed = container.package("mesos", "mesos--standin");
        let shim = paths::workspace().join("cpp_shim");
        copy(&shim.join("mesos_subset"), &installed.join("include"));
        let symbols = "symbols.inc"; // which the subset declares
        fs::copy(shim.join(symbols), installed.join("include").join(symbols)).unwrap();
        fs::create_dir(installed.join("lib")).unwrap();
        symlink(mesos.library(), installed.join("lib/libmesos.so")).unwrap();
        let boost = container.package("boost-libs", "boost-libs--standin");
        fs::create_dir(boost.join("include")).unwrap();
        Some(container)
    }

    /// Returns the path outside of the container of `mesosphere/…` (`/opt/mesosphere`), `pkg/…` or
    /// `var/…`.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Makes an empty package, which is the active one, and returns its directory.
    pub fn package(&self, name: &str, id: &str) -> PathBuf {
        let directory = self.path("mesosphere/packages").join(id);
        fs::create_dir_all(&directory).unwrap();
        let active = self.path("mesosphere/active").join(name);
        symlink(format!("/opt/mesosphere/packages/{id}"), active).unwrap();
        directory
    }

    /// Returns a command that runs a program of the container.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", ENTER, "enter"])
            .arg(self.directory.path())
            .arg(program);
        command
    }

    /// Makes a program that runs another one in the container, with its arguments.
    pub fn wrapper(&self, program: &Path) -> PathBuf {
        let (script, wrapper) = (self.path("enter.sh"), self.path("wrapper"));
        fs::write(&script, ENTER).unwrap();
        let (script, directory) = (script.display(), self.directory.path().display());
        let program = program.display();
        let text =
            format!("#!/bin/sh\nexec unshare --mount sh {script} {directory} {program} \"$@\"\n");
        fs::write(&wrapper, text).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&wrapper, executable).unwrap();
        wrapper
    }
}
