//! From the log's contents back to memory, and what may stand against it: the
//! configuration must still be able to hold what the agents hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use litemap::LiteMap;
use prost::Message;

use super::networks::{Held as HeldByOverlay, Networks, differences};
use super::reclaimed::ReclaimedAllocations;
use super::record::{AgentRecord, EncodedAgent, describe, inactive_overlays};
use crate::Level;
use crate::allocation::allocator::{Allocation, AllocationRequest, Allocator, DualStackNet};
use crate::allocation::prefix::{ends, overlap};
use crate::config::{Network, Range};
use crate::proto;

/// What the log held, ready for use.
#[derive(Debug)]
pub struct Recovery {
    /// Every agent, its wire form made new from the configuration.
    pub records: BTreeMap<Ipv4Addr, AgentRecord>,
    /// Every agent as the log has it.
    pub stored: BTreeMap<Ipv4Addr, Arc<EncodedAgent>>,
    /// The agents of which the two differ.
    pub changed: BTreeSet<Ipv4Addr>,
    /// What is left to give out.
    pub allocator: Allocator,
    /// What is in force.
    pub networks: Networks,
    /// The log has another network: that of a leader with another file.
    pub other_network: bool,
    /// What agents held whose leases ended.
    pub former: ReclaimedAllocations,
    /// What the operator should know.
    pub notes: Vec<(Level, String)>,
}

/// Takes the log's contents over. The error says in one sentence how they and the
/// configuration contradict each other, and what to do.
pub fn recover(file: &Arc<Network>, state: proto::State) -> Result<Recovery, String> {
    let mut agents = BTreeMap::new();
    for info in state.agents {
        let agent = Agent::read(file, info)?;
        if let Some(twice) = agents.insert(agent.ip, agent) {
            return Err(damaged(&format!("agent {} stands in it twice", twice.ip)));
        }
    }
    let held: Vec<_> = agents.values().flat_map(Agent::held).collect();
    let by_overlay = by_overlay(agents.values());
    let (networks, mut notes) = Networks::from_log(file, state.networks, &by_overlay)
        .map_err(|what| contradiction(&what))?;
    held.iter()
        .try_for_each(|held| check_fits(&networks, &by_overlay, held))?;
    check_nothing_is_held_twice(held)?;
    notes.extend(orphan_notes(&networks, &by_overlay));
    let other = state
        .network
        .map(|before| differences(&before, &networks.network.wire))
        .unwrap_or_default();
    notes.extend((!other.is_empty()).then(|| other_network(&other)));

    let mut recovery = Recovery {
        records: BTreeMap::new(),
        stored: BTreeMap::new(),
        changed: BTreeSet::new(),
        allocator: Allocator::new(&networks.network),
        other_network: !other.is_empty(),
        former: former(file, state.former),
        networks,
        notes,
    };
    for agent in agents.into_values() {
        recovery.take_over(agent)?;
    }
    Ok(recovery)
}

/// What is damaged here is nobody's, and no loss.
fn former(file: &Network, agents: Vec<proto::AgentInfo>) -> ReclaimedAllocations {
    let mut former = ReclaimedAllocations::default();
    for agent in agents
        .into_iter()
        .filter_map(|info| Agent::read(file, info).ok())
    {
        former.add(
            agent.ip,
            agent.allocation,
            agent.info.encode_to_vec().into(),
        );
    }
    former
}

/// What agents hold of each overlay.
fn by_overlay<'a>(agents: impl Iterator<Item = &'a Agent>) -> HeldByOverlay {
    let mut held = HeldByOverlay::new();
    for agent in agents {
        for (name, nets) in &agent.allocation.overlays {
            held.entry(name.clone())
                .or_default()
                .push((agent.ip, *nets));
        }
    }
    held
}

fn other_network(differences: &[String]) -> (Level, String) {
    let line = format!(
        "The network is not what the last leader wrote: {}. If nobody changed the configuration, the masters \
         have different ones; give all of them the same.",
        differences.join("; ")
    );
    (Level::Warning, line)
}

