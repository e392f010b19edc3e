//! Requests for operations.

use super::*;
use crate::kernel::parse;
use crate::reconcile::ChecksumOffload;
use RouteNetlinkMessage as M;

#[test]
fn addresses_skip_duplicate_address_detection() {
    let no_dad = AddressHeaderFlags::Nodad;
    for (text, family, flags) in [
        (
            "44.128.0.1/20",
            AddressFamily::Inet,
            AddressHeaderFlags::empty(),
        ),
        ("fd01:a::1/64", AddressFamily::Inet6, no_dad),
    ] {
        let net = net(text);
        let (M::NewAddress(message), SET) = sent(&Op::AddAddress(DEVICE.into(), net)) else {
            panic!()
        };
        let header = &message.header;
        assert_eq!(
            (header.family, header.flags, header.index),
            (family, flags, INDEX)
        );
        assert_eq!(
            (header.prefix_len, header.scope),
            (net.prefix_len(), AddressScope::Universe)
        );
        assert!(
            message
                .attributes
                .contains(&AddressAttribute::Local(net.addr()))
        );
        let (removed, 0) = sent(&Op::RemoveAddress(DEVICE.into(), net)) else {
            panic!()
        };
        assert_eq!(removed, M::DelAddress(message));
    }
}

#[test]
fn neighbours_are_permanent() {
    for (text, family) in [
        ("44.128.0.2", AddressFamily::Inet),
        ("fd01:a::2", AddressFamily::Inet6),
    ] {
        let op = Op::SetNeighbour(DEVICE.into(), ip(text), MAC);
        let (M::NewNeighbour(message), SET) = sent(&op) else {
            panic!()
        };
        let header = &message.header;
        assert_eq!((header.family, header.ifindex), (family, INDEX));
        assert_eq!(
            (header.state, header.flags),
            (NeighbourState::Permanent, NeighbourFlags::empty())
        );
        let to = NeighbourAttribute::Destination(ip(text).into());
        assert_eq!(
            message.attributes,
            [
                to.clone(),
                NeighbourAttribute::LinkLayerAddress(MAC.0.into())
            ]
        );
        let op = Op::RemoveNeighbour(DEVICE.into(), ip(text));
        let (M::DelNeighbour(message), 0) = sent(&op) else {
            panic!()
        };
        assert_eq!(
            (message.header.family, message.attributes),
            (family, vec![to])
        );
    }
}

#[test]
fn fdb_entries_are_permanent_entries_of_the_device() {
    let op = Op::SetFdb(DEVICE.into(), MAC, [10, 0, 0, 2].into());
    let (M::NewNeighbour(message), SET) = sent(&op) else {
        panic!()
    };
    let header = &message.header;
    assert_eq!(
        (header.family, header.ifindex),
        (AddressFamily::Bridge, INDEX)
    );
    assert_eq!(
        (header.state, header.flags),
        (NeighbourState::Permanent, NeighbourFlags::Own)
    );
    let (removed, 0) = sent(&Op::RemoveFdb(DEVICE.into(), MAC, ip("10.0.0.2"))) else {
        panic!()
    };
    assert_eq!(removed, M::DelNeighbour(message));
}

#[test]
fn routes_have_our_origin_and_replace_ours_only() {
    for (dst, via, table, short_table) in [
        ("9.0.2.0/24", "44.128.0.2", 254, 254),
        ("10.0.0.2/32", "44.128.0.2", 42, 42),
        ("fd01:b:0:0:2::/80", "fd01:a::2", 254, 254),
        // A table that has no room in the header.
        ("9.0.2.0/24", "44.128.0.2", 1000, 0),
    ] {
        let new = NewRoute {
            table,
            dst: net(dst),
            via: ip(via),
            nexthop: None,
            replaces: false,
        };
        let (M::NewRoute(message), ADD) = sent(&Op::SetRoute(DEVICE.into(), new)) else {
            panic!()
        };
        let replaces = true;
        let replacing = Op::SetRoute(DEVICE.into(), NewRoute { replaces, ..new });
        let (M::NewRoute(replacement), SET) = sent(&replacing) else {
            panic!()
        };
        assert_eq!(replacement, message);
        let header = &message.header;
        assert_eq!(
            (header.protocol, header.scope),
            (RouteProtocol::from(142), RouteScope::Universe)
        );
        assert_eq!(
            (header.kind, header.table),
            (RouteType::Unicast, short_table)
        );
        assert_eq!(header.destination_prefix_length, net(dst).prefix_len());
        assert!(message.attributes.contains(&RouteAttribute::Table(table)));
        assert!(
            message
                .attributes
                .contains(&RouteAttribute::Gateway(ip(via).into()))
        );
        assert!(message.attributes.contains(&RouteAttribute::Oif(INDEX)));
    }
}

