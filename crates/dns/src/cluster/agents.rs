//! Agents, and the addresses of their hosts.
//!
//! An agent is found at the address of its host name, or else at the one in its process id, which it
//! has told the master. On many hosts their own name leads to 127.0.1.1: an address of the loopback is
//! taken only if the agent has told one, since then the whole cluster is on one host.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Agent, Cluster, task};
use crate::events::{AgentInfo, Id};

impl Agent {
    /// Returns true if others may find the agent at this address.
    fn can_be_at(&self, ip: IpAddr) -> bool {
        let is_alone = || self.pid_ip.is_some_and(|ip| ip.is_loopback());
        !ip.is_unspecified() && (!ip.is_loopback() || is_alone())
    }
}

impl Cluster {
    /// Returns host names of agents whose addresses are to be looked up; with `all`, also those that
    /// have been.
    pub fn hostnames(&self, all: bool) -> HashSet<String> {
        let agents = self.agents.iter().map(|(_, agent)| agent);
        let wanted = agents.filter(|agent| all || !agent.is_resolved);
        let names = wanted.filter_map(|agent| agent.hostname.as_deref());
        names
            .filter(|name| name.parse::<IpAddr>().is_err())
            .map(str::to_owned)
            .collect()
    }

    /// Sets the address of a host name. `None`: it has none, and the address in the agent's process id
    /// is taken.
    pub fn resolve(&mut self, hostname: &str, ip: Option<IpAddr>) {
        let of_name = |agent: &Agent| agent.hostname.as_deref() == Some(hostname);
        let found: Vec<u32> = self
            .agents
            .iter()
            .filter(|(_, agent)| of_name(agent))
            .map(|(index, _)| index)
            .collect();
        for index in found {
            let Some(agent) = self.agents.get_mut(index) else {
                continue;
            };
            agent.is_resolved = true;
            // A name server that is down for a moment takes no address away.
            let found = ip.filter(|ip| agent.can_be_at(*ip));
            let address = found.or(agent.ip).or(agent.pid_ip);
            if address != agent.ip {
                self.change_agent(index, |agent| agent.ip = address);
            }
        }
    }

    pub(super) fn add_agent(&mut self, info: &AgentInfo) {
        let Some(index) = self.agent(&info.id) else {
            return;
        };
        self.waiting.is_back(&info.id.value);
        let hostname: Box<str> = info.hostname.lossy().into();
        let pid_ip = task::ip_of_pid(&info.pid).filter(|ip| !ip.is_unspecified());
        let literal: Option<IpAddr> = hostname.parse().ok();
        self.change_agent(index, |agent| {
            agent.is_confirmed = true;
            let former = agent.pid_ip;
            agent.pid_ip = pid_ip.or(former);
            if agent.hostname.as_deref() != Some(&*hostname) {
                // Until the host name has been looked up, it is found at the address that it has told.
                let literal_ip = literal.filter(|ip| agent.can_be_at(*ip));
                agent.ip = literal_ip.or(agent.pid_ip);
                agent.is_resolved = literal.is_some();
                agent.hostname = Some(hostname);
            } else if agent.ip == former {
                agent.ip = agent.pid_ip;
            }
        });
    }

    /// Changes an agent, and with it the records of its tasks.
    fn change_agent(&mut self, index: u32, change: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.agents.get_mut(index) else {
            return;
        };
        let before = (agent.hostname.is_some(), agent.ip);
        let old_ip = agent.ip;
        change(agent);
        let after = (agent.hostname.is_some(), agent.ip);
        if before == after {
            return;
        }
        // What was published is withdrawn as it was.
        let new_ip = std::mem::replace(&mut agent.ip, old_ip);
        let tasks = agent.tasks.clone();
        tasks.iter().for_each(|task| self.withdraw(*task));
        if let Some(agent) = self.agents.get_mut(index) {
            agent.ip = new_ip;
        }
        tasks.iter().for_each(|task| self.publish(*task));
    }

    pub(super) fn remove_agent(&mut self, id: &Id) {
        self.waiting.is_back(&id.value);
        if let Some(index) = self.agent_ids.get(&*id.value) {
            self.forget_agent(*index);
        }
    }

    pub(super) fn forget_agent(&mut self, index: u32) {
        let tasks = self.agents.get(index).map(|agent| agent.tasks.clone());
        for task in tasks.into_iter().flatten() {
            self.remove_task(task);
        }
        if let Some(agent) = self.agents.remove(index) {
            self.agent_ids.remove(&agent.id);
        }
    }
}
