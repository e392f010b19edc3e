//! The log of the whole process.
//!
//! Lines of the module begin with the id of their role. A process may have both: Mesos can
//! load the agent module into a master.

use std::sync::{Arc, Once};

use overlay_core::Level;
use overlay_core::util::line::one_line;
use parking_lot::RwLock;

use super::Role;

/// Receiver of log lines, without line break or control characters.
pub type Logger = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Current receiver; `None` is standard error.
static LOGGER: RwLock<Option<Logger>> = RwLock::new(None);

/// Crates whose records come from the agent's host. The master does not use them.
const AGENT_CRATES: [&str; 3] = ["overlay_host", "overlay_core", "mesos_overlay"];

/// Sends all further lines to `logger`, or to standard error.
pub fn set_logger(logger: Option<Logger>) {
    *LOGGER.write() = logger;
    forward_records();
}

/// Logs one line of `role`.
pub fn log(role: Role, level: Level, line: &str) {
    write(level, role.id(), line);
}

/// Logs `source: text` as one line.
fn write(level: Level, source: &str, text: &str) {
    // Text from the network must not look like another line.
    let line = format!("{source}: {}", one_line(text.trim_end(), usize::MAX));
    // The logger runs without the lock, because it may block.
    let logger = LOGGER.read().clone();
    match logger {
        Some(logger) => logger(level, &line),
        None => eprintln!("{level:?}: {line}"),
    }
}

/// Forwards the records of the `log` crate, through which the host code and libraries log.
fn forward_records() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails if the program has set a logger of its own, as tests do.
        if log::set_logger(&Forward).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
    });
}

/// Returns the level and the source of the line for a record; `None` if it is not logged.
///
/// Records of our own crates keep their level. Records of other crates become warnings
/// under the name of the crate, since an error of a library is reported by its caller, too.
fn classify<'a>(metadata: &log::Metadata<'a>) -> Option<(Level, &'a str)> {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    if AGENT_CRATES.contains(&krate) {
        let level = match metadata.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warning,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => return None,
        };
        Some((level, Role::Agent.id()))
    } else {
        (metadata.level() <= log::Level::Warn).then_some((Level::Warning, krate))
    }
}

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        classify(metadata).is_some()
    }

    fn log(&self, record: &log::Record) {
        // A thread that was given up may go on after Mesos's log has ended.
        if overlay_host::is_abandoned() {
            return;
        }
        if let Some((level, source)) = classify(record.metadata()) {
            write(level, source, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_records_keep_their_level_and_library_records_are_warnings() {
        use log::Level::{Debug, Error, Info, Trace, Warn};
        let classified = |target: &'static str, level| {
            classify(&log::Metadata::builder().target(target).level(level).build())
        };
        for target in ["overlay_host::executor", "overlay_core", "mesos_overlay"] {
            let own = [Error, Warn, Info, Debug, Trace].map(|level| classified(target, level));
            let expected = [
                Some((Level::Error, "overlay-agent")),
                Some((Level::Warning, "overlay-agent")),
                Some((Level::Info, "overlay-agent")),
                None,
                None,
            ];
            assert_eq!(own, expected, "{target}");
        }
        let library =
            [Error, Warn, Info, Debug].map(|level| classified("hyper::client::conn", level));
        let warning = Some((Level::Warning, "hyper"));
        assert_eq!(library, [warning, warning, None, None]);
        assert_eq!(classified("overlay_host_tools", Info), None);
    }

    #[test]
    fn all_lines_have_one_prefix_and_reach_the_logger() {
        let lines = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let sink = lines.clone();
        set_logger(Some(Arc::new(move |level, line| {
            sink.lock().push((level, line.to_owned()));
        })));
        log(
            Role::Master,
            Level::Error,
            "text of\nE0101 fake\r\x1b[31m ünï\n",
        );
        // Not through the macros, whose logger the test runner's program may have set.
        for (target, level) in [
            ("overlay_host::reconciler", log::Level::Info),
            ("netlink_proto", log::Level::Error),
            ("netlink_proto", log::Level::Info),
        ] {
            log::Log::log(
                &Forward,
                &log::Record::builder()
                    .target(target)
                    .level(level)
                    .args(format_args!("text of {level}\r"))
                    .build(),
            );
        }
        set_logger(None);
        // Other tests may log at the same time.
        let ours = |line: &(Level, String)| line.1.contains("text of");
        let lines: Vec<_> = lines
            .lock()
            .iter()
            .filter(|line| ours(line))
            .cloned()
            .collect();
        let expected = [
            (Level::Error, "overlay-master: text of E0101 fake  [31m ünï"),
            (Level::Info, "overlay-agent: text of INFO"),
            (Level::Warning, "netlink_proto: text of ERROR"),
        ];
        assert_eq!(
            lines,
            expected.map(|(level, line)| (level, line.to_owned()))
        );
    }
}
