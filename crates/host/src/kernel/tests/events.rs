//! Parsing of events.

use super::*;
use crate::kernel::events::events;

fn change(gone: bool) -> Change {
    match gone {
        true => Change::Gone,
        false => Change::Present,
    }
}

/// Parses a datagram with one event.
fn one(bytes: &[u8]) -> Event {
    match &events(bytes)[..] {
        [Some(event)] => event.clone(),
        other => panic!("{other:?}"),
    }
}

/// Asserts that the kernel's messages about a created and a removed object are parsed.
fn assert_events(created: &Op, removed: &Op, subject: &Subject) {
    for (op, change) in [(created, Change::Present), (removed, Change::Gone)] {
        let expected = Event {
            subject: subject.clone(),
            change,
        };
        assert_eq!(one(&sent_by_kernel(op, INDEX)), expected, "{op}");
    }
}

#[test]
fn addresses_come_and_go() {
    for text in ["44.128.0.1/20", "fd01:a::1/64"] {
        let net = net(text);
        let subject = Subject::Address {
            index: INDEX,
            net,
            tentative: false,
        };
        let created = Op::AddAddress(DEVICE.into(), net);
        assert_events(&created, &Op::RemoveAddress(DEVICE.into(), net), &subject);
    }
}

#[test]
fn neighbours_come_and_go() {
    for text in ["44.128.0.2", "fd01:a::2"] {
        let ip = ip(text);
        let created = one(&sent_by_kernel(
            &Op::SetNeighbour(DEVICE.into(), ip, MAC),
            INDEX,
        ));
        let neighbour = Neighbour {
            mac: Some(MAC),
            permanent: true,
        };
        let subject = Subject::Neighbour {
            index: INDEX,
            ip,
            neighbour,
        };
        let change = Change::Present;
        assert_eq!(created, Event { subject, change });
        let removed = one(&sent_by_kernel(
            &Op::RemoveNeighbour(DEVICE.into(), ip),
            INDEX,
        ));
        assert!(
            matches!(removed.subject, Subject::Neighbour { .. }) && removed.change.is_gone(),
            "{removed:?}"
        );
    }
}

#[test]
fn routes_come_and_go() {
    for (dst, via) in [
        ("9.0.2.0/24", "44.128.0.2"),
        ("fd01:b:0:0:2::/80", "fd01:a::2"),
    ] {
        let (table, protocol, dst, via) = (254, PROTOCOL, net(dst), ip(via));
        let new = NewRoute {
            table,
            dst,
            via,
            nexthop: None,
            replaces: false,
        };
        let old = OldRoute {
            table,
            dst,
            via: Some(via),
            metric: 0,
            protocol,
            nexthop: None,
        };
        let route = Route {
            table,
            dst,
            via: Some(via),
            metric: 0,
            protocol,
            plain: true,
            nexthop: None,
        };
        let subject = Subject::Route {
            index: Some(INDEX),
            route,
        };
        let created = Op::SetRoute(DEVICE.into(), new);
        assert_events(&created, &Op::RemoveRoute(DEVICE.into(), old), &subject);
    }
}

#[test]
fn rules_come_and_go() {
    for text in ["9.0.2.0/24", "fd01:b:0:0:2::/80"] {
        let (from, priority) = (net(text), 32765);
        let created = Op::AddRule {
            overlay: "dcos".into(),
            from,
            table: 42,
        };
        let removed = Op::RemoveRule(OldRule {
            from,
            table: 42,
            priority,
            protocol: PROTOCOL,
        });
        let subject = Subject::Rule(Rule {
            from,
            priority,
            table: 42,
            protocol: PROTOCOL,
        });
        assert_events(&created, &removed, &subject);
    }
}

#[test]
fn fdb_entries_come_and_go() {
    let created = Op::SetFdb(DEVICE.into(), MAC, [10, 0, 0, 2].into());
    let removed = Op::RemoveFdb(DEVICE.into(), MAC, ip("10.0.0.2"));
    let entry = FdbEntry {
        permanent: true,
        plain: true,
    };
    let subject = Subject::Fdb {
        index: INDEX,
        mac: MAC,
        dst: ip("10.0.0.2"),
        entry,
    };
    assert_events(&created, &removed, &subject);
}

#[test]
fn nexthop_objects_come_and_go() {
    let message = NexthopMessage::new(0x2c80_0002, INDEX, [44, 128, 0, 2].into(), PROTOCOL);
    let subject = Subject::Nexthop {
        id: 0x2c80_0002,
        nexthop: NexthopEvent {
            index: Some(INDEX),
            via: Some(ip("44.128.0.2")),
            protocol: PROTOCOL,
        },
    };
    for (message, change) in [
        (Message::NewNexthop(message.clone()), Change::Present),
        (Message::DelNexthop(message), Change::Gone),
    ] {
        let subject = subject.clone();
        assert_eq!(one(&datagram(message)), Event { subject, change });
    }
}

fn link(family: AddressFamily) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = family;
    message.header.index = 20;
    message.header.flags = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName("veth1".into()),
        LinkAttribute::Mtu(1400),
        LinkAttribute::Address(MAC.0.to_vec()),
        LinkAttribute::Controller(INDEX),
    ];
    message
}

