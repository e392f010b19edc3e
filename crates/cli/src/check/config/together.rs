//! Contradictions of files among each other.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::config::authentication::{AuthMode, Authentication};
use overlay_core::config::zk::{self, ZkUrl};
use overlay_core::config::{AgentConfig, MasterConfig, OVERLAY_MTU};

use super::file::Parsed;
use super::{FileKind, QUORUM_REMEDY};
use crate::finding::Finding;
use crate::finding::kinds::configuration;

/// Servers of ZooKeeper from which on a quorum of one is hardly meant.
const ENSEMBLE: usize = 3;

/// Returns what contradicts each other.
pub fn contradictions(parsed: &Parsed) -> Vec<Finding> {
    let mut findings = masters(parsed);
    for (file, config) in &parsed.masters {
        findings.extend(quorum(file, config, parsed));
        findings.extend(addresses_of_servers(file, config));
        let agents = parsed.agents.iter();
        for agent in agents.filter(|_| !parsed.surroundings.is_unused) {
            findings.extend(pair((file, config), (&agent.file, &agent.config)));
        }
    }
    for agent in &parsed.agents {
        findings.extend(with_mesos(&agent.file, &agent.config, parsed));
    }
    findings.extend(agents(parsed));
    findings
}

/// Compares the files of masters, which must define the same networks.
fn masters(parsed: &Parsed) -> Vec<Finding> {
    let Some(((first, config), others)) = parsed.masters.split_first() else {
        return Vec::new();
    };
    let differing = others
        .iter()
        .filter(|(_, other)| other.network != config.network);
    differing
        .map(|(file, _)| {
            let message = format!("its network is another one than that of {first}");
            let remedy = "give all masters the same file";
            configuration::MASTERS_DIFFER
                .finding(message, remedy)
                .about(file)
        })
        .collect()
}

/// Compares the quorum with that of Mesos, and with the number of ZooKeeper's servers.
fn quorum(file: &str, config: &MasterConfig, parsed: &Parsed) -> Option<Finding> {
    let zk = config.zk.as_ref()?;
    if let Some((of_mesos, origin)) = &parsed.surroundings.quorum
        && *of_mesos != zk.quorum
    {
        let message = format!(
            "zk.quorum is {}, and the quorum of {origin} is {of_mesos}",
            zk.quorum
        );
        return Some(
            configuration::QUORUM_WRONG
                .finding(message, QUORUM_REMEDY)
                .about(file),
        );
    }
    let servers = zk::parse(&zk.url).ok()?.servers.split(',').count();
    if zk.quorum == 1 && servers >= ENSEMBLE {
        let message = format!(
            "zk.quorum is 1, which is right for a single master, and zk.url names {servers} servers"
        );
        return Some(
            configuration::DOUBTFUL
                .finding(message, QUORUM_REMEDY)
                .about(file),
        );
    }
    None
}

/// Returns the ranges of a master's file, and what they are of.
fn ranges(config: &MasterConfig) -> Vec<(IpNet, String)> {
    let vteps = config.network.vtep_ranges();
    let vteps = vteps.map(|net| (net, "the VTEPs".to_owned()));
    let overlays = config.network.overlays.iter();
    let overlays = overlays.flat_map(|overlay| {
        let ranges = overlay.config().ranges();
        ranges.map(|range| (range.net, format!("overlay {}", overlay.name())))
    });
    vteps.chain(overlays).collect()
}

/// Returns a finding for the first address among `host:port` entries that lies in a range.
fn in_range(entries: &str, what: &str, config: &MasterConfig) -> Option<(String, String)> {
    entries.split(',').find_map(|entry| {
        let entry = entry.strip_prefix("master@").unwrap_or(entry);
        let ip: Ipv4Addr = entry.rsplit_once(':')?.0.parse().ok()?;
        let ranges = ranges(config);
        let (net, owner) = ranges.iter().find(|(net, _)| net.contains(&IpNet::from(std::net::IpAddr::from(ip))))?;
        let message = format!("{what} has the address {ip}, which lies in {net}, the range of {owner}: packets to it would go into the tunnel");
        let remedy = format!("give {owner} a range that nothing else in your network uses");
        Some((message, remedy))
    })
}

