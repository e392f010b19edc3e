//! Containers without Mesos: a network namespace that CNI plugins attach to a host, with one of
//! our tasks in it. Used on machines on which Mesos cannot start containers itself.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cni::{self, Invocation};
use crate::net::{Host, NamedNetns};
use crate::netns::Netns;
use crate::process::Daemon;
use crate::run::{self, Run};
use crate::task::{PORT, TaskClient};
use crate::{cleanup, paths, wait};

/// An attached container and its task. Dropping it detaches the container.
#[derive(Debug)]
pub struct Container {
    daemon: Daemon,
    config: Value,
    call: Invocation,
    host: Netns,
    ips: Vec<IpAddr>,
    left: bool,
    named: NamedNetns,
}

impl Container {
    /// Attaches a container to a host with a CNI configuration, and starts a task in it.
    pub fn attach(run: &Run, host: &Host, name: &str, config: &Path) -> Result<Container> {
        let text = std::fs::read_to_string(config)
            .with_context(|| format!("reading {}", config.display()))?;
        let config: Value =
            serde_json::from_str(&text).with_context(|| format!("{}", config.display()))?;
        let named = NamedNetns::new(run, name)?;
        let plugins = paths::program("mesos-cni-port-mapper")?;
        let plugins = plugins.parent().context("a program without a directory")?;
        let call = Invocation {
            command: "ADD".into(),
            container: run.name(name),
            netns: named.path().display().to_string(),
            interface: "eth0".into(),
            path: format!("{}:{}", plugins.display(), cni::PLUGINS),
        };
        let _gate = run::creation_guard();
        let result = call
            .run(&config, Some(host.netns()))
            .with_context(|| format!("attaching {name}"))?;
        let ips = cni::ips(&result)?;
        ensure!(
            !ips.is_empty(),
            "attaching {name} gave no address: {result}"
        );
        let mut command = Command::new(paths::program("overlay-test-executor")?);
        command
            .args(["--alone", &format!("[::]:{PORT}")])
            .env(cleanup::RUN_VARIABLE, run.id());
        let log = run.dir().join(format!("{name}.txt"));
        let daemon = Daemon::spawn(name, command, Some(named.netns()), &log)?;
        let host = host.netns().clone();
        let mut this = Container {
            daemon,
            config,
            call,
            host,
            ips,
            left: false,
            named,
        };
        this.wait_listening()?;
        Ok(this)
    }

    fn wait_listening(&mut self) -> Result<()> {
        let client = self.client();
        wait::until(
            "the container's task to listen",
            Duration::from_secs(10),
            || {
                self.daemon.check()?;
                client.report().map(|_| Some(()))
            },
        )
    }

    /// Returns the container's network namespace.
    pub fn netns(&self) -> &Netns {
        self.named.netns()
    }

    /// Returns the address on the network; the IPv4 one if there are both.
    pub fn ip(&self) -> IpAddr {
        self.ips[0]
    }

    /// Returns all addresses on the network, IPv4 first.
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    /// Returns a client of the task, which connects from the host.
    pub fn client(&self) -> TaskClient {
        self.client_at(self.ip())
    }

    /// Returns a client of the task at one of its addresses, which connects from the host.
    pub fn client_at(&self, ip: IpAddr) -> TaskClient {
        TaskClient::new(SocketAddr::new(ip, PORT), Some(self.host.clone()))
    }

    /// Leaves the container attached and its task running.
    pub fn leave(mut self) {
        self.left = true;
        self.daemon.leave();
        std::mem::forget(self);
    }

    /// Detaches the container, which releases its address.
    pub fn detach(mut self) -> Result<()> {
        self.left = true;
        self.del()
    }

    fn del(&self) -> Result<()> {
        let call = Invocation {
            command: "DEL".into(),
            ..self.call.clone()
        };
        match call.run(&self.config, Some(&self.host)) {
            Ok(_) => Ok(()),
            Err(failure) => bail!("detaching {}: {failure}", self.call.container),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.left
            && let Err(error) = self.del()
        {
            eprintln!("{error:#}");
        }
    }
}
