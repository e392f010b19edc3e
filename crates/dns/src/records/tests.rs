use std::collections::BTreeSet;

use super::*;
use crate::zone::parse_name;

fn rules(domains: &[&str]) -> Rules {
    Rules {
        domains: domains
            .iter()
            .map(|name| parse_name(name).unwrap())
            .collect(),
        ranges: vec!["9.0.0.0/8".parse().unwrap(), "fd01:b::/64".parse().unwrap()],
    }
}

fn addresses(texts: &[(&str, &str)]) -> Vec<Address> {
    let address = |(network, ip): &(&str, &str)| Address {
        network: Arc::from(*network),
        is_unlabelled: false,
        ip: ip.parse().unwrap(),
    };
    texts.iter().map(address).collect()
}

/// Returns records as text, sorted, without the domain `d`.
fn texts(made: &Made) -> BTreeSet<String> {
    let text = |record: &Record| {
        let owner = record.owner.to_string();
        let owner = owner.strip_suffix(".d").unwrap_or(&owner);
        match &record.data {
            Data::A(ip) => format!("{owner} A {ip}"),
            Data::Aaaa(ip) => format!("{owner} AAAA {ip}"),
            Data::Srv { port, target } => format!("{owner} SRV {port} {target}"),
            Data::Ptr(name) => format!("{owner} PTR {name}"),
            Data::Ns(name) => format!("{owner} NS {name}"),
        }
    };
    made.records.iter().map(text).collect()
}

#[track_caller]
fn assert_makes(instance: &Instance<'_>, expected: &[&str]) {
    let made = rules(&["d"]).instance(instance);
    assert_eq!(made.problem, None);
    let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
    assert_eq!(texts(&made), expected);
}

const AGENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

fn instance<'a>(addresses: &'a [Address], ports: Option<&'a Ports>) -> Instance<'a> {
    Instance {
        task: "t",
        framework: "f",
        agent: AGENT,
        addresses,
        ports,
    }
}

fn port(service: &str, number: u16, is_hosts: bool) -> Port {
    Port {
        service: service.into(),
        protocol: Protocol::Tcp,
        number,
        is_hosts,
    }
}

fn mapping(host: u16, container: u16) -> Mapping {
    Mapping {
        host,
        container,
        protocol: Protocol::Tcp,
    }
}

#[test]
fn a_container_on_an_overlay() {
    let own = addresses(&[("dcos", "9.0.1.2"), ("dcos", "fd01:b::2")]);
    let reverse = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.0.0.0.1.0.d.f.ip6.arpa";
    assert_makes(
        &instance(&own, None),
        &[
            "t.f.containerip A 9.0.1.2",
            "t.f.containerip AAAA fd01:b::2",
            "t.f.agentip A 10.0.0.1",
            "t.f.autoip A 9.0.1.2",
            "t.f.autoip AAAA fd01:b::2",
            "t.f.dcos.overlay A 9.0.1.2",
            "t.f.dcos.overlay AAAA fd01:b::2",
            "2.1.0.9.in-addr.arpa PTR t.f.containerip.d",
            &format!("{reverse} PTR t.f.containerip.d"),
        ],
    );
}

/// The table of DC/OS's tests: host, bridge and user networks, IPv6 alone, no address at all.
#[test]
fn autoip_is_where_others_reach_the_task() {
    let auto = |addresses: &[Address], ports: Option<&Ports>| {
        let made = rules(&["d"]).instance(&instance(addresses, ports));
        let texts = texts(&made);
        let auto = texts
            .iter()
            .filter_map(|text| text.strip_prefix("t.f.autoip "));
        auto.map(str::to_owned).collect::<Vec<_>>()
    };
    let mapped = Ports {
        mappings: [mapping(31_000, 80)].into(),
        ..Ports::default()
    };
    let in_status = Ports {
        status_mappings: [mapping(31_000, 80)].into(),
        ..Ports::default()
    };
    let of_host = Ports {
        discovery: [port("_p", 31_000, true)].into(),
        ..Ports::default()
    };
    let of_container = Ports {
        discovery: [port("_p", 80, false)].into(),
        ..Ports::default()
    };
    let virtual_address = Ports {
        has_virtual: true,
        ..Ports::default()
    };
    let own = addresses(&[("dcos", "9.0.1.2")]);
    for ports in [&mapped, &in_status, &of_host, &virtual_address] {
        assert_eq!(auto(&own, Some(ports)), ["A 10.0.0.1"], "{ports:?}");
    }
    for ports in [None, Some(&of_container)] {
        assert_eq!(auto(&own, ports), ["A 9.0.1.2"], "{ports:?}");
    }
    assert_eq!(auto(&addresses(&[("", "fd01::2")]), None), ["AAAA fd01::2"]);
    assert_eq!(auto(&addresses(&[("", "10.0.0.1")]), None), ["A 10.0.0.1"]);
    assert_eq!(auto(&[], None), ["A 10.0.0.1"]);
}

