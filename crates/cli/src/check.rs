//! `mesos-overlay check`: checks of a host and of configuration files.

use std::process::ExitCode;

use crate::connection::ConnectionOptions;
use crate::output::{OutputOptions, refuse};

/// Checks this host or configuration files.
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
