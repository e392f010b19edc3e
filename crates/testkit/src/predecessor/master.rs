//! Model of the C++ master module.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use bytes::{Buf, Bytes};
use ipnet::IpNet;
use overlay_core::allocation::prefix::{halves, overlap};
use overlay_core::config::overlay::Definition;
use overlay_core::config::{Network, OverlayConfig, Range};
use overlay_core::proto::agent_overlay_info::State as OverlayState;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage,
    RegisterAgentMessage, UpdateAgentOverlaysMessage,
};
use overlay_core::proto::{AgentInfo, AgentOverlayInfo, BackendInfo, BridgeInfo, State, VxLanInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{
    Effect, Input, Io, Machine, Request, RequestId, Response, StoreOutcome, Time, Upid,
};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use serde_json::{Value, json};

use super::send;

/// Unknown details of the C++ module.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The master writes unknown fields back to the log.
    pub keeps_unknown_fields: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The log has not been read; the first registration causes that.
    Fresh,
    Reading,
    Serving,
}

/// A change that waits for the previous write.
#[derive(Clone, Debug)]
enum Work {
    Register(Upid, AgentNetworkConfig),
    Delete(RequestId, Vec<String>),
}

type Agents = BTreeMap<String, AgentInfo>;

/// Model of a C++ master.
#[derive(Debug)]
pub struct OldMaster {
    network: Network,
    me: Upid,
    habits: Habits,
    leads: bool,
    phase: Phase,
    /// Agents in the log.
    agents: Agents,
    states: BTreeMap<(String, String), OverlayState>,
    /// Unknown fields of the log.
    unknown: Vec<u8>,
    waiting: VecDeque<Work>,
    /// Current write, its cause, and the state that it stores.
    writing: Option<(Work, Agents)>,
    writes: u64,
    /// Unanswered reads and writes, including those of earlier terms.
    reading: u32,
    written: bool,
    effects: VecDeque<Effect>,
}

impl OldMaster {
    /// Makes a master.
    pub fn new(network: Network, me: Upid, habits: Habits) -> OldMaster {
        OldMaster {
            network,
            me,
            habits,
            leads: false,
            phase: Phase::Fresh,
            agents: Agents::new(),
            states: BTreeMap::new(),
            unknown: Vec::new(),
            waiting: VecDeque::new(),
            writing: None,
            writes: 0,
            reading: 0,
            written: true,
            effects: VecDeque::new(),
        }
    }

    /// Handles a change of the leader. A Mesos master exits when it loses the leadership.
    fn leader(&mut self, leader: Option<Upid>) {
        let leads = leader.is_some_and(|leader| leader.address == self.me.address);
        if leads != self.leads {
            self.leads = leads;
            self.forget();
        }
    }

    fn forget(&mut self) {
        let written = self.writing.take().map(|(work, _)| work);
        for work in written.into_iter().chain(std::mem::take(&mut self.waiting)) {
            if let Work::Delete(id, _) = work {
                self.respond(id, Response::unavailable("It ended."));
            }
        }
        self.phase = Phase::Fresh;
        self.agents.clear();
        self.states.clear();
    }

    fn message(&mut self, from: Upid, name: &str, body: Bytes) {
        match name {
            RegisterAgentMessage::NAME => {
                let Ok(message) = RegisterAgentMessage::decode(body) else {
                    return;
                };
                match self.phase {
                    // The master does this without leading too. The registration is lost.
                    Phase::Fresh => {
                        self.phase = Phase::Reading;
                        self.reading += 1;
                        self.effects.push_back(Effect::Fetch { reopen: false });
                    }
                    Phase::Serving if self.leads => {
                        self.effects.push_back(Effect::Io(Io::Link {
                            to: from.clone(),
                            reconnect: false,
                        }));
                        self.waiting
                            .push_back(Work::Register(from, message.network_config));
                        self.work();
                    }
                    Phase::Reading | Phase::Serving => {}
                }
            }
            AgentRegisteredMessage::NAME => {
                let Ok(message) = AgentRegisteredMessage::decode(body) else {
                    return;
                };
                let ip = from.address.ip().to_string();
                if self.phase != Phase::Serving || !self.leads || !self.agents.contains_key(&ip) {
                    return;
                }
                for overlay in message.overlays {
                    if let Some(state) = overlay.state {
                        self.states.insert((ip.clone(), overlay.info.name), state);
                    }
                }
                self.effects
                    .push_back(send(&from, &AgentRegisteredAcknowledgement::default()));
            }
            _ => {}
        }
    }

