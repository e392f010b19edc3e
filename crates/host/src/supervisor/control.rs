//! The thread's end of a supervised thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mailbox::{Report, Request, Shared, Signal};
use super::{Run, Wake};
use crate::panics::{Panic, catch};
use crate::progress;

/// Pause before a thread's loop is started again after a panic. It doubles with each.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);

/// Content of the mailbox, as the thread received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The supervisor is being dropped, or another thread has taken over.
    Stop,
    /// A new desired state, from now on [`Control::desired`].
    Desired,
    /// No news.
    Nothing,
}

/// The thread's end.
pub(crate) struct Control<R: Report, S: Signal> {
    shared: Arc<Shared<R, S>>,
    wake: Arc<Wake>,
    /// Desired state about which nothing was published yet.
    pending: Option<Request<R::Desired>>,
    /// Desired state of the last published report, and the last report about it.
    current: Option<(Request<R::Desired>, R)>,
}

impl<R: Report, S: Signal> Control<R, S> {
    pub(super) fn new(shared: Arc<Shared<R, S>>, wake: Arc<Wake>) -> Control<R, S> {
        Control {
            shared,
            wake,
            pending: None,
            current: None,
        }
    }

    /// Returns the signal that is notified when there is something to
    /// [`receive`](Self::receive).
    pub(crate) fn signal(&self) -> &S {
        &self.shared.signal
    }

    /// Takes news out of the mailbox.
    pub(crate) fn receive(&mut self) -> Received {
        let mut mailbox = self.shared.mailbox.lock();
        self.shared.signal.clear();
        if mailbox.stop {
            return Received::Stop;
        }
        match mailbox.request.take() {
            Some((request, _)) => {
                self.pending = Some(request);
                Received::Desired
            }
            None => Received::Nothing,
        }
    }

    /// Returns whether there is something to [`receive`](Self::receive), so that the work
    /// under way is of no use to anybody.
    pub(crate) fn is_superseded(&self) -> bool {
        let mailbox = self.shared.mailbox.lock();
        mailbox.stop || mailbox.request.is_some()
    }

    /// Returns the newest desired state; `None`: there was none yet.
    pub(crate) fn desired(&self) -> Option<&Arc<R::Desired>> {
        let current = self.current.as_ref().map(|(request, _)| request);
        self.pending
            .as_ref()
            .or(current)
            .map(|request| &request.desired)
    }

    /// Returns whether nothing was published yet about the newest desired state.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Returns the last report and the desired state that it is about.
    pub(crate) fn current(&self) -> Option<(&Arc<R::Desired>, &R)> {
        let (request, report) = self.current.as_ref()?;
        Some((&request.desired, report))
    }

    /// Counts a full reconciliation. Call it before [`publish`](Self::publish).
    pub(crate) fn count(&self, report: &R) {
        let counters = &mut self.shared.mailbox.lock().counters;
        counters.reconciliations += 1;
        if !self.is_pending() && report.operations() > 0 {
            counters.repairs += 1;
            counters.repair_operations += report.operations() as u64;
        }
    }

    /// Hands a report about the newest desired state to the owner, unless it says the same
    /// as the one before about the same desired state.
    pub(crate) fn publish(&mut self, mut report: R) {
        let before = self.current.take();
        // A replaced desired state can be large. It is dropped after the report is out.
        let (request, same, _replaced) = match (self.pending.take(), before) {
            (None, None) => return,
            (None, Some((request, before))) => (request, report.says_the_same_as(&before), None),
            (Some(request), before) => (request, false, before),
        };
        let same = same && !self.shared.mailbox.lock().is_failed;
        report.set_generation(request.generation);
        if !same {
            let report = Some(report.clone());
            let mut mailbox = self.shared.mailbox.lock();
            mailbox.report = report;
            mailbox.is_failed = false;
        }
        self.current = Some((request, report));
        if !same && !progress::is_abandoned() {
            self.wake.call();
        }
    }

    /// Logs that the thread's loop has ended, and publishes it.
    fn fail(&mut self, reason: &str) {
        let sentence = format!("cannot {}: {reason}", R::TASK);
        log::error!("{sentence}");
        if let Some(desired) = self.desired() {
            let report = R::failed(desired, sentence);
            self.publish(report);
        }
    }
}

/// Runs the loop of a thread until the thread is ordered to end. After a panic or an error it
/// is started again, at growing intervals.
pub(super) fn keep_running<R: Report, S: Signal>(run: &Run<R, S>, control: &mut Control<R, S>) {
    let mut pause = RESTART_PAUSE;
    loop {
        let start = Instant::now();
        let reason = match catch(|| run(control)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => internal_error(&panic),
        };
        let _ = catch(|| control.fail(&reason));
        if start.elapsed() > MAX_RESTART_PAUSE {
            pause = RESTART_PAUSE;
        }
        progress::wait(Some(pause));
        if control.shared.is_stopped_within(pause) {
            return;
        }
        pause = (pause * 2).min(MAX_RESTART_PAUSE);
    }
}

fn internal_error(panic: &Panic) -> String {
    format!("internal error, {panic}")
}
