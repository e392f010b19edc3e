//! Messages to and from the kernel, without one.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkMessage};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_core::host_api::desired::Mac;
use overlay_core::util::family::Family;

use super::events::events;
use super::message::Message;
use super::nexthop::NexthopMessage;
use super::parse;
use super::request::{Request, request};
use crate::reconcile::observed::{DeviceKind, FdbEntry, Neighbour, Route, Rule};
use crate::reconcile::{
    Change, DeviceChange, Event, Link, NewDevice, NewRoute, NexthopEvent, OldRoute, Op, PROTOCOL,
    Subject,
};

const DEVICE: &str = "vtep1024";
const INDEX: u32 = 7;
const MAC: Mac = Mac([0x70, 0xb3, 0xd5, 0x80, 0, 2]);
const SET: u16 = NLM_F_CREATE | NLM_F_REPLACE;
const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The bytes of a message, as the kernel sends those that it tells of.
fn datagram(message: impl Into<Message>) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// What the kernel tells of an operation that somebody carried out.
pub(crate) fn told(op: &Op, index: u32) -> Vec<u8> {
    datagram(request(op, index).unwrap().message)
}

/// The message of an operation, and its flags.
fn sent(op: &Op) -> (RouteNetlinkMessage, u16) {
    match request(op, INDEX).unwrap() {
        Request {
            message: Message::Route(message),
            flags,
        } => (message, flags),
        Request { message, .. } => panic!("{message:?}"),
    }
}

mod requests {
    use super::*;
    use RouteNetlinkMessage as M;

