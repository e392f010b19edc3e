//! The agent's role: find the leading master, register, make the host match what
//! it answers, report.
//!
//! Four parts that know nothing of each other, and [`Agent`] between them:
//!
//! * [`registration`]: who leads, how far the agent has come with it, and the one
//!   timer after which it is asked again;
//! * [`configuration`]: passes over the host, how each overlay fares, and when the
//!   next attempt is due;
//! * [`engine`]: the same for the container engine's networks;
//! * [`peers`]: the other agents.
//!
//! A change of leader touches the first only: a pass that is under way goes on,
//! and what is configured stays until the new leader says otherwise.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{AgentConfig, OVERLAY_MTU};
use crate::host_api::desired::{Backend, Cni, Desired, Removal};
use crate::machine::first_number;
use crate::metrics::Metric;
use crate::proto::AgentOverlayInfo;
use crate::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage,
    PeersReceivedMessage, RegisterAgentMessage, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use crate::protocol::messages::Named;
use crate::protocol::peer_list_codec::unpack;
use crate::util::throttle::Throttle;
use crate::{Effect, Input, Io, Level, Machine, Time, Upid};

mod assignment;
pub mod endpoints;
mod engine_sync;
mod host_sync;
mod metrics;
mod peers;
mod progress;
mod registration;

use assignment::quote;
use engine_sync::Engine;
use host_sync::Configuration;
use metrics::{Counters, Samples};
use peers::Peers;
use registration::{Phase, Registration};

/// The agent's machine.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    me: Upid,
    random: fastrand::Rng,
    registration: Registration,
    configuration: Configuration,
    engine: Engine,
    peers: Peers,
    /// What the master said this agent should have and has not, one sentence each.
    problems: Vec<String>,
    /// The revision of the networks that the master's latest list was made from, if it
    /// said so.
    revision: Option<u64>,
    /// The same of the latest list that the host was found to match.
    settled: Option<u64>,
    /// What the master said became of ranges that this agent had before; until it
    /// registers anew.
    notices: Vec<String>,
    /// The last report to the master.
    reported: AgentRegisteredMessage,
    /// The last report that a master acknowledged.
    acknowledged: AgentRegisteredMessage,
    samples: Samples,
    counters: Counters,
    throttle: Throttle,
    effects: VecDeque<Effect>,
    /// How many machines there were before this one in the same process.
    restarts: u64,
}

impl Machine for Agent {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Message { from, name, body } => self.on_message(now, &from, &name, body),
            Input::Request(request) => self.on_request(&request),
            Input::Exited(pid) => self.on_exited(now, &pid),
            Input::Leader(leader) => self.on_leader(now, leader),
            Input::HostDone(report) => self.on_host_done(now, report),
            Input::EngineDone(report) => self.on_engine_done(now, report),
            Input::Usage(usage) => self.on_usage(usage),
            Input::Timeout => self.on_timeout(now),
            // An agent has no log.
            Input::Fetched(_) | Input::Stored { .. } => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let due = [
            self.registration.timer(),
            self.configuration.retry_at(),
            self.engine.retry_at(),
        ];
        due.into_iter().flatten().min()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.numbers().into_snapshot()
    }
}

impl Agent {
    /// An agent that is reached under `me`; its address is the agent's key at the
    /// master. `seed` is for the jitter of its delays.
    pub fn new(config: AgentConfig, me: Upid, seed: u64) -> Agent {
        Agent {
            config,
            me,
            random: fastrand::Rng::with_seed(seed),
            registration: Registration::new(),
            configuration: Configuration::after(first_number(0)),
            engine: Engine::after(first_number(0)),
            peers: Peers::default(),
            problems: Vec::new(),
            revision: None,
            settled: None,
            notices: Vec::new(),
            reported: AgentRegisteredMessage::default(),
            acknowledged: AgentRegisteredMessage::default(),
            samples: Samples::default(),
            counters: Counters::default(),
            throttle: Throttle::default(),
            effects: VecDeque::new(),
            restarts: 0,
        }
    }

    /// Sets how many agents this process created before, each of which panicked.
    pub fn restarted(mut self, restarts: u64) -> Agent {
        self.configuration = Configuration::after(first_number(restarts));
        self.engine = Engine::after(first_number(restarts));
        self.restarts = restarts;
        self
    }

