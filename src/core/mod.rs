//! The two roles as pure state machines.
//!
//! A [`Machine`] is driven by one rule: hand it an [`Input`], then take
//! [`Effect`]s until there are none, then come back no later than
//! [`Machine::poll_timeout`] with [`Input::Timeout`]. It has no clock, file,
//! socket or thread; time and the seed of its randomness are arguments. The same
//! inputs at the same times give the same effects, which is what the simulation
//! in `tests/` lives on.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::host::desired::Desired;
use crate::host::engine::EngineDesired;

pub mod agent;
pub mod allocator;
pub mod backoff;
pub mod config;
pub mod endpoints;
pub mod http;
pub mod json;
pub mod master;
pub mod message;
pub mod metrics;
pub mod net;
pub mod packed;
pub mod pool;
pub mod throttle;
pub mod upid;
pub mod usage;

pub use http::{Request, RequestId, Response};
pub use upid::Upid;
use usage::InUse;

/// libprocess id of the master's process, on every Mesos master.
pub const MASTER_ID: &str = "overlay-master";
/// libprocess id of the agent's process, on every Mesos agent.
pub const AGENT_ID: &str = "overlay-agent";

/// A point on a clock that only goes forward, counted from an origin that the
/// caller chooses and keeps for the life of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    /// Saturates: the far future is as good as never.
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }
}

impl Time {
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A libprocess message. `from` is who the sender says it is.
    Message {
        /// The sender's pid.
        from: Upid,
        /// The protobuf type's full name.
        name: String,
        /// The serialized protobuf.
        body: Bytes,
    },
    /// An HTTP request for one of our endpoints. It is answered exactly once, by
    /// an [`Effect::Respond`] with the same id.
    Request(Request),
    /// A linked peer (see [`Effect::Link`]) cannot be reached any more. Delivered
    /// once for each link; the peer may already be back under the same pid.
    Exited(Upid),
    /// The leading Mesos master changed: its pid, or nobody leads.
    Leader(Option<Upid>),
    /// Answer to [`Effect::Fetch`]: the stored value (empty if nothing was ever
    /// stored), or why it cannot be had.
    Fetched(Result<Bytes, String>),
    /// Answer to [`Effect::Store`] of this number.
    Stored {
        /// The number that the effect carried.
        number: u64,
        /// What became of the write.
        outcome: StoreOutcome,
    },
    /// Answer to [`Effect::ApplyHost`]; there may be several of one generation.
    HostDone(HostReport),
    /// Answer to [`Effect::ApplyEngine`]; and again, under the same generation,
    /// whenever it is another one than the last.
    EngineDone(EngineReport),
    /// The addresses that Mesos's containers have, by overlay, counted now and then; an
    /// overlay of which they are not known is absent.
    Usage(BTreeMap<String, InUse>),
    /// The time that [`Machine::poll_timeout`] named has come (or nearly so, or
    /// long ago: a machine looks at the time that it is given).
    Timeout,
}

/// What became of a write to the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It is in the log.
    Stored,
    /// Another writer took the log over; the value was not written.
    Superseded,
    /// It may or may not be in the log.
    Failed(String),
}

/// What a machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a libprocess message. At most once; it may get lost.
    Send {
        /// The receiver.
        to: Upid,
        /// The protobuf type's full name.
        name: &'static str,
        /// The serialized protobuf.
        body: Bytes,
    },
    /// Open (or keep) a lasting connection to this process, and deliver
    /// [`Input::Exited`] when it breaks. `reconnect` drops a connection that is
    /// there: it may be a dead one.
    Link {
        /// The peer.
        to: Upid,
        /// Whether a connection that exists already is good enough.
        reconnect: bool,
    },
    /// Answer an HTTP request.
    Respond {
        /// The request's id.
        id: RequestId,
        /// The answer.
        response: Response,
    },
    /// Read the state from the replicated log; answered by [`Input::Fetched`].
    /// This takes the log's writer away from whoever has it.
    Fetch,
    /// Write the state to the replicated log; answered by [`Input::Stored`].
    /// There is at most one write at a time.
    Store {
        /// Grows by one with each write of this machine.
        number: u64,
        /// The value.
        state: Bytes,
    },
    /// Make the host match; answered by [`Input::HostDone`] with the same
    /// generation, and again whenever a repair of the host ends otherwise than the
    /// pass before. A newer one may overtake it, then only that one is answered.
    ApplyHost {
        /// Grows by one with each of these effects.
        generation: u64,
        /// What the host should be like.
        desired: Arc<Desired>,
    },
    /// Make the container engine's networks match; answered by
    /// [`Input::EngineDone`] with the same generation. A newer one may overtake it,
    /// then only that one is answered.
    ApplyEngine {
        /// Grows by one with each of these effects.
        generation: u64,
        /// What the engine should have.
        networks: Arc<EngineDesired>,
    },
    /// Tell the operator.
    Log(Level, String),
}

