//! The master's state machine.
//!
//! ```text
//!              leads                    read, fits the configuration
//!   Standby ──────────► Recovering ───────────────────────────────► Serving
//!      ▲                 │  ▲  └── does not fit ──► Broken            │
//!      │ leads no more   │  └───────── a write failed ────────────────┤
//!      └─────────────────┴────────────────────────────────────────────┘
//! ```
//!
//! A master that does not lead never touches the log: reading it takes the log's
//! writer from the one that leads. After a write that failed, memory is thrown away
//! and the log is read again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::config::MasterConfig;
use crate::machine::first_number;
use crate::metrics::Metric;
use crate::proto;
use crate::proto::internal::{
    AgentRegisteredMessage, PeersReceivedMessage, RegisterAgentMessage, RegistrationRefusedMessage,
};
use crate::protocol::http::Response;
use crate::protocol::messages::Named;
use crate::util::backoff::Backoff;
use crate::{Effect, Input, Io, Level, Machine, StoreOutcome, Time, Upid};
use batch::{Held, Writer, read_hangs};
use metrics::Outbox;
use pending::{PendingRegistrations, Registration};
use serving::{Context, Serving};
use sessions::Sessions;

mod batch;
mod changes;
mod departures;
mod encoded;
pub mod endpoints;
mod leases;
mod metrics;
mod networks;
mod overlays;
mod peers;
mod pending;
mod reclaimed;
mod record;
mod recovery;
mod requests;
mod serving;
mod sessions;

/// The delays between attempts at the log: from the upper half of the first one, in
/// doubling steps up to the second one.
const LOG_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// The overlay master of one Mesos master.
#[derive(Debug)]
pub struct Master {
    config: MasterConfig,
    me: Upid,
    random: fastrand::Rng,
    leader: Option<Upid>,
    phase: Phase,
    sessions: Sessions,
    waiting: PendingRegistrations,
    writer: Writer,
    /// Reads of the log from former leads that are not answered yet. What they will
    /// bring may be out of date.
    stale_fetches: u32,
    backoff: Backoff,
    out: Outbox,
    /// How many machines there were before this one in the same process.
    restarts: u64,
}

#[derive(Debug)]
enum Phase {
    Standby,
    Recovering(Recovering),
    Serving(Box<Serving>),
    /// Why nothing can be served.
    Broken(String),
}

#[derive(Debug)]
struct Recovering {
    /// Reads of the log in this lead that are not answered yet.
    fetches: u32,
    /// When to read (again).
    fetch_at: Option<Time>,
    /// When to complain that reading takes so long.
    overdue_at: Time,
    /// What the latest attempt failed with.
    error: Option<String>,
}

impl Machine for Master {
    fn handle(&mut self, now: Time, input: Input) {
        self.out.set_now(now);
        match input {
            Input::Message { from, name, body } => self.message(from, &name, &body),
            Input::Request(request) => self.request(&request),
            Input::Exited(pid) => self.exited(&pid),
            Input::Leader(leader) => self.leader(leader),
            Input::Fetched(result) => self.fetched(result),
            Input::Stored { number, outcome } => self.stored(number, outcome),
            // Not ours.
            Input::HostDone(_) | Input::EngineDone(_) | Input::Usage(_) => {}
            Input::Timeout => {}
        }
        self.tick();
        if let Some((serving, mut cx)) = self.serving() {
            serving.flush(&mut cx);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Standby => self.waiting.due(),
            Phase::Recovering(Recovering {
                fetch_at,
                overdue_at,
                ..
            }) => fetch_at.iter().chain([overdue_at]).min().copied(),
            Phase::Serving(serving) => serving.due(),
            Phase::Broken(_) => None,
        };
        phase.into_iter().chain(self.writer.due()).min()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.numbers().into_snapshot()
    }
}

