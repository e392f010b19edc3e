//! What must never be, looked at after each step; and what must be in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use mesos_overlay::core::message::Named;
use mesos_overlay::core::{Effect, Input, Response};
use mesos_overlay::host::desired::{Bridge, Desired, Mac, Peer, PeerMap};
use mesos_overlay::wire::internal::{UpdateAgentOverlaysMessage, UpdatePeersMessage};
use mesos_overlay::wire::{AgentInfo, AgentOverlayInfo, BridgeInfo, State};
use prost::Message;
use serde_json::Value;

use crate::cluster::{Process, Role};
use crate::host::ENGINE_AWAY;
use crate::networks::{self, Operators};
use crate::world::World;

/// What is remembered for the checks.
#[derive(Default)]
pub struct Check {
    value: Bytes,
    agents: BTreeMap<String, AgentInfo>,
    /// How often somebody asked to delete an agent, less how often it went.
    may_go: BTreeMap<String, u32>,
    /// Every peer that ever was in the log, and all subnets that it ever had.
    peers: BTreeMap<String, BTreeSet<IpNet>>,
    /// Who changes networks.
    pub operators: Operators,
    /// Every subnet that an agent was ever given.
    given: BTreeSet<(String, String)>,
    /// The input at hand is a message that must not be obeyed.
    stranger: bool,
}

fn decode(value: &Bytes) -> Result<BTreeMap<String, AgentInfo>, String> {
    let state = State::decode(value.clone()).map_err(|error| format!("not a State in the log: {error}"))?;
    let count = state.agents.len();
    let agents: BTreeMap<_, _> = state.agents.into_iter().map(|agent| (agent.ip.clone(), agent)).collect();
    if agents.len() != count {
        return Err("an agent is in the log twice".into());
    }
    Ok(agents)
}

/// What of an allocation must stay with its agent.
fn essence(overlay: &AgentOverlayInfo) -> String {
    let vxlan = overlay.backend.vxlan.clone().unwrap_or_default();
    format!(
        "{} {:?} {:?} {} {:?} {}",
        overlay.info.name, overlay.subnet, overlay.subnet6, vxlan.vtep_ip, vxlan.vtep_ip6, vxlan.vtep_mac
    )
}

fn essences(agent: &AgentInfo) -> BTreeSet<String> {
    agent.overlays.iter().map(essence).collect()
}

fn bare(prefix: &str) -> IpAddr {
    prefix.parse::<IpNet>().expect("a prefix is stored").addr()
}

/// The peer that others see in an agent; `None` without a VTEP.
fn peer(agent: &AgentInfo) -> Option<Peer> {
    let vxlan = agent.overlays.first()?.backend.vxlan.as_ref()?;
    let mut vtep_ips = vec![bare(&vxlan.vtep_ip)];
    vtep_ips.extend(vxlan.vtep_ip6.as_deref().map(bare));
    let subnets = agent.overlays.iter().flat_map(|overlay| [&overlay.subnet, &overlay.subnet6]);
    let mut subnets: Vec<IpNet> = subnets.flatten().map(|subnet| subnet.parse().unwrap()).collect();
    subnets.sort();
    Some(Peer { vtep_ips, vtep_mac: vxlan.vtep_mac.parse().unwrap(), subnets })
}

