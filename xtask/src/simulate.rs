//! `cargo xtask simulate`: runs many seeds of the simulation, or one of them with a trace.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build;
use crate::test::FEATURES;

/// Name of the test that is run with many seeds.
const SCENARIO: &str = "everything_comes_right_after_the_faults";

/// A little optimisation makes a seed twice as fast, which saves more time than the build takes.
/// Debug assertions remain enabled.
const OPTIMISED: &str = "profile.dev.package.overlay-core.opt-level=1";

/// Runs the simulation of a cluster (crates/core/tests/simulation): masters and agents, also of
/// the C++ modules, while faults of all kinds occur.
///
/// Each seed determines a cluster and its faults. The lowest seed that fails is run again, and
/// the end of its trace is printed. The exit code is 0 if no seed fails. Seeds run on all cores
/// and take some 20 ms each.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Number of seeds to run.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// First seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Run only this seed, and print the end of its trace.
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
