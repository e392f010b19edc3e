//! The bridges that are not wanted any more: those of overlays that are gone, or of a
//! containerizer that is to use an overlay no longer. Those of Mesos nobody but us
//! takes away. Docker takes away its own, when the network is removed; what concerns
//! us of them is the way to the containers that are still on them.

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Removal};

use super::observed::{Kernel, Leftover, Observed};
use super::{DOCKER_BRIDGE, MESOS_BRIDGE, Op, Plan};

/// An overlay, or one containerizer's part of it, that is gone but for its containers.
/// What they need of the host stays until the last one is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Its name.
    pub overlay: String,
    /// Whether nothing is wanted of the overlay any more.
    pub gone: bool,
    /// The bridge that the containers are on.
    pub bridge: String,
    /// The bridge's index.
    pub index: u32,
    /// How many containers there are.
    pub containers: usize,
    /// The bridge's own prefixes.
    pub subnets: Vec<IpNet>,
    /// The overlay's ranges, as the rules that are still there have them.
    pub ranges: Vec<IpNet>,
}

impl std::fmt::Display for Draining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Draining {
            overlay,
            gone,
            bridge,
            containers,
            ..
        } = self;
        let (s, their, uses) = if *containers == 1 {
            ("", "its", "uses")
        } else {
            ("s", "their", "use")
        };
        match gone {
            true => write!(f, "overlay {overlay} is gone")?,
            false => write!(f, "overlay {overlay} is to have no {bridge} any more")?,
        }
        write!(
            f,
            ", but {containers} container{s} on {bridge} still {uses} it: bridge, rules and routes stay until \
             {their} end"
        )
    }
}

impl Draining {
    /// Whether the containers are Docker's.
    pub fn is_dockers(&self) -> bool {
        self.bridge.starts_with(DOCKER_BRIDGE)
    }
}

/// Removes the bridges nobody uses, and notes those that are in use.
pub(super) fn plan(desired: &Desired, observed: &Observed, kernel: &Kernel, plan: &mut Plan) {
    for (name, bridge) in &kernel.bridges {
        let ranges = ranges(bridge, kernel);
        let is_dockers = name.starts_with(DOCKER_BRIDGE);
        let overlay = [MESOS_BRIDGE, DOCKER_BRIDGE]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let overlay = overlay.unwrap_or(name);
        let has_file = observed
            .cni
            .as_ref()
            .and_then(|files| files.get(overlay))
            .is_some_and(|file| file.ours);
        // An operator may have given a bridge of his own such a name.
        let careful = desired.removal == Removal::Careful;
        let is_ours = !ranges.is_empty() || !is_dockers && (!careful || has_file);
        if !is_ours {
            continue;
        }
        if bridge.ports == 0 || desired.removal == Removal::Forced {
            plan.ops
                .extend((!is_dockers).then(|| Op::RemoveDevice(name.as_str().into())));
            continue;
        }
        plan.draining.push(Draining {
            overlay: overlay.to_owned(),
            gone: !desired.overlays.contains_key(overlay),
            bridge: name.clone(),
            index: bridge.index,
            containers: bridge.ports,
            subnets: bridge.addresses.iter().map(IpNet::trunc).collect(),
            ranges,
        });
    }
}

/// The ranges of rules of ours that the bridge's addresses lie in.
fn ranges(bridge: &Leftover, kernel: &Kernel) -> Vec<IpNet> {
    let holds = |from: &IpNet| {
        bridge
            .addresses
            .iter()
            .any(|address| from.contains(&address.addr()))
    };
    let mut ranges: Vec<IpNet> = kernel
        .rules
        .iter()
        .map(|rule| rule.from)
        .filter(holds)
        .collect();
    ranges.dedup();
    ranges
}
