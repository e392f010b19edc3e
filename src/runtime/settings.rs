//! Settings of a node from the module's parameters, the configuration file, and the
//! environment variables that stand for Mesos's own flags.
//!
//! All mistakes are reported at once; see [`ConfigError`].

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use overlay_core::Level;
use overlay_core::config::authentication::Authentication;
use overlay_core::config::zk;
use overlay_core::config::zk::ZkUrl;
use overlay_core::config::{AgentConfig, ConfigError, MasterConfig, agent, master, nearest};
use overlay_host::files::{self, Links};

use super::key_file;
use super::{LogSettings, Role, ZooKeeperSettings, log};

#[cfg(test)]
mod tests;

/// Variable that makes libprocess compare the sender of a message with the address that it comes
/// from.
const CHECK_SENDERS: &str = "LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH";

/// Size limit of a configuration file, in bytes: room for some 100,000 overlays.
const CONFIG_LIMIT: u64 = 16 << 20;

/// Size limit of the file behind a `file://` URL, in bytes.
const URL_LIMIT: u64 = 64 << 10;

/// Size limit of the command line of a process, in bytes. The kernel's is 2 MiB by default.
const ARGUMENTS_LIMIT: u64 = 8 << 20;

/// Directory of the replicated log inside of `replicated_log_dir`.
const LOG_DIRECTORY: &str = "overlay_replicated_log";

/// Settings in the environment of the process. Empty variables count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Value of `MESOS_ZK`.
    pub zk: Option<String>,
    /// Value of `MESOS_QUORUM`.
    pub quorum: Option<String>,
    /// Value of `MESOS_MASTER`.
    pub master: Option<String>,
    /// Value of `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// Presence of the flag `--zk`, whose value a module cannot read.
    pub zk_flag: bool,
    /// libprocess compares the sender of a message with the address that it comes from
    /// (`LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH`).
    pub checks_senders: bool,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn of_process() -> Environment {
        let get = |name| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        let is_zk = |flag: &[u8]| flag == b"--zk" || flag.starts_with(b"--zk=");
        let arguments = Path::new("/proc/self/cmdline");
        let zk_flag = files::read(arguments, Links::Refuse, ARGUMENTS_LIMIT)
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(is_zk));
        Environment {
            zk: get("MESOS_ZK"),
            quorum: get("MESOS_QUORUM"),
            master: get("MESOS_MASTER"),
            docker_host: get("DOCKER_HOST"),
            zk_flag,
            checks_senders: get(CHECK_SENDERS).is_some_and(|value| is_true(&value)),
        }
    }
}

/// Settings of a master.
#[derive(Clone, Debug, PartialEq)]
pub struct MasterSettings {
    /// Contents of the configuration file.
    pub config: MasterConfig,
    /// ZooKeeper URL of the election; `None` if this is the only Mesos master.
    pub detect: Option<String>,
    /// Replicated log; `None` to keep the state in memory.
    pub log: Option<LogSettings>,
}

/// Settings of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// Contents of the configuration file.
    pub config: AgentConfig,
    /// ZooKeeper URL of the election, or `host:port` of the only Mesos master.
    pub detect: String,
}

/// Returns whether libprocess reads the value of a variable as true.
fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1")
}

/// Warns if anybody can send messages with any sender.
fn warn_of_forged_senders(role: Role, authentication: &Authentication, environment: &Environment) {
    if authentication.active_keys().is_some() || environment.checks_senders {
        return;
    }
    let others = match role {
        Role::Master => "agents of earlier releases",
        Role::Agent => "a master of an earlier release",
    };
    let line = format!(
        "environment: {CHECK_SENDERS} is not \"true\", and there is no auth_key_file: anybody who reaches this \
         port can send messages in the name of {others}; see docs/security.md"
    );
    warn(role, &[line]);
}

/// Returns the path of the configuration file from the module's parameters. Logs a warning
/// for each unknown parameter.
///
/// # Errors
/// The parameter is missing.
pub fn config_path(role: Role, parameters: &[(String, String)]) -> Result<String, ConfigError> {
    let known = role.parameter();
    let source = "module parameters";
    let mut path = None;
    for (key, value) in parameters {
        if key == known {
            path = Some(value.clone());
        } else {
            let hint = match nearest(key, [known].into_iter()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the known one is {known}"),
            };
            let line = format!("{source}: {key}: unknown, ignored; {hint}");
            log(role, Level::Warning, &line);
        }
    }
    let remedy =
        "give it, in the file behind Mesos's flag --modules, the path of the JSON configuration";
    path.filter(|path| !path.is_empty())
        .ok_or_else(|| ConfigError::new(source, known, "missing", remedy))
}

