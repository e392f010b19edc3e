//! Progress of a thread, as its supervisor sees it.
//!
//! A thread names each step before it takes it. If a step does not end in time, the thread
//! hangs: in a file system that does not answer, in the kernel, or in an endless loop. The
//! supervisor then gives the thread up, and everything that the thread still does is of no use.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{Pid, gettid};
use parking_lot::Mutex;

/// Progress of one thread.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Time that a step may take, beyond a timeout of its own.
    limit: Duration,
    is_abandoned: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    thread: Option<Pid>,
    step: Cow<'static, str>,
    /// Begin of the step.
    since: Instant,
    /// Time at which the next step is expected; `None`: when something wakes the thread.
    expected: Option<Instant>,
    /// Set while the thread waits for requests and events.
    is_waiting: bool,
}

/// A step that does not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hang {
    thread: Option<Pid>,
    step: Cow<'static, str>,
    silence: Duration,
}

/// Prints what completes "the thread overlay-host …".
impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(thread) = self.thread {
            write!(f, "(tid {thread}) ")?;
        }
        let seconds = self.silence.as_secs_f64();
        write!(
            f,
            "has not answered for {seconds:.0} s (step: {})",
            self.step
        )
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Progress>>> = const { RefCell::new(None) };
}

/// Calls `f` with the progress of the calling thread, if it has a supervisor.
fn with_current<R>(f: impl FnOnce(&Progress) -> R) -> Option<R> {
    let call = |current: &RefCell<Option<Arc<Progress>>>| {
        let current = current.borrow();
        current.as_deref().map(f)
    };
    // A thread that ends has none any more.
    CURRENT.try_with(call).ok()?
}

/// Begins a step of the calling thread, in words such as "read the CNI configurations".
pub(crate) fn step(step: impl Into<Cow<'static, str>>) {
    step_with_timeout(step, Duration::ZERO);
}

/// Begins a step that has a timeout of its own.
pub(crate) fn step_with_timeout(step: impl Into<Cow<'static, str>>, timeout: Duration) {
    with_current(|progress| progress.begin(step.into(), Some(timeout), false));
}

/// Tells that the step of the calling thread goes on: one of its parts begins.
pub(crate) fn part(timeout: Duration) {
    with_current(|progress| {
        let mut state = progress.state.lock();
        state.expected = Instant::now().checked_add(timeout);
    });
}

/// Begins to wait for requests and events; `None`: without a timeout.
pub(crate) fn wait(timeout: Option<Duration>) {
    with_current(|progress| progress.begin("wait".into(), timeout, true));
}

/// Returns whether the supervisor has given the calling thread up, so that the thread must
/// change nothing any more.
pub fn is_abandoned() -> bool {
    with_current(|progress| progress.is_abandoned.load(Ordering::Acquire)).unwrap_or(false)
}

impl Progress {
    /// Creates the progress of a thread that is being started.
    pub(crate) fn new(limit: Duration) -> Progress {
        let now = Instant::now();
        Progress {
            limit,
            is_abandoned: AtomicBool::new(false),
            state: Mutex::new(State {
                thread: None,
                step: "start".into(),
                since: now,
                expected: Some(now),
                is_waiting: false,
            }),
        }
    }

    /// Makes this the progress of the calling thread.
    pub(crate) fn enter(self: &Arc<Self>) {
        self.state.lock().thread = Some(gettid());
        CURRENT.set(Some(self.clone()));
    }

    /// Gives the thread up.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Release);
    }

    fn begin(&self, step: Cow<'static, str>, timeout: Option<Duration>, is_waiting: bool) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.step = step;
        state.since = now;
        state.expected = timeout.and_then(|timeout| now.checked_add(timeout));
        state.is_waiting = is_waiting;
    }

    /// Returns the time at which the thread must have said something. `request` is the time of
    /// a request that it has not received.
    fn expected(&self, request: Option<Instant>) -> Option<Instant> {
        let state = self.state.lock();
        let request = request.filter(|_| state.is_waiting);
        let request = request.map(|at| at.max(state.since));
        state.expected.into_iter().chain(request).min()
    }

    /// Returns the step of a thread that hangs.
    pub(crate) fn hang(&self, now: Instant, request: Option<Instant>) -> Option<Hang> {
        let silence = now.checked_duration_since(self.expected(request)?)?;
        (silence > self.limit).then(|| self.describe(silence))
    }

    /// Returns the present step.
    pub(crate) fn present(&self) -> Hang {
        let since = self.state.lock().since;
        self.describe(since.elapsed())
    }

    fn describe(&self, silence: Duration) -> Hang {
        let state = self.state.lock();
        Hang {
            thread: state.thread,
            step: state.step.clone(),
            silence,
        }
    }

    /// Returns how long the thread may still be silent.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let limit = self.expected(None).unwrap_or(now) + self.limit;
        let patience = limit.saturating_duration_since(now);
        // Looking all the time would cost more than it tells.
        patience.max(self.limit / 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn progress() -> (Progress, Instant) {
        (Progress::new(LIMIT), Instant::now())
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_step_hangs_after_its_timeout_and_the_limit() {
        let (progress, now) = progress();
        assert_eq!(progress.hang(now + seconds(9), None), None);
        let hang = progress.hang(now + seconds(11), None).unwrap();
        assert_eq!(
            hang.to_string(),
            "has not answered for 11 s (step: start)",
            "a thread that never began"
        );
        progress.begin("run nft".into(), Some(seconds(5)), false);
        assert_eq!(progress.hang(now + seconds(14), None), None);
        assert!(progress.patience(now) >= seconds(15));
        let hang = progress.hang(now + seconds(16), None).unwrap();
        assert_eq!(hang.step, "run nft");
    }

    /// A request that comes while a step is taken waits for the end of all steps.
    #[test]
    fn a_thread_that_waits_must_receive_requests() {
        let (progress, now) = progress();
        progress.begin("wait".into(), None, true);
        let late = now + seconds(1000);
        assert_eq!(progress.hang(late, None), None);
        assert_eq!(progress.hang(late, Some(late)), None);
        assert!(progress.hang(late + seconds(11), Some(late)).is_some());
        progress.begin("wait".into(), Some(seconds(1)), true);
        assert!(progress.hang(now + seconds(12), None).is_some());
        progress.begin("work".into(), Some(seconds(60)), false);
        assert_eq!(progress.hang(now + seconds(50), Some(now)), None);
    }

    #[test]
    fn a_thread_without_supervisor_is_never_abandoned() {
        step("work");
        assert!(!is_abandoned());
        let progress = Arc::new(Progress::new(LIMIT));
        let other = progress.clone();
        let thread = std::thread::spawn(move || {
            other.enter();
            step("work");
            (is_abandoned(), other.abandon(), is_abandoned())
        });
        assert_eq!(thread.join().unwrap(), (false, (), true));
        assert!(!is_abandoned());
        let text = progress.present().to_string();
        assert!(
            text.starts_with("(tid ") && text.ends_with("(step: work)"),
            "{text}"
        );
    }
}
