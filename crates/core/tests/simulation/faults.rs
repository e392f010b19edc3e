//! Faults.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::network::Conditions;
use crate::overlay_changes;
use crate::simulation::Simulation;

/// Injects faults of all kinds, for this duration.
pub fn inject(sim: &mut Simulation, duration: Duration) -> Result<(), String> {
    let end = sim.now() + duration;
    sim.checker.protocol.begin_faults();
    while sim.now() < end {
        let wait = Duration::from_millis(sim.random.u64(0..1500));
        sim.run_for(wait)?;
        inject_one(sim)?;
    }
    Ok(())
}

/// Injects one random fault.
fn inject_one(sim: &mut Simulation) -> Result<(), String> {
    let process = sim.random.usize(0..sim.processes.len());
    match sim.random.u8(0..21) {
        0 => change_conditions(sim),
        1 => crash(sim, process),
        2 => {
            if let Some(leader) = sim.leader {
                crash(sim, leader);
            }
        }
        3 => change_leader(sim),
        4 => sim.elect(None),
        5 => {
            let other = sim.random.usize(0..sim.processes.len());
            let longest = Duration::from_secs(sim.random.u64(0..20));
            sim.cut(process, other, longest);
        }
        6 => break_a_link(sim, process),
        7 => {
            let force = sim.random.bool();
            delete_some(sim, force)?;
        }
        8 => bad_request(sim)?,
        9 => interrupt_lead(sim)?,
        10 => {
            let Simulation {
                processes, random, ..
            } = sim;
            processes[process].reconfigure(random);
        }
        11 if sim.random.u8(0..4) == 0 => remove_an_agent(sim)?,
        12 | 13 => replace_an_agent(sim),
        14 => reclaim(sim)?,
        // (Another scenario covers a C++ master and changed overlays.)
        15..18 if sim.mixed => {
            sim.change_version(process);
            let longest = Duration::from_millis(sim.random.u64(0..10_000));
            sim.restart_later(process, longest);
        }
        15..18 => change_overlays(sim)?,
        18 => run_containers(sim, process),
        _ => get_state(sim, process)?,
    }
    Ok(())
}

/// Changes how unreliable network, log, hosts and container engines are.
fn change_conditions(sim: &mut Simulation) {
    sim.network.conditions = Conditions::faulty(&mut sim.random);
    sim.log.failures = sim.random.u8(0..40);
    sim.host_failures = sim.random.u8(0..40);
    sim.engine_failures = sim.random.u8(0..60);
    sim.max_latency = Duration::from_millis(sim.random.u64(1..3000));
}

fn break_a_link(sim: &mut Simulation, process: usize) {
    let links: Vec<_> = sim.processes[process].links.iter().cloned().collect();
    if !links.is_empty() {
        let link = &links[sim.random.usize(0..links.len())];
        sim.break_link(process, link);
    }
}

/// Elects another leader for up to 3 s, perhaps before all processes noticed.
fn interrupt_lead(sim: &mut Simulation) -> Result<(), String> {
    let leader = sim.leader;
    change_leader(sim);
    let duration = Duration::from_millis(sim.random.u64(0..3000));
    sim.run_for(duration)?;
    sim.elect(leader);
    Ok(())
}

fn get_state(sim: &mut Simulation, process: usize) -> Result<(), String> {
    let path = if sim.processes[process].is_master() {
        "/overlay-master/state"
    } else {
        "/overlay-agent/overlay"
    };
    sim.request(process, "GET", path, "").map(drop)
}

/// Requests a random change of an overlay.
pub fn change_overlays(sim: &mut Simulation) -> Result<(), String> {
    let change = overlay_changes::change(&mut sim.random);
    let master = match sim.random.u8(0..6) {
        0 => sim.random.usize(0..masters(sim)),
        _ => sim.leader.unwrap_or(0),
    };
    sim.change(master, change).map(drop)
}

/// Starts and ends containers on a host.
pub fn run_containers(sim: &mut Simulation, process: usize) {
    let Simulation {
        processes, random, ..
    } = sim;
    let host = &processes[process].host;
    let some = |names: Vec<&String>, random: &mut Rng| {
        names
            .into_iter()
            .filter(|_| random.bool())
            .cloned()
            .collect::<BTreeSet<String>>()
    };
    // On an overlay that is gone nothing starts any more.
    let mesos = some(
        host.overlays.keys().chain(&host.lingering).collect(),
        random,
    );
    let engine = some(host.networks.keys().collect(), random);
    sim.set_containers(process, mesos, engine);
}

fn crash(sim: &mut Simulation, process: usize) {
    sim.crash(process);
    let longest = Duration::from_millis(sim.random.u64(0..10_000));
    sim.restart_later(process, longest);
    if sim.leader == Some(process) {
        let next = (sim.random.u8(0..4) > 0).then(|| sim.random.usize(0..masters(sim)));
        sim.elect(next);
    }
}

fn masters(sim: &Simulation) -> usize {
    sim.processes
        .iter()
        .filter(|process| process.is_master())
        .count()
}

/// Elects a random master, perhaps the same one again.
pub fn change_leader(sim: &mut Simulation) {
    let leader = sim.random.usize(0..masters(sim));
    sim.elect(Some(leader));
}

/// Deletes random agents, even if they are connected.
pub fn delete_some_agents(sim: &mut Simulation) -> Result<(), String> {
    delete_some(sim, true)
}

fn delete_some(sim: &mut Simulation, force: bool) -> Result<(), String> {
    let mut ips: Vec<String> = sim
        .processes
        .iter()
        .skip(masters(sim))
        .map(|agent| agent.ip())
        .collect();
    sim.random.shuffle(&mut ips);
    let count = sim.random.usize(0..ips.len().min(3) + 1);
    ips.truncate(count);
    if sim.random.bool() {
        ips.push("10.9.9.9".into());
    }
    let leader = sim.leader.unwrap_or(0);
    sim.delete(leader, &ips, force).map(drop)
}

