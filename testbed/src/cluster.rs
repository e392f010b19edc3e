//! Clusters of real Mesos masters and agents with our modules, each on a host of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};

use crate::mesos::Mesos;
use crate::net::{Host, Underlay};
use crate::node::{Node, Role};
use crate::run::Run;
use crate::zookeeper::ZooKeeper;
use crate::{cleanup, cni, paths, wait};

/// Port of the masters.
pub const MASTER_PORT: u16 = 5050;
/// Port of ZooKeeper.
const ZOOKEEPER_PORT: u16 = 2181;
/// Executors that agents start by name ([`crate::executor`]).
const EXECUTORS: [&str; 3] = [
    "mesos-executor",
    "mesos-docker-executor",
    "mesos-default-executor",
];
/// Port of the agents.
pub const AGENT_PORT: u16 = 5051;

/// Placement of masters and agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A network namespace for each. Needs the rights to make namespaces.
    Hosts,
    /// The machine's own network, with an address 127.x.y.z for each. Needs no rights.
    Loopback,
}

/// Launcher of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Mesos's `linux` launcher and its isolator `network/cni`. Needs root and the cgroup v1
    /// freezer.
    Linux,
    /// Mesos's `posix` launcher: plain processes.
    Posix,
}

/// Configuration of a cluster.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Number of agents.
    pub agents: usize,
    /// Number of masters. With more than one, ZooKeeper is started too and elects the leader.
    pub masters: usize,
    /// ZooKeeper elects the leader also of one master, which is then configured as one of several.
    pub zookeeper: bool,
    /// Placement of all nodes.
    pub place: Placement,
    /// Launcher of the agents.
    pub launcher: Launcher,
    /// Library with our modules; `None`: Mesos without modules.
    pub module: Option<PathBuf>,
    /// Value of `network` in the master module's configuration.
    pub network: Value,
    /// Members that are added to every agent module's configuration.
    pub agent_config: Value,
    /// User and password for ZooKeeper, `user:password`.
    pub zookeeper_login: Option<String>,
    /// Environment variables of masters and agents, in addition to the usual ones.
    pub environment: Vec<(String, String)>,
}

impl ClusterConfig {
    /// Returns the configuration of the demo: one master, `agents` agents, and DC/OS's network.
    pub fn new(agents: usize, place: Placement) -> Result<ClusterConfig> {
        let launcher = match place {
            Placement::Hosts if freezer().is_some() => Launcher::Linux,
            _ => Launcher::Posix,
        };
        // On loopback the network is the machine's own, which must not be configured.
        let agent_config = match place {
            Placement::Hosts => json!({ "backend": "internal" }),
            Placement::Loopback => json!({ "backend": "external", "firewall": "none" }),
        };
        Ok(ClusterConfig {
            agents,
            masters: 1,
            zookeeper: false,
            place,
            launcher,
            module: Some(paths::module()?),
            network: default_network(),
            agent_config,
            zookeeper_login: None,
            environment: Vec::new(),
        })
    }
}

/// Returns a network with one overlay, `dcos`, with DC/OS's values.
pub fn default_network() -> Value {
    json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{ "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24 }],
    })
}

/// Returns the parent directory of the cgroup v1 hierarchies; `None`: there is no usable
/// freezer.
pub fn freezer() -> Option<PathBuf> {
    let hierarchies = cleanup::cgroup_hierarchies();
    // Root of a user namespace sees the freezer, but may not write to it.
    let usable =
        |path: &&PathBuf| path.ends_with("freezer") && access(*path, AccessFlags::W_OK).is_ok();
    let freezer = hierarchies.iter().find(usable)?;
    freezer.parent().map(Path::to_owned)
}

/// A running cluster. Dropping it takes it down.
#[derive(Debug)]
pub struct Cluster {
    // Fields are in the order in which they are dropped.
    /// The agents.
    pub agents: Vec<Node>,
    /// The first master.
    pub master: Node,
    /// The other masters.
    pub other_masters: Vec<Node>,
    zookeeper: Option<ZooKeeper>,
    underlay: Option<Underlay>,
    run: Run,
}

