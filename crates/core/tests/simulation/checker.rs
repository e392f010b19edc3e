//! Checks of invariants after each step, and of convergence at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Mac, Peer};
use overlay_core::proto::internal::{
    RegistrationChallengeMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentInfo, AgentOverlayInfo, BridgeInfo, State};
use overlay_core::protocol::http::JSON;
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Response, Time};
use prost::Message;

use crate::adversary::Origin;
use crate::cluster::Process;
use crate::convergence::assigned_by;
use crate::forgery_checker::ForgeryChecker;
use crate::overlay_changes;
use crate::overlay_changes::Operators;
use crate::peer_lists;
use crate::peer_lists::List;
use crate::protocol_checker::ProtocolChecker;
use crate::sessions::{Sessions, Standing};
use crate::unique::unique;
use crate::views::{is_registered_only_if_healthy, parse_state};

/// Time after which a master counts an unanswered write as failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Checks invariants, with what they need of the past.
#[derive(Default)]
pub struct Checker {
    value: Bytes,
    agents: BTreeMap<String, AgentInfo>,
    /// Number of requests to delete an agent minus number of its deletions.
    may_go: BTreeMap<String, u32>,
    /// Removed agents may stay in the log until somebody needs what they hold.
    pub removed_agents_may_stay: bool,
    /// Number of agents whose subnets a master gave to others.
    pub reclaimed: u64,
    /// Every peer that has been in the log, with all subnets that it has had.
    peers: BTreeMap<String, BTreeSet<IpNet>>,
    /// Requests of operators to change overlays.
    pub operators: Operators,
    /// Every subnet that an agent has been assigned.
    given: BTreeSet<(String, String)>,
    /// Every MAC address that an agent has been assigned, from which its VTEP addresses follow.
    given_vteps: BTreeSet<(String, Mac)>,
    /// The present input is a message that must not be obeyed.
    stranger: bool,
    /// The present input is a message of the adversary, be it one that was lost.
    is_replayed: bool,
    /// Checks of messages and deadlines.
    pub protocol: ProtocolChecker,
    /// Tokens of masters.
    pub sessions: Sessions,
    /// Checks of what the adversary causes.
    pub forgeries: ForgeryChecker,
    /// Recently decoded values of the log. Most are needed many times.
    read: Vec<(Bytes, Rc<Stored>)>,
}

