//! The thread that makes the host match the desired state and keeps it so.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use overlay_core::host_api::desired::Desired;
use overlay_core::util::throttle::Throttle;
use overlay_core::{HostReport, Time};
use tokio::sync::watch;

use crate::kernel::watch::WaitFor;
use crate::panics::catch;
use crate::progress;
use crate::reconcile::Reaction;
use crate::schedule::{Due, Schedule};
use crate::supervisor::{self, Control, Counters, Limits, Received, Report, Supervisor};

/// Pause after a wait for events that failed.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A thread that takes a [`Desired`], compares it with the host and applies the
/// difference, and repeats that whenever somebody else changes the host. It works in the
/// network namespace of the thread that spawned it.
///
/// Dropping it waits some seconds for the reconciliation under way. After that `wake` is not
/// called any more.
pub struct Executor {
    supervisor: Supervisor<HostReport, EventFd>,
    underlay_mtu: watch::Receiver<UnderlayMtu>,
}

/// The largest MTU of an inner packet whose VXLAN packet fits into the underlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderlayMtu {
    /// No reconciliation has measured it yet.
    #[default]
    Unmeasured,
    /// The underlay's device cannot be found.
    Unknown,
    /// Number of bytes.
    Bytes(u32),
}

/// The host's side of an [`Executor`].
pub(crate) trait Reconciler {
    /// Compares everything and makes the host match `desired`.
    fn reconcile(&mut self, desired: &Desired) -> HostReport;

    /// Applies only the difference between two desired states, to a host that matches `from`
    /// as far as the kernel permitted and of which no event has come since. `None`: the
    /// difference needs a full reconciliation.
    fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<HostReport>;

    /// Returns whether something differs from `desired` among the things that are quickly
    /// read.
    fn quick_check(&mut self, desired: &Desired) -> bool;

    /// Waits until `wakeup` is readable, an event of the host came, or `timeout` is over.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        wait_for: WaitFor,
    ) -> io::Result<Reaction>;

    /// Returns whether events of the kernel's network configuration cannot be had.
    fn is_without_events(&self) -> bool;

    /// Returns the result of the last measurement of the underlay.
    fn underlay_mtu(&self) -> UnderlayMtu;
}

impl Report for HostReport {
    type Desired = Desired;

    const TASK: &'static str = "configure the host";

    fn failed(desired: &Desired, reason: String) -> HostReport {
        HostReport::failed(desired, reason)
    }

    fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    fn operations(&self) -> usize {
        self.operations
    }

    fn says_the_same_as(&self, other: &HostReport) -> bool {
        HostReport::says_the_same_as(self, other)
    }
}

impl Executor {
    /// Starts the thread with a reconciler that is made on it.
    pub(crate) fn spawn_with<T: Reconciler>(
        limits: Limits,
        reconciler: impl Fn() -> T + Send + Sync + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Executor> {
        let (measured, underlay_mtu) = watch::channel(UnderlayMtu::default());
        let run = move |control: &mut Control<HostReport, EventFd>| {
            HostLoop::new(reconciler(), control, &measured).run();
            Ok(())
        };
        let signal = supervisor::poll_signal;
        let supervisor = Supervisor::spawn_with(limits, "overlay-host", signal, wake, run)?;
        Ok(Executor {
            supervisor,
            underlay_mtu,
        })
    }

    /// Requests that the host match `desired`. Returns at once. A newer request replaces
    /// one that was not begun, for which there is no report then.
    pub fn apply(&self, generation: u64, desired: Arc<Desired>) {
        self.supervisor.apply(generation, desired);
    }

    /// Returns the newest report, once. After the first report of a generation there are
    /// more whenever a repair ends otherwise than the reconciliation before.
    pub fn poll(&self) -> Option<HostReport> {
        self.supervisor.poll()
    }

    /// Returns the measured MTU, and its changes. It is known after the first
    /// reconciliation.
    pub fn underlay_mtu(&self) -> watch::Receiver<UnderlayMtu> {
        let mut underlay_mtu = self.underlay_mtu.clone();
        underlay_mtu.mark_unchanged();
        underlay_mtu
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

/// The loop of the thread.
struct HostLoop<'a, T> {
    reconciler: T,
    control: &'a mut Control<HostReport, EventFd>,
    measured: &'a watch::Sender<UnderlayMtu>,
    schedule: Schedule,
    started: Instant,
    throttle: Throttle,
}

impl<'a, T: Reconciler> HostLoop<'a, T> {
    fn new(
        reconciler: T,
        control: &'a mut Control<HostReport, EventFd>,
        measured: &'a watch::Sender<UnderlayMtu>,
    ) -> HostLoop<'a, T> {
        let mut schedule = Schedule::new(fastrand::u64(..));
        schedule.set_without_events(reconciler.is_without_events());
        if control.current().is_some() {
            // The loop was started again after a panic.
            schedule.on_event(Time::default(), Reaction::Reconcile);
        }
        HostLoop {
            reconciler,
            control,
            measured,
            schedule,
            started: Instant::now(),
            throttle: Throttle::default(),
        }
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed())
    }

