//! `mesos-overlay`: what an operator does to a host by hand.
mod cleanup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Looks after a host that is, or was, an agent of a Mesos cluster with overlay networks.
///
/// The overlay itself needs no command: it lives in the modules of libmesos_overlay.so, which
/// Mesos loads. RUST_LOG=info or debug shows what is done in detail.
#[derive(Debug, Parser)]
#[command(name = "mesos-overlay", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Removes everything of the overlay networks from this host.
    Cleanup(cleanup::Options),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    // The same lines that end in Mesos's log when a module does the work.
    let level = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(level)
        .format_timestamp(None)
        .format_target(false)
        .init();
    match command {
        Command::Cleanup(options) => cleanup::run(&options),
    }
}
