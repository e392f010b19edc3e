//! Reads the file that the agent module's parameter `agent_config` names.

use std::path::PathBuf;
use std::time::Duration;

use super::authentication::{self, Authentication};
use super::reader::{Field, Object, Parsed, Reported, Strictness, read};
use super::{AgentConfig, AgentNetwork, AuthenticateHttp, ConfigError, path, zk};
use crate::host_api::desired::{Backend, Checksum, ContainerTable, Firewall};

const KEYS: &[&str] = &[
    "master",
    "cni_dir",
    "network_config",
    "max_configuration_attempts",
    "cni_data_dir",
    "cni_file_prefix",
    "backend",
    "firewall",
    "docker_socket",
    "vxlan_tx_checksum",
    "container_table",
    "authenticate_http",
    "master_confirmation",
    authentication::KEYS[0],
    authentication::KEYS[1],
];

const NETWORK_KEYS: &[&str] = &[
    "allocate_subnet",
    "mesos_bridge",
    "docker_bridge",
    "overlay_mtu",
    "command_timeout",
    "enable_ipv6",
];

/// Default of `max_configuration_attempts`.
const MAX_CONFIGURATION_ATTEMPTS: u32 = 4;

/// Reads and checks `text`, the contents of `file`.
///
/// # Errors
/// All mistakes in the file.
pub fn parse(file: &str, text: &str) -> Result<Parsed<AgentConfig>, ConfigError> {
    read(file, text, KEYS, Strictness::Lenient, |top| {
        let master = master(top);
        let cni_dir = cni_dir(top);
        let cni_data_dir = path(top, "cni_data_dir");
        let cni_file_prefix = cni_file_prefix(top);
        let network = network(top);
        let attempts = attempts(top);
        let backend = backend(top);
        let firewall = firewall(top);
        let docker_socket = top.parsed("docker_socket", DOCKER_REMEDY, docker_socket);
        let tx_checksum = tx_checksum(top);
        let container_table = container_table(top);
        let authenticate_http = AuthenticateHttp::read(top);
        let authentication = Authentication::read_for_agent(top);
        Ok(AgentConfig {
            master: master?,
            cni_dir: cni_dir?,
            cni_data_dir: cni_data_dir?,
            cni_file_prefix: cni_file_prefix?.unwrap_or_default(),
            network: network?,
            max_configuration_attempts: attempts?.unwrap_or(MAX_CONFIGURATION_ATTEMPTS),
            backend: backend?,
            firewall: firewall?,
            docker_socket: docker_socket?,
            tx_checksum: tx_checksum?,
            container_table: container_table?,
            authenticate_http: authenticate_http?,
            authentication: authentication?,
        })
    })
}

fn cni_dir(top: &Object<'_>) -> Result<PathBuf, Reported> {
    let remedy = "give the directory that Mesos's flag --network_cni_config_dir names";
    path(top, "cni_dir")?.ok_or_else(|| top.missing("cni_dir", remedy))
}

/// Longest prefix of a file's name, in bytes.
const MAX_FILE_PREFIX: usize = 64;

/// Reads `cni_file_prefix`, a part of a file's name.
fn cni_file_prefix(top: &Object<'_>) -> Field<String> {
    let remedy = format!(
        "write up to {MAX_FILE_PREFIX} letters, digits and _ . - that do not begin with a dot, such as \"overlay-\""
    );
    top.parsed("cni_file_prefix", &remedy, |text| {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match text {
            text if text.len() > MAX_FILE_PREFIX => Err("is too long".to_owned()),
            // Mesos's tools and ours skip hidden files.
            text if text.starts_with('.') => Err("begins with a dot".to_owned()),
            text if !text.bytes().all(is_valid) => Err("is no part of a file's name".to_owned()),
            text => Ok(text.to_owned()),
        }
    })
}

/// Remedy of every mistake in `master`.
pub const MASTER_REMEDY: &str =
    "write host:port, zk://[user:password@]host:port[,host:port]…/path or file:///path";

/// Reads `host:port`, `master@host:port`, `zk://…` or `file://…`, as Mesos's own agents accept
/// it.
fn master(top: &Object<'_>) -> Field<String> {
    let Some(text) = top.string("master")? else {
        return Ok(None);
    };
    let text = text.trim();
    let checked = if text.contains("://") {
        zk::check(text)
    } else {
        zk::check_host_port(text.strip_prefix("master@").unwrap_or(text))
    };
    match checked {
        Ok(()) => Ok(Some(text.to_owned())),
        Err(what) => {
            let shown = format!("\"{}\"", zk::redacted(text));
            Err(top.wrong_value("master", &shown, &what, MASTER_REMEDY))
        }
    }
}

fn backend(top: &Object<'_>) -> Result<Backend, Reported> {
    let remedy = "write \"internal\" (this module programs the data plane) or \"external\" \
                  (another program does)";
    let choices = [
        ("internal", Backend::Internal),
        ("external", Backend::External),
    ];
    Ok(top.choice("backend", remedy, &choices)?.unwrap_or_default())
}

fn tx_checksum(top: &Object<'_>) -> Result<Checksum, Reported> {
    let remedy = "write \"auto\" (leave it as it is), \"on\" or \"off\"";
    let choices = [
        ("auto", Checksum::Auto),
        ("on", Checksum::On),
        ("off", Checksum::Off),
    ];
    let chosen = top.choice("vxlan_tx_checksum", remedy, &choices)?;
    Ok(chosen.unwrap_or_default())
}

