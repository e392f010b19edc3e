//! Chains of this module in a table of iptables, and the jumps to them from other chains. Pure.
#![forbid(unsafe_code)]

use overlay_core::util::family::Family;

use super::op::Plan;
use super::ruleset::Ruleset;

/// A table of iptables in one address family, with its present rules.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub name: &'static str,
    pub family: Family,
    pub rules: &'a Ruleset,
}

/// Chain of this module with its desired rules.
pub(super) struct OwnChain {
    pub name: &'static str,
    pub rules: Vec<String>,
}

/// Position of a jump in a chain of others.
#[derive(Clone, Copy)]
pub(super) struct JumpPosition {
    pub chain: &'static str,
    pub place: Place,
}

/// Place of a jump among the rules of a chain.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In front of the rule with this index, next to it or earlier.
    Before(usize),
    /// Behind all other rules.
    Last,
}

/// Returns the rule that jumps to a chain of this module.
pub(super) fn jump(to: &str) -> String {
    format!("-m comment --comment mesos-overlay -j {to}")
}

impl Table<'_> {
    /// Returns the rules of a chain.
    pub(super) fn chain(&self, chain: &str) -> &[String] {
        self.rules.rules(self.name, chain)
    }

    fn push(&self, plan: &mut Plan, line: String) {
        plan.push_rule(self.family, self.name, line);
    }

    /// Rewrites the chains that differ. All chains are declared before the rules that jump to
    /// them.
    pub(super) fn write_chains(&self, chains: &[OwnChain], plan: &mut Plan) {
        let differs = |own: &&OwnChain| {
            self.rules
                .chain(self.name, own.name)
                .is_none_or(|found| found.rules != own.rules)
        };
        for own in chains.iter().filter(differs) {
            self.push(plan, format!(":{} - [0:0]", own.name));
        }
        for own in chains.iter().filter(differs) {
            for rule in &own.rules {
                self.push(plan, format!("-A {} {rule}", own.name));
            }
        }
    }

    /// Flushes and deletes those of the chains `all` that are not needed.
    pub(super) fn remove_stale_chains(&self, all: &[&str], needed: &[OwnChain], plan: &mut Plan) {
        let is_stale = |name: &&&str| {
            self.rules.chain(self.name, name).is_some()
                && !needed.iter().any(|own| own.name == **name)
        };
        let stale: Vec<&&str> = all.iter().filter(is_stale).collect();
        for verb in ["-F", "-X"] {
            for name in &stale {
                self.push(plan, format!("{verb} {name}"));
            }
        }
    }

    /// Makes sure that there is exactly one jump to a chain, at its position; without a position,
    /// none. Returns the rules after that, on which the positions of further jumps depend; `None`:
    /// they stay.
    pub(super) fn place_jump(
        &self,
        to: &str,
        position: Option<JumpPosition>,
        plan: &mut Plan,
    ) -> Option<Ruleset> {
        let jump = jump(to);
        let mut found = Vec::new();
        for (name, chain) in self.rules.chains(self.name) {
            let indexes = chain
                .rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| **rule == jump);
            found.extend(indexes.map(|(index, _)| (name.as_str(), index)));
        }
        if let ([(chain, index)], Some(position)) = (&found[..], position)
            && *chain == position.chain
            && self.is_at(*index, position)
        {
            return None;
        }
        if found.is_empty() && position.is_none() {
            return None;
        }
        let mut after = self.rules.clone();
        for (chain, _) in &found {
            self.push(plan, format!("-D {chain} {jump}"));
            after.remove(self.name, chain, &jump);
        }
        match position {
            None => {}
            Some(JumpPosition {
                chain,
                place: Place::Last,
            }) => {
                self.push(plan, format!("-A {chain} {jump}"));
                after.insert(self.name, chain, usize::MAX, &jump);
            }
            Some(JumpPosition {
                chain,
                place: Place::Before(before),
            }) => {
                // The jumps deleted above do not count any more, and iptables counts from 1.
                let deleted = found
                    .iter()
                    .filter(|(name, index)| *name == chain && *index < before)
                    .count();
                let number = before - deleted + 1;
                self.push(plan, format!("-I {chain} {number} {jump}"));
                after.insert(self.name, chain, number - 1, &jump);
            }
        }
        Some(after)
    }

    fn is_at(&self, index: usize, position: JumpPosition) -> bool {
        match position.place {
            Place::Before(before) => index < before,
            Place::Last => index + 1 == self.chain(position.chain).len(),
        }
    }
}
