//! The master as a state machine.
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
//! writer from the leading master. After a write that failed, the state in memory is
//! dropped and the log is read again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::MasterConfig;
use crate::machine::number_base;
use crate::metrics::Metric;
use crate::proto::internal::RegistrationRefusedMessage;
use crate::protocol::limits;
use crate::protocol::session::secrets::Seed;
use crate::util::backoff::Backoff;
use crate::{Effect, Input, Io, Level, Machine, StoreOutcome, Time, Upid};
use answers::{Failure, PendingAnswers};
use challenges::Challenges;
use confirmed::{ConfirmedAgents, SenderProof};
use counters::Outbox;
use hosts::Hosts;
use leadership::{Leadership, MasterParts};
use pending::{PendingRegistrations, Registration};
use recovering::Recovering;
use sessions::Sessions;
use writer::Writer;

mod address;
mod admission;
mod agent_query;
mod answers;
mod bridges;
mod challenges;
mod confirmed;
mod counters;
mod draining;
mod encoded;
pub mod endpoints;
mod held;
mod hosts;
mod leadership;
mod leases;
mod ledger;
mod messages;
mod metrics;
mod networks;
mod notices;
mod overlays;
mod overview;
mod page;
mod peers;
mod pending;
mod pushes;
mod reclaimed;
mod record;
mod recovering;
mod recovery;
mod requests;
mod sessions;
mod state_codec;
mod trust;
mod writer;

pub use recovery::{HeldNetwork, contradiction_of as contradiction};

/// The delays between attempts to read the log, from 0.5 s to 30 s.
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
    confirmed: ConfirmedAgents,
    challenges: Challenges,
    /// Number of terms so far.
    terms: u64,
    /// Registrations that arrived before the log was read.
    pending: PendingRegistrations,
    writer: Writer,
    /// Reads of the log in earlier terms that are not answered yet. Their answers may be
    /// out of date.
    stale_fetches: u32,
    backoff: Backoff,
    out: Outbox,
    /// Number of machines before this one in the same process.
    restarts: u64,
    /// Release of the module, which the endpoints show.
    release: Option<String>,
    /// Number of inputs that may have changed what the endpoints show.
    changes: u64,
}

#[derive(Debug)]
enum Phase {
    /// Another master leads, or none.
    Standby,
    /// This master leads and reads the log.
    Recovering(Recovering),
    /// This master leads and has read the log.
    Serving(Box<Leadership>),
    /// This master leads and cannot use the contents of the log, for this reason.
    Broken(String),
}

impl Machine for Master {
    fn handle(&mut self, now: Time, input: Input) {
        self.out.set_now(now);
        self.changes += u64::from(may_change(&input));
        match input {
            Input::Message { from, name, body } => self.handle_message(from, &name, &body),
            Input::Request(request) => self.handle_request(&request),
            Input::Exited(pid) => self.handle_exited(&pid),
            Input::Leader(leader) => self.handle_leader(leader),
            Input::Fetched(result) => self.handle_fetched(result),
            Input::Stored { number, outcome } => self.handle_stored(number, outcome),
            // Inputs of the agent.
            Input::HostDone(_) | Input::EngineDone(_) | Input::Usage(_) => {}
            Input::Timeout => {}
        }
        self.tick();
        if let Some((leadership, mut parts)) = self.leadership() {
            leadership.commit_if_due(&mut parts);
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let mut effect = self.out.pop()?;
        // Here, so that no message can leave without its session.
        self.confirmed.seal(&mut effect);
        Some(effect)
    }

    fn poll_timeout(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Standby => self.pending.due(),
            Phase::Recovering(recovering) => Some(recovering.due()),
            Phase::Serving(leadership) => leadership.due(),
            Phase::Broken(_) => None,
        };
        let due = [phase, self.writer.due(), self.challenges.due()];
        due.into_iter().flatten().min()
    }

    fn metrics(&self) -> Vec<Metric> {
        self.numbers().into_snapshot()
    }
}

/// Returns whether an input may change what the endpoints show, apart from ages. What a timeout
/// changes is shown after a write, which ends with another input.
fn may_change(input: &Input) -> bool {
    match input {
        Input::Timeout => false,
        Input::Request(request) => request.method != "GET",
        _ => true,
    }
}

/// Returns the message that makes an agent register again. A master that restarted after a
/// panic sends it to agents that are still connected and did not notice the restart.
pub fn reregistration(agent: Upid) -> Io {
    let reason = "the overlay master has started again after a fault; register anew".to_owned();
    Io::send(
        agent,
        &RegistrationRefusedMessage {
            reason,
            session: None,
        },
    )
}

