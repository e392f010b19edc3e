//! Tests of the allocator.

use proptest::prelude::*;

use super::*;
use crate::allocation::prefix::overlap;
use crate::config::master::parse;

const REQUEST: AllocationRequest = AllocationRequest {
    allocate_subnet: true,
    mesos_bridge: true,
    docker_bridge: true,
    enable_ipv6: true,
};

fn network(vtep: &str, overlays: &str) -> Network {
    let text = format!(
        r#"{{"network": {{{vtep}, "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{overlays}]}}}}"#
    );
    parse("m", &text).unwrap().config.network
}

fn dual_stack() -> Network {
    network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80},
           {"name": "off", "subnet": "10.0.0.0/8", "prefix": 24, "enabled": false}"#,
    )
}

fn show(nets: DualStackNet) -> String {
    nets.iter()
        .map(|net| net.map_or("-".to_owned(), |net| net.to_string()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn allocate(
    allocator: &mut Allocator,
    network: &Network,
    request: AllocationRequest,
) -> (Allocation, Vec<String>) {
    let mut allocation = Allocation::default();
    let lacking = allocator
        .allocate_missing(network, request, &mut allocation)
        .unwrap();
    (
        allocation,
        lacking.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn the_lowest_free_subnets_come_first() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (first, _) = allocate(&mut allocator, &network, REQUEST);
    let (second, _) = allocate(&mut allocator, &network, REQUEST);
    assert_eq!(show(first.vtep), "44.128.0.1/20 fd01:a::1/64");
    assert_eq!(show(first.part(Some("dcos"))), "9.0.0.0/24 fd01:b::/80");
    assert_eq!(show(second.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(
        show(second.part(Some("dcos"))),
        "9.0.1.0/24 fd01:b:0:0:1::/80"
    );
    assert!(!first.overlays.contains_key("off"));
    allocator.release(&first);
    assert_eq!(allocate(&mut allocator, &network, REQUEST).0, first);
}

#[test]
fn an_agent_gets_what_it_requests() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (bare, _) = allocate(
        &mut allocator,
        &network,
        AllocationRequest {
            allocate_subnet: false,
            ..REQUEST
        },
    );
    assert_eq!(show(bare.vtep), "44.128.0.1/20 fd01:a::1/64");
    assert_eq!(show(bare.part(Some("dcos"))), "- -");
    let (v4, _) = allocate(
        &mut allocator,
        &network,
        AllocationRequest {
            enable_ipv6: false,
            ..REQUEST
        },
    );
    assert_eq!(show(v4.vtep), "44.128.0.2/20 -");
    assert_eq!(show(v4.part(Some("dcos"))), "9.0.0.0/24 -");

    // An agent may request more later, and never loses what it has.
    let mut later = v4.clone();
    assert_eq!(
        allocator.allocate_missing(&network, REQUEST, &mut later),
        Ok(vec![])
    );
    assert_eq!(show(later.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(show(later.part(Some("dcos"))), "9.0.0.0/24 fd01:b::/80");
    let before = later.clone();
    assert_eq!(
        allocator.allocate_missing(
            &network,
            AllocationRequest {
                enable_ipv6: false,
                ..REQUEST
            },
            &mut later
        ),
        Ok(vec![])
    );
    assert_eq!(later, before);
}

#[test]
fn without_an_overlay_no_vtep_is_allocated() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "six", "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    );
    let mut allocator = Allocator::new(&network);
    let (allocation, lacking) = allocate(
        &mut allocator,
        &network,
        AllocationRequest {
            enable_ipv6: false,
            ..REQUEST
        },
    );
    assert_eq!((allocation, lacking), (Allocation::default(), vec![]));
    assert_eq!(allocator, Allocator::new(&network));
}

#[test]
fn a_vtep_gets_both_families_or_none() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/126""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}"#,
    );
    let mut allocator = Allocator::new(&network);
    allocate(&mut allocator, &network, REQUEST);
    allocate(&mut allocator, &network, REQUEST);
    let before = allocator.clone();
    let mut allocation = Allocation::default();
    let refused = allocator
        .allocate_missing(&network, REQUEST, &mut allocation)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no VTEP address is left in fd01:a::/126; delete agents that are gone for good with \
         /overlay-master/agents/delete"
    );
    assert_eq!(allocation, Allocation::default());
    assert_eq!(allocator, before, "the IPv4 address is free again");
    // An agent without IPv6 is not affected.
    assert_eq!(
        show(
            allocate(
                &mut allocator,
                &network,
                AllocationRequest {
                    enable_ipv6: false,
                    ..REQUEST
                }
            )
            .0
            .vtep
        ),
        "44.128.0.3/20 -"
    );
}

#[test]
fn an_exhausted_overlay_is_left_out_in_both_families() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "small", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 65},
           {"name": "large", "subnet": "10.0.0.0/8", "prefix": 24}"#,
    );
    let mut allocator = Allocator::new(&network);
    allocate(&mut allocator, &network, REQUEST);
    allocate(&mut allocator, &network, REQUEST);
    let (allocation, lacking) = allocate(&mut allocator, &network, REQUEST);
    assert_eq!(
        lacking,
        [
            "no /65 is left for overlay small in fd01:b::/64; delete agents that are gone for good with \
          /overlay-master/agents/delete"
        ]
    );
    assert_eq!(allocation.overlays.keys().collect::<Vec<_>>(), ["large"]);
    let (v4, _) = allocate(
        &mut allocator,
        &network,
        AllocationRequest {
            enable_ipv6: false,
            ..REQUEST
        },
    );
    assert_eq!(
        show(v4.part(Some("small"))),
        "9.0.2.0/24 -",
        "the IPv4 subnet is free again"
    );
}