impl Recovery {
    fn take_over(&mut self, agent: Agent) -> Result<(), String> {
        let Agent {
            ip,
            info,
            allocation,
        } = agent;
        let network = &self.networks.network;
        if allocation.overlays.is_empty() {
            // The predecessor stored agents without overlays. They hold nothing.
            return Ok(());
        }
        self.allocator
            .reserve(&allocation)
            .map_err(|net| damaged(&format!("{net} of agent {ip} is not free")))?;
        let enabled = |overlay: &&proto::AgentOverlayInfo| {
            network
                .overlays
                .iter()
                .any(|o| o.name == overlay.info.name && o.enabled)
        };
        let sent = info.overlays.iter().filter(enabled);
        // What it does not get at present says what it wanted at another time.
        let requested = if sent.clone().next().is_some() {
            guess_request(sent.clone())
        } else {
            guess_request(info.overlays.iter())
        };
        let inactive = inactive_overlays(network, &info.overlays);
        let description = describe(network, ip, &allocation, requested, &inactive);
        let stored = EncodedAgent::renew(None, &info, sent.clone());
        let is_same = info == description.stored && sent.eq(&description.sent);
        let encoded = if is_same {
            stored.clone()
        } else {
            EncodedAgent::renew(Some(&stored), &description.stored, description.sent.iter())
        };
        if !Arc::ptr_eq(&stored, &encoded) {
            self.changed.insert(ip);
        }
        self.stored.insert(ip, stored);
        self.records.insert(
            ip,
            AgentRecord {
                allocation,
                requested,
                inactive,
                encoded,
            },
        );
        Ok(())
    }
}

/// What the agent asked for when this was stored, as far as one can see. Its next
/// registration says it exactly.
fn guess_request<'a>(
    overlays: impl Iterator<Item = &'a proto::AgentOverlayInfo> + Clone,
) -> AllocationRequest {
    AllocationRequest {
        allocate_subnet: overlays
            .clone()
            .any(|overlay| overlay.subnet.is_some() || overlay.subnet6.is_some()),
        mesos_bridge: overlays
            .clone()
            .any(|overlay| overlay.mesos_bridge.is_some()),
        docker_bridge: overlays
            .clone()
            .any(|overlay| overlay.docker_bridge.is_some()),
        enable_ipv6: true,
    }
}

/// A stored agent, read.
struct Agent {
    ip: Ipv4Addr,
    info: proto::AgentInfo,
    allocation: Allocation,
}

/// One address or subnet that an agent holds.
struct Held<'a> {
    agent: Ipv4Addr,
    /// `None`: its VTEP's address.
    overlay: Option<&'a str>,
    net: IpNet,
}

impl Agent {
    fn read(network: &Network, mut info: proto::AgentInfo) -> Result<Agent, String> {
        let ip: Ipv4Addr = info.ip.parse().map_err(|_| {
            damaged(&format!(
                "\"{}\", which should be an agent's IPv4 address, is none",
                info.ip
            ))
        })?;
        let overlays = LiteMap::with_capacity(info.overlays.len());
        let mut allocation = Allocation {
            overlays,
            ..Allocation::default()
        };
        for overlay in &mut info.overlays {
            // Never meant to be in the log.
            overlay.state = None;
            let name = overlay.info.name.clone();
            let nets = DualStackNet {
                v4: parse(ip, &name, overlay.subnet.as_deref(), IpAddr::is_ipv4)?,
                v6: parse(ip, &name, overlay.subnet6.as_deref(), IpAddr::is_ipv6)?,
            };
            if let Some(vxlan) = &overlay.backend.vxlan {
                let v4 = parse(ip, &name, Some(&vxlan.vtep_ip), IpAddr::is_ipv4)?;
                let v6 = parse(ip, &name, vxlan.vtep_ip6.as_deref(), IpAddr::is_ipv6)?;
                merge_vtep(ip, &mut allocation.vtep.v4, v4)?;
                merge_vtep(ip, &mut allocation.vtep.v6, v6)?;
            }
            if allocation.overlays.insert(name.clone(), nets).is_some() {
                return Err(damaged(&format!(
                    "overlay {name} stands twice at agent {ip}"
                )));
            }
        }
        let with_prefix_of = |net: Option<IpNet>, range: Option<IpNet>| match (net, range) {
            (Some(net), Some(range)) => IpNet::new(net.addr(), range.prefix_len()).ok(),
            _ => net,
        };
        let vtep = &mut allocation.vtep;
        vtep.v4 = with_prefix_of(vtep.v4, Some(network.vtep_subnet.into()));
        vtep.v6 = with_prefix_of(vtep.v6, network.vtep_subnet6.map(Into::into));
        Ok(Agent {
            ip,
            info,
            allocation,
        })
    }

