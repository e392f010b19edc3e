//! Attempt to make the firewall match the desired state: observe, plan, apply.

use std::collections::BTreeSet;

use overlay_core::host_api::desired::Firewall as Choice;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::netfilter::{self, Netfilter};
use super::op::{NatBackend, Observed, Obstacle, Op, Others, Plan, family_scope};
use super::plan::plan;
use super::tools::{self, Tools};
use super::{conntrack, filter, sets};
use crate::progress;
use crate::reconcile::Scope;

/// Attempt, with its failures so far.
pub(super) struct Attempt<'a> {
    desired: &'a FirewallDesired,
    choice: Choice,
    tools: &'a Tools,
    pub faults: Vec<Fault>,
    /// Number of operations that changed the firewall.
    pub done: usize,
    /// Families in which the table `filter` is as desired.
    pub filtered: BTreeSet<Family>,
    /// Families whose host was closed by this module before this attempt.
    pub was_closed: BTreeSet<Family>,
    /// Families in which masquerading is not known to be as desired.
    pub nat_faults: BTreeSet<Family>,
    /// Other firewalls; `None`: they have to be read.
    pub others: Option<Others>,
    /// Other firewalls that drop packets of the overlays. Another attempt does not help.
    pub obstacles: Vec<Fault>,
}

/// A fault and what does not work because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub scope: Scope<'static>,
    pub problem: Problem,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        desired: &'a FirewallDesired,
        choice: Choice,
        tools: &'a Tools,
    ) -> Attempt<'a> {
        Attempt {
            desired,
            choice,
            tools,
            faults: Vec::new(),
            done: 0,
            filtered: BTreeSet::new(),
            was_closed: BTreeSet::new(),
            nat_faults: Family::BOTH.into(),
            others: None,
            obstacles: Vec::new(),
        }
    }

    /// Observes the firewall and plans. The plan is empty if the firewall cannot be read.
    pub(super) fn plan(&mut self) -> Plan {
        let backend = match self.tools.choose_backend(self.choice) {
            Ok(backend) => backend,
            // Old iptables rules can be removed without the other tools.
            Err(_) if self.desired.ranges.is_empty() => NatBackend::Iptables,
            Err(sentence) => {
                self.add_fault(Scope::Overlays, "tools", sentence);
                return Plan::default();
            }
        };
        let faults_before = self.faults.len();
        let observed = self.observe(backend);
        if self.faults.len() > faults_before {
            // An incomplete observation must not be compared.
            return Plan::default();
        }
        let closed = observed.rules.iter();
        let closed = closed.filter(|(_, rules)| filter::is_closed(rules));
        self.was_closed = closed.map(|(family, _)| *family).collect();
        let plan = plan(self.desired, backend, &observed);
        self.filtered = observed.rules.keys().copied().collect();
        if !self.desired.devices.is_empty() {
            self.others = Some(observed.others);
        }
        self.nat_faults = plan.problems.iter().map(|problem| problem.family).collect();
        for problem in &plan.problems {
            let scope = family_scope(problem.family);
            let object = problem
                .family
                .pick("masquerading of IPv4", "masquerading of IPv6");
            self.add_fault(scope, object, problem.sentence.clone());
        }
        for Obstacle { object, sentence } in &plan.obstacles {
            self.obstacles.push(Fault {
                scope: Scope::Host,
                problem: Problem::new(ProblemKind::Firewall, object, sentence),
            });
        }
        plan
    }

    /// Reads the firewall. What cannot be read is a fault.
    pub(super) fn look(&mut self, backend: NatBackend) -> Observed {
        self.observe(backend)
    }

    fn observe(&mut self, backend: NatBackend) -> Observed {
        let mut observed = Observed::default();
        for family in Family::BOTH {
            self.observe_rules(family, backend, &mut observed);
        }
        match self.tools.table() {
            Ok(table) => observed.table = table,
            Err(error) if backend == NatBackend::Nftables => {
                let sentence = format!("cannot read nftables: {error}");
                self.add_fault(Scope::Overlays, "nftables", sentence);
            }
            Err(error) => log::debug!("cannot read nftables, which is not used: {error}"),
        }
        if self.tools.has_ipset() {
            let netfilter = Netfilter::open();
            match netfilter.and_then(|netfilter| netfilter::sets(&netfilter, sets::names())) {
                Ok(sets) => observed.sets = sets,
                Err(error) => {
                    let sentence = format!("cannot read the ipsets: {error}");
                    self.add_fault(Scope::Overlays, "ipset", sentence);
                }
            }
        }
        observed.uplinks = netfilter::uplinks().unwrap_or_default();
        if !self.desired.devices.is_empty() {
            observed.others = self.others.take().unwrap_or_else(|| self.tools.others());
            let underlay = self.desired.underlay_ip;
            observed.underlay = underlay.and_then(netfilter::device_of);
        }
        observed
    }

    fn observe_rules(&mut self, family: Family, backend: NatBackend, observed: &mut Observed) {
        let is_needed = self.desired.has_ranges(family);
        let tool = family.pick("iptables", "ip6tables");
        match self.tools.rules(family) {
            Some(Ok(rules)) => _ = observed.rules.insert(family, rules),
            Some(Err(error)) if is_needed => {
                let sentence = format!("cannot read the rules: {error}");
                self.add_fault(family_scope(family), tool, sentence);
            }
            Some(Err(error)) => log::debug!("cannot read rules that are not needed: {error}"),
            None if backend == NatBackend::Iptables && is_needed => {
                let sentence = format!("{tool} is not installed; install it");
                self.add_fault(family_scope(family), tool, sentence);
            }
            None => {}
        }
    }

    /// Applies the operations in order. A failed operation does not stop the others.
    pub(super) fn apply(&mut self, plan: &Plan) {
        for ops in plan.ops.chunk_by(tools::same_transaction) {
            if progress::is_abandoned() {
                self.filtered.clear();
                return;
            }
            ops.iter().for_each(|op| log::debug!("{op}"));
            let result = self.tools.apply(ops);
            if result.is_ok() {
                self.done += ops.len();
            }
            if let (Err(reason), Some(first)) = (result, ops.first()) {
                self.note_failure(ops);
                let more = match ops.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more in the same transaction)"),
                };
                self.faults.push(Fault {
                    scope: first.scope(),
                    problem: Problem::new(
                        ProblemKind::Operation,
                        first.to_string(),
                        format!("cannot {first}{more}: {reason}"),
                    ),
                });
            }
        }
    }

    /// Notes which parts of the firewall are not as desired since operations failed.
    fn note_failure(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::Rule { family, table, .. } = op
                && *table == filter::TABLE
            {
                self.filtered.remove(family);
            }
            if conntrack::concerns_nat(op) {
                match op {
                    Op::Rule { family, .. } | Op::WriteSet { family, .. } => {
                        self.nat_faults.insert(*family);
                    }
                    _ => self.nat_faults.extend(Family::BOTH),
                }
            }
        }
    }

    /// Adds a fault that is not the failure of an operation. `object` is the part of the
    /// firewall that has it.
    fn add_fault(&mut self, scope: Scope<'static>, object: &str, sentence: String) {
        self.faults.push(Fault {
            scope,
            problem: Problem::new(
                ProblemKind::Firewall,
                object,
                format!("cannot configure the firewall: {sentence}"),
            ),
        });
    }
}
