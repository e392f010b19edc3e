//! Changes of a few peers without a full reconciliation: only from one known list to another,
//! and only if nothing else changes.

use overlay_core::host_api::desired::{Checksum, Firewall};

use super::super::tests::*;
use super::events::{assert_reactions, changed_route, removed};
use Reaction::{Ignore, Reconcile};

const INDEX: u32 = 7;

fn change(from: &Desired, to: &Desired) -> Option<(u32, Vec<String>)> {
    let mut expected = ExpectedState::new(from, Some(INDEX), None, &[], &Default::default(), None);
    let (index, ops) = expected.change_peers(from, to)?;
    Some((index, ops.iter().map(Op::to_string).collect()))
}

/// Agent 1 with agent 2 and `count` other peers.
fn crowd(count: u16) -> Desired {
    let peer = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let peer = Peer {
            vtep_ips: vec![Ipv4Addr::new(44, 128, high + 1, low).into()],
            vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, high + 1, low]),
            subnets: vec![net(&format!("9.{}.{low}.0/24", high + 1))],
        };
        (Ipv4Addr::new(10, 0, high + 1, low), Arc::new(peer))
    };
    let peers = [super::super::tests::peer(2)]
        .into_iter()
        .chain((0..count).map(peer));
    Desired {
        peers: Some(Arc::new(peers.collect())),
        ..desired(&[])
    }
}

#[test]
fn sets_and_removes_all_objects_of_a_peer() {
    let joined = [
        "add neighbour 44.128.0.3 lladdr 70:b3:d5:80:00:03 permanent dev vtep1024",
        "add neighbour fd01:a::3 lladdr 70:b3:d5:80:00:03 permanent dev vtep1024",
        "add FDB entry 70:b3:d5:80:00:03 dst 10.0.0.3 self permanent dev vtep1024",
        "add route 10.0.0.3/32 via 44.128.0.3 table 42 dev vtep1024",
        "add route 9.0.3.0/24 via 44.128.0.3 dev vtep1024",
        "add route fd01:b:0:0:3::/80 via fd01:a::3 dev vtep1024",
    ];
    let (index, ops) = change(&desired(&[2]), &desired(&[2, 3])).unwrap();
    assert_eq!(index, INDEX);
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(ops), sorted(joined.map(str::to_owned).to_vec()));
    let (_, ops) = change(&desired(&[2, 3]), &desired(&[2])).unwrap();
    assert_eq!(ops.len(), joined.len());
    assert!(
        ops.iter()
            .all(|op| op.starts_with("remove ") && !op.contains("44.128.0.2")),
        "{ops:?}"
    );
}

#[test]
fn applies_to_at_most_a_hundred_peers() {
    for (count, ops) in [(100, Some(400)), (101, None)] {
        let there = change(&crowd(0), &crowd(count)).map(|(_, ops)| ops.len());
        let back = change(&crowd(count), &crowd(0)).map(|(_, ops)| ops.len());
        assert_eq!((there, back), (ops, ops), "{count}");
    }
    // A hundred leave and a hundred join.
    let mut other = crowd(0);
    other.peers = Some(Arc::new(
        (3..103)
            .map(super::peer)
            .chain([super::super::tests::peer(2)])
            .collect(),
    ));
    assert!(change(&crowd(100), &other).is_some());
}

#[test]
fn applies_only_if_nothing_else_changes() {
    let (from, to) = (desired(&[2]), desired(&[2, 3]));
    assert!(change(&from, &to).is_some());
    let changes: [fn(&mut Desired); 12] = [
        |desired| desired.cni.dir = "/other".into(),
        |desired| desired.cni.data_dir = Some("/other".into()),
        |desired| desired.backend = Backend::External,
        |desired| desired.firewall = Firewall::Nftables,
        |desired| desired.underlay_ip = Some(Ipv4Addr::LOCALHOST),
        |desired| desired.fit_mtu = true,
        |desired| desired.tx_checksum = Checksum::Off,
        |desired| desired.removal = Removal::Thorough,
        |desired| desired.vtep.as_mut().unwrap().mtu = None,
        |desired| desired.vtep = None,
        |desired| desired.overlays.get_mut("dcos").unwrap().mtu = 1400,
        |desired| desired.peers = None,
    ];
    for (n, change_one) in changes.iter().enumerate() {
        let mut other = to.clone();
        change_one(&mut other);
        assert_eq!(change(&from, &other), None, "change {n}");
        let mut other = from.clone();
        change_one(&mut other);
        assert_eq!(change(&other, &to), None, "change {n} the other way round");
    }
    assert_eq!(
        change(&from, &from),
        None,
        "without a change a full reconciliation reports"
    );
    // The host is not its own peer.
    assert_eq!(change(&from, &desired(&[1, 2])), None);
}

#[test]
fn needs_a_device() {
    let (from, to) = (desired(&[2]), desired(&[2, 3]));
    for expected in [
        ExpectedState::new(&from, None, None, &[], &Default::default(), None),
        ExpectedState::default(),
    ] {
        let mut expected = expected;
        assert_eq!(expected.change_peers(&from, &to), None);
    }
}

/// A full reconciliation decides if two peers claim the same object.
#[test]
fn does_not_apply_to_conflicting_peers() {
    let claims: [fn(&mut Peer); 5] = [
        |three| three.vtep_mac = mac(2),
        |three| three.vtep_ips[0] = ip("44.128.0.2"),
        |three| three.vtep_ips[1] = ip("fd01:a::2"),
        |three| three.subnets[0] = net("9.0.2.0/24"),
        |three| three.subnets[1] = net("fd01:b:0:0:2::/80"),
    ];
    let unique = desired(&[2, 3]);
    let doubled_by = |claim: fn(&mut Peer)| {
        let mut doubled = unique.clone();
        let (address, mut three) = peer(3);
        claim(Arc::make_mut(&mut three));
        doubled.peers_mut().insert(address, three);
        doubled
    };
    for claim in claims {
        let doubled = doubled_by(claim);
        assert_eq!(change(&desired(&[2]), &doubled), None, "joins");
        // The object is the other peer's then.
        assert_eq!(change(&doubled, &desired(&[2])), None, "leaves");
        assert_eq!(
            change(&doubled, &desired(&[3])),
            None,
            "stays, and the other one leaves"
        );
    }
    // Both join at once.
    assert_eq!(change(&desired(&[]), &doubled_by(claims[0])), None);
    // Nor does it apply to a peer that cannot be reached.
    let mut lame = unique.clone();
    let (address, mut three) = peer(3);
    Arc::make_mut(&mut three).vtep_ips.truncate(1);
    lame.peers_mut().insert(address, three);
    assert_eq!(change(&desired(&[2]), &lame), None);
}

/// A change that does not apply leaves the expected state as it was.
#[test]
fn changes_the_expected_state_only_if_it_applies() {
    let (from, to) = (desired(&[2]), desired(&[2, 3]));
    let three = changed_route("9.0.3.0/24", "44.128.0.3", |_| {});
    let mut expected = ExpectedState::new(&from, Some(INDEX), None, &[], &Default::default(), None);
    assert_eq!(
        expected.change_peers(
            &from,
            &Desired {
                fit_mtu: true,
                ..to.clone()
            }
        ),
        None
    );
    assert_reactions(&expected, &[(Reconcile, three.clone())]);
    assert!(expected.change_peers(&from, &to).is_some());
    assert_reactions(
        &expected,
        &[(Ignore, three.clone()), (Reconcile, removed(three.clone()))],
    );
    assert!(expected.change_peers(&to, &from).is_some());
    assert_reactions(&expected, &[(Reconcile, three)]);
}
