//! Failovers of three masters with a real ZooKeeper: the leader is killed repeatedly, and all agents
//! register with the next one at once.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::wait;

use super::generator::{Generator, allow_files};
use super::round::{ELECTED, LIMIT, logged_at, network, v4};

/// Log line of the module after it has read the replicated log.
const SERVING: &str = "Serving; agents in the log";

/// Times of a failover. All except the first start at the election of the next leader, as logged
/// by its Mesos master.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    /// Time from the kill until the next election, which is due to ZooKeeper's session timeout and
    /// Mesos.
    pub without_leader: Duration,
    /// Time until the module has read the replicated log.
    pub serving: Duration,
    /// Time until the first agent has its overlays.
    pub first: Duration,
    /// Time until the last agent is registered.
    pub last: Duration,
    /// Time until every agent has the list of peers.
    pub peers_known: Duration,
}

/// Measures a number of failovers. Must be called in an isolated network namespace.
pub fn run(library: &Path, agents: usize, failovers: usize) -> Result<Vec<Failover>> {
    let without_connection = allow_files(agents)?;
    let mut setup = ClusterConfig {
        network: network(),
        masters: 3,
        ..ClusterConfig::new(0, Placement::Loopback)?
    };
    setup.module = Some(library.to_owned());
    // A dead leader is replaced after this time.
    setup
        .environment
        .push(("MESOS_ZK_SESSION_TIMEOUT".into(), "2secs".into()));
    // Times in the log are compared with those of this process.
    setup.environment.push(("TZ".into(), "UTC".into()));
    let mut cluster = Cluster::start(&setup)?;
    let leader = cluster.wait_leader(LIMIT)?;
    let (mut name, address) = (leader.name().to_owned(), v4(leader)?);
    let mut generator = Generator::new(address, without_connection)?;
    generator.join(agents);
    settle(&mut generator)?;
    (0..failovers)
        .map(|_| fail_over(&mut cluster, &mut generator, &mut name))
        .collect()
}

/// Kills the leader called `name`, waits for the next one, and restarts the old one as a standby.
/// `name` becomes the name of the new leader.
fn fail_over(
    cluster: &mut Cluster,
    generator: &mut Generator,
    name: &mut String,
) -> Result<Failover> {
    // A second replica must not fail while one is recovering.
    cluster.wait_replicas(LIMIT)?;
    let old = cluster
        .masters()
        .position(|master| master.name() == *name)
        .context("no leader")?;
    cluster.masters().nth(old).context("no leader")?.kill()?;
    let killed = SystemTime::now();
    generator.until("the connections to break", LIMIT, |generator| {
        generator.connections() == 0
    })?;
    let (next, address) = wait::until("the next leader", LIMIT, || {
        let mut running = cluster.masters().filter(|master| master.pid().is_some());
        let elected = running.find(|master| master.log().contains(ELECTED));
        elected
            .map(|master| Ok((master.name().to_owned(), v4(master)?)))
            .transpose()
    })?;
    // ZooKeeper notifies all agents at once.
    generator.follow(address);
    generator.join_again();
    let (registered, peers_known) = settle(generator)?;
    let (now, now_at) = (Instant::now(), SystemTime::now());
    let at = |instant: Instant| now_at - now.duration_since(instant);
    let log = cluster
        .masters()
        .find(|master| master.name() == next)
        .context("no leader")?
        .log();
    let elected = logged_at(&log, ELECTED).context("the election is not in the log")?;
    let serving = logged_at(&log, SERVING).context("the module's log is not in the log")?;
    let since = |then: SystemTime| then.duration_since(elected).unwrap_or_default();
    let first = generator.first_answer().context("no agent was answered")?;
    *name = next;
    cluster.masters().nth(old).context("no leader")?.start()?;
    Ok(Failover {
        without_leader: elected.duration_since(killed).unwrap_or_default(),
        serving: since(serving),
        first: since(at(first)),
        last: since(at(registered)),
        peers_known: since(at(peers_known)),
    })
}

/// Waits until all agents are registered, and until all have the list of peers. Returns both times.
fn settle(generator: &mut Generator) -> Result<(Instant, Instant)> {
    generator.until("all agents to register", LIMIT, Generator::all_registered)?;
    let registered = Instant::now();
    generator.until(
        "all agents to have the list of peers",
        LIMIT,
        Generator::all_know_all,
    )?;
    Ok((registered, Instant::now()))
}
