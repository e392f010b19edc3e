//! `cargo xtask package`: builds what is released.

use std::fs;

use anyhow::{Context, Result};
use packaging::built;

/// Builds what is released into target/packages.
///
/// * mesos-overlay-sdk-….tar.gz: for compiling the module with the compiler and the headers of an
///   installed Mesos
///
/// The module and the program are linked so that they load on hosts with glibc 2.17 and libstdc++ 5
/// or later; they are in target/x86_64-unknown-linux-gnu/release. The same source makes the same
/// bytes in every directory, with the date of the last commit, or of SOURCE_DATE_EPOCH.
///
/// It needs Rust, g++ and binutils on x86-64 Linux with glibc, and crates from crates.io. It takes
/// three minutes on two cores, and seconds if nothing has changed.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

pub fn run(Options {}: &Options) -> Result<()> {
    let built = built::build()?;
    let files = [&built.release.module, &built.release.program, &built.sdk];
    for file in files {
        let size = fs::metadata(file)
            .with_context(|| format!("{}", file.display()))?
            .len();
        println!("{:>6.1} MB  {}", size as f64 / 1e6, file.display());
    }
    Ok(())
}