#[test]
fn the_vtep_is_released_if_every_overlay_is_exhausted() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 24}"#,
    );
    let mut allocator = Allocator::new(&network);
    allocate(&mut allocator, &network, REQUEST);
    let before = allocator.clone();
    let (allocation, lacking) = allocate(&mut allocator, &network, REQUEST);
    assert_eq!((allocation, lacking.len()), (Allocation::default(), 1));
    assert_eq!(allocator, before);
}

#[test]
fn reserved_subnets_are_not_allocated() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (held, _) = allocate(&mut allocator, &network, REQUEST);
    let mut recovered = Allocator::new(&network);
    assert_eq!(recovered.reserve(&held), Ok(()));
    assert_eq!(recovered, allocator);
    assert_eq!(
        recovered.reserve(&held),
        Err("44.128.0.1/20".parse().unwrap())
    );
}

#[test]
fn preferred_subnets_are_allocated_if_they_are_free() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (first, _) = allocate(&mut allocator, &network, REQUEST);
    let (second, _) = allocate(&mut allocator, &network, REQUEST);
    allocator.release(&first);
    allocator.release(&second);
    let mut again = Allocation::default();
    assert_eq!(
        allocator.allocate_preferring(&network, REQUEST, &mut again, &second),
        Ok(vec![])
    );
    assert_eq!(again, second, "not the lowest");
    // Preferred ones that are taken or have another prefix length: the lowest free ones.
    let mut preferred = first.clone();
    preferred.overlays.insert(
        "dcos".into(),
        DualStackNet {
            v4: Some("9.0.2.0/25".parse().unwrap()),
            v6: second.part(Some("dcos")).v6,
        },
    );
    let mut other = Allocation::default();
    assert_eq!(
        allocator.allocate_preferring(&network, REQUEST, &mut other, &preferred),
        Ok(vec![])
    );
    assert_eq!(other, first);
}

fn subnets_of_dcos(v4: Option<&str>, v6: Option<&str>) -> Allocation {
    let nets = DualStackNet {
        v4: v4.map(|net| net.parse().unwrap()),
        v6: v6.map(|net| net.parse().unwrap()),
    };
    Allocation {
        overlays: LiteMap::from_iter([("dcos".into(), nets)]),
        ..Allocation::default()
    }
}

/// Chooses among `candidates`, the only agents, for a new agent. Returns `None` if it lacks
/// nothing.
fn choose(request: AllocationRequest, candidates: &[&Allocation]) -> Option<Option<Vec<usize>>> {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/23", "prefix": 24, "subnet6": "fd01:b::/79", "prefix6": 80}"#,
    );
    let mut allocator = Allocator::new(&network);
    for candidate in candidates {
        allocator.reserve(candidate).unwrap();
    }
    let mut allocation = Allocation::default();
    let exhausted = allocator
        .allocate_missing(&network, request, &mut allocation)
        .unwrap();
    exhausted.first().map(|exhausted| {
        allocator.choose_reclaim(&network, request, &allocation, exhausted, candidates)
    })
}

#[test]
fn no_more_agents_are_chosen_than_needed() {
    let both = &subnets_of_dcos(Some("9.0.0.0/24"), Some("fd01:b::/80"));
    let v4 = &subnets_of_dcos(Some("9.0.1.0/24"), None);
    let v6 = &subnets_of_dcos(None, Some("fd01:b:0:0:1::/80"));
    let only_v4 = AllocationRequest {
        enable_ipv6: false,
        ..REQUEST
    };
    for (request, candidates, chosen) in [
        (REQUEST, vec![both, v4], vec![0]),
        (REQUEST, vec![v4, both], vec![0]),
        (REQUEST, vec![v6, v4, both], vec![0, 1]),
        (only_v4, vec![v6, v4, both], vec![1]),
    ] {
        assert_eq!(choose(request, &candidates), Some(Some(chosen)));
    }
    assert_eq!(choose(only_v4, &[]), None);
}

