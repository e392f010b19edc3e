//! The other agents, according to the lists of the master.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::assignment::quote;
use crate::host_api::desired::{Mac, Peer, PeerMap, Vtep};
use crate::proto::internal as proto;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};
use crate::util::family::Family;

/// The known peers and the version of the list that they are from.
#[derive(Debug, Default)]
pub(super) struct Peers {
    version: PeersVersion,
    /// `None`: no list was received yet, which is not the same as an empty one.
    known: Option<PeerMap>,
    /// Peers that this host can reach. Updated along with `known`, because deriving them from
    /// thousands of peers after each change would cost more than the change.
    reachable: Reachable,
    /// Sentences about peers with invalid data, by the address in the list.
    faults: BTreeMap<String, String>,
}

/// Peers as one host can reach them.
#[derive(Debug, Default)]
struct Reachable {
    /// `None`: not derived yet.
    host: Option<Host>,
    /// Shared with desired states that were handed out, and copied before a change.
    peers: Arc<PeerMap>,
}

/// Properties of the own host that decide which peers it can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host {
    /// The host's own underlay address.
    ip: Ipv4Addr,
    reach: Reach,
}

/// Address families in which hosts exchange packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Ipv4Only,
    DualStack,
}

impl Reach {
    fn of(vtep: &Vtep) -> Reach {
        match Family::V6.find(&vtep.addresses) {
            Some(_) => Reach::DualStack,
            None => Reach::Ipv4Only,
        }
    }
}

impl Reachable {
    fn set(&mut self, ip: Ipv4Addr, peer: &Arc<Peer>) {
        let Some(host) = self.host.filter(|host| host.ip != ip) else {
            return;
        };
        let peer = restrict(peer, host.reach);
        if self.peers.get(&ip) != Some(&peer) {
            Arc::make_mut(&mut self.peers).insert(ip, peer);
        }
    }

    fn remove(&mut self, ip: Ipv4Addr) {
        if self.peers.contains_key(&ip) {
            Arc::make_mut(&mut self.peers).remove(&ip);
        }
    }
}

impl Peers {
    /// Returns the version of the last list.
    pub fn version(&self) -> PeersVersion {
        self.version
    }

    /// Returns the number of peers, without `own`, which the master may list among them;
    /// `None`: no list was received yet.
    pub fn count(&self, own: Ipv4Addr) -> Option<usize> {
        let known = self.known.as_ref()?;
        Some(known.len() - usize::from(known.get(&own).is_some()))
    }

