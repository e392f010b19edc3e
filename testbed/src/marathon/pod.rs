//! Pods, and the task group of an instance.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::environment;
use super::network::{self, Mode, Network, Port};
use super::{absolute, health, host_name, labels, members, resources};

/// Resources of the executor: CPUs, megabytes of memory and of disk.
const EXECUTOR: [f64; 3] = [0.1, 32.0, 10.0];
/// Resources of a container that says nothing. Marathon has no defaults.
const DEFAULTS: [f64; 3] = [0.1, 32.0, 0.0];

/// A pod, with Marathon's defaults.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Absolute path.
    pub id: String,
    /// Networks, which all containers share.
    pub networks: Vec<Network>,
    containers: Vec<Container>,
    definition: Value,
}

#[derive(Clone, Debug)]
struct Container {
    definition: Value,
    name: String,
    endpoints: Vec<Port>,
}

impl Pod {
    /// Reads a pod.
    ///
    /// # Errors
    /// Marathon would reject it.
    pub fn new(definition: &Value) -> Result<Pod> {
        let networks = network::networks(definition)?;
        let containers = definition["containers"].as_array().into_iter().flatten();
        let containers = containers.map(container).collect::<Result<Vec<_>>>()?;
        ensure!(!containers.is_empty(), "a pod without containers");
        Ok(Pod {
            id: absolute(&definition["id"])?,
            networks,
            containers,
            definition: definition.clone(),
        })
    }

    /// Returns the endpoints of all containers.
    pub fn ports(&self) -> Vec<Port> {
        let endpoints = self
            .containers
            .iter()
            .flat_map(|container| &container.endpoints);
        endpoints.cloned().collect()
    }

