//! Apps, and the `TaskInfo` of an instance.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::environment::{self, Variables};
use super::network::{self, Mode, Network, Port};
use super::{absolute, health, host_name, labels, members, resources};

/// Version of every app, which Marathon makes of the time of a change.
const VERSION: &str = "2026-01-01T00:00:00.000Z";
/// Resources of an app that says nothing: CPUs, megabytes of memory and of disk.
const DEFAULTS: [f64; 3] = [1.0, 128.0, 0.0];

/// An app, with Marathon's defaults.
#[derive(Clone, Debug)]
pub struct App {
    /// Absolute path.
    pub id: String,
    /// Networks.
    pub networks: Vec<Network>,
    /// Ports: of `container.portMappings`, or of `portDefinitions` on the network of the host.
    pub ports: Vec<Port>,
    /// Health checks, as they are in the definition.
    pub checks: Vec<Value>,
    definition: Value,
    /// Container; `None`: a process on the agent's host.
    container: Option<Container>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Mesos,
    Docker,
}

impl App {
    /// Reads an app.
    ///
    /// # Errors
    /// Marathon would reject it.
    pub fn new(definition: &Value) -> Result<App> {
        let networks = network::networks(definition)?;
        let host = networks[0].mode == Mode::Host;
        let container = match definition["container"]["type"].as_str() {
            Some("MESOS") => Some(Container::Mesos),
            Some("DOCKER") => Some(Container::Docker),
            Some(other) => bail!("container.type: {other:?}"),
            None if host && definition["container"].is_null() => None,
            None => Some(Container::Mesos),
        };
        ensure!(
            networks.len() == 1 || container == Some(Container::Mesos),
            "several networks need a container of type MESOS"
        );
        let ports = match host {
            true => list(
                &definition["portDefinitions"],
                &json!([{ "port": 0, "name": "default" }]),
            )
            .iter()
            .map(network::definition)
            .collect::<Result<Vec<_>>>()?,
            false => mappings(definition, networks[0].mode == Mode::Bridge)?,
        };
        for port in &ports {
            ensure!(
                networks.len() == 1 || port.host.is_none() || port.networks.len() == 1,
                "a port on the host needs one of the networks in networkNames"
            );
            let known = |name: &String| networks.iter().any(|network| network.name == *name);
            ensure!(
                port.networks.iter().all(known),
                "networkNames: a network that the app is not on"
            );
        }
        let checks = list(&definition["healthChecks"], &json!([]));
        health::validate(&checks)?;
        Ok(App {
            id: absolute(&definition["id"])?,
            networks,
            ports,
            checks,
            definition: definition.clone(),
            container,
        })
    }

    /// Returns the `TaskInfo` of an instance, with `assigned` ports of the offer.
    ///
    /// # Errors
    /// There is nothing to run, or a health check is for a port that the app does not have.
    pub fn task_info(&self, id: &str, offer: &Value, assigned: &[Option<u16>]) -> Result<Value> {
        let name = host_name(&self.id);
        let mut info = json!({
            "name": name,
            "task_id": { "value": id },
            "agent_id": offer["agent_id"],
            "resources": resources(&self.definition, DEFAULTS, assigned),
            "discovery": {
                "name": name, "visibility": "FRAMEWORK",
                "ports": { "ports": network::discovery(&self.networks, &self.ports, assigned) },
            },
            "command": self.command(id, offer, assigned)?,
        });
        let given = members(&self.definition["labels"]);
        if !given.is_empty() {
            info["labels"] = labels(&given);
        }
        if let Some(container) = self.container_info(id, assigned)? {
            info["container"] = container;
        }
        if let Some(seconds) = self.definition["taskKillGracePeriodSeconds"].as_u64() {
            info["kill_policy"] =
                json!({ "grace_period": { "nanoseconds": seconds * 1_000_000_000 } });
        }
        if let Some(check) = health::of_mesos(&self.checks, &self.ports, assigned)? {
            info["health_check"] = check;
        }
        Ok(info)
    }

    fn command(&self, id: &str, offer: &Value, assigned: &[Option<u16>]) -> Result<Value> {
        let args = list(&self.definition["args"], &json!([]));
        let cmd = self.definition["cmd"]
            .as_str()
            .filter(|cmd| !cmd.is_empty());
        ensure!(
            cmd.is_some() || !args.is_empty() || self.container == Some(Container::Docker),
            "neither cmd nor args nor an image"
        );
        ensure!(cmd.is_none() || args.is_empty(), "both cmd and args");
        let variables = self.variables(id, offer, assigned);
        let mut command = json!({ "environment": environment::environment(&variables) });
        match cmd {
            Some(cmd) => command["value"] = cmd.into(),
            None => command["shell"] = false.into(),
        }
        if !args.is_empty() {
            if self.container.is_none() {
                command["value"] = args[0].clone();
            }
            command["arguments"] = args.into();
        }
        Ok(command)
    }

