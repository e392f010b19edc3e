//! The table as lines that can be kept on disk: what records depend on.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::task::Task;
use super::{Agent, Cluster, Framework, MAX_ENTRIES};
use crate::events::{State, Text};
use crate::records::{Address, Mapping, Port, Ports, Protocol};

/// Longest list in a line.
const MAX_LIST: usize = 10_000;

/// Part of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Addresses of the masters.
    Masters {
        /// The leading one.
        leader: Option<IpAddr>,
        /// All.
        all: Vec<IpAddr>,
    },
    /// A framework.
    Framework(KeptFramework),
    /// An agent.
    Agent(KeptAgent),
    /// A task with records.
    Task(KeptTask),
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptFramework {
    number: u32,
    id: Text,
    label: Option<String>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptAgent {
    number: u32,
    id: Text,
    hostname: Option<String>,
    ip: Option<IpAddr>,
}

/// A task with records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTask {
    id: Text,
    framework: u32,
    framework_label: Option<String>,
    agent: u32,
    label: String,
    time: f64,
    addresses: Vec<(String, IpAddr)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<(String, Protocol, u16, bool)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mappings: Vec<(u16, u16, Protocol)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    status_mappings: Vec<(u16, u16, Protocol)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_virtual: bool,
}

impl Cluster {
    /// Hands on the table, frameworks and agents first.
    ///
    /// # Errors
    /// Those of the function.
    pub fn keep<E>(&self, mut keep: impl FnMut(&Kept) -> Result<(), E>) -> Result<(), E> {
        keep(&Kept::Masters {
            leader: self.leader,
            all: self.masters.clone(),
        })?;
        for (number, framework) in self.frameworks.iter() {
            keep(&Kept::Framework(KeptFramework {
                number,
                id: Text(framework.id[..].into()),
                label: framework.label.as_deref().map(str::to_owned),
            }))?;
        }
        for (number, agent) in self.agents.iter() {
            keep(&Kept::Agent(KeptAgent {
                number,
                id: Text(agent.id[..].into()),
                hostname: agent.hostname.as_deref().map(str::to_owned),
                ip: agent.ip,
            }))?;
        }
        for (_, task) in self.tasks.iter().filter(|(_, task)| task.is_named) {
            keep(&Kept::Task(KeptTask::new(task)))?;
        }
        Ok(())
    }

