//! Containers that are stopped. They are started again in the network that they were in, which they
//! know by its id.

use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::problem::Problem;
use testkit::engine::{DockerHost, EngineKeeper};

/// Returns a host with a network `dcos` in which `web.1` is stopped.
fn stopped_container(test: &str) -> Option<(DockerHost, EngineKeeper)> {
    if !testbed::skip::require_docker(test) {
        return None;
    }
    let (host, mut keeper) = (DockerHost::started(), EngineKeeper::spawn());
    keeper.apply_ok(&host.desired(1));
    host.engine.container("web.1", "dcos", &[]).unwrap();
    host.docker("stop --time 0 web.1");
    Some((host, keeper))
}

#[test]
fn stopped_container_can_be_started_after_the_mtu_changed() {
    let Some((host, mut keeper)) =
        stopped_container("stopped_container_can_be_started_after_the_mtu_changed")
    else {
        return;
    };
    let mut narrow = host.desired(1);
    narrow.networks.get_mut("dcos").unwrap().mtu = 1400;
    let id = host.id("dcos");
    let report = keeper.apply(&narrow);
    assert_eq!(
        Problem::texts(&report.notes),
        [
            "Docker network dcos has MTU 1420 instead of 1400; it is recreated when no container uses it any \
             more (web.1, which is stopped)"
        ]
    );
    assert_eq!((host.id("dcos"), report.operations), (id.clone(), 0));
    host.docker("start web.1");
    host.docker("rm --force web.1");
    keeper.wait("a network with the new MTU", |report| {
        report.notes.is_empty()
    });
    assert_ne!(host.id("dcos"), id);
}

#[test]
fn unwanted_network_is_kept_for_a_stopped_container() {
    let Some((host, mut keeper)) =
        stopped_container("unwanted_network_is_kept_for_a_stopped_container")
    else {
        return;
    };
    let none = EngineDesired {
        networks: Default::default(),
        ..host.desired(1)
    };
    let report = keeper.apply(&none);
    assert_eq!(
        Problem::texts(&report.notes),
        [
            "Docker network dcos is not wanted any more and is kept as long as containers use it: web.1, which \
             is stopped"
        ]
    );
    host.docker("start web.1");
    host.docker("rm --force web.1");
    keeper.wait("no note", |report| report.notes.is_empty());
    assert!(host.id("dcos").is_none());
}
