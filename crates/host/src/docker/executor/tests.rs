//! Tests of the loop without its thread.

use std::os::unix::net::UnixListener;

use super::*;
use overlay_core::host_api::engine::Network;
use overlay_core::host_api::problem::{Problem, ProblemKind};

/// Runs a test with a loop that has received no desired state, and with its supervisor.
fn with_loop(test: impl AsyncFnOnce(&mut EngineLoop<'_>, &Supervisor<EngineReport, Notify>)) {
    let (supervisor, mut control) = Supervisor::without_thread(Notify::new(), || {});
    let underlay_mtu = watch::channel(UnderlayMtu::Unknown).1;
    let mut engine_loop = EngineLoop::new(&mut control, underlay_mtu);
    runtime().block_on(test(&mut engine_loop, &supervisor));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Returns a desired state with one network in the engine at `socket`.
fn desired(socket: &Path) -> EngineDesired {
    EngineDesired {
        socket: socket.into(),
        timeout: Duration::from_millis(50),
        networks: [("dcos".to_owned(), Network::default())].into(),
        fit_mtu: false,
        firewall_accepts: false,
    }
}

fn apply(
    engine_loop: &mut EngineLoop<'_>,
    supervisor: &Supervisor<EngineReport, Notify>,
    desired: EngineDesired,
) {
    supervisor.apply(1, Arc::new(desired));
    assert_eq!(engine_loop.receive(), Received::Desired);
}

/// Returns the outcome of a reconciliation that created a network.
fn creation() -> Outcome {
    Outcome {
        created: vec!["dcos".into()],
        ..Outcome::failed(EngineReport::default())
    }
}

#[test]
fn new_desired_state_is_due_at_once() {
    with_loop(async |engine_loop, supervisor| {
        assert!(!engine_loop.schedule.is_due(Instant::now()));
        apply(engine_loop, supervisor, desired(Path::new("/no/such")));
        assert!(engine_loop.schedule.is_due(Instant::now()));
        assert!(engine_loop.control.is_pending());
    });
}

fn note_of(text: &str) -> Problem {
    Problem::new(ProblemKind::RemovedNetwork, "web", text)
}

/// A network that is created for a new desired state was not removed by another program.
#[test]
fn only_creations_without_a_request_are_repairs() {
    let socket = Path::new("/no/such");
    let desired = Arc::new(desired(socket));
    with_loop(async |engine_loop, supervisor| {
        let finish = |engine_loop: &mut EngineLoop<'_>| {
            engine_loop.finish(&desired, creation(), Liveness::Unknown, 0);
            engine_loop.control.current().unwrap().1.notes.len()
        };
        for _ in 0..20 {
            apply(engine_loop, supervisor, EngineDesired::clone(&desired));
            assert_eq!(finish(engine_loop), 0);
        }
        for n in 1..=6 {
            assert_eq!(finish(engine_loop), usize::from(n == 6));
        }
    });
}

#[test]
fn reports_that_differ_in_generation_and_operations_say_the_same() {
    let report = |generation, operations, note: &str| EngineReport {
        generation,
        operations,
        notes: vec![note_of(note)],
        ..EngineReport::default()
    };
    assert!(report(1, 1, "same").says_the_same_as(&report(2, 0, "same")));
    assert!(!report(1, 1, "same").says_the_same_as(&report(1, 1, "other")));
}

#[test]
fn only_networks_with_an_adapted_mtu_wait_for_the_measurement() {
    with_loop(async |engine_loop, supervisor| {
        let (measured, underlay_mtu) = watch::channel(UnderlayMtu::Unmeasured);
        engine_loop.underlay_mtu = underlay_mtu;
        assert!(engine_loop.is_underlay_known(), "nothing is desired");
        let plain = desired(Path::new("/no/such"));
        apply(engine_loop, supervisor, plain.clone());
        assert!(engine_loop.is_underlay_known());
        let fit_mtu = EngineDesired {
            fit_mtu: true,
            ..plain
        };
        apply(engine_loop, supervisor, fit_mtu);
        assert!(!engine_loop.is_underlay_known());
        measured.send(UnderlayMtu::Unknown).unwrap();
        assert!(engine_loop.is_underlay_known());
        measured.send(UnderlayMtu::Unmeasured).unwrap();
        assert!(!engine_loop.is_underlay_known());
        drop(measured);
        assert!(
            engine_loop.is_underlay_known(),
            "the measuring thread has ended"
        );
    });
}

/// An absent engine is found by its socket, a silent one by a probe.
#[test]
fn absent_engine_is_found_by_its_socket_and_silent_one_by_a_probe() {
    with_loop(async |engine_loop, supervisor| {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        apply(engine_loop, supervisor, desired(&socket));
        let reconcile = async |engine_loop: &mut EngineLoop<'_>, liveness| {
            assert!(engine_loop.reconcile(liveness).await.is_continue());
            (
                engine_loop.false_recoveries,
                engine_loop.liveness_probe.is_some(),
            )
        };
        let absent = reconcile(engine_loop, Liveness::Unknown).await;
        assert_eq!(absent, (0, false));
        assert!(supervisor.poll().unwrap().engine.is_some());
        assert!(engine_loop.schedule.next().is_none() && engine_loop.subscription.is_none());
        assert!(!engine_loop.quick_check(), "there is no socket");
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(engine_loop.quick_check());
        let silent = reconcile(engine_loop, Liveness::Unknown).await;
        assert_eq!(silent, (0, true));
        assert!(!engine_loop.quick_check(), "the socket was tried");
        assert!(engine_loop.schedule.next().is_none());
        for n in 1..=2 {
            let silent_again = reconcile(engine_loop, Liveness::Recovered).await;
            assert_eq!(silent_again, (n, true));
        }
        let not_probed = reconcile(engine_loop, Liveness::Unknown).await;
        assert_eq!(not_probed, (2, true));
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
        assert!(!engine_loop.quick_check());
        let absent = reconcile(engine_loop, Liveness::Recovered).await;
        assert_eq!(absent, (0, false));
    });
}

