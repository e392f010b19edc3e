//! What `iptables-save` prints, as values.

use std::collections::BTreeMap;

/// The rules of one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset(BTreeMap<String, BTreeMap<String, Chain>>);

/// A chain of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// What becomes of a packet that no rule decided on: `ACCEPT` or `DROP`; `-`
    /// in chains that are not the kernel's own.
    pub policy: String,
    /// The rules in order, as iptables writes them behind `-A <chain>`.
    pub rules: Vec<String>,
}

impl Ruleset {
    /// Reads the output of `iptables-save`. What is none of its statements (the
    /// comments, warnings of other tools) is skipped.
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

    /// A chain, if it is there.
    pub(super) fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.0.get(table)?.get(chain)
    }

    /// The rules of a chain; none if it is not there.
    pub(super) fn rules(&self, table: &str, chain: &str) -> &[String] {
        self.chain(table, chain).map_or(&[], |chain| &chain.rules)
    }

    /// All chains of a table.
    pub(super) fn chains(&self, table: &str) -> impl Iterator<Item = (&String, &Chain)> {
        self.0.get(table).into_iter().flatten()
    }
}
