//! Entries of the table by their ids, and the records of a task's entry.

use std::collections::HashMap;
use std::sync::Arc;

use super::task::Task;
use super::{Agent, Cluster, Framework, LeftOut, MAX_ENTRIES, MAX_LISTED, MAX_SHOWN};
use crate::events::{Id, State};
use crate::records::{Instance, Made};

impl Cluster {
    pub(super) fn join_agent(&mut self, task: u32, agent: u32) {
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.tasks.push(task);
        }
    }

    pub(super) fn leave_agent(&mut self, task: u32, agent: u32) {
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.tasks.retain(|other| *other != task);
        }
    }

    pub(super) fn find(&self, framework: &Id, task: &Id) -> Option<u32> {
        let framework = self.framework_ids.get(&*framework.value)?;
        let framework = self.frameworks.get(*framework)?;
        framework.tasks.get(&*task.value).copied()
    }

    /// Returns the entry of a framework, which is made if necessary. `None`: there is no room.
    pub(super) fn framework(&mut self, id: &Id) -> Option<u32> {
        if let Some(index) = self.framework_ids.get(&*id.value) {
            return Some(*index);
        }
        if self.frameworks.len() >= MAX_ENTRIES {
            self.refused += 1;
            return None;
        }
        let id: Arc<[u8]> = Arc::from(&*id.value);
        let index = self.frameworks.insert(Framework {
            id: Arc::clone(&id),
            label: None,
            is_confirmed: true,
            tasks: HashMap::new(),
        });
        self.framework_ids.insert(id, index);
        Some(index)
    }

    /// Returns the entry of an agent, which is made if necessary. `None`: there is no room.
    pub(super) fn agent(&mut self, id: &Id) -> Option<u32> {
        if let Some(index) = self.agent_ids.get(&*id.value) {
            return Some(*index);
        }
        if self.agents.len() >= MAX_ENTRIES {
            self.refused += 1;
            return None;
        }
        let id: Arc<[u8]> = Arc::from(&*id.value);
        let index = self.agents.insert(Agent {
            id: Arc::clone(&id),
            hostname: None,
            pid_ip: None,
            ip: None,
            is_resolved: false,
            is_confirmed: true,
            tasks: Vec::new(),
        });
        self.agent_ids.insert(id, index);
        Some(index)
    }

    /// Adds the records of a task, if it runs and its agent and framework are known.
    pub(super) fn publish(&mut self, index: u32) {
        let Some(task) = self.tasks.get(index) else {
            return;
        };
        let agent = self.agents.get(task.agent);
        let is_known = agent.is_some_and(|agent| agent.hostname.is_some());
        if task.state != State::Running || !is_known || task.framework_label.is_none() {
            return;
        }
        let Made { records, problem } = self.made(task);
        let left_out = problem.map(|problem| LeftOut {
            task: task.id_for_people(MAX_SHOWN),
            label: task.label.to_string(),
            problem,
        });
        self.batch.added.extend(records);
        if let Some(task) = self.tasks.get_mut(index) {
            task.is_named = true;
        }
        if let Some(left_out) = left_out {
            self.left_out_count += 1;
            if self.left_out.len() < MAX_LISTED {
                self.left_out.insert(index, left_out);
            }
        }
    }

    /// Takes the records of a task away, if it has any.
    pub(super) fn withdraw(&mut self, index: u32) {
        let Some(task) = self.tasks.get(index).filter(|task| task.is_named) else {
            return;
        };
        let Made { records, problem } = self.made(task);
        self.batch.removed.extend(records);
        self.left_out.remove(&index);
        self.left_out_count -= usize::from(problem.is_some());
        if let Some(task) = self.tasks.get_mut(index) {
            task.is_named = false;
        }
    }

    /// Returns the records of a task as it is now.
    pub(super) fn made(&self, task: &Task) -> Made {
        self.rules.instance(&self.instance(task))
    }

    pub(super) fn instance<'a>(&self, task: &'a Task) -> Instance<'a> {
        Instance {
            task: &task.label,
            framework: task.framework_label.as_deref().unwrap_or_default(),
            agent: self.agents.get(task.agent).and_then(|agent| agent.ip),
            addresses: &task.addresses,
            ports: task.ports.as_deref(),
        }
    }
}
