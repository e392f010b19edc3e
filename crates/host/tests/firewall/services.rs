//! Real firewall services beside the module: ufw and firewalld. They are installed into a copy of the
//! machine's file system in memory, in a mount namespace of the test, and run in the host's network
//! namespace.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, eventually};

use crate::tool_set::ToolSet;
use crate::topology::{
    DOCKER, MESOS, OUTSIDE, PEER, Topology, assert_connects, connects, is_closed,
};

/// Directory of the copy, in the mount namespace of the test.
const ROOT: &str = "/mnt/root";

/// Mounts a file system.
fn mount_at(source: &str, kind: Option<&str>, target: &str, flags: MsFlags, options: Option<&str>) {
    fs::create_dir_all(target).unwrap();
    mount(Some(source), target, kind, flags, options)
        .unwrap_or_else(|error| panic!("mounting {target}: {error}"));
}

/// Makes the copy in a mount namespace of the calling thread and installs a package in it. The error
/// is the reason why the package cannot be installed.
fn install(package: &str) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount_at("none", None, "/", private, None);
    let none = MsFlags::empty();
    mount_at("tmpfs", Some("tmpfs"), "/mnt", none, None);
    for dir in ["/mnt/upper", "/mnt/work", ROOT] {
        fs::create_dir_all(dir).unwrap();
    }
    let layers = "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work";
    mount_at("overlay", Some("overlay"), ROOT, none, Some(layers));
    for (kind, dir) in [("proc", "proc"), ("tmpfs", "run"), ("tmpfs", "tmp")] {
        mount_at(kind, Some(kind), &format!("{ROOT}/{dir}"), none, None);
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount_at("/dev", None, &format!("{ROOT}/dev"), bind, None);
    fs::create_dir_all(format!("{ROOT}/run/dbus")).unwrap();
    // Package scripts must start no service.
    let policy = format!("{ROOT}/usr/sbin/policy-rc.d");
    fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
    fs::set_permissions(&policy, PermissionsExt::from_mode(0o755)).unwrap();
    let apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends";
    let line = format!("{apt} install {package} || {{ {apt} update && {apt} install {package}; }}");
    let output = Command::new("chroot")
        .args([ROOT, "sh", "-c", &line])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("chroot: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "installing {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Returns a host with an installed package; `None` (and the test is skipped) if that cannot be had.
fn host_with(package: &'static str, test: &str) -> Option<Host> {
    if !testbed::skip::require_hosts(test) {
        return None;
    }
    // Here the machine's own network is reached, and on the host's thread it is not.
    let installed = std::thread::spawn(move || {
        install(package).map(|()| File::open("/proc/thread-self/ns/mnt").unwrap())
    });
    match installed.join().unwrap() {
        Ok(mounts) => Some(Host::prepared(move || {
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(mounts, CloneFlags::CLONE_NEWNS).unwrap();
        })),
        Err(reason) => {
            testbed::skip::skip(test, &reason);
            None
        }
    }
}

/// Runs a command of the copy on the host.
fn run(host: &Host, command: &str) -> String {
    host.command(&format!("chroot {ROOT} {command}"))
}

/// Returns the desired state of the host, with its address.
fn desired(topology: &Topology) -> Desired {
    Desired {
        underlay_ip: Some("10.0.0.1".parse().unwrap()),
        ..topology.desired()
    }
}

/// Tells if TCP passes between the containers of the overlay, on the host and across hosts.
fn passes(topology: &Topology) -> bool {
    [
        (&topology.mesos, DOCKER),
        (&topology.docker, PEER),
        (&topology.peer, MESOS),
    ]
    .iter()
    .all(|(client, server)| connects(client, server[0]) && connects(client, server[1]))
}

#[test]
fn overlays_pass_beside_ufw() {
    let Some(host) = host_with("ufw", "services::overlays_pass_beside_ufw") else {
        return;
    };
    let topology = Topology::new(ToolSet::IptablesNft, host);
    topology.settle();
    let worker = topology.host.worker();
    worker.apply_ok(&desired(&topology));
    eventually("packets pass", || passes(&topology));
    for line in ["ufw default reject routed", "ufw --force enable"] {
        run(&topology.host, line);
    }
    eventually("the tunnels' port is missed", || {
        let report = topology.host.apply(&desired(&topology));
        let sentence = report.host.first().map(|problem| problem.text.clone());
        sentence.is_some_and(|text| text.ends_with("let them in: ufw allow 64000/udp"))
    });
    run(&topology.host, "ufw allow 64000/udp");
    eventually("packets pass beside ufw", || passes(&topology));
    assert_connects(&topology.mesos, OUTSIDE[0]);
    assert!(is_closed(&topology.foreign, OUTSIDE[0]));
    run(&topology.host, "ufw --force reload");
    eventually("packets pass after a reload", || passes(&topology));
    drop(worker);
    topology.host.settle(&desired(&topology));
}

/// Services that end with the test.
struct Services(Vec<Child>);

impl Services {
    fn start(&mut self, host: &Host, command: &'static [&'static str]) {
        let child = host.run(move || {
            let mut chroot = Command::new("chroot");
            chroot.arg(ROOT).args(command);
            chroot.stdin(Stdio::null()).stdout(Stdio::null());
            chroot.stderr(Stdio::null()).spawn().unwrap()
        });
        self.0.push(child);
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn overlays_pass_beside_firewalld_with_the_recommended_commands() {
    let test = "services::overlays_pass_beside_firewalld_with_the_recommended_commands";
    let Some(host) = host_with("firewalld", test) else {
        return;
    };
    let topology = Topology::new(ToolSet::IptablesNft, host);
    topology.settle();
    eventually("packets pass", || passes(&topology));
    let mut services = Services(Vec::new());
    run(&topology.host, "dbus-uuidgen --ensure");
    services.start(
        &topology.host,
        &["dbus-daemon", "--system", "--nofork", "--nopidfile"],
    );
    let bus = format!(
        "/proc/{}/root/run/dbus/system_bus_socket",
        services.0[0].id()
    );
    eventually("the bus", || Path::new(&bus).exists());
    services.start(&topology.host, &["firewalld", "--nofork"]);
    eventually("firewalld", || {
        topology.host.run(|| {
            let mut command = Command::new("chroot");
            command.args([ROOT, "firewall-cmd", "--state"]);
            let output = command.stdout(Stdio::null()).stderr(Stdio::null());
            output.status().unwrap().success()
        })
    });
    assert!(!passes(&topology));
    let report = topology.host.apply(&desired(&topology));
    assert_eq!(report.host.len(), 2, "{report:?}");
    for problem in &report.host {
        let (_, remedy) = problem.text.split_once(": firewall-cmd").unwrap();
        for command in format!("firewall-cmd{remedy}").split("; ") {
            run(&topology.host, command);
        }
    }
    topology.host.settle(&desired(&topology));
    assert!(passes(&topology));
}
