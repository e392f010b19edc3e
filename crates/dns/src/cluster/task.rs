//! A task in little memory: what its records depend on.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::events::{self, ContainerStatus, List, NetworkInfo, PortMapping, State, Status};
use crate::label::label;
use crate::records::{Address, Mapping, Port, Ports, Protocol, service};

/// Beginning of the label that gives the n-th port of a task a virtual address.
const VIRTUAL: &[u8] = b"VIP_PORT";
/// Largest number of addresses of a task.
const MAX_ADDRESSES: usize = 256;

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Id.
    pub id: Arc<[u8]>,
    /// Number of the framework.
    pub framework: u32,
    /// Number of the agent.
    pub agent: u32,
    /// Label of the name.
    pub label: Arc<str>,
    /// Label of the framework's name when it was known first.
    pub framework_label: Option<Arc<str>>,
    /// State.
    pub state: State,
    /// Time of the status that the addresses are from, in seconds since 1970; 0: it had none.
    pub status_time: f64,
    /// Addresses of the container.
    pub addresses: Box<[Address]>,
    /// Ports, if there are any.
    pub ports: Option<Box<Ports>>,
    /// True if its records are published.
    pub is_named: bool,
    /// True if a master has confirmed it since the last connection.
    pub is_confirmed: bool,
}

/// Equal tasks have equal records.
impl PartialEq for Task {
    fn eq(&self, other: &Task) -> bool {
        (self.framework, self.agent, self.state) == (other.framework, other.agent, other.state)
            && (&self.id, &self.label) == (&other.id, &other.label)
            && self.framework_label == other.framework_label
            && self.status_time == other.status_time
            && self.addresses == other.addresses
            && self.ports == other.ports
    }
}

impl Task {
    /// Makes the task that a master describes.
    pub fn new(info: &events::Task, framework: u32, agent: u32, labels: &mut Labels) -> Task {
        let discovery = info.discovery.as_ref();
        let name = discovery.and_then(|discovery| discovery.name.as_ref());
        let name = name.filter(|name| !name.is_empty()).unwrap_or(&info.name);
        let mut task = Task {
            id: Arc::from(&*info.task_id.value),
            framework,
            agent,
            label: labels.intern(&label(name)),
            framework_label: None,
            state: info.state,
            status_time: 0.0,
            addresses: Box::default(),
            ports: None,
            is_named: false,
            is_confirmed: true,
        };
        task.set_ports(Ports {
            discovery: discovery_ports(info, labels),
            mappings: asked_mappings(info),
            status_mappings: Box::default(),
            has_virtual: has_virtual(info),
        });
        for status in &info.statuses.0 {
            task.take_status(status, labels);
        }
        task
    }

    /// Takes addresses and ports of a status that is not older than the one they are from. A status
    /// without a time is newer than those before it in a list.
    pub fn take_status(&mut self, status: &Status, labels: &mut Labels) {
        let Some(ContainerStatus { network_infos }) = &status.container_status else {
            return;
        };
        let time = status.timestamp.filter(|time| time.is_finite());
        if time.is_some_and(|time| time < self.status_time) {
            return;
        }
        self.status_time = time.unwrap_or(self.status_time);
        self.addresses = addresses(network_infos, labels);
        let mut ports = self
            .ports
            .take()
            .map_or_else(Ports::default, |ports| *ports);
        ports.status_mappings = mappings(network_infos.0.iter().flat_map(|n| &n.port_mappings.0));
        self.set_ports(ports);
    }

    fn set_ports(&mut self, ports: Ports) {
        self.ports = (!ports.is_empty()).then(|| Box::new(ports));
    }

    /// Returns the id as text of at most `limit` characters, without control characters.
    pub fn id_for_people(&self, limit: usize) -> String {
        let text = String::from_utf8_lossy(&self.id);
        text.chars()
            .filter(|c| !c.is_control())
            .take(limit)
            .collect()
    }
}

