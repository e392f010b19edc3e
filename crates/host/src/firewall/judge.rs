//! What the host's firewall does with a particular packet, for the operators' program.

use std::collections::BTreeMap;
use std::net::IpAddr;

use overlay_core::util::family::Family;

use super::fate::{self, Fate, Judged, Packet, Particular, judge_iptables};
use super::filter::{FORWARD, TABLE};
use super::netfilter::{self, Netfilter};
use super::op::{IpSet, Membership, Others, RAW};
use super::others::INPUT;
use super::ruleset::Ruleset;
use super::tools::Tools;
use super::{nat, nftables, sets};

const PREROUTING: &str = "PREROUTING";

/// Protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6 with IPv6.
    Icmp,
}

impl Protocol {
    /// Returns the name in rules.
    fn name(self, family: Family) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => family.pick("icmp", "ipv6-icmp"),
        }
    }
}

/// Packet that starts a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Device on which it arrives.
    pub from: String,
    /// Device by which it leaves; `None`: it is for this host.
    pub to: Option<String>,
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Destination port; `None`: the protocol has none, or any.
    pub port: Option<u16>,
}

/// What the firewall does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It passes.
    Passes,
    /// It may pass: rules have conditions that the addresses, devices and port do not decide.
    Depends,
    /// It is dropped or rejected. Has firewall and rule, as a phrase.
    Dropped(String),
    /// The rules cannot be read. Has the reason.
    Unknown(String),
}

/// Rules of the host's firewalls.
#[derive(Debug)]
pub struct Rules {
    /// Rules of iptables and ip6tables, or the reason why they cannot be read. A family without the
    /// tool is absent.
    rules: BTreeMap<Family, Result<Ruleset, String>>,
    others: Others,
    table: Result<Option<nftables::Table>, String>,
    sets: Result<BTreeMap<String, IpSet>, String>,
}

impl Rules {
    /// Reads the rules. Needs root.
    pub fn read() -> Rules {
        let tools = Tools::find();
        let rules = Family::BOTH
            .into_iter()
            .filter_map(|family| Some((family, tools.rules(family)?)));
        let sets =
            Netfilter::open().and_then(|netfilter| netfilter::sets(&netfilter, sets::names()));
        Rules {
            rules: rules.collect(),
            others: tools.others(),
            table: tools.table(),
            sets: sets.map_err(|error| error.to_string()),
        }
    }

    /// Returns what the firewalls do with a packet that arrives.
    pub fn judge(&self, flow: &Flow) -> Judgement {
        let family = Family::from(flow.destination);
        let particular = Particular {
            source: flow.source,
            destination: flow.destination,
            protocol: flow.protocol.name(family),
            port: flow.port,
        };
        let packet = Packet {
            from: &flow.from,
            to: flow.to.as_deref().unwrap_or_default(),
            udp_port: None,
            ranges: &[],
            devices: &[],
            particular: Some(&particular),
        };
        let judgements = [
            self.of_own_variant(family, &packet),
            self.of_other_variant(family, &packet),
            self.of_tables(family, flow.to.is_some(), &packet),
        ];
        let is_final = |judgement: &Judgement| {
            matches!(judgement, Judgement::Dropped(_) | Judgement::Unknown(_))
        };
        let first = judgements.iter().find(|judgement| is_final(judgement));
        match first {
            Some(judgement) => judgement.clone(),
            None if judgements.contains(&Judgement::Depends) => Judgement::Depends,
            None => Judgement::Passes,
        }
    }

    /// Returns what the variant of iptables that the overlays use does with a packet.
    fn of_own_variant(&self, family: Family, packet: &Packet<'_>) -> Judgement {
        let tool = family.pick("iptables", "ip6tables");
        match self.rules.get(&family) {
            None => Judgement::Passes,
            Some(Err(error)) => Judgement::Unknown(error.clone()),
            Some(Ok(rules)) => match of_iptables(rules, packet) {
                Judgement::Dropped(rule) => Judgement::Dropped(format!("{tool}: {rule}")),
                judgement => judgement,
            },
        }
    }