/// Decoded value of the log.
pub struct Stored {
    pub state: State,
    pub agents: BTreeMap<String, AgentInfo>,
    pub summaries: BTreeSet<String>,
    /// Agents that have confirmed a registration.
    pub confirmed: BTreeSet<String>,
    /// Agents with provisional allocations, which are no peers.
    pub provisional: BTreeSet<String>,
    /// Peers by agent.
    pub peers: List,
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

/// Returns the part of an allocation that an agent must not lose.
pub fn summary(overlay: &AgentOverlayInfo) -> String {
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

/// Returns whether an agent lost nothing of an overlay between `had` and `has`. It may have gained
/// a family or a bridge.
fn keeps(had: &AgentOverlayInfo, has: &AgentOverlayInfo) -> bool {
    let kept = |had: &Option<String>, has: &Option<String>| had.is_none() || had == has;
    let [old, new] = [had, has].map(|overlay| overlay.backend.vxlan.clone().unwrap_or_default());
    had.info.name == has.info.name
        && kept(&had.subnet, &has.subnet)
        && kept(&had.subnet6, &has.subnet6)
        && (&old.vtep_ip, &old.vtep_mac) == (&new.vtep_ip, &new.vtep_mac)
        && kept(&old.vtep_ip6, &new.vtep_ip6)
        && keeps_bridge(&had.mesos_bridge, &has.mesos_bridge)
        && keeps_bridge(&had.docker_bridge, &has.docker_bridge)
}

/// Returns whether a record lost nothing of a bridge, whatever the agent requests meanwhile.
fn keeps_bridge(had: &Option<BridgeInfo>, has: &Option<BridgeInfo>) -> bool {
    let Some(had) = had else { return true };
    let kept = |had: &Option<String>, has: &Option<String>| had.is_none() || had == has;
    has.as_ref().is_some_and(|has| {
        had.name == has.name && kept(&had.ip, &has.ip) && kept(&had.ip6, &has.ip6)
    })
}

fn summaries(agent: &AgentInfo) -> BTreeSet<String> {
    agent.overlays.iter().map(summary).collect()
}

fn bare(prefix: &str) -> IpAddr {
    prefix.parse::<IpNet>().expect("a prefix is stored").addr()
}

/// Returns an agent as its peers see it; `None`: it has no VTEP.
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

impl Checker {
    /// Decodes a value of the log.
    pub fn read(&mut self, value: &Bytes) -> Result<Rc<Stored>, String> {
        const REMEMBERED: usize = 4;
        if let Some((_, stored)) = self.read.iter().find(|(read, _)| read == value) {
            return Ok(stored.clone());
        }
        let (state, agents) = decode(value)?;
        let summaries = agents.values().flat_map(summaries).collect();
        let with = |flag: fn(&AgentInfo) -> bool| {
            let agents = agents.values().filter(|agent| flag(agent));
            agents
                .map(|agent| agent.ip.clone())
                .collect::<BTreeSet<_>>()
        };
        let (confirmed, provisional) = (with(AgentInfo::confirmed), with(AgentInfo::provisional));
        let given = agents
            .values()
            .filter(|agent| !provisional.contains(&agent.ip))
            .map(|agent| overlay_changes::assigned(&state, agent));
        let peers = given
            .filter_map(|agent| Some((agent.ip.clone(), peer(&agent)?)))
            .collect();
        let stored = Rc::new(Stored {
            state,
            agents,
            summaries,
            confirmed,
            provisional,
            peers,
        });
        self.read.truncate(REMEMBERED - 1);
        self.read.insert(0, (value.clone(), stored.clone()));
        Ok(stored)
    }

    /// Checks a value of the log against all earlier ones.
    pub fn log(&mut self, now: Time, value: &Bytes, processes: &[Process]) -> Result<(), String> {
        if *value == self.value {
            return Ok(());
        }
        let before = self.value.clone();
        let (before, after) = (self.read(&before)?, self.read(value)?);
        let agents = after.agents.clone();
        unique(agents.values())?;
        self.forgeries.log(&after)?;
        self.operators.log(&after.state)?;
        for (ip, old) in &self.agents {
            let has = agents
                .get(ip)
                .map(|agent| agent.overlays.as_slice())
                .unwrap_or_default();
            let lost = old
                .overlays
                .iter()
                .filter(|overlay| !has.iter().any(|has| keeps(overlay, has)));
            let agent = processes
                .iter()
                .find(|process| process.ip() == *ip && !process.is_master());
            let let_go = |overlay: &AgentOverlayInfo| {
                agent.is_some_and(|agent| {
                    self.operators
                        .may_go(&before.state, &overlay.info.name, agent)
                })
            };
            // Who has not confirmed may lose all at any time.
            let is_provisional = before.provisional.contains(ip);
            if !is_provisional && !lost.into_iter().all(let_go) {
                let asked = self.may_go.get_mut(ip).filter(|asked| **asked > 0);
                *asked.ok_or_else(|| format!("{ip} lost what it had: {:?}", summaries(old)))? -= 1;
            }
        }
        for (ip, peer) in agents
            .values()
            .filter_map(|agent| Some((&agent.ip, peer(agent)?)))
        {
            self.remember_peer(ip, &peer);
        }
        if before.peers != after.peers {
            self.protocol.peers_changed(now);
        }
        self.value = value.clone();
        self.agents = agents;
        Ok(())
    }

    /// Records a peer that is in the log, also as hosts without IPv6 see it.
    fn remember_peer(&mut self, ip: &str, peer: &Peer) {
        let v4: Vec<IpAddr> = peer.vtep_ips[..1].to_vec();
        for vtep_ips in [&v4, &peer.vtep_ips] {
            self.peers
                .entry(format!("{ip} {vtep_ips:?} {}", peer.vtep_mac))
                .or_default()
                .extend(&peer.subnets);
        }
    }

    /// Returns whether a peer has been in the log, perhaps with more subnets.
    fn was_stored(&self, ip: impl Display, peer: &Peer) -> bool {
        let key = format!("{ip} {:?} {}", peer.vtep_ips, peer.vtep_mac);
        let had = self.peers.get(&key);
        had.is_some_and(|had| peer.subnets.iter().all(|subnet| had.contains(subnet)))
    }

    /// Returns whether the agent is in the log as one that has confirmed a registration.
    pub fn is_confirmed(&self, ip: &str) -> bool {
        self.agents.get(ip).is_some_and(AgentInfo::confirmed)
    }

    /// Forgets the log, because it was replaced.
    pub fn forget_log(&mut self) {
        self.value = Bytes::new();
        self.agents.clear();
        self.operators = Operators::default();
        self.may_go.clear();
    }

    /// Records a request to delete agents. With `force`, connected agents are deleted too.
    pub fn delete(&mut self, process: &Process, ips: &[String], force: bool) {
        ips.iter().for_each(|ip| self.protocol.deleted(process, ip));
        // A predecessor does not care.
        let force = force || process.is_predecessor;
        for ip in ips
            .iter()
            .filter(|ip| force || !process.connected.contains(*ip))
        {
            *self.may_go.entry(ip.clone()).or_default() += 1;
        }
    }

    /// Records an input of a process.
    pub fn input(&mut self, now: Time, process: &mut Process, input: &Input) {
        self.stranger = false;
        self.is_replayed = false;
        let is_from_nobody =
            matches!(input, Input::Exited(pid) if self.forgeries.is_nobody(process, pid));
        self.forgeries.input(process, input);
        if let (false, Input::Exited(pid)) = (is_from_nobody, input) {
            process.ended.insert(pid.clone());
        }
        match input {
            Input::Exited(_) if is_from_nobody => return,
            Input::Exited(pid) if process.connected.remove(&pid.address.ip().to_string()) => {
                process.heard.insert(pid.address.ip().to_string(), now);
            }
            Input::Message { from, body, .. } if self.sessions.is_contact(&process.upid, body) => {
                _ = process.heard.insert(from.address.ip().to_string(), now)
            }
            Input::Fetched(Ok(_)) if process.leads() => _ = process.serves_since.get_or_insert(now),
            Input::Leader(_) if !process.leads() => process.serves_since = None,
            _ => {}
        }
        match process.is_master() {
            true => self.protocol.master_input(now, process, input),
            false => {
                let standing = match input {
                    Input::Message { body, .. } => self.sessions.standing(&process.upid, body),
                    _ => Standing::None,
                };
                self.protocol.agent_input(now, process, input, standing);
            }
        }
        if let (false, Input::Message { from, name, body }) = (process.is_master(), input) {
            // A challenge of a former session tells the agent nothing.
            if name == RegistrationChallengeMessage::NAME
                && self.sessions.standing(&process.upid, body) == Standing::Present
            {
                process.met.insert(from.address);
            }
            // A predecessor obeys anybody.
            self.stranger = !process.is_predecessor && process.leader.as_ref() != Some(from);
            process.knows_peers |= !self.stranger && name == UpdatePeersMessage::NAME;
        }
    }

    /// Records a message of the adversary.
    pub fn forged_input(&mut self, process: &mut Process, origin: Origin, message: &Input) {
        self.stranger = false;
        self.is_replayed = true;
        let is_peers =
            matches!(message, Input::Message { name, .. } if name == UpdatePeersMessage::NAME);
        process.knows_peers |= origin == Origin::Late && is_peers;
        self.forgeries.begin(origin, message);
    }

    /// Checks an effect of a process.
    pub fn effect(&mut self, now: Time, process: &Process, effect: &Effect) -> Result<(), String> {
        let log = self.value.clone();
        let log = self.read(&log).ok();
        self.forgeries.effect(process, log.as_deref(), effect)?;
        if let Effect::Io(Io::Send { to, name, body, .. }) = effect {
            self.sessions.sends(&process.upid, name, body);
            match process.is_master() {
                // Whose registration it answers is not known.
                true if self.forgeries.is_forged() => {}
                true => self
                    .protocol
                    .master_sends(process, &to.address.ip().to_string(), name),
                false if !process.is_predecessor => self.protocol.agent_sends(now, process, name),
                false => {}
            }
        }
        match effect {
            Effect::Log(_, line) if line.starts_with("Reclaiming ") => {
                self.reclaimed(now, process, line)
            }
            Effect::Log(_, line) if line.starts_with("Dropped a list of overlays of revision") => {
                if !self.is_replayed {
                    self.protocol.list_dropped(process);
                }
                Ok(())
            }
            Effect::Log(..) => Ok(()),
            _ if self.stranger => Err("obeys somebody who does not lead".into()),
            // What a stray registration makes a predecessor do.
            Effect::Fetch { .. } if process.is_predecessor => Ok(()),
            Effect::Fetch { .. } if !process.leads() => {
                Err("takes the log over without leading".into())
            }
            Effect::Io(Io::Store { .. }) if process.stored.is_none() => {
                Err("writes without having read".into())
            }
            Effect::Io(Io::Store { .. })
                if process
                    .storing
                    .is_some_and(|began| now < began + WRITE_TIMEOUT) =>
            {
                Err("writes twice at a time".into())
            }
            Effect::Io(Io::Send {
                to,
                name,
                body,
                session,
            }) if *name == UpdateAgentOverlaysMessage::NAME => {
                let message = UpdateAgentOverlaysMessage::decode(body.clone()).unwrap();
                let ip = to.address.ip().to_string();
                self.answered(process, ip, &message, !session.is_empty())
            }
            Effect::Io(Io::Send { to, name, body, .. }) if *name == UpdatePeersMessage::NAME => {
                let message = UpdatePeersMessage::decode(body.clone()).unwrap();
                self.told(&message)?;
                let known = process.known.as_ref().filter(|_| process.leads());
                let known = known.map(|known| self.read(known)).transpose()?;
                self.protocol
                    .list(now, to.address.ip().to_string(), &message, known.as_deref())
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
                    (true, 200) if process.is_predecessor && !process.leads() => Ok(()),
                    (true, 200) => self
                        .same_state(process, response)
                        .map_err(|why| format!("{request}: {why}")),
                    (false, 200) if response.content_type == JSON => {
                        is_registered_only_if_healthy(process, response)
                    }
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

    /// Checks a reassignment: a master must not reassign subnets of an agent that is connected or
    /// within its lease.
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
        if self.protocol.waits(process, ip) {
            return Err(format!("reclaims from {ip}, which waits for its answer"));
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

    /// Checks that an assignment contains exactly what the log has.
    fn answered(
        &mut self,
        process: &Process,
        ip: String,
        message: &UpdateAgentOverlaysMessage,
        is_in_session: bool,
    ) -> Result<(), String> {
        let stored = process
            .stored
            .as_ref()
            .ok_or("answers without knowing what is in the log")?;
        let given: BTreeSet<String> = message.overlays.iter().map(summary).collect();
        // A write that is not acknowledged yet may or may not be seen.
        let known = process.known.as_ref().unwrap_or(stored);
        let [stored, known] = [self.read(stored)?, self.read(known)?];
        let revisions = [&stored, &known].map(|stored| {
            stored
                .state
                .networks
                .as_ref()
                .map_or(0, |networks| networks.revision())
        });
        // Others may have registered in the name of one that had not confirmed, and wanted more or less.
        let is_part = [&stored, &known].into_iter().any(|stored| {
            let has = stored.agents.get(&ip).map(|agent| &agent.overlays);
            let is_had = |given| has.is_some_and(|has| has.iter().any(|has| keeps(given, has)));
            message.overlays.iter().all(is_had)
        });
        let [stored, known] = [stored, known].map(|stored| {
            stored
                .agents
                .get(&ip)
                .map(|agent| summaries(&assigned_by(process, &stored.state, agent)))
        });
        let (stored, known) = (stored.unwrap_or_default(), known.unwrap_or_default());
        if let Some(revision) = message
            .revision
            .filter(|revision| !revisions.contains(revision))
        {
            return Err(format!(
                "tells {ip} of revision {revision}, but {revisions:?} are in the log"
            ));
        }
        match is_in_session {
            true => self.protocol.listed(process, &ip, message.revision),
            false => self.protocol.forget_receiver(&ip),
        }
        if given != stored && given != known && !is_part {
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
        let vxlans = message
            .overlays
            .iter()
            .filter_map(|overlay| overlay.backend.vxlan.as_ref());
        self.given_vteps
            .extend(vxlans.map(|vxlan| (ip.clone(), vxlan.vtep_mac.parse().unwrap())));
        Ok(())
    }

    /// Checks that peers in a message have been in the log.
    fn told(&self, message: &UpdatePeersMessage) -> Result<(), String> {
        for told in peer_lists::peers(message) {
            // The VTEP has all the families that it ever had, the agent may want one.
            if !self.was_stored(&told.ip, &peer_lists::read(&told)) {
                return Err(format!("tells of a peer that was never stored: {told:?}"));
            }
        }
        Ok(())
    }

    /// Checks that an agent configures only what it was assigned.
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
        if let Some(vtep) = &desired.vtep
            && !self.given_vteps.contains(&(process.ip(), vtep.mac))
        {
            return Err(format!("sets up {vtep:?}, which it was not given"));
        }
        let peers = desired.peers.iter().flat_map(|peers| peers.iter());
        let mut invented = peers.filter(|(ip, peer)| !self.was_stored(ip, peer));
        if let Some(peer) = invented.next() {
            return Err(format!("sets up a peer that was never stored: {peer:?}"));
        }
        Ok(())
    }

    /// Checks that a master's view matches the log.
    fn same_state(&mut self, process: &Process, response: &Response) -> Result<(), String> {
        let stored = process
            .stored
            .as_ref()
            .ok_or("answers without knowing what is in the log")?;
        // A write that is not acknowledged yet may or may not be seen.
        let known = process.known.as_ref().unwrap_or(stored);
        let shown = parse_state(response)?.summaries();
        let [stored, known] = [self.read(stored)?, self.read(known)?];
        match shown == stored.summaries || shown == known.summaries {
            true => Ok(()),
            false => Err(format!(
                "shows {shown:?}, but {:?} is in the log",
                stored.summaries
            )),
        }
    }
}