    fn held(&self) -> Vec<Held<'_>> {
        let held = |overlay, net| Held {
            agent: self.ip,
            overlay,
            net,
        };
        let mut all: Vec<_> = self
            .allocation
            .vtep
            .iter()
            .flatten()
            .map(|net| held(None, net.addr().into()))
            .collect();
        for (name, nets) in &self.allocation.overlays {
            all.extend(
                nets.iter()
                    .flatten()
                    .map(|net| held(Some(name.as_str()), *net)),
            );
        }
        all
    }
}

/// Reads a network of the log, or an address (then with a full prefix).
fn parse(
    agent: Ipv4Addr,
    overlay: &str,
    text: Option<&str>,
    family: impl Fn(&IpAddr) -> bool,
) -> Result<Option<IpNet>, String> {
    let Some(text) = text else { return Ok(None) };
    let net = text
        .parse()
        .or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    match net {
        Ok(net) if family(&IpNet::addr(&net)) => Ok(Some(net)),
        _ => Err(damaged(&format!(
            "\"{text}\" of overlay {overlay} at agent {agent} is no such network"
        ))),
    }
}

/// All overlays of an agent share one VTEP.
fn merge_vtep(
    agent: Ipv4Addr,
    known: &mut Option<IpNet>,
    found: Option<IpNet>,
) -> Result<(), String> {
    match (*known, found) {
        (Some(known), Some(found)) if known.addr() != found.addr() => Err(damaged(&format!(
            "agent {agent} has two VTEPs, {} and {}",
            known.addr(),
            found.addr()
        ))),
        _ => {
            *known = known.or(found);
            Ok(())
        }
    }
}

/// Whether the configuration can still give out what an agent holds.
fn check_fits(
    networks: &Networks,
    by_overlay: &HeldByOverlay,
    held: &Held<'_>,
) -> Result<(), String> {
    let network = &networks.network;
    let Held {
        agent,
        overlay,
        net,
    } = held;
    match (overlay, configured_range(network, held)) {
        (None, Some(range)) => {
            let (first, last) = ends(range.net);
            let (number, _) = ends(*net);
            if first < number && number < last {
                return Ok(());
            }
            let address = net.addr();
            Err(contradiction(&format!(
                "agent {agent} has the VTEP address {address}, which is not among those of the VTEP subnet \
                 {} (the first and the last one are not used): configure a VTEP subnet that holds it",
                range.net
            )))
        }
        (Some(_), Some(range)) if range.index_of(*net).is_some() => Ok(()),
        (Some(name), Some(range))
            if range.net.contains(net) && may_be_mixed(networks, by_overlay, name) =>
        {
            Ok(())
        }
        (Some(name), Some(range))
            if range.net.contains(net) && net.prefix_len() != range.prefix =>
        {
            Err(contradiction(&format!(
                "agent {agent} holds {net} of overlay {name}, whose subnets have the prefix length {} in the \
                 configuration: put {} back (while the master serves, PUT /overlay-master/overlays/{name} changes \
                 the length for agents to come), or give the changed overlay a new name and a range of its own",
                range.prefix,
                net.prefix_len()
            )))
        }
        (Some(name), Some(range)) => Err(contradiction(&format!(
            "agent {agent} holds {net} of overlay {name}, which lies outside its subnet {} in the \
             configuration: configure a subnet that holds it, or give the changed overlay a new name",
            range.net
        ))),
        (_, None) => check_orphan(network, held),
    }
}

/// The range in the configuration that the held thing must be from, if it has it.
fn configured_range(network: &Network, held: &Held<'_>) -> Option<Range> {
    let v4 = held.net.addr().is_ipv4();
    match held.overlay {
        None => {
            let v6 = network.vtep_subnet6.map(IpNet::from);
            let net = if v4 {
                Some(network.vtep_subnet.into())
            } else {
                v6
            }?;
            Some(Range {
                net,
                prefix: net.max_prefix_len(),
            })
        }
        Some(name) => {
            let overlay = network
                .overlays
                .iter()
                .find(|overlay| overlay.name == name)?;
            if v4 { overlay.v4 } else { overlay.v6 }
        }
    }
}

