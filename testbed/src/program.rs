//! The operators' program, run on a host of a cluster.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use serde_json::Value;

use crate::net::Host;
use crate::netns::Netns;
use crate::node::Node;
use crate::paths;

/// User and group without rights.
const NOBODY: u32 = 65534;

/// A place to run the program: the host of a node, or a host without one.
pub trait Location {
    /// Returns the network namespace; `None`: this process's own.
    fn netns(&self) -> Option<&Netns>;
}

impl Location for Node {
    fn netns(&self) -> Option<&Netns> {
        self.host().map(Host::netns)
    }
}

impl Location for Host {
    fn netns(&self) -> Option<&Netns> {
        Some(Host::netns(self))
    }
}

impl Location for Netns {
    fn netns(&self) -> Option<&Netns> {
        Some(self)
    }
}

/// The program `mesos-overlay` on a host.
///
/// ```no_run
/// # use testbed::{cluster::*, program::Program};
/// # fn main() -> anyhow::Result<()> {
/// # let cluster = Cluster::start(&ClusterConfig::new(2, Placement::Hosts)?)?;
/// // In tests of crates/cli: env!("CARGO_BIN_EXE_mesos-overlay").
/// let program = Program::at(env!("CARGO"), &cluster.agents[0]);
/// let outcome = program.run(&["status"])?;
/// assert!(outcome.status.success(), "{outcome}");
/// assert!(program.codes(&["status"])?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    binary: PathBuf,
    netns: Option<Netns>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    as_nobody: bool,
}

impl Program {
    /// Returns the program in the build directory, on a host. Tests of other crates than the
    /// program's find it where `cargo` put it.
    ///
    /// # Errors
    /// It is not built.
    pub fn on(place: &impl Location) -> Result<Program> {
        Ok(Program::at(paths::program("mesos-overlay")?, place))
    }

    /// Returns the program at a path, on a host.
    pub fn at(binary: impl AsRef<Path>, place: &impl Location) -> Program {
        Program {
            binary: binary.as_ref().to_owned(),
            netns: place.netns().cloned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            as_nobody: false,
        }
    }

    /// Adds options to all runs, behind their own arguments.
    pub fn with(mut self, arguments: &[&str]) -> Program {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Adds a variable of the environment to all runs.
    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it as a user without rights.
    pub fn as_nobody(mut self) -> Program {
        self.as_nobody = true;
        self
    }

    /// Returns the command, for tests that need more than its outcome.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(&self.arguments);
        // The variables of whoever runs the tests must not lead to other masters.
        for variable in ["MESOS_MASTER", "RUST_LOG", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(netns) = &self.netns {
            netns.apply_to(&mut command);
        }
        if self.as_nobody {
            let become_nobody = || {
                setgroups(&[])?;
                setgid(Gid::from_raw(NOBODY))?;
                setuid(Uid::from_raw(NOBODY))?;
                Ok(())
            };
            // SAFETY: between fork and exec only system calls are made.
            unsafe { command.pre_exec(become_nobody) };
        }
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Outcome> {
        let output = self.command(arguments).output();
        let output = output.with_context(|| format!("running {}", self.binary.display()))?;
        Ok(Outcome {
            status: output.status,
            stdout: String::from_utf8(output.stdout).context("standard output")?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that prints JSON, and returns that.
    ///
    /// # Errors
    /// It cannot be started, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.ask(arguments)?.json()
    }

    /// Runs a command that prints JSON, and returns the codes of its findings.
    ///
    /// # Errors
    /// It cannot be started, prints something else, or its exit status is not that of its findings.
    pub fn codes(&self, arguments: &[&str]) -> Result<BTreeSet<String>> {
        self.ask(arguments)?.codes()
    }

    /// Runs a command with JSON as the form of its output.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<Outcome> {
        let arguments = [arguments, &["-o", "json"]].concat();
        self.run(&arguments)
    }
}

/// Outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Returns the exit status as a number; `None`: a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns the JSON on standard output.
    ///
    /// # Errors
    /// There is something else; the error has standard error.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self}"))
    }

    /// Returns the codes of the findings in the JSON on standard output.
    ///
    /// # Errors
    /// There is something else, or the exit status does not tell whether an error was found.
    pub fn codes(&self) -> Result<BTreeSet<String>> {
        let json = self.json()?;
        let findings = json["findings"].as_array().context("no findings")?;
        let is_error = findings
            .iter()
            .any(|finding| finding["severity"] == "error");
        ensure!(json["ok"] == !is_error, "\"ok\" is wrong: {self}");
        ensure!(
            self.code() == Some(i32::from(is_error)),
            "the exit status is wrong: {self}"
        );
        let codes = findings
            .iter()
            .filter_map(|finding| finding["code"].as_str());
        Ok(codes.map(str::to_owned).collect())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}
