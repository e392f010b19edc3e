//! Who may have which VTEP address and which subnet.
//!
//! The allocator knows what is free; what each agent holds is the caller's
//! [`Holding`]. Whatever it adds to a holding it takes from its pools, and a step
//! that fails half-way leaves both as they were.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use litemap::LiteMap;
use serde::Serialize;

use super::pool::Pool;
use crate::config::{Network, OverlayConfig};

/// Something of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pair<T> {
    /// IPv4's.
    pub v4: T,
    /// IPv6's.
    pub v6: T,
}

impl<T> Pair<T> {
    /// Both, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.v4, &self.v6].into_iter()
    }
}

impl<T: Copy> Pair<Option<T>> {
    /// What `keep` says of each family.
    pub fn only(self, keep: Pair<bool>) -> Pair<Option<T>> {
        Pair {
            v4: self.v4.filter(|_| keep.v4),
            v6: self.v6.filter(|_| keep.v6),
        }
    }

    /// Whether there is nothing of either family.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

/// Addresses or subnets, at most one of each family.
pub type Nets = Pair<Option<IpNet>>;

/// What one agent holds, whether it uses it at present or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its VTEP's addresses, with the prefix lengths of their ranges.
    pub vtep: Nets,
    /// Its subnets by overlay. An overlay without subnets is one that the agent
    /// takes part in with its VTEP only.
    pub overlays: LiteMap<String, Nets>,
}

impl Holding {
    /// What of it `other` does not hold.
    pub fn without(&self, other: &Holding) -> Holding {
        let without = |own: Nets, other: Nets| Pair {
            v4: own.v4.filter(|net| other.v4 != Some(*net)),
            v6: own.v6.filter(|net| other.v6 != Some(*net)),
        };
        let overlays = self.overlays.iter().map(|(name, nets)| {
            let others = other.overlays.get(name).copied().unwrap_or_default();
            (name.clone(), without(*nets, others))
        });
        Holding {
            vtep: without(self.vtep, other.vtep),
            overlays: overlays.collect(),
        }
    }

    /// What it has of this overlay; `None`: its VTEP's addresses.
    pub fn part(&self, overlay: Option<&str>) -> Nets {
        match overlay {
            None => self.vtep,
            Some(name) => self.overlays.get(name).copied().unwrap_or_default(),
        }
    }
}

/// What an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Subnets besides its VTEP.
    pub allocate_subnet: bool,
    /// A bridge for the Mesos containerizer.
    pub mesos_bridge: bool,
    /// A bridge for Docker.
    pub docker_bridge: bool,
    /// IPv6 besides IPv4.
    pub enable_ipv6: bool,
}

impl Ask {
    /// The families that the agent takes part in.
    pub fn families(&self) -> Pair<bool> {
        Pair {
            v4: true,
            v6: self.enable_ipv6,
        }
    }

    /// The families of `overlay` that the agent is to have; `None`: it is not to
    /// have the overlay at all.
    pub fn share_of(&self, overlay: &OverlayConfig) -> Option<Pair<bool>> {
        let v6 = overlay.v6.is_some() && self.enable_ipv6;
        let has = overlay.enabled && (overlay.v4.is_some() || v6);
        let both = Pair {
            v4: overlay.v4.is_some() && self.allocate_subnet,
            v6: v6 && self.allocate_subnet,
        };
        has.then_some(both)
    }
}

/// A range has nothing left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// Of what: `None` is the VTEPs' range.
    pub overlay: Option<String>,
    /// The range.
    pub range: IpNet,
    /// Prefix length of what it is cut into.
    pub prefix: u8,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what();
        write!(
            f,
            "{what}; delete agents that are gone for good with /overlay-master/agents/delete"
        )
    }
}

impl Exhausted {
    /// What is not there.
    pub fn what(&self) -> String {
        let Exhausted { range, prefix, .. } = self;
        match &self.overlay {
            None => format!("no VTEP address is left in {range}"),
            Some(name) => format!("no /{prefix} is left for overlay {name} in {range}"),
        }
    }
}

/// How much of a range is left, by family. What is absent is of a family that there
/// is no range of. Numbers that do not fit are the largest there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Subnets or addresses of the length that is given out at present, which still can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u128>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free6: Option<u128>,
    /// So many there would be if nothing were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u128>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total6: Option<u128>,
    /// Those that agents hold, of whatever length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used6: Option<u64>,
}

