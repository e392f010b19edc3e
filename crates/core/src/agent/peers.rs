//! The other agents, according to the lists of the master.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::announced::{AnnouncedPeer, Names};
use super::assignment::quote;
use super::peer_faults::PeerFaults;
use super::ranges::Ranges;
use crate::host_api::desired::{Peer, PeerMap};
use crate::proto::internal as proto;
use crate::proto::internal::{PeersVersion, UpdatePeersMessage};
use crate::protocol::limits::MAX_AGENTS;
use crate::util::family::Family;

/// The known peers and the version of the list that they are from.
#[derive(Debug, Default)]
pub(super) struct Peers {
    version: PeersVersion,
    /// Peers with well-formed values. `None`: no list was received yet, which is not the same
    /// as an empty one.
    known: Option<BTreeMap<Ipv4Addr, AnnouncedPeer>>,
    /// Names of the overlays of `known`.
    names: Names,
    /// Ranges that the peers' values must lie in. `None`: no overlays were assigned yet, and the
    /// peers are checked when they are.
    ranges: Option<Ranges>,
    /// Peers that this host can reach. Updated along with `known`, because deriving them from
    /// thousands of peers after each change would cost more than the change. Shared with desired
    /// states that were handed out, and copied before a change.
    reachable: Arc<PeerMap>,
    /// Peers with wrong values. None of these is reachable.
    faults: PeerFaults,
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

    /// Returns the peers with well-formed values, as the master announced them; `None`: no list was
    /// received yet.
    pub fn announced(&self) -> Option<impl ExactSizeIterator<Item = proto::Peer> + '_> {
        let known = self.known.as_ref()?.iter();
        Some(known.map(|(ip, peer)| peer.to_message(*ip)))
    }

    /// Returns the peers with wrong values.
    pub fn faults(&self) -> &PeerFaults {
        &self.faults
    }

    /// Returns why a message has too many peers, if it has.
    pub fn check_size(&self, message: &UpdatePeersMessage) -> Result<(), String> {
        let known = match message.base {
            Some(_) => self.known.as_ref().map_or(0, BTreeMap::len),
            None => 0,
        };
        let count = known + message.peers.len();
        match count <= MAX_AGENTS {
            true => Ok(()),
            false => Err(format!("{count} peers are more than {MAX_AGENTS}")),
        }
    }

    /// Sets the ranges that the peers' values must lie in, and checks all peers if the ranges
    /// changed. Returns whether there are other faults than before.
    pub fn set_ranges(&mut self, ranges: Ranges) -> bool {
        if self.ranges.as_ref() == Some(&ranges) {
            return false;
        }
        let before = self.faults.clone();
        self.ranges = Some(ranges);
        self.reachable = Arc::default();
        let known = self.known.take();
        for (ip, peer) in known.iter().flatten() {
            self.check(*ip, peer);
        }
        self.known = known;
        self.faults != before
    }

    /// Makes a peer reachable, unless its values are wrong or it is this host.
    fn check(&mut self, ip: Ipv4Addr, announced: &AnnouncedPeer) {
        let address = ip.to_string();
        self.faults.remove(&address);
        let Some(ranges) = &self.ranges else { return };
        if ranges.own() == ip || !ranges.has(Family::V4) {
            return;
        }
        match ranges.check_peer(ip, announced) {
            Ok(()) => {
                let peer = restrict(announced, ranges);
                if self.reachable.get(&ip) != Some(&peer) {
                    Arc::make_mut(&mut self.reachable).insert(ip, peer);
                }
            }
            Err(fault) => {
                let sentence = || format!("peer {ip}: {fault}");
                self.faults.insert(&address, sentence);
                self.remove_reachable(ip);
            }
        }
    }

    fn remove_reachable(&mut self, ip: Ipv4Addr) {
        if self.reachable.contains_key(&ip) {
            Arc::make_mut(&mut self.reachable).remove(&ip);
        }
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
        if message.base.is_none() {
            self.names.forget_unused();
        }
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
        let known = self.known.iter().flat_map(BTreeMap::keys);
        let others: Vec<Ipv4Addr> = known.filter(|ip| !kept.contains(ip)).copied().collect();
        others
            .into_iter()
            .fold(false, |changed, ip| self.remove(ip) | changed)
    }

    fn remove(&mut self, ip: Ipv4Addr) -> bool {
        self.remove_reachable(ip);
        self.known
            .as_mut()
            .is_some_and(|known| known.remove(&ip).is_some())
    }

    /// Adds or changes one peer. One with wrong values is not reachable, because its previous
    /// values are out of date.
    fn put(&mut self, peer: proto::Peer) -> bool {
        self.faults.remove(&peer.ip);
        let Ok(ip) = peer.ip.parse::<Ipv4Addr>() else {
            let text = quote(&peer.ip);
            let sentence = || format!("peer {text}: its address is not an IPv4 address");
            self.faults.insert(&peer.ip, sentence);
            return false;
        };
        match AnnouncedPeer::parse(&peer, &mut self.names) {
            Ok(peer) => {
                self.check(ip, &peer);
                let known = self.known.get_or_insert_default();
                let before = known.insert(ip, peer);
                before.as_ref() != known.get(&ip)
            }
            Err(fault) => {
                let sentence = || format!("peer {ip}: {fault}");
                self.faults.insert(&peer.ip, sentence);
                self.remove(ip)
            }
        }
    }

    /// Returns the peers as this host can reach them: without the host itself, with IPv6 only if
    /// both have it, and with the subnets that [`Ranges::uses`]. `None`: no list was received yet.
    pub fn desired(&self) -> Option<Arc<PeerMap>> {
        self.known.as_ref().map(|_| self.reachable.clone())
    }
}

/// Returns a peer with the addresses and subnets that this host can use.
fn restrict(announced: &AnnouncedPeer, ranges: &Ranges) -> Arc<Peer> {
    let shared = &announced.peer;
    let has_ipv6 = ranges.has(Family::V6) && shared.vtep_ips.iter().any(IpAddr::is_ipv6);
    let is_usable = |family: Family| family == Family::V4 || has_ipv6;
    let vtep_ips = shared.vtep_ips.iter().copied();
    let subnets = announced
        .subnets()
        .filter(|(net, overlay)| is_usable((*net).into()) && ranges.uses(*net, overlay));
    let peer = Peer {
        vtep_ips: vtep_ips.filter(|ip| is_usable((*ip).into())).collect(),
        vtep_mac: shared.vtep_mac,
        subnets: subnets.map(|(net, _)| net).collect(),
    };
    // Most peers are usable as they are, and share their memory.
    match peer == **shared {
        true => shared.clone(),
        false => Arc::new(peer),
    }
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
