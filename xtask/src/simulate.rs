//! `cargo xtask simulate`: many seeds of the simulation, or one with its trace.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build;
use crate::test::FEATURES;

/// Test that takes seeds.
const SCENARIO: &str = "everything_comes_right_after_the_faults";

/// Setting that builds the core with little optimisation, which halves the time of a seed and costs
/// less to build than it saves. Debug assertions stay on.
const OPTIMISED: &str = "profile.dev.package.overlay-core.opt-level=1";

/// Runs the simulation of a cluster with faults (crates/core/tests/simulation).
///
/// A seed determines a cluster of masters and agents, of this and older versions, and all faults.
/// Seeds run on all cores; each takes some 20 ms of one. The lowest seed that fails is repeated,
/// and the end of its trace is printed. The exit code is 0 if none fails. Nothing is installed or
/// changed outside target/.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of seeds.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// First seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Run this seed only, and print the end of its trace.
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    // The arguments of `cargo xtask test`, so that only the core and the simulation are rebuilt.
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
