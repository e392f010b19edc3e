//! Clusters of the tests, the name server on a host of them, and questions by `dig`.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::framework::{Framework, TaskSpec, TaskState};
use testbed::netns::Netns;
use testbed::process::Daemon;
use testbed::program::{Location, Program};
use testbed::{install, skip, wait};

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Time in which a name appears and vanishes, by the name server's promise.
pub const PROMISE: Duration = Duration::from_secs(1);
/// Address of the name server on its host.
pub const SERVER: &str = "127.0.0.53";
/// Domain of the names.
pub const DOMAIN: &str = "dcos.thisdcos.directory";

/// Returns the configuration of a cluster with two overlays, the first one of both families; `None`:
/// the test is skipped.
pub fn setup(test: &str, masters: usize, agents: usize) -> Option<ClusterConfig> {
    let zookeeper = match masters {
        1 => &[][..],
        _ => install::ZOOKEEPER,
    };
    let needs = [install::DNS, zookeeper].concat();
    if let Some(missing) = install::missing(&needs) {
        skip::skip(test, &missing);
        return None;
    }
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    let mut setup = ClusterConfig::new(agents, Placement::Hosts).unwrap();
    setup.masters = masters;
    setup.network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            {
                "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24,
                "subnet6": "fd01:b::/64", "prefix6": 80,
            },
            { "name": "web", "subnet": "10.64.0.0/16", "prefix": 24 },
        ],
    });
    Some(setup)
}

/// Starts a cluster, and waits until every agent has its overlays.
pub fn start(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::start(setup).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    cluster
}

/// A name server.
pub struct Server {
    pub daemon: Daemon,
    pub netns: Netns,
    address: String,
}

impl Server {
    /// Starts a name server on a host, at an address of it.
    pub fn start(
        cluster: &Cluster,
        place: &impl Location,
        address: &str,
        options: &[&str],
    ) -> Server {
        let listen = ["dns", "--listen", address];
        let command = Program::at(env!("CARGO_BIN_EXE_mesos-overlay"), place)
            .command(&[&listen, options].concat());
        let log = cluster.run().dir().join("dns.log");
        // The program is in the host's namespace already.
        let daemon = Daemon::spawn("mesos-overlay dns", command, None, &log).unwrap();
        Server {
            daemon,
            netns: place.netns().unwrap().clone(),
            address: address.to_owned(),
        }
    }

    /// Asks for a name from the server's host. Returns the answer of `dig`.
    pub fn dig(&self, name: &str, kind: &str) -> Result<Answer> {
        let mut dig = Command::new("dig");
        dig.arg(format!("@{}", self.address));
        dig.args([
            "+tries=1",
            "+time=2",
            "+noall",
            "+comments",
            "+answer",
            name,
            kind,
        ]);
        self.netns.apply_to(&mut dig);
        let output = dig.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split_once("status: ").map_or("SILENT", |(_, rest)| {
            rest.split(',').next().unwrap_or_default()
        });
        let records = text
            .lines()
            .filter(|line| !line.starts_with(';') && !line.is_empty());
        let fields = records.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let data = fields.filter(|fields| fields.get(3) == Some(&kind));
        let mut data: Vec<String> = data.map(|fields| fields[4..].join(" ")).collect();
        data.sort();
        Ok(Answer {
            status: status.to_owned(),
            data,
        })
    }

    /// Returns the addresses of a name in the domain, of both families.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        let name = format!("{name}.{DOMAIN}");
        let mut addresses = Vec::new();
        for kind in ["A", "AAAA"] {
            let answer = self.dig(&name, kind)?;
            ensure!(
                answer.status == "NOERROR",
                "{name} {kind}: {}",
                answer.status
            );
            for data in answer.data {
                addresses.push(data.parse()?);
            }
        }
        addresses.sort();
        Ok(addresses)
    }

    /// Waits until a name has these addresses, and no others.
    #[track_caller]
    pub fn wait_addresses(&self, name: &str, limit: Duration, addresses: &[IpAddr]) {
        let mut expected = addresses.to_vec();
        expected.sort();
        wait::until(&format!("{name} to have {expected:?}"), limit, || {
            let found = self.addresses(name)?;
            ensure!(found == expected, "{found:?}");
            Ok(Some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.daemon.log()));
    }

    /// Waits until an answer has this status.
    #[track_caller]
    pub fn wait_status(&self, name: &str, limit: Duration, status: &str) {
        wait::until(&format!("{name} to be {status}"), limit, || {
            let answer = self.dig(&format!("{name}.{DOMAIN}"), "A")?;
            ensure!(answer.status == status, "{answer:?}");
            Ok(Some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.daemon.log()));
    }

    /// Waits until the server knows the cluster.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.daemon.check().unwrap();
        self.wait_status("no-such-task.testbed.containerip", LIMIT, "NXDOMAIN");
    }
}

/// Answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status, such as `NOERROR`; `SILENT`: there was none in time.
    pub status: String,
    /// Data of the records of the type that was asked for, sorted.
    pub data: Vec<String>,
}

/// Launches a task, and waits until it runs.
pub fn run(framework: &Framework, spec: &TaskSpec) -> TaskState {
    framework.launch(spec, LIMIT).unwrap();
    framework.wait_running(&spec.id, LIMIT).unwrap()
}
