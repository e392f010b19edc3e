//! What packets of the overlays and of the tunnels meet on this host: firewalls, the port, MTUs.

use std::fs;

use overlay_core::host_api::desired::{Firewall, VXLAN_PORT};
use overlay_host::survey;

use super::Check;
use super::scene::{Scene, is_vtep, sysctl};
use crate::finding::Finding;
use crate::finding::kinds::host;

const FIREWALL: &str = "firewall";
const PORT: &str = "UDP port 64000";
const MTU: &str = "MTU";

/// Bytes that a VXLAN tunnel adds to a packet.
const OVERHEAD: u32 = 50;
/// Least MTU of an underlay whose tunnels carry IPv6, in bytes.
const IPV6_UNDERLAY: u32 = 1280 + OVERHEAD;

/// Looks for firewalls that drop packets of the overlays, and for the tools that the agent needs.
pub fn firewall(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(FIREWALL, "no agent on this host");
    }
    if !scene.is_root {
        return Check::skipped(FIREWALL, "only root may read the rules");
    }
    let found = survey::firewall(&scene.desired());
    let mut findings: Vec<Finding> = Vec::new();
    let has_containers = scene.without_containers().is_none();
    let mut seen = match (&found.tool, scene.firewall()) {
        (_, Firewall::None) => "the agent writes no rules (\"firewall\": \"none\")".to_owned(),
        (Ok(tool), _) => format!("the agent uses {tool}"),
        (Err(sentence), _) if has_containers => {
            let (what, remedy) = sentence
                .rsplit_once("; ")
                .unwrap_or((sentence, "install one of them"));
            findings.push(host::FIREWALL_TOOLS_MISSING.finding(what, remedy));
            "the agent lacks its tools".to_owned()
        }
        (Err(_), _) => "the agent needs no rules".to_owned(),
    };
    for (what, remedy) in found.obstacles {
        findings.push(host::FIREWALL_DROPS.finding(what, remedy));
    }
    for sentence in found.unreadable {
        seen += "; ";
        seen += &sentence;
    }
    Check::made(FIREWALL, seen, findings)
}

/// Looks whether the tunnels can have their UDP port.
pub fn port(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(PORT, "no agent on this host");
    }
    let own = scene
        .own_devices()
        .find(|device| is_vtep(device) && device.is_up);
    let inodes = sockets();
    let mut findings = Vec::new();
    let mut seen = match own {
        Some(device) => format!("{} has it", device.name),
        None if inodes.is_empty() => "free".to_owned(),
        None => {
            let program = program_of(&inodes);
            let whose = program.as_deref().unwrap_or("another program");
            let message = format!("UDP port {VXLAN_PORT} is in use by {whose}");
            let remedy = format!(
                "end that program (ss -lunp sport = :{VXLAN_PORT} names it), and add {VXLAN_PORT} to the sysctl net.ipv4.ip_local_reserved_ports"
            );
            findings.push(host::PORT_IN_USE.finding(message, remedy));
            format!("in use by {whose}")
        }
    };
    if let Some(range) = unreserved() {
        let message = format!(
            "UDP port {VXLAN_PORT} lies in net.ipv4.ip_local_port_range ({range}) and is not reserved, so that any program can get it by chance"
        );
        let remedy = format!(
            "put net.ipv4.ip_local_reserved_ports = {VXLAN_PORT} into /etc/sysctl.d, and run sysctl --system"
        );
        findings.push(host::PORT_NOT_RESERVED.finding(message, remedy));
        seen += ", not reserved";
    }
    Check::made(PORT, seen, findings)
}

/// Returns the inodes of sockets that are bound to the port, of both families.
fn sockets() -> Vec<u64> {
    let tables =
        ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
    let tables = tables.into_iter().flatten();
    tables
        .flat_map(|table| table.lines().skip(1).filter_map(socket).collect::<Vec<_>>())
        .collect()
}

/// Returns the inode in a line of `/proc/net/udp` if its local port is the tunnels'.
fn socket(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let (_, port) = words.nth(1)?.rsplit_once(':')?;
    let is_ours = u16::from_str_radix(port, 16).ok()? == VXLAN_PORT;
    let inode = words.nth(7)?.parse().ok()?;
    is_ours.then_some(inode)
}

