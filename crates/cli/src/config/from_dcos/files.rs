//! Files of a role, where DC/OS or the packages of mesos-overlay have them.

use serde_json::{Value, json};

use super::generator::Settings;
use crate::this_host::modules::ModuleKind;

/// Role of the host that the files are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Mesos master. With --layout dcos the same as agent-master.
    Master,
    /// Mesos agent.
    Agent,
    /// Mesos master that loads the agent module, too, and so reaches the containers. On DC/OS
    /// every master does.
    AgentMaster,
}

impl Role {
    /// Returns the name of the option's value.
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Agent => "agent",
            Role::AgentMaster => "agent-master",
        }
    }
}

/// Places of the files, and what depends on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// Paths of DC/OS, below /opt/mesosphere.
    #[default]
    Dcos,
    /// Paths of the packages of mesos-overlay, for Mesos of ClusterD and others: /etc/mesos/overlay.
    Clusterd,
}

impl Layout {
    /// Returns the name of the option's value.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Dcos => "dcos",
            Layout::Clusterd => "clusterd",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Layout::Dcos => "/opt/mesosphere/etc/overlay/config",
            Layout::Clusterd => "/etc/mesos/overlay",
        }
    }

    fn log_directory(self) -> &'static str {
        match self {
            Layout::Dcos => "/var/lib/dcos/mesos/master/",
            Layout::Clusterd => "/var/lib/mesos",
        }
    }

    fn cni_directory(self) -> &'static str {
        match self {
            Layout::Dcos => "/opt/mesosphere/etc/dcos/network/cni",
            Layout::Clusterd => "/etc/mesos/cni",
        }
    }

    fn library(self) -> &'static str {
        match self {
            Layout::Dcos => "/opt/mesosphere/active/mesos-modules/lib/mesos/liboverlay.so",
            Layout::Clusterd => "/usr/lib/mesos/modules/libmesos_overlay.so",
        }
    }

    /// Returns the path of the list of modules that Mesos in a role reads.
    pub fn list_of_modules(self, role: Role) -> &'static str {
        match (self, role) {
            (Layout::Dcos, Role::Agent) => {
                "/opt/mesosphere/etc/mesos-slave-modules/overlay_slave_modules.json"
            }
            (Layout::Dcos, _) => {
                "/opt/mesosphere/etc/mesos-master-modules/overlay_master_modules.json"
            }
            (Layout::Clusterd, Role::Agent) => "/etc/mesos/overlay/modules-agent.json",
            (Layout::Clusterd, _) => "/etc/mesos/overlay/modules-master.json",
        }
    }
}

/// File of a role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleFile {
    /// Absolute path.
    pub path: String,
    /// Content.
    pub content: Value,
}

/// Returns master.json.
pub fn master(settings: &Settings, layout: Layout) -> RoleFile {
    RoleFile {
        path: format!("{}/master.json", layout.directory()),
        content: json!({
            "replicated_log_dir": layout.log_directory(),
            "network": settings.network,
        }),
    }
}

/// Returns agent.json, or agent-master.json, which has no bridges.
pub fn agent(settings: &Settings, layout: Layout, role: Role) -> RoleFile {
    let is_agent = role == Role::Agent;
    let name = if is_agent {
        "agent.json"
    } else {
        "agent-master.json"
    };
    RoleFile {
        path: format!("{}/{name}", layout.directory()),
        content: json!({
            "cni_dir": layout.cni_directory(),
            "cni_data_dir": settings.cni_data_dir,
            "network_config": {
                "allocate_subnet": true,
                "mesos_bridge": is_agent,
                "docker_bridge": is_agent,
                "overlay_mtu": settings.overlay_mtu,
                "enable_ipv6": settings.enable_ipv6,
            },
            "max_configuration_attempts": settings.attempts,
        }),
    }
}

/// Returns the list of modules for Mesos, with the files that they read.
fn modules(layout: Layout, role: Role, files: &[RoleFile]) -> RoleFile {
    let module = |file: &RoleFile| {
        let kind = match file.path.ends_with("/master.json") {
            true => ModuleKind::Master,
            false => ModuleKind::Agent,
        };
        let parameter = json!({"key": kind.parameter(), "value": file.path});
        json!({"name": kind.name(), "parameters": [parameter]})
    };
    let modules: Vec<Value> = files.iter().map(module).collect();
    RoleFile {
        path: layout.list_of_modules(role).to_owned(),
        content: json!({"libraries": [{"file": layout.library(), "modules": modules}]}),
    }
}

/// Returns the files of a role.
pub fn of_role(settings: &Settings, layout: Layout, role: Role) -> Vec<RoleFile> {
    let role = match (layout, role) {
        (Layout::Dcos, Role::Master) => Role::AgentMaster,
        (_, role) => role,
    };
    let mut files = Vec::new();
    if role != Role::Agent {
        files.push(master(settings, layout));
    }
    if role != Role::Master {
        files.push(agent(settings, layout, role));
    }
    if settings.is_enabled {
        files.push(modules(layout, role, &files));
    }
    files
}
