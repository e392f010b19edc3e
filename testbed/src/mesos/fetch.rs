//! Fetches Mesos by name and version, and checks that it is the official release.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::run;

/// Python binding of the official Apache Mesos 1.11.0 release.
const REQUIREMENT: &str = "mesos.scheduler===1.11.0.linux-x86_64";
/// Checksum of the package in the Python package index.
const SHA256: &str = "1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e";
/// Shared object in the package.
const MEMBER: &str = "_scheduler.so";

/// Fetches the package, checks it, and unpacks its shared object to `library`.
pub fn fetch(library: &Path) -> Result<()> {
    let scratch = library.with_extension("fetch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    eprintln!("fetching Apache Mesos 1.11.0 (27 MB)");
    let package = download(&scratch).context("fetching Apache Mesos 1.11.0")?;
    check(&package)?;
    unpack(&package, library)?;
    fs::remove_dir_all(&scratch).context("removing temporary files of fetching Mesos")
}

/// Downloads the package. Only pip knows the user's package index. The package has an old format:
/// pip up to 24.0 refuses it with a message that contains its URL and checksum, and later versions
/// ignore it silently. So this reads the URL from the message of pip 24.0.
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
    let refusal = pip(&["download", "--no-deps", "--no-binary", ":all:", "--dest"])
        .arg(scratch)
        .arg(REQUIREMENT)
        .output()
        .context("running pip download")?;
    let said = [refusal.stdout, refusal.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let Some(url) = url(&said) else {
        bail!("pip did not say where {REQUIREMENT} is:\n{said}")
    };
    let package = scratch.join("package.tar.gz");
    let mut urllib = Command::new(venv.join("bin/python"));
    urllib
        .args([
            "-c",
            "import sys, urllib.request as u; u.urlretrieve(*sys.argv[1:])",
            url,
        ])
        .arg(&package);
    run(urllib).with_context(|| format!("fetching {url}"))?;
    Ok(package)
}

/// Returns the URL in pip's message. A URL with a checksum must have the expected one; some
/// indexes give none, and the package is checked in any case.
fn url(said: &str) -> Option<&str> {
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
        "the package of Mesos has SHA-256 {sum} instead of {SHA256}"
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
    fn finds_the_url_in_pips_message() {
        let said = format!(
            "ERROR: Could not find (from https://registry.example/a/b.tar.gz#sha256={SHA256})\n"
        );
        assert_eq!(url(&said), Some("https://registry.example/a/b.tar.gz"));
    }

    #[test]
    fn a_url_without_a_checksum_is_accepted() {
        let said =
            "ERROR: mesos from https://registry.example/a/b.tar.gz does not appear to be a project";
        assert_eq!(url(said), Some("https://registry.example/a/b.tar.gz"));
    }

    #[test]
    fn a_url_with_another_checksum_is_rejected() {
        let said = format!(
            "ERROR: https://registry.example/b.tar.gz#sha256={}",
            SHA256.replace('1', "2")
        );
        assert_eq!(url(&said), None);
    }
}
