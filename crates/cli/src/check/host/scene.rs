//! What all checks of a host use: Mesos, configurations, devices.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use overlay_core::config::{AgentConfig, MasterConfig, master};
use overlay_core::host_api::desired::{
    Backend, Bridge, ContainerTable, Desired, Overlay, VXLAN_PORT, Vtep,
};
use overlay_core::host_api::desired::{Firewall, Mac};
use overlay_core::host_api::names::{parse_bridge_name, vtep_name};
use overlay_core::host_api::usage::Containerizer;
use overlay_core::util::family::Family;
use overlay_host::files::{self, Links};
use overlay_host::survey::{self, NetworkDevice};

use super::{Options, RoleOption};
use crate::output::Failure;
use crate::this_host::modules::ModuleKind;
use crate::this_host::processes::Process;
use crate::this_host::{AGENT_CONFIGS, CONFIG_LIMIT, MASTER_CONFIGS, ThisHost};

/// Names of the directories in /etc whose files are flags of Mesos agents.
const FLAG_DIRECTORIES: [&str; 2] = ["etc/mesos-agent", "etc/mesos-slave"];
/// Size limit of a file with a flag, in bytes.
const MAX_FLAG: u64 = 64 << 10;
/// VXLAN network identifier of all overlays.
const VNI: u32 = 1024;

/// The host, as far as all checks use it.
pub struct Scene {
    /// Mesos.
    pub mesos: ThisHost,
    /// Directory that stands for `/`.
    pub root: PathBuf,
    /// The role that was given.
    role: Option<RoleOption>,
    /// The agent module's configuration and its file.
    pub agent: Option<(PathBuf, AgentConfig)>,
    /// The master module's configuration and its file.
    pub master: Option<(PathBuf, MasterConfig)>,
    /// The library that was given.
    pub module: Option<PathBuf>,
    /// Devices of the host. The error is a sentence.
    pub devices: Result<Vec<NetworkDevice>, String>,
    /// Ranges of the overlays that this host has rules for.
    pub ranges: Vec<IpNet>,
    /// True if the program runs as root.
    pub is_root: bool,
}

impl Scene {
    /// Looks at the host.
    ///
    /// # Errors
    /// A file of the command line cannot be used.
    pub fn look(options: &Options) -> Result<Scene, Failure> {
        let mesos = ThisHost::look();
        let given = options.agent_config.clone();
        let is_given = given.is_some();
        let of_image =
            || below(&options.root, &AGENT_CONFIGS).filter(|_| mesos.processes.is_empty());
        let agent = match mesos.agent_config(given.or_else(of_image).as_deref()) {
            Err(failure) if is_given => return Err(failure),
            // The check of the configuration says what is wrong with it.
            found => found.unwrap_or_default(),
        };
        let master = match &options.master_config {
            Some(file) => Some((file.clone(), read_master(file)?)),
            None => {
                let file = master_file(&mesos, &options.root);
                file.and_then(|file| Some((file.clone(), read_master(&file).ok()?)))
            }
        };
        let table = agent.as_ref().map(|(_, config)| config.container_table);
        let ranges = survey::ranges(table.unwrap_or_default()).unwrap_or_default();
        Ok(Scene {
            mesos,
            root: options.root.clone(),
            role: options.role,
            agent,
            master,
            module: options.module.clone(),
            devices: survey::devices(),
            ranges: ranges.into_iter().collect(),
            is_root: nix::unistd::geteuid().is_root(),
        })
    }

    /// Returns the path of a file below the directory that stands for `/`.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Returns true if the host has the data plane of an agent: VXLAN device and routes.
    pub fn has_tunnel(&self) -> bool {
        match self.role {
            Some(role) => role != RoleOption::Master,
            None => {
                self.mesos.processes.is_empty()
                    || self.mesos.mesos_agent().is_some()
                    || self.mesos.agent_module().is_some()
            }
        }
    }

    /// Returns the reason why the host has no containers of overlays; `None`: it has.
    pub fn without_containers(&self) -> Option<String> {
        if !self.has_tunnel() {
            return Some("no agent on this host".to_owned());
        }
        let (file, config) = self.agent.as_ref()?;
        let network = &config.network;
        let has_none = !network.mesos_bridge && !network.docker_bridge;
        has_none.then(|| {
            format!(
                "{} has neither mesos_bridge nor docker_bridge",
                file.display()
            )
        })
    }

