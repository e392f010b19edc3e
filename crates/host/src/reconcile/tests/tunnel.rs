//! Outer headers and options of the VXLAN device.

use super::super::observed::HostNetwork;
use super::*;

/// Agent 1, whose underlay address is 10.0.0.1.
fn agent() -> Desired {
    Desired {
        underlay_ip: Some([10, 0, 0, 1].into()),
        ..desired(&[2])
    }
}

/// A host that matches the desired state, and has these addresses on `eth0`, the underlay.
fn host(addresses: &[&str]) -> Observed {
    let network = |text: &&str| HostNetwork {
        net: net(text),
        device: "eth0".into(),
    };
    let mut observed = Observed {
        underlay: Some(Underlay::of_device(2, "eth0", 1500)),
        ..bare()
    };
    observed.kernel.as_mut().unwrap().networks = addresses.iter().map(network).collect();
    apply(&plan(&agent(), &observed), &mut observed);
    assert_eq!(plan(&agent(), &observed), Plan::default());
    observed
}

/// Plans the repair of a host after a change of the options of its VXLAN device.
fn repair(change: impl FnOnce(&mut Tunnel)) -> Vec<String> {
    let before = host(&["10.0.0.1/24"]);
    let mut observed = before.clone();
    change(&mut device(&mut observed).tunnel);
    let repair = plan(&agent(), &observed);
    apply(&repair, &mut observed);
    assert_eq!(observed, before);
    lines(&repair)
}

#[test]
fn packets_have_the_agents_address_if_the_host_has_it() {
    let with = |addresses: &[&str]| device(&mut host(addresses)).tunnel.local;
    assert_eq!(
        with(&["10.0.0.100/24", "10.0.0.1/24"]),
        Some(ip("10.0.0.1"))
    );
    // Outside of this host the agent is known by another address.
    assert_eq!(with(&["192.168.0.1/24"]), None);
    let mut moved = host(&["10.0.0.1/24"]);
    moved.kernel.as_mut().unwrap().networks.clear();
    assert_eq!(
        lines(&plan(&agent(), &moved)),
        ["set device vtep1024 local any"]
    );
}

#[test]
fn what_the_kernel_can_change_is_changed_in_place() {
    for (local, line) in [
        (Some("10.0.0.9"), "set device vtep1024 local 10.0.0.1"),
        (None, "set device vtep1024 local 10.0.0.1"),
    ] {
        assert_eq!(repair(|tunnel| tunnel.local = local.map(ip)), [line]);
    }
    assert_eq!(
        repair(|tunnel| (tunnel.ttl, tunnel.tos) = (1, 16)),
        ["set device vtep1024 ttl auto", "set device vtep1024 tos 0"]
    );
}

#[test]
fn a_device_with_other_options_is_created_anew_with_everything_on_it() {
    let changes: [fn(&mut Tunnel); 4] = [
        |tunnel| tunnel.local = Some(ip("fd99::1")),
        |tunnel| tunnel.link = Some(3),
        |tunnel| _ = tunnel.others.insert("gbp"),
        |tunnel| _ = tunnel.others.insert("remote"),
    ];
    for change in changes {
        let lines = repair(change);
        assert_eq!(lines[0], "remove device vtep1024");
        assert!(lines[1].contains("id 1024 local 10.0.0.1 dstport 64000"));
        assert_eq!(lines.len(), 1 + 1 + 2 + 2 + 1 + 3);
    }
}

/// The predecessor's device works if it is bound to the network card that leads to the peers.
#[test]
fn a_device_on_the_underlays_card_stays() {
    let mut observed = host(&["10.0.0.1/24"]);
    device(&mut observed).tunnel.link = Some(2);
    assert_eq!(plan(&agent(), &observed), Plan::default());
    observed.underlay = None;
    device(&mut observed).tunnel.link = Some(3);
    assert_eq!(
        lines(&plan(&agent(), &observed)),
        [""; 0],
        "nobody knows better"
    );
}

#[test]
fn events_about_options_and_the_agents_address_need_a_reconciliation() {
    let networks = |there: bool| {
        let own = HostNetwork {
            net: net("10.0.0.1/24"),
            device: "eth0".into(),
        };
        Surroundings {
            networks: there.then_some(own).into_iter().collect(),
            ..Surroundings::default()
        }
    };
    let eth0 = Underlay::of_device(2, "eth0", 1500);
    let expected =
        |there| ExpectedState::new(&agent(), Some(7), Some(&eth0), &[], &networks(there), None);
    let link = |change: fn(&mut Tunnel)| {
        let mut tunnel = Tunnel {
            local: Some(ip("10.0.0.1")),
            ..Tunnel::default()
        };
        change(&mut tunnel);
        Event {
            subject: Subject::Link(Link {
                index: 7,
                name: "vtep1024".into(),
                kind: model::empty_device().kind,
                tunnel,
                mac: mac(1),
                mtu: 1450,
                up: true,
            }),
            change: Change::Present,
        }
    };
    let wrong: [fn(&mut Tunnel); 4] = [
        |tunnel| tunnel.local = None,
        |tunnel| tunnel.ttl = 1,
        |tunnel| tunnel.link = Some(3),
        |tunnel| _ = tunnel.others.insert("gbp"),
    ];
    assert_eq!(expected(true).reaction(&link(|_| {})), Reaction::Ignore);
    for wrong in wrong {
        assert_eq!(expected(true).reaction(&link(wrong)), Reaction::Reconcile);
    }
    for (there, change, reaction) in [
        (true, Change::Gone, true),
        (true, Change::Present, false),
        (false, Change::Gone, false),
        (false, Change::Present, true),
    ] {
        let address = Event {
            subject: Subject::Address {
                index: 2,
                net: net("10.0.0.1/24"),
                tentative: false,
            },
            change,
        };
        let is_reconciliation = expected(there).reaction(&address) == Reaction::Reconcile;
        assert_eq!(is_reconciliation, reaction, "{there} {change:?}");
    }
}