impl Room {
    fn of(pools: &Pair<Option<Pool>>) -> Room {
        let of = |pool: &Option<Pool>| {
            pool.as_ref()
                .map(|pool| (pool.free(), pool.total(), pool.used()))
        };
        let (v4, v6) = (of(&pools.v4), of(&pools.v6));
        Room {
            free: v4.map(|(free, ..)| free),
            free6: v6.map(|(free, ..)| free),
            total: v4.map(|(_, total, _)| total),
            total6: v6.map(|(_, total, _)| total),
            used: v4.map(|(.., used)| used),
            used6: v6.map(|(.., used)| used),
        }
    }
}

/// The pools of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    vtep: Pair<Option<Pool>>,
    overlays: BTreeMap<String, Pair<Option<Pool>>>,
}

impl Allocator {
    /// Everything in `network` is free.
    pub fn new(network: &Network) -> Allocator {
        let overlay = |overlay: &OverlayConfig| {
            let pools = Pair {
                v4: overlay.v4.map(Pool::subnets),
                v6: overlay.v6.map(Pool::subnets),
            };
            (overlay.name.clone(), pools)
        };
        let vtep = Pair {
            v4: Some(Pool::addresses(network.vtep_subnet.into())),
            v6: network.vtep_subnet6.map(|net| Pool::addresses(net.into())),
        };
        Allocator {
            vtep,
            overlays: network.overlays.iter().map(overlay).collect(),
        }
    }

    /// How much is left of an overlay's subnets; `None`: of the VTEPs. Nothing is
    /// known of an overlay that there is no pool of.
    pub fn room(&self, overlay: Option<&str>) -> Room {
        let pools = match overlay {
            None => Some(&self.vtep),
            Some(name) => self.overlays.get(name),
        };
        pools.map(Room::of).unwrap_or_default()
    }

    /// Takes what an agent holds already. The error is the first thing that is not
    /// free (then what came before it is taken). What no pool is there for is
    /// passed over.
    pub fn reserve(&mut self, holding: &Holding) -> Result<(), IpNet> {
        for (pool, net) in self.pools_of(holding) {
            if !pool.reserve(net) {
                return Err(net);
            }
        }
        Ok(())
    }

    /// Gives back all that an agent holds.
    pub fn release(&mut self, holding: &Holding) {
        for (pool, net) in self.pools_of(holding) {
            let taken = pool.give_back(net);
            debug_assert!(taken, "{net} was held and not taken");
        }
    }

    fn pools_of(&mut self, holding: &Holding) -> impl Iterator<Item = (&mut Pool, IpNet)> {
        let overlays = self
            .overlays
            .iter_mut()
            .filter_map(|(name, pools)| holding.overlays.get(name).map(|nets| (pools, *nets)));
        std::iter::once((&mut self.vtep, holding.vtep))
            .chain(overlays)
            .flat_map(|(pools, nets)| [(&mut pools.v4, nets.v4), (&mut pools.v6, nets.v6)])
            .filter_map(|(pool, net)| Some((pool.as_mut()?, net?)))
    }

    /// Adds to `holding` what the agent asks for and does not hold yet; nothing is
    /// ever taken from it. An overlay that cannot be completed stays as it is, the
    /// others go on; what is lacking is returned. An agent without a VTEP that
    /// cannot have one is refused: the error.
    pub fn complete(
        &mut self,
        network: &Network,
        ask: Ask,
        holding: &mut Holding,
    ) -> Result<Vec<Exhausted>, Exhausted> {
        self.restore(network, ask, holding, &Holding::default())
    }

    /// The same for an agent that held something before: it gets that where it is free.
    pub fn restore(
        &mut self,
        network: &Network,
        ask: Ask,
        holding: &mut Holding,
        former: &Holding,
    ) -> Result<Vec<Exhausted>, Exhausted> {
        let mut lacking = Vec::new();
        let wanted: Vec<_> = network
            .overlays
            .iter()
            .filter_map(|o| Some((o, ask.share_of(o)?)))
            .collect();
        if wanted.is_empty() {
            return Ok(lacking);
        }
        if let Err(exhausted) = complete_pair(
            &mut self.vtep,
            ask.families(),
            &mut holding.vtep,
            former.vtep,
        ) {
            // An agent that has one works on with that.
            if holding.vtep.is_empty() {
                return Err(exhausted);
            }
            lacking.push(exhausted);
        }
        if holding.overlays.is_empty() {
            // It is kept for each of thousands of agents, and would grow to four at once.
            holding.overlays = LiteMap::with_capacity(wanted.len());
        }
        for (overlay, want) in wanted {
            let Some(pools) = self.overlays.get_mut(&overlay.name) else {
                continue;
            };
            let mut nets = holding.part(Some(&overlay.name));
            match complete_pair(pools, want, &mut nets, former.part(Some(&overlay.name))) {
                Ok(()) => _ = holding.overlays.insert(overlay.name.clone(), nets),
                Err(exhausted) => {
                    lacking.push(Exhausted {
                        overlay: Some(overlay.name.clone()),
                        ..exhausted
                    });
                }
            }
        }
        if holding.overlays.is_empty() {
            // Nothing to carry through the tunnel: the VTEP goes back.
            self.release(&std::mem::take(holding));
        }
        Ok(lacking)
    }

