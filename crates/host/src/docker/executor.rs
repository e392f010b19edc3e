//! The thread that makes the engine's networks match the desired state and keeps them so.

use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::{Client, Event};
use super::reconciler::{Outcome, probe_until_alive, reconcile};
use super::schedule::{Next, PERIOD, Schedule};
use crate::executor::UnderlayMtu;
use crate::panics::catch_async;
use crate::progress;
use crate::supervisor::{self, Control, Counters, Received, Report, Supervisor};

/// Interval of quick checks of an engine whose events are not received.
const QUICK_CHECK_PERIOD: Duration = Duration::from_millis(500);

/// A thread that takes an [`EngineDesired`], compares it with the engine's networks and applies
/// the difference. It repeats that when the engine reports a change of its networks, when the
/// engine comes back or answers again, when the MTU of the underlay changes, and periodically.
/// Once no network is desired and none of this module is left, no more requests are sent.
///
/// Dropping it gives up a call that is under way. After that `wake` is not called any more.
pub struct Executor {
    supervisor: Supervisor<EngineReport, Notify>,
}

impl Report for EngineReport {
    type Desired = EngineDesired;

    const TASK: &'static str = "configure the container engine's networks";

    fn failed(desired: &EngineDesired, reason: String) -> EngineReport {
        EngineReport::failed(desired, reason)
    }

    fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    fn operations(&self) -> usize {
        self.operations
    }

    fn says_the_same_as(&self, other: &EngineReport) -> bool {
        let comparable = EngineReport {
            generation: other.generation,
            operations: other.operations,
            ..self.clone()
        };
        comparable == *other
    }
}

impl Executor {
    /// Starts the thread. It calls `wake` whenever there is a report to
    /// [`poll`](Executor::poll); `wake` must not wait for the thread that drops the executor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Executor> {
        Executor::spawn_with_underlay(watch::channel(UnderlayMtu::Unknown).1, wake)
    }

    /// Starts the thread, with a measurement of the underlay for networks whose MTU is adapted
    /// to it. Such networks are not reconciled before the measurement. See
    /// [`spawn`](Executor::spawn).
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn_with_underlay(
        underlay_mtu: watch::Receiver<UnderlayMtu>,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Executor> {
        let run = move |control: &mut Control<EngineReport, Notify>| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(EngineLoop::new(control, underlay_mtu.clone()).run());
            Ok(())
        };
        let signal = || Ok(Notify::new());
        let supervisor = Supervisor::spawn("overlay-engine", signal, wake, run)?;
        Ok(Executor { supervisor })
    }

    /// Requests that the engine's networks match `desired`. Returns at once. A newer request
    /// replaces one that was not begun, for which there is no report then.
    pub fn apply(&self, generation: u64, desired: Arc<EngineDesired>) {
        self.supervisor.apply(generation, desired);
    }

    /// Returns the newest report, once. After the first report of a generation there are more
    /// whenever the report changes.
    pub fn poll(&self) -> Option<EngineReport> {
        self.supervisor.poll()
    }

    /// Has another thread take over if the present one hangs or has ended, and reports that. Call
    /// it again after the returned time.
    pub fn look_after(&mut self) -> Duration {
        self.supervisor.look_after()
    }

    /// Orders the thread to end, without waiting for it.
    pub fn stop(&mut self) {
        self.supervisor.stop();
    }

    /// Returns what the thread did so far.
    pub fn counters(&self) -> Counters {
        self.supervisor.counters()
    }
}

/// Subscription to the engine's events.
struct Subscription {
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    since: Instant,
}

/// Identity of a socket's file. An engine that is started creates a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketIdentity {
    device: u64,
    inode: u64,
    /// Time of the last change of the inode: seconds and nanoseconds.
    changed: (i64, i64),
}

/// Reason for the end of a wait.
enum Wakeup {
    /// The mailbox was filled.
    Mailbox,
    Event(Event),
    EventsLost,
    /// A probe was answered by an engine that was silent.
    Alive,
    UnderlayMtu,
    Time,
}

/// State of an engine before a reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Liveness {
    /// The engine was silent and has answered a probe.
    Recovered,
    Unknown,
}

