//! Apache Mesos 1.11.0 itself: the release's own binary, fetched once, and a
//! small launcher that runs real masters and agents out of it.
//!
//! Kept in `target/mesos-1.11.0`:
//!
//! * `lib/libmesos.so`: Mesos, from the Python binding of the release ([`fetch`]);
//! * `build-<hash>/`: [`stubs`] for the libraries of 2016 that it needs, and our
//!   launcher, as `mesos-launcher` and as `mesos-containerizer`; and the module that
//!   only answers, which the real one is measured against. The hash is that of their
//!   sources.
//!
//! Tests run in parallel processes: one does the work under a lock, a directory
//! appears only when it is complete.

pub mod fetch;
pub mod stubs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths;

/// The launcher's source.
const LAUNCHER: [(&str, &str); 2] = [
    ("launcher.cpp", include_str!("../../launcher/launcher.cpp")),
    (
        "internals.hpp",
        include_str!("../../launcher/internals.hpp"),
    ),
];

/// The source of the module that only answers.
const BASELINE: &str = include_str!("../../baseline/baseline.cpp");

/// A Mesos that can be run.
#[derive(Clone, Debug)]
pub struct Mesos {
    library: PathBuf,
    build: PathBuf,
}

impl Mesos {
    /// Mesos, ready to run; fetched and built if this is the first time.
    pub fn get() -> Result<Mesos> {
        let root = paths::target().join("mesos-1.11.0");
        let mesos = Mesos {
            library: root.join("lib/libmesos.so"),
            build: root.join(format!("build-{}", hash())),
        };
        if !mesos.is_complete() {
            fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
            let lock =
                File::create(root.join("lock")).context("the lock of target/mesos-1.11.0")?;
            lock.lock().context("locking target/mesos-1.11.0")?;
            mesos.complete(&root)?;
        }
        Ok(mesos)
    }

    /// The program; see `launcher.cpp` for its arguments.
    pub fn launcher(&self) -> PathBuf {
        self.build.join("mesos-launcher")
    }

    /// What Mesos calls `launcher_dir`: where `mesos-containerizer` lies.
    pub fn libexec(&self) -> &Path {
        &self.build
    }

    /// A module with the name of our master's that only answers; see `baseline.cpp`.
    pub fn baseline(&self) -> PathBuf {
        self.build.join("libbaseline.so")
    }

    /// The shared object with all of Mesos in it.
    pub fn library(&self) -> &Path {
        &self.library
    }

    fn is_complete(&self) -> bool {
        self.library.exists() && self.build.exists()
    }

    /// Makes what is missing. The lock is held, so temporary names are ours; what
    /// an interrupted run left under them is overwritten.
    fn complete(&self, root: &Path) -> Result<()> {
        let new = root.join("new");
        let _ = fs::remove_dir_all(&new);
        if !self.library.exists() {
            let lib = new.join("lib");
            fs::create_dir_all(&lib)?;
            fetch::fetch(&lib.join("libmesos.so"))?;
            fs::rename(&lib, root.join("lib")).context("moving libmesos.so into place")?;
        }
        if !self.build.exists() {
            eprintln!("building the Mesos launcher");
            let build = new.join("build");
            fs::create_dir_all(build.join("stubs"))?;
            stubs::build(&self.library, &build.join("stubs"))?;
            compile(&self.library, &build)?;
            compile_baseline(&build)?;
            fs::rename(&build, &self.build).context("moving the launcher into place")?;
        }
        let _ = fs::remove_dir_all(&new);
        Ok(())
    }
}

fn hash() -> String {
    let mut hash = Sha256::new();
    for text in LAUNCHER.iter().map(|(_, text)| *text).chain([
        BASELINE,
        include_str!("stubs.rs"),
        include_str!("mod.rs"),
    ]) {
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Compiles the launcher. It is linked with RPATH, not RUNPATH, so that what
/// libmesos.so needs is looked for among the stubs too.
fn compile(library: &Path, build: &Path) -> Result<()> {
    for (name, text) in LAUNCHER {
        fs::write(build.join(name), text)?;
    }
    let lib = library
        .parent()
        .context("libmesos.so without a directory")?;
    let stubs = build.join("stubs");
    let mut gxx = Command::new("g++");
    gxx.args([
        "-std=c++14",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-isystem",
    ])
    .arg(paths::workspace().join("cpp_shim/mesos_subset"))
    .arg(build.join("launcher.cpp"))
    .arg("-o")
    .arg(build.join("mesos-launcher"))
    .arg(format!("-L{}", lib.display()))
    .arg(format!("-L{}", stubs.display()))
    .arg("-Wl,--disable-new-dtags,-rpath,$ORIGIN/stubs:$ORIGIN/../lib")
    .args([
        "-Wl,--allow-shlib-undefined",
        "-Wl,--no-as-needed",
        "-lmesos",
        "-lpython-stub",
        "-lpthread",
    ]);
    run(gxx).context("compiling the Mesos launcher")?;
    std::os::unix::fs::symlink("mesos-launcher", build.join("mesos-containerizer"))
        .context("naming the launcher mesos-containerizer")
}

/// Compiles the module that only answers. What it needs of Mesos is there when Mesos loads it.
fn compile_baseline(build: &Path) -> Result<()> {
    fs::write(build.join("baseline.cpp"), BASELINE)?;
    let mut gxx = Command::new("g++");
    gxx.args([
        "-std=c++14",
        "-O2",
        "-fPIC",
        "-shared",
        "-Wall",
        "-Wextra",
        "-Werror",
    ])
    .arg("-DMESOS_OVERLAY_SUBSET")
    .arg(format!(
        "-I{}",
        paths::workspace().join("cpp_shim/mesos_subset").display()
    ))
    .arg(build.join("baseline.cpp"))
    .arg("-o")
    .arg(build.join("libbaseline.so"));
    run(gxx)
        .context("compiling the module that only answers")
        .map(drop)
}

/// Runs a tool to its end; what it printed is in the error if it fails.
fn run(mut command: Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{command:?} failed ({}):\n{text}", output.status);
    }
    Ok(text)
}
