//! `mesos-overlay`: the operators' program. It shows, checks and changes a cluster through the
//! endpoints of the modules, and the host that it runs on.

mod agents;
mod answers;
mod change;
mod check;
mod cleanup;
mod config;
mod connection;
mod diags;
mod dns;
mod finding;
mod ipam;
mod manual;
mod networks;
mod output;
mod paths;
mod ping;
mod resolve;
mod salvage;
mod schemas;
mod setup;
mod status;
mod this_host;
mod trace;
mod whois;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use log::Level;

/// Shows, checks and changes a Mesos cluster with overlay networks, and the host it runs on.
///
/// The overlay networks themselves need no command: the modules of libmesos_overlay.so, which
/// Mesos loads, manage them. Messages are printed on standard error; RUST_LOG=debug prints every
/// operation, RUST_LOG=warn only warnings and errors.
///
/// Exit status of commands that examine something:
///   0  all is well
///   1  an error was found
///   2  the command could not ask, or wrong usage
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
    Status(status::Options),
    Ping(ping::Options),
    Trace(trace::Options),
    Whois(whois::Options),
    Check(check::Options),
    Ipam(ipam::Options),
    Networks(networks::Options),
    Agents(agents::Options),
    Setup(setup::Options),
    Config(config::Options),
    Dns(Box<dns::Options>),
    Diags(diags::Options),
    Cleanup(cleanup::Options),
    Salvage(salvage::Options),
}

fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let given: Vec<&OsStr> = given.iter().map(OsString::as_os_str).collect();
    if let Some(written) = manual::write(Arguments::command(), &given) {
        return match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: cannot write the documents: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Arguments { command } = Arguments::parse();
    init_log();
    match command {
        Command::Status(options) => status::run(&options),
        Command::Ping(options) => ping::run(&options),
        Command::Trace(options) => trace::run(&options),
        Command::Whois(options) => whois::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Ipam(options) => ipam::run(&options),
        Command::Networks(options) => networks::run(&options),
        Command::Agents(options) => agents::run(&options),
        Command::Setup(options) => setup::run(&options),
        Command::Config(options) => config::run(&options),
        Command::Dns(options) => dns::run(&options),
        Command::Diags(options) => diags::run(&options),
        Command::Cleanup(options) => cleanup::run(&options),
        Command::Salvage(options) => salvage::run(&options),
    }
}

/// Prints messages of this project from level info on, and warnings of libraries.
fn init_log() {
    let filter = env_logger::Env::default()
        .default_filter_or("warn,overlay_host=info,overlay_dns=info,mesos_overlay::dns=info");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_all_commands_fit_together() {
        Arguments::command().debug_assert();
    }
}
