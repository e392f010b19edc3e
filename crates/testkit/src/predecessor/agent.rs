//! Model of the C++ agent module.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use overlay_core::config::AgentConfig;
use overlay_core::host_api::desired::{Bridge, Desired, Overlay, Vtep};
use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::agent_overlay_info::state::Status;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage,
    RegisterAgentMessage, UpdateAgentOverlaysMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BridgeInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{
    Effect, HostReport, Input, Io, MASTER_ID, Machine, Request, Response, Time, Upid,
};
use prost::Message;
use serde_json::json;

use super::send;

/// Upper limit of the first delay before a message is sent; it doubles with each attempt.
const FIRST: Duration = Duration::from_secs(5);
/// Upper limit of all delays before a message is sent.
const LONGEST: Duration = Duration::from_secs(600);

/// Unknown details of the C++ module.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The agent drops a list of overlays that it did not request.
    pub drops_unasked: bool,
}

/// Phase of the registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    NoMaster,
    Registering,
    Configuring,
    Reporting,
    Registered,
}

/// Model of a C++ agent.
#[derive(Debug)]
pub struct OldAgent {
    config: AgentConfig,
    me: Upid,
    habits: Habits,
    random: fastrand::Rng,
    master: Option<Upid>,
    phase: Phase,
    overlays: Vec<AgentOverlayInfo>,
    /// Number of reconciliations of the host; `attempts` counts those for the current list.
    generation: u64,
    attempts: u32,
    timer: Option<Time>,
    window: Duration,
    effects: VecDeque<Effect>,
}

impl OldAgent {
    /// Makes an agent.
    pub fn new(config: AgentConfig, me: Upid, seed: u64, habits: Habits) -> OldAgent {
        OldAgent {
            config,
            me,
            habits,
            random: fastrand::Rng::with_seed(seed),
            master: None,
            phase: Phase::NoMaster,
            overlays: Vec::new(),
            generation: 0,
            attempts: 0,
            timer: None,
            window: FIRST,
            effects: VecDeque::new(),
        }
    }

    fn leader(&mut self, now: Time, leader: Option<Upid>) {
        self.master = leader.map(|leader| Upid::new(MASTER_ID, leader.address));
        self.timer = None;
        self.phase = Phase::NoMaster;
        if let Some(master) = self.master.clone() {
            self.effects.push_back(Effect::Io(Io::Link {
                to: master,
                reconnect: false,
            }));
            self.phase = Phase::Registering;
            self.window = FIRST;
            self.wait(now);
        }
    }

    /// Schedules the next message after a random delay.
    fn wait(&mut self, now: Time) {
        self.timer = Some(
            now + self
                .window
                .mul_f64(self.random.f64())
                .max(Duration::from_millis(1)),
        );
        self.window = (self.window * 2).min(LONGEST);
    }