#[test]
fn a_route_with_a_nexthop_object_has_neither_gateway_nor_device() {
    let new = NewRoute {
        table: 254,
        dst: net("9.0.2.0/24"),
        via: ip("44.128.0.2"),
        nexthop: Some(9),
        replaces: false,
    };
    let (M::NewRoute(message), ADD) = sent(&Op::SetRoute(DEVICE.into(), new)) else {
        panic!()
    };
    assert!(message.attributes.contains(&RouteAttribute::NhId(9)));
    let says_way = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Oif(_)
        )
    };
    assert!(!message.attributes.iter().any(says_way), "{message:?}");
}

/// Several routes can have the same destination.
#[test]
fn a_route_is_removed_by_all_its_properties() {
    let (dst, via) = (net("9.0.2.0/24"), Some(ip("44.128.0.9")));
    let old = OldRoute {
        table: 42,
        dst,
        via,
        metric: 7,
        protocol: 3,
        nexthop: None,
    };
    let (M::DelRoute(message), 0) = sent(&Op::RemoveRoute(DEVICE.into(), old)) else {
        panic!()
    };
    assert_eq!(message.header.protocol, RouteProtocol::from(3));
    assert_eq!(message.header.scope, RouteScope::NoWhere);
    for attribute in [
        RouteAttribute::Table(42),
        RouteAttribute::Priority(7),
        RouteAttribute::Oif(INDEX),
        RouteAttribute::Gateway(ip("44.128.0.9").into()),
    ] {
        assert!(message.attributes.contains(&attribute), "{attribute:?}");
    }
}

#[test]
fn rules_have_our_origin_and_are_removed_by_priority() {
    for (text, family) in [
        ("9.0.0.0/8", AddressFamily::Inet),
        ("fd01:b::/64", AddressFamily::Inet6),
    ] {
        let from = net(text);
        let (M::NewRule(message), ADD) = sent(&Op::AddRule {
            overlay: "dcos".into(),
            from,
            table: 42,
        }) else {
            panic!()
        };
        let header = &message.header;
        assert_eq!((header.family, header.src_len), (family, from.prefix_len()));
        assert_eq!((header.action, header.dst_len), (RuleAction::ToTable, 0));
        let said = [
            RuleAttribute::Source(from.addr()),
            RuleAttribute::Table(42),
            RuleAttribute::Priority(32765),
            RuleAttribute::Protocol(RouteProtocol::from(142)),
        ];
        assert_eq!(message.attributes, said);
        // Of two rules that differ only in their origin, only one is removed. Old kernels tell no
        // origin.
        for protocol in [3, 0] {
            let op = Op::RemoveRule(OldRule {
                from,
                table: 43,
                priority: 40000,
                protocol,
            });
            let (M::DelRule(message), 0) = sent(&op) else {
                panic!()
            };
            let mut said = vec![
                said[0].clone(),
                RuleAttribute::Table(43),
                RuleAttribute::Priority(40000),
            ];
            if protocol != 0 {
                said.push(RuleAttribute::Protocol(RouteProtocol::from(protocol)));
            }
            assert_eq!(message.attributes, said);
        }
    }
}