fn addresses_of_servers(file: &str, config: &MasterConfig) -> Option<Finding> {
    let servers = zk::parse(&config.zk.as_ref()?.url).ok()?.servers;
    let (message, remedy) = in_range(&servers, "a server of zk.url", config)?;
    Some(
        configuration::ADDRESS_IN_RANGE
            .finding(message, remedy)
            .about(file),
    )
}

/// Compares the files of a master and an agent.
fn pair(master: (&str, &MasterConfig), agent: (&str, &AgentConfig)) -> Vec<Finding> {
    let (master_file, master) = master;
    let (agent_file, agent) = agent;
    let mut findings = Vec::new();
    if let Some(text) = &agent.master {
        let servers = zookeeper(text).map_or_else(|| text.clone(), |url| url.servers);
        if let Some((message, remedy)) = in_range(&servers, "master", master) {
            findings.push(
                configuration::ADDRESS_IN_RANGE
                    .finding(message, remedy)
                    .about(agent_file),
            );
        }
        if let Some(zk) = &master.zk {
            findings.extend(meet(
                text,
                &zk.url,
                &format!("zk.url in {master_file}"),
                agent_file,
            ));
        }
    }
    findings.extend(mtu(master_file, master, agent).map(|finding| finding.about(agent_file)));
    findings.extend(
        keys(master_file, &master.authentication, &agent.authentication)
            .map(|finding| finding.about(agent_file)),
    );
    if !agent.network.enable_ipv6 {
        let overlays = master
            .network
            .overlays
            .iter()
            .map(|overlay| overlay.config());
        let lost = overlays.filter(|overlay| overlay.enabled && overlay.v4.is_none());
        findings.extend(lost.map(|overlay| {
            let message = format!("enable_ipv6 is false, and overlay {} of {master_file} has subnet6 only: the agent gets no subnet of it", overlay.name);
            let remedy = "set enable_ipv6 to true, give the overlay a subnet, or set its \"enabled\" to false";
            configuration::OVERLAY_UNUSABLE.finding(message, remedy).about(agent_file)
        }));
    }
    findings
}

/// Compares the MTU of containers with that of the VXLAN device.
fn mtu(master_file: &str, master: &MasterConfig, agent: &AgentConfig) -> Option<Finding> {
    let vtep = master.network.vtep_mtu?;
    let has_containers = agent.network.mesos_bridge || agent.network.docker_bridge;
    let (inner, origin) = match agent.network.overlay_mtu {
        Some(mtu) => (mtu, "network_config.overlay_mtu"),
        None => (OVERLAY_MTU, "the default of network_config.overlay_mtu"),
    };
    if !has_containers || inner <= vtep {
        return None;
    }
    let message = format!("{origin} is {inner}, and network.vtep_mtu in {master_file} is {vtep}");
    let remedy = "remove vtep_mtu and overlay_mtu, or correct them: overlay_mtu must not be greater than vtep_mtu";
    Some(configuration::MTU_CONTRADICTION.finding(message, remedy))
}

/// Compares the authentication of messages.
fn keys(master_file: &str, master: &Authentication, agent: &Authentication) -> Option<Finding> {
    let remedy = "give master and agent the same auth_key_file; to switch a cluster, begin with \"auth_mode\": \"warn\"";
    let off = |side: &Authentication| side.mode == AuthMode::Off;
    let strict = |side: &Authentication| side.mode == AuthMode::Require;
    let message = match (off(master), off(agent)) {
        (false, true) if strict(master) => {
            format!(
                "it sends messages without a code, and {master_file} has \"auth_mode\": \"require\": the master drops them"
            )
        }
        (true, false) if strict(agent) => {
            format!(
                "it requires messages with a code, and {master_file} sends none: the agent drops its master's messages"
            )
        }
        (false, false) => {
            let (ours, theirs) = (agent.keys.as_ref()?, master.keys.as_ref()?);
            let accepted = theirs.accepts_first_of(ours) || !strict(master);
            if accepted && (ours.accepts_first_of(theirs) || !strict(agent)) {
                return None;
            }
            format!(
                "the first key of its auth_key_file is not in that of {master_file}, or the other way round: messages are dropped"
            )
        }
        _ => return None,
    };
    Some(configuration::KEYS_DIFFER.finding(message, remedy))
}

