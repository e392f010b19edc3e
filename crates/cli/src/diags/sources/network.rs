//! Network of this host as the kernel, its tools and Docker show it.

use std::fs;

use super::{Collector, part};
use crate::diags::bundle::{Content, Form};

/// Tools: name in the archive, command.
const TOOLS: &[(&str, &[&str])] = &[
    ("ip-link.json", &["ip", "-d", "-s", "-j", "link", "show"]),
    ("ip-address.json", &["ip", "-d", "-j", "address", "show"]),
    (
        "ip-route.json",
        &["ip", "-4", "-d", "-j", "route", "show", "table", "all"],
    ),
    (
        "ip6-route.json",
        &["ip", "-6", "-d", "-j", "route", "show", "table", "all"],
    ),
    ("ip-rule.json", &["ip", "-4", "-j", "rule", "show"]),
    ("ip6-rule.json", &["ip", "-6", "-j", "rule", "show"]),
    (
        "ip-neighbour.json",
        &["ip", "-d", "-s", "-j", "neighbour", "show"],
    ),
    ("bridge-fdb.json", &["bridge", "-s", "-j", "fdb", "show"]),
    ("bridge-link.json", &["bridge", "-d", "-j", "link", "show"]),
    ("nftables.txt", &["nft", "list", "ruleset"]),
    ("iptables.txt", &["iptables-save", "-c"]),
    ("ip6tables.txt", &["ip6tables-save", "-c"]),
    ("ipset.txt", &["ipset", "save"]),
    ("sockets.txt", &["ss", "-n", "-l", "-t", "-u", "-p"]),
];
/// Beginnings of the names of devices that the modules, Docker and CNI plugins make.
const DEVICES: [&str; 4] = ["vtep", "vxlan", "m-", "d-"];
/// Largest number of devices whose features are collected.
const MAX_DEVICES: usize = 32;
/// Largest number of Docker's networks.
const MAX_NETWORKS: usize = 100;

impl Collector<'_> {
    /// Adds devices, addresses, routes, rules, firewall and Docker's networks.
    pub(super) fn network(&mut self) {
        for (name, command) in TOOLS {
            self.tool(&format!("network/{name}"), command);
        }
        for device in devices().into_iter().take(MAX_DEVICES) {
            let name = format!("network/ethtool-{}.txt", part(&device));
            self.tool(&name, &["ethtool", "-k", &device]);
        }
        self.docker();
    }

    fn docker(&mut self) {
        let sockets = self.mesos.values("docker_socket");
        let socket = sockets
            .first()
            .map_or("/var/run/docker.sock", String::as_str);
        let socket = format!("unix://{}", socket.trim_start_matches("unix://"));
        let docker = ["docker", "-H", &socket];
        let tool = |command: &[&'static str]| [&docker[..], command].concat();
        let version = tool(&["version", "--format", "{{json .}}"]);
        self.progress.say("docker");
        let content = self.run(&version).and_then(reached);
        let is_there = content.is_ok();
        self.add("docker/version.json", "docker version", Form::Json, content);
        // Each of the others would wait for an engine that hangs.
        if !is_there {
            return;
        }
        self.tool(
            "docker/info.json",
            &tool(&["info", "--format", "{{json .}}"]),
        );
        let listed = self.run(&tool(&["network", "ls", "--quiet", "--no-trunc"]));
        let ids = listed.map(|content| String::from_utf8_lossy(&content.bytes).into_owned());
        match ids {
            Ok(ids) => {
                let mut command = tool(&["network", "inspect"]);
                command.extend(ids.lines().take(MAX_NETWORKS));
                let content = self.run(&command);
                let what = "docker network inspect";
                self.add("docker/networks.json", what, Form::Json, content);
            }
            Err(reason) => {
                let what = "docker network inspect";
                self.add("docker/networks.json", what, Form::Json, Err(reason));
            }
        }
    }
}

/// Checks that the engine has answered: without it the client prints its own version.
fn reached(content: Content) -> Result<Content, String> {
    let version: serde_json::Value = serde_json::from_slice(&content.bytes).unwrap_or_default();
    match version["Server"].is_object() {
        true => Ok(content),
        false => Err("the container engine does not answer".to_owned()),
    }
}

fn devices() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| DEVICES.iter().any(|start| name.starts_with(start)))
        .collect();
    names.sort();
    names
}
