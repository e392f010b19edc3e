//! `mesos-overlay`: administration of a host by hand.
mod cleanup;
mod manual;
mod salvage;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use log::Level;

/// Administers a host of a Mesos cluster with overlay networks.
///
/// The overlay networks themselves need no command: the modules of libmesos_overlay.so, which
/// Mesos loads, manage them. Messages are printed on standard error; RUST_LOG=debug prints every
/// operation, RUST_LOG=warn only warnings and errors.
#[derive(Debug, Parser)]
#[command(
    name = "mesos-overlay",
    version,
    disable_help_subcommand = true,
    verbatim_doc_comment
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

// The help of a command is that of its options: a doc comment here would replace it.
#[derive(Debug, Subcommand)]
enum Command {
    Cleanup(cleanup::Options),
    Salvage(salvage::Options),
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let given: Vec<&OsStr> = given.iter().map(OsString::as_os_str).collect();
    if let Some(directory) = manual::requested(&given) {
        return match manual::write(Arguments::command(), directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {}: {error}", directory.display());
                ExitCode::FAILURE
            }
        };
    }
    let Arguments { command } = Arguments::parse();
    init_log();
    match command {
        Command::Cleanup(options) => cleanup::run(&options),
        Command::Salvage(options) => salvage::run(&options),
    }
}

/// Prints messages of this project from level info on, and warnings of libraries.
fn init_log() {
    let filter = env_logger::Env::default().default_filter_or("warn,overlay_host=info");
    env_logger::Builder::from_env(filter)
        .format(|out, record| writeln!(out, "{}: {}", level_name(record.level()), record.args()))
        .init();
}

/// Returns the word that a message begins with, as in the messages of this program itself.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}