/// Reads the configuration file of a master, and the environment for settings that it does
/// not have. Creates the directory of the replicated log. Logs warnings.
///
/// # Errors
/// All mistakes in the file. If there are none, all in the environment and the directory.
pub fn master(file: &str, environment: &Environment) -> Result<MasterSettings, ConfigError> {
    let parsed = master::parse(file, &read(file, Role::Master)?)?;
    warn(Role::Master, &parsed.warnings);
    let mut config = parsed.config;
    let keys = key_file::load(file, &mut config.authentication);
    let detect = master_election(file, &config, environment);
    let log = match &config.replicated_log_dir {
        Some(directory) => log_settings(file, directory, &config, environment).map(Some),
        None => Ok(None),
    };
    let ((), (detect, log)) = both(keys, both(detect, log))?;
    if config.zk.is_none() && log.as_ref().is_some_and(|log| log.zookeeper.is_some()) {
        config.zk = zk::from_environment(environment.zk.as_deref(), environment.quorum.as_deref())?;
    }
    warn_of_forged_senders(Role::Master, &config.authentication, environment);
    if detect.is_none() && environment.zk_flag {
        let line = format!(
            "{file}: zk: missing, though Mesos was started with --zk, which a module cannot see: this overlay \
             master assumes that it is the only one; set zk.url and zk.quorum, or MESOS_ZK and MESOS_QUORUM in the \
             environment"
        );
        warn(Role::Master, &[line]);
    }
    Ok(MasterSettings {
        config,
        detect,
        log,
    })
}

/// Returns both values, or the mistakes of both.
fn both<A, B>(a: Result<A, ConfigError>, b: Result<B, ConfigError>) -> Result<(A, B), ConfigError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Err(mut error), Err(other)) => {
            error.merge(other);
            Err(error)
        }
    }
}

/// Returns the ZooKeeper URL of the election for a master. Mesos's own setting comes first,
/// because the file may name another ZooKeeper for the log.
fn master_election(
    file: &str,
    config: &MasterConfig,
    environment: &Environment,
) -> Result<Option<String>, ConfigError> {
    match (&environment.zk, &config.zk) {
        (Some(url), _) => election("environment", "MESOS_ZK", url).map(Some),
        (None, Some(zk)) => election(file, "zk.url", &zk.url).map(Some),
        (None, None) => Ok(None),
    }
}

/// Reads the configuration file of an agent, and the environment for settings that it does
/// not have. Logs warnings.
///
/// # Errors
/// All mistakes in the file. If there are none, those in the environment.
pub fn agent(file: &str, environment: &Environment) -> Result<AgentSettings, ConfigError> {
    let parsed = agent::parse(file, &read(file, Role::Agent)?)?;
    warn(Role::Agent, &parsed.warnings);
    let mut config = parsed.config;
    key_file::load(file, &mut config.authentication)?;
    config.docker_socket = config
        .docker_socket
        .take()
        .or_else(|| docker_socket(environment));
    let sources = [
        (file, "master", &config.master),
        ("environment", "MESOS_MASTER", &environment.master),
        ("environment", "MESOS_ZK", &environment.zk),
    ];
    let found = sources
        .into_iter()
        .find_map(|(file, field, value)| Some((file, field, value.as_ref()?)));
    let (source, field, value) = found.ok_or_else(|| {
        let problem = "missing, and neither MESOS_MASTER nor MESOS_ZK is in the environment";
        ConfigError::new(file, "master", problem, agent::MASTER_REMEDY)
    })?;
    let detect = leader(source, field, value)?;
    warn_of_forged_senders(Role::Agent, &config.authentication, environment);
    Ok(AgentSettings { config, detect })
}

/// Returns the socket of the container engine from `DOCKER_HOST`. The variable is meant for
/// other programs, so a value that this module cannot use is a warning and not an error.
fn docker_socket(environment: &Environment) -> Option<PathBuf> {
    let text = environment.docker_host.as_deref()?;
    let socket = agent::docker_socket(text);
    socket
        .map_err(|what| {
            let line = format!(
                "environment: DOCKER_HOST: \"{text}\" {what}, and is not used; {} in docker_socket",
                agent::DOCKER_REMEDY
            );
            warn(Role::Agent, &[line]);
        })
        .ok()
}

fn read(file: &str, role: Role) -> Result<String, ConfigError> {
    let unreadable =
        |reason: &dyn std::fmt::Display| ConfigError::unreadable(file, reason, role.parameter());
    files::read_text(Path::new(file), Links::Follow, CONFIG_LIMIT)
        .map_err(|error| unreadable(&error))
}

fn warn(role: Role, lines: &[String]) {
    for line in lines {
        log(role, Level::Warning, line);
    }
}

/// Returns the settings of the replicated log in `directory`. Creates the directory if it
/// does not exist, because Mesos ends the process when it cannot open the log.
fn log_settings(
    file: &str,
    directory: &Path,
    config: &MasterConfig,
    environment: &Environment,
) -> Result<LogSettings, ConfigError> {
    let path = log_directory(file, directory);
    let zookeeper = log_zookeeper(file, config, environment);
    let (path, zookeeper) = both(path, zookeeper)?;
    Ok(match zookeeper {
        Some((quorum, zookeeper)) => LogSettings {
            quorum,
            path,
            zookeeper: Some(zookeeper),
        },
        None => LogSettings {
            quorum: 1,
            path,
            zookeeper: None,
        },
    })
}

