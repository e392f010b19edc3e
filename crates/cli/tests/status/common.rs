//! Clusters of the tests, and what the program finds in them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::program::{Location, Program};
use testbed::{install, skip, wait};

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Returns the configuration of a cluster on simulated hosts; `None`: the test is skipped.
pub fn hosts(test: &str, agents: usize) -> Option<ClusterConfig> {
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    Some(ClusterConfig::new(agents, Placement::Hosts).unwrap())
}

/// Returns the configuration of a cluster with three masters and ZooKeeper; `None`: the test is
/// skipped.
pub fn elected(test: &str, agents: usize) -> Option<ClusterConfig> {
    if let Some(missing) = install::missing(install::ZOOKEEPER) {
        skip::skip(test, &missing);
        return None;
    }
    let mut setup = hosts(test, agents)?;
    setup.masters = 3;
    Some(setup)
}

/// Starts a cluster, and waits until every agent has its overlays and is registered.
pub fn start(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::start(setup).unwrap();
    wait_registered(&mut cluster);
    cluster
}

/// Waits until every agent has its overlays and is registered.
pub fn wait_registered(cluster: &mut Cluster) {
    cluster.wait_overlays(LIMIT).unwrap();
    for agent in &cluster.agents {
        wait::until(&format!("{} to be registered", agent.name()), LIMIT, || {
            let state = agent.client().get("/overlay-agent/overlay")?.json()?;
            ensure!(state["registered"] == true, "{state}");
            Ok(Some(()))
        })
        .unwrap();
    }
}

/// Returns the program on a host.
pub fn program(place: &impl Location) -> Program {
    Program::at(env!("CARGO_BIN_EXE_mesos-overlay"), place)
}

/// Asserts that the status, as seen from a host, has findings of exactly these kinds.
#[track_caller]
pub fn assert_finds(program: &Program, codes: &[&str]) {
    let outcome = program.ask(&["status"]).unwrap();
    let expected: BTreeSet<String> = codes.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(outcome.codes().unwrap(), expected, "{outcome}");
}

/// Waits until the status has findings of exactly these kinds, since a fault needs time to show.
#[track_caller]
pub fn wait_finds(program: &Program, codes: &[&str]) {
    let expected: BTreeSet<String> = codes.iter().map(|code| (*code).to_owned()).collect();
    wait::until(&format!("{codes:?}"), LIMIT, || {
        let outcome = program.ask(&["status"])?;
        ensure!(outcome.codes()? == expected, "{outcome}");
        Ok(Some(()))
    })
    .unwrap();
}