impl Cluster {
    /// Prepares a cluster and starts all nodes.
    pub fn start(setup: &ClusterConfig) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(setup)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts all masters and agents.
    pub fn start_all(&mut self) -> Result<()> {
        self.masters().try_for_each(Node::start)?;
        self.agents.iter_mut().try_for_each(Node::start)
    }

    /// Makes the hosts and files of a cluster, and starts ZooKeeper, but no nodes.
    pub fn prepare(setup: &ClusterConfig) -> Result<Cluster> {
        let mesos = Mesos::get()?;
        let run = Run::new()?;
        let underlay = match setup.place {
            Placement::Hosts => Some(Underlay::new(&run)?),
            Placement::Loopback => None,
        };
        let builder = Builder {
            setup,
            mesos: &mesos,
            run: &run,
            underlay: underlay.as_ref(),
        };
        let zookeeper = if setup.masters > 1 || setup.zookeeper {
            Some(builder.zookeeper()?)
        } else {
            None
        };
        let login = setup.zookeeper_login.as_deref();
        let zk = zookeeper.as_ref().map(|server| server.url(login));
        let master = builder.master(1, zk.as_deref())?;
        let other_masters =
            (2..=u8::try_from(setup.masters)?).map(|number| builder.master(number, zk.as_deref()));
        let other_masters = other_masters.collect::<Result<Vec<_>>>()?;
        let leader = zk.unwrap_or_else(|| master.address().to_string());
        let agents = (1..=setup.agents).map(|number| builder.agent(number, &leader));
        let agents = agents.collect::<Result<Vec<_>>>()?;
        Ok(Cluster {
            agents,
            master,
            other_masters,
            zookeeper,
            underlay,
            run,
        })
    }

    /// Returns all masters.
    pub fn masters(&mut self) -> impl Iterator<Item = &mut Node> {
        std::iter::once(&mut self.master).chain(&mut self.other_masters)
    }

    /// Waits for a leading master, whose overlay master serves, and returns it.
    pub fn wait_leader(&mut self, limit: Duration) -> Result<&mut Node> {
        let index = wait::until("a leading master", limit, || {
            self.check()?;
            let running = self
                .masters()
                .enumerate()
                .filter(|(_, master)| master.pid().is_some());
            let serves = |master: &Node| {
                master
                    .client()
                    .get("/overlay-master/state")
                    .is_ok_and(|reply| reply.status == 200)
            };
            let leading: Vec<usize> = running
                .filter(|(_, m)| serves(m))
                .map(|(index, _)| index)
                .collect();
            ensure!(leading.len() < 2, "{} masters serve at once", leading.len());
            Ok(leading.first().copied())
        })?;
        self.masters().nth(index).context("masters do not vanish")
    }

