//! Desired state of an agent's host. Plain values: the agent's state machine computes them
//! from its master's messages, the executor compares them with kernel and disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use crate::util::family::Family;

/// UDP port of the VXLAN tunnels. Not IANA's 4789, but the port of every DC/OS cluster, so
/// that hosts with this module and with its predecessor reach each other.
pub const VXLAN_PORT: u16 = 64000;

/// Routing table for packets from containers to the peers' own addresses, unless the operator
/// chooses another one. That of every DC/OS cluster.
pub const CONTAINER_TABLE: u32 = 42;

/// Number of the routing table for packets from containers to the peers' own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerTable(pub u32);

impl Default for ContainerTable {
    fn default() -> ContainerTable {
        ContainerTable(CONTAINER_TABLE)
    }
}

/// Desired state of a host. Objects of this module on the host that are not part of it are
/// removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Place and options of the CNI configurations.
    pub cni: Cni,
    /// Program that manages the data plane.
    pub backend: Backend,
    /// Firewall of the kernel that masquerades the containers' traffic.
    pub firewall: Firewall,
    /// Underlay address of this agent. The device that has it carries the tunnels.
    pub underlay_ip: Option<Ipv4Addr>,
    /// True if the overlays' MTUs are lowered to the largest that fits into the underlay,
    /// because the operator configured none.
    pub fit_mtu: bool,
    /// Place where checksums of packets in the tunnel are computed.
    pub tx_checksum: Checksum,
    /// Extent to which bridges that are not desired are removed.
    pub removal: Removal,
    /// Routing table of the containers.
    pub container_table: ContainerTable,
    /// Tunnel endpoint; `None`: no overlay needs one.
    pub vtep: Option<Vtep>,
    /// Overlays of this agent by name.
    pub overlays: BTreeMap<String, Overlay>,
    /// Other agents. `None`: not known yet, so that the peers' objects in the kernel stay as
    /// they are.
    pub peers: Option<Arc<PeerMap>>,
}

/// Agents by underlay address. Lists share the peers that they have in common, so that copy
/// and comparison of a long list cost little more than a walk over its addresses.
pub type PeerMap = BTreeMap<Ipv4Addr, Arc<Peer>>;

impl Desired {
    /// Returns Mesos's bridges, which this module creates, by name. None with another backend.
    pub fn mesos_bridges(&self) -> BTreeMap<&str, &Bridge> {
        self.bridges(|overlay| overlay.mesos_bridge.as_ref())
    }

    /// Returns Docker's bridges, which Docker creates, by name. None with another backend.
    pub fn docker_bridges(&self) -> BTreeMap<&str, &Bridge> {
        self.bridges(|overlay| overlay.docker_bridge.as_ref())
    }

    /// Returns whether an overlay has a bridge on this host, with any backend. Otherwise (as on a
    /// master) there are no containers, and only packets of the host itself use the tunnel.
    pub fn has_bridge(&self) -> bool {
        let has_bridge =
            |overlay: &Overlay| overlay.mesos_bridge.is_some() || overlay.docker_bridge.is_some();
        self.overlays.values().any(has_bridge)
    }

    /// Returns the list of other agents for a change; an unknown list becomes an empty one. A
    /// list that other desired states share is copied first.
    pub fn peers_mut(&mut self) -> &mut PeerMap {
        Arc::make_mut(self.peers.get_or_insert_default())
    }

    fn bridges<'a>(
        &'a self,
        bridge: impl Fn(&'a Overlay) -> Option<&'a Bridge>,
    ) -> BTreeMap<&'a str, &'a Bridge> {
        let is_internal = self.backend == Backend::Internal;
        let bridges = self.overlays.values().filter_map(bridge);
        bridges
            .filter(|_| is_internal)
            .map(|bridge| (bridge.name.as_str(), bridge))
            .collect()
    }
}

/// Program that manages VXLAN device, neighbours, FDB, routes, rules and forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// This module.
    #[default]
    Internal,
    /// Another program such as `dcos-net`: this module leaves them alone.
    External,
}

/// Firewall of the kernel that masquerades the containers' traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// iptables if it and ipset are installed, and otherwise nftables.
    #[default]
    Auto,
    /// iptables and ipset.
    Iptables,
    /// nftables, in a table of its own.
    Nftables,
    /// No firewall: this module leaves the firewall alone.
    None,
}

/// Place where the checksums of packets in the tunnel are computed (`ethtool`'s
/// `tx-checksum-ip-generic` of the VXLAN device). Some network cards and kernels compute
/// wrong ones; then it has to be off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Present setting of the kernel or the operator: this module does not change it.
    #[default]
    Auto,
    /// In the underlay's network card, which is the kernel's default.
    On,
    /// In the kernel, before the packet enters the tunnel.
    Off,
}