/// Sends a malformed request, which must be answered and change nothing.
fn bad_request(sim: &mut Simulation) -> Result<(), String> {
    let bodies = [
        "",
        "{",
        "{}",
        "[]",
        r#"{"agents": "10.0.2.1"}"#,
        r#"{"agents": [1]}"#,
        r#"{"agents": ["x", "10.0.2.1"]}"#,
        r#"{"agents": ["10.0.2.1"], "force": 1}"#,
    ];
    let process = sim.random.usize(0..masters(sim));
    // A predecessor does not look at the last one's end.
    let known = bodies.len() - usize::from(sim.processes[process].is_predecessor);
    let body = bodies[sim.random.usize(0..known)];
    let answer = sim.request(process, "POST", "/overlay-master/agents/delete", body)?;
    match answer {
        Some(answer) if matches!(answer.status, 400 | 503) => Ok(()),
        None if sim.processes[process].machine.is_none() => Ok(()),
        other => Err(format!("{body:?} is answered with {other:?}")),
    }
}

/// Removes an agent from the cluster, and deletes it.
pub fn remove_an_agent(sim: &mut Simulation) -> Result<(), String> {
    let there: Vec<usize> = (masters(sim)..sim.processes.len())
        .filter(|process| !sim.processes[*process].removed)
        .collect();
    // Somebody has to be left.
    if there.len() > 1 {
        let process = there[sim.random.usize(0..there.len())];
        sim.crash(process);
        sim.processes[process].removed = true;
    }
    let leader = sim.leader.unwrap_or(0);
    sim.delete(leader, &removed_agents(sim), true).map(drop)
}

/// Removes an agent from the cluster, and adds one that was not part of it.
fn replace_an_agent(sim: &mut Simulation) {
    let agents = masters(sim)..sim.processes.len();
    let (gone, there): (Vec<usize>, Vec<usize>) =
        agents.partition(|process| sim.processes[*process].removed);
    if gone.is_empty() || there.is_empty() {
        return;
    }
    let leaves = there[sim.random.usize(0..there.len())];
    let comes = gone[sim.random.usize(0..gone.len())];
    sim.crash(leaves);
    sim.processes[leaves].removed = true;
    sim.processes[comes].removed = false;
    sim.restart_later(comes, Duration::from_secs(5));
}

/// Reclaims subnets of random agents.
fn reclaim(sim: &mut Simulation) -> Result<(), String> {
    let leader = sim.leader.unwrap_or(0);
    let agent = sim.random.usize(masters(sim)..sim.processes.len());
    let named = sim
        .random
        .bool()
        .then(|| vec![sim.processes[agent].ip(), "10.9.9.9".into()]);
    sim.reclaim(leader, named.as_deref())
}

fn removed_agents(sim: &Simulation) -> Vec<String> {
    sim.processes
        .iter()
        .filter(|process| process.removed)
        .map(|process| process.ip())
        .collect()
}

/// Breaks the connections between an agent and the leader.
pub fn break_an_agents_links(sim: &mut Simulation) {
    let Some(leader) = sim.leader else { return };
    let agent = sim.random.usize(masters(sim)..sim.processes.len());
    let (master, upid) = (
        sim.processes[leader].upid.clone(),
        sim.processes[agent].upid.clone(),
    );
    sim.break_link(agent, &master);
    sim.break_link(leader, &upid);
}

/// Removes the log on all masters, and restarts these.
pub fn remove_log(sim: &mut Simulation) {
    (0..masters(sim)).for_each(|master| sim.crash(master));
    sim.log.rewrite(|_| Vec::new());
    sim.checker.forget_log();
    (0..masters(sim)).for_each(|master| sim.start(master));
}

/// Removes the log and elects another master if there is one, without breaking a connection.
pub fn elect_with_empty_log(sim: &mut Simulation) {
    let Some(next) = (0..masters(sim)).find(|master| Some(*master) != sim.leader) else {
        return remove_log(sim);
    };
    sim.log.rewrite(|_| Vec::new());
    sim.checker.forget_log();
    sim.elect(Some(next));
}

/// Restarts agents of earlier releases: those that did not hear of what happened never ask again.
pub fn restart_old_agents(sim: &mut Simulation) {
    for process in 0..sim.processes.len() {
        let it = &sim.processes[process];
        if it.is_predecessor && !it.is_master() && !it.removed {
            sim.crash(process);
            sim.start(process);
        }
    }
}

/// Ends all faults, and starts all processes.
pub fn end(sim: &mut Simulation) -> Result<(), String> {
    sim.network.conditions = Conditions::good();
    sim.network.cut.clear();
    sim.log.failures = 0;
    sim.host_failures = 0;
    sim.engine_failures = 0;
    sim.max_latency = Duration::from_millis(20);
    for process in 0..sim.processes.len() {
        sim.start(process);
        // Some containers run for ever.
        if sim.random.u8(0..4) > 0 {
            sim.set_containers(process, BTreeSet::new(), BTreeSet::new());
        }
    }
    if sim.leader.is_none() {
        change_leader(sim);
    }
    // Time for the log to be read; the last delay may have been the longest.
    sim.run_for(Duration::from_secs(40))?;
    restart_old_agents(sim);
    sim.run_for(Duration::from_secs(5))?;
    sim.checker.protocol.end_faults();
    if sim.processes[0].lease().is_some() && sim.random.bool() {
        // Nobody cleans up behind them.
        sim.let_removed_agents_stay();
        return Ok(());
    }
    sim.delete_with_retries(sim.leader.unwrap_or(0), &removed_agents(sim))
}
