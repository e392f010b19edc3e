//! The container engine's networks as they are.

use ipnet::IpNet;

/// Name of the label that the networks we make carry; its value is the overlay's
/// name.
pub const LABEL: &str = "io.github.mesos-overlay.overlay";

/// Version of the engine's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// Engine 28.0: packets to a container that do not come in by its own bridge are
    /// dropped, and networks may do without IPv4.
    pub const V28: ApiVersion = ApiVersion(1, 48);
    /// Engine 28.2: `com.docker.network.bridge.trusted_host_interfaces`.
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

/// What an engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// The newest API version that it speaks.
    pub api: ApiVersion,
    /// All its networks, also those that are none of ours.
    pub networks: Vec<Existing>,
}

/// One network of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// The engine's id of it; names need not be unique.
    pub id: String,
    /// The name.
    pub name: String,
    /// The driver: `bridge` for ours.
    pub driver: String,
    /// The bridge device, if it was given a name when the network was made.
    pub bridge: Option<String>,
    /// Whether it has our [`LABEL`].
    pub labelled: bool,
    /// The prefixes that containers get addresses from.
    pub subnets: Vec<IpNet>,
    /// MTU of the containers' interfaces, if it was given.
    pub mtu: Option<u32>,
    /// Whether the engine masquerades what leaves it.
    pub masquerade: bool,
    /// Trusted interfaces, if there are any.
    pub trusted: Vec<String>,
    /// Its endpoints in use, for networks that are or may be ours.
    pub endpoints: Vec<Endpoint>,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's name.
    pub container: String,
    /// Its addresses there.
    pub addresses: Vec<IpNet>,
}

impl Existing {
    /// Whether it was made by this module or its predecessor, which gave the bridge
    /// of the network `x` the name `d-x`, and can be removed or replaced.
    pub fn is_ours(&self) -> bool {
        self.labelled
            || self.driver == "bridge"
                && self
                    .bridge
                    .as_deref()
                    .and_then(|bridge| bridge.strip_prefix("d-"))
                    == Some(&self.name)
    }
}
