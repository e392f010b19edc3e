//! Masquerading by nftables: one table for both families.
//!
//! ```text
//! table inet mesos_overlay {
//!     set overlay { type ipv4_addr; flags interval; elements = { <ranges> } }
//!     set overlay6 { type ipv6_addr; flags interval; elements = { <ranges> } }
//!     chain postrouting {
//!         type nat hook postrouting priority 100;
//!         ip saddr @overlay ip daddr != @overlay masquerade
//!         ip6 saddr @overlay6 ip6 daddr != @overlay6 masquerade
//!     }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_core::util::family::Family;
use serde_json::{Value, json};

use super::desired::{FirewallDesired, set_name};

/// Family of our table: both IPv4 and IPv6.
pub(super) const FAMILY: &str = "inet";
/// Name of our table.
pub(super) const TABLE: &str = "mesos_overlay";
/// Family and name of our table, as in nft's commands.
pub(super) const NAME: &str = "inet mesos_overlay";
const CHAIN: &str = "postrouting";

/// Content of our table, in nft's JSON terms, without the handles that the kernel assigns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    sets: BTreeMap<String, Set>,
    /// Type, hook, priority and policy of each chain.
    chains: BTreeMap<String, Value>,
    /// Rules in order.
    rules: Vec<Rule>,
    /// Number of objects of other kinds. The desired table has none.
    others: usize,
}

/// A set of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    /// Type of the elements: `ipv4_addr` or `ipv6_addr`.
    kind: String,
    elements: BTreeSet<IpNet>,
}

/// A rule, as nft's list of expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    chain: String,
    expressions: Value,
}

impl Table {
    /// Returns whether packets of a flow get the source address of the host.
    pub(super) fn masquerades(&self, source: IpAddr, destination: IpAddr) -> bool {
        let set = self.sets.get(set_name(Family::from(source)));
        let has = |ip: IpAddr| {
            let elements = set.into_iter().flat_map(|set| &set.elements);
            elements.clone().any(|prefix| prefix.contains(&ip))
        };
        !self.rules.is_empty() && has(source) && !has(destination)
    }

    /// Returns the desired table; `None` if there is nothing to masquerade.
    pub(super) fn from_desired(desired: &FirewallDesired) -> Option<Table> {
        let mut table = Table::default();
        for family in Family::BOTH
            .into_iter()
            .filter(|family| desired.has_ranges(*family))
        {
            let set = Set {
                kind: family.pick("ipv4_addr", "ipv6_addr").to_owned(),
                elements: desired.ranges(family).copied().collect(),
            };
            table.sets.insert(set_name(family).to_owned(), set);
            table.rules.push(Rule {
                chain: CHAIN.to_owned(),
                expressions: masquerade(family),
            });
        }
        let chain = json!({"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"});
        table.chains.insert(CHAIN.to_owned(), chain);
        (!table.rules.is_empty()).then_some(table)
    }

    /// Parses the output of `nft -j list table`; `None` if it has another form.
    pub(super) fn parse(text: &str) -> Option<Table> {
        let value: Value = serde_json::from_str(text).ok()?;
        let mut table = Table::default();
        for object in value.get("nftables")?.as_array()? {
            let (kind, object) = object.as_object()?.iter().next()?;
            table.read_object(kind, object)?;
        }
        Some(table)
    }

    fn read_object(&mut self, kind: &str, object: &Value) -> Option<()> {
        let text = |key: &str| {
            let value = object.get(key).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        match kind {
            "metainfo" | "table" => {}
            "set" => match elements(object) {
                Some(elements) => {
                    let kind = text("type");
                    self.sets.insert(text("name"), Set { kind, elements });
                }
                None => self.others += 1,
            },
            "chain" => {
                let keys = ["type", "hook", "prio", "policy"];
                let chain =
                    keys.map(|key| (key.to_owned(), object.get(key).cloned().unwrap_or_default()));
                let chain = Value::Object(chain.into_iter().collect());
                self.chains.insert(text("name"), chain);
            }
            "rule" => self.rules.push(Rule {
                chain: text("chain"),
                expressions: object.get("expr")?.clone(),
            }),
            _ => self.others += 1,
        }
        Some(())
    }

    /// Returns the ranges of the overlays: the elements of all sets.
    pub(super) fn elements(&self) -> BTreeSet<IpNet> {
        let elements = self.sets.values().flat_map(|set| &set.elements);
        elements.copied().collect()
    }

    /// Returns the nft commands that create this table or replace the existing one. nft
    /// runs them in one transaction.
    pub(super) fn script(&self) -> String {
        // "delete" fails without a table, "add" does not fail with one.
        let mut script = format!("add table {NAME}\ndelete table {NAME}\ntable {NAME} {{\n");
        for (name, Set { kind, elements }) in &self.sets {
            let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
            script += &format!(
                "set {name} {{ type {kind}; flags interval; elements = {{ {} }}; }}\n",
                elements.join(", ")
            );
        }
        script +=
            &format!("chain {CHAIN} {{ type nat hook postrouting priority 100; policy accept;\n");
        for family in Family::BOTH
            .into_iter()
            .filter(|family| self.sets.contains_key(set_name(*family)))
        {
            let (ip, set) = (family.pick("ip", "ip6"), set_name(family));
            script += &format!("{ip} saddr @{set} {ip} daddr != @{set} masquerade\n");
        }
        script + "}\n}\n"
    }
}

/// Returns the expressions of the masquerading rule of one family.
fn masquerade(family: Family) -> Value {
    let (ip, set) = (family.pick("ip", "ip6"), format!("@{}", set_name(family)));
    let matches = |op: &str, field: &str| json!({"match": {"op": op, "left": {"payload": {"protocol": ip, "field": field}}, "right": set}});
    json!([matches("==", "saddr"), matches("!=", "daddr"), {"masquerade": null}])
}

/// Returns the elements of a set of prefixes; `None` if it is a set of another kind.
fn elements(set: &Value) -> Option<BTreeSet<IpNet>> {
    // nft writes a single flag with or without brackets.
    let flags = set.get("flags")?;
    if *flags != json!(["interval"]) && *flags != json!("interval") {
        return None;
    }
    let Some(elements) = set.get("elem") else {
        return Some(BTreeSet::new());
    };
    elements.as_array()?.iter().map(element).collect()
}

fn element(element: &Value) -> Option<IpNet> {
    if let Some(address) = element.as_str() {
        return address.parse::<IpAddr>().ok().map(IpNet::from);
    }
    let prefix = element.get("prefix")?;
    let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
    IpNet::new(prefix.get("addr")?.as_str()?.parse().ok()?, length).ok()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}:")?;
        let elements = self.sets.values().flat_map(|set| &set.elements);
        elements
            .into_iter()
            .try_for_each(|element| write!(f, " {element}"))
    }
}