    /// Returns the setting `firewall` of the agent.
    pub fn firewall(&self) -> Firewall {
        let agent = self.agent.as_ref();
        agent.map_or(Firewall::Auto, |(_, config)| config.firewall)
    }

    /// Returns a flag of the Mesos agent on this host, and its origin as a phrase: of the process, or
    /// before its start of a file in `/etc/mesos-agent`.
    pub fn agent_flag(&self, name: &str) -> Option<(String, String)> {
        if let Some(agent) = self.mesos.mesos_agent() {
            let value = agent.flag(name)?;
            return Some((value, format!("the Mesos agent (pid {})", agent.pid)));
        }
        FLAG_DIRECTORIES.iter().find_map(|directory| {
            let file = self.path(directory).join(name);
            let text = files::read_text(&file, Links::Follow, MAX_FLAG).ok()?;
            Some((text.trim().to_owned(), file.display().to_string()))
        })
    }

    /// Returns the content of a file of Mesos's packages.
    pub fn file_of_packages(&self, file: &str) -> Option<String> {
        let text = files::read_text(&self.path(file), Links::Follow, MAX_FLAG).ok()?;
        Some(text.trim().to_owned())
    }

    /// Returns true if a file of /etc/default sets one of these variables for a program of Mesos.
    pub fn has_default(&self, program: &str, variables: &[&str]) -> bool {
        let files = [
            "etc/default/mesos".to_owned(),
            format!("etc/default/{program}"),
        ];
        let texts = files.iter().filter_map(|file| self.file_of_packages(file));
        let sets = |line: &str| {
            let line = line.trim().trim_start_matches("export ").trim_start();
            let name = line.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| variables.contains(&name))
        };
        texts.into_iter().any(|text| text.lines().any(sets))
    }

    /// Returns the reason why flags of Mesos agents cannot be told; `None`: they can.
    pub fn agent_flags_unknown(&self) -> Option<String> {
        match self.mesos.mesos_agent() {
            Some(agent) => environment_unknown(agent),
            None if self.mesos.mesos_master().is_some() && self.role.is_none() => {
                Some("no Mesos agent on this host".to_owned())
            }
            None => {
                let has_flags = |directory: &&str| self.path(directory).join("isolation").exists();
                match FLAG_DIRECTORIES.iter().any(has_flags) {
                    true => None,
                    false => Some("no Mesos agent on this host yet".to_owned()),
                }
            }
        }
    }

    /// Returns the devices of the overlays on this host: VXLAN devices and bridges.
    pub fn own_devices(&self) -> impl Iterator<Item = &NetworkDevice> {
        let devices = self.devices.iter().flatten();
        devices.filter(|device| is_vtep(device) || self.is_bridge(device))
    }

    /// Returns the bridges of the overlays on this host.
    pub fn bridges(&self) -> impl Iterator<Item = &NetworkDevice> {
        let devices = self.devices.iter().flatten();
        devices.filter(|device| self.is_bridge(device))
    }

    /// Returns true for a bridge of an overlay: its name is one, and an address is in a range of a rule.
    fn is_bridge(&self, device: &NetworkDevice) -> bool {
        let in_range = |net: &IpNet| self.ranges.iter().any(|range| range.contains(&net.addr()));
        device.kind == "bridge"
            && parse_bridge_name(&device.name).is_some()
            && device.addresses.iter().any(in_range)
    }

    /// Returns true if the overlays have IPv6, as far as this host knows them.
    pub fn has_ipv6(&self) -> bool {
        let is_on = self.agent.as_ref();
        let is_on = is_on.is_none_or(|(_, config)| config.network.enable_ipv6);
        is_on
            && self
                .all_ranges()
                .iter()
                .any(|range| Family::V6.includes(*range))
    }

    /// Returns the ranges of the overlays: of this host's rules, or else of the master's configuration.
    pub fn all_ranges(&self) -> Vec<IpNet> {
        if !self.ranges.is_empty() {
            return self.ranges.clone();
        }
        let overlays = self
            .master
            .iter()
            .flat_map(|(_, config)| &config.network.overlays);
        overlays
            .flat_map(|overlay| overlay.config().ranges().map(|range| range.net))
            .collect()
    }

    /// Returns the names of the overlays: of this host's bridges, or else of the master's configuration.
    fn names(&self) -> Vec<String> {
        let of_bridges = self.bridges().filter_map(|device| {
            let (_, overlay) = parse_bridge_name(&device.name)?;
            Some(overlay.to_owned())
        });
        let mut names: Vec<String> = of_bridges.collect();
        if names.is_empty() {
            let overlays = self
                .master
                .iter()
                .flat_map(|(_, config)| &config.network.overlays);
            names = overlays.map(|overlay| overlay.name().to_owned()).collect();
        }
        if names.is_empty() {
            names = vec!["dcos".to_owned()];
        }
        names.sort();
        names.dedup();
        names
    }

    /// Returns the address of the agent in the underlay.
    pub fn own_address(&self) -> Option<Ipv4Addr> {
        let process = self.mesos.agent_module().map(|(process, _)| process);
        let of_process = process
            .or_else(|| self.mesos.mesos_agent())
            .and_then(Process::address)
            .and_then(|address| address.rsplit_once(':')?.0.parse::<Ipv4Addr>().ok())
            .filter(|ip| !ip.is_loopback());
        of_process.or_else(|| survey::own_address(self.devices.as_ref().ok()?))
    }

    /// Returns what an agent would make on this host, as far as firewall and underlay depend on it. Where
    /// no overlay is known, one with the usual name and range stands for those to come.
    pub fn desired(&self) -> Desired {
        let ranges = match self.all_ranges() {
            ranges if ranges.is_empty() => {
                vec![IpNet::new([9, 0, 0, 0].into(), 8).unwrap_or_default()]
            }
            ranges => ranges,
        };
        let config = self.agent.as_ref().map(|(_, config)| config);
        let has_docker = config.is_some_and(|config| config.network.docker_bridge);
        let bridge = |containerizer: Containerizer, name: &str| Bridge {
            name: containerizer.bridge_name(name),
            subnets: ranges.clone(),
        };
        let overlays: BTreeMap<String, Overlay> = self
            .names()
            .into_iter()
            .map(|name| {
                let overlay = Overlay {
                    ranges: ranges.clone(),
                    subnets: ranges.clone(),
                    mesos_bridge: Some(bridge(Containerizer::Mesos, &name)),
                    docker_bridge: has_docker.then(|| bridge(Containerizer::Docker, &name)),
                    mtu: overlay_core::config::OVERLAY_MTU,
                };
                (name, overlay)
            })
            .collect();
        Desired {
            firewall: self.firewall(),
            backend: config.map_or(Backend::Internal, |config| config.backend),
            container_table: config.map_or(ContainerTable::default(), |c| c.container_table),
            underlay_ip: self.own_address(),
            vtep: Some(Vtep {
                name: vtep_name(VNI),
                vni: VNI,
                mac: Mac::default(),
                addresses: Vec::new(),
                mtu: None,
            }),
            overlays,
            ..Desired::default()
        }
    }
}

