//! Types that the parts of the firewall's planner share: observed state, plan and
//! operations. Pure.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use overlay_core::util::family::Family;

use super::desired::set_name;
use super::nft_rules::NftTable;
use super::ruleset::Ruleset;
use super::{flows, nftables};
use crate::operation::{ObjectKind, Operation, Tense, Verb};
use crate::reconcile::Scope;

/// Table of iptables that packets pass first.
pub(super) const RAW: &str = "raw";

/// Kernel interface that the masquerading rules are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NatBackend {
    Iptables,
    Nftables,
}

/// Content of the host's firewall.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Observed {
    /// Rules of iptables and ip6tables. A family is missing if its tool is not
    /// installed or its rules cannot be read.
    pub rules: BTreeMap<Family, Ruleset>,
    /// Ipsets that have one of our names.
    pub sets: BTreeMap<String, IpSet>,
    /// Our nftables table.
    pub table: Option<nftables::Table>,
    /// Devices of the routes to the outside.
    pub uplinks: BTreeSet<String>,
    /// Device that has this agent's address; `None`: not known.
    pub underlay: Option<String>,
    /// Other firewalls.
    pub others: Others,
}

/// Content of the host's other firewalls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Others {
    /// Rules of the iptables variant that is not in use.
    pub rules: BTreeMap<Family, Ruleset>,
    /// Set if that variant is the legacy one.
    pub is_legacy: bool,
    /// Tables of nftables with a chain at the hooks `forward` or `input`.
    pub tables: Vec<NftTable>,
}

/// An ipset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct IpSet {
    /// Set type, such as `hash:net`.
    pub kind: String,
    /// Address family (`AF_INET`, `AF_INET6`).
    pub family: u8,
    pub members: Members,
}

/// Members of an ipset of the type `hash:net`.
pub(super) type Members = BTreeMap<IpNet, Membership>;

/// Effect of a member of an ipset. The longest prefix that covers an address decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Membership {
    /// Addresses of the prefix are in the set.
    Match,
    /// Addresses of the prefix are not in the set (`nomatch`).
    NoMatch,
}

impl Membership {
    /// Returns the option behind a member in the input of `ipset restore`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Membership::Match => "",
            Membership::NoMatch => " nomatch",
        }
    }
}

/// Difference between the desired and the observed firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Operations, in the order in which they are applied.
    pub ops: Vec<Op>,
    /// Obstacles to what the operations do, which the operator has to remove.
    pub problems: Vec<Problem>,
    /// Other firewalls that drop packets of the overlays, whatever the operations do.
    pub obstacles: Vec<Obstacle>,
    /// Families in which the operations add the chain that keeps the host closed.
    pub closes: BTreeSet<Family>,
    /// Change of masquerading that the operations make; `None`: they make none.
    pub nat: Option<flows::Change>,
}

/// Another firewall of the host that drops packets of the overlays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Firewall or table.
    pub object: String,
    /// Rule and remedy.
    pub sentence: String,
}

/// An obstacle to the masquerading of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub family: Family,
    pub sentence: String,
}

/// Change of the firewall. Prints as a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Create an ipset or replace its members, atomically.
    WriteSet {
        family: Family,
        members: Members,
        write: SetWrite,
    },
    /// Destroy an ipset.
    DestroySet(String),
    /// Give one line to `iptables-restore`.
    Rule {
        family: Family,
        table: &'static str,
        line: String,
    },
    /// Create or replace our nftables table, atomically.
    WriteTable(nftables::Table),
    /// Delete our nftables table.
    DeleteTable,
}

/// Way in which an ipset is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetWrite {
    /// No set of this name exists.
    Create,
    /// A complete new set is swapped with the one that exists.
    Replace,
}

impl Plan {
    /// Adds a line for `iptables-restore`.
    pub(super) fn push_rule(&mut self, family: Family, table: &'static str, line: String) {
        self.ops.push(Op::Rule {
            family,
            table,
            line,
        });
    }
}

impl Op {
    /// Returns what does not work if this operation fails.
    pub(super) fn scope(&self) -> Scope<'static> {
        match self {
            // Without these rules containers of one engine are cut off, and only of some releases.
            Op::Rule { table: RAW, .. } => Scope::Host,
            Op::WriteSet { family, .. } | Op::Rule { family, .. } => family_scope(*family),
            Op::WriteTable(_) => Scope::Overlays,
            Op::DestroySet(_) | Op::DeleteTable => Scope::Host,
        }
    }
}

/// Returns the overlays of one family.
pub(super) fn family_scope(family: Family) -> Scope<'static> {
    family.pick(Scope::Ipv4, Scope::Ipv6)
}

impl From<&Op> for Operation {
    fn from(op: &Op) -> Operation {
        match op {
            Op::WriteSet {
                family, members, ..
            } => {
                let members = members
                    .iter()
                    .map(|(net, membership)| format!(" {net}{}", membership.option()))
                    .collect::<String>();
                let name = set_name(*family);
                firewall(Verb::Write, format_args!("ipset {name}:{members}"))
            }
            Op::DestroySet(name) => firewall(Verb::Destroy, format_args!("ipset {name}")),
            Op::Rule {
                family,
                table,
                line,
            } => {
                let tool = family.pick("iptables", "ip6tables");
                let object = format_args!("rule: {tool} -t {table} {line}");
                firewall(Verb::Change, object)
            }
            Op::WriteTable(table) => firewall(Verb::Write, format_args!("nftables table {table}")),
            Op::DeleteTable => firewall(
                Verb::Delete,
                format_args!("nftables table {}", nftables::NAME),
            ),
        }
    }
}

/// Returns an operation on an object of the firewall.
fn firewall(verb: Verb, object: fmt::Arguments<'_>) -> Operation {
    Operation::new(verb, ObjectKind::Firewall, object)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Operation::from(self).describe(Tense::Infinitive))
    }
}
