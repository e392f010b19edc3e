//! What a node asks of its driver.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::agent::endpoints as agent;
use overlay_core::master::endpoints as master;
use overlay_core::protocol::routes::{RouteSpec, route_specs};
use overlay_core::{AGENT_ID, MASTER_ID, RequestId, Response, Upid};

/// Which of the two a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// In every Mesos master.
    Master,
    /// In every Mesos agent.
    Agent,
}

impl Role {
    /// The libprocess id.
    pub const fn id(self) -> &'static str {
        match self {
            Role::Master => MASTER_ID,
            Role::Agent => AGENT_ID,
        }
    }

    /// The module parameter that names the configuration file.
    pub const fn parameter(self) -> &'static str {
        match self {
            Role::Master => "master_config",
            Role::Agent => "agent_config",
        }
    }

    /// The endpoints, for drivers that have to route_specs them.
    pub fn endpoints(self) -> &'static [RouteSpec] {
        static MASTER: LazyLock<Vec<RouteSpec>> =
            LazyLock::new(|| route_specs(MASTER_ID, master::ENDPOINTS));
        static AGENT: LazyLock<Vec<RouteSpec>> =
            LazyLock::new(|| route_specs(AGENT_ID, agent::ENDPOINTS));
        match self {
            Role::Master => &MASTER,
            Role::Agent => &AGENT,
        }
    }
}

/// Where the replicated log is, and who else has a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How many replicas are a majority, from 1.
    pub quorum: u32,
    /// Directory of this replica.
    pub path: PathBuf,
    /// ZooKeeper, where the replicas meet; `None`: there is this replica only.
    pub zookeeper: Option<LogMeeting>,
}

/// How the log's replicas find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMeeting {
    /// `host:port[,host:port]`.
    pub servers: String,
    /// The znode of the replicas.
    pub path: String,
    /// ZooKeeper's session timeout.
    pub session_timeout: Duration,
    /// `user:password` of the scheme `digest`.
    pub credentials: Option<String>,
}

/// What the driver of a node has to do. See `include/mesos_overlay.h` for what
/// each means.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a libprocess message.
    Send {
        /// The receiver.
        to: Upid,
        /// The protobuf type's full name.
        name: &'static str,
        /// The serialized protobuf.
        body: Bytes,
    },
    /// Hold a connection.
    Link {
        /// The peer.
        to: Upid,
        /// Whether to drop a connection that is there.
        reconnect: bool,
    },
    /// Answer an HTTP request.
    Respond {
        /// Which.
        id: RequestId,
        /// How.
        response: Response,
    },
    /// Watch who leads.
    Detect {
        /// `host:port` or `zk://…`, as Mesos's own agents take it.
        master: String,
    },
    /// Open the replicated log.
    OpenLog(LogSettings),
    /// Read the state.
    Fetch {
        /// For the answer.
        id: u64,
    },
    /// Write the state.
    Store {
        /// For the answer.
        id: u64,
        /// What to write.
        value: Bytes,
    },
    /// Nothing to do until the next input, or until this long from now.
    Idle(Option<Duration>),
}
