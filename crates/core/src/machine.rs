//! Contract of the two state machines: inputs, effects, and the trait that both implement.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::host_api::desired::Desired;
use crate::host_api::engine::EngineDesired;
use crate::host_api::report::{EngineReport, HostReport};
use crate::host_api::usage::InUse;
use crate::metrics;
use crate::protocol::http::{Request, RequestId, Response};
use crate::protocol::upid::Upid;
use crate::util::time::Time;

pub mod outbox;

/// Event that a machine handles.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A libprocess message arrived.
    Message {
        /// Sender as it names itself; libprocess does not verify it.
        from: Upid,
        /// Full name of the protobuf type.
        name: String,
        /// Serialized protobuf.
        body: Bytes,
    },
    /// An HTTP request for an endpoint of the role arrived. The machine answers it with
    /// exactly one [`Io::Respond`] with the same id.
    Request(Request),
    /// The connection to a linked process (see [`Io::Link`]) broke. Arrives once for each
    /// link. The process may run again already, with the same pid.
    Exited(Upid),
    /// The leading Mesos master changed: its pid, or `None` if no master leads.
    Leader(Option<Upid>),
    /// Answer to [`Effect::Fetch`]: the stored state (empty if none was ever stored), or
    /// the reason of a failure.
    Fetched(Result<Bytes, String>),
    /// Answer to [`Io::Store`].
    Stored {
        /// Number of the write.
        number: u64,
        /// Result of the write.
        outcome: StoreOutcome,
    },
    /// Answer to [`Effect::ApplyHost`] of the report's generation. There may be several of
    /// one generation.
    HostDone(HostReport),
    /// Answer to [`Effect::ApplyEngine`] of the report's generation. Arrives again, with
    /// the same generation, whenever the result changes.
    EngineDone(EngineReport),
    /// Addresses in use by Mesos containers, by overlay, sampled from time to time. An
    /// overlay whose addresses could not be counted is absent.
    Usage(BTreeMap<String, InUse>),
    /// The time returned by [`Machine::poll_timeout`] has come. May arrive early or late.
    Timeout,
}

/// Result of a write to the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The state is in the log.
    Stored,
    /// Another writer took over the log, and the state was not written.
    Superseded,
    /// The write failed for this reason. The state may or may not be in the log.
    Failed(String),
}

/// Effect that the driver itself carries out. The machine's other effects are carried out
/// by the runtime, inside of this library.
#[derive(Clone, Debug, PartialEq)]
pub enum Io {
    /// Sends a libprocess message. It arrives at most once.
    Send {
        /// Receiver.
        to: Upid,
        /// Full name of the protobuf type.
        name: &'static str,
        /// Serialized protobuf, without the field `session`. Receivers of the same message
        /// share it.
        body: Bytes,
        /// The serialized field `session`, which follows `body` on the wire. Empty for a process
        /// of an earlier release.
        session: Bytes,
    },
    /// Opens a persistent connection to a process, or keeps the one that exists. When it
    /// breaks, [`Input::Exited`] arrives.
    Link {
        /// Process to connect to.
        to: Upid,
        /// Replaces an existing connection, which may be dead.
        reconnect: bool,
    },
    /// Answers an HTTP request.
    Respond {
        /// Id of the request.
        id: RequestId,
        /// Answer.
        response: Response,
    },
    /// Writes the state to the replicated log, unless another writer took it over since
    /// the last read. Answered by [`Input::Stored`] with the same number. A machine has at
    /// most one write under way. A write that is not answered within 20 s has failed for
    /// the machine, which ignores a later answer.
    Store {
        /// Number of the write, see [`number_base`].
        number: u64,
        /// State to write.
        state: Bytes,
    },
}

impl From<Io> for Effect {
    fn from(io: Io) -> Effect {
        Effect::Io(io)
    }
}

