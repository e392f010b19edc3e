//! Peers that the kernel rejected, on a host that is as desired otherwise.
//!
//! Peers are changed without a full reconciliation only on a host that is as desired. With
//! this memory a single peer that the kernel rejects does not force a full reconciliation
//! for every change of all other peers.

use std::collections::BTreeSet;

use overlay_core::host_api::problem::Problem;

use crate::reconcile::{Op, PeerObject};

/// Upper bound of rejected objects. More of them are not the problem of single peers.
const MAX_REJECTED: usize = 100;

/// Objects that the kernel rejected in a reconciliation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RejectedPeers {
    objects: BTreeSet<PeerObject>,
    /// Problems with them in the report of the reconciliation.
    problems: Vec<Problem>,
}

impl RejectedPeers {
    /// Returns the rejected objects of a reconciliation. `rejected` are the operations that
    /// the kernel rejected, `failures` is the number of failures of any kind, `problems`
    /// are `HostReport::host`. `None`: another operation failed, or too many failed.
    pub(super) fn new(
        rejected: &[Op],
        failures: usize,
        problems: &[Problem],
    ) -> Option<RejectedPeers> {
        let objects: Option<BTreeSet<PeerObject>> = rejected.iter().map(Op::peer_object).collect();
        let objects = objects.filter(|_| rejected.len() == failures && failures <= MAX_REJECTED)?;
        Some(RejectedPeers {
            objects,
            problems: problems.to_vec(),
        })
    }

    /// Returns whether one of these operations is about a rejected object.
    pub(super) fn concerns(&self, ops: &[Op]) -> bool {
        !self.objects.is_empty()
            && ops
                .iter()
                .filter_map(Op::peer_object)
                .any(|object| self.objects.contains(&object))
    }

    /// Returns the problems with rejected peers, for further reports.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reconcile::NewRoute;
    use crate::reconcile::samples::set_route;
    use overlay_core::host_api::problem::ProblemKind;

    fn route(n: usize) -> Op {
        set_route(n, "45.0.0.1")
    }

    fn neighbour(n: u8) -> Op {
        Op::SetNeighbour(
            "vtep1024".into(),
            [44, 128, 0, n].into(),
            Default::default(),
        )
    }

    #[test]
    fn a_rejected_peer_concerns_only_itself() {
        let problems = [Problem::new(ProblemKind::Operation, "add route", "cannot")];
        let rejected = RejectedPeers::new(&[route(1)], 1, &problems).unwrap();
        assert_eq!(rejected.problems(), problems);
        assert!(!rejected.concerns(&[route(2), neighbour(1)]));
        assert!(rejected.concerns(&[neighbour(1), route(1)]));
        // Its removal concerns it, too.
        let nexthop = Op::AddNexthop("vtep1024".into(), [44, 128, 0, 9].into());
        let rejected = RejectedPeers::new(&[nexthop], 1, &[]).unwrap();
        assert!(rejected.concerns(&[Op::RemoveNexthop("vtep1024".into(), 0x2c80_0009)]));
        assert!(!RejectedPeers::default().concerns(&[route(1)]));
    }

    #[test]
    fn any_other_failure_needs_a_full_reconciliation() {
        assert_eq!(
            RejectedPeers::new(&[], 0, &[]),
            Some(RejectedPeers::default())
        );
        assert_eq!(
            RejectedPeers::new(&[route(1)], 2, &[]),
            None,
            "a failure that was no operation"
        );
        let device: Arc<str> = "vtep1024".into();
        assert_eq!(
            RejectedPeers::new(&[route(1), Op::RemoveDevice(device)], 2, &[]),
            None
        );
        let many: Vec<Op> = (0..=MAX_REJECTED).map(route).collect();
        assert_eq!(RejectedPeers::new(&many, many.len(), &[]), None);
        assert!(RejectedPeers::new(&many[1..], MAX_REJECTED, &[]).is_some());
    }

    #[test]
    fn rejected_objects_are_recognised_in_creation_and_removal() {
        use crate::reconcile::OldRoute;
        let device: Arc<str> = "vtep1024".into();
        let mac = Default::default();
        let old = |op: &Op| match op {
            Op::SetRoute(
                _,
                NewRoute {
                    table, dst, via, ..
                },
            ) => {
                let (table, dst, via) = (*table, *dst, Some(*via));
                Op::RemoveRoute(
                    device.clone(),
                    OldRoute {
                        table,
                        dst,
                        via,
                        metric: 0,
                        protocol: 142,
                        nexthop: None,
                    },
                )
            }
            other => panic!("{other}"),
        };
        let pairs = [
            (route(1), old(&route(1)), route(2)),
            (
                neighbour(1),
                Op::RemoveNeighbour(device.clone(), [44, 128, 0, 1].into()),
                neighbour(2),
            ),
            (
                Op::SetFdb(device.clone(), mac, [10, 0, 0, 1].into()),
                Op::RemoveFdb(device.clone(), mac, [10, 0, 0, 9].into()),
                Op::SetFdb(
                    device.clone(),
                    overlay_core::host_api::desired::Mac([1; 6]),
                    [10, 0, 0, 1].into(),
                ),
            ),
        ];
        for (made, removed, other) in pairs {
            for one in [&made, &removed] {
                let rejected = RejectedPeers::new(std::slice::from_ref(one), 1, &[]).unwrap();
                assert!(rejected.concerns(std::slice::from_ref(&made)), "{made}");
                assert!(
                    rejected.concerns(std::slice::from_ref(&removed)),
                    "{removed}"
                );
                assert!(!rejected.concerns(std::slice::from_ref(&other)), "{other}");
            }
        }
        // Routes in different tables are different objects.
        let rejected = RejectedPeers::new(&[route(1)], 1, &[]).unwrap();
        let (dst, via) = ("9.0.1.0/24".parse().unwrap(), "45.0.0.1".parse().unwrap());
        let elsewhere = NewRoute {
            table: 42,
            dst,
            via,
            nexthop: None,
            replaces: false,
        };
        assert!(!rejected.concerns(&[Op::SetRoute(device, elsewhere)]));
    }
}