    fn variables(&self, id: &str, offer: &Value, assigned: &[Option<u16>]) -> Variables {
        let mut variables = environment::labels(&members(&self.definition["labels"]));
        let number = |key: &str, default: f64| {
            let number = self.definition[key].as_f64().unwrap_or(default);
            format!("{number:?}")
        };
        let context = [
            ("MESOS_TASK_ID", id.to_owned()),
            ("MARATHON_APP_ID", self.id.clone()),
            ("MARATHON_APP_VERSION", VERSION.to_owned()),
            ("MARATHON_APP_RESOURCE_CPUS", number("cpus", DEFAULTS[0])),
            ("MARATHON_APP_RESOURCE_MEM", number("mem", DEFAULTS[1])),
            ("MARATHON_APP_RESOURCE_DISK", number("disk", 0.0)),
            ("MARATHON_APP_RESOURCE_GPUS", "0".to_owned()),
            ("MARATHON_APP_ENFORCE_GROUP_ROLE", "FALSE".to_owned()),
        ];
        variables.extend(context.map(|(name, value)| (name.to_owned(), value)));
        if self.container == Some(Container::Docker)
            && let Some(image) = self.definition["container"]["docker"]["image"].as_str()
        {
            variables.insert("MARATHON_APP_DOCKER_IMAGE".into(), image.to_owned());
        }
        variables.extend(environment::ports(&self.ports, assigned));
        let host = offer["hostname"].as_str().unwrap_or_default();
        variables.insert("HOST".into(), host.to_owned());
        variables.extend(environment::given(&self.definition["env"]));
        variables
    }

    fn container_info(&self, id: &str, assigned: &[Option<u16>]) -> Result<Option<Value>> {
        Ok(match self.container {
            None => None,
            Some(Container::Mesos) => Some(json!({
                "type": "MESOS",
                "mesos": {},
                "network_infos": network::network_infos(&self.networks, &self.ports, assigned, false),
            })),
            Some(Container::Docker) => Some(self.docker(id, assigned)?),
        })
    }

    fn docker(&self, id: &str, assigned: &[Option<u16>]) -> Result<Value> {
        let given = &self.definition["container"]["docker"];
        let image = given["image"].as_str();
        let mut parameters = list(&given["parameters"], &json!([]));
        parameters.push(json!({ "key": "label", "value": format!("MESOS_TASK_ID={id}") }));
        let network = match self.networks[0].mode {
            Mode::Host => "HOST",
            Mode::Bridge => "BRIDGE",
            Mode::Container => "USER",
        };
        let mut container = json!({
            "type": "DOCKER",
            "docker": {
                "image": image.context("container.docker.image")?,
                "network": network,
                "port_mappings": self.docker_mappings(assigned),
                "parameters": parameters,
                "privileged": given["privileged"].as_bool().unwrap_or(false),
                "force_pull_image": given["forcePullImage"].as_bool().unwrap_or(false),
            },
        });
        // Docker gets the name alone, without labels.
        if network == "USER" {
            container["network_infos"] = json!([{ "name": self.networks[0].name }]);
        }
        Ok(container)
    }

    fn docker_mappings(&self, assigned: &[Option<u16>]) -> Vec<Value> {
        let on_network = self.networks[0].mode != Mode::Host;
        let ports = self.ports.iter().zip(assigned).filter(|_| on_network);
        let mut mappings = Vec::new();
        for (port, assigned) in ports {
            let container = network::container_port(port, *assigned);
            let each = port.protocols.iter().filter(|_| assigned.is_some());
            mappings.extend(each.map(|protocol| {
                json!({ "host_port": assigned, "container_port": container, "protocol": protocol })
            }));
        }
        mappings
    }
}

/// Reads `container.portMappings`. Without them there is one port, which is the same in the container
/// as on the host.
fn mappings(definition: &Value, bridge: bool) -> Result<Vec<Port>> {
    let default = json!([{ "containerPort": 0, "name": "default" }]);
    let given = list(&definition["container"]["portMappings"], &default);
    given
        .iter()
        .map(|given| network::mapping(given, bridge))
        .collect()
}