    fn run(mut self) {
        loop {
            match self.control.receive() {
                Received::Stop => return,
                Received::Desired => self.apply(),
                Received::Nothing => self.wait_and_repair(),
            }
        }
    }

    /// Makes the host match a new desired state.
    fn apply(&mut self) {
        let Some(desired) = self.control.desired().cloned() else {
            return;
        };
        let report = self
            .change_peers(&desired)
            .unwrap_or_else(|| self.reconcile(&desired));
        self.control.publish(report);
    }

    /// Applies a change of some peers without a full reconciliation: the most frequent
    /// change in a large cluster. It needs a host that was as desired and of which the
    /// kernel has reported nothing since. The next full reconciliation covers it, too.
    fn change_peers(&mut self, desired: &Desired) -> Option<HostReport> {
        let (before, report) = self.control.current()?;
        if !report.overlays.is_empty()
            || !report.draining_bridges.is_empty()
            || self.schedule.is_reconcile_pending()
        {
            return None;
        }
        let wakeup = self.control.signal().as_fd();
        let reconciler = &mut self.reconciler;
        // After a panic the full reconciliation follows, which reports it.
        catch(
            || match reconciler.wait(wakeup, Duration::ZERO, WaitFor::Events) {
                Ok(Reaction::Ignore) => reconciler.change_peers(before, desired),
                _ => None,
            },
        )
        .ok()?
    }

    /// Waits for an event or a timer, and repairs the host if it differs from the desired
    /// state.
    fn wait_and_repair(&mut self) {
        let reaction = self.wait();
        let now = self.now();
        self.schedule.on_event(now, reaction);
        let Some(desired) = self.control.desired().cloned() else {
            return;
        };
        match self.schedule.due(now) {
            Due::Nothing => {}
            Due::Repair | Due::Compare => self.repair(&desired),
            Due::QuickCheck if self.quick_check(&desired) => self.repair(&desired),
            Due::QuickCheck => self.schedule.on_quick_check(self.now()),
        }
    }

    fn wait(&mut self) -> Reaction {
        let has_work = self.control.desired().is_some();
        let timeout = match has_work {
            true => self.schedule.next().since(self.now()),
            false => Duration::MAX,
        };
        // Events can add nothing to a reconciliation that is pending anyway.
        let wait_for = match has_work && !self.schedule.is_reconcile_pending() {
            true => WaitFor::Events,
            false => WaitFor::Wakeup,
        };
        let wakeup = self.control.signal().as_fd();
        let reconciler = &mut self.reconciler;
        progress::wait(Some(timeout));
        let reason = match catch(|| reconciler.wait(wakeup, timeout, wait_for)) {
            Ok(Ok(reaction)) => {
                progress::step("react to changes of the host");
                return reaction;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("internal error, {panic}"),
        };
        if self.throttle.allow(self.now(), "wait").is_some() {
            log::error!("cannot wait for changes of the host: {reason}");
        }
        // An error that stays must not become a busy loop.
        std::thread::sleep(ERROR_PAUSE);
        Reaction::Reconcile
    }

    fn quick_check(&mut self, desired: &Desired) -> bool {
        let reconciler = &mut self.reconciler;
        // After a panic the full reconciliation follows, which reports it.
        catch(|| reconciler.quick_check(desired)).unwrap_or(true)
    }

    /// Reconciles without a request.
    fn repair(&mut self, desired: &Desired) {
        let start = Instant::now();
        let report = self.reconcile(desired);
        if report.operations > 0 {
            let line = || {
                let (operations, took) = (report.operations, start.elapsed());
                format!(
                    "somebody changed this host; repaired it by {operations} operations in {took:.0?}"
                )
            };
            if let Some(line) = self.throttle.line(self.now(), "repair", line) {
                log::warn!("{line}");
            }
        }
        self.control.publish(report);
    }

    /// Runs a full reconciliation. A panic becomes a report: the next reconciliation reads
    /// everything anew, so that nothing half-done in memory can mislead it.
    fn reconcile(&mut self, desired: &Desired) -> HostReport {
        let (start, reconciler) = (Instant::now(), &mut self.reconciler);
        let report = catch(|| reconciler.reconcile(desired))
            .unwrap_or_else(|panic| supervisor::failed(desired, &panic));
        let now = self.now();
        self.schedule.on_reconciled(now, start.elapsed());
        if progress::is_abandoned() {
            return report;
        }
        let measured = match self.reconciler.underlay_mtu() {
            // The first reconciliation failed before it could measure.
            UnderlayMtu::Unmeasured => UnderlayMtu::Unknown,
            measured => measured,
        };
        self.measured
            .send_if_modified(|before| std::mem::replace(before, measured) != measured);
        self.control.count(&report);
        report
    }
}

#[cfg(test)]
mod tests;
