//! Parsing of observed objects.

use super::*;
use crate::kernel::parse;

/// Message about a route over the device.
pub(super) fn route(dst: Option<&str>, length: u8, protocol: RouteProtocol) -> RouteMessage {
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

#[test]
fn routes_of_the_kernel_and_of_routers_are_known_as_such() {
    for protocol in [
        RouteProtocol::Kernel,
        RouteProtocol::Ra,
        RouteProtocol::IcmpRedirect,
    ] {
        let (_, found) = parse::route(&route(Some("9.0.2.0"), 24, protocol)).unwrap();
        assert_eq!(found.protocol, u8::from(protocol));
        assert!(parse::is_automatic(protocol), "{protocol:?}");
    }
    for protocol in [
        RouteProtocol::Boot,
        RouteProtocol::Static,
        RouteProtocol::from(142),
    ] {
        let (index, found) = parse::route(&route(Some("9.0.2.0"), 24, protocol)).unwrap();
        assert!(!parse::is_automatic(protocol));
        assert_eq!((index, found.protocol), (Some(INDEX), u8::from(protocol)));
        assert_eq!(
            (found.dst, found.table, found.metric),
            (net("9.0.2.0/24"), 254, 0)
        );
        assert!(found.plain && found.via.is_none() && found.nexthop.is_none());
    }
}

#[test]
fn routes_are_parsed_with_all_properties() {
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
    // A default route has no destination.
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
fn only_rules_without_further_conditions_are_like_ours() {
    let ours = Rule {
        from: net("9.0.0.0/8"),
        priority: 32765,
        table: 42,
        protocol: PROTOCOL,
    };
    assert_eq!(rule(|_| {}), Some(ours));
    let elsewhere = Rule { table: 43, ..ours };
    assert_eq!(rule(|message| message.header.table = 43), Some(elsewhere));
    let unmarked = Rule {
        protocol: 0,
        ..ours
    };
    let without = |message: &mut RuleMessage| drop(message.attributes.pop());
    assert_eq!(rule(without), Some(unmarked));
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
fn an_address_is_the_local_one_of_a_link() {
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
fn link_local_addresses_are_recognised_in_both_families() {
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
fn entries_with_further_properties_are_not_plain() {
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
fn options_of_a_tunnel_are_parsed() {
    let tunnel = |data: &[InfoVxlan]| {
        let mut message = LinkMessage::default();
        let data = LinkInfo::Data(InfoData::Vxlan(data.to_vec()));
        let infos = vec![LinkInfo::Kind(InfoKind::Vxlan), data];
        message.attributes.push(LinkAttribute::LinkInfo(infos));
        parse::tunnel(&message)
    };
    // As the kernel tells them about our own device.
    let default = [
        InfoVxlan::Ttl(0),
        InfoVxlan::TtlInherit(0),
        InfoVxlan::Tos(0),
        InfoVxlan::Proxy(false),
        InfoVxlan::Rsc(false),
        InfoVxlan::L2Miss(false),
        InfoVxlan::Limit(0),
        InfoVxlan::RemCsumTX(false),
        InfoVxlan::RemCsumRX(false),
        InfoVxlan::UDPCsum(true),
        InfoVxlan::Localbypass(true),
        InfoVxlan::Vnifilter(false),
    ];
    assert_eq!(tunnel(&default), Tunnel::default());
    let found = tunnel(&[
        InfoVxlan::Local([10, 0, 0, 1].into()),
        InfoVxlan::Link(2),
        InfoVxlan::Ttl(1),
        InfoVxlan::Tos(16),
    ]);
    assert_eq!(found.local, Some(ip("10.0.0.1")));
    assert_eq!((found.link, found.ttl, found.tos), (Some(2), 1, 16));
    assert!(found.others.is_empty());
    let six = tunnel(&[InfoVxlan::Local6("fd99::1".parse().unwrap())]);
    assert_eq!(six.local, Some(ip("fd99::1")));
    for option in [
        InfoVxlan::Group([10, 0, 0, 9].into()),
        InfoVxlan::Group6("fd99::9".parse().unwrap()),
        InfoVxlan::Limit(10),
        InfoVxlan::Proxy(true),
        InfoVxlan::Rsc(true),
        InfoVxlan::RemCsumTX(true),
        InfoVxlan::RemCsumRX(true),
        InfoVxlan::Gbp,
        InfoVxlan::Gpe,
        InfoVxlan::Vnifilter(true),
        InfoVxlan::TtlInherit(1),
    ] {
        assert_eq!(
            tunnel(std::slice::from_ref(&option)).others.len(),
            1,
            "{option:?}"
        );
    }
    assert_eq!(parse::tunnel(&LinkMessage::default()), Tunnel::default());
}

#[test]
fn a_device_for_several_networks_has_no_vni() {
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
