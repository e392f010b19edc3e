//! `mesos-overlay networks`: lists and changes overlays.

use std::process::ExitCode;

use crate::connection::ConnectionOptions;
use crate::output::{OutputOptions, refuse};

/// Lists, adds, changes and removes overlays.
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
