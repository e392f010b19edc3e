//! Switches of the kernel's IP configuration, in the network namespace of the calling
//! thread.

use std::fs;
use std::io;

use crate::reconcile::observed::Forwarding;

/// IPv4 forwarding, for all devices.
const V4: &str = "/proc/sys/net/ipv4/ip_forward";
/// IPv6 forwarding, for all devices; not there on a host without IPv6.
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Reads both switches.
pub(crate) fn forwarding() -> Forwarding {
    let read = |path| fs::read_to_string(path).ok().map(|text| text.trim() != "0");
    Forwarding {
        v4: read(V4),
        v6: read(V6),
    }
}

/// Turns forwarding on.
///
/// With IPv6 forwarding on, the kernel stops to accept router advertisements on
/// devices whose `accept_ra` is 1. Hosts that live on them need 2 there, as for
/// every other program that routes IPv6 for containers; they are warned.
pub(crate) fn enable_forwarding(v6: bool) -> io::Result<()> {
    fs::write(if v6 { V6 } else { V4 }, "1")
}

/// The setting of a device's IPv6; `None`: it has none, or is not there.
pub(crate) fn device6(device: &str, setting: &str) -> Option<String> {
    Some(
        fs::read_to_string(device6_path(device, setting))
            .ok()?
            .trim()
            .to_owned(),
    )
}

/// Lets IPv6 addresses of a device be used at once.
pub(crate) fn skip_dad(device: &str) -> io::Result<()> {
    fs::write(device6_path(device, "accept_dad"), "0")
}

/// (No name of a device has a slash in it.)
fn device6_path(device: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{device}/{setting}")
}