impl Master {
    /// Creates a master that knows of no leader yet. `me` is its own pid, `seed` the source
    /// of its random numbers and secrets.
    pub fn new(config: MasterConfig, me: Upid, seed: impl Into<Seed>) -> Master {
        let seed = seed.into();
        let authentication = config.authentication.clone();
        let confirmed = ConfirmedAgents::new(me.clone(), authentication, &seed);
        Master {
            config,
            me,
            random: seed.random(),
            leader: None,
            phase: Phase::Standby,
            confirmed,
            challenges: Challenges::default(),
            terms: 0,
            sessions: Sessions::default(),
            pending: PendingRegistrations::default(),
            writer: Writer::with_last_number(number_base(0)),
            stale_fetches: 0,
            backoff: LOG_BACKOFF,
            out: Outbox::default(),
            restarts: 0,
            release: None,
            changes: 0,
        }
    }

    /// Sets how often this process restarted the machine after a panic.
    pub fn with_restarts(mut self, restarts: u64) -> Master {
        self.writer = Writer::with_last_number(number_base(restarts));
        if restarts > 0 {
            // What became of the writes of the machine before is not known.
            self.writer.read_failed();
        }
        self.restarts = restarts;
        self
    }

    /// Sets the release of the module, which the endpoints show.
    pub fn with_release(mut self, release: &str) -> Master {
        self.release = Some(release.to_owned());
        self
    }

    /// Returns the present leadership with the parts of the master that it borrows.
    fn leadership(&mut self) -> Option<(&mut Leadership, MasterParts<'_>)> {
        let Phase::Serving(leadership) = &mut self.phase else {
            return None;
        };
        let parts = MasterParts {
            sessions: &mut self.sessions,
            confirmed: &mut self.confirmed,
            writer: &mut self.writer,
            lease: self.config.agent_lease,
            me: self.me.address.ip(),
            dns_domain: &self.config.dns_domain,
            release: self.release.as_deref(),
            changes: self.changes,
            out: &mut self.out,
        };
        Some((leadership, parts))
    }

    /// Handles the timers that are due.
    fn tick(&mut self) {
        let now = self.out.now();
        if let Some((number, outcome)) = self.writer.timed_out(now) {
            self.handle_stored(number, outcome);
        }
        match &mut self.phase {
            Phase::Standby if self.pending.due().is_some_and(|at| at <= now) => {
                let reason = self.why_standby();
                self.pending.expire(&mut self.out, &reason);
            }
            Phase::Recovering(recovering) => {
                recovering.tick(&mut self.out, self.writer.must_reopen());
            }
            Phase::Serving(_) | Phase::Standby | Phase::Broken(_) => {}
        }
        if let Some((leadership, mut parts)) = self.leadership() {
            leadership.tick(&mut parts);
        }
        self.writer.end_pause(now);
        self.send_challenges();
    }

    /// Returns whether an agent has registered or has an allocation.
    fn is_known(&self, ip: std::net::Ipv4Addr) -> bool {
        let allocates = |leadership: &Leadership| leadership.ledger().allocation(ip).is_some();
        self.sessions.get(ip).is_some()
            || matches!(&self.phase, Phase::Serving(leadership) if allocates(leadership))
    }

    // The term of leadership.

    fn handle_leader(&mut self, leader: Option<Upid>) {
        let leads = leader
            .as_ref()
            .is_some_and(|leader| leader.address == self.me.address);
        let led = !matches!(self.phase, Phase::Standby);
        self.leader = leader;
        match (led, leads) {
            (false, true) => self.begin_term(),
            (true, false) => self.end_term(),
            (false, false) | (true, true) => {}
        }
    }

    fn begin_term(&mut self) {
        self.out
            .log(Level::Info, "This master leads; reading the replicated log");
        self.backoff.reset();
        self.sessions.begin_term();
        self.recover_at(self.out.now());
    }

    fn end_term(&mut self) {
        let reason = self.why_standby();
        self.out.log(Level::Info, reason.clone());
        match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Recovering(recovering) => self.stale_fetches += recovering.unanswered(),
            Phase::Serving(leadership) => {
                let answers = leadership.into_answers();
                answers.fail(&mut self.out, &Failure::NotDone(&reason));
            }
            Phase::Standby | Phase::Broken(_) => {}
        }
        if let Some(answers) = self.writer.abandon() {
            answers.fail(&mut self.out, &Failure::Unknown(&reason));
        }
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

    fn recover_at(&mut self, at: Time) {
        let timeout = self.config.replicated_log_timeout;
        // A read of an earlier term that is not answered may have written a promise.
        let reopen = self.stale_fetches > 0;
        self.phase = Phase::Recovering(Recovering::new(at, timeout, reopen));
    }

    fn handle_fetched(&mut self, result: Result<Bytes, String>) {
        if result.is_err() {
            self.writer.read_failed();
        }
        let is_stale = self.stale_fetches > 0;
        self.stale_fetches = self.stale_fetches.saturating_sub(1);
        // No read is under way: a newer attempt was answered before this one.
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        if is_stale {
            let delay = self.backoff.next(&mut self.random);
            recovering.handle_stale_answer(self.out.now(), delay);
            return;
        }
        recovering.handle_answer();
        match result {
            Ok(state) => {
                // The answers to the other attempts are not needed any more.
                self.stale_fetches += recovering.unanswered();
                if recovering.reopened() {
                    self.writer.reopened();
                }
                self.handle_state(state);
            }
            Err(error) => {
                let (backoff, random) = (&mut self.backoff, &mut self.random);
                recovering.handle_error(&mut self.out, error, backoff, random);
            }
        }
    }

