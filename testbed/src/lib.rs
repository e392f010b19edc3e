//! The test bed: real Mesos, simulated hosts and a small framework, for the tests and the demo.
//!
//! * [`mesos`]: Apache Mesos 1.11.0, which is fetched and made runnable.
//! * [`run`]: processes, namespaces and files of a run carry its id; [`cleanup`] finds them by the
//!   id and removes them at the end, on Ctrl-C, or at the next start.
//! * [`net`]: hosts as network namespaces, and the network between them; [`netns`]: network
//!   namespaces.
//! * [`cluster`], [`node`]: masters and agents with our modules, which tests start, stop and kill;
//!   [`zookeeper`]: the ZooKeeper of several masters.
//! * [`docker`]: Docker engines, one per host.
//! * [`apt`]: packages of Debian's suites that are not installed; [`compiler`]: C++ compilers.
//! * [`program`]: the operators' program on a host of a cluster; [`name_server`]: NSD and BIND;
//!   [`pymesos`]: a library for frameworks that others wrote.
//! * [`framework`]: a framework that launches tasks; [`task`]: the program of the tasks;
//!   [`executor`]: executors of tasks that have a command; [`marathon`]: a stand-in for Marathon;
//!   [`packet_loss`]: lost datagrams between tasks; [`monitor`]: changes of a host's network
//!   configuration.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use testbed::{cluster::*, framework::*};
//! # fn main() -> anyhow::Result<()> {
//! let limit = Duration::from_secs(20);
//! let mut cluster = Cluster::start(&ClusterConfig::new(3, Placement::Hosts)?)?;
//! cluster.wait_overlays(limit)?;
//! let framework = Framework::subscribe(cluster.master.client())?;
//! framework.launch(&TaskSpec::new("t1", &cluster.agents[0].ip(), Some("dcos")), limit)?;
//! println!("{:?}", framework.wait_running("t1", limit)?.ips);
//! # Ok(()) }
//! ```

pub mod apt;
pub mod cleanup;
pub mod cluster;
pub mod cni;
pub mod compiler;
pub mod container;
pub mod docker;
pub mod executor;
pub mod framework;
pub mod http;
pub mod install;
pub mod marathon;
pub mod mesos;
pub mod monitor;
pub mod name_server;
pub mod net;
pub mod netns;
pub mod node;
pub mod packet_loss;
pub mod paths;
pub mod process;
pub mod program;
pub mod pymesos;
pub mod recordio;
pub mod run;
pub mod skip;

pub mod task;
pub mod wait;
pub mod zookeeper;
