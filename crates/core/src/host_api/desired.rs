//! What an agent's host should be like. Plain values, computed by the agent's
//! state machine from what its master said; the executor compares them with what
//! the kernel and the disk really hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;

pub use super::peer_map::PeerMap;

/// UDP port of the VXLAN tunnels. Not IANA's 4789: the value that every DC/OS
/// cluster uses, so that our hosts and theirs understand each other.
pub const VXLAN_PORT: u16 = 64000;

/// Routing table for the way from containers to the peers' own addresses.
pub const CONTAINER_TABLE: u32 = 42;

/// Everything the module wants of a host. What is of ours on the host and not in
/// here is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Where and how CNI configurations are written.
    pub cni: Cni,
    /// Who programs the data plane.
    pub backend: Backend,
    /// Which of the kernel's two firewalls translates addresses.
    pub firewall: Firewall,
    /// The agent's own address, by which its peers know it: the device that has it
    /// carries the tunnels.
    pub own: Option<Ipv4Addr>,
    /// Whether MTUs are lowered to what fits into that device: those of overlays
    /// whose operator set none.
    pub fit_mtu: bool,
    /// Who computes the checksums of packets that go into the tunnel.
    pub tx_checksum: Checksum,
    /// How far the removal of what is not desired goes.
    pub removal: Removal,
    /// The tunnel endpoint; `None` when no overlay needs one.
    pub vtep: Option<Vtep>,
    /// The agent's overlays by name.
    pub overlays: BTreeMap<String, Overlay>,
    /// The other agents by underlay address. `None`: not known yet, so whatever
    /// the kernel has of peers stays as it is.
    pub peers: Option<PeerMap>,
}

/// Who programs VXLAN device, neighbours, FDB, routes and rules, and turns forwarding on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// This module.
    #[default]
    Internal,
    /// Another program, such as `dcos-net`: this module leaves them alone.
    External,
}

/// Where the masquerading of the containers' traffic is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// Where the host's tools are: iptables if it and ipset are installed, and
    /// nftables otherwise.
    #[default]
    Auto,
    /// iptables and ipset.
    Iptables,
    /// A table of our own in nftables.
    Nftables,
    /// Nowhere: this module leaves the firewall alone.
    None,
}

/// Who computes the checksums of the packets in the tunnel (`ethtool`'s
/// `tx-checksum-ip-generic` of the VXLAN device). Some network cards and kernels
/// spoil them; then it has to be off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Whoever the kernel or the operator lets do it: it is not touched.
    #[default]
    Auto,
    /// The network card below, as the kernel's default is.
    On,
    /// The kernel, before the packet goes into the tunnel.
    Off,
}

/// What becomes of the bridges that CNI made for overlays that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// Those go of which something else on the host shows that they are ours,
    /// once no container is on them.
    #[default]
    Careful,
    /// Every one with such a name goes, once no container is on it.
    Thorough,
    /// The same, even with containers on it.
    Forced,
}

/// Where CNI configurations go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cni {
    /// The directory of the configurations, `cni_dir`.
    pub dir: PathBuf,
    /// `dataDir` of the `host-local` plugin, when configured: `cni_data_dir`.
    pub data_dir: Option<PathBuf>,
}

/// The VXLAN tunnel endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Name of the network device.
    pub name: String,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The device's hardware address.
    pub mac: Mac,
    /// Addresses with their prefix lengths, at most one of each family.
    pub addresses: Vec<IpNet>,
    /// Bytes; `None`: what fits into the underlay, if it can be found.
    pub mtu: Option<u32>,
}

/// This host's share of one overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The overlay's whole ranges, at most one of each family.
    pub ranges: Vec<IpNet>,
    /// This host's parts of them; empty with `allocate_subnet: false`.
    pub subnets: Vec<IpNet>,
    /// The bridge of the Mesos containerizer, when asked for.
    pub mesos_bridge: Option<Bridge>,
    /// The bridge of Docker, when asked for.
    pub docker_bridge: Option<Bridge>,
    /// MTU of the containers' interfaces, in bytes: `overlay_mtu`.
    pub mtu: u32,
}

/// A bridge for containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the network device.
    pub name: String,
    /// The prefixes containers get addresses from, at most one of each family.
    pub subnets: Vec<IpNet>,
}

/// Another agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Addresses of its VTEP, at most one of each family, the IPv4 one first.
    pub vtep_ips: Vec<IpAddr>,
    /// Hardware address of its VTEP.
    pub vtep_mac: Mac,
    /// Its parts of the overlays, of both families, in a stable order.
    pub subnets: Vec<IpNet>,
}

/// An Ethernet address; prints in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Not six hexadecimal bytes with colons between them.
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
