//! From the master's words to values that the host can rely on.
//!
//! Whatever is read here becomes a device, a file or a route on the host, so
//! nothing is taken on trust: a value that is not what it should be makes its
//! overlay fail, with a sentence, and leaves the other overlays alone.

use ipnet::IpNet;

use crate::core::config::AgentConfig;
use crate::core::config::master::is_overlay_name;
use crate::host::desired::{Bridge, Mac, Overlay, Vtep};
use crate::wire::{AgentOverlayInfo, BridgeInfo, VxLanInfo};

/// What the master gave this agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Given {
    /// The tunnel endpoint that all overlays share.
    pub vtep: Option<Vtep>,
    /// In the master's order.
    pub shares: Vec<Share>,
}

/// This agent's share of one overlay.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    /// As the master sent it, without a state.
    pub info: AgentOverlayInfo,
    /// What it means for the host, or what is wrong with it.
    pub overlay: Result<Overlay, String>,
}

impl Share {
    /// The overlay's name.
    pub fn name(&self) -> &str {
        &self.info.info.name
    }
}

/// One of the two address families: v4 and v6 differ in nothing else here.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The field of a pair that is this family's.
    fn of<T>(self, v4: T, v6: T) -> T {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// `text` as an address of this family with a prefix length.
    fn address(self, field: &str, text: &str) -> Result<IpNet, String> {
        let net = text.parse::<IpNet>().ok().filter(|net| match self {
            Family::V4 => matches!(net, IpNet::V4(_)),
            Family::V6 => matches!(net, IpNet::V6(_)),
        });
        net.ok_or_else(|| {
            let example = self.of("IPv4 prefix such as 9.0.0.0/24", "IPv6 prefix such as fd01:b::/80");
            format!("the master sent {field} {}, which is not an {example}", quote(text))
        })
    }

    /// `text` as a network of this family, within `outer` if that is given.
    fn network(self, field: &str, text: &str, outer: Option<IpNet>) -> Result<IpNet, String> {
        let net = self.address(field, text)?;
        if net.trunc() != net {
            return Err(format!("the master sent {field} {net}, which has bits set behind its prefix"));
        }
        match outer {
            Some(outer) if !outer.contains(&net) => {
                Err(format!("the master sent {field} {net}, which does not lie within {outer}"))
            }
            _ => Ok(net),
        }
    }
}

/// Reads the master's list.
pub(super) fn read(config: &AgentConfig, overlays: Vec<AgentOverlayInfo>) -> Given {
    let mut given = Given::default();
    for mut info in overlays {
        info.state = None;
        let overlay = if given.shares.iter().any(|share| share.info.info.name == info.info.name) {
            Err("the master sent this overlay twice".to_owned())
        } else {
            read_share(config, &info, &mut given.vtep)
        };
        given.shares.push(Share { info, overlay });
    }
    given
}

/// Reads one overlay. The first VTEP that is in order becomes the host's.
fn read_share(
    config: &AgentConfig,
    info: &AgentOverlayInfo,
    vtep: &mut Option<Vtep>,
) -> Result<Overlay, String> {
    check_name(&info.info.name)?;
    let vxlan = info.backend.vxlan.as_ref().ok_or("the master sent no VXLAN backend")?;
    let own = read_vtep(vxlan)?;
    let overlay = read_overlay(config, info)?;
    let shared = vtep.get_or_insert_with(|| own.clone());
    if *shared != own {
        let [own, shared] = [&own, shared].map(|vtep| {
            let addresses: Vec<String> = vtep.addresses.iter().map(ToString::to_string).collect();
            format!("{} {} {}", vtep.name, vtep.mac, addresses.join(" "))
        });
        return Err(format!(
            "the master sent another VTEP ({own}) than for the overlay before ({shared}); a host has one"
        ));
    }
    Ok(overlay)
}

/// Names become parts of file names and device names.
fn check_name(name: &str) -> Result<(), String> {
    if is_overlay_name(name) {
        return Ok(());
    }
    Err(format!("the master sent {}, which cannot be the name of an overlay", quote(name)))
}

