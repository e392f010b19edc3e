//! `cargo xtask reproduce`: the module does not depend on the directories in which it is built.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use testbed::paths;

use crate::build;

/// Builds the module here and in a copy elsewhere, and compares the results.
///
/// Source, registry and target of the copy are in a temporary directory. Both builds are release
/// builds with the same profile, which the environment may change. The result must not contain
/// the name of any of these directories.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

const BUILD: &[&str] = &[
    "build",
    "--release",
    "--locked",
    "--package",
    "mesos-overlay",
    "--lib",
];
const LIBRARY: &str = "release/libmesos_overlay.so";

pub fn run(Options {}: &Options) -> Result<()> {
    let registry = cargo_home()?;
    build::run(BUILD)?;
    let here = fs::read(paths::target().join(LIBRARY)).context("reading the module")?;
    let copy = Copy::new(&registry)?;
    let there = copy.build()?;

    for directory in [paths::workspace(), &registry, &copy.directory] {
        let name = directory.as_os_str().as_encoded_bytes();
        for (library, place) in [(&here, "here"), (&there, "elsewhere")] {
            if let Some(text) = around(library, name) {
                bail!("the module built {place} has the name of a directory: {text}");
            }
        }
    }
    let difference = here.iter().zip(&there).position(|(a, b)| a != b);
    ensure!(
        here == there,
        "the module is another one if it is built elsewhere: {} and {} bytes, first difference at {difference:?}; \
         an older build in target/ may be the reason (cargo clean --release)",
        here.len(),
        there.len()
    );
    println!("{} bytes, the same in both directories", here.len());
    Ok(())
}

/// Returns the directory of cargo's registry.
fn cargo_home() -> Result<PathBuf> {
    let home = |home| PathBuf::from(home).join(".cargo");
    let directory = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    directory
        .or_else(|| std::env::var_os("HOME").map(home))
        .context("neither CARGO_HOME nor HOME is set")
}

/// Returns the text around the first occurrence of `name`.
fn around(library: &[u8], name: &[u8]) -> Option<String> {
    let at = library
        .windows(name.len())
        .position(|window| window == name)?;
    let is_text = |byte: &u8| byte.is_ascii_graphic();
    let rest = library[at..]
        .iter()
        .copied()
        .take_while(|byte| is_text(byte));
    Some(String::from_utf8_lossy(&rest.take(200).collect::<Vec<_>>()).into_owned())
}

/// A copy of the source in a temporary directory, with a registry of its own.
struct Copy {
    directory: PathBuf,
}

impl Copy {
    fn new(registry: &Path) -> Result<Copy> {
        let name = format!("mesos-overlay-elsewhere-{}", std::process::id());
        let copy = Copy {
            directory: std::env::temp_dir().join(name),
        };
        let (source, home) = (copy.source(), copy.directory.join("home"));
        fs::create_dir_all(&home)?;
        for file in tracked()? {
            let (from, to) = (paths::workspace().join(&file), source.join(&file));
            fs::create_dir_all(to.parent().context("a file without a directory")?)?;
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        for entry in fs::read_dir(registry)? {
            let entry = entry?;
            symlink(entry.path(), home.join(entry.file_name()))?;
        }
        Ok(copy)
    }

    fn source(&self) -> PathBuf {
        self.directory.join("source")
    }

    /// Builds the module and returns it.
    fn build(&self) -> Result<Vec<u8>> {
        let target = self.directory.join("target");
        eprintln!(
            "$ cargo {} (in {})",
            BUILD.join(" "),
            self.source().display()
        );
        let status = build::cargo(BUILD)
            .current_dir(self.source())
            .env("CARGO_HOME", self.directory.join("home"))
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .context("running cargo build")?;
        ensure!(status.success(), "the build elsewhere failed");
        fs::read(target.join(LIBRARY)).context("reading the module that was built elsewhere")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory); // a temporary directory does no harm
    }
}

/// Returns the files of the source, also new ones, relative to the workspace.
fn tracked() -> Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;

    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(paths::workspace())
        .output()
        .context("running git ls-files")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = output.stdout.split(|byte| *byte == 0);
    let files = names.filter(|name| !name.is_empty());
    Ok(files
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .filter(|file| paths::workspace().join(file).is_file())
        .collect())
}
