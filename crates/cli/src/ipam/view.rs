//! View of this host: its agent's subnets, host-local's files, and containers of Mesos and Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use overlay_core::config::AgentConfig;
use overlay_core::config::overlay::is_overlay_name;
use overlay_core::host_api::engine::DEFAULT_SOCKET;
use overlay_core::host_api::names::parse_bridge_name;
use overlay_host::docker::{look, observed::ExistingNetwork};
use overlay_host::files::{self, Links};
use overlay_host::reserved::{Containers, DATA_DIR, Reserved, reserved_if};

use crate::answers::{AgentOverlay, Bridge, MasterState, OwnAgent, mesos};
use crate::connection::{AskError, ConnectionOptions, Http};
use crate::output::Failure;
use crate::this_host::ThisHost;
use crate::this_host::processes::{Process, Role};

/// Size limit of a CNI configuration, in bytes.
const CNI_LIMIT: u64 = 1 << 20;

/// Subnets of an overlay on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOverlay {
    /// Subnets of the agent.
    pub subnets: Vec<IpNet>,
    /// Subnets of Mesos's containers.
    pub mesos: Vec<IpNet>,
    /// Subnets of Docker's containers.
    pub docker: Vec<IpNet>,
}

impl HostOverlay {
    fn new(overlay: &AgentOverlay) -> HostOverlay {
        let of = |bridge: &Option<Bridge>| {
            let nets = bridge
                .iter()
                .flat_map(|bridge| bridge.ip.into_iter().chain(bridge.ip6));
            nets.collect()
        };
        HostOverlay {
            subnets: overlay.subnets().collect(),
            mesos: of(&overlay.mesos_bridge),
            docker: of(&overlay.docker_bridge),
        }
    }
}

/// Container of Mesos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MesosContainer {
    /// Id.
    pub id: String,
    /// Its addresses with the names of their networks.
    pub addresses: Vec<(String, IpAddr)>,
}

/// View of this host.
#[derive(Debug)]
pub struct HostView {
    /// Address of the agent.
    pub agent: Option<Ipv4Addr>,
    /// Overlays of the agent.
    pub overlays: BTreeMap<String, HostOverlay>,
    /// Sentences of the agent about overlays that it removes.
    pub mentioned: Vec<String>,
    /// Files of host-local, by directory.
    pub files: BTreeMap<String, Vec<Reserved>>,
    /// Containers with a network namespace in Mesos.
    pub known: Containers,
    /// Containers of Mesos; `None`: the agent does not say it.
    pub mesos: Option<Vec<MesosContainer>>,
    /// Networks of the container engine.
    pub docker: Vec<ExistingNetwork>,
    /// Devices with names of the overlays' bridges.
    pub bridges: BTreeSet<String>,
    /// Names of all networks that CNI configurations define.
    pub cni_names: BTreeSet<String>,
    /// Time of the look.
    pub now: SystemTime,
}

/// Places to look at on this host.
#[derive(Debug)]
pub struct Place {
    http: Http,
    config: AgentConfig,
    /// Address of the overlay agent's endpoints.
    overlay_agent: Option<String>,
    /// Address of the Mesos agent's endpoints.
    mesos_agent: Option<String>,
    /// Processes of Mesos agents.
    mesos_pids: Vec<u32>,
    /// Directory of host-local's files.
    pub data_dir: PathBuf,
}

impl Place {
    /// Finds the agent of this host; `None`: there is none.
    ///
    /// # Errors
    /// The configuration of the agent module cannot be used.
    pub fn find(options: &ConnectionOptions, host: &ThisHost) -> Result<Option<Place>, Failure> {
        let Some((_, config)) = host.agent_config(options.agent_config.as_deref())? else {
            return Ok(None);
        };
        let mesos_agent = host.mesos_agent();
        let data_dir = config.cni_data_dir.clone();
        Ok(Some(Place {
            http: Http::new(options)?,
            overlay_agent: host.agent_address(),
            mesos_agent: mesos_agent.and_then(Process::address),
            mesos_pids: agent_pids(host),
            data_dir: data_dir.unwrap_or_else(|| DATA_DIR.into()),
            config,
        }))
    }

    /// Returns the id of the agent in Mesos; `None`: it does not say it.
    pub fn agent_id(&self) -> Option<String> {
        let address = self.mesos_agent.as_ref()?;
        let state: mesos::AgentState = self.http.json(address, "/state").ok()?;
        (!state.id.is_empty()).then_some(state.id)
    }

    /// Returns which containers have a network namespace in Mesos, as far as this user may see it.
    ///
    /// # Errors
    /// The kernel's tables cannot be read.
    fn known(&self, notes: &mut Vec<String>) -> std::io::Result<Containers> {
        let mut known = Containers::of_host()?;
        for pid in &self.mesos_pids {
            // An ordinary user may not look; then this process's own mounts have to do.
            if let Err(error) = known.add_seen_by(*pid) {
                notes.push(format!("the containers' network namespaces were not seen as the Mesos agent (pid {pid}) sees them: {error}"));
            }
        }
        Ok(known)
    }

    /// Looks at this host. `state` is the master's, which says what the agent has if it does not
    /// answer itself. Adds to `notes` what could not be seen.
    ///
    /// # Errors
    /// This host cannot be looked at.
    pub fn look(
        &self,
        state: Option<&MasterState>,
        notes: &mut Vec<String>,
    ) -> Result<HostView, Failure> {
        let (agent, overlays, mentioned) = self.agent(state, notes);
        // Containers come before files: the file of a container is written before it has started.
        let mesos = self.containers(notes);
        let docker = self.docker(notes);
        let known = self
            .known(notes)
            .map_err(|error| format!("cannot read which containers there are: {error}"))?;
        let files = all_files(&self.data_dir).map_err(|error| {
            format!(
                "cannot read host-local's files in {}: {error}",
                self.data_dir.display()
            )
        })?;
        Ok(HostView {
            agent,
            overlays,
            mentioned,
            files,
            known,
            mesos,
            docker,
            bridges: bridges(),
            cni_names: cni_names(&self.config.cni_dir),
            now: SystemTime::now(),
        })
    }

