//! File systems of Debian's releases for the tests of the packages, in `target/chroots`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
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

/// Options of mmdebstrap beside the packages.
const OPTIONS: [&str; 3] = [
    "--quiet",
    "--variant=minbase",
    "--aptopt=Acquire::Languages \"none\"",
];

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
        // Of other packages or options is another file.
        let archive = directory.join(format!("{name}-{}.tar", key()));
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
            fetch(self, &new)?;
            remove_former(&directory, name)?;
            fs::rename(&new, &archive).context("moving a file system into place")?;
        }
        Ok(archive)
    }
}

/// Returns what the archive depends on beside the release, as a part of its name.
fn key() -> String {
    let mut hash = Sha256::new();
    for text in OPTIONS.iter().chain(&[PACKAGES, MIRROR]) {
        hash.update(format!("{text}\n"));
    }
    let bytes = hash.finalize();
    bytes.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// Makes the archive. The unpacked file system is beside it meanwhile, which may be a larger disk
/// than the one of `/tmp`.
fn fetch(suite: Suite, archive: &Path) -> Result<()> {
    let Suite { name, .. } = suite;
    let scratch = archive.with_extension("tmp");
    let _ = fs::remove_dir_all(&scratch); // of an interrupted run
    fs::create_dir(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    // mmdebstrap's unprivileged steps go through it.
    fs::set_permissions(&scratch, Permissions::from_mode(0o1777))?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(OPTIONS)
        .arg(format!("--include={PACKAGES}"))
        .arg(name)
        .arg(archive)
        .arg(format!("deb {MIRROR} {name} main"))
        .env("TMPDIR", &scratch);
    run::output(&mut mmdebstrap).with_context(|| format!("fetching Debian {name}"))?;
    fs::remove_dir_all(&scratch).context("removing temporary files")
}

/// Removes archives of the release with other packages or options.
fn remove_former(directory: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let of_release = file == format!("{name}.tar")
            || file.starts_with(&format!("{name}-")) && file.ends_with(".tar");
        if of_release && file != format!("{name}-new.tar") {
            fs::remove_file(entry.path()).with_context(|| format!("removing {file}"))?;
        }
    }
    Ok(())
}
