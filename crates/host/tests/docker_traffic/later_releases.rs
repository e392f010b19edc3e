//! Packets to containers of Docker 28, which drops in the table `raw` what arrives for a container
//! from another device than the container's own bridge. By TCP, because many firewalls let pings
//! through.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use overlay_core::host_api::desired::{Bridge, Desired};
use overlay_core::host_api::engine::{EngineDesired, Network};
use testbed::docker::{Engine, Release};
use testbed::netns::{self, Netns};
use testkit::engine::{DockerHost, EngineKeeper};
use testkit::host::{Host, eventually, ip, net, overlay};

use crate::{Agent, agents, desired, mesos, web};

/// Port of the servers in containers.
const PORT: u16 = 7000;

/// Returns the network namespace of a running container.
fn namespace(engine: &Engine, container: &str) -> Netns {
    let format = "{{.State.Pid}}";
    let pid = engine
        .docker(&["inspect", "--format", format, container])
        .unwrap();
    Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap()
}

/// Accepts connections in a namespace.
pub fn serve(netns: &Netns) {
    let address: IpAddr = ip("::");
    let listener = netns.within(|| TcpListener::bind((address, PORT)));
    let listener = listener.unwrap().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

/// Tells if a connection can be opened, at the latest with the packet that the kernel sends again
/// after a second.
pub fn connects(from: &Netns, to: &str) -> bool {
    connects_to(from, SocketAddr::from((ip(to), PORT)))
}

fn connects_to(from: &Netns, to: SocketAddr) -> bool {
    netns::connect(Some(from), to, Duration::from_secs(3)).is_ok()
}

/// Asserts that the containers of the first agent are reached, from the same host and from the
/// other one.
fn assert_reached(one: &Agent, two: &Agent) {
    let own = namespace(&one.docker.engine, "web");
    serve(&own);
    let clients = [
        ("Mesos", one.mesos.netns()),
        ("Mesos, across", two.mesos.netns()),
        ("Docker, across", namespace(&two.docker.engine, "web")),
    ];
    for to in [web(1).0, web(1).1] {
        for (what, client) in &clients {
            eventually(&format!("{what} to {to}"), || connects(client, &to));
        }
    }
    for to in [mesos(1).0, mesos(2).1] {
        eventually(&format!("Docker to {to}"), || connects(&own, &to));
    }
}

/// Tells if the engine drops packets to containers in the table `raw`.
fn drops_in_raw(host: &Host) -> bool {
    let rules = host.command("iptables-save -t raw");
    rules.contains("! -i d-dcos -j DROP")
}

/// Starts another release of the engine, with the container.
fn change_release(agent: &mut Agent, release: Release) {
    let engine = &mut agent.docker.engine;
    engine.stop().unwrap();
    engine.set_release(release);
    engine.start().unwrap();
    engine.docker(&["start", "web"]).unwrap();
}

#[test]
fn containers_are_reached_after_an_upgrade_of_the_engine_and_back() {
    let test = "containers_are_reached_after_an_upgrade_of_the_engine_and_back";
    let Some(release) = testbed::skip::require_docker_release(test, "28.5") else {
        return;
    };
    let (mut one, two) = agents();
    let worker = one.docker.host.worker();
    worker.apply_ok(&desired(&one.docker.host, 1));
    for agent in [&one, &two] {
        serve(&agent.mesos.netns());
    }
    assert_reached(&one, &two);
    let id = one.docker.id("dcos");
    change_release(&mut one, release);
    assert!(drops_in_raw(&one.docker.host));
    assert_reached(&one, &two);
    assert_eq!(one.docker.id("dcos"), id, "the network was not made anew");
    // A release before 28 does not know the rules that its successor left behind, if that was killed.
    let address = web(1).0;
    change_release(&mut one, Release::default());
    one.docker.host.command(&format!(
        "iptables -t raw -A PREROUTING -d {address} ! -i d-dcos -j DROP"
    ));
    assert!(drops_in_raw(&one.docker.host));
    assert_reached(&one, &two);
    drop(worker);
}

/// Returns a second overlay of the first agent.
fn second(desired: &mut Desired) -> Network {
    let mut second = overlay(1);
    second.ranges = vec![net("8.0.0.0/8"), net("fd02:b::/64")];
    second.subnets = vec![net("8.0.1.0/24"), net("fd02:b::1:0:0:0/80")];
    second.mesos_bridge = None;
    second.docker_bridge = Some(Bridge {
        name: "d-web".into(),
        subnets: vec![net("8.0.1.128/25"), net("fd02:b::1:8000:0:0/81")],
    });
    let network = Network::of(&second, desired.vtep.as_ref()).unwrap();
    desired.overlays.insert("web".into(), second);
    network
}

#[test]
fn overlays_of_one_host_reach_each_other_beside_docker_28() {
    let test = "overlays_of_one_host_reach_each_other_beside_docker_28";
    let Some(release) = testbed::skip::require_docker_release(test, "28.5") else {
        return;
    };
    let mut docker = DockerHost::stopped();
    docker.engine.set_release(release);
    docker.engine.start().unwrap();
    docker.host.ip("link add uplink type veth peer name other");
    docker.host.ip("address add 10.0.0.1/24 dev uplink");
    let mut all = desired(&docker.host, 1);
    let mut networks = docker.desired(1).networks;
    networks.insert("web".into(), second(&mut all));
    docker.host.settle(&all);
    let mut keeper = EngineKeeper::spawn();
    keeper.apply_ok(&EngineDesired {
        networks,
        ..docker.desired(1)
    });
    docker.host.settle(&all);
    let port = format!("8080:{PORT}");
    for (container, network, args) in [
        ("web-a", "dcos", &["--publish", port.as_str()][..]),
        ("web-b", "web", &[]),
    ] {
        docker.engine.container(container, network, args).unwrap();
    }
    let [a, b] = ["web-a", "web-b"].map(|name| namespace(&docker.engine, name));
    serve(&a);
    serve(&b);
    assert!(drops_in_raw(&docker.host));
    let address = |name: &str, network: &str| {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let args = ["inspect", "--format", &format, name];
        docker.engine.docker(&args).unwrap()
    };
    let to_b = address("web-b", "web");
    eventually("a reaches b", || connects(&a, &to_b));
    let to_a = address("web-a", "dcos");
    eventually("b reaches a", || connects(&b, &to_a));
    let published: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    eventually("b reaches the published port", || {
        connects_to(&b, published)
    });
}
