//! Allocation of VTEP addresses and subnets to agents.
//!
//! The [`Allocator`] knows which addresses and subnets are free. The caller keeps the
//! [`Allocation`] of each agent. Every operation takes from the pools exactly what it adds
//! to an allocation, and an operation that fails half-way leaves both unchanged.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use litemap::LiteMap;
use serde::Serialize;

use super::pool::Pool;
use super::prefix::overlap;
use crate::config::overlay::Definition;
use crate::config::{Network, OverlayConfig};
use crate::proto::internal::AgentNetworkConfig;

mod reclaim;

/// Pair of values, by address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DualStack<T> {
    /// The value for IPv4.
    pub v4: T,
    /// The value for IPv6.
    pub v6: T,
}

impl<T> DualStack<T> {
    /// Returns both values, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.v4, &self.v6].into_iter()
    }
}

impl<T: Copy> DualStack<Option<T>> {
    /// Returns the values of the families that `keep` names.
    pub fn only(self, keep: DualStack<bool>) -> DualStack<Option<T>> {
        DualStack {
            v4: self.v4.filter(|_| keep.v4),
            v6: self.v6.filter(|_| keep.v6),
        }
    }

    /// Returns whether neither family has a value.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

/// At most one address or subnet of each family.
pub type DualStackNet = DualStack<Option<IpNet>>;

/// All addresses and subnets of one agent, whether it uses them at present or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The addresses of the VTEP, with the prefix lengths of the VTEP ranges.
    pub vtep: DualStackNet,
    /// The subnets by overlay. An agent that takes part in an overlay with its VTEP only
    /// has an entry without subnets.
    pub overlays: LiteMap<String, DualStackNet>,
}

impl Allocation {
    fn of_vtep(vtep: DualStackNet) -> Allocation {
        Allocation {
            vtep,
            ..Allocation::default()
        }
    }

    /// Returns the addresses and subnets of this allocation that `other` does not have.
    pub fn without(&self, other: &Allocation) -> Allocation {
        let without = |own: DualStackNet, other: DualStackNet| DualStack {
            v4: own.v4.filter(|net| other.v4 != Some(*net)),
            v6: own.v6.filter(|net| other.v6 != Some(*net)),
        };
        let overlays = self.overlays.iter().map(|(name, nets)| {
            let others = other.overlays.get(name).copied().unwrap_or_default();
            (name.clone(), without(*nets, others))
        });
        Allocation {
            vtep: without(self.vtep, other.vtep),
            overlays: overlays.collect(),
        }
    }

    /// Returns whether an address or a subnet overlaps one of `other` of the same overlay.
    pub fn shares_with(&self, other: &Allocation) -> bool {
        let share = |one: DualStackNet, other: DualStackNet, is_vtep: bool| {
            let pairs = [(one.v4, other.v4), (one.v6, other.v6)];
            pairs.into_iter().any(|pair| match pair {
                (Some(one), Some(other)) if is_vtep => one.addr() == other.addr(),
                (Some(one), Some(other)) => overlap(one, other),
                _ => false,
            })
        };
        let mut overlays = self.overlays.iter();
        share(self.vtep, other.vtep, true)
            || overlays.any(|(name, nets)| share(*nets, other.part(Some(name)), false))
    }

    /// Returns whether there is no address and no subnet.
    pub fn is_empty(&self) -> bool {
        self.vtep.is_empty() && self.overlays.values().all(DualStack::is_empty)
    }

    /// Returns the addresses and subnets of this allocation for which `other` has none of their
    /// family.
    pub fn lacking_in(&self, other: &Allocation) -> Allocation {
        let lacking = |own: DualStackNet, other: DualStackNet| {
            own.only(DualStack {
                v4: other.v4.is_none(),
                v6: other.v6.is_none(),
            })
        };
        let overlays = self.overlays.iter().map(|(name, nets)| {
            let nets = lacking(*nets, other.part(Some(name)));
            (name.clone(), nets)
        });
        Allocation {
            vtep: lacking(self.vtep, other.vtep),
            overlays: overlays.collect(),
        }
    }

