//! The choice of agents to reclaim addresses and subnets from.

use ipnet::IpNet;

use super::{Allocation, AllocationRequest, Allocator, DualStack, DualStackNet, Exhausted, Pools};
use super::{Pool, fill_families};
use crate::config::Network;

impl Allocator {
    /// Returns the indexes of the candidates that have to release their part of an exhausted
    /// range so that `request` can be met there, or `None` if all of them together do not
    /// suffice. `allocation` is what the requesting agent has already.
    ///
    /// Earlier candidates are preferred, and none is chosen that is not needed. For that,
    /// candidates are first added in order until the request can be met; then those that
    /// turn out not to be needed are dropped, the latest first. (Where agents have subnets
    /// of different lengths, some of the first ones may have been too short.)
    pub fn choose_reclaim(
        &self,
        network: &Network,
        request: AllocationRequest,
        allocation: &Allocation,
        exhausted: &Exhausted,
        candidates: &[&Allocation],
    ) -> Option<Vec<usize>> {
        let overlay = exhausted.overlay.as_deref();
        let (pools, wanted) = match overlay {
            None => (&self.vtep, request.vtep_families()),
            Some(name) => {
                let config = network.overlay(name)?.config();
                (
                    self.overlays.get(name)?,
                    request.requested_families(config)?,
                )
            }
        };
        let need = Need {
            wanted,
            present: allocation.part(overlay),
        };
        let exhausted = need.exhausted_families(pools);
        let parts: Vec<_> = candidates
            .iter()
            .map(|candidate| candidate.part(overlay).only(exhausted))
            .collect();
        let (mut pools, mut chosen) = need.add_until_met(pools.clone(), &parts)?;
        need.drop_unneeded(&mut pools, &parts, &mut chosen);
        Some(chosen)
    }
}

/// The addresses or subnets that an agent requests of one range.
struct Need {
    wanted: DualStack<bool>,
    /// The addresses or subnets that it has already.
    present: DualStackNet,
}

impl Need {
    /// Returns whether `pools` have what is wanted and not present.
    fn is_met(&self, pools: &Pools) -> bool {
        let (mut pools, mut present) = (pools.clone(), self.present);
        fill_families(
            &mut pools,
            self.wanted,
            &mut present,
            DualStackNet::default(),
        )
        .is_ok()
    }

    /// Returns the families that are wanted, not present and not in `pools`.
    fn exhausted_families(&self, pools: &Pools) -> DualStack<bool> {
        let is_exhausted = |pool: &Option<Pool>| {
            pool.clone()
                .is_some_and(|mut pool| pool.allocate().is_none())
        };
        DualStack {
            v4: self.wanted.v4 && self.present.v4.is_none() && is_exhausted(&pools.v4),
            v6: self.wanted.v6 && self.present.v6.is_none() && is_exhausted(&pools.v6),
        }
    }

    /// Releases the parts into `pools`, in order, until the need is met. Returns the pools
    /// then and the indexes of the released parts, or `None` if the need is never met.
    fn add_until_met(
        &self,
        mut pools: Pools,
        parts: &[DualStackNet],
    ) -> Option<(Pools, Vec<usize>)> {
        let mut chosen = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if self.is_met(&pools) {
                break;
            }
            if !part.is_empty() {
                for_each_family(&mut pools, *part, Pool::release);
                chosen.push(index);
            }
        }
        self.is_met(&pools).then_some((pools, chosen))
    }

    /// Takes back from `pools` and from `chosen` each part without which the need is met.
    fn drop_unneeded(&self, pools: &mut Pools, parts: &[DualStackNet], chosen: &mut Vec<usize>) {
        for at in (0..chosen.len()).rev() {
            let mut without = pools.clone();
            for_each_family(&mut without, parts[chosen[at]], Pool::reserve);
            if self.is_met(&without) {
                *pools = without;
                chosen.remove(at);
            }
        }
    }
}

/// Applies `operation` to each family that has both a pool and an address or subnet.
fn for_each_family(pools: &mut Pools, nets: DualStackNet, operation: fn(&mut Pool, IpNet) -> bool) {
    for (pool, net) in [(&mut pools.v4, nets.v4), (&mut pools.v6, nets.v6)] {
        if let (Some(pool), Some(net)) = (pool, net) {
            operation(pool, net);
        }
    }
}
