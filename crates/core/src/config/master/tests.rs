//! Tests of the master's configuration.

mod mistakes;

use super::super::master::*;
use super::super::{OverlayConfig, Range};
use crate::proto;

const VTEP: &str = r#""vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00""#;

fn with_network(network: &str) -> String {
    format!(r#"{{"replicated_log_dir": "/var/lib/mesos", "network": {{{network}}}}}"#)
}

fn with_overlays(overlays: &str) -> String {
    with_network(&format!(r#"{VTEP}, "overlays": [{overlays}]"#))
}

#[track_caller]
fn check(text: &str, line: &str) {
    let error = parse("master.json", text).expect_err(text).to_string();
    assert_eq!(error, format!("master.json: {line}"), "{text}");
}

#[test]
fn a_configuration_of_dcos_is_read() {
    let text = r#"{"replicated_log_dir": "/var/lib/dcos/mesos/master/", "network": {
        "vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
                     {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80, "enabled": false}]}}"#;
    let Parsed { config, warnings } = parse("master.json", text).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        config.replicated_log_dir,
        Some("/var/lib/dcos/mesos/master/".into())
    );
    assert_eq!(config.replicated_log_timeout, Duration::from_secs(300));
    assert_eq!(config.zk, None);
    let network = config.network;
    assert_eq!(network.vtep_subnet, "44.128.0.0/20".parse().unwrap());
    assert_eq!(network.vtep_subnet6, Some("fd01:a::/64".parse().unwrap()));
    assert_eq!(network.vtep_mac_oui, [0x70, 0xb3, 0xd5]);
    assert_eq!(network.vtep_mtu, None);
    let v4 = Range {
        net: "9.0.0.0/8".parse().unwrap(),
        prefix: 24,
    };
    let v6 = Range {
        net: "fd01:b::/64".parse().unwrap(),
        prefix: 80,
    };
    let overlays: Vec<_> = network.overlays.iter().map(Definition::config).collect();
    assert_eq!(
        overlays,
        [
            &OverlayConfig {
                name: "dcos".into(),
                v4: Some(v4),
                v6: None,
                enabled: true
            },
            &OverlayConfig {
                name: "dcos6".into(),
                v4: None,
                v6: Some(v6),
                enabled: false
            },
        ]
    );
    let wire = network.to_wire();
    assert_eq!(wire.vtep_mac_oui, "70:B3:D5:00:00:00");
    assert_eq!(wire.overlays[1].enabled, Some(false));
    assert_eq!(wire.overlays[0].enabled, None);
}

#[test]
fn zookeeper_and_the_timeout_are_read() {
    let text = format!(
        r#"{{"zk": {{"url": "zk://a:2181,b:2181/mesos", "quorum": 2, "session_timeout": 20}},
            "replicated_log_timeout": "1.5mins", "network": {{{VTEP}}}}}"#
    );
    let Parsed { config, warnings } = parse("master.json", &text).unwrap();
    let zk = ZkConfig {
        url: "zk://a:2181,b:2181/mesos".into(),
        quorum: 2,
        session_timeout: Duration::from_secs(20),
    };
    assert_eq!(config.zk, Some(zk));
    assert_eq!(config.replicated_log_timeout, Duration::from_secs(90));
    assert_eq!(
        warnings,
        [
            "master.json: replicated_log_dir: missing; the allocations are kept in memory only and lost at \
          a restart"
        ]
    );
}

