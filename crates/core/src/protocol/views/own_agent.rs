//! The state of an agent, as the agent itself shows it: `/overlay-agent/overlay`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::messages::AgentOverlayInfo;
use super::to_bytes;
use crate::host_api::usage::Addresses;
use crate::proto;

/// Returns the state of an agent.
pub fn agent<'a>(info: &'a proto::AgentInfo, details: &AgentDetails<'a>) -> Vec<u8> {
    let overlay = |overlay: &'a proto::AgentOverlayInfo| AgentOverlayInfo {
        addresses: details
            .addresses
            .and_then(|addresses| addresses.get(&overlay.info.name)),
        ..AgentOverlayInfo::from(overlay)
    };
    to_bytes(&OwnAgent {
        configuration_attempts: info.configuration_attempts,
        draining: details.draining,
        host_errors: details.host_errors,
        ip: &info.ip,
        master: details.master,
        master_authentication: details.master_authentication,
        notices: details.notices,
        overlays: info.overlays.iter().map(overlay).collect(),
        problems: details.problems,
        registered: details.registered,
    })
}

/// The state of an agent besides its [`proto::AgentInfo`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentDetails<'a> {
    /// The addresses of this host by overlay and containerizer.
    pub addresses: Option<&'a BTreeMap<String, BTreeMap<&'static str, Addresses>>>,
    /// The removed overlays that containers still use.
    pub draining: &'a [String],
    /// Errors of the host that are not of one overlay.
    pub host_errors: &'a [String],
    /// The pid of the leading overlay master.
    pub master: Option<&'a str>,
    /// How that master's messages are known to be its own.
    pub master_authentication: Option<&'a str>,
    /// The changes of its subnets that the operator should know.
    pub notices: &'a [String],
    /// The reasons why the agent lacks something that its master should assign.
    pub problems: &'a [String],
    /// The master has acknowledged the latest report.
    pub registered: bool,
}

#[derive(Serialize)]
struct OwnAgent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_attempts: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    draining: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    host_errors: &'a [String],
    ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_authentication: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notices: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<AgentOverlayInfo<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    problems: &'a [String],
    registered: bool,
}
