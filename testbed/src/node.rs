//! A Mesos master or agent, which tests start, stop, kill and query.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::http::Client;
use crate::mesos::Mesos;
use crate::net::Host;
use crate::process::Daemon;
use crate::wait;

/// Role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Mesos master.
    Master,
    /// A Mesos agent.
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Agent => "agent",
        })
    }
}

/// A Mesos master or agent, which may be running.
#[derive(Debug)]
pub struct Node {
    // Dropped first: the process must end before its network namespace loses its name.
    daemon: Option<Daemon>,
    name: String,
    role: Role,
    program: PathBuf,
    address: SocketAddr,
    host: Option<Host>,
    dir: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Node {
    /// Makes a node, which is not started yet.
    pub fn new(
        name: &str,
        role: Role,
        mesos: &Mesos,
        address: SocketAddr,
        host: Option<Host>,
        dir: &Path,
    ) -> Node {
        Node {
            daemon: None,
            name: name.to_owned(),
            role,
            program: mesos.launcher(),
            address,
            host,
            dir: dir.to_owned(),
            environment: BTreeMap::new(),
        }
    }

    /// Returns the name: `master`, `agent1` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address of libprocess.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the IP address, which is also the host name in Mesos.
    pub fn ip(&self) -> String {
        self.address.ip().to_string()
    }

    /// Returns the host; `None` on loopback.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Returns the directory of the node's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the log file, which all processes of the node append to.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log.txt")
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.environment.insert(name.to_owned(), value.to_string());
    }

    /// Changes the program for the next start. It gets the same arguments.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Changes the library of the modules for the next start.
    pub fn set_module(&mut self, library: &Path) -> Result<()> {
        let modules = self
            .environment
            .get("MESOS_MODULES")
            .context("the node has no modules")?;
        let mut modules: Value = serde_json::from_str(modules).context("MESOS_MODULES")?;
        modules["libraries"][0]["file"] = library.display().to_string().into();
        self.set("MESOS_MODULES", modules);
        Ok(())
    }

    /// Changes the module's configuration for the next start.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let file = self.dir.join(format!("{}.json", self.role));
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut config =
            serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))?;
        change(&mut config);
        std::fs::write(&file, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Returns an HTTP client for the node, which connects from the node's own host.
    pub fn client(&self) -> Client {
        Client::new(
            self.address,
            self.host.as_ref().map(|host| host.netns().clone()),
        )
    }

    /// Returns `/overlay-master/state` of a master, without ages.
    ///
    /// # Errors
    /// The master does not serve.
    pub fn overlay_state(&self) -> Result<Value> {
        Ok(without_ages(
            self.client().get("/overlay-master/state")?.json()?,
        ))
    }

    /// Starts the process.
    ///
    /// # Errors
    /// The node is running already, or its program cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "{} is running already", self.name);
        let mut command = Command::new(&self.program);
        // Whoever looks for Mesos on a host, such as the operators' program, knows it by this name.
        command
            .arg0(format!("mesos-{}", self.role))
            .arg(self.role.to_string())
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.dir);
        for name in ["PATH", "HOME", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let netns = self.host.as_ref().map(Host::netns);
        self.daemon = Some(Daemon::spawn(&self.name, command, netns, &self.log_file())?);
        Ok(())
    }

    /// Ends the process with SIGKILL. Containers live on.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon
            .take()
            .with_context(|| format!("{} is not running", self.name))?
            .kill()
    }

    /// Kills the process and starts a new one.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// Ends the process with SIGTERM, within 10 seconds.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut daemon = self
            .daemon
            .take()
            .with_context(|| format!("{} is not running", self.name))?;
        daemon.terminate(Duration::from_secs(10))
    }

    /// Waits until the process exits by itself.
    pub fn wait_ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.daemon
            .as_mut()
            .with_context(|| format!("{} is not running", self.name))?
            .wait(limit)
    }

    /// Checks that the process has not exited unexpectedly. The error contains the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.as_mut().map_or(Ok(()), Daemon::check)
    }

    /// Returns the process id; `None`: the node is not running.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Returns the log since the last start.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Prints the end of the log file, without lines that every start has.
    pub fn show_log(&self) {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let noise = ["Flags at startup", "HTTP GET for"];
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !noise.iter().any(|n| line.contains(n)))
            .collect();
        eprintln!("==> end of the log of {}:", self.name);
        lines[lines.len().saturating_sub(40)..]
            .iter()
            .for_each(|line| eprintln!("{line}"));
    }

    /// Waits for a log line since the last start that contains `text`, and returns the line.
    pub fn wait_log(&mut self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("{:?} in the log of {}", text, self.name);
        wait::until(&what, limit, || {
            let found = self
                .log()
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            if found.is_none() {
                self.check()?;
            }
            Ok(found)
        })
    }

    /// Returns the address if it is IPv4.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address.ip() {
            std::net::IpAddr::V4(ip) => Some(ip),
            std::net::IpAddr::V6(_) => None,
        }
    }

    /// Leaves the process running when the node is dropped.
    pub fn leave(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.leave();
        }
    }
}

/// Removes members of a master's state that change without a change of the cluster: ages and
/// last errors.
pub fn without_ages(mut state: Value) -> Value {
    for agent in state["agents"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        agent.remove("since_seconds");
        agent.remove("last_error");
    }
    state
}