#[test]
fn subnets_that_are_too_short_are_not_chosen() {
    let only_v4 = AllocationRequest {
        enable_ipv6: false,
        ..REQUEST
    };
    // Two of the four are within one /24 that nobody else has a part of.
    let nets = ["9.0.0.0/25", "9.0.1.0/26", "9.0.1.64/26", "9.0.0.128/25"];
    let old = nets.map(|net| subnets_of_dcos(Some(net), None));
    let candidates: Vec<_> = old.iter().collect();
    assert_eq!(choose(only_v4, &candidates), Some(Some(vec![1, 2])));
}

#[test]
fn an_exhausted_vtep_range_does_not_stop_an_agent_with_a_vtep() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/126""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    );
    let mut allocator = Allocator::new(&network);
    allocate(&mut allocator, &network, REQUEST);
    allocate(&mut allocator, &network, REQUEST);
    let (mut allocation, _) = allocate(
        &mut allocator,
        &network,
        AllocationRequest {
            enable_ipv6: false,
            ..REQUEST
        },
    );
    let lacking = allocator
        .allocate_missing(&network, REQUEST, &mut allocation)
        .expect("it has one");
    let lacking: Vec<_> = lacking.iter().map(Exhausted::reason).collect();
    assert_eq!(lacking, ["no VTEP address is left in fd01:a::/126"]);
    assert_eq!(show(allocation.vtep), "44.128.0.3/20 -");
    assert_eq!(
        show(allocation.part(Some("dcos"))),
        "9.0.2.0/24 fd01:b:0:0:2::/80"
    );
}

#[test]
fn an_allocation_without_parts_of_another() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (first, _) = allocate(&mut allocator, &network, REQUEST);
    let (second, _) = allocate(&mut allocator, &network, REQUEST);
    let nothing = first.without(&first);
    assert!(nothing.vtep.is_empty() && nothing.part(Some("dcos")).is_empty());
    assert_eq!(first.without(&second), first);
    assert_eq!(first.without(&Allocation::default()), first);
    // One family of each.
    let v4 = DualStack {
        v4: true,
        v6: false,
    };
    let vtep = DualStackNet {
        v6: second.vtep.v6,
        ..first.vtep
    };
    let dcos = DualStackNet {
        v4: second.part(Some("dcos")).v4,
        ..first.part(Some("dcos"))
    };
    let mixed = Allocation {
        vtep,
        overlays: LiteMap::from_iter([("dcos".into(), dcos)]),
    };
    let rest = first.without(&mixed);
    assert_eq!(show(rest.vtep), "- fd01:a::1/64");
    assert_eq!(rest.part(Some("dcos")), first.part(Some("dcos")).only(v4));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Register(AllocationRequest),
    Extend(prop::sample::Index, AllocationRequest),
    /// Registers an agent and reclaims what it lacks from others.
    Reclaim(AllocationRequest),
    /// Registers an agent that prefers the latest deleted allocation.
    Prefer(AllocationRequest),
    Delete(prop::sample::Index),
}

