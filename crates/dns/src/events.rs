//! Events of a master's operator API (`SUBSCRIBE`), decoded as they arrive.
//!
//! Only fields that names depend on are kept. The first event has the whole state, some hundred
//! megabytes in a large cluster: its frameworks, agents and tasks are handed on one by one.

mod recordio;
mod seeds;
mod text;
mod wire;

use std::io::{self, BufRead};

pub use recordio::{MAX_RECORD, Records};
pub use text::Text;
pub use wire::{
    AgentInfo, Container, ContainerStatus, Discovery, DiscoveryPort, Docker, FrameworkInfo, Id,
    IpAddress, KeyValue, Labels, List, MAX_LIST, NetworkInfo, Port, PortMapping, Ports, Resource,
    State, Status, Task,
};

/// Part of an event.
#[derive(Clone, Debug)]
pub enum Item {
    /// The master's state follows.
    StateBegins,
    /// The master's state is complete.
    StateEnds {
        /// Interval of the events that show that the connection lives, in seconds.
        heartbeat: Option<f64>,
    },
    /// A framework that is there.
    Framework(FrameworkInfo),
    /// A framework that is gone.
    FrameworkRemoved(Id),
    /// An agent that is registered.
    Agent(AgentInfo),
    /// An agent that a former master knew, and that has not registered again yet.
    RecoveredAgent(Id),
    /// An agent that is gone.
    AgentRemoved(Id),
    /// A task that is there.
    Task(Box<Task>),
    /// A task that the master knows as ended or unreachable.
    Ended {
        /// Framework of the task.
        framework: Id,
        /// The task.
        task: Id,
    },
    /// A new status of a task.
    Status {
        /// Framework of the task.
        framework: Id,
        /// The status.
        status: Box<Status>,
        /// State of the task, which can be newer than that of the status.
        state: State,
    },
}

/// Reason why the stream of events cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The connection failed, or nothing came in time.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The stream has another form than that of a master.
    #[error("the master's events are not understood: {0}")]
    Malformed(String),
}

/// Reads events until the stream ends or fails.
///
/// # Errors
/// See [`EventError`]. The end of the stream after a whole event is none.
pub fn read_all(stream: impl BufRead, mut sink: impl FnMut(Item)) -> Result<(), EventError> {
    let mut records = Records::new(stream);
    while records.read(|record| decode(record, &mut sink))? {}
    Ok(())
}

/// Decodes one event.
///
/// # Errors
/// It is no event, or reading fails. Items before the failure have been handed on.
pub fn decode(record: impl BufRead, sink: &mut impl FnMut(Item)) -> Result<(), EventError> {
    seeds::decode(record, sink).map_err(|error| match error.io_error_kind() {
        Some(kind) => EventError::Io(io::Error::new(kind, error)),
        None if error.is_eof() => {
            let text = "an event is cut off";
            EventError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, text))
        }
        None => EventError::Malformed(error.to_string()),
    })
}

#[cfg(test)]
mod tests;