/// Effect that a machine asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Input or output of the process.
    Io(Io),
    /// Reads the state from the replicated log, and takes the log's writer from any other
    /// master. Answered by [`Input::Fetched`].
    Fetch {
        /// Closes this host's replica and opens it anew before. A write that failed may have
        /// left an incomplete record at the end of its journal: what is written behind one is
        /// lost at the next start.
        reopen: bool,
    },
    /// Reconciles the host with the desired state. Answered by [`Input::HostDone`] with the
    /// same generation, and again whenever a later repair has another result. A newer
    /// effect may replace it, then only the newer one is answered.
    ApplyHost {
        /// Number of the effect, see [`number_base`].
        generation: u64,
        /// Desired state of the host.
        desired: Arc<Desired>,
    },
    /// Reconciles the networks of the container engine. Answered by [`Input::EngineDone`]
    /// with the same generation. A newer effect may replace it, then only the newer one is
    /// answered.
    ApplyEngine {
        /// Number of the effect, see [`number_base`].
        generation: u64,
        /// Desired networks of the engine.
        networks: Arc<EngineDesired>,
    },
    /// Logs a line.
    Log(Level, String),
}

/// Severity of a log line, as in glog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Normal operation.
    Info,
    /// A problem that the module handled by itself.
    Warning,
    /// A problem that an operator has to solve.
    Error,
}

/// Returns the base from which a machine numbers its effects, if this process created
/// `restarts` machines before: `restarts << 32`. The first effect has the base plus one.
///
/// Answers may arrive after the machine that asked for them has panicked. Each machine of a
/// process has its own base, so the next machine recognizes such late answers by their
/// numbers.
pub const fn number_base(restarts: u64) -> u64 {
    restarts << 32
}

/// A role as a state machine without clock, files, sockets or threads. The same inputs at
/// the same times have the same effects.
///
/// The trait has four kinds of methods:
///
/// * [`handle`](Machine::handle) takes an input and the current time. Time is monotonic: it
///   must not be earlier than in the call before.
/// * [`poll_effect`](Machine::poll_effect) returns one effect after the other, to be carried
///   out in this order, and `None` when there are no more.
/// * [`poll_timeout`](Machine::poll_timeout) returns the time at which the machine needs
///   [`Input::Timeout`].
/// * [`metrics`](Machine::metrics) only reads.
///
/// After each input the caller polls all effects, and then the timeout, which the effects
/// and inputs before may have changed. Only then it waits. It may poll more often, and it may
/// give [`Input::Timeout`] at any time.
///
/// An effect that asks for an answer is answered exactly once, by the input that its
/// documentation names. [`Effect::ApplyHost`] and [`Effect::ApplyEngine`] may be answered more
/// than once or be replaced, as documented there, and an [`Io::Store`] may remain without an
/// answer. Answers to effects of another machine must not be passed in.
///
/// A machine that panicked must not be called again.
///
/// # Examples
///
/// A driver in miniature: a master that leads, whose replicated log is a variable, and
/// whose clock only moves when the machine waits.
///
/// ```
/// use std::collections::VecDeque;
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use overlay_core::config::master::parse;
/// use overlay_core::master::Master;
/// use overlay_core::{Effect, Input, Io, Machine, StoreOutcome, Time, Upid};
///
/// let json = r#"{"replicated_log_dir": "/var/lib/mesos", "network": {
///     "vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
///     "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;
/// let config = parse("master.json", json).unwrap().config;
/// let me: Upid = "overlay-master@10.0.0.1:5050".parse().unwrap();
/// let mut machine = Master::new(config, me, 1);
///
/// let leader: Upid = "master@10.0.0.1:5050".parse().unwrap();
/// let mut inputs = VecDeque::from([Input::Leader(Some(leader))]);
/// let mut log = Bytes::new();
/// let mut lines = Vec::new();
/// let mut now = Time(Duration::ZERO);
/// loop {
///     while let Some(input) = inputs.pop_front() {
///         machine.handle(now, input);
///         while let Some(effect) = machine.poll_effect() {
///             match effect {
///                 Effect::Fetch { .. } => inputs.push_back(Input::Fetched(Ok(log.clone()))),
///                 Effect::Io(Io::Store { number, state }) => {
///                     log = state;
///                     let outcome = StoreOutcome::Stored;
///                     inputs.push_back(Input::Stored { number, outcome });
///                 }
///                 Effect::Log(_, line) => lines.push(line),
///                 // Nobody to send to, and no host.
///                 _ => {}
///             }
///         }
///     }
///     match machine.poll_timeout() {
///         Some(at) if at < Time(Duration::from_secs(60)) => now = now.max(at),
///         _ => break,
///     }
///     inputs.push_back(Input::Timeout);
/// }
/// assert!(lines.iter().any(|line| line.starts_with("Serving")), "{lines:?}");
/// ```
pub trait Machine {
    /// Handles an input. `now` must not be earlier than in the call before.
    fn handle(&mut self, now: Time, input: Input);

