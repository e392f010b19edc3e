//! The difference between what the firewall should hold and what it holds. Pure.
//!
//! The order: what is new is there before what it takes the place of goes (sets
//! before the rules that use them, and the other way round at the end), so that
//! no packet of a container leaves with the wrong address meanwhile.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use super::ruleset::Ruleset;
use super::wanted::{Family, Wanted, set_name};
use super::{filter, nat, nftables, sets};
use crate::reconcile::Scope;

/// Where masquerading is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    Iptables,
    Nftables,
}

/// What the host's firewall holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The rules of iptables and ip6tables; nothing where they are not installed
    /// or cannot be read.
    pub rules: BTreeMap<Family, Ruleset>,
    /// The ipsets with names of ours.
    pub sets: BTreeMap<String, Set>,
    /// Our table in nftables.
    pub table: Option<nftables::Table>,
    /// The devices on the way to the outside.
    pub uplinks: BTreeSet<String>,
}

/// An ipset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Set {
    /// Its type, such as `hash:net`.
    pub kind: String,
    /// Its family (`AF_INET`, `AF_INET6`).
    pub family: u8,
    /// Its members; `true`: an exception (`nomatch`).
    pub members: BTreeMap<IpNet, bool>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// What cannot be made right, one sentence each.
    pub problems: Vec<(Family, String)>,
}

/// One change of the firewall. Prints as a line that an operator understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Make an ipset, or give it other members, at one go.
    WriteSet {
        family: Family,
        members: BTreeMap<IpNet, bool>,
        exists: bool,
    },
    /// Destroy an ipset.
    DestroySet(String),
    /// One line for `iptables-restore`.
    Rule {
        family: Family,
        table: &'static str,
        line: String,
    },
    /// Write our table, or write it anew, at one go.
    WriteTable(nftables::Table),
    /// Delete our table.
    DeleteTable,
}

/// What it takes to make `observed` like `wanted`.
pub(super) fn plan(wanted: &Wanted, backend: Nat, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let nothing = Wanted::default();
    let (in_iptables, in_nftables) = match backend {
        Nat::Iptables => (wanted, &nothing),
        Nat::Nftables => (&nothing, wanted),
    };
    let table = nftables::Table::of(in_nftables);
    let has_wrong_table = observed.table != table;
    if let Some(table) = table.as_ref().filter(|_| has_wrong_table) {
        plan.ops.push(Op::WriteTable(table.clone()));
    }
    for family in Family::BOTH {
        sets::write(in_iptables, family, observed, &mut plan);
        if let Some(rules) = observed.rules.get(&family) {
            // A rule with a set that is not ours would do harm.
            if !plan.problems.iter().any(|(of, _)| *of == family) {
                nat::plan(in_iptables, family, rules, &mut plan);
            }
            filter::plan(wanted, family, rules, &observed.uplinks, &mut plan);
        }
        sets::destroy(in_iptables, family, observed, &mut plan);
    }
    if table.is_none() && has_wrong_table {
        plan.ops.push(Op::DeleteTable);
    }
    plan
}

impl Plan {
    /// Adds a line for `iptables-restore`.
    pub(super) fn rule(&mut self, family: Family, table: &'static str, line: String) {
        self.ops.push(Op::Rule {
            family,
            table,
            line,
        });
    }
}

impl Op {
    /// Whom it concerns when this fails.
    pub(super) fn scope(&self) -> Scope<'static> {
        match self {
            Op::WriteSet { family, .. } | Op::Rule { family, .. } => of_family(*family),
            Op::WriteTable(_) => Scope::Overlays,
            Op::DestroySet(_) | Op::DeleteTable => Scope::Host,
        }
    }
}

/// The overlays of one family.
pub(super) fn of_family(family: Family) -> Scope<'static> {
    family.pick(Scope::Ipv4, Scope::Ipv6)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::WriteSet {
                family, members, ..
            } => {
                write!(f, "write ipset {}:", set_name(*family))?;
                members.iter().try_for_each(|(net, nomatch)| {
                    write!(f, " {net}{}", if *nomatch { " nomatch" } else { "" })
                })
            }
            Op::DestroySet(name) => write!(f, "destroy ipset {name}"),
            Op::Rule {
                family,
                table,
                line,
            } => {
                write!(
                    f,
                    "change a rule: {} -t {table} {line}",
                    family.pick("iptables", "ip6tables")
                )
            }
            Op::WriteTable(table) => write!(f, "write nftables' table {table}"),
            Op::DeleteTable => write!(f, "delete nftables' table {}", nftables::NAME),
        }
    }
}
