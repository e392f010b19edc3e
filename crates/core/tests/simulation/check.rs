//! What must never be, looked at after each step; and what must be in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Mac, Peer};
use overlay_core::proto::internal::{UpdateAgentOverlaysMessage, UpdatePeersMessage};
use overlay_core::proto::{AgentInfo, AgentOverlayInfo, State};
use overlay_core::protocol::http::JSON;
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Response, Time};
use prost::Message;

use crate::cluster::{Process, Role};
use crate::host_check::host_matches;
use crate::networks;
use crate::networks::Operators;
use crate::shown::{ShownNetworks, honest, parse, says_registered, shown};
use crate::world::World;

/// What is remembered for the checks.
#[derive(Default)]
pub struct Check {
    value: Bytes,
    agents: BTreeMap<String, AgentInfo>,
    /// How often somebody asked to delete an agent, less how often it went.
    may_go: BTreeMap<String, u32>,
    /// Removed agents may stay in the log until somebody needs what they hold.
    pub gone_may_stay: bool,
    /// How often a master gave an agent's ranges to others.
    pub reclaimed: u64,
    /// Every peer that ever was in the log, and all subnets that it ever had.
    peers: BTreeMap<String, BTreeSet<IpNet>>,
    /// Who changes networks.
    pub operators: Operators,
    /// Every subnet that an agent was ever given.
    given: BTreeSet<(String, String)>,
    /// The input at hand is a message that must not be obeyed.
    stranger: bool,
    /// The values of the log that were read last: most are looked at many times.
    read: Vec<(Bytes, Rc<Stored>)>,
}

/// A value of the log.
pub struct Stored {
    state: State,
    agents: BTreeMap<String, AgentInfo>,
    essences: BTreeSet<String>,
}

pub fn decode(value: &Bytes) -> Result<(State, BTreeMap<String, AgentInfo>), String> {
    let state =
        State::decode(value.clone()).map_err(|error| format!("not a State in the log: {error}"))?;
    let count = state.agents.len();
    let agents: BTreeMap<_, _> = state
        .agents
        .iter()
        .map(|agent| (agent.ip.clone(), agent.clone()))
        .collect();
    if agents.len() != count {
        return Err("an agent is in the log twice".into());
    }
    Ok((state, agents))
}

/// What of an allocation must stay with its agent.
pub fn essence(overlay: &AgentOverlayInfo) -> String {
    let vxlan = overlay.backend.vxlan.clone().unwrap_or_default();
    format!(
        "{} {:?} {:?} {} {:?} {}",
        overlay.info.name,
        overlay.subnet,
        overlay.subnet6,
        vxlan.vtep_ip,
        vxlan.vtep_ip6,
        vxlan.vtep_mac
    )
}

fn essences(agent: &AgentInfo) -> BTreeSet<String> {
    agent.overlays.iter().map(essence).collect()
}

fn bare(prefix: &str) -> IpAddr {
    prefix.parse::<IpNet>().expect("a prefix is stored").addr()
}

/// The peer that others see in an agent; `None` without a VTEP.
pub fn peer(agent: &AgentInfo) -> Option<Peer> {
    let vxlan = agent.overlays.first()?.backend.vxlan.as_ref()?;
    let mut vtep_ips = vec![bare(&vxlan.vtep_ip)];
    vtep_ips.extend(vxlan.vtep_ip6.as_deref().map(bare));
    let subnets = agent
        .overlays
        .iter()
        .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6]);
    let mut subnets: Vec<IpNet> = subnets
        .flatten()
        .map(|subnet| subnet.parse().unwrap())
        .collect();
    subnets.sort();
    Some(Peer {
        vtep_ips,
        vtep_mac: vxlan.vtep_mac.parse().unwrap(),
        subnets,
    })
}

impl Check {
    /// Reads a value of the log.
    fn read(&mut self, value: &Bytes) -> Result<Rc<Stored>, String> {
        const REMEMBERED: usize = 4;
        if let Some((_, stored)) = self.read.iter().find(|(read, _)| read == value) {
            return Ok(stored.clone());
        }
        let (state, agents) = decode(value)?;
        let essences = agents.values().flat_map(essences).collect();
        let stored = Rc::new(Stored {
            state,
            agents,
            essences,
        });
        self.read.truncate(REMEMBERED - 1);
        self.read.insert(0, (value.clone(), stored.clone()));
        Ok(stored)
    }