    /// The one thing that `exhausted` says is lacking: which of the `others`' holdings,
    /// the first ones if possible and no more than are needed, have to be given back
    /// for it to be had. `None`: all of them together would not do.
    pub fn relief(
        &self,
        network: &Network,
        ask: Ask,
        holding: &Holding,
        exhausted: &Exhausted,
        others: &[&Holding],
    ) -> Option<Vec<usize>> {
        let overlay = exhausted.overlay.as_deref();
        let (pools, want) = match overlay {
            None => (&self.vtep, ask.families()),
            Some(name) => {
                let config = network.overlays.iter().find(|config| config.name == name)?;
                (self.overlays.get(name)?, ask.share_of(config)?)
            }
        };
        let held = holding.part(overlay);
        let would_do = |pools: &Pair<Option<Pool>>| {
            complete_pair(&mut pools.clone(), want, &mut held.clone(), Nets::default()).is_ok()
        };
        let lacks =
            |pool: &Option<Pool>| pool.clone().is_some_and(|mut pool| pool.take().is_none());
        let missing = Pair {
            v4: want.v4 && held.v4.is_none() && lacks(&pools.v4),
            v6: want.v6 && held.v6.is_none() && lacks(&pools.v6),
        };
        let mut free = pools.clone();
        let mut chosen = Vec::new();
        for (index, other) in others.iter().enumerate() {
            let part = other.part(overlay).only(missing);
            if would_do(&free) {
                break;
            }
            if !part.is_empty() {
                for_each(&mut free, part, Pool::give_back);
                chosen.push(index);
            }
        }
        if !would_do(&free) {
            return None;
        }
        // With subnets of different lengths, some may have been of no use.
        for at in (0..chosen.len()).rev() {
            let mut without = free.clone();
            for_each(
                &mut without,
                others[chosen[at]].part(overlay).only(missing),
                Pool::reserve,
            );
            if would_do(&without) {
                free = without;
                chosen.remove(at);
            }
        }
        Some(chosen)
    }
}

/// Does this with what there is of either family.
fn for_each(pools: &mut Pair<Option<Pool>>, nets: Nets, step: fn(&mut Pool, IpNet) -> bool) {
    for (pool, net) in [(&mut pools.v4, nets.v4), (&mut pools.v6, nets.v6)] {
        if let (Some(pool), Some(net)) = (pool, net) {
            step(pool, net);
        }
    }
}

/// Takes one of each wanted family that `nets` lacks, those of `former` if they are free:
/// of both families, or of none.
fn complete_pair(
    pools: &mut Pair<Option<Pool>>,
    want: Pair<bool>,
    nets: &mut Nets,
    former: Nets,
) -> Result<(), Exhausted> {
    let v4 = complete_one(&mut pools.v4, want.v4, nets.v4, former.v4)?;
    match complete_one(&mut pools.v6, want.v6, nets.v6, former.v6) {
        Ok(v6) => {
            *nets = Pair { v4, v6 };
            Ok(())
        }
        Err(exhausted) => {
            if let (Some(pool), Some(taken), None) = (&mut pools.v4, v4, nets.v4) {
                pool.give_back(taken);
            }
            Err(exhausted)
        }
    }
}

fn complete_one(
    pool: &mut Option<Pool>,
    want: bool,
    held: Option<IpNet>,
    former: Option<IpNet>,
) -> Result<Option<IpNet>, Exhausted> {
    let Some(pool) = pool.as_mut().filter(|_| want && held.is_none()) else {
        return Ok(held);
    };
    let range = pool.range();
    if let Some(former) = former.filter(|former| pool.take_this(*former)) {
        return Ok(Some(former));
    }
    pool.take().map(Some).ok_or(Exhausted {
        overlay: None,
        range: range.net,
        prefix: range.prefix,
    })
}

#[cfg(test)]
mod tests;
