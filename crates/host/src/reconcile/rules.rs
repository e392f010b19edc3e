//! `from <overlay> lookup 42`: containers reach the peers' own addresses through
//! the tunnel, so that their addresses are the same on every way.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Vtep};

use super::observed::{Kernel, Rule};
use super::{Op, Plan};

/// The kernel's own rule for the table `main`. What comes after it is never asked
/// on a host that has a default route.
pub(super) const MAIN_PRIORITY: u32 = 32766;

pub(super) fn plan(desired: &Desired, kernel: &Kernel, plan: &mut Plan) {
    let wanted = wanted(desired);
    let in_use: Vec<IpNet> = plan
        .draining
        .iter()
        .flat_map(|overlay| overlay.ranges.clone())
        .collect();
    let is_right = |rule: &Rule| {
        (wanted.contains_key(&rule.from) || in_use.contains(&rule.from))
            && rule.priority < MAIN_PRIORITY
    };
    // Wrong ones go first: the kernel does not take a second rule that says the
    // same at another place for new.
    for rule in kernel.rules.iter().filter(|rule| !is_right(rule)) {
        plan.ops.push(Op::RemoveRule {
            from: rule.from,
            priority: rule.priority,
        });
    }
    for (from, overlay) in &wanted {
        if !kernel
            .rules
            .iter()
            .any(|rule| rule.from == *from && is_right(rule))
        {
            plan.ops.push(Op::AddRule {
                overlay: (*overlay).to_owned(),
                from: *from,
            });
        }
    }
}

/// The overlays' ranges, of the families in which there is a tunnel.
pub(super) fn wanted(desired: &Desired) -> BTreeMap<IpNet, &str> {
    let tunnelled = |vtep: &Vtep, range: &IpNet| {
        vtep.addresses
            .iter()
            .any(|address| address.addr().is_ipv4() == range.addr().is_ipv4())
    };
    let mut wanted = BTreeMap::new();
    for (name, overlay) in &desired.overlays {
        for range in &overlay.ranges {
            if desired
                .vtep
                .as_ref()
                .is_some_and(|vtep| tunnelled(vtep, range))
            {
                wanted.insert(range.trunc(), name.as_str());
            }
        }
    }
    wanted
}
