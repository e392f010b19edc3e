//! The two configuration files. A rejected one has a line per mistake. An accepted one is accepted
//! again, with the same meaning, when it is printed.

use overlay_core::config::overlay::Definition;
use overlay_core::config::{AgentConfig, ConfigError, Network, agent, master};
use overlay_core::proto::OverlayInfo;
use serde_json::{Value, json};

use crate::is_line;

fn check_lines(error: &ConfigError) {
    assert!(error.lines().iter().all(|line| is_line(line)), "{error}");
    assert!(error.lines().len() <= 21 && !error.mistakes().is_empty());
}

pub(crate) fn master(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = match master::parse("master.json", text) {
        Ok(parsed) => parsed,
        Err(error) => return check_lines(&error),
    };
    assert!(
        parsed.warnings.iter().all(|line| is_line(line)),
        "{:?}",
        parsed.warnings
    );
    let network = parsed.config.network;
    let written = json!({ "network": written(&network) }).to_string();
    let again =
        master::parse("master.json", &written).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(again.config.network, network);
    for overlay in &network.overlays {
        let read = Definition::from_log(overlay.info().clone());
        assert_eq!(read.as_ref(), Ok(overlay), "the log differs from the file");
    }
}

fn written(network: &Network) -> Value {
    let wire = network.to_wire();
    let overlay = |overlay: &OverlayInfo| {
        without_null(json!({
            "name": overlay.name, "subnet": overlay.subnet, "prefix": overlay.prefix,
            "subnet6": overlay.subnet6, "prefix6": overlay.prefix6, "enabled": overlay.enabled,
        }))
    };
    let overlays: Vec<Value> = wire.overlays.iter().map(overlay).collect();
    without_null(json!({
        "vtep_subnet": wire.vtep_subnet, "vtep_subnet6": wire.vtep_subnet6,
        "vtep_mac_oui": wire.vtep_mac_oui, "vtep_mtu": wire.vtep_mtu, "overlays": overlays,
    }))
}

fn without_null(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

pub(crate) fn agent(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = match agent::parse("agent.json", text) {
        Ok(parsed) => parsed,
        Err(error) => return check_lines(&error),
    };
    assert!(
        parsed.warnings.iter().all(|line| is_line(line)),
        "{:?}",
        parsed.warnings
    );
    let AgentConfig {
        master,
        cni_dir,
        cni_data_dir,
        network,
        max_configuration_attempts,
        ..
    } = parsed.config.clone();
    let written = without_null(json!({
        "master": master, "cni_dir": cni_dir, "cni_data_dir": cni_data_dir,
        "docker_socket": parsed.config.docker_socket,
        "max_configuration_attempts": max_configuration_attempts,
        "network_config": without_null(json!({
            "allocate_subnet": network.allocate_subnet, "mesos_bridge": network.mesos_bridge,
            "docker_bridge": network.docker_bridge, "enable_ipv6": network.enable_ipv6,
            "overlay_mtu": network.overlay_mtu,
        })),
    }))
    .to_string();
    let again =
        agent::parse("agent.json", &written).unwrap_or_else(|error| panic!("{written}: {error}"));
    let AgentConfig {
        cni_dir: dir,
        network: same,
        master: from,
        docker_socket,
        ..
    } = again.config;
    assert_eq!(
        (dir, from, docker_socket),
        (cni_dir, master, parsed.config.docker_socket)
    );
    assert_eq!(
        (same.overlay_mtu, same.enable_ipv6),
        (network.overlay_mtu, network.enable_ipv6)
    );
}
