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
use overlay_core::util::family::Family;

use crate::failures::Failures;
use crate::kernel::sysctl;
use crate::operation::Operation;
use crate::progress;
use attempt::{Attempt, Fault};
use desired::FirewallDesired;
use netfilter::Netfilter;
use op::{IpSet, Op, Others, Plan};
use tools::Tools;

mod attempt;
mod command;
mod conntrack;
mod desired;
mod fate;
mod filter;
mod flows;
pub(crate) mod judge;
pub(super) mod look;
mod nat;
mod netfilter;
mod nft_rules;
mod nftables;
mod op;
mod others;
mod own_chains;
mod plan;
mod raw;
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
    /// Other firewalls that dropped packets of the overlays in the last comparison.
    obstacles: Vec<Fault>,
    /// Other firewalls as they were read last.
    others: Option<KnownOthers>,
    /// Families whose forwarding this module turned on.
    closed: BTreeSet<Family>,
    /// Families that the host forwarded before this module did; `None`: not known yet.
    open: Option<BTreeSet<Family>>,
    /// Changes of masquerading whose old flows are tracked still, by family.
    changes: BTreeMap<Family, flows::Change>,
}

/// Forwarding of the host at the start of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarding {
    /// Families that are forwarded.
    pub on: BTreeSet<Family>,
    /// Families that are not, and will be.
    pub opened: BTreeSet<Family>,
}

/// Outcome of a reconciliation of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub operations: usize,
    /// Families in which the chain that keeps the host closed could not be written.
    pub unfiltered: BTreeSet<Family>,
}

/// A state of the firewall that is known to be as desired.
struct InSync {
    fingerprint: Fingerprint,
    since: Instant,
}

/// Other firewalls of the host, at a generation of nf_tables.
struct KnownOthers {
    generation: u32,
    since: Instant,
    others: Others,
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
    /// Makes the firewall match `desired` as far as possible.
    pub(super) fn reconcile(
        &mut self,
        desired: &Desired,
        forwarding: &Forwarding,
        failures: &mut Failures<'_>,
    ) -> Outcome {
        if desired.firewall == Choice::None {
            return Outcome::default();
        }
        let choice = desired.firewall;
        self.close(forwarding);
        let mut unfiltered = BTreeSet::new();
        let desired = self.desired(desired);
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
            let plan = self.plan(&mut attempt, fingerprint.as_ref());
            attempt.apply(&plan);
            self.obstacles = std::mem::take(&mut attempt.obstacles);
            let (faults, done) = (attempt.faults, attempt.done);
            self.forget_flows(&plan, &attempt.nat_faults);
            for family in plan.closes.intersection(&attempt.filtered) {
                log::warn!("{}", closing(*family));
            }
            let has_tool = |family: &&Family| tools.has_rules(**family);
            unfiltered = desired.closed.iter().filter(has_tool).copied().collect();
            unfiltered.retain(|family| !attempt.filtered.contains(family));
            self.closed.extend(&attempt.was_closed);
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
        report(self.obstacles.clone(), failures);
        Outcome {
            operations,
            unfiltered,
        }
    }

    /// Observes and plans. The other firewalls are read only if they can have changed.
    fn plan(&mut self, attempt: &mut Attempt<'_>, now: Option<&Fingerprint>) -> Plan {
        let start = Instant::now();
        let generation = now.map(|now| now.generation);
        let is_fresh = |known: &KnownOthers| {
            Some(known.generation) == generation && known.since.elapsed() < LIFETIME
        };
        let known = self.others.take().filter(is_fresh);
        let since = known.as_ref().map_or(start, |known| known.since);
        attempt.others = known.map(|known| known.others);
        let plan = attempt.plan();
        let others = generation.zip(attempt.others.take());
        self.others = others.map(|(generation, others)| KnownOthers {
            generation,
            since,
            others,
        });
        plan
    }

    /// Has the host stay closed in the families whose forwarding is turned on, unless it forwarded
    /// them before this module did: then somebody else turned it off meanwhile.
    fn close(&mut self, forwarding: &Forwarding) {
        let open = self.open.get_or_insert_with(|| forwarding.on.clone());
        self.closed.extend(forwarding.opened.difference(open));
    }