/// Returns name and process id of the program that has one of these sockets, as far as this user may see.
fn program_of(inodes: &[u64]) -> Option<String> {
    let links: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let is_ours = |pid: u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    };
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| is_ours(*pid))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    Some(format!("{name} (pid {pid})"))
}

/// Returns the range of local ports if it has the tunnels' port, and that is not reserved.
fn unreserved() -> Option<String> {
    let range = sysctl("net/ipv4/ip_local_port_range")?;
    let reserved = sysctl("net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let (first, last) = range.split_once(char::is_whitespace)?;
    let (first, last): (u16, u16) = (first.parse().ok()?, last.trim().parse().ok()?);
    let is_free = (first..=last).contains(&VXLAN_PORT) && !has_port(&reserved);
    is_free.then(|| format!("{first} to {last}"))
}

/// Returns true if a list of ports and ranges, such as `8080,9000-9100`, has the tunnels' port.
fn has_port(list: &str) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let ends = first
            .trim()
            .parse::<u16>()
            .ok()
            .zip(last.trim().parse::<u16>().ok());
        ends.is_some_and(|(first, last)| (first..=last).contains(&VXLAN_PORT))
    })
}

/// Compares the MTUs of the overlays with that of the underlay.
pub fn mtu(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(MTU, "no agent on this host");
    }
    let underlay = match survey::find_underlay(&scene.desired()) {
        Ok(Some(underlay)) => underlay,
        Ok(None) => {
            return Check::skipped(MTU, "the device that leads to other hosts is not known");
        }
        Err(sentence) => return Check::skipped(MTU, sentence),
    };
    let room = underlay.mtu.saturating_sub(OVERHEAD);
    let mut findings: Vec<Finding> = configured(scene)
        .into_iter()
        .filter(|(_, mtu)| *mtu > room)
        .map(|(whose, mtu)| {
            let message = format!(
                "{whose} is {mtu}, but packets of more than {room} bytes do not fit into {} (MTU {}) with the {OVERHEAD} bytes of a tunnel",
                underlay.device, underlay.mtu
            );
            let remedy = format!("remove vtep_mtu and overlay_mtu from the configuration, or give at most {room}");
            host::MTU_TOO_LARGE.finding(message, remedy)
        })
        .collect();
    if scene.has_ipv6() && underlay.mtu < IPV6_UNDERLAY {
        let message = format!(
            "the MTU of {} is {}, and IPv6 in a tunnel needs {IPV6_UNDERLAY}",
            underlay.device, underlay.mtu
        );
        let remedy = "raise it, or set \"enable_ipv6\": false in network_config of agent.json on hosts without IPv6";
        findings.push(
            host::UNDERLAY_TOO_SMALL
                .finding(message, remedy)
                .about(&underlay.device),
        );
    }
    let seen = format!(
        "{} has {}, which leaves {room} for the overlays",
        underlay.device, underlay.mtu
    );
    Check::made(MTU, seen, findings)
}

/// Returns the MTUs that were chosen by somebody, and what they are of.
fn configured(scene: &Scene) -> Vec<(String, u32)> {
    let mut mtus = Vec::new();
    let vtep = scene.own_devices().find(|device| is_vtep(device));
    mtus.extend(vtep.map(|device| (format!("the MTU of {}", device.name), device.mtu)));
    if vtep.is_none()
        && let Some((file, config)) = &scene.master
        && let Some(mtu) = config.network.vtep_mtu
    {
        mtus.push((format!("vtep_mtu in {}", file.display()), mtu));
    }
    if let Some((file, config)) = &scene.agent
        && let Some(mtu) = config.network.overlay_mtu
    {
        mtus.push((format!("overlay_mtu in {}", file.display()), mtu));
    }
    mtus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_in_lists_and_tables() {
        for (list, has) in [
            ("", false),
            ("64000", true),
            ("8080,63990-64010", true),
            ("8080, 64001-64010", false),
        ] {
            assert_eq!(has_port(list), has, "{list}");
        }
        let line = " 1234: 00000000:FA00 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 45678 2 0000000000000000 0";
        assert_eq!(socket(line), Some(45678));
        assert_eq!(socket(&line.replace("FA00", "FA01")), None);
    }
}