    fn fetched(&mut self, value: Result<Bytes, String>) {
        self.reading -= 1;
        if self.phase != Phase::Reading || self.reading > 0 {
            return;
        }
        self.phase = Phase::Fresh;
        let Ok(value) = value else { return };
        let Ok(state) = State::decode(value.clone()) else {
            return;
        };
        self.agents = state
            .agents
            .into_iter()
            .map(|agent| (agent.ip.clone(), agent))
            .collect();
        self.unknown = match self.habits.keeps_unknown_fields {
            true => unknown_fields(value),
            false => Vec::new(),
        };
        if !self.habits.keeps_unknown_fields {
            for agent in self.agents.values_mut() {
                (agent.confirmed, agent.provisional) = (None, None);
            }
        }
        self.phase = Phase::Serving;
    }

    /// Handles queued changes until there is something to write.
    fn work(&mut self) {
        while self.written && self.writing.is_none() {
            let Some(work) = self.waiting.pop_front() else {
                return;
            };
            let mut agents = self.agents.clone();
            let changed = match &work {
                Work::Register(from, config) => {
                    let ip = from.address.ip().to_string();
                    let known = agents.contains_key(&ip);
                    if !known {
                        // An agent that gets no allocation gets no answer.
                        let Some(info) = self.allocate(&ip, config) else {
                            continue;
                        };
                        agents.insert(ip, info);
                    }
                    !known
                }
                Work::Delete(_, ips) => ips
                    .iter()
                    .fold(false, |any, ip| agents.remove(ip).is_some() | any),
            };
            if changed {
                self.write(work, agents);
            } else {
                self.done(work);
            }
        }
    }

    fn write(&mut self, work: Work, agents: Agents) {
        let network = Some(self.network.to_wire());
        let state = State {
            network,
            agents: agents.values().cloned().collect(),
            ..Default::default()
        };
        let mut value = state.encode_to_vec();
        value.extend_from_slice(&self.unknown);
        self.writes += 1;
        self.written = false;
        self.effects.push_back(Effect::Io(Io::Store {
            number: self.writes,
            state: value.into(),
        }));
        self.writing = Some((work, agents));
    }

    fn stored(&mut self, number: u64, outcome: &StoreOutcome) {
        if number != self.writes {
            return;
        }
        self.written = true;
        if self.writing.is_some() && *outcome != StoreOutcome::Stored {
            return self.forget();
        }
        if let Some((work, agents)) = self.writing.take() {
            self.agents = agents;
            self.done(work);
        }
        self.work();
    }

    fn done(&mut self, work: Work) {
        match work {
            Work::Register(from, _) => {
                let Some(info) = self.agents.get(&from.address.ip().to_string()) else {
                    return;
                };
                let known = |it: &&AgentOverlayInfo| {
                    self.overlay(&it.info.name).is_some_and(|it| it.enabled)
                };
                let overlays = info.overlays.iter().filter(known).cloned().collect();
                let message = UpdateAgentOverlaysMessage {
                    overlays,
                    ..Default::default()
                };
                self.effects.push_back(send(&from, &message));
            }
            Work::Delete(id, ips) => {
                self.states.retain(|(ip, _), _| !ips.contains(ip));
                let response = self.state();
                self.respond(id, response);
            }
        }
    }

    fn overlay(&self, name: &str) -> Option<&OverlayConfig> {
        self.network.overlay(name).map(Definition::config)
    }

    // Allocation.

