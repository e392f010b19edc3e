//! Where log lines go: one sink for the whole process.

use std::sync::{Arc, Once};

use overlay_core::Level;
use parking_lot::RwLock;

/// Takes one line, without line break.
pub type Logger = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// `None`: standard error.
static LOGGER: RwLock<Option<Logger>> = RwLock::new(None);

/// Sends all further lines to `logger`; `None`: to standard error.
pub fn set_logger(logger: Option<Logger>) {
    *LOGGER.write() = logger;
    forward_libraries();
}

/// Logs one line. Control characters in it are escaped: much of what is logged
/// came over the network, and must not look like lines of its own.
pub fn log(level: Level, line: &str) {
    let line = one_line(line);
    // The sink runs without the lock, so that it may take its time.
    let logger = LOGGER.read().clone();
    match logger {
        Some(logger) => logger(level, &line),
        None => eprintln!("{level:?}: {line}"),
    }
}

fn one_line(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    for c in line.trim_end().chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// What the libraries we use say through the `log` crate goes the same way, from
/// warnings up.
fn forward_libraries() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program has a logger of its own, as tests do.
        if log::set_logger(&Forward).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
    });
}

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            // A library's error is not yet one of ours: whoever called it decides.
            log(
                Level::Warning,
                &format!("{}: {}", record.target(), record.args()),
            );
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_over_the_network_stays_one_line() {
        assert_eq!(
            one_line("a\nE0101 fake\r\x1b[31m ünï\n"),
            "a\\nE0101 fake\\r\\u{1b}[31m ünï"
        );
    }
}
