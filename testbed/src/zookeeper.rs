//! A ZooKeeper server (Debian's package), through which several masters elect a leader.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::Host;
use crate::process::Daemon;
use crate::{netns, wait};

/// The server's archive in Debian's package. Its manifest names the libraries that it needs.
pub const JAR: &str = "/usr/share/java/zookeeper.jar";

/// A running server; dropping it kills the process.
#[derive(Debug)]
pub struct ZooKeeper {
    // Dropped first: the process must end before its network namespace loses its name.
    daemon: Daemon,
    host: Option<Host>,
    address: SocketAddr,
}

impl ZooKeeper {
    /// Starts a server with its files in `dir`, and waits until it answers.
    pub fn start(address: SocketAddr, host: Option<Host>, dir: &Path) -> Result<ZooKeeper> {
        if !Path::new(JAR).exists() {
            bail!("{JAR} does not exist; on Debian or Ubuntu: apt-get install zookeeper");
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

    /// Returns the URL for `MESOS_ZK`, with a login `user:password` if there is one.
    pub fn url(&self, login: Option<&str>) -> String {
        let login = login.map(|login| format!("{login}@")).unwrap_or_default();
        format!("zk://{login}{}/mesos", self.address)
    }

    /// Returns who may do what with a node of the server, as its client prints it.
    pub fn permissions(&self, node: &str) -> Result<String> {
        let output = Command::new("java")
            .args(["-cp", JAR, "org.apache.zookeeper.ZooKeeperMain"])
            .args(["-server", &self.address.to_string(), "getAcl", node])
            .output()
            .context("running ZooKeeper's client")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns the host; `None` on loopback.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Leaves the process running when the server is dropped.
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