fn firewall(top: &Object<'_>) -> Result<Firewall, Reported> {
    let remedy =
        "write \"auto\" (the tool that the host has), \"iptables\", \"nftables\" or \"none\"";
    let choices = [
        ("auto", Firewall::Auto),
        ("iptables", Firewall::Iptables),
        ("nftables", Firewall::Nftables),
        ("none", Firewall::None),
    ];
    let chosen = top.choice("firewall", remedy, &choices)?;
    Ok(chosen.unwrap_or_default())
}

/// Reads `container_table`: a routing table that is none of the kernel's own.
fn container_table(top: &Object<'_>) -> Result<ContainerTable, Reported> {
    const KEY: &str = "container_table";
    const OF_THE_KERNEL: std::ops::RangeInclusive<u32> = 253..=255;
    match top.number(KEY, 1..=u32::MAX)? {
        None => Ok(ContainerTable::default()),
        Some(number) if OF_THE_KERNEL.contains(&number) => {
            let what = format!("{number} is one of the kernel's own tables");
            Err(top.wrong_value(
                KEY,
                &number.to_string(),
                &what,
                "write the number of an unused table",
            ))
        }
        Some(number) => Ok(ContainerTable(number)),
    }
}

/// Remedy of every mistake in `docker_socket`.
pub const DOCKER_REMEDY: &str =
    "write the path of a unix socket, such as unix:///var/run/docker.sock";

/// Parses `unix:///path`, or a path alone.
///
/// # Errors
/// A phrase that says what is wrong, as the end of a sentence that begins with the value.
pub fn docker_socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    match path {
        "" => Err("is empty".to_owned()),
        path if path.contains("://") => Err("is not a unix socket".to_owned()),
        path if path.contains('\0') => Err("contains a NUL character".to_owned()),
        path if !path.starts_with('/') => Err("is not an absolute path".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

fn network(top: &Object<'_>) -> Result<AgentNetwork, Reported> {
    let defaults = AgentNetwork::default();
    let Some(object) = top.object("network_config", NETWORK_KEYS)? else {
        return Ok(defaults);
    };
    let allocate_subnet = object.boolean("allocate_subnet");
    let mesos_bridge = object.boolean("mesos_bridge");
    let docker_bridge = object.boolean("docker_bridge");
    let overlay_mtu = super::mtu(&object, "overlay_mtu");
    let command_timeout = command_timeout(&object);
    let enable_ipv6 = object.boolean("enable_ipv6");
    Ok(AgentNetwork {
        allocate_subnet: allocate_subnet?.unwrap_or(defaults.allocate_subnet),
        mesos_bridge: mesos_bridge?.unwrap_or(defaults.mesos_bridge),
        docker_bridge: docker_bridge?.unwrap_or(defaults.docker_bridge),
        overlay_mtu: overlay_mtu?,
        command_timeout: command_timeout?.unwrap_or(defaults.command_timeout),
        enable_ipv6: enable_ipv6?.unwrap_or(defaults.enable_ipv6),
    })
}

/// Reads `max_configuration_attempts`. 0 is what 1 is: the first failure is reported.
fn attempts(top: &Object<'_>) -> Field<u32> {
    const KEY: &str = "max_configuration_attempts";
    let attempts = top.number(KEY, 0..=u32::MAX)?;
    if attempts == Some(0) {
        top.warn(KEY, "0 is taken as 1: the first failure is reported");
    }
    Ok(attempts.map(|attempts| attempts.max(1)))
}

/// Reads `command_timeout`. No call ends within 0 ms; who has that uses no Docker networks.
fn command_timeout(object: &Object<'_>) -> Field<Duration> {
    const KEY: &str = "command_timeout";
    let ms = object.number(KEY, 0..=u32::MAX)?;
    if ms == Some(0) {
        object.warn(KEY, "0 is no time for a call; the default is used");
    }
    let ms = ms.filter(|ms| *ms > 0);
    Ok(ms.map(|ms| Duration::from_millis(ms.into())))
}

/// The defaults of the protocol, as C++ agents have them.
impl Default for AgentNetwork {
    fn default() -> AgentNetwork {
        AgentNetwork {
            allocate_subnet: true,
            mesos_bridge: true,
            docker_bridge: true,
            overlay_mtu: None,
            command_timeout: Duration::from_secs(15),
            enable_ipv6: true,
        }
    }
}

impl AgentConfig {
    /// Creates a configuration in which every key but `cni_dir` has its default.
    pub fn new(cni_dir: impl Into<PathBuf>) -> AgentConfig {
        AgentConfig {
            master: None,
            cni_dir: cni_dir.into(),
            cni_data_dir: None,
            cni_file_prefix: String::new(),
            network: AgentNetwork::default(),
            max_configuration_attempts: MAX_CONFIGURATION_ATTEMPTS,
            backend: Backend::default(),
            firewall: Firewall::default(),
            docker_socket: None,
            tx_checksum: Checksum::default(),
            container_table: ContainerTable::default(),
            authenticate_http: AuthenticateHttp::default(),
            authentication: Authentication::default(),
        }
    }
}

#[cfg(test)]
mod tests;
