//! Tests of the master's configuration.

use super::super::master::*;

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
fn reads_what_dcos_writes() {
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
    assert_eq!(
        network.overlays,
        [
            OverlayConfig {
                name: "dcos".into(),
                v4: Some(v4),
                v6: None,
                enabled: true
            },
            OverlayConfig {
                name: "dcos6".into(),
                v4: None,
                v6: Some(v6),
                enabled: false
            },
        ]
    );
    assert_eq!(network.wire.vtep_mac_oui, "70:B3:D5:00:00:00");
    assert_eq!(network.wire.overlays[1].enabled, Some(false));
    assert_eq!(network.wire.overlays[0].enabled, None);
}

#[test]
fn reads_zookeeper_and_the_timeout() {
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
            "master.json: replicated_log_dir: missing; what agents get is kept in memory only and lost \
          at a restart"
        ]
    );
}

#[test]
fn reads_which_agents_there_may_be() {
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
            r#"[1]: "10.0.0.1/8" has bits set behind its prefix (is "10.0.0.0/8" meant?)"#,
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
fn reads_the_lease() {
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
fn bounds_are_within() {
    let oui = r#""vtep_mac_oui": "70:B3:D5:00:00:00""#;
    for network in [
        r#""vtep_subnet": "44.0.0.0/8", "vtep_mtu": 576"#,
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
        format!("network.vtep_mtu: {mtu} is out of range; give a whole number from 576 to 65535")
    };
    for mtu in ["575", "65536"] {
        let text = format!(r#"{{"network": {{{VTEP}, "vtep_mtu": {mtu}}}}}"#);
        check(&text, &line(mtu));
    }
}

#[test]
fn names_of_overlays_are_told_from_others() {
    for name in ["a", "a23456789-123", "9", "A_b.c"] {
        assert!(is_overlay_name(name), "{name}");
    }
    for name in [
        "",
        "a23456789-1234",
        ".a",
        "_a",
        "a/b",
        "ä",
        "host",
        "bridge",
        "default",
        "none",
    ] {
        assert!(!is_overlay_name(name), "{name}");
    }
}

#[test]
fn the_log_and_the_endpoints_get_what_the_operator_wrote() {
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
    assert_eq!(config.wire, expected);
    let [a, _] = &config.overlays[..] else {
        panic!("two")
    };
    assert_eq!(
        a.v4.map(|range| (range.net.to_string(), range.prefix)),
        Some(("9.0.0.0/8".into(), 24))
    );
    assert_eq!(
        a.v6.map(|range| (range.net.to_string(), range.prefix)),
        Some(("fd01:b::/64".into(), 80))
    );
}

#[test]
fn a_definition_has_one_name() {
    let ranges = r#""subnet": "9.0.0.0/8", "prefix": 24"#;
    let web = |text: &str| parse_definition("body", text, Some("web"));
    let unnamed = web(&format!("{{{ranges}}}")).unwrap();
    assert_eq!(
        (unnamed.config.name.as_str(), unnamed.info.name.as_str()),
        ("web", "web")
    );
    assert_eq!(web(&format!(r#"{{"name": "web", {ranges}}}"#)), Ok(unnamed));
    assert_eq!(
        web(&format!(r#"{{"name": "dcos", {ranges}}}"#)).unwrap_err(),
        "body: name: \"dcos\" is not the name in the path; an overlay keeps its name: write \"web\" or nothing"
    );
    let named =
        parse_definition("body", &format!(r#"{{"name": "dcos", {ranges}}}"#), None).unwrap();
    assert_eq!(
        (named.config.name.as_str(), named.info.name.as_str()),
        ("dcos", "dcos")
    );
    let missing = parse_definition("body", &format!("{{{ranges}}}"), None).unwrap_err();
    assert!(
        missing.starts_with("body: name: missing; give a name"),
        "{missing}"
    );
    assert_eq!(
        web(&format!(r#"{{{ranges}, "enable": true}}"#)).unwrap_err(),
        "body: enable: unknown key; did you mean \"enabled\"?"
    );
    assert_eq!(
        web(&format!(r#"{{{ranges}, "prefix": 25}}"#)).unwrap_err(),
        "body: prefix: given twice"
    );
}

#[test]
fn a_definition_is_read_from_the_log_as_it_was_written() {
    for text in [
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": false}"#,
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "enabled": true}"#,
        r#"{"name": "a", "subnet6": "FD01:B::/64", "prefix6": 80}"#,
        r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80}"#,
    ] {
        let definition = parse_definition("body", text, None).unwrap();
        assert_eq!(definition.config.enabled, !text.contains("false"));
        assert_eq!(read_definition(&definition.info), Ok(definition), "{text}");
    }
    let not_any_more = proto::OverlayInfo {
        name: "a".into(),
        ..proto::OverlayInfo::default()
    };
    let why = read_definition(&not_any_more).unwrap_err();
    assert!(why.starts_with("replicated log: subnet: missing"), "{why}");
}

#[test]
fn reads_what_zookeeper_may_leave_out() {
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
    assert_eq!(config.network.overlays[0].v4.unwrap().prefix, 24);
    assert_eq!(config.network.overlays[0].v6, None);
}

#[test]
fn syntax_errors_name_line_and_column() {
    check(
        "",
        "line 1, column 0: not JSON: EOF while parsing a value; correct the file there or just before",
    );
    check(
        "{\n  \"network\": {\n    vtep\n",
        "line 3, column 5: not JSON: key must be a string; correct the file there or just before",
    );
    check("[]", "[] is not an object; write { … } around the settings");
}

#[test]
fn a_key_given_twice_is_warned_of() {
    let text = with_overlays(r#"{"name": "a", "subnet": "9.0.0.0/8", "prefix": 24, "name": "b"}"#);
    let Parsed { config, warnings } = parse("master.json", &text).unwrap();
    assert_eq!(
        warnings,
        ["master.json: network.overlays[0].name: given twice; the last one counts"]
    );
    assert_eq!(config.network.overlays[0].name, "b");
}

#[test]
fn unknown_keys_are_warned_of() {
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
fn ipv6_without_a_vtep_range_is_warned_of() {
    let text = with_overlays(r#"{"name": "a", "subnet6": "fd01:b::/64", "prefix6": 80}"#);
    assert_eq!(
        parse("master.json", &text).unwrap().warnings,
        [
            "master.json: network.overlays[0].subnet6: works within a host only: \
          network.vtep_subnet6 is missing"
        ]
    );
}

#[test]
fn mistakes_at_the_top() {
    check("{}", "network: missing; give the networks of the cluster");
    check(
        r#"{"Networks": {}}"#,
        "network: missing (is \"Networks\" a typing error?); give the networks of the cluster",
    );
    check(
        &format!(r#"{{"replicated_log_dir": [], "network": {{{VTEP}}}}}"#),
        "replicated_log_dir: [] is not a string; write it in quotes",
    );
    check(
        &format!(r#"{{"replicated_log_timeout": "5 minutes", "network": {{{VTEP}}}}}"#),
        "replicated_log_timeout: \"5 minutes\" has no known unit; write a number and a unit, such as \
         \"5mins\"; the units are ns us ms secs mins hrs days weeks",
    );
}

#[test]
fn mistakes_about_zookeeper() {
    let zk = |zk: &str| format!(r#"{{"zk": {zk}, "network": {{{VTEP}}}}}"#);
    check(
        &zk(r#"{"url": "zk://a:2181/m"}"#),
        "zk.quorum: missing; give the majority of the number of masters (2 of 3), or remove zk and set \
         MESOS_ZK and MESOS_QUORUM in Mesos's environment",
    );
    let remedy = "write zk://[user:password@]host:port[,host:port]…/path, or file:///path of a file that \
                  holds such a url";
    check(
        &zk(r#"{"quorum": 2}"#),
        &format!("zk.url: missing; {remedy}"),
    );
    check(
        &zk(r#"{"url": "zk://me:secret@a/m", "quorum": 2}"#),
        &format!("zk.url: \"zk://***@a/m\" has the server \"a\", which has no port; {remedy}"),
    );
    check(
        &zk(r#"{"url": "file://zk", "quorum": 2}"#),
        &format!("zk.url: \"file://zk\" names no absolute path; {remedy}"),
    );
    check(
        &zk(r#"{"url": "zk://a:1/m", "quorum": 0}"#),
        "zk.quorum: 0 is out of range; give a whole number from 1 to 4294967295",
    );
    check(
        &zk(r#"{"url": "zk://a:1/m", "quorum": 1.5}"#),
        "zk.quorum: 1.5 is not a whole number; give a whole number from 1 to 4294967295",
    );
}

#[test]
fn mistakes_about_vteps() {
    let oui = r#""vtep_mac_oui": "70:B3:D5:00:00:00""#;
    let subnet = r#""vtep_subnet": "44.128.0.0/20""#;
    let mac_remedy =
        "write the three bytes of the OUI and three zero bytes, such as \"70:B3:D5:00:00:00\"";
    let net_remedy = "write a network address and its prefix length, such as \"44.128.0.0/20\"";
    for (network, line) in [
        (
            oui.to_owned(),
            "vtep_subnet: missing; give the IPv4 range of the VTEPs, such as \"44.128.0.0/20\"".to_owned(),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "44.128.0.0""#),
            format!("vtep_subnet: \"44.128.0.0\" is not a network; {net_remedy}"),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "fd01::/64""#),
            format!("vtep_subnet: \"fd01::/64\" is an IPv6 network, not an IPv4 one; {net_remedy}"),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "44.128.0.1/20""#),
            "vtep_subnet: \"44.128.0.1/20\" has bits set behind its prefix; write \"44.128.0.0/20\" if that \
             is meant"
                .to_owned(),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "44.0.0.0/7""#),
            "vtep_subnet: \"44.0.0.0/7\" is so large that the MACs of the VTEPs would not be unique; give a \
             prefix length of at least 8"
                .to_owned(),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "44.0.0.0/31""#),
            "vtep_subnet: \"44.0.0.0/31\" has no address besides its first and last, which are not used; \
             give a prefix length of at most 30"
                .to_owned(),
        ),
        (
            format!(r#"{oui}, {subnet}, "vtep_subnet6": "fd01:a::/127""#),
            "vtep_subnet6: \"fd01:a::/127\" has no address besides its first and last, which are not used; \
             give a prefix length of at most 126"
                .to_owned(),
        ),
        (
            format!(r#"{oui}, {subnet}, "vtep_subnet6": "fd01:a::/64", "vtep_mtu": 1000"#),
            "vtep_mtu: 1000 is too small for IPv6; give at least 1280, or remove vtep_subnet6".to_owned(),
        ),
        (
            format!(r#"{oui}, {subnet}, "vtep_mtu": "1400""#),
            "vtep_mtu: \"1400\" is not a number; give a whole number from 576 to 65535".to_owned(),
        ),
        (subnet.to_owned(), format!("vtep_mac_oui: missing; {mac_remedy}")),
        (
            format!(r#"{subnet}, "vtep_mac_oui": "70:B3:D5""#),
            format!("vtep_mac_oui: \"70:B3:D5\" is not a MAC address; {mac_remedy}"),
        ),
        (
            format!(r#"{subnet}, "vtep_mac_oui": "70:B3:D5:00:00:01""#),
            format!(
                "vtep_mac_oui: \"70:B3:D5:00:00:01\" does not end in three zero bytes, which the VTEPs' \
                 addresses fill; {mac_remedy}"
            ),
        ),
        (
            format!(r#"{subnet}, "vtep_mac_oui": "71:B3:D5:00:00:00""#),
            format!(
                "vtep_mac_oui: \"71:B3:D5:00:00:00\" is a group address (the lowest bit of its first byte \
                 is set); {mac_remedy}"
            ),
        ),
    ] {
        check(&with_network(&network), &format!("network.{line}"));
    }
}

#[test]
fn mistakes_about_names() {
    let remedy =
        "give a name of 1 to 13 letters, digits and _ . - that begins with a letter or digit";
    let range = r#""subnet": "9.0.0.0/8", "prefix": 24"#;
    for (name, what) in [
        (r#""host""#, "is a name that Docker keeps for itself"),
        (r#""none""#, "is a name that Docker keeps for itself"),
        (r#""fourteen-chars""#, "has more than 13 characters"),
        (
            r#""""#,
            "is not fit to be the name of network devices and files",
        ),
        (
            r#""../etc""#,
            "is not fit to be the name of network devices and files",
        ),
        (
            r#""a b""#,
            "is not fit to be the name of network devices and files",
        ),
        (
            r#""-a""#,
            "is not fit to be the name of network devices and files",
        ),
    ] {
        let text = with_overlays(&format!(r#"{{"name": {name}, {range}}}"#));
        check(
            &text,
            &format!("network.overlays[0].name: {name} {what}; {remedy}"),
        );
    }
    check(
        &with_overlays(&format!("{{{range}}}")),
        &format!("network.overlays[0].name: missing; {remedy}"),
    );
    check(
        &with_overlays(&format!(
            r#"{{"name": "a", {range}}}, {{"name": "a", "subnet": "10.0.0.0/8", "prefix": 24}}"#
        )),
        "network.overlays[1].name: \"a\" is the name of network.overlays[0] already; give every overlay a \
         name of its own",
    );
}

#[test]
fn mistakes_about_ranges() {
    let range = |fields: &str| with_overlays(&format!(r#"{{"name": "a", {fields}}}"#));
    for (fields, line) in [
        (
            r#""enabled": true"#,
            "subnet: missing; give subnet and prefix for IPv4, subnet6 and prefix6 for IPv6, or all four",
        ),
        (
            r#""subnet": "9.0.0.0/8""#,
            "prefix: missing; give the prefix length of each agent's subnet, from 8 to 31",
        ),
        (
            r#""prefix": 24"#,
            "subnet: missing; give the range that is cut into subnets, such as \"9.0.0.0/8\", or remove prefix",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 7"#,
            "prefix: 7 is shorter than that of 9.0.0.0/8; give the prefix length of each agent's subnet, \
             from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 32"#,
            "prefix: 32 leaves no two halves for the bridges; give the prefix length of each agent's \
             subnet, from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 300"#,
            "prefix: 300 leaves no two halves for the bridges; give the prefix length of each agent's \
             subnet, from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": -1"#,
            "prefix: -1 is out of range; give a whole number from 0 to 4294967295",
        ),
        (
            r#""subnet": "9.0.0.1/32", "prefix": 32"#,
            "subnet: \"9.0.0.1/32\" cannot be split between two bridges; give a prefix length of at most 31",
        ),
        (
            r#""subnet6": "fd01:b::/64", "prefix6": 128"#,
            "prefix6: 128 leaves no two halves for the bridges; give the prefix length of each agent's \
             subnet, from 64 to 127",
        ),
        (
            r#""subnet6": "9.0.0.0/8", "prefix6": 80"#,
            "subnet6: \"9.0.0.0/8\" is an IPv4 network, not an IPv6 one; write a network address and its \
             prefix length, such as \"fd01:b::/64\"",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 24, "enabled": 1"#,
            "enabled: 1 is neither true nor false; write true or false, without quotes",
        ),
    ] {
        check(&range(fields), &format!("network.overlays[0].{line}"));
    }
    check(
        &with_overlays("7"),
        "network.overlays[0]: 7 is not an object; write { … } around its settings",
    );
    check(
        &with_network(&format!(r#"{VTEP}, "overlays": {{}}"#)),
        "network.overlays: {} is not a list; write [ … ] around its entries",
    );
}

#[test]
fn overlapping_ranges_are_refused() {
    let dcos = r#"{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}"#;
    let remedy = "give ranges that share no address";
    check(
        &with_overlays(&format!(
            r#"{dcos}, {{"name": "b", "subnet": "9.1.0.0/16", "prefix": 24}}"#
        )),
        &format!(
            "network.overlays[1].subnet: \"9.1.0.0/16\" overlaps network.overlays[0].subnet, 9.0.0.0/8; {remedy}"
        ),
    );
    check(
        &with_overlays(&format!(
            r#"{dcos}, {{"name": "b", "subnet": "9.0.0.0/8", "prefix": 24}}"#
        )),
        &format!(
            "network.overlays[1].subnet: \"9.0.0.0/8\" overlaps network.overlays[0].subnet, 9.0.0.0/8; {remedy}"
        ),
    );
    // The larger range stands later in the file, and both begin with the same address.
    check(
        &with_overlays(&format!(
            r#"{{"name": "b", "subnet": "9.0.0.0/16", "prefix": 24}}, {dcos}"#
        )),
        &format!(
            "network.overlays[0].subnet: \"9.0.0.0/16\" overlaps network.overlays[1].subnet, 9.0.0.0/8; {remedy}"
        ),
    );
    // The larger range stands later in the file, and another one lies between.
    check(
        &with_overlays(&format!(
            r#"{{"name": "b", "subnet": "9.1.0.0/16", "prefix": 24}}, {{"name": "c", "subnet": "8.0.0.0/8",
               "prefix": 24}}, {dcos}"#
        )),
        &format!(
            "network.overlays[0].subnet: \"9.1.0.0/16\" overlaps network.overlays[2].subnet, 9.0.0.0/8; {remedy}"
        ),
    );
    check(
        &with_overlays(r#"{"name": "b", "subnet": "44.0.0.0/8", "prefix": 24, "enabled": false}"#),
        &format!(
            "network.vtep_subnet: \"44.128.0.0/20\" overlaps network.overlays[0].subnet, 44.0.0.0/8; {remedy}"
        ),
    );
    check(
        &with_network(&format!(
            r#"{VTEP}, "vtep_subnet6": "fd01:a::/64",
               "overlays": [{{"name": "b", "subnet6": "fd01:a::/72", "prefix6": 80}}]"#
        )),
        &format!(
            "network.overlays[0].subnet6: \"fd01:a::/72\" overlaps network.vtep_subnet6, fd01:a::/64; {remedy}"
        ),
    );
}

#[test]
fn complaints_stay_one_short_line() {
    let long = format!(r#"{{"network": "a\nb{}"}}"#, "x".repeat(1000));
    let line = parse("m", &long).unwrap_err().to_string();
    assert!(line.starts_with(r#"m: network: "a\nbxxx"#), "{line}");
    assert!(line.len() < 200 && !line.contains('\n'), "{line}");
    // 80 characters with the quotes, and one more.
    for (length, end) in [(78, "x\" is not"), (79, "x… is not")] {
        let line = parse("m", &format!(r#"{{"network": "{}"}}"#, "x".repeat(length)))
            .unwrap_err()
            .to_string();
        assert!(line.contains(&format!("{}{end}", "x".repeat(77))), "{line}");
    }
    let missing = ConfigError::unreadable("/m.json", &"No such file or directory", "master_config");
    assert_eq!(
        missing.to_string(),
        "/m.json: cannot be read: No such file or directory; make the file readable, or correct the \
         module's parameter master_config"
    );
}
