//! What goes wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::network::Weather;
use crate::networks;
use crate::world::World;

/// Everything that can go wrong does, for this long.
pub fn rage(world: &mut World, duration: Duration) -> Result<(), String> {
    let end = world.now() + duration;
    world.check.watch.weather(false);
    while world.now() < end {
        let wait = Duration::from_millis(world.random.u64(0..1500));
        world.run_for(wait)?;
        strike(world)?;
    }
    Ok(())
}

/// One thing goes wrong.
fn strike(world: &mut World) -> Result<(), String> {
    let process = world.random.usize(0..world.processes.len());
    match world.random.u8(0..21) {
        0 => {
            world.network.weather = Weather::foul(&mut world.random);
            world.log.failures = world.random.u8(0..40);
            world.host_failures = world.random.u8(0..40);
            world.engine_failures = world.random.u8(0..60);
            world.slowness = Duration::from_millis(world.random.u64(1..3000));
        }
        1 => {
            crash(world, process);
        }
        2 => {
            if let Some(leader) = world.leader {
                crash(world, leader);
            }
        }
        3 => change_leader(world),
        4 => world.elect(None),
        5 => {
            let other = world.random.usize(0..world.processes.len());
            let longest = Duration::from_secs(world.random.u64(0..20));
            world.cut(process, other, longest);
        }
        6 => {
            let links: Vec<_> = world.processes[process].links.iter().cloned().collect();
            if !links.is_empty() {
                let link = &links[world.random.usize(0..links.len())];
                world.break_link(process, link);
            }
        }
        7 => {
            let force = world.random.bool();
            delete_some(world, force)?;
        }
        // The leadership comes back before everybody has noticed that it was gone.
        9 => {
            let back = world.leader;
            change_leader(world);
            let soon = Duration::from_millis(world.random.u64(0..3000));
            world.run_for(soon)?;
            world.elect(back);
        }
        10 => {
            let World {
                processes, random, ..
            } = world;
            processes[process].reconfigure(random);
        }
        11 if world.random.u8(0..4) == 0 => remove_an_agent(world)?,
        8 => bad_request(world)?,
        12 | 13 => replace_an_agent(world),
        14 => reclaim(world)?,
        // (What a predecessor makes of changed networks has a test of its own.)
        15..18 if world.mixed => {
            world.change_version(process);
            let longest = Duration::from_millis(world.random.u64(0..10_000));
            world.restart_later(process, longest);
        }
        15..18 => change_networks(world)?,
        18 => run_containers(world, process),
        _ => {
            let path = if world.processes[process].is_master() {
                "overlay-master/state"
            } else {
                "overlay-agent/overlay"
            };
            world.request(process, "GET", &format!("/{path}"), "")?;
        }
    }
    Ok(())
}

/// An operator wants other networks.
pub fn change_networks(world: &mut World) -> Result<(), String> {
    let change = networks::change(&mut world.random);
    let master = match world.random.u8(0..6) {
        0 => world.random.usize(0..masters(world)),
        _ => world.leader.unwrap_or(0),
    };
    world.change(master, change).map(drop)
}

/// Containers start and end on a host.
pub fn run_containers(world: &mut World, process: usize) {
    let World {
        processes, random, ..
    } = world;
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
    world.set_containers(process, mesos, engine);
}

fn crash(world: &mut World, process: usize) {
    world.crash(process);
    let longest = Duration::from_millis(world.random.u64(0..10_000));
    world.restart_later(process, longest);
    if world.leader == Some(process) {
        let next = (world.random.u8(0..4) > 0).then(|| world.random.usize(0..masters(world)));
        world.elect(next);
    }
}

fn masters(world: &World) -> usize {
    world
        .processes
        .iter()
        .filter(|process| process.is_master())
        .count()
}

/// Another master leads, or the same one again.
pub fn change_leader(world: &mut World) {
    let leader = world.random.usize(0..masters(world));
    world.elect(Some(leader));
}

/// An operator gives agents' subnets back, even if they are connected.
pub fn delete_some_agents(world: &mut World) -> Result<(), String> {
    delete_some(world, true)
}

fn delete_some(world: &mut World, force: bool) -> Result<(), String> {
    let mut ips: Vec<String> = world
        .processes
        .iter()
        .skip(masters(world))
        .map(|agent| agent.ip())
        .collect();
    world.random.shuffle(&mut ips);
    let count = world.random.usize(0..ips.len().min(3) + 1);
    ips.truncate(count);
    if world.random.bool() {
        ips.push("10.9.9.9".into());
    }
    let leader = world.leader.unwrap_or(0);
    world.delete(leader, &ips, force).map(drop)
}