    /// The log is (still or now) this.
    pub fn log(&mut self, value: &Bytes, processes: &[Process]) -> Result<(), String> {
        if *value == self.value {
            return Ok(());
        }
        let before = self.value.clone();
        let (before, after) = (self.read(&before)?, self.read(value)?);
        let agents = after.agents.clone();
        unique(agents.values())?;
        self.operators.log(&after.state)?;
        for (ip, old) in &self.agents {
            let has = agents.get(ip).map(essences).unwrap_or_default();
            let lost = old
                .overlays
                .iter()
                .filter(|overlay| !has.contains(&essence(overlay)));
            let agent = processes
                .iter()
                .find(|process| process.ip() == *ip && !process.is_master());
            let let_go = |overlay: &AgentOverlayInfo| {
                agent.is_some_and(|agent| {
                    self.operators
                        .may_go(&before.state, &overlay.info.name, agent)
                })
            };
            if !lost.into_iter().all(let_go) {
                let asked = self.may_go.get_mut(ip).filter(|asked| **asked > 0);
                *asked.ok_or_else(|| format!("{ip} lost what it had: {:?}", essences(old)))? -= 1;
            }
        }
        for (ip, peer) in agents
            .values()
            .filter_map(|agent| Some((&agent.ip, peer(agent)?)))
        {
            let Peer {
                vtep_ips,
                vtep_mac,
                subnets,
            } = peer;
            self.peers
                .entry(format!("{ip} {vtep_ips:?} {vtep_mac}"))
                .or_default()
                .extend(subnets);
        }
        self.value = value.clone();
        self.agents = agents;
        Ok(())
    }

    /// Somebody asks this master to delete these agents; connected ones too?
    pub fn delete(&mut self, process: &Process, ips: &[String], force: bool) {
        // A predecessor does not care.
        let force = force || process.old;
        for ip in ips
            .iter()
            .filter(|ip| force || !process.connected.contains(*ip))
        {
            *self.may_go.entry(ip.clone()).or_default() += 1;
        }
    }

    /// This happens to a process.
    pub fn input(&mut self, now: Time, process: &mut Process, input: &Input) {
        self.stranger = false;
        match input {
            Input::Exited(pid) if process.connected.remove(&pid.address.ip().to_string()) => {
                process.heard.insert(pid.address.ip().to_string(), now);
            }
            Input::Message { from, .. } => {
                _ = process.heard.insert(from.address.ip().to_string(), now)
            }
            Input::Fetched(Ok(_)) if process.leads() => _ = process.serves_since.get_or_insert(now),
            Input::Leader(_) if !process.leads() => process.serves_since = None,
            _ => {}
        }
        if let (false, Input::Message { from, name, .. }) = (process.is_master(), input) {
            // A predecessor obeys anybody.
            self.stranger = !process.old && process.leader.as_ref() != Some(from);
            process.knows_peers |= !self.stranger && name == UpdatePeersMessage::NAME;
        }
    }

