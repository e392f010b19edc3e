//! Search for the tasks that a name or an address belongs to.

use std::net::IpAddr;

use super::{Cluster, Task};
use crate::records::reverse_name;
use crate::server::lookup;
use crate::zone::DomainName;

/// Limit of tasks that are found.
const MAX_FOUND: usize = 1_000;

/// What is looked for.
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
        let labels = match wanted {
            Wanted::Name(name) => labels(name),
            Wanted::Address(_) => Vec::new(),
        };
        let found = named.filter(|task| self.has(task, wanted, &labels));
        found
            .take(MAX_FOUND)
            .map(|task| self.describe(task))
            .collect()
    }

    /// Returns true if a task has what is wanted, a name of these labels or an address.
    fn has(&self, task: &Task, wanted: &Wanted, labels: &[&[u8]]) -> bool {
        match wanted {
            Wanted::Address(address) => {
                let agent = self.agents.get(task.agent).and_then(|agent| agent.ip);
                agent == Some(*address) || task.addresses.iter().any(|own| own.ip == *address)
            }
            Wanted::Name(name) if labels.last() == Some(&&b"arpa"[..]) => {
                let ips = task.addresses.iter().map(|address| address.ip);
                let is_own = ips.map(reverse_name).any(|owner| owner == *name);
                let instance = self.instance(task);
                is_own && !self.rules.pointers(&instance).is_empty()
            }
            Wanted::Name(name) => {
                // To make the records of all tasks would take seconds.
                let own = [
                    task.label.as_bytes(),
                    task.framework_label
                        .as_deref()
                        .unwrap_or_default()
                        .as_bytes(),
                ];
                if !labels.windows(2).any(|pair| *pair == own) {
                    return false;
                }
                let instance = self.instance(task);
                let made = self.rules.instance(&instance).records;
                made.iter().any(|record| record.owner == *name)
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

/// Returns the labels of a name, without that of the root.
fn labels(name: &DomainName) -> Vec<&[u8]> {
    let labels = name.iter().filter(|label| !label.is_root());
    labels.map(domain::base::name::Label::as_slice).collect()
}
