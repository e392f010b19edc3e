//! Real Mesos, throw-away hosts and a small framework, for the tests and the demo.
//!
//! * [`mesos`]: Apache Mesos 1.11.0, fetched and made runnable.
//! * [`run`]: everything that is put on the machine carries a run's id; [`remains`]
//!   finds it by that and removes it: at the end, on Ctrl-C, or at the next start.
//! * [`net`]: hosts as network namespaces, and the network between them.
//! * [`cluster`], [`node`]: masters and agents with our modules, killed and
//!   started again as a test likes; [`zookeeper`]: where several masters meet.
//! * [`docker`]: container engines, one for each host.
//! * [`framework`]: launches tasks; [`task`]: what they do; [`stream`]: what of their
//!   traffic is lost; [`monitor`]: what changes on a host meanwhile.
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

pub mod cleanup;
pub mod cluster;
pub mod cni;
pub mod container;
pub mod docker;
pub mod framework;
pub mod http;
pub mod install;
pub mod mesos;
pub mod monitor;
pub mod net;
pub mod netns;
pub mod node;
pub mod packet_loss;
pub mod paths;
pub mod process;
pub mod recordio;
pub mod run;
pub mod skip;

pub mod task;
pub mod wait;
pub mod zookeeper;