    /// A process does this, now.
    pub fn effect(&mut self, now: Time, process: &Process, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Log(_, line) if line.starts_with("Reclaiming ") => {
                self.reclaimed(now, process, line)
            }
            Effect::Log(..) => Ok(()),
            _ if self.stranger => Err("obeys somebody who does not lead".into()),
            // What a stray registration makes a predecessor do.
            Effect::Fetch if process.old => Ok(()),
            Effect::Fetch if !process.leads() => Err("takes the log over without leading".into()),
            Effect::Io(Io::Store { .. }) if process.stored.is_none() => {
                Err("writes without having read".into())
            }
            Effect::Io(Io::Store { .. }) if process.storing => Err("writes twice at a time".into()),
            Effect::Io(Io::Send { to, name, body })
                if *name == UpdateAgentOverlaysMessage::NAME =>
            {
                let message = UpdateAgentOverlaysMessage::decode(body.clone()).unwrap();
                self.answered(process, to.address.ip().to_string(), &message)
            }
            Effect::Io(Io::Send { name, body, .. }) if *name == UpdatePeersMessage::NAME => {
                self.told(&UpdatePeersMessage::decode(body.clone()).unwrap())
            }
            Effect::Io(Io::Respond { id, response }) => {
                let request = process
                    .requests
                    .get(id)
                    .ok_or("answers what nobody asked, or twice")?;
                match (process.is_master(), response.status) {
                    (true, _) if request.contains("/overlay-master/overlays") => self
                        .operators
                        .answered(*id, response, process.stored.as_ref()),
                    // One that a stray registration made read the log shows it for ever.
                    (true, 200) if process.old && !process.leads() => Ok(()),
                    (true, 200) => self
                        .same_state(process, response)
                        .map_err(|why| format!("{request}: {why}")),
                    (false, 200) if response.content_type == JSON => honest(process, response),
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

    /// A master gives what an agent holds to others: never while the agent is connected,
    /// and not before its lease has ended.
    fn reclaimed(&mut self, now: Time, process: &Process, line: &str) -> Result<(), String> {
        let ip = line
            .split("from agent ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let ip = ip.ok_or_else(|| format!("does not say whom it reclaims from: {line}"))?;
        let lease = process.lease().ok_or("reclaims without a lease")?;
        let contact = process
            .heard
            .get(ip)
            .copied()
            .max(process.serves_since)
            .unwrap_or_default();
        if process.connected.contains(ip) {
            return Err(format!("reclaims from {ip}, which is connected"));
        }
        if now.since(contact) < lease {
            return Err(format!(
                "reclaims from {ip}, which was heard of at {contact}"
            ));
        }
        self.reclaimed += 1;
        *self.may_go.entry(ip.to_owned()).or_default() += 1;
        Ok(())
    }

    /// What an agent is given must be in the log, and nothing else.
    fn answered(
        &mut self,
        process: &Process,
        ip: String,
        message: &UpdateAgentOverlaysMessage,
    ) -> Result<(), String> {
        let stored = process
            .stored
            .as_ref()
            .ok_or("answers without knowing what is in the log")?;
        let given: BTreeSet<String> = message.overlays.iter().map(essence).collect();
        // A write that is not acknowledged yet may or may not be seen.
        let known = process.known.as_ref().unwrap_or(stored);
        let [stored, known] = [self.read(stored)?, self.read(known)?];
        let [stored, known] = [stored, known].map(|stored| {
            stored
                .agents
                .get(&ip)
                .map(|agent| essences(&given_by(process, &stored.state, agent)))
        });
        let (stored, known) = (stored.unwrap_or_default(), known.unwrap_or_default());
        if given != stored && given != known {
            return Err(format!(
                "gives {ip} {given:?}, but {stored:?} is in the log"
            ));
        }
        let subnets = message
            .overlays
            .iter()
            .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6]);
        self.given
            .extend(subnets.flatten().map(|subnet| (ip.clone(), subnet.clone())));
        Ok(())
    }

    /// Peers that agents are told of must have been in the log.
    fn told(&self, message: &UpdatePeersMessage) -> Result<(), String> {
        for told in &message.peers {
            let mut vtep_ips: Vec<IpAddr> = vec![told.vtep_ip.parse().unwrap()];
            vtep_ips.extend(told.vtep_ip6.iter().map(|ip| ip.parse::<IpAddr>().unwrap()));
            let subnets = told
                .subnets
                .iter()
                .flat_map(|subnet| [&subnet.subnet, &subnet.subnet6]);
            let mut subnets: Vec<IpNet> = subnets
                .flatten()
                .map(|subnet| subnet.parse().unwrap())
                .collect();
            subnets.sort();
            let mac: Mac = told.vtep_mac.parse().unwrap();
            // The VTEP has all the families that it ever had, the agent may want one.
            let key = format!("{} {vtep_ips:?} {mac}", told.ip);
            if !self
                .peers
                .get(&key)
                .is_some_and(|had| subnets.iter().all(|subnet| had.contains(subnet)))
            {
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
        for subnet in desired
            .overlays
            .values()
            .flat_map(|overlay| &overlay.subnets)
        {
            if !self.given.contains(&(process.ip(), subnet.to_string())) {
                return Err(format!("sets up {subnet}, which it was not given"));
            }
        }
        Ok(())
    }

    /// A master shows what is in the log.
    fn same_state(&mut self, process: &Process, response: &Response) -> Result<(), String> {
        let stored = process
            .stored
            .as_ref()
            .ok_or("answers without knowing what is in the log")?;
        // A write that is not acknowledged yet may or may not be seen.
        let known = process.known.as_ref().unwrap_or(stored);
        let shown = shown(response)?.essences();
        let [stored, known] = [self.read(stored)?, self.read(known)?];
        match shown == stored.essences || shown == known.essences {
            true => Ok(()),
            false => Err(format!(
                "shows {shown:?}, but {:?} is in the log",
                stored.essences
            )),
        }
    }

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
fn given_by(master: &Process, log: &State, agent: &AgentInfo) -> AgentInfo {
    match &master.role {
        // A predecessor goes by its file.
        Role::Master(config) if master.old => {
            let mut agent = agent.clone();
            let overlays = &config.network.overlays;
            let known = |name: &str| {
                overlays
                    .iter()
                    .any(|overlay| overlay.enabled && overlay.name == name)
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
    for (name, overlay) in networks::in_force(log) {
        let wanted = overlay.enabled() && (overlay.subnet.is_some() || v6);
        if wanted && !info.overlays.iter().any(|has| has.info.name == name) {
            return Err(format!("it has no {name}"));
        }
    }
    Ok(())
}

/// No two agents share anything.
fn unique<'a>(agents: impl Iterator<Item = &'a AgentInfo>) -> Result<(), String> {
    let mut subnets: Vec<(IpNet, &str)> = Vec::new();
    let mut vteps: BTreeMap<&str, &str> = BTreeMap::new();
    for agent in agents {
        for overlay in &agent.overlays {
            for subnet in [&overlay.subnet, &overlay.subnet6].into_iter().flatten() {
                subnets.push((
                    subnet
                        .parse()
                        .map_err(|_| format!("not a subnet: {subnet}"))?,
                    &agent.ip,
                ));
            }
            let vxlan = overlay
                .backend
                .vxlan
                .as_ref()
                .ok_or("an overlay without VTEP is in the log")?;
            for key in [
                Some(&vxlan.vtep_ip),
                vxlan.vtep_ip6.as_ref(),
                Some(&vxlan.vtep_mac),
            ]
            .into_iter()
            .flatten()
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
