//! What faces the network or an operator, as functions of bytes. Each panics if
//! something is not as it must be; that nothing panics by itself goes without saying.
//!
//! `cargo xtask fuzz` looks for such bytes with libFuzzer; `tests/corpus.rs` plays
//! those that are kept in `corpus/`, in every test run.
mod abi;
mod agent;
mod config;
mod master;
pub mod seeds;
mod state;
pub mod steps;
mod texts;

/// Something that takes bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its directory in `corpus/`.
    pub name: &'static str,
    /// Takes them; panics if it must not be so.
    pub run: fn(&[u8]),
}

/// All of them.
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
        name: "texts",
        run: texts::run,
    },
];

/// One line that can go into a log: short, and nothing in it ends the line.
pub(crate) fn is_line(text: &str) -> bool {
    text.len() < 10_000 && !text.contains(char::is_control)
}
