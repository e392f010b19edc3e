//! Problems of a host or a container engine that do not concern a single overlay.

use std::fmt;

/// Problem of a host or a container engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Identity of the problem.
    pub key: ProblemKey,
    /// Sentence for operators.
    pub text: String,
}

/// Identity of a problem. It stays the same while the reason of the problem changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProblemKey {
    /// Kind of the problem.
    pub kind: ProblemKind,
    /// Object that has the problem, see [`ProblemKind`].
    pub object: String,
}

/// Kind of a problem. Each one says what the object of its [`ProblemKey`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// No reconciliation took place, or it was aborted. No object.
    Reconciliation,
    /// A part of the observed state cannot be read. Object: name of the part.
    Observation,
    /// An operation failed. Object: the operation.
    Operation,
    /// Further operations of one kind failed. The text counts them. Object: kind of operation.
    FurtherOperations,
    /// Operations were skipped because their device does not exist. The text counts them.
    /// Object: name of the device.
    SkippedOperations,
    /// The VXLAN device cannot exist. No object.
    Vtep,
    /// The overlays cannot have IPv6. No object.
    Ipv6,
    /// A bridge cannot exist. Object: name of the bridge.
    Bridge,
    /// A peer cannot have its addresses, since networks of this host contain them. Object: the
    /// peer's address.
    Peer,
    /// A peer cannot have a subnet, or has no VTEP address of the subnet's family. Object: the
    /// subnet.
    PeerSubnet,
    /// Routes of others are in the table of the containers. Object: the table.
    ContainerTable,
    /// The firewall cannot be read, or has an obstacle. Object: the tool, or the masquerading of
    /// a family.
    Firewall,
    /// The container engine cannot be reached. No object.
    Engine,
    /// The container engine's version has a known fault. No object.
    EngineVersion,
    /// A network that is not desired still has containers. Object: name of the network.
    RemovedNetwork,
    /// A network differs from the desired one and still has containers. Object: name of the
    /// network.
    OutdatedNetwork,
    /// Another program keeps removing networks. No object.
    FlappingNetworks,
}

impl Problem {
    /// Creates a problem.
    pub fn new(kind: ProblemKind, object: impl Into<String>, text: impl Into<String>) -> Problem {
        let (object, text) = (object.into(), text.into());
        Problem {
            key: ProblemKey { kind, object },
            text,
        }
    }

    /// Returns whether this problem has nothing that an operator does not know from `earlier`.
    /// A new reason of a problem is news. A new count is none: it changes at each attempt.
    pub fn repeats(&self, earlier: &Problem) -> bool {
        self.key == earlier.key && (self.key.kind.is_count() || self.text == earlier.text)
    }

    /// Returns the texts of problems.
    pub fn texts(problems: &[Problem]) -> Vec<String> {
        let texts = problems.iter().map(|problem| problem.text.clone());
        texts.collect()
    }
}

impl ProblemKind {
    /// Returns whether texts of this kind differ only in a count.
    fn is_count(self) -> bool {
        match self {
            ProblemKind::FurtherOperations | ProblemKind::SkippedOperations => true,
            ProblemKind::Reconciliation
            | ProblemKind::Observation
            | ProblemKind::Operation
            | ProblemKind::Vtep
            | ProblemKind::Ipv6
            | ProblemKind::Bridge
            | ProblemKind::Peer
            | ProblemKind::PeerSubnet
            | ProblemKind::ContainerTable
            | ProblemKind::Firewall
            | ProblemKind::Engine
            | ProblemKind::EngineVersion
            | ProblemKind::RemovedNetwork
            | ProblemKind::OutdatedNetwork
            | ProblemKind::FlappingNetworks => false,
        }
    }
}

/// Prints kind and object, as the key of a rate limit.
impl fmt::Display for ProblemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_reason_of_an_operation_is_news() {
        let failed = |object: &str, text: &str| Problem::new(ProblemKind::Operation, object, text);
        let first = failed("add device vtep1024", "cannot: not permitted");
        assert!(first.repeats(&first.clone()));
        let other_reason = failed("add device vtep1024", "cannot: no memory");
        assert_eq!(other_reason.key, first.key);
        assert!(!other_reason.repeats(&first));
        let other_object = failed("add device m-dcos", "cannot: not permitted");
        assert!(!other_object.repeats(&first));
    }

    #[test]
    fn new_count_is_no_news() {
        let kinds = [
            ProblemKind::FurtherOperations,
            ProblemKind::SkippedOperations,
        ];
        for kind in kinds {
            let many = Problem::new(kind, "add route", "97 more");
            let few = Problem::new(kind, "add route", "5 more");
            assert!(few.repeats(&many), "{kind:?}");
            let other = Problem::new(kind, "remove route", "97 more");
            assert!(!other.repeats(&many), "{kind:?}");
        }
    }

    #[test]
    fn key_is_printed_with_kind_and_object() {
        let bridge = Problem::new(ProblemKind::Bridge, "m-dcos", "text");
        let network = Problem::new(ProblemKind::RemovedNetwork, "m-dcos", "text");
        assert_eq!(bridge.key.to_string(), "Bridge m-dcos");
        assert_ne!(bridge.key.to_string(), network.key.to_string());
    }
}