impl Check {
    /// The log is (still or now) this.
    pub fn log(&mut self, value: &Bytes, processes: &[Process]) -> Result<(), String> {
        if *value == self.value {
            return Ok(());
        }
        let agents = decode(value)?;
        unique(agents.values())?;
        let [before, state] =
            [&self.value, value].map(|value| State::decode(value.clone()).unwrap_or_default());
        self.operators.log(&state)?;
        for (ip, old) in &self.agents {
            let has = agents.get(ip).map(essences).unwrap_or_default();
            let lost = old.overlays.iter().filter(|overlay| !has.contains(&essence(overlay)));
            let agent = processes.iter().find(|process| process.ip() == *ip && !process.is_master());
            let let_go = |overlay: &AgentOverlayInfo| {
                agent.is_some_and(|agent| self.operators.may_go(&before, &overlay.info.name, agent))
            };
            if !lost.into_iter().all(let_go) {
                let asked = self.may_go.get_mut(ip).filter(|asked| **asked > 0);
                *asked.ok_or_else(|| format!("{ip} lost what it had: {:?}", essences(old)))? -= 1;
            }
        }
        for (ip, peer) in agents.values().filter_map(|agent| Some((&agent.ip, peer(agent)?))) {
            let Peer { vtep_ips, vtep_mac, subnets } = peer;
            self.peers.entry(format!("{ip} {vtep_ips:?} {vtep_mac}")).or_default().extend(subnets);
        }
        self.value = value.clone();
        self.agents = agents;
        Ok(())
    }

    /// Somebody asks this master to delete these agents; connected ones too?
    pub fn delete(&mut self, process: &Process, ips: &[String], force: bool) {
        for ip in ips.iter().filter(|ip| force || !process.connected.contains(*ip)) {
            *self.may_go.entry(ip.clone()).or_default() += 1;
        }
    }

    /// This happens to a process.
    pub fn input(&mut self, process: &mut Process, input: &Input) {
        self.stranger = false;
        if let Input::Exited(pid) = input {
            process.connected.remove(&pid.address.ip().to_string());
        }
        if let (false, Input::Message { from, name, .. }) = (process.is_master(), input) {
            self.stranger = process.leader.as_ref() != Some(from);
            process.knows_peers |= !self.stranger && name == UpdatePeersMessage::NAME;
        }
    }

