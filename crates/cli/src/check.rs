//! `mesos-overlay check`: checks of a host and of configuration files.

use std::process::ExitCode;

mod config;
mod host;

/// Checks this host, or configuration files.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

// The help of a command is that of its options: a doc comment here would replace it.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Host(host::Options),
    Config(config::Options),
}

pub use config::ConfigReport;
pub use host::HostReport;

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        Command::Host(options) => host::run(options),
        Command::Config(options) => config::run(options),
    }
}
