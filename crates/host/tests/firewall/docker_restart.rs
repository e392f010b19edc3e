//! Forwarding beside the rules of a real Docker engine that is restarted.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::host::{Host, eventually};

use crate::tool_set::{self, ToolSet, test_with};
use crate::topology::{self, DOCKER, FOREIGN, MESOS, OUTSIDE, Topology, UPLINK, is_cut_off, seen};

test_with!(IptablesNft IptablesLegacy; restarted, super::overlay_traffic_passes_beside_docker);

/// A Docker engine in a host's network namespace.
struct Engine<'a> {
    host: &'a Host,
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Engine<'_> {
    fn start(host: &Host) -> Engine<'_> {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Engine::daemon(host, dir.path());
        let engine = Engine { host, dir, daemon };
        engine.wait();
        engine
    }

    fn daemon(host: &Host, dir: &Path) -> Child {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        // The engine must not read the machine's own configuration file.
        std::fs::write(path("config"), "{}").unwrap();
        let arguments = [
            "--config-file".to_owned(),
            path("config"),
            "--host".to_owned(),
            format!("unix://{}", path("socket")),
            "--data-root".to_owned(),
            path("data"),
            "--exec-root".to_owned(),
            path("exec"),
            "--pidfile".to_owned(),
            path("pid"),
            // No container runs in the engine.
            "--storage-driver".to_owned(),
            "vfs".to_owned(),
            "--bip".to_owned(),
            "172.31.0.1/24".to_owned(),
        ];
        host.run(move || {
            let release = testbed::docker::Release::selected().unwrap();
            let mut command = release.command("dockerd").unwrap();
            command
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
    }

    fn docker(&self, line: &str) -> bool {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!(
            "unix://{}",
            self.dir.path().join("socket").display()
        ));
        docker
            .args(line.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    fn wait(&self) {
        eventually("an engine", || self.docker("version"));
    }

    fn stop(&mut self) {
        let id = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.daemon.wait();
    }

    fn restart(&mut self) {
        self.stop();
        self.daemon = Engine::daemon(self.host, self.dir.path());
        self.wait();
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn overlay_traffic_passes_beside_docker(tools: ToolSet, host: Host) {
    if tool_set::find("dockerd").is_none()
        || Command::new("docker").arg("--version").output().is_err()
    {
        return testbed::skip::skip(
            "docker_restart::restarted",
            "there is no Docker engine here",
        );
    }
    let topology = Topology::new(tools, host);
    topology.settle();
    exchange_packets(&topology);
    // The engine makes the bridges; the containers are namespaces, so that no image is needed.
    for bridge in ["d-dcos", "foreign"] {
        topology.host.ip(&format!("link delete {bridge}"));
    }
    let worker = topology.host.worker();
    // Without the bridges the containers are cut off, which is reported.
    worker.start(&topology.desired());
    worker.finish();
    let mut engine = Engine::start(&topology.host);
    create_networks(&engine, &topology.host);
    for round in ["started", "restarted"] {
        // The worker repairs the rules by itself.
        assert_eq!(seen(&topology.mesos, DOCKER[0]), MESOS[0], "{round}");
        assert_eq!(seen(&topology.docker, MESOS[0]), DOCKER[0], "{round}");
        assert_eq!(
            seen(&topology.peer, DOCKER[0]),
            topology::PEER[0],
            "{round}"
        );
        assert_eq!(seen(&topology.mesos, OUTSIDE[0]), UPLINK[0], "{round}");
        assert_eq!(seen(&topology.docker, OUTSIDE[0]), UPLINK[0], "{round}");
        assert!(is_cut_off(&topology.foreign, DOCKER[0]), "{round}");
        assert!(is_cut_off(&topology.docker, FOREIGN[0]), "{round}");
        if round == "started" {
            engine.restart();
        }
    }
}

/// Sends packets between containers, so that only the firewall can be the reason if none arrive
/// later.
fn exchange_packets(topology: &Topology) {
    for (client, servers) in [
        (&topology.mesos, [DOCKER, FOREIGN]),
        (&topology.docker, [MESOS, FOREIGN]),
    ] {
        for server in servers.iter().flatten() {
            seen(client, server);
        }
    }
}

/// Creates the Docker networks of the topology and attaches their containers.
fn create_networks(engine: &Engine<'_>, host: &Host) {
    for (bridge, subnet, gateway) in [
        ("d-dcos", "9.0.1.128/25", "9.0.1.129"),
        ("foreign", "172.30.0.0/24", "172.30.0.1"),
    ] {
        let name = bridge.trim_start_matches("d-");
        let options = "--opt com.docker.network.bridge.enable_ip_masquerade=false --opt \
                       com.docker.network.bridge.name";
        assert!(engine.docker(&format!(
            "network create --driver bridge --subnet {subnet} --gateway {gateway} {options}={bridge} {name}"
        )));
        host.ip(&format!("link set {bridge}-port master {bridge}"));
    }
}
