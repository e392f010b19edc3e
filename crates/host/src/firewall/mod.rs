//! The host's firewall: masquerading of the containers' traffic to the outside,
//! and a way between our bridges where others would drop it.
//!
//! Masquerading is written with iptables and ipset where both are installed
//! (`firewall: "auto"`), as it is on every host that the predecessor ran on, and
//! with nftables elsewhere. The way between the bridges is always written where it
//! is barred: in the rules of iptables, which is what Docker writes its isolation
//! with. (An `accept` in a table of nftables overrules no `drop` in another.)
//!
//! [`plan`] compares what is [`wanted`] with what there is; what is not wanted
//! any more, or was written with the other of the two before, is removed by the
//! same comparison.
//!
//! The look at what there is needs the tools, some milliseconds each. So the
//! kernel is asked first whether anything changed since the last pass that found
//! nothing to do ([`Glance`]). Nothing else is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Desired, Firewall as Choice};

use crate::failures::Failures;
use crate::reconcile::Scope;
use kernel::Netfilter;
use plan::{Nat, Observed, Plan, Set};
use tools::Tools;
use wanted::{Family, Wanted};

mod command;
mod filter;
mod kernel;
mod nat;
mod nftables;
mod plan;
mod ruleset;
mod sets;
#[cfg(test)]
mod tests;
mod tools;
mod wanted;

/// Attempts of one pass: somebody else may write to the firewall at the same time.
const ATTEMPTS: usize = 2;

/// How long a glance is enough, and what is known of the tools is taken for true.
const LIFETIME: Duration = Duration::from_secs(60);

/// Makes the firewall what it should be.
#[derive(Default)]
pub(super) struct Firewall {
    /// The tools, and when they were looked for.
    tools: Option<(Arc<Tools>, Instant)>,
    /// The last glance after which nothing had to be done, and when it was.
    settled: Option<(Glance, Instant)>,
    /// What the last pass could not do.
    hopeless: Vec<plan::Op>,
}

/// What can be seen of the firewall without tools. If it is the same as before,
/// so is what can be seen with them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glance {
    /// What was wanted then.
    wanted: Wanted,
    choice: Choice,
    /// The kernel's count of changes of nf_tables.
    generation: u32,
    sets: BTreeMap<String, Set>,
    uplinks: BTreeSet<String>,
}

impl Firewall {
    /// Makes the firewall like `desired`, as far as it can be made so; gives the
    /// number of operations.
    pub(super) fn run(&mut self, desired: &Desired, failures: &mut Failures<'_>) -> usize {
        if desired.firewall == Choice::None {
            return 0;
        }
        let wanted = Wanted::of(desired);
        let mut operations = 0;
        for attempt in 1.. {
            let glance = glance(&wanted, desired.firewall);
            if self.is_settled(glance.as_ref()) {
                break;
            }
            let start = Instant::now();
            let tools = self.tools(start);
            let mut pass = Pass {
                wanted: &wanted,
                choice: desired.firewall,
                tools: &tools,
                faults: Vec::new(),
            };
            let plan = pass.plan();
            pass.carry_out(&plan);
            let Pass { faults, .. } = pass;
            if !plan.ops.is_empty() {
                let (count, time) = (plan.ops.len(), start.elapsed());
                log::info!(
                    "configured the firewall: {count} operations in {time:.0?}, {} failed",
                    faults.len()
                );
            }
            operations += plan.ops.len();
            let is_right = faults.is_empty() && plan.ops.is_empty();
            self.settle(glance.filter(|_| is_right), start, &tools);
            self.hopeless = if faults.is_empty() {
                Vec::new()
            } else {
                plan.ops
            };
            if faults.is_empty() || attempt == ATTEMPTS {
                faults
                    .into_iter()
                    .for_each(|(concern, sentence)| failures.add(concern, sentence));
                break;
            }
        }
        operations
    }

    /// What a pass would do, one line for each operation.
    pub(super) fn preview(
        &mut self,
        desired: &Desired,
        failures: &mut Failures<'_>,
    ) -> Vec<String> {
        let (wanted, tools) = (Wanted::of(desired), self.tools(Instant::now()));
        let mut pass = Pass {
            wanted: &wanted,
            choice: desired.firewall,
            tools: &tools,
            faults: Vec::new(),
        };
        let plan = pass.plan();
        pass.faults
            .into_iter()
            .for_each(|(concern, sentence)| failures.add(concern, sentence));
        plan.ops.iter().map(plan::Op::to_string).collect()
    }

    /// Whether there is something to do that the last pass did not try. Nothing is
    /// changed.
    pub(super) fn look(&mut self, desired: &Desired) -> bool {
        if desired.firewall == Choice::None {
            return false;
        }
        let wanted = Wanted::of(desired);
        let glance = glance(&wanted, desired.firewall);
        if self.is_settled(glance.as_ref()) {
            return false;
        }
        let start = Instant::now();
        let tools = self.tools(start);
        let mut pass = Pass {
            wanted: &wanted,
            choice: desired.firewall,
            tools: &tools,
            faults: Vec::new(),
        };
        let plan = pass.plan();
        let is_right = pass.faults.is_empty() && plan.ops.is_empty();
        self.settle(glance.filter(|_| is_right), start, &tools);
        plan.ops.iter().any(|op| !self.hopeless.contains(op))
    }