    /// Whether the leading master has acknowledged that everything it gave this
    /// agent is in place.
    pub fn is_registered(&self) -> bool {
        self.registration.confirmed && self.is_whole() && self.acknowledged == self.present()
    }

    fn is_whole(&self) -> bool {
        self.problems.is_empty()
            && self.configuration.is_whole()
            && self.engine.is_whole()
            && self.peers.faults().next().is_none()
    }

    fn on_leader(&mut self, now: Time, leader: Option<Upid>) {
        let Some(leader) = leader else {
            if self.registration.master().is_some() {
                self.log(
                    Level::Warning,
                    "No Mesos master leads; the overlays stay as they are".into(),
                );
            }
            self.registration.lost();
            return;
        };
        let (master, first) = self.registration.found(now, &leader, &mut self.random);
        self.log(Level::Info, format!("Registering with {master}"));
        self.effects.push_back(Effect::Io(Io::Link {
            to: master,
            reconnect: false,
        }));
        if first {
            self.register(now);
        }
    }

    fn on_exited(&mut self, now: Time, pid: &Upid) {
        if self.registration.master() == Some(pid) {
            self.warn(now, "exited", || {
                format!("The connection to {pid} broke; registering again")
            });
            self.registration.broke(now, &mut self.random);
        }
    }

    fn on_timeout(&mut self, now: Time) {
        if self.registration.timer().is_some_and(|at| at <= now) {
            self.register(now);
        }
        if self.configuration.retry_at().is_some_and(|at| at <= now) {
            self.apply(now);
        }
        if self.engine.retry_at().is_some_and(|at| at <= now) {
            self.apply_engine();
        }
    }

    /// Asks the master for this agent's overlays.
    fn register(&mut self, now: Time) {
        let Some(master) = self.registration.master().cloned() else {
            return;
        };
        if let Some(reconnect) = self.registration.asks(now, &mut self.random) {
            self.effects.push_back(Effect::Io(Io::Link {
                to: master.clone(),
                reconnect,
            }));
        }
        let network = &self.config.network;
        let message = RegisterAgentMessage {
            network_config: AgentNetworkConfig {
                allocate_subnet: Some(network.allocate_subnet),
                mesos_bridge: Some(network.mesos_bridge),
                docker_bridge: Some(network.docker_bridge),
                overlay_mtu: Some(network.overlay_mtu.unwrap_or(OVERLAY_MTU)),
                command_timeout: Some(
                    network
                        .command_timeout
                        .as_millis()
                        .try_into()
                        .unwrap_or(u32::MAX),
                ),
                enable_ipv6: Some(network.enable_ipv6),
            },
            peers: (self.config.backend == Backend::Internal).then(|| self.peers.version()),
            unpacks_peers: (self.config.backend == Backend::Internal).then_some(true),
        };
        self.counters.registers_sent += 1;
        self.effects.push_back(Effect::send(master, &message));
    }

    fn on_message(&mut self, now: Time, from: &Upid, name: &str, body: Bytes) {
        self.counters.received(name);
        if self.registration.master() != Some(from) {
            let master = self
                .registration
                .master()
                .map_or("nobody".to_owned(), Upid::to_string);
            self.counters.dropped(name);
            let name = quote(name);
            self.warn(now, "stranger", || {
                format!("Dropped {name} from {from}: the leading overlay master is {master}")
            });
            return;
        }
        match name {
            UpdateAgentOverlaysMessage::NAME => self.decoded(now, from, body, Self::on_overlays),
            AgentRegisteredAcknowledgement::NAME => {
                self.decoded(now, from, body, Self::on_acknowledgement)
            }
            RegistrationRefusedMessage::NAME => self.decoded(now, from, body, Self::on_refusal),
            UpdatePeersMessage::NAME => self.decoded(now, from, body, Self::on_peers),
            _ => self.warn(now, "unknown", || {
                format!(
                    "Dropped {} from {from}: an agent takes no such message",
                    quote(name)
                )
            }),
        }
    }

    /// Hands the message on, or says who sent something that is none.
    fn decoded<M: Named>(
        &mut self,
        now: Time,
        from: &Upid,
        body: Bytes,
        to: fn(&mut Self, Time, M),
    ) {
        match M::decode(body) {
            Ok(message) => to(self, now, message),
            Err(error) => self.garbled::<M>(now, from, &error.to_string()),
        }
    }

