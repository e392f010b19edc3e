//! The agent as a state machine: it finds the leading master, registers, reconciles the host
//! with the overlays that the master assigns, and reports.
//!
//! [`Agent`] connects five independent parts:
//!
//! * [`registration`]: the leader, the phase, and the timer for the next registration;
//! * [`session`]: the secrets shared with the leader, and which messages are the leader's;
//! * [`host_sync`]: reconciliation of the host, and the health of each overlay;
//! * [`engine_sync`]: reconciliation of the container engine's networks;
//! * [`peers`]: the other agents.
//!
//! A change of leader affects only the first two: a running reconciliation continues, and the
//! host stays as it is until the new leader assigns something else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::{AgentConfig, OVERLAY_MTU};
use crate::host_api::desired::{Backend, Desired};
use crate::machine::number_base;
use crate::machine::outbox::Outbox;
use crate::metrics::Metric;
use crate::proto::internal::{AgentNetworkConfig, RegisterAgentMessage};
use crate::protocol::session::secrets::Seed;
use crate::{Effect, Input, Io, Level, Machine, Time, Upid};

mod address_fault;
mod addresses;
mod announced;
mod assignment;
mod authenticity;
mod desired;
pub mod endpoints;
mod engine_sync;
mod host_sync;
mod messages;
mod metrics;
mod outcomes;
mod peer_faults;
mod peers;
mod ranges;
mod registration;
mod report;
mod session;
mod sync;

pub use desired::{DesiredStates, MasterData, desired_states};

use addresses::AddressUsage;
use engine_sync::EngineSync;
use host_sync::HostSync;
use metrics::Counters;
use peers::Peers;
use ranges::UnderlayHosts;
use registration::{Connection, Registration};
use report::Reports;
use session::Session;
use sync::Attempt;

/// The overlay agent of one Mesos agent.
#[derive(Debug)]
pub struct Agent {
    config: AgentConfig,
    me: Upid,
    random: fastrand::Rng,
    registration: Registration,
    session: Session,
    host: HostSync,
    engine: EngineSync,
    peers: Peers,
    /// Sentences of the master about parts that it could not assign.
    problems: Vec<String>,
    /// Sentences of the master about subnets that this agent had before, until the next
    /// registration.
    notices: Vec<String>,
    /// Revision of the latest list of overlays; `None`: it had none.
    latest_revision: Option<u64>,
    /// Revision of the latest list that host and container engine matched.
    matched_revision: Option<u64>,
    reports: Reports,
    usage: AddressUsage,
    out: Outbox<Counters>,
    /// Number of machines before this one in the same process.
    restarts: u64,
    /// Release of the module, which masters show.
    release: Option<String>,
}

impl Machine for Agent {
    fn handle(&mut self, now: Time, input: Input) {
        self.out.set_now(now);
        match input {
            Input::Message { from, name, body } => self.handle_message(&from, &name, body),
            Input::Request(request) => self.handle_request(&request),
            Input::Exited(pid) => self.handle_exited(&pid),
            Input::Leader(leader) => self.handle_leader(leader),
            Input::HostDone(report) => self.handle_host_done(report),
            Input::EngineDone(report) => self.handle_engine_done(report),
            Input::Usage(usage) => self.handle_usage(usage),
            Input::Timeout => self.handle_timeout(),
            // Inputs of the master.
            Input::Fetched(_) | Input::Stored { .. } => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let due = [
            self.session.release_at(),
            self.registration.timer(),
            self.host.target().retry_at(),
            self.engine.target().retry_at(),
        ];
        due.into_iter().flatten().min()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.numbers().into_snapshot()
    }
}

impl Agent {
    /// Creates an agent that knows of no leader yet. `me` is its own pid, whose address
    /// identifies it at the master; `seed` is the source of its random numbers and secrets.
    pub fn new(config: AgentConfig, me: Upid, seed: impl Into<Seed>) -> Agent {
        let seed = seed.into();
        Agent {
            session: Session::new(me.clone(), &seed),
            me,
            random: seed.random(),
            registration: Registration::new(),
            host: HostSync::new(number_base(0)),
            engine: EngineSync::new(&config, number_base(0)),
            config,
            peers: Peers::default(),
            problems: Vec::new(),
            notices: Vec::new(),
            latest_revision: None,
            matched_revision: None,
            reports: Reports::default(),
            usage: AddressUsage::default(),
            out: Outbox::default(),
            restarts: 0,
            release: None,
        }
    }

    /// Sets how many agents of this process panicked before this one was created.
    pub fn with_restarts(self, restarts: u64) -> Agent {
        let generation = number_base(restarts);
        Agent {
            host: HostSync::new(generation),
            engine: EngineSync::new(&self.config, generation),
            restarts,
            ..self
        }
    }

    /// Sets the release of the module, which masters show.
    pub fn with_release(self, release: &str) -> Agent {
        Agent {
            release: Some(release.to_owned()),
            ..self
        }
    }