    /// Takes a line of [`Cluster::keep`] back, in the same order, into a table that was empty before.
    /// Nothing of it is confirmed until a master is heard.
    ///
    /// # Errors
    /// The line cannot be from such a table. The text continues a phrase that names the line.
    pub fn restore(&mut self, kept: Kept) -> Result<(), &'static str> {
        match kept {
            Kept::Masters { leader, all } if all.len() <= MAX_LIST => self.set_masters(leader, all),
            Kept::Masters { .. } => return Err("names too many masters"),
            Kept::Framework(framework) => self.restore_framework(framework)?,
            Kept::Agent(agent) => self.restore_agent(agent)?,
            Kept::Task(task) => self.restore_task(task)?,
        }
        Ok(())
    }

    fn restore_framework(&mut self, kept: KeptFramework) -> Result<(), &'static str> {
        let id: Arc<[u8]> = Arc::from(kept.id.0);
        let label = kept.label.map(|label| self.labels.intern(&label));
        let entry = Framework {
            id: Arc::clone(&id),
            label,
            is_confirmed: false,
            tasks: std::collections::HashMap::new(),
        };
        let is_new = self.framework_ids.insert(id, kept.number).is_none();
        let is_free = self.frameworks.insert_at(kept.number, entry, MAX_ENTRIES);
        (is_new && is_free)
            .then_some(())
            .ok_or("has a framework twice, or too many")
    }

    fn restore_agent(&mut self, kept: KeptAgent) -> Result<(), &'static str> {
        let id: Arc<[u8]> = Arc::from(kept.id.0);
        let literal = kept
            .hostname
            .as_deref()
            .and_then(|name| name.parse::<IpAddr>().ok());
        let entry = Agent {
            id: Arc::clone(&id),
            hostname: kept.hostname.map(Into::into),
            pid_ip: None,
            ip: kept.ip,
            is_resolved: literal.is_some(),
            is_confirmed: false,
            tasks: Vec::new(),
        };
        let is_new = self.agent_ids.insert(id, kept.number).is_none();
        let is_free = self.agents.insert_at(kept.number, entry, MAX_ENTRIES);
        (is_new && is_free)
            .then_some(())
            .ok_or("has an agent twice, or too many")
    }

    fn restore_task(&mut self, kept: KeptTask) -> Result<(), &'static str> {
        let framework = self.frameworks.get(kept.framework);
        let framework = framework.ok_or("has a task of a framework that is not there")?;
        if self.agents.get(kept.agent).is_none() {
            return Err("has a task of an agent that is not there");
        }
        if framework.tasks.contains_key(&*kept.id.0) {
            return Err("has a task twice");
        }
        let mut intern = |label: &str| {
            let is_label = label.len() <= crate::label::MAX && label.is_ascii();
            is_label
                .then(|| self.labels.intern(label))
                .ok_or("has a label that is none")
        };
        let mut addresses = Vec::new();
        for (network, ip) in &kept.addresses {
            let network = intern(network)?;
            addresses.push(Address {
                network,
                // A master tells it again.
                is_unlabelled: false,
                ip: *ip,
            });
        }
        let mut discovery = Vec::new();
        for (service, protocol, number, is_hosts) in &kept.ports {
            discovery.push(Port {
                service: intern(service)?,
                protocol: *protocol,
                number: *number,
                is_hosts: *is_hosts,
            });
        }
        let mapped = |mappings: &[(u16, u16, Protocol)]| {
            let mapping = |(host, container, protocol): &(u16, u16, Protocol)| Mapping {
                host: *host,
                container: *container,
                protocol: *protocol,
            };
            mappings.iter().map(mapping).collect()
        };
        let ports = Ports {
            discovery: discovery.into(),
            mappings: mapped(&kept.mappings),
            status_mappings: mapped(&kept.status_mappings),
            has_virtual: kept.has_virtual,
        };
        let label = intern(&kept.label)?;
        let framework_label = kept
            .framework_label
            .as_deref()
            .map(&mut intern)
            .transpose()?;
        self.insert(Task {
            id: Arc::from(kept.id.0),
            framework: kept.framework,
            agent: kept.agent,
            label,
            framework_label,
            state: State::Running,
            status_time: kept.time,
            addresses: addresses.into(),
            ports: (!ports.is_empty()).then(|| Box::new(ports)),
            is_named: false,
            is_confirmed: false,
        });
        Ok(())
    }
}

impl KeptTask {
    fn new(task: &Task) -> KeptTask {
        let ports = task.ports.as_deref();
        let triples = |mappings: &[Mapping]| {
            let triple = |mapping: &Mapping| (mapping.host, mapping.container, mapping.protocol);
            mappings.iter().map(triple).collect()
        };
        let discovery = ports.into_iter().flat_map(|ports| &ports.discovery);
        let address = |address: &Address| (address.network.to_string(), address.ip);
        KeptTask {
            id: Text(task.id[..].into()),
            framework: task.framework,
            framework_label: task.framework_label.as_deref().map(str::to_owned),
            agent: task.agent,
            label: task.label.to_string(),
            time: task.status_time,
            addresses: task.addresses.iter().map(address).collect(),
            ports: discovery
                .map(|port| {
                    (
                        port.service.to_string(),
                        port.protocol,
                        port.number,
                        port.is_hosts,
                    )
                })
                .collect(),
            mappings: ports.map_or_else(Vec::new, |ports| triples(&ports.mappings)),
            status_mappings: ports.map_or_else(Vec::new, |ports| triples(&ports.status_mappings)),
            has_virtual: ports.is_some_and(|ports| ports.has_virtual),
        }
    }
}
