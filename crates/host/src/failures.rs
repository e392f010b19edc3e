//! Failures of a reconciliation, as sentences for operators.

use std::collections::BTreeMap;

use overlay_core::HostReport;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::problem::{Problem, ProblemKind};

use crate::reconcile::{Op, Scope};

/// Upper bound of sentences about one kind of operation in a report. People read them, and
/// ten thousand routes can fail for one reason.
const SENTENCES: usize = 3;

/// Failures gathered for a report.
pub(crate) struct Failures<'a> {
    desired: &'a Desired,
    count: usize,
    host: Vec<Problem>,
    overlays: BTreeMap<&'a str, Vec<String>>,
    /// Number of failed operations by kind.
    kinds: BTreeMap<&'static str, usize>,
}

impl<'a> Failures<'a> {
    pub(crate) fn new(desired: &'a Desired) -> Failures<'a> {
        Failures {
            desired,
            count: 0,
            host: Vec::new(),
            overlays: BTreeMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    /// Returns the number of failures.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds a failure. An overlay reports all failures of its own, and of those that affect
    /// several overlays the first: the others usually follow from it.
    pub(crate) fn add(&mut self, scope: Scope<'_>, problem: Problem) {
        self.count += 1;
        let is_own = matches!(scope, Scope::Overlay(_));
        let mut reported = false;
        for (name, overlay) in &self.desired.overlays {
            if scope.includes(name, overlay) {
                let sentences = self.overlays.entry(name).or_default();
                if is_own || sentences.is_empty() {
                    sentences.push(problem.text.clone());
                }
                reported = is_own;
            }
        }
        if !reported {
            self.host.push(problem);
        }
    }

    /// Adds a failed operation.
    pub(crate) fn add_op(&mut self, op: &Op, reason: String) {
        let scope = op.scope();
        if !matches!(scope, Scope::Overlay(_)) {
            let kind = self.kinds.entry(op.kind()).or_default();
            *kind += 1;
            if *kind > SENTENCES {
                self.count += 1;
                return;
            }
        }
        let (operation, text) = (op.to_string(), format!("cannot {op}: {reason}"));
        self.add(scope, Problem::new(ProblemKind::Operation, operation, text));
    }

    /// Returns the report.
    pub(crate) fn into_report(self) -> HostReport {
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
                let text = format!("cannot {kind}: {more} more like that");
                let problem = Problem::new(ProblemKind::FurtherOperations, kind, text);
                report.host.push(problem);
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reconcile::NewDevice;
    use crate::reconcile::samples::set_route;
    use overlay_core::host_api::desired::{Mac, Overlay};
    use overlay_core::util::family::Family;

    fn route(n: u8) -> Op {
        set_route(n.into(), "44.128.0.9")
    }

    fn overlay(range: &str) -> Overlay {
        Overlay {
            ranges: vec![range.parse().unwrap()],
            ..Overlay::default()
        }
    }

    /// Returns a desired state with an overlay of each family.
    fn desired() -> Desired {
        let overlays = [("four", "9.0.0.0/8"), ("six", "fd01:b::/64")];
        let overlays = overlays.map(|(name, range)| (name.to_owned(), overlay(range)));
        Desired {
            overlays: overlays.into(),
            ..Desired::default()
        }
    }

    fn observation(text: &str) -> Problem {
        Problem::new(ProblemKind::Observation, "kernel", text)
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
        assert_eq!(report.host[0].text, first);
        assert_eq!(
            report.host[3].text,
            "cannot remove device vtep7: Operation not permitted"
        );
        assert_eq!(report.host[4].text, "cannot add route: 97 more like that");
        assert!(report.overlays.is_empty(), "most peers can be reached");
    }

    #[test]
    fn a_full_report_says_nothing_of_more() {
        let report =
            report(|failures| (0..3).for_each(|n| failures.add_op(&route(n), "no".into())));
        assert_eq!(report.host.len(), 3);
    }

    #[test]
    fn an_overlays_own_failures_are_its_own() {
        let report = report(|failures| {
            let from = "9.0.0.0/8".parse().unwrap();
            failures.add_op(
                &Op::AddRule {
                    overlay: "four".into(),
                    from,
                    table: 42,
                },
                "no memory".into(),
            );
            let file = Op::WriteCni {
                overlay: "four".into(),
                file: "overlay-four.conf".into(),
                content: Vec::new(),
            };
            failures.add_op(&file, "no space".into());
            failures.add_op(
                &Op::RemoveCni {
                    overlay: "gone".into(),
                    file: "gone.conf".into(),
                },
                "no way".into(),
            );
        });
        assert_eq!(
            report.overlays,
            [(
                "four".to_owned(),
                "cannot add rule from 9.0.0.0/8 lookup 42: no memory; cannot write CNI configuration overlay-four.conf: no \
                 space"
                    .to_owned()
            )]
            .into()
        );
        assert_eq!(
            Problem::texts(&report.host),
            ["cannot remove CNI configuration gone.conf: no way"]
        );
    }

    #[test]
    fn without_the_device_all_overlays_fail_for_the_first_reason() {
        let name = "vtep1024".into();
        let device = NewDevice {
            name,
            vni: 1024,
            port: 64000,
            local: None,
            mac: Mac::default(),
            mtu: None,
        };
        let report = report(|failures| {
            failures.add_op(&Op::AddDevice(device), "no".into());
            failures.add(Scope::Overlays, observation("what follows from it"));
        });
        assert_eq!(report.host.len(), 2);
        assert_eq!(report.overlays["four"], report.host[0].text);
        assert_eq!(report.overlays["six"], report.host[0].text);
    }

    #[test]
    fn a_failure_of_one_family_does_not_affect_the_other() {
        for op in [
            Op::EnableForwarding(Family::V6),
            Op::AddAddress("vtep1024".into(), "fd01:a::1/64".parse().unwrap()),
        ] {
            let report = report(|failures| failures.add_op(&op, "no IPv6 here".into()));
            assert_eq!(report.overlays.keys().collect::<Vec<_>>(), ["six"]);
            assert_eq!(report.host.len(), 1);
        }
    }

    #[test]
    fn each_operation_affects_its_family() {
        let address = |text: &str| Op::AddAddress("vtep1024".into(), text.parse().unwrap());
        for (op, overlay) in [
            (Op::EnableForwarding(Family::V4), "four"),
            (Op::EnableForwarding(Family::V6), "six"),
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
    fn further_failures_are_counted_by_kind() {
        let report = report(|failures| {
            (0..4).for_each(|n| failures.add_op(&route(n), "no".into()));
            (0..3).for_each(|n| {
                failures.add_op(&Op::RemoveNexthop("vtep1024".into(), n), "no".into());
            });
            assert_eq!(failures.count(), 7);
        });
        assert_eq!(report.host.len(), 3 + 3 + 1);
        assert_eq!(
            report.host.last().unwrap().text,
            "cannot add route: 1 more like that"
        );
    }

    #[test]
    fn an_overlay_reports_the_first_common_failure_and_all_of_its_own() {
        let report = report(|failures| {
            failures.add(Scope::Ipv4, observation("first"));
            failures.add(Scope::Overlays, observation("second"));
            failures.add(Scope::Overlay("four"), observation("own"));
        });
        assert_eq!(report.overlays["four"], "first; own");
        assert_eq!(report.overlays["six"], "second");
        assert_eq!(Problem::texts(&report.host), ["first", "second"]);
    }

    /// The number of failed routes may differ in each reconciliation.
    #[test]
    fn further_failures_repeat_earlier_ones_unless_the_reason_is_new() {
        let failed = |count, reason: &str| {
            let routes = |failures: &mut Failures| {
                (0..count).for_each(|n| failures.add_op(&route(n), reason.into()));
            };
            report(routes).host
        };
        let repeats = |later: &[Problem], earlier: &[Problem]| -> Vec<bool> {
            let pairs = later.iter().zip(earlier);
            pairs
                .map(|(later, earlier)| later.repeats(earlier))
                .collect()
        };
        let before = failed(100, "no");
        assert_eq!(repeats(&failed(90, "no"), &before), [true; SENTENCES + 1]);
        assert_eq!(
            repeats(&failed(90, "other"), &before),
            [false, false, false, true]
        );
        let keys: BTreeSet<String> = before.iter().map(|one| one.key.to_string()).collect();
        assert_eq!(keys.len(), SENTENCES + 1, "{keys:?}");
    }
}