/// Returns the addresses of all networks.
fn addresses(networks: &List<NetworkInfo>, labels: &mut Labels) -> Box<[Address]> {
    let mut addresses: Vec<Address> = Vec::new();
    for network in &networks.0 {
        let label = labels.intern(&label(&network.name));
        let is_unlabelled = label.is_empty() && !network.name.is_empty();
        for address in &network.ip_addresses.0 {
            if let Some(ip) = parse_ip(&address.ip_address)
                && addresses.len() < MAX_ADDRESSES
            {
                let network = Arc::clone(&label);
                addresses.push(Address {
                    network,
                    is_unlabelled,
                    ip,
                });
            }
        }
    }
    addresses.into()
}

/// Returns the address in a text such as `9.0.0.2` or `fd01:b::2/80`: Mesos leaves the length of the
/// prefix behind IPv6 addresses of its own containers.
fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
    ip.parse().ok()
}

/// Returns the address in a process id such as `slave(1)@10.0.0.1:5051`.
pub fn ip_of_pid(pid: &[u8]) -> Option<IpAddr> {
    let pid = std::str::from_utf8(pid).ok()?;
    let (_, address) = pid.split_once('@')?;
    let (ip, _) = address.rsplit_once(':')?;
    ip.trim_matches(['[', ']']).parse().ok()
}

/// Returns the discovery ports of a task, one for each protocol.
fn discovery_ports(info: &events::Task, labels: &mut Labels) -> Box<[Port]> {
    let ports = info
        .discovery
        .iter()
        .flat_map(|discovery| &discovery.ports.ports.0);
    let mut found = Vec::new();
    for port in ports.filter(|port| port.number.0 != 0) {
        let number = port.number.0;
        let service = labels.intern(&service(&port.name, number));
        let is_hosts = port
            .labels
            .labels
            .0
            .iter()
            .any(|label| (&*label.key, &*label.value) == (b"network-scope", b"host"));
        for protocol in Protocol::named(&port.protocol.lossy()) {
            found.push(Port {
                service: Arc::clone(&service),
                protocol,
                number,
                is_hosts,
            });
        }
    }
    found.into()
}

/// Returns the ports of the host that a task asks for.
fn asked_mappings(info: &events::Task) -> Box<[Mapping]> {
    let container = info.container.iter();
    mappings(container.flat_map(|container| {
        let networks = container.network_infos.0.iter();
        let docker = container.docker.iter();
        let of_networks = networks.flat_map(|network| &network.port_mappings.0);
        of_networks.chain(docker.flat_map(|docker| &docker.port_mappings.0))
    }))
}

fn mappings<'a>(mappings: impl Iterator<Item = &'a PortMapping>) -> Box<[Mapping]> {
    let with_host = mappings.filter(|mapping| mapping.host_port.0 != 0);
    let mapped = with_host.flat_map(|mapping| {
        let protocols = Protocol::named(&mapping.protocol.lossy());
        protocols.into_iter().map(|protocol| Mapping {
            host: mapping.host_port.0,
            container: mapping.container_port.0,
            protocol,
        })
    });
    mapped.take(events::MAX_LIST).collect()
}

/// Returns true if a label gives one of the task's ports a virtual address.
fn has_virtual(info: &events::Task) -> bool {
    let is_ports = |resource: &&events::Resource| &*resource.name == b"ports";
    let resources = info.resources.0.iter().filter(is_ports);
    let has_ports = resources
        .filter_map(|resource| resource.ranges.as_ref())
        .any(|ranges| !ranges.range.0.is_empty());
    let is_virtual = |label: &events::KeyValue| {
        let number = label.key.strip_prefix(VIRTUAL);
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    has_ports && info.labels.labels.0.iter().any(is_virtual)
}

/// Labels, each once in memory.
#[derive(Debug, Default)]
pub struct Labels {
    labels: HashSet<Arc<str>>,
    /// Number after which those that nobody uses are looked for.
    next_cleaning: usize,
}

impl Labels {
    /// Returns the shared copy of a label.
    pub fn intern(&mut self, label: &str) -> Arc<str> {
        if let Some(label) = self.labels.get(label) {
            return Arc::clone(label);
        }
        if self.labels.len() >= self.next_cleaning {
            self.labels.retain(|label| Arc::strong_count(label) > 1);
            self.next_cleaning = (self.labels.len() * 2).max(1024);
        }
        let label: Arc<str> = label.into();
        self.labels.insert(Arc::clone(&label));
        label
    }
}
