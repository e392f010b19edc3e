//! Rules of nftables, as `nft -j` prints them, and what they do with a packet. Pure.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::Value;

use super::fate::{self, Action, End, Fate, Judged, Match, Packet, prefix};

/// A table of nftables with its chains and rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NftTable {
    /// Family: `ip`, `ip6` or `inet`.
    pub family: String,
    pub name: String,
    chains: BTreeMap<String, Chain>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Chain {
    /// Hook of a chain that the kernel calls.
    hook: Option<String>,
    /// Set if packets are dropped that no rule decides on.
    drops: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Rule {
    handle: u64,
    expressions: Vec<Value>,
}

/// Returns family and name of the tables that have a chain at the hooks `forward` or `input`, from
/// the output of `nft -j list chains`.
pub(super) fn tables_that_filter(text: &str) -> Vec<(String, String)> {
    let mut tables = Vec::new();
    for chain in objects(text, "chain") {
        let table = (string(&chain, "family"), string(&chain, "table"));
        let hook = chain.get("hook").and_then(Value::as_str);
        let is_filter = hook == Some("forward") || hook == Some("input");
        // The chain of an iptables that is built on nf_tables.
        let name = string(&chain, "name");
        let is_iptables = ["FORWARD", "INPUT"].contains(&name.as_str()) && table.0 != "inet";
        let is_ip = ["ip", "ip6", "inet"].contains(&table.0.as_str());
        if is_filter && is_ip && !is_iptables && !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables
}

impl NftTable {
    /// Parses the output of `nft -j list table`.
    pub(super) fn parse(family: &str, name: &str, text: &str) -> NftTable {
        let mut table = NftTable {
            family: family.to_owned(),
            name: name.to_owned(),
            chains: BTreeMap::new(),
        };
        for chain in objects(text, "chain") {
            let known = table.chains.entry(string(&chain, "name")).or_default();
            let hook = chain.get("hook").and_then(Value::as_str);
            known.hook = hook.map(str::to_owned);
            known.drops = string(&chain, "policy") == "drop";
        }
        for rule in objects(text, "rule") {
            let expressions = rule.get("expr").and_then(Value::as_array);
            let chain = table.chains.entry(string(&rule, "chain")).or_default();
            chain.rules.push(Rule {
                handle: rule.get("handle").and_then(Value::as_u64).unwrap_or(0),
                expressions: expressions.cloned().unwrap_or_default(),
            });
        }
        table
    }

    /// Returns the chain at a hook that certainly drops the packet, and the reason; `None`: there is
    /// no such chain.
    pub(super) fn dropping_chain(&self, hook: &str, packet: &Packet<'_>) -> Option<(&str, String)> {
        let rules = |chain: &str| -> Vec<Judged> {
            let chain = self.chains.get(chain);
            let rules = chain.into_iter().flat_map(|chain| &chain.rules);
            rules.map(|rule| judge(rule, packet)).collect()
        };
        let base = self
            .chains
            .iter()
            .filter(|(_, chain)| chain.hook.as_deref() == Some(hook));
        for (name, chain) in base {
            let reason = match fate::of_chain(name, &rules) {
                Fate::Dropped {
                    rule,
                    is_sure: true,
                } => format!("rule of chain {rule}"),
                Fate::Passed { is_sure: true } if chain.drops => "policy drop".to_owned(),
                _ => continue,
            };
            return Some((name, reason));
        }
        None
    }
}

/// Returns the objects of a kind in nft's output.
fn objects(text: &str, kind: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let objects = value.get("nftables").and_then(Value::as_array);
    let objects = objects.into_iter().flatten();
    objects
        .filter_map(|object| object.get(kind).cloned())
        .collect()
}

fn string(object: &Value, key: &str) -> String {
    let text = object.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// Returns what a rule does with a packet.
fn judge(rule: &Rule, packet: &Packet<'_>) -> Judged {
    let mut judged = Judged {
        applies: Match::Yes,
        action: Action::Continue,
        is_deliberate: false,
        text: String::new(),
    };
    let mut verdict = "";
    for expression in &rule.expressions {
        let Some((kind, value)) = expression
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        match kind.as_str() {
            "match" => {
                let (found, is_deliberate) = condition(value, packet);
                judged.applies = judged.applies.and(found);
                judged.is_deliberate |= is_deliberate;
            }
            "vmap" => {
                verdict = "verdict map";
                (judged.action, judged.is_deliberate) = verdict_map(value, packet);
            }
            // Expressions without an influence on the packet's way.
            "counter" | "log" | "mangle" | "notrack" | "meter" => {}
            other => match action(other, value) {
                Some(action) => {
                    verdict = other;
                    judged.action = action;
                }
                None => judged.applies = judged.applies.and(Match::Maybe),
            },
        }
    }
    // What becomes of a particular packet is asked whatever the intention is.
    judged.is_deliberate &= packet.particular.is_none();
    judged.text = format!("with handle {}: {verdict}", rule.handle);
    judged
}

fn action(kind: &str, value: &Value) -> Option<Action> {
    let target = || string(value, "target");
    Some(match kind {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "continue" => Action::Continue,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "queue" => Action::Unknown,
        _ => return None,
    })
}

/// Returns whether a condition applies, and whether it names a single device or address of the
/// overlays.
fn condition(condition: &Value, packet: &Packet<'_>) -> (Match, bool) {
    let (Some(left), Some(right)) = (condition.get("left"), condition.get("right")) else {
        return (Match::Maybe, false);
    };
    let is_negated = condition.get("op").and_then(Value::as_str) == Some("!=");
    let values = match right.get("set").unwrap_or(right) {
        Value::Array(values) => values.clone(),
        value => vec![value.clone()],
    };
    let judged = values.iter().map(|value| equals(left, value, packet));
    let judged: Vec<(Match, bool)> = judged.collect();
    let is_deliberate = judged.contains(&(Match::Yes, true));
    let found = fate::any(judged.into_iter().map(|(found, _)| found));
    (found.negated_if(is_negated), is_deliberate && !is_negated)
}

/// Returns whether a property of the packet has a value, and whether the value is that of a single
/// device or address of the overlays.
fn equals(property: &Value, value: &Value, packet: &Packet<'_>) -> (Match, bool) {
    let field = |kind: &str, key: &str| property.get(kind)?.get(key)?.as_str();
    let text = value.as_str();
    // The name of a set begins with @.
    if text.is_some_and(|text| text.starts_with('@')) {
        return (Match::Maybe, false);
    }
    let device = |actual: &str| match text {
        Some(named) => (
            packet.device(actual, named, '*'),
            packet.devices.contains(&named),
        ),
        None => (Match::Maybe, false),
    };
    match (field("meta", "key"), field("ct", "key")) {
        (Some("iifname" | "iif"), _) => device(packet.from),
        (Some("oifname" | "oif"), _) => device(packet.to),
        (Some("l4proto"), _) => (protocol(text, packet), false),
        (_, Some("state")) => ((text == Some("new")).into(), false),
        // A packet to a container's own address has no translated destination.
        (_, Some("status")) if text == Some("dnat") => (Match::No, false),
        _ => match (field("payload", "protocol"), field("payload", "field")) {
            (Some("ip" | "ip6"), Some("saddr" | "daddr")) => match net(value) {
                Some(net) => {
                    let end = match field("payload", "field") {
                        Some("saddr") => End::Source,
                        _ => End::Destination,
                    };
                    (packet.address(end, net), true)
                }
                None => (Match::Maybe, false),
            },
            (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => {
                (protocol(text, packet), false)
            }
            (Some("th"), Some("dport")) => (packet.port(ports(value)), false),
            (Some(name @ ("tcp" | "udp")), Some(field)) => {
                let port = match field {
                    "dport" => packet.port(ports(value)),
                    _ => Match::Maybe,
                };
                (protocol(Some(name), packet).and(port), false)
            }
            (Some(name @ ("icmp" | "icmpv6")), _) => {
                // The kernel's name of the second is ipv6-icmp.
                let is_of = [("icmp", "icmp"), ("icmpv6", "ipv6-icmp")];
                match is_of.contains(&(name, packet.protocol())) {
                    true => (Match::Maybe, false),
                    false => (Match::No, false),
                }
            }
            (Some("sctp" | "dccp"), _) => (Match::No, false),
            _ => (Match::Maybe, false),
        },
    }
}

fn protocol(name: Option<&str>, packet: &Packet<'_>) -> Match {
    name.map_or(Match::Maybe, |name| (name == packet.protocol()).into())
}

/// Returns a port or a range of ports.
fn ports(value: &Value) -> Option<(u16, u16)> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match value.get("range") {
        Some(range) => Some((port(range.get(0)?)?, port(range.get(1)?)?)),
        None => port(value).map(|port| (port, port)),
    }
}

/// Returns an address or prefix.
fn net(value: &Value) -> Option<IpNet> {
    if let Some(text) = value.as_str() {
        return prefix(text);
    }
    let net = value.get("prefix")?;
    prefix(&format!(
        "{}/{}",
        net.get("addr")?.as_str()?,
        net.get("len")?.as_u64()?
    ))
}

/// Returns the verdict that a map has for a packet, and whether it is for a single device of the
/// overlays.
fn verdict_map(map: &Value, packet: &Packet<'_>) -> (Action, bool) {
    let entries = map
        .get("data")
        .and_then(|data| data.get("set"))
        .and_then(Value::as_array);
    let (Some(key), Some(entries)) = (map.get("key"), entries) else {
        return (Action::Unknown, false);
    };
    for entry in entries {
        let (Some(value), Some(verdict)) = (entry.get(0), entry.get(1)) else {
            return (Action::Unknown, false);
        };
        match equals(key, value, packet) {
            (Match::No, _) => {}
            (Match::Maybe, _) => return (Action::Unknown, false),
            (Match::Yes, is_own) => {
                let verdict = verdict
                    .as_object()
                    .and_then(|verdict| verdict.iter().next());
                let action = verdict.and_then(|(kind, value)| action(kind, value));
                return (action.unwrap_or(Action::Unknown), is_own);
            }
        }
    }
    (Action::Continue, false)
}
