//! `cargo xtask package`: builds what is released.

use anyhow::Result;
use packaging::release;

/// Builds the packages into target/packages.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

pub fn run(Options {}: &Options) -> Result<()> {
    let release = release::build()?;
    println!("{release:#?}");
    Ok(())
}
