//! Convergence: log, hosts and endpoints agree.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::Response;
use overlay_core::proto::{AgentInfo, AgentOverlayInfo, State};

use crate::checker::{Checker, Stored};
use crate::cluster;
use crate::cluster::{Process, Role};
use crate::expected_host::host_matches;
use crate::overlay_changes;
use crate::simulation::Simulation;
use crate::views::{OverlaysView, is_registered, parse, parse_state};

impl Checker {
    /// Checks that the cluster has converged. The error names what differs.
    pub fn converged(sim: &mut Simulation) -> Result<(), String> {
        let value = sim.log.value().clone();
        let stored = sim.checker.read(&value)?;
        let leader = sim.leader.ok_or("nobody leads")?;
        // A master of an earlier release does not know that an agent is provisional.
        let is_old = sim.processes[leader].is_predecessor;
        let given = |agent: &AgentInfo| {
            let mut given = assigned_by(&sim.processes[leader], &stored.state, agent);
            let mut processes = sim.processes.iter();
            let process = processes.find(|it| !it.is_master() && it.ip() == agent.ip);
            if let Some(process) = process.filter(|_| !is_old) {
                leave_out_unwanted(process, &mut given);
            }
            (agent.ip.clone(), given)
        };
        let known = |agent: &&AgentInfo| is_old || !agent.provisional();
        let agents = stored.agents.values().filter(known);
        let agents: BTreeMap<String, AgentInfo> = agents.map(given).collect();
        let there = |it: &Process| !it.is_master() && !it.removed;
        // What is quickly seen comes first: this is asked again and again.
        sim.checker.protocol.deadlines.check(sim.now())?;
        for it in &sim.processes {
            if let Some(request) = it.requests.values().next() {
                return Err(format!("{} has not answered {request}", it.upid));
            }
            // Predecessors store agents that hold nothing; those are no agents to us.
            let holds = |ip: &str| {
                stored
                    .agents
                    .values()
                    .any(|a| a.ip == ip && !a.overlays.is_empty() && !a.provisional())
            };
            if it.removed && !sim.removed_agents_may_stay() && holds(&it.ip()) {
                return Err(format!("{} is gone and still in the log", it.upid));
            }
            if there(it) {
                is_served(&sim.processes[leader], it, &stored, &agents)
                    .map_err(|why| format!("{}: {why}", it.upid))?;
            }
        }
        if !sim.processes[leader].is_predecessor {
            same_networks(
                &stored.state,
                &parse(&ask(sim, leader, "/overlay-master/overlays")?)?,
            )?;
        }
        let statuses = parse_state(&ask(sim, leader, "/overlay-master/state")?)?.statuses();
        for process in 0..sim.processes.len() {
            if !there(&sim.processes[process]) {
                continue;
            }
            let (upid, ip) = (
                sim.processes[process].upid.clone(),
                sim.processes[process].ip(),
            );
            let response = ask(sim, process, "/overlay-agent/overlay")?;
            if !sim.processes[process].is_predecessor && !is_registered(&response) {
                return Err(format!("{upid} is not registered: {:?}", response.body));
            }
            for overlay in agents
                .get(&ip)
                .into_iter()
                .flat_map(|agent| &agent.overlays)
            {
                let key = (ip.clone(), overlay.info.name.clone());
                let status = statuses.get(&key);
                let is_ok = status.is_some_and(|(status, _)| status == "STATUS_OK");
                let lacks_docker = status.is_some_and(|(status, error)| {
                    status == "STATUS_FAILED" && error == "Missing Docker bridge info"
                });
                let may_fail = lacks_docker && may_lack_docker(&sim.processes[process], overlay);
                if !is_ok && !may_fail {
                    return Err(format!("the master thinks that {key:?} is {status:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Returns whether an agent of the predecessor may fail to configure an overlay for lack of a bridge
/// for Docker: it requests one, and its record has none. [`Checker::log`] sees to it that a record
/// loses no bridge, so it never had one since the subnets were allocated.
fn may_lack_docker(process: &Process, overlay: &AgentOverlayInfo) -> bool {
    let [_, docker] = process.requested_bridges;
    process.is_predecessor && docker && overlay.docker_bridge.is_none()
}

/// Leaves out what an agent does not request, and so does not get. The log may have it: the agent
/// requested it before, or somebody else did in its name before it confirmed.
fn leave_out_unwanted(process: &Process, info: &mut AgentInfo) {
    let Role::Agent(config) = &process.role else {
        return;
    };
    let [mesos, docker] = process.requested_bridges;
    let subnets = config.network.allocate_subnet;
    for overlay in &mut info.overlays {
        if !subnets {
            (overlay.subnet, overlay.subnet6) = (None, None);
        }
        if !subnets || !mesos {
            overlay.mesos_bridge = None;
        }
        if !subnets || !docker {
            overlay.docker_bridge = None;
        }
    }
}

/// Checks that an agent has its allocation in the log and on its host.
fn is_served(
    leader: &Process,
    it: &Process,
    stored: &Stored,
    agents: &BTreeMap<String, AgentInfo>,
) -> Result<(), String> {
    let ip = it.ip();
    let info = agents.get(&ip).cloned().unwrap_or_default();
    if !leader.is_predecessor {
        has_all(it, &stored.state, &info)?;
    }
    // A predecessor cannot say that it has let go of something.
    let all = stored
        .agents
        .get(&ip)
        .filter(|_| !it.is_predecessor && !leader.is_predecessor);
    let mut draining = all
        .into_iter()
        .flat_map(|agent| overlay_changes::draining(&stored.state, agent));
    if let Some(overlay) = draining.find(|overlay| !it.host_has(overlay)) {
        return Err(format!(
            "it has let go of {overlay}, and that did not come back"
        ));
    }
    host_matches(it, &info, agents, leader.is_predecessor)
}

/// Returns the part of an agent's allocation in the log that a master assigns to it.
pub fn assigned_by(master: &Process, log: &State, agent: &AgentInfo) -> AgentInfo {
    match &master.role {
        // A predecessor goes by its file.
        Role::Master(config) if master.is_predecessor => {
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
        _ => overlay_changes::assigned(log, agent),
    }
}

/// Checks that the leader's view has the overlays of the log.
fn same_networks(log: &State, shown: &OverlaysView) -> Result<(), String> {
    let active = shown
        .overlays
        .iter()
        .filter(|overlay| overlay.state == "active");
    let active: BTreeSet<_> = active.map(|overlay| overlay.name.as_str()).collect();
    let enabled = overlay_changes::in_force(log)
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

/// Checks that an agent has every overlay that it can have.
fn has_all(process: &Process, log: &State, info: &AgentInfo) -> Result<(), String> {
    let v6 = matches!(&process.role, Role::Agent(config) if config.network.enable_ipv6);
    let subnets = matches!(&process.role, Role::Agent(config) if config.network.allocate_subnet);
    for (name, overlay) in overlay_changes::in_force(log) {
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

fn ask(sim: &mut Simulation, process: usize, path: &str) -> Result<Response, String> {
    let upid = sim.processes[process].upid.clone();
    let response = sim.request(process, "GET", path, "")?;
    let response = response.ok_or_else(|| format!("{upid} does not answer {path} at once"))?;
    match response.status {
        200 => Ok(response),
        status => Err(format!(
            "{upid} answers {path} with {status}: {:?}",
            response.body
        )),
    }
}

/// The addresses and subnets of agents, by agent and overlay.
pub type Held = BTreeMap<(String, String), [Option<String>; 4]>;

/// Returns what agents have by the log, of overlays in force.
pub fn subnets_in(sim: &mut Simulation) -> Result<Held, String> {
    let value = sim.log.value().clone();
    let stored = sim.checker.read(&value)?;
    let mut held = Held::new();
    for agent in stored.agents.values() {
        for overlay in overlay_changes::assigned(&stored.state, agent).overlays {
            let vxlan = overlay.backend.vxlan.unwrap_or_default();
            let has = [
                overlay.subnet,
                overlay.subnet6,
                Some(vxlan.vtep_ip),
                vxlan.vtep_ip6,
            ];
            held.insert((agent.ip.clone(), overlay.info.name), has);
        }
    }
    Ok(held)
}

/// Checks that agents have what they had, as far as the overlays are in force. An agent lets go of an
/// overlay that only the file of another master has.
pub fn has_kept(sim: &mut Simulation, before: &Held) -> Result<(), String> {
    if !cluster::has_one_file(&sim.processes) {
        return Ok(());
    }
    let now = subnets_in(sim)?;
    for (of, had) in before {
        let has = now.get(of);
        if has.is_some_and(|has| has != had) {
            return Err(format!("{of:?} had {had:?}, and has {has:?}"));
        }
    }
    Ok(())
}
