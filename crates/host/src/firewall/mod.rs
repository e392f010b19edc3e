//! The host's firewall: masquerading of the containers' traffic to the outside, and
//! forwarding between the overlay bridges where other rules would drop it.
//!
//! With `firewall: "auto"` masquerading is written with iptables and ipset if both are
//! installed (as on every host of the predecessor of this module), otherwise with nftables.
//! Forwarding is always written with iptables, where Docker's isolation is written too: an
//! `accept` in one table of nftables does not override a `drop` in another.
//!
//! The stages are those of the rest of the host: [`desired`] and observed state (read with
//! [`tools`] and [`netfilter`]), [`plan`], apply, report. The plan also removes what is not
//! desired any more, and rules that were written with the other backend before.
//!
//! Running the tools takes some milliseconds each. Therefore the kernel is asked first
//! whether anything changed since the last reconciliation that found nothing to do
//! ([`Fingerprint`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Desired, Firewall as Choice};

use crate::failures::Failures;
use crate::operation::Operation;
use crate::progress;
use attempt::{Attempt, Fault};
use desired::FirewallDesired;
use netfilter::Netfilter;
use op::{IpSet, Op};
use tools::Tools;

mod attempt;
mod command;
mod desired;
mod filter;
mod nat;
mod netfilter;
mod nftables;
mod op;
mod plan;
mod ruleset;
mod sets;
#[cfg(test)]
mod tests;
mod tools;

/// Attempts of one reconciliation: another program may write to the firewall meanwhile.
const ATTEMPTS: usize = 2;

/// Time for which a fingerprint and the list of installed tools are considered current.
const LIFETIME: Duration = Duration::from_secs(60);

/// Reconciler of the host's firewall.
#[derive(Default)]
pub(super) struct Firewall {
    /// Installed tools and the time when they were looked for.
    tools: Option<(Arc<Tools>, Instant)>,
    /// Last fingerprint that was taken before a comparison without differences.
    in_sync: Option<InSync>,
    /// Operations of the last reconciliation if it did not succeed.
    failed: Vec<Op>,
}

/// A state of the firewall that is known to be as desired.
struct InSync {
    fingerprint: Fingerprint,
    since: Instant,
}

/// Properties of the firewall that can be read without the tools. As long as they do not
/// change, nothing that the tools would show changes either.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    desired: FirewallDesired,
    choice: Choice,
    /// Generation of nf_tables in the kernel.
    generation: u32,
    sets: BTreeMap<String, IpSet>,
    uplinks: BTreeSet<String>,
}

impl Firewall {
    /// Makes the firewall match `desired` as far as possible. Returns the number of
    /// operations.
    pub(super) fn reconcile(&mut self, desired: &Desired, failures: &mut Failures<'_>) -> usize {
        if desired.firewall == Choice::None {
            return 0;
        }
        let choice = desired.firewall;
        let desired = FirewallDesired::from_host(desired);
        let mut operations = 0;
        for number in 1..=ATTEMPTS {
            progress::step("read the state of the firewall");
            let fingerprint = Fingerprint::take(&desired, choice);
            if self.is_in_sync(fingerprint.as_ref()) {
                break;
            }
            let start = Instant::now();
            let tools = self.tools(start);
            let mut attempt = Attempt::new(&desired, choice, &tools);
            let plan = attempt.plan();
            attempt.apply(&plan);
            let (faults, done) = (attempt.faults, attempt.done);
            if !plan.ops.is_empty() {
                log::info!(
                    "configured the firewall: {done} operations in {:.0?}, {} failed",
                    start.elapsed(),
                    faults.len()
                );
            }
            operations += done;
            let has_succeeded = faults.is_empty();
            let is_in_sync = has_succeeded && plan.ops.is_empty();
            self.record_in_sync(fingerprint.filter(|_| is_in_sync), start, &tools);
            self.failed = if has_succeeded { Vec::new() } else { plan.ops };
            if has_succeeded || number == ATTEMPTS {
                report(faults, failures);
                break;
            }
        }
        operations
    }

