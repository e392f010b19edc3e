//! A leading master that has read the log. It answers agents and operators. A change of the
//! ledger is written to the log before the answers that depend on it are sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::agent_query::{AgentQuery, Selection};
use super::answers::PendingAnswers;
use super::confirmed::{ConfirmedAgents, second_agent};
use super::counters::Outbox;
use super::hosts::Hosts;
use super::leases::Leases;
use super::ledger::{AgentLists, DrainOutcome, Ledger, RegisteredAgent, RegisteredAgents};
use super::overview::{LatestOverview, Numbers};
use super::peers::{Peers, Subscription};
use super::pushes::UnconfirmedPushes;
use super::recovery::Recovery;
use super::sessions::Sessions;
use super::writer::{Writer, WrittenBatch};
use crate::proto::internal::PeersVersion;
use crate::protocol::versions::Version;
use crate::protocol::views;
use crate::{Level, Request, Response, Time};

mod departures;
mod overlay_changes;
mod provisional;
mod registration;
mod returning;

pub use provisional::add_echo;
use returning::ReturningAgents;

/// Parts of a master that outlive a term of leadership, and that a leadership borrows.
pub struct MasterParts<'a> {
    /// The agents that have registered since the process started.
    pub sessions: &'a mut Sessions,
    /// The processes that have confirmed.
    pub confirmed: &'a mut ConfirmedAgents,
    /// The writer of the log.
    pub writer: &'a mut Writer,
    /// The address of this master.
    pub me: IpAddr,
    /// `dns_domain`: the domain of the containers' names.
    pub dns_domain: &'a str,
    /// The release of this master's module.
    pub release: Option<&'a str>,
    /// Number of inputs so far that may have changed what the endpoints show.
    pub changes: u64,
    /// `agent_lease`: the time without contact after which an allocation may be reclaimed.
    pub lease: Option<Duration>,
    /// The effects.
    pub out: &'a mut Outbox,
}

/// State of one term of leadership.
#[derive(Debug)]
pub struct Leadership {
    ledger: Ledger,
    /// The answers that wait for the next write.
    answers: PendingAnswers,
    pushes: UnconfirmedPushes,
    peers: Peers,
    /// Ends of provisional allocations, by agent; some agents may not be provisional any more.
    provisional_until: BTreeMap<Ipv4Addr, Time>,
    /// Time at which a provisional agent made room for another one; `None`: never.
    provisional_replaced: Option<Time>,
    /// Agents without a record, in a term that began with a log without agents.
    returning: ReturningAgents,
    /// The latest overview; `None`: it was not asked for.
    overview: Option<LatestOverview>,
}

/// The time at which an answer can be sent.
enum AnswerTime<'a> {
    /// Now: the log has everything that the answer depends on.
    Now,
    /// After a write, together with these pending answers.
    AfterWrite(&'a mut PendingAnswers),
}

impl Leadership {
    /// Begins to serve what was recovered from the log. `epoch` identifies the
    /// term for the agents and is not 0. Connected agents get their peers again.
    pub fn new(parts: &mut MasterParts<'_>, recovery: Recovery, epoch: u64) -> Leadership {
        let agents = recovery.committed.iter().map(|(ip, agent)| (*ip, agent));
        let mut peers = Peers::new(epoch, agents);
        for (ip, session) in parts.sessions.iter() {
            if let Some(form) = session.peer_list_form.filter(|_| session.is_connected) {
                let subscription = Subscription {
                    pid: session.pid.clone(),
                    version: PeersVersion::default(),
                    form,
                };
                peers.subscribe(parts.out.now(), ip, subscription);
            }
        }
        let mut leadership = Leadership {
            ledger: Ledger::new(recovery),
            answers: PendingAnswers::default(),
            pushes: UnconfirmedPushes::default(),
            peers,
            provisional_until: BTreeMap::new(),
            provisional_replaced: None,
            returning: ReturningAgents::default(),
            overview: None,
        };
        if leadership.ledger.agents().len() == 0 {
            leadership.returning = ReturningAgents::of_empty_log(parts.out.now());
        }

        let provisional: Vec<_> = leadership.ledger.provisional().collect();
        for ip in provisional {
            leadership.prolong_provisional(parts.out.now(), ip);
        }
        leadership
    }

    /// Returns the allocations.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns how many agents have not acknowledged the newest peers.
    pub fn peers_behind(&self) -> usize {
        self.peers.count_behind()
    }

    /// Returns the peers, for the acknowledgements of agents.
    pub fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// Takes the answers that wait for a write that has not begun.
    pub fn into_answers(self) -> PendingAnswers {
        self.answers
    }

