//! The thread that makes the host match.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::desired::Desired;
use super::pass::Passes;
use crate::core::HostReport;

/// A thread that takes a [`Desired`], compares it with the host and carries out
/// the difference. It works in the network namespace of the thread that spawned
/// it.
///
/// Dropping it waits for the pass that is under way; after that `wake` is not
/// called any more.
pub struct Executor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Option<(u64, Arc<Desired>)>,
    done: Option<HostReport>,
    stop: bool,
}

impl Executor {
    /// Starts the thread. `wake` is called from it whenever there is a report to
    /// [`poll`](Executor::poll); it must not block on whoever drops the executor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Executor> {
        let mut passes = Passes::default();
        Executor::spawn_with(move |desired| passes.run(desired), wake)
    }

    /// The same with another way to make the host match.
    fn spawn_with(
        mut pass: impl FnMut(&Desired) -> HostReport + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Executor> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("overlay-host".into()).spawn({
            let shared = shared.clone();
            move || {
                while let Some((generation, desired)) = shared.next() {
                    let report = HostReport { generation, ..guarded(&desired, || pass(&desired)) };
                    shared.state.lock().done = Some(report);
                    wake();
                }
            }
        })?;
        Ok(Executor { shared, thread: Some(thread) })
    }

    /// Wants the host to be like `desired`. Returns at once; a newer one replaces
    /// one that still waits, which then gets no report.
    pub fn apply(&self, generation: u64, desired: Arc<Desired>) {
        self.shared.state.lock().waiting = Some((generation, desired));
        self.shared.changed.notify_one();
    }

    /// The report of the last finished pass, once.
    pub fn poll(&self) -> Option<HostReport> {
        self.shared.state.lock().done.take()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, other than in `wake`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits for work; `None`: there will be none any more.
    fn next(&self) -> Option<(u64, Arc<Desired>)> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(work) = state.waiting.take() {
                return Some(work);
            }
            self.changed.wait(&mut state);
        }
    }
}

/// Runs a pass; a panic becomes a report, and the thread lives on.
fn guarded(desired: &Desired, pass: impl FnOnce() -> HostReport) -> HostReport {
    // A pass leaves nothing half-done in memory that the next one would see: it
    // reads everything anew.
    catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(|panic| {
        let sentence = format!("configuring the host failed by a fault in this module: {}", message(&panic));
        log::error!("{sentence}");
        HostReport::hopeless(desired, sentence)
    })
}

/// What a panic says.
fn message(panic: &Box<dyn Any + Send>) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn executor(pass: impl FnMut(&Desired) -> HostReport + Send + 'static) -> (Executor, Receiver<()>) {
        let (wake, woken) = channel();
        (Executor::spawn_with(pass, move || wake.send(()).unwrap()).unwrap(), woken)
    }

    #[test]
    fn reports_what_became_of_a_generation_once() {
        let (executor, woken) = executor(|_| HostReport { operations: 7, ..HostReport::default() });
        assert_eq!(executor.poll(), None);
        executor.apply(3, Arc::default());
        woken.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            executor.poll(),
            Some(HostReport { generation: 3, operations: 7, ..HostReport::default() })
        );
        assert_eq!(executor.poll(), None);
    }

    #[test]
    fn a_newer_one_replaces_the_one_that_waits() {
        let (go, gate) = channel::<()>();
        let (executor, woken) = executor(move |_| {
            gate.recv_timeout(PATIENCE).unwrap();
            HostReport::default()
        });
        let mut done = Vec::new();
        executor.apply(1, Arc::default());
        // The first one is under way as soon as it does not wait any more.
        while executor.shared.state.lock().waiting.is_some() {
            std::thread::yield_now();
        }
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
        let mut passes = 0;
        let (executor, woken) = executor(move |_| {
            passes += 1;
            assert!(passes > 1, "on purpose");
            HostReport::default()
        });
        let overlays = [("dcos".to_owned(), Default::default())].into();
        executor.apply(1, Arc::new(Desired { overlays, ..Desired::default() }));
        woken.recv_timeout(PATIENCE).unwrap();
        let report = executor.poll().unwrap();
        assert_eq!(report.generation, 1);
        assert_eq!(report.host, ["configuring the host failed by a fault in this module: on purpose"]);
        assert_eq!(report.overlays["dcos"], report.host[0]);
        executor.apply(2, Arc::default());
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(executor.poll().unwrap().is_ok());
    }

    #[test]
    fn dropping_waits_for_the_pass_under_way() {
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
        // One wake for the pass; then the sender is gone with the thread.
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(
            woken.recv_timeout(PATIENCE).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }
}