    /// Deletes the tracked connections that began under other rules of masquerading, in the families
    /// whose rules are as desired now. Those of the others are deleted as soon as their rules are.
    fn forget_flows(&mut self, plan: &Plan, faults: &BTreeSet<Family>) {
        let mut due: Option<flows::Change> = None;
        for family in Family::BOTH {
            if let Some(change) = plan.nat.as_ref().map(|change| change.of(family)) {
                self.changes.entry(family).or_default().extend(change);
            }
            if !faults.contains(&family)
                && let Some(change) = self.changes.remove(&family)
            {
                due.get_or_insert_default().join(change);
            }
        }
        if let Some(change) = due {
            forget_flows(&change);
        }
    }

    /// Returns the desired content of the firewall.
    fn desired(&self, host: &Desired) -> FirewallDesired {
        let mut desired = FirewallDesired::from_host(host);
        // Without overlays everything goes.
        if !host.has_bridge() && !host.overlays.is_empty() {
            let kernel = sysctl::forwarding();
            let is_on = |family: &Family| *family.pick(&kernel.v4, &kernel.v6) == Some(true);
            desired.forwarded = Family::BOTH.into_iter().filter(is_on).collect();
        }
        let closed = self.closed.iter().copied();
        desired.closed = closed
            .filter(|family| desired.is_forwarded(*family))
            .collect();
        desired
    }

    /// Returns the operations of a reconciliation without applying them.
    pub(super) fn preview(
        &mut self,
        desired: &Desired,
        forwarding: &Forwarding,
        failures: &mut Failures<'_>,
    ) -> Vec<Operation> {
        let (choice, tools) = (desired.firewall, self.tools(Instant::now()));
        self.close(forwarding);
        let desired = self.desired(desired);
        let mut attempt = Attempt::new(&desired, choice, &tools);
        let plan = attempt.plan();
        report(attempt.faults, failures);
        report(attempt.obstacles, failures);
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
        let desired = self.desired(desired);
        progress::step("read the state of the firewall");
        let fingerprint = Fingerprint::take(&desired, choice);
        if self.is_in_sync(fingerprint.as_ref()) {
            return false;
        }
        let start = Instant::now();
        let tools = self.tools(start);
        let mut attempt = Attempt::new(&desired, choice, &tools);
        let plan = self.plan(&mut attempt, fingerprint.as_ref());
        // The next reconciliation compares the rules, and so finds new differences, unless they are in
        // sync.
        let is_in_sync = attempt.faults.is_empty()
            && plan.ops.is_empty()
            && attempt.obstacles == self.obstacles
            && self.changes.is_empty();
        self.record_in_sync(fingerprint.filter(|_| is_in_sync), start, &tools);
        self.has_new(&plan.ops) || attempt.obstacles != self.obstacles
    }

    /// Tells if some of these operations did not fail in the last reconciliation.
    fn has_new(&self, ops: &[Op]) -> bool {
        ops.iter().any(|op| !self.failed.contains(op))
    }

    /// Records the fingerprint of a firewall that is as desired; `None` if it is not.
    /// A fingerprint does not cover the legacy iptables.
    fn record_in_sync(&mut self, fingerprint: Option<Fingerprint>, since: Instant, tools: &Tools) {
        let is_covered =
            |fingerprint: &Fingerprint| !tools.is_legacy || fingerprint.desired.is_nothing();
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

/// Deletes the tracked connections that began under other rules of masquerading.
fn forget_flows(nat: &flows::Change) {
    match conntrack::delete_stale(nat) {
        Ok(0) => {}
        Ok(count) => log::info!(
            "deleted {count} connections that the kernel tracked under other rules of masquerading"
        ),
        Err(error) => log::warn!(
            "cannot delete the connections that the kernel tracks under other rules of masquerading: {error}; \
             they keep their source addresses until they pause for some minutes"
        ),
    }
}

/// Returns the sentence about a host that is closed from now on.
fn closing(family: Family) -> String {
    format!(
        "this host did not forward {} packets; packets that are not of the overlays stay closed (chain {}, \
         docs/firewall.md)",
        family.pick("IPv4", "IPv6"),
        filter::OTHERS
    )
}

/// Returns the reason for which forwarding of a family is not turned on.
pub(super) fn unfiltered(family: Family) -> String {
    format!(
        "other packets would be forwarded, too, because {} did not write the chain {} that drops them; the other \
         errors of this host say why (docs/firewall.md)",
        family.pick("iptables", "ip6tables"),
        filter::OTHERS
    )
}

fn report(faults: Vec<Fault>, failures: &mut Failures<'_>) {
    for Fault { scope, problem } in faults {
        failures.add(scope, problem);
    }
}