/// The loop of the thread.
struct EngineLoop<'a> {
    control: &'a mut Control<EngineReport, Notify>,
    underlay_mtu: watch::Receiver<UnderlayMtu>,
    schedule: Schedule,
    /// `None` if the engine is absent or nothing is expected of it.
    subscription: Option<Subscription>,
    /// Ends when an engine that was silent answers.
    liveness_probe: Option<BoxFuture<'static, ()>>,
    /// Number of times in succession that a probe was answered and the reconciliation was not.
    false_recoveries: u32,
    /// Identity of the engine's socket in the last reconciliation.
    socket: Option<SocketIdentity>,
}

impl<'a> EngineLoop<'a> {
    fn new(
        control: &'a mut Control<EngineReport, Notify>,
        underlay_mtu: watch::Receiver<UnderlayMtu>,
    ) -> EngineLoop<'a> {
        let mut schedule = Schedule::new();
        if control.desired().is_some() {
            // The loop was started again after a panic.
            schedule.on_desired(Instant::now());
        }
        EngineLoop {
            control,
            underlay_mtu,
            schedule,
            subscription: None,
            liveness_probe: None,
            false_recoveries: 0,
            socket: None,
        }
    }

    async fn run(mut self) {
        loop {
            let wakeup = self.wait().await;
            progress::step("react to an event of the container engine");
            let now = Instant::now();
            let mut liveness = Liveness::Unknown;
            match wakeup {
                Wakeup::Mailbox => {
                    if self.receive() == Received::Stop {
                        return;
                    }
                }
                Wakeup::Event(event) => self.schedule.on_event(now, event),
                Wakeup::EventsLost => {
                    if let Some(Subscription { since, .. }) = self.subscription.take() {
                        self.schedule.on_events_lost(now, now - since);
                    }
                }
                Wakeup::Alive => {
                    liveness = Liveness::Recovered;
                    self.schedule.on_change(now);
                }
                Wakeup::UnderlayMtu => self.schedule.on_change(now),
                Wakeup::Time => {}
            }
            let is_due = self.schedule.is_due(now) || self.quick_check();
            if is_due && self.is_underlay_known() && self.reconcile(liveness).await.is_break() {
                return;
            }
        }
    }

    /// Takes the newest desired state out of the mailbox.
    fn receive(&mut self) -> Received {
        let received = self.control.receive();
        if received == Received::Desired {
            self.schedule.on_desired(Instant::now());
        }
        received
    }

    async fn wait(&mut self) -> Wakeup {
        // A reconciliation that is due waits for the underlay without waking the thread.
        let due = self.schedule.next().filter(|_| self.is_underlay_known());
        let quick_check = self
            .quick_check_period()
            .map(|period| Instant::now() + period);
        let time = due.into_iter().chain(quick_check).min();
        progress::wait(time.map(|time| time.saturating_duration_since(Instant::now())));
        let event = async {
            match &mut self.subscription {
                Some(subscription) => subscription.events.next().await,
                None => std::future::pending().await,
            }
        };
        let alive = async {
            match &mut self.liveness_probe {
                Some(probe) => probe.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.control.signal().notified() => Wakeup::Mailbox,
            event = event => event.map_or(Wakeup::EventsLost, Wakeup::Event),
            () = alive => Wakeup::Alive,
            Ok(()) = self.underlay_mtu.changed() => Wakeup::UnderlayMtu,
            () = tokio::time::sleep_until(time.unwrap_or_else(Instant::now)), if time.is_some() => Wakeup::Time,
        }
    }

    /// Returns the interval of quick checks; `None` if they are not needed.
    fn quick_check_period(&self) -> Option<Duration> {
        let desired = self.control.desired()?;
        match (&self.subscription, desired.networks.is_empty()) {
            (Some(_), _) => None,
            (None, true) => Some(PERIOD),
            (None, false) => Some(QUICK_CHECK_PERIOD),
        }
    }

    /// Tells if the MTU of the underlay was measured or is not needed.
    fn is_underlay_known(&self) -> bool {
        let is_needed = self
            .control
            .desired()
            .is_some_and(|desired| desired.fit_mtu);
        !is_needed
            || *self.underlay_mtu.borrow() != UnderlayMtu::Unmeasured
            // The thread that measures has ended.
            || self.underlay_mtu.has_changed().is_err()
    }

    /// Tells if an engine whose events are not received may have come back: its socket is
    /// another file.
    fn quick_check(&self) -> bool {
        let Some(desired) = self.control.desired() else {
            return false;
        };
        if self.subscription.is_some() {
            return false;
        }
        let socket = socket_identity(&desired.socket);
        socket.is_some() && socket != self.socket
    }

    /// Reconciles the newest desired state and publishes the report. Breaks if the supervisor
    /// is dropped meanwhile.
    async fn reconcile(&mut self, liveness: Liveness) -> ControlFlow<()> {
        // Events are received from this time on, so that none is missed between the
        // observation and the subscription.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.liveness_probe = None;
        let (desired, outcome) = loop {
            let Some(desired) = self.adapted_desired() else {
                return ControlFlow::Continue(());
            };
            self.socket = socket_identity(&desired.socket);
            tokio::select! {
                biased;
                () = superseded(self.control) => {
                    if self.receive() == Received::Stop {
                        return ControlFlow::Break(());
                    }
                }
                outcome = catch_async(reconcile(&desired)) => {
                    let outcome = outcome.unwrap_or_else(|panic| {
                        Outcome::failed(supervisor::failed(&*desired, &panic))
                    });
                    break (desired, outcome);
                }
            }
        };
        self.finish(&desired, outcome, liveness, since);
        ControlFlow::Continue(())
    }

    /// Returns the newest desired state, with MTUs that fit the underlay.
    fn adapted_desired(&mut self) -> Option<Arc<EngineDesired>> {
        let mtu = match *self.underlay_mtu.borrow_and_update() {
            UnderlayMtu::Bytes(bytes) => Some(bytes),
            UnderlayMtu::Unmeasured | UnderlayMtu::Unknown => None,
        };
        Some(Arc::new(self.control.desired()?.with_mtu_at_most(mtu)))
    }

    /// Plans the next reconciliation and publishes the report.
    fn finish(
        &mut self,
        desired: &Arc<EngineDesired>,
        outcome: Outcome,
        liveness: Liveness,
        since: u64,
    ) {
        let now = Instant::now();
        let mut report = outcome.report;
        // A network that was created for a desired state reconciled before was removed by
        // another program.
        if !self.control.is_pending() && !outcome.created.is_empty() {
            self.schedule.on_repair(now, outcome.created);
        }
        report.notes.extend(self.schedule.note(now));
        self.false_recoveries = match (outcome.silent, liveness) {
            (false, _) => 0,
            (true, Liveness::Unknown) => self.false_recoveries,
            (true, Liveness::Recovered) => self.false_recoveries + 1,
        };
        self.liveness_probe = outcome
            .silent
            .then(|| liveness_probe(desired.clone(), self.false_recoveries));
        // An engine that cannot be talked to is tried again when it answers, when there is
        // another one, or when there is a new desired state.
        let next = match is_finished(desired, &report) || report.engine.is_some() {
            true => Next::OnEvent,
            false => Next::Periodic,
        };
        match next {
            Next::OnEvent => self.subscription = None,
            Next::Periodic => self.subscribe(desired, since),
        }
        self.schedule.on_reconciled(now, next);
        self.control.count(&report);
        self.control.publish(report);
    }

    /// Subscribes to the engine's events, if that is not done yet.
    fn subscribe(&mut self, desired: &EngineDesired, since: u64) {
        if self.subscription.is_none() {
            let client = Client::new(&desired.socket, desired.timeout);
            self.subscription = client.ok().map(|client| Subscription {
                events: client.events(since).boxed(),
                since: Instant::now(),
            });
        }
    }
}

/// Ends when there is something in the mailbox, so that a reconciliation is of no use any more.
async fn superseded(control: &Control<EngineReport, Notify>) {
    while !control.is_superseded() {
        control.signal().notified().await;
    }
}

/// Tells if nothing remains to be done in the engine: no network is desired and none is left.
fn is_finished(desired: &EngineDesired, report: &EngineReport) -> bool {
    desired.networks.is_empty() && report.notes.is_empty()
}

/// Returns a future that ends when a silent engine answers a probe. The first probe is delayed
/// after false recoveries, by 2 s after the first one and up to 64 s.
fn liveness_probe(desired: Arc<EngineDesired>, false_recoveries: u32) -> BoxFuture<'static, ()> {
    let delay = match false_recoveries {
        0 => Duration::ZERO,
        _ => Duration::from_secs(1 << false_recoveries.min(6)),
    };
    async move {
        tokio::time::sleep(delay).await;
        probe_until_alive(desired).await;
    }
    .boxed()
}

fn socket_identity(socket: &Path) -> Option<SocketIdentity> {
    let file = std::fs::metadata(socket).ok()?;
    Some(SocketIdentity {
        device: file.dev(),
        inode: file.ino(),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests;