/// Reads the tunnel endpoint.
fn read_vtep(vxlan: &VxLanInfo) -> Result<Vtep, String> {
    if vxlan.vni >= 1 << 24 {
        return Err(format!("the master sent vni {}, which has more than 24 bits", vxlan.vni));
    }
    // A device of this name is created, changed and deleted: it must not be
    // possible to name anybody else's.
    if vxlan.vtep_name != format!("vtep{}", vxlan.vni) {
        return Err(format!(
            "the master sent vtep_name {}; the device of vni {1} is called vtep{1}",
            quote(&vxlan.vtep_name),
            vxlan.vni
        ));
    }
    let mac = vxlan.vtep_mac.parse::<Mac>().ok().filter(|mac| mac.0[0] & 1 == 0 && mac.0 != [0; 6]);
    let mac = mac.ok_or_else(|| {
        let got = quote(&vxlan.vtep_mac);
        format!("the master sent vtep_mac {got}, which is not a host's MAC such as 70:b3:d5:80:00:01")
    })?;
    let mut addresses = vec![Family::V4.address("vtep_ip", &vxlan.vtep_ip)?];
    if let Some(text) = &vxlan.vtep_ip6 {
        addresses.push(Family::V6.address("vtep_ip6", text)?);
    }
    Ok(Vtep { name: vxlan.vtep_name.clone(), vni: vxlan.vni, mac, addresses, mtu: vxlan.vtep_mtu })
}

/// Reads ranges, subnets and bridges.
fn read_overlay(config: &AgentConfig, info: &AgentOverlayInfo) -> Result<Overlay, String> {
    let name = &info.info.name;
    let mut overlay = Overlay { mtu: config.network.overlay_mtu, ..Overlay::default() };
    // A bridge that was not asked for is not built, whoever offers it.
    let mesos = info.mesos_bridge.as_ref().filter(|_| config.network.mesos_bridge);
    let docker = info.docker_bridge.as_ref().filter(|_| config.network.docker_bridge);
    let bridge = |info: Option<&BridgeInfo>, field, prefix| {
        info.map(|info| read_bridge_name(info, field, format!("{prefix}-{name}"))).transpose()
    };
    overlay.mesos_bridge = bridge(mesos, "mesos_bridge", 'm')?;
    overlay.docker_bridge = bridge(docker, "docker_bridge", 'd')?;

    for family in Family::BOTH {
        let (range, range_field) =
            family.of((&info.info.subnet, "info.subnet"), (&info.info.subnet6, "info.subnet6"));
        let (subnet, subnet_field) = family.of((&info.subnet, "subnet"), (&info.subnet6, "subnet6"));
        let Some(range) = range else {
            if subnet.is_some() {
                return Err(format!("the master sent {subnet_field} without {range_field}"));
            }
            continue;
        };
        let range = family.network(range_field, range, None)?;
        overlay.ranges.push(range);
        let Some(subnet) = subnet else { continue };
        let subnet = family.network(subnet_field, subnet, Some(range))?;
        overlay.subnets.push(subnet);
        for (info, field, bridge) in [
            (mesos, "mesos_bridge", &mut overlay.mesos_bridge),
            (docker, "docker_bridge", &mut overlay.docker_bridge),
        ] {
            let (Some(info), Some(bridge)) = (info, bridge) else { continue };
            if let Some(text) = family.of(&info.ip, &info.ip6) {
                bridge.subnets.push(family.network(field, text, Some(subnet))?);
            }
        }
    }
    Ok(overlay)
}

/// The bridge without its subnets.
fn read_bridge_name(info: &BridgeInfo, field: &str, name: String) -> Result<Bridge, String> {
    if info.name != name {
        return Err(format!("the master sent {field} {}, which must be called {name}", quote(&info.name)));
    }
    Ok(Bridge { name, subnets: Vec::new() })
}

/// Text from the network as it may stand in a line of the log: short, and with
/// everything escaped that could end the line.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
