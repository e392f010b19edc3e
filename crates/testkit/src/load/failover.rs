//! Three masters with a real ZooKeeper; the leader is killed, again and again, and all agents
//! come to the next one at once.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::wait;

use super::generator::{Generator, allow_files};
use super::round::{ELECTED, LIMIT, logged_at, network, v4};

/// What the module logs when it has read the log.
const SERVING: &str = "Serving; agents in the log";

/// One fall of a leader. All times but the first are from the next one's election, which is
/// when its Mesos master logs it.
#[derive(Clone, Copy, Debug)]
pub struct Fall {
    /// From the kill until another one is elected: ZooKeeper's session timeout and Mesos.
    pub without_leader: Duration,
    /// Until the module has read the log.
    pub serving: Duration,
    /// Until the first agent was told its overlays.
    pub first: Duration,
    /// Until the last agent is registered.
    pub last: Duration,
    /// Until every agent has the list of peers.
    pub told: Duration,
}

/// Kills the leader so many times. To be called on a thread with a network of its own.
pub fn run(library: &Path, agents: usize, falls: usize) -> Result<Vec<Fall>> {
    let without_connection = allow_files(agents)?;
    let mut setup = ClusterConfig {
        network: network(),
        masters: 3,
        ..ClusterConfig::new(0, Placement::Loopback)?
    };
    setup.module = Some(library.to_owned());
    // So long a leader that is gone is waited for.
    setup
        .environment
        .push(("MESOS_ZK_SESSION_TIMEOUT".into(), "2secs".into()));
    // The times in its log are compared with ours.
    setup.environment.push(("TZ".into(), "UTC".into()));
    let mut cluster = Cluster::start(&setup)?;
    let leader = cluster.wait_leader(LIMIT)?;
    let (mut name, address) = (leader.name().to_owned(), v4(leader)?);
    let mut generator = Generator::new(address, without_connection)?;
    generator.join(agents);
    settle(&mut generator)?;
    (0..falls)
        .map(|_| fall(&mut cluster, &mut generator, &mut name))
        .collect()
}

/// The leader, which has this name, falls, and comes back as a standby. `name` becomes that
/// of the next one.
fn fall(cluster: &mut Cluster, generator: &mut Generator, name: &mut String) -> Result<Fall> {
    // With one replica that does not take part yet, a second one must not go.
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
    // Agents hear from ZooKeeper that it leads, all at once.
    generator.follow(address);
    generator.join_again();
    let (registered, told) = settle(generator)?;
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
    let first = generator.first_answer().context("nobody was answered")?;
    *name = next;
    cluster.masters().nth(old).context("no leader")?.start()?;
    Ok(Fall {
        without_leader: elected.duration_since(killed).unwrap_or_default(),
        serving: since(serving),
        first: since(at(first)),
        last: since(at(registered)),
        told: since(at(told)),
    })
}

/// Until all are registered, and until all know all.
fn settle(generator: &mut Generator) -> Result<(Instant, Instant)> {
    generator.until("all to be registered", LIMIT, Generator::all_registered)?;
    let registered = Instant::now();
    generator.until("all to know all", LIMIT, Generator::all_know_all)?;
    Ok((registered, Instant::now()))
}
