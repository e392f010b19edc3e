//! The health of a master: `/overlay-master/health`.

use serde::Serialize;

use super::to_bytes;

/// The health of a master, for load balancers.
#[derive(Serialize)]
pub struct Health<'a> {
    /// The address of the leading master.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The reason why it does not serve, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The status, `serving`, `standby`, `recovering` or `broken`.
    pub status: &'static str,
}

impl Health<'_> {
    /// Returns the health as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        to_bytes(self)
    }
}
