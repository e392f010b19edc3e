//! Tests of packets between Docker containers and other containers of Docker and Mesos, on one
//! host and across hosts. Each of the two hosts has its own engine and a namespace that stands
//! for a Mesos container.
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Bridge, Desired};
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::engine::Network;
use testkit::engine::{DockerHost, EngineKeeper, network};
use testkit::host::{Host, PATIENCE, eventually, peer};

mod later_releases;
mod unpublished;

/// A host with an engine, a Docker container `web` and a Mesos container.
struct Agent {
    /// Keeps the engine's networks.
    _keeper: EngineKeeper,
    docker: DockerHost,
    mesos: Host,
}

impl Agent {
    fn new(n: u8) -> Agent {
        let docker = DockerHost::started();
        let mesos = mesos_container(&docker.host, n);
        let mut keeper = EngineKeeper::spawn();
        let desired = desired(&docker.host, n);
        let network = Network::of(&desired.overlays["dcos"], desired.vtep.as_ref()).unwrap();
        let networks = [("dcos".to_owned(), network)].into();
        keeper.apply_ok(&EngineDesired {
            networks,
            ..docker.desired(n)
        });
        docker
            .engine
            .container("web", "dcos", &["--ip", &web(n).0, "--ip6", &web(n).1])
            .unwrap();
        Agent {
            _keeper: keeper,
            docker,
            mesos,
        }
    }

    /// Pings from the Docker container. See [`ping`].
    fn docker_reaches(&self, to: &str) -> bool {
        self.reaches_from("web", to)
    }

    fn reaches_from(&self, container: &str, to: &str) -> bool {
        let mut args = vec!["exec", container];
        let ping = ping(to);
        args.extend(ping.split(' '));
        self.docker.engine.docker(&args).is_ok()
    }

    /// Pings from the Mesos container. See [`ping`].
    fn mesos_reaches(&self, to: &str) -> bool {
        let line = format!("{} {}", testbed::install::BUSYBOX, ping(to));
        self.mesos.run(move || {
            let mut words = line.split(' ');
            let output = std::process::Command::new(words.next().unwrap())
                .args(words)
                .output()
                .unwrap();
            output.status.success()
        })
    }
}

/// Returns the command that sends one packet of the size of the overlay's MTU and waits one
/// second for the reply.
fn ping(to: &str) -> String {
    let payload = if to.contains(':') {
        1420 - 48
    } else {
        1420 - 28
    };
    format!("ping -c 1 -w 1 -W 1 -s {payload} {to}")
}

/// Returns the addresses of the Docker container.
fn web(n: u8) -> (String, String) {
    (format!("9.0.{n}.200"), format!("fd01:b::{n}:8000:0:200"))
}

/// Returns the addresses of the Mesos container.
fn mesos(n: u8) -> (String, String) {
    (format!("9.0.{n}.5"), format!("fd01:b::{n}:0:0:5"))
}

/// Returns the desired state of a host with bridges for both containerizers.
fn desired(host: &Host, n: u8) -> Desired {
    let mut desired = Desired {
        peers: Some(Arc::new([peer(u32::from(3 - n))].into())),
        ..host.desired(n)
    };
    let docker = network("d-dcos", n);
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    overlay.docker_bridge = Some(Bridge {
        name: docker.bridge,
        subnets: docker.subnets,
    });
    desired
}

/// Creates a bridge and a container like the CNI plugins.
fn mesos_container(host: &Host, n: u8) -> Host {
    let container = Host::new();
    host.ip("link add m-dcos type bridge");
    host.connect("port", &container, "eth0");
    host.ip("link set port master m-dcos");
    container.ip("link set eth0 mtu 1420");
    let (own, own6) = mesos(n);
    for (prefix, gateway, own) in [
        (25, format!("9.0.{n}.1"), own),
        (81, format!("fd01:b::{n}:0:0:1"), own6),
    ] {
        host.ip(&format!("address add {gateway}/{prefix} dev m-dcos nodad"));
        container.ip(&format!("address add {own}/{prefix} dev eth0 nodad"));
        host.ip("link set m-dcos up");
        container.ip(&format!("route add default via {gateway}"));
    }
    container
}

