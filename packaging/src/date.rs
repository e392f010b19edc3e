//! The date of what is released.

use std::process::Command;

use anyhow::{Context, Result};
use testbed::paths;

use crate::run;

/// Returns the date of packages and their files, in seconds since 1970: that of the variable
/// `SOURCE_DATE_EPOCH`, or of the last commit.
///
/// # Errors
/// The variable is no number; or it is not set, and git does not know the commit.
pub fn seconds() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.args(["log", "-1", "--format=%ct"]);
            run::output(git.current_dir(paths::workspace()))
                .context("finding the date of the last commit; set SOURCE_DATE_EPOCH instead")?
        }
    };
    let text = text.trim();
    text.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, and not a number of seconds"))
}
