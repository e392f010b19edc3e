//! Mesos's processes on this host: flags, environment, modules, libraries, endpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Collector, part, text};
use crate::connection::Http;
use crate::diags::bundle::{Content, Form};
use crate::this_host::processes::{Process, Role};

/// Beginnings of the names of variables that are collected. Others can have anything.
const VARIABLES: [&str; 3] = ["MESOS_", "LIBPROCESS_", "GLOG_"];
/// Endpoints of an agent: name in the archive, path.
const AGENT: [(&str, &str); 4] = [
    ("overlay.json", "/overlay-agent/overlay"),
    ("metrics.json", "/metrics/snapshot"),
    ("version.json", "/version"),
    ("endpoint-flags.json", "/flags"),
];
/// Endpoints of a master: name in the archive, path.
const MASTER: [(&str, &str); 4] = [
    ("health.json", "/overlay-master/health"),
    ("overlay.json", "/overlay-agent/overlay"),
    ("metrics.json", "/metrics/snapshot"),
    ("version.json", "/version"),
];
/// Largest number of files of one directory.
const MAX_FILES: usize = 200;
/// Largest number of addresses that are listed.
const MAX_ADDRESSES: usize = 50_000;

impl Collector<'_> {
    /// Adds what is known of Mesos on this host.
    pub(super) fn mesos(&mut self) {
        let processes = self.mesos.host.processes.clone();
        if processes.is_empty() {
            let reason = "no Mesos runs in this network namespace".to_owned();
            self.add(
                "mesos/",
                "Mesos's flags and environment",
                Form::Text,
                Err(reason),
            );
        }
        let http = Http::new(self.connection);
        for process in &processes {
            let (role, endpoints) = match process.role {
                Role::Master => ("master", &MASTER),
                Role::Agent => ("agent", &AGENT),
            };
            let directory = format!("mesos/{role}-{}", process.pid);
            self.process(&directory, process);
            if let (Ok(http), Some(address)) = (&http, process.address()) {
                let whose = format!("the Mesos {role} on this host");
                self.ask(&directory, &whose, http, &address, endpoints);
            }
        }
        for file in self.mesos.configs.clone() {
            let name = format!("config/{}", part(&file.display().to_string()));
            self.file(&name, &file, Form::Json);
        }
        self.cni();
    }

    fn process(&mut self, directory: &str, process: &Process) {
        let flags = json!(process.flags());
        let flags = Content::from(flags.to_string());
        self.add(
            &format!("{directory}/flags.json"),
            "flags of the command line",
            Form::Json,
            Ok(flags),
        );
        let environment = match process.has_environment() {
            true => Ok(Content::from(json!(variables(process)).to_string())),
            false => Err("only root and the user of Mesos can read it".to_owned()),
        };
        let what = "variables MESOS_*, LIBPROCESS_* and GLOG_*";
        self.add(
            &format!("{directory}/environment.json"),
            what,
            Form::Json,
            environment,
        );
        let libraries = libraries(process.pid).map(Content::from);
        let what = "libraries that are loaded";
        self.add(
            &format!("{directory}/libraries.txt"),
            what,
            Form::Text,
            libraries,
        );
        for file in process.module_files().into_iter().take(MAX_FILES) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            self.file(
                &format!("{directory}/modules/{}", part(&name)),
                &file,
                Form::Json,
            );
        }
    }

    /// Adds the files in the directories of CNI, and the addresses in use.
    fn cni(&mut self) {
        for directory in self.mesos.values("cni_dir") {
            let directory = PathBuf::from(directory);
            match files_of(&directory) {
                Ok(files) => {
                    for file in files.into_iter().take(MAX_FILES) {
                        let name = file.file_name().unwrap_or_default().to_string_lossy();
                        self.file(&format!("cni/{}", part(&name)), &file, Form::Json);
                    }
                }
                Err(reason) => {
                    let what = format!("configurations of CNI in {}", directory.display());
                    self.add("cni/", &what, Form::Json, Err(reason));
                }
            }
        }
        let mut directories = self.mesos.values("cni_data_dir");
        directories.push("/var/lib/cni/networks".to_owned());
        directories.dedup();
        for directory in directories {
            let content = addresses(Path::new(&directory)).map(Content::from);
            let what = format!("addresses in use in {directory}, and their containers");
            let name = format!("addresses/{}.txt", part(&directory));
            self.add(&name, &what, Form::Text, content);
        }
    }
}

/// Returns the variables of a process that are collected.
fn variables(process: &Process) -> BTreeMap<&str, &str> {
    let environment = process.environment().iter();
    let wanted =
        environment.filter(|(name, _)| VARIABLES.iter().any(|start| name.starts_with(start)));
    wanted
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// Returns the shared libraries of a process, one a line.
fn libraries(pid: u32) -> Result<String, String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
        .map_err(|error| format!("cannot read /proc/{pid}/maps: {error}"))?;
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut libraries: Vec<&str> = paths.filter(|path| path.contains(".so")).collect();
    libraries.sort_unstable();
    libraries.dedup();
    Ok(libraries.join("\n") + "\n")
}

/// Returns the regular files in a directory. The error is a sentence.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Returns the files of the plugin host-local, one a line: network, address and container.
fn addresses(directory: &Path) -> Result<String, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let mut networks: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    networks.sort();
    let mut lines = String::new();
    let mut number = 0;
    for network in networks.iter().filter(|network| network.is_dir()) {
        for file in files_of(network)? {
            number += 1;
            if number > MAX_ADDRESSES {
                return Ok(lines + "and more\n");
            }
            let name = file.strip_prefix(directory).unwrap_or(&file);
            let content = text(&file).unwrap_or_else(|reason| reason);
            let content: Vec<&str> = content.split_whitespace().take(2).collect();
            lines += &format!("{} {}\n", name.display(), content.join(" "));
        }
    }
    Ok(lines)
}
