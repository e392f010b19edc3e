//! Packages are installed, used, upgraded and removed as docs/install.md says, in file systems of
//! Debian's releases. Mesos there is the one of the test bed.

mod archive;
mod chroot;
mod debian;
mod page;
mod rpm;
mod switch;
mod wrapper;

use std::fs;

use packaging::kept::{self, Kept};
use testbed::mesos::Mesos;
use testbed::{install, net, skip};

/// What a test needs.
struct Needs {
    kept: Kept,
    mesos: Mesos,
}

/// Returns what a test needs. `None`: it cannot run on this machine, and is reported as skipped.
fn needs(test: &str) -> Option<Needs> {
    let all = [install::PACKAGES, install::CHROOTS].concat();
    let why = install::missing(&all)
        .or_else(|| net::available().err().map(|error| format!("{error:#}")))
        .or_else(in_user_namespace);
    if let Some(why) = why {
        skip::skip(test, &why);
        return None;
    }
    Some(Needs {
        mesos: skip::require_mesos(test)?,
        kept: kept::get().unwrap(),
    })
}

/// Root of a user namespace cannot make the devices and owners of a file system.
fn in_user_namespace() -> Option<String> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    (words != ["0", "0", "4294967295"]).then(|| "needs root outside of a user namespace".to_owned())
}