/// Returns the reason why the environment of a process is not known; `None`: it is.
pub fn environment_unknown(process: &Process) -> Option<String> {
    (!process.has_environment()).then(|| {
        format!(
            "only root may read the environment of Mesos (pid {})",
            process.pid
        )
    })
}

/// Returns true for a VXLAN device of the overlays.
pub fn is_vtep(device: &NetworkDevice) -> bool {
    matches!(device.vxlan, Some((Some(vni), VXLAN_PORT)) if device.name == vtep_name(vni))
}

/// Returns the first file that exists below a directory that stands for `/`.
fn below(root: &Path, files: &[&str]) -> Option<PathBuf> {
    let paths = files
        .iter()
        .map(|file| root.join(file.trim_start_matches('/')));
    paths.into_iter().find(|file| file.exists())
}

/// Returns the file of the master module on this host.
fn master_file(mesos: &ThisHost, root: &Path) -> Option<PathBuf> {
    let mut processes = mesos.processes.iter();
    let named = processes.find_map(|process| process.module_config(ModuleKind::Master));
    named.or_else(|| below(root, &MASTER_CONFIGS))
}

/// Reads and checks the configuration of the master module.
fn read_master(file: &Path) -> Result<MasterConfig, Failure> {
    let text = files::read_text(file, Links::Follow, CONFIG_LIMIT)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let parsed = master::parse(&file.display().to_string(), &text);
    Ok(parsed.map_err(|error| error.to_string())?.config)
}

/// Reads a setting of the kernel below `/proc/sys`, in the network namespace of this process.
pub fn sysctl(path: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.trim().to_owned())
}
