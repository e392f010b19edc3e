//! A stand-in for a checkout of DC/OS, and the program that changes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use testbed::paths;

/// Name of the SDK in the sources of the package.
pub const SDK: &str = "mesos-overlay-sdk";

/// A checkout.
pub struct Checkout {
    directory: TempDir,
}

impl Checkout {
    /// Makes a checkout without the change.
    pub fn new() -> Checkout {
        let checkout = Checkout {
            directory: TempDir::new().unwrap(),
        };
        copy(&standin().join("checkout"), checkout.path());
        checkout
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns a file of the package.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join("packages/mesos-modules").join(name)
    }

    /// Returns the content of a file of the package.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// Runs the program with these arguments behind the directory.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut apply = Command::new(paths::workspace().join("packaging/dcos/apply"));
        apply.arg(self.path()).args(arguments).output().unwrap()
    }

    /// Changes the checkout for an SDK, and returns what the program prints.
    pub fn apply(&self, sdk: &Path) -> String {
        let url = format!("https://packages.invalid/{}", name(sdk));
        let sdk = sdk.to_str().unwrap();
        let output = self.run(&["--sdk-url", &url, "--sdk-file", sdk]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Returns the directory of the stand-ins.
pub fn standin() -> PathBuf {
    paths::workspace().join("packaging/tests/dcos/standin")
}

/// Copies a directory with the permissions of its files.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(name(&path));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}
