//! Table of frameworks, agents and tasks, built from the events of a master's operator API.
//!
//! [`Cluster::handle`] takes the events' items, and [`Cluster::take_batch`] returns which records begin
//! and end by them. Time is an argument.
//!
//! After a connection to a master its state can lack tasks of agents that have not registered again
//! since the election. So whatever is in the table stays until these agents are back (`cluster/waiting.rs`).

mod agents;
mod entries;
mod kept;
mod search;
mod slab;
mod task;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use kept::{Kept, KeptAgent, KeptFramework, KeptTask};
pub use search::Wanted;

use crate::events::{FrameworkInfo, Id, Item, State, Status, Task as TaskInfo};
use crate::label::label;
use crate::records::{Problem, Rules};
use crate::zone::Batch;

use slab::Slab;
use task::{Labels, Task};
use waiting::Waiting;

/// Limit of tasks, and of agents, and of frameworks. More are left out.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Limit of tasks without names that are listed.
const MAX_LISTED: usize = 1000;
/// Length of a task's id or name in that list, in characters.
const MAX_SHOWN: usize = 200;

/// Frameworks, agents and tasks.
#[derive(Debug)]
pub struct Cluster {
    rules: Rules,
    labels: Labels,
    frameworks: Slab<Framework>,
    framework_ids: HashMap<Arc<[u8]>, u32>,
    agents: Slab<Agent>,
    agent_ids: HashMap<Arc<[u8]>, u32>,
    tasks: Slab<Task>,
    leader: Option<IpAddr>,
    masters: Vec<IpAddr>,
    batch: Batch,
    waiting: Waiting,
    left_out: BTreeMap<u32, LeftOut>,
    left_out_count: usize,
    /// Number of items that had no room.
    refused: u64,
}

/// A framework that is there, or that a task names.
#[derive(Debug)]
struct Framework {
    id: Arc<[u8]>,
    /// Label of its name; `None`: it is not known yet.
    label: Option<Arc<str>>,
    /// True if a master has confirmed it since the last connection.
    is_confirmed: bool,
    tasks: HashMap<Arc<[u8]>, u32>,
}

/// An agent that is there, or that a task names.
#[derive(Debug)]
struct Agent {
    id: Arc<[u8]>,
    /// Name or address of the host; `None`: the agent is not registered as far as is known.
    hostname: Option<Box<str>>,
    /// Address in its process id.
    pid_ip: Option<IpAddr>,
    /// Address of the host name.
    ip: Option<IpAddr>,
    /// True if the host name has been looked up, or needs not be.
    is_resolved: bool,
    /// True if a master has confirmed it since the last connection.
    is_confirmed: bool,
    tasks: Vec<u32>,
}

/// A running task without names, or not all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Id of the task.
    pub task: String,
    /// Label of its name, which can be empty.
    pub label: String,
    /// Reason.
    pub problem: Problem,
}

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frameworks.
    pub frameworks: usize,
    /// Registered agents.
    pub agents: usize,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Tasks with records.
    pub named: usize,
    /// Running tasks whose agent or framework is not known yet.
    pub waiting: usize,
    /// Running tasks without names, or not all.
    pub left_out: usize,
    /// Frameworks, agents and tasks for which there was no room, since the start.
    pub refused: u64,
}

impl Cluster {
    /// Creates an empty table.
    pub fn new(rules: Rules) -> Cluster {
        Cluster {
            rules,
            labels: Labels::default(),
            frameworks: Slab::default(),
            framework_ids: HashMap::new(),
            agents: Slab::default(),
            agent_ids: HashMap::new(),
            tasks: Slab::default(),
            leader: None,
            masters: Vec::new(),
            batch: Batch::default(),
            waiting: Waiting::default(),
            left_out: BTreeMap::new(),
            left_out_count: 0,
            refused: 0,
        }
    }

    /// Handles an item of an event. `now` is the time since any fixed moment.
    pub fn handle(&mut self, item: Item, now: Duration) {
        match item {
            Item::StateBegins => self.begin_state(),
            Item::StateEnds { .. } => self.end_state(now),
            Item::Framework(info) => self.add_framework(&info),
            Item::FrameworkRemoved(id) => self.remove_framework(&id),
            Item::Agent(info) => self.add_agent(&info),
            Item::RecoveredAgent(id) => self.waiting.recovers(&id.value),
            Item::AgentRemoved(id) => self.remove_agent(&id),
            Item::Task(info) => self.add_task(&info),
            Item::Ended { framework, task } => self.end_unless_confirmed(&framework, &task),
            Item::Status {
                framework,
                status,
                state,
            } => self.update(&framework, &status, state),
        }
    }

    /// Takes note that no master is connected any more. Nothing is forgotten until the next one's state.
    pub fn lose(&mut self) {
        self.waiting = Waiting::default();
    }

