//! Tests of the metrics, for Prometheus and for Mesos's snapshot.

use std::collections::BTreeMap;

use bytes::Bytes;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage,
};
use overlay_core::{Input, Machine, StoreOutcome};
use testkit::prometheus;
use testkit::prometheus::Samples;

use crate::driver::{Driver, FIRST, SECOND, THIRD};

/// Returns the samples for Prometheus, and those of Mesos's snapshot by name.
fn metrics(driver: &mut Driver) -> (Samples, BTreeMap<String, f64>) {
    let response = driver.get("/overlay-master/metrics", &[]);
    assert_eq!(
        (response.status, response.content_type),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    let samples = prometheus::read(std::str::from_utf8(&response.body).unwrap());
    let metrics = driver.master.metrics();
    let count = metrics.len();
    let snapshot: BTreeMap<_, _> = metrics
        .into_iter()
        .map(|m| (m.name.into_owned(), m.value))
        .collect();
    assert_eq!(snapshot.len(), count, "a name is not unique");
    (samples, snapshot)
}

/// Asserts the values of metrics in both forms. Each is given by its name in Prometheus, its name
/// in Mesos's snapshot, and its value.
#[track_caller]
fn assert_metrics(driver: &mut Driver, expected: &[(&str, &str, f64)]) {
    let (samples, snapshot) = metrics(driver);
    for (name, in_mesos, value) in expected {
        assert_eq!(
            samples.get(&format!("mesos_overlay_master_{name}")),
            Some(value),
            "{name}: {samples:#?}"
        );
        assert_eq!(
            snapshot.get(&format!("overlay/master/{in_mesos}")),
            Some(value),
            "{in_mesos}: {snapshot:#?}"
        );
    }
}

#[test]
fn a_standby_has_no_metrics_of_the_cluster() {
    let mut driver = Driver::new();
    let (samples, snapshot) = metrics(&mut driver);
    assert!(
        !samples
            .keys()
            .any(|name| name.contains("agents") || name.contains("subnets")),
        "{samples:#?}"
    );
    assert!(
        !snapshot
            .keys()
            .any(|name| name.contains("agents_re") || name.contains("overlays/")),
        "{snapshot:#?}"
    );
    assert_metrics(
        &mut driver,
        &[
            ("serving", "serving", 0.0),
            ("recovering", "recovering", 0.0),
        ],
    );
}

#[test]
fn agents_and_free_subnets_are_counted() {
    let mut driver = Driver::leading();
    for agent in [FIRST, SECOND, THIRD] {
        driver.register(agent);
    }
    driver.stored(StoreOutcome::Stored);
    driver.stored(StoreOutcome::Stored);
    driver.input(Input::Exited(FIRST.parse().unwrap()));
    assert_metrics(
        &mut driver,
        &[
            ("serving", "serving", 1.0),
            ("agents_registered", "agents_registered", 3.0),
            ("agents_connected", "agents_connected", 2.0),
            ("vteps_free{family=\"ipv4\"}", "vteps_free", 3.0),
            ("vteps_used{family=\"ipv4\"}", "vteps_used", 3.0),
            ("vteps_capacity{family=\"ipv4\"}", "vteps_total", 6.0),
            (
                "subnets_free{overlay=\"dcos\",family=\"ipv4\"}",
                "overlays/dcos/subnets_free",
                0.0,
            ),
            (
                "subnets_used{overlay=\"more\",family=\"ipv4\"}",
                "overlays/more/subnets_used",
                3.0,
            ),
            (
                "subnets_capacity{overlay=\"six\",family=\"ipv6\"}",
                "overlays/six/subnets6_total",
                65_536.0,
            ),
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv4\"}",
                "subnet_allocation_failures",
                1.0,
            ),
            // Each agent registers once more with its token.
            (
                "messages_received_total{message=\"RegisterAgentMessage\"}",
                "internal/register_agent_messages_received",
                6.0,
            ),
        ],
    );
    assert!(
        !metrics(&mut driver)
            .0
            .contains_key("mesos_overlay_master_subnets_free{overlay=\"dcos\",family=\"ipv6\"}")
    );
}