    /// A process does this, now.
    pub fn effect(&mut self, process: &Process, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Log(..) => Ok(()),
            _ if self.stranger => Err("obeys somebody who does not lead".into()),
            Effect::Fetch if !process.leads() => Err("takes the log over without leading".into()),
            Effect::Store { .. } if process.stored.is_none() => Err("writes without having read".into()),
            Effect::Store { .. } if process.storing => Err("writes twice at a time".into()),
            Effect::Send { to, name, body } if *name == UpdateAgentOverlaysMessage::NAME => {
                let message = UpdateAgentOverlaysMessage::decode(body.clone()).unwrap();
                self.answered(process, to.address.ip().to_string(), &message)
            }
            Effect::Send { name, body, .. } if *name == UpdatePeersMessage::NAME => {
                self.told(&UpdatePeersMessage::decode(body.clone()).unwrap())
            }
            Effect::Respond { id, response } => {
                let request = process.requests.get(id).ok_or("answers what nobody asked, or twice")?;
                match (process.is_master(), response.status) {
                    (true, _) if request.contains("/overlay-master/overlays") => {
                        self.operators.answered(*id, response, process.stored.as_ref())
                    }
                    (true, 200) => same_state(process, response).map_err(|why| format!("{request}: {why}")),
                    (false, 200) => honest(process, response),
                    (false, 503) => Err("an agent is never unavailable".into()),
                    _ => Ok(()),
                }
            }
            Effect::ApplyHost { desired, .. } => self.applied(process, desired),
            Effect::ApplyEngine { networks, .. }
                if !process.has_docker() && !networks.networks.is_empty() =>
            {
                Err("wants something of Docker".into())
            }
            _ => Ok(()),
        }
    }

    /// What an agent is given must be in the log, and nothing else.
    fn answered(
        &mut self,
        process: &Process,
        ip: String,
        message: &UpdateAgentOverlaysMessage,
    ) -> Result<(), String> {
        let stored = process.stored.as_ref().ok_or("answers without knowing what is in the log")?;
        let given: BTreeSet<String> = message.overlays.iter().map(essence).collect();
        // A write that is not acknowledged yet may or may not be seen.
        let known = process.known.as_ref().unwrap_or(stored);
        let [stored, known] = [stored, known].map(|value| given_to(value, &ip));
        let (stored, known) = (stored?, known?);
        if given != stored && given != known {
            return Err(format!("gives {ip} {given:?}, but {stored:?} is in the log"));
        }
        let subnets = message.overlays.iter().flat_map(|overlay| [&overlay.subnet, &overlay.subnet6]);
        self.given.extend(subnets.flatten().map(|subnet| (ip.clone(), subnet.clone())));
        Ok(())
    }

    /// Peers that agents are told of must have been in the log.
    fn told(&self, message: &UpdatePeersMessage) -> Result<(), String> {
        for told in &message.peers {
            let mut vtep_ips: Vec<IpAddr> = vec![told.vtep_ip.parse().unwrap()];
            vtep_ips.extend(told.vtep_ip6.iter().map(|ip| ip.parse::<IpAddr>().unwrap()));
            let subnets = told.subnets.iter().flat_map(|subnet| [&subnet.subnet, &subnet.subnet6]);
            let mut subnets: Vec<IpNet> = subnets.flatten().map(|subnet| subnet.parse().unwrap()).collect();
            subnets.sort();
            let mac: Mac = told.vtep_mac.parse().unwrap();
            // The VTEP has all the families that it ever had, the agent may want one.
            let key = format!("{} {vtep_ips:?} {mac}", told.ip);
            if !self.peers.get(&key).is_some_and(|had| subnets.iter().all(|subnet| had.contains(subnet))) {
                return Err(format!("tells of a peer that was never stored: {told:?}"));
            }
        }
        Ok(())
    }

    /// An agent makes nothing up.
    fn applied(&self, process: &Process, desired: &Desired) -> Result<(), String> {
        if desired.peers.is_some() && !process.knows_peers {
            return Err("changes peers without knowing them".into());
        }
        for subnet in desired.overlays.values().flat_map(|overlay| &overlay.subnets) {
            if !self.given.contains(&(process.ip(), subnet.to_string())) {
                return Err(format!("sets up {subnet}, which it was not given"));
            }
        }
        Ok(())
    }

    /// Whether everything is as it should be; if not, what is not.
    pub fn converged(world: &mut World) -> Result<(), String> {
        let all = decode(world.log.value())?;
        let log = State::decode(world.log.value().clone()).unwrap_or_default();
        let agents: BTreeMap<String, AgentInfo> =
            all.iter().map(|(ip, agent)| (ip.clone(), networks::given(&log, agent))).collect();
        let leader = world.leader.ok_or("nobody leads")?;
        same_networks(&log, &ask(world, leader, "/overlay-master/overlays")?)?;
        let state = ask(world, leader, "/overlay-master/state")?;
        let shown = shown(&state);
        for process in 0..world.processes.len() {
            let it = &world.processes[process];
            let (upid, ip, removed) = (it.upid.clone(), it.ip(), it.removed);
            if let Some(request) = it.requests.values().next() {
                return Err(format!("{upid} has not answered {request}"));
            }
            if removed {
                match agents.contains_key(&ip) {
                    true => return Err(format!("{upid} is gone and still in the log")),
                    false => continue,
                }
            }
            if it.is_master() {
                continue;
            }
            let info = agents.get(&ip).cloned().unwrap_or_default();
            has_all(it, &log, &info).map_err(|why| format!("{upid}: {why}"))?;
            let mut draining = all.get(&ip).into_iter().flat_map(|agent| networks::draining(&log, agent));
            if let Some(overlay) = draining.find(|overlay| !it.host_has(overlay)) {
                return Err(format!("{upid} has let go of {overlay}, and it did not come back"));
            }
            let own = ask(world, process, "/overlay-agent/overlay")?;
            if own["registered"] != true {
                return Err(format!("{upid} is not registered: {own}"));
            }
            for overlay in &info.overlays {
                let key = (ip.clone(), overlay.info.name.clone());
                let status = shown.get(&key).map(String::as_str);
                if status != Some("STATUS_OK") {
                    return Err(format!("the master thinks that {key:?} is {status:?}"));
                }
            }
            host_matches(&world.processes[process], &info, &agents)
                .map_err(|why| format!("{upid}: {why}"))?;
        }
        Ok(())
    }
}

