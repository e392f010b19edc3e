//! The bridges of overlays that are gone. The CNI plugin made them with the first
//! container, and nobody but us takes them away.

use ipnet::IpNet;

use super::{MESOS_BRIDGE, Op, Plan};
use crate::host::desired::{Desired, Removal};
use crate::host::observed::{Kernel, Leftover, Observed};

/// An overlay that is gone but for its containers. What they need of the host
/// stays until the last one is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Its name.
    pub overlay: String,
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
        let Draining { overlay, bridge, containers, .. } = self;
        let (s, their) = if *containers == 1 { ("", "its") } else { ("s", "their") };
        write!(
            f,
            "overlay {overlay} is gone, but {containers} container{s} on {bridge} still use{} it: bridge, rules \
             and routes stay until {their} end",
            if *containers == 1 { "s" } else { "" }
        )
    }
}

/// Removes the bridges nobody uses, and notes those that are in use.
pub(super) fn plan(desired: &Desired, observed: &Observed, kernel: &Kernel, plan: &mut Plan) {
    for (name, bridge) in &kernel.bridges {
        let overlay = name.strip_prefix(MESOS_BRIDGE).unwrap_or(name);
        let ranges = ranges(bridge, kernel);
        let has_file =
            observed.cni.as_ref().and_then(|files| files.get(overlay)).is_some_and(|file| file.ours);
        // An operator may have given a bridge of his own such a name.
        let is_ours = desired.removal != Removal::Careful || has_file || !ranges.is_empty();
        if !is_ours {
            continue;
        }
        if bridge.ports == 0 || desired.removal == Removal::Forced {
            plan.ops.push(Op::RemoveDevice(name.as_str().into()));
            continue;
        }
        plan.draining.push(Draining {
            overlay: overlay.to_owned(),
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
    let holds = |from: &IpNet| bridge.addresses.iter().any(|address| from.contains(&address.addr()));
    let mut ranges: Vec<IpNet> = kernel.rules.iter().map(|rule| rule.from).filter(holds).collect();
    ranges.dedup();
    ranges
}