    /// Returns the addresses and subnets of this allocation, and those of `other` where this one
    /// has none.
    pub fn or(&self, other: &Allocation) -> Allocation {
        let or = |own: DualStackNet, other: DualStackNet| DualStack {
            v4: own.v4.or(other.v4),
            v6: own.v6.or(other.v6),
        };
        let mut both = self.clone();
        both.vtep = or(self.vtep, other.vtep);
        for (name, nets) in other.overlays.iter() {
            let nets = or(self.part(Some(name)), *nets);
            both.overlays.insert(name.clone(), nets);
        }
        both
    }

    /// Returns the subnets of an overlay, or the addresses of the VTEP for `None`.
    pub fn part(&self, overlay: Option<&str>) -> DualStackNet {
        match overlay {
            None => self.vtep,
            Some(name) => self.overlays.get(name).copied().unwrap_or_default(),
        }
    }
}

/// Lists every address and subnet with its overlay, for the log.
impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vtep = self.vtep.iter().flatten();
        let vtep = vtep.map(|net| format!("VTEP {}", net.addr()));
        let subnets = self.overlays.iter().flat_map(|(name, nets)| {
            let nets = nets.iter().flatten();
            nets.map(|net| format!("{net} of {name}"))
                .collect::<Vec<_>>()
        });
        f.write_str(&vtep.chain(subnets).collect::<Vec<_>>().join(", "))
    }
}

/// The parts of an agent's `network_config` that its allocation and bridges follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationRequest {
    /// Subnets besides the VTEP.
    pub allocate_subnet: bool,
    /// A bridge for the Mesos containerizer.
    pub mesos_bridge: bool,
    /// A bridge for Docker.
    pub docker_bridge: bool,
    /// IPv6 besides IPv4.
    pub enable_ipv6: bool,
}

impl AllocationRequest {
    /// Reads the request of a registration.
    pub fn from_network_config(config: &AgentNetworkConfig) -> AllocationRequest {
        AllocationRequest {
            allocate_subnet: config.allocate_subnet(),
            mesos_bridge: config.mesos_bridge(),
            docker_bridge: config.docker_bridge(),
            enable_ipv6: config.enable_ipv6(),
        }
    }

    /// Returns the families that the agent's VTEP has.
    pub fn vtep_families(&self) -> DualStack<bool> {
        DualStack {
            v4: true,
            v6: self.enable_ipv6,
        }
    }

    /// Returns the families of `overlay` that the agent gets subnets of, or `None` if it
    /// does not take part in the overlay.
    pub fn requested_families(&self, overlay: &OverlayConfig) -> Option<DualStack<bool>> {
        let v6 = overlay.v6.is_some() && self.enable_ipv6;
        let takes_part = overlay.enabled && (overlay.v4.is_some() || v6);
        let families = DualStack {
            v4: overlay.v4.is_some() && self.allocate_subnet,
            v6: v6 && self.allocate_subnet,
        };
        takes_part.then_some(families)
    }
}

/// A range without a free address or subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// The overlay of the range; `None` for a VTEP range.
    pub overlay: Option<String>,
    /// The range.
    pub range: IpNet,
    /// Prefix length of the subnets of the range.
    pub prefix: u8,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason();
        write!(
            f,
            "{reason}; delete agents that are gone for good with /overlay-master/agents/delete"
        )
    }
}

impl Exhausted {
    /// Returns the sentence without the remedy.
    pub fn reason(&self) -> String {
        let Exhausted { range, prefix, .. } = self;
        match &self.overlay {
            None => format!("no VTEP address is left in {range}"),
            Some(name) => format!("no /{prefix} is left for overlay {name} in {range}"),
        }
    }
}

/// Free, used and total numbers of a range, by family. Numbers of a family without a range
/// are absent; numbers above [`u128::MAX`] are shown as that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// IPv4 subnets (or addresses) of the present prefix length that are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u128>,
    /// IPv6 subnets (or addresses) of the present prefix length that are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free6: Option<u128>,
    /// IPv4 subnets (or addresses) of the present prefix length, free or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u128>,
    /// IPv6 subnets (or addresses) of the present prefix length, free or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total6: Option<u128>,
    /// IPv4 subnets (or addresses) of agents, of any prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// IPv6 subnets (or addresses) of agents, of any prefix length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used6: Option<u64>,
}