fn request() -> impl Strategy<Value = AllocationRequest> {
    (any::<bool>(), any::<bool>()).prop_map(|(allocate_subnet, enable_ipv6)| AllocationRequest {
        allocate_subnet,
        enable_ipv6,
        ..REQUEST
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => request().prop_map(Step::Register),
        1 => (any::<prop::sample::Index>(), request()).prop_map(|(i, request)| Step::Extend(i, request)),
        1 => request().prop_map(Step::Reclaim),
        1 => request().prop_map(Step::Prefer),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
    ]
}

/// Returns whether a new agent gets the exhausted range if these allocations are released.
fn suffices(
    network: &Network,
    allocator: &Allocator,
    request: AllocationRequest,
    exhausted: &Exhausted,
    from: &[&Allocation],
) -> bool {
    let (mut allocator, mut allocation) = (allocator.clone(), Allocation::default());
    from.iter()
        .for_each(|allocation| allocator.release(allocation));
    match allocator.allocate_missing(network, request, &mut allocation) {
        Ok(still) => !still.iter().any(|still| still.overlay == exhausted.overlay),
        Err(_) => false,
    }
}

/// Allocates for a new agent and reclaims from the others what it lacks.
fn allocate_reclaiming(
    network: &Network,
    allocator: &mut Allocator,
    request: AllocationRequest,
    allocations: &mut Vec<Allocation>,
) -> Allocation {
    loop {
        let (mut trial, mut allocation) = (allocator.clone(), Allocation::default());
        let outcome = trial.allocate_missing(network, request, &mut allocation);
        let lacking = match &outcome {
            Ok(lacking) => lacking.clone(),
            Err(refused) => vec![refused.clone()],
        };
        let others: Vec<_> = allocations.iter().collect();
        let choices = lacking.iter().map(|lacking| {
            let choice = allocator.choose_reclaim(
                network,
                request,
                &Allocation::default(),
                lacking,
                &others,
            );
            (lacking, choice)
        });
        let mut chosen = None;
        for (lacking, choice) in choices {
            let Some(choice) = choice else {
                assert!(
                    !suffices(network, allocator, request, lacking, &others),
                    "all together suffice"
                );
                continue;
            };
            let from: Vec<_> = choice.iter().map(|index| others[*index]).collect();
            assert!(
                suffices(network, allocator, request, lacking, &from),
                "the chosen ones do not suffice"
            );
            for less in 0..from.len() {
                let mut fewer = from.clone();
                fewer.remove(less);
                assert!(
                    !suffices(network, allocator, request, lacking, &fewer),
                    "one is not needed"
                );
            }
            chosen = Some(choice);
            break;
        }
        let Some(chosen) = chosen else {
            *allocator = trial;
            return allocation;
        };
        for index in chosen.into_iter().rev() {
            allocator.release(&allocations.remove(index));
        }
    }
}

proptest! {
    /// Runs random steps on pools that are small enough to be exhausted.
    #[test]
    fn nothing_is_shared_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..120)) {
        let network = network(
            r#""vtep_subnet": "44.128.0.0/27", "vtep_subnet6": "fd01:a::/124""#,
            r#"{"name": "a", "subnet": "9.0.0.0/24", "prefix": 28, "subnet6": "fd01:b::/64", "prefix6": 67},
               {"name": "b", "subnet": "10.0.0.0/24", "prefix": 28},
               {"name": "c", "subnet6": "fd01:c::/64", "prefix6": 68}"#,
        );
        let mut allocator = Allocator::new(&network);
        let mut allocations: Vec<Allocation> = Vec::new();
        let mut deleted = Allocation::default();
        for step in steps {
            match step {
                Step::Register(request) => {
                    let (before, mut allocation) = (allocator.clone(), Allocation::default());
                    if allocator.allocate_missing(&network, request, &mut allocation).is_err() {
                        prop_assert_eq!(&allocator, &before);
                    }
                    allocations.push(allocation);
                }
                Step::Extend(index, request) if !allocations.is_empty() => {
                    let allocation = index.get_mut(&mut allocations);
                    _ = allocator.allocate_missing(&network, request, allocation);
                }
                Step::Delete(index) if !allocations.is_empty() => {
                    let allocation = allocations.swap_remove(index.index(allocations.len()));
                    allocator.release(&allocation);
                    deleted = allocation;
                }
                Step::Reclaim(request) => {
                    let allocation = allocate_reclaiming(&network, &mut allocator, request, &mut allocations);
                    allocations.push(allocation);
                }
                Step::Prefer(request) => {
                    let mut allocation = Allocation::default();
                    if allocator.allocate_preferring(&network, request, &mut allocation, &deleted).is_ok() {
                        allocations.push(allocation);
                    }
                }
                Step::Extend(..) | Step::Delete(_) => {}
            }
            let all: Vec<IpNet> = allocations
                .iter()
                .flat_map(|h| h.vtep.iter().flatten().map(|net| IpNet::from(net.addr())).chain(
                    h.overlays.values().flat_map(|nets| nets.iter().flatten().copied().collect::<Vec<_>>()),
                ).collect::<Vec<_>>())
                .collect();
            for (n, a) in all.iter().enumerate() {
                for b in &all[..n] {
                    prop_assert!(!overlap(*a, *b), "{} and {}", a, b);
                }
            }
            // Allocated and free subnets together are all subnets.
            let mut rebuilt = Allocator::new(&network);
            for allocation in &allocations {
                prop_assert_eq!(rebuilt.reserve(allocation), Ok(()));
            }
            prop_assert_eq!(&rebuilt, &allocator);
            let overlays = network.overlays.iter().map(|overlay| Some(overlay.name()));
            let capacities = overlays.chain([None]).map(|of| allocator.capacity(of));
            let used: u64 = capacities.map(|capacity| capacity.used.unwrap_or(0) + capacity.used6.unwrap_or(0)).sum();
            prop_assert_eq!(used, all.len() as u64);
        }
    }
}