    /// Returns the committed state with the reports of the agents, as JSON.
    pub fn state_json(&self, parts: &MasterParts<'_>) -> Vec<u8> {
        let (now, sessions) = (parts.out.now(), &*parts.sessions);
        let committed = self.ledger.committed();
        let agents = committed.agents.iter().map(|(ip, agent)| {
            let session = sessions.get(*ip);
            let presence = session
                .map(|session| session.presence(|time| now.seconds_since(time)))
                .unwrap_or_default();
            let state = move |name: &str| session.and_then(|session| session.state(name));
            views::Agent::new(*ip, &agent.json, presence, state)
        });
        let capacity = |overlay: Option<&str>| self.ledger.capacity(overlay);
        let network = committed.networks.network.to_wire();
        let problems = self.problems(parts);
        views::state(&network, capacity, agents, &problems, parts.release)
    }

    /// Returns the networks with numbers of their agents.
    pub fn overview(&mut self, parts: &MasterParts<'_>, request: &Request) -> Response {
        let (changes, now) = (parts.changes, parts.out.now());
        let latest = self.overview.take();
        let latest = latest.filter(|latest| latest.is_valid(changes, now));
        let latest =
            latest.unwrap_or_else(|| LatestOverview::new(changes, now, self.overview_json(parts)));
        let latest = self.overview.insert(latest);
        let response = Response::json(latest.json.clone(), None);
        let known = request.headers.if_none_match.as_deref();
        latest.version.clone().apply(known, response)
    }

    fn overview_json(&self, parts: &MasterParts<'_>) -> Vec<u8> {
        let numbers = Numbers::count(&self.ledger, parts.sessions);
        let networks = &self.ledger.committed().networks;
        let network = networks.network.to_wire();
        let overview = views::Overview {
            agents: numbers.all,
            dns_domain: parts.dns_domain,
            lease_seconds: parts.lease.map(|lease| lease.as_secs()),
            network: views::NetworkConfig::without_overlays(&network, self.ledger.capacity(None)),
            overlays: numbers.overlays(&self.ledger),
            problems: &self.problems(parts),
            release: parts.release,
            revision: networks.revision,
        };
        overview.to_json()
    }

    /// Returns the agents that a query selects.
    pub fn agents(
        &self,
        parts: &MasterParts<'_>,
        query: &AgentQuery,
        request: &Request,
    ) -> Response {
        let (now, sessions) = (parts.out.now(), &*parts.sessions);
        let leases = leases(parts, &self.answers);
        let Selection { shown, matched } = query.select(&self.ledger, &leases);
        let extent = views::Extent {
            matched,
            offset: query.offset,
            total: self.ledger.committed().agents.len(),
        };
        let list = |age: &dyn Fn(Time) -> u64, lease: &dyn Fn(Ipv4Addr) -> Option<u64>| {
            let agents = shown.iter().map(|(ip, agent)| {
                let session = sessions.get(*ip);
                let presence = session.map(|session| session.presence(age));
                let presence = views::Presence {
                    lease_ends_in_seconds: lease(*ip),
                    ..presence.unwrap_or_default()
                };
                let state = move |name: &str| session.and_then(|session| session.state(name));
                views::Agent::new(*ip, &agent.json, presence, state)
            });
            views::agent_list(agents, extent)
        };
        let ages = list(&|time| now.seconds_since(time), &|ip| {
            leases.ends_in(ip).map(seconds_up)
        });
        // Ages are no part of the version: the times that they count from are.
        let times = list(&milliseconds, &|ip| {
            let rest = leases.ends_in(ip)?;
            let contact = milliseconds(sessions.last_contact(ip));
            Some(if rest.is_zero() { 0 } else { contact + 1 })
        });
        let response = Response::json(ages, None);
        let known = request.headers.if_none_match.as_deref();
        Version::of(&times).apply(known, response)
    }

    /// Returns what is wrong with the cluster as a whole.
    fn problems(&self, parts: &MasterParts<'_>) -> Vec<String> {
        let mut problems = self.hosts(parts.me, parts.sessions).problems();
        let seconds = parts.confirmed.second_agents(parts.out.now());
        problems.extend(seconds.map(|(second, first)| second_agent(second, first)));
        problems
    }

    /// Returns the hosts of the cluster. `me` is the address of this master.
    fn hosts<'a>(&'a self, me: IpAddr, sessions: &'a Sessions) -> Hosts<'a> {
        Hosts {
            master: me,
            ledger: &self.ledger,
            sessions,
        }
    }

    // Timers.

