//! Yanked versions. Only cargo knows them, from the registry's index, and it accepts those that
//! are in a Cargo.lock. So it is asked for a new one with the same versions.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use testbed::{paths, skip};

use crate::build;

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

/// Returns the packages in Cargo.lock that come from a registry.
fn locked() -> Result<Vec<Package>> {
    let text = fs::read_to_string(paths::workspace().join("Cargo.lock"))?;
    let mut lock: Lock = toml::from_str(&text).context("Cargo.lock")?;
    lock.package.retain(|package| package.source.is_some());
    ensure!(
        lock.package.len() > 10,
        "{} packages only",
        lock.package.len()
    );
    Ok(lock.package)
}

/// Result of a resolution by cargo.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// All versions can be had.
    Fine,
    /// One cannot, for this reason.
    Yanked(String),
    /// The registry does not answer, for this reason.
    NoAnswer(String),
}

/// Lets cargo resolve a package that depends on exactly these versions.
fn resolve(packages: &[Package]) -> Result<Outcome> {
    let directory = TempDir::new()?;
    let mut manifest = "[package]\nname = \"locked\"\nedition = \"2024\"\n\
                        [lib]\npath = \"lib.rs\"\n[workspace]\n[dependencies]\n"
        .to_owned();
    for (index, Package { name, version, .. }) in packages.iter().enumerate() {
        writeln!(
            manifest,
            "d{index} = {{ package = \"{name}\", version = \"={version}\", default-features = false }}"
        )?;
    }
    fs::write(directory.path().join("Cargo.toml"), manifest)?;
    fs::write(directory.path().join("lib.rs"), "")?;
    let output = build::cargo(&["generate-lockfile"])
        .current_dir(directory.path())
        .output()
        .context("running cargo generate-lockfile")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(match output.status.success() {
        true => Outcome::Fine,
        // Of a version that was removed or never existed, cargo says that none matches.
        false if text.contains("yanked") || text.contains("candidate versions") => {
            Outcome::Yanked(text)
        }
        false => Outcome::NoAnswer(text),
    })
}

#[test]
fn no_crate_is_yanked() {
    match resolve(&locked().unwrap()).unwrap() {
        Outcome::Fine => {}
        Outcome::Yanked(text) => panic!("run cargo update for this crate: {text}"),
        Outcome::NoAnswer(text) => skip::skip(
            "no_crate_is_yanked",
            &format!(
                "cargo cannot ask the registry: {}",
                text.replace('\n', "; ")
            ),
        ),
    }
}

#[test]
fn versions_that_cannot_be_had_are_found() {
    let package = Package {
        name: "anyhow".to_owned(),
        version: "0.0.1".to_owned(),
        source: None,
    };
    match resolve(&[package]).unwrap() {
        Outcome::Yanked(text) => assert!(text.contains("anyhow"), "{text}"),
        Outcome::NoAnswer(text) => skip::skip(
            "versions_that_cannot_be_had_are_found",
            &text.replace('\n', "; "),
        ),
        Outcome::Fine => panic!("there is no such version"),
    }
}
