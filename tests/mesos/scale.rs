//! Small runs of the load generator and the baseline of `cargo xtask bench`, without limits of
//! time.

use testbed::{net, paths, skip};
use testkit::load::{self, Measured, Module};

use crate::common::elected;

const AGENTS: usize = 50;

/// Repetitions of joins of one agent and of requests.
const REPEATS: usize = 2;

/// Runs the benchmark once, which ends when every agent has registered, has the list of peers and
/// its changes, and has registered again after a restart. Messages of the baseline must be as long
/// as those of the module, to be comparable.
#[test]
fn a_master_carries_the_generators_agents() {
    let test = "a_master_carries_the_generators_agents";
    if !skip::require_hosts(test) || skip::require_mesos(test).is_none() {
        return;
    }
    let library = paths::module().unwrap();
    let round = |module| -> Measured {
        net::isolated(|| load::run(module, &library, AGENTS, REPEATS, false)).unwrap()
    };
    let (real, baseline) = (round(Module::Real), round(Module::Baseline));
    assert!(real.sent > 0 && real.leave.is_some(), "{real:?}");
    let (ours, theirs) = (real.state.2 as f64, baseline.state.2 as f64);
    assert!(
        (0.8..1.25).contains(&(ours / theirs)),
        "states of {ours} and {theirs} bytes"
    );
}

/// Runs `cargo xtask bench failover` once: all agents register with the next leader, and keep the
/// list of peers of the previous one.
#[test]
fn all_agents_come_to_the_next_leader() {
    let test = "all_agents_come_to_the_next_leader";
    if !skip::require_hosts(test) || elected(test, 0).is_none() {
        return;
    }
    let library = paths::module().unwrap();
    let failovers = net::isolated(|| load::failover::run(&library, AGENTS, 2)).unwrap();
    assert_eq!(failovers.len(), 2);
    for failover in failovers {
        let times = [failover.first, failover.last, failover.peers_known];
        assert!(
            times.is_sorted() && failover.serving <= failover.last,
            "{failover:?}"
        );
        assert!(
            !failover.without_leader.is_zero(),
            "the next leader was elected before the old one was killed: {failover:?}"
        );
    }
}
