//! Settings of the kernel's IP stack, in the network namespace of the calling thread.

use std::io;

use overlay_core::util::family::Family;

use crate::files::{read_setting, write_setting};
use crate::reconcile::observed::Forwarding;

/// Returns the path of the switch for forwarding on all devices. A host without IPv6 has
/// none for IPv6.
fn forwarding_path(family: Family) -> &'static str {
    family.pick(
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    )
}

/// Reads whether packets are forwarded.
pub(crate) fn forwarding() -> Forwarding {
    let read = |family| {
        let value = read_setting(forwarding_path(family)).ok()?;
        Some(value != "0")
    };
    Forwarding {
        v4: read(Family::V4),
        v6: read(Family::V6),
    }
}

/// Turns forwarding on.
///
/// With IPv6 forwarding on, the kernel accepts no router advertisements any more on devices
/// whose `accept_ra` is 1. Hosts that depend on them need 2 there, as for every other
/// program that routes IPv6 for containers; the planner warns them.
///
/// # Errors
/// The switch cannot be written.
pub(crate) fn enable_forwarding(family: Family) -> io::Result<()> {
    write_setting(forwarding_path(family), "1")
}

/// Returns an IPv6 setting of a device; `None`: the device has no IPv6, or does not exist.
pub(crate) fn ipv6_setting(device: &str, setting: &str) -> Option<String> {
    read_setting(&ipv6_setting_path(device, setting)).ok()
}

/// Turns duplicate address detection off on a device, so that its new IPv6 addresses can be
/// used at once.
///
/// # Errors
/// The setting cannot be written.
pub(crate) fn skip_dad(device: &str) -> io::Result<()> {
    write_setting(&ipv6_setting_path(device, "accept_dad"), "0")
}

/// Returns the path of a setting. (No name of a device contains a slash.)
fn ipv6_setting_path(device: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{device}/{setting}")
}
