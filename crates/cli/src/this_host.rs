//! Mesos on this host: its processes in this network namespace, their flags, and the configuration
//! of the overlay modules that they load.

pub mod defaults;
pub mod modules;
pub mod processes;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use overlay_core::config::{AgentConfig, agent};
use overlay_host::files::{self, Links};

use crate::output::Failure;
use modules::ModuleKind;
use processes::{Process, Role};

/// Size limit of a configuration file, in bytes. The modules' own.
pub const CONFIG_LIMIT: u64 = 16 << 20;

/// Places of the agent module's configuration, if no Mesos process on this host names one.
pub const AGENT_CONFIGS: [&str; 2] = [
    "/etc/mesos/overlay/agent.json",
    "/opt/mesosphere/etc/overlay/config/agent.json",
];

/// Places of the master module's configuration, if no Mesos process on this host names one.
pub const MASTER_CONFIGS: [&str; 2] = [
    "/etc/mesos/overlay/master.json",
    "/opt/mesosphere/etc/overlay/config/master.json",
];

/// Mesos on this host.
#[derive(Clone, Debug, Default)]
pub struct ThisHost {
    /// Processes of Mesos in this network namespace, masters first.
    pub processes: Vec<Process>,
}

impl ThisHost {
    /// Looks for processes of Mesos in the network namespace of the calling thread.
    pub fn look() -> ThisHost {
        ThisHost {
            processes: processes::find(),
        }
    }

    /// Returns the Mesos master on this host.
    pub fn mesos_master(&self) -> Option<&Process> {
        self.processes
            .iter()
            .find(|process| process.role == Role::Master)
    }

    /// Returns the Mesos agent on this host.
    pub fn mesos_agent(&self) -> Option<&Process> {
        self.processes
            .iter()
            .find(|process| process.role == Role::Agent)
    }

    /// Returns the process that loads the overlay agent module, which can be a master (as on
    /// DC/OS), and the path of the module's configuration.
    pub fn agent_module(&self) -> Option<(&Process, PathBuf)> {
        // A Mesos agent comes first: its configuration has the bridges.
        let agents_first = self.processes.iter().rev();
        agents_first
            .filter_map(|process| Some((process, process.module_config(ModuleKind::Agent)?)))
            .next()
    }

    /// Returns the configuration of the agent module on this host and its file; `None`: there is no
    /// file. `given` is the file of the command line.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn agent_config(
        &self,
        given: Option<&Path>,
    ) -> Result<Option<(PathBuf, AgentConfig)>, Failure> {
        let named = self.agent_module().map(|(_, file)| file);
        let named = given.map(Path::to_owned).or(named);
        let usual = || {
            AGENT_CONFIGS
                .iter()
                .map(PathBuf::from)
                .find(|file| file.exists())
        };
        match named.or_else(usual) {
            Some(file) => Ok(Some((file.clone(), read_agent_config(&file)?))),
            None => Ok(None),
        }
    }

    /// Returns the address of the overlay agent's endpoints on this host, `ip:port`.
    pub fn agent_address(&self) -> Option<String> {
        let agent = self.agent_module().map(|(process, _)| process);
        agent
            .or_else(|| self.mesos_agent())
            .and_then(Process::address)
    }

    /// Returns where the masters are by the flags of Mesos on this host, and their origin.
    pub fn master(&self) -> Option<(String, String)> {
        if let Some(agent) = self.mesos_agent()
            && let Some(master) = agent.flag("master")
        {
            return Some((
                master,
                format!("--master of the Mesos agent (pid {})", agent.pid),
            ));
        }
        let master = self.mesos_master()?;
        let address = master.address()?;
        Some((
            address,
            format!("the Mesos master on this host (pid {})", master.pid),
        ))
    }
}

/// Reads and checks the configuration of the agent module.
///
/// # Errors
/// The file cannot be read, or is wrong.
pub fn read_agent_config(file: &Path) -> Result<AgentConfig, Failure> {
    let text = files::read_text(file, Links::Follow, CONFIG_LIMIT)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let parsed = agent::parse(&file.display().to_string(), &text);
    Ok(parsed.map_err(|error| error.to_string())?.config)
}

/// Returns the IPv4 addresses of this host's devices, without those of loopback.
pub fn own_addresses() -> Vec<Ipv4Addr> {
    let addresses = getifaddrs().into_iter().flatten();
    let ips = addresses.filter_map(|device| Some(device.address?.as_sockaddr_in()?.ip()));
    ips.filter(|ip| !ip.is_loopback()).collect()
}