    fn garbled<M: Named>(&mut self, now: Time, from: &Upid, error: &str) {
        self.counters.dropped(M::NAME);
        self.warn(now, "garbled", || {
            format!("Dropped {} from {from}: {error}", M::NAME)
        });
    }

    fn on_overlays(&mut self, now: Time, message: UpdateAgentOverlaysMessage) {
        // Changed networks may leave nothing for this agent.
        if message.overlays.is_empty() && !self.registration.asked && message.revision.is_none() {
            self.take_notices(message.notices);
            return self.on_deleted(now);
        }
        if let Err(known) = self.registration.takes(message.revision) {
            self.counters.dropped(UpdateAgentOverlaysMessage::NAME);
            let revision = message.revision.unwrap_or_default();
            return self.warn(now, "late", || {
                format!(
                    "Dropped a list of overlays of revision {revision}: the master has said {known} since"
                )
            });
        }
        self.take_notices(message.notices);
        if self.problems != message.problems {
            for problem in &message.problems {
                self.log(
                    Level::Warning,
                    format!("The master says: {}", quote(problem)),
                );
            }
            self.problems = message.problems;
        }
        self.listed(message.revision);
        let engine = self.give(message.overlays);
        self.registration.answered(now, &mut self.random);
        self.apply(now);
        if engine {
            self.apply_engine();
        }
    }

    /// What the master says of ranges that this agent had before. Lists that come
    /// without are no news, unless they answer a registration.
    fn take_notices(&mut self, notices: Vec<String>) {
        if notices.is_empty() && self.registration.phase != Phase::Registering {
            return;
        }
        if self.notices != notices {
            for notice in &notices {
                self.log(
                    Level::Warning,
                    format!("The master says: {}", quote(notice)),
                );
            }
            self.notices = notices;
        }
    }

    /// An empty list that nobody asked for: an operator gave this agent's subnets
    /// back, or its lease ended. They must be off the host before the agent asks for new ones.
    fn on_deleted(&mut self, now: Time) {
        self.problems.clear();
        self.listed(None);
        let engine = self.give(Vec::new());
        if self.registration.phase != Phase::Registering {
            self.log(
                Level::Warning,
                "The master took this agent's overlays away; registering anew".into(),
            );
            self.registration.start_over(now, &mut self.random);
        }
        self.apply(now);
        if engine {
            self.apply_engine();
        }
    }

    /// There is a list that was made from the networks of this revision. What is known
    /// of the revision before holds until the host was looked at again, but not when
    /// another master counts anew, or does not count.
    fn listed(&mut self, revision: Option<u64>) {
        self.settled = self
            .settled
            .filter(|settled| revision.is_some_and(|revision| *settled <= revision));
        self.revision = revision;
    }

    /// The host, and the engine, were looked at.
    fn note_settled(&mut self) {
        if self.configuration.is_settled() && self.engine.is_settled() {
            self.settled = self.revision;
        }
    }

    /// Takes over the master's list, and tells the operator if it is another one.
    /// Gives whether the container engine has to be told.
    fn give(&mut self, overlays: Vec<AgentOverlayInfo>) -> bool {
        let given = assignment::read(&self.config, overlays);
        let engine = self.engine.give(&self.config, &given);
        let before = self.configuration.given().cloned().unwrap_or_default();
        if !self.configuration.give(given.clone()) {
            return engine;
        }
        for share in &before.shares {
            if !given
                .shares
                .iter()
                .any(|other| other.name() == share.name())
            {
                let name = quote(share.name());
                self.log(
                    Level::Info,
                    format!("Overlay {name} is not this agent's any more"),
                );
            }
        }
        if given.shares.is_empty() {
            self.log(
                Level::Info,
                "The master gives this agent no overlays".into(),
            );
        }
        for share in &given.shares {
            let name = quote(share.name());
            match &share.overlay {
                Ok(overlay) => {
                    let subnets: Vec<String> =
                        overlay.subnets.iter().map(ToString::to_string).collect();
                    let subnets = if subnets.is_empty() {
                        "no subnet".into()
                    } else {
                        subnets.join(", ")
                    };
                    self.log(
                        Level::Info,
                        format!("Overlay {name}: this agent has {subnets}"),
                    );
                }
                Err(fault) => self.log(
                    Level::Error,
                    format!("Overlay {name} cannot be set up: {fault}"),
                ),
            }
        }
        engine
    }

