//! `cargo xtask simulate`: many seeds of the simulation, or one of them in detail.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build;
use crate::test::FEATURES;

/// The scenario that takes many seeds.
const SCENARIO: &str = "everything_comes_right_after_the_faults";

/// Little optimisation makes it twice as fast, and building it takes less than what that
/// saves. Debug assertions stay.
const OPTIMISED: &str = "profile.dev.package.overlay-core.opt-level=1";

/// Plays the simulation of a cluster (crates/core/tests/simulation): masters and agents, ours and
/// predecessors, while everything goes wrong that can.
///
/// Each seed is one cluster and what happens to it, always the same. The lowest seed that
/// fails is played again, and the end of what happened in it is printed. The exit code is 0
/// if none fails. Seeds are played on all cores; each takes some 20 ms of one.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many seeds to play.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Play this one only, and print the end of what happens in it.
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    // What it depends on is that of `cargo xtask test`; only the package is built anew.
    let mut arguments = vec!["test", "--config", OPTIMISED, "--workspace"];
    arguments.extend(FEATURES);
    arguments.extend([
        "--test",
        "simulation",
        "--",
        "--exact",
        SCENARIO,
        "--nocapture",
    ]);
    let mut cargo = build::cargo(&arguments);
    match options.seed {
        Some(seed) => cargo.env("MESOS_OVERLAY_SIM_SEED", seed.to_string()),
        None => cargo
            .env("MESOS_OVERLAY_SIM_FROM", options.from.to_string())
            .env("MESOS_OVERLAY_SIM_SEEDS", options.seeds.to_string())
            .env("MESOS_OVERLAY_SIM_PROGRESS", "1"),
    };
    let line = format!("cargo {}", arguments.join(" "));
    eprintln!("$ {line}");
    let status = cargo.status().with_context(|| format!("running {line}"))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
