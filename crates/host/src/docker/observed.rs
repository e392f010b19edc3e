//! Observed networks of the container engine.

use ipnet::IpNet;
use overlay_core::host_api::names::DOCKER_BRIDGE_PREFIX;

/// Name of the label of the networks that this module creates. Its value is the name of the
/// overlay.
pub const LABEL: &str = "io.github.mesos-overlay.overlay";

/// Version of the engine's API: major and minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// API of engine 28.0, which drops packets to a container unless they arrive on its own
    /// bridge, and which supports networks without IPv4.
    pub const V28: ApiVersion = ApiVersion(1, 48);
    /// API of engine 28.2, which has the option
    /// `com.docker.network.bridge.trusted_host_interfaces`.
    pub const TRUSTED_INTERFACES: ApiVersion = ApiVersion(1, 50);
}

impl std::str::FromStr for ApiVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<ApiVersion, String> {
        let parts = text
            .split_once('.')
            .and_then(|(a, b)| Some(ApiVersion(a.parse().ok()?, b.parse().ok()?)));
        parts.ok_or_else(|| format!("{text:?} is not a version of the engine's API"))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Observed state of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Newest API version that the engine supports.
    pub api: ApiVersion,
    /// All networks, including those of other programs.
    pub networks: Vec<ExistingNetwork>,
}

/// A network of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExistingNetwork {
    /// Id that the engine assigned. Names need not be unique.
    pub id: String,
    /// Name.
    pub name: String,
    /// Driver; `bridge` for networks of this module.
    pub driver: String,
    /// Name of the bridge device, if it was given when the network was created.
    pub bridge: Option<String>,
    /// Set if the network has the [`LABEL`].
    pub labelled: bool,
    /// Prefixes of the containers' addresses.
    pub subnets: Vec<IpNet>,
    /// MTU of the containers' interfaces in bytes, if it was given.
    pub mtu: Option<u32>,
    /// Set if the engine masquerades packets that leave the network.
    pub masquerade: bool,
    /// Interfaces from which packets to the containers are accepted, if any were given.
    pub trusted: Vec<String>,
    /// Endpoints in use; read only for networks that are or may be of this module.
    pub endpoints: Vec<Endpoint>,
    /// Names of containers that will join the network again when they are started. They know the
    /// network by its id, so they cannot be started after it was removed. Read only for networks
    /// that would be removed otherwise.
    pub stopped: Vec<String>,
}

/// A container's endpoint in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the container, or its id if it has no name.
    pub container: String,
    /// Addresses of the container in the network.
    pub addresses: Vec<IpNet>,
}

impl ExistingNetwork {
    /// Tells if containers use the network, running or stopped.
    pub fn is_used(&self) -> bool {
        !self.endpoints.is_empty() || !self.stopped.is_empty()
    }

    /// Tells if the network was created by this module or its predecessor (whose network
    /// `x` has the bridge `d-x`), so that it may be removed or replaced.
    pub fn is_own(&self) -> bool {
        self.labelled
            || self.driver == "bridge"
                && self
                    .bridge
                    .as_deref()
                    .and_then(|bridge| bridge.strip_prefix(DOCKER_BRIDGE_PREFIX))
                    == Some(&self.name)
    }
}