/// Extent to which bridges of removed overlays are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Remove a bridge only if a rule or a CNI configuration proves that it is ours, and no
    /// container is attached to it.
    #[default]
    Careful,
    /// Remove every bridge named like an overlay's (`m-…`), if no container is attached to it.
    Thorough,
    /// Remove every bridge named like an overlay's, even with containers attached to it.
    Forced,
}

/// Place and options of the CNI configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cni {
    /// Directory of the configurations: `cni_dir`.
    pub dir: PathBuf,
    /// Directory of the `host-local` plugin (`dataDir`), if configured: `cni_data_dir`.
    pub data_dir: Option<PathBuf>,
    /// First part of the names of the files: `cni_file_prefix`.
    pub file_prefix: String,
}

/// VXLAN tunnel endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Name of the network device.
    pub name: String,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Hardware address of the device.
    pub mac: Mac,
    /// Addresses with their prefix lengths, at most one of each family.
    pub addresses: Vec<IpNet>,
    /// MTU in bytes; `None`: the largest that fits into the underlay, if that can be found.
    pub mtu: Option<u32>,
}

impl Vtep {
    /// Returns the shortest prefix length of a VTEP's address: masters accept no range of VTEPs
    /// shorter than /8, and a shorter one would take over most of the host's traffic. All unique
    /// local IPv6 addresses are a /7.
    pub fn shortest_prefix(family: Family) -> u8 {
        family.pick(8, 7)
    }
}

/// Desired state of an overlay on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Ranges of the whole overlay, at most one of each family.
    pub ranges: Vec<IpNet>,
    /// Subnets of this host in them; empty with `allocate_subnet: false`.
    pub subnets: Vec<IpNet>,
    /// Bridge of the Mesos containerizer, if configured.
    pub mesos_bridge: Option<Bridge>,
    /// Bridge of Docker, if configured.
    pub docker_bridge: Option<Bridge>,
    /// MTU of the containers' interfaces, in bytes: `overlay_mtu`.
    pub mtu: u32,
}

/// Bridge for containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the network device.
    pub name: String,
    /// Prefixes of the containers' addresses, at most one of each family.
    pub subnets: Vec<IpNet>,
}

impl Bridge {
    /// Returns whether containers on the bridge have addresses of a family.
    pub fn has(&self, family: Family) -> bool {
        let mut subnets = self.subnets.iter();
        subnets.any(|subnet| family.includes(*subnet))
    }

    /// Returns the addresses of the bridge, which are the containers' gateways: the first
    /// one of each subnet, as `host-local` has it. A subnet without room for a container has
    /// none.
    pub fn gateways(&self) -> BTreeSet<IpNet> {
        let gateway = |subnet: &IpNet| {
            let first: IpAddr = match subnet.network() {
                IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
                IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
            };
            let has_room = subnet.max_prefix_len() - subnet.prefix_len() >= 2;
            let gateway = IpNet::new(first, subnet.prefix_len()).ok();
            gateway.filter(|_| has_room)
        };
        self.subnets.iter().filter_map(gateway).collect()
    }
}

/// Another agent, as this host reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Addresses of its VTEP, at most one of each family, the IPv4 one first.
    pub vtep_ips: Vec<IpAddr>,
    /// Hardware address of its VTEP.
    pub vtep_mac: Mac,
    /// Subnets of its overlays, of both families, in a stable order.
    pub subnets: Vec<IpNet>,
}

/// An Ethernet address; prints in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Returns whether a single host can have the address.
    pub fn is_of_host(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Error of parsing a [`Mac`]: the text is not six hexadecimal bytes with colons between
/// them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address; one looks like 70:b3:d5:00:00:00")]
pub struct BadMac(pub String);

impl std::str::FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Mac, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or_else(bad)?;
            // from_str_radix would take a sign and one digit.
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(Mac(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_print_in_lower_case() {
        assert_eq!(
            "70:B3:D5:80:00:01".parse::<Mac>().unwrap().to_string(),
            "70:b3:d5:80:00:01"
        );
    }

    #[test]
    fn refuses_what_is_no_mac() {
        for text in [
            "",
            "70:b3:d5:80:00",
            "70:b3:d5:80:00:01:02",
            "70:b3:d5:80:0:01",
            "+7:b3:d5:80:00:01",
            "70-b3-d5-80-00-01",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(BadMac(text.to_owned())));
        }
    }
}
