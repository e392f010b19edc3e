//! Masters and agents against each other, with a clock, a network, a log and hosts
//! that the test makes up, and that do to them what the real ones can do: lose,
//! delay, reorder and repeat messages, break connections, crash, elect another
//! leader, fail a write that is in the log all the same.
//!
//! Everything follows from one seed. After each step `check` looks at what must
//! never be; when the faults stop, everything has to come right, and to fall
//! silent.
//!
//! `MESOS_OVERLAY_SIM_SEEDS=10000` plays that many seeds, `MESOS_OVERLAY_SIM_SEED=7`
//! only this one, and prints what happened in it.

// The bans of clippy.toml are meant for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/networks.rs"]
mod networks;
#[path = "simulation/replicated_log.rs"]
mod replicated_log;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use world::World;

/// How many seeds are played when the environment does not say.
const SEEDS: u64 = 200;
/// The same of scenarios in which little is left to chance.
const FEW_SEEDS: u64 = 20;

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays `scenario` with each seed: so many, or as the environment says. One that fails
/// is played again, with a trace.
fn play(seeds: u64, scenario: fn(&mut World) -> Result<(), String>) {
    if let Some(seed) = environment("MESOS_OVERLAY_SIM_SEED") {
        let mut world = World::new(seed, true);
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&mut world)));
        eprintln!("{}", world.trace());
        return report(seed, outcome);
    }
    for seed in 0..environment("MESOS_OVERLAY_SIM_SEEDS").unwrap_or(seeds) {
        let outcome = catch_unwind(|| scenario(&mut World::new(seed, false)));
        if !matches!(outcome, Ok(Ok(()))) {
            let mut world = World::new(seed, true);
            let _ = catch_unwind(AssertUnwindSafe(|| scenario(&mut world)));
            eprintln!("{}", world.trace());
            report(seed, outcome);
        }
    }
}

fn report(seed: u64, outcome: std::thread::Result<Result<(), String>>) {
    let again = format!("MESOS_OVERLAY_SIM_SEED={seed} plays it again");
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(what)) => panic!("seed {seed}: {what}\n{again}"),
        Err(_) => panic!("seed {seed}: a machine panicked, see above\n{again}"),
    }
}

/// Everything that can go wrong does, for two minutes.
#[test]
fn everything_comes_right_after_the_faults() {
    play(SEEDS, |world| {
        faults::rage(world, Duration::from_secs(120))?;
        faults::stop(world)?;
        let calm = world.now();
        // A message that got lost unnoticed is made good at the next refresh.
        world.run_until_converged(calm + Duration::from_secs(100))?;
        world.run_silently(Duration::from_secs(300))
    });
}

/// A cluster that starts, and one whose leader changes, is complete in seconds.
#[test]
fn convergence_takes_seconds() {
    play(FEW_SEEDS, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        for _ in 0..3 {
            world.run_for(Duration::from_secs(10))?;
            faults::change_leader(world);
            world.run_until_converged(world.now() + Duration::from_secs(3))?;
        }
        // Both ends hear of a broken connection, and nobody hears of a new leader.
        faults::break_an_agents_links(world);
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))?;
        // Hosts on which nothing works for a while.
        world.host_failures = 100;
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_secs(3))?;
        world.host_failures = 0;
        world.run_until_converged(world.now() + Duration::from_secs(12))?;
        world.run_silently(Duration::from_secs(300))
    });
}

/// Two hundred agents at once are served with a few writes, and know each other.
#[test]
fn a_large_cluster_starts_in_seconds() {
    let mut world = World::with(cluster::large(200), fastrand::Rng::with_seed(1), false);
    world.run_until_converged(world.now() + Duration::from_secs(2)).unwrap();
    assert!(world.log_operations < 20, "{} operations on the log", world.log_operations);
}

/// An agent whose subnets are given back gets others, and everybody knows; one
/// that is gone is forgotten by everybody.
#[test]
fn deleted_agents_are_forgotten() {
    play(FEW_SEEDS, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))?;
        faults::remove_an_agent(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))
    });
}
