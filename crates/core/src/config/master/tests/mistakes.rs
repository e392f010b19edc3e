//! Tests of mistakes in the master's configuration.

use super::*;

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
fn mistakes_at_the_top() {
    check("{}", "network: missing; give the networks of the cluster");
    check(
        r#"{"Networks": {}}"#,
        "network: missing (is \"Networks\" a typo?); give the networks of the cluster",
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
                  holds such a URL";
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
        &format!("zk.url: \"file://zk\" does not name an absolute path; {remedy}"),
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
            "vtep_subnet: \"44.128.0.1/20\" has bits set after its prefix; write \"44.128.0.0/20\" if that \
             is meant"
                .to_owned(),
        ),
        (
            format!(r#"{oui}, "vtep_subnet": "44.0.0.0/7""#),
            "vtep_subnet: \"44.0.0.0/7\" is so large that the MAC addresses of the VTEPs would not be unique; give a \
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
            format!(r#"{oui}, {subnet}, "vtep_mtu": "large""#),
            "vtep_mtu: \"large\" is not a number; give a whole number from 552 to 65535".to_owned(),
        ),
        (subnet.to_owned(), format!("vtep_mac_oui: missing; {mac_remedy}")),
        (
            format!(r#"{subnet}, "vtep_mac_oui": "70:B3:D5""#),
            format!("vtep_mac_oui: \"70:B3:D5\" is not a MAC address; {mac_remedy}"),
        ),
        (
            format!(r#"{subnet}, "vtep_mac_oui": "70:B3:D5:00:00:01""#),
            format!(
                "vtep_mac_oui: \"70:B3:D5:00:00:01\" does not end in three zero bytes, which the addresses \
                 of the VTEPs fill; {mac_remedy}"
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
        (r#""host""#, "is reserved by Docker"),
        (r#""none""#, "is reserved by Docker"),
        (r#""fourteen-chars""#, "has more than 13 characters"),
        (r#""""#, "is not a valid name of network devices and files"),
        (
            r#""../etc""#,
            "is not a valid name of network devices and files",
        ),
        (
            r#""a b""#,
            "is not a valid name of network devices and files",
        ),
        (
            r#""-a""#,
            "is not a valid name of network devices and files",
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
            "subnet: missing; give the range that is divided into subnets, such as \"9.0.0.0/8\", or remove prefix",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 7"#,
            "prefix: 7 is shorter than the prefix of 9.0.0.0/8; give the prefix length of each agent's subnet, \
             from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 32"#,
            "prefix: 32 is too long to divide the subnet between two bridges; give the prefix length of each agent's \
             subnet, from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": 300"#,
            "prefix: 300 is too long to divide the subnet between two bridges; give the prefix length of each agent's \
             subnet, from 8 to 31",
        ),
        (
            r#""subnet": "9.0.0.0/8", "prefix": -1"#,
            "prefix: -1 is out of range; give a whole number from 0 to 4294967295",
        ),
        (
            r#""subnet": "9.0.0.1/32", "prefix": 32"#,
            "subnet: \"9.0.0.1/32\" cannot be divided between two bridges; give a prefix length of at most 31",
        ),
        (
            r#""subnet6": "fd01:b::/64", "prefix6": 128"#,
            "prefix6: 128 is too long to divide the subnet between two bridges; give the prefix length of each agent's \
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
        &with_network(&format!(r#"{VTEP}, "overlays": 7"#)),
        "network.overlays: 7 is not a list; write [ … ] around its entries",
    );
}

#[test]
fn overlapping_ranges_are_mistakes() {
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
    // The larger range is later in the file, and both begin with the same address.
    check(
        &with_overlays(&format!(
            r#"{{"name": "b", "subnet": "9.0.0.0/16", "prefix": 24}}, {dcos}"#
        )),
        &format!(
            "network.overlays[0].subnet: \"9.0.0.0/16\" overlaps network.overlays[1].subnet, 9.0.0.0/8; {remedy}"
        ),
    );
    // The larger range is later in the file, and another one is between them.
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
fn a_mistake_is_one_short_line() {
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

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = r#"{"authenticate_http": "yes",
        "zk": {"quorum": 0, "url": "a:1", "session_timeout": "x"},
        "agent_addresses": ["10.0.0.1/8", "fd00::/8"],
        "network": {
            "vtep_mac_oui": 7,
            "overlays": [
                {"subnet": "9.0.0.1/8", "prefix": 24, "name": "host"},
                7,
                {"enabled": 1, "prefix": 24},
                {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 60}],
            "vtep_subnet": "44.128.0.0"},
        "agent_lease": "1"}"#;
    let error = parse("master.json", text).unwrap_err();
    let fields: Vec<_> = error.mistakes().iter().map(|m| m.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "authenticate_http",
            "zk.quorum",
            "zk.url",
            "zk.session_timeout",
            "agent_addresses[0]",
            "agent_addresses[1]",
            "network.vtep_mac_oui",
            "network.overlays[0].subnet",
            "network.overlays[0].name",
            "network.overlays[1]",
            "network.overlays[2].name",
            "network.overlays[2].subnet",
            "network.overlays[2].enabled",
            "network.overlays[3].prefix6",
            "network.vtep_subnet",
            "agent_lease",
        ],
        "{error}"
    );
    assert_eq!(error.lines().len(), fields.len());
}

#[test]
fn the_list_of_mistakes_is_bounded() {
    let overlays = vec!["7"; 30].join(", ");
    let error = parse("m", &with_overlays(&overlays)).unwrap_err();
    let lines = error.lines();
    assert_eq!(lines.len(), 21);
    assert_eq!(
        lines[20],
        "m: and 10 more mistakes; correct the ones above first"
    );
}

#[test]
fn every_overlap_is_reported() {
    let overlay = |name: &str, subnet: &str| {
        format!(r#"{{"name": "{name}", "subnet": "{subnet}", "prefix": 28}}"#)
    };
    let fields = |overlays: &[String]| {
        let error = parse("m", &with_overlays(&overlays.join(", "))).unwrap_err();
        let fields = error.mistakes().iter().map(|m| m.field.clone());
        fields.collect::<Vec<_>>()
    };
    assert_eq!(
        fields(&[
            overlay("a", "9.1.0.0/16"),
            overlay("b", "9.0.0.0/8"),
            overlay("a", "9.2.0.0/16"),
            overlay("c", "10.0.0.0/8"),
            overlay("d", "9.2.1.0/24"),
        ]),
        [
            "network.overlays[0].subnet",
            "network.overlays[2].name",
            "network.overlays[2].subnet",
            "network.overlays[4].subnet",
        ]
    );
    // A range with a mistake overlaps nothing.
    assert_eq!(
        fields(&[overlay("a", "9.1.0.0/16"), overlay("b", "9.1.0.1/16")]),
        ["network.overlays[1].subnet"]
    );
}
