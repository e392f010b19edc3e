//! Checks of the crates that the workspace is built from, by the rules in `deny.toml`: licences,
//! sources, duplicates and yanked versions. Advisories need a database that a build does not
//! fetch; see docs/dev/dependencies.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use testbed::paths;

use crate::build;

mod licence;
mod yanked;

/// The part of `deny.toml` that is checked here.
#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

/// A version that may be there beside another one.
#[derive(Debug, Deserialize)]
struct Skip {
    /// `name@version`.
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

fn rules() -> Result<Rules> {
    let text = fs::read_to_string(paths::workspace().join("deny.toml"))?;
    toml::from_str(&text).context("deny.toml")
}

/// Returns complaints about the packages of cargo's metadata.
fn check(rules: &Rules, metadata: &Value) -> Result<BTreeSet<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("metadata without packages")?;
    ensure!(
        packages.len() > 10,
        "metadata of {} packages only",
        packages.len()
    );
    let mut complaints = duplicates(&rules.bans.skip, packages);
    for package in packages {
        let name = name_and_version(package);
        let licence = package["license"].as_str().unwrap_or("none");
        if !licence::allows(&rules.licenses.allow, licence) {
            complaints.insert(format!("{name} has licence {licence}"));
        }
        // Packages of the workspace have no source.
        let Some(source) = package["source"].as_str() else {
            continue;
        };
        let registry = source.strip_prefix("registry+").map(str::to_owned);
        if !registry.is_some_and(|registry| rules.sources.allow_registry.contains(&registry)) {
            complaints.insert(format!("{name} comes from {source}"));
        }
    }
    Ok(complaints)
}

fn name_and_version(package: &Value) -> String {
    format!("{}@{}", package["name"], package["version"]).replace('"', "")
}

/// Returns complaints about packages with several versions, and about exceptions without use.
fn duplicates(skip: &[Skip], packages: &[Value]) -> BTreeSet<String> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let name = package["name"].to_string();
        versions
            .entry(name)
            .or_default()
            .insert(name_and_version(package));
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut complaints = BTreeSet::new();
    for versions in versions.values() {
        let is_skipped = |name: &&String| skip.iter().any(|skip| skip.package == **name);
        if versions.iter().filter(|name| !is_skipped(name)).count() > 1 {
            let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
            complaints.insert(format!("several versions: {}", versions.join(", ")));
        }
    }
    for Skip { package, reason } in skip {
        if reason.is_empty() || !versions.values().any(|names| names.contains(package)) {
            complaints.insert(format!(
                "deny.toml: {package} is no duplicate, or has no reason"
            ));
        }
    }
    complaints
}

/// Returns cargo's metadata of the workspace for the supported platform.
fn metadata() -> Result<Value> {
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ];
    let output = build::cargo(&arguments)
        .output()
        .context("running cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("parsing the output of cargo metadata")
}

#[test]
fn every_crate_follows_the_rules() {
    let complaints = check(&rules().unwrap(), &metadata().unwrap()).unwrap();
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn reports_licences_sources_and_duplicates() {
    let package = |name: &str, version: &str, licence: Value, source: Value| {
        serde_json::json!({
            "name": name, "version": version, "license": licence, "source": source,
        })
    };
    let mut packages = vec![package("a", "1.0.0", "MIT".into(), Value::Null); 11];
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    packages.push(package(
        "git",
        "1.0.0",
        "GPL-3.0".into(),
        "git+https://example.org/a".into(),
    ));
    packages.push(package("other", "1.0.0", Value::Null, "registry+x".into()));
    for version in ["1.0.0", "2.0.0"] {
        packages.push(package("twice", version, "MIT".into(), registry.into()));
    }
    let complaints = check(
        &rules().unwrap(),
        &serde_json::json!({ "packages": packages }),
    )
    .unwrap();
    for expected in [
        "git@1.0.0 has licence GPL-3.0",
        "git@1.0.0 comes from git+https://example.org/a",
        "other@1.0.0 has licence none",
        "other@1.0.0 comes from registry+x",
        "several versions: twice@1.0.0, twice@2.0.0",
        "deny.toml: syn@2.0.119 is no duplicate, or has no reason",
    ] {
        assert!(
            complaints.contains(expected),
            "no \"{expected}\" in {complaints:#?}"
        );
    }
}
