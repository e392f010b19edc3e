//! The two configuration files, checked. Reading the files is the caller's part;
//! here text becomes a value in which every field can be relied on, or one line
//! that names file, field, value and remedy.

pub mod agent;
mod agent_admission;
mod duplicate_keys;
mod duration;
pub mod master;
mod reader;
pub mod zk;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::host_api::desired::{Backend, Checksum, Firewall};
use crate::proto;
use crate::protocol::routes::Access;
use reader::Object;
pub use reader::nearest;

pub use agent_admission::AgentAddresses;
pub use reader::{ConfigError, Parsed};

/// What an MTU may be, in bytes: at least what every IPv4 host must be able to
/// receive (RFC 791), at most what the kernel takes.
const MTU: RangeInclusive<u32> = 576..=65535;

/// `authenticate_http`: which endpoints take authenticated requests only, where Mesos
/// is set up to authenticate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthenticateHttp {
    /// None.
    None,
    /// Those that change something.
    #[default]
    Writes,
    /// Those that tell of the state, too.
    All,
}

impl AuthenticateHttp {
    /// Whether it covers endpoints for these.
    pub fn covers(self, access: Access) -> bool {
        match access {
            Access::Anyone => false,
            Access::Readers => self == AuthenticateHttp::All,
            Access::Writers => self != AuthenticateHttp::None,
        }
    }

    fn read(object: &Object<'_>) -> Result<AuthenticateHttp, ConfigError> {
        let remedy = "write \"writes\" (endpoints that change something), \"all\" or \"none\"";
        let chosen = object.parsed("authenticate_http", remedy, |text| match text {
            "none" => Ok(AuthenticateHttp::None),
            "writes" => Ok(AuthenticateHttp::Writes),
            "all" => Ok(AuthenticateHttp::All),
            _ => Err("is none of its values".to_owned()),
        })?;
        Ok(chosen.unwrap_or_default())
    }
}

/// A path that is not empty.
fn path(object: &Object<'_>, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    object.parsed(key, "give a path", |text| match text {
        "" => Err("is empty".to_owned()),
        text if text.contains('\0') => Err("has a NUL character".to_owned()),
        text => Ok(PathBuf::from(text)),
    })
}

/// The file behind the master module's parameter `master_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterConfig {
    /// `network`: what there is to give out.
    pub network: Network,
    /// `zk`: where the log's replicas meet.
    pub zk: Option<ZkConfig>,
    /// `replicated_log_dir`; `None`: state is in memory only.
    pub replicated_log_dir: Option<PathBuf>,
    /// `replicated_log_timeout`: how long reading the log may take.
    pub replicated_log_timeout: Duration,
    /// `authenticate_http`.
    pub authenticate_http: AuthenticateHttp,
    /// `agent_addresses`: which agents are served.
    pub agent_addresses: AgentAddresses,
    /// `agent_lease`: after how long without contact what an agent holds may be given to
    /// others; `None`: never.
    pub agent_lease: Option<Duration>,
}

/// ZooKeeper as the master's configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZkConfig {
    /// `zk://[user:password@]host:port[,host:port]…/path`, or `file://` and the
    /// path of a file that holds such a url.
    pub url: String,
    /// How many replicas are a majority, from 1.
    pub quorum: u32,
    /// `session_timeout` (whole seconds in the file).
    pub session_timeout: Duration,
}

/// The networks of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The first and the last address are never given out.
    pub vtep_subnet: Ipv4Net,
    /// The same for IPv6.
    pub vtep_subnet6: Option<Ipv6Net>,
    /// The first three bytes of every VTEP's MAC.
    pub vtep_mac_oui: [u8; 3],
    /// Bytes.
    pub vtep_mtu: Option<u32>,
    /// In the order of the file.
    pub overlays: Vec<OverlayConfig>,
    /// As the operator wrote it: what endpoints show and the log keeps.
    pub wire: proto::NetworkConfig,
}

/// One overlay network.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayConfig {
    /// At most [`MAX_OVERLAY_NAME`] characters.
    pub name: String,
    /// At least one of `v4` and `v6` is there.
    pub v4: Option<Range>,
    /// See `v4`.
    pub v6: Option<Range>,
    /// Whether agents get it.
    pub enabled: bool,
}

/// A range that is cut into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The whole; no bit is set behind the prefix.
    pub net: IpNet,
    /// Prefix length of an agent's subnet: at least that of `net`, at most the
    /// address's width less one (a subnet is split between two bridges).
    pub prefix: u8,
}

/// The longest overlay name: a device name has at most 15 characters, two of
/// which are `m-` or `d-`.
pub const MAX_OVERLAY_NAME: usize = 13;

/// The default MTU of containers' interfaces, in bytes: that of existing clusters,
/// whose underlays have 1500 at least.
pub const OVERLAY_MTU: u32 = 1420;

/// The file behind the agent module's parameter `agent_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// `master`: `host:port`, `zk://…` or `file://…`.
    pub master: Option<String>,
    /// `cni_dir`: where CNI configurations are written.
    pub cni_dir: PathBuf,
    /// `cni_data_dir`: `dataDir` of the `host-local` plugin.
    pub cni_data_dir: Option<PathBuf>,
    /// `network_config`.
    pub network: AgentNetwork,
    /// `max_configuration_attempts`: after how many failures in a row the agent
    /// reports `STATUS_FAILED`. (It goes on trying.)
    pub max_configuration_attempts: u32,
    /// `vxlan_tx_checksum`: who computes checksums of packets into the tunnel.
    pub tx_checksum: Checksum,
    /// `backend`: who programs the data plane.
    pub backend: Backend,
    /// `firewall`: where masquerading is written.
    pub firewall: Firewall,
    /// `docker_socket`: where the container engine listens; `None`: at
    /// [`DEFAULT_SOCKET`](crate::host_api::engine::DEFAULT_SOCKET), unless the
    /// environment says something else.
    pub docker_socket: Option<PathBuf>,
    /// `authenticate_http`.
    pub authenticate_http: AuthenticateHttp,
}

/// What an agent wants of its master, and how it sets up its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentNetwork {
    /// Whether it gets subnets besides its VTEP.
    pub allocate_subnet: bool,
    /// Whether it has a bridge for the Mesos containerizer.
    pub mesos_bridge: bool,
    /// Whether it has a bridge for Docker.
    pub docker_bridge: bool,
    /// MTU of the containers' interfaces, in bytes; `None`: [`OVERLAY_MTU`], or less
    /// if the underlay needs it.
    pub overlay_mtu: Option<u32>,
    /// How long one call to the container engine may take.
    pub command_timeout: Duration,
    /// Whether it takes part in IPv6.
    pub enable_ipv6: bool,
}
