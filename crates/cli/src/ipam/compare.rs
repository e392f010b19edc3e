//! Comparison of what this host has: files of host-local, containers, and the agent's subnets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use overlay_core::host_api::names::parse_bridge_name;
use overlay_core::util::line::{list_first, one_line};
use overlay_host::reserved::{Reserved, State};

use super::leaks::Leaked;
use super::view::{HostOverlay, HostView};
use crate::finding::Finding;
use crate::finding::kinds::addresses as kinds;

/// Number of addresses that a sentence names.
const NAMED: usize = 10;

/// Result of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Findings.
    pub findings: Vec<Finding>,
    /// Leaked addresses.
    pub leaked: Vec<Leaked>,
    /// Reserved addresses whose containers Mesos does not know, and that answer.
    pub unexplained: Vec<IpAddr>,
    /// Number of files of host-local that name no container: empty ones, and those that this user
    /// may not read.
    pub unreadable: usize,
    /// Number of addresses that containers have or that are reserved.
    pub addresses: usize,
    /// Number of containers that have addresses.
    pub containers: usize,
}

/// Container that has an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Mesos(String),
    Docker(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Mesos(id) => write!(f, "container {} of Mesos", one_line(id, 80)),
            Holder::Docker(name) => write!(f, "container {} of Docker", one_line(name, 80)),
        }
    }
}

/// Comparison of one look.
struct Comparison<'a> {
    view: &'a HostView,
    data_dir: &'a Path,
    /// Names of the overlays that the master has; `None`: it was not asked.
    defined: Option<&'a BTreeSet<String>>,
    /// Addresses that answer.
    answering: &'a BTreeSet<IpAddr>,
    holders: BTreeMap<IpAddr, BTreeSet<Holder>>,
    result: Compared,
}

/// Compares what this host has. `defined` are the overlays that somebody defines or holds; `None`:
/// that is not known. `answering` are the addresses that are known to answer.
pub fn compare(
    view: &HostView,
    data_dir: &Path,
    defined: Option<&BTreeSet<String>>,
    answering: &BTreeSet<IpAddr>,
) -> Compared {
    let mut comparison = Comparison {
        view,
        data_dir,
        defined,
        answering,
        holders: BTreeMap::new(),
        result: Compared::default(),
    };
    comparison.containers();
    for (name, overlay) in &view.overlays {
        comparison.files(name, overlay);
    }
    comparison.doubles();
    comparison.not_reserved();
    comparison.orphans();
    comparison.result.addresses = comparison.holders.len() + comparison.result.leaked.len();
    comparison.result
}

