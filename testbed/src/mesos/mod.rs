//! Apache Mesos 1.11.0: the binary of the official release, fetched once, and a small launcher
//! that runs masters and agents from it.
//!
//! Files in `target/mesos-1.11.0`:
//!
//! * `lib/libmesos.so`: Mesos, from the Python binding of the release ([`fetch`]);
//! * `build-<hash>/`: [`stubs`] for the libraries of 2016 that Mesos needs; our launcher, as
//!   `mesos-launcher` and as `mesos-containerizer`; and the baseline module of the benchmarks,
//!   which only answers. The hash is that of the sources;
//! * `old-<hash>/`: the launcher once more, for older hosts than this machine.
//!
//! Tests run in parallel processes: one of them fetches and builds under a lock, and directories
//! are moved into place when they are complete.

pub mod fetch;
pub mod stubs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::compiler::{self, Compiler};
use crate::{apt, paths};

/// Sources of the launcher.
const LAUNCHER: [(&str, &str); 2] = [
    ("launcher.cpp", include_str!("../../launcher/launcher.cpp")),
    (
        "internals.hpp",
        include_str!("../../launcher/internals.hpp"),
    ),
];

/// Source of the baseline module.
const BASELINE: &str = include_str!("../../baseline/baseline.cpp");

/// A Mesos that is ready to run.
#[derive(Clone, Debug)]
pub struct Mesos {
    library: PathBuf,
    build: PathBuf,
}

impl Mesos {
    /// Returns Mesos; fetches and builds it if it is missing.
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

    /// Returns the path of the launcher; `launcher.cpp` describes its arguments.
    pub fn launcher(&self) -> PathBuf {
        self.build.join("mesos-launcher")
    }

    /// Returns the directory of `mesos-containerizer`, Mesos's `launcher_dir`.
    pub fn libexec(&self) -> &Path {
        &self.build
    }

    /// Returns the baseline module, which has the name of our master module; see `baseline.cpp`.
    pub fn baseline(&self) -> PathBuf {
        self.build.join("libbaseline.so")
    }

    /// Returns the path of `libmesos.so`.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Installs Mesos into a directory, `lib` and `libexec` of it, from where it runs on every host
    /// that has the libraries of Debian 11 or newer.
    ///
    /// # Errors
    /// The oldest compiler ([`compiler::oldest`]) cannot be fetched, or a file cannot be written.
    pub fn install(&self, directory: &Path) -> Result<()> {
        let name = format!("mesos-1.11.0/old-{}", hash());
        let launcher = apt::directory(&name, |scratch| {
            let build = scratch.join("build");
            fs::create_dir_all(&build)?;
            copy_all(&self.build.join("stubs"), &build.join("stubs"))?;
            compile(&compiler::oldest()?, &self.library, &build)?;
            Ok(build)
        })?;
        copy_all(&launcher, &directory.join("libexec"))?;
        let library = directory.join("lib/libmesos.so");
        fs::create_dir_all(directory.join("lib"))?;
        fs::copy(&self.library, &library).context("copying libmesos.so")?;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.library.exists() && self.build.exists()
    }

    /// Makes missing files. The caller holds the lock, so files in the temporary directory are
    /// those of an interrupted run and are overwritten.
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
            compile(&compiler::installed(), &self.library, &build)?;
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

/// Compiles the launcher. It is linked with RPATH, not RUNPATH, so that libraries which
/// libmesos.so needs are found among the stubs.
fn compile(compiler: &Compiler, library: &Path, build: &Path) -> Result<()> {
    for (name, text) in LAUNCHER {
        fs::write(build.join(name), text)?;
    }
    let lib = library
        .parent()
        .context("libmesos.so without a directory")?;
    let stubs = build.join("stubs");
    let mut gxx = Command::new(&compiler.path);
    gxx.args(&compiler.flags);
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

/// Compiles the baseline module. Its undefined symbols are resolved when Mesos loads it.
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
    run(gxx).context("compiling the baseline module").map(drop)
}

/// Copies the files and links of a directory and of those below it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("copying {}", target.display()))?;
        }
    }
    Ok(())
}

/// Runs a tool and returns its output, which is in the error if it fails.
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
