//! Supervision of a thread that keeps something as desired.
//!
//! Host, container engine and address usage have one thread each. All three are built on a
//! [`Supervisor`] (the owner's end) and a [`Control`] (the thread's end):
//!
//! ```text
//!            apply(generation, desired)              receive()
//!   owner ──────────────────────────────► mailbox ─────────────► thread: observe, plan, apply
//!   owner ◄────────────────────────────── mailbox ◄─────────────
//!            wake(), then poll()                     publish(report)
//! ```
//!
//! Rules that hold for every such thread:
//!
//! * A newer desired state replaces one that the thread has not received yet.
//! * The first report about a desired state is published in any case, later ones only if
//!   they say something else ([`Report::says_the_same_as`]). Each report carries the
//!   generation of its desired state.
//! * A panic becomes an error in the log and a failed report, both with file and line, and
//!   the thread goes on.
//! * A thread that ends, or that hangs (see `progress`), becomes an error in the log and a failed
//!   report, and another thread takes over ([`Supervisor::look_after`]). The thread that hangs
//!   keeps its mailbox, so that nobody reads what it says later.
//! * Dropping the supervisor stops the thread and waits for it, but not for ever.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::progress::Hang;
use crate::threads;

pub(crate) use control::{Control, Received};
use mailbox::{Mailbox, Request, Shared};
pub(crate) use mailbox::{Report, Signal, failed, poll_signal};

mod control;
mod mailbox;
#[cfg(test)]
mod tests;

pub use mailbox::Counters;

/// Upper bound of threads that hang at the same time. No other thread is started then.
const MAX_HANGING: usize = 4;

/// Upper bound of the time from one replacement of a thread to the next.
const MAX_INTERVAL: Duration = Duration::from_secs(1800);

/// Time limits of a supervised thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Time that a step may take, beyond a timeout of its own. Steps take milliseconds; the
    /// longest, in a cluster of tens of thousands of agents, some seconds.
    pub step: Duration,
    /// Time from the first replacement of a thread to the second. It doubles with each, up to
    /// [`MAX_INTERVAL`].
    pub interval: Duration,
    /// Time for the end of all threads of a node. Mesos waits for it.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            step: Duration::from_secs(45),
            interval: Duration::from_secs(60),
            end: Duration::from_secs(4),
        }
    }
}

/// Body of a thread.
type Run<R, S> = dyn Fn(&mut Control<R, S>) -> io::Result<()> + Send + Sync;

/// The owner's end of a supervised thread.
pub(crate) struct Supervisor<R: Report, S: Signal> {
    name: &'static str,
    limits: Limits,
    new_signal: Box<dyn Fn() -> io::Result<S> + Send + Sync>,
    run: Arc<Run<R, S>>,
    wake: Arc<Wake>,
    shared: Arc<Shared<R, S>>,
    thread: Option<JoinHandle<()>>,
    /// Threads that hang and were given up.
    abandoned: Vec<JoinHandle<()>>,
    replacements: Replacements,
    /// Fault of the present thread that was logged.
    is_fault_logged: bool,
    /// Generation about which the fault was reported.
    reported: Option<u64>,
    /// Time at which the end of the thread is not waited for any longer.
    stop_by: Option<Instant>,
}

/// Reason why a thread is replaced. Prints what completes "the thread overlay-host …".
enum Fault {
    Hangs(Hang),
    HasEnded,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Hangs(hang) => hang.fmt(f),
            Fault::HasEnded => f.write_str("has ended"),
        }
    }
}

