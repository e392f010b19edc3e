//! Tests of the executor without a kernel.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use overlay_core::host_api::problem::{Problem, ProblemKind};
use parking_lot::Mutex;

use super::*;
use crate::kernel::watch::Watch;
use crate::reconcile::ExpectedState;

mod hanging;

const PATIENCE: Duration = Duration::from_secs(10);

/// A reconciler that calls a function of the test and has no events.
struct Calling<F> {
    reconcile: F,
    events: Watch,
}

impl<F: FnMut(&Desired) -> HostReport> Reconciler for Calling<F> {
    fn reconcile(&mut self, desired: &Desired) -> HostReport {
        (self.reconcile)(desired)
    }

    fn change_peers(&mut self, _: &Desired, _: &Desired) -> Option<HostReport> {
        None
    }

    fn quick_check(&mut self, _: &Desired) -> bool {
        false
    }

    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        wait_for: WaitFor,
    ) -> io::Result<Reaction> {
        self.events
            .wait(wakeup, timeout, &ExpectedState::default(), wait_for)
    }

    fn is_without_events(&self) -> bool {
        false
    }

    fn underlay_mtu(&self) -> UnderlayMtu {
        UnderlayMtu::Unmeasured
    }
}

fn executor(
    reconcile: impl FnMut(&Desired) -> HostReport + Send + 'static,
) -> (Executor, Receiver<()>) {
    let (wake, woken) = channel();
    let reconcile = Arc::new(Mutex::new(reconcile));
    let reconciler = move || Calling {
        reconcile: {
            let reconcile = reconcile.clone();
            move |desired: &Desired| (reconcile.lock())(desired)
        },
        events: Watch::silent(),
    };
    (
        Executor::spawn_with(Limits::default(), reconciler, move || {
            wake.send(()).unwrap()
        })
        .unwrap(),
        woken,
    )
}

#[test]
fn reports_a_generation_once() {
    let (executor, woken) = executor(|_| HostReport {
        operations: 7,
        ..HostReport::default()
    });
    assert_eq!(executor.poll(), None);
    executor.apply(3, Arc::default());
    woken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        executor.poll(),
        Some(HostReport {
            generation: 3,
            operations: 7,
            ..HostReport::default()
        })
    );
    assert_eq!(executor.poll(), None);
}

#[test]
fn a_newer_request_replaces_one_that_was_not_begun() {
    let (go, gate) = channel::<()>();
    let (began, beginning) = channel();
    let (executor, woken) = executor(move |_| {
        began.send(()).unwrap();
        gate.recv_timeout(PATIENCE).unwrap();
        HostReport::default()
    });
    let mut done = Vec::new();
    executor.apply(1, Arc::default());
    beginning.recv_timeout(PATIENCE).unwrap();
    for generation in 2..=4 {
        executor.apply(generation, Arc::default());
    }
    for _ in 0..2 {
        go.send(()).unwrap();
        woken.recv_timeout(PATIENCE).unwrap();
        done.extend(executor.poll().map(|report| report.generation));
    }
    assert_eq!(done, [1, 4]);
}

#[test]
fn survives_a_panic_and_reports_it() {
    let mut reconciliations = 0;
    let line = line!() + 3;
    let (executor, woken) = executor(move |_| {
        reconciliations += 1;
        assert!(reconciliations > 1, "on purpose");
        HostReport::default()
    });
    let overlays = [("dcos".to_owned(), Default::default())].into();
    executor.apply(
        1,
        Arc::new(Desired {
            overlays,
            ..Desired::default()
        }),
    );
    woken.recv_timeout(PATIENCE).unwrap();
    let report = executor.poll().unwrap();
    assert_eq!(report.generation, 1);
    let [Problem { text: sentence, .. }] = &report.host[..] else {
        panic!("{report:?}")
    };
    let location = format!(
        "cannot configure the host: internal error, panicked at {}:{line}:",
        file!()
    );
    assert!(
        sentence.starts_with(&location) && sentence.ends_with(": on purpose"),
        "{sentence}"
    );
    assert_eq!(report.overlays["dcos"], report.host[0].text);
    executor.apply(2, Arc::default());
    woken.recv_timeout(PATIENCE).unwrap();
    assert!(executor.poll().unwrap().is_ok());
}

