//! The other agents, as the master tells them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::desired::quote;
use crate::host::desired::{Mac, Peer, PeerMap, Vtep};
use crate::wire::internal::{self as wire, PeersVersion, UpdatePeersMessage};

/// What is known of the other agents, and at which point of the master's history.
#[derive(Debug, Default)]
pub(super) struct Peers {
    version: PeersVersion,
    /// `None`: nothing is known, which is not the same as knowing that there is
    /// nobody.
    known: Option<PeerMap>,
    /// Peers whose data make no sense, by the address they came under: why.
    faults: BTreeMap<String, String>,
}

impl Peers {
    /// Where this agent is in the history of peers.
    pub fn version(&self) -> PeersVersion {
        self.version
    }

    /// How many peers can be reached.
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, BTreeMap::len)
    }

    /// One sentence for each peer that cannot be reached because of what the
    /// master said of it.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.faults.values()
    }

    /// Takes the master's message in. Gives whether something changed.
    ///
    /// What does not follow from the own position is left alone: the answer to the
    /// master carries that position, and makes it send what is missing.
    pub fn update(&mut self, message: UpdatePeersMessage) -> bool {
        let (to, own) = (message.version, self.version);
        let same_epoch = to.epoch() == own.epoch();
        let follows = match message.base {
            Some(base) => {
                same_epoch && (base..=to.version()).contains(&own.version()) && self.known.is_some()
            }
            // A complete list of the past has been overtaken on its way.
            None => !same_epoch || to.version() >= own.version(),
        };
        if !follows {
            return false;
        }
        let complete = message.base.is_none();
        let mut known = if complete { PeerMap::new() } else { self.known.take().unwrap_or_default() };
        let before = if complete { self.known.take() } else { None };
        let mut changed = complete && before.is_none();
        if complete {
            self.faults.clear();
        }
        for ip in &message.removed {
            self.faults.remove(ip);
            changed |= ip.parse().is_ok_and(|ip: Ipv4Addr| known.remove(&ip).is_some());
        }
        for peer in message.peers {
            changed |= self.put(&mut known, peer);
        }
        if let Some(before) = before {
            changed = before != known;
        }
        self.known = Some(known);
        self.version = to;
        changed
    }

    /// Adds or changes one peer in `known`. One whose data make no sense is taken
    /// out: what was known of it does not hold any more.
    fn put(&mut self, known: &mut PeerMap, peer: wire::Peer) -> bool {
        self.faults.remove(&peer.ip);
        let Ok(ip) = peer.ip.parse::<Ipv4Addr>() else {
            let fault = format!("peer {}: its address is not an IPv4 address", quote(&peer.ip));
            self.faults.insert(peer.ip, fault);
            return false;
        };
        match read(&peer) {
            Ok(peer) => known.insert(ip, peer.clone()).is_none_or(|before| before != peer),
            Err(fault) => {
                self.faults.insert(peer.ip, format!("peer {ip}: {fault}"));
                known.remove(&ip).is_some()
            }
        }
    }

    /// The peers as a host with this VTEP can reach them: not the host itself, and
    /// IPv6 only between two hosts that both have it.
    pub fn desired(&self, own: Ipv4Addr, vtep: Option<&Vtep>) -> Option<PeerMap> {
        let known = self.known.as_ref()?;
        let Some(vtep) = vtep else { return Some(PeerMap::new()) };
        let v6 = vtep.addresses.iter().any(|address| address.addr().is_ipv6());
        let reach = |shared: &Arc<Peer>| {
            if v6 && shared.vtep_ips.iter().any(IpAddr::is_ipv6) {
                return shared.clone();
            }
            let mut peer = Peer::clone(shared);
            peer.vtep_ips.retain(IpAddr::is_ipv4);
            peer.subnets.retain(|net| net.addr().is_ipv4());
            if peer == **shared { shared.clone() } else { Arc::new(peer) }
        };
        Some(known.iter().filter(|(ip, _)| **ip != own).map(|(ip, peer)| (*ip, reach(peer))).collect())
    }
}

/// Reads one peer, or says what is wrong with it.
fn read(peer: &wire::Peer) -> Result<Arc<Peer>, String> {
    let wrong = |field: &str, text: &str| format!("the master sent {field} {}", quote(text));
    let mut vtep_ips = Vec::new();
    let ip = peer.vtep_ip.parse::<Ipv4Addr>().map_err(|_| wrong("vtep_ip", &peer.vtep_ip))?;
    vtep_ips.push(IpAddr::V4(ip));
    if let Some(text) = &peer.vtep_ip6 {
        let ip = text.parse::<Ipv6Addr>().map_err(|_| wrong("vtep_ip6", text))?;
        vtep_ips.push(IpAddr::V6(ip));
    }
    let mac = peer.vtep_mac.parse::<Mac>().ok().filter(|mac| mac.0[0] & 1 == 0);
    let vtep_mac = mac.ok_or_else(|| wrong("vtep_mac", &peer.vtep_mac))?;
    let mut subnets = Vec::new();
    for share in &peer.subnets {
        if let Some(text) = &share.subnet {
            let net = text.parse::<Ipv4Net>().map_err(|_| wrong("subnet", text))?;
            subnets.push(IpNet::V4(net));
        }
        if let Some(text) = &share.subnet6 {
            let net = text.parse::<Ipv6Net>().map_err(|_| wrong("subnet6", text))?;
            subnets.push(IpNet::V6(net));
        }
    }
    // A route to everywhere, or to somewhere else than it says, is never meant.
    if let Some(net) = subnets.iter().find(|net| net.prefix_len() == 0 || net.trunc() != **net) {
        return Err(wrong("subnet", &net.to_string()));
    }
    subnets.sort();
    subnets.dedup();
    Ok(Arc::new(Peer { vtep_ips, vtep_mac, subnets }))
}
