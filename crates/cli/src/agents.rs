//! `mesos-overlay agents`: shows the agents, and frees what they hold.

mod freed;
mod list;
mod locate;
pub mod show;

use std::process::ExitCode;

use clap::Subcommand;

use crate::output::finish;

pub use freed::{Deleted, Reclaimed};
pub use list::List;
pub use locate::{Located, Slaves};
pub use show::Show;

/// Shows the agents, and frees what those that are gone hold.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay agents list --lost
  mesos-overlay agents show 10.0.0.7
  mesos-overlay agents delete 10.0.0.7
  mesos-overlay agents reclaim --all")]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Options),
    Show(show::Options),
    Delete(freed::DeleteOptions),
    Reclaim(freed::ReclaimOptions),
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        Command::List(options) => finish(options.output, list::list(options)),
        Command::Show(options) => finish(options.output, show::show(options)),
        Command::Delete(options) => freed::delete(options),
        Command::Reclaim(options) => freed::reclaim(options),
    }
}
