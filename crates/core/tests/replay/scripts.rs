//! The master, told the same things as when it was recorded.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::Upid;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, agent_overlay_info};

use crate::fixture;
use crate::master::Player;

/// Overlays of IPv4, one of which no agent gets.
pub const V4: &str = r#"{"replicated_log_dir": "/log", "network": {"vtep_subnet": "44.128.0.0/20",
    "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_mtu": 1450, "overlays": [
        {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
        {"name": "off", "subnet": "12.0.0.0/16", "prefix": 26, "enabled": false}]}}"#;

/// Overlays of IPv6.
pub const V6: &str = r#"{"replicated_log_dir": "/log", "network": {"vtep_subnet": "44.128.0.0/20",
    "vtep_subnet6": "fd01:a::/64", "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [
        {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80},
        {"name": "web6", "subnet6": "fd01:c::/48", "prefix6": 64, "enabled": true}]}}"#;

/// Overlays of both families, and leases.
pub const DUAL: &str = r#"{"replicated_log_dir": "/log", "agent_lease": "20mins",
    "agent_addresses": ["10.0.0.0/24"], "network": {"vtep_subnet": "44.128.0.0/20",
    "vtep_subnet6": "fd01:a::/64", "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_mtu": 1450, "overlays": [
        {"name": "dcos", "subnet": "9.0.0.0/20", "prefix": 24, "subnet6": "fd01:b::/76", "prefix6": 80},
        {"name": "web", "subnet": "9.1.0.0/16", "prefix": 24, "subnet6": "fd01:c::/64", "prefix6": 80}]}}"#;

fn register(
    player: &mut Player,
    n: u8,
    network_config: AgentNetworkConfig,
    peers: Option<PeersVersion>,
) {
    let unpacks_peers = peers.as_ref().map(|_| true);
    player.message(
        n,
        &RegisterAgentMessage {
            network_config,
            peers,
            unpacks_peers,
            ..Default::default()
        },
    );
}

/// Registers an agent that wants everything.
fn join(player: &mut Player, n: u8) {
    register(
        player,
        n,
        AgentNetworkConfig::default(),
        Some(PeersVersion::default()),
    );
    player.stored();
}

/// Sends the report of an agent on the list that it was sent.
fn report(player: &mut Player, n: u8, error: Option<&str>, draining: &[&str]) {
    let UpdateAgentOverlaysMessage {
        overlays, revision, ..
    } = player.sent(n);
    let status = if error.is_some() { 2 } else { 1 };
    let state = agent_overlay_info::State {
        status: Some(status),
        error: error.map(str::to_owned),
    };
    let overlays = overlays.into_iter().map(|overlay| AgentOverlayInfo {
        state: Some(state.clone()),
        ..overlay
    });
    let host_errors = error.map(|error| format!("the host, too: {error}"));
    player.message(
        n,
        &AgentRegisteredMessage {
            overlays: overlays.collect(),
            host_errors: host_errors.into_iter().collect(),
            draining: draining.iter().map(|name| (*name).to_owned()).collect(),
            revision: Some(revision.unwrap_or_default()),
            ..Default::default()
        },
    );
}

/// An agent says that it has the newest peers that it was told of.
fn received(player: &mut Player, n: u8) {
    let UpdatePeersMessage { version, .. } = player.sent(n);
    player.message(
        n,
        &PeersReceivedMessage {
            version,
            ..Default::default()
        },
    );
}

fn look(player: &mut Player) {
    for url in ["state", "overlays", "overlays/dcos", "health"] {
        player.request("GET", url, "");
    }
}

