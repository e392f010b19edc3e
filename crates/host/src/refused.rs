//! What the kernel refuses of some peers, on a host that is right otherwise.
//!
//! Without it one peer that cannot be had would make a pass of each change of all the
//! others: a host that is not right is not to be changed without a look at it.

use std::collections::BTreeSet;

use crate::reconcile::{Op, PeerObject};

/// More than this many are no matter of some peers.
const FEW: usize = 100;

/// What a pass was refused. Only about peers, and few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    objects: BTreeSet<PeerObject>,
    /// How the pass told of it.
    sentences: Vec<String>,
}

impl Refused {
    /// Of a pass that failed at these operations and told these sentences of the host. `None`:
    /// something else is wrong too, or too much. `failures`: how many there were of
    /// whatever kind.
    pub(super) fn new(ops: &[Op], failures: usize, sentences: &[String]) -> Option<Refused> {
        let objects: Option<BTreeSet<PeerObject>> = ops.iter().map(Op::peer_object).collect();
        let objects = objects.filter(|_| ops.len() == failures && failures <= FEW)?;
        Some(Refused {
            objects,
            sentences: sentences.to_vec(),
        })
    }

    /// Whether some of it is what these operations are about.
    pub(super) fn concerns(&self, ops: &[Op]) -> bool {
        !self.objects.is_empty()
            && ops
                .iter()
                .filter_map(Op::peer_object)
                .any(|object| self.objects.contains(&object))
    }

    /// One sentence each, as long as it lasts.
    pub(super) fn sentences(&self) -> &[String] {
        &self.sentences
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reconcile::NewRoute;

    fn route(n: usize) -> Op {
        let (dst, via) = (
            format!("9.0.{n}.0/24").parse().unwrap(),
            "45.0.0.1".parse().unwrap(),
        );
        Op::SetRoute(
            "vtep1024".into(),
            NewRoute {
                table: 254,
                dst,
                via,
                nexthop: None,
            },
        )
    }

    fn neighbour(n: u8) -> Op {
        Op::SetNeighbour(
            "vtep1024".into(),
            [44, 128, 0, n].into(),
            Default::default(),
        )
    }

    #[test]
    fn a_peer_that_is_refused_concerns_itself_only() {
        let told = ["cannot".to_owned()];
        let refused = Refused::new(&[route(1)], 1, &told).unwrap();
        assert_eq!(refused.sentences(), told);
        assert!(!refused.concerns(&[route(2), neighbour(1)]));
        assert!(refused.concerns(&[neighbour(1), route(1)]));
        // As well when it goes.
        let nexthop = Op::AddNexthop("vtep1024".into(), [44, 128, 0, 9].into());
        let refused = Refused::new(&[nexthop], 1, &[]).unwrap();
        assert!(refused.concerns(&[Op::RemoveNexthop("vtep1024".into(), 0x2c80_0009)]));
        assert!(!Refused::default().concerns(&[route(1)]));
    }

    #[test]
    fn whatever_else_is_wrong_needs_a_pass() {
        assert_eq!(Refused::new(&[], 0, &[]), Some(Refused::default()));
        assert_eq!(
            Refused::new(&[route(1)], 2, &[]),
            None,
            "something that was no operation"
        );
        let device: Arc<str> = "vtep1024".into();
        assert_eq!(
            Refused::new(&[route(1), Op::RemoveDevice(device)], 2, &[]),
            None
        );
        let many: Vec<Op> = (0..=FEW).map(route).collect();
        assert_eq!(Refused::new(&many, many.len(), &[]), None);
        assert!(Refused::new(&many[1..], FEW, &[]).is_some());
    }

    /// Everything that can be of a peer is recognised, whether it is made or removed.
    #[test]
    fn what_is_refused_is_recognised_when_it_is_made_and_when_it_is_removed() {
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
            for refused in [&made, &removed] {
                let refused = Refused::new(std::slice::from_ref(refused), 1, &[]).unwrap();
                assert!(refused.concerns(std::slice::from_ref(&made)), "{made}");
                assert!(
                    refused.concerns(std::slice::from_ref(&removed)),
                    "{removed}"
                );
                assert!(!refused.concerns(std::slice::from_ref(&other)), "{other}");
            }
        }
        // The same destination in another table is another route.
        let refused = Refused::new(&[route(1)], 1, &[]).unwrap();
        let (dst, via) = ("9.0.1.0/24".parse().unwrap(), "45.0.0.1".parse().unwrap());
        let elsewhere = NewRoute {
            table: 42,
            dst,
            via,
            nexthop: None,
        };
        assert!(!refused.concerns(&[Op::SetRoute(device, elsewhere)]));
    }
}
