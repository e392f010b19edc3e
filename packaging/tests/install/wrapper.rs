//! Mesos in a file system, started as `mesos-init-wrapper` of its packages does it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use testbed::cleanup::RUN_VARIABLE;
use testbed::cluster;
use testbed::http::Client;
use testbed::mesos::Mesos;
use testbed::net::NamedNetns;
use testbed::node::Role;
use testbed::process::Daemon;
use testbed::run::Run;
use testbed::wait;

use crate::chroot::Chroot;

/// Directory of Mesos.
const MESOS: &str = "/opt/mesos";

/// Deadline for Mesos to start.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs Mesos, with what its packages put into /etc, and nothing about overlays.
pub fn install(chroot: &Chroot, mesos: &Mesos, run: &Run) {
    mesos.install(&chroot.path(MESOS)).unwrap();
    // What the agent starts only with containers.
    chroot.write("usr/libexec/mesos/mesos-cni-port-mapper", "#!/bin/sh\n");
    for role in [Role::Master, Role::Agent] {
        chroot.write(&format!("etc/default/mesos-{role}"), "ULIMIT=\"-n 8192\"\n");
        let unit = format!("usr/lib/systemd/system/mesos-{role}.service");
        chroot.write(&unit, "[Service]\nExecStart=/usr/bin/mesos-init-wrapper\n");
        let flags = format!("etc/mesos-{role}");
        chroot.write(&format!("{flags}/ip"), "127.0.0.1\n");
        chroot.write(&format!("{flags}/work_dir"), "/var/lib/mesos\n");
    }
    chroot.write("etc/mesos-master/port", "5050\n");
    chroot.write("etc/mesos-agent/port", "5051\n");
    chroot.write("etc/mesos-agent/launcher_dir", "/opt/mesos/libexec\n");
    chroot.write("etc/mesos-agent/systemd_enable_support", "false\n");
    chroot.write("etc/mesos-agent/isolation", "posix/cpu,posix/mem\n");
    chroot.write("etc/mesos-agent/cgroups_root", &run.name("agent"));
    if let Some(hierarchies) = cluster::freezer() {
        let hierarchies = format!("{}\n", hierarchies.display());
        chroot.write("etc/mesos-agent/cgroups_hierarchy", &hierarchies);
    }
    // The address of the only master takes the place of ZooKeeper's.
    chroot.write("etc/mesos/zk", "127.0.0.1:5050\n");
}

/// A running master or agent.
pub struct Node {
    daemon: Daemon,
    client: Client,
}

impl Node {
    /// Starts Mesos on a host, with the flags and variables in /etc.
    pub fn start(chroot: &Chroot, host: &NamedNetns, run: &Run, role: Role) -> Node {
        let mut variables = sourced(chroot, role);
        let mut port = 0;
        for (name, value) in flags(chroot, role) {
            // The launcher takes flags from the environment alone. Mesos's own programs, which take
            // them as arguments, give these two to libprocess.
            let variable = name.to_uppercase();
            if name == "ip" || name == "port" {
                variables.insert(format!("LIBPROCESS_{variable}"), value.clone());
            }
            if name == "port" {
                port = value.parse().unwrap();
            }
            // Mesos reads the value of a flag from a file that it names so.
            let value = match value.strip_prefix("file://") {
                Some(file) => chroot.read(file),
                None => value,
            };
            variables.insert(format!("MESOS_{variable}"), value);
        }
        if role == Role::Agent {
            // The module reads it, and the launcher takes it as the flag that the script would give.
            let master = chroot.read("etc/mesos/zk");
            let seen = variables.get("MESOS_MASTER").map(String::as_str);
            assert_eq!(seen, Some(master.trim()), "the module sees its master");
        }
        let mut command = chroot.command(&format!("{MESOS}/libexec/mesos-launcher"));
        command
            .arg(role.to_string())
            .env(RUN_VARIABLE, run.id())
            .envs(variables);
        let log = run.dir().join(format!("{role}.log"));
        let name = role.to_string();
        let daemon = Daemon::spawn(&name, command, Some(host.netns()), &log).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = Client::new(address, Some(host.netns().clone()));
        Node { daemon, client }
    }

    /// Waits until an endpoint answers with JSON that has what is asked for.
    pub fn wait<T>(
        &mut self,
        path: &str,
        mut ask: impl FnMut(&serde_json::Value) -> Option<T>,
    ) -> T {
        let mut last = String::new();
        let found = wait::until(path, LIMIT, || {
            self.daemon.check()?;
            let answer = self.client.get(path)?.json()?;
            let found = ask(&answer);
            last = answer.to_string();
            Ok(found)
        });
        found.unwrap_or_else(|error| panic!("{error:#}\n{last}\n{}", self.daemon.log()))
    }

    /// Ends the process.
    pub fn stop(mut self) {
        self.daemon.terminate(Duration::from_secs(20)).unwrap();
    }
}

/// Variables that the files in /etc/default set for all programs that they start.
fn sourced(chroot: &Chroot, role: Role) -> BTreeMap<String, String> {
    let script = format!(
        "set -a; if [ -e /etc/default/mesos ]; then . /etc/default/mesos; fi; . /etc/default/mesos-{role}; env"
    );
    let text = chroot.run(&script);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let of_mesos = pairs.filter(|(name, _)| {
        ["MESOS_", "LIBPROCESS_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    of_mesos
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Flags of the directory: each file is one, but for those that packages leave beside others.
fn flags(chroot: &Chroot, role: Role) -> BTreeMap<String, String> {
    let directory = chroot.path(&format!("etc/mesos-{role}"));
    let mut flags = BTreeMap::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".dpkg-dist") && !name.ends_with(".rpmnew") {
            flags.insert(name.to_owned(), value(&path));
        }
    }
    flags
}

fn value(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}