    /// Returns the address of the agent. `state` is the master's, as for [`look`](Place::look).
    pub fn agent_ip(&self, state: Option<&MasterState>) -> Option<Ipv4Addr> {
        self.agent(state, &mut Vec::new()).0
    }

    /// Returns the agent's address and overlays, and what it says about others.
    fn agent(
        &self,
        state: Option<&MasterState>,
        notes: &mut Vec<String>,
    ) -> (Option<Ipv4Addr>, BTreeMap<String, HostOverlay>, Vec<String>) {
        let by_name = |overlays: &[AgentOverlay]| {
            let named = overlays
                .iter()
                .map(|overlay| (overlay.info.name.clone(), HostOverlay::new(overlay)));
            named.collect()
        };
        let own = self.own();
        match own {
            Ok(own) => {
                let mentioned = own.draining.into_iter().chain(own.host_errors).collect();
                (Some(own.ip), by_name(&own.overlays), mentioned)
            }
            Err(error) => {
                notes.push(format!("the agent of this host does not answer ({error}); what it has is taken from the master"));
                let addresses = own_addresses();
                let mut agents = state.into_iter().flat_map(|state| &state.agents);
                match agents.find(|agent| addresses.contains(&agent.ip.into())) {
                    Some(agent) => (Some(agent.ip), by_name(&agent.overlays), Vec::new()),
                    None => (None, BTreeMap::new(), Vec::new()),
                }
            }
        }
    }

    /// Asks the agent of this host.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn own(&self) -> Result<OwnAgent, AskError> {
        match &self.overlay_agent {
            Some(address) => self.http.json(address, "/overlay-agent/overlay"),
            None => Err(AskError::Silent("it does not run".to_owned())),
        }
    }

    fn containers(&self, notes: &mut Vec<String>) -> Option<Vec<MesosContainer>> {
        let Some(address) = &self.mesos_agent else {
            notes.push(
                "no Mesos agent was found on this host, so its containers were not seen".to_owned(),
            );
            return None;
        };
        match self
            .http
            .json::<Vec<mesos::Container>>(address, "/containers")
        {
            Ok(containers) => Some(containers.into_iter().map(container).collect()),
            Err(error) => {
                notes.push(format!(
                    "the Mesos agent does not say which containers it has: {error}"
                ));
                None
            }
        }
    }

    fn docker(&self, notes: &mut Vec<String>) -> Vec<ExistingNetwork> {
        let socket = self
            .config
            .docker_socket
            .as_deref()
            .unwrap_or(Path::new(DEFAULT_SOCKET));
        let timeout = self.config.network.command_timeout;
        let observed = look(socket, timeout).unwrap_or_else(|error| {
            notes.push(format!(
                "the container engine's networks were not seen: {error}"
            ));
            None
        });
        observed
            .map(|observed| observed.networks)
            .unwrap_or_default()
    }
}

/// Returns which containers have a network namespace in Mesos, as all Mesos agents see it that run
/// on this host now.
///
/// # Errors
/// No agent runs, or one cannot be looked at.
pub fn known_to_agents() -> io::Result<Containers> {
    let mut known = Containers::of_host()?;
    let pids = agent_pids(&ThisHost::look());
    if pids.is_empty() {
        return Err(io::Error::other("no Mesos agent runs on this host"));
    }
    for pid in pids {
        known.add_seen_by(pid).map_err(|error| {
            let sentence =
                format!("the mounts of the Mesos agent (pid {pid}) cannot be read: {error}");
            io::Error::new(error.kind(), sentence)
        })?;
    }
    Ok(known)
}

/// Returns the processes of all Mesos agents.
fn agent_pids(host: &ThisHost) -> Vec<u32> {
    let agents = host.processes.iter();
    agents
        .filter(|process| process.role == Role::Agent)
        .map(|process| process.pid)
        .collect()
}

fn container(container: mesos::Container) -> MesosContainer {
    let status = container.status.unwrap_or_default();
    let addresses = status.addresses();
    MesosContainer {
        id: container.container_id,
        addresses: addresses
            .map(|(ip, network)| (network.unwrap_or_default().to_owned(), ip))
            .collect(),
    }
}

/// Returns the files of all directories that can be of an overlay.
fn all_files(data_dir: &Path) -> std::io::Result<BTreeMap<String, Vec<Reserved>>> {
    let entries = match fs::read_dir(data_dir) {
        // The first container creates it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok();
        let name = name.filter(|name| is_overlay_name(name));
        if let Some(name) = name
            && entry.file_type()?.is_dir()
        {
            files.insert(name, reserved_if(&entry.path(), |_| true)?);
        }
    }
    Ok(files)
}

/// Returns the devices in this network namespace that are named like bridges of overlays.
fn bridges() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_once(':'));
    names
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| parse_bridge_name(name).is_some())
        .collect()
}

fn cni_names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let name = |path: PathBuf| {
        let text = files::read(&path, Links::Follow, CNI_LIMIT).ok()?;
        let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
        config["name"].as_str().map(str::to_owned)
    };
    entries.filter_map(|entry| name(entry.path())).collect()
}

/// Returns the addresses of this network namespace.
fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| interface.address);
    addresses
        .filter_map(|address| Some(IpAddr::V4(address.as_sockaddr_in()?.ip())))
        .collect()
}
