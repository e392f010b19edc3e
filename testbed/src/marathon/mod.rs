//! A stand-in for Marathon: turns definitions of apps and pods into tasks by Marathon's rules,
//! launches them, and checks their health as Marathon does.
//!
//! * [`app`], [`pod`]: what of a definition goes to Mesos (Marathon's `TaskBuilder` and
//!   `TaskGroupBuilder`);
//! * [`network`]: networks and ports;
//! * [`environment`]: variables of a task;
//! * [`health`]: checks that executors make, and those that Marathon makes itself.
//!
//! Definitions have the form of Marathon 1.5 or newer. There is one instance of each, and no retry.
//! Not there: volumes, secrets, artifacts, constraints, users, images of Mesos's containerizer.

pub mod app;
pub mod environment;
pub mod health;
pub mod network;
pub mod pod;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::framework::{Framework, TaskState};
use crate::http::Client;
use health::MarathonCheck;
use network::{Network, Port};

/// Name of the framework, as Marathon has it.
pub const NAME: &str = "marathon";
/// Mesos's bridge network (`--mesos_bridge_name`).
pub const BRIDGE: &str = "mesos-bridge";

/// A running Marathon. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Marathon {
    framework: Framework,
}

/// An instance of an app or of a pod.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Ids of its tasks: one, or one for each container of a pod.
    pub tasks: Vec<String>,
    /// Host name of the agent.
    pub agent: String,
    /// Networks of the definition.
    pub networks: Vec<Network>,
    /// Ports of the definition.
    pub ports: Vec<Port>,
    /// Ports of the agent's host that were assigned to `ports`.
    pub host_ports: Vec<Option<u16>>,
    /// Checks that Marathon makes itself.
    pub checks: Vec<MarathonCheck>,
}

impl Marathon {
    /// Subscribes to a master.
    pub fn subscribe(master: Client) -> Result<Marathon> {
        Ok(Marathon {
            framework: Framework::named(NAME, master)?,
        })
    }

    /// Launches an instance of an app or a pod (with `containers`) on an agent.
    ///
    /// # Errors
    /// Marathon would reject the definition, or there is no offer within `limit`.
    pub fn launch(&self, definition: &Value, agent: &str, limit: Duration) -> Result<Instance> {
        let instance = format!("instance-{:016x}", fastrand::u64(..));
        match definition["containers"].is_array() {
            true => self.launch_pod(definition, agent, &instance, limit),
            false => self.launch_app(definition, agent, &instance, limit),
        }
    }

    fn launch_app(
        &self,
        definition: &Value,
        agent: &str,
        instance: &str,
        limit: Duration,
    ) -> Result<Instance> {
        let app = app::App::new(definition)?;
        let id = format!("{}.{instance}._app.1", safe_path(&app.id));
        let mut host_ports = Vec::new();
        let tasks = self.framework.accept(agent, limit, |offer| {
            host_ports = network::assign(&app.ports, offer)?;
            let info = app.task_info(&id, offer, &host_ports)?;
            let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": [info] } });
            Ok((vec![id.clone()], launch))
        })?;
        Ok(Instance {
            tasks,
            agent: agent.to_owned(),
            checks: health::marathon_checks(&app.checks)?,
            networks: app.networks,
            ports: app.ports,
            host_ports,
        })
    }

    fn launch_pod(
        &self,
        definition: &Value,
        agent: &str,
        instance: &str,
        limit: Duration,
    ) -> Result<Instance> {
        let pod = pod::Pod::new(definition)?;
        let id = format!("{}.{instance}", safe_path(&pod.id));
        let ports = pod.ports();
        let mut host_ports = Vec::new();
        let tasks = self.framework.accept(agent, limit, |offer| {
            host_ports = network::assign(&ports, offer)?;
            pod.launch_group(&id, offer, &host_ports)
        })?;
        Ok(Instance {
            tasks,
            agent: agent.to_owned(),
            networks: pod.networks,
            ports,
            host_ports,
            checks: Vec::new(),
        })
    }

    /// Waits until all tasks of an instance run, and returns their states.
    pub fn wait_running(&self, instance: &Instance, limit: Duration) -> Result<Vec<TaskState>> {
        let state = |id: &String| self.framework.wait_running(id, limit);
        instance.tasks.iter().map(state).collect()
    }

    /// Returns the framework, to follow and to kill tasks.
    pub fn framework(&self) -> &Framework {
        &self.framework
    }
}

/// Returns a path such as `/group/app` as Marathon writes it in ids of tasks: `group_app`.
fn safe_path(path: &str) -> String {
    path.trim_matches('/').replace('/', "_")
}

/// Returns a path such as `/group/app` as Marathon names tasks: `app.group`.
pub fn host_name(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').rev().collect();
    parts.join(".")
}

/// Returns an absolute path: Marathon takes `app` for `/app`.
fn absolute(path: &Value) -> Result<String> {
    let path = path.as_str().context("a definition without an id")?;
    Ok(format!("/{}", path.trim_matches('/')))
}

/// Returns a map of texts as `Labels`.
fn labels(map: &Map<String, Value>) -> Value {
    let labels = map
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }));
    json!({ "labels": labels.collect::<Vec<_>>() })
}

/// Returns the members of an object; none: it is not there.
fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Returns resources of the offer's role: those of a definition, with its defaults (CPUs, megabytes of
/// memory and of disk), and ports.
fn resources(definition: &Value, defaults: [f64; 3], ports: &[Option<u16>]) -> Vec<Value> {
    let role = json!({ "role": "*" });
    let [cpus, mem, disk] = defaults;
    let scalars = [("cpus", cpus), ("mem", mem), ("disk", disk)]
        .map(|(name, default)| (name, definition[name].as_f64().unwrap_or(default)));
    let scalars = scalars.into_iter().filter(|(_, value)| *value > 0.0);
    let mut all: Vec<Value> = scalars
        .map(|(name, value)| {
            json!({ "name": name, "type": "SCALAR", "scalar": { "value": value }, "allocation_info": role })
        })
        .collect();
    let ranges: Vec<Value> = ports
        .iter()
        .flatten()
        .map(|port| json!({ "begin": port, "end": port }))
        .collect();
    if !ranges.is_empty() {
        all.push(json!({
            "name": "ports", "type": "RANGES", "ranges": { "range": ranges }, "allocation_info": role,
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names() {
        for (path, name, safe) in [
            ("/web", "web", "web"),
            (
                "/outergroup/subgroup/myapp",
                "myapp.subgroup.outergroup",
                "outergroup_subgroup_myapp",
            ),
        ] {
            assert_eq!(host_name(path), name);
            assert_eq!(safe_path(path), safe);
        }
        assert_eq!(absolute(&json!("a/b")).unwrap(), "/a/b");
        assert!(absolute(&Value::Null).is_err());
    }

    #[test]
    fn resources_have_defaults_and_ports() {
        let names = |resources: &[Value]| -> Vec<String> {
            resources
                .iter()
                .map(|resource| resource["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let all = resources(
            &json!({ "cpus": 0.5 }),
            [1.0, 128.0, 0.0],
            &[None, Some(31000)],
        );
        assert_eq!(names(&all), ["cpus", "mem", "ports"]);
        assert_eq!(all[0]["scalar"]["value"], 0.5);
        assert_eq!(all[1]["scalar"]["value"], 128.0);
        let range = json!([{ "begin": 31000, "end": 31000 }]);
        assert_eq!(all[2]["ranges"]["range"], range);
    }
}
