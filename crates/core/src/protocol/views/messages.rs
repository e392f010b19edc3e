//! Protobuf messages as JSON.

use std::collections::BTreeMap;

use proto::agent_overlay_info::{State, state::Status};
use serde::Serialize;

use crate::allocation::allocator::Capacity;
use crate::host_api::usage::Addresses;
use crate::proto;

/// An overlay of an agent.
#[derive(Serialize)]
pub struct AgentOverlayInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<&'a BTreeMap<&'static str, Addresses>>,
    pub backend: BackendInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_bridge: Option<BridgeInfo<'a>>,
    pub info: OverlayInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesos_bridge: Option<BridgeInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<OverlayState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<&'a str>,
}

impl<'a> From<&'a proto::AgentOverlayInfo> for AgentOverlayInfo<'a> {
    fn from(overlay: &'a proto::AgentOverlayInfo) -> Self {
        AgentOverlayInfo {
            addresses: None,
            backend: BackendInfo {
                vxlan: overlay.backend.vxlan.as_ref().map(Into::into),
            },
            docker_bridge: overlay.docker_bridge.as_ref().map(Into::into),
            info: (&overlay.info).into(),
            mesos_bridge: overlay.mesos_bridge.as_ref().map(Into::into),
            state: overlay.state.as_ref().map(Into::into),
            subnet: overlay.subnet.as_deref(),
            subnet6: overlay.subnet6.as_deref(),
        }
    }
}

/// The definition of an overlay.
#[derive(Serialize)]
pub struct OverlayInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_subnets: Option<Capacity>,
    pub enabled: bool,
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix6: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<&'a str>,
}

impl<'a> From<&'a proto::OverlayInfo> for OverlayInfo<'a> {
    fn from(overlay: &'a proto::OverlayInfo) -> Self {
        OverlayInfo {
            agent_subnets: None,
            enabled: overlay.enabled(),
            name: &overlay.name,
            prefix: overlay.prefix,
            prefix6: overlay.prefix6,
            subnet: overlay.subnet.as_deref(),
            subnet6: overlay.subnet6.as_deref(),
        }
    }
}

/// The backend of an overlay.
#[derive(Serialize)]
pub struct BackendInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<VxLanInfo<'a>>,
}

/// The VXLAN device of an agent.
#[derive(Serialize)]
pub struct VxLanInfo<'a> {
    pub vni: u32,
    pub vtep_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_ip6: Option<&'a str>,
    pub vtep_mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_mtu: Option<u32>,
    pub vtep_name: &'a str,
}

impl<'a> From<&'a proto::VxLanInfo> for VxLanInfo<'a> {
    fn from(vxlan: &'a proto::VxLanInfo) -> Self {
        VxLanInfo {
            vni: vxlan.vni,
            vtep_ip: &vxlan.vtep_ip,
            vtep_ip6: vxlan.vtep_ip6.as_deref(),
            vtep_mac: &vxlan.vtep_mac,
            vtep_mtu: vxlan.vtep_mtu,
            vtep_name: &vxlan.vtep_name,
        }
    }
}

/// A bridge of an agent.
#[derive(Serialize)]
pub struct BridgeInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<&'a str>,
    pub name: &'a str,
}

impl<'a> From<&'a proto::BridgeInfo> for BridgeInfo<'a> {
    fn from(bridge: &'a proto::BridgeInfo) -> Self {
        BridgeInfo {
            ip: bridge.ip.as_deref(),
            ip6: bridge.ip6.as_deref(),
            name: &bridge.name,
        }
    }
}

/// The state of an overlay on its host.
#[derive(Serialize)]
pub struct OverlayState<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    pub status: &'static str,
}

impl<'a> From<&'a State> for OverlayState<'a> {
    fn from(state: &'a State) -> Self {
        // As in protobuf 2, an unknown number becomes the default.
        let status = state
            .status
            .and_then(|number| Status::try_from(number).ok())
            .unwrap_or(Status::Invalid);
        OverlayState {
            error: state.error.as_deref(),
            status: status.as_str_name(),
        }
    }
}
