//! Tests of the allocator.

use proptest::prelude::*;

use super::super::allocator::*;
use super::super::prefix::overlap;
use crate::config::master::parse;

const ASK: Ask = Ask {
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

fn show(nets: Nets) -> String {
    nets.iter()
        .map(|net| net.map_or("-".to_owned(), |net| net.to_string()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn complete(allocator: &mut Allocator, network: &Network, ask: Ask) -> (Holding, Vec<String>) {
    let mut holding = Holding::default();
    let lacking = allocator.complete(network, ask, &mut holding).unwrap();
    (holding, lacking.iter().map(ToString::to_string).collect())
}

#[test]
fn the_lowest_free_ones_first() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (first, _) = complete(&mut allocator, &network, ASK);
    let (second, _) = complete(&mut allocator, &network, ASK);
    assert_eq!(show(first.vtep), "44.128.0.1/20 fd01:a::1/64");
    assert_eq!(show(first.part(Some("dcos"))), "9.0.0.0/24 fd01:b::/80");
    assert_eq!(show(second.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(
        show(second.part(Some("dcos"))),
        "9.0.1.0/24 fd01:b:0:0:1::/80"
    );
    assert!(!first.overlays.contains_key("off"));
    allocator.release(&first);
    assert_eq!(complete(&mut allocator, &network, ASK).0, first);
}

#[test]
fn an_agent_gets_what_it_asks_for() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (bare, _) = complete(
        &mut allocator,
        &network,
        Ask {
            allocate_subnet: false,
            ..ASK
        },
    );
    assert_eq!(show(bare.vtep), "44.128.0.1/20 fd01:a::1/64");
    assert_eq!(show(bare.part(Some("dcos"))), "- -");
    let (v4, _) = complete(
        &mut allocator,
        &network,
        Ask {
            enable_ipv6: false,
            ..ASK
        },
    );
    assert_eq!(show(v4.vtep), "44.128.0.2/20 -");
    assert_eq!(show(v4.part(Some("dcos"))), "9.0.0.0/24 -");

    // It may ask for more later, and never loses what it has.
    let mut later = v4.clone();
    assert_eq!(allocator.complete(&network, ASK, &mut later), Ok(vec![]));
    assert_eq!(show(later.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(show(later.part(Some("dcos"))), "9.0.0.0/24 fd01:b::/80");
    let before = later.clone();
    assert_eq!(
        allocator.complete(
            &network,
            Ask {
                enable_ipv6: false,
                ..ASK
            },
            &mut later
        ),
        Ok(vec![])
    );
    assert_eq!(later, before);
}

#[test]
fn without_an_overlay_there_is_no_vtep() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "six", "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    );
    let mut allocator = Allocator::new(&network);
    let (holding, lacking) = complete(
        &mut allocator,
        &network,
        Ask {
            enable_ipv6: false,
            ..ASK
        },
    );
    assert_eq!((holding, lacking), (Holding::default(), vec![]));
    assert_eq!(allocator, Allocator::new(&network));
}

#[test]
fn a_vtep_is_of_both_families_or_of_none() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/126""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}"#,
    );
    let mut allocator = Allocator::new(&network);
    complete(&mut allocator, &network, ASK);
    complete(&mut allocator, &network, ASK);
    let before = allocator.clone();
    let mut holding = Holding::default();
    let refused = allocator.complete(&network, ASK, &mut holding).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no VTEP address is left in fd01:a::/126; delete agents that are gone for good with \
         /overlay-master/agents/delete"
    );
    assert_eq!(holding, Holding::default());
    assert_eq!(allocator, before, "the IPv4 address went back");
    // An agent without IPv6 is not concerned.
    assert_eq!(
        show(
            complete(
                &mut allocator,
                &network,
                Ask {
                    enable_ipv6: false,
                    ..ASK
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
    complete(&mut allocator, &network, ASK);
    complete(&mut allocator, &network, ASK);
    let (holding, lacking) = complete(&mut allocator, &network, ASK);
    assert_eq!(
        lacking,
        [
            "no /65 is left for overlay small in fd01:b::/64; delete agents that are gone for good with \
          /overlay-master/agents/delete"
        ]
    );
    assert_eq!(holding.overlays.keys().collect::<Vec<_>>(), ["large"]);
    let (v4, _) = complete(
        &mut allocator,
        &network,
        Ask {
            enable_ipv6: false,
            ..ASK
        },
    );
    assert_eq!(
        show(v4.part(Some("small"))),
        "9.0.2.0/24 -",
        "the IPv4 subnet went back"
    );
}

#[test]
fn with_every_overlay_exhausted_the_vtep_goes_back() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 24}"#,
    );
    let mut allocator = Allocator::new(&network);
    complete(&mut allocator, &network, ASK);
    let before = allocator.clone();
    let (holding, lacking) = complete(&mut allocator, &network, ASK);
    assert_eq!((holding, lacking.len()), (Holding::default(), 1));
    assert_eq!(allocator, before);
}

#[test]
fn what_is_reserved_is_not_given_out() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (held, _) = complete(&mut allocator, &network, ASK);
    let mut recovered = Allocator::new(&network);
    assert_eq!(recovered.reserve(&held), Ok(()));
    assert_eq!(recovered, allocator);
    assert_eq!(
        recovered.reserve(&held),
        Err("44.128.0.1/20".parse().unwrap())
    );
}

#[test]
fn what_an_agent_held_is_its_own_again_if_it_is_free() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (first, _) = complete(&mut allocator, &network, ASK);
    let (second, _) = complete(&mut allocator, &network, ASK);
    allocator.release(&first);
    allocator.release(&second);
    let mut again = Holding::default();
    assert_eq!(
        allocator.restore(&network, ASK, &mut again, &second),
        Ok(vec![])
    );
    assert_eq!(again, second, "not the lowest");
    // Taken meanwhile, or of another length than subnets have now: what there is.
    let mut former = first.clone();
    former.overlays.insert(
        "dcos".into(),
        Nets {
            v4: Some("9.0.2.0/25".parse().unwrap()),
            v6: second.part(Some("dcos")).v6,
        },
    );
    let mut other = Holding::default();
    assert_eq!(
        allocator.restore(&network, ASK, &mut other, &former),
        Ok(vec![])
    );
    assert_eq!(other, first);
}

