//! Parser of the output of `iptables-save`.

use std::collections::BTreeMap;

/// Rules of one address family, by table and chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset(BTreeMap<String, BTreeMap<String, Chain>>);

/// A chain of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Fate of packets that no rule decides on: `ACCEPT` or `DROP`; `-` in chains that
    /// are not built in.
    pub policy: String,
    /// Rules in order, as iptables prints them behind `-A <chain>`.
    pub rules: Vec<String>,
}

impl Ruleset {
    /// Parses the output of `iptables-save`. Lines that are no statements (comments,
    /// warnings) are skipped.
    pub(super) fn parse(text: &str) -> Ruleset {
        let mut ruleset = Ruleset::default();
        let mut table: Option<&mut BTreeMap<String, Chain>> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Some(ruleset.0.entry(name.to_owned()).or_default());
            } else if let (Some(declaration), Some(table)) = (line.strip_prefix(':'), &mut table) {
                let mut words = declaration.split(' ');
                if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                    table.entry(name.to_owned()).or_default().policy = policy.to_owned();
                }
            } else if let (Some(rule), Some(table)) = (line.strip_prefix("-A "), &mut table) {
                let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
                table
                    .entry(chain.to_owned())
                    .or_default()
                    .rules
                    .push(rule.to_owned());
            }
        }
        ruleset
    }

    /// Inserts a rule into a chain.
    pub(super) fn insert(&mut self, table: &str, chain: &str, index: usize, rule: &str) {
        let table = self.0.entry(table.to_owned()).or_default();
        let rules = &mut table.entry(chain.to_owned()).or_default().rules;
        rules.insert(index.min(rules.len()), rule.to_owned());
    }

    /// Removes all rules of a chain that read so.
    pub(super) fn remove(&mut self, table: &str, chain: &str, rule: &str) {
        let table = self.0.get_mut(table);
        if let Some(chain) = table.and_then(|table| table.get_mut(chain)) {
            chain.rules.retain(|found| found != rule);
        }
    }

    /// Returns a chain.
    pub(super) fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.0.get(table)?.get(chain)
    }

    /// Returns the rules of a chain; none if the chain does not exist.
    pub(super) fn rules(&self, table: &str, chain: &str) -> &[String] {
        self.chain(table, chain).map_or(&[], |chain| &chain.rules)
    }

    /// Returns all chains of a table.
    pub(super) fn chains(&self, table: &str) -> impl Iterator<Item = (&String, &Chain)> {
        self.0.get(table).into_iter().flatten()
    }
}
