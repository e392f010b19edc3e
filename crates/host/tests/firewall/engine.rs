//! With the rules of a real Docker engine, restarted in between.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use testkit::host::{Host, eventually};

use crate::site::{self, DOCKER, FOREIGN, MESOS, OUTSIDE, Site, UPLINK, is_cut_off, seen};
use crate::tools::{self, Tools, on};

on!(IptablesNft IptablesLegacy; restarted, super::an_engine_comes_and_is_restarted);

/// An engine in a host's network namespace.
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
        // The machine's own engine has its own configuration.
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
            // Nothing is run in it.
            "--storage-driver".to_owned(),
            "vfs".to_owned(),
            "--bip".to_owned(),
            "172.31.0.1/24".to_owned(),
        ];
        host.run(move || {
            let mut command = Command::new("dockerd");
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

fn an_engine_comes_and_is_restarted(tools: Tools, host: Host) {
    if tools::find("dockerd").is_none() || Command::new("docker").arg("--version").output().is_err()
    {
        return testbed::skip::skip("engine::restarted", "there is no Docker engine here");
    }
    let site = Site::new(tools, host);
    site.settle();
    for (client, servers) in [
        (&site.mesos, [DOCKER, FOREIGN]),
        (&site.docker, [MESOS, FOREIGN]),
    ] {
        servers
            .iter()
            .flatten()
            .for_each(|server| _ = seen(client, server));
    }
    // The bridges are the engine's, the containers' cables ours: no image is needed.
    for bridge in ["d-dcos", "foreign"] {
        site.host.ip(&format!("link delete {bridge}"));
    }
    let worker = site.host.worker();
    worker.apply_ok(&site.desired());
    let mut engine = Engine::start(&site.host);
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
        site.host
            .ip(&format!("link set {bridge}-port master {bridge}"));
    }
    for round in ["new", "restarted"] {
        // The worker makes it right by itself.
        assert_eq!(seen(&site.mesos, DOCKER[0]), MESOS[0], "{round}");
        assert_eq!(seen(&site.docker, MESOS[0]), DOCKER[0], "{round}");
        assert_eq!(seen(&site.peer, DOCKER[0]), site::PEER[0], "{round}");
        assert_eq!(seen(&site.mesos, OUTSIDE[0]), UPLINK[0], "{round}");
        assert_eq!(seen(&site.docker, OUTSIDE[0]), UPLINK[0], "{round}");
        assert!(is_cut_off(&site.foreign, DOCKER[0]), "{round}");
        assert!(is_cut_off(&site.docker, FOREIGN[0]), "{round}");
        if round == "new" {
            engine.restart();
        }
    }
}
