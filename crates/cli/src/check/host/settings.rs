//! Settings of the kernel's IP stack.

use overlay_core::util::family::Family;
use overlay_host::survey;

use super::Check;
use super::scene::{Scene, is_vtep, sysctl};
use crate::finding::Finding;
use crate::finding::kinds::host;

const FORWARDING: &str = "forwarding";
const FILTER: &str = "reverse path filter";
const ROUTERS: &str = "router advertisements";

/// Value of `rp_filter` that makes the filter strict.
const STRICT: u32 = 1;

/// Looks at forwarding of the host and of the overlays' devices. Before an agent made its devices it may
/// be off: the agent turns it on.
pub fn forwarding(scene: &Scene) -> Check {
    if let Some(reason) = scene.without_containers() {
        return Check::skipped(FORWARDING, reason);
    }
    let on = sysctl("net/ipv4/ip_forward").is_some_and(|value| value != "0");
    if scene.bridges().next().is_none() {
        let seen = match on {
            true => "on",
            false => "off; the agent turns it on",
        };
        return Check::made(FORWARDING, seen, Vec::new());
    }
    let mut findings: Vec<Finding> = Vec::new();
    for family in Family::BOTH {
        let has_family = |net: &ipnet::IpNet| family.includes(*net) && !is_link_local(net);
        if scene
            .bridges()
            .any(|bridge| bridge.addresses.iter().any(has_family))
        {
            findings.extend(forwarding_of(scene, family));
        }
    }
    let seen = match findings.is_empty() {
        true => "on, also of the overlays' devices",
        false => "off where the overlays need it",
    };
    Check::made(FORWARDING, seen, findings)
}

fn is_link_local(net: &ipnet::IpNet) -> bool {
    matches!(net.addr(), std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Returns what is off of a family: the host, or else devices.
fn forwarding_of(scene: &Scene, family: Family) -> Vec<Finding> {
    let host_path = family.pick("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding");
    let name = family.name();
    let is_off = |path: &str| sysctl(path).is_some_and(|value| value == "0");
    let found = |path: &str, subject: &str, whose: &str| {
        let setting = path.replace('/', ".");
        let message = format!("{name} packets {whose} are not forwarded ({setting} is 0)");
        let remedy = format!(
            "sysctl -w {setting}=1, start the agent if it does not run, and look in /etc/sysctl.d for what turns it off"
        );
        host::FORWARDING_OFF.finding(message, remedy).about(subject)
    };
    if is_off(host_path) {
        return vec![found(
            host_path,
            &host_path.replace('/', "."),
            "of the overlays",
        )];
    }
    let mut findings = Vec::new();
    for device in scene.own_devices() {
        let path = format!(
            "net/{}/conf/{}/forwarding",
            family.pick("ipv4", "ipv6"),
            device.name
        );
        if is_off(&path) {
            findings.push(found(
                &path,
                &device.name,
                &format!("that come from {}", device.name),
            ));
        }
    }
    findings
}

/// Returns the setting of the reverse path filter: of `all`, of `default` for new devices, or of a device.
fn filter_of(device: &str) -> u32 {
    let value = sysctl(&format!("net/ipv4/conf/{device}/rp_filter"));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Looks at the reverse path filter of the VXLAN device. The larger one of the settings of the device and of
/// all devices counts.
pub fn reverse_path_filter(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(FILTER, "no agent on this host");
    }
    let vteps = scene.own_devices().filter(|device| is_vtep(device));
    let mut devices: Vec<&str> = vteps.map(|device| device.name.as_str()).collect();
    if devices.is_empty() {
        devices.push("default");
    }
    let all = filter_of("all");
    let of = |device: &str| all.max(filter_of(device));
    let strict = devices.iter().filter(|device| of(device) == STRICT);
    let findings = strict
        .map(|device| strict_filter(device, all == STRICT))
        .collect();
    let words = devices.iter().map(|device| {
        let word = match of(device) {
            0 => "off",
            STRICT => "strict",
            _ => "loose",
        };
        format!("{word} ({device})")
    });
    Check::made(FILTER, words.collect::<Vec<_>>().join(", "), findings)
}

/// Returns the finding about a strict filter, by the setting of all devices or that of the device.
fn strict_filter(device: &str, is_of_all: bool) -> Finding {
    let (subject, whose) = match device {
        "default" => ("vtep1024", "new devices"),
        device => (device, device),
    };
    let setting = if is_of_all { "all" } else { device };
    let message = format!(
        "the reverse path filter of {whose} is strict (net.ipv4.conf.{setting}.rp_filter is 1): packets that come out of the tunnel are dropped if their source is an address of a peer's host other than the agent's"
    );
    let remedy = format!(
        "sysctl -w net.ipv4.conf.{setting}.rp_filter=2, and make it permanent in /etc/sysctl.d"
    );
    let finding = host::REVERSE_PATH_FILTER.finding(message, remedy);
    finding.about(subject)
}

/// Looks for devices that depend on router advertisements, which the kernel ignores while it forwards
/// IPv6.
pub fn router_advertisements(scene: &Scene) -> Check {
    if let Some(reason) = scene.without_containers() {
        return Check::skipped(ROUTERS, reason);
    }
    let devices = match survey::devices_losing_routers() {
        Ok(devices) => devices,
        Err(sentence) => return Check::skipped(ROUTERS, sentence),
    };
    let names = devices.iter().cloned().collect::<Vec<_>>().join(", ");
    if devices.is_empty() {
        return Check::made(ROUTERS, "no device depends on them", Vec::new());
    }
    if !scene.has_ipv6() {
        let seen = format!("{names}: accept_ra must be 2 if overlays get IPv6");
        return Check::made(ROUTERS, seen, Vec::new());
    }
    let findings = devices.iter().map(|device| {
        let message = "it has IPv6 addresses or routes from router advertisements, and the kernel accepts no more of them while it forwards IPv6 for containers";
        let remedy = format!(
            "sysctl -w net.ipv6.conf.{device}.accept_ra=2, and make it permanent in /etc/sysctl.d"
        );
        host::ROUTER_ADVERTISEMENTS.finding(message, remedy).about(device)
    });
    Check::made(
        ROUTERS,
        format!("{names} depends on them"),
        findings.collect(),
    )
}
