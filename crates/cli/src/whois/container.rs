//! Containers, by the endpoints of one Mesos agent and by the container engine of this host.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use overlay_host::docker;
use overlay_host::docker::observed::Endpoint;

use super::report::{Match, Role};
use crate::answers::mesos::{AgentState, Container, Task};
use crate::connection::{AskError, Http};

/// Longest time for an answer of the container engine.
const ENGINE_LIMIT: Duration = Duration::from_secs(3);

/// Finds the container that has an address, at the Mesos agent with this address (`ip:port`).
/// Fills in what `found` lacks. Returns true if there is one.
///
/// # Errors
/// The agent does not answer.
pub fn find(http: &Http, agent: &str, ip: IpAddr, found: &mut Match) -> Result<bool, AskError> {
    let state: AgentState = http.json(agent, "/state")?;
    for framework in &state.frameworks {
        let mut tasks = framework
            .executors
            .iter()
            .flat_map(|executor| &executor.tasks);
        if let Some(task) = tasks.find(|task| has(task, ip)) {
            add_task(task, found);
            found.framework_name = Some(framework.name.clone());
            found.framework_id = Some(framework.id.clone());
            return Ok(true);
        }
    }
    // A task that has not reported its container yet, and an executor with several.
    let containers: Vec<Container> = http.json(agent, "/containers")?;
    let mut containers = containers.into_iter();
    let container = containers.find(|container| {
        let status = container.status.as_ref();
        status.is_some_and(|status| status.addresses().any(|(own, _)| own == ip))
    });
    let Some(container) = container else {
        return Ok(false);
    };
    add_container(&container, &state, found);
    Ok(true)
}

fn has(task: &Task, ip: IpAddr) -> bool {
    let container = task.container();
    container.is_some_and(|container| container.addresses().any(|(own, _)| own == ip))
}

/// Adds a task and its container.
pub fn add_task(task: &Task, found: &mut Match) {
    let container = task.container();
    found.role = Role::Container;
    found.task_id = Some(task.id.clone());
    found.task_name = Some(task.name.clone());
    found.framework_id = Some(task.framework_id.clone());
    found.container_id = container.and_then(|container| container.id());
    let addresses = container
        .into_iter()
        .flat_map(|container| container.addresses());
    found.addresses = addresses
        .map(|(ip, network)| match network {
            Some(network) => format!("{ip} on {network}"),
            None => ip.to_string(),
        })
        .collect();
}

fn add_container(container: &Container, state: &AgentState, found: &mut Match) {
    let mut frameworks = state.frameworks.iter();
    let framework = frameworks.find(|framework| framework.id == container.framework_id);
    let tasks = framework
        .into_iter()
        .flat_map(|framework| &framework.executors);
    let executor = tasks
        .into_iter()
        .find(|executor| executor.id == container.executor_id);
    let task = executor.and_then(|executor| executor.tasks.first());
    found.role = Role::Container;
    found.container_id = Some(container.container_id.clone());
    found.framework_id = Some(container.framework_id.clone());
    found.framework_name = framework.map(|framework| framework.name.clone());
    found.task_id = Some(task.map_or(&container.executor_id, |task| &task.id).clone());
    found.task_name = task.map(|task| task.name.clone());
    let status = container.status.iter();
    let addresses = status.flat_map(|status| status.addresses());
    found.addresses = addresses.map(|(ip, _)| ip.to_string()).collect();
}

/// Finds the container that has an address in the container engine of this host, which listens on
/// `socket`. Returns true if there is one.
///
/// # Errors
/// The engine does not answer.
pub fn find_in_engine(socket: &Path, ip: IpAddr, found: &mut Match) -> Result<bool, String> {
    let Some(observed) = docker::look(socket, ENGINE_LIMIT)? else {
        return Ok(false);
    };
    let networks = observed.networks.into_iter();
    let mut endpoints = networks.flat_map(|network| network.endpoints);
    let has = |endpoint: &Endpoint| endpoint.addresses.iter().any(|own| own.addr() == ip);
    let Some(endpoint) = endpoints.find(has) else {
        return Ok(false);
    };
    found.role = Role::Container;
    found.container_id = Some(endpoint.container);
    let addresses = endpoint.addresses.iter();
    found.addresses = addresses.map(|own| own.addr().to_string()).collect();
    Ok(true)
}