    fn timeout(&mut self, now: Time) {
        if self.timer.is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Registering => self.register(),
            Phase::Reporting => self.report(),
            _ => {
                self.timer = None;
                return;
            }
        }
        self.wait(now);
    }

    fn register(&mut self) {
        let Some(master) = &self.master else { return };
        let network = &self.config.network;
        let network_config = AgentNetworkConfig {
            allocate_subnet: Some(network.allocate_subnet),
            mesos_bridge: Some(network.mesos_bridge),
            docker_bridge: Some(network.docker_bridge),
            enable_ipv6: Some(network.enable_ipv6),
            ..Default::default()
        };
        let message = RegisterAgentMessage {
            network_config,
            ..Default::default()
        };
        self.effects.push_back(send(master, &message));
    }

    fn report(&mut self) {
        let Some(master) = &self.master else { return };
        let message = AgentRegisteredMessage {
            overlays: self.overlays.clone(),
            ..Default::default()
        };
        self.effects.push_back(send(master, &message));
    }

    /// Handles a message from any sender, as the C++ agent does.
    fn message(&mut self, name: &str, body: Bytes) {
        match name {
            UpdateAgentOverlaysMessage::NAME => {
                let Ok(message) = UpdateAgentOverlaysMessage::decode(body) else {
                    return;
                };
                if self.phase != Phase::Registering && self.habits.drops_unasked {
                    return;
                }
                self.overlays = message.overlays;
                self.attempts = 0;
                self.phase = Phase::Configuring;
                self.timer = None;
                self.configure();
            }
            AgentRegisteredAcknowledgement::NAME if self.phase == Phase::Reporting => {
                self.phase = Phase::Registered;
                self.timer = None;
            }
            _ => {}
        }
    }

    fn configure(&mut self) {
        self.generation += 1;
        self.attempts += 1;
        let desired = Arc::new(self.desired());
        self.effects.push_back(Effect::ApplyHost {
            generation: self.generation,
            desired,
        });
    }

    fn host_done(&mut self, now: Time, report: &HostReport) {
        if report.generation != self.generation || self.phase != Phase::Configuring {
            return;
        }
        if !report.is_ok() && self.attempts < self.config.max_configuration_attempts {
            return self.configure();
        }
        let wants_docker = self.config.network.docker_bridge;
        for overlay in &mut self.overlays {
            let missing = (wants_docker && overlay.docker_bridge.is_none())
                .then(|| "Missing Docker bridge info".to_owned());
            let error = report
                .overlays
                .get(&overlay.info.name)
                .or(report.host.first().map(|problem| &problem.text))
                .cloned()
                .or(missing);
            let status = if error.is_some() {
                Status::Failed
            } else {
                Status::Ok
            };
            overlay.state = Some(State {
                status: Some(status.into()),
                error,
            });
        }
        self.phase = Phase::Reporting;
        self.window = FIRST;
        self.report();
        self.wait(now);
    }

    /// Returns a desired state without peers: another program configures routes, neighbours and FDB.
    fn desired(&self) -> Desired {
        let vxlan = self
            .overlays
            .iter()
            .find_map(|overlay| overlay.backend.vxlan.as_ref());
        let vtep = vxlan.map(|vxlan| Vtep {
            name: vxlan.vtep_name.clone(),
            vni: vxlan.vni,
            mac: vxlan.vtep_mac.parse().unwrap(),
            addresses: nets([Some(&vxlan.vtep_ip), vxlan.vtep_ip6.as_ref()]),
            mtu: vxlan.vtep_mtu,
        });
        let overlays = self
            .overlays
            .iter()
            .map(|it| (it.info.name.clone(), overlay(it)));
        Desired {
            vtep,
            overlays: overlays.collect(),
            ..Desired::default()
        }
    }

    fn request(&mut self, request: &Request) {
        let overlays: Vec<_> = self
            .overlays
            .iter()
            .map(super::master::overlay_json)
            .collect();
        let response = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/overlay-agent/overlay") => {
                let json = json!({ "ip": self.me.address.ip().to_string(), "overlays": overlays });
                Response::json(json.to_string(), None)
            }
            (_, path) => Response::not_found(path, &["/overlay-agent/overlay"]),
        };
        self.effects.push_back(Effect::Io(Io::Respond {
            id: request.id,
            response,
        }));
    }
}

fn nets<const N: usize>(texts: [Option<&String>; N]) -> Vec<IpNet> {
    texts
        .into_iter()
        .flatten()
        .map(|text| text.parse().unwrap())
        .collect()
}

fn overlay(info: &AgentOverlayInfo) -> Overlay {
    let bridge = |it: &BridgeInfo| Bridge {
        name: it.name.clone(),
        subnets: nets([it.ip.as_ref(), it.ip6.as_ref()]),
    };
    Overlay {
        ranges: nets([info.info.subnet.as_ref(), info.info.subnet6.as_ref()]),
        subnets: nets([info.subnet.as_ref(), info.subnet6.as_ref()]),
        mesos_bridge: info.mesos_bridge.as_ref().map(bridge),
        docker_bridge: info.docker_bridge.as_ref().map(bridge),
        mtu: 1420,
    }
}

impl Machine for OldAgent {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Message { name, body, .. } => self.message(&name, body),
            Input::Request(request) => self.request(&request),
            // The detector reports the same master again.
            Input::Exited(pid) if self.master.as_ref() == Some(&pid) => self.leader(now, Some(pid)),
            Input::Leader(leader) => self.leader(now, leader),
            Input::HostDone(report) => self.host_done(now, &report),
            Input::Timeout => self.timeout(now),
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.timer
    }
}
