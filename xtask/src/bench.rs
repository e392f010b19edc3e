//! `cargo xtask bench`: measurements. Not part of the tests: what is fast enough
//! depends on the machine, so each is a ratio to something else in the same run.

use anyhow::Result;
use testbed::{install, net};

use crate::build;

/// Measures how long things take, each beside something else in the same run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// "host": 100 to 100,000 peers applied from nothing, applied again, and one more, beside
    /// `ip -batch` and `bridge -batch` doing the same. Needs root.
    #[arg(value_parser = ["host"])]
    what: String,
}

pub fn run(options: &Options) -> Result<()> {
    net::available().and_then(|()| install::ensure(install::HOSTS))?;
    build::run(&["bench", "--bench", &options.what])
}