#[test]
fn devices_are_created_up_and_changed_in_one_property() {
    let new = NewDevice {
        name: DEVICE.into(),
        vni: 1024,
        port: 64000,
        local: Some([10, 0, 0, 1].into()),
        mac: MAC,
        mtu: Some(1450),
    };
    let (M::NewLink(message), ADD) = sent(&Op::AddDevice(new)) else {
        panic!()
    };
    assert!(message.header.flags.contains(LinkFlags::Up));
    assert!(message.header.change_mask.contains(LinkFlags::Up));
    let kind = DeviceKind::Vxlan {
        vni: Some(1024),
        port: 64000,
        learning: false,
    };
    assert_eq!(parse::kind(&message), kind);
    assert_eq!(parse::tunnel(&message).local, Some(ip("10.0.0.1")));
    assert!(message.attributes.contains(&LinkAttribute::Mtu(1450)));
    let (M::NewLink(message), ADD) = sent(&Op::AddBridge("m-dcos".into(), MAC)) else {
        panic!()
    };
    assert!(message.header.flags.contains(LinkFlags::Up));
    assert_eq!(parse::kind(&message), DeviceKind::Other("bridge".into()));
    for (change, up) in [
        (DeviceChange::NoLearning, false),
        (DeviceChange::Local(Some([10, 0, 0, 1].into())), false),
        (DeviceChange::Local(None), false),
        (DeviceChange::DefaultTtl, false),
        (DeviceChange::NoTos, false),
        (DeviceChange::Mac(MAC), false),
        (DeviceChange::Mtu(1450), false),
        (DeviceChange::Up, true),
    ] {
        let (M::NewLink(message), 0) = sent(&Op::SetDevice(DEVICE.into(), change)) else {
            panic!()
        };
        assert_eq!(message.header.index, INDEX);
        assert_eq!(
            message.header.change_mask.contains(LinkFlags::Up),
            up,
            "{change:?}"
        );
    }
    let (M::DelLink(message), 0) = sent(&Op::RemoveDevice(DEVICE.into())) else {
        panic!()
    };
    assert_eq!(message.attributes, [LinkAttribute::IfName(DEVICE.into())]);
}

#[test]
fn ports_are_attached_by_their_index() {
    let port = Port {
        index: 9,
        name: "veth9".into(),
    };
    let (M::NewLink(message), 0) = sent(&Op::AttachPort("m-dcos".into(), port.clone())) else {
        panic!()
    };
    assert_eq!(message.header.index, 9);
    assert_eq!(message.attributes, [LinkAttribute::Controller(INDEX)]);
    let (M::NewLink(message), 0) = sent(&Op::SetHairpin("m-dcos".into(), port)) else {
        panic!()
    };
    assert_eq!(message.header.index, 9);
    let hairpin = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let info = LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(hairpin),
    ]);
    assert_eq!(message.attributes, [info]);
}

#[test]
fn nexthop_objects_replace_none() {
    let Request { message, flags } = request(
        &Op::AddNexthop(DEVICE.into(), [44, 128, 0, 2].into()),
        INDEX,
    )
    .unwrap();
    let new = NexthopMessage::new(0x2c80_0002, INDEX, [44, 128, 0, 2].into(), PROTOCOL);
    assert_eq!((message, flags), (Message::NewNexthop(new), ADD));
    let Request { message, flags } = request(&Op::RemoveNexthop(DEVICE.into(), 9), INDEX).unwrap();
    assert_eq!(
        (message, flags),
        (Message::DelNexthop(NexthopMessage::with_id(9)), 0)
    );
}

#[test]
fn operations_without_netlink_have_no_message() {
    for op in [
        Op::EnableForwarding(Family::V4),
        Op::EnableForwarding(Family::V6),
        Op::SkipDad("m-dcos".into()),
        Op::SetTxChecksum(DEVICE.into(), ChecksumOffload::On),
        Op::RemoveCni {
            overlay: "dcos".into(),
            file: "dcos.conf".into(),
        },
    ] {
        assert!(request(&op, INDEX).is_none(), "{op}");
    }
}
