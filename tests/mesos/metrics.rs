//! Metrics, for operators and monitoring systems.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::Launcher;
use testbed::framework::{Framework, TaskSpec};
use testbed::node::Node;
use testbed::{skip, wait};
use testkit::prometheus::{self, Samples};

use crate::common::{LIMIT, all_ok, assert_alive, hosts, loopback, start, wait_state};

/// Names of metrics that dashboards of existing clusters use.
const MASTER: [&str; 15] = [
    "process_restarts",
    "recovering",
    "ip_allocation_failures",
    "ip6_allocation_failures",
    "subnet_allocation_failures",
    "subnet6_allocation_failures",
    "bridge_allocation_failures",
    "internal/register_agent_messages_received",
    "internal/register_agent_messages_dropped",
    "internal/update_agent_overlays_messages_sent",
    "internal/agent_registered_messages_received",
    "internal/agent_registered_messages_dropped",
    "internal/agent_registered_acknowledgements_sent",
    "log/recovered",
    "log/ensemble_size",
];
const AGENT: [&str; 12] = [
    "registering",
    "overlay_config_failed",
    "overlay_config_failures",
    "overlays_without_subnets",
    "docker_cmd_failures",
    "internal/register_agent_messages_sent",
    "internal/update_agent_overlays_messages_received",
    "internal/update_agent_overlays_messages_dropped",
    "internal/agent_registered_messages_sent",
    "internal/agent_registered_messages_dropped",
    "internal/agent_registered_acknowledgements_received",
    "internal/agent_registered_acknowledgements_dropped",
];

/// Names of metrics that the C++ modules do not have.
const NEW: [&str; 13] = [
    "serving",
    "agents_registered",
    "agents_connected",
    "peers_behind",
    "vteps_free",
    "vteps_total",
    "overlays/dcos/subnets_free",
    "overlays/dcos/subnets_used",
    "overlays/dcos/subnets_total",
    "log/writes",
    "log/write_failures",
    "log/write_seconds_total",
    "log/state_bytes",
];

/// Returns the metrics with a prefix, without the prefix.
fn snapshot(node: &Node, prefix: &str) -> Result<BTreeMap<String, f64>> {
    let reply = node.client().get("/metrics/snapshot")?;
    ensure!(reply.status == 200, "{}", reply.status);
    let all = reply.json()?;
    let ours = all
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.as_f64()?)));
    Ok(ours.collect())
}

