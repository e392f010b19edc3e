//! pymesos, a library for frameworks in Python that others wrote, in an environment below `target/`.
//!
//! Its parser of HTTP, `http-parser`, has a part in C that does not compile with Python 3.11 or later.
//! pymesos uses the part in Python where that is missing, so only this is installed.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;

use crate::paths;

/// Packages with the checksums of the Python package index.
const REQUIREMENTS: &str = "\
addict==2.4.0 --hash=sha256:249bb56bbfd3cdc2a004ea0ff4c2b6ddc84d53bc2194761636eb314d5cfa5dfc
pymesos==0.3.15 --hash=sha256:ee8d5ac0664467fcc70bb5a639d1520547523c80f0e83e73f689778f46a846de
setuptools==80.9.0 --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922
six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
wheel==0.45.1 --hash=sha256:708e7481cc80179af0e556bbf0cc00b8444c7321e2700b8d8580231d13017248
";
/// The parser, of which a part is installed.
const PARSER: &str = "\
http-parser==0.9.0 --hash=sha256:441d3a57c6227230f98aa97539da006fda0f8f4880bc4c5cd895ff2138a52621
";

/// Returns the interpreter of an environment that has pymesos, which is made if it is missing.
///
/// # Errors
/// A package cannot be fetched, or has another checksum; the error has pip's message.
pub fn python() -> Result<PathBuf> {
    let environment = paths::target().join("pymesos-0.3.15");
    let python = environment.join("bin/python");
    let complete = environment.join("complete");
    fs::create_dir_all(paths::target())?;
    let lock = fs::File::create(environment.with_extension("lock"))?;
    lock.lock().context("locking the environment of pymesos")?;
    if complete.exists() {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&environment);
    eprintln!("fetching pymesos 0.3.15");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&environment);
    run(venv).context("making a Python environment (Debian: apt-get install python3-venv)")?;
    fill(&environment).context("fetching pymesos")?;
    fs::write(complete, "")?;
    Ok(python)
}

fn fill(environment: &Path) -> Result<()> {
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        let path = environment.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let pip = |verb: &str, requirements: &Path| {
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args([verb, "--quiet", "--no-deps", "--require-hashes"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(requirements);
        pip
    };
    let build_tools: String =
        lines(|line| line.starts_with("setuptools") || line.starts_with("wheel"));
    run(pip("install", &file("tools.txt", &build_tools)?))?;
    // With the tools above, instead of others without a checksum.
    let mut install = pip("install", &file("requirements.txt", REQUIREMENTS)?);
    install.arg("--no-build-isolation");
    run(install)?;
    let mut download = pip("download", &file("parser.txt", PARSER)?);
    download
        .args(["--no-build-isolation", "--no-binary", ":all:", "--dest"])
        .arg(environment);
    run(download)?;
    unpack_parser(
        &environment.join("http-parser-0.9.0.tar.gz"),
        &packages(environment)?,
    )
}

fn lines(which: impl Fn(&&str) -> bool) -> String {
    let lines = REQUIREMENTS.lines().filter(which);
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the directory of installed packages.
fn packages(environment: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(environment.join("lib"))? {
        let packages = entry?.path().join("site-packages");
        if packages.exists() {
            return Ok(packages);
        }
    }
    bail!("{} has no packages", environment.display())
}

/// Unpacks the modules in Python of the parser's package.
fn unpack_parser(package: &Path, to: &Path) -> Result<()> {
    let directory = to.join("http_parser");
    fs::create_dir_all(&directory)?;
    let file = fs::File::open(package).with_context(|| package.display().to_string())?;
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let module = path.extension().is_some_and(|extension| extension == "py");
        let inside = path
            .parent()
            .is_some_and(|parent| parent.ends_with("http_parser"));
        if let Some(name) = path.file_name().filter(|_| module && inside) {
            entry.unpack(directory.join(name))?;
        }
    }
    Ok(())
}

fn run(mut command: Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