/// Agents of IPv4 register, report and leave.
pub fn v4() -> Player {
    let mut player = Player::new(V4, Bytes::new());
    register(&mut player, 1, AgentNetworkConfig::default(), None);
    player.stored();
    join(&mut player, 2);
    let no_docker = AgentNetworkConfig {
        docker_bridge: Some(false),
        ..AgentNetworkConfig::default()
    };
    register(&mut player, 3, no_docker, Some(PeersVersion::default()));
    player.stored();
    let no_subnets = AgentNetworkConfig {
        allocate_subnet: Some(false),
        ..AgentNetworkConfig::default()
    };
    register(&mut player, 4, no_subnets, None);
    player.stored();
    report(&mut player, 1, None, &[]);
    report(&mut player, 2, Some("no \"bridge\""), &[]);
    player.wait(Duration::from_secs(3));
    received(&mut player, 2);
    look(&mut player);
    player.request("GET", "overlays?jsonp=cb", "");
    player.exited(3);
    player.request("POST", "agents/delete", r#"{"agents": ["10.0.0.3"]}"#);
    player.stored();
    player.wait(Duration::from_secs(1));
    look(&mut player);
    player
}

/// Agents of IPv6 register with one master and come to the next one.
pub fn v6() -> Player {
    let mut player = Player::new(V6, Bytes::new());
    join(&mut player, 1);
    let no_ipv6 = AgentNetworkConfig {
        enable_ipv6: Some(false),
        ..AgentNetworkConfig::default()
    };
    register(&mut player, 2, no_ipv6, Some(PeersVersion::default()));
    join(&mut player, 3);
    player.wait(Duration::from_secs(1));
    received(&mut player, 1);
    report(&mut player, 3, None, &[]);
    look(&mut player);
    let UpdatePeersMessage { version, .. } = player.sent(1);
    player.take_over();
    register(&mut player, 1, AgentNetworkConfig::default(), Some(version));
    register(
        &mut player,
        3,
        AgentNetworkConfig::default(),
        Some(PeersVersion {
            digest: None,
            ..version
        }),
    );
    player.wait(Duration::from_secs(1));
    look(&mut player);
    player
}

/// All that the log can hold of both families: overlays that were added, changed and
/// removed, what is left of one that drains, agents whose leases ended, and a list of peers
/// that is packed. Returns the value of the log where it holds most, too.
pub fn dual() -> (Player, Bytes) {
    let mut player = Player::new(DUAL, Bytes::new());
    for n in 1..=8 {
        join(&mut player, n);
        report(&mut player, n, None, &[]);
    }
    player.wait(Duration::from_secs(1));
    received(&mut player, 1);
    received(&mut player, 2);
    let new = r#"{"name": "new", "subnet": "9.2.0.0/16", "prefix": 26, "subnet6": "fd01:d::/64", "prefix6": 80}"#;
    player.request("POST", "overlays", new);
    player.fails();
    register(
        &mut player,
        1,
        AgentNetworkConfig::default(),
        Some(PeersVersion::default()),
    );
    player.request("POST", "overlays", new);
    player.stored();
    player.request(
        "PUT",
        "overlays/dcos",
        r#"{"subnet": "9.0.0.0/16", "prefix": 24, "enabled": true}"#,
    );
    player.request(
        "PUT",
        "overlays/new",
        r#"{"subnet": "9.2.0.0/15", "prefix": 26, "subnet6": "fd01:d::/64", "prefix6": 80}"#,
    );
    player.stored();
    player.request("DELETE", "overlays/web", "");
    player.stored();
    register(
        &mut player,
        2,
        AgentNetworkConfig::default(),
        Some(PeersVersion::default()),
    );
    report(&mut player, 1, None, &["web"]);
    report(&mut player, 2, None, &[]);
    player.stored();
    (3..=8).for_each(|n| player.exited(n));
    player.wait(Duration::from_secs(1));
    received(&mut player, 1);
    received(&mut player, 2);
    player.wait(Duration::from_secs(21 * 60));
    player.request(
        "POST",
        "agents/reclaim",
        r#"{"agents": ["10.0.0.7", "10.0.0.8"]}"#,
    );
    player.stored();
    let log = player.log.clone();
    look(&mut player);
    join(&mut player, 8);
    player.request("DELETE", "overlays/web", r#"{"force": true}"#);
    player.stored();
    player.leader(Some(Upid::new(
        "master",
        "10.0.0.251:5050".parse().unwrap(),
    )));
    player.take_over();
    register(
        &mut player,
        8,
        AgentNetworkConfig::default(),
        Some(PeersVersion::default()),
    );
    player.wait(Duration::from_secs(1));
    look(&mut player);
    (player, log)
}

#[test]
fn overlays_of_ipv4_are_served_as_recorded() {
    fixture::check("replay/master-v4.txt", &v4().played);
}

#[test]
fn overlays_of_ipv6_are_served_as_recorded() {
    fixture::check("replay/master-v6.txt", &v6().played);
}

#[test]
fn overlays_of_both_families_are_served_as_recorded() {
    fixture::check("replay/master-dual.txt", &dual().0.played);
}