    /// Serves the state in the log, if it and the configuration agree.
    fn handle_state(&mut self, state: Bytes) {
        let recovered = limits::decode_state(state)
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
        for note in &recovery.notes {
            self.out.log(note.level, note.text.clone());
        }
        self.sessions.begin_serving(self.out.now());
        self.terms += 1;
        let epoch = self.confirmed.tokens().epoch(self.terms);
        let mut parts = MasterParts {
            sessions: &mut self.sessions,
            confirmed: &mut self.confirmed,
            writer: &mut self.writer,
            lease: self.config.agent_lease,
            me: self.me.address.ip(),
            dns_domain: &self.config.dns_domain,
            release: self.release.as_deref(),
            changes: self.changes,
            out: &mut self.out,
        };
        let leadership = Leadership::new(&mut parts, recovery, epoch);
        let agents = leadership.ledger().agents().len();
        let line = format!("Serving; agents in the log: {agents}");
        self.out.log(Level::Info, line);
        self.warn_of_refused_agents(&leadership);
        self.warn_of_doubtful_agents(&leadership);
        self.warn_of_overlapping_hosts(&leadership);
        self.phase = Phase::Serving(Box::new(leadership));
        let pending: Vec<_> = self.pending.take().collect();
        // All these agents are alive. None of their allocations may be reclaimed for another
        // one.
        for registration in &pending {
            if self.is_known(registration.ip) && registration.proof != SenderProof::None {
                self.sessions
                    .record_contact(registration.ip, self.out.now());
            }
        }
        // Those that hold something come first, so that no other one gets it.
        let (holders, others): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(Registration::claims_anything);
        for registration in holders.into_iter().chain(others) {
            self.register(registration);
        }
    }

    fn warn_of_refused_agents(&mut self, leadership: &Leadership) {
        let refused: Vec<_> = leadership
            .ledger()
            .agents()
            .filter(|ip| !self.config.agent_addresses.admit(*ip))
            .collect();
        if let Some(first) = refused.first() {
            let line = format!(
                "Agents in the replicated log that agent_addresses does not admit: {}, among them {first}. \
                 They are not served, and keep their subnets until they are deleted",
                refused.len()
            );
            self.out.log(Level::Warning, line);
        }
    }

    fn warn_of_overlapping_hosts(&mut self, leadership: &Leadership) {
        let hosts = Hosts {
            master: self.me.address.ip(),
            ledger: leadership.ledger(),
            sessions: &self.sessions,
        };
        for problem in hosts.problems() {
            self.out.log(Level::Warning, problem);
        }
    }

    // Writing the log.

    fn handle_stored(&mut self, number: u64, outcome: StoreOutcome) {
        let Some(batch) = self.writer.finish(&mut self.out, number, &outcome) else {
            return;
        };
        match outcome {
            StoreOutcome::Stored => {
                self.backoff.reset();
                if let Some((leadership, mut parts)) = self.leadership() {
                    leadership.handle_stored(&mut parts, batch);
                }
            }
            StoreOutcome::Superseded => {
                let line = "Another master took the replicated log over";
                let failure = Failure::NotWritten(&format!("{line}."));
                self.read_again(batch.answers, line, &failure);
            }
            StoreOutcome::Failed(error) => {
                let line = format!("Writing the replicated log failed: {error}");
                let failure = Failure::Unknown(&format!("{line}."));
                self.read_again(batch.answers, &line, &failure);
            }
        }
    }

    /// Reads the log again after a write that failed: the state in memory may be wrong.
    /// Registrations are served when it is read.
    fn read_again(&mut self, written: PendingAnswers, line: &str, failure: &Failure<'_>) {
        let delay = self.backoff.next(&mut self.random);
        let seconds = delay.as_secs_f64();
        self.out.log(
            Level::Warning,
            format!("{line}. Reading it again in {seconds:.1} s, and then retrying"),
        );
        let written = written.fail(&mut self.out, failure);
        let unwritten = match std::mem::replace(&mut self.phase, Phase::Standby) {
            Phase::Serving(leadership) => leadership.into_answers(),
            _ => PendingAnswers::default(),
        };
        let failure = Failure::NotDone("the write before this one failed.");
        let unwritten = unwritten.fail(&mut self.out, &failure);
        // Newer registrations are added last, so that they replace older ones.
        for registration in written.into_iter().chain(unwritten) {
            self.pending.add(&mut self.out, registration);
        }
        self.recover_at(self.out.now() + delay);
    }
}
