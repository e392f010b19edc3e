//! The two roles, and the actions that a node asks its driver for.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use overlay_core::agent::endpoints as agent;
use overlay_core::master::endpoints as master;
use overlay_core::protocol::routes::{RouteSpec, route_specs};
use overlay_core::{AGENT_ID, Io, MASTER_ID, RequestId, Response};

/// Role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `overlay-master`, in every Mesos master.
    Master,
    /// `overlay-agent`, in every Mesos agent.
    Agent,
}

impl Role {
    /// Returns the libprocess id, which is also the prefix of the role's log lines.
    pub const fn id(self) -> &'static str {
        match self {
            Role::Master => MASTER_ID,
            Role::Agent => AGENT_ID,
        }
    }

    /// Returns the name of the module parameter with the path of the configuration file.
    pub const fn parameter(self) -> &'static str {
        match self {
            Role::Master => "master_config",
            Role::Agent => "agent_config",
        }
    }

    /// Returns the HTTP endpoints, for drivers that must register them with a server.
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

/// Location of the replicated log and of its other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Number of replicas that form a majority, at least 1.
    pub quorum: u32,
    /// Directory of this host's replica.
    pub path: PathBuf,
    /// ZooKeeper group of the replicas; `None` if this is the only replica.
    pub zookeeper: Option<ZooKeeperSettings>,
}

/// ZooKeeper group through which the replicas of the log find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperSettings {
    /// Servers as `host:port[,host:port]`.
    pub servers: String,
    /// Path of the znode of the group.
    pub path: String,
    /// ZooKeeper session timeout.
    pub session_timeout: Duration,
    /// Credentials `user:password` for the scheme `digest`.
    pub credentials: Option<String>,
}

/// Action that a node asks its driver for. `include/mesos_overlay.h` has the contract of
/// each.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Carry out an effect of the machine.
    Io(Io),
    /// Answer an HTTP request with the body in a file.
    RespondFromFile {
        /// Id of the request.
        id: RequestId,
        /// Answer, without its body.
        response: Response,
        /// Path of the file.
        path: String,
    },
    /// Watch which Mesos master leads.
    Detect {
        /// `host:port` or `zk://…`, as Mesos's agents accept it as `--master`.
        master: String,
    },
    /// Open the replicated log.
    OpenLog(LogSettings),
    /// Read the state from the replicated log.
    Fetch {
        /// Id of the answer.
        id: u64,
        /// Close the log and open it anew before.
        reopen: bool,
    },
    /// Wait for the next input, but not longer than this duration.
    Idle(Option<Duration>),
}
