//! `mesos-overlay status`: shows the state of the cluster and of this host.

use std::process::ExitCode;

use crate::connection::ConnectionOptions;
use crate::output::{OutputOptions, refuse};

/// Shows the state of the cluster and of this host.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let _ = options;
    refuse("not implemented")
}