/// A new desired state interrupts a reconciliation, and so does the end of the supervisor.
#[test]
fn superseded_reconciliation_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let hanging = EngineDesired {
        timeout: Duration::from_secs(3600),
        ..desired(&socket)
    };
    let (supervisor, mut control) = Supervisor::without_thread(Notify::new(), || {});
    let underlay_mtu = watch::channel(UnderlayMtu::Unknown).1;
    let mut engine_loop = EngineLoop::new(&mut control, underlay_mtu);
    apply(&mut engine_loop, &supervisor, hanging);
    let absent = desired(Path::new("/no/such"));
    supervisor.apply(2, Arc::new(absent.clone()));
    runtime().block_on(async {
        assert!(engine_loop.reconcile(Liveness::Unknown).await.is_continue());
        let report = supervisor.poll().unwrap();
        assert_eq!((report.generation, report.engine.is_some()), (2, true));
        drop(supervisor);
        assert!(engine_loop.reconcile(Liveness::Unknown).await.is_break());
    });
}

#[test]
fn engine_is_subscribed_to_as_long_as_networks_are_desired_or_left() {
    with_loop(async |engine_loop, supervisor| {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let (with, without) = (
            Arc::new(desired(&socket)),
            Arc::new(EngineDesired {
                networks: Default::default(),
                ..desired(&socket)
            }),
        );
        let mut finish = |desired: &Arc<EngineDesired>, report: EngineReport| {
            apply(engine_loop, supervisor, EngineDesired::clone(desired));
            engine_loop.finish(desired, Outcome::failed(report), Liveness::Unknown, 0);
            let since = engine_loop.subscription.as_ref().map(|known| known.since);
            assert_eq!(engine_loop.schedule.next().is_some(), since.is_some());
            since
        };
        let note = EngineReport {
            notes: vec![note_of("in use")],
            ..EngineReport::default()
        };
        let since = finish(&with, EngineReport::default());
        assert!(since.is_some());
        assert_eq!(finish(&without, note), since, "the same subscription");
        assert_eq!(finish(&without, EngineReport::default()), None);
        let failed = EngineReport::failed(&with, "silent".to_owned());
        assert_eq!(finish(&with, failed), None);
    });
}

/// An absent engine of which nothing is desired is as desired.
#[test]
fn absent_engine_is_not_tried_again_if_nothing_is_desired() {
    with_loop(async |engine_loop, supervisor| {
        let nothing = EngineDesired {
            networks: Default::default(),
            ..desired(Path::new("/no/such"))
        };
        apply(engine_loop, supervisor, nothing);
        assert!(engine_loop.reconcile(Liveness::Unknown).await.is_continue());
        assert!(supervisor.poll().unwrap().is_ok());
        assert!(engine_loop.subscription.is_none() && engine_loop.liveness_probe.is_none());
        assert!(engine_loop.schedule.next().is_none());
    });
}

/// An engine that answers probes and nothing else is probed less and less often.
#[test]
fn probes_are_delayed_after_false_recoveries() {
    use futures_util::poll;
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let is_probed = async |false_recoveries, timeout: Duration| {
            let mut probe = liveness_probe(Arc::new(desired(&socket)), false_recoveries);
            let deadline = Instant::now() + timeout;
            while Instant::now() < deadline {
                assert!(poll!(&mut probe).is_pending());
                if listener.accept().is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            false
        };
        assert!(is_probed(0, Duration::from_secs(10)).await);
        // The delay is a minute.
        for false_recoveries in [6, 7, 1000] {
            let is_probed = is_probed(false_recoveries, Duration::from_millis(20)).await;
            assert!(!is_probed, "{false_recoveries}");
        }
    });
}
