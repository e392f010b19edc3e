//! The load generator and the module that only answers: a small run of what
//! `cargo xtask bench master` does. How fast it is is not asked.

use testbed::{net, paths, skip};
use testkit::load::{self, Measured, Module};

use crate::common::elected;

const AGENTS: usize = 50;

/// How often agents join one by one, and an endpoint is asked.
const REPEATS: usize = 2;

/// A round ends only when every agent is registered, knows all others, learns of those that come
/// and go, and is registered again after a restart of the master. What the baseline sends is as
/// long as what the real module sends, or the comparison means nothing.
#[test]
fn a_master_carries_the_generators_agents() {
    let test = "a_master_carries_the_generators_agents";
    if !skip::require_hosts(test) || skip::require_mesos(test).is_none() {
        return;
    }
    let library = paths::module().unwrap();
    let round = |module| -> Measured {
        net::isolated(|| load::run(module, &library, AGENTS, REPEATS)).unwrap()
    };
    let (real, baseline) = (round(Module::Real), round(Module::Baseline));
    assert!(real.sent > 0 && real.leave.is_some(), "{real:?}");
    let (ours, theirs) = (real.state.2 as f64, baseline.state.2 as f64);
    assert!(
        (0.8..1.25).contains(&(ours / theirs)),
        "states of {ours} and {theirs} bytes"
    );
}

/// What `cargo xtask bench failover` measures, once: everybody comes to the next leader, with
/// the list of the one before.
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