#[test]
fn dropping_waits_for_the_reconciliation_under_way() {
    let (began, beginning) = channel();
    let (go, gate) = channel::<()>();
    let (executor, woken) = executor(move |_| {
        began.send(()).unwrap();
        gate.recv_timeout(PATIENCE).unwrap();
        HostReport::default()
    });
    executor.apply(1, Arc::default());
    beginning.recv_timeout(PATIENCE).unwrap();
    let dropping = std::thread::spawn(move || drop(executor));
    go.send(()).unwrap();
    dropping.join().unwrap();
    // One call of `wake` for the report; then its sender is gone with the thread.
    woken.recv_timeout(PATIENCE).unwrap();
    assert!(
        woken
            .recv_timeout(PATIENCE)
            .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

/// Results of the reconciler, and a record of its calls.
#[derive(Default)]
struct Script {
    /// Results of `wait`, in order.
    events: VecDeque<Result<Reaction, ()>>,
    /// Calls, in order.
    done: Vec<&'static str>,
    report: HostReport,
    changed: Option<HostReport>,
    finds_difference: Option<bool>,
    underlay_mtu: UnderlayMtu,
    /// Arguments of the calls of `wait`.
    waits: Vec<(Duration, WaitFor)>,
}

/// A reconciler that follows a script.
struct Scripted {
    script: Arc<Mutex<Script>>,
    quiet: Watch,
    without_events: bool,
}

impl Reconciler for Scripted {
    fn reconcile(&mut self, _: &Desired) -> HostReport {
        let mut script = self.script.lock();
        script.done.push("reconcile");
        script.report.clone()
    }

    fn change_peers(&mut self, _: &Desired, _: &Desired) -> Option<HostReport> {
        let mut script = self.script.lock();
        script.done.push("change_peers");
        script.changed.clone()
    }

    fn quick_check(&mut self, _: &Desired) -> bool {
        let mut script = self.script.lock();
        script.done.push("quick_check");
        script.finds_difference.expect("on purpose")
    }

    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        wait_for: WaitFor,
    ) -> io::Result<Reaction> {
        let event = {
            let mut script = self.script.lock();
            script.waits.push((timeout, wait_for));
            match wait_for {
                WaitFor::Wakeup => None,
                WaitFor::Events => script.events.pop_front(),
            }
        };
        match event {
            Some(event) => event.map_err(|()| io::Error::other("on purpose")),
            None => self
                .quiet
                .wait(wakeup, timeout, &ExpectedState::default(), wait_for),
        }
    }

    fn is_without_events(&self) -> bool {
        self.without_events
    }

    fn underlay_mtu(&self) -> UnderlayMtu {
        self.script.lock().underlay_mtu
    }
}

/// An executor whose reconciler follows a script.
struct Stage {
    executor: Executor,
    woken: Receiver<()>,
    script: Arc<Mutex<Script>>,
}

impl Stage {
    fn new(without_events: bool) -> Stage {
        let (wake, woken) = channel();
        let script = Arc::new(Mutex::new(Script {
            finds_difference: Some(false),
            ..Script::default()
        }));
        let reconciler = {
            let script = script.clone();
            move || Scripted {
                script: script.clone(),
                quiet: Watch::silent(),
                without_events,
            }
        };
        let executor = Executor::spawn_with(Limits::default(), reconciler, move || {
            wake.send(()).unwrap()
        })
        .unwrap();
        Stage {
            executor,
            woken,
            script,
        }
    }

    /// Requests a desired state, and returns the report about it.
    fn apply(&self, generation: u64) -> HostReport {
        self.executor.apply(generation, Arc::default());
        self.report()
    }

    fn report(&self) -> HostReport {
        self.woken.recv_timeout(PATIENCE).expect("no report");
        self.executor.poll().unwrap()
    }

    /// Has the next `wait` return an event.
    fn hear(&self, news: Result<Reaction, ()>) {
        self.script.lock().events.push_back(news);
        self.executor.supervisor.notify();
    }

    /// Waits until the executor waits for events.
    fn waits(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self.script.lock().waits.last(), Some((_, WaitFor::Events))) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    /// Returns the calls since the last call of this function.
    fn done(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.script.lock().done)
    }

    /// Waits for as many calls, and compares them.
    fn until(&self, what: &[&'static str]) {
        let deadline = Instant::now() + PATIENCE;
        while self.script.lock().done.len() < what.len() {
            assert!(Instant::now() < deadline, "only {:?}", self.done());
            std::thread::yield_now();
        }
        assert_eq!(self.done(), what);
    }
}

fn failed() -> HostReport {
    HostReport {
        host: vec![Problem::new(ProblemKind::Reconciliation, "", "on purpose")],
        ..HostReport::default()
    }
}

#[test]
fn a_change_of_peers_needs_no_reconciliation_of_a_settled_host() {
    let stage = Stage::new(false);
    stage.script.lock().changed = Some(HostReport {
        operations: 6,
        ..HostReport::default()
    });
    assert_eq!(stage.apply(1).operations, 0);
    assert_eq!(stage.done(), ["reconcile"], "nothing is known at first");
    let report = HostReport {
        generation: 2,
        operations: 6,
        ..HostReport::default()
    };
    assert_eq!(stage.apply(2), report);
    assert_eq!(stage.done(), ["change_peers"]);
    assert_eq!(stage.executor.counters().reconciliations, 1);
    // If the change fails, a reconciliation follows.
    stage.script.lock().changed = None;
    assert_eq!(stage.apply(3).generation, 3);
    assert_eq!(stage.done(), ["change_peers", "reconcile"]);
}

#[test]
fn a_host_that_is_not_settled_is_reconciled() {
    let overlays = [("dcos".to_owned(), "on purpose".to_owned())].into();
    for (before, short) in [
        (
            HostReport {
                overlays,
                ..HostReport::default()
            },
            false,
        ),
        (
            HostReport {
                draining_bridges: [("m-old".into(), "on purpose".into())].into(),
                ..HostReport::default()
            },
            false,
        ),
        // The reconciler knows the peers that the kernel rejected.
        (failed(), true),
    ] {
        let stage = Stage::new(false);
        stage.script.lock().report = before.clone();
        stage.script.lock().changed = Some(HostReport::default());
        stage.apply(1);
        stage.done();
        stage.apply(2);
        assert_eq!(
            stage.done(),
            if short {
                ["change_peers"]
            } else {
                ["reconcile"]
            },
            "{before:?}"
        );
    }
}

/// An event may be about any object.
#[test]
fn an_event_turns_a_change_of_peers_into_a_reconciliation() {
    for (event, done) in [
        (Ok(Reaction::Ignore), "change_peers"),
        (Ok(Reaction::QuickCheck), "reconcile"),
        (Ok(Reaction::Reconcile), "reconcile"),
        (Err(()), "reconcile"),
    ] {
        let stage = Stage::new(false);
        stage.script.lock().changed = Some(HostReport::default());
        stage.apply(1);
        stage.done();
        // Request and event come at once. The executor receives the request first.
        stage.waits();
        let script = &stage.script;
        stage.executor.supervisor.apply_and(2, Arc::default(), || {
            script.lock().events.push_back(event);
        });
        stage.report();
        assert_eq!(stage.done(), [done], "{event:?}");
    }
}

/// A pending reconciliation means that the host is not as desired.
#[test]
fn a_pending_reconciliation_covers_a_change_of_peers() {
    let script = Arc::new(Mutex::new(Script::default()));
    let (measured, _) = watch::channel(UnderlayMtu::default());
    let signal = supervisor::poll_signal().unwrap();
    let (supervisor, mut control) = Supervisor::without_thread(signal, || {});
    let reconciler = Scripted {
        script: script.clone(),
        quiet: Watch::silent(),
        without_events: false,
    };
    let mut host_loop = HostLoop::new(reconciler, &mut control, &measured);
    script.lock().changed = Some(HostReport::default());
    let apply = |host_loop: &mut HostLoop<'_, Scripted>, generation| {
        supervisor.apply(generation, Arc::default());
        assert_eq!(host_loop.control.receive(), Received::Desired);
        // The wait of the change must end at once.
        supervisor.notify();
        host_loop.apply();
    };
    apply(&mut host_loop, 1);
    apply(&mut host_loop, 2);
    host_loop
        .schedule
        .on_event(host_loop.now(), Reaction::Reconcile);
    apply(&mut host_loop, 3);
    apply(&mut host_loop, 4);
    assert_eq!(
        script.lock().done,
        ["reconcile", "change_peers", "reconcile", "change_peers"]
    );
}

