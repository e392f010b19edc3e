//! `mesos-overlay dns`: the name server of the cluster's containers.

mod facts;
mod follow;
mod lookup;
mod options;
mod serve;
mod watchdog;

use std::process::ExitCode;

use clap::Subcommand;

use crate::connection::ConnectionOptions;
use crate::output::finish;

pub use lookup::DnsLookup;

/// Answers questions for the names of the cluster's containers.
///
/// Without a subcommand it runs until SIGTERM or SIGINT, and answers over UDP and TCP. Each option
/// can be a variable of the environment instead, for the systemd unit mesos-overlay-dns.service.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  mesos-overlay dns --listen 10.0.0.1
  mesos-overlay dns --upstream resolv.conf --forward mesos=10.0.0.1:8053
  mesos-overlay dns lookup web.marathon.containerip.dcos.thisdcos.directory")]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
    #[command(flatten)]
    names: follow::Options,
    #[command(flatten)]
    connection: ConnectionOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lookup(lookup::Options),
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match &options.command {
        None => serve::run(&options.serve, options.names.settings(&options.connection)),
        Some(Command::Lookup(options)) => finish(options.output, lookup::lookup(options)),
    }
}
