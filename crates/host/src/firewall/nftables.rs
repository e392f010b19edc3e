//! Masquerading by nftables: one table of ours for both families.
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
use serde_json::{Value, json};

use super::wanted::{Family, Wanted, set_name};

/// The family of our table: IPv4 and IPv6 in one.
pub(super) const FAMILY: &str = "inet";
/// The name of our table.
pub(super) const TABLE: &str = "mesos_overlay";
/// Both, as nft's commands have them.
pub(super) const NAME: &str = "inet mesos_overlay";
const CHAIN: &str = "postrouting";

/// What our table holds, in nft's own terms (JSON), without what the kernel
/// numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The sets with their types.
    sets: BTreeMap<String, (String, BTreeSet<IpNet>)>,
    /// The chains: type, hook, priority and policy.
    chains: BTreeMap<String, Value>,
    /// The rules in order, with their chains.
    rules: Vec<(String, Value)>,
    /// What there is besides, which ours has not.
    others: usize,
}

impl Table {
    /// The wanted table; `None` if there is nothing to masquerade.
    pub(super) fn of(wanted: &Wanted) -> Option<Table> {
        let mut table = Table::default();
        for family in Family::BOTH
            .into_iter()
            .filter(|family| wanted.concerns(*family))
        {
            let kind = family.pick("ipv4_addr", "ipv6_addr").to_owned();
            table.sets.insert(
                set_name(family).to_owned(),
                (kind, wanted.ranges(family).copied().collect()),
            );
            table.rules.push((CHAIN.to_owned(), rule(family)));
        }
        let chain = json!({"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"});
        table.chains.insert(CHAIN.to_owned(), chain);
        (!table.rules.is_empty()).then_some(table)
    }

    /// Reads what `nft -j list table` prints; `None` if that has another form.
    pub(super) fn parse(text: &str) -> Option<Table> {
        let value: Value = serde_json::from_str(text).ok()?;
        let mut table = Table::default();
        for object in value.get("nftables")?.as_array()? {
            let (kind, object) = object.as_object()?.iter().next()?;
            let word = |key: &str| {
                object
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            match kind.as_str() {
                "metainfo" | "table" => {}
                "set" => match elements(object) {
                    Some(elements) => _ = table.sets.insert(word("name"), (word("type"), elements)),
                    None => table.others += 1,
                },
                "chain" => {
                    let keys = ["type", "hook", "prio", "policy"];
                    let chain = keys
                        .map(|key| (key.to_owned(), object.get(key).cloned().unwrap_or_default()));
                    table
                        .chains
                        .insert(word("name"), Value::Object(chain.into_iter().collect()));
                }
                "rule" => table
                    .rules
                    .push((word("chain"), object.get("expr")?.clone())),
                _ => table.others += 1,
            }
        }
        Some(table)
    }

    /// The commands that put this table into the place of the one that there may
    /// be; nft makes one transaction of them.
    pub(super) fn script(&self) -> String {
        // "add" makes sure that "delete" has something to delete.
        let mut script = format!("add table {NAME}\ndelete table {NAME}\ntable {NAME} {{\n");
        for (name, (kind, elements)) in &self.sets {
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

/// The rule of one family.
fn rule(family: Family) -> Value {
    let (ip, set) = (family.pick("ip", "ip6"), format!("@{}", set_name(family)));
    let matches = |op: &str, field: &str| json!({"match": {"op": op, "left": {"payload": {"protocol": ip, "field": field}}, "right": set}});
    json!([matches("==", "saddr"), matches("!=", "daddr"), {"masquerade": null}])
}

/// The elements of a set of prefixes; `None` if it is none.
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
        let elements = self.sets.values().flat_map(|(_, elements)| elements);
        elements
            .into_iter()
            .try_for_each(|element| write!(f, " {element}"))
    }
}
