//! The contract of the two state machines: inputs, effects and the trait that both implement.

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
    /// There is at most one write at a time, and one more only after 20 s without an
    /// answer: the machine counts that write as failed and ignores its later answer.
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
