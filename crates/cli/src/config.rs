//! `mesos-overlay config`: converts configurations.

mod from_dcos;
mod yaml;

use std::process::ExitCode;

pub use from_dcos::Conversion;

/// Converts configurations of other systems.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    FromDcos(from_dcos::Options),
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        Command::FromDcos(options) => from_dcos::run(options),
    }
}
