//! `mesos-overlay ipam`: compares allocations, addresses and containers.

use std::process::ExitCode;

use crate::connection::ConnectionOptions;
use crate::output::{OutputOptions, refuse};

/// Compares allocations, addresses and containers.
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