impl Capacity {
    fn of(pools: &Pools) -> Capacity {
        let of = |pool: &Option<Pool>| {
            pool.as_ref()
                .map(|pool| (pool.free(), pool.total(), pool.used()))
        };
        let (v4, v6) = (of(&pools.v4), of(&pools.v6));
        Capacity {
            free: v4.map(|(free, ..)| free),
            free6: v6.map(|(free, ..)| free),
            total: v4.map(|(_, total, _)| total),
            total6: v6.map(|(_, total, _)| total),
            used: v4.map(|(.., used)| used),
            used6: v6.map(|(.., used)| used),
        }
    }
}

/// The pools of one overlay or of the VTEPs, for the families that it has.
type Pools = DualStack<Option<Pool>>;

/// The free addresses and subnets of all ranges of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    vtep: Pools,
    overlays: BTreeMap<String, Pools>,
}

impl Allocator {
    /// Creates an allocator for `network` in which everything is free.
    pub fn new(network: &Network) -> Allocator {
        let overlay = |definition: &Definition| {
            let overlay = definition.config();
            let pools = DualStack {
                v4: overlay.v4.map(Pool::subnets),
                v6: overlay.v6.map(Pool::subnets),
            };
            (overlay.name.clone(), pools)
        };
        let vtep = DualStack {
            v4: Some(Pool::addresses(network.vtep_subnet.into())),
            v6: network.vtep_subnet6.map(|net| Pool::addresses(net.into())),
        };
        Allocator {
            vtep,
            overlays: network.overlays.iter().map(overlay).collect(),
        }
    }

    /// Returns the capacity of an overlay, or of the VTEP ranges for `None`. An unknown
    /// overlay has none.
    pub fn capacity(&self, overlay: Option<&str>) -> Capacity {
        let pools = match overlay {
            None => Some(&self.vtep),
            Some(name) => self.overlays.get(name),
        };
        pools.map(Capacity::of).unwrap_or_default()
    }

    /// Takes the addresses and subnets that an agent has already. Subnets of overlays that
    /// are not in the network are skipped.
    ///
    /// # Errors
    /// The first address or subnet that is not free; those before it are taken.
    pub fn reserve(&mut self, allocation: &Allocation) -> Result<(), IpNet> {
        for (pool, net) in self.pools_of(allocation) {
            if !pool.reserve(net) {
                return Err(net);
            }
        }
        Ok(())
    }

    /// Makes the addresses and subnets of an agent free.
    pub fn release(&mut self, allocation: &Allocation) {
        for (pool, net) in self.pools_of(allocation) {
            let released = pool.release(net);
            debug_assert!(released, "{net} was allocated and is free");
        }
    }

    fn pools_of(&mut self, allocation: &Allocation) -> impl Iterator<Item = (&mut Pool, IpNet)> {
        let overlays = self
            .overlays
            .iter_mut()
            .filter_map(|(name, pools)| allocation.overlays.get(name).map(|nets| (pools, *nets)));
        std::iter::once((&mut self.vtep, allocation.vtep))
            .chain(overlays)
            .flat_map(|(pools, nets)| [(&mut pools.v4, nets.v4), (&mut pools.v6, nets.v6)])
            .filter_map(|(pool, net)| Some((pool.as_mut()?, net?)))
    }

    /// Adds to `allocation` what the agent requests and does not have yet, the lowest free
    /// addresses and subnets first, and returns the ranges that have nothing left. It never
    /// removes anything, and leaves out an overlay that it cannot give completely.
    ///
    /// # Errors
    /// The VTEP range that is exhausted, if the agent has no VTEP address yet. Then nothing
    /// was allocated.
    pub fn allocate_missing(
        &mut self,
        network: &Network,
        request: AllocationRequest,
        allocation: &mut Allocation,
    ) -> Result<Vec<Exhausted>, Exhausted> {
        self.allocate_preferring(network, request, allocation, &Allocation::default())
    }