    /// Forgets what nobody has confirmed, if the time for it has come. Returns the time of the next
    /// call, if one is due.
    pub fn tick(&mut self, now: Duration) -> Option<Duration> {
        match self.waiting.due(now) {
            waiting::Due::Nothing => None,
            waiting::Due::At(time) => Some(time),
            waiting::Due::Now => {
                self.forget_unconfirmed();
                None
            }
        }
    }

    /// Returns true if the table is as complete as the master's: after its state, agents that had to
    /// come back are back, or late.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_over()
    }

    /// Returns the records that begin and end since the last call.
    pub fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// Returns the number of records that begin and end since the last call of
    /// [`Cluster::take_batch`].
    pub fn batch_len(&self) -> usize {
        self.batch.len()
    }

    /// Sets the addresses of the leading master and of all masters.
    pub fn set_masters(&mut self, leader: Option<IpAddr>, masters: Vec<IpAddr>) {
        if (leader, &masters) == (self.leader, &self.masters) {
            return;
        }
        let before = self.rules.masters(self.leader, &self.masters);
        (self.leader, self.masters) = (leader, masters);
        self.batch.removed.extend(before);
        let after = self.rules.masters(self.leader, &self.masters);
        self.batch.added.extend(after);
    }

    /// Replaces the ranges with PTR records. Returns the claims on PTR records that end and begin: the
    /// former are in the zones of the former ranges, the latter in those of the new ones.
    pub fn set_ranges(&mut self, ranges: Vec<IpNet>) -> Batch {
        let before = std::mem::replace(&mut self.rules.ranges, ranges);
        let before = Rules {
            ranges: before,
            domains: self.rules.domains.clone(),
        };
        let mut batch = Batch::default();
        for (_, task) in self.tasks.iter().filter(|(_, task)| task.is_named) {
            let instance = self.instance(task);
            batch.removed.extend(before.pointers(&instance));
            batch.added.extend(self.rules.pointers(&instance));
        }
        batch
    }

    /// Returns the addresses of the leading master and of all masters.
    pub fn masters(&self) -> (Option<IpAddr>, &[IpAddr]) {
        (self.leader, &self.masters)
    }

    /// Returns names and ranges that records are made for.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns numbers of entries.
    pub fn counts(&self) -> Counts {
        let tasks = || self.tasks.iter().map(|(_, task)| task);
        let running = tasks().filter(|task| task.state == State::Running);
        let named = tasks().filter(|task| task.is_named).count();
        let registered = |agent: &&Agent| agent.hostname.is_some();
        Counts {
            frameworks: self.frameworks.iter().count(),
            agents: self
                .agents
                .iter()
                .map(|(_, a)| a)
                .filter(registered)
                .count(),
            tasks: tasks().count(),
            named,
            waiting: running.count() - named,
            left_out: self.left_out_count,
            refused: self.refused,
        }
    }

    /// Returns running tasks without names, or not all; at most 1000 of them.
    pub fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.values()
    }

    fn begin_state(&mut self) {
        self.tasks
            .iter_mut()
            .for_each(|(_, task)| task.is_confirmed = false);
        self.agents
            .iter_mut()
            .for_each(|(_, agent)| agent.is_confirmed = false);
        self.frameworks
            .iter_mut()
            .for_each(|(_, framework)| framework.is_confirmed = false);
        self.waiting = Waiting::begun();
    }

    /// Ends tasks that a registered agent does not have any more. Others may be on agents that come
    /// back.
    fn end_state(&mut self, now: Duration) {
        let is_back = |task: &Task| {
            let agent = self.agents.get(task.agent);
            agent.is_some_and(|agent| agent.is_confirmed)
        };
        let gone = self.unconfirmed().filter(|(_, task)| is_back(task));
        let gone: Vec<u32> = gone.map(|(index, _)| index).collect();
        gone.into_iter().for_each(|task| self.remove_task(task));
        let is_complete = self.unconfirmed().next().is_none();
        self.waiting.complete(now, is_complete);
        if self.is_settled() {
            self.forget_unused();
        }
    }

    fn unconfirmed(&self) -> impl Iterator<Item = (u32, &Task)> {
        self.tasks.iter().filter(|(_, task)| !task.is_confirmed)
    }

    fn forget_unconfirmed(&mut self) {
        let gone: Vec<u32> = self.unconfirmed().map(|(index, _)| index).collect();
        gone.into_iter().for_each(|task| self.remove_task(task));
        let gone = self.agents.iter().filter(|(_, agent)| !agent.is_confirmed);
        let gone: Vec<u32> = gone.map(|(index, _)| index).collect();
        gone.into_iter().for_each(|agent| self.forget_agent(agent));
        self.forget_unused();
    }

    /// Forgets agents and frameworks that nobody has confirmed, and that no task names.
    fn forget_unused(&mut self) {
        let is_unused = |agent: &Agent| !agent.is_confirmed && agent.tasks.is_empty();
        let agents = self.agents.iter().filter(|(_, agent)| is_unused(agent));
        let agents: Vec<u32> = agents.map(|(index, _)| index).collect();
        agents
            .into_iter()
            .for_each(|agent| self.forget_agent(agent));
        let is_unused = |entry: &Framework| !entry.is_confirmed && entry.tasks.is_empty();
        let frameworks = self.frameworks.iter();
        let frameworks = frameworks.filter(|(_, framework)| is_unused(framework));
        let ids: Vec<u32> = frameworks.map(|(index, _)| index).collect();
        ids.into_iter()
            .for_each(|index| self.forget_framework(index));
    }

    fn add_framework(&mut self, info: &FrameworkInfo) {
        let Some(index) = self.framework(&info.id) else {
            return;
        };
        let label = self.labels.intern(&label(&info.name));
        let Some(framework) = self.frameworks.get_mut(index) else {
            return;
        };
        framework.label = Some(Arc::clone(&label));
        framework.is_confirmed = true;
        let tasks: Vec<u32> = framework.tasks.values().copied().collect();
        for task in tasks {
            // A framework that is renamed renames only tasks that come later.
            let Some(entry) = self.tasks.get_mut(task) else {
                continue;
            };
            if entry.framework_label.is_none() {
                entry.framework_label = Some(Arc::clone(&label));
                self.publish(task);
            }
        }
    }

    fn remove_framework(&mut self, id: &Id) {
        if let Some(index) = self.framework_ids.get(&*id.value) {
            self.forget_framework(*index);
        }
    }

    fn forget_framework(&mut self, index: u32) {
        let tasks = self.frameworks.get(index).map(|framework| &framework.tasks);
        let tasks: Vec<u32> = tasks.into_iter().flatten().map(|(_, task)| *task).collect();
        tasks.into_iter().for_each(|task| self.remove_task(task));
        if let Some(framework) = self.frameworks.remove(index) {
            self.framework_ids.remove(&framework.id);
        }
    }

    /// Adds a task, or changes it to what a master says.
    fn add_task(&mut self, info: &TaskInfo) {
        let known = self.find(&info.framework_id, &info.task_id);
        if info.state == State::Ended {
            known.into_iter().for_each(|task| self.remove_task(task));
            return;
        }
        let (Some(framework), Some(agent)) = (
            self.framework(&info.framework_id),
            self.agent(&info.agent_id),
        ) else {
            return;
        };
        let mut task = Task::new(info, framework, agent, &mut self.labels);
        let Some(index) = known else {
            self.insert(task);
            return;
        };
        let Some(old) = self.tasks.get_mut(index) else {
            return;
        };
        old.is_confirmed = true;
        // Names are those of the time when the task was seen first.
        task.framework_label.clone_from(&old.framework_label);
        task.id = Arc::clone(&old.id);
        if *old == task {
            return;
        }
        self.withdraw(index);
        let old_agent = self.tasks.get(index).map(|old| old.agent);
        if let Some(old_agent) = old_agent.filter(|old| *old != agent) {
            self.leave_agent(index, old_agent);
            self.join_agent(index, agent);
        }
        if let Some(old) = self.tasks.get_mut(index) {
            *old = task;
        }
        self.publish(index);
    }

    /// Inserts a task that is not there yet.
    fn insert(&mut self, mut task: Task) {
        if self.tasks.len() >= MAX_ENTRIES {
            self.refused += 1;
            return;
        }
        let (framework, agent, id) = (task.framework, task.agent, Arc::clone(&task.id));
        let entry = self.frameworks.get(framework);
        if task.framework_label.is_none() {
            task.framework_label = entry.and_then(|framework| framework.label.clone());
        }
        let index = self.tasks.insert(task);
        if let Some(framework) = self.frameworks.get_mut(framework) {
            framework.tasks.insert(id, index);
        }
        self.join_agent(index, agent);
        self.publish(index);
    }

    fn update(&mut self, framework: &Id, status: &Status, state: State) {
        let Some(index) = self.find(framework, &status.task_id) else {
            return;
        };
        if state == State::Ended {
            self.remove_task(index);
            return;
        }
        let Some(old) = self.tasks.get_mut(index) else {
            return;
        };
        let mut task = old.clone();
        task.state = state;
        task.is_confirmed = true;
        task.take_status(status, &mut self.labels);
        if *old == task {
            old.is_confirmed = true;
            return;
        }
        self.withdraw(index);
        task.is_named = false;
        if let Some(old) = self.tasks.get_mut(index) {
            *old = task;
        }
        self.publish(index);
    }

    /// Removes a task of an earlier connection that has ended meanwhile. A task that runs can have the
    /// id of one that ended before.
    fn end_unless_confirmed(&mut self, framework: &Id, task: &Id) {
        if let Some(index) = self.find(framework, task)
            && self.tasks.get(index).is_some_and(|task| !task.is_confirmed)
        {
            self.remove_task(index);
        }
    }

    fn remove_task(&mut self, index: u32) {
        self.withdraw(index);
        let Some(task) = self.tasks.remove(index) else {
            return;
        };
        self.leave_agent(index, task.agent);
        if let Some(framework) = self.frameworks.get_mut(task.framework) {
            framework.tasks.remove(&task.id);
        }
    }
}