    fn allocate(&self, ip: &str, config: &AgentNetworkConfig) -> Option<AgentInfo> {
        let network = &self.network;
        let v6 = config.enable_ipv6();
        let vtep4 = self.vtep(network.vtep_subnet.into())?;
        let vtep6 = match network.vtep_subnet6.filter(|_| v6) {
            Some(range) => Some(self.vtep(range.into())?),
            None => None,
        };
        let IpAddr::V4(address) = vtep4.addr() else {
            return None;
        };
        let ([a, b, c], [_, d, e, f]) = (network.vtep_mac_oui, address.octets());
        let vxlan = VxLanInfo {
            vni: 1024,
            vtep_name: "vtep1024".into(),
            vtep_ip: vtep4.to_string(),
            vtep_ip6: vtep6.map(|net| net.to_string()),
            vtep_mac: format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
            vtep_mtu: network.vtep_mtu,
        };
        let mut overlays = Vec::new();
        for overlay in network
            .overlays
            .iter()
            .filter(|it| it.config().enabled && (it.config().v4.is_some() || v6))
        {
            overlays.push(self.share(overlay, config, &vxlan)?);
        }
        Some(AgentInfo {
            ip: ip.to_owned(),
            overlays,
            ..AgentInfo::default()
        })
    }

    fn share(
        &self,
        definition: &Definition,
        config: &AgentNetworkConfig,
        vxlan: &VxLanInfo,
    ) -> Option<AgentOverlayInfo> {
        let overlay = definition.config();
        let wanted = |range: Option<Range>| range.filter(|_| config.allocate_subnet());
        let v4 = wanted(overlay.v4).map(|range| self.subnet(range));
        let v6 = wanted(overlay.v6)
            .filter(|_| config.enable_ipv6())
            .map(|range| self.subnet(range));
        let (v4, v6) = (
            v4.map_or(Some(None), |net| net.map(Some))?,
            v6.map_or(Some(None), |net| net.map(Some))?,
        );
        let bridge = |letter: char, upper: bool| {
            let half =
                |net: Option<IpNet>| net.and_then(halves).map(|(a, b)| if upper { b } else { a });
            BridgeInfo {
                name: format!("{letter}-{}", overlay.name),
                ip: half(v4).map(|net| net.to_string()),
                ip6: half(v6).map(|net| net.to_string()),
            }
        };
        let has_subnet = v4.is_some() || v6.is_some();
        Some(AgentOverlayInfo {
            info: definition.info().clone(),
            subnet: v4.map(|net| net.to_string()),
            subnet6: v6.map(|net| net.to_string()),
            mesos_bridge: (has_subnet && config.mesos_bridge()).then(|| bridge('m', false)),
            docker_bridge: (has_subnet && config.docker_bridge()).then(|| bridge('d', true)),
            backend: BackendInfo {
                vxlan: Some(vxlan.clone()),
            },
            ..AgentOverlayInfo::default()
        })
    }

    /// Returns the lowest free address, without the first and the last one.
    fn vtep(&self, range: IpNet) -> Option<IpNet> {
        let all = Range {
            net: range,
            prefix: range.max_prefix_len(),
        };
        let overlays = self.agents.values().flat_map(|agent| &agent.overlays);
        let vxlans: Vec<_> = overlays
            .filter_map(|overlay| overlay.backend.vxlan.as_ref())
            .collect();
        let taken: Vec<IpAddr> = vxlans
            .iter()
            .flat_map(|vxlan| {
                [Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()]
                    .into_iter()
                    .flatten()
            })
            .map(|text| text.parse::<IpNet>().unwrap().addr())
            .collect();
        let free = (1..all.last_index())
            .filter_map(|index| all.subnet(index))
            .map(|net| net.addr());
        IpNet::new(
            free.into_iter().find(|address| !taken.contains(address))?,
            range.prefix_len(),
        )
        .ok()
    }