#[test]
fn ports_lead_to_one_instance() {
    let own = addresses(&[("", "172.17.0.2"), ("", "fd02::2")]);
    let ports = Ports {
        discovery: [port("_http", 80, false), port("_admin", 81, false)].into(),
        mappings: [mapping(31_000, 80)].into(),
        ..Ports::default()
    };
    assert_makes(
        &instance(&own, Some(&ports)),
        &[
            "t.f.containerip A 172.17.0.2",
            "t.f.containerip AAAA fd02::2",
            "t.f.agentip A 10.0.0.1",
            "t.f.autoip A 10.0.0.1",
            "172-17-0-2.t.f.containerip A 172.17.0.2",
            "172-17-0-2.t.f.containerip AAAA fd02::2",
            "10-0-0-1.t.f.agentip A 10.0.0.1",
            "_http._tcp.t.f.containerip SRV 80 172-17-0-2.t.f.containerip.d",
            "_admin._tcp.t.f.containerip SRV 81 172-17-0-2.t.f.containerip.d",
            "_http._tcp.t.f.agentip SRV 31000 10-0-0-1.t.f.agentip.d",
            "_http._tcp.t.f.autoip SRV 31000 10-0-0-1.t.f.agentip.d",
        ],
    );
}

#[test]
fn ports_of_the_host_on_the_hosts_network() {
    let own = addresses(&[("", "10.0.0.1")]);
    let ports = Ports {
        discovery: [port("_http", 31_000, true)].into(),
        ..Ports::default()
    };
    assert_makes(
        &instance(&own, Some(&ports)),
        &[
            "t.f.containerip A 10.0.0.1",
            "t.f.agentip A 10.0.0.1",
            "t.f.autoip A 10.0.0.1",
            "10-0-0-1.t.f.containerip A 10.0.0.1",
            "10-0-0-1.t.f.agentip A 10.0.0.1",
            "_http._tcp.t.f.containerip SRV 31000 10-0-0-1.t.f.containerip.d",
            "_http._tcp.t.f.agentip SRV 31000 10-0-0-1.t.f.agentip.d",
            "_http._tcp.t.f.autoip SRV 31000 10-0-0-1.t.f.agentip.d",
        ],
    );
}

#[test]
fn an_ipv6_instance_has_a_label_without_dashes_at_its_ends() {
    let own = addresses(&[("", "::1")]);
    let ports = Ports {
        discovery: [port("_p", 80, false)].into(),
        ..Ports::default()
    };
    let made = rules(&["d"]).instance(&instance(&own, Some(&ports)));
    let expected = "0-0-0-0-0-0-0-1.t.f.containerip AAAA ::1";
    assert!(texts(&made).contains(expected), "{made:?}");
}

#[test]
fn each_domain_has_all_names_and_the_first_one_those_of_addresses() {
    let own = addresses(&[("", "9.0.1.2")]);
    let made = rules(&["d", "e.example"]).instance(&instance(&own, None));
    let texts = texts(&made);
    assert!(texts.contains("t.f.containerip A 9.0.1.2"));
    assert!(texts.contains("t.f.containerip.e.example A 9.0.1.2"));
    let pointers = texts.iter().filter(|text| text.contains("PTR"));
    assert_eq!(
        pointers.collect::<Vec<_>>(),
        ["2.1.0.9.in-addr.arpa PTR t.f.containerip.d"]
    );
}