/// What the log has for an agent of overlays that agents get.
fn given_to(value: &Bytes, ip: &str) -> Result<BTreeSet<String>, String> {
    let agent = decode(value)?.remove(ip).unwrap_or_default();
    let state = State::decode(value.clone()).unwrap_or_default();
    Ok(essences(&networks::given(&state, &agent)))
}

/// The leader shows the networks that the log has.
fn same_networks(log: &State, shown: &Value) -> Result<(), String> {
    let shown = list(&shown["overlays"]);
    let active = shown.iter().filter(|overlay| overlay["state"] == "active");
    let active: BTreeSet<_> = active.filter_map(|overlay| overlay["name"].as_str()).collect();
    let enabled = networks::in_force(log).into_iter().filter(|(_, info)| info.enabled());
    let enabled: BTreeSet<_> = enabled.map(|(name, _)| name).collect();
    match active == enabled {
        true => Ok(()),
        false => Err(format!("the leader shows {active:?}, but {enabled:?} is in the log")),
    }
}

/// An agent has every overlay that there is for it.
fn has_all(process: &Process, log: &State, info: &AgentInfo) -> Result<(), String> {
    let v6 = matches!(&process.role, Role::Agent(config) if config.network.enable_ipv6);
    for (name, overlay) in networks::in_force(log) {
        let wanted = overlay.enabled() && (overlay.subnet.is_some() || v6);
        if wanted && !info.overlays.iter().any(|has| has.info.name == name) {
            return Err(format!("it has no {name}"));
        }
    }
    Ok(())
}

/// An agent that says that it is registered has everything in place.
fn honest(process: &Process, response: &Response) -> Result<(), String> {
    let json: Value = serde_json::from_slice(&response.body).map_err(|error| format!("not JSON: {error}"))?;
    let well = list(&json["overlays"]).iter().all(|overlay| overlay["state"]["status"] == "STATUS_OK");
    // Without docker_bridge no engine is needed.
    let matters = |error: &&Value| process.has_docker() || **error != ENGINE_AWAY;
    let errors = list(&json["host_errors"]).iter().filter(matters).count();
    let broken = !well || errors > 0 || json.get("problems").is_some();
    match json["registered"] == true && broken {
        true => Err(format!("is registered while broken: {json}")),
        false => Ok(()),
    }
}

/// No two agents share anything.
fn unique<'a>(agents: impl Iterator<Item = &'a AgentInfo>) -> Result<(), String> {
    let mut subnets: Vec<(IpNet, &str)> = Vec::new();
    let mut vteps: BTreeMap<&str, &str> = BTreeMap::new();
    for agent in agents {
        for overlay in &agent.overlays {
            for subnet in [&overlay.subnet, &overlay.subnet6].into_iter().flatten() {
                subnets.push((subnet.parse().map_err(|_| format!("not a subnet: {subnet}"))?, &agent.ip));
            }
            let vxlan = overlay.backend.vxlan.as_ref().ok_or("an overlay without VTEP is in the log")?;
            for key in
                [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref(), Some(&vxlan.vtep_mac)].into_iter().flatten()
            {
                let owner = vteps.entry(key).or_insert(&agent.ip);
                if *owner != agent.ip {
                    return Err(format!("{} and {owner} share {key}", agent.ip));
                }
            }
        }
    }
    subnets.sort();
    for pair in subnets.windows(2) {
        let ((a, owner), (b, other)) = (pair[0], pair[1]);
        if a.contains(&b) {
            return Err(format!("{owner} has {a} and {other} has {b}"));
        }
    }
    Ok(())
}

