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
//! * Dropping the supervisor stops the thread and waits for it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

use crate::panics::{Panic, catch};

/// Pause before a thread's loop is started again after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

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
struct Request<D> {
    generation: u64,
    desired: Arc<D>,
}

/// State that both ends share.
struct Mailbox<R: Report> {
    /// Newest desired state that the thread has not received.
    request: Option<Request<R::Desired>>,
    /// Newest report that the owner has not polled.
    report: Option<R>,
    counters: Counters,
    stop: bool,
}

struct Shared<R: Report, S> {
    mailbox: Mutex<Mailbox<R>>,
    signal: S,
}

/// The owner's end of a supervised thread.
pub(crate) struct Supervisor<R: Report, S: Signal> {
    shared: Arc<Shared<R, S>>,
    thread: Option<JoinHandle<()>>,
}

impl<R: Report, S: Signal> Supervisor<R, S> {
    /// Starts a thread that executes `run`, which returns when [`Control::receive`] says
    /// [`Received::Stop`]. After a panic in `run` it is called again.
    ///
    /// The thread calls `wake` whenever there is a report to [`poll`](Self::poll). `wake` must
    /// not wait for the thread that drops the supervisor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn spawn(
        name: &str,
        signal: S,
        wake: impl Fn() + Send + 'static,
        mut run: impl FnMut(&mut Control<R, S>) + Send + 'static,
    ) -> io::Result<Supervisor<R, S>> {
        let (mut supervisor, mut control) = Supervisor::without_thread(signal, wake);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Err(panic) = catch(|| run(&mut control)) {
                    let _ = catch(|| control.fail(&panic));
                    std::thread::sleep(RESTART_PAUSE);
                }
            })?;
        supervisor.thread = Some(thread);
        Ok(supervisor)
    }

    /// Returns both ends, for a thread that is still to be started.
    pub(crate) fn without_thread(
        signal: S,
        wake: impl Fn() + Send + 'static,
    ) -> (Supervisor<R, S>, Control<R, S>) {
        let mailbox = Mutex::new(Mailbox {
            request: None,
            report: None,
            counters: Counters::default(),
            stop: false,
        });
        let shared = Arc::new(Shared { mailbox, signal });
        let control = Control {
            shared: shared.clone(),
            wake: Box::new(wake),
            pending: None,
            current: None,
        };
        let supervisor = Supervisor {
            shared,
            thread: None,
        };
        (supervisor, control)
    }

    /// Requests that everything be as `desired`. Returns at once. A newer request replaces
    /// one that the thread has not received, for which there is no report then.
    pub(crate) fn apply(&self, generation: u64, desired: Arc<R::Desired>) {
        self.shared.mailbox.lock().request = Some(Request {
            generation,
            desired,
        });
        self.shared.signal.notify();
    }

    /// Returns the newest report, once.
    pub(crate) fn poll(&self) -> Option<R> {
        self.shared.mailbox.lock().report.take()
    }

    /// Returns what the thread did so far.
    pub(crate) fn counters(&self) -> Counters {
        self.shared.mailbox.lock().counters
    }
}

#[cfg(test)]
impl<R: Report, S: Signal> Supervisor<R, S> {
    /// Wakes the thread without a request.
    pub(crate) fn notify(&self) {
        self.shared.signal.notify();
    }

    /// Requests a desired state, and has something else happen before the thread can receive
    /// the request.
    pub(crate) fn apply_and(&self, generation: u64, desired: Arc<R::Desired>, also: impl FnOnce()) {
        let mut mailbox = self.shared.mailbox.lock();
        mailbox.request = Some(Request {
            generation,
            desired,
        });
        also();
        self.shared.signal.notify();
    }
}

impl<R: Report, S: Signal> Drop for Supervisor<R, S> {
    fn drop(&mut self) {
        self.shared.mailbox.lock().stop = true;
        self.shared.signal.notify();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Content of the mailbox, as the thread received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The supervisor is being dropped.
    Stop,
    /// A new desired state, from now on [`Control::desired`].
    Desired,
    /// No news.
    Nothing,
}

/// The thread's end.
pub(crate) struct Control<R: Report, S: Signal> {
    shared: Arc<Shared<R, S>>,
    wake: Box<dyn Fn() + Send>,
    /// Desired state about which nothing was published yet.
    pending: Option<Request<R::Desired>>,
    /// Desired state of the last published report, and the last report about it.
    current: Option<(Request<R::Desired>, R)>,
}

impl<R: Report, S: Signal> Control<R, S> {
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
            Some(request) => {
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
        report.set_generation(request.generation);
        if !same {
            self.shared.mailbox.lock().report = Some(report.clone());
        }
        self.current = Some((request, report));
        if !same {
            (self.wake)();
        }
    }

