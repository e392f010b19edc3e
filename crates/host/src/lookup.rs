//! Read-only look at the network configuration of a host, for the operators' program: devices,
//! neighbours, FDB, rules, the routing decision for a packet, settings and the firewall.
//!
//! Everything is that of the network namespace of the calling thread. Nothing needs root but the
//! firewall.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Parseable;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteMessage, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use overlay_core::host_api::desired::Mac;
use overlay_core::util::family::Family;
use rtnetlink::LinkUnspec;
use tokio::runtime::Runtime;

use crate::files::read_setting;
pub use crate::firewall::judge::{Flow, Judgement, Protocol, Rules};
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::raw::{Attributes, Request, Socket};
use crate::kernel::{links, observe, parse, sysctl};
use crate::reconcile::observed::{Device, Rule};
use crate::reconciler::event_loop;

// From linux/rtnetlink.h.
const GET_ROUTE: u16 = 26;
/// Flags of a request: name the table, and answer with the route of the table.
const LOOKUP_TABLE: u32 = 0x1000;
const FIB_MATCH: u32 = 0x2000;
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const INPUT_DEVICE: u16 = 3;
/// Bytes of the header of a message about a route.
const ROUTE_HEADER: usize = 12;

/// Reader of the kernel's network configuration.
pub struct Lookup {
    // Dropped before the runtime on which it lives.
    netlink: Netlink,
    runtime: Runtime,
}

/// Network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// True if it is administratively up.
    pub is_up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Hardware address; `None`: it has none of Ethernet.
    pub mac: Option<Mac>,
    /// Addresses with the prefix lengths of their networks, except link-local ones.
    pub addresses: BTreeSet<IpNet>,
}

/// Packet whose way is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Destination.
    pub destination: IpAddr,
    /// Source; `None`: the kernel chooses it.
    pub source: Option<IpAddr>,
    /// Device on which the packet arrives; `None`: this host sends it.
    pub arrives_on: Option<&'a str>,
}

/// Decision of the kernel's routing tables about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is for this host itself.
    Local,
    /// It leaves by a route.
    Forward(Way),
    /// It is dropped.
    Drop(DropReason),
}

/// Route that a packet takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Routing table.
    pub table: u32,
    /// Destination of the route.
    pub prefix: IpNet,
    /// Gateway; `None`: the destination is on the device's link.
    pub via: Option<IpAddr>,
    /// Name of the device; `None`: the route has several.
    pub device: Option<String>,
    /// Origin of the route (`RTPROT_*`).
    pub protocol: u8,
}

/// Reason why the kernel's routing drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No route leads to the destination.
    NoRoute,
    /// A route says that the destination is unreachable, or the device that it arrives on does not
    /// forward.
    Unreachable,
    /// A route or rule forbids it.
    Prohibited,
    /// A route discards it, or its source cannot be right.
    Invalid,
    /// The way back to its source leads over another device than that on which it arrives
    /// (`rp_filter`).
    ReversePath,
}

impl Lookup {
    /// Opens the kernel's interface.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn open() -> io::Result<Lookup> {
        let runtime = event_loop()?;
        let netlink = runtime.block_on(async { Netlink::open() })?;
        Ok(Lookup { netlink, runtime })
    }

    /// Reads a device; `None`: there is none of this name.
    ///
    /// # Errors
    /// The kernel does not answer; a sentence.
    pub fn link(&self, name: &str) -> Result<Option<Link>, String> {
        self.wait("devices", async {
            let query = LinkUnspec::new_with_name(name).build();
            let Some(message) = links::link(&self.netlink, query).await? else {
                return Ok(None);
            };
            let mut addresses = BTreeSet::new();
            for family in links::FAMILIES {
                let index = message.header.index;
                addresses.append(&mut links::addresses(&self.netlink, index, family).await?);
            }
            Ok(Some(link(&message, addresses)))
        })
    }

    /// Reads a device with its neighbours and, if it is a VXLAN device, its FDB and the routes over
    /// it in the main table and `table`; `None`: there is none of this name.
    ///
    /// # Errors
    /// The kernel does not answer; a sentence.
    pub fn device(&self, name: &str, table: u32) -> Result<Option<Device>, String> {
        self.wait(
            "VXLAN device",
            observe::whole_device(&self.netlink, name, table),
        )
    }

    /// Returns the names of the VXLAN devices that look like those of the overlays.
    ///
    /// # Errors
    /// The kernel does not answer; a sentence.
    pub fn vxlan_devices(&self) -> Result<BTreeSet<String>, String> {
        self.wait("devices", observe::stale_devices(&self.netlink, None))
    }

    /// Returns the rules that have the mark of the overlays, or lead to `table`.
    ///
    /// # Errors
    /// The kernel does not answer; a sentence.
    pub fn rules(&self, table: u32) -> Result<BTreeSet<Rule>, String> {
        self.wait("rules", observe::rules(&self.netlink, table))
    }

    /// Returns the hardware address that the kernel knows for a neighbour on a device.
    ///
    /// # Errors
    /// The kernel does not answer; a sentence.
    pub fn neighbour(&self, device: &str, ip: IpAddr) -> Result<Option<Mac>, String> {
        self.wait("neighbours", async {
            let Some(index) = observe::index_of(&self.netlink, device).await? else {
                return Ok(None);
            };
            let family = Family::from(ip).pick(links::FAMILIES[0], links::FAMILIES[1]);
            let neighbours = observe::neighbours(&self.netlink, index, family).await?;
            Ok(neighbours.get(&ip).and_then(|neighbour| neighbour.mac))
        })
    }

    /// Asks the kernel what becomes of a packet.
    ///
    /// # Errors
    /// The kernel cannot answer; a sentence.
    pub fn route(&self, question: &Question<'_>) -> Result<Decision, String> {
        let cannot = |error: io::Error| format!("cannot ask the kernel for a route: {error}");
        let device = match question.arrives_on {
            None => None,
            Some(name) => match self.link(name)? {
                None => return Err(format!("there is no device {name}")),
                Some(link) => Some(link.index),
            },
        };
        let socket = Socket::open(NETLINK_ROUTE).map_err(cannot)?;
        // An old kernel would refuse nothing, either.
        let _ = socket.set_strict();
        let mut route = None;
        let request = request(question, device);
        let asked = socket.ask(GET_ROUTE, Request::Single, &request, |answer| {
            route = RouteMessage::parse(answer).ok();
        });
        match asked {
            Ok(()) => {}
            Err(error) => return drop_reason(&error).map(Decision::Drop).ok_or(cannot(error)),
        }
        route
            .as_ref()
            .and_then(decision)
            .ok_or_else(|| "the kernel's answer about a route is not understood".to_owned())
    }

    fn wait<T>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(answer);
        answer.map_err(|error| format!("cannot read the kernel's {what}: {error}"))
    }
}

