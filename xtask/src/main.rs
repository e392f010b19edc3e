//! The project's commands for development; `cargo xtask --help` lists them.

mod bench;
mod build;
#[cfg(test)]
mod crates;
mod demo;
mod fuzz;
mod package;
mod reproduce;
mod simulate;
#[cfg(test)]
mod structure;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands for development of mesos-overlay.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

// Help texts of the commands are at their options.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Options),
    Test(test::Options),
    Simulate(simulate::Options),
    Bench(bench::Options),
    Fuzz(fuzz::Options),
    Reproduce(reproduce::Options),
    Package(package::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Test(options) => test::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Fuzz(options) => fuzz::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Reproduce(options) => reproduce::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Package(options) => package::run(&options).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(&error));
        ExitCode::FAILURE
    })
}

/// Formats an error and its causes, without the stack trace that `{:?}` adds if RUST_BACKTRACE is set.
fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
