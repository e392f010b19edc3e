//! Flows that the kernel tracks, and which of them a change of masquerading concerns. Pure.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::util::family::Family;

/// Rules of masquerading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Masquerading {
    /// Prefixes whose packets are masqueraded …
    pub sources: BTreeSet<IpNet>,
    /// … unless they go to one of these.
    pub exempt: BTreeSet<IpNet>,
}

/// Change of the rules of masquerading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub before: Vec<Masquerading>,
    pub after: Masquerading,
}

/// A tracked flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub source: IpAddr,
    /// Destination after translation.
    pub destination: IpAddr,
    pub is_source_translated: bool,
}

impl Masquerading {
    fn covers(&self, flow: &Flow) -> bool {
        let contains =
            |nets: &BTreeSet<IpNet>, address: IpAddr| nets.iter().any(|net| net.contains(&address));
        contains(&self.sources, flow.source) && !contains(&self.exempt, flow.destination)
    }
}

impl Change {
    /// Adds a later change to this one.
    pub(super) fn extend(&mut self, later: Change) {
        for rules in later.before {
            if !self.before.contains(&rules) {
                self.before.push(rules);
            }
        }
        self.after = later.after;
    }

    /// Adds the change of another family to this one.
    pub(super) fn join(&mut self, other: Change) {
        self.before.extend(other.before);
        self.after.sources.extend(other.after.sources);
        self.after.exempt.extend(other.after.exempt);
    }

    /// Returns the part of one family.
    pub(super) fn of(&self, family: Family) -> Change {
        let nets = |nets: &BTreeSet<IpNet>| {
            let nets = nets.iter().filter(|net| family.includes(**net));
            nets.copied().collect()
        };
        let part = |rules: &Masquerading| Masquerading {
            sources: nets(&rules.sources),
            exempt: nets(&rules.exempt),
        };
        Change {
            before: self.before.iter().map(part).collect(),
            after: part(&self.after),
        }
    }

    /// Tells if a flow began under other rules than those in force. `local` has the addresses of
    /// this host: packets to them are not masqueraded.
    pub(super) fn makes_stale(&self, flow: &Flow, local: &BTreeSet<IpAddr>) -> bool {
        let destination = flow.destination;
        if local.contains(&destination) || destination.is_multicast() {
            return false;
        }
        match flow.is_source_translated {
            false => self.after.covers(flow),
            // A flow that another program's rules translate is not ours.
            true => !self.after.covers(flow) && self.before.iter().any(|rules| rules.covers(flow)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn masquerading(ranges: &[&str]) -> Masquerading {
        Masquerading {
            sources: nets(ranges),
            exempt: nets(ranges),
        }
    }

    #[test]
    fn only_flows_that_the_rules_treat_otherwise_are_stale() {
        let flow = |source: &str, destination: &str, is_source_translated| Flow {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            is_source_translated,
        };
        let local: BTreeSet<IpAddr> = ["192.0.2.1".parse().unwrap()].into();
        let both = ["9.0.0.0/8", "8.0.0.0/8"];
        for (before, after, flow, expected, why) in [
            (
                &[][..],
                &both[..1],
                flow("9.0.1.5", "192.0.2.9", false),
                true,
                "it began too early",
            ),
            (
                &[],
                &both[..1],
                flow("9.0.1.5", "192.0.2.9", true),
                false,
                "it is masqueraded",
            ),
            (
                &[],
                &both[..1],
                flow("9.0.1.5", "9.0.2.5", false),
                false,
                "inside of the overlay",
            ),
            (
                &[],
                &both[..1],
                flow("9.0.1.5", "192.0.2.1", false),
                false,
                "to this host",
            ),
            (
                &[],
                &both[..1],
                flow("9.0.1.5", "224.0.0.1", false),
                false,
                "multicast",
            ),
            (
                &[],
                &both[..1],
                flow("172.30.0.5", "192.0.2.9", false),
                false,
                "not of an overlay",
            ),
            (
                &both[..1],
                &both,
                flow("9.0.1.5", "8.0.1.5", true),
                true,
                "a new overlay",
            ),
            (
                &both,
                &both[..1],
                flow("9.0.1.5", "8.0.1.5", false),
                true,
                "a removed overlay",
            ),
            (
                &both[..1],
                &[],
                flow("9.0.1.5", "192.0.2.9", true),
                true,
                "a removed overlay",
            ),
            (
                &[],
                &[],
                flow("9.0.1.5", "192.0.2.9", true),
                false,
                "somebody else's rule",
            ),
        ] {
            let change = Change {
                before: vec![masquerading(before)],
                after: masquerading(after),
            };
            assert_eq!(change.makes_stale(&flow, &local), expected, "{why}");
        }
    }

    /// A family whose rules could not be written waits with its flows, the other one does not.
    #[test]
    fn changes_are_kept_by_family() {
        let all = Change {
            before: vec![masquerading(&["9.0.0.0/8", "fd01::/64"])],
            after: masquerading(&["8.0.0.0/8", "fd02::/64"]),
        };
        let [mut v4, v6] = Family::BOTH.map(|family| all.of(family));
        assert_eq!(v4.before, [masquerading(&["9.0.0.0/8"])]);
        assert_eq!(v6.after, masquerading(&["fd02::/64"]));
        let later = Change {
            before: vec![masquerading(&["7.0.0.0/8"]), v4.before[0].clone()],
            after: masquerading(&["6.0.0.0/8"]),
        };
        v4.extend(later.clone());
        assert_eq!((v4.before.len(), &v4.after), (2, &later.after));
        v4.join(v6);
        assert_eq!(v4.after, masquerading(&["6.0.0.0/8", "fd02::/64"]));
        assert_eq!(v4.before.len(), 3);
    }
}