#[test]
fn devices_and_ports_come_and_go() {
    let event = |gone| {
        let kind = DeviceKind::Other("hardware".into());
        Event {
            subject: Subject::Link(Link {
                index: 20,
                name: "veth1".into(),
                kind,
                tunnel: Tunnel::default(),
                mac: MAC,
                mtu: 1400,
                up: true,
            }),
            change: change(gone),
        }
    };
    let device = || link(AddressFamily::Unspec);
    assert_eq!(
        one(&datagram(RouteNetlinkMessage::NewLink(device()))),
        event(false)
    );
    assert_eq!(
        one(&datagram(RouteNetlinkMessage::DelLink(device()))),
        event(true)
    );
    let mut down = device();
    down.header.flags = LinkFlags::empty();
    let event = one(&datagram(RouteNetlinkMessage::NewLink(down)));
    assert!(
        matches!(event.subject, Subject::Link(Link { up: false, .. })),
        "{event:?}"
    );
    let port = || link(AddressFamily::Bridge);
    let event = |gone| Event {
        subject: Subject::Port { bridge: INDEX },
        change: change(gone),
    };
    assert_eq!(
        one(&datagram(RouteNetlinkMessage::NewLink(port()))),
        event(false)
    );
    assert_eq!(
        one(&datagram(RouteNetlinkMessage::DelLink(port()))),
        event(true)
    );
}

/// Message of this type with this payload.
fn raw(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn a_datagram_has_several_messages_and_unreadable_ones_are_reported() {
    const SETTING: u16 = 80;
    let address = sent_by_kernel(&Op::AddAddress(DEVICE.into(), net("44.128.0.1/20")), INDEX);
    // Lengths that need padding.
    let all = [
        raw(SETTING, &[0; 3]),
        raw(200, &[0; 5]),
        address.clone(),
        raw(SETTING, &[]),
    ]
    .concat();
    let found = events(&all);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        (&found[0], &found[2]),
        (
            &Some(Event {
                subject: Subject::Setting,
                change: Change::Present
            }),
            &Some(Event {
                subject: Subject::Setting,
                change: Change::Present
            })
        )
    );
    for kind in [16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 104, 105] {
        let found = events(&[raw(kind, &[0; 3]), address.clone()].concat());
        assert_eq!(
            (found.len(), &found[0]),
            (2, &None),
            "a message of type {kind} that is too short"
        );
    }
    let cut = &address[..address.len() - 4];
    assert_eq!(events(cut), [None], "the end is missing");
    assert_eq!(events(&address[..15]), [], "not even a header");
}

#[test]
fn messages_that_cannot_be_about_us_are_left_out() {
    let link_local = ["169.254.7.7/16", "fe80::7/64"];
    for text in link_local {
        assert_eq!(
            events(&sent_by_kernel(
                &Op::AddAddress(DEVICE.into(), net(text)),
                INDEX
            )),
            []
        );
    }
    assert_eq!(
        events(&sent_by_kernel(
            &Op::AddAddress(DEVICE.into(), net("44.128.0.1/20")),
            0
        )),
        []
    );
    let op = Op::SetNeighbour(DEVICE.into(), ip("44.128.0.2"), MAC);
    let (RouteNetlinkMessage::NewNeighbour(mut proxy), _) = sent(&op) else {
        panic!()
    };
    proxy.header.flags = NeighbourFlags::Proxy;
    assert_eq!(
        events(&datagram(RouteNetlinkMessage::NewNeighbour(proxy))),
        []
    );
    let kernels = parsing::route(Some("9.0.2.0"), 24, RouteProtocol::Kernel);
    let automatic = Event {
        subject: Subject::AutomaticRoute {
            dst: net("9.0.2.0/24"),
        },
        change: Change::Present,
    };
    let kernels = datagram(RouteNetlinkMessage::NewRoute(kernels));
    assert_eq!(events(&kernels), [Some(automatic)], "it can lead to a peer");
    // An FDB entry of a device's own hardware address.
    let own = Op::SetFdb(DEVICE.into(), MAC, [10, 0, 0, 2].into());
    let (RouteNetlinkMessage::NewNeighbour(mut own), _) = sent(&own) else {
        panic!()
    };
    own.attributes
        .retain(|attribute| !matches!(attribute, NeighbourAttribute::Destination(_)));
    assert_eq!(
        events(&datagram(RouteNetlinkMessage::NewNeighbour(own))),
        []
    );
}

#[test]
fn tentative_addresses_are_marked() {
    let op = Op::AddAddress(DEVICE.into(), net("fd01:b::1/81"));
    let (RouteNetlinkMessage::NewAddress(mut message), _) = sent(&op) else {
        panic!()
    };
    message.header.flags = AddressHeaderFlags::Tentative;
    let event = one(&datagram(RouteNetlinkMessage::NewAddress(message)));
    assert!(
        matches!(
            event,
            Event {
                subject: Subject::Address {
                    tentative: true,
                    ..
                },
                change: Change::Present
            }
        ),
        "{event:?}"
    );
}
