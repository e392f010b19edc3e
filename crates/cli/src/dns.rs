//! `mesos-overlay dns`: the name server of the cluster's containers.

mod serve;

use std::process::ExitCode;

/// Answers questions for the names of the cluster's containers.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    serve: serve::Options,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    serve::run(&options.serve)
}
