//! Programs of crates.io that packaging runs, in `target/tools`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testbed::paths;

use crate::run;

/// A program of crates.io.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Writes Debian packages.
pub const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
};

impl Tool {
    /// Returns the path of the program, which is built if it is missing. That takes less than
    /// a minute on two cores.
    ///
    /// # Errors
    /// Cargo cannot fetch or build it; the error says where another machine's can be put.
    pub fn program(self) -> Result<PathBuf> {
        let tools = paths::target().join("tools");
        let root = tools.join(format!("{}-{}", self.name, self.version));
        let program = root.join("bin").join(self.name);
        if program.exists() {
            return Ok(program);
        }
        fs::create_dir_all(&tools).with_context(|| format!("making {}", tools.display()))?;
        let lock = File::create(tools.join("lock")).context("the lock of target/tools")?;
        lock.lock().context("locking target/tools")?;
        if !program.exists() {
            let Tool { name, version } = self;
            eprintln!("building {name} {version}");
            // Without optimisation and debugging information; it writes a package in seconds.
            let mut install = run::cargo();
            install
                .args(["install", "--quiet", "--locked", "--debug", "--no-track"])
                // Not with the machine's liblzma, whose headers would have to be there.
                .args(["--features", "static-lzma"])
                .args(["--version", version, name, "--root"])
                .arg(&root)
                .env("CARGO_TARGET_DIR", tools.join("build"))
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                // Not in the workspace, whose configuration is for the product.
                .current_dir("/");
            run::output(&mut install).with_context(|| self.way_out(&program))?;
            fs::remove_dir_all(tools.join("build")).context("removing temporary files")?;
        }
        Ok(program)
    }

    /// Returns what to do if the program cannot be built, for errors whose cause says why.
    fn way_out(self, program: &Path) -> String {
        let Tool { name, version } = self;
        format!(
            "building {name} {version} from crates.io; on a machine without it, put the program of another one, \
             made with cargo install --locked --version {version} {name}, at {}",
            program.display()
        )
    }

    /// Returns a command that runs the program, see [`Tool::program`].
    ///
    /// # Errors
    /// The program is missing and cannot be built.
    pub fn command(self) -> Result<Command> {
        Ok(Command::new(self.program()?))
    }
}
