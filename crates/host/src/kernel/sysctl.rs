//! Settings of the kernel's IP stack, in the network namespace of the calling thread.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use overlay_core::host_api::desired::Desired;
use overlay_core::util::family::Family;

use crate::files::{read_setting, write_setting};
use crate::reconcile::forwarding_devices;
use crate::reconcile::observed::{DeviceDefaults, Forwarding};

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

/// Returns the path of the switch for forwarding of packets that come from a device.
fn device_forwarding_path(device: &str, family: Family) -> String {
    let family = family.pick("ipv4", "ipv6");
    format!("/proc/sys/net/{family}/conf/{device}/forwarding")
}

/// Returns whether packets of a family that come from a device are not forwarded.
pub(crate) fn is_closed(device: &str, family: Family) -> bool {
    read_setting(&device_forwarding_path(device, family)).is_ok_and(|value| value == "0")
}

/// Returns the existing devices of the overlays that forward no packets of a family which they
/// have to forward.
pub(crate) fn not_forwarding(desired: &Desired) -> BTreeSet<(String, Family)> {
    let devices = forwarding_devices(desired).into_iter();
    let closed = devices.filter(|(device, family)| is_closed(device, *family));
    closed
        .map(|(device, family)| (device.to_owned(), family))
        .collect()
}

/// Turns forwarding of packets that come from a device on.
///
/// # Errors
/// The switch cannot be written.
pub(crate) fn enable_device_forwarding(device: &str, family: Family) -> io::Result<()> {
    write_setting(&device_forwarding_path(device, family), "1")
}

/// Reads the settings of new devices.
pub(crate) fn defaults() -> DeviceDefaults {
    let families = Family::BOTH.into_iter();
    DeviceDefaults {
        not_forwarding: families
            .filter(|family| is_closed("default", *family))
            .collect(),
        is_without_ipv6: is_without_ipv6("default"),
    }
}

/// Returns whether IPv6 is turned off on a device.
pub(crate) fn is_without_ipv6(device: &str) -> bool {
    ipv6_setting(device, "disable_ipv6").is_some_and(|value| value != "0")
}

/// Turns IPv6 on on a device.
///
/// # Errors
/// The setting cannot be written.
pub(crate) fn enable_ipv6(device: &str) -> io::Result<()> {
    write_setting(&ipv6_setting_path(device, "disable_ipv6"), "0")
}

/// Returns why no device can have IPv6, as a phrase.
pub(crate) fn ipv6_obstacle() -> Option<String> {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Some(
            "the kernel has no IPv6 (for example because of its parameter ipv6.disable)".into(),
        );
    }
    let setting = ipv6_setting_path("default", "disable_ipv6");
    if !is_without_ipv6("default") {
        return None;
    }
    let error = access(Path::new(&setting), AccessFlags::W_OK).err()?;
    Some(format!(
        "the sysctl net.ipv6.conf.default.disable_ipv6 is 1 and cannot be changed ({})",
        error.desc()
    ))
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
