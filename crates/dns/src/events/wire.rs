//! Messages of Mesos's operator API, version 1, as JSON: the fields that names depend on.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::Text;

/// Longest list inside a task or status. The rest is ignored.
pub const MAX_LIST: usize = 1024;

/// An id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
pub struct Id {
    /// Text of the value.
    #[serde(default)]
    pub value: Text,
}

/// Information about a framework.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct FrameworkInfo {
    /// Id.
    #[serde(default)]
    pub id: Id,
    /// Name.
    #[serde(default)]
    pub name: Text,
}

/// Information about an agent, with the address in its `pid`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct AgentInfo {
    /// Id.
    #[serde(default)]
    pub id: Id,
    /// Name or address of the host.
    #[serde(default)]
    pub hostname: Text,
    /// Process, such as `slave(1)@10.0.0.1:5051`.
    #[serde(skip)]
    pub pid: Text,
}

/// A task.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Task {
    /// Name.
    pub name: Text,
    /// Id.
    pub task_id: Id,
    /// Framework that it belongs to.
    pub framework_id: Id,
    /// Agent that it runs on.
    pub agent_id: Id,
    /// State.
    pub state: State,
    /// Statuses, the newest last unless their times say otherwise.
    pub statuses: List<Status>,
    /// Labels.
    pub labels: Labels,
    /// Name and ports to be found by.
    pub discovery: Option<Discovery>,
    /// Container.
    pub container: Option<Container>,
    /// Resources.
    pub resources: List<Resource>,
}

/// State of a task, as far as names depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Running.
    Running,
    /// Not running, but it may run later, or again.
    #[default]
    Waiting,
    /// Ended: it will never run again.
    Ended,
}

/// Status of a task.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Status {
    /// The task.
    pub task_id: Id,
    /// Time, in seconds since 1970. Some executors do not set it.
    pub timestamp: Option<f64>,
    /// Networks of the container.
    pub container_status: Option<ContainerStatus>,
}

/// Status of a container.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Networks.
    pub network_infos: List<NetworkInfo>,
}

/// A network of a container.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct NetworkInfo {
    /// Name of the network.
    pub name: Text,
    /// Addresses.
    pub ip_addresses: List<IpAddress>,
    /// Ports of the host that lead to it.
    pub port_mappings: List<PortMapping>,
}

/// An address of a container.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct IpAddress {
    /// Address, for some with the length of a prefix behind a slash.
    pub ip_address: Text,
}

/// A port of the host that leads to a port of a container.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// Port of the host.
    pub host_port: Port,
    /// Port of the container.
    pub container_port: Port,
    /// Protocol, such as `tcp`.
    pub protocol: Text,
}

/// Labels.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Labels {
    /// The list of them.
    pub labels: List<KeyValue>,
}

/// A label.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// Key.
    pub key: Text,
    /// Value.
    pub value: Text,
}

/// Name and ports that a task is found by.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Name.
    pub name: Option<Text>,
    /// Ports.
    pub ports: Ports,
}

/// Ports that a task is found by.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Ports {
    /// The list of them.
    pub ports: List<DiscoveryPort>,
}

/// A port that a task is found by.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct DiscoveryPort {
    /// Number.
    pub number: Port,
    /// Name.
    pub name: Text,
    /// Protocol, such as `tcp`, or several with commas.
    pub protocol: Text,
    /// Labels. `network-scope` is `host` or `container`.
    pub labels: Labels,
}

/// Container of a task.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Container {
    /// Networks that were asked for.
    pub network_infos: List<NetworkInfo>,
    /// Part that only Docker's containers have.
    pub docker: Option<Docker>,
}

/// Part that only Docker's containers have.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Docker {
    /// Ports of the host that lead to it.
    pub port_mappings: List<PortMapping>,
}

/// A resource of a task.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Name, such as `ports`.
    pub name: Text,
    /// Ranges, unless it is a number.
    pub ranges: Option<Ranges>,
}

/// Ranges of numbers.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Ranges {
    /// The list of them.
    pub range: List<IgnoredAny>,
}

/// The first [`MAX_LIST`] elements of a list.
#[derive(Clone, Debug)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_LIST
            && let Some(element) = seq.next_element()?
        {
            list.push(element);
        }
        if list.len() == MAX_LIST {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(List(list))
    }
}

/// A port number. 0 stands for none, and for numbers that no port can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port(pub u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        deserializer.deserialize_u64(PortVisitor)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
        Ok(Port(u16::try_from(number).unwrap_or(0)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Port, E> {
        Ok(Port(u16::try_from(number).unwrap_or(0)))
    }

    // Some versions of Mesos write all numbers as floating point.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Port, E> {
        let is_port = (0.0..65536.0).contains(&number) && number.fract() == 0.0;
        Ok(Port(if is_port { number as u16 } else { 0 }))
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        Ok(State::named(&Text::deserialize(deserializer)?))
    }
}

impl State {
    fn named(name: &[u8]) -> State {
        match name {
            b"TASK_RUNNING" => State::Running,
            b"TASK_FINISHED"
            | b"TASK_FAILED"
            | b"TASK_KILLED"
            | b"TASK_ERROR"
            | b"TASK_LOST"
            | b"TASK_DROPPED"
            | b"TASK_GONE"
            | b"TASK_GONE_BY_OPERATOR" => State::Ended,
            _ => State::Waiting,
        }
    }
}
