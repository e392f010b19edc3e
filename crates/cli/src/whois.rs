//! `mesos-overlay whois`: says who has an address or a name.

use std::process::ExitCode;

use crate::connection::ConnectionOptions;
use crate::output::{OutputOptions, refuse};

/// Says who has an address or a name.
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