#[test]
fn what_has_no_name_is_said() {
    let own = addresses(&[("", "9.0.1.2")]);
    let with = |task: &'static str, framework: &'static str, domain: &str| {
        let instance = Instance {
            task,
            framework,
            ..instance(&own, None)
        };
        rules(&[domain]).instance(&instance)
    };
    assert_eq!(with("", "f", "d").problem, Some(Problem::EmptyTask));
    assert!(with("", "f", "d").records.is_empty());
    assert_eq!(with("t", "", "d").problem, Some(Problem::EmptyFramework));
    let long = [
        "x".repeat(63),
        "y".repeat(63),
        "z".repeat(63),
        "w".repeat(50),
    ]
    .join(".");
    assert_eq!(with("t", "f", &long).problem, Some(Problem::TooLong));
}

#[test]
fn masters_have_names() {
    let ips: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"]
        .map(|ip| ip.parse().unwrap())
        .into();
    let made = Made {
        records: rules(&["d"]).masters(Some(ips[1]), &ips),
        problem: None,
    };
    let expected = [
        "leader A 10.0.0.2",
        "master A 10.0.0.1",
        "master A 10.0.0.2",
    ];
    assert!(texts(&made).iter().eq(expected.iter()));
}

#[test]
fn ranges_have_zones_at_the_borders_of_labels() {
    let zones = |range: &str| {
        let zones = reverse_zones(range.parse().unwrap());
        zones.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(zones("9.0.0.0/8"), ["9.in-addr.arpa"]);
    assert_eq!(
        zones("10.64.0.0/15"),
        ["64.10.in-addr.arpa", "65.10.in-addr.arpa"]
    );
    assert_eq!(zones("10.1.2.128/25"), ["2.1.10.in-addr.arpa"]);
    assert_eq!(zones("10.1.2.3/32"), ["2.1.10.in-addr.arpa"]);
    assert_eq!(zones("0.0.0.0/0").len(), 256);
    assert_eq!(
        zones("fd01:b::/64"),
        ["0.0.0.0.0.0.0.0.b.0.0.0.1.0.d.f.ip6.arpa"]
    );
    assert_eq!(zones("fd00::/7").len(), 2);
    for range in ["9.0.0.0/8", "10.64.0.0/15", "10.1.2.128/25", "fd01:b::/62"] {
        let net: IpNet = range.parse().unwrap();
        let last = reverse_name(net.broadcast()).to_string();
        assert!(
            zones(range)
                .iter()
                .any(|zone| last.ends_with(&format!(".{zone}"))),
            "{range}"
        );
    }
}

#[test]
fn ports_are_called_by_name_or_number() {
    assert_eq!(service(b"HTTP_api", 80), "_http-api");
    assert_eq!(service(b"", 80), "_80");
    assert_eq!(service(b"__", 80), "_80");
    assert_eq!(service(&[b'x'; 100], 80).len(), 63);
    let named = |text: &str| Protocol::named(text);
    assert_eq!(named(""), [Protocol::Tcp]);
    assert_eq!(named("udp,tcp"), [Protocol::Udp, Protocol::Tcp]);
    assert_eq!(named("TCP, quic"), [Protocol::Tcp]);
}

#[test]
fn names_of_addresses_are_read_back() {
    for text in ["9.0.1.255", "0.0.0.0", "fd01:b::2", "ffff::1"] {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(reverse_address(reverse_name(ip).as_slice()), Some(ip));
    }
    for text in [
        "1.0.9.in-addr.arpa",
        "1.0.0.0.9.in-addr.arpa",
        "256.0.0.9.in-addr.arpa",
        "a.0.0.9.in-addr.arpa",
        "1.0.0.9.example.org",
        "1.0.0.9.ip6.arpa",
        ".",
    ] {
        let name = crate::zone::parse_name(text).unwrap();
        assert_eq!(reverse_address(name.as_slice()), None, "{text}");
    }
}