    fn on_acknowledgement(&mut self, now: Time, _: AgentRegisteredAcknowledgement) {
        if self.registration.phase != Phase::Reporting {
            self.counters.dropped(AgentRegisteredAcknowledgement::NAME);
            return;
        }
        let was = self.is_registered();
        let well = self.problems.is_empty() && !self.configuration.has_faults();
        self.acknowledged.clone_from(&self.reported);
        self.registration.acknowledged(now, well, &mut self.random);
        if !was && self.is_registered() {
            let master = self
                .registration
                .master()
                .map(Upid::to_string)
                .unwrap_or_default();
            let overlays = self.reported.overlays.len();
            let peers = self.peers.count(self.own_ip()).unwrap_or_default();
            self.log(
                Level::Info,
                format!(
                    "Registered with {master}: {overlays} overlays in place, {peers} peers known"
                ),
            );
        }
        self.report_news(now);
    }

    fn on_refusal(&mut self, now: Time, message: RegistrationRefusedMessage) {
        let reason = message.reason;
        self.warn(now, "refused", || {
            format!("The master refused the registration: {}", quote(&reason))
        });
        self.problems = vec![reason];
        self.registration.refused(now, &mut self.random);
    }

    fn on_peers(&mut self, now: Time, mut message: UpdatePeersMessage) {
        if self.config.backend == Backend::External {
            return;
        }
        let Some(master) = self.registration.master().cloned() else {
            return;
        };
        match message
            .packed
            .take()
            .map_or(Ok(Vec::new()), |packed| unpack(&packed))
        {
            Ok(peers) => message.peers.extend(peers),
            Err(error) => return self.garbled::<UpdatePeersMessage>(now, &master, &error),
        }
        if self.peers.update(message) {
            let fault = self.peers.faults().next().cloned();
            if let Some(fault) = fault {
                self.warn(now, "peer", || fault);
            }
            self.apply(now);
        }
        let received = PeersReceivedMessage {
            version: self.peers.version(),
        };
        self.effects.push_back(Effect::send(master, &received));
    }

    /// Makes the host match, now or right after the pass that is under way.
    fn apply(&mut self, now: Time) {
        let Some(generation) = self.configuration.begin(now) else {
            return;
        };
        let desired = Arc::new(self.desired());
        self.effects.push_back(Effect::ApplyHost {
            generation,
            desired,
        });
    }

    /// Makes the container engine's networks match. An answer that is waited for is
    /// waited for no longer.
    fn apply_engine(&mut self) {
        let Some((generation, networks)) = self.engine.begin() else {
            return;
        };
        self.effects.push_back(Effect::ApplyEngine {
            generation,
            networks,
        });
    }

    /// What the host should be like.
    fn desired(&mut self) -> Desired {
        let own = self.own_ip();
        let vtep = self.configuration.vtep();
        let internal = self.config.backend == Backend::Internal;
        let peers = internal.then(|| self.peers.desired(own, vtep)).flatten();
        let shares = self
            .configuration
            .given()
            .into_iter()
            .flat_map(|given| &given.shares);
        let overlays =
            shares.filter_map(|share| Some((share.name().to_owned(), share.overlay.clone().ok()?)));
        Desired {
            cni: Cni {
                dir: self.config.cni_dir.clone(),
                data_dir: self.config.cni_data_dir.clone(),
            },
            backend: self.config.backend,
            firewall: self.config.firewall,
            own: Some(own),
            fit_mtu: self.config.network.overlay_mtu.is_none(),
            tx_checksum: self.config.tx_checksum,
            removal: Removal::Careful,
            vtep: vtep.cloned(),
            overlays: overlays.collect(),
            peers,
        }
    }

    /// The address that the master and the peers know this agent by.
    fn own_ip(&self) -> Ipv4Addr {
        match self.me.address.ip() {
            IpAddr::V4(ip) => ip,
            // Masters serve no such agents.
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Logs one line, whatever somebody else's words in it hold.
    fn log(&mut self, level: Level, line: String) {
        let line = if line.contains(char::is_control) {
            line.replace(char::is_control, " ")
        } else {
            line
        };
        self.effects.push_back(Effect::Log(level, line));
    }

    /// Logs a warning unless there just was one for the same reason.
    fn warn(&mut self, now: Time, reason: &str, line: impl FnOnce() -> String) {
        if let Some(line) = self.throttle.line(now, reason, line) {
            self.log(Level::Warning, line);
        }
    }
}
