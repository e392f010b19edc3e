//! A real ZooKeeper, Debian's, with one server: where masters meet.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::Host;
use crate::process::Daemon;
use crate::{netns, wait};

/// Debian's; its manifest names the libraries that it needs.
pub const JAR: &str = "/usr/share/java/zookeeper.jar";

/// A server that is running; dropping it kills it.
#[derive(Debug)]
pub struct ZooKeeper {
    // Dropped first: the process ends before its network namespace loses its name.
    daemon: Daemon,
    host: Option<Host>,
    address: SocketAddr,
}

impl ZooKeeper {
    /// Starts a server with its files in `dir`, and waits until it answers.
    pub fn start(address: SocketAddr, host: Option<Host>, dir: &Path) -> Result<ZooKeeper> {
        if !Path::new(JAR).exists() {
            bail!("{JAR} is not there; on Debian or Ubuntu: apt-get install zookeeper");
        }
        let config = dir.join("zoo.cfg");
        let settings = [
            "tickTime=500".to_owned(), // the shortest session is two of these
            format!("dataDir={}", dir.join("data").display()),
            format!("clientPort={}", address.port()),
            format!("clientPortAddress={}", address.ip()),
            "admin.enableServer=false".to_owned(),
        ];
        fs::write(&config, settings.join("\n"))
            .with_context(|| format!("writing {}", config.display()))?;
        let mut java = Command::new("java");
        java.args([
            "-Xmx64m",
            "-cp",
            JAR,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        ])
        .arg(&config);
        let netns = host.as_ref().map(Host::netns);
        let daemon = Daemon::spawn("zookeeper", java, netns, &dir.join("log.txt"))?;
        let mut server = ZooKeeper {
            daemon,
            host,
            address,
        };
        server.wait()?;
        Ok(server)
    }

    /// What Mesos takes as `MESOS_ZK`.
    pub fn url(&self) -> String {
        format!("zk://{}/mesos", self.address)
    }

    /// Its host, if it has one of its own.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Leaves its process running when this is dropped.
    pub fn leave(&mut self) {
        self.daemon.leave();
    }

    fn wait(&mut self) -> Result<()> {
        let netns = self.host.as_ref().map(Host::netns);
        wait::until("ZooKeeper", Duration::from_secs(30), || {
            self.daemon.check()?;
            netns::connect(netns, self.address, Duration::from_secs(1)).map(Some)
        })?;
        Ok(())
    }
}