#[test]
fn repairs_are_counted_and_reported_if_they_end_otherwise() {
    let stage = Stage::new(false);
    stage.apply(7);
    stage.script.lock().report.operations = 3;
    stage.done();
    stage.hear(Ok(Reaction::Reconcile));
    stage.until(&["reconcile"]);
    let so_far = |reconciliations, repairs, repair_operations| Counters {
        reconciliations,
        repairs,
        repair_operations,
    };
    let counted = |counters| {
        let deadline = Instant::now() + PATIENCE;
        while stage.executor.counters() != counters {
            assert!(Instant::now() < deadline, "{:?}", stage.executor.counters());
            std::thread::yield_now();
        }
    };
    counted(so_far(2, 1, 3));
    assert_eq!(stage.executor.poll(), None, "it is as it was before");
    // A different report has the same generation.
    stage.script.lock().report = HostReport {
        operations: 2,
        ..failed()
    };
    stage.hear(Ok(Reaction::Reconcile));
    assert_eq!(
        stage.report(),
        HostReport {
            generation: 7,
            operations: 2,
            ..failed()
        }
    );
    counted(so_far(3, 2, 5));
    // A reconciliation without operations is no repair.
    stage.script.lock().report = failed();
    stage.done();
    stage.hear(Ok(Reaction::Reconcile));
    stage.until(&["reconcile"]);
    counted(so_far(4, 2, 5));
    stage.script.lock().report = HostReport::default();
    stage.hear(Ok(Reaction::Reconcile));
    assert_eq!(
        stage.report(),
        HostReport {
            generation: 7,
            ..HostReport::default()
        }
    );
    assert!(stage.woken.try_recv().is_err());
}

