//! Ports of a task: those it is found by, and those of the host that lead to it.

use std::sync::Arc;

use crate::label::{MAX, label};

/// Ports of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Discovery ports.
    pub discovery: Box<[Port]>,
    /// Ports of the host that lead to ports of the container, as the task asks for them.
    pub mappings: Box<[Mapping]>,
    /// The same, as the newest status has them.
    pub status_mappings: Box<[Mapping]>,
    /// True if a virtual address leads to a port of the host that the task has as a resource.
    pub has_virtual: bool,
}

/// A discovery port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Label of an SRV record: `_` and the name, or the number.
    pub service: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Number, not 0.
    pub number: u16,
    /// True if it is a port of the host, false if it is one of the container.
    pub is_hosts: bool,
}

/// A port of the host that leads to a port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Port of the host, not 0.
    pub host: u16,
    /// Port of the container.
    pub container: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP, also where none is named.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns the protocols that a text names, such as `udp,tcp`. Others are left out.
    pub fn named(text: &str) -> Vec<Protocol> {
        if text.trim().is_empty() {
            return vec![Protocol::Tcp];
        }
        let known = |name: &str| match name.trim().to_ascii_lowercase().as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            _ => None,
        };
        text.split(',').take(3).filter_map(known).collect()
    }

    /// Returns the label of an SRV record.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Tcp => "_tcp",
            Protocol::Udp => "_udp",
            Protocol::Sctp => "_sctp",
        }
    }
}

impl Ports {
    /// Returns true if the task has no port.
    pub fn is_empty(&self) -> bool {
        *self == Ports::default()
    }

    /// Returns true if a port of the task is a port of the host.
    pub fn has_host_port(&self) -> bool {
        self.has_virtual
            || !self.mappings.is_empty()
            || !self.status_mappings.is_empty()
            || self.discovery.iter().any(|port| port.is_hosts)
    }

    /// Returns the numbers of a discovery port in the container and on the host, if it has them.
    /// Without a network of its own, the container's ports are the host's.
    pub fn numbers(&self, port: &Port, is_on_agents_network: bool) -> (Option<u16>, Option<u16>) {
        if is_on_agents_network {
            return (Some(port.number), Some(port.number));
        }
        let mappings = self.status_mappings.iter().chain(&self.mappings);
        let mut mappings = mappings.filter(|mapping| mapping.protocol == port.protocol);
        if port.is_hosts {
            let mapping = mappings.find(|mapping| mapping.host == port.number);
            (mapping.map(|mapping| mapping.container), Some(port.number))
        } else {
            let mapping = mappings.find(|mapping| mapping.container == port.number);
            (Some(port.number), mapping.map(|mapping| mapping.host))
        }
    }
}

/// Returns the label of the SRV records of a port: its name, or its number where it has none.
pub fn service(name: &[u8], number: u16) -> String {
    let mut name = label(name);
    if name.is_empty() {
        name = number.to_string();
    }
    name.truncate(MAX - 1);
    format!("_{}", name.trim_end_matches('-'))
}
