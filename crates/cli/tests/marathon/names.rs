//! The name server, asked by busybox's `nslookup` from a host of the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::install::BUSYBOX;
use testbed::netns::Netns;
use testbed::node::Node;
use testbed::process::Daemon;
use testbed::program::Program;
use testbed::wait;

use crate::bed::{Bed, LIMIT, netns};
use crate::readme::{On, Row};

/// Domain of all names.
const DOMAIN: &str = "dcos.thisdcos.directory";

/// A running name server on the master's host.
pub struct NameServer {
    _daemon: Daemon,
    address: IpAddr,
}

impl NameServer {
    /// Starts the server.
    pub fn start(bed: &Bed) -> NameServer {
        let master: &Node = &bed.cluster.master;
        let program = Program::at(env!("CARGO_BIN_EXE_mesos-overlay"), master);
        let listen = master.ip();
        let mut command = program.command(&["dns", "--listen", &listen, "--http", "off"]);
        command.args(["--master", &master.address().to_string()]);
        command.env(testbed::cleanup::RUN_VARIABLE, bed.cluster.run().id());
        let log = bed.cluster.run().dir().join("dns.txt");
        NameServer {
            _daemon: Daemon::spawn("mesos-overlay dns", command, None, &log).unwrap(),
            address: listen.parse().unwrap(),
        }
    }

    /// Returns the addresses of a name in [`DOMAIN`], as seen from a host.
    ///
    /// # Errors
    /// The name has none, or nobody answers.
    pub fn ask(&self, name: &str, from: &Netns) -> Result<BTreeSet<IpAddr>> {
        let mut nslookup = Command::new(BUSYBOX);
        nslookup.args(["nslookup", &format!("{name}.{DOMAIN}")]);
        nslookup.arg(self.address.to_string());
        from.apply_to(&mut nslookup);
        let output = nslookup.output().context("running nslookup")?;
        let said = String::from_utf8_lossy(&output.stdout);
        // Behind the address of the server there is an empty line.
        let (_, answers) = said.split_once("\n\n").unwrap_or_default();
        let addresses: BTreeSet<IpAddr> = answers
            .lines()
            .filter_map(|line| line.strip_prefix("Address: ")?.trim().parse().ok())
            .collect();
        ensure!(!addresses.is_empty(), "{name}: {said}");
        Ok(addresses)
    }

    /// Waits until an example's names have its addresses; `networks` are those of its containers by
    /// network.
    #[track_caller]
    pub fn wait_names(&self, bed: &Bed, row: &Row, networks: &[(On, Vec<IpAddr>)]) {
        let agent = BTreeSet::from([bed.agent().ip().parse().unwrap()]);
        let containers: BTreeSet<IpAddr> =
            networks.iter().flat_map(|(_, ips)| ips).copied().collect();
        let auto = if row.port.1 { &agent } else { &containers };
        let name = |kind: &str| format!("{}.marathon.{kind}", row.task);
        let mut expected = vec![
            (name("containerip"), containers.clone()),
            (name("agentip"), agent.clone()),
            (name("autoip"), auto.clone()),
        ];
        for (on, ips) in networks {
            if let Some(network) = on.label() {
                let ips = ips.iter().copied().collect();
                expected.push((name(&format!("{network}.overlay")), ips));
            }
        }
        for (name, addresses) in expected {
            wait::until(&format!("the addresses of {name}"), LIMIT, || {
                let answer = self.ask(&name, netns(&bed.cluster.agents[1]))?;
                ensure!(answer == addresses, "{answer:?} are not {addresses:?}");
                Ok(Some(()))
            })
            .unwrap();
        }
    }
}