#[test]
fn no_more_is_taken_from_others_than_is_needed() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64""#,
        r#"{"name": "dcos", "subnet": "9.0.0.0/23", "prefix": 24, "subnet6": "fd01:b::/79", "prefix6": 80}"#,
    );
    let holding = |v4: Option<&str>, v6: Option<&str>| {
        let nets = Nets {
            v4: v4.map(|net| net.parse().unwrap()),
            v6: v6.map(|net| net.parse().unwrap()),
        };
        Holding {
            overlays: LiteMap::from_iter([("dcos".into(), nets)]),
            ..Holding::default()
        }
    };
    let relief = |ask: Ask, others: &[Holding]| {
        let mut allocator = Allocator::new(&network);
        others
            .iter()
            .for_each(|other| allocator.reserve(other).unwrap());
        let mut holding = Holding::default();
        let lacking = allocator.complete(&network, ask, &mut holding).unwrap();
        let others: Vec<_> = others.iter().collect();
        lacking
            .first()
            .map(|exhausted| allocator.relief(&network, ask, &holding, exhausted, &others))
    };
    let (both, v4) = (
        holding(Some("9.0.0.0/24"), Some("fd01:b::/80")),
        holding(Some("9.0.1.0/24"), None),
    );
    let v6 = holding(None, Some("fd01:b:0:0:1::/80"));
    assert_eq!(
        relief(ASK, &[both.clone(), v4.clone()]),
        Some(Some(vec![0])),
        "the first one"
    );
    assert_eq!(
        relief(ASK, &[v4.clone(), both.clone()]),
        Some(Some(vec![0]))
    );
    assert_eq!(
        relief(ASK, &[v6.clone(), v4.clone(), both.clone()]),
        Some(Some(vec![0, 1]))
    );
    let only_v4 = Ask {
        enable_ipv6: false,
        ..ASK
    };
    assert_eq!(
        relief(only_v4, &[v6, v4.clone(), both.clone()]),
        Some(Some(vec![1])),
        "of use"
    );
    assert_eq!(relief(ASK, &[v4, both]), Some(Some(vec![0])));
    // Subnets from before the prefix was changed: two of four are in one /24.
    let old = ["9.0.0.0/25", "9.0.1.0/26", "9.0.1.64/26", "9.0.0.128/25"];
    let old: Vec<_> = old
        .into_iter()
        .map(|net| holding(Some(net), None))
        .collect();
    assert_eq!(relief(only_v4, &old), Some(Some(vec![1, 2])));
    assert_eq!(relief(only_v4, &[]), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Register(Ask),
    Complete(prop::sample::Index, Ask),
    /// With what it takes from others.
    Relieve(Ask),
    /// As one that held something before.
    Restore(Ask),
    Delete(prop::sample::Index),
}

