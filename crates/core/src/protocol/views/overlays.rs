//! The overlays of a master: `/overlay-master/overlays`.

use serde::Serialize;

use super::messages::OverlayInfo;
use super::to_bytes;
use crate::allocation::allocator::Capacity;
use crate::proto;

/// Returns all overlays. `revision` is the number of changes by operators.
pub fn overlays<'a>(revision: u64, overlays: impl Iterator<Item = Overlay<'a>>) -> Vec<u8> {
    to_bytes(&Overlays {
        overlays: overlays.collect(),
        revision,
    })
}

/// Returns one overlay.
pub fn overlay(overlay: &Overlay<'_>) -> Vec<u8> {
    to_bytes(overlay)
}

#[derive(Serialize)]
struct Overlays<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overlays: Vec<Overlay<'a>>,
    revision: u64,
}

/// An overlay.
#[derive(Debug, Serialize)]
pub struct Overlay<'a> {
    /// The number of subnets for agents, if it is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_subnets: Option<Capacity>,
    /// The number of agents that have it.
    pub agents: usize,
    /// The number of connected agents that have it, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<usize>,
    /// The number of addresses that containers can have on these agents, if it was counted. Of
    /// IPv4, if the overlay has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_addresses: Option<u64>,
    /// The reason why an overlay of the configuration is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// The number of agents that report an error of it, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<usize>,
    /// The configured definition, if another one is in force.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "overlay_info"
    )]
    pub file: Option<&'a proto::OverlayInfo>,
    /// The agents that have to release an overlay that is not in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
    /// The definition in force, or the last one.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "overlay_info"
    )]
    pub info: Option<&'a proto::OverlayInfo>,
    /// The name.
    pub name: &'a str,
    /// The source of the definition: `file`, `stored` or `none`.
    pub source: &'static str,
    /// The state, such as `active`.
    pub state: &'static str,
}

fn overlay_info<S: serde::Serializer>(
    info: &Option<&proto::OverlayInfo>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    info.map(OverlayInfo::from).serialize(serializer)
}