/// Waits until the metrics satisfy a condition, and returns them.
#[track_caller]
fn wait_metrics(
    node: &Node,
    prefix: &str,
    is: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> BTreeMap<String, f64> {
    wait::until(&format!("the metrics of {}", node.name()), LIMIT, || {
        let metrics = snapshot(node, prefix)?;
        ensure!(is(&metrics), "{metrics:?}");
        Ok(Some(metrics))
    })
    .unwrap()
}

#[test]
fn mesos_shows_all_that_dashboards_know() {
    let Some(setup) = loopback("mesos_shows_all_that_dashboards_know", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "two agents", |state| all_ok(state, 2));

    // All reports have arrived, so these metrics do not change any more.
    let acknowledged = |metrics: &BTreeMap<String, f64>| {
        metrics
            .get("internal/agent_registered_acknowledgements_sent")
            .is_some_and(|sent| *sent >= 2.0)
    };
    let master = wait_metrics(&cluster.master, "overlay/master/", acknowledged);
    for name in MASTER {
        assert!(master.contains_key(name), "no {name} in {master:?}");
    }
    for name in NEW {
        assert!(master.contains_key(name), "no {name} in {master:?}");
    }
    assert_eq!((master["recovering"], master["serving"]), (0.0, 1.0));
    assert_eq!(
        (master["agents_registered"], master["agents_connected"]),
        (2.0, 2.0)
    );
    assert_eq!(master["overlays/dcos/subnets_free"], 65_534.0);
    assert!(
        master["log/writes"] >= 1.0 && master["log/write_seconds_total"] > 0.0,
        "{master:?}"
    );
    assert_eq!(master["log/write_failures"], 0.0);
    assert_eq!(master["log/recovered"], 1.0);
    assert!(
        master["internal/register_agent_messages_received"] >= 2.0,
        "{master:?}"
    );
    assert!(
        master["internal/update_agent_overlays_messages_sent"] >= 2.0,
        "{master:?}"
    );
    assert_eq!(master["subnet_allocation_failures"], 0.0);

    let registered = |metrics: &BTreeMap<String, f64>| metrics.get("registering") == Some(&0.0);
    let agent = wait_metrics(&cluster.agents[0], "overlay/slave/", registered);
    for name in AGENT {
        assert!(agent.contains_key(name), "no {name} in {agent:?}");
    }
    assert!(
        agent["internal/register_agent_messages_sent"] >= 1.0,
        "{agent:?}"
    );
    assert!(
        agent["internal/update_agent_overlays_messages_received"] >= 1.0,
        "{agent:?}"
    );
    assert_eq!(agent["overlays_without_subnets"], 0.0);
    assert!(
        !agent.contains_key("peers"),
        "nobody tells an agent of peers whose data plane is another's"
    );
    assert_eq!(agent["addresses/dcos/mesos/total"], 125.0);

    // Invalid messages have their own counter.
    let stranger = cluster.agents[0].client();
    let update = "mesos.modules.overlay.internal.UpdateAgentOverlaysMessage";
    stranger
        .message("overlay-agent", update, "overlay-master@127.0.0.1:9", b"")
        .unwrap();
    wait_metrics(&cluster.agents[0], "overlay/slave/", |metrics| {
        metrics["internal/update_agent_overlays_messages_dropped"] == 1.0
    });
    assert_alive(&mut cluster);
}

/// Returns the page for Prometheus.
fn scrape(node: &Node, process: &str) -> Samples {
    let reply = node.client().get(&format!("/{process}/metrics")).unwrap();
    assert_eq!(
        (reply.status, reply.header("Content-Type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    prometheus::read(&reply.text())
}

#[test]
fn prometheus_reads_the_same() {
    let Some(setup) = loopback("prometheus_reads_the_same", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let master = scrape(&cluster.master, "overlay-master");
    assert_eq!(master["mesos_overlay_master_agents_connected"], 1.0);
    assert_eq!(
        master["mesos_overlay_master_subnets_free{overlay=\"dcos\",family=\"ipv4\"}"],
        65_535.0
    );
    assert!(
        master["mesos_overlay_master_log_write_seconds_count"] >= 1.0,
        "{master:?}"
    );
    let agent = scrape(&cluster.agents[0], "overlay-agent");
    let capacity = "addresses_capacity{overlay=\"dcos\",containerizer=\"mesos\",family=\"ipv4\"}";
    assert_eq!(agent[&format!("mesos_overlay_agent_{capacity}")], 125.0);
    assert_eq!(agent["mesos_overlay_agent_registering"], 0.0);
}

#[test]
fn metrics_come_and_go_with_overlays() {
    let Some(setup) = loopback("metrics_come_and_go_with_overlays", 0) else {
        return;
    };
    let cluster = testbed::cluster::Cluster::start(&setup).unwrap();
    let shown = |of: &str, is: bool| {
        let name = format!("overlays/{of}/subnets_free");
        wait_metrics(&cluster.master, "overlay/master/", |metrics| {
            metrics.contains_key(&name) == is
        })
    };
    shown("dcos", true);
    let client = cluster.master.client();
    let web = json!({"name": "web", "subnet": "10.64.0.0/16", "prefix": 24});
    assert_eq!(
        client
            .post("/overlay-master/overlays", &web)
            .unwrap()
            .status,
        201
    );
    assert_eq!(shown("web", true)["overlays/web/subnets_free"], 256.0);
    assert_eq!(
        client
            .request("DELETE", "/overlay-master/overlays/web", &[], b"")
            .unwrap()
            .status,
        200
    );
    shown("web", false);
    shown("dcos", true);
    assert_eq!(
        client
            .post("/overlay-master/overlays", &web)
            .unwrap()
            .status,
        201
    );
    shown("web", true);
}

#[test]
fn addresses_that_run_out_show() {
    let Some(mut setup) = loopback("addresses_that_run_out_show", 2) else {
        return;
    };
    // There is one subnet, and two agents.
    setup.network["overlays"][0]["subnet"] = "9.0.0.0/24".into();
    let mut cluster = testbed::cluster::Cluster::start(&setup).unwrap();
    wait_metrics(&cluster.master, "overlay/master/", |metrics| {
        metrics
            .get("subnet_allocation_failures")
            .is_some_and(|failures| *failures >= 1.0)
    });
    cluster.check().unwrap();
}

/// Returns the used addresses of Mesos's containers from an agent's endpoint.
fn shown(agent: &Node) -> Result<Value> {
    let state = agent.client().get("/overlay-agent/overlay")?.json()?;
    Ok(state["overlays"][0]["addresses"]["mesos"].clone())
}

#[test]
fn a_tasks_address_counts_while_it_runs() {
    let name = "a_tasks_address_counts_while_it_runs";
    let Some(setup) = hosts(name, 1) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let cluster = start(&setup);
    let agent = &cluster.agents[0];
    let in_use = |expected: f64| {
        let is = |metrics: &BTreeMap<String, f64>| {
            metrics.get("addresses/dcos/mesos/in_use") == Some(&expected)
                && metrics.get("addresses/dcos/mesos/total") == Some(&125.0)
        };
        wait_metrics(agent, "overlay/slave/", is);
        let mesos = shown(agent).unwrap();
        assert_eq!(
            (mesos["in_use"].as_f64(), mesos["total"].as_u64()),
            (Some(expected), Some(125)),
            "{mesos}"
        );
    };
    in_use(0.0);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    framework
        .launch(&TaskSpec::new("a", &agent.ip(), Some("dcos")), LIMIT)
        .unwrap();
    framework.wait_running("a", LIMIT).unwrap();
    in_use(1.0);
    framework.kill("a").unwrap();
    framework.wait_ended("a", LIMIT).unwrap();
    in_use(0.0);
}