/// A master shows what is in the log.
fn same_state(process: &Process, response: &Response) -> Result<(), String> {
    let stored = process.stored.as_ref().ok_or("answers without knowing what is in the log")?;
    // A write that is not acknowledged yet may or may not be seen.
    let known = process.known.as_ref().unwrap_or(stored);
    let [stored, known] = [stored, known].map(decode);
    let stored: BTreeSet<String> = stored?.values().flat_map(essences).collect();
    let known: BTreeSet<String> = known?.values().flat_map(essences).collect();
    let json: Value = serde_json::from_slice(&response.body).map_err(|error| format!("not JSON: {error}"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut shown = BTreeSet::new();
    for overlay in list(&json["agents"]).iter().flat_map(|agent| list(&agent["overlays"])) {
        let vxlan = &overlay["backend"]["vxlan"];
        let name = text(&overlay["info"]["name"]).unwrap_or_default();
        shown.insert(format!(
            "{name} {:?} {:?} {} {:?} {}",
            text(&overlay["subnet"]),
            text(&overlay["subnet6"]),
            text(&vxlan["vtep_ip"]).unwrap_or_default(),
            text(&vxlan["vtep_ip6"]),
            text(&vxlan["vtep_mac"]).unwrap_or_default(),
        ));
    }
    if shown != stored && shown != known {
        return Err(format!("shows {shown:?}, but {stored:?} is in the log"));
    }
    Ok(())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The status of each overlay of each agent, as the master shows it.
fn shown(state: &Value) -> BTreeMap<(String, String), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut statuses = BTreeMap::new();
    for agent in list(&state["agents"]) {
        for overlay in list(&agent["overlays"]) {
            let key = (text(&agent["ip"]), text(&overlay["info"]["name"]));
            statuses.insert(key, text(&overlay["state"]["status"]));
        }
    }
    statuses
}

fn ask(world: &mut World, process: usize, path: &str) -> Result<Value, String> {
    let upid = world.processes[process].upid.clone();
    let response = world.request(process, "GET", path, "")?;
    let response = response.ok_or_else(|| format!("{upid} does not answer {path} at once"))?;
    match response.status {
        200 => serde_json::from_slice(&response.body).map_err(|error| error.to_string()),
        status => Err(format!("{upid} answers {path} with {status}: {:?}", response.body)),
    }
}

/// Whether a host is what the log says of its agent and of the others.
fn host_matches(
    process: &Process,
    info: &AgentInfo,
    agents: &BTreeMap<String, AgentInfo>,
) -> Result<(), String> {
    let host = &process.host;
    let expected: BTreeMap<&str, [Vec<IpNet>; 3]> = info.overlays.iter().map(overlay).collect();
    let bridge = |bridge: &Option<Bridge>| bridge.as_ref().map(|it| it.subnets.clone()).unwrap_or_default();
    let actual = host.overlays.iter().map(|(name, it)| {
        (name.as_str(), [it.subnets.clone(), bridge(&it.mesos_bridge), bridge(&it.docker_bridge)])
    });
    let actual: BTreeMap<&str, [Vec<IpNet>; 3]> = actual.collect();
    if expected != actual {
        return Err(format!("the host has {actual:?} instead of {expected:?}"));
    }
    let wanted = |name: &str| process.has_docker() && info.overlays.iter().any(|o| o.info.name == name);
    let busy = |name: &str| host.engine_containers.contains(name) && !wanted(name);
    let docker = info.overlays.iter().filter_map(|overlay| {
        let bridge = overlay.docker_bridge.as_ref()?;
        let subnets = [&bridge.ip, &bridge.ip6].into_iter().flatten();
        let subnets: Vec<IpNet> = subnets.map(|subnet| subnet.parse().unwrap()).collect();
        Some((overlay.info.name.as_str(), subnets))
    });
    let expected: BTreeMap<&str, Vec<IpNet>> = docker.collect();
    let actual = host
        .networks
        .iter()
        .filter(|(name, _)| !busy(name))
        .map(|(name, network)| (name.as_str(), network.subnets.clone()))
        .collect();
    // An agent that lost its docker_bridge takes away what it had of Docker's.
    let expected = if process.has_docker() { expected } else { BTreeMap::new() };
    if expected != actual {
        return Err(format!("the engine has {actual:?} instead of {expected:?}"));
    }
    let Some(own) = peer(info) else { return Ok(()) };
    let vtep = host.vtep.as_ref().ok_or("the host has no VTEP")?;
    let addresses: Vec<IpAddr> = vtep.addresses.iter().map(IpNet::addr).collect();
    if (vtep.mac, addresses) != (own.vtep_mac, own.vtep_ips.clone()) {
        return Err(format!("the host has {vtep:?} instead of {own:?}"));
    }
    let v6 = own.vtep_ips.len() > 1;
    let reached = |mut peer: Peer| {
        peer.vtep_ips.retain(|ip| ip.is_ipv4() || v6);
        let v6 = peer.vtep_ips.len() > 1;
        peer.subnets.retain(|net| net.addr().is_ipv4() || v6);
        peer
    };
    let others = agents.values().filter(|agent| agent.ip != info.ip);
    let others =
        others.filter_map(|agent| Some((agent.ip.parse().unwrap(), Arc::new(reached(peer(agent)?)))));
    let expected: PeerMap = others.collect();
    if expected != host.peers {
        return Err(format!("the host has the peers {:?} instead of {expected:?}", host.peers));
    }
    Ok(())
}

/// An overlay's name, subnets, and those of its two bridges.
fn overlay(overlay: &AgentOverlayInfo) -> (&str, [Vec<IpNet>; 3]) {
    let nets = |texts: [&Option<String>; 2]| {
        texts.into_iter().flatten().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>()
    };
    let bridge =
        |bridge: &Option<BridgeInfo>| bridge.as_ref().map(|it| nets([&it.ip, &it.ip6])).unwrap_or_default();
    let subnets = nets([&overlay.subnet, &overlay.subnet6]);
    (&overlay.info.name, [subnets, bridge(&overlay.mesos_bridge), bridge(&overlay.docker_bridge)])
}

// For the trace.

pub fn show_input(input: &Input) -> String {
    match input {
        Input::Message { from, name, body } => format!("{from} {}", show_message(name, body)),
        Input::Fetched(Ok(value)) => format!("fetched {} bytes", value.len()),
        other => format!("{other:?}"),
    }
}

pub fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, name, body } => format!("{to} {}", show_message(name, body)),
        Effect::Store { number, state } => match decode(state) {
            Ok(agents) => format!("store #{number} {:?}", agents.keys()),
            Err(error) => error,
        },
        Effect::ApplyHost { generation, desired } => {
            let subnets: Vec<&IpNet> = desired.overlays.values().flat_map(|o| &o.subnets).collect();
            let peers = desired.peers.as_ref().map(|peers| peers.keys().collect::<Vec<_>>());
            format!("apply #{generation} {subnets:?}, peers {peers:?}")
        }
        other => format!("{other:?}"),
    }
}

fn show_message(name: &str, body: &Bytes) -> String {
    let short = name.rsplit('.').next().unwrap_or(name);
    match name {
        UpdateAgentOverlaysMessage::NAME => {
            let message = UpdateAgentOverlaysMessage::decode(body.clone()).unwrap();
            let given: Vec<String> = message.overlays.iter().map(essence).collect();
            format!("{short} {given:?} {:?}", message.problems)
        }
        UpdatePeersMessage::NAME => {
            let message = UpdatePeersMessage::decode(body.clone()).unwrap();
            let peers: Vec<&str> = message.peers.iter().map(|peer| peer.ip.as_str()).collect();
            format!("{short} {:?} base {:?} {peers:?} -{:?}", message.version, message.base, message.removed)
        }
        _ => short.to_owned(),
    }
}