/// How grave a log line is; glog's severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The course of things.
    Info,
    /// Something was not right, and was got around.
    Warning,
    /// Something an operator has to act on.
    Error,
}

/// What became of one [`Effect::ApplyHost`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Which one.
    pub generation: u64,
    /// For every desired overlay that is not right: why, in one sentence. What is
    /// wrong with the host as a whole may be the reason.
    pub overlays: BTreeMap<String, String>,
    /// What is not right with the host beyond one overlay (the VXLAN device,
    /// forwarding, a peer), one sentence each.
    pub host: Vec<String>,
    /// Overlays that are gone but for their containers, one sentence each.
    pub draining: Vec<String>,
    /// The names of overlays that are not desired, and of which the host still has
    /// something because containers use it.
    pub used: BTreeSet<String>,
    /// Operations that it took, without those that the kernel refused of some peers; 0: the host
    /// was right already, as far as it can be.
    pub operations: usize,
}

impl HostReport {
    /// Nothing of `desired` could be done, for one reason.
    pub fn hopeless(desired: &Desired, sentence: String) -> HostReport {
        let overlays = desired.overlays.keys().map(|name| (name.clone(), sentence.clone())).collect();
        HostReport { overlays, host: vec![sentence], ..HostReport::default() }
    }

    /// Whether two reports differ in numbers only.
    pub fn says_the_same_as(&self, other: &HostReport) -> bool {
        (&self.overlays, &self.host) == (&other.overlays, &other.host)
            && (&self.draining, &self.used) == (&other.draining, &other.used)
    }

    /// Whether everything is as desired.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.host.is_empty()
    }
}

/// What became of one [`Effect::ApplyEngine`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineReport {
    /// Which one.
    pub generation: u64,
    /// Why nothing at all could be done: the engine is absent or does not answer.
    pub engine: Option<String>,
    /// For every desired network that is not right: why, in one sentence. The
    /// overlays and their networks have the same names.
    pub overlays: BTreeMap<String, String>,
    /// What else an operator should know, one sentence each: a network that is kept
    /// because containers use it. It is looked after without being asked for again.
    pub notes: Vec<String>,
    /// The names of networks of ours that are not desired and still there.
    pub used: BTreeSet<String>,
    /// Addresses in use of the desired networks.
    pub usage: BTreeMap<String, InUse>,
    /// Operations that it took; 0: the engine was right already.
    pub operations: usize,
}

impl EngineReport {
    /// Nothing of `desired` could be done, for one reason.
    pub fn hopeless(desired: &EngineDesired, sentence: String) -> EngineReport {
        let overlays = desired.networks.keys().map(|name| (name.clone(), sentence.clone())).collect();
        EngineReport { overlays, engine: Some(sentence), ..EngineReport::default() }
    }

    /// Whether every desired network is right.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.engine.is_none()
    }
}

/// A role as a state machine; see the module's text for the one rule.
pub trait Machine {
    /// Something happened. `now` never goes back.
    fn handle(&mut self, now: Time, input: Input);

    /// The next thing to do, in order; `None` when there is nothing left.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// When [`Input::Timeout`] is due if nothing else happens before; `None`:
    /// never.
    fn poll_timeout(&self) -> Option<Time>;

    /// The numbers that operators watch, as they are now. Names do not come twice.
    fn metrics(&self) -> Vec<metrics::Metric> {
        Vec::new()
    }
}
