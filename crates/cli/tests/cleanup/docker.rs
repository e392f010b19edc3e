//! Removal of Docker networks by `mesos-overlay cleanup`.

use std::time::Duration;

use overlay_host::docker::{Mode, Removal, remove_all};
use testkit::engine::{DockerHost, EngineKeeper, network};

use crate::BINARY;

#[test]
fn cleanup_removes_docker_networks_unless_they_are_used() {
    if !testbed::skip::require_docker("cleanup_removes_docker_networks") {
        return;
    }
    let host = DockerHost::started();
    let socket = host.engine.socket();
    let mut desired = host.desired(1);
    desired.networks.insert("web".into(), network("d-web", 2));
    let mut keeper = EngineKeeper::spawn();
    keeper.apply_ok(&desired);
    drop(keeper);
    host.docker("network create mine");
    host.engine.container("web.1", "web", &[]).unwrap();
    for (dry_run, line) in [
        ("--dry-run", "would remove Docker network dcos"),
        ("", "removed Docker network dcos"),
    ] {
        let (status, out, error) = host.host.cleanup(
            BINARY,
            &format!("--docker-socket {} {dry_run}", socket.display()),
        );
        assert!(out.lines().any(|printed| printed == line), "{out}");
        assert_eq!(status, Some(3), "{error}");
        let kept = "Docker network web is not wanted any more and is kept as long as containers use it: web.1";
        assert!(error.contains(kept), "{error}");
        assert_eq!(host.id("dcos").is_some(), !dry_run.is_empty());
    }
    assert!(host.id("mine").is_some());
    let no_engine = socket.with_extension("none");
    let removal = remove_all(&no_engine, Duration::from_secs(2), Mode::Apply);
    assert_eq!(removal, Ok(Removal::default()));
}