    /// Logs a panic of the thread's loop, and publishes it.
    fn fail(&mut self, panic: &Panic) {
        let report = self.desired().map(|desired| failed::<R>(desired, panic));
        match report {
            Some(report) => self.publish(report),
            None => log::error!("{}", sentence::<R>(panic)),
        }
    }
}

/// Logs a panic of a reconciliation, and returns the report about it.
pub(crate) fn failed<R: Report>(desired: &R::Desired, panic: &Panic) -> R {
    let sentence = sentence::<R>(panic);
    log::error!("{sentence}");
    R::failed(desired, sentence)
}

fn sentence<R: Report>(panic: &Panic) -> String {
    format!("cannot {}: internal error, {panic}", R::TASK)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct Said {
        generation: u64,
        text: String,
        operations: usize,
    }

    impl Report for Said {
        type Desired = String;

        const TASK: &'static str = "do as told";

        fn failed(_: &String, reason: String) -> Said {
            Said {
                text: reason,
                ..Said::default()
            }
        }

        fn set_generation(&mut self, generation: u64) {
            self.generation = generation;
        }

        fn operations(&self) -> usize {
            self.operations
        }

        fn says_the_same_as(&self, other: &Said) -> bool {
            self.text == other.text
        }
    }

    /// A supervised thread that publishes one text for each message of the channel.
    struct Thread {
        supervisor: Supervisor<Said, EventFd>,
        say: Sender<&'static str>,
        woken: Receiver<()>,
    }

    fn thread() -> Thread {
        let ((say, texts), (wake, woken)) = (channel::<&'static str>(), channel());
        let run = move |control: &mut Control<Said, EventFd>| {
            loop {
                match control.receive() {
                    Received::Stop => return,
                    Received::Desired | Received::Nothing => {}
                }
                let Ok(text) = texts.recv_timeout(Duration::from_millis(1)) else {
                    continue;
                };
                assert_ne!(text, "panic");
                let report = Said {
                    text: text.to_owned(),
                    operations: 2,
                    ..Said::default()
                };
                control.count(&report);
                control.publish(report);
            }
        };
        let signal = poll_signal().unwrap();
        let supervisor = Supervisor::spawn("test", signal, move || wake.send(()).unwrap(), run);
        Thread {
            supervisor: supervisor.unwrap(),
            say,
            woken,
        }
    }

    impl Thread {
        /// Has the thread receive a desired state.
        fn apply(&self, generation: u64) {
            self.supervisor.apply(generation, Arc::default());
            while self.supervisor.shared.mailbox.lock().request.is_some() {
                std::thread::yield_now();
            }
        }

        fn report(&self) -> Said {
            self.woken.recv_timeout(PATIENCE).unwrap();
            self.supervisor.poll().unwrap()
        }
    }

    #[test]
    fn publishes_the_first_report_and_then_changes() {
        let thread = thread();
        thread.apply(3);
        thread.say.send("a").unwrap();
        assert_eq!(thread.report().generation, 3);
        thread.say.send("a").unwrap();
        thread.say.send("b").unwrap();
        let report = thread.report();
        assert_eq!((report.generation, &*report.text), (3, "b"));
        assert_eq!(thread.supervisor.poll(), None);
        thread.apply(4);
        thread.say.send("b").unwrap();
        assert_eq!(thread.report().generation, 4, "nobody has read it yet");
        let counters = Counters {
            reconciliations: 4,
            repairs: 2,
            repair_operations: 4,
        };
        assert_eq!(thread.supervisor.counters(), counters);
    }

    #[test]
    fn a_panic_of_the_loop_is_a_report_and_the_loop_goes_on() {
        let thread = thread();
        thread.apply(1);
        thread.say.send("panic").unwrap();
        let text = thread.report().text;
        let place = format!(
            "cannot do as told: internal error, panicked at {}:",
            file!()
        );
        assert!(text.starts_with(&place), "{text}");
        thread.say.send("fine").unwrap();
        assert_eq!(thread.report().text, "fine");
    }

    #[test]
    fn publishes_nothing_before_there_is_a_desired_state() {
        let thread = thread();
        thread.say.send("a").unwrap();
        while thread.supervisor.counters().reconciliations == 0 {
            std::thread::yield_now();
        }
        thread.apply(1);
        thread.say.send("b").unwrap();
        assert_eq!(thread.report().text, "b");
    }
}