/// What the configuration does not have any more may stay with its agent, as long
/// as nobody else could be given the same.
fn check_orphan(network: &Network, held: &Held<'_>) -> Result<(), String> {
    let Held {
        agent,
        overlay,
        net,
    } = held;
    let overlays = network.overlays.iter().flat_map(|overlay| {
        let name = format!("overlay {}", overlay.name);
        [overlay.v4, overlay.v6]
            .into_iter()
            .flatten()
            .map(move |range| (name.clone(), range.net))
    });
    let vteps = [
        Some(network.vtep_subnet.into()),
        network.vtep_subnet6.map(IpNet::from),
    ];
    let vteps = vteps
        .into_iter()
        .flatten()
        .map(|net| ("the VTEPs".to_owned(), net));
    let Some((other, range)) = overlays
        .chain(vteps)
        .find(|(_, range)| overlap(*range, *net))
    else {
        return Ok(());
    };
    let (what, was) = match overlay {
        Some(name) => (
            format!("{net} of overlay {name}"),
            format!("overlay {name}"),
        ),
        None => (
            format!("the VTEP address {}", net.addr()),
            "the VTEPs' range".to_owned(),
        ),
    };
    Err(contradiction(&format!(
        "agent {agent} holds {what}, a range that the configuration does not have under this name, but \
         gives to {other} ({range}): put {was} back as it was, or give {other} another range"
    )))
}

fn check_nothing_is_held_twice(mut held: Vec<Held<'_>>) -> Result<(), String> {
    // Sorted by family and first address, networks that overlap follow each other.
    held.sort_by_key(|held| (held.net.addr().is_ipv6(), ends(held.net)));
    for pair in held.windows(2) {
        let [a, b] = pair else { continue };
        if overlap(a.net, b.net) {
            return Err(damaged(&format!(
                "agent {} holds {} and agent {} holds {}, which overlap",
                a.agent, a.net, b.agent, b.net
            )));
        }
    }
    Ok(())
}

/// What the operator should know of subnets of overlays that are not in force.
fn orphan_notes(networks: &Networks, held: &HeldByOverlay) -> Vec<(Level, String)> {
    let mut notes = Vec::new();
    for (name, held) in held
        .iter()
        .filter(|(name, _)| networks.overlay(name).is_none())
    {
        let count = held.len();
        notes.push(match networks.removed(name) {
            Some(_) => (
                Level::Info,
                format!("Overlay {name} was removed and is still draining; agents that have not let go: {count}"),
            ),
            None => (
                Level::Warning,
                format!(
                    "Overlay {name} is not in the configuration any more; {count} agents keep their subnets of it \
                     in the replicated log until they are deleted, or the overlay is with DELETE \
                     /overlay-master/overlays/{name}, and are not told of them"
                ),
            ),
        });
    }
    notes
}

/// Whether agents may hold subnets of different lengths: the overlay's prefix was
/// changed while the cluster ran (and an older master may have forgotten it since).
fn may_be_mixed(networks: &Networks, held: &HeldByOverlay, name: &str) -> bool {
    let lengths = |v4: bool| {
        let agents = held.get(name).into_iter().flatten();
        let nets = agents.filter_map(|(_, nets)| if v4 { nets.v4 } else { nets.v6 });
        nets.map(|net| net.prefix_len())
            .collect::<BTreeSet<u8>>()
            .len()
    };
    networks.stored(name).is_some() || lengths(true) > 1 || lengths(false) > 1
}

fn contradiction(what: &str) -> String {
    format!("The configuration contradicts the stored allocations: {what}.")
}

fn damaged(what: &str) -> String {
    format!(
        "The state in the replicated log is damaged: {what}. Put a good copy of overlay_replicated_log in \
         its place on all masters, or remove it on all of them (then every agent gets new addresses)."
    )
}

/// The sentence for a state that is no protobuf at all.
pub fn undecodable(error: &prost::DecodeError) -> String {
    damaged(&format!("it cannot be decoded ({error})"))
}