/// Returns the message that makes a registered agent register again. A master that restarted
/// after a panic sends it to agents that are still connected, and did not notice.
pub fn reregistration(agent: Upid) -> Io {
    let reason = "the overlay master has started again after a fault; register anew".to_owned();
    Io::send(agent, &RegistrationRefusedMessage { reason })
}

impl Master {
    /// A master that knows of no leader yet. `me` is its own pid, `seed` the source
    /// of its randomness.
    pub fn new(config: MasterConfig, me: Upid, seed: u64) -> Master {
        Master {
            config,
            me,
            random: fastrand::Rng::with_seed(seed),
            leader: None,
            phase: Phase::Standby,
            sessions: Sessions::default(),
            waiting: PendingRegistrations::default(),
            writer: Writer::after(first_number(0)),
            stale_fetches: 0,
            backoff: LOG_BACKOFF,
            out: Outbox::default(),
            restarts: 0,
        }
    }

    /// Sets how many masters this process created before, each of which panicked.
    pub fn restarted(mut self, restarts: u64) -> Master {
        self.writer = Writer::after(first_number(restarts));
        self.restarts = restarts;
        self
    }

    /// The state of the present lead, if there is one, and what it works with.
    fn serving(&mut self) -> Option<(&mut Serving, Context<'_>)> {
        let Phase::Serving(serving) = &mut self.phase else {
            return None;
        };
        let cx = Context {
            sessions: &mut self.sessions,
            writer: &mut self.writer,
            lease: self.config.agent_lease,
            out: &mut self.out,
        };
        Some((serving, cx))
    }

    /// What is due by now.
    fn tick(&mut self) {
        if let Some((number, failed)) = self.writer.overdue(self.out.now()) {
            self.stored(number, failed);
        }
        let (now, timeout) = (self.out.now(), self.config.replicated_log_timeout);
        match &mut self.phase {
            Phase::Standby if self.waiting.due().is_some_and(|at| at <= now) => {
                let why = self.why_standby();
                self.waiting.expire(&mut self.out, &why);
            }
            Phase::Recovering(recovering) => {
                if recovering.overdue_at <= now {
                    recovering.overdue_at = now + timeout;
                    recovering.fetch_at = Some(now);
                    self.out.log(Level::Error, read_hangs(timeout));
                }
                if recovering.fetch_at.is_some_and(|at| at <= now) {
                    recovering.fetch_at = None;
                    recovering.fetches += 1;
                    self.out.push(Effect::Fetch);
                }
            }
            Phase::Serving(_) | Phase::Standby | Phase::Broken(_) => {}
        }
        if let Some((serving, mut cx)) = self.serving() {
            serving.tick(&mut cx);
        }
        self.writer.end_rest(now);
    }

    // Who leads.

