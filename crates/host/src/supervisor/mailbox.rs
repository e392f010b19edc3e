//! State that the two ends of a supervised thread share.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::{Condvar, Mutex};

use super::Fault;
use crate::panics::Panic;
use crate::progress::Progress;

/// Result of a reconciliation.
pub(crate) trait Report: Clone + Send + 'static {
    /// Desired state that the report is about.
    type Desired: Send + Sync + 'static;

    /// Task of the thread, in words that complete "cannot …".
    const TASK: &'static str;

    /// Returns the report of a reconciliation of which nothing could be done, for one
    /// reason.
    fn failed(desired: &Self::Desired, reason: String) -> Self;

    /// Sets the generation of the desired state.
    fn set_generation(&mut self, generation: u64);

    /// Returns the number of operations that the reconciliation took; 0: all was as desired.
    fn operations(&self) -> usize;

    /// Returns whether two reports differ at most in generation and number of operations.
    fn says_the_same_as(&self, other: &Self) -> bool;
}

/// Logs a panic of a reconciliation, and returns the report about it.
pub(crate) fn failed<R: Report>(desired: &R::Desired, panic: &Panic) -> R {
    let sentence = format!("cannot {}: internal error, {panic}", R::TASK);
    log::error!("{sentence}");
    R::failed(desired, sentence)
}

/// Signal that tells a thread to look into its mailbox.
pub(crate) trait Signal: Send + Sync + 'static {
    /// Wakes the thread, or keeps it from its next wait.
    fn notify(&self);

    /// Takes notifications back that were not waited for.
    fn clear(&self) {}
}

/// Signal for threads that wait with `poll`: readable while it is notified.
impl Signal for EventFd {
    fn notify(&self) {
        // It fails only after 2^64 notifications that nobody read.
        let _ = self.write(1);
    }

    fn clear(&self) {
        let _ = self.read();
    }
}

/// Signal for threads that wait on a tokio runtime.
impl Signal for tokio::sync::Notify {
    fn notify(&self) {
        self.notify_one();
    }
}

/// Returns a signal for a thread that waits with `poll`.
///
/// # Errors
/// The process has no more file descriptors.
pub(crate) fn poll_signal() -> io::Result<EventFd> {
    Ok(EventFd::from_flags(
        EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
    )?)
}

/// Work of a thread since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Full reconciliations, requested or not.
    pub reconciliations: u64,
    /// Reconciliations that nobody requested and that changed something.
    pub repairs: u64,
    /// Operations of these repairs.
    pub repair_operations: u64,
}

/// Desired state and its generation.
pub(super) struct Request<D> {
    pub generation: u64,
    pub desired: Arc<D>,
}

impl<D> Clone for Request<D> {
    fn clone(&self) -> Request<D> {
        Request {
            generation: self.generation,
            desired: self.desired.clone(),
        }
    }
}

/// State that both ends share.
pub(super) struct Mailbox<R: Report> {
    /// Newest desired state that the thread has not received, and the time of the request.
    pub request: Option<(Request<R::Desired>, Instant)>,
    /// Newest desired state, received or not.
    pub newest: Option<Request<R::Desired>>,
    /// Newest report that the owner has not polled.
    pub report: Option<R>,
    /// Set if the owner has reported a failure that the thread does not know.
    pub is_failed: bool,
    pub counters: Counters,
    pub stop: bool,
    /// Set by the thread when it ends.
    has_ended: bool,
}

impl<R: Report> Default for Mailbox<R> {
    fn default() -> Mailbox<R> {
        Mailbox {
            request: None,
            newest: None,
            report: None,
            is_failed: false,
            counters: Counters::default(),
            stop: false,
            has_ended: false,
        }
    }
}

impl<R: Report> Mailbox<R> {
    /// Sets the desired state.
    pub fn apply(&mut self, request: Request<R::Desired>) {
        self.newest = Some(request.clone());
        self.request = Some((request, Instant::now()));
    }

    /// Returns the mailbox of a thread that takes over.
    pub fn inherit(&mut self) -> Mailbox<R> {
        Mailbox {
            request: self.newest.clone().map(|newest| (newest, Instant::now())),
            newest: self.newest.clone(),
            report: self.report.take(),
            counters: self.counters,
            ..Mailbox::default()
        }
    }
}

/// Mailbox of one thread, and the means to wait for changes of it.
pub(super) struct Shared<R: Report, S> {
    pub mailbox: Mutex<Mailbox<R>>,
    pub signal: S,
    pub progress: Arc<Progress>,
    /// Notified with [`Mailbox::stop`] and [`Mailbox::has_ended`].
    changed: Condvar,
}

impl<R: Report, S: Signal> Shared<R, S> {
    pub fn new(signal: S, mailbox: Mailbox<R>, limit: Duration) -> Shared<R, S> {
        Shared {
            mailbox: Mutex::new(mailbox),
            signal,
            progress: Arc::new(Progress::new(limit)),
            changed: Condvar::new(),
        }
    }

    /// Orders the thread to end.
    pub fn stop(&self) {
        self.mailbox.lock().stop = true;
        self.changed.notify_all();
        self.signal.notify();
    }

    /// Records that the thread ends. Returns whether it was ordered to.
    pub fn end(&self) -> bool {
        let mut mailbox = self.mailbox.lock();
        mailbox.has_ended = true;
        self.changed.notify_all();
        mailbox.stop
    }

    /// Waits until the thread is ordered to end, for at most `timeout`. Returns whether it is.
    pub fn is_stopped_within(&self, timeout: Duration) -> bool {
        let mut mailbox = self.mailbox.lock();
        let is_running = |mailbox: &mut Mailbox<R>| !mailbox.stop;
        self.changed
            .wait_while_for(&mut mailbox, is_running, timeout);
        mailbox.stop
    }

    /// Waits until the thread ends, but not after `deadline`. Returns whether it has ended.
    pub fn wait_for_end(&self, deadline: Instant) -> bool {
        let mut mailbox = self.mailbox.lock();
        let timeout = deadline.saturating_duration_since(Instant::now());
        let is_running = |mailbox: &mut Mailbox<R>| !mailbox.has_ended;
        self.changed
            .wait_while_for(&mut mailbox, is_running, timeout);
        mailbox.has_ended
    }

    /// Returns what is wrong with the thread.
    pub fn fault(&self, now: Instant) -> Option<Fault> {
        let mailbox = self.mailbox.lock();
        if mailbox.has_ended {
            return Some(Fault::HasEnded);
        }
        let requested = mailbox.request.as_ref().map(|(_, at)| *at);
        self.progress.hang(now, requested).map(Fault::Hangs)
    }
}
