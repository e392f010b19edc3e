//! `mesos-overlay networks`: shows and changes the overlay networks.

mod changed;
mod definition;
mod list;
mod losses;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use crate::connection::{ConnectionOptions, Master};
use crate::output::{Failure, OutputOptions, finish};
use crate::this_host::ThisHost;

pub use changed::{Added, Changed, Removed};
pub use list::List;
pub use show::Show;

/// Shows and changes the overlay networks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay networks list
  mesos-overlay networks show dcos
  mesos-overlay networks add web --subnet 10.64.0.0/16 --prefix 24
  mesos-overlay networks change web --subnet 10.64.0.0/15 --dry-run
  mesos-overlay networks remove web")]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListOptions),
    Show(show::Options),
    Add(changed::AddOptions),
    Change(changed::ChangeOptions),
    Remove(changed::RemoveOptions),
}

/// Lists all overlay networks: state, source, ranges, and how many subnets are used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  mesos-overlay networks list
  mesos-overlay networks list --master 10.0.0.1:5050 -o json")]
struct ListOptions {
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        Command::List(options) => finish(options.output, list(options)),
        Command::Show(options) => finish(options.output, show::show(options)),
        Command::Add(options) => changed::add(options),
        Command::Change(options) => changed::change(options),
        Command::Remove(options) => changed::remove(options),
    }
}

fn list(options: &ListOptions) -> Result<List, Failure> {
    let master = master(&options.connection)?;
    Ok(List::new(&master.overlays()?))
}

/// Returns the leading master.
fn master(options: &ConnectionOptions) -> Result<Master, Failure> {
    Master::find(options, &ThisHost::look())
}
