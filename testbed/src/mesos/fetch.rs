//! Fetches Mesos by name and version, and nothing but the release's own bytes.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::run;

/// The Python binding of the official Apache Mesos 1.11.0 release.
const REQUIREMENT: &str = "mesos.scheduler===1.11.0.linux-x86_64";
/// Of the package as its registry has it.
const SHA256: &str = "1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e";
/// The shared object in the package.
const MEMBER: &str = "_scheduler.so";

/// Fetches the package, checks it, and leaves its shared object at `library`.
pub fn fetch(library: &Path) -> Result<()> {
    let scratch = library.with_extension("fetch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    eprintln!("fetching Apache Mesos 1.11.0 (27 MB)");
    let package = download(&scratch).context("fetching Apache Mesos 1.11.0")?;
    check(&package)?;
    unpack(&package, library)?;
    fs::remove_dir_all(&scratch).context("removing what fetching Mesos left")
}

/// Only pip knows where the user's package index is, so pip is asked. The package
/// is older than Python's present formats: pip up to 24.0 finds it and refuses it, but
/// names its address and checksum as it does so; later ones skip it without a word.
fn download(scratch: &Path) -> Result<PathBuf> {
    let venv = scratch.join("venv");
    let mut python = Command::new("python3");
    python.args(["-m", "venv"]).arg(&venv);
    run(python).context("making a Python environment (Debian: apt-get install python3-venv)")?;
    let pip = |args: &[&str]| {
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(args);
        pip
    };
    run(pip(&["--quiet", "install", "pip==24.0"]))?;
    let refused = pip(&["download", "--no-deps", "--no-binary", ":all:", "--dest"])
        .arg(scratch)
        .arg(REQUIREMENT)
        .output()
        .context("running pip download")?;
    let said = [refused.stdout, refused.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let Some(address) = address(&said) else {
        bail!("pip did not say where {REQUIREMENT} is:\n{said}")
    };
    let package = scratch.join("package.tar.gz");
    let mut urllib = Command::new(venv.join("bin/python"));
    urllib
        .args([
            "-c",
            "import sys, urllib.request as u; u.urlretrieve(*sys.argv[1:])",
            address,
        ])
        .arg(&package);
    run(urllib).with_context(|| format!("fetching {address}"))?;
    Ok(package)
}

/// The address in pip's refusal, if it carries the checksum that we expect, or none at
/// all: some indexes give none, and what comes is checked anyway.
fn address(said: &str) -> Option<&str> {
    let is_package = |word: &&str| word.starts_with("https://") && word.ends_with(".tar.gz");
    with_checksum(said).or_else(|| said.split_whitespace().find(is_package))
}

fn with_checksum(said: &str) -> Option<&str> {
    said.split_whitespace()
        .filter_map(|word| word.split_once("#sha256="))
        .find(|(_, sum)| sum.trim_end_matches(|c: char| !c.is_ascii_hexdigit()) == SHA256)
        .map(|(address, _)| address.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()))
}

fn check(package: &Path) -> Result<()> {
    let bytes = fs::read(package).context("reading the package")?;
    let sum: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure!(
        sum == SHA256,
        "the package of Mesos has SHA-256 {sum}, but it must be {SHA256}"
    );
    Ok(())
}

fn unpack(package: &Path, library: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(package)?)));
    for entry in archive.entries().context("reading the package")? {
        let mut entry = entry.context("reading the package")?;
        if entry.path()?.ends_with(MEMBER) {
            entry.unpack(library).context("unpacking libmesos.so")?;
            return Ok(());
        }
    }
    bail!("the package of Mesos has no {MEMBER}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_pips_refusal() {
        let said = format!(
            "ERROR: Could not find (from https://registry.example/a/b.tar.gz#sha256={SHA256})\n"
        );
        assert_eq!(address(&said), Some("https://registry.example/a/b.tar.gz"));
    }

    #[test]
    fn an_address_without_a_checksum_will_do() {
        let said =
            "ERROR: mesos from https://registry.example/a/b.tar.gz does not appear to be a project";
        assert_eq!(address(said), Some("https://registry.example/a/b.tar.gz"));
    }

    #[test]
    fn another_checksum_is_another_package() {
        let said = format!(
            "ERROR: https://registry.example/b.tar.gz#sha256={}",
            SHA256.replace('1', "2")
        );
        assert_eq!(address(&said), None);
    }
}