impl Comparison<'_> {
    fn found(&mut self, finding: Finding) {
        self.result.findings.push(finding);
    }

    /// Adds the containers' addresses, and finds those outside of the agent's subnets.
    fn containers(&mut self) {
        let view = self.view;
        let of_mesos = view.mesos.iter().flatten().flat_map(|container| {
            let holder = Holder::Mesos(container.id.clone());
            container
                .addresses
                .iter()
                .map(move |(network, ip)| (network.clone(), *ip, holder.clone()))
        });
        let own = view.docker.iter().filter(|network| network.is_own());
        let of_docker = own.flat_map(|network| {
            network.endpoints.iter().flat_map(move |endpoint| {
                let holder = Holder::Docker(endpoint.container.clone());
                endpoint
                    .addresses
                    .iter()
                    .map(move |ip| (network.name.clone(), ip.addr(), holder.clone()))
            })
        });
        let mut containers = BTreeSet::new();
        for (network, ip, holder) in of_mesos.chain(of_docker) {
            let Some(overlay) = view.overlays.get(&network) else {
                continue;
            };
            containers.insert(holder.clone());
            let subnets = match holder {
                Holder::Mesos(_) => &overlay.mesos,
                Holder::Docker(_) => &overlay.docker,
            };
            if !subnets.is_empty() && !contain(subnets, ip) {
                self.found(outside(&network, ip, &holder, subnets));
            }
            self.holders.entry(ip).or_default().insert(holder);
        }
        self.result.containers = containers.len();
    }

    /// Examines the files of one overlay.
    fn files(&mut self, name: &str, overlay: &HostOverlay) {
        let view = self.view;
        let (mut leaked, mut outside) = (Vec::new(), Vec::new());
        for reserved in view.files.get(name).into_iter().flatten() {
            let is_inside = contain(&overlay.mesos, reserved.ip);
            // Its container ended while the files were read.
            if reserved.inode == 0 {
                continue;
            }
            if reserved.container.is_empty() {
                self.result.unreadable += 1;
                self.holders.entry(reserved.ip).or_default();
                continue;
            }
            let holder = Holder::Mesos(reserved.container.clone());
            if self.exists(reserved) {
                if is_inside {
                    self.holders.entry(reserved.ip).or_default().insert(holder);
                }
            } else if !is_inside {
                outside.push(reserved.ip);
            } else if self.holders.contains_key(&reserved.ip) {
                // Another container has it: host-local must go on to keep it.
            } else if self.answering.contains(&reserved.ip) {
                self.result.unexplained.push(reserved.ip);
                self.holders.entry(reserved.ip).or_default().insert(holder);
            } else {
                leaked.extend(Leaked::new(name, reserved));
            }
        }
        leaked.sort();
        if !leaked.is_empty() {
            self.found(self::leaked(name, &leaked));
        }
        if !outside.is_empty() {
            outside.sort();
            self.found(reserved_outside(name, &outside, overlay, self.data_dir));
        }
        self.result.leaked.extend(leaked);
    }

    /// Returns true if the container of a file exists, or may exist.
    fn exists(&self, reserved: &Reserved) -> bool {
        let mut of_mesos = self.view.mesos.iter().flatten();
        let is_listed = of_mesos.any(|container| container.id == reserved.container);
        is_listed || reserved.state(&self.view.known, self.view.now) == State::InUse
    }

    /// Finds addresses with several containers.
    fn doubles(&mut self) {
        let doubles: Vec<Finding> = self
            .holders
            .iter()
            .filter(|(_, holders)| holders.len() > 1)
            .map(|(ip, holders)| double(*ip, holders))
            .collect();
        self.result.findings.extend(doubles);
    }

    /// Finds containers of Mesos with addresses that are free for host-local.
    fn not_reserved(&mut self) {
        let view = self.view;
        for container in view.mesos.iter().flatten() {
            for (network, ip) in &container.addresses {
                let Some(overlay) = view.overlays.get(network) else {
                    continue;
                };
                let is_double = self
                    .holders
                    .get(ip)
                    .is_some_and(|holders| holders.len() > 1);
                let files = view.files.get(network);
                let is_own = |reserved: &Reserved| {
                    let id = &reserved.container;
                    reserved.ip == *ip && (*id == container.id || id.is_empty())
                };
                let is_reserved = files.is_some_and(|files| files.iter().any(is_own));
                if contain(&overlay.mesos, *ip) && !is_double && !is_reserved {
                    self.found(not_reserved(network, *ip, &container.id, self.data_dir));
                }
            }
        }
    }

    /// Finds what is left of overlays that nobody defines.
    fn orphans(&mut self) {
        let Some(defined) = self.defined else { return };
        let view = self.view;
        let is_orphan = |name: &str| {
            let is_mentioned = view
                .mentioned
                .iter()
                .any(|sentence| mentions(sentence, name));
            !defined.contains(name) && !view.overlays.contains_key(name) && !is_mentioned
        };
        let networks: BTreeSet<&str> = view
            .docker
            .iter()
            .filter(|network| network.is_own() && is_orphan(&network.name))
            .map(|network| network.name.as_str())
            .collect();
        for name in &networks {
            self.found(orphaned_docker_network(name));
        }
        for bridge in &view.bridges {
            // Docker's bridge goes with its network. An operator's bridge may have such a name, too.
            let Some((_, name)) = parse_bridge_name(bridge) else {
                continue;
            };
            if is_orphan(name) && !networks.contains(name) && view.files.contains_key(name) {
                self.found(orphaned_bridge(bridge, name));
            }
        }
        for (name, files) in &view.files {
            let is_left =
                |reserved: &&Reserved| is_of_mesos(&reserved.container) && !self.exists(reserved);
            let left = files.iter().filter(is_left).count();
            if left > 0 && is_orphan(name) && !view.cni_names.contains(name) {
                self.result
                    .findings
                    .push(orphaned_reservations(name, left, self.data_dir));
            }
        }
    }
}