    /// Works as [`allocate_missing`](Self::allocate_missing), but takes an address or subnet
    /// of `preferred` where that is free.
    ///
    /// # Errors
    /// As [`allocate_missing`](Self::allocate_missing).
    pub fn allocate_preferring(
        &mut self,
        network: &Network,
        request: AllocationRequest,
        allocation: &mut Allocation,
        preferred: &Allocation,
    ) -> Result<Vec<Exhausted>, Exhausted> {
        let mut exhausted = Vec::new();
        let requested: Vec<_> = network
            .overlays
            .iter()
            .map(Definition::config)
            .filter_map(|overlay| Some((overlay, request.requested_families(overlay)?)))
            .collect();
        if requested.is_empty() {
            return Ok(exhausted);
        }
        let vtep_before = allocation.vtep;
        if let Err(vtep) = fill_families(
            &mut self.vtep,
            request.vtep_families(),
            &mut allocation.vtep,
            preferred.vtep,
        ) {
            // An agent that has an address of one family continues with it.
            if allocation.vtep.is_empty() {
                return Err(vtep);
            }
            exhausted.push(vtep);
        }
        if allocation.overlays.is_empty() {
            // The map is kept for each of thousands of agents, and would grow to four at once.
            allocation.overlays = LiteMap::with_capacity(requested.len());
        }
        let mut takes_part = false;
        for (overlay, families) in requested {
            let name = &overlay.name;
            let outcome = self.allocate_overlay(name, families, allocation, preferred);
            exhausted.extend(outcome.err());
            takes_part |= allocation.overlays.contains_key(name);
        }
        if !takes_part {
            // Another address of the VTEP is of no use without an overlay.
            let vtep = std::mem::replace(&mut allocation.vtep, vtep_before);
            let (vtep, before) = (Allocation::of_vtep(vtep), Allocation::of_vtep(vtep_before));
            self.release(&vtep.without(&before));
        }
        Ok(exhausted)
    }

    /// Adds to `allocation` the families of one overlay that it does not have yet.
    fn allocate_overlay(
        &mut self,
        name: &str,
        families: DualStack<bool>,
        allocation: &mut Allocation,
        preferred: &Allocation,
    ) -> Result<(), Exhausted> {
        let Some(pools) = self.overlays.get_mut(name) else {
            return Ok(());
        };
        let mut nets = allocation.part(Some(name));
        let preferred = preferred.part(Some(name));
        fill_families(pools, families, &mut nets, preferred).map_err(|range| Exhausted {
            overlay: Some(name.to_owned()),
            ..range
        })?;
        allocation.overlays.insert(name.to_owned(), nets);
        Ok(())
    }
}

/// Allocates the families of `wanted` that `nets` lacks, those of `preferred` if they are
/// free. It allocates all of them or none.
fn fill_families(
    pools: &mut Pools,
    wanted: DualStack<bool>,
    nets: &mut DualStackNet,
    preferred: DualStackNet,
) -> Result<(), Exhausted> {
    let v4 = fill_family(&mut pools.v4, wanted.v4, nets.v4, preferred.v4)?;
    match fill_family(&mut pools.v6, wanted.v6, nets.v6, preferred.v6) {
        Ok(v6) => {
            *nets = DualStack { v4, v6 };
            Ok(())
        }
        Err(exhausted) => {
            if let (Some(pool), Some(taken), None) = (&mut pools.v4, v4, nets.v4) {
                pool.release(taken);
            }
            Err(exhausted)
        }
    }
}

fn fill_family(
    pool: &mut Option<Pool>,
    wanted: bool,
    present: Option<IpNet>,
    preferred: Option<IpNet>,
) -> Result<Option<IpNet>, Exhausted> {
    let Some(pool) = pool.as_mut().filter(|_| wanted && present.is_none()) else {
        return Ok(present);
    };
    let range = pool.range();
    if let Some(preferred) = preferred.filter(|preferred| pool.allocate_exact(*preferred)) {
        return Ok(Some(preferred));
    }
    pool.allocate().map(Some).ok_or(Exhausted {
        overlay: None,
        range: range.net,
        prefix: range.prefix,
    })
}

#[cfg(test)]
mod tests;
