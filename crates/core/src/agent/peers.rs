//! The other agents, as the master tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::assignment::quote;
use crate::host_api::desired::{Mac, Peer, PeerMap, Vtep};
use crate::proto::internal as proto;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};

/// What is known of the other agents, and at which point of the master's history.
#[derive(Debug, Default)]
pub(super) struct Peers {
    version: PeersVersion,
    /// `None`: nothing is known, which is not the same as knowing that there is
    /// nobody.
    known: Option<PeerMap>,
    /// Those that this host can reach, kept along with `known`: to go through
    /// thousands for each one that comes would cost more than the one.
    reachable: Reachable,
    /// Peers whose data make no sense, by the address they came under: why.
    faults: BTreeMap<String, String>,
}

/// The peers as a host of one kind can reach them.
#[derive(Debug, Default)]
struct Reachable {
    /// The host's own address, and whether its VTEP has IPv6. `None`: nobody asked
    /// yet.
    host: Option<(Ipv4Addr, bool)>,
    /// Shared with desired states that were handed out; copied before a change.
    peers: Arc<PeerMap>,
}

impl Reachable {
    fn set(&mut self, ip: Ipv4Addr, peer: &Arc<Peer>) {
        match self.host {
            Some((own, v6)) if own != ip => {
                let peer = reach(peer, v6);
                if self.peers.get(&ip) != Some(&peer) {
                    Arc::make_mut(&mut self.peers).insert(ip, peer);
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, ip: Ipv4Addr) {
        if self.peers.contains_key(&ip) {
            Arc::make_mut(&mut self.peers).remove(&ip);
        }
    }
}

impl Peers {
    /// Where this agent is in the history of peers.
    pub fn version(&self) -> PeersVersion {
        self.version
    }

    /// How many there are besides `own`, which the master may count among them; `None`:
    /// no master has said yet who they are.
    pub fn count(&self, own: Ipv4Addr) -> Option<usize> {
        let known = self.known.as_ref()?;
        Some(known.len() - usize::from(known.get(&own).is_some()))
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
        // Another lead's list that says the same as the one that this builds on.
        let same_list = message.since.is_some_and(|since| {
            (since.epoch(), since.version()) == (own.epoch(), own.version()) && own.epoch() != 0
        });
        let follows = match message.base {
            Some(base) => {
                let in_reach = same_epoch && (base..=to.version()).contains(&own.version());
                (in_reach || same_list) && self.known.is_some()
            }
            // A complete list of the past has been overtaken on its way.
            None => !same_epoch || to.version() >= own.version(),
        };
        if !follows {
            return false;
        }
        let complete = message.base.is_none();
        let faults = self.faults.clone();
        let mut changed = self.known.is_none();
        if complete {
            self.faults.clear();
            changed |= self.keep(&message.peers);
        }
        for ip in &message.removed {
            self.faults.remove(ip);
            changed |= ip.parse().is_ok_and(|ip| self.remove(ip));
        }
        for peer in message.peers {
            changed |= self.put(peer);
        }
        self.known.get_or_insert_default();
        self.version = to;
        // Who cannot be reached is to be told, even if nothing else is new.
        changed || self.faults != faults
    }

    /// Removes all peers but these.
    fn keep(&mut self, these: &[proto::Peer]) -> bool {
        let these: BTreeSet<Ipv4Addr> = these
            .iter()
            .filter_map(|peer| peer.ip.parse().ok())
            .collect();
        let known = self.known.iter().flat_map(PeerMap::keys);
        let others: Vec<Ipv4Addr> = known.filter(|ip| !these.contains(ip)).copied().collect();
        others
            .into_iter()
            .fold(false, |changed, ip| self.remove(ip) | changed)
    }

    fn remove(&mut self, ip: Ipv4Addr) -> bool {
        self.reachable.remove(ip);
        self.known
            .as_mut()
            .is_some_and(|known| known.remove(&ip).is_some())
    }

    /// Adds or changes one peer. One whose data make no sense is taken out: what was
    /// known of it does not hold any more.
    fn put(&mut self, peer: proto::Peer) -> bool {
        self.faults.remove(&peer.ip);
        let Ok(ip) = peer.ip.parse::<Ipv4Addr>() else {
            let fault = format!(
                "peer {}: its address is not an IPv4 address",
                quote(&peer.ip)
            );
            self.faults.insert(peer.ip, fault);
            return false;
        };
        match read(&peer) {
            Ok(peer) => {
                self.reachable.set(ip, &peer);
                let before = self.known.get_or_insert_default().insert(ip, peer.clone());
                before.is_none_or(|before| before != peer)
            }
            Err(fault) => {
                self.faults.insert(peer.ip, format!("peer {ip}: {fault}"));
                self.remove(ip)
            }
        }
    }

    /// The peers as a host with this VTEP can reach them: not the host itself, and
    /// IPv6 only between two hosts that both have it.
    pub fn desired(&mut self, own: Ipv4Addr, vtep: Option<&Vtep>) -> Option<Arc<PeerMap>> {
        let known = self.known.as_ref()?;
        let Some(vtep) = vtep else {
            return Some(Arc::default());
        };
        let host = Some((
            own,
            vtep.addresses
                .iter()
                .any(|address| address.addr().is_ipv6()),
        ));
        if self.reachable.host != host {
            self.reachable = Reachable {
                host,
                peers: Arc::default(),
            };
            known
                .iter()
                .for_each(|(ip, peer)| self.reachable.set(*ip, peer));
        }
        Some(self.reachable.peers.clone())
    }
}

/// A peer as a host can reach it whose VTEP has IPv6, or has not.
fn reach(shared: &Arc<Peer>, v6: bool) -> Arc<Peer> {
    if v6 && shared.vtep_ips.iter().any(IpAddr::is_ipv6) {
        return shared.clone();
    }
    let mut peer = Peer::clone(shared);
    peer.vtep_ips.retain(IpAddr::is_ipv4);
    peer.subnets.retain(|net| net.addr().is_ipv4());
    if peer == **shared {
        shared.clone()
    } else {
        Arc::new(peer)
    }
}

/// Reads one peer, or says what is wrong with it.
fn read(peer: &proto::Peer) -> Result<Arc<Peer>, String> {
    let wrong = |field: &str, text: &str| format!("the master sent {field} {}", quote(text));
    let mut vtep_ips = Vec::new();
    let ip = peer
        .vtep_ip
        .parse::<Ipv4Addr>()
        .map_err(|_| wrong("vtep_ip", &peer.vtep_ip))?;
    vtep_ips.push(IpAddr::V4(ip));
    if let Some(text) = &peer.vtep_ip6 {
        let ip = text
            .parse::<Ipv6Addr>()
            .map_err(|_| wrong("vtep_ip6", text))?;
        vtep_ips.push(IpAddr::V6(ip));
    }
    let mac = peer
        .vtep_mac
        .parse::<Mac>()
        .ok()
        .filter(|mac| mac.0[0] & 1 == 0);
    let vtep_mac = mac.ok_or_else(|| wrong("vtep_mac", &peer.vtep_mac))?;
    let mut subnets = Vec::new();
    for share in &peer.subnets {
        if let Some(text) = &share.subnet {
            let net = text.parse::<Ipv4Net>().map_err(|_| wrong("subnet", text))?;
            subnets.push(IpNet::V4(net));
        }
        if let Some(text) = &share.subnet6 {
            let net = text
                .parse::<Ipv6Net>()
                .map_err(|_| wrong("subnet6", text))?;
            subnets.push(IpNet::V6(net));
        }
    }
    // A route to everywhere, or to somewhere else than it says, is never meant.
    if let Some(net) = subnets
        .iter()
        .find(|net| net.prefix_len() == 0 || net.trunc() != **net)
    {
        return Err(wrong("subnet", &net.to_string()));
    }
    subnets.sort();
    subnets.dedup();
    Ok(Arc::new(Peer {
        vtep_ips,
        vtep_mac,
        subnets,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_list_of_another_lead_is_built_upon() {
        let version = |epoch, version| PeersVersion {
            epoch: Some(epoch),
            version: Some(version),
            digest: Some(5),
        };
        let mut peers = Peers::default();
        let delta = UpdatePeersMessage {
            version: version(8, 2),
            base: Some(1),
            since: Some(version(7, 30)),
            ..Default::default()
        };
        assert!(!peers.update(delta.clone()));
        assert_eq!(
            peers.version(),
            PeersVersion::default(),
            "there is nothing to build on"
        );
        let peer = proto::Peer {
            ip: "10.0.0.2".into(),
            vtep_ip: "44.128.0.2".into(),
            vtep_mac: "70:b3:d5:80:00:02".into(),
            ..Default::default()
        };
        let list = UpdatePeersMessage {
            version: version(7, 30),
            peers: vec![peer],
            ..Default::default()
        };
        assert!(peers.update(list));
        assert!(!peers.update(delta), "nothing changes");
        assert_eq!(
            (peers.version(), peers.count(Ipv4Addr::UNSPECIFIED)),
            (version(8, 2), Some(1))
        );
        assert_eq!(peers.count("10.0.0.2".parse().unwrap()), Some(0), "itself");
    }
}
