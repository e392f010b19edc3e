//! Processes of Mesos in this network namespace, and their flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use overlay_host::files::{self, Links};

use super::CONFIG_LIMIT;
use super::modules::{self, ModuleKind};

/// Lowest id of users that log in, on all common distributions.
const FIRST_LOGIN: u32 = 1000;

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

    /// Returns the address at which programs on this host reach the process, `ip:port`: that which it
    /// binds to, or 127.0.0.1 if it binds to every address.
    pub fn address(&self) -> Option<String> {
        let setting = |flag: &str, variable: &str| {
            let set = self.variable(variable).map(str::to_owned);
            self.flag(flag).or(set).map(|text| text.trim().to_owned())
        };
        let port = match setting("port", "LIBPROCESS_PORT") {
            Some(port) => port.parse().ok()?,
            None => self.role.default_port(),
        };
        // A command of the operator can find the address (`--ip_discovery_command`), as on DC/OS.
        let ip = setting("ip", "LIBPROCESS_IP")
            .or_else(|| Some(listening(self.pid, port)?.to_string()))
            .filter(|ip| ip != "0.0.0.0")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        Some(format!("{ip}:{port}"))
    }

    /// Returns the path of the configuration of an overlay module that this process loads.
    pub fn module_config(&self, kind: ModuleKind) -> Option<PathBuf> {
        let texts = self.module_texts();
        texts.iter().find_map(|text| modules::config_of(text, kind))
    }

    /// Returns the lists of modules of this process, as JSON.
    pub fn module_texts(&self) -> Vec<String> {
        let paths = self.module_files().into_iter();
        let texts =
            paths.filter_map(|file| files::read_text(&file, Links::Follow, CONFIG_LIMIT).ok());
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
    if !is_trusted(pid) {
        return None;
    }
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

/// Returns whether a process may be Mesos: one of root, of this user, or of a system's user with a
/// program of root. Everybody can give a process the name of Mesos, and flags that lead an operator
/// to another master.
fn is_trusted(pid: u32) -> bool {
    let Ok(process) = fs::metadata(format!("/proc/{pid}")) else {
        return false;
    };
    let user = process.uid();
    if user == 0 || user == geteuid().as_raw() {
        return true;
    }
    let program = fs::metadata(format!("/proc/{pid}/exe"));
    user < FIRST_LOGIN && program.is_ok_and(|program| program.uid() == 0)
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

/// Returns the IPv4 address at which a process of this network namespace listens on a TCP port.
fn listening(pid: u32, port: u16) -> Option<Ipv4Addr> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    listening_in(&table, port)
}

/// Finds the address of a listening socket in a table such as `/proc/net/tcp`: its second column has
/// address and port in hexadecimal digits, the third the other end, the fourth the state.
fn listening_in(table: &str, port: u16) -> Option<Ipv4Addr> {
    const LISTEN: &str = "0A";
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (ip, of_socket) = words.next()?.split_once(':')?;
        let is_listening = words.nth(1)? == LISTEN;
        let of_socket = u16::from_str_radix(of_socket, 16).ok()?;
        let ip = u32::from_str_radix(ip, 16).ok()?;
        // The kernel prints the bytes of the address as a number of this machine.
        (is_listening && of_socket == port).then(|| Ipv4Addr::from(ip.to_ne_bytes()))
    })
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
    fn the_address_of_a_listening_socket_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
                     0: 0101A8C0:13BA 0A00A8C0:0016 01 00000000:00000000\n   \
                     1: 0201A8C0:13BA 00000000:0000 0A 00000000:00000000\n";
        assert_eq!(listening_in(table, 5050), "192.168.1.2".parse().ok());
        assert_eq!(listening_in(table, 5051), None);
    }

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
