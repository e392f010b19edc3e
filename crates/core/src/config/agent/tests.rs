//! Tests of the agent's configuration.

use super::*;

fn error(text: &str) -> String {
    parse("agent.json", text).unwrap_err().to_string()
}

#[test]
fn a_configuration_of_dcos_is_read() {
    let text = r#"{"cni_dir": "/opt/mesosphere/etc/dcos/network/cni",
        "cni_data_dir": "/var/run/dcos/cni/networks",
        "network_config": {"allocate_subnet": true, "mesos_bridge": true, "docker_bridge": false,
            "overlay_mtu": 1400, "enable_ipv6": false, "command_timeout": 2500},
        "max_configuration_attempts": 7}"#;
    let Parsed { config, warnings } = parse("agent.json", text).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        config,
        AgentConfig {
            cni_data_dir: Some("/var/run/dcos/cni/networks".into()),
            max_configuration_attempts: 7,
            network: AgentNetwork {
                docker_bridge: false,
                overlay_mtu: Some(1400),
                enable_ipv6: false,
                command_timeout: Duration::from_millis(2500),
                ..AgentNetwork::default()
            },
            ..AgentConfig::new("/opt/mesosphere/etc/dcos/network/cni")
        }
    );
}

#[test]
fn each_switch_has_its_key() {
    for (key, network) in [
        (
            "allocate_subnet",
            AgentNetwork {
                allocate_subnet: false,
                ..AgentNetwork::default()
            },
        ),
        (
            "mesos_bridge",
            AgentNetwork {
                mesos_bridge: false,
                ..AgentNetwork::default()
            },
        ),
        (
            "docker_bridge",
            AgentNetwork {
                docker_bridge: false,
                ..AgentNetwork::default()
            },
        ),
        (
            "enable_ipv6",
            AgentNetwork {
                enable_ipv6: false,
                ..AgentNetwork::default()
            },
        ),
    ] {
        let text = format!(r#"{{"cni_dir": "/c", "network_config": {{"{key}": false}}}}"#);
        assert_eq!(parse("a", &text).unwrap().config.network, network, "{key}");
    }
}

#[test]
fn bounds_are_inclusive() {
    for (mtu, timeout, attempts) in [(552, 1, 1), (65_535, u32::MAX, u32::MAX)] {
        let text = format!(
            r#"{{"cni_dir": "/c", "max_configuration_attempts": {attempts},
                "network_config": {{"overlay_mtu": {mtu}, "command_timeout": {timeout}}}}}"#
        );
        let config = parse("a", &text).unwrap().config;
        assert_eq!(config.max_configuration_attempts, attempts);
        assert_eq!(config.network.overlay_mtu, Some(mtu));
        assert_eq!(
            config.network.command_timeout,
            Duration::from_millis(timeout.into())
        );
    }
}

