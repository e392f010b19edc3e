//! The ipsets of all addresses outside of every overlay: the whole address space except
//! the overlays' ranges. The address space is written as two halves, because a set cannot
//! hold a prefix of length 0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_core::util::family::Family;

use super::desired::{FirewallDesired, set_name};
use super::nat;
use super::op::{IpSet, Members, Membership, Observed, Op, Plan, Problem, SetWrite};

/// Type of our sets.
pub(super) const KIND: &str = "hash:net";

/// Returns the name of the temporary set that is swapped with the real one. It remains
/// only if the swap was interrupted.
pub(super) fn temporary_name(family: Family) -> &'static str {
    family.pick("mesos-overlay-new", "mesos-overlay6-new")
}

/// Returns all names of our sets.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| [set_name(family), temporary_name(family)])
}

/// Returns the kernel's number of a family: `AF_INET` or `AF_INET6` on Linux.
fn number(family: Family) -> u8 {
    family.pick(2, 10)
}

/// Returns the two halves of the address space.
fn halves(family: Family) -> [IpNet; 2] {
    let addresses: [IpAddr; 2] = family.pick(
        [
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(128, 0, 0, 0).into(),
        ],
        [
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0).into(),
        ],
    );
    addresses.map(|address| IpNet::new_assert(address, 1))
}

/// Returns the desired members of a set.
fn members(desired: &FirewallDesired, family: Family) -> Members {
    let mut members = Members::from(halves(family).map(|half| (half, Membership::Match)));
    // Last, because a range may be one of the halves.
    let ranges = desired.ranges(family);
    members.extend(ranges.map(|range| (*range, Membership::NoMatch)));
    members
}

/// Tells if a set was made by this module or its predecessor: it contains one of the
/// halves, or our rules use it.
fn is_own(set: &IpSet, family: Family, observed: &Observed) -> bool {
    let is_used = || {
        observed
            .rules
            .get(&family)
            .is_some_and(|rules| nat::own_rules(family, rules).next().is_some())
    };
    set.kind == KIND
        && set.family == number(family)
        && (halves(family)
            .iter()
            .any(|half| set.members.contains_key(half))
            || is_used())
}

/// Creates the set or corrects its members.
pub(super) fn plan_write(
    desired: &FirewallDesired,
    family: Family,
    observed: &Observed,
    plan: &mut Plan,
) {
    let temporary = temporary_name(family);
    if observed.sets.contains_key(temporary) {
        plan.ops.push(Op::DestroySet(temporary.to_owned()));
    }
    if !desired.has_ranges(family) {
        return;
    }
    let members = members(desired, family);
    let name = set_name(family);
    let mut problem = |what: String| {
        let sentence =
            format!("the ipset name {name} is taken by a set {what}; remove or rename it");
        plan.problems.push(Problem { family, sentence });
    };
    match observed.sets.get(name) {
        Some(set) if set.kind != KIND || set.family != number(family) => {
            problem(format!("of another type ({})", set.kind));
        }
        Some(set) if !set.members.is_empty() && !is_own(set, family, observed) => {
            problem("of another program".to_owned());
        }
        Some(set) if set.members == members => {}
        found => plan.ops.push(Op::WriteSet {
            family,
            members,
            write: match found {
                Some(_) => SetWrite::Replace,
                None => SetWrite::Create,
            },
        }),
    }
}

/// Destroys the set if it is not desired any more.
pub(super) fn plan_destroy(
    desired: &FirewallDesired,
    family: Family,
    observed: &Observed,
    plan: &mut Plan,
) {
    let name = set_name(family);
    let is_stale = |set: &IpSet| !desired.has_ranges(family) && is_own(set, family, observed);
    if observed.sets.get(name).is_some_and(is_stale) {
        plan.ops.push(Op::DestroySet(name.to_owned()));
    }
}

/// Returns the input of `ipset restore` that writes a set. The old members of a set that
/// exists stay in force until the new ones are complete.
pub(super) fn script(family: Family, members: &Members, write: SetWrite) -> String {
    let set = set_name(family);
    let target = match write {
        SetWrite::Create => set,
        SetWrite::Replace => temporary_name(family),
    };
    let mut script = format!(
        "create {target} {KIND} family {} counters\n",
        family.pick("inet", "inet6")
    );
    for (net, membership) in members {
        script += &format!("add {target} {net}{}\n", membership.option());
    }
    if write == SetWrite::Replace {
        script += &format!("swap {target} {set}\ndestroy {target}\n");
    }
    script
}
