//! Containers of Docker's other networks, which nobody outside of the host reaches unless a port is
//! published.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use testbed::netns::Netns;
use testkit::engine::DockerHost;
use testkit::host::{Host, eventually};

use crate::desired;
use crate::later_releases::{connects, serve};

/// The agent turns forwarding on before the engine starts. An engine before release 28 takes a host
/// that forwards already as the operator wants it, and closes nothing itself.
#[test]
fn an_engine_that_starts_after_the_agent_opens_nothing() {
    let test = "an_engine_that_starts_after_the_agent_opens_nothing";
    if !testbed::skip::require_docker(test) {
        return;
    }
    let (mut docker, outside) = (DockerHost::stopped(), Host::new());
    docker.host.connect("uplink", &outside, "uplink");
    docker.host.ip("address add 192.0.2.1/24 dev uplink");
    docker.host.ip("route add default via 192.0.2.9");
    outside.ip("address add 192.0.2.9/24 dev uplink");
    outside.ip("route add 172.16.0.0/12 via 192.0.2.1");
    docker.host.settle(&desired(&docker.host, 1));
    docker.engine.start().unwrap();
    docker
        .engine
        .container("db", "bridge", &["--publish", "8080:7000"])
        .unwrap();
    docker.host.apply_ok(&desired(&docker.host, 1));
    let inspect = |format: &str| {
        let args = ["inspect", "--format", format, "db"];
        docker.engine.docker(&args).unwrap()
    };
    let pid = inspect("{{.State.Pid}}");
    let container = Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap();
    serve(&container);
    serve(&outside.netns());
    eventually("the container reaches the outside", || {
        connects(&container, "192.0.2.9")
    });
    let published: SocketAddr = "192.0.2.1:8080".parse().unwrap();
    eventually("the outside reaches the published port", || {
        let limit = std::time::Duration::from_secs(3);
        testbed::netns::connect(Some(&outside.netns()), published, limit).is_ok()
    });
    // A port that is not published.
    container
        .within(|| TcpListener::bind("0.0.0.0:7001").unwrap())
        .map(std::mem::forget)
        .unwrap();
    let address = inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let to: SocketAddr = format!("{address}:7001").parse().unwrap();
    let limit = std::time::Duration::from_secs(1);
    assert!(testbed::netns::connect(Some(&docker.host.netns()), to, limit).is_ok());
    assert!(testbed::netns::connect(Some(&outside.netns()), to, limit).is_err());
}
