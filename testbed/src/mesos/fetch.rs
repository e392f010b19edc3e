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
/// What the package's address ends with.
const FILE: &str = "/mesos.scheduler-1.11.0.linux-x86_64.tar.gz";
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
    let Some(address) = address(&said) else { bail!("pip did not say where {REQUIREMENT} is:\n{said}") };
    let package = scratch.join("package.tar.gz");
    let mut urllib = Command::new(venv.join("bin/python"));
    urllib
        .args(["-c", "import sys, urllib.request as u; u.urlretrieve(*sys.argv[1:])", address])
        .arg(&package);
    run(urllib).with_context(|| format!("fetching {address}"))?;
    Ok(package)
}

/// The package's address in pip's refusal. Some indexes put the checksum behind it, which must
/// be ours then; whatever comes from there is checked in any case.
fn address(said: &str) -> Option<&str> {
    said.split_whitespace()
        .map(|word| word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| word.contains("://"))
        .find_map(|word| match word.split_once("#sha256=") {
            Some((address, sum)) => {
                (sum.trim_end_matches(|c: char| !c.is_ascii_hexdigit()) == SHA256).then_some(address)
            }
            None => word.ends_with(FILE).then_some(word),
        })
}

fn check(package: &Path) -> Result<()> {
    let bytes = fs::read(package).context("reading the package")?;
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(sum == SHA256, "the package of Mesos has SHA-256 {sum}, but it must be {SHA256}");
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
        let said =
            format!("ERROR: Could not find (from https://registry.example/a/b.tar.gz#sha256={SHA256})\n");
        assert_eq!(address(&said), Some("https://registry.example/a/b.tar.gz"));
    }

    #[test]
    fn an_index_may_tell_no_checksum() {
        let said = format!("ERROR: mesos.scheduler from https://registry.example/a{FILE} does not appear\n");
        assert_eq!(address(&said), Some(format!("https://registry.example/a{FILE}").as_str()));
    }

    #[test]
    fn another_checksum_is_another_package() {
        let said = format!("ERROR: https://registry.example/b.tar.gz#sha256={}", SHA256.replace('1', "2"));
        assert_eq!(address(&said), None);
    }
}