    /// Returns the ids of the tasks of an instance, and the operation that launches them.
    ///
    /// # Errors
    /// A container has nothing to run, or a health check is for an endpoint that it does not have.
    pub fn launch_group(
        &self,
        instance: &str,
        offer: &Value,
        assigned: &[Option<u16>],
    ) -> Result<(Vec<String>, Value)> {
        let mut left = assigned;
        let mut tasks = Vec::new();
        for container in &self.containers {
            let (own, others) = left.split_at(container.endpoints.len());
            left = others;
            tasks.push(self.task_info(container, instance, offer, (own, assigned))?);
        }
        let ids = tasks.iter().map(|task| {
            task["task_id"]["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        let ids = ids.collect();
        let group = json!({
            "executor": self.executor(instance, offer, assigned), "task_group": { "tasks": tasks },
        });
        Ok((
            ids,
            json!({ "type": "LAUNCH_GROUP", "launch_group": group }),
        ))
    }

    /// Returns the `ExecutorInfo`, whose container has the networks.
    fn executor(&self, instance: &str, offer: &Value, assigned: &[Option<u16>]) -> Value {
        json!({
            "type": "DEFAULT",
            "executor_id": { "value": format!("instance-{instance}") },
            "framework_id": offer["framework_id"],
            "resources": resources(&self.definition["executorResources"], EXECUTOR, assigned),
            "container": {
                "type": "MESOS",
                "linux_info": { "share_cgroups": false },
                "network_infos": network::network_infos(&self.networks, &self.ports(), assigned, true),
            },
            "labels": labels(&members(&self.definition["labels"])),
        })
    }

    /// Returns the `TaskInfo` of a container; `ports` are its own, and those of all containers.
    fn task_info(
        &self,
        container: &Container,
        instance: &str,
        offer: &Value,
        (own, all): (&[Option<u16>], &[Option<u16>]),
    ) -> Result<Value> {
        let (definition, name) = (&container.definition, &container.name);
        let id = format!("{instance}.{name}.1");
        let mut info = json!({
            "name": name,
            "task_id": { "value": id },
            "agent_id": offer["agent_id"],
            "resources": resources(&definition["resources"], DEFAULTS, &[]),
            "discovery": {
                "name": host_name(&self.id), "visibility": "FRAMEWORK",
                "ports": { "ports": network::discovery(&self.networks, &container.endpoints, own) },
            },
            "command": self.command(container, &id, offer, all)?,
            "container": { "type": "MESOS", "linux_info": { "share_cgroups": false } },
        });
        let given = members(&definition["labels"]);
        if !given.is_empty() {
            info["labels"] = labels(&given);
        }
        if let Some(seconds) = definition["lifecycle"]["killGracePeriodSeconds"].as_u64() {
            info["kill_policy"] =
                json!({ "grace_period": { "nanoseconds": seconds * 1_000_000_000 } });
        }
        let check = &definition["healthCheck"];
        if !check.is_null() {
            let on_host = self.networks[0].mode == Mode::Host;
            info["health_check"] = health::of_pod(check, &container.endpoints, own, on_host)?;
        }
        Ok(info)
    }

    fn command(
        &self,
        container: &Container,
        id: &str,
        offer: &Value,
        assigned: &[Option<u16>],
    ) -> Result<Value> {
        let definition = &container.definition;
        let on_host = self.networks[0].mode == Mode::Host;
        let mut variables = environment::given(&self.definition["env"]);
        variables.extend(environment::given(&definition["env"]));
        let host = offer["hostname"].as_str().unwrap_or_default();
        let context = [
            ("HOST", host),
            ("MESOS_TASK_ID", id),
            ("MARATHON_APP_ID", &self.id),
            ("MARATHON_CONTAINER_ID", &container.name),
        ];
        variables.extend(context.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut all = members(&self.definition["labels"]);
        all.extend(members(&definition["labels"]));
        variables.extend(environment::labels(&all));
        variables.extend(environment::endpoints(&self.ports(), assigned, on_host));
        let mut command = health::executable(&definition["exec"]["command"])?;
        command["environment"] = environment::environment(&variables);
        Ok(command)
    }
}

fn container(definition: &Value) -> Result<Container> {
    let name = definition["name"].as_str().unwrap_or_default();
    ensure!(!name.is_empty(), "a container without a name");
    let endpoints = definition["endpoints"].as_array().into_iter().flatten();
    let endpoint = |given| network::mapping(given, false);
    Ok(Container {
        definition: definition.clone(),
        name: name.to_owned(),
        endpoints: endpoints.map(endpoint).collect::<Result<Vec<_>>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(networks: Value) -> (Vec<String>, Value) {
        let pod = Pod::new(&json!({
            "id": "/shop/pair", "networks": networks,
            "containers": [
                {
                    "name": "web", "resources": { "cpus": 0.2, "mem": 64 },
                    "exec": { "command": { "shell": "serve" } },
                    "endpoints": [{ "name": "http", "containerPort": 80, "hostPort": 0, "protocol": ["tcp", "udp"] }],
                    "healthCheck": { "http": { "endpoint": "http", "path": "/ready" } },
                },
                {
                    "name": "side", "exec": { "command": { "argv": ["wait", "-f"] } },
                    "endpoints": [{ "name": "admin", "containerPort": 81 }],
                },
            ],
        }))
        .unwrap();
        let offer = json!({
            "agent_id": { "value": "S0" }, "framework_id": { "value": "F" }, "hostname": "10.77.1.1",
            "resources": [{ "name": "ports", "ranges": { "range": [{ "begin": 31000, "end": 31005 }] } }],
        });
        let assigned = network::assign(&pod.ports(), &offer).unwrap();
        let (ids, operation) = pod
            .launch_group("shop_pair.instance-1", &offer, &assigned)
            .unwrap();
        (ids, operation["launch_group"].clone())
    }

    #[test]
    fn the_executor_has_the_network_and_the_tasks_have_none() {
        let (ids, group) = launch(json!([{ "mode": "container", "name": "dcos" }]));
        assert_eq!(
            ids,
            ["shop_pair.instance-1.web.1", "shop_pair.instance-1.side.1"]
        );
        let executor = &group["executor"];
        assert_eq!(executor["type"], "DEFAULT");
        let mapping = |protocol: &str| json!({ "host_port": 31000, "container_port": 80, "protocol": protocol });
        let info = json!([{
            "name": "dcos", "labels": { "labels": [] }, "port_mappings": [mapping("tcp"), mapping("udp")],
        }]);
        assert_eq!(executor["container"]["network_infos"], info);
        let names: Vec<_> = executor["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["name"])
            .collect();
        assert_eq!(names, ["cpus", "mem", "disk", "ports"]);
        for task in group["task_group"]["tasks"].as_array().unwrap() {
            assert_eq!(task["container"]["network_infos"], Value::Null);
            assert_eq!(
                task["discovery"]["name"], "pair.shop",
                "one name for all containers"
            );
        }
    }

    #[test]
    fn each_task_has_its_command_ports_and_check() {
        let (_, group) = launch(json!([{ "mode": "container", "name": "dcos" }]));
        let tasks = &group["task_group"]["tasks"];
        assert_eq!(tasks[0]["name"], "web");
        assert_eq!(tasks[0]["command"]["value"], "serve");
        assert_eq!(tasks[1]["command"]["shell"], false);
        assert_eq!(tasks[1]["command"]["arguments"], json!(["wait", "-f"]));
        let number = |task: usize| tasks[task]["discovery"]["ports"]["ports"][0]["number"].clone();
        assert_eq!((number(0), number(1)), (json!(31000), json!(81)));
        assert_eq!(tasks[0]["health_check"]["http"]["port"], 80);
        assert_eq!(tasks[0]["health_check"]["http"]["path"], "/ready");
        assert_eq!(tasks[1]["health_check"], Value::Null);
        // Each container knows the endpoints of all.
        let variables = tasks[1]["command"]["environment"]["variables"].to_string();
        assert!(variables.contains("EP_HOST_HTTP"), "{variables}");
    }
}