    fn handle_leader(&mut self, leader: Option<Upid>) {
        let Some(leader) = leader else {
            if self.registration.master().is_some() {
                self.out.log(
                    Level::Warning,
                    "No Mesos master leads; the overlays stay as they are",
                );
            }
            self.registration.clear_leader();
            let held = self.session.on_connection_broken();
            self.count_dropped(&held);
            return;
        };
        let leader = self
            .registration
            .set_leader(self.out.now(), &leader, &mut self.random);
        let master = leader.master;
        let held = self.session.set_master(&master);
        self.count_dropped(&held);
        match self.address_fault() {
            Some(fault) => self.out.log(Level::Error, fault),
            None => self
                .out
                .log(Level::Info, format!("Registering with {master}")),
        }
        self.link(master, Connection::Restored);
        if leader.is_first {
            self.register();
        }
    }

    fn handle_exited(&mut self, pid: &Upid) {
        if self.registration.master() == Some(pid) {
            self.out.warn("exited", || {
                format!("The connection to {pid} broke; registering again")
            });
            self.registration
                .on_connection_broken(self.out.now(), &mut self.random);
            let held = self.session.on_connection_broken();
            self.count_dropped(&held);
        }
    }

    fn handle_timeout(&mut self) {
        let now = self.out.now();
        let is_due = |timer: Option<Time>| timer.is_some_and(|at| at <= now);
        if is_due(self.session.release_at()) {
            self.take_held_messages();
        }
        if is_due(self.registration.timer()) {
            self.register();
        }
        if is_due(self.host.target().retry_at()) {
            self.reconcile_host();
        }
        if is_due(self.engine.target().retry_at()) {
            self.reconcile_engine();
        }
    }

    /// Requests this agent's overlays from the master.
    pub(super) fn register(&mut self) {
        let Some(master) = self.registration.master().cloned() else {
            return;
        };
        let connection = self
            .registration
            .on_register_sent(self.out.now(), &mut self.random);
        // No master would serve it.
        if self.address_fault().is_some() {
            return;
        }
        if connection == Connection::Replaced {
            self.warn_of_silence(&master);
        }
        self.link(master, connection);
        let network = &self.config.network;
        let timeout = network.command_timeout.as_millis();
        let has_peers = self.config.backend == Backend::Internal;
        let held = self.host.held();
        let message = RegisterAgentMessage {
            nonce: Some(self.session.nonce()),
            session: None,
            network_config: AgentNetworkConfig {
                allocate_subnet: Some(network.allocate_subnet),
                mesos_bridge: Some(network.mesos_bridge),
                docker_bridge: Some(network.docker_bridge),
                overlay_mtu: Some(network.overlay_mtu.unwrap_or(OVERLAY_MTU)),
                command_timeout: Some(timeout.try_into().unwrap_or(u32::MAX)),
                enable_ipv6: Some(network.enable_ipv6),
            },
            peers: has_peers.then(|| self.peers.version()),
            unpacks_peers: has_peers.then_some(true),
            vtep_ip: held.vtep_ip,
            vtep_ip6: held.vtep_ip6,
            holds: held.subnets,
            release: self.release.clone(),
        };
        self.send_to_master(&message);
        self.session.on_register_sent();
    }

    /// Warns that the master does not answer. It answers nobody whom it does not serve, since
    /// anybody may have sent the registration.
    fn warn_of_silence(&mut self, master: &Upid) {
        let count = self.registration.unanswered();
        self.out.warn("silence", || {
            format!(
                "{master} has not answered {count} registrations. If it does not serve, its /overlay-master/health says \
                 why. If it serves other agents, it drops those of this one, and its log says why (\"Dropped\"): this \
                 agent's address is not within its agent_addresses or cannot be an agent's, or the keys in \
                 auth_key_file differ"
            )
        });
    }

    fn link(&mut self, to: Upid, connection: Connection) {
        let reconnect = match connection {
            Connection::Existing => return,
            Connection::Restored => false,
            Connection::Replaced => true,
        };
        self.out.push(Effect::Io(Io::Link { to, reconnect }));
    }

    /// Reconciles the host, now or after the reconciliation that is running.
    fn reconcile_host(&mut self) {
        let Some(generation) = self.host.begin(self.out.now()) else {
            return;
        };
        let desired = Arc::new(self.desired());
        self.out.push(Effect::ApplyHost {
            generation,
            desired,
        });
    }

    /// Reconciles the container engine's networks. The result of a running reconciliation is
    /// ignored from now on.
    fn reconcile_engine(&mut self) {
        if let Some(attempt) = self.engine.begin(self.out.now()) {
            let Attempt {
                generation,
                desired: networks,
            } = attempt;
            self.out.push(Effect::ApplyEngine {
                generation,
                networks,
            });
        }
    }

    /// Returns the desired state of the host.
    fn desired(&self) -> Desired {
        let peers = self.peers.desired();
        desired::host(&self.config, self.own_ip(), self.host.assignment(), peers)
    }

    /// Returns the hosts that must be reached over the underlay.
    fn underlay_hosts(&self) -> UnderlayHosts {
        let master = self.registration.master();
        UnderlayHosts {
            own: self.own_ip(),
            master: master.map(|master| master.address.ip()),
        }
    }

    /// Returns the underlay address, which identifies this agent at master and peers.
    fn own_ip(&self) -> Ipv4Addr {
        match self.me.address.ip() {
            IpAddr::V4(ip) => ip,
            // Masters refuse such an agent.
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }
}