fn ask() -> impl Strategy<Value = Ask> {
    (any::<bool>(), any::<bool>()).prop_map(|(allocate_subnet, enable_ipv6)| Ask {
        allocate_subnet,
        enable_ipv6,
        ..ASK
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => ask().prop_map(Step::Register),
        1 => (any::<prop::sample::Index>(), ask()).prop_map(|(i, ask)| Step::Complete(i, ask)),
        1 => ask().prop_map(Step::Relieve),
        1 => ask().prop_map(Step::Restore),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
    ]
}

/// Whether this agent could have what is lacking if these gave back what they hold.
fn would_do(
    network: &Network,
    allocator: &Allocator,
    ask: Ask,
    lacking: &Exhausted,
    from: &[&Holding],
) -> bool {
    let (mut allocator, mut holding) = (allocator.clone(), Holding::default());
    from.iter().for_each(|holding| allocator.release(holding));
    match allocator.complete(network, ask, &mut holding) {
        Ok(still) => !still.iter().any(|still| still.overlay == lacking.overlay),
        Err(_) => false,
    }
}

/// A new agent takes from the others what it takes to get all that it asks for.
fn relieve(
    network: &Network,
    allocator: &mut Allocator,
    ask: Ask,
    holdings: &mut Vec<Holding>,
) -> Holding {
    loop {
        let (mut trial, mut holding) = (allocator.clone(), Holding::default());
        let outcome = trial.complete(network, ask, &mut holding);
        let lacking = match &outcome {
            Ok(lacking) => lacking.clone(),
            Err(refused) => vec![refused.clone()],
        };
        let others: Vec<_> = holdings.iter().collect();
        let reliefs = lacking.iter().map(|lacking| {
            let relief = allocator.relief(network, ask, &Holding::default(), lacking, &others);
            (lacking, relief)
        });
        let mut chosen = None;
        for (lacking, relief) in reliefs {
            let Some(relief) = relief else {
                assert!(
                    !would_do(network, allocator, ask, lacking, &others),
                    "all would have done"
                );
                continue;
            };
            let from: Vec<_> = relief.iter().map(|index| others[*index]).collect();
            assert!(
                would_do(network, allocator, ask, lacking, &from),
                "not enough"
            );
            for less in 0..from.len() {
                let mut fewer = from.clone();
                fewer.remove(less);
                assert!(
                    !would_do(network, allocator, ask, lacking, &fewer),
                    "more than is needed"
                );
            }
            chosen = Some(relief);
            break;
        }
        let Some(chosen) = chosen else {
            *allocator = trial;
            return holding;
        };
        for index in chosen.into_iter().rev() {
            allocator.release(&holdings.remove(index));
        }
    }
}

proptest! {
    /// Pools small enough that all of them run out.
    #[test]
    fn nobody_shares_and_everything_comes_back(steps in prop::collection::vec(step(), 1..120)) {
        let network = network(
            r#""vtep_subnet": "44.128.0.0/27", "vtep_subnet6": "fd01:a::/124""#,
            r#"{"name": "a", "subnet": "9.0.0.0/24", "prefix": 28, "subnet6": "fd01:b::/64", "prefix6": 67},
               {"name": "b", "subnet": "10.0.0.0/24", "prefix": 28},
               {"name": "c", "subnet6": "fd01:c::/64", "prefix6": 68}"#,
        );
        let mut allocator = Allocator::new(&network);
        let mut holdings: Vec<Holding> = Vec::new();
        let mut former = Holding::default();
        for step in steps {
            match step {
                Step::Register(ask) => {
                    let (before, mut holding) = (allocator.clone(), Holding::default());
                    if allocator.complete(&network, ask, &mut holding).is_err() {
                        prop_assert_eq!(&allocator, &before);
                    }
                    holdings.push(holding);
                }
                Step::Complete(index, ask) if !holdings.is_empty() => {
                    let holding = index.get_mut(&mut holdings);
                    _ = allocator.complete(&network, ask, holding);
                }
                Step::Delete(index) if !holdings.is_empty() => {
                    let holding = holdings.swap_remove(index.index(holdings.len()));
                    allocator.release(&holding);
                    former = holding;
                }
                Step::Relieve(ask) => {
                    let holding = relieve(&network, &mut allocator, ask, &mut holdings);
                    holdings.push(holding);
                }
                Step::Restore(ask) => {
                    let mut holding = Holding::default();
                    if allocator.restore(&network, ask, &mut holding, &former).is_ok() {
                        holdings.push(holding);
                    }
                }
                Step::Complete(..) | Step::Delete(_) => {}
            }
            let all: Vec<IpNet> = holdings
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
            // What is held and what is free is together all there is.
            let mut rebuilt = Allocator::new(&network);
            for holding in &holdings {
                prop_assert_eq!(rebuilt.reserve(holding), Ok(()));
            }
            prop_assert_eq!(&rebuilt, &allocator);
            let overlays = network.overlays.iter().map(|overlay| Some(overlay.name.as_str()));
            let rooms = overlays.chain([None]).map(|of| allocator.room(of));
            let used: u64 = rooms.map(|room| room.used.unwrap_or(0) + room.used6.unwrap_or(0)).sum();
            prop_assert_eq!(used, all.len() as u64);
        }
    }
}