    /// Returns a sentence about each peer with invalid data.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.faults.values()
    }

    /// Applies a snapshot or delta of the master and returns whether something changed.
    ///
    /// Messages that do not build on the own version are ignored. The answer to the master
    /// contains the own version, and makes it send what is missing.
    pub fn update(&mut self, message: UpdatePeersMessage) -> bool {
        if !self.can_apply(&message) {
            return false;
        }
        let faults = self.faults.clone();
        let mut changed = self.known.is_none();
        if message.base.is_none() {
            self.faults.clear();
            changed |= self.remove_all_but(&message.peers);
        }
        for ip in &message.removed {
            self.faults.remove(ip);
            changed |= ip.parse().is_ok_and(|ip| self.remove(ip));
        }
        for peer in message.peers {
            changed |= self.put(peer);
        }
        self.known.get_or_insert_default();
        self.version = message.version;
        // New faults have to be reported, even if no peer changed.
        changed || self.faults != faults
    }

    /// Returns whether the message builds on the present list.
    fn can_apply(&self, message: &UpdatePeersMessage) -> bool {
        let (to, own) = (message.version, self.version);
        let same_epoch = to.epoch() == own.epoch();
        // A list of an earlier leader with the same contents as the base of this delta.
        let same_list = message.since.is_some_and(|since| {
            (since.epoch(), since.version()) == (own.epoch(), own.version()) && own.epoch() != 0
        });
        match message.base {
            Some(base) => {
                let in_reach = same_epoch && (base..=to.version()).contains(&own.version());
                (in_reach || same_list) && self.known.is_some()
            }
            // An older snapshot was overtaken on its way.
            None => !same_epoch || to.version() >= own.version(),
        }
    }

    /// Removes all peers but `kept`, and returns whether there were others.
    fn remove_all_but(&mut self, kept: &[proto::Peer]) -> bool {
        let kept: BTreeSet<Ipv4Addr> = kept
            .iter()
            .filter_map(|peer| peer.ip.parse().ok())
            .collect();
        let known = self.known.iter().flat_map(PeerMap::keys);
        let others: Vec<Ipv4Addr> = known.filter(|ip| !kept.contains(ip)).copied().collect();
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

    /// Adds or changes one peer. One with invalid data is removed, because its previous data
    /// are out of date.
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
        match parse(&peer) {
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

    /// Returns the peers as a host with this VTEP can reach them: without the host itself, and
    /// with IPv6 only if both have it. `None`: no list was received yet.
    pub fn desired(&mut self, own: Ipv4Addr, vtep: Option<&Vtep>) -> Option<Arc<PeerMap>> {
        let known = self.known.as_ref()?;
        let Some(vtep) = vtep else {
            return Some(Arc::default());
        };
        let host = Some(Host {
            ip: own,
            reach: Reach::of(vtep),
        });
        if self.reachable.host != host {
            self.reachable = Reachable {
                host,
                peers: Arc::default(),
            };
            for (ip, peer) in known {
                self.reachable.set(*ip, peer);
            }
        }
        Some(self.reachable.peers.clone())
    }
}

/// Returns a peer with the addresses and subnets that a host of this reach can use.
fn restrict(shared: &Arc<Peer>, reach: Reach) -> Arc<Peer> {
    if reach == Reach::DualStack && shared.vtep_ips.iter().any(IpAddr::is_ipv6) {
        return shared.clone();
    }
    let mut peer = Peer::clone(shared);
    peer.vtep_ips.retain(IpAddr::is_ipv4);
    peer.subnets.retain(|net| Family::V4.includes(*net));
    if peer == **shared {
        shared.clone()
    } else {
        Arc::new(peer)
    }
}

/// Parses one peer.
///
/// # Errors
/// A sentence about the first invalid value.
fn parse(peer: &proto::Peer) -> Result<Arc<Peer>, String> {
    let invalid = |field: &str, text: &str| format!("the master sent {field} {}", quote(text));
    let mut vtep_ips = Vec::new();
    let ip = peer
        .vtep_ip
        .parse::<Ipv4Addr>()
        .map_err(|_| invalid("vtep_ip", &peer.vtep_ip))?;
    vtep_ips.push(IpAddr::V4(ip));
    if let Some(text) = &peer.vtep_ip6 {
        let ip = text
            .parse::<Ipv6Addr>()
            .map_err(|_| invalid("vtep_ip6", text))?;
        vtep_ips.push(IpAddr::V6(ip));
    }
    let mac = peer
        .vtep_mac
        .parse::<Mac>()
        .ok()
        .filter(|mac| mac.0[0] & 1 == 0);
    let vtep_mac = mac.ok_or_else(|| invalid("vtep_mac", &peer.vtep_mac))?;
    let mut subnets = Vec::new();
    for subnets_of_overlay in &peer.subnets {
        if let Some(text) = &subnets_of_overlay.subnet {
            let net = text
                .parse::<Ipv4Net>()
                .map_err(|_| invalid("subnet", text))?;
            subnets.push(IpNet::V4(net));
        }
        if let Some(text) = &subnets_of_overlay.subnet6 {
            let net = text
                .parse::<Ipv6Net>()
                .map_err(|_| invalid("subnet6", text))?;
            subnets.push(IpNet::V6(net));
        }
    }
    // A default route, or a prefix with host bits, is a mistake.
    if let Some(net) = subnets
        .iter()
        .find(|net| net.prefix_len() == 0 || net.trunc() != **net)
    {
        return Err(invalid("subnet", &net.to_string()));
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
    fn a_delta_applies_to_the_same_list_of_an_earlier_leader() {
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
            "no list to apply it to"
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
        assert_eq!(
            peers.count("10.0.0.2".parse().unwrap()),
            Some(0),
            "without itself"
        );
    }
}
