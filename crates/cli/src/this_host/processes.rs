//! Processes of Mesos in this network namespace, and their flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::modules::{self, ModuleKind};

/// Role of a Mesos process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `mesos-master`.
    Master,
    /// `mesos-agent` or `mesos-slave`.
    Agent,
}

impl Role {
    /// Returns the role of a program by its name.
    fn of(program: &Path) -> Option<Role> {
        let name = program.file_name()?.to_str()?;
        // libtool runs the program of a build directory under another name.
        match name.strip_prefix("lt-").unwrap_or(name) {
            "mesos-master" => Some(Role::Master),
            "mesos-agent" | "mesos-slave" => Some(Role::Agent),
            _ => None,
        }
    }

    /// Returns the port that Mesos uses if no flag names one.
    pub fn default_port(self) -> u16 {
        match self {
            Role::Master => 5050,
            Role::Agent => 5051,
        }
    }
}

/// Process of Mesos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Master or agent.
    pub role: Role,
    /// Flags of the command line, without `--`.
    flags: BTreeMap<String, String>,
    /// Environment; empty if this program may not read it.
    environment: BTreeMap<String, String>,
}

impl Process {
    /// Returns the value of a flag: of the command line, or else of its variable `MESOS_…`.
    pub fn flag(&self, name: &str) -> Option<String> {
        let variable = || {
            self.environment
                .get(&format!("MESOS_{}", name.to_uppercase()))
        };
        self.flags.get(name).or_else(variable).cloned()
    }

    /// Returns the flags of the command line, without `--`.
    pub fn flags(&self) -> &BTreeMap<String, String> {
        &self.flags
    }

    /// Returns the environment; empty if this program may not read it.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Returns true if this program may read the environment of the process.
    pub fn has_environment(&self) -> bool {
        !self.environment.is_empty()
    }

    /// Returns the value of a variable of the environment.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Returns the address of the process, `ip:port`: that which it advertises or binds to, or
    /// 127.0.0.1 if it binds to every address.
    pub fn address(&self) -> Option<String> {
        let first = |names: [&str; 4]| {
            let [flag, other, variable, last] = names;
            self.flag(flag)
                .or_else(|| self.flag(other))
                .or_else(|| self.variable(variable).map(str::to_owned))
                .or_else(|| self.variable(last).map(str::to_owned))
        };
        let port = first([
            "advertise_port",
            "port",
            "LIBPROCESS_ADVERTISE_PORT",
            "LIBPROCESS_PORT",
        ]);
        let port = match port {
            Some(port) => port.trim().parse().ok()?,
            None => self.role.default_port(),
        };
        let ip = first([
            "advertise_ip",
            "ip",
            "LIBPROCESS_ADVERTISE_IP",
            "LIBPROCESS_IP",
        ]);
        let ip = ip
            .filter(|ip| ip != "0.0.0.0")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        Some(format!("{}:{port}", ip.trim()))
    }

    /// Returns the path of the configuration of an overlay module that this process loads.
    pub fn module_config(&self, kind: ModuleKind) -> Option<PathBuf> {
        let texts = self.module_texts();
        texts.iter().find_map(|text| modules::config_of(text, kind))
    }

    /// Returns the lists of modules of this process, as JSON.
    pub fn module_texts(&self) -> Vec<String> {
        let files = self.module_files().into_iter();
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts.chain(self.inline_modules()).collect()
    }

    /// Returns the files that list the modules of this process (`--modules`, `--modules_dir`).
    pub fn module_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Some(modules) = self.flag("modules") {
            let path = modules.strip_prefix("file://").unwrap_or(&modules);
            files.extend(path.starts_with('/').then(|| PathBuf::from(path)));
        }
        if let Some(dir) = self.flag("modules_dir") {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            files.extend(entries.map(|entry| entry.path()));
        }
        files.sort();
        files
    }

    /// Returns the list of modules that `--modules` has in itself.
    fn inline_modules(&self) -> Option<String> {
        self.flag("modules")
            .filter(|modules| modules.trim_start().starts_with('{'))
    }
}

/// Returns the processes of Mesos in the network namespace of the calling thread, masters first.
pub fn find() -> Vec<Process> {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> = pids
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok() == own)
        .filter_map(read)
        .collect();
    found.sort_by_key(|process| (process.role, process.pid));
    found
}

/// Reads a process; `None`: it is not of Mesos, or has ended.
fn read(pid: u32) -> Option<Process> {
    let arguments = strings(&fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let named = arguments.first().map(PathBuf::from);
    let role = program
        .as_deref()
        .and_then(Role::of)
        .or_else(|| Role::of(named.as_deref()?))?;
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = strings(&environment);
    let pairs = variables
        .iter()
        .filter_map(|variable| variable.split_once('='));
    Some(Process {
        pid,
        role,
        flags: flags(&arguments[1.min(arguments.len())..]),
        environment: pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| {
            OsString::from_vec(part.to_vec())
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// Reads flags as Mesos does: `--name=value`, `--name` and `--no-name`.
fn flags(arguments: &[String]) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for argument in arguments {
        let Some(flag) = argument.strip_prefix("--") else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value),
            None => match flag.strip_prefix("no-") {
                Some(name) => (name, "false"),
                None => (flag, "true"),
            },
        };
        flags.insert(name.to_owned(), value.to_owned());
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_variables_have_the_precedence_of_mesos() {
        let arguments = ["--ip=10.0.0.1", "--no-hostname_lookup", "rest"].map(str::to_owned);
        let process = Process {
            pid: 1,
            role: Role::Agent,
            flags: flags(&arguments),
            environment: [("MESOS_IP", "10.0.0.9"), ("MESOS_PORT", "6051")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(process.flag("ip").as_deref(), Some("10.0.0.1"));
        assert_eq!(process.flag("hostname_lookup").as_deref(), Some("false"));
        assert_eq!(process.address().as_deref(), Some("10.0.0.1:6051"));
    }
}
