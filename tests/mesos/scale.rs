//! The load generator and the module that only answers: a small run of what
//! `cargo xtask bench master` does. How fast it is is not asked.

use testbed::{net, paths, skip};

use crate::load::{self, Measured, Module};

const AGENTS: usize = 50;

/// A round ends only when every agent is registered, knows all others, learns of those that come
/// and go, and is registered again after a restart of the master.
fn round(test: &str, module: Module) -> Option<Measured> {
    if !skip::unless_hosts(test) {
        return None;
    }
    skip::unless_mesos(test)?;
    let library = paths::module().unwrap();
    Some(net::alone(|| load::run(module, &library, AGENTS)).unwrap())
}

#[test]
fn a_master_carries_the_generators_agents() {
    let Some(measured) = round("a_master_carries_the_generators_agents", Module::Real) else { return };
    let (_, _, state) = measured.state;
    assert!(state > AGENTS * 200, "the state of {AGENTS} agents has {state} bytes only");
    assert!(measured.sent > 0 && measured.leave.is_some(), "{measured:?}");
}

/// What it sends is as long as what the real module sends, or the comparison means nothing.
#[test]
fn the_baseline_sends_as_much() {
    let Some(baseline) = round("the_baseline_sends_as_much", Module::Baseline) else { return };
    let Some(real) = round("the_baseline_sends_as_much", Module::Real) else { return };
    let (ours, theirs) = (real.state.2 as f64, baseline.state.2 as f64);
    assert!((0.8..1.25).contains(&(ours / theirs)), "states of {ours} and {theirs} bytes");
}