    /// What was glanced at before nothing was found to do, if it is all there is to
    /// see: changes of the older iptables cannot be seen without it.
    fn settle(&mut self, glance: Option<Glance>, since: Instant, tools: &Tools) {
        let is_visible = |glance: &Glance| !tools.is_legacy || glance.wanted == Wanted::default();
        self.settled = glance.filter(is_visible).map(|glance| (glance, since));
    }

    fn is_settled(&self, now: Option<&Glance>) -> bool {
        let settled = self.settled.as_ref();
        settled.is_some_and(|(glance, since)| Some(glance) == now && since.elapsed() < LIFETIME)
    }

    /// The tools, looked for anew now and then.
    fn tools(&mut self, now: Instant) -> Arc<Tools> {
        let fresh = |(_, since): &(Arc<Tools>, Instant)| now.duration_since(*since) < LIFETIME;
        let known = self.tools.take().filter(fresh);
        self.tools
            .insert(known.unwrap_or_else(|| (Arc::new(Tools::find()), now)))
            .0
            .clone()
    }
}

/// `None`: a glance is not enough on this host.
fn glance(wanted: &Wanted, choice: Choice) -> Option<Glance> {
    let netfilter = Netfilter::open().ok()?;
    Some(Glance {
        wanted: wanted.clone(),
        choice,
        generation: netfilter.generation()?,
        sets: kernel::sets(&netfilter, sets::names()).ok()?,
        uplinks: kernel::uplinks().ok()?,
    })
}

/// One attempt with the tools.
struct Pass<'a> {
    wanted: &'a Wanted,
    choice: Choice,
    tools: &'a Tools,
    /// What went wrong, and whom it concerns.
    faults: Vec<(Scope<'static>, String)>,
}

impl Pass<'_> {
    /// Reads what there is, as far as it can be read, and plans.
    fn plan(&mut self) -> Plan {
        let nat = match self.tools.choose(self.choice) {
            Ok(nat) => nat,
            // What is left of us in iptables can be removed without the rest.
            Err(_) if self.wanted.ranges.is_empty() => Nat::Iptables,
            Err(sentence) => {
                self.fault(Scope::Overlays, sentence);
                return Plan::default();
            }
        };
        let before = self.faults.len();
        let observed = self.observe(nat);
        if self.faults.len() > before {
            // What is not known cannot be compared.
            return Plan::default();
        }
        let plan = plan::plan(self.wanted, nat, &observed);
        for (family, problem) in &plan.problems {
            self.fault(plan::of_family(*family), problem.clone());
        }
        plan
    }

    fn observe(&mut self, nat: Nat) -> Observed {
        let mut observed = Observed::default();
        for family in Family::BOTH {
            match self.tools.rules(family) {
                Some(Ok(rules)) => _ = observed.rules.insert(family, rules),
                Some(Err(error)) if self.wanted.concerns(family) => {
                    self.fault(
                        plan::of_family(family),
                        format!("cannot read the rules: {error}"),
                    );
                }
                Some(Err(error)) => log::debug!("cannot read rules that nobody needs: {error}"),
                None if nat == Nat::Iptables && self.wanted.concerns(family) => {
                    let sentence = format!(
                        "{} is not installed; install it",
                        family.pick("iptables", "ip6tables")
                    );
                    self.fault(plan::of_family(family), sentence);
                }
                None => {}
            }
        }
        match self.tools.table() {
            Ok(table) => observed.table = table,
            Err(error) if nat == Nat::Nftables => {
                self.fault(Scope::Overlays, format!("cannot read nftables: {error}"));
            }
            Err(error) => log::debug!("cannot read nftables, which nobody needs: {error}"),
        }
        if self.tools.has_ipset() {
            match Netfilter::open().and_then(|netfilter| kernel::sets(&netfilter, sets::names())) {
                Ok(sets) => observed.sets = sets,
                Err(error) => {
                    self.fault(Scope::Overlays, format!("cannot read the ipsets: {error}"))
                }
            }
        }
        observed.uplinks = kernel::uplinks().unwrap_or_default();
        observed
    }

    /// Carries out the operations in order. What fails does not stop the others.
    fn carry_out(&mut self, plan: &Plan) {
        for ops in plan.ops.chunk_by(tools::together) {
            ops.iter().for_each(|op| log::debug!("{op}"));
            if let (Err(reason), Some(first)) = (self.tools.carry_out(ops), ops.first()) {
                let more = match ops.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more, which go together)"),
                };
                self.faults
                    .push((first.scope(), format!("cannot {first}{more}: {reason}")));
            }
        }
    }

    /// Something went wrong before there was an operation.
    fn fault(&mut self, concern: Scope<'static>, sentence: String) {
        self.faults.push((
            concern,
            format!("cannot configure the firewall: {sentence}"),
        ));
    }
}