fn contain(subnets: &[IpNet], ip: IpAddr) -> bool {
    subnets.iter().any(|subnet| subnet.contains(&ip))
}

/// Returns true if a sentence has a name as a word.
fn mentions(sentence: &str, name: &str) -> bool {
    let is_part = |c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c));
    sentence
        .split(is_part)
        .any(|word| word.trim_end_matches('.') == name)
}

/// Returns true if a container's id is one that Mesos made. Other programs use host-local, too.
fn is_of_mesos(container: &str) -> bool {
    let parts: Vec<usize> = container.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12]
        && container
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn list<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    list_first(&texts, NAMED)
}

fn leaked(name: &str, leaked: &[Leaked]) -> Finding {
    let addresses: Vec<IpAddr> = leaked.iter().map(|leaked| leaked.address).collect();
    let number = match addresses.len() {
        1 => "1 address is".to_owned(),
        number => format!("{number} addresses are"),
    };
    kinds::LEAKED
        .finding(
            format!("{number} reserved for containers that do not exist: {}", list(&addresses)),
            "Give leaked addresses back: mesos-overlay ipam check --report FILE, then mesos-overlay ipam release --report FILE",
        )
        .about(name)
}

fn double(ip: IpAddr, holders: &BTreeSet<Holder>) -> Finding {
    let holders: Vec<&Holder> = holders.iter().collect();
    kinds::DOUBLE
        .finding(
            format!(
                "{} have this address",
                list(&holders).replacen(", ", " and ", 1)
            ),
            "Stop one of the containers, and start it again",
        )
        .about(ip)
}

fn not_reserved(network: &str, ip: IpAddr, container: &str, dir: &Path) -> Finding {
    kinds::NOT_RESERVED
        .finding(
            format!(
                "container {} of Mesos has this address of {network}, and {} has no file that reserves it",
                one_line(container, 80),
                dir.join(network).display()
            ),
            "Restart the container, before another one gets its address",
        )
        .about(ip)
}

fn outside(network: &str, ip: IpAddr, holder: &Holder, subnets: &[IpNet]) -> Finding {
    kinds::OUTSIDE
        .finding(
            format!(
                "{holder} has this address of {network}, and its containers on this agent have {}",
                list(subnets)
            ),
            "Restart the container",
        )
        .about(ip)
}

fn reserved_outside(
    name: &str,
    addresses: &[IpAddr],
    overlay: &HostOverlay,
    dir: &Path,
) -> Finding {
    let subnets = match overlay.mesos.is_empty() {
        true => "none".to_owned(),
        false => list(&overlay.mesos),
    };
    kinds::RESERVED_OUTSIDE
        .finding(
            format!(
                "{} has files of addresses outside of this agent's subnets ({subnets}): {}",
                dir.join(name).display(),
                list(addresses)
            ),
            "Remove these files, if the subnet of the agent is the right one",
        )
        .about(name)
}

const ORPHAN_REMEDY: &str = "Stop the containers that use it, and remove it";

fn orphaned_docker_network(name: &str) -> Finding {
    kinds::ORPHANED_NETWORK
        .finding(
            format!("Docker has a network {name}, and nobody defines an overlay of that name"),
            format!("{ORPHAN_REMEDY}: docker network rm {name}"),
        )
        .about(name)
}

fn orphaned_bridge(bridge: &str, name: &str) -> Finding {
    kinds::ORPHANED_NETWORK
        .finding(
            format!("this host has a bridge {bridge}, and nobody defines an overlay {name}"),
            format!("{ORPHAN_REMEDY}: ip link del {bridge}"),
        )
        .about(name)
}

fn orphaned_reservations(name: &str, number: usize, dir: &Path) -> Finding {
    let dir = dir.join(name);
    kinds::ORPHANED_RESERVATIONS
        .finding(
            format!(
                "{} has {} of host-local, and nobody defines an overlay {name}",
                dir.display(),
                crate::output::page::count(number, "file")
            ),
            format!(
                "Remove the directory, if no other program uses it: rm -r {}",
                dir.display()
            ),
        )
        .about(name)
}

#[cfg(test)]
mod tests;
