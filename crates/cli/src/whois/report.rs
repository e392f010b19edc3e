//! Report of `mesos-overlay whois`.

use std::io;

use overlay_core::util::line::one_line;
use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::Finding;
use crate::output::Report;
use crate::output::page::{DIM, Page, styled};

/// Longest value that is shown, in characters.
const MAX_VALUE: usize = 500;

/// What has an address or a name.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Whois {
    /// Address or name that was asked for.
    pub query: String,
    /// What has it. Several tasks can have one name.
    pub matches: Vec<Match>,
    /// What could not be seen, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Nothing has it, if there is one.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// What a name or an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Address of a container, or the container itself.
    #[default]
    Container,
    /// Address of a bridge: the containers' gateway.
    Gateway,
    /// Tunnel endpoint of an agent.
    Vtep,
    /// Agent, or its address on the underlay.
    Agent,
    /// Leading master, or its address.
    Master,
    /// First address of a subnet.
    NetworkAddress,
    /// Last address of an IPv4 subnet.
    BroadcastAddress,
    /// Address that nothing has, in the subnet of an agent.
    Free,
    /// Address in a range, which no agent has.
    Unassigned,
    /// Overlay.
    Overlay,
}

impl Role {
    /// Returns the role in words.
    fn words(self) -> &'static str {
        match self {
            Role::Container => "container",
            Role::Gateway => "gateway: address of the bridge",
            Role::Vtep => "VTEP: tunnel endpoint of the agent",
            Role::Agent => "agent",
            Role::Master => "leading master",
            Role::NetworkAddress => "network address of the subnet, which no container has",
            Role::BroadcastAddress => "broadcast address of the subnet, which no container has",
            Role::Free => "free: no container has it",
            Role::Unassigned => "not assigned: no agent has a subnet with it",
            Role::Overlay => "overlay",
        }
    }
}

/// One that has the name or the address.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Match {
    /// What it is.
    pub role: Role,
    /// Overlay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<String>,
    /// Range of the overlay or of the VTEPs, or ranges of an overlay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
    /// Address of the agent on the underlay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Hostname of the agent in Mesos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Subnets of the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// Bridge that the address belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Containerizer of the bridge: `mesos` or `docker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerizer: Option<String>,
    /// Id of the container. Those of containers around it are in front, separated by dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Addresses of the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
    /// Id of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// State of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_state: Option<String>,
    /// Name of the framework.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework_name: Option<String>,
    /// Id of the framework.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<String>,
    /// VTEP addresses of the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vtep: Vec<String>,
    /// Hardware address of the agent's VTEP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<String>,
}

impl Report for Whois {
    const COMMAND: &'static str = "whois";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        for (index, one) in self.matches.iter().enumerate() {
            if index > 0 {
                page.line("")?;
            }
            page.line(format_args!("{}: {}", self.query, one.role.words()))?;
            for (label, value) in one.lines() {
                page.line(format_args!(
                    "  {} {value}",
                    styled(DIM, format_args!("{label:<13}"))
                ))?;
            }
        }
        for note in &self.notes {
            page.line(format_args!("\n{} {note}", styled(DIM, "note:")))?;
        }
        Ok(())
    }
}

impl Match {
    /// Returns the lines about it, each with its label.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let with = |name: &Option<String>, id: &Option<String>| match (name, id) {
            (Some(name), Some(id)) if name != id => Some(format!("{name} ({id})")),
            (name, id) => name.as_ref().or(id.as_ref()).cloned(),
        };
        let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(", "));
        let agent = match (&self.agent, &self.hostname) {
            (Some(agent), Some(hostname)) if agent != hostname => {
                Some(format!("{agent} ({hostname})"))
            }
            (agent, hostname) => agent.as_ref().or(hostname.as_ref()).cloned(),
        };
        let bridge = match (&self.bridge, &self.containerizer) {
            (Some(bridge), Some(of)) => Some(format!("{bridge} (containers of {of})")),
            (bridge, _) => bridge.clone(),
        };
        let lines = [
            ("overlay", self.overlay.clone()),
            ("range", list(&self.ranges)),
            ("agent", agent),
            ("subnets", list(&self.subnets)),
            ("bridge", bridge),
            ("container", self.container_id.clone()),
            ("addresses", list(&self.addresses)),
            ("task", with(&self.task_name, &self.task_id)),
            ("state", self.task_state.clone()),
            ("framework", with(&self.framework_name, &self.framework_id)),
            ("VTEP", list(&self.vtep)),
            ("MAC of VTEP", self.vtep_mac.clone()),
        ];
        let said = lines.into_iter();
        // Names are those that frameworks and hosts give themselves.
        said.filter_map(|(label, value)| Some((label, one_line(&value?, MAX_VALUE).into_owned())))
            .collect()
    }
}