    /// Waits until every master's replica of the overlays' log has recovered. A new log serves as
    /// soon as a majority has; if one of these died then, the last replica could not join.
    pub fn wait_replicas(&mut self, limit: Duration) -> Result<()> {
        for master in self.masters() {
            wait::until(&format!("the replica of {}", master.name()), limit, || {
                let metrics = master.client().get("/metrics/snapshot")?.json()?;
                Ok((metrics["overlay/master/log/recovered"] == 1.0).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Returns the ZooKeeper server; `None`: there is one master, and no need of a server.
    pub fn zookeeper(&self) -> Option<&ZooKeeper> {
        self.zookeeper.as_ref()
    }

    /// Returns the run that the cluster belongs to.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Returns the underlay; `None` on loopback.
    pub fn underlay(&self) -> Option<&Underlay> {
        self.underlay.as_ref()
    }

    /// Waits until all agents are registered with the first master.
    pub fn wait_mesos(&mut self, limit: Duration) -> Result<()> {
        let expected = self.agents.len() as f64;
        wait::until("Mesos's agents to register", limit, || {
            self.check()?;
            let state = self.master.client().get("/master/state")?.json()?;
            // Mesos writes all its numbers as floating point.
            let active = state["activated_slaves"].as_f64().unwrap_or(0.0);
            ensure!(
                active >= expected,
                "{active} of {expected} agents are registered"
            );
            Ok(Some(()))
        })
    }

    /// Waits until every agent reports `STATUS_OK` for all its overlays.
    pub fn wait_overlays(&mut self, limit: Duration) -> Result<()> {
        for index in 0..self.agents.len() {
            let name = self.agents[index].name().to_owned();
            wait::until(&format!("the overlays of {name}"), limit, || {
                self.check()?;
                let state = self.agents[index]
                    .client()
                    .get("/overlay-agent/overlay")?
                    .json()?;
                let overlays = state["overlays"].as_array().cloned().unwrap_or_default();
                let good = overlays
                    .iter()
                    .all(|overlay| overlay["state"]["status"] == "STATUS_OK");
                ensure!(good && !overlays.is_empty(), "{state}");
                Ok(Some(()))
            })?;
        }
        Ok(())
    }

    /// Checks that no master or agent has exited unexpectedly.
    ///
    /// # Errors
    /// One has; the error contains the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.masters().try_for_each(Node::check)?;
        self.agents.iter_mut().try_for_each(Node::check)
    }

    /// Leaves the cluster running until [`crate::run::remove_kept`]. Returns its directory.
    pub fn keep(mut self) -> Result<PathBuf> {
        self.run.keep()?;
        self.masters().for_each(Node::leave);
        self.zookeeper.iter_mut().for_each(ZooKeeper::leave);
        self.agents.iter_mut().for_each(Node::leave);
        // Dropping the hosts would remove the namespaces.
        let dir = self.run.dir().to_owned();
        std::mem::forget(self);
        Ok(dir)
    }
}

impl Drop for Cluster {
    /// Prints the end of the logs if a test failed, since they are removed with the run.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.masters() {
                node.show_log();
            }
            self.agents.iter().for_each(Node::show_log);
        }
    }
}

/// Builder of the nodes of a cluster.
struct Builder<'a> {
    setup: &'a ClusterConfig,
    mesos: &'a Mesos,
    run: &'a Run,
    underlay: Option<&'a Underlay>,
}

