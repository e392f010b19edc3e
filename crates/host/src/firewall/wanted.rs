//! What the firewall should hold: plain values, computed from [`Desired`].

use std::collections::BTreeSet;

use ipnet::IpNet;
use overlay_core::host_api::desired::Desired;
pub(super) use overlay_core::util::family::Family;

/// Returns the name of the ipset of this family. The IPv4 one is that of the C++ module, which
/// had no other.
pub(super) fn set_name(family: Family) -> &'static str {
    family.pick("overlay", "overlay6")
}

/// What has to be let through and what has to be masqueraded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The overlays' whole ranges, of the families that containers of this host
    /// have addresses of. Traffic among them keeps its addresses, traffic from
    /// them to anywhere else is masqueraded.
    pub ranges: BTreeSet<IpNet>,
    /// Our bridges and the tunnel: they may talk to each other.
    pub devices: BTreeSet<String>,
    /// The bridges of the Mesos containerizer among them. Docker looks after the
    /// traffic between its own bridges and the outside by itself.
    pub mesos_bridges: BTreeSet<String>,
}

impl Wanted {
    pub(super) fn of(desired: &Desired) -> Wanted {
        let mut wanted = Wanted::default();
        let overlays = || desired.overlays.values();
        for family in Family::BOTH {
            if overlays()
                .flat_map(|overlay| &overlay.subnets)
                .any(|subnet| family.includes(*subnet))
            {
                let ranges = overlays().flat_map(|overlay| &overlay.ranges);
                // A range of all addresses has no outside.
                let ranges =
                    ranges.filter(|range| family.includes(**range) && range.prefix_len() > 0);
                wanted.ranges.extend(ranges.map(IpNet::trunc));
            }
        }
        for overlay in overlays() {
            wanted.mesos_bridges.extend(
                overlay
                    .mesos_bridge
                    .iter()
                    .map(|bridge| bridge.name.clone()),
            );
            wanted.devices.extend(
                overlay
                    .docker_bridge
                    .iter()
                    .map(|bridge| bridge.name.clone()),
            );
        }
        wanted.devices.extend(wanted.mesos_bridges.iter().cloned());
        if !wanted.devices.is_empty() {
            wanted
                .devices
                .extend(desired.vtep.iter().map(|vtep| vtep.name.clone()));
        }
        wanted
    }

    /// The ranges of one family.
    pub(super) fn ranges(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.ranges
            .iter()
            .filter(move |range| family.includes(**range))
    }

    /// Whether anything is wanted in this family.
    pub(super) fn concerns(&self, family: Family) -> bool {
        self.ranges(family).next().is_some()
    }
}
