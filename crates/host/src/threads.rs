//! Threads inside of Mesos's processes.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Signals that a fault of the thread itself causes. They end the process, and Mesos's handler
/// prints where it happened.
const FAULTS: [Signal; 7] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Starts a thread on which no signal of the process is delivered, so that Mesos's handlers run
/// on Mesos's threads. The thread inherits the signal mask, so there is no moment without it.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let mut blocked = SigSet::all();
    for signal in FAULTS {
        blocked.remove(signal);
    }
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = Builder::new().name(name.to_owned()).spawn(run);
    before.thread_set_mask()?;
    thread
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the blocked signals of the calling thread, as the kernel has them.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    fn is_blocked(mask: u64, signal: Signal) -> bool {
        mask & 1 << (signal as u32 - 1) != 0
    }

    #[test]
    fn no_signal_of_the_process_is_delivered() {
        let before = blocked();
        let (send, masks) = std::sync::mpsc::channel();
        let thread = spawn("test", move || {
            let of_child = std::thread::spawn(blocked).join().unwrap();
            send.send((blocked(), of_child)).unwrap();
        });
        thread.unwrap().join().unwrap();
        let (mask, of_child) = masks.recv().unwrap();
        for signal in Signal::iterator() {
            // Nobody can block these two.
            let expected =
                ![Signal::SIGKILL, Signal::SIGSTOP].contains(&signal) && !FAULTS.contains(&signal);
            assert_eq!(is_blocked(mask, signal), expected, "{signal}");
        }
        assert_eq!(mask, of_child, "threads of libraries inherit it");
        assert_eq!(
            blocked(),
            before,
            "the calling thread has its own mask again"
        );
    }
}
