//! Tables of the examples' README.

use std::fs;

use crate::bed::example;

/// Place where a task has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// An overlay.
    Overlay(&'static str),
    /// Mesos's bridge on the agent's host.
    MesosBridge,
    /// Docker's bridge on the agent's host.
    DockerBridge,
    /// The agent's host.
    Host,
}

/// An example, and what is true of it.
pub struct Row {
    /// File.
    pub file: &'static str,
    /// First label of its names.
    pub task: &'static str,
    /// Networks of its containers, in this order.
    pub networks: &'static [On],
    /// Port in the container, and whether it has one on the host.
    pub port: (u16, bool),
    /// Health checks.
    pub checks: &'static str,
}

const DCOS: &[On] = &[On::Overlay("dcos")];

/// All examples that Marathon launches.
pub const ROWS: &[Row] = &[
    row(
        "app-mesos.json",
        "mesos-examples",
        DCOS,
        (8080, false),
        "MESOS_HTTP",
    ),
    row(
        "app-docker.json",
        "docker-examples",
        DCOS,
        (8080, false),
        "MESOS_HTTP",
    ),
    row(
        "app-hostport.json",
        "hostport-examples",
        DCOS,
        (8080, true),
        "MESOS_TCP",
    ),
    row(
        "app-two-networks.json",
        "two-networks-examples",
        &[On::Overlay("dcos"), On::Overlay("storage")],
        (8080, true),
        "COMMAND",
    ),
    row(
        "app-ipv6.json",
        "ipv6-examples",
        &[On::Overlay("dcos6")],
        (8080, false),
        "MESOS_TCP, IPv6",
    ),
    row(
        "app-labels.json",
        "labels-examples",
        DCOS,
        (8080, false),
        "MESOS_TCP",
    ),
    row(
        "app-vip.json",
        "vip-examples",
        DCOS,
        (8080, false),
        "MESOS_HTTP",
    ),
    row(
        "app-marathon-checks.json",
        "marathon-checks-examples",
        DCOS,
        (8080, false),
        "HTTP, TCP",
    ),
    row(
        "pod-two-containers.json",
        "pod-examples",
        DCOS,
        (8080, true),
        "http, exec",
    ),
    row(
        "app-bridge.json",
        "bridge-examples",
        &[On::MesosBridge],
        (8080, true),
        "HTTP",
    ),
    row(
        "app-docker-bridge.json",
        "docker-bridge-examples",
        &[On::DockerBridge],
        (8080, true),
        "COMMAND",
    ),
    row(
        "app-host.json",
        "host-examples",
        &[On::Host],
        (0, true),
        "HTTP",
    ),
];

const fn row(
    file: &'static str,
    task: &'static str,
    networks: &'static [On],
    port: (u16, bool),
    checks: &'static str,
) -> Row {
    Row {
        file,
        task,
        networks,
        port,
        checks,
    }
}

impl On {
    fn words(self) -> String {
        match self {
            On::Overlay(name) => format!("container on `{name}`"),
            On::MesosBridge | On::DockerBridge => "container on the bridge".to_owned(),
            On::Host => "agent".to_owned(),
        }
    }

    /// Returns the label of the names on this network; `None`: there are none.
    pub fn label(self) -> Option<&'static str> {
        match self {
            On::Overlay(name) => Some(name),
            On::MesosBridge => Some("mesos-bridge"),
            On::DockerBridge | On::Host => None,
        }
    }
}

impl Row {
    /// Returns the line of the README's table.
    pub fn line(&self) -> String {
        let all = |networks: &[On]| {
            let words: Vec<String> = networks.iter().map(|network| network.words()).collect();
            words.join(", ")
        };
        let containers = all(self.networks);
        // A port on the host draws `autoip` to the agent.
        let auto = if self.port.1 {
            all(&[On::Host])
        } else {
            containers.clone()
        };
        let labels = self.networks.iter().filter_map(|network| network.label());
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join(", ")
        };
        let Row {
            file, task, checks, ..
        } = self;
        format!("| [{file}]({file}) | `{task}` | {containers} | {auto} | {labels} | {checks} |")
    }
}

#[test]
fn the_readme_lists_every_example() {
    let readme = fs::read_to_string(example("README.md")).unwrap();
    for row in ROWS {
        let line = row.line();
        assert!(readme.contains(&line), "README.md lacks this line:\n{line}");
    }
    let entries = fs::read_dir(example("")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let runs = name.starts_with("app-") || name.starts_with("pod-");
        assert!(
            !runs || ROWS.iter().any(|row| row.file == name),
            "no test runs {name}"
        );
        assert!(
            name == "README.md" || readme.contains(&format!("({name})")),
            "README.md has no link to {name}"
        );
    }
}