#[test]
fn writes_are_counted_and_timed() {
    let mut driver = Driver::leading();
    driver.register(FIRST);
    let size = driver.log.len() as f64;
    driver.wait(2);
    driver.stored(StoreOutcome::Stored);
    driver.register(SECOND);
    driver.wait(1);
    driver.stored(StoreOutcome::Failed("no quorum".to_owned()));
    let (samples, snapshot) = metrics(&mut driver);
    let write = |name: &str| samples[&format!("mesos_overlay_master_log_{name}")];
    assert_eq!(write("writes_total{outcome=\"stored\"}"), 1.0);
    assert_eq!(write("writes_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(write("writes_total{outcome=\"superseded\"}"), 0.0);
    assert_eq!(write("write_seconds_bucket{le=\"1\"}"), 1.0);
    assert_eq!(write("write_seconds_bucket{le=\"2.5\"}"), 2.0);
    assert_eq!(write("write_seconds_sum"), 3.0);
    assert!(
        write("state_bytes") > size,
        "the second state is larger than the first"
    );
    for (name, value) in [
        ("writes", 2.0),
        ("write_failures", 1.0),
        ("write_seconds_total", 3.0),
        ("write_seconds_last", 1.0),
        ("state_bytes", write("state_bytes")),
    ] {
        assert_eq!(
            snapshot[&format!("overlay/master/log/{name}")],
            value,
            "{name}"
        );
    }
}

#[test]
fn peers_that_are_behind_are_counted() {
    let mut driver = Driver::leading();
    let network_config = AgentNetworkConfig {
        overlay_mtu: Some(1420),
        ..Default::default()
    };
    let register = RegisterAgentMessage {
        network_config,
        peers: Some(PeersVersion::default()),
        ..Default::default()
    };
    driver.message(FIRST, &register);
    driver.stored(StoreOutcome::Stored);
    assert_metrics(&mut driver, &[("peers_behind", "peers_behind", 1.0)]);
    driver.wait(1);
    driver.input(Input::Timeout);
    let version = driver.peers.expect("no peers were sent");
    driver.message(
        FIRST,
        &PeersReceivedMessage {
            version,
            ..Default::default()
        },
    );
    assert_metrics(&mut driver, &[("peers_behind", "peers_behind", 0.0)]);
    // The first agent has to learn of another one.
    driver.message(SECOND, &register);
    driver.stored(StoreOutcome::Stored);
    assert_metrics(&mut driver, &[("peers_behind", "peers_behind", 2.0)]);
    driver.input(Input::Exited(SECOND.parse().unwrap()));
    assert_metrics(&mut driver, &[("peers_behind", "peers_behind", 1.0)]);
}

#[test]
fn failures_are_counted_by_family() {
    let mut driver = Driver::with_config(
        r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/126",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dual", "subnet": "9.0.0.0/16", "prefix": 24,
        "subnet6": "fd01:b::/80", "prefix6": 80}, {"name": "four", "subnet": "9.1.0.0/16", "prefix": 24}]}}"#,
    );
    driver.lead(Bytes::new());
    // There are two VTEP addresses and one subnet of IPv6, and enough of IPv4.
    for agent in [FIRST, SECOND, THIRD] {
        driver.register(agent);
    }
    assert_metrics(
        &mut driver,
        &[
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv6\"}",
                "subnet6_allocation_failures",
                1.0,
            ),
            (
                "allocation_failures_total{of=\"subnet\",family=\"ipv4\"}",
                "subnet_allocation_failures",
                0.0,
            ),
            (
                "allocation_failures_total{of=\"vtep\",family=\"ipv6\"}",
                "ip6_allocation_failures",
                1.0,
            ),
            (
                "allocation_failures_total{of=\"vtep\",family=\"ipv4\"}",
                "ip_allocation_failures",
                0.0,
            ),
            ("vteps_free{family=\"ipv6\"}", "vteps6_free", 0.0),
            ("vteps_used{family=\"ipv6\"}", "vteps6_used", 2.0),
            ("vteps_used{family=\"ipv4\"}", "vteps_used", 2.0),
            (
                "subnets_used{overlay=\"dual\",family=\"ipv6\"}",
                "overlays/dual/subnets6_used",
                1.0,
            ),
            (
                "subnets_used{overlay=\"dual\",family=\"ipv4\"}",
                "overlays/dual/subnets_used",
                1.0,
            ),
        ],
    );
}

#[test]
fn the_vtep_of_an_agent_without_subnets_is_free() {
    let mut driver = Driver::with_config(
        r#"{"network": {"vtep_subnet": "44.128.0.0/29", "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "web", "subnet": "9.0.0.0/16", "prefix": 24}]}}"#,
    );
    driver.lead(Bytes::new());
    driver.register(FIRST);
    driver.stored(StoreOutcome::Stored);
    driver.request("DELETE", "/overlay-master/overlays/web", &[]);
    driver.stored(StoreOutcome::Stored);
    let used = |count: f64| {
        [
            ("vteps_used{family=\"ipv4\"}", "vteps_used", count),
            ("vteps_used{family=\"ipv6\"}", "vteps6_used", count),
            ("agents_registered", "agents_registered", count),
        ]
    };
    assert_metrics(&mut driver, &used(1.0));
    driver.register(FIRST);
    driver.message(
        FIRST,
        &AgentRegisteredMessage {
            revision: Some(1),
            ..Default::default()
        },
    );
    assert_metrics(&mut driver, &used(0.0));
}
