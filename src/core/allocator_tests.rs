//! Tests of the allocator.

use super::super::config::master::parse;
use super::super::net::overlap;
use super::*;
use proptest::prelude::*;

const ASK: Ask = Ask { allocate_subnet: true, mesos_bridge: true, docker_bridge: true, enable_ipv6: true };

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
    nets.iter().map(|net| net.map_or("-".to_owned(), |net| net.to_string())).collect::<Vec<_>>().join(" ")
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
    assert_eq!(show(first.overlays["dcos"]), "9.0.0.0/24 fd01:b::/80");
    assert_eq!(show(second.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(show(second.overlays["dcos"]), "9.0.1.0/24 fd01:b:0:0:1::/80");
    assert!(!first.overlays.contains_key("off"));
    allocator.release(&first);
    assert_eq!(complete(&mut allocator, &network, ASK).0, first);
}

#[test]
fn an_agent_gets_what_it_asks_for() {
    let network = dual_stack();
    let mut allocator = Allocator::new(&network);
    let (bare, _) = complete(&mut allocator, &network, Ask { allocate_subnet: false, ..ASK });
    assert_eq!(show(bare.vtep), "44.128.0.1/20 fd01:a::1/64");
    assert_eq!(show(bare.overlays["dcos"]), "- -");
    let (v4, _) = complete(&mut allocator, &network, Ask { enable_ipv6: false, ..ASK });
    assert_eq!(show(v4.vtep), "44.128.0.2/20 -");
    assert_eq!(show(v4.overlays["dcos"]), "9.0.0.0/24 -");

    // It may ask for more later, and never loses what it has.
    let mut later = v4.clone();
    assert_eq!(allocator.complete(&network, ASK, &mut later), Ok(vec![]));
    assert_eq!(show(later.vtep), "44.128.0.2/20 fd01:a::2/64");
    assert_eq!(show(later.overlays["dcos"]), "9.0.0.0/24 fd01:b::/80");
    let before = later.clone();
    assert_eq!(allocator.complete(&network, Ask { enable_ipv6: false, ..ASK }, &mut later), Ok(vec![]));
    assert_eq!(later, before);
}

#[test]
fn without_an_overlay_there_is_no_vtep() {
    let network = network(
        r#""vtep_subnet": "44.128.0.0/20""#,
        r#"{"name": "six", "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    );
    let mut allocator = Allocator::new(&network);
    let (holding, lacking) = complete(&mut allocator, &network, Ask { enable_ipv6: false, ..ASK });
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
        show(complete(&mut allocator, &network, Ask { enable_ipv6: false, ..ASK }).0.vtep),
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
        ["no /65 is left for overlay small in fd01:b::/64; delete agents that are gone for good with \
          /overlay-master/agents/delete"]
    );
    assert_eq!(holding.overlays.keys().collect::<Vec<_>>(), ["large"]);
    let (v4, _) = complete(&mut allocator, &network, Ask { enable_ipv6: false, ..ASK });
    assert_eq!(show(v4.overlays["small"]), "9.0.2.0/24 -", "the IPv4 subnet went back");
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
    assert_eq!(recovered.reserve(&held), Err("44.128.0.1/20".parse().unwrap()));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Register(Ask),
    Complete(prop::sample::Index, Ask),
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
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
    ]
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