/// A request that makes no sense: it must be answered, and change nothing.
fn bad_request(world: &mut World) -> Result<(), String> {
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
    let process = world.random.usize(0..masters(world));
    // A predecessor does not look at the last one's end.
    let known = bodies.len() - usize::from(world.processes[process].old);
    let body = bodies[world.random.usize(0..known)];
    let answer = world.request(process, "POST", "/overlay-master/agents/delete", body)?;
    match answer {
        Some(answer) if matches!(answer.status, 400 | 503) => Ok(()),
        None if world.processes[process].machine.is_none() => Ok(()),
        other => Err(format!("{body:?} is answered with {other:?}")),
    }
}

/// An agent leaves for good, and an operator gives back what it had.
pub fn remove_an_agent(world: &mut World) -> Result<(), String> {
    let there: Vec<usize> = (masters(world)..world.processes.len())
        .filter(|process| !world.processes[*process].removed)
        .collect();
    // Somebody has to be left.
    if there.len() > 1 {
        let process = there[world.random.usize(0..there.len())];
        world.crash(process);
        world.processes[process].removed = true;
    }
    let leader = world.leader.unwrap_or(0);
    world.delete(leader, &removed_agents(world), true).map(drop)
}

/// An agent leaves, and another one comes that was not there yet, or not for a while.
fn replace_an_agent(world: &mut World) {
    let agents = masters(world)..world.processes.len();
    let (gone, there): (Vec<usize>, Vec<usize>) =
        agents.partition(|process| world.processes[*process].removed);
    if gone.is_empty() || there.is_empty() {
        return;
    }
    let leaves = there[world.random.usize(0..there.len())];
    let comes = gone[world.random.usize(0..gone.len())];
    world.crash(leaves);
    world.processes[leaves].removed = true;
    world.processes[comes].removed = false;
    world.restart_later(comes, Duration::from_secs(5));
}

/// An operator wants back what agents hold that are gone.
fn reclaim(world: &mut World) -> Result<(), String> {
    let leader = world.leader.unwrap_or(0);
    let agent = world.random.usize(masters(world)..world.processes.len());
    let named = world
        .random
        .bool()
        .then(|| vec![world.processes[agent].ip(), "10.9.9.9".into()]);
    world.reclaim(leader, named.as_deref())
}

fn removed_agents(world: &World) -> Vec<String> {
    world
        .processes
        .iter()
        .filter(|process| process.removed)
        .map(|process| process.ip())
        .collect()
}

/// The connections between an agent and the leader break.
pub fn break_an_agents_links(world: &mut World) {
    let Some(leader) = world.leader else { return };
    let agent = world.random.usize(masters(world)..world.processes.len());
    let (master, upid) = (
        world.processes[leader].upid.clone(),
        world.processes[agent].upid.clone(),
    );
    world.break_link(agent, &master);
    world.break_link(leader, &upid);
}

/// All masters end, the log is removed on all of them, and they start again.
pub fn wipe_the_log(world: &mut World) {
    (0..masters(world)).for_each(|master| world.crash(master));
    world.log.rewrite(|_| Vec::new());
    world.check.forget_the_log();
    (0..masters(world)).for_each(|master| world.start(master));
}

/// The log is removed, and another master leads, if there is one, while the one before goes
/// on: no connection breaks.
pub fn count_anew(world: &mut World) {
    let Some(next) = (0..masters(world)).find(|master| Some(*master) != world.leader) else {
        return wipe_the_log(world);
    };
    world.log.rewrite(|_| Vec::new());
    world.check.forget_the_log();
    world.elect(Some(next));
}

/// Nothing goes wrong any more, and everybody runs.
pub fn stop(world: &mut World) -> Result<(), String> {
    world.network.weather = Weather::fair();
    world.network.cut.clear();
    world.log.failures = 0;
    world.host_failures = 0;
    world.engine_failures = 0;
    world.slowness = Duration::from_millis(20);
    for process in 0..world.processes.len() {
        world.start(process);
        // Some containers run for ever.
        if world.random.u8(0..4) > 0 {
            world.set_containers(process, BTreeSet::new(), BTreeSet::new());
        }
    }
    if world.leader.is_none() {
        change_leader(world);
    }
    // Time for the log to be read; the last delay may have been the longest.
    world.run_for(Duration::from_secs(40))?;
    // A predecessor that did not hear of what happened never asks again.
    for process in 0..world.processes.len() {
        let it = &world.processes[process];
        if it.old && !it.is_master() && !it.removed {
            world.crash(process);
            world.start(process);
        }
    }
    world.run_for(Duration::from_secs(5))?;
    world.check.watch.weather(true);
    if world.processes[0].lease().is_some() && world.random.bool() {
        // Nobody cleans up behind them.
        world.let_gone_stay();
        return Ok(());
    }
    world.delete_patiently(world.leader.unwrap_or(0), &removed_agents(world))
}
