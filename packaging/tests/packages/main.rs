//! What is in the packages: files, dependencies, the findings of the distributions' own checkers.

mod content;
mod lint;
mod needs;

use packaging::kept::{self, Kept};
use testbed::{install, skip};

/// Returns the packages. `None`: a program to look into them is missing, and the test is reported
/// as skipped.
fn packages(test: &str) -> Option<Kept> {
    if let Some(missing) = install::missing(install::PACKAGES) {
        skip::skip(test, &missing);
        return None;
    }
    Some(kept::get().unwrap())
}