    /// Returns the next effect; `None` if there are no more.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// Returns when [`Input::Timeout`] is due if no other input arrives before; `None` if
    /// never.
    fn poll_timeout(&self) -> Option<Time>;

    /// Returns the current metrics. Each name occurs once.
    fn metrics(&self) -> Vec<metrics::Metric> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::Agent;
    use crate::config::{AgentConfig, master};
    use crate::master::Master;
    use crate::proto::internal::{RegisterAgentMessage, UpdateAgentOverlaysMessage};
    use crate::protocol::messages::Named;

    const CONFIG: &str = r#"{"replicated_log_dir": "/log", "network": {
        "vtep_subnet": "44.128.0.0/16", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;

    fn message<M: Named>(from: &Upid, message: &M) -> Input {
        Input::Message {
            from: from.clone(),
            name: M::NAME.to_owned(),
            body: message.encode_to_vec().into(),
        }
    }

    /// Gives inputs to a machine, one each 10 s. Returns all numbers of its effects.
    fn numbers(mut machine: impl Machine, inputs: impl IntoIterator<Item = Input>) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (at, input) in (0..).step_by(10).zip(inputs) {
            machine.handle(Time(Duration::from_secs(at)), input);
            numbers.extend(
                std::iter::from_fn(|| machine.poll_effect()).filter_map(|effect| match effect {
                    Effect::Io(Io::Store { number, .. }) => Some(number),
                    Effect::ApplyHost { generation, .. } => Some(generation),
                    Effect::ApplyEngine { generation, .. } => Some(generation),
                    _ => None,
                }),
            );
        }
        numbers
    }

    #[test]
    fn machines_of_one_process_use_different_numbers() {
        let agent: Upid = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let overlay_master: Upid = "overlay-master@10.0.0.1:5050".parse().unwrap();
        let leader = Input::Leader(Some("master@10.0.0.1:5050".parse().unwrap()));
        let config = master::parse("master.json", CONFIG).unwrap().config;
        for restarts in [0, 1, 2, 1000] {
            let master = Master::new(config.clone(), overlay_master.clone(), 1);
            let register = message(&agent, &RegisterAgentMessage::default());
            let recovered = Input::Fetched(Ok(Bytes::new()));
            let stores = numbers(
                master.with_restarts(restarts),
                [leader.clone(), recovered, register],
            );
            assert_eq!(stores, [number_base(restarts) + 1]);

            let machine = Agent::new(AgentConfig::new("/cni"), agent.clone(), 1);
            // That of a master of an earlier release, which is taken after a while.
            let assignment = message(&overlay_master, &UpdateAgentOverlaysMessage::default());
            let passes = numbers(
                machine.with_restarts(restarts),
                [leader.clone(), assignment, Input::Timeout],
            );
            assert_eq!(passes, [number_base(restarts) + 1; 2], "host and engine");
        }
    }
}
