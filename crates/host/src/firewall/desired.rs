//! The desired content of the firewall: plain values, computed from the host's
//! [`Desired`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Bridge, Desired};
use overlay_core::util::family::Family;

/// Returns the name of a family's ipset and nftables set. The predecessor of this module had
/// only the ipset of IPv4, under the same name.
pub(super) fn set_name(family: Family) -> &'static str {
    family.pick("overlay", "overlay6")
}

/// Traffic to accept and to masquerade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FirewallDesired {
    /// Ranges of the overlays, in the families that containers of this host have
    /// addresses of. Traffic between them keeps its source address; traffic from them
    /// to anywhere else is masqueraded.
    pub ranges: BTreeSet<IpNet>,
    /// Families in which the overlays have subnets for containers on this host, so that it has to
    /// forward them.
    pub families: BTreeSet<Family>,
    /// Overlay bridges and the VTEP device. Traffic is forwarded between all of them.
    pub devices: BTreeSet<String>,
    /// Bridges of the Mesos containerizer, a subset of `devices`. Docker itself accepts
    /// traffic between its own bridges and the outside.
    pub mesos_bridges: BTreeSet<String>,
    /// Address of this agent, at which the tunnels end.
    pub underlay_ip: Option<Ipv4Addr>,
    /// Subnets of Docker's bridges on this host.
    pub docker_subnets: BTreeSet<IpNet>,
    /// Families whose forwarding this module turned on. What was not forwarded before is not
    /// forwarded after it.
    pub closed: BTreeSet<Family>,
    /// Families that the kernel forwards although the host has no bridge (any more). What this module
    /// closed stays closed as long as it does.
    pub forwarded: BTreeSet<Family>,
}

impl FirewallDesired {
    pub(super) fn from_host(host: &Desired) -> FirewallDesired {
        let mut desired = FirewallDesired::default();
        if !host.has_bridge() {
            return desired;
        }
        let overlays = || host.overlays.values();
        for family in Family::BOTH {
            if overlays()
                .flat_map(|overlay| &overlay.subnets)
                .any(|subnet| family.includes(*subnet))
            {
                desired.families.insert(family);
                let ranges = overlays().flat_map(|overlay| &overlay.ranges);
                // Nothing is outside of a range of all addresses.
                let ranges =
                    ranges.filter(|range| family.includes(**range) && range.prefix_len() > 0);
                desired.ranges.extend(ranges.map(IpNet::trunc));
            }
        }
        let name = |bridge: &Bridge| bridge.name.clone();
        for overlay in overlays() {
            desired
                .mesos_bridges
                .extend(overlay.mesos_bridge.as_ref().map(name));
            desired
                .devices
                .extend(overlay.docker_bridge.as_ref().map(name));
            let subnets = overlay
                .docker_bridge
                .iter()
                .flat_map(|bridge| &bridge.subnets);
            desired.docker_subnets.extend(subnets.map(IpNet::trunc));
        }
        desired
            .devices
            .extend(desired.mesos_bridges.iter().cloned());
        if !desired.devices.is_empty() {
            desired.underlay_ip = host.underlay_ip.filter(|_| host.vtep.is_some());
            desired
                .devices
                .extend(host.vtep.iter().map(|vtep| vtep.name.clone()));
        }
        desired
    }

    /// Tells if packets of a family are forwarded, so that those of others have to be dropped if
    /// they were not before.
    pub(super) fn is_forwarded(&self, family: Family) -> bool {
        self.families.contains(&family) || self.forwarded.contains(&family)
    }

    /// Tells if nothing has to be written on a host that never had a bridge.
    pub(super) fn is_nothing(&self) -> bool {
        let forwarded = self.forwarded.clone();
        *self
            == FirewallDesired {
                forwarded,
                ..FirewallDesired::default()
            }
    }

    /// Returns the ranges of one family.
    pub(super) fn ranges(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.ranges
            .iter()
            .filter(move |range| family.includes(**range))
    }

    /// Tells if there is anything to do in this family.
    pub(super) fn has_ranges(&self, family: Family) -> bool {
        self.ranges(family).next().is_some()
    }
}
