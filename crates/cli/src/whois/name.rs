//! Search for a name: of an overlay, an agent, a task or a container.

use std::net::IpAddr;

use super::address;
use super::container::add_task;
use super::report::{Match, Role};
use crate::answers::MasterState;
use crate::answers::mesos::{Slave, Slaves, Task, Tasks};
use crate::connection::{AskError, Master};

/// Number of tasks in one answer of the master.
const PAGE: usize = 10_000;

/// Number of tasks that are searched for a name. Mesos keeps the latest tasks that ended, too.
const MAX_TASKS: usize = 200_000;

/// Number of matches that are shown.
pub const MAX_MATCHES: usize = 10;

/// Returns what has a name: an overlay, agents, or tasks, the first of these that there are.
///
/// # Errors
/// The master does not answer.
pub fn find(name: &str, master: &Master, state: &MasterState) -> Result<Vec<Match>, AskError> {
    if let Some(overlay) = overlay(name, state) {
        return Ok(vec![overlay]);
    }
    let slaves: Slaves = master.json("/slaves")?;
    let mut agents = slaves.slaves.iter().filter(|slave| is_agent(slave, name));
    if let Some(slave) = agents.next() {
        return Ok(vec![agent(slave, state)]);
    }
    let mut tasks = tasks_of(name, master)?;
    if tasks.iter().any(Task::is_running) {
        tasks.retain(Task::is_running);
    }
    tasks.truncate(MAX_MATCHES + 1);
    Ok(tasks
        .iter()
        .map(|task| of_task(task, &slaves, state))
        .collect())
}

/// Returns the tasks with this id, or else those with this name, or in a container with this id.
fn tasks_of(name: &str, master: &Master) -> Result<Vec<Task>, AskError> {
    let query = percent_encoded(name);
    let by_id: Tasks = master.json(&format!("/tasks?task_id={query}&limit={MAX_MATCHES}"))?;
    let mut found: Vec<Task> = by_id.tasks;
    found.retain(|task| task.id == name);
    let mut offset = 0;
    // The latest tasks come first, so those that run can be on any page.
    while found.is_empty() && offset < MAX_TASKS {
        let page: Tasks = master.json(&format!("/tasks?limit={PAGE}&offset={offset}"))?;
        let is_last = page.tasks.len() < PAGE;
        found = page
            .tasks
            .into_iter()
            .filter(|task| is_task(task, name))
            .collect();
        if is_last {
            break;
        }
        offset += PAGE;
    }
    Ok(found)
}

fn overlay(name: &str, state: &MasterState) -> Option<Match> {
    let mut overlays = state.network.overlays.iter();
    let overlay = overlays.find(|overlay| overlay.name == name)?;
    let ranges = overlay.subnet.iter().chain(&overlay.subnet6);
    Some(Match {
        role: Role::Overlay,
        overlay: Some(name.to_owned()),
        ranges: ranges.map(ToString::to_string).collect(),
        ..Match::default()
    })
}

fn is_agent(slave: &Slave, name: &str) -> bool {
    slave.hostname.eq_ignore_ascii_case(name) || slave.id == name
}

fn agent(slave: &Slave, state: &MasterState) -> Match {
    let ip = slave.ip();
    let known = state
        .agents
        .iter()
        .find(|agent| Some(IpAddr::V4(agent.ip)) == ip);
    let found = known.map(|agent| address::of_agent(Role::Agent, agent));
    Match {
        role: Role::Agent,
        hostname: Some(slave.hostname.clone()),
        agent: ip.map(|ip| ip.to_string()),
        ..found.unwrap_or_default()
    }
}

fn is_task(task: &Task, name: &str) -> bool {
    let container = task.container().and_then(|container| container.id());
    let is_container = |id: &String| id == name || id.split('.').any(|part| part == name);
    task.id == name || task.name == name || container.as_ref().is_some_and(is_container)
}

fn of_task(task: &Task, slaves: &Slaves, state: &MasterState) -> Match {
    let mut slaves = slaves.slaves.iter();
    let slave = slaves.find(|slave| slave.id == task.slave_id);
    let mut found = Match {
        agent: slave.and_then(Slave::ip).map(|ip| ip.to_string()),
        hostname: slave.map(|slave| slave.hostname.clone()),
        task_state: Some(task.state.clone()),
        ..Match::default()
    };
    let addresses = task
        .container()
        .into_iter()
        .flat_map(|container| container.addresses());
    let placed = addresses.filter_map(|(ip, _)| address::place(ip, state));
    if let Some(placed) = placed.into_iter().next().map(|placed| placed.found) {
        found.overlay = placed.overlay;
        found.bridge = placed.bridge;
        found.containerizer = placed.containerizer;
        found.vtep = placed.vtep;
        found.vtep_mac = placed.vtep_mac;
    }
    add_task(task, &mut found);
    found
}

/// Returns a text for the query of a URL.
fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| match is_plain(&byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_urls() {
        assert_eq!(percent_encoded("web-1.a_b~c"), "web-1.a_b~c");
        assert_eq!(percent_encoded("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }
}