/// Returns two agents with a common underlay and complete configuration.
fn agents() -> (Agent, Agent) {
    let (one, two) = (Agent::new(1), Agent::new(2));
    one.docker
        .host
        .connect("underlay", &two.docker.host, "underlay");
    one.docker.host.ip("address add 10.0.0.1/24 dev underlay");
    two.docker.host.ip("address add 10.0.0.2/24 dev underlay");
    one.docker.host.settle(&desired(&one.docker.host, 1));
    two.docker.host.settle(&desired(&two.docker.host, 2));
    (one, two)
}

/// Repeats a check until it succeeds: ports of a new bridge and IPv6 addresses need some time.
fn assert_eventually(what: &str, reaches: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reaches() {
        assert!(Instant::now() < deadline, "{what} does not work");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn all_containers_reach_each_other() {
    if !testbed::skip::require_docker("all_containers_reach_each_other") {
        return;
    }
    let (one, two) = agents();
    let (near, far) = ((web(1), mesos(1)), (web(2), mesos(2)));
    for (what, to) in [
        ("Docker to Docker, across", &far.0),
        ("Docker to Mesos, across", &far.1),
    ] {
        assert_eventually(what, || one.docker_reaches(&to.0));
        assert_eventually(&format!("{what}, IPv6"), || one.docker_reaches(&to.1));
    }
    for (what, to) in [
        ("Mesos to Docker, on one host", &near.0),
        ("Mesos to Docker, across", &far.0),
    ] {
        assert_eventually(what, || one.mesos_reaches(&to.0));
        assert_eventually(&format!("{what}, IPv6"), || one.mesos_reaches(&to.1));
    }
    assert_eventually("Docker to Mesos, on one host", || {
        one.docker_reaches(&near.1.0)
    });
    assert_eventually("Docker to Mesos, on one host, IPv6", || {
        one.docker_reaches(&near.1.1)
    });
    // The opposite direction.
    assert_eventually("Docker to Docker, back", || two.docker_reaches(&near.0.0));
    assert_eventually("Mesos to Mesos, back", || two.mesos_reaches(&near.1.0));
}

#[test]
fn other_networks_stay_apart() {
    if !testbed::skip::require_docker("other_networks_stay_apart") {
        return;
    }
    let agent = Agent::new(1);
    for (name, subnet) in [("blue", "10.98.0.0/24"), ("red", "10.99.0.0/24")] {
        agent
            .docker
            .docker(&format!("network create --subnet {subnet} {name}"));
        agent.docker.engine.container(name, name, &[]).unwrap();
    }
    let (web, blue, red) = (web(1).0, "10.98.0.2", "10.99.0.2");
    let check = || {
        // Both containers can send packets.
        assert_eventually("blue to its host", || {
            agent.reaches_from("blue", "10.98.0.1")
        });
        assert_eventually("red to its host", || agent.reaches_from("red", "10.99.0.1"));
        for (from, to) in [
            ("blue", red),
            ("red", blue),
            ("blue", web.as_str()),
            ("web", red),
        ] {
            assert!(!agent.reaches_from(from, to), "{from} reaches {to}");
        }
    };
    check();
    agent.docker.host.settle(&desired(&agent.docker.host, 1));
    assert_eventually("Mesos to Docker", || agent.mesos_reaches(&web));
    check();
}

/// Duplicate address detection must be off: otherwise the kernel uses the gateway's IPv6
/// address only one to two seconds after the start of the first container.
#[test]
fn the_first_container_has_ipv6_at_once() {
    if !testbed::skip::require_docker("the_first_container_has_ipv6") {
        return;
    }
    let (docker, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    let worker = docker.host.worker();
    worker.apply_ok(&desired(&docker.host, 1));
    let tentative = || {
        docker
            .host
            .ip("-6 address show scope global tentative")
            .contains("d-dcos")
    };
    for times in 0..2 {
        keeper.apply_ok(&docker.desired(1));
        eventually("the addresses are settled", || !tentative());
        docker
            .engine
            .container("web", "dcos", &["--ip6", &web(1).1])
            .unwrap();
        assert!(
            !tentative(),
            "the addresses are tentative, after {times} networks before"
        );
        docker
            .engine
            .docker(&[
                "exec",
                "web",
                "ping",
                "-c",
                "2",
                "-W",
                "2",
                "fd01:b::1:8000:0:1",
            ])
            .unwrap();
        docker.engine.docker(&["rm", "--force", "web"]).unwrap();
        docker.engine.docker(&["network", "rm", "dcos"]).unwrap();
    }
}
