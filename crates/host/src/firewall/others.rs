//! Other firewalls of the host that drop packets of the overlays: the tables of the iptables variant
//! that is not in use, tables of nftables, and the rules for packets to the host itself, where the
//! tunnels end. `accept` in one of them does not override `drop` in another, so the operator has to
//! let the packets through there. Pure.
#![forbid(unsafe_code)]

use ipnet::IpNet;
use overlay_core::host_api::desired::VXLAN_PORT;
use overlay_core::util::family::Family;

use super::desired::FirewallDesired;
use super::fate::{self, Fate, Judged, Packet, judge_iptables};
use super::filter::{self, FORWARD, TABLE};
use super::nft_rules::NftTable;
use super::op::{Observed, Obstacle};
use super::ruleset::Ruleset;

pub(super) const INPUT: &str = "INPUT";

/// Chain that ufw has.
const UFW: &str = "ufw-before-input";
/// Name of firewalld's table.
const FIREWALLD: &str = "firewalld";

/// Way of packets through a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Between containers of the overlays.
    Forward,
    /// From the tunnels of other hosts to this host.
    Input,
}

impl Way {
    fn chain(self) -> &'static str {
        match self {
            Way::Forward => FORWARD,
            Way::Input => INPUT,
        }
    }

    fn hook(self) -> &'static str {
        match self {
            Way::Forward => "forward",
            Way::Input => "input",
        }
    }

    /// Returns the packets and the verb of the remedy, for a sentence.
    fn describe(self) -> (String, &'static str) {
        match self {
            Way::Forward => ("packets between the overlays".to_owned(), "through"),
            Way::Input => {
                let packets = format!("packets of other hosts' tunnels (UDP port {VXLAN_PORT})");
                (packets, "in")
            }
        }
    }
}

/// Returns what drops packets of the overlays.
pub(super) fn obstacles(desired: &FirewallDesired, observed: &Observed) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let devices: Vec<&str> = desired.devices.iter().map(String::as_str).collect();
    for family in Family::BOTH {
        let ranges: Vec<IpNet> = desired.ranges(family).copied().collect();
        let pairs = filter::between_devices(desired).into_iter();
        let packets: Vec<Packet<'_>> = pairs
            .map(|(from, to)| Packet {
                from,
                to,
                udp_port: None,
                ranges: &ranges,
                devices: &devices,
                particular: None,
            })
            .collect();
        if !ranges.is_empty() {
            let rules = observed.others.rules.get(&family);
            look(
                Way::Forward,
                family,
                &packets,
                rules,
                observed,
                &mut obstacles,
            );
        }
    }
    // The tunnels are built on IPv4.
    if let Some(underlay) = observed.underlay.as_deref().filter(|_| !devices.is_empty()) {
        let packet = Packet {
            from: underlay,
            to: "",
            udp_port: Some(VXLAN_PORT),
            ranges: &[],
            devices: &[],
            particular: None,
        };
        if let Some(rules) = observed.rules.get(&Family::V4)
            && let Some(rule) = dropped_by(Way::Input, rules, &packet)
        {
            obstacles.push(input_of_iptables("iptables", rules, &rule));
        }
        let rules = observed.others.rules.get(&Family::V4);
        look(
            Way::Input,
            Family::V4,
            &[packet],
            rules,
            observed,
            &mut obstacles,
        );
    }
    obstacles
}

