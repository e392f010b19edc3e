//! The configurations of both modules. Their texts become checked values, or a list of all
//! mistakes, each in one line with file, field, value and remedy. The caller reads the files.

pub mod agent;
mod agent_admission;
pub mod authentication;
mod dns_domain;
mod duration;
mod error;
pub mod master;
mod outline;
pub mod overlay;
mod reader;
pub mod zk;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::host_api::desired::{Backend, Checksum, ContainerTable, Firewall};
use crate::host_api::names::{MAX_DEVICE_NAME, MESOS_BRIDGE_PREFIX};
use crate::proto;
use crate::protocol::routes::Access;
use authentication::Authentication;
use overlay::Definition;
use reader::{Field, Object, Reported};

pub use agent_admission::AgentAddresses;
pub use error::{ConfigError, Mistake};
pub use outline::repeated_key;
pub use reader::{Parsed, nearest};

/// Valid MTUs, in bytes: from the least that Linux assumes of a path to the largest that the
/// kernel accepts.
const MTU: RangeInclusive<u32> = 552..=65535;

/// The MTU that every IPv4 host must be able to receive (RFC 791), in bytes.
const USUAL_MTU: u32 = 576;

/// The endpoints that need authenticated requests, if Mesos authenticates HTTP:
/// `authenticate_http`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthenticateHttp {
    /// No endpoint.
    None,
    /// Endpoints that change something.
    #[default]
    Writes,
    /// Endpoints that change something or show the state.
    All,
}

impl AuthenticateHttp {
    /// Returns whether endpoints for `access` need authenticated requests.
    pub fn covers(self, access: Access) -> bool {
        match access {
            Access::Anyone => false,
            Access::Readers => self == AuthenticateHttp::All,
            Access::Writers => self != AuthenticateHttp::None,
        }
    }

    fn read(object: &Object<'_>) -> Result<AuthenticateHttp, Reported> {
        let remedy = "write \"writes\" (endpoints that change something), \"all\" or \"none\"";
        let choices = [
            ("none", AuthenticateHttp::None),
            ("writes", AuthenticateHttp::Writes),
            ("all", AuthenticateHttp::All),
        ];
        let chosen = object.choice("authenticate_http", remedy, &choices)?;
        Ok(chosen.unwrap_or_default())
    }
}

/// Reads a path, which must not be empty.
fn path(object: &Object<'_>, key: &'static str) -> Field<PathBuf> {
    object.parsed(key, "give a path", |text| match text {
        "" => Err("is empty".to_owned()),
        text if text.contains('\0') => Err("contains a NUL character".to_owned()),
        text => Ok(PathBuf::from(text)),
    })
}

/// Reads an MTU, with a warning if it is unusually small.
fn mtu(object: &Object<'_>, key: &'static str) -> Field<u32> {
    let mtu = object.number(key, MTU)?;
    if let Some(small) = mtu.filter(|mtu| *mtu < USUAL_MTU) {
        let text = format!(
            "{small} is less than the {USUAL_MTU} bytes that every IPv4 host receives; is it meant?"
        );
        object.warn(key, &text);
    }
    Ok(mtu)
}

/// The configuration of a master.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterConfig {
    /// `network`: the networks of the cluster.
    pub network: Network,
    /// `zk`: the ZooKeeper where the replicas of the log find each other.
    pub zk: Option<ZkConfig>,
    /// `replicated_log_dir`. Without one the state is kept in memory only.
    pub replicated_log_dir: Option<PathBuf>,
    /// `replicated_log_timeout`: the time after which reading the log is given up and repeated.
    pub replicated_log_timeout: Duration,
    /// `authenticate_http`.
    pub authenticate_http: AuthenticateHttp,
    /// The authentication of messages of agents.
    pub authentication: Authentication,
    /// `agent_addresses`: the agents that are served.
    pub agent_addresses: AgentAddresses,
    /// `dns_domain`: the domain of the containers' names, which the page shows.
    pub dns_domain: String,
    /// `agent_lease`: the time without contact after which the allocation of an agent may be
    /// reassigned. Never if `None`.
    pub agent_lease: Option<Duration>,
}

/// The ZooKeeper of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZkConfig {
    /// `zk://[user:password@]host:port[,host:port]…/path`, or `file://` and the path of a file
    /// that contains such a URL.
    pub url: String,
    /// The number of replicas that are a majority, from 1.
    pub quorum: u32,
    /// `session_timeout`, in whole seconds in the file.
    pub session_timeout: Duration,
}

/// The networks of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The IPv4 range of the VTEPs. The first and the last address are not used.
    pub vtep_subnet: Ipv4Net,
    /// The IPv6 range of the VTEPs. The first and the last address are not used.
    pub vtep_subnet6: Option<Ipv6Net>,
    /// The first three bytes of the MAC address of every VTEP.
    pub vtep_mac_oui: [u8; 3],
    /// The MTU of the VTEPs, in bytes. Chosen by the agents if `None`.
    pub vtep_mtu: Option<u32>,
    /// The settings above as the operator wrote them.
    pub texts: NetworkTexts,
    /// The overlays, in the order of the file.
    pub overlays: Vec<Definition>,
}

