//! `mesos-overlay ipam`: compares allocations, addresses and containers.

mod alive;
mod ask;
mod check;
mod cluster;
mod compare;
mod leaks;
mod release;
mod show;
mod view;

use std::process::ExitCode;

use clap::Subcommand;

use crate::output::finish;

pub use check::Check;
pub use release::Released;
pub use show::Show;

/// Shows, compares and frees addresses: the master's allocations, the agents' reports, the files
/// of host-local, and the containers of Mesos and Docker.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay ipam show
  mesos-overlay ipam check --report /tmp/leaks.json
  mesos-overlay ipam release --report /tmp/leaks.json")]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Options),
    Check(check::Options),
    Release(release::Options),
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        Command::Show(options) => finish(options.output, show::show(options)),
        Command::Check(options) => finish(options.output, check::check(options)),
        Command::Release(options) => release::run(options),
    }
}
