//! What to probe: which peers, which addresses of theirs, from which addresses and with which sizes.
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlay_core::util::family::Family;

use super::echo::Request;
use crate::answers::Agent;
use crate::paths::model::Model;

/// Number of peers that are probed unless all are asked for.
pub const LIMIT: usize = 50;
/// Bytes that a tunnel adds to a packet: Ethernet, VXLAN, UDP and IPv4 headers.
const OVERHEAD: u32 = 50;
/// Bytes of data in a small packet, as other programs have it.
const SMALL: u32 = 56;

/// What the addresses of a column are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Agents' own addresses.
    Underlay,
    /// Ends of the tunnels.
    Vtep,
    /// Gateways of an overlay's containers.
    Overlay(String),
    /// Addresses of the command line.
    Address,
}

/// Column of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// What is probed.
    pub target: Target,
    /// Family of the addresses.
    pub family: Family,
}

/// Sizes of large packets with their IP headers, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Directly between hosts: what the tunnel makes of the largest packet.
    pub underlay: u32,
    /// Between the ends of the tunnels.
    pub vtep: u32,
    /// Between containers.
    pub overlay: u32,
}

impl Sizes {
    /// Returns the sizes for devices with these MTUs, or for a size of the command line.
    pub fn new(vtep_mtu: u32, overlay_mtu: u32, asked: Option<u32>) -> Sizes {
        Sizes {
            underlay: asked.unwrap_or(vtep_mtu).saturating_add(OVERHEAD),
            vtep: asked.unwrap_or(vtep_mtu),
            overlay: asked.unwrap_or(overlay_mtu.min(vtep_mtu)),
        }
    }

    /// Returns the size of a large packet to a target.
    pub fn large(&self, target: &Target) -> u32 {
        match target {
            Target::Underlay => self.underlay,
            Target::Vtep => self.vtep,
            Target::Overlay(_) | Target::Address => self.overlay,
        }
    }
}

/// Returns the size of a small packet.
pub fn small(family: Family) -> u32 {
    SMALL + family.pick(28, 48)
}

/// Peer to probe.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The peer.
    pub peer: &'a Agent,
    /// Address of a container of its host that was asked for.
    pub address: Option<IpAddr>,
}

/// Returns at most `limit` of the peers, evenly distributed.
pub fn evenly<'a>(peers: &[&'a Agent], limit: usize) -> Vec<&'a Agent> {
    let count = peers.len().min(limit);
    let number = |index: usize| index * peers.len() / count.max(1);
    (0..count)
        .filter_map(|index| peers.get(number(index)).copied())
        .collect()
}

/// Returns the columns for peers: what any of them has, in the families that are asked for.
pub fn columns(chosen: &[Chosen<'_>], families: &[Family], has_tunnel: bool) -> Vec<Column> {
    let mut columns = BTreeSet::new();
    let mut add = |target: Target, family: Family| {
        if families.contains(&family) {
            columns.insert(Column { target, family });
        }
    };
    for Chosen { peer, address } in chosen {
        add(Target::Underlay, Family::V4);
        if !has_tunnel {
            continue;
        }
        for vtep in peer.vteps() {
            add(Target::Vtep, Family::from(vtep));
        }
        for gateway in peer.gateways() {
            let target = Target::Overlay(gateway.overlay.to_owned());
            add(target, Family::from(gateway.ip));
        }
        if let Some(address) = address {
            add(Target::Address, Family::from(*address));
        }
    }
    columns.into_iter().collect()
}

/// Returns the address of a peer in a column; `None`: it has none.
pub fn address(chosen: &Chosen<'_>, column: &Column) -> Option<IpAddr> {
    let family = column.family;
    match &column.target {
        Target::Underlay => Some(chosen.peer.ip.into()),
        Target::Vtep => chosen.peer.vtep(family),
        Target::Overlay(name) => Some(chosen.peer.gateway(name, family)?.ip),
        Target::Address => chosen.address.filter(|ip| family.includes(*ip)),
    }
}

/// Addresses of this host to send from.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// Agent on this host.
    pub own: Option<&'a Agent>,
    /// Addresses that the host's devices have.
    pub present: Vec<IpAddr>,
}