impl<R: Report, S: Signal> Supervisor<R, S> {
    /// Starts a thread that executes `run`, which returns when [`Control::receive`] says
    /// [`Received::Stop`]. After a panic or an error in `run` it is called again.
    ///
    /// The thread calls `wake` whenever there is a report to [`poll`](Self::poll), or when it
    /// ends. `wake` must not wait for the thread that drops the supervisor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn spawn(
        name: &'static str,
        new_signal: impl Fn() -> io::Result<S> + Send + Sync + 'static,
        wake: impl Fn() + Send + 'static,
        run: impl Fn(&mut Control<R, S>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Supervisor<R, S>> {
        Supervisor::spawn_with(Limits::default(), name, new_signal, wake, run)
    }

    /// Starts a thread with other time limits. See [`spawn`](Self::spawn).
    pub(crate) fn spawn_with(
        limits: Limits,
        name: &'static str,
        new_signal: impl Fn() -> io::Result<S> + Send + Sync + 'static,
        wake: impl Fn() + Send + 'static,
        run: impl Fn(&mut Control<R, S>) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Supervisor<R, S>> {
        let shared = Arc::new(Shared::new(new_signal()?, Mailbox::default(), limits.step));
        let mut supervisor = Supervisor {
            name,
            limits,
            new_signal: Box::new(new_signal),
            run: Arc::new(run),
            wake: Arc::new(Wake(Mutex::new(Some(Box::new(wake))))),
            shared,
            thread: None,
            abandoned: Vec::new(),
            replacements: Replacements::new(limits.interval),
            is_fault_logged: false,
            reported: None,
            stop_by: None,
        };
        supervisor.thread = Some(supervisor.start(&supervisor.shared)?);
        Ok(supervisor)
    }

    /// Starts a thread on a mailbox.
    fn start(&self, shared: &Arc<Shared<R, S>>) -> io::Result<JoinHandle<()>> {
        let (shared, wake, run) = (shared.clone(), self.wake.clone(), self.run.clone());
        threads::spawn(self.name, move || {
            // Dropped last: everything of the thread is gone then.
            let _end = End(shared.clone(), wake.clone());
            shared.progress.enter();
            control::keep_running(&*run, &mut Control::new(shared, wake));
        })
    }

    /// Requests that everything be as `desired`. Returns at once. A newer request replaces
    /// one that the thread has not received, for which there is no report then.
    pub(crate) fn apply(&self, generation: u64, desired: Arc<R::Desired>) {
        let request = Request {
            generation,
            desired,
        };
        self.shared.mailbox.lock().apply(request);
        self.shared.signal.notify();
    }

    /// Returns the newest report, once.
    pub(crate) fn poll(&self) -> Option<R> {
        self.shared.mailbox.lock().report.take()
    }

    /// Returns what the threads did so far.
    pub(crate) fn counters(&self) -> Counters {
        self.shared.mailbox.lock().counters
    }

    /// Has another thread take over if the present one hangs or has ended, and reports that.
    /// Returns the time after which to call this again.
    pub(crate) fn look_after(&mut self) -> Duration {
        let now = Instant::now();
        self.abandoned.retain(|thread| !thread.is_finished());
        match self.shared.fault(now) {
            None => {
                self.forget_fault();
                self.replacements.on_health(now);
                self.shared.progress.patience(now)
            }
            Some(fault) => {
                self.on_fault(&fault, now);
                let step = self.limits.step;
                self.replacements.wait(now).min(step).max(step / 32)
            }
        }
    }

    fn on_fault(&mut self, fault: &Fault, now: Instant) {
        let wait = self.replacements.wait(now);
        let is_permitted = wait == Duration::ZERO && self.abandoned.len() < MAX_HANGING;
        let consequence = if is_permitted {
            "another thread takes over".to_owned()
        } else if wait > Duration::ZERO {
            format!("another thread is started in {:.0} s", wait.as_secs_f64())
        } else {
            format!("{MAX_HANGING} threads hang, and no other is started before one of them ends")
        };
        let (task, name) = (R::TASK, self.name);
        let sentence = format!("cannot {task}: the thread {name} {fault}; {consequence}");
        if !std::mem::replace(&mut self.is_fault_logged, true) {
            log::error!("{sentence}");
        }
        // Before the report of the other thread, which comes later.
        self.report(sentence);
        if !is_permitted {
            return;
        }
        match self.replace(now) {
            Ok(()) => self.forget_fault(),
            Err(error) => log::error!("cannot start another thread {name}: {error}"),
        }
    }

    /// Reports a fault about the newest desired state, once.
    fn report(&mut self, sentence: String) {
        let mut mailbox = self.shared.mailbox.lock();
        let Some(newest) = &mailbox.newest else {
            return;
        };
        let generation = newest.generation;
        if self.reported.replace(generation) == Some(generation) {
            return;
        }
        let mut report = R::failed(&newest.desired, sentence);
        report.set_generation(generation);
        mailbox.report = Some(report);
        mailbox.is_failed = true;
    }

    /// Has the next fault logged and reported again.
    fn forget_fault(&mut self) {
        self.is_fault_logged = false;
        self.reported = None;
    }

    /// Gives the present thread up, and starts another one, which begins with the newest desired
    /// state.
    fn replace(&mut self, now: Instant) -> io::Result<()> {
        self.replacements.on_attempt(now);
        let mailbox = self.shared.mailbox.lock().inherit();
        let shared = Shared::new((self.new_signal)()?, mailbox, self.limits.step);
        let shared = Arc::new(shared);
        let thread = self.start(&shared)?;
        let before = std::mem::replace(&mut self.shared, shared);
        before.progress.abandon();
        before.stop();
        let before = self.thread.replace(thread);
        self.abandoned.extend(before.filter(|it| !it.is_finished()));
        Ok(())
    }

    /// Orders the thread to end. Dropping the supervisor waits for it, but for all supervisors
    /// that were stopped at one time no longer than for one of them.
    pub(crate) fn stop(&mut self) {
        if self.stop_by.is_none() {
            self.stop_by = Some(Instant::now() + self.limits.end);
            self.shared.stop();
        }
    }
}

impl<R: Report, S: Signal> Drop for Supervisor<R, S> {
    fn drop(&mut self) {
        self.stop();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let stop_by = self.stop_by.unwrap_or_else(Instant::now);
        if self.shared.wait_for_end(stop_by) {
            let _ = thread.join();
        } else {
            self.shared.progress.abandon();
            let (name, hang) = (self.name, self.shared.progress.present());
            log::warn!("not waiting any longer for the thread {name}, which {hang}");
        }
        self.wake.end();
    }
}

/// Callback of the owner. It is never called after [`end`](Wake::end).
pub(crate) struct Wake(Mutex<Option<Box<dyn Fn() + Send>>>);

impl Wake {
    fn call(&self) {
        if let Some(wake) = &*self.0.lock() {
            wake();
        }
    }

    fn end(&self) {
        *self.0.lock() = None;
    }
}

/// Tells the owner that a thread has ended, whatever the reason.
struct End<R: Report, S: Signal>(Arc<Shared<R, S>>, Arc<Wake>);

impl<R: Report, S: Signal> Drop for End<R, S> {
    fn drop(&mut self) {
        if !self.0.end() {
            self.1.call();
        }
    }
}

/// Times of replacements. The first one is made at once, later ones at growing intervals: a
/// thread that hangs costs memory and file descriptors.
struct Replacements {
    first_interval: Duration,
    interval: Duration,
    last: Option<Instant>,
}

impl Replacements {
    fn new(first_interval: Duration) -> Replacements {
        Replacements {
            first_interval,
            interval: first_interval,
            last: None,
        }
    }

    /// Returns the time until the next replacement is permitted.
    fn wait(&self, now: Instant) -> Duration {
        let permitted = self.last.map_or(now, |last| last + self.interval);
        permitted.saturating_duration_since(now)
    }

    fn on_attempt(&mut self, now: Instant) {
        if self.last.replace(now).is_some() {
            self.interval = (self.interval * 2).min(MAX_INTERVAL.max(self.first_interval));
        }
    }

    /// Records that the thread works. After twice the interval its replacement counts as a
    /// success.
    fn on_health(&mut self, now: Instant) {
        if self
            .last
            .is_some_and(|last| now.duration_since(last) > self.interval * 2)
        {
            *self = Replacements::new(self.first_interval);
        }
    }
}

#[cfg(test)]
impl<R: Report, S: Signal> Supervisor<R, S> {
    /// Returns both ends, without a thread.
    pub(crate) fn without_thread(
        signal: S,
        wake: impl Fn() + Send + 'static,
    ) -> (Supervisor<R, S>, Control<R, S>) {
        let limits = Limits::default();
        let shared = Arc::new(Shared::new(signal, Mailbox::default(), limits.step));
        let wake = Arc::new(Wake(Mutex::new(Some(Box::new(wake)))));
        let control = Control::new(shared.clone(), wake.clone());
        let supervisor = Supervisor {
            name: "test",
            limits,
            new_signal: Box::new(|| Err(io::ErrorKind::Unsupported.into())),
            run: Arc::new(|_| Ok(())),
            wake,
            shared,
            thread: None,
            abandoned: Vec::new(),
            replacements: Replacements::new(limits.interval),
            is_fault_logged: false,
            reported: None,
            stop_by: None,
        };
        (supervisor, control)
    }

    /// Wakes the thread without a request.
    pub(crate) fn notify(&self) {
        self.shared.signal.notify();
    }

    /// Requests a desired state, and has something else happen before the thread can receive
    /// the request.
    pub(crate) fn apply_and(&self, generation: u64, desired: Arc<R::Desired>, also: impl FnOnce()) {
        let mut mailbox = self.shared.mailbox.lock();
        mailbox.apply(Request {
            generation,
            desired,
        });
        also();
        self.shared.signal.notify();
    }
}
