//! DNS records of tasks and masters.
//!
//! With `T` the label of a task's name and `F` that of its framework's, in each domain:
//!
//! | name | records |
//! |---|---|
//! | `T.F.containerip` | A and AAAA of all addresses of the container |
//! | `T.F.agentip` | A (or AAAA) of the agent |
//! | `T.F.autoip` | the agent's if a port of the task is one of the host, else the container's |
//! | `T.F.N.overlay` | A and AAAA of the container on network `N` |
//! | `_P._tcp.T.F.containerip`, … | SRV of the discovery port called `P` (or with this number) |
//! | `I.T.F.containerip`, … | A and AAAA of one instance, which SRV records lead to |
//! | `leader`, `master` | A (or AAAA) of the leading master, and of all |
//!
//! `I` is the first address of the instance with dashes, such as `9-0-1-2`. Instances of one name have
//! ports of their own, so that an SRV record cannot lead to the name that they share. Below `agentip`
//! SRV records have ports of the host, below `containerip` ports of the container, and below `autoip`
//! those that belong to its addresses.
//!
//! In the reverse zones of the ranges, each address of a container has a PTR record with
//! `T.F.containerip` in the first domain.

mod ports;
mod reverse;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use ports::{Mapping, Port, Ports, Protocol, service};
pub use reverse::{
    address as reverse_address, is_reverse, owner as reverse_name, zones as reverse_zones,
};

use crate::zone::{Data, DomainName, Record};

/// Names and ranges that records are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Domains, such as `dcos.thisdcos.directory`. The first one is in PTR records.
    pub domains: Vec<DomainName>,
    /// Ranges of addresses that have PTR records.
    pub ranges: Vec<IpNet>,
}

/// An address of a task's container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Label of the network; empty: it has no name, or none from which a label can be made.
    pub network: Arc<str>,
    /// True if the network has a name, from which no label can be made.
    pub is_unlabelled: bool,
    /// Address.
    pub ip: IpAddr,
}

/// A running task, as far as its records depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// Label of its name.
    pub task: &'a str,
    /// Label of its framework's name.
    pub framework: &'a str,
    /// Address of its agent, if it is known.
    pub agent: Option<IpAddr>,
    /// Addresses of its container.
    pub addresses: &'a [Address],
    /// Ports, if it has any.
    pub ports: Option<&'a Ports>,
}

/// Reason why a task has no names, or not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The label of its name is empty.
    #[error("its name has no letter or digit")]
    EmptyTask,
    /// The label of its framework's name is empty.
    #[error("the name of its framework has no letter or digit")]
    EmptyFramework,
    /// The label of a network's name is empty.
    #[error("the name of one of its networks has no letter or digit")]
    EmptyNetwork,
    /// A name has more than 255 bytes.
    #[error("a name would be longer than 255 bytes; use a shorter domain")]
    TooLong,
}

/// Records of a task, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Records.
    pub records: Vec<Record>,
    /// Reason why some are missing.
    pub problem: Option<Problem>,
}

impl Rules {
    /// Returns the records of a task.
    pub fn instance(&self, instance: &Instance<'_>) -> Made {
        let mut made = Made::default();
        if instance.task.is_empty() {
            made.problem = Some(Problem::EmptyTask);
        } else if instance.framework.is_empty() {
            made.problem = Some(Problem::EmptyFramework);
        } else {
            for domain in &self.domains {
                let mut maker = Maker {
                    instance,
                    domain,
                    made: &mut made,
                };
                maker.addresses();
                maker.networks();
                maker.ports();
            }
            made.records.extend(self.pointers(instance));
        }
        made
    }

    /// Returns the records of the masters.
    pub fn masters(&self, leader: Option<IpAddr>, masters: &[IpAddr]) -> Vec<Record> {
        let records = self.domains.iter().flat_map(|domain| {
            let named = |label: &'static str| {
                move |ip: &IpAddr| {
                    let owner = compose(&[label], domain)?;
                    let data = data(*ip);
                    Some(Record { owner, data })
                }
            };
            let leader = leader.as_ref().into_iter().filter_map(named("leader"));
            leader.chain(masters.iter().filter_map(named("master")))
        });
        records.collect()
    }

    /// Returns the PTR records of a task, which are in reverse zones. None: it has no names.
    pub fn pointers(&self, instance: &Instance<'_>) -> Vec<Record> {
        let Some(domain) = self.domains.first() else {
            return Vec::new();
        };
        let labels = [instance.task, instance.framework, CONTAINER];
        if labels.contains(&"") {
            return Vec::new();
        }
        let is_in_range = |ip: &IpAddr| self.ranges.iter().any(|range| range.contains(ip));
        let ips = instance.addresses.iter().map(|address| address.ip);
        let pointer = |ip| {
            Some(Record {
                owner: reverse_name(ip),
                data: Data::Ptr(compose(&labels, domain)?),
            })
        };
        ips.filter(is_in_range).filter_map(pointer).collect()
    }
}

/// Label of the names with the container's addresses.
const CONTAINER: &str = "containerip";
/// Label of the names with the agent's address.
const AGENT: &str = "agentip";
/// Label of the names with the addresses that others use.
const AUTO: &str = "autoip";
/// Label of the names with the addresses on one network.
const OVERLAY: &str = "overlay";

