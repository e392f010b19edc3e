//! `cargo xtask reproduce`: the release does not depend on the directories in which it is built.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use packaging::release::{self, Release};
use packaging::sdk;
use testbed::paths;

/// Builds the release here and in a copy elsewhere, and compares the results.
///
/// Source, registry and target of the copy are in a temporary directory. Compared are the module,
/// the program, and the library of the SDK; packages are made of these, and a test compares two of
/// each. None of them must contain the name of any of these directories.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {}

pub fn run(Options {}: &Options) -> Result<()> {
    let registry = cargo_home()?;
    let copy = Copy::new(&registry)?;
    let here = Contents::read(&release::build()?, &copy.directory.join("here"))?;
    let there = Contents::read(&copy.build()?, &copy.directory.join("there"))?;
    for ((name, here), (_, there)) in here.0.iter().zip(&there.0) {
        for directory in [paths::workspace(), &registry, &copy.directory] {
            let directory = directory.as_os_str().as_encoded_bytes();
            for (content, place) in [(here, "here"), (there, "elsewhere")] {
                if let Some(text) = around(content, directory) {
                    bail!("{name} built {place} has the name of a directory: {text}");
                }
            }
        }
        let difference = here.iter().zip(there).position(|(a, b)| a != b);
        ensure!(
            here == there,
            "{name} is another one if it is built elsewhere: {} and {} bytes, first difference at {difference:?}; \
             an older build in target/ may be the reason (cargo clean --release)",
            here.len(),
            there.len()
        );
        println!("{name}: {} bytes, the same in both directories", here.len());
    }
    Ok(())
}

/// Contents of what is released, with a name of each.
struct Contents([(&'static str, Vec<u8>); 3]);

impl Contents {
    /// Reads a release, and makes the library of the SDK of it in a new directory.
    fn read(release: &Release, scratch: &Path) -> Result<Contents> {
        fs::create_dir_all(scratch).with_context(|| format!("making {}", scratch.display()))?;
        let library = sdk::library(release, scratch)?;
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        Ok(Contents([
            ("the module", read(&release.module)?),
            ("the program", read(&release.program)?),
            ("the SDK's library", read(&library)?),
        ]))
    }
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

    /// Builds the release.
    fn build(&self) -> Result<Release> {
        eprintln!("building once more in {}", self.source().display());
        let (target, home) = (self.directory.join("target"), self.directory.join("home"));
        release::build_in(&self.source(), &target, Some(&home)).context("the build elsewhere")
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
