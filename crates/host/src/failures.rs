//! What went wrong in a pass, in a form that people can read.

use std::collections::BTreeMap;

use overlay_core::HostReport;
use overlay_core::host_api::desired::Desired;

use crate::reconcile::{Concern, Op};

/// Sentences about one kind of operation that a report has at most: they are
/// shown to people, and ten thousand routes can fail for one reason.
const SENTENCES: usize = 3;

/// Gathers failures and makes a report of them.
pub(super) struct Failures<'a> {
    desired: &'a Desired,
    count: usize,
    host: Vec<String>,
    overlays: BTreeMap<&'a str, Vec<String>>,
    /// How many operations failed, by kind.
    kinds: BTreeMap<&'static str, usize>,
}

impl<'a> Failures<'a> {
    pub(super) fn new(desired: &'a Desired) -> Failures<'a> {
        let (host, overlays, kinds) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Failures {
            desired,
            count: 0,
            host,
            overlays,
            kinds,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Something went wrong. An overlay tells what concerns itself, and of what
    /// concerns all of them the first: the rest usually follows from it.
    pub(super) fn add(&mut self, concern: Concern<'_>, sentence: String) {
        self.count += 1;
        let own = matches!(concern, Concern::Overlay(_));
        let mut told = false;
        for (name, overlay) in &self.desired.overlays {
            if concern.includes(name, overlay) {
                let sentences = self.overlays.entry(name).or_default();
                if own || sentences.is_empty() {
                    sentences.push(sentence.clone());
                }
                told = own;
            }
        }
        if !told {
            self.host.push(sentence);
        }
    }

    /// An operation failed.
    pub(super) fn add_op(&mut self, op: &Op, reason: String) {
        let concern = op.concern();
        if !matches!(concern, Concern::Overlay(_)) {
            let kind = self.kinds.entry(op.kind()).or_default();
            *kind += 1;
            if *kind > SENTENCES {
                self.count += 1;
                return;
            }
        }
        self.add(concern, format!("cannot {op}: {reason}"));
    }

    pub(super) fn into_report(self) -> HostReport {
        let overlays = self.overlays.into_iter();
        let mut report = HostReport {
            host: self.host,
            overlays: overlays
                .map(|(name, sentences)| (name.to_owned(), sentences.join("; ")))
                .collect(),
            ..HostReport::default()
        };
        for (kind, count) in self.kinds {
            if let Some(more @ 1..) = count.checked_sub(SENTENCES) {
                report
                    .host
                    .push(format!("cannot {kind}: {more} more like that"));
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::{NewDevice, NewRoute};
    use overlay_core::host_api::desired::{Mac, Overlay};

    fn route(n: u8) -> Op {
        let (dst, via) = (
            format!("9.0.{n}.0/24").parse().unwrap(),
            "44.128.0.9".parse().unwrap(),
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

    fn overlay(range: &str) -> Overlay {
        Overlay {
            ranges: vec![range.parse().unwrap()],
            ..Overlay::default()
        }
    }

    /// One overlay of each family.
    fn desired() -> Desired {
        let overlays = [("four", "9.0.0.0/8"), ("six", "fd01:b::/64")];
        let overlays = overlays.map(|(name, range)| (name.to_owned(), overlay(range)));
        Desired {
            overlays: overlays.into(),
            ..Desired::default()
        }
    }

    fn report(fail: impl FnOnce(&mut Failures)) -> HostReport {
        let desired = desired();
        let mut failures = Failures::new(&desired);
        fail(&mut failures);
        failures.into_report()
    }

    #[test]
    fn a_report_stays_short_however_much_fails() {
        let report = report(|failures| {
            for n in 0..100 {
                failures.add_op(&route(n), "Network is unreachable".into());
            }
            failures.add_op(
                &Op::RemoveDevice("vtep7".into()),
                "Operation not permitted".into(),
            );
            assert_eq!(failures.count(), 101);
        });
        assert_eq!(report.host.len(), SENTENCES + 1 + 1);
        let first =
            "cannot add route 9.0.0.0/24 via 44.128.0.9 dev vtep1024: Network is unreachable";
        assert_eq!(report.host[0], first);
        assert_eq!(
            report.host[3],
            "cannot remove device vtep7: Operation not permitted"
        );
        assert_eq!(report.host[4], "cannot add route: 97 more like that");
        assert!(report.overlays.is_empty(), "most peers can be reached");
    }

    #[test]
    fn as_many_sentences_as_there_may_be_need_no_more() {
        let report =
            report(|failures| (0..3).for_each(|n| failures.add_op(&route(n), "no".into())));
        assert_eq!(report.host.len(), 3);
    }

    #[test]
    fn what_belongs_to_an_overlay_is_told_there() {
        let report = report(|failures| {
            let from = "9.0.0.0/8".parse().unwrap();
            failures.add_op(
                &Op::AddRule {
                    overlay: "four".into(),
                    from,
                },
                "no memory".into(),
            );
            let file = Op::WriteCni {
                overlay: "four".into(),
                content: Vec::new(),
            };
            failures.add_op(&file, "no space".into());
            failures.add_op(
                &Op::RemoveCni {
                    overlay: "gone".into(),
                },
                "no way".into(),
            );
        });
        assert_eq!(
            report.overlays,
            [(
                "four".to_owned(),
                "cannot add rule from 9.0.0.0/8 lookup 42: no memory; cannot write CNI configuration four.conf: no \
                 space"
                    .to_owned()
            )]
            .into()
        );
        assert_eq!(
            report.host,
            ["cannot remove CNI configuration gone.conf: no way"]
        );
    }

    #[test]
    fn without_the_device_no_overlay_is_right_and_the_first_reason_counts() {
        let name = "vtep1024".into();
        let device = NewDevice {
            name,
            vni: 1024,
            port: 64000,
            mac: Mac::default(),
            mtu: None,
        };
        let report = report(|failures| {
            failures.add_op(&Op::AddDevice(device), "no".into());
            failures.add(Concern::Overlays, "what follows from it".into());
        });
        assert_eq!(report.host.len(), 2);
        assert_eq!(report.overlays["four"], report.host[0]);
        assert_eq!(report.overlays["six"], report.host[0]);
    }

    #[test]
    fn a_family_that_does_not_work_is_no_matter_of_the_other_one() {
        for op in [
            Op::EnableForwarding6,
            Op::AddAddress("vtep1024".into(), "fd01:a::1/64".parse().unwrap()),
        ] {
            let report = report(|failures| failures.add_op(&op, "no IPv6 here".into()));
            assert_eq!(report.overlays.keys().collect::<Vec<_>>(), ["six"]);
            assert_eq!(report.host.len(), 1);
        }
    }

    #[test]
    fn a_family_that_does_not_work_is_told_for_each_operation() {
        let address = |text: &str| Op::AddAddress("vtep1024".into(), text.parse().unwrap());
        for (op, overlay) in [
            (Op::EnableForwarding, "four"),
            (Op::EnableForwarding6, "six"),
            (address("44.128.0.1/20"), "four"),
            (address("fd01:a::1/64"), "six"),
        ] {
            let report = report(|failures| failures.add_op(&op, "no".into()));
            assert_eq!(
                report.overlays.keys().collect::<Vec<_>>(),
                [overlay],
                "{op}"
            );
        }
    }

    #[test]
    fn the_fourth_sentence_is_a_number_and_kinds_are_counted_apart() {
        let report = report(|failures| {
            (0..4).for_each(|n| failures.add_op(&route(n), "no".into()));
            (0..3).for_each(|n| {
                failures.add_op(&Op::RemoveNexthop("vtep1024".into(), n), "no".into());
            });
            assert_eq!(failures.count(), 7);
        });
        assert_eq!(report.host.len(), 3 + 3 + 1);
        assert_eq!(
            report.host.last().unwrap(),
            "cannot add route: 1 more like that"
        );
    }

    /// What follows from the first reason is not told to an overlay, its own troubles are.
    #[test]
    fn an_overlay_tells_one_reason_of_all_and_each_of_its_own() {
        let report = report(|failures| {
            failures.add(Concern::Ipv4, "first".into());
            failures.add(Concern::Overlays, "second".into());
            failures.add(Concern::Overlay("four"), "own".into());
        });
        assert_eq!(report.overlays["four"], "first; own");
        assert_eq!(report.overlays["six"], "second");
        assert_eq!(report.host, ["first", "second"]);
    }
}