/// A quick check that panics leads to a reconciliation, too.
#[test]
fn a_quick_check_leads_to_a_reconciliation_if_it_finds_a_difference() {
    for (found, done) in [
        (Some(false), &["quick_check", "quick_check"][..]),
        (Some(true), &["quick_check", "reconcile"]),
        (None, &["quick_check", "reconcile"]),
    ] {
        let stage = Stage::new(false);
        stage.apply(1);
        stage.script.lock().finds_difference = found;
        stage.done();
        stage.hear(Ok(Reaction::QuickCheck));
        stage.until(done);
    }
}

/// Events may have been lost.
#[test]
fn a_failed_wait_leads_to_a_reconciliation() {
    let stage = Stage::new(false);
    stage.apply(1);
    stage.done();
    stage.hear(Err(()));
    stage.until(&["reconcile"]);
}

#[test]
fn events_are_not_read_before_the_first_request_and_while_a_reconciliation_is_pending() {
    let stage = Stage::new(false);
    let deadline = Instant::now() + PATIENCE;
    while stage.script.lock().waits.is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(
        stage.script.lock().waits[..],
        [(Duration::MAX, WaitFor::Wakeup)]
    );
    stage.apply(1);
    stage.hear(Ok(Reaction::Reconcile));
    stage.script.lock().done.clear();
    stage.until(&["reconcile"]);
    let waits = std::mem::take(&mut stage.script.lock().waits);
    let is_for_wakeup = |wait: &(Duration, WaitFor)| wait.1 == WaitFor::Wakeup;
    let heard = waits.iter().position(|wait| !is_for_wakeup(wait)).unwrap();
    assert!(
        waits[heard..].iter().any(is_for_wakeup),
        "events before the reconciliation: {waits:?}"
    );
    assert!(
        waits[heard..]
            .iter()
            .all(|(timeout, _)| *timeout <= Duration::from_millis(1500)),
        "{waits:?}"
    );
}

/// A host whose events cannot be had is compared about once a second.
#[test]
fn a_host_without_events_is_compared_again_and_again() {
    let stage = Stage::new(true);
    stage.apply(1);
    stage.done();
    let deadline = Instant::now() + PATIENCE;
    while !stage.script.lock().done.contains(&"reconcile") {
        assert!(Instant::now() < deadline, "{:?}", stage.done());
        std::thread::yield_now();
    }
}

#[test]
fn a_changed_underlay_mtu_is_reported() {
    let stage = Stage::new(false);
    let mut underlay_mtu = stage.executor.underlay_mtu();
    assert_eq!(*underlay_mtu.borrow_and_update(), UnderlayMtu::Unmeasured);
    // The first reconciliation could not measure the MTU. A waiting thread has to learn that.
    stage.apply(1);
    assert!(underlay_mtu.has_changed().unwrap());
    assert_eq!(*underlay_mtu.borrow_and_update(), UnderlayMtu::Unknown);
    for (n, bytes) in [(2, 1450), (3, 1350)] {
        stage.script.lock().underlay_mtu = UnderlayMtu::Bytes(bytes);
        stage.apply(n);
        assert!(underlay_mtu.has_changed().unwrap());
        assert_eq!(*underlay_mtu.borrow_and_update(), UnderlayMtu::Bytes(bytes));
    }
    stage.apply(4);
    assert!(!underlay_mtu.has_changed().unwrap(), "it is the same");
}