    /// Returns the operations of a reconciliation without applying them.
    pub(super) fn preview(
        &mut self,
        desired: &Desired,
        failures: &mut Failures<'_>,
    ) -> Vec<Operation> {
        let (choice, tools) = (desired.firewall, self.tools(Instant::now()));
        let desired = FirewallDesired::from_host(desired);
        let mut attempt = Attempt::new(&desired, choice, &tools);
        let plan = attempt.plan();
        report(attempt.faults, failures);
        plan.ops.iter().map(Operation::from).collect()
    }

    /// Returns the operations of the last reconciliation if it did not succeed.
    pub(super) fn failed(&self) -> impl Iterator<Item = Operation> {
        self.failed.iter().map(Operation::from)
    }

    /// Tells if there is something to do that did not fail in the last reconciliation.
    /// Changes nothing.
    pub(super) fn quick_check(&mut self, desired: &Desired) -> bool {
        if desired.firewall == Choice::None {
            return false;
        }
        let choice = desired.firewall;
        let desired = FirewallDesired::from_host(desired);
        progress::step("read the state of the firewall");
        let fingerprint = Fingerprint::take(&desired, choice);
        if self.is_in_sync(fingerprint.as_ref()) {
            return false;
        }
        let start = Instant::now();
        let tools = self.tools(start);
        let mut attempt = Attempt::new(&desired, choice, &tools);
        let plan = attempt.plan();
        let is_in_sync = attempt.faults.is_empty() && plan.ops.is_empty();
        self.record_in_sync(fingerprint.filter(|_| is_in_sync), start, &tools);
        self.has_new(&plan.ops)
    }

    /// Tells if some of these operations did not fail in the last reconciliation.
    fn has_new(&self, ops: &[Op]) -> bool {
        ops.iter().any(|op| !self.failed.contains(op))
    }

    /// Records the fingerprint of a firewall that is as desired; `None` if it is not.
    /// A fingerprint does not cover the legacy iptables.
    fn record_in_sync(&mut self, fingerprint: Option<Fingerprint>, since: Instant, tools: &Tools) {
        let is_covered = |fingerprint: &Fingerprint| {
            !tools.is_legacy || fingerprint.desired == FirewallDesired::default()
        };
        self.in_sync = fingerprint
            .filter(is_covered)
            .map(|fingerprint| InSync { fingerprint, since });
    }

    fn is_in_sync(&self, now: Option<&Fingerprint>) -> bool {
        self.in_sync.as_ref().is_some_and(|known| {
            Some(&known.fingerprint) == now && known.since.elapsed() < LIFETIME
        })
    }

    /// Returns the installed tools; looks for them again after [`LIFETIME`].
    fn tools(&mut self, now: Instant) -> Arc<Tools> {
        let is_fresh = |(_, since): &(Arc<Tools>, Instant)| now.duration_since(*since) < LIFETIME;
        let known = self.tools.take().filter(is_fresh);
        let (tools, _) = self
            .tools
            .insert(known.unwrap_or_else(|| (Arc::new(Tools::find()), now)));
        tools.clone()
    }
}

impl Fingerprint {
    /// Reads the fingerprint from the kernel; `None` if this host does not provide one.
    fn take(desired: &FirewallDesired, choice: Choice) -> Option<Fingerprint> {
        let netfilter = Netfilter::open().ok()?;
        Some(Fingerprint {
            desired: desired.clone(),
            choice,
            generation: netfilter.generation()?,
            sets: netfilter::sets(&netfilter, sets::names()).ok()?,
            uplinks: netfilter::uplinks().ok()?,
        })
    }
}

fn report(faults: Vec<Fault>, failures: &mut Failures<'_>) {
    for Fault { scope, problem } in faults {
        failures.add(scope, problem);
    }
}