/// Settings of the network as the operator wrote them, which endpoints show and the log stores.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkTexts {
    /// `vtep_subnet`.
    pub vtep_subnet: String,
    /// `vtep_subnet6`.
    pub vtep_subnet6: Option<String>,
    /// `vtep_mac_oui`.
    pub vtep_mac_oui: String,
}

impl Network {
    /// Returns the network as the operator wrote it.
    pub fn to_wire(&self) -> proto::NetworkConfig {
        let overlay = |overlay: &Definition| overlay.info().clone();
        proto::NetworkConfig {
            vtep_subnet: self.texts.vtep_subnet.clone(),
            vtep_mac_oui: self.texts.vtep_mac_oui.clone(),
            overlays: self.overlays.iter().map(overlay).collect(),
            vtep_subnet6: self.texts.vtep_subnet6.clone(),
            vtep_mtu: self.vtep_mtu,
        }
    }

    /// Returns the overlay with a name.
    pub fn overlay(&self, name: &str) -> Option<&Definition> {
        self.overlays.iter().find(|overlay| overlay.name() == name)
    }

    /// Returns the ranges of the VTEPs.
    pub fn vtep_ranges(&self) -> impl Iterator<Item = IpNet> {
        let v6 = self.vtep_subnet6.map(IpNet::from);
        std::iter::once(self.vtep_subnet.into()).chain(v6)
    }
}

/// An overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayConfig {
    /// The name, of at most [`MAX_OVERLAY_NAME`] characters.
    pub name: String,
    /// The IPv4 range. There is at least one of `v4` and `v6`.
    pub v4: Option<Range>,
    /// The IPv6 range. There is at least one of `v4` and `v6`.
    pub v6: Option<Range>,
    /// Agents get subnets of the overlay.
    pub enabled: bool,
}

impl OverlayConfig {
    /// Returns the ranges of both families.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        self.v4.into_iter().chain(self.v6)
    }

    /// Returns the range of the family of `net`.
    pub fn range_like(&self, net: IpNet) -> Option<Range> {
        match net {
            IpNet::V4(_) => self.v4,
            IpNet::V6(_) => self.v6,
        }
    }

    /// Returns whether a network lies in a range of the overlay.
    pub fn contains(&self, net: IpNet) -> bool {
        self.range_like(net)
            .is_some_and(|range| range.net.contains(&net))
    }
}

/// A range that is divided into subnets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The whole range. No bit is set after its prefix.
    pub net: IpNet,
    /// The prefix length of an agent's subnet, from that of `net` to one less than the length
    /// of an address, because a subnet is divided between two bridges.
    pub prefix: u8,
}

/// Longest name of an overlay, in bytes. The names of its bridges are longer by their prefix.
pub const MAX_OVERLAY_NAME: usize = MAX_DEVICE_NAME - MESOS_BRIDGE_PREFIX.len();

/// Default MTU of containers' interfaces, in bytes. Existing clusters have it, and it fits an
/// underlay of 1500 bytes.
pub const OVERLAY_MTU: u32 = 1420;

/// The configuration of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// `master`: `host:port`, `zk://…` or `file://…`.
    pub master: Option<String>,
    /// `cni_dir`: the directory of CNI configurations.
    pub cni_dir: PathBuf,
    /// `cni_data_dir`: `dataDir` of the `host-local` plugin.
    pub cni_data_dir: Option<PathBuf>,
    /// `cni_file_prefix`: the first part of the names of CNI configurations.
    pub cni_file_prefix: String,
    /// `network_config`.
    pub network: AgentNetwork,
    /// `max_configuration_attempts`: the number of failures in a row after which the agent
    /// reports `STATUS_FAILED`. It continues to try.
    pub max_configuration_attempts: u32,
    /// `vxlan_tx_checksum`: computation of checksums of packets into the tunnel.
    pub tx_checksum: Checksum,
    /// `container_table`: the routing table for packets from containers to the peers' own addresses.
    pub container_table: ContainerTable,
    /// `backend`: the program that configures the data plane.
    pub backend: Backend,
    /// `firewall`: the tool that configures masquerading.
    pub firewall: Firewall,
    /// `docker_socket`: the socket of the container engine. If `None`, it comes from the
    /// environment, or is [`DEFAULT_SOCKET`](crate::host_api::engine::DEFAULT_SOCKET).
    pub docker_socket: Option<PathBuf>,
    /// `authenticate_http`.
    pub authenticate_http: AuthenticateHttp,
    /// The authentication of messages of masters.
    pub authentication: Authentication,
}

/// The requests of an agent to its master, and settings of its host: `network_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentNetwork {
    /// The agent gets subnets besides its VTEP.
    pub allocate_subnet: bool,
    /// The agent has a bridge for the Mesos containerizer.
    pub mesos_bridge: bool,
    /// The agent has a bridge for Docker.
    pub docker_bridge: bool,
    /// The MTU of the containers' interfaces, in bytes. If `None`, it is [`OVERLAY_MTU`], or
    /// less if the underlay needs it.
    pub overlay_mtu: Option<u32>,
    /// The time that a call to the container engine may take.
    pub command_timeout: Duration,
    /// The agent takes part in IPv6.
    pub enable_ipv6: bool,
}
