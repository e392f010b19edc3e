//! Watchdog: ends the program when a thread that it cannot do without has ended with a panic. Answers would
//! stay as they are forever; the service manager starts the program again.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exit status after a panic, as that of Rust's programs.
const PANICKED: i32 = 101;

/// Ends the program because a part of it does not work any more.
pub fn end(what: &str) {
    log::error!("{what} ended with a panic, which is an error of this program: it ends");
    std::process::exit(PANICKED);
}

/// Returns what a thread of this name is to run: it ends the program after a panic.
pub fn guard(name: &'static str, run: impl FnOnce()) -> impl FnOnce() {
    move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            end(&format!("the thread {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Variable with which a test runs this program once more.
    const PANICS: &str = "MESOS_OVERLAY_DNS_TEST_PANICS";

    #[test]
    fn a_panic_of_a_thread_ends_the_program() {
        if std::env::var_os(PANICS).is_some() {
            let thread = std::thread::spawn(guard("dns-table", || panic!("wanted by the test")));
            let _ = thread.join();
            std::process::exit(0);
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "dns::watchdog::tests::a_panic_of_a_thread_ends_the_program",
            ])
            .env(PANICS, "1")
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(PANICKED));
    }

    #[test]
    fn a_thread_may_end() {
        std::thread::spawn(guard("dns-table", || {}))
            .join()
            .unwrap();
    }
}
