//! Survey of a host for operators: what is there, without changing anything.
//!
//! The only changes are those of [`trial()`], in a network namespace of its own that ends with it.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use overlay_core::host_api::desired::{ContainerTable, Desired};

use crate::files;
pub use crate::firewall::look::{FirewallSurvey, survey_firewall as firewall};
use crate::kernel::links::name;
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::{observe, parse, router_advertisements, underlay};
use crate::reconcile::observed::DeviceKind;
use crate::reconciler::event_loop;

mod trial;

pub use trial::{Trial, trial};

/// Network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkDevice {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of device as the kernel names it, such as `bridge`; `hardware` for a network card.
    pub kind: String,
    /// VNI and UDP port of a VXLAN device. The VNI is absent if the device has several.
    pub vxlan: Option<(Option<u32>, u16)>,
    /// MTU in bytes.
    pub mtu: u32,
    /// True if it is up.
    pub is_up: bool,
    /// True if it is a loopback device.
    pub is_loopback: bool,
    /// Addresses with their prefix lengths.
    pub addresses: BTreeSet<IpNet>,
}

/// Returns all network devices, in the order of their indexes.
///
/// # Errors
/// The kernel does not say. The error is a sentence.
pub fn devices() -> Result<Vec<NetworkDevice>, String> {
    ask("the devices", async |netlink| {
        let links = netlink
            .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await?;
        let addresses = netlink
            .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
            .await?;
        let mut devices: Vec<NetworkDevice> = links.iter().filter_map(device).collect();
        devices.sort_by_key(|device| device.index);
        for address in &addresses {
            if let RouteNetlinkMessage::NewAddress(message) = address
                && let Some(net) = parse::address(message)
                && let Some(device) = devices
                    .iter_mut()
                    .find(|device| device.index == message.header.index)
            {
                device.addresses.insert(net);
            }
        }
        Ok(devices)
    })
}

fn device(object: &RouteNetlinkMessage) -> Option<NetworkDevice> {
    let RouteNetlinkMessage::NewLink(message) = object else {
        return None;
    };
    let mtu = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(bytes) => Some(*bytes),
            _ => None,
        });
    let (kind, vxlan) = match parse::kind(message) {
        DeviceKind::Vxlan { vni, port, .. } => ("vxlan".to_owned(), Some((vni, port))),
        DeviceKind::Other(kind) => (kind, None),
    };
    Some(NetworkDevice {
        index: message.header.index,
        name: name(message)?.to_owned(),
        kind,
        vxlan,
        mtu: mtu?,
        is_up: message.header.flags.contains(LinkFlags::Up),
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        addresses: BTreeSet::new(),
    })
}

/// Returns the ranges of the rules `from <range> lookup <table>`: those of the overlays that the
/// agent of this host has, or had.
///
/// # Errors
/// The kernel does not say. The error is a sentence.
pub fn ranges(ContainerTable(table): ContainerTable) -> Result<BTreeSet<IpNet>, String> {
    ask("the rules", async |netlink| {
        let rules = observe::rules(netlink, table).await?.into_iter();
        let of_table = rules.filter(|rule| rule.table == table);
        Ok(of_table.map(|rule| rule.from).collect())
    })
}

/// Network that carries the tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlaySurvey {
    /// Name of the device of the narrowest path.
    pub device: String,
    /// MTU of the narrowest path, in bytes.
    pub mtu: u32,
    /// Number of devices that lead to peers.
    pub devices: usize,
}

/// Returns the network that carries the tunnels. See the agent's choice of the MTU in
/// docs/repair.md.
///
/// # Errors
/// The kernel does not say. The error is a sentence.
pub fn find_underlay(desired: &Desired) -> Result<Option<UnderlaySurvey>, String> {
    ask("the routes", async |netlink| {
        let found = underlay::underlay(netlink, desired).await?;
        Ok(found.map(|underlay| UnderlaySurvey {
            device: underlay.device,
            mtu: underlay.mtu,
            devices: underlay.devices.len(),
        }))
    })
}

/// Returns the address that packets to the outside have, or else the first address of a device that
/// is not the overlays'.
pub fn own_address(devices: &[NetworkDevice]) -> Option<Ipv4Addr> {
    // Connecting a datagram socket sends nothing, and has the kernel choose the address. Nobody has
    // the address of RFC 5737.
    let outside = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    if let Ok(std::net::SocketAddr::V4(own)) = outside {
        return Some(*own.ip());
    }
    let candidates = devices
        .iter()
        .filter(|device| device.is_up && !device.is_loopback && device.vxlan.is_none());
    candidates
        .filter(|device| device.kind != "bridge")
        .flat_map(|device| &device.addresses)
        .find_map(|net| match net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        })
}

/// Returns the names of devices that have addresses or routes from router advertisements, and accept
/// no more of them while the host forwards IPv6.
///
/// # Errors
/// The kernel does not say. The error is a sentence.
pub fn devices_losing_routers() -> Result<BTreeSet<String>, String> {
    ask("the addresses", async |netlink| {
        router_advertisements::losing_devices(netlink).await
    })
}

/// Returns a warning if others than root can put files into `cni_dir`, or replace it.
pub fn exposed_cni_dir(dir: &Path) -> Option<String> {
    files::exposure("cni_dir", dir, crate::cni::DANGER)
}

/// Calls `question` with a connection to the kernel. `what` is asked for.
fn ask<T>(
    what: &str,
    question: impl AsyncFnOnce(&Netlink) -> Result<T, Error>,
) -> Result<T, String> {
    let cannot =
        |error: &dyn std::fmt::Display| format!("cannot read {what} of the kernel: {error}");
    let runtime = event_loop().map_err(|error: io::Error| cannot(&error))?;
    runtime.block_on(async {
        let netlink = Netlink::open().map_err(|error| cannot(&error))?;
        question(&netlink).await.map_err(|error| cannot(&error))
    })
}