impl Builder<'_> {
    fn zookeeper(&self) -> Result<ZooKeeper> {
        const NUMBER: u8 = 250;
        let dir = self.directory("zookeeper")?;
        let (ip, host) =
            self.address_and_host("zookeeper", Ipv4Addr::new(10, 77, 0, NUMBER), NUMBER.into())?;
        ZooKeeper::start((ip, ZOOKEEPER_PORT).into(), host, &dir)
    }

    /// Makes master number 1, 2 and so on; `zk` is the URL of ZooKeeper if there is one.
    fn master(&self, number: u8, zk: Option<&str>) -> Result<Node> {
        let name = if number == 1 {
            "master".to_owned()
        } else {
            format!("master{number}")
        };
        let dir = self.directory(&name)?;
        let config =
            json!({ "replicated_log_dir": dir.join("log"), "network": self.setup.network });
        let ip = Ipv4Addr::new(10, 77, 0, number);
        // On loopback the numbers of agents follow that of the first master.
        let address = if number == 1 {
            1
        } else {
            200 + usize::from(number)
        };
        let mut node = self.node(&name, Role::Master, MASTER_PORT, ip, address, &dir)?;
        if let Some(zk) = zk {
            node.set("MESOS_ZK", zk);
            node.set("MESOS_QUORUM", self.setup.masters / 2 + 1);
            // Five clients of ZooKeeper (three of Mesos, two of ours) each block a worker thread
            // while they connect, and another thread must serve them. Mesos's default is >= 8.
            node.set("LIBPROCESS_NUM_WORKER_THREADS", 8);
        }
        node.set("MESOS_ALLOCATION_INTERVAL", "100ms");
        // Agents that know their master by address connect again only after this many missed
        // pings; by default that takes 75 seconds.
        node.set("MESOS_AGENT_PING_TIMEOUT", "1secs");
        node.set("MESOS_MAX_AGENT_PING_TIMEOUTS", "5");
        self.module(&mut node, "master", &config)?;
        Ok(node)
    }

    /// Makes agent number 1, 2 and so on, with `leader` as its `--master`.
    fn agent(&self, number: usize, leader: &str) -> Result<Node> {
        let name = format!("agent{number}");
        let dir = self.directory(&name)?;
        let [high, low] = u16::try_from(number)
            .context("too many agents")?
            .to_be_bytes();
        let ip = Ipv4Addr::new(10, 77, 1 + high, low);
        let mut node = self.node(&name, Role::Agent, AGENT_PORT, ip, number + 1, &dir)?;
        node.set("MESOS_MASTER", leader);
        node.set("MESOS_RUNTIME_DIR", dir.join("run").display());
        node.set("MESOS_LAUNCHER_DIR", self.mesos.libexec().display());
        node.set("MESOS_SWITCH_USER", "false");
        node.set(
            "MESOS_RESOURCES",
            "cpus:4;mem:4096;disk:4096;ports:[31000-32000]",
        );
        node.set("MESOS_REGISTRATION_BACKOFF_FACTOR", "100ms");
        for (flag, name) in [
            ("FETCHER_CACHE", "fetcher"),
            ("DOCKER_STORE", "docker"),
            ("APPC_STORE", "appc"),
        ] {
            node.set(&format!("MESOS_{flag}_DIR"), dir.join(name).display());
        }
        let cni_dir = dir.join("cni");
        fs::create_dir_all(&cni_dir)?;
        if self.setup.launcher == Launcher::Linux {
            self.linux_launcher(&mut node, &cni_dir)?;
        }
        let mut config = json!({
            "cni_dir": cni_dir,
            "cni_data_dir": dir.join("cni-data"),
            "network_config": {
                "allocate_subnet": true, "mesos_bridge": true, "docker_bridge": false, "overlay_mtu": 1420,
                "enable_ipv6": true,
            },
            // Never the machine's own engine, whatever a test configures.
            "docker_socket": dir.join("docker.sock"),
            "max_configuration_attempts": 4,
        });
        for (key, value) in self.setup.agent_config.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.module(&mut node, "agent", &config)?;
        Ok(node)
    }

    fn linux_launcher(&self, node: &mut Node, cni_dir: &Path) -> Result<()> {
        let hierarchies = freezer().context("there is no cgroup v1 freezer")?;
        let plugins = self.run.dir().join("cni-plugins");
        fs::create_dir_all(&plugins)?;
        let link = plugins.join("mesos-cni-port-mapper");
        if !link.exists() {
            std::os::unix::fs::symlink(paths::program("mesos-cni-port-mapper")?, &link)?;
        }
        node.set("MESOS_LAUNCHER", "linux");
        node.set("MESOS_LAUNCHER_DIR", self.launcher_dir()?.display());
        node.set("MESOS_ISOLATION", "network/cni,posix/cpu,posix/mem");
        node.set("MESOS_CGROUPS_HIERARCHY", hierarchies.display());
        node.set("MESOS_CGROUPS_ROOT", self.run.name(node.name()));
        node.set("MESOS_NETWORK_CNI_CONFIG_DIR", cni_dir.display());
        node.set(
            "MESOS_NETWORK_CNI_PLUGINS_DIR",
            format!("{}:{}", plugins.display(), cni::PLUGINS),
        );
        Ok(())
    }

    /// Returns a directory with `mesos-containerizer` and executors of ours, for all agents.
    fn launcher_dir(&self) -> Result<PathBuf> {
        let dir = self.run.dir().join("launcher");
        if dir.exists() {
            return Ok(dir);
        }
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let containerizer = self.mesos.libexec().join("mesos-containerizer");
        let mut programs = vec![("mesos-containerizer", containerizer)];
        for name in EXECUTORS {
            programs.push((name, paths::program(name)?));
        }
        for (name, program) in programs {
            std::os::unix::fs::symlink(program, dir.join(name))
                .with_context(|| format!("making {name}"))?;
        }
        Ok(dir)
    }

    fn directory(&self, name: &str) -> Result<PathBuf> {
        let dir = self.run.dir().join(name);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    fn node(
        &self,
        name: &str,
        role: Role,
        port: u16,
        ip: Ipv4Addr,
        number: usize,
        dir: &Path,
    ) -> Result<Node> {
        let (ip, host) = self.address_and_host(name, ip, number)?;
        let mut node = Node::new(
            name,
            role,
            self.mesos,
            SocketAddr::from((ip, port)),
            host,
            dir,
        );
        for (name, value) in [
            (cleanup::RUN_VARIABLE, self.run.id().to_owned()),
            ("LIBPROCESS_IP", ip.to_string()),
            ("LIBPROCESS_PORT", port.to_string()),
            ("LIBPROCESS_NUM_WORKER_THREADS", "4".into()),
            ("MESOS_IP", ip.to_string()),
            ("MESOS_PORT", port.to_string()),
            ("MESOS_HOSTNAME", ip.to_string()),
            ("MESOS_WORK_DIR", dir.join("work").display().to_string()),
            ("MESOS_LAUNCHER", "posix".into()),
            ("MESOS_SYSTEMD_ENABLE_SUPPORT", "false".into()),
        ] {
            node.set(name, value);
        }
        for (name, value) in &self.setup.environment {
            node.set(name, value);
        }
        Ok(node)
    }

    /// Makes a host with address `ip`, or returns loopback address number `number`.
    fn address_and_host(
        &self,
        name: &str,
        ip: Ipv4Addr,
        number: usize,
    ) -> Result<(Ipv4Addr, Option<Host>)> {
        match self.underlay {
            Some(underlay) => Ok((ip, Some(underlay.host(self.run, name, ip)?))),
            None => Ok((loopback(self.run, number)?, None)),
        }
    }

    /// Makes the node load our module with a configuration.
    fn module(&self, node: &mut Node, role: &str, config: &Value) -> Result<()> {
        let Some(library) = &self.setup.module else {
            return Ok(());
        };
        ensure!(
            library.exists(),
            "{} does not exist; run cargo build",
            library.display()
        );
        let file = node.dir().join(format!("{role}.json"));
        fs::write(&file, serde_json::to_vec_pretty(config)?)?;
        let (symbol, parameter) = match role {
            "master" => ("com_mesosphere_mesos_OverlayMasterManager", "master_config"),
            _ => ("com_mesosphere_mesos_OverlayAgentManager", "agent_config"),
        };
        let module = json!({ "name": symbol, "parameters": [{ "key": parameter, "value": file }] });
        let modules = json!({ "libraries": [{ "file": library, "modules": [module] }] });
        node.set("MESOS_MODULES", modules);
        Ok(())
    }
}

/// Returns a loopback address of a run. Its second and third byte are derived from the run's id,
/// so that parallel runs use different addresses.
fn loopback(run: &Run, number: usize) -> Result<Ipv4Addr> {
    let mut hash = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(run.id(), &mut hash);
    let [a, b, ..] = std::hash::Hasher::finish(&hash).to_be_bytes();
    let number = u8::try_from(number).context("too many agents for loopback addresses")?;
    // 127.0.x.y and 127.1.x.y are used by other programs.
    Ok(Ipv4Addr::new(127, 16 + a % 200, b, number))
}