    /// Returns when [`tick`](Self::tick) has to be called.
    pub fn due(&self) -> Option<Time> {
        let provisional = self.provisional_until.values().min().copied();
        let due = [self.peers.due(), self.pushes.due(), provisional];
        due.into_iter().flatten().min()
    }

    /// Sends what is due.
    pub fn tick(&mut self, parts: &mut MasterParts<'_>) {
        if !self.answers.registrations.is_empty() || parts.writer.has_registrations() {
            self.peers.expect_subscriptions(parts.out.now());
        }
        self.peers.tick(parts.out);
        self.pushes
            .tick(parts.out, parts.sessions, parts.confirmed.tokens());
        self.expire_provisional(parts);
    }

    // The log.

    /// Writes the changes of the ledger, unless there are none or a write is under way.
    pub fn commit_if_due(&mut self, parts: &mut MasterParts<'_>) {
        let is_due = self.ledger.has_uncommitted() || self.answers.has_requests();
        if !is_due || parts.writer.is_busy() {
            return;
        }
        let (delta, state) = self.ledger.take_delta();
        let answers = std::mem::take(&mut self.answers);
        parts
            .writer
            .write(parts.out, WrittenBatch { delta, answers }, state);
    }

    /// Sends the answers that waited for a write. The write has succeeded.
    pub fn handle_stored(&mut self, parts: &mut MasterParts<'_>, batch: WrittenBatch) {
        let WrittenBatch { delta, answers } = batch;
        for (ip, agent) in delta.agents() {
            self.peers.update(parts.out.now(), ip, agent);
        }
        self.ledger.commit(delta);
        for answered in answers.registrations.into_values() {
            self.answer(parts, &answered.registration, &answered.answer);
        }
        let tokens = parts.confirmed.tokens();
        self.pushes
            .send(parts.out, parts.sessions, tokens, answers.pushes);
        for departed in &answers.departed {
            self.finish_departure(parts, departed);
        }
        for request in &answers.agent_requests {
            self.answer_agent_request(parts, request);
        }
        for change in answers.overlay_changes {
            self.answer_overlay_change(parts, change);
        }
    }

    /// Returns when the answer to an agent can be sent.
    fn answer_time<'a>(&'a mut self, writer: &'a mut Writer, ip: Ipv4Addr) -> AnswerTime<'a> {
        if self.ledger.has_uncommitted_of(ip) {
            return AnswerTime::AfterWrite(&mut self.answers);
        }
        match writer.answers_about(ip) {
            Some(answers) => AnswerTime::AfterWrite(answers),
            None => AnswerTime::Now,
        }
    }

    // Consequences of released subnets.

    /// Logs the drained overlays, and sends new lists if the networks changed.
    fn handle_drain_outcome(&mut self, parts: &mut MasterParts<'_>, outcome: DrainOutcome) {
        for name in &outcome.drained {
            parts.out.log(
                Level::Info,
                format!("Overlay {name} is drained; its ranges are free"),
            );
        }
        if let Some(lists) = outcome.lists {
            parts.out.log(
                Level::Info,
                "An overlay of the configuration that was left out is in force now",
            );
            self.set_lists(lists);
        }
    }

    /// Replaces the lists that wait for the next write. An agent whose registration waits gets
    /// its list as the answer.
    fn set_lists(&mut self, mut lists: AgentLists) {
        for (ip, answered) in &mut self.answers.registrations {
            if let Some(list) = lists.remove(ip) {
                answered.answer = list;
            }
        }
        // Lists of an earlier change are out of date. An agent without a new one is not
        // connected, and gets an answer when it registers again.
        self.answers.pushes = lists;
    }
}

/// Returns the agents that have registered and can be reached, or wait for an answer.
fn registered_agents(sessions: &Sessions, answers: &PendingAnswers) -> RegisteredAgents {
    let agents = sessions.iter().filter_map(|(ip, session)| {
        // An agent that waits for its answer gets it even if its link broke since.
        let waits = answers.registrations.contains_key(&ip);
        let is_registered = session.has_allocation_this_term && (session.is_connected || waits);
        let agent = RegisteredAgent {
            requested: session.requested,
            trust: session.trust(),
            is_unproven: session.is_unproven,
            is_connected: session.is_connected,
            accepts_list: session.supports_push() || waits,
        };
        is_registered.then_some((ip, agent))
    });
    agents.collect()
}

fn milliseconds(time: Time) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a number of seconds that is 0 only for a duration of zero.
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns the leases of the agents at present.
fn leases<'a>(parts: &'a MasterParts<'_>, answers: &'a PendingAnswers) -> Leases<'a> {
    Leases {
        duration: parts.lease,
        now: parts.out.now(),
        sessions: parts.sessions,
        answers,
        writer: parts.writer,
    }
}