/// Compares an agent's file with the flags of Mesos.
fn with_mesos(file: &str, config: &AgentConfig, parsed: &Parsed) -> Option<Finding> {
    let text = config.master.as_ref()?;
    let flag = parsed.surroundings.master.as_ref();
    let zk = parsed.surroundings.zk.as_ref();
    let (other, origin) = match (flag, zk) {
        (Some(flag), _) => (flag, "--master of the Mesos agent"),
        (None, Some(zk)) => (zk, "--zk of the Mesos master"),
        (None, None) => return None,
    };
    meet(text, other, origin, file)
}

/// Compares where an agent looks for the leading master with where masters meet.
fn meet(text: &str, other: &str, origin: &str, file: &str) -> Option<Finding> {
    let (one, two) = match (zookeeper(text), zookeeper(other)) {
        (Some(one), Some(two)) => (one, two),
        (None, Some(_)) if !text.contains("://") => {
            let message = format!(
                "master is one address, and the masters meet at {}: the agent loses its master when another one leads",
                zk::redacted(other)
            );
            let remedy = "write the same zk:// URL, or remove the key and set MESOS_MASTER in the environment of Mesos";
            return Some(configuration::DOUBTFUL.finding(message, remedy).about(file));
        }
        _ => return None,
    };
    let mut servers = one.servers.split(',');
    let shares_server = servers.any(|server| two.servers.split(',').any(|other| other == server));
    if shares_server && one.path == two.path {
        return None;
    }
    let message = format!(
        "master is {}, and {origin} is {}",
        zk::redacted(text),
        zk::redacted(other)
    );
    let remedy = "write the same servers and path in both";
    Some(
        configuration::ZOOKEEPER_DIFFERS
            .finding(message, remedy)
            .about(file),
    )
}

fn zookeeper(text: &str) -> Option<ZkUrl> {
    text.trim()
        .starts_with("zk://")
        .then(|| zk::parse(text).ok())
        .flatten()
}

/// Compares the files of agent modules on one host: of a Mesos agent, and of a Mesos master.
fn agents(parsed: &Parsed) -> Vec<Finding> {
    let has_bridge =
        |config: &AgentConfig| config.network.mesos_bridge || config.network.docker_bridge;
    let in_masters = parsed
        .agents
        .iter()
        .filter(|agent| agent.kind == FileKind::AgentMaster);
    let mut findings = Vec::new();
    for inside in in_masters.filter(|agent| has_bridge(&agent.config)) {
        let beside = parsed
            .agents
            .iter()
            .find(|agent| agent.kind == FileKind::Agent);
        match beside.filter(|beside| has_bridge(&beside.config)) {
            Some(beside) if beside.config.cni_dir == inside.config.cni_dir => {
                let message = format!(
                    "cni_dir {} is also that of {}, and both have bridges: on one host each would replace what the other one writes",
                    inside.config.cni_dir.display(),
                    beside.file
                );
                let remedy = "set mesos_bridge and docker_bridge to false in the file of the agent module in the Mesos master";
                findings.push(
                    configuration::AGENTS_COLLIDE
                        .finding(message, remedy)
                        .about(&inside.file),
                );
            }
            _ => {
                let message =
                    "an agent module in a Mesos master has bridges, and no containers run there";
                let remedy = "set mesos_bridge and docker_bridge to false";
                findings.push(
                    configuration::DOUBTFUL
                        .finding(message, remedy)
                        .about(&inside.file),
                );
            }
        }
    }
    findings
}
