//! Restart of an engine whose containers survive (`live-restore`): lost datagrams, compared with a
//! network of Docker's own, and the time until the host is configured again.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::cluster::Launcher;
use testbed::docker::Engine;
use testbed::packet_loss::Traffic;
use testbed::process::Daemon;
use testbed::task::{PORT, TaskClient};
use testbed::{cleanup, paths, wait};

use crate::common::{LIMIT, assert_nothing_found};
use crate::docker::{ContainerTask, DockerCluster, docker};

/// Limit of the time from the first answer of the engine until the host is configured.
const REPAIR: Duration = Duration::from_secs(2);

/// Datagrams that must arrive after each step.
const MORE: u64 = 300;

/// Control traffic: datagrams from a container on a network of Docker's own, which Docker
/// masquerades, to the outside. The module does not affect it.
struct Control {
    from: TaskClient,
    to: TaskClient,
}

impl Control {
    fn start(from: TaskClient, to: TaskClient) -> Control {
        from.send(to.address()).unwrap();
        let control = Control { from, to };
        control.flow();
        control
    }

    fn received(&self) -> u64 {
        self.to
            .received()
            .unwrap()
            .iter()
            .map(|stream| stream.datagrams)
            .sum()
    }

    fn flow(&self) {
        let before = self.received();
        let more = || Ok((self.received() >= before + MORE).then_some(()));
        wait::until("datagrams of the control", LIMIT, more).unwrap();
    }

    /// Returns the numbers of sent and lost datagrams.
    fn finish(self) -> (u64, u64) {
        let sent = self
            .from
            .stop()
            .unwrap()
            .iter()
            .map(|stream| stream.sent)
            .sum();
        // The last datagram may not have arrived yet.
        let all = || Ok((self.received() >= sent).then_some(()));
        let _ = wait::until("the rest", Duration::from_secs(1), all);
        (sent, sent - self.received())
    }
}

/// A task on the master's host, outside of all overlays.
struct Outside {
    _daemon: Daemon,
    client: TaskClient,
}

impl Outside {
    fn new(cluster: &DockerCluster) -> Outside {
        let host = cluster.mesos.master.host().unwrap();
        let mut command = Command::new(paths::program("overlay-test-executor").unwrap());
        let run = cluster.mesos.run();
        command
            .args(["--alone", &format!("0.0.0.0:{PORT}")])
            .env(cleanup::RUN_VARIABLE, run.id());
        let log = run.dir().join("outside.txt");
        let daemon = Daemon::spawn("outside", command, Some(host.netns()), &log).unwrap();
        let address = SocketAddr::from((host.ip(), PORT));
        let client = TaskClient::new(address, Some(host.netns().clone()));
        wait::until("the task outside to listen", LIMIT, || {
            client.report().map(|_| Some(()))
        })
        .unwrap();
        Outside {
            _daemon: daemon,
            client,
        }
    }
}

/// Checks new connections: from Docker to Mesos on the host, which Docker's isolation would prevent;
/// to the other host; and to the outside, masqueraded by the module.
fn is_right(
    cluster: &DockerCluster,
    web: &ContainerTask,
    others: &[TaskClient],
    outside: &TaskClient,
) -> anyhow::Result<()> {
    let own = web.client().address().ip().to_string();
    for other in others {
        let there = web.client().ping(other.address(), 1)?;
        let back = other.ping(web.client().address(), 1)?;
        anyhow::ensure!(there.seen_as == own && back.seen_as == other.address().ip().to_string());
    }
    let seen = web.client().ping(outside.address(), 1)?.seen_as;
    anyhow::ensure!(
        seen == cluster.mesos.agents[0].ip(),
        "masqueraded as {seen}"
    );
    Ok(())
}

fn restart(name: &str, end: impl Fn(&mut Engine)) {
    let Some(mut setup) = docker(name) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let mut cluster = DockerCluster::start(&setup);
    let containers = cluster.attach();
    let outside = Outside::new(&cluster);
    cluster.engines[0]
        .docker(&["network", "create", "--subnet", "10.98.0.0/24", "plain"])
        .unwrap();
    let [web, far] =
        [(0, "web"), (1, "far")].map(|(agent, name)| cluster.docker_task(agent, name, "dcos"));
    let plain = cluster.docker_task(0, "plain", "plain");
    let others = [containers[0].client(), containers[1].client(), far.client()];
    is_right(&cluster, &web, &others, &outside.client).unwrap();
    let id = cluster.network_id(0);

    let traffic = Traffic::start(&[web.client(), far.client()], LIMIT).unwrap();
    let local = Traffic::start(&[containers[0].client(), containers[1].client()], LIMIT).unwrap();
    let control = Control::start(plain.client(), outside.client.clone());
    for round in 1..=3 {
        end(&mut cluster.engines[0]);
        traffic.flow(MORE, LIMIT).unwrap();
        cluster.engines[0].spawn().unwrap();
        cluster.engines[0].wait().unwrap();
        let back = Instant::now();
        wait::until("everything to be right", LIMIT, || {
            is_right(&cluster, &web, &others, &outside.client)?;
            Ok((cluster.network_id(0) == id).then_some(()))
        })
        .unwrap();
        let took = back.elapsed();
        eprintln!("round {round}: right {took:?} after the engine answered");
        assert!(took < REPAIR, "right only after {took:?}");
        traffic.flow(MORE, LIMIT).unwrap();
        control.flow();
    }
    let (outcomes, local, control) = (
        traffic.finish().unwrap(),
        local.finish().unwrap(),
        control.finish(),
    );
    eprintln!(
        "over the overlay {outcomes:?}, between containers of Mesos {local:?}, control {control:?}"
    );
    assert!(
        outcomes.iter().all(|outcome| outcome.lost == 0),
        "{outcomes:?}; control {control:?}"
    );
    assert_nothing_found(&cluster.mesos);
}

#[test]
fn a_stopped_engine_costs_no_packet() {
    restart("a_stopped_engine_costs_no_packet", |engine| {
        engine.stop().unwrap()
    });
}

#[test]
fn a_killed_engine_costs_no_packet() {
    restart("a_killed_engine_costs_no_packet", |engine| {
        engine.kill().unwrap()
    });
}
