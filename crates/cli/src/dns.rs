//! `mesos-overlay dns`: the name server of the cluster's containers.

mod follow;
mod serve;

use std::process::ExitCode;

use crate::connection::ConnectionOptions;

/// Answers questions for the names of the cluster's containers.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    serve: serve::Options,
    #[command(flatten)]
    names: follow::Options,
    #[command(flatten)]
    connection: ConnectionOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    serve::run(&options.serve, options.names.settings(&options.connection))
}