/// Creates the directory of the replicated log and returns its path.
fn log_directory(file: &str, directory: &Path) -> Result<PathBuf, ConfigError> {
    let path = directory.join(LOG_DIRECTORY);
    let flags = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let usable = fs::create_dir_all(&path).and_then(|()| Ok(access(&path, flags)?));
    match usable {
        Ok(()) => Ok(path),
        // A disk with errors, on which a log exists. It is opened when it can be written again.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && path.is_dir() => Ok(path),
        Err(error) => Err(ConfigError::new(
            file,
            "replicated_log_dir",
            format!("\"{}\" cannot be used: {error}", directory.display()),
            "name a directory that the Mesos master can write",
        )),
    }
}

/// Returns the quorum and the ZooKeeper of the replicated log, or `None` if this master is the
/// only one.
fn log_zookeeper(
    file: &str,
    config: &MasterConfig,
    environment: &Environment,
) -> Result<Option<(u32, ZooKeeperSettings)>, ConfigError> {
    let (source, field, zk) = match &config.zk {
        Some(zk) => (file, "zk.url", Some(zk.clone())),
        None => {
            let zk =
                zk::from_environment(environment.zk.as_deref(), environment.quorum.as_deref())?;
            ("environment", "MESOS_ZK", zk)
        }
    };
    let Some(zk) = zk else { return Ok(None) };
    let (text, url) = resolve(source, field, &zk.url)?;
    // The election's URL has its warnings already.
    if config.zk.is_some() && environment.zk.is_some() {
        warn_of_url(Role::Master, source, field, &text);
    }
    let zookeeper = zookeeper_settings(&url, zk.session_timeout);
    Ok(Some((zk.quorum, zookeeper)))
}

fn zookeeper_settings(url: &ZkUrl, session_timeout: Duration) -> ZooKeeperSettings {
    ZooKeeperSettings {
        servers: url.servers.clone(),
        path: url.replicas_znode(),
        session_timeout,
        credentials: url.credentials.clone(),
    }
}

/// Parses a `zk://` URL, or the one in the file of a `file://` URL. Returns its text, too.
fn resolve(file: &str, field: &str, text: &str) -> Result<(String, ZkUrl), ConfigError> {
    let url = contents(file, field, text, zk::REMEDY)?;
    match zk::parse(&url) {
        Ok(parsed) => Ok((url, parsed)),
        Err(what) => Err(wrong(file, field, &url, &what, zk::REMEDY)),
    }
}

/// Returns the ZooKeeper URL of the election for a master.
fn election(file: &str, field: &str, text: &str) -> Result<String, ConfigError> {
    let (url, parsed) = resolve(file, field, text)?;
    below_root(&parsed).map_err(|what| wrong(file, field, &url, what, zk::REMEDY))?;
    warn_of_url(Role::Master, file, field, &url);
    Ok(parsed.to_text())
}

/// Warns of what is odd about a URL.
fn warn_of_url(role: Role, file: &str, field: &str, url: &str) {
    for remark in zk::remarks(url) {
        let line = format!("{file}: {field}: \"{}\" {remark}", zk::redacted(url));
        warn(role, &[line]);
    }
}

/// Returns the ZooKeeper URL of the election, or the leader, for an agent.
fn leader(file: &str, field: &str, text: &str) -> Result<String, ConfigError> {
    let value = contents(file, field, text, agent::MASTER_REMEDY)?;
    let check = if value.starts_with("zk://") {
        let check = |url: ZkUrl| below_root(&url).map(|()| url.to_text());
        zk::parse(&value).and_then(|url| check(url).map_err(str::to_owned))
    } else {
        let address = value.strip_prefix("master@").unwrap_or(&value);
        zk::check_host_port(address).map(|()| value.clone())
    };
    let master = check.map_err(|what| wrong(file, field, &value, &what, agent::MASTER_REMEDY))?;
    warn_of_url(Role::Agent, file, field, &value);
    Ok(master)
}

/// Checks that the URL has a path: Mesos does not elect masters at the root of ZooKeeper.
fn below_root(url: &ZkUrl) -> Result<(), &'static str> {
    if url.path.is_empty() {
        Err("has no path, and Mesos masters are not elected at the root")
    } else {
        Ok(())
    }
}

/// Returns `text`, or the contents of the file of a `file://` URL.
fn contents(file: &str, field: &str, text: &str, remedy: &str) -> Result<String, ConfigError> {
    let text = text.trim();
    if !text.starts_with("file://") {
        return Ok(text.to_owned());
    }
    let path = zk::file_path(text)
        .ok_or_else(|| wrong(file, field, text, "does not name an absolute path", remedy))?;
    let contents =
        files::read_text(Path::new(path), Links::Follow, URL_LIMIT).map_err(|error| {
            wrong(
                file,
                field,
                text,
                &format!("cannot be read: {error}"),
                "make the file readable",
            )
        })?;
    Ok(contents.trim().to_owned())
}

fn wrong(file: &str, field: &str, value: &str, what: &str, remedy: &str) -> ConfigError {
    ConfigError::new(
        file,
        field,
        format!("\"{}\" {what}", zk::redacted(value)),
        remedy,
    )
}
