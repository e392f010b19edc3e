//! The ipsets that say what is outside of every overlay: all addresses, in two
//! halves since a set cannot hold the whole, except the overlays' ranges.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::nat;
use super::plan::{Observed, Op, Plan, Set};
use super::wanted::{Family, Wanted, set_name};

/// The type of our sets.
pub(super) const KIND: &str = "hash:net";

/// The name of a set that takes the place of another and then goes; seen only if
/// that was interrupted.
pub(super) fn scratch(family: Family) -> &'static str {
    family.pick("mesos-overlay-new", "mesos-overlay6-new")
}

/// All names that are ours.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| [set_name(family), scratch(family)])
}

/// The kernel's number of a family.
fn number(family: Family) -> u8 {
    // AF_INET and AF_INET6 on Linux.
    family.pick(2, 10)
}

/// All addresses, in two halves.
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

/// What a set should hold.
fn members(wanted: &Wanted, family: Family) -> BTreeMap<IpNet, bool> {
    let mut members: BTreeMap<IpNet, bool> = halves(family).map(|half| (half, false)).into();
    // Last, since a range may be a half.
    members.extend(wanted.ranges(family).map(|range| (*range, true)));
    members
}

/// Whether a set is one of ours (or the predecessor's): by what is in it, or by
/// rules of ours that use it.
fn is_ours(set: &Set, family: Family, observed: &Observed) -> bool {
    let is_used = || {
        observed
            .rules
            .get(&family)
            .is_some_and(|rules| nat::ours(family, rules).next().is_some())
    };
    set.kind == KIND
        && set.family == number(family)
        && (halves(family)
            .iter()
            .any(|half| set.members.contains_key(half))
            || is_used())
}

/// Makes the set, or makes it right.
pub(super) fn write(wanted: &Wanted, family: Family, observed: &Observed, plan: &mut Plan) {
    if observed.sets.contains_key(scratch(family)) {
        plan.ops.push(Op::DestroySet(scratch(family).to_owned()));
    }
    if !wanted.concerns(family) {
        return;
    }
    let members = members(wanted, family);
    let name = set_name(family);
    let mut problem = |what: String| {
        let sentence = format!("there is an ipset {name} {what}; remove or rename it");
        plan.problems.push((family, sentence));
    };
    match observed.sets.get(name) {
        Some(set) if set.kind != KIND || set.family != number(family) => {
            problem(format!("of another kind than ours ({})", set.kind));
        }
        Some(set) if !set.members.is_empty() && !is_ours(set, family, observed) => {
            problem("that is not ours".to_owned());
        }
        Some(set) if set.members == members => {}
        found => plan.ops.push(Op::WriteSet {
            family,
            members,
            exists: found.is_some(),
        }),
    }
}

/// Destroys what is not wanted any more.
pub(super) fn destroy(wanted: &Wanted, family: Family, observed: &Observed, plan: &mut Plan) {
    let is_stale = |set: &&Set| !wanted.concerns(family) && is_ours(set, family, observed);
    if observed
        .sets
        .get(set_name(family))
        .as_ref()
        .is_some_and(is_stale)
    {
        plan.ops.push(Op::DestroySet(set_name(family).to_owned()));
    }
}

/// The lines for `ipset restore` that write a set. Of one that is there the old
/// members stay in force until the new ones are complete.
pub(super) fn script(family: Family, members: &BTreeMap<IpNet, bool>, exists: bool) -> String {
    let set = set_name(family);
    let target = if exists { scratch(family) } else { set };
    let mut script = format!(
        "create {target} {KIND} family {} counters\n",
        family.pick("inet", "inet6")
    );
    for (net, nomatch) in members {
        script += &format!(
            "add {target} {net}{}\n",
            if *nomatch { " nomatch" } else { "" }
        );
    }
    if exists {
        script += &format!("swap {target} {set}\ndestroy {target}\n");
    }
    script
}