impl Sources<'_> {
    /// Returns the address to send from: the one that a container's packet has its route and rule
    /// by. `None`: the kernel chooses, as the host does not have that address.
    pub fn source(&self, column: &Column, model: &Model, target: IpAddr) -> Option<IpAddr> {
        let own = self.own?;
        let family = column.family;
        let source = match &column.target {
            Target::Underlay => Some(own.ip.into()),
            Target::Vtep => own.vtep(family),
            Target::Overlay(name) => own.gateway(name, family).map(|gateway| gateway.ip),
            Target::Address => {
                let overlay = match model.locate(target) {
                    crate::paths::model::Place::Container(_, gateway) => gateway.overlay,
                    _ => return None,
                };
                own.gateway(overlay, family).map(|gateway| gateway.ip)
            }
        };
        source.filter(|ip| self.present.contains(ip))
    }

    /// Returns the end of the own tunnel.
    pub fn vtep(&self, family: Family) -> Option<IpAddr> {
        let vtep = self.own?.vtep(family);
        vtep.filter(|ip| self.present.contains(ip))
    }
}

/// Request and its place in the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Number of the peer.
    pub row: usize,
    /// Number of the column.
    pub column: usize,
    /// The request; its size is that of a small packet.
    pub request: Request,
}

/// Returns a probe with a small packet for each address of each peer.
pub fn probes(
    chosen: &[Chosen<'_>],
    columns: &[Column],
    sources: &Sources<'_>,
    model: &Model,
) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (row, chosen) in chosen.iter().enumerate() {
        for (number, column) in columns.iter().enumerate() {
            if let Some(target) = address(chosen, column) {
                let request = Request {
                    target,
                    source: sources.source(column, model, target),
                    bytes: small(column.family),
                };
                probes.push(Probe {
                    row,
                    column: number,
                    request,
                });
            }
        }
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::model::samples;

    fn all<'a>(peers: &[&'a Agent]) -> Vec<Chosen<'a>> {
        let chosen = |peer: &&'a Agent| Chosen {
            peer,
            address: None,
        };
        peers.iter().map(chosen).collect()
    }

    /// A cluster of any size is probed with a bounded number of packets.
    #[test]
    fn the_default_run_is_bounded() {
        for agents in [2, 49, 51, 1_000, 10_000] {
            let model = samples::cluster(agents);
            let peers: Vec<&Agent> = model.peers().collect();
            let chosen = evenly(&peers, LIMIT);
            assert_eq!(chosen.len(), usize::from(agents - 1).min(LIMIT));
            let distinct: BTreeSet<_> = chosen.iter().map(|agent| agent.ip).collect();
            assert_eq!(distinct.len(), chosen.len());
            // Neither only the first nor only the last.
            let half = peers.len() / 2;
            let middle = peers[half].ip;
            let lower = chosen.iter().filter(|agent| agent.ip < middle).count();
            assert!(lower.abs_diff(chosen.len() / 2) <= 1, "{lower}");
            let chosen = all(&chosen);
            let columns = columns(&chosen, &Family::BOTH, true);
            assert_eq!(columns.len(), 5);
            let probes = probes(&chosen, &columns, &Sources::default(), &model);
            assert_eq!(probes.len(), 5 * chosen.len());
        }
        assert!(evenly(&[], LIMIT).is_empty());
    }

    #[test]
    fn packets_have_the_sources_of_containers() {
        let model = samples::cluster(2);
        let peers: Vec<&Agent> = model.peers().collect();
        let mut chosen = all(&peers);
        chosen[0].address = Some("9.0.2.7".parse().unwrap());
        let columns = columns(&chosen, &[Family::V4], true);
        let present = ["10.0.0.1", "44.128.0.1", "9.0.1.1"];
        let mut sources = Sources {
            own: model.own(),
            present: present.map(|ip| ip.parse().unwrap()).to_vec(),
        };
        let pairs = |sources: &Sources<'_>| {
            let probes = probes(&chosen, &columns, sources, &model);
            let pair = |probe: &Probe| {
                let source = probe.request.source.map(|source| source.to_string());
                (probe.request.target.to_string(), source.unwrap_or_default())
            };
            probes.iter().map(pair).collect::<Vec<_>>()
        };
        let expected = [
            ("10.0.0.2", "10.0.0.1"),
            ("44.128.0.2", "44.128.0.1"),
            ("9.0.2.1", "9.0.1.1"),
            ("9.0.2.7", "9.0.1.1"),
        ]
        .map(|(to, from)| (to.to_owned(), from.to_owned()));
        assert_eq!(pairs(&sources), expected);
        sources.present.clear();
        assert!(pairs(&sources).iter().all(|(_, source)| source.is_empty()));
    }

    #[test]
    fn sizes_fit_into_each_other() {
        let sizes = Sizes::new(1450, 1420, None);
        assert_eq!(
            (sizes.underlay, sizes.vtep, sizes.overlay),
            (1500, 1450, 1420)
        );
        assert_eq!(Sizes::new(1350, 1420, None).overlay, 1350);
        let asked = Sizes::new(1450, 1420, Some(900));
        assert_eq!((asked.underlay, asked.vtep, asked.overlay), (950, 900, 900));
    }
}
