//! Licence and origin of every dependency, from cargo's metadata.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::build;

/// Accepted licences, as SPDX identifiers.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Returns true if an SPDX expression of AND, OR and parentheses is satisfied by [`ALLOWED`]. (Old
/// crates use `/` for OR.)
fn allows(expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    parser.any() && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> bool {
        let mut holds = self.all();
        while self.take("OR") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.one();
        while self.take("AND") {
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let holds = self.any();
            return self.take(")") && holds;
        }
        let Some((name, rest)) = self.words.split_first() else {
            return false;
        };
        self.words = rest;
        let mut licence = (*name).to_owned();
        if self.take("WITH")
            && let Some((exception, rest)) = self.words.split_first()
        {
            licence = format!("{licence} WITH {exception}");
            self.words = rest;
        }
        ALLOWED.contains(&licence.as_str())
    }
}

/// Returns complaints about the crates that the workspace is built from.
fn check(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("metadata without packages")?;
    ensure!(
        packages.len() > 10,
        "metadata of {} packages only",
        packages.len()
    );
    let mut complaints = BTreeSet::new();
    for package in packages {
        let name = format!("{} {}", package["name"], package["version"]).replace('"', "");
        let licence = package["license"].as_str().unwrap_or("none");
        if !allows(licence) {
            complaints.insert(format!("{name} has licence {licence}"));
        }
        // Packages of the workspace have no source.
        if let Some(source) = package["source"].as_str()
            && !source.starts_with("registry+")
        {
            complaints.insert(format!("{name} comes from {source}, not from a registry"));
        }
    }
    Ok(complaints.into_iter().collect())
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
fn every_crate_has_an_accepted_licence_and_comes_from_a_registry() {
    let complaints = check(&metadata().unwrap()).unwrap();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn reads_licence_expressions() {
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR X) AND Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(allows(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND",
        "(MIT",
        "Apache-2.0 WITH other-exception",
    ] {
        assert!(!allows(bad), "{bad}");
    }
}

#[test]
fn reports_licences_and_sources() {
    let package = |licence: Value, source: Value| serde_json::json!({ "name": "a", "version": "1.0.0", "license": licence, "source": source });
    let mut packages = vec![package("MIT".into(), Value::Null); 11];
    packages.push(package(
        "GPL-3.0".into(),
        "git+https://example.org/a".into(),
    ));
    packages.push(package(Value::Null, "registry+x".into()));
    let complaints = check(&serde_json::json!({ "packages": packages })).unwrap();
    assert_eq!(complaints.len(), 3, "{complaints:?}");
}