/// Returns whether the host forwards packets of a family at all; `None`: it does not have the
/// family.
pub fn forwards(family: Family) -> Option<bool> {
    let forwarding = sysctl::forwarding();
    family.pick(forwarding.v4, forwarding.v6)
}

/// Returns whether the host forwards packets of a family that arrive on a device.
pub fn device_forwards(device: &str, family: Family) -> bool {
    !sysctl::is_closed(device, family)
}

/// Returns whether packets that arrive on a device are dropped if the way back to their source leads
/// over another device (`rp_filter` is 1). The larger value of the host's and the device's setting
/// counts, and IPv6 has none.
pub fn is_strict(device: &str) -> bool {
    let value = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        let text = read_setting(&path).unwrap_or_default();
        text.parse::<u8>().unwrap_or(0)
    };
    value("all").max(value(device)) == 1
}

fn link(message: &LinkMessage, addresses: BTreeSet<IpNet>) -> Link {
    let mut link = Link {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        addresses,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = parse::mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

fn request(question: &Question<'_>, device: Option<u32>) -> Vec<u8> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = Family::from(question.destination);
    let length = family.pick(32, 128);
    let mut header = [0; ROUTE_HEADER];
    header[0] = u8::from(family.pick(links::FAMILIES[0], links::FAMILIES[1]));
    header[1] = length;
    // An IPv6 kernel always names the table, and refuses the flag.
    let flags = FIB_MATCH | family.pick(LOOKUP_TABLE, 0);
    header[8..].copy_from_slice(&flags.to_ne_bytes());
    let mut attributes = Attributes::default().with(DESTINATION, &bytes(question.destination));
    if let Some(source) = question.source {
        header[2] = length;
        attributes = attributes.with(SOURCE, &bytes(source));
    }
    if let Some(device) = device {
        attributes = attributes.with(INPUT_DEVICE, &device.to_ne_bytes());
    }
    [&header, attributes.bytes()].concat()
}

/// Returns why a packet is dropped, if the kernel's error says that.
fn drop_reason(error: &io::Error) -> Option<DropReason> {
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::ENETUNREACH => DropReason::NoRoute,
        Errno::EHOSTUNREACH => DropReason::Unreachable,
        Errno::EACCES => DropReason::Prohibited,
        Errno::EINVAL => DropReason::Invalid,
        Errno::EXDEV => DropReason::ReversePath,
        _ => return None,
    })
}

fn decision(message: &RouteMessage) -> Option<Decision> {
    let (index, route) = parse::route(message)?;
    let name = |index| {
        nix::net::if_::if_indextoname(index)
            .ok()?
            .into_string()
            .ok()
    };
    Some(match message.header.kind {
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
            Decision::Local
        }
        RouteType::Unicast => Decision::Forward(Way {
            table: route.table,
            prefix: route.dst,
            via: route.via,
            device: index.and_then(name),
            protocol: route.protocol,
        }),
        RouteType::Unreachable => Decision::Drop(DropReason::Unreachable),
        RouteType::Prohibit => Decision::Drop(DropReason::Prohibited),
        RouteType::Throw => Decision::Drop(DropReason::NoRoute),
        _ => Decision::Drop(DropReason::Invalid),
    })
}