    #[test]
    fn addresses_can_be_used_at_once() {
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
    fn neighbours_are_set_for_good() {
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
    fn fdb_entries_are_the_devices_own() {
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
    fn routes_carry_our_origin_and_replace_what_is_there() {
        for (dst, via, table, short_table) in [
            ("9.0.2.0/24", "44.128.0.2", 254, 254),
            ("10.0.0.2/32", "44.128.0.2", 42, 42),
            ("fd01:b:0:0:2::/80", "fd01:a::2", 254, 254),
            // The number that stands for "see the attribute".
            ("9.0.2.0/24", "44.128.0.2", 1000, 0),
        ] {
            let new = NewRoute {
                table,
                dst: net(dst),
                via: ip(via),
                nexthop: None,
            };
            let (M::NewRoute(message), SET) = sent(&Op::SetRoute(DEVICE.into(), new)) else {
                panic!()
            };
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
        let new = NewRoute {
            table: 254,
            dst: net("9.0.2.0/24"),
            via: ip("44.128.0.2"),
            nexthop: Some(9),
        };
        let (M::NewRoute(message), SET) = sent(&Op::SetRoute(DEVICE.into(), new)) else {
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

    /// Of several routes to one destination just the one that is meant goes.
    #[test]
    fn a_route_is_removed_by_everything_that_is_known_of_it() {
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
    fn rules_carry_our_origin_and_go_from_where_they_stand() {
        for (text, family) in [
            ("9.0.0.0/8", AddressFamily::Inet),
            ("fd01:b::/64", AddressFamily::Inet6),
        ] {
            let from = net(text);
            let (M::NewRule(message), ADD) = sent(&Op::AddRule {
                overlay: "dcos".into(),
                from,
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
            let op = Op::RemoveRule {
                from,
                priority: 40000,
            };
            let (M::DelRule(message), 0) = sent(&op) else {
                panic!()
            };
            // Whoever made it.
            let said = [
                said[0].clone(),
                said[1].clone(),
                RuleAttribute::Priority(40000),
            ];
            assert_eq!(message.attributes, said);
        }
    }

    #[test]
    fn devices_are_made_up_and_changed_one_thing_at_a_time() {
        let new = NewDevice {
            name: DEVICE.into(),
            vni: 1024,
            port: 64000,
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
        assert!(message.attributes.contains(&LinkAttribute::Mtu(1450)));
        let (M::NewLink(message), ADD) = sent(&Op::AddBridge("m-dcos".into(), MAC)) else {
            panic!()
        };
        assert!(message.header.flags.contains(LinkFlags::Up));
        assert_eq!(parse::kind(&message), DeviceKind::Other("bridge".into()));
        for (change, up) in [
            (DeviceChange::NoLearning, false),
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
    fn nexthop_objects_are_made_only_where_there_is_none() {
        let Request { message, flags } = request(
            &Op::AddNexthop(DEVICE.into(), [44, 128, 0, 2].into()),
            INDEX,
        )
        .unwrap();
        let new = NexthopMessage::new(0x2c80_0002, INDEX, [44, 128, 0, 2].into(), PROTOCOL);
        assert_eq!((message, flags), (Message::NewNexthop(new), ADD));
        let Request { message, flags } =
            request(&Op::RemoveNexthop(DEVICE.into(), 9), INDEX).unwrap();
        assert_eq!(
            (message, flags),
            (Message::DelNexthop(NexthopMessage::with_id(9)), 0)
        );
    }

    #[test]
    fn what_is_not_rtnetlinks_has_no_message() {
        for op in [
            Op::EnableForwarding(Family::V4),
            Op::EnableForwarding(Family::V6),
            Op::SkipDad("m-dcos".into()),
            Op::SetTxChecksum(DEVICE.into(), true),
            Op::RemoveCni {
                overlay: "dcos".into(),
            },
        ] {
            assert!(request(&op, INDEX).is_none(), "{op}");
        }
    }
}

/// A route that somebody made.
fn route(dst: Option<&str>, length: u8, protocol: RouteProtocol) -> RouteMessage {
    let mut message = RouteMessage::default();
    let v6 = dst.is_some_and(|dst| dst.contains(':'));
    message.header.address_family = if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.header.destination_prefix_length = length;
    message.header.protocol = protocol;
    message.header.kind = RouteType::Unicast;
    message.header.table = 254;
    message.attributes = vec![RouteAttribute::Oif(INDEX)];
    message
        .attributes
        .extend(dst.map(|dst| RouteAttribute::Destination(ip(dst).into())));
    message
}

mod observations {
    use super::*;

    #[test]
    fn routes_of_the_kernel_and_of_routers_are_left_out() {
        for protocol in [
            RouteProtocol::Kernel,
            RouteProtocol::Ra,
            RouteProtocol::IcmpRedirect,
        ] {
            assert_eq!(
                parse::route(&route(Some("9.0.2.0"), 24, protocol)),
                None,
                "{protocol:?}"
            );
        }
        for protocol in [
            RouteProtocol::Boot,
            RouteProtocol::Static,
            RouteProtocol::from(142),
        ] {
            let (index, found) = parse::route(&route(Some("9.0.2.0"), 24, protocol)).unwrap();
            assert_eq!((index, found.protocol), (Some(INDEX), u8::from(protocol)));
            assert_eq!(
                (found.dst, found.table, found.metric),
                (net("9.0.2.0/24"), 254, 0)
            );
            assert!(found.plain && found.via.is_none() && found.nexthop.is_none());
        }
    }

    #[test]
    fn routes_are_read_with_all_that_distinguishes_them() {
        let with = |attribute: RouteAttribute| {
            let mut message = route(Some("fd01:b::"), 64, RouteProtocol::Static);
            message.attributes.push(attribute);
            parse::route(&message).unwrap().1
        };
        // A table that has no room in the header.
        assert_eq!(with(RouteAttribute::Table(1000)).table, 1000);
        assert_eq!(with(RouteAttribute::Priority(1024)).metric, 1024);
        assert_eq!(with(RouteAttribute::NhId(9)).nexthop, Some(9));
        assert_eq!(
            with(RouteAttribute::Gateway(ip("fd01:a::2").into())).via,
            Some(ip("fd01:a::2"))
        );
        assert!(!with(RouteAttribute::MultiPath(Vec::new())).plain);
        assert!(!with(RouteAttribute::Source(ip("fd01:c::").into())).plain);
        let mut message = route(Some("9.0.2.0"), 24, RouteProtocol::Static);
        message.header.tos = 4;
        assert!(!parse::route(&message).unwrap().1.plain);
        let mut message = route(Some("9.0.2.0"), 24, RouteProtocol::Static);
        message.header.kind = RouteType::BlackHole;
        assert!(!parse::route(&message).unwrap().1.plain);
        // One to everywhere has no destination.
        let mut message = route(None, 0, RouteProtocol::Static);
        assert_eq!(parse::route(&message).unwrap().1.dst, net("0.0.0.0/0"));
        message.header.address_family = AddressFamily::Inet6;
        assert_eq!(parse::route(&message).unwrap().1.dst, net("::/0"));
    }

    fn rule(change: impl FnOnce(&mut RuleMessage)) -> Option<Rule> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.src_len = 8;
        message.header.action = RuleAction::ToTable;
        message.header.table = 42;
        message.attributes = vec![
            RuleAttribute::Source(ip("9.0.0.0")),
            RuleAttribute::Priority(32765),
            RuleAttribute::SuppressPrefixLen(u32::MAX),
            RuleAttribute::Protocol(RouteProtocol::from(142)),
        ];
        change(&mut message);
        parse::rule(&message)
    }

    #[test]
    fn only_rules_that_say_no_more_than_ours_are_like_them() {
        let ours = Rule {
            from: net("9.0.0.0/8"),
            priority: 32765,
        };
        assert_eq!(rule(|_| {}), Some(ours));
        assert_eq!(rule(|message| message.header.table = 43), None);
        let in_attribute = |message: &mut RuleMessage| {
            message.header.table = 0;
            message.attributes.push(RuleAttribute::Table(42));
        };
        assert_eq!(rule(in_attribute), Some(ours));
        let without = |message: &mut RuleMessage| drop(message.attributes.remove(0));
        assert_eq!(rule(without), None, "from everywhere");
        assert_eq!(rule(|message| message.header.dst_len = 16), None);
        assert_eq!(rule(|message| message.header.tos = 4), None);
        assert_eq!(
            rule(|message| message.header.flags |= RuleFlags::Invert),
            None
        );
        assert_eq!(
            rule(|message| message.header.action = RuleAction::Blackhole),
            None
        );
        for condition in [
            RuleAttribute::FwMark(1),
            RuleAttribute::Iifname("eth0".into()),
            RuleAttribute::Oifname("eth0".into()),
            RuleAttribute::SuppressPrefixLen(0),
        ] {
            let more = condition.clone();
            assert_eq!(
                rule(move |message| message.attributes.push(more)),
                None,
                "{condition:?}"
            );
        }
    }

    #[test]
    fn an_address_is_our_side_of_a_link() {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 20;
        message.attributes = vec![
            AddressAttribute::Address(ip("44.128.0.9")),
            AddressAttribute::Local(ip("44.128.0.1")),
        ];
        assert_eq!(parse::address(&message), Some(net("44.128.0.1/20")));
        message.header.prefix_len = 64;
        message.attributes = vec![AddressAttribute::Address(ip("fd01:a::1"))];
        assert_eq!(parse::address(&message), Some(net("fd01:a::1/64")));
        assert!(!parse::is_tentative(&message));
        message.header.flags = AddressHeaderFlags::Tentative;
        assert!(parse::is_tentative(&message));
        message.attributes.clear();
        assert_eq!(parse::address(&message), None);
    }

    #[test]
    fn link_local_addresses_are_those_of_both_families() {
        for (text, expected) in [
            ("169.254.0.1", true),
            ("169.253.255.255", false),
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("fd01:a::1", false),
        ] {
            assert_eq!(parse::is_link_local(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn entries_tell_what_ours_have_not() {
        let entry = |state: u16, attribute: Option<NeighbourAttribute>| {
            let mut message = NeighbourMessage::default();
            message.header.state = NeighbourState::from(state);
            message.attributes.extend(attribute);
            parse::entry(&message)
        };
        // The predecessor sets it reachable as well.
        for (state, permanent) in [
            (0x80, true),
            (0x82, true),
            (0x02, false),
            (0x40, false),
            (0, false),
        ] {
            assert_eq!(entry(state, None).permanent, permanent, "{state:#x}");
        }
        assert!(entry(0x80, None).plain);
        assert!(!entry(0x80, Some(NeighbourAttribute::Port(4789))).plain);
        assert!(!entry(0x80, Some(NeighbourAttribute::Vni(7))).plain);
        assert!(!entry(0x80, Some(NeighbourAttribute::IfIndex(7))).plain);
        assert_eq!(
            entry(0, Some(NeighbourAttribute::LinkLayerAddress(vec![1; 4]))).mac,
            None
        );
    }

    #[test]
    fn a_device_that_serves_many_networks_has_no_number() {
        let kind = |data: Vec<InfoVxlan>| {
            let mut message = LinkMessage::default();
            let infos = vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(data)),
            ];
            message.attributes.push(LinkAttribute::LinkInfo(infos));
            parse::kind(&message)
        };
        let vxlan = |vni, learning| DeviceKind::Vxlan {
            vni,
            port: 64000,
            learning,
        };
        let (id, port) = (InfoVxlan::Id(1024), InfoVxlan::Port(64000));
        let learning = InfoVxlan::Learning(true);
        assert_eq!(
            kind(vec![id.clone(), port.clone(), learning]),
            vxlan(Some(1024), true)
        );
        let none = InfoVxlan::CollectMetadata(false);
        assert_eq!(
            kind(vec![id.clone(), port.clone(), none]),
            vxlan(Some(1024), false)
        );
        assert_eq!(
            kind(vec![id, port, InfoVxlan::CollectMetadata(true)]),
            vxlan(None, false)
        );
        assert_eq!(
            parse::kind(&LinkMessage::default()),
            DeviceKind::Other("hardware".into())
        );
    }
}

mod news {
    use super::*;

    fn change(gone: bool) -> Change {
        match gone {
            true => Change::Gone,
            false => Change::Present,
        }
    }

    fn one(bytes: &[u8]) -> Event {
        match &events(bytes)[..] {
            [Some(event)] => event.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_kinds_of_things_come_and_go() {
        let neighbour = Neighbour {
            mac: Some(MAC),
            permanent: true,
        };
        let entry = FdbEntry {
            permanent: true,
            plain: true,
        };
        let (name, overlay): (std::sync::Arc<str>, String) = (DEVICE.into(), "dcos".into());
        for (text, dst, via) in [
            ("44.128.0.1/20", "9.0.2.0/24", "44.128.0.2"),
            ("fd01:a::1/64", "fd01:b:0:0:2::/80", "fd01:a::2"),
        ] {
            let (net, dst, via) = (net(text), net(dst), ip(via));
            let set = told(&Op::AddAddress(name.clone(), net), INDEX);
            let event = |gone| Event {
                subject: Subject::Address {
                    index: INDEX,
                    net,
                    tentative: false,
                },
                change: change(gone),
            };
            assert_eq!(one(&set), event(false));
            assert_eq!(
                one(&told(&Op::RemoveAddress(name.clone(), net), INDEX)),
                event(true)
            );

            let set = told(&Op::SetNeighbour(name.clone(), via, MAC), INDEX);
            assert_eq!(
                one(&set),
                Event {
                    subject: Subject::Neighbour {
                        index: INDEX,
                        ip: via,
                        neighbour
                    },
                    change: Change::Present
                }
            );
            let removed = one(&told(&Op::RemoveNeighbour(name.clone(), via), INDEX));
            assert!(
                matches!(
                    removed,
                    Event {
                        subject: Subject::Neighbour { .. },
                        change: Change::Gone
                    }
                ),
                "{removed:?}"
            );

            let (table, protocol) = (254, PROTOCOL);
            let new = NewRoute {
                table,
                dst,
                via,
                nexthop: None,
            };
            let plain = true;
            let route = Route {
                table,
                dst,
                via: Some(via),
                metric: 0,
                protocol,
                plain,
                nexthop: None,
            };
            let event = |gone| Event {
                subject: Subject::Route {
                    index: Some(INDEX),
                    route,
                },
                change: change(gone),
            };
            assert_eq!(
                one(&told(&Op::SetRoute(name.clone(), new), INDEX)),
                event(false)
            );
            let old = OldRoute {
                table,
                dst,
                via: Some(via),
                metric: 0,
                protocol,
                nexthop: None,
            };
            assert_eq!(
                one(&told(&Op::RemoveRoute(name.clone(), old), INDEX)),
                event(true)
            );

            let event = |gone| Event {
                subject: Subject::Rule(Rule {
                    from: dst,
                    priority: 32765,
                }),
                change: change(gone),
            };
            let set = told(
                &Op::AddRule {
                    overlay: overlay.clone(),
                    from: dst,
                },
                INDEX,
            );
            assert_eq!(one(&set), event(false));
            assert_eq!(
                one(&told(
                    &Op::RemoveRule {
                        from: dst,
                        priority: 32765
                    },
                    INDEX
                )),
                event(true)
            );
        }
        let fdb = |gone| Event {
            subject: Subject::Fdb {
                index: INDEX,
                mac: MAC,
                dst: ip("10.0.0.2"),
                entry,
            },
            change: change(gone),
        };
        let set = told(&Op::SetFdb(name.clone(), MAC, [10, 0, 0, 2].into()), INDEX);
        assert_eq!(one(&set), fdb(false));
        assert_eq!(
            one(&told(
                &Op::RemoveFdb(name.clone(), MAC, ip("10.0.0.2")),
                INDEX
            )),
            fdb(true)
        );

        let nexthop = |gone| {
            let (index, via) = (Some(INDEX), Some(ip("44.128.0.2")));
            Event {
                subject: Subject::Nexthop {
                    id: 0x2c80_0002,
                    nexthop: NexthopEvent {
                        index,
                        via,
                        protocol: PROTOCOL,
                    },
                },
                change: change(gone),
            }
        };
        let message = NexthopMessage::new(0x2c80_0002, INDEX, [44, 128, 0, 2].into(), PROTOCOL);
        assert_eq!(
            one(&datagram(Message::NewNexthop(message.clone()))),
            nexthop(false)
        );
        assert_eq!(one(&datagram(Message::DelNexthop(message))), nexthop(true));
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

    /// A message of this type, with this payload.
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
    fn one_datagram_may_hold_several_and_what_is_not_understood_may_be_anything() {
        const SETTING: u16 = 80;
        let address = told(&Op::AddAddress(DEVICE.into(), net("44.128.0.1/20")), INDEX);
        // Lengths that have to be rounded up.
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
    fn what_cannot_be_about_us_is_left_out() {
        let link_local = ["169.254.7.7/16", "fe80::7/64"];
        for text in link_local {
            assert_eq!(
                events(&told(&Op::AddAddress(DEVICE.into(), net(text)), INDEX)),
                []
            );
        }
        assert_eq!(
            events(&told(
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
        let kernels = route(Some("9.0.2.0"), 24, RouteProtocol::Kernel);
        assert_eq!(
            events(&datagram(RouteNetlinkMessage::NewRoute(kernels))),
            []
        );
        // A device's own hardware address in its forwarding database.
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
    fn an_address_that_waits_says_so() {
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
}

mod refusals {
    use crate::kernel::netlink::{Error, verdict};
    use nix::errno::Errno;

    #[test]
    fn an_error_number_is_negative_and_none_is_none() {
        assert_eq!(verdict(0, None), Ok(()));
        let refused = |errno| Err(Error::Refused { errno, text: None });
        assert_eq!(verdict(-17, None), refused(Errno::EEXIST));
        assert_eq!(verdict(-2, None), refused(Errno::ENOENT));
        let text = Some("Nexthop has invalid gateway.".to_owned());
        let Err(error) = verdict(-101, text) else {
            panic!()
        };
        assert_eq!(
            error.to_string(),
            "Network is unreachable (Nexthop has invalid gateway)"
        );
    }
}