#[test]
fn agent_addresses_are_read() {
    let with =
        |addresses: &str| format!(r#"{{"agent_addresses": {addresses}, "network": {{{VTEP}}}}}"#);
    let admitted = |addresses: &str| {
        let admit = parse("m", &with(addresses)).unwrap().config.agent_addresses;
        ["10.0.0.1", "10.1.0.1", "192.168.7.9", "192.168.7.10"]
            .map(|ip| admit.admit(ip.parse().unwrap()))
    };
    assert_eq!(admitted("null"), [true; 4]);
    assert_eq!(
        admitted(r#"["10.0.0.0/16", "192.168.7.9"]"#),
        [true, false, true, false]
    );
    assert_eq!(admitted(r#"["0.0.0.0/0"]"#), [true; 4]);
    let remedy = r#"write IPv4 networks or addresses, such as ["10.0.0.0/8", "192.168.7.9"]"#;
    for (addresses, complaint) in [
        (r#""10.0.0.0/8""#, r#": "10.0.0.0/8" is not a list"#),
        ("[10]", "[0]: 10 is not a string"),
        (
            r#"["10.0.0.0/8", "10.0.0.1/8"]"#,
            r#"[1]: "10.0.0.1/8" has bits set after its prefix (is "10.0.0.0/8" meant?)"#,
        ),
        (
            r#"["fd00::/8"]"#,
            r#"[0]: "fd00::/8" is not IPv4; agents are known by their IPv4 addresses"#,
        ),
        (
            r#"["10.0.0.0/33"]"#,
            r#"[0]: "10.0.0.0/33" is neither a network nor an address"#,
        ),
    ] {
        check(
            &with(addresses),
            &format!("agent_addresses{complaint}; {remedy}"),
        );
    }
    check(
        &with("[]"),
        "agent_addresses: [] is empty: no agent would be served; name the networks that agents are in, or \
         remove agent_addresses to serve all agents",
    );
}

#[test]
fn the_lease_is_read() {
    let with = |lease: &str| {
        format!(r#"{{"agent_lease": {lease}, "replicated_log_dir": "/l", "network": {{{VTEP}}}}}"#)
    };
    let read = |lease: &str| {
        let Parsed { config, warnings } = parse("m", &with(lease)).unwrap();
        (
            config.agent_lease.map(|lease| lease.as_secs()),
            warnings.len(),
        )
    };
    assert_eq!(read("null"), (None, 0));
    assert_eq!(read(r#""7days""#), (Some(604_800), 0));
    assert_eq!(read(r#""15mins""#), (Some(900), 0));
    assert_eq!(read(r#""14mins""#), (Some(840), 1), "a warning");
    check(
        &with("60"),
        "agent_lease: 60 is not a string; write it in quotes",
    );
    check(
        &with(r#""0secs""#),
        "agent_lease: \"0secs\" is not above zero; write a number and a unit, such as \"5mins\"; the units are \
         ns us ms secs mins hrs days weeks",
    );
}

#[test]
fn bounds_are_inclusive() {
    let oui = r#""vtep_mac_oui": "70:B3:D5:00:00:00""#;
    for network in [
        r#""vtep_subnet": "44.0.0.0/8", "vtep_mtu": 552"#,
        r#""vtep_subnet": "44.0.0.0/30", "vtep_mtu": 65535"#,
        r#""vtep_subnet": "44.0.0.0/20", "vtep_subnet6": "fd01:a::/126", "vtep_mtu": 1280"#,
    ] {
        let text = with_network(&format!("{oui}, {network}"));
        assert!(parse("m", &text).is_ok(), "{network}");
    }
    for overlay in [
        r#""name": "a23456789-123", "subnet": "9.0.0.0/8", "prefix": 8"#,
        r#""name": "a", "subnet": "9.0.0.0/8", "prefix": 31"#,
        r#""name": "a", "subnet": "9.0.0.0/31", "prefix": 31"#,
        r#""name": "a", "subnet6": "fd01:b::/64", "prefix6": 64"#,
        r#""name": "a", "subnet6": "fd01:b::/64", "prefix6": 127"#,
    ] {
        let text = with_overlays(&format!("{{{overlay}}}"));
        assert_eq!(
            parse("m", &text).unwrap().config.network.overlays.len(),
            1,
            "{overlay}"
        );
    }
    let line = |mtu| {
        format!("network.vtep_mtu: {mtu} is out of range; give a whole number from 552 to 65535")
    };
    for mtu in ["551", "65536"] {
        let text = format!(r#"{{"network": {{{VTEP}, "vtep_mtu": {mtu}}}}}"#);
        check(&text, &line(mtu));
    }
}

#[test]
fn what_mesos_takes_is_taken() {
    let text = r#"{"zk": {"url": "zk://a:2181, b:2181/m", "quorum": "2"}, "replicated_log_dir": "/d", "network": {
        "vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_mtu": "575",
        "overlays": {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": "24", "enabled": "true"}}}"#;
    let plain = text
        .replace("\"2\"", "2")
        .replace("\"575\"", "575")
        .replace("\"24\"", "24")
        .replace("\"true\"", "true")
        .replace("{\"name\"", "[{\"name\"")
        .replace("}}}", "}]}}");
    let taken = parse("m", text).unwrap();
    assert_eq!(taken.config, parse("m", &plain).unwrap().config);
    assert_eq!(taken.config.zk.map(|zk| zk.quorum), Some(2));
    let mut warnings = taken.warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "m: network.overlays: is not a list; write [ … ] around its entry",
            "m: network.overlays[0].enabled: \"true\" is a string; write true, without quotes",
            "m: network.overlays[0].prefix: \"24\" is a string; write 24, without quotes",
            "m: network.vtep_mtu: \"575\" is a string; write 575, without quotes",
            "m: network.vtep_mtu: 575 is less than the 576 bytes that every IPv4 host receives; is it meant?",
            "m: zk.quorum: \"2\" is a string; write 2, without quotes",
        ]
    );
}

#[test]
fn a_file_with_useless_ranges_is_taken_with_warnings() {
    let text = r#"{"replicated_log_dir": "/d", "network": {
        "vtep_subnet": "127.0.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_subnet6": "ff02::/64",
        "overlays": [{"name": "a", "subnet": "224.0.0.0/8", "prefix": 31},
                     {"name": "b", "subnet6": "fe80::/64", "prefix6": 127}]}}"#;
    let Parsed { config, warnings } = parse("m", text).unwrap();
    assert_eq!(config.network.overlays.len(), 2);
    let refuse = "so agents refuse it; give a range that";
    assert_eq!(
        warnings,
        [
            format!("m: network.vtep_subnet: \"127.0.0.0/20\" overlaps the loopback range 127.0.0.0/8, {refuse} hosts can have"),
            format!("m: network.vtep_subnet6: \"ff02::/64\" overlaps the multicast range ff00::/8, {refuse} hosts can have"),
            format!(
                "m: network.overlays[0].subnet: \"224.0.0.0/8\" overlaps the multicast range 224.0.0.0/4, {refuse} \
                 containers can have, such as \"9.0.0.0/8\""
            ),
            "m: network.overlays[0].prefix: 31 leaves no address for a container in an agent's subnet; give a prefix \
             length of at most 30, or 29 where agents have bridges"
                .to_owned(),
            format!(
                "m: network.overlays[1].subnet6: \"fe80::/64\" overlaps the link-local range fe80::/10, {refuse} \
                 containers can have, such as \"fd01:b::/64\""
            ),
            "m: network.overlays[1].prefix6: 127 leaves no address for a container in an agent's subnet; give a \
             prefix length of at most 126, or 125 where agents have bridges"
                .to_owned(),
        ]
    );
}

#[test]
fn the_wire_form_is_as_the_operator_wrote_it() {
    let text = with_network(&format!(
        r#"{VTEP}, "vtep_subnet6": "FD01:A::/64", "vtep_mtu": 1450, "overlays": [
            {{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "FD01:B::/64", "prefix6": 80,
              "enabled": true}},
            {{"name": "b", "subnet6": "fd01:c::/64", "prefix6": 81}}]"#
    ));
    let config = parse("m", &text).unwrap().config.network;
    let a = proto::OverlayInfo {
        name: "a".into(),
        subnet: Some("9.0.0.0/8".into()),
        prefix: Some(24),
        subnet6: Some("FD01:B::/64".into()),
        prefix6: Some(80),
        enabled: Some(true),
    };
    let b = proto::OverlayInfo {
        name: "b".into(),
        subnet6: Some("fd01:c::/64".into()),
        prefix6: Some(81),
        ..proto::OverlayInfo::default()
    };
    let expected = proto::NetworkConfig {
        vtep_subnet: "44.128.0.0/20".into(),
        vtep_mac_oui: "70:B3:D5:00:00:00".into(),
        overlays: vec![a, b],
        vtep_subnet6: Some("FD01:A::/64".into()),
        vtep_mtu: Some(1450),
    };
    assert_eq!(config.to_wire(), expected);
    let [a, _] = &config.overlays[..] else {
        panic!("two")
    };
    assert_eq!(
        a.config()
            .v4
            .map(|range| (range.net.to_string(), range.prefix)),
        Some(("9.0.0.0/8".into(), 24))
    );
    assert_eq!(
        a.config()
            .v6
            .map(|range| (range.net.to_string(), range.prefix)),
        Some(("fd01:b::/64".into(), 80))
    );
}

#[test]
fn keys_of_zookeeper_may_be_missing() {
    let zk = |zk: &str| {
        let text = format!(r#"{{"zk": {zk}, "network": {{{VTEP}}}}}"#);
        parse("m", &text).unwrap().config.zk
    };
    assert_eq!(zk("{}"), None);
    assert_eq!(zk("null"), None);
    let read = zk(r#"{"url": " zk://a:1/m ", "quorum": 1}"#).unwrap();
    assert_eq!(
        (
            read.url.as_str(),
            read.quorum,
            read.session_timeout.as_secs()
        ),
        ("zk://a:1/m", 1, 10)
    );
    for seconds in [1, 86_400] {
        let read = zk(&format!(
            r#"{{"url": "file:///zk", "quorum": 2, "session_timeout": {seconds}}}"#
        ));
        assert_eq!(read.unwrap().session_timeout.as_secs(), seconds);
    }
    for seconds in ["0", "86401"] {
        check(
            &format!(r#"{{"zk": {{"session_timeout": {seconds}}}, "network": {{{VTEP}}}}}"#),
            &format!(
                "zk.session_timeout: {seconds} is out of range; give a whole number from 1 to 86400"
            ),
        );
    }
}

#[test]
fn numbers_may_be_written_with_a_fraction_of_zero_and_null_is_absent() {
    let text =
        with_overlays(r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24.0, "subnet6": null}"#);
    let config = parse("m", &text).unwrap().config;
    assert_eq!(config.network.overlays[0].config().v4.unwrap().prefix, 24);
    assert_eq!(config.network.overlays[0].config().v6, None);
}

#[test]
fn a_duplicate_key_is_a_warning() {
    let text = with_overlays(r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "name": "b"}"#);
    let Parsed { config, warnings } = parse("master.json", &text).unwrap();
    assert_eq!(
        warnings,
        ["master.json: network.overlays[0].name: given twice; the last one is used"]
    );
    assert_eq!(config.network.overlays[0].name(), "b");
}

#[test]
fn unknown_keys_are_warnings() {
    let text =
        with_overlays(r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "enable": false}"#);
    assert_eq!(
        parse("master.json", &text).unwrap().warnings,
        [
            "master.json: network.overlays[0].enable: unknown key, ignored; did you mean \"enabled\"?"
        ]
    );
    let text =
        with_overlays(r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "EN\nABLED": false}"#);
    assert_eq!(
        parse("master.json", &text).unwrap().warnings,
        [
            "master.json: network.overlays[0].EN ABLED: unknown key, ignored; did you mean \"enabled\"?"
        ]
    );
}

#[test]
fn ipv6_without_a_vtep_range_is_a_warning() {
    let text = with_overlays(r#"{"name": "a", "subnet6": "fd01:b::/64", "prefix6": 80}"#);
    assert_eq!(
        parse("master.json", &text).unwrap().warnings,
        [
            "master.json: network.overlays[0].subnet6: works within a host only: \
          network.vtep_subnet6 is missing"
        ]
    );
}
