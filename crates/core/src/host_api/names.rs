//! Names of the network devices that belong to the overlays.

use super::usage::Containerizer;

/// Longest name of a network device, in bytes (`IFNAMSIZ` without its NUL).
pub const MAX_DEVICE_NAME: usize = 15;

/// Start of the names of the Mesos containerizer's bridges; the overlay's name follows.
pub const MESOS_BRIDGE_PREFIX: &str = "m-";

/// Start of the names of Docker's bridges; the overlay's name follows.
pub const DOCKER_BRIDGE_PREFIX: &str = "d-";

impl Containerizer {
    /// Returns the start of the names of this containerizer's bridges.
    pub fn bridge_prefix(self) -> &'static str {
        match self {
            Containerizer::Mesos => MESOS_BRIDGE_PREFIX,
            Containerizer::Docker => DOCKER_BRIDGE_PREFIX,
        }
    }

    /// Returns the name of this containerizer's bridge for an overlay.
    pub fn bridge_name(self, overlay: &str) -> String {
        format!("{}{overlay}", self.bridge_prefix())
    }
}

/// Returns containerizer and overlay of a bridge with this name; `None`: no overlay's bridge
/// is called so.
pub fn parse_bridge_name(bridge: &str) -> Option<(Containerizer, &str)> {
    Containerizer::ALL.into_iter().find_map(|containerizer| {
        let overlay = bridge.strip_prefix(containerizer.bridge_prefix())?;
        Some((containerizer, overlay))
    })
}

/// Returns the name of the VXLAN device with this network identifier.
pub fn vtep_name(vni: u32) -> String {
    format!("vtep{vni}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_names_are_parsed_as_they_are_made() {
        for containerizer in Containerizer::ALL {
            let name = containerizer.bridge_name("dcos");
            assert_eq!(parse_bridge_name(&name), Some((containerizer, "dcos")));
        }
        assert_eq!(parse_bridge_name("docker0"), None);
        assert_eq!(Containerizer::Mesos.bridge_name("dcos"), "m-dcos");
        assert_eq!(Containerizer::Docker.bridge_name("dcos"), "d-dcos");
        assert_eq!(vtep_name(1024), "vtep1024");
    }
}