fn list(given: &Value, default: &Value) -> Vec<Value> {
    let list = given.as_array().or(default.as_array());
    list.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "10.77.1.1";

    fn offer() -> Value {
        json!({
            "agent_id": { "value": "S0" }, "hostname": AGENT,
            "resources": [{ "name": "ports", "ranges": { "range": [{ "begin": 31000, "end": 31005 }] } }],
        })
    }

    /// Returns the task of an app with `members` beside its id and command.
    fn task(members: Value) -> Value {
        let mut definition = json!({ "id": "/shop/web", "cmd": "serve" });
        for (key, value) in members.as_object().unwrap() {
            definition[key] = value.clone();
        }
        let app = App::new(&definition).unwrap();
        let assigned = network::assign(&app.ports, &offer()).unwrap();
        app.task_info("id", &offer(), &assigned).unwrap()
    }

    fn on(networks: Value, mappings: Value) -> Value {
        json!({ "networks": networks, "container": { "type": "MESOS", "portMappings": mappings } })
    }

    fn dcos() -> Value {
        json!([{ "mode": "container", "name": "dcos", "labels": { "a": "b" } }])
    }

    #[test]
    fn names_are_the_reversed_path() {
        let task = task(json!({}));
        assert_eq!(task["name"], "web.shop");
        assert_eq!(task["discovery"]["name"], "web.shop");
        assert_eq!(task["discovery"]["visibility"], "FRAMEWORK");
        assert_eq!(task["command"]["value"], "serve");
        assert_eq!(task["container"], Value::Null, "the network of the host");
    }

    #[test]
    fn networks_of_mesos_have_labels_and_mappings_of_ports_on_the_host() {
        let mapping = |more: Value| {
            let mut mapping = json!({ "containerPort": 80, "name": "http" });
            for (key, value) in more.as_object().unwrap() {
                mapping[key] = value.clone();
            }
            json!([mapping])
        };
        let labels = json!({ "labels": [{ "key": "a", "value": "b" }] });
        for (what, networks, mappings, expected) in [
            (
                "no port on the host",
                dcos(),
                mapping(json!({})),
                json!([{ "name": "dcos", "labels": labels, "port_mappings": [] }]),
            ),
            (
                "a port on the host, two protocols",
                dcos(),
                mapping(json!({ "hostPort": 0, "protocol": "udp,tcp" })),
                json!([{ "name": "dcos", "labels": labels, "port_mappings": [
                    { "host_port": 31000, "container_port": 80, "protocol": "udp,tcp" },
                ] }]),
            ),
            (
                "the same port in the container",
                dcos(),
                mapping(json!({ "containerPort": 0, "hostPort": 31002 })),
                json!([{ "name": "dcos", "labels": labels, "port_mappings": [
                    { "host_port": 31002, "container_port": 31002, "protocol": "tcp" },
                ] }]),
            ),
            (
                "Mesos's bridge: a port on the host is the default",
                json!([{ "mode": "container/bridge" }]),
                mapping(json!({})),
                json!([{ "name": "mesos-bridge", "labels": { "labels": [] }, "port_mappings": [
                    { "host_port": 31000, "container_port": 80, "protocol": "tcp" },
                ] }]),
            ),
            (
                "two networks, the port on one of them",
                json!([{ "mode": "container", "name": "one" }, { "mode": "container", "name": "two" }]),
                mapping(json!({ "hostPort": 0, "networkNames": ["two"] })),
                json!([
                    { "name": "one", "labels": { "labels": [] }, "port_mappings": [] },
                    { "name": "two", "labels": { "labels": [] }, "port_mappings": [
                        { "host_port": 31000, "container_port": 80, "protocol": "tcp" },
                    ] },
                ]),
            ),
        ] {
            let task = task(on(networks, mappings));
            assert_eq!(task["container"]["network_infos"], expected, "{what}");
            assert_eq!(task["container"]["type"], "MESOS", "{what}");
        }
    }

    #[test]
    fn docker_gets_the_name_of_the_network_and_no_labels() {
        let container = |hosts: Value| json!({ "type": "DOCKER", "docker": { "image": "busybox" }, "portMappings": hosts });
        let mapped = json!([{ "containerPort": 80, "hostPort": 0 }]);
        let user = task(json!({ "networks": dcos(), "container": container(mapped.clone()) }));
        let user = &user["container"];
        assert_eq!(user["docker"]["network"], "USER");
        assert_eq!(user["network_infos"], json!([{ "name": "dcos" }]));
        let mapping = json!([{ "host_port": 31000, "container_port": 80, "protocol": "tcp" }]);
        assert_eq!(user["docker"]["port_mappings"], mapping);
        let label = json!([{ "key": "label", "value": "MESOS_TASK_ID=id" }]);
        assert_eq!(user["docker"]["parameters"], label);
        let bridge = json!([{ "mode": "container/bridge" }]);
        let bridge = task(json!({ "networks": bridge, "container": container(mapped) }));
        assert_eq!(bridge["container"]["docker"]["network"], "BRIDGE");
        assert_eq!(bridge["container"]["network_infos"], Value::Null);
    }

    #[test]
    fn discovery_says_where_a_port_is() {
        let label = |key: &str, value: &str| json!({ "key": key, "value": value });
        for (what, definition, expected) in [
            (
                "in the container, one announcement for each network",
                on(
                    json!([{ "mode": "container", "name": "one" }, { "mode": "container", "name": "two" }]),
                    json!([{ "containerPort": 80, "name": "http" }]),
                ),
                json!([
                    { "number": 80, "protocol": "tcp", "name": "http", "labels": { "labels": [
                        label("network-name", "one"), label("network-scope", "container"),
                    ] } },
                    { "number": 80, "protocol": "tcp", "name": "http", "labels": { "labels": [
                        label("network-name", "two"), label("network-scope", "container"),
                    ] } },
                ]),
            ),
            (
                "on the host, one announcement for each protocol",
                on(
                    dcos(),
                    json!([{ "containerPort": 80, "hostPort": 0, "protocol": "udp,tcp", "labels": { "VIP_0": "web:80" } }]),
                ),
                json!([
                    { "number": 31000, "protocol": "udp", "labels": { "labels": [
                        label("VIP_0", "web:80"), label("network-scope", "host"),
                    ] } },
                    { "number": 31000, "protocol": "tcp", "labels": { "labels": [
                        label("VIP_0", "web:80"), label("network-scope", "host"),
                    ] } },
                ]),
            ),
            (
                "on the network of the host there is no scope",
                json!({}),
                json!([{ "number": 31000, "protocol": "tcp", "name": "default" }]),
            ),
        ] {
            assert_eq!(
                task(definition)["discovery"]["ports"]["ports"],
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn an_app_without_mappings_has_one_port() {
        let ports = |definition: Value| {
            let task = task(definition);
            let ports = task["discovery"]["ports"]["ports"].as_array().unwrap();
            let name = |port: &Value| (port["name"].clone(), port["number"].clone());
            ports.iter().map(name).collect::<Vec<_>>()
        };
        let without = ports(json!({ "networks": dcos() }));
        assert_eq!(without, [(json!("default"), json!(0))]);
        assert_eq!(ports(on(dcos(), json!([]))), []);
    }

    #[test]
    fn the_environment_has_ports_host_and_id() {
        let definition = on(
            dcos(),
            json!([{ "containerPort": 80, "hostPort": 0, "name": "http" }]),
        );
        let task = task(definition);
        let variables = task["command"]["environment"]["variables"]
            .as_array()
            .unwrap();
        let value = |name: &str| {
            let variable = variables.iter().find(|variable| variable["name"] == name);
            variable.unwrap()["value"].as_str().unwrap()
        };
        assert_eq!(value("PORT0"), "31000");
        assert_eq!(value("PORT_HTTP"), "31000");
        assert_eq!(value("HOST"), AGENT);
        assert_eq!(value("MARATHON_APP_ID"), "/shop/web");
        assert_eq!(value("MARATHON_APP_RESOURCE_CPUS"), "1.0");
    }

    #[test]
    fn arguments_replace_the_shell() {
        let definition = json!({ "id": "a", "args": ["serve", "-f"] });
        let app = App::new(&definition).unwrap();
        let task = app.task_info("id", &offer(), &[Some(31000)]).unwrap();
        assert_eq!(task["command"]["shell"], false);
        assert_eq!(task["command"]["value"], "serve");
        assert_eq!(task["command"]["arguments"], json!(["serve", "-f"]));
    }

    #[test]
    fn what_marathon_rejects_is_rejected() {
        let mapped = |networks: Value, mapping: Value| on(networks, json!([mapping]));
        let two =
            json!([{ "mode": "container", "name": "one" }, { "mode": "container", "name": "two" }]);
        for (definition, error) in [
            (on(json!([{ "mode": "none" }]), json!([])), "mode"),
            (
                on(json!([{ "mode": "container" }]), json!([])),
                "without a name",
            ),
            (
                on(
                    json!([{ "mode": "container", "name": "one" }, { "mode": "host" }]),
                    json!([]),
                ),
                "several modes",
            ),
            (
                mapped(two.clone(), json!({ "hostPort": 0 })),
                "networkNames",
            ),
            (
                mapped(two.clone(), json!({ "networkNames": ["three"] })),
                "is not on",
            ),
            (
                json!({ "networks": two, "container": { "type": "DOCKER" } }),
                "of type MESOS",
            ),
            (
                mapped(dcos(), json!({ "containerPort": 70_000 })),
                "containerPort",
            ),
            (mapped(dcos(), json!({ "protocol": "sctp" })), "protocol"),
        ] {
            let mut definition = definition;
            definition["id"] = "a".into();
            let said = format!("{:#}", App::new(&definition).unwrap_err());
            assert!(said.contains(error), "{definition}: {said}");
        }
    }
}
