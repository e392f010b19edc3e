//! What must be in the end: everything in the log, on the hosts and at the endpoints agrees.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::Response;
use overlay_core::proto::{AgentInfo, State};

use crate::check::{Check, Stored};
use crate::cluster::{Process, Role};
use crate::host_check::host_matches;
use crate::networks;
use crate::shown::{ShownNetworks, parse, says_registered, shown};
use crate::world::World;

impl Check {
    /// Whether everything is as it should be; if not, what is not.
    pub fn converged(world: &mut World) -> Result<(), String> {
        let value = world.log.value().clone();
        let stored = world.check.read(&value)?;
        let leader = world.leader.ok_or("nobody leads")?;
        let given = |agent: &AgentInfo| {
            (
                agent.ip.clone(),
                given_by(&world.processes[leader], &stored.state, agent),
            )
        };
        let agents: BTreeMap<String, AgentInfo> = stored.agents.values().map(given).collect();
        let there = |it: &Process| !it.is_master() && !it.removed;
        // What is quickly seen comes first: this is asked again and again.
        world.check.watch.deadlines.check(world.now())?;
        for it in &world.processes {
            if let Some(request) = it.requests.values().next() {
                return Err(format!("{} has not answered {request}", it.upid));
            }
            // Predecessors store agents that hold nothing; those are no agents to us.
            let holds = |ip: &str| {
                stored
                    .agents
                    .values()
                    .any(|a| a.ip == ip && !a.overlays.is_empty())
            };
            if it.removed && !world.gone_may_stay() && holds(&it.ip()) {
                return Err(format!("{} is gone and still in the log", it.upid));
            }
            if there(it) {
                is_served(&world.processes[leader], it, &stored, &agents)
                    .map_err(|why| format!("{}: {why}", it.upid))?;
            }
        }
        if !world.processes[leader].old {
            same_networks(
                &stored.state,
                &parse(&ask(world, leader, "/overlay-master/overlays")?)?,
            )?;
        }
        let statuses = shown(&ask(world, leader, "/overlay-master/state")?)?.statuses();
        for process in 0..world.processes.len() {
            if !there(&world.processes[process]) {
                continue;
            }
            let (upid, ip) = (
                world.processes[process].upid.clone(),
                world.processes[process].ip(),
            );
            let response = ask(world, process, "/overlay-agent/overlay")?;
            if !world.processes[process].old && !says_registered(&response) {
                return Err(format!("{upid} is not registered: {:?}", response.body));
            }
            for overlay in agents
                .get(&ip)
                .into_iter()
                .flat_map(|agent| &agent.overlays)
            {
                let key = (ip.clone(), overlay.info.name.clone());
                let status = statuses.get(&key).map(String::as_str);
                if status != Some("STATUS_OK") {
                    return Err(format!("the master thinks that {key:?} is {status:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Whether an agent has what it should, in the log and on its host.
fn is_served(
    leader: &Process,
    it: &Process,
    stored: &Stored,
    agents: &BTreeMap<String, AgentInfo>,
) -> Result<(), String> {
    let ip = it.ip();
    let info = agents.get(&ip).cloned().unwrap_or_default();
    if !leader.old {
        has_all(it, &stored.state, &info)?;
    }
    // A predecessor cannot say that it has let go of something.
    let all = stored.agents.get(&ip).filter(|_| !it.old && !leader.old);
    let mut draining = all
        .into_iter()
        .flat_map(|agent| networks::draining(&stored.state, agent));
    if let Some(overlay) = draining.find(|overlay| !it.host_has(overlay)) {
        return Err(format!(
            "it has let go of {overlay}, and that did not come back"
        ));
    }
    host_matches(it, &info, agents, leader.old)
}

/// What an agent gets of what the log has for it.
pub fn given_by(master: &Process, log: &State, agent: &AgentInfo) -> AgentInfo {
    match &master.role {
        // A predecessor goes by its file.
        Role::Master(config) if master.old => {
            let mut agent = agent.clone();
            let overlays = &config.network.overlays;
            let known = |name: &str| {
                overlays
                    .iter()
                    .any(|overlay| overlay.config().enabled && overlay.name() == name)
            };
            agent.overlays.retain(|overlay| known(&overlay.info.name));
            agent
        }
        _ => networks::given(log, agent),
    }
}

/// The leader shows the networks that the log has.
fn same_networks(log: &State, shown: &ShownNetworks) -> Result<(), String> {
    let active = shown
        .overlays
        .iter()
        .filter(|overlay| overlay.state == "active");
    let active: BTreeSet<_> = active.map(|overlay| overlay.name.as_str()).collect();
    let enabled = networks::in_force(log)
        .into_iter()
        .filter(|(_, info)| info.enabled());
    let enabled: BTreeSet<_> = enabled.map(|(name, _)| name).collect();
    match active == enabled {
        true => Ok(()),
        false => Err(format!(
            "the leader shows {active:?}, but {enabled:?} is in the log"
        )),
    }
}

/// An agent has every overlay that there is for it.
fn has_all(process: &Process, log: &State, info: &AgentInfo) -> Result<(), String> {
    let v6 = matches!(&process.role, Role::Agent(config) if config.network.enable_ipv6);
    let subnets = matches!(&process.role, Role::Agent(config) if config.network.allocate_subnet);
    for (name, overlay) in networks::in_force(log) {
        let wanted = overlay.enabled() && (overlay.subnet.is_some() || v6);
        if !wanted {
            continue;
        }
        let has = info.overlays.iter().find(|has| has.info.name == name);
        let has = has.ok_or_else(|| format!("it has no {name}"))?;
        let lacks =
            |range: &Option<String>, subnet: &Option<String>| range.is_some() && subnet.is_none();
        if subnets
            && (lacks(&overlay.subnet, &has.subnet) || v6 && lacks(&overlay.subnet6, &has.subnet6))
        {
            return Err(format!("it has not all of {name}: {has:?}"));
        }
    }
    Ok(())
}

fn ask(world: &mut World, process: usize, path: &str) -> Result<Response, String> {
    let upid = world.processes[process].upid.clone();
    let response = world.request(process, "GET", path, "")?;
    let response = response.ok_or_else(|| format!("{upid} does not answer {path} at once"))?;
    match response.status {
        200 => Ok(response),
        status => Err(format!(
            "{upid} answers {path} with {status}: {:?}",
            response.body
        )),
    }
}
