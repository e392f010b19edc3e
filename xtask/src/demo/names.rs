//! The name server of the demo, and its answers in a container.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use packaging::release;
use serde_json::json;
use testbed::cleanup::RUN_VARIABLE;
use testbed::cluster::Cluster;
use testbed::process::Daemon;
use testbed::program::Program;
use testbed::wait;

use super::tasks::Task;

/// Name of the framework that launches the tasks.
const FRAMEWORK: &str = "testbed";
/// Name of the tasks' network, in Mesos and in their names.
const NETWORK: &str = "dcos";
/// Domain of the names.
const DOMAIN: &str = "dcos.thisdcos.directory";

/// A running name server on the master's host.
pub struct Names {
    daemon: Daemon,
}

/// Makes containers of Mesos on the overlay ask the name server, from the next start of the agents on.
pub fn configure(cluster: &mut Cluster) {
    let dns = json!({ "mesos": [{
        "network_mode": "CNI", "network_name": NETWORK, "dns": { "nameservers": [cluster.master.ip()] },
    }] });
    for agent in &mut cluster.agents {
        agent.set("MESOS_DEFAULT_CONTAINER_DNS", &dns);
    }
}

/// Returns the name of a task's addresses.
pub fn of(task: &str) -> String {
    format!("{task}.{FRAMEWORK}.containerip.{DOMAIN}")
}

impl Names {
    /// Starts the server, without waiting until it answers.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(cluster: &Cluster) -> Result<Names> {
        let master = &cluster.master;
        let address = master.address().ip();
        let program = Program::at(release::paths().program, master);
        let mut command = program.command(&["dns", "--http", "off"]);
        command
            .args(["--listen", &SocketAddr::new(address, 53).to_string()])
            .args(["--master", &master.address().to_string()])
            .env(RUN_VARIABLE, cluster.run().id());
        let log = cluster.run().dir().join("dns.txt");
        let daemon = Daemon::spawn("the name server", command, None, &log)?;
        Ok(Names { daemon })
    }

    /// Lets the first task resolve the names of all, as the C library does it in its container, and
    /// returns a table of them.
    ///
    /// # Errors
    /// A name does not have the address of its task within the limit.
    pub fn ask(&self, tasks: &[&Task], limit: Duration) -> Result<String> {
        let asking = tasks.first().context("no task to ask from")?;
        let mut table = String::new();
        for task in tasks {
            let name = of(&task.name);
            let own = task.address.ip();
            wait::until(&format!("the address of {name}"), limit, || {
                let found = asking.client.resolve(&name)?;
                ensure!(found == [own], "it is {found:?}");
                Ok(Some(()))
            })?;
            let _ = writeln!(table, "           {name}  {own}"); // a String accepts everything
        }
        Ok(table)
    }

    /// Leaves the server running.
    pub fn leave(mut self) {
        self.daemon.leave();
    }
}
