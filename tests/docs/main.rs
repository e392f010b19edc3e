//! The documentation against the product: links lead somewhere, every key, endpoint and metric is
//! described, and sample outputs are what the product says.
//!
//! A fenced block below a comment `<!-- checked: SCENARIO -->` is produced by this target. Lines
//! that begin with `$ ` are commands: they are run in the scenario, and what follows each must be
//! its output. `UPDATE_DOCS=1 cargo test --test docs` rewrites the blocks; read the difference
//! before you commit it.
//!
//! | scenario | |
//! |---|---|
//! | names in `cluster::SCENARIOS` | master and agents of the product's core, without a network |
//! | `program` | the program `mesos-overlay` |
//! | `good FILE`, `bad FILE` | a configuration file, which must be accepted or not |
//! | `source FILE` | sentences that FILE says; `…` stands for what it fills in |
//! | `errors` | what the product says of the file before it on the page |
//! | `live` | a real Mesos cluster on hosts of its own; needs root |
//! | `bad-start` | a real Mesos master with a configuration that has two mistakes |
//! | `no-engine` | a real Mesos agent that wants a container engine, and has none |
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

mod blocks;
mod cluster;
mod command;
mod config;
mod filters;
mod jq;
mod links;
mod live;
mod names;
mod page;
mod product;
mod reference;
mod source;
mod steady;