    /// Returns the lowest free subnet.
    fn subnet(&self, range: Range) -> Option<IpNet> {
        let overlays = self.agents.values().flat_map(|agent| &agent.overlays);
        let taken: Vec<IpNet> = overlays
            .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6].into_iter().flatten())
            .map(|text| text.parse().unwrap())
            .collect();
        let all = (0..=range.last_index()).filter_map(|index| range.subnet(index));
        all.into_iter()
            .find(|net| !taken.iter().any(|taken| overlap(*taken, *net)))
    }

    // Endpoints.

    fn respond(&mut self, id: RequestId, response: Response) {
        self.effects
            .push_back(Effect::Io(Io::Respond { id, response }));
    }

    fn request(&mut self, request: &Request) {
        let response = match (request.method.as_str(), request.path.as_str()) {
            _ if self.phase != Phase::Serving => {
                Response::unavailable("The log has not been read.")
            }
            ("GET", "/overlay-master/state") => self.state(),
            // (Operators ask the leader, so answers of standbys do not matter.)
            ("POST", _) if !self.leads => Response::unavailable("Ask the leader."),
            ("POST", "/overlay-master/agents/delete") => match agents_to_delete(&request.body) {
                Some(ips) => {
                    self.waiting.push_back(Work::Delete(request.id, ips));
                    return self.work();
                }
                None => Response::bad_request("Not a list of IPv4 addresses."),
            },
            (_, path) => Response::not_found(path, &["/overlay-master/state"]),
        };
        self.respond(request.id, response);
    }

    fn state(&self) -> Response {
        let overlay = |ip: &str, overlay: &AgentOverlayInfo| {
            let state = self
                .states
                .get(&(ip.to_owned(), overlay.info.name.clone()))
                .cloned();
            overlay_json(&AgentOverlayInfo {
                state,
                ..overlay.clone()
            })
        };
        let agents: Vec<Value> = self
            .agents
            .values()
            .map(|agent| {
                let overlays: Vec<_> = agent
                    .overlays
                    .iter()
                    .map(|it| overlay(&agent.ip, it))
                    .collect();
                json!({ "ip": agent.ip, "overlays": overlays })
            })
            .collect();
        Response::json(json!({ "agents": agents }).to_string(), None)
    }
}

/// Returns an overlay as both endpoints of the C++ modules show it, with the members that tests use.
pub fn overlay_json(overlay: &AgentOverlayInfo) -> Value {
    let vxlan = overlay.backend.vxlan.clone().unwrap_or_default();
    json!({
        "info": { "name": overlay.info.name },
        "subnet": overlay.subnet,
        "subnet6": overlay.subnet6,
        "backend": { "vxlan": {
            "vtep_ip": vxlan.vtep_ip,
            "vtep_ip6": vxlan.vtep_ip6,
            "vtep_mac": vxlan.vtep_mac,
        }},
        "state": overlay.state.as_ref().map(|state| json!({ "status": state.status().as_str_name() })),
    })
}

fn agents_to_delete(body: &[u8]) -> Option<Vec<String>> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let ip = |ip: &Value| Some(ip.as_str()?.parse::<std::net::Ipv4Addr>().ok()?.to_string());
    json["agents"].as_array()?.iter().map(ip).collect()
}

/// Returns the encoded fields of a message that C++ modules do not know.
pub fn unknown_fields(mut message: Bytes) -> Vec<u8> {
    let mut unknown = Vec::new();
    while message.has_remaining() {
        let field = message.clone();
        let (number, kind) = decode_key(&mut message).expect("a message");
        skip_field(kind, number, &mut message, DecodeContext::default()).expect("a message");
        if number >= 100 {
            unknown.extend_from_slice(&field[..field.len() - message.len()]);
        }
    }
    unknown
}

impl Machine for OldMaster {
    fn handle(&mut self, _: Time, input: Input) {
        match input {
            Input::Message { from, name, body } => self.message(from, &name, body),
            Input::Request(request) => self.request(&request),
            Input::Leader(leader) => self.leader(leader),
            Input::Fetched(value) => self.fetched(value),
            Input::Stored { number, outcome } => self.stored(number, &outcome),
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }
}
