//! Simulation of masters and agents with a simulated clock, network, replicated log and hosts,
//! which lose, delay, reorder and repeat messages, break connections, crash, elect another
//! leader, or fail a write that is in the log all the same.
//!
//! Everything follows from one seed. The checker verifies invariants after each step. When the
//! faults end, the cluster must converge and become silent.
//!
//! `cargo xtask simulate` runs many seeds, or one of them with a trace; see
//! docs/dev/testing.md.

mod adversary;
mod authentication;
mod checker;
mod cluster;
mod convergence;
mod deadlines;
mod expected_host;
mod faults;
mod forgery_checker;
mod host;
mod http_requests;
mod master_files;
mod network;
mod overlay_changes;
mod peer_lists;
mod protocol_checker;
mod replicated_log;
mod runner;
mod sessions;
mod simulation;
mod trace;
mod unique;
mod views;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use overlay_changes::Operators;
use runner::{FEW_SEEDS, SEEDS, environment, run};
use simulation::Simulation;

/// Faults of all kinds, for two minutes.
#[test]
fn everything_comes_right_after_the_faults() {
    static RECLAIMED: AtomicU64 = AtomicU64::new(0);
    static CHANGED: AtomicU64 = AtomicU64::new(0);
    run(SEEDS, Simulation::mixed, |sim| {
        faults::inject(sim, Duration::from_secs(120))?;
        faults::end(sim)?;
        let end_of_faults = sim.now();
        // A message whose loss nobody noticed is sent again at the next refresh.
        sim.run_until_converged(end_of_faults + Duration::from_secs(100))?;
        RECLAIMED.fetch_add(sim.reclaimed(), Relaxed);
        if sim.reclaimed() > 0 {
            CHANGED.fetch_add(sim.checker.operators.done(), Relaxed);
        }
        sim.run_silently(Duration::from_secs(300))
    });
    let [reclaimed, changed] = [&RECLAIMED, &CHANGED].map(|count| count.load(Relaxed));
    let chosen = ["MESOS_OVERLAY_SIM_SEED", "MESOS_OVERLAY_SIM_SEEDS"].map(environment);
    assert!(
        chosen.iter().any(Option::is_some) || reclaimed.min(changed) > SEEDS / 8,
        "only {reclaimed} agents lost subnets to others, and in such clusters only {changed} overlays were \
         changed"
    );
}

/// A cluster converges within seconds after its start and after a change of leader.
#[test]
fn convergence_takes_seconds() {
    run(FEW_SEEDS, Simulation::new, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        for _ in 0..3 {
            sim.run_for(Duration::from_secs(10))?;
            faults::change_leader(sim);
            sim.run_until_converged(sim.now() + Duration::from_secs(3))?;
        }
        // Both ends notice a broken connection, without a new leader.
        faults::break_an_agents_links(sim);
        faults::delete_some_agents(sim)?;
        sim.run_for(Duration::from_millis(500))?;
        sim.run_until_converged(sim.now() + Duration::from_secs(5))?;
        // All reconciliations of hosts fail for a while.
        sim.host_failures = 100;
        faults::delete_some_agents(sim)?;
        sim.run_for(Duration::from_secs(3))?;
        sim.host_failures = 0;
        sim.run_until_converged(sim.now() + Duration::from_secs(12))?;
        sim.run_silently(Duration::from_secs(300))
    });
}

/// A write is never answered. The master gives it up after 20 s and reads the log again,
/// whether it led all the time or not.
#[test]
fn a_write_without_an_answer_is_given_up() {
    run(FEW_SEEDS, Simulation::new, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        sim.checker.protocol.begin_faults();
        (sim.log.failures, sim.log.unanswered) = (100, true);
        faults::delete_some_agents(sim)?;
        sim.run_for(Duration::from_secs(1))?;
        (sim.log.failures, sim.log.unanswered) = (0, false);
        if sim.random.bool() {
            let leader = sim.leader;
            sim.elect(None);
            sim.run_for(Duration::from_secs(1))?;
            sim.elect(leader);
        }
        sim.run_for(Duration::from_secs(23))?;
        sim.checker.protocol.end_faults();
        // The write may be in the log. An agent that it deleted learns that at its next refresh.
        sim.run_until_converged(sim.now() + Duration::from_secs(100))?;
        sim.run_silently(Duration::from_secs(300))
    });
}

/// A cluster of C++ modules is upgraded, downgraded and upgraded again, host by host in random
/// order. No agent loses a subnet, and each agent registers each time.
#[test]
fn versions_come_and_go_host_by_host() {
    run(FEW_SEEDS, Simulation::without_leases, |sim| {
        let mut hosts: Vec<usize> = (0..sim.processes.len()).collect();
        for _ in 0..4 {
            sim.random.shuffle(&mut hosts);
            for host in &hosts {
                sim.change_version(*host);
                sim.start(*host);
                sim.run_for(Duration::from_secs(1))?;
                faults::change_leader(sim);
                // A C++ agent without an answer waits for up to 5 s, then for 10 s …
                sim.run_until_converged(sim.now() + Duration::from_secs(90))?;
            }
        }
        sim.run_silently(Duration::from_secs(300))
    });
}

