//! Progress line on standard error, for what takes longer than a second.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time after which the line appears.
const DELAY: Duration = Duration::from_secs(1);
/// Interval of the line's updates.
const TICK: Duration = Duration::from_millis(120);

/// Progress line. It appears after a second if standard error is a terminal, and goes when this
/// is dropped.
pub struct Progress {
    bar: Arc<ProgressBar>,
    /// Dropped to stop the thread that shows the line.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Creates a line for work of `total` steps; 0: the number of steps is not known.
    pub fn new(what: &str, total: u64) -> Progress {
        let bar = match total {
            0 => ProgressBar::no_length(),
            total => ProgressBar::new(total),
        };
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let template = match total {
            0 => "{spinner} {msg} ({elapsed})",
            _ => "{spinner} {msg}: {pos} of {len} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let bar = Arc::new(bar);
        let (stop, stopped) = mpsc::channel::<()>();
        let shown = bar.clone();
        let thread = thread::Builder::new().spawn(move || {
            if stopped.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(TICK);
            }
        });
        Progress {
            bar,
            stop: Some(stop),
            thread: thread.ok(),
        }
    }

    /// Counts a step.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// Changes what the line says.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
