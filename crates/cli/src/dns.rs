//! `mesos-overlay dns`: the name server of the cluster's containers.

use std::process::ExitCode;

/// Answers questions for the names of the cluster's containers.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_options: &Options) -> ExitCode {
    ExitCode::FAILURE
}
