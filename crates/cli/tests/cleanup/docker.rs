//! Docker networks in `mesos-overlay cleanup`.

use std::time::Duration;

use overlay_host::docker::remove_all;
use testkit::engine::{DockerHost, Keeper, network};

use crate::BINARY;

#[test]
fn everything_of_ours_can_be_removed() {
    if !testbed::skip::require_docker("everything_of_ours_can_be_removed") {
        return;
    }
    let host = DockerHost::started();
    let socket = host.engine.socket();
    let mut desired = host.desired(1);
    desired.networks.insert("web".into(), network("d-web", 2));
    let mut keeper = Keeper::new();
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
        assert!(out.lines().any(|said| said == line), "{out}");
        assert_eq!(status, Some(3), "{error}");
        let kept = "Docker network web is not wanted any more and is kept as long as containers use it: web.1";
        assert!(error.contains(kept), "{error}");
        assert_eq!(host.id("dcos").is_some(), !dry_run.is_empty());
    }
    assert!(host.id("mine").is_some());
    let nobody = remove_all(
        &socket.with_extension("none"),
        Duration::from_secs(2),
        false,
    );
    assert_eq!(nobody, Ok(Default::default()));
}
