//! Files of `mesos-overlay config from-dcos` in real Mesos. The conversions themselves, and what is
//! found in bad configurations, are unit tests; this directory has their inputs and results.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::node::Node;
use testbed::program::Program;
use testbed::{paths, skip, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Converts a configuration for the role of a node and writes its files below the node's directory.
/// Returns that directory.
fn convert(node: &Node, config: &str, role: &str, layout: &str) -> PathBuf {
    let program = Program::at(env!("CARGO_BIN_EXE_mesos-overlay"), node);
    let root = node.dir().join("root");
    fs::create_dir(&root).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/convert")
        .join(config);
    let arguments = [
        "config",
        "from-dcos",
        config.to_str().unwrap(),
        "--role",
        role,
        "--layout",
        layout,
        "--write",
        root.to_str().unwrap(),
    ];
    let outcome = program.run(&arguments).unwrap();
    assert!(outcome.status.success(), "{outcome}");
    root
}

/// Makes a node load the modules of a list below `root`, with the paths of this machine in the
/// place of those of the layout.
fn install(node: &mut Node, root: &Path, list: &str, own: &[(&str, Value)]) {
    let file = root.join(list.trim_start_matches('/'));
    let mut list: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let library = &mut list["libraries"][0];
    library["file"] = json!(paths::module().unwrap());
    for module in library["modules"].as_array_mut().unwrap() {
        let path = module["parameters"][0]["value"].as_str().unwrap();
        let file = root.join(path.trim_start_matches('/'));
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for (key, value) in own {
            let place = config.pointer_mut(key);
            if let Some(place) = place {
                *place = value.clone();
            }
        }
        fs::write(&file, config.to_string()).unwrap();
        module["parameters"][0]["value"] = json!(file);
    }
    node.set("MESOS_MODULES", list);
}

/// Starts a cluster with the files of a configuration, and returns the master's state.
fn start(
    config: &str,
    layout: &str,
    master_list: &str,
    agent_list: &str,
) -> Option<(Cluster, Value)> {
    let test = "converted_files";
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    let setup = ClusterConfig::new(1, Placement::Hosts).unwrap();
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let leader = cluster.master.address().to_string();
    let root = convert(&cluster.master, config, "agent-master", layout);
    let dir = cluster.master.dir().to_owned();
    let master = &mut cluster.master;
    let own = [
        ("/replicated_log_dir", json!(dir.join("log"))),
        ("/cni_dir", json!(dir.join("cni"))),
        ("/cni_data_dir", json!(dir.join("cni-data"))),
    ];
    install(master, &root, master_list, &own);
    // The module in a master finds its master in the environment, as on DC/OS.
    master.set("MESOS_MASTER", leader);
    master.set("LIBPROCESS_NUM_WORKER_THREADS", 12);
    let agent = &mut cluster.agents[0];
    let root = convert(agent, config, "agent", layout);
    let dir = agent.dir().to_owned();
    let own = [
        ("/cni_dir", json!(dir.join("cni"))),
        ("/cni_data_dir", json!(dir.join("cni-data"))),
        // The hosts of the test bed have no engine.
        ("/network_config/docker_bridge", json!(false)),
    ];
    install(agent, &root, agent_list, &own);
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let state = wait::until("two agents", LIMIT, || {
        cluster.check()?;
        let state = cluster.master.overlay_state()?;
        let agents = state["agents"].as_array().map_or(0, Vec::len);
        ensure!(agents == 2, "{state}");
        Ok(Some(state))
    });
    Some((cluster, state.unwrap()))
}

#[test]
fn converted_files_of_another_mesos_start_master_and_agent() {
    let lists = [
        "/etc/mesos/overlay/modules-master.json",
        "/etc/mesos/overlay/modules-agent.json",
    ];
    let Some((cluster, state)) = start("dcos-1.8-short-range.yaml", "clusterd", lists[0], lists[1])
    else {
        return;
    };
    let overlays = state["network"]["overlays"].as_array().unwrap();
    let ranges: Vec<_> = overlays.iter().map(|overlay| &overlay["subnet"]).collect();
    assert_eq!(ranges, ["9.0.0.0/8", "172.16.0.0/12"]);
    let agent = cluster.agents[0]
        .client()
        .get("/overlay-agent/overlay")
        .unwrap();
    let agent = agent.json().unwrap();
    assert_eq!(agent["overlays"].as_array().unwrap().len(), 2, "{agent}");
}

#[test]
fn converted_files_of_dcos_start_master_and_agent() {
    let lists = [
        "/opt/mesosphere/etc/mesos-master-modules/overlay_master_modules.json",
        "/opt/mesosphere/etc/mesos-slave-modules/overlay_slave_modules.json",
    ];
    let Some((_cluster, state)) = start("dcos-2.0-defaults.yaml", "dcos", lists[0], lists[1])
    else {
        return;
    };
    let overlays = state["network"]["overlays"].as_array().unwrap();
    let names: Vec<_> = overlays.iter().map(|overlay| &overlay["name"]).collect();
    assert_eq!(names, ["dcos", "dcos6"]);
}