    fn leader(&mut self, leader: Option<Upid>) {
        let leads = leader
            .as_ref()
            .is_some_and(|leader| leader.address == self.me.address);
        let led = !matches!(self.phase, Phase::Standby);
        self.leader = leader;
        if leads == led {
            return;
        }
        if leads {
            self.out
                .log(Level::Info, "This master leads; reading the replicated log");
            self.backoff.reset();
            self.sessions.begin_lead();
            self.recover_at(self.out.now());
            return;
        }
        let why = self.why_standby();
        self.out.log(Level::Info, why.clone());
        match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Recovering(recovering) => self.stale_fetches += recovering.fetches,
            Phase::Serving(serving) => {
                self.refuse(serving.into_held(), &Lost::Nothing(&why));
            }
            Phase::Standby | Phase::Broken(_) => {}
        }
        if let Some(batch) = self.writer.abandon() {
            self.refuse(batch.held, &Lost::Unknown(&why));
        }
    }

    /// Answers requests that came to nothing. Gives the registrations among what was
    /// held.
    fn refuse(&mut self, held: Held, lost: &Lost<'_>) -> Vec<Registration> {
        for deletion in held.deletions {
            let sentence = match deletion.reclaims {
                false => lost.about("deleted", "the agents were", "the state"),
                true => lost.about("reclaimed", "what the agents hold was", "the state"),
            };
            self.out
                .respond(deletion.request, Response::unavailable(&sentence));
        }
        for changed in held.changes {
            let sentence = lost.about("changed", "the overlay was", "the overlays");
            self.out
                .respond(changed.request, Response::unavailable(&sentence));
        }
        held.registrations
            .into_values()
            .map(|(registration, _)| registration)
            .collect()
    }

    fn why_standby(&self) -> String {
        match &self.leader {
            Some(leader) => format!(
                "This master does not lead, the one at {} does.",
                leader.address
            ),
            None => "No Mesos master leads at present, as far as this one knows.".to_owned(),
        }
    }

    // Reading the log.

    /// Reads the log at this time, and serves when it is read.
    fn recover_at(&mut self, at: Time) {
        self.phase = Phase::Recovering(Recovering {
            fetches: 0,
            fetch_at: Some(at),
            overdue_at: at + self.config.replicated_log_timeout,
            error: None,
        });
    }

    fn fetched(&mut self, result: Result<Bytes, String>) {
        if self.stale_fetches > 0 {
            self.stale_fetches -= 1;
            // Should the one before it never be answered, this was the answer that
            // counts: ask again rather than wait for ever.
            if let Phase::Recovering(recovering) = &mut self.phase {
                let again = self.out.now() + self.backoff.next(&mut self.random);
                recovering.fetch_at.get_or_insert(again);
            }
            return;
        }
        // An answer that comes late, after that to a second attempt, is not needed.
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        recovering.fetches = recovering.fetches.saturating_sub(1);
        match result {
            Ok(state) => {
                // What is still to come is not needed any more.
                self.stale_fetches += recovering.fetches;
                self.recovered(state);
            }
            // A newer attempt is under way.
            Err(error) if recovering.fetches > 0 => recovering.error = Some(error),
            Err(error) => {
                let delay = self.backoff.next(&mut self.random);
                recovering.fetch_at = Some(self.out.now() + delay);
                let seconds = delay.as_secs_f64();
                let line = format!(
                    "The replicated log cannot be read, trying again in {seconds:.1} s: {error}"
                );
                self.out.log(Level::Warning, line);
                recovering.error = Some(error);
            }
        }
    }

    /// The log was read. Serves what it holds, if that and the configuration agree.
    fn recovered(&mut self, state: Bytes) {
        let recovered = proto::State::decode(state)
            .map_err(|error| recovery::undecodable(&error))
            .and_then(|state| recovery::recover(&Arc::new(self.config.network.clone()), state));
        match recovered {
            Ok(recovery) => self.serve(recovery),
            Err(sentence) => {
                let line =
                    format!("{sentence} Nothing is served and nothing is written until then.");
                self.out.log(Level::Error, line);
                self.phase = Phase::Broken(sentence);
            }
        }
    }

    fn serve(&mut self, recovery: recovery::Recovery) {
        for (level, note) in &recovery.notes {
            self.out.log(*level, note.clone());
        }
        self.sessions.begin_serving(self.out.now());
        let epoch = std::iter::repeat_with(|| self.random.u64(..))
            .find(|epoch| *epoch != 0)
            .unwrap_or(1);
        let mut cx = Context {
            sessions: &mut self.sessions,
            writer: &mut self.writer,
            lease: self.config.agent_lease,
            out: &mut self.out,
        };
        let serving = Serving::new(&mut cx, recovery, epoch);
        self.out.log(
            Level::Info,
            format!("Serving; agents in the log: {}", serving.agents().count()),
        );
        let outside: Vec<_> = serving
            .agents()
            .filter(|ip| !self.config.agent_addresses.admit(*ip))
            .collect();
        if let Some(first) = outside.first() {
            let line = format!(
                "Agents in the replicated log that agent_addresses does not admit: {}, among them {first}. \
                 They are not served, and keep what they hold until they are deleted",
                outside.len()
            );
            self.out.log(Level::Warning, line);
        }
        self.phase = Phase::Serving(Box::new(serving));
        let waiting: Vec<_> = self.waiting.take().collect();
        // They are there, all of them: the first one must not be given what the last one
        // holds.
        for registration in &waiting {
            if self.is_known(registration.ip) {
                self.sessions.heard_of(registration.ip, self.out.now());
            }
        }
        for registration in waiting {
            self.register(registration);
        }
    }

    // Writing the log.

    fn stored(&mut self, number: u64, outcome: StoreOutcome) {
        let Some(batch) = self.writer.answered(&mut self.out, number, &outcome) else {
            return;
        };
        let (line, unknown) = match outcome {
            StoreOutcome::Stored => {
                self.backoff.reset();
                if let Some((serving, mut cx)) = self.serving() {
                    serving.stored(&mut cx, batch);
                }
                return;
            }
            StoreOutcome::Superseded => (
                "Another master took the replicated log over".to_owned(),
                false,
            ),
            StoreOutcome::Failed(error) => {
                (format!("Writing the replicated log failed: {error}"), true)
            }
        };
        let delay = self.backoff.next(&mut self.random);
        self.out.log(
            Level::Warning,
            format!(
                "{line}; reading it again in {:.1} s, and then all that was not written",
                delay.as_secs_f64()
            ),
        );
        let why = format!("{line}.");
        let lost = if unknown {
            Lost::Unknown(&why)
        } else {
            Lost::NothingWritten(&why)
        };
        self.read_again(batch.held, &lost, delay);
    }

    /// Memory cannot be relied on any more.
    fn read_again(&mut self, written: Held, lost: &Lost<'_>, delay: Duration) {
        let written = self.refuse(written, lost);
        let unwritten = match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Serving(serving) => serving.into_held(),
            _ => Held::default(),
        };
        let unwritten = self.refuse(
            unwritten,
            &Lost::Nothing("the write before this one failed."),
        );
        // The newer ones later: they replace the older ones.
        for registration in written.into_iter().chain(unwritten) {
            self.waiting.add(&mut self.out, registration);
        }
        self.recover_at(self.out.now() + delay);
    }

    // What agents say.

    fn message(&mut self, from: Upid, name: &str, body: &[u8]) {
        if let Some(ip) = sessions::key(&from).filter(|ip| self.is_known(*ip)) {
            self.sessions.heard_of(ip, self.out.now());
        }
        match name {
            RegisterAgentMessage::NAME => {
                self.out.counters.registers.received += 1;
                if let Some(message) = self.decode(&from, body) {
                    self.registration(from, message);
                }
            }
            AgentRegisteredMessage::NAME => {
                self.out.counters.reports.received += 1;
                let Some(message) = self.decode(&from, body) else {
                    return;
                };
                if let Some((serving, mut cx)) = self.serving() {
                    serving.agent_registered(&mut cx, &from, message);
                } else {
                    self.out.counters.reports.dropped += 1;
                    self.out.warn("not serving", || {
                        format!(
                            "{from} reports its overlays while this master does not serve; dropped"
                        )
                    });
                }
            }
            PeersReceivedMessage::NAME => {
                let Some(message) = self.decode::<PeersReceivedMessage>(&from, body) else {
                    return;
                };
                let Some((serving, cx)) = self.serving() else {
                    return;
                };
                let told = cx
                    .sessions
                    .of(&from)
                    .is_some_and(|(ip, _)| serving.peers().received(cx.out, ip, message.version));
                if !told {
                    cx.out.warn("no receiver", || {
                        format!("{from} acknowledges peers but was not told of any; dropped")
                    });
                }
            }
            _ => {
                let name: String = name.chars().take(100).collect();
                self.out.warn("unknown message", || {
                    format!("{from} sent a message that is not known here, \"{name}\"; dropped")
                });
            }
        }
    }

    /// Whether this is an agent that registered or that holds something.
    fn is_known(&self, ip: Ipv4Addr) -> bool {
        let holds = |serving: &Serving| serving.records.contains_key(&ip);
        self.sessions.get(ip).is_some()
            || matches!(&self.phase, Phase::Serving(serving) if holds(serving))
    }

    fn decode<M: Named>(&mut self, from: &Upid, body: &[u8]) -> Option<M> {
        let message = self.try_decode(from, body);
        if message.is_none() {
            self.out.counters.dropped(M::NAME, 1);
        }
        message
    }

    fn try_decode<M: Named>(&mut self, from: &Upid, body: &[u8]) -> Option<M> {
        // Each of these messages has a field that must be there, so an empty one is
        // malformed too; only a report may be empty: that of an agent without overlays.
        if body.is_empty() && M::NAME != AgentRegisteredMessage::NAME {
            self.out.warn("malformed", || {
                format!("{from} sent an empty {}; dropped", M::NAME)
            });
            return None;
        }
        M::decode(body)
            .inspect_err(|error| {
                self.out.warn("malformed", || {
                    format!("{from} sent a malformed {}; dropped: {error}", M::NAME)
                });
            })
            .ok()
    }

    fn registration(&mut self, from: Upid, message: RegisterAgentMessage) {
        let Some(ip) = sessions::key(&from) else {
            self.out.counters.registers.dropped += 1;
            self.out.warn("IPv6 agent", || {
                format!(
                    "{from} registers from an IPv6 address, agents are known by IPv4 ones; dropped"
                )
            });
            return;
        };
        if !self.config.agent_addresses.admit(ip) {
            self.refuse_address(&from);
            return;
        }
        self.register(Registration { ip, from, message });
    }

    /// Whoever this is, it is not one of the agents that this cluster is for.
    fn refuse_address(&mut self, from: &Upid) {
        let reason = "the address is not within agent_addresses of the master's configuration";
        self.out.counters.registers.dropped += 1;
        self.out.warn("outside", || {
            format!("The registration of {from} is refused: {reason}")
        });
        if !matches!(self.phase, Phase::Standby) {
            self.out.send(
                from,
                &RegistrationRefusedMessage {
                    reason: reason.to_owned(),
                },
            );
        }
    }

    fn register(&mut self, registration: Registration) {
        if let Some((serving, mut cx)) = self.serving() {
            serving.register(&mut cx, registration);
            return;
        }
        match &self.phase {
            Phase::Broken(sentence) => {
                self.out.counters.registers.dropped += 1;
                self.out.warn("broken", || {
                    format!(
                        "The registration of {} is dropped: {sentence}",
                        registration.from
                    )
                });
            }
            _ => self.waiting.add(&mut self.out, registration),
        }
    }

    fn exited(&mut self, pid: &Upid) {
        let Some((ip, session)) = self.sessions.of(pid) else {
            return;
        };
        let was_connected = session.connected;
        session.disconnect(self.out.now());
        if was_connected {
            self.sessions.heard_of(ip, self.out.now());
        }
        if let Some((serving, _)) = self.serving() {
            serving.peers().leave(ip);
        }
    }
}

/// What became of a request that cannot be answered with success.
enum Lost<'a> {
    /// It was not done, and why.
    Nothing(&'a str),
    /// It was to be written and was not, and why.
    NothingWritten(&'a str),
    /// It may have been done, and why nobody knows.
    Unknown(&'a str),
}

impl Lost<'_> {
    /// The sentence for a request after which something would be `done`.
    fn about(&self, done: &str, what: &str, ask_for: &str) -> String {
        match self {
            Lost::Nothing(why) => format!("Nothing was {done}: {why}"),
            Lost::NothingWritten(why) => format!("Nothing was written. {why}"),
            Lost::Unknown(why) => {
                format!("It is not known whether {what} {done}: {why} Ask for {ask_for}.")
            }
        }
    }
}