    /// Returns what the other variant of iptables does with a packet.
    fn of_other_variant(&self, family: Family, packet: &Packet<'_>) -> Judgement {
        let Some(rules) = self.others.rules.get(&family) else {
            return Judgement::Passes;
        };
        let tool = family.pick("iptables", "ip6tables");
        let variant = match self.others.is_legacy {
            true => "legacy",
            false => "nft",
        };
        match of_iptables(rules, packet) {
            Judgement::Dropped(rule) => Judgement::Dropped(format!("{tool}-{variant}: {rule}")),
            judgement => judgement,
        }
    }

    /// Returns what tables of nftables of others do with a packet.
    fn of_tables(&self, family: Family, is_forwarded: bool, packet: &Packet<'_>) -> Judgement {
        let hook = match is_forwarded {
            true => "forward",
            false => "input",
        };
        let families = [family.pick("ip", "ip6"), "inet"];
        let mut tables = self.others.tables.iter();
        let dropped = tables.find_map(|table| {
            let (chain, reason) = table.dropping_chain(hook, packet)?;
            families.contains(&table.family.as_str()).then(|| {
                format!(
                    "nftables table {} {}, chain {chain}: {reason}",
                    table.family, table.name
                )
            })
        });
        dropped.map_or(Judgement::Passes, Judgement::Dropped)
    }

    /// Returns whether a packet to somewhere else gets the source address of the host by the rules
    /// of the overlays. The error says why that cannot be told.
    ///
    /// # Errors
    /// The rules cannot be read.
    pub fn masquerades(&self, source: IpAddr, destination: IpAddr) -> Result<bool, String> {
        let family = Family::from(source);
        let table = self.table.as_ref();
        let in_nftables = table.is_ok_and(|table| {
            table
                .as_ref()
                .is_some_and(|table| table.masquerades(source, destination))
        });
        if in_nftables {
            return Ok(true);
        }
        let Some(rules) = self.rules.get(&family) else {
            return table.map(|_| false).map_err(Clone::clone);
        };
        let rules = rules.as_ref().map_err(Clone::clone)?;
        let mut ranges = nat::own_rules(family, rules).filter_map(|rule| nat::source(rule, family));
        let sets = self.sets.as_ref().map_err(Clone::clone)?;
        let set = sets.get(super::desired::set_name(family));
        Ok(ranges.any(|range| range.contains(&source))
            && set.is_some_and(|set| is_member(set, destination)))
    }
}

/// Returns whether an address is in a set of prefixes: the longest one that covers it decides.
fn is_member(set: &IpSet, ip: IpAddr) -> bool {
    let covering = set
        .members
        .iter()
        .filter(|(prefix, _)| prefix.contains(&ip));
    let longest = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
    longest.is_some_and(|(_, membership)| *membership == Membership::Match)
}

/// Returns what the chains of iptables do with a packet.
fn of_iptables(rules: &Ruleset, packet: &Packet<'_>) -> Judgement {
    let chain = if packet.to.is_empty() { INPUT } else { FORWARD };
    let mut is_sure = true;
    for (table, chain) in [(RAW, PREROUTING), (TABLE, chain)] {
        let judged = |chain: &str| -> Vec<Judged> {
            let rules = rules.rules(table, chain).iter();
            rules.map(|rule| judge_iptables(rule, packet)).collect()
        };
        let policy = rules.chain(table, chain).map(|chain| chain.policy.as_str());
        match fate::of_chain(chain, &judged) {
            Fate::Accepted => {}
            Fate::Dropped {
                rule,
                is_sure: true,
            } => return Judgement::Dropped(format!("rule {rule}")),
            Fate::Passed { is_sure: true } if policy == Some("DROP") => {
                return Judgement::Dropped(format!("policy DROP of {chain}"));
            }
            Fate::Passed { is_sure: true } => {}
            Fate::Dropped { .. } | Fate::Passed { .. } => is_sure = false,
        }
    }
    match is_sure {
        true => Judgement::Passes,
        false => Judgement::Depends,
    }
}