/// Maker of a task's records in one domain.
struct Maker<'a, 'b> {
    instance: &'a Instance<'a>,
    domain: &'a DomainName,
    made: &'b mut Made,
}

impl Maker<'_, '_> {
    fn addresses(&mut self) {
        let Instance {
            task,
            framework,
            agent,
            addresses,
            ..
        } = *self.instance;
        for address in addresses {
            self.add(&[task, framework, CONTAINER], data(address.ip));
        }
        if let Some(agent) = agent {
            self.add(&[task, framework, AGENT], data(agent));
        }
        if self.instance.is_found_at_agent() {
            if let Some(agent) = agent {
                self.add(&[task, framework, AUTO], data(agent));
            }
        } else {
            for address in addresses {
                self.add(&[task, framework, AUTO], data(address.ip));
            }
        }
    }

    fn networks(&mut self) {
        let Instance {
            task, framework, ..
        } = *self.instance;
        for address in self.instance.addresses {
            if address.is_unlabelled {
                self.made.problem.get_or_insert(Problem::EmptyNetwork);
            }
            if !address.network.is_empty() {
                let labels = [task, framework, &address.network, OVERLAY];
                self.add(&labels, data(address.ip));
            }
        }
    }

    fn ports(&mut self) {
        let Some(ports) = self.instance.ports else {
            return;
        };
        let is_on_agents_network = self.instance.is_on_agents_network();
        let mut used = (false, false);
        for port in &ports.discovery {
            let (container, host) = ports.numbers(port, is_on_agents_network);
            let container = container.filter(|_| !self.instance.addresses.is_empty());
            let host = host.filter(|_| self.instance.agent.is_some());
            let auto_kind = match self.instance.is_found_at_agent() {
                true => host.map(|number| (number, AGENT)),
                false => container.map(|number| (number, CONTAINER)),
            };
            let kinds = [
                (CONTAINER, container.map(|number| (number, CONTAINER))),
                (AGENT, host.map(|number| (number, AGENT))),
                (AUTO, auto_kind),
            ];
            for (kind, lead) in kinds {
                if let Some((number, target)) = lead {
                    self.service(port, kind, number, target);
                }
            }
            used.0 |= container.is_some();
            used.1 |= host.is_some();
        }
        if used.0 {
            for address in self.instance.addresses {
                self.target_address(CONTAINER, address.ip);
            }
        }
        if let Some(agent) = self.instance.agent.filter(|_| used.1) {
            self.target_address(AGENT, agent);
        }
    }

    /// Adds the SRV record of a port below the name of a kind.
    fn service(&mut self, port: &Port, kind: &str, number: u16, target: &str) {
        let Instance {
            task, framework, ..
        } = *self.instance;
        let Some(first) = self.first_address(target) else {
            return;
        };
        let Some(target) = compose(&[&first, task, framework, target], self.domain) else {
            self.made.problem = Some(Problem::TooLong);
            return;
        };
        let labels = [&port.service, port.protocol.label(), task, framework, kind];
        let port = number;
        self.add(&labels, Data::Srv { port, target });
    }

    /// Adds an address of the name that SRV records lead to.
    fn target_address(&mut self, kind: &str, ip: IpAddr) {
        if let Some(first) = self.first_address(kind) {
            let Instance {
                task, framework, ..
            } = *self.instance;
            self.add(&[&first, task, framework, kind], data(ip));
        }
    }

    /// Returns the label of an instance among those that share a name.
    fn first_address(&self, kind: &str) -> Option<String> {
        let ip = match kind {
            AGENT => self.instance.agent?,
            _ => self.instance.addresses.first()?.ip,
        };
        Some(match ip {
            IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
            // Not the short form, which can begin or end with a colon.
            IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
        })
    }

    fn add(&mut self, labels: &[&str], data: Data) {
        match compose(labels, self.domain) {
            Some(owner) => self.made.records.push(Record { owner, data }),
            None => self.made.problem = Some(Problem::TooLong),
        }
    }
}

impl Instance<'_> {
    /// Returns true if the task is to be found at its agent's address: one of its ports is a port of
    /// the host, or it has no address of its own.
    fn is_found_at_agent(&self) -> bool {
        self.addresses.is_empty() || self.ports.is_some_and(Ports::has_host_port)
    }

    /// Returns true if the task has no network of its own.
    fn is_on_agents_network(&self) -> bool {
        let mut ips = self.addresses.iter().map(|address| address.ip);
        ips.all(|ip| Some(ip) == self.agent)
    }
}

/// Returns the name with these labels in a domain. `None`: it would be too long.
pub fn compose(labels: &[&str], domain: &DomainName) -> Option<DomainName> {
    let size = labels.iter().map(|label| label.len() + 1).sum::<usize>() + domain.len();
    let mut octets = Vec::with_capacity(size);
    for label in labels {
        octets.push(u8::try_from(label.len()).ok()?);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.extend_from_slice(domain.as_slice());
    DomainName::from_octets(octets.into_boxed_slice()).ok()
}

/// Returns the data of an address.
pub fn data(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}
