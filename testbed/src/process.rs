//! Long-running programs in a host's network namespace, with a log file.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::{run, wait};

/// A running program; dropping it kills the process.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// Length of the log, in bytes, when the process started.
    log_start: u64,
    /// The process is not killed on drop.
    left: bool,
}

impl Daemon {
    /// Starts a program, whose output is appended to `log`.
    pub fn spawn(
        name: &str,
        mut command: Command,
        netns: Option<&Netns>,
        log: &Path,
    ) -> Result<Daemon> {
        let open = || -> Result<(File, u64)> {
            let file = OpenOptions::new().create(true).append(true).open(log)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, log_start) = open().with_context(|| format!("opening {}", log.display()))?;
        if let Some(netns) = netns {
            netns.apply_to(&mut command);
        }
        // Ctrl-C must not reach the program; the clean-up of the run ends it.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let _gate = run::creation_guard();
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Daemon {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            log_start,
            left: false,
        })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status; `None`: the process is running.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("waiting for {}", self.name))
    }

    /// Waits until the process exits.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until(&what, limit, || self.ended())
    }

    /// Checks that the process is running. The error contains the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                let log = self.log();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                bail!("{} exited ({status}):\n{tail}", self.name)
            }
        }
    }

    /// Sends SIGKILL to the process, but not to its children, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("killing {}", self.name))?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .with_context(|| format!("stopping {}", self.name))?;
        self.wait(limit)
    }

    /// Returns the log since the start of the process.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(log.len());
        String::from_utf8_lossy(&log[start..]).into_owned()
    }

    /// Leaves the process running when the daemon is dropped.
    pub fn leave(&mut self) {
        self.left = true;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.left {
            let _ = self.child.kill(); // fails if the process has exited
            let _ = self.child.wait();
        }
    }
}