/// A C++ master that leads for a while forgets changes of overlays. No agent loses a subnet, and
/// the changes can be made again.
#[test]
fn what_a_predecessor_forgets_costs_no_agent_anything() {
    run(FEW_SEEDS, Simulation::without_leases, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        let leader = sim.leader.ok_or("nobody leads")?;
        let add = overlay_changes::addition("run1", "9.200.0.0/18");
        sim.change(leader, add.clone())?;
        sim.run_for(Duration::from_secs(1))?;
        sim.run_until_converged(sim.now() + Duration::from_secs(5))?;
        for _ in 0..2 {
            sim.change_version(leader);
            sim.checker.operators = Operators::default();
            sim.start(leader);
            sim.elect(Some(leader));
            sim.run_until_converged(sim.now() + Duration::from_secs(60))?;
            // Makes it write. An agent without a message registers again within 75 s.
            faults::delete_some_agents(sim)?;
            faults::restart_old_agents(sim);
            sim.run_for(Duration::from_secs(80))?;
            sim.run_until_converged(sim.now() + Duration::from_secs(10))?;
        }
        sim.change(leader, add)?;
        sim.run_for(Duration::from_secs(1))?;
        match overlay_changes::is_in_force(sim.log.value(), "run1") {
            true => sim.run_until_converged(sim.now() + Duration::from_secs(5)),
            false => Err("a forgotten change cannot be made again".into()),
        }
    });
}

/// Masters have different files, with overlays of both families. The overlays in force and the
/// answers to requests follow from the leader's file and the log, and no agent loses a subnet.
#[test]
fn masters_with_different_files_take_turns() {
    run(FEW_SEEDS, master_files::sim, master_files::play);
}

/// The log is removed on all masters, so that revisions start again: agents that know of higher
/// revisions accept the new lists at once.
#[test]
fn a_leader_that_counts_anew_is_obeyed_at_once() {
    run(FEW_SEEDS, Simulation::new, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        for number in 0..3 {
            let leader = sim.leader.ok_or("nobody leads")?;
            let add =
                overlay_changes::addition(&format!("run{number}"), &format!("9.20{number}.0.0/18"));
            sim.change(leader, add)?;
            sim.run_for(Duration::from_secs(1))?;
            sim.run_until_converged(sim.now() + Duration::from_secs(3))?;
        }
        let before = convergence::subnets_in(sim)?;
        faults::elect_with_empty_log(sim);
        // Agents that hold nothing give way for some seconds.
        sim.run_until_converged(sim.now() + Duration::from_secs(20))?;
        convergence::has_kept(sim, &before)?;
        sim.run_silently(Duration::from_secs(300))
    });
}

/// The log is lost while agents and masters start again, again and again: whoever was there all
/// the time keeps what it had, unless somebody else got it first.
#[test]
fn agents_keep_what_they_hold_without_a_log() {
    run(FEW_SEEDS, Simulation::new, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        for _ in 0..3 {
            let before = convergence::subnets_in(sim)?;
            faults::elect_with_empty_log(sim);
            sim.run_until_converged(sim.now() + Duration::from_secs(20))?;
            convergence::has_kept(sim, &before)?;
            faults::change_leader(sim);
            sim.run_until_converged(sim.now() + Duration::from_secs(20))?;
            convergence::has_kept(sim, &before)?;
        }
        sim.run_silently(Duration::from_secs(300))
    });
}

/// Two hundred agents that start at once need few writes, and know each other.
#[test]
fn a_large_cluster_starts_in_seconds() {
    let mut sim = Simulation::with(cluster::large(200), fastrand::Rng::with_seed(1), false);
    sim.run_until_converged(sim.now() + Duration::from_secs(2))
        .unwrap();
    assert!(
        sim.log_operations < 20,
        "{} operations on the log",
        sim.log_operations
    );
}

/// A deleted agent gets other subnets, and its peers learn of them. One that left is removed
/// from all peers.
#[test]
fn deleted_agents_are_forgotten() {
    run(FEW_SEEDS, Simulation::new, |sim| {
        sim.run_until_converged(sim.now() + Duration::from_secs(2))?;
        faults::delete_some_agents(sim)?;
        sim.run_for(Duration::from_millis(500))?;
        sim.run_until_converged(sim.now() + Duration::from_secs(5))?;
        faults::remove_an_agent(sim)?;
        sim.run_for(Duration::from_millis(500))?;
        sim.run_until_converged(sim.now() + Duration::from_secs(5))
    });
}
