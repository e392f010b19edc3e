//! Fuzz targets: code that reads input of the network or an operator, as functions of bytes. A
//! target panics if a rule is violated; a panic of the code under test is a violation too.
//!
//! `cargo xtask fuzz` searches for such inputs with libFuzzer; `tests/corpus.rs` runs the kept inputs
//! in `corpus/` as a test.
mod abi;
mod agent;
mod config;
mod dns;
mod master;
mod names;
pub mod seeds;
mod session;
mod state;
pub mod steps;
mod texts;
mod wire;

/// A fuzz target.
#[derive(Debug)]
pub struct Target {
    /// Name of the target and of its directory in `corpus/`.
    pub name: &'static str,
    /// Runs the target with an input; panics if a rule is violated.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "master",
        run: master::run,
    },
    Target {
        name: "agent",
        run: agent::run,
    },
    Target {
        name: "state",
        run: state::run,
    },
    Target {
        name: "abi",
        run: abi::run,
    },
    Target {
        name: "master_config",
        run: config::master,
    },
    Target {
        name: "agent_config",
        run: config::agent,
    },
    Target {
        name: "dns",
        run: dns::run,
    },
    Target {
        name: "texts",
        run: texts::run,
    },
    Target {
        name: "wire",
        run: wire::run,
    },
    Target {
        name: "names",
        run: names::events,
    },
    Target {
        name: "names_snapshot",
        run: names::snapshot,
    },
];

/// Asserts that a text is one short line without control characters.
pub(crate) fn is_line(text: &str) -> bool {
    text.len() < 10_000 && !text.contains(char::is_control)
}