/// Adds what drops any of these packets: rules of the other variant of iptables, or of nftables.
fn look(
    way: Way,
    family: Family,
    packets: &[Packet<'_>],
    rules: Option<&Ruleset>,
    observed: &Observed,
    obstacles: &mut Vec<Obstacle>,
) {
    let others = &observed.others;
    let dropped = rules.and_then(|rules| {
        let mut packets = packets.iter();
        packets.find_map(|packet| Some((rules, packet, dropped_by(way, rules, packet)?)))
    });
    if let Some((rules, packet, rule)) = dropped {
        let tool = family.pick("iptables", "ip6tables");
        obstacles.push(match way {
            Way::Forward => of_iptables(tool, others.is_legacy, packet, &rule),
            Way::Input => input_of_iptables(&other_variant(tool, others.is_legacy), rules, &rule),
        });
    }
    let has_family =
        |table: &&NftTable| table.family == "inet" || table.family == family.pick("ip", "ip6");
    for table in others.tables.iter().filter(has_family) {
        let mut packets = packets.iter();
        let found = packets.find_map(|packet| {
            let (chain, reason) = table.dropping_chain(way.hook(), packet)?;
            Some(of_nftables(way, table, chain, &reason, packet.devices))
        });
        // A table of both families is looked at twice.
        obstacles.extend(found.filter(|found| !obstacles.contains(found)));
    }
}

/// Returns what drops packets between the overlays in the iptables that is in use. Only for hosts on
/// which this module writes no rules: its own pass these.
pub(super) fn of_used_iptables(
    desired: &FirewallDesired,
    family: Family,
    rules: &Ruleset,
) -> Option<Obstacle> {
    let devices: Vec<&str> = desired.devices.iter().map(String::as_str).collect();
    let ranges: Vec<IpNet> = desired.ranges(family).copied().collect();
    let mut pairs = filter::between_devices(desired).into_iter();
    let rule = pairs.find_map(|(from, to)| {
        let packet = Packet {
            from,
            to,
            udp_port: None,
            ranges: &ranges,
            devices: &devices,
            particular: None,
        };
        dropped_by(Way::Forward, rules, &packet)
    });
    let rule = rule.filter(|_| !ranges.is_empty())?;
    let tool = family.pick("iptables", "ip6tables");
    Some(Obstacle {
        object: tool.to_owned(),
        sentence: format!(
            "packets between the overlays are dropped by {tool}: {rule}; let them through: {tool} -I \
             {FORWARD} -i <device> -o <device> -j ACCEPT for each two of {}, or let the agent write the \
             rules (\"firewall\" in agent.json)",
            devices.join(", ")
        ),
    })
}

/// Returns the rule that certainly drops a packet, or the policy that does.
fn dropped_by(way: Way, rules: &Ruleset, packet: &Packet<'_>) -> Option<String> {
    let judged = |chain: &str| -> Vec<Judged> {
        let rules = rules.rules(TABLE, chain).iter();
        rules.map(|rule| judge_iptables(rule, packet)).collect()
    };
    let chain = way.chain();
    match fate::of_chain(chain, &judged) {
        Fate::Dropped {
            rule,
            is_sure: true,
        } => Some(format!("rule {rule}")),
        Fate::Passed { is_sure: true } => {
            let drops = rules.chain(TABLE, chain)?.policy == "DROP";
            drops.then(|| format!("policy DROP of {chain}"))
        }
        _ => None,
    }
}

/// Returns the name of the tool of the variant that is not in use.
fn other_variant(tool: &str, is_legacy: bool) -> String {
    let variant = if is_legacy { "legacy" } else { "nft" };
    format!("{tool}-{variant}")
}

fn of_iptables(tool: &str, is_legacy: bool, packet: &Packet<'_>, rule: &str) -> Obstacle {
    let command = other_variant(tool, is_legacy);
    let used = if is_legacy { "nf_tables" } else { "legacy" };
    Obstacle {
        object: command.clone(),
        sentence: format!(
            "packets between the overlays are dropped by the tables of {command}, which {tool} \
             ({used}) does not show: {rule}; let them through there: {command} -I {FORWARD} -i {} \
             -o {} -j ACCEPT, and so on for each two of {}; or remove those rules",
            packet.from,
            packet.to,
            packet.devices.join(", ")
        ),
    }
}

fn input_of_iptables(command: &str, rules: &Ruleset, rule: &str) -> Obstacle {
    let (packets, _) = Way::Input.describe();
    let remedy = match rules.chain(TABLE, UFW).is_some() {
        true => format!("ufw allow {VXLAN_PORT}/udp"),
        false => format!(
            "{command} -I {INPUT} -p udp --dport {VXLAN_PORT} -j ACCEPT, and the same in the \
             configuration that the rules come from"
        ),
    };
    Obstacle {
        object: format!("{command} {INPUT}"),
        sentence: format!("{packets} are dropped by {command}: {rule}; let them in: {remedy}"),
    }
}

fn of_nftables(
    way: Way,
    table: &NftTable,
    chain: &str,
    reason: &str,
    devices: &[&str],
) -> Obstacle {
    let NftTable { family, name, .. } = table;
    let (packets, preposition) = way.describe();
    let remedy = match (name.as_str(), way) {
        (FIREWALLD, Way::Forward) => {
            let interfaces: Vec<String> = devices
                .iter()
                .map(|device| format!("--add-interface={device}"))
                .collect();
            format!(
                "firewall-cmd --permanent --zone=trusted {}; firewall-cmd --reload",
                interfaces.join(" ")
            )
        }
        (FIREWALLD, Way::Input) => {
            format!("firewall-cmd --permanent --add-port={VXLAN_PORT}/udp; firewall-cmd --reload")
        }
        (_, way) => {
            let condition = match way {
                Way::Forward => {
                    let devices = devices.iter().map(|device| format!("\"{device}\""));
                    let devices = devices.collect::<Vec<_>>().join(", ");
                    format!("iifname {{ {devices} }} oifname {{ {devices} }}")
                }
                Way::Input => format!("udp dport {VXLAN_PORT}"),
            };
            format!(
                "nft 'insert rule {family} {name} {chain} {condition} accept', and the same in the \
                 configuration that it comes from"
            )
        }
    };
    Obstacle {
        object: format!("nftables table {family} {name}, {}", way.hook()),
        sentence: format!(
            "{packets} are dropped by nftables table {family} {name}, chain {chain}: {reason}; let \
             them {preposition}: {remedy}"
        ),
    }
}
