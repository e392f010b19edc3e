//! Search for the tasks that a name or an address belongs to.

use std::net::IpAddr;

use domain::base::name::ToLabelIter;

use super::{Cluster, Task};
use crate::records::reverse_address;
use crate::server::lookup;
use crate::zone::DomainName;

/// Limit of tasks that are found.
const MAX_FOUND: usize = 1_000;

/// Name or address that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Owner of a record.
    Name(DomainName),
    /// Address of a container or an agent.
    Address(IpAddr),
}

impl Cluster {
    /// Returns the tasks with names that have a record of this name, or this address; at most 1000.
    pub fn search(&self, wanted: &Wanted) -> Vec<lookup::Task> {
        let named = self
            .tasks
            .iter()
            .map(|(_, task)| task)
            .filter(|task| task.is_named);
        let found = named.filter(|task| self.has(task, wanted));
        found
            .take(MAX_FOUND)
            .map(|task| self.describe(task))
            .collect()
    }

    fn has(&self, task: &Task, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Address(address) => {
                let agent = self.agents.get(task.agent).and_then(|agent| agent.ip);
                agent == Some(*address) || task.addresses.iter().any(|own| own.ip == *address)
            }
            // Making the records of a task takes long compared with this.
            Wanted::Name(name) if !may_have(task, name) => false,
            Wanted::Name(name) => {
                let instance = self.instance(task);
                let made = self.rules.instance(&instance).records;
                let mut owners = made.into_iter().chain(self.rules.pointers(&instance));
                owners.any(|record| record.owner == *name)
            }
        }
    }

    fn describe(&self, task: &Task) -> lookup::Task {
        let agent = self.agents.get(task.agent);
        lookup::Task {
            id: String::from_utf8_lossy(&task.id).into_owned(),
            name: task.label.to_string(),
            framework: task
                .framework_label
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            agent: agent
                .and_then(|agent| agent.hostname.as_deref())
                .unwrap_or_default()
                .to_owned(),
            problem: self.made(task).problem.map(|problem| problem.to_string()),
        }
    }
}

/// Tells whether a task can have a record of this name: its label is in all of them, except that of its
/// addresses' names.
fn may_have(task: &Task, name: &DomainName) -> bool {
    match reverse_address(name.as_slice()) {
        Some(address) => task.addresses.iter().any(|own| own.ip == address),
        None => name
            .iter_labels()
            .any(|label| label.as_slice() == task.label.as_bytes()),
    }
}