#[test]
fn defaults_are_the_protocols() {
    let config = parse("agent.json", r#"{"cni_dir": "/c"}"#).unwrap().config;
    assert_eq!(config, AgentConfig::new("/c"));
    let all = AgentNetwork {
        allocate_subnet: true,
        mesos_bridge: true,
        docker_bridge: true,
        overlay_mtu: None,
        command_timeout: Duration::from_secs(15),
        enable_ipv6: true,
    };
    assert_eq!(config.network, all);
    let partly = parse("agent.json", r#"{"cni_dir": "/c", "network_config": {}}"#)
        .unwrap()
        .config;
    assert_eq!(partly.network, all);
    assert_eq!(config.max_configuration_attempts, 4);
    assert_eq!(config.backend, Backend::Internal);
    assert_eq!(config.firewall, Firewall::Auto);
}

#[test]
fn a_file_prefix_is_a_part_of_a_name() {
    let prefix = |prefix: &str| {
        let text = format!(r#"{{"cni_dir": "/c", "cni_file_prefix": "{prefix}"}}"#);
        parse("a", &text).map(|parsed| parsed.config.cni_file_prefix)
    };
    let longest = "x".repeat(MAX_FILE_PREFIX);
    for fine in ["", "overlay-", "10_a.b-", &longest] {
        assert_eq!(prefix(fine).as_deref(), Ok(fine));
    }
    for wrong in [".hidden", "../x", "a/b", "a b", &format!("{longest}x")] {
        let error = prefix(wrong).unwrap_err().to_string();
        assert!(error.contains("cni_file_prefix: "), "{error}");
    }
}

#[test]
fn a_routing_table_is_none_of_the_kernels_own() {
    let table = |number: &str| {
        let text = format!(r#"{{"cni_dir": "/c", "container_table": {number}}}"#);
        parse("a", &text).map(|parsed| parsed.config.container_table.0)
    };
    for number in [1, 42, 252, 256, u32::MAX] {
        assert_eq!(table(&number.to_string()), Ok(number));
    }
    for number in ["0", "253", "254", "255", "4294967296"] {
        let error = table(number).unwrap_err().to_string();
        assert!(error.contains("container_table: "), "{error}");
    }
    assert_eq!(AgentConfig::new("/c").container_table.0, 42);
}

#[test]
fn every_value_of_vxlan_tx_checksum_is_read() {
    for (text, checksum) in [
        ("auto", Checksum::Auto),
        ("on", Checksum::On),
        ("off", Checksum::Off),
    ] {
        let text = format!(r#"{{"cni_dir": "/c", "vxlan_tx_checksum": "{text}"}}"#);
        assert_eq!(parse("a", &text).unwrap().config.tx_checksum, checksum);
    }
}

#[test]
fn authentication_covers_the_endpoints_of_its_mode() {
    use crate::protocol::routes::Access::{Anyone, Readers, Writers};
    for (mode, covered) in [
        (AuthenticateHttp::None, [false, false, false]),
        (AuthenticateHttp::Writes, [false, false, true]),
        (AuthenticateHttp::All, [false, true, true]),
    ] {
        assert_eq!(
            [Anyone, Readers, Writers].map(|access| mode.covers(access)),
            covered
        );
    }
}

#[test]
fn every_value_of_authenticate_http_is_read() {
    for (text, mode) in [
        ("none", AuthenticateHttp::None),
        ("writes", AuthenticateHttp::Writes),
        ("all", AuthenticateHttp::All),
    ] {
        let text = format!(r#"{{"cni_dir": "/c", "authenticate_http": "{text}"}}"#);
        assert_eq!(parse("a", &text).unwrap().config.authenticate_http, mode);
    }
}

#[test]
fn every_value_of_firewall_is_read() {
    for (text, firewall) in [
        ("auto", Firewall::Auto),
        ("iptables", Firewall::Iptables),
        ("nftables", Firewall::Nftables),
        ("none", Firewall::None),
    ] {
        let text = format!(r#"{{"cni_dir": "/c", "firewall": "{text}"}}"#);
        assert_eq!(parse("a", &text).unwrap().config.firewall, firewall);
    }
}

#[test]
fn every_form_of_master_is_read() {
    for master in [
        "10.0.0.1:5050",
        "leader.mesos:5050",
        "master@10.0.0.1:5050",
        "zk://a:1,b:2/mesos",
        "file:///etc/mesos/zk",
    ] {
        let text = format!(r#"{{"cni_dir": "/c", "master": " {master}\n"}}"#);
        let text = text.replace('\n', "\\n");
        assert_eq!(
            parse("a", &text).unwrap().config.master.as_deref(),
            Some(master)
        );
    }
}

#[test]
fn docker_socket_is_a_path_or_a_url() {
    for socket in ["/run/d.sock", "unix:///run/d.sock"] {
        let text = format!(r#"{{"cni_dir": "/c", "docker_socket": "{socket}"}}"#);
        assert_eq!(
            parse("a", &text).unwrap().config.docker_socket,
            Some("/run/d.sock".into())
        );
    }
}

#[test]
fn every_mistake_is_one_line_with_a_remedy() {
    for (text, line) in [
        (
            "{}",
            "cni_dir: missing; give the directory that Mesos's flag --network_cni_config_dir names",
        ),
        (
            r#"{"cnidir": "/c"}"#,
            "cni_dir: missing (is \"cnidir\" a typo?); give the directory that Mesos's \
             flag --network_cni_config_dir names",
        ),
        (
            r#"{"cni_dir": 7}"#,
            "cni_dir: 7 is not a string; write it in quotes",
        ),
        (r#"{"cni_dir": ""}"#, "cni_dir: \"\" is empty; give a path"),
        (
            r#"{"cni_dir": "/c", "master": "10.0.0.1"}"#,
            "master: \"10.0.0.1\" has no port; write host:port, \
             zk://[user:password@]host:port[,host:port]…/path or file:///path",
        ),
        (
            r#"{"cni_dir": "/c", "master": "zk://u:secret@a/m"}"#,
            "master: \"zk://***@a/m\" has the server \"a\", which has no port; write host:port, \
             zk://[user:password@]host:port[,host:port]…/path or file:///path",
        ),
        (
            r#"{"cni_dir": "/c", "network_config": {"docker_bridge": "no"}}"#,
            "network_config.docker_bridge: \"no\" is neither true nor false; \
             write true or false, without quotes",
        ),
        (
            r#"{"cni_dir": "/c", "network_config": {"overlay_mtu": 100}}"#,
            "network_config.overlay_mtu: 100 is out of range; give a whole number from 552 to 65535",
        ),
        (
            r#"{"cni_dir": "/c", "network_config": true}"#,
            "network_config: true is not an object; write { … } around its settings",
        ),
        (
            r#"{"cni_dir": "/c", "max_configuration_attempts": -1}"#,
            "max_configuration_attempts: -1 is out of range; give a whole number from 0 to 4294967295",
        ),
        (
            r#"{"cni_dir": "/c", "max_configuration_attempts": "many"}"#,
            "max_configuration_attempts: \"many\" is not a number; give a whole number from 0 to 4294967295",
        ),
        (
            r#"{"cni_dir": "/c", "backend": "dcos-net"}"#,
            "backend: \"dcos-net\" is not one of its values; write \"internal\" (this module programs \
             the data plane) or \"external\" (another program does)",
        ),
        (
            r#"{"cni_dir": "/c", "vxlan_tx_checksum": "no"}"#,
            "vxlan_tx_checksum: \"no\" is not one of its values; write \"auto\" (leave it as it is), \
             \"on\" or \"off\"",
        ),
        (
            r#"{"cni_dir": "/c", "authenticate_http": "yes"}"#,
            "authenticate_http: \"yes\" is not one of its values; write \"writes\" (endpoints that change \
             something), \"all\" or \"none\"",
        ),
        (
            r#"{"cni_dir": "/c", "firewall": "ufw"}"#,
            "firewall: \"ufw\" is not one of its values; write \"auto\" (the tool that the host has), \
             \"iptables\", \"nftables\" or \"none\"",
        ),
        (
            r#"{"cni_dir": "/c", "docker_socket": "tcp://10.0.0.1:2375"}"#,
            "docker_socket: \"tcp://10.0.0.1:2375\" is not a unix socket; write the path of a unix socket, such \
             as unix:///var/run/docker.sock",
        ),
        (
            r#"{"cni_dir": "/c\u0000d"}"#,
            "cni_dir: \"/c\\u0000d\" contains a NUL character; give a path",
        ),
        (
            r#"{"cni_dir": "/c", "docker_socket": ""}"#,
            "docker_socket: \"\" is empty; write the path of a unix socket, such as \
             unix:///var/run/docker.sock",
        ),
        (
            r#"{"cni_dir": "/c", "docker_socket": "/d\u0000"}"#,
            "docker_socket: \"/d\\u0000\" contains a NUL character; write the path of a unix socket, such as \
             unix:///var/run/docker.sock",
        ),
        (
            r#"{"cni_dir": "/c", "docker_socket": "docker.sock"}"#,
            "docker_socket: \"docker.sock\" is not an absolute path; write the path of a unix socket, such as \
             unix:///var/run/docker.sock",
        ),
    ] {
        assert_eq!(error(text), format!("agent.json: {line}"), "{text}");
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = r#"{"firewall": "ufw", "network_config": {"overlay_mtu": 1, "mesos_bridge": 1},
        "master": "10.0.0.1"}"#;
    let error = parse("agent.json", text).unwrap_err();
    let fields: Vec<_> = error.mistakes().iter().map(|m| m.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "cni_dir",
            "firewall",
            "network_config.overlay_mtu",
            "network_config.mesos_bridge",
            "master",
        ],
        "{error}"
    );
}

#[test]
fn what_mesos_takes_is_taken() {
    let text = r#"{"cni_dir": "/c", "max_configuration_attempts": "0", "network_config": {
        "docker_bridge": "false", "overlay_mtu": "552", "command_timeout": 0, "enable_ipv6": "true"}}"#;
    let Parsed { config, warnings } = parse("agent.json", text).unwrap();
    assert_eq!(config.max_configuration_attempts, 1);
    let expected = AgentNetwork {
        docker_bridge: false,
        overlay_mtu: Some(552),
        ..AgentNetwork::default()
    };
    assert_eq!(config.network, expected);
    let mut warnings = warnings;
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "agent.json: max_configuration_attempts: \"0\" is a string; write 0, without quotes",
            "agent.json: max_configuration_attempts: 0 is taken as 1: the first failure is reported",
            "agent.json: network_config.command_timeout: 0 is no time for a call; the default is used",
            "agent.json: network_config.docker_bridge: \"false\" is a string; write false, without quotes",
            "agent.json: network_config.enable_ipv6: \"true\" is a string; write true, without quotes",
            "agent.json: network_config.overlay_mtu: \"552\" is a string; write 552, without quotes",
            "agent.json: network_config.overlay_mtu: 552 is less than the 576 bytes that every IPv4 host \
             receives; is it meant?",
        ]
    );
}

#[test]
fn an_unknown_key_is_a_warning() {
    let text = r#"{"cni_dir": "/c", "network_config": {"enable_ip6": false}, "zzz": 1}"#;
    assert_eq!(
        parse("agent.json", text).unwrap().warnings,
        [
            "agent.json: zzz: unknown key, ignored; the known keys are master, cni_dir, network_config, \
             max_configuration_attempts, cni_data_dir, cni_file_prefix, backend, firewall, docker_socket, \
             vxlan_tx_checksum, container_table, authenticate_http, master_confirmation, auth_key_file, auth_mode",
            "agent.json: network_config.enable_ip6: unknown key, ignored; did you mean \"enable_ipv6\"?",
        ]
    );
}
