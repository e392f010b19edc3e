//! File systems of Debian's releases for the tests of the packages, in `target/chroots`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use testbed::paths;

use crate::run;

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Code name.
    pub name: &'static str,
    /// Number.
    pub number: u32,
}

/// Debian 11, the oldest release that Debian's mirrors still have.
pub const BULLSEYE: Suite = Suite {
    name: "bullseye",
    number: 11,
};

/// Debian 12.
pub const BOOKWORM: Suite = Suite {
    name: "bookworm",
    number: 12,
};

/// Debian 13.
pub const TRIXIE: Suite = Suite {
    name: "trixie",
    number: 13,
};

/// All releases that packages are tested on.
pub const SUITES: [Suite; 3] = [BULLSEYE, BOOKWORM, TRIXIE];

/// Packages beside those that every Debian has: what Mesos is linked with, and what agents need.
const PACKAGES: &str =
    "libsasl2-2,libsvn1,libapr1,zlib1g,iproute2,iptables,ipset,containernetworking-plugins";

/// Debian's mirror.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Makes the archives of all releases that are missing, at the same time.
///
/// # Errors
/// As [`Suite::archive`]; the first of them.
pub fn make_all() -> Result<()> {
    std::thread::scope(|scope| {
        let all = SUITES.map(|suite| scope.spawn(move || suite.archive().map(drop)));
        all.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

impl Suite {
    /// Returns the archive of the file system, which is made if it is missing. That takes less than
    /// a minute, and fetches 70 MB.
    ///
    /// # Errors
    /// mmdebstrap is missing, or fails; the error has its messages.
    pub fn archive(self) -> Result<PathBuf> {
        let Suite { name, .. } = self;
        let directory = paths::target().join("chroots");
        let archive = directory.join(format!("{name}.tar"));
        if archive.exists() {
            return Ok(archive);
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let lock = File::create(directory.join(format!("{name}.lock")))?;
        lock.lock().context("locking target/chroots")?;
        if !archive.exists() {
            eprintln!("fetching Debian {name} (70 MB)");
            let new = directory.join(format!("{name}-new.tar"));
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap
                .args(["--quiet", "--variant=minbase"])
                .arg(format!("--include={PACKAGES}"))
                .args(["--aptopt=Acquire::Languages \"none\"", name])
                .arg(&new)
                .arg(format!("deb {MIRROR} {name} main"));
            run::output(&mut mmdebstrap).with_context(|| format!("fetching Debian {name}"))?;
            fs::rename(&new, &archive).context("moving a file system into place")?;
        }
        Ok(archive)
    }
}
