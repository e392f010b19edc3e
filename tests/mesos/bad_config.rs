//! Starts of Mesos with a bad configuration: each mistake is a line that names file, field, value
//! and remedy, and then Mesos ends, as with every module that cannot start.

use std::fs;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::node::Node;

use crate::common::{LIMIT, loopback};

/// Writes the configuration, starts the node, waits until it ends, and returns the lines of its
/// log that name the file.
fn errors(node: &mut Node, file: &str, text: &str) -> Vec<String> {
    fs::write(node.dir().join(file), text).unwrap();
    node.start().unwrap();
    let status = node.wait_ended(LIMIT).unwrap();
    assert!(!status.success(), "{text}");
    let log = node.log();
    node.kill().unwrap();
    let failures = [
        "Failed to create anonymous module",
        "Error creating Module instance",
    ];
    assert!(
        failures.iter().any(|failure| log.contains(failure)),
        "Mesos does not say that the module could not be created:\n{log}"
    );
    let lines = log.lines().filter(|line| line.contains(file));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty(), "no line names {file}:\n{log}");
    lines
}

/// Returns the only line of a configuration with one mistake.
fn error(node: &mut Node, file: &str, text: &str) -> String {
    let mut lines = errors(node, file, text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Returns the configuration with another value at a path.
fn with(mut config: Value, path: &[&str], value: Value) -> String {
    let mut place = &mut config;
    for key in path {
        place = match key.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[*key],
        };
    }
    *place = value;
    config.to_string()
}

fn read(node: &Node, file: &str) -> Value {
    serde_json::from_slice(&fs::read(node.dir().join(file)).unwrap()).unwrap()
}

#[test]
fn of_the_master_ends_in_one_line() {
    let Some(setup) = loopback("of_the_master_ends_in_one_line", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let master = &mut cluster.master;
    let good = read(master, "master.json");
    let cases = [
        ("{".to_owned(), vec!["not JSON"]),
        (
            with(
                good.clone(),
                &["network", "vtep_subnet"],
                json!("44.128.0.0"),
            ),
            vec!["network.vtep_subnet", "44.128.0.0"],
        ),
        (
            with(
                good.clone(),
                &["network", "overlays", "0", "prefix"],
                json!(7),
            ),
            vec!["network.overlays[0].prefix", "7"],
        ),
        (
            with(good.clone(), &["authenticate_http"], json!("yes")),
            vec!["authenticate_http: \"yes\"", "all"],
        ),
        (
            with(
                good.clone(),
                &["network", "overlays", "0", "name"],
                json!("bridge"),
            ),
            vec!["network.overlays[0].name", "bridge"],
        ),
        (
            with(
                good.clone(),
                &["network", "overlays", "0", "subnet"],
                json!("44.128.0.0/16"),
            ),
            vec!["network.overlays[0].subnet", "44.128.0.0/16"],
        ),
    ];
    for (text, says) in cases {
        let line = error(master, "master.json", &text);
        for part in says {
            assert!(line.contains(part), "{part:?} is not in: {line}");
        }
        assert!(line.starts_with('E'), "not an ERROR: {line}");
        assert!(line.contains("; "), "no remedy: {line}");
    }
}

#[test]
fn all_mistakes_are_logged() {
    let Some(setup) = loopback("all_mistakes_are_logged", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let master = &mut cluster.master;
    let mut config = read(master, "master.json");
    config["authenticate_http"] = json!("yes");
    config["network"]["vtep_subnet"] = json!("44.128.0.0");
    config["network"]["overlays"][0]["prefix"] = json!(7);
    let lines = errors(master, "master.json", &config.to_string());
    let fields = [
        "authenticate_http: \"yes\"",
        "network.overlays[0].prefix: 7",
        "network.vtep_subnet: \"44.128.0.0\"",
    ];
    assert_eq!(lines.len(), fields.len(), "{lines:#?}");
    for (line, field) in lines.iter().zip(fields) {
        assert!(line.starts_with('E') && line.contains(field), "{line}");
        assert!(line.contains("; "), "no remedy: {line}");
    }
}

#[test]
fn of_the_agent_ends_in_one_line() {
    let Some(setup) = loopback("of_the_agent_ends_in_one_line", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let agent = &mut cluster.agents[0];
    let good = read(agent, "agent.json");
    let cases = [
        ("{}".to_owned(), vec!["cni_dir"]),
        (
            with(good.clone(), &["backend"], json!("calico")),
            vec!["backend", "calico"],
        ),
        (
            with(
                good.clone(),
                &["network_config", "overlay_mtu"],
                json!("large"),
            ),
            vec!["network_config.overlay_mtu", "large"],
        ),
    ];
    for (text, says) in cases {
        let line = error(agent, "agent.json", &text);
        for part in says {
            assert!(line.contains(part), "{part:?} is not in: {line}");
        }
        assert!(line.starts_with('E'), "not an ERROR: {line}");
    }
}

#[test]
fn a_missing_file_ends_in_one_line() {
    let Some(setup) = loopback("a_missing_file_ends_in_one_line", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let master = &mut cluster.master;
    fs::remove_file(master.dir().join("master.json")).unwrap();
    master.start().unwrap();
    assert!(!master.wait_ended(LIMIT).unwrap().success());
    let log = master.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("master.json: cannot be read"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("master_config"), "{}", lines[0]);
}

#[test]
fn an_unknown_key_is_a_warning() {
    let Some(setup) = loopback("an_unknown_key_is_a_warning", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let mut config = read(&cluster.master, "master.json");
    config["replicated_log_tiemout"] = json!("1mins");
    fs::write(cluster.master.dir().join("master.json"), config.to_string()).unwrap();
    cluster.master.start().unwrap();
    let line = cluster
        .master
        .wait_log("replicated_log_tiemout", LIMIT)
        .unwrap();
    assert!(
        line.starts_with('W') && line.contains("replicated_log_timeout"),
        "{line}"
    );
    crate::common::wait_state(&mut cluster, "the master to serve", |_| true);
}
