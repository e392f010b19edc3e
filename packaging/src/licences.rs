//! Licences of the code of others that the module and the program contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testbed::paths;

use crate::run;

/// Packages of the workspace that are released.
const RELEASED: [&str; 2] = ["mesos-overlay", "overlay-cli"];

/// Platform of the release.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Crates that the standard library of Rust contains, and their licences. Cargo does not know of them.
const OF_THE_STANDARD_LIBRARY: [(&str, &str); 9] = [
    ("addr2line", "Apache-2.0 OR MIT"),
    ("adler2", "0BSD OR MIT OR Apache-2.0"),
    (
        "compiler_builtins",
        "MIT AND Apache-2.0 WITH LLVM-exception",
    ),
    ("gimli", "MIT OR Apache-2.0"),
    ("hashbrown", "MIT OR Apache-2.0"),
    ("memchr", "Unlicense OR MIT"),
    ("miniz_oxide", "MIT OR Zlib OR Apache-2.0"),
    ("object", "Apache-2.0 OR MIT"),
    ("rustc-demangle", "MIT/Apache-2.0"),
];

/// Licences that the standard library needs beside the Apache License 2.0.
const TEXTS_OF_THE_STANDARD_LIBRARY: [&str; 2] = [
    include_str!("../licences/MIT.txt"),
    include_str!("../licences/LLVM-exception.txt"),
];

/// Holders of the copyright in the first of these.
const MIT_HOLDERS: &str = "The Rust Project Contributors";

/// Beginnings of the names of licence files, in lower case.
const FILES: [&str; 6] = [
    "copying",
    "copyright",
    "licence",
    "license",
    "notice",
    "unlicense",
];

/// A crate that is part of the module or the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Name in the registry.
    pub name: String,
    /// Version.
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// Authors, separated by commas.
    pub authors: String,
    /// Directory of its source.
    directory: PathBuf,
}

/// Returns the crates of the registry that the module and the program depend on, directly or not,
/// sorted by name. Crates that only build scripts and tests use are not among them; those with
/// procedural macros are.
///
/// # Errors
/// Cargo fails, or a crate names no licence.
pub fn crates() -> Result<Vec<Crate>> {
    let mut cargo = run::cargo();
    cargo
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", PLATFORM])
        .current_dir(paths::workspace());
    let metadata: Value = serde_json::from_str(&run::output(&mut cargo)?)?;
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let mut waiting: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| package["source"].is_null() && is_released(package))
        .map(|(id, _)| *id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            waiting.extend(dependencies(nodes[id]));
        }
    }
    let crates = seen.into_iter().map(|id| packages[id]);
    let mut crates = crates
        .filter(|package| !package["source"].is_null())
        .map(parse)
        .collect::<Result<Vec<_>>>()?;
    crates.sort();
    Ok(crates)
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| Some((item["id"].as_str()?, item)))
        .collect()
}

fn is_released(package: &Value) -> bool {
    RELEASED.iter().any(|name| package["name"] == *name)
}

/// Ids of the packages that a node of cargo's graph depends on, other than for builds and tests.
fn dependencies(node: &Value) -> impl Iterator<Item = &str> {
    let all = node["deps"].as_array().into_iter().flatten();
    all.filter(|dependency| {
        let mut kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
        kinds.any(|kind| kind["kind"].is_null())
    })
    .filter_map(|dependency| dependency["pkg"].as_str())
}

fn parse(package: &Value) -> Result<Crate> {
    let text = |key: &str| {
        let value = package[key].as_str();
        value.with_context(|| format!("{} has no {key}", package["name"]))
    };
    let manifest = Path::new(text("manifest_path")?);
    let authors = package["authors"].as_array().into_iter().flatten();
    let authors: Vec<&str> = authors.filter_map(Value::as_str).collect();
    Ok(Crate {
        name: text("name")?.to_owned(),
        version: text("version")?.to_owned(),
        licence: text("license")?.to_owned(),
        authors: authors.join(", "),
        directory: manifest.parent().unwrap_or(manifest).to_owned(),
    })
}

impl Crate {
    /// Returns the texts of its licence files, in the order of their names.
    fn texts(&self) -> Result<Vec<String>> {
        let mut files = entries(&self.directory)?;
        files.retain(|path| path.is_file() && is_licence(path));
        below(&self.directory.join("src"), &mut files)?;
        files.sort();
        let read = |file: &PathBuf| {
            let text = fs::read_to_string(file);
            let text = text.with_context(|| format!("reading {}", file.display()))?;
            Ok(text.replace("\r\n", "\n").trim_end().to_owned())
        };
        let texts: Vec<String> = files.iter().map(read).collect::<Result<_>>()?;
        // Some crates only name their licence.
        match (texts.is_empty(), self.licence.as_str()) {
            (false, _) => Ok(texts),
            (true, licence) if choices(licence).any(|choice| choice == "Apache-2.0") => {
                Ok(vec![apache()?])
            }
            (true, "MIT") => Ok(vec![mit(&self.authors)]),
            (true, licence) => bail!(
                "crate {} {} has no licence file; add the text of {licence} to \
                 packaging/src/licences.rs",
                self.name,
                self.version
            ),
        }
    }
}

/// Returns what is in a directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("reading {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Adds the licence files of sources that a crate has from elsewhere. Sources that are named like
/// licence files are not among them.
fn below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for path in entries(directory)? {
        if path.is_dir() {
            below(&path, files)?;
        } else if is_licence(&path) && path.extension().is_none_or(|end| end != "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn is_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    FILES.iter().any(|start| name.starts_with(start))
}

/// Licences of which one may be chosen, by an SPDX expression or the older form with a slash.
fn choices(licence: &str) -> impl Iterator<Item = &str> {
    licence.split(" OR ").flat_map(|part| part.split('/'))
}

/// The text of the MIT licence with the authors of a crate as the holders of the copyright.
fn mit(authors: &str) -> String {
    let text = TEXTS_OF_THE_STANDARD_LIBRARY[0];
    text.replace(MIT_HOLDERS, authors).trim_end().to_owned()
}

/// The text of the Apache License 2.0, which is that of the project.
fn apache() -> Result<String> {
    let file = paths::workspace().join("LICENSE");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Returns the text for packages: a list of the crates, and each licence text once, with the crates
/// that it is of.
///
/// # Errors
/// As [`crates`]; or a crate has no licence file.
pub fn text() -> Result<String> {
    let crates = crates()?;
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in &crates {
        for text in item.texts()? {
            let owner = format!("{} {}", item.name, item.version);
            owners.entry(text).or_default().push(owner);
        }
    }
    let of_std = TEXTS_OF_THE_STANDARD_LIBRARY.map(|text| text.trim_end().to_owned());
    for text in of_std.into_iter().chain([apache()?]) {
        let owner = "the standard library of Rust".to_owned();
        owners.entry(text).or_default().push(owner);
    }
    let mut text = String::from(
        "Code of others in libmesos_overlay.so and mesos-overlay\n\
         =======================================================\n\n\
         The standard library of Rust (https://github.com/rust-lang/rust): MIT OR Apache-2.0\n",
    );
    for (name, licence) in OF_THE_STANDARD_LIBRARY {
        let _ = writeln!(text, "{name} in the standard library of Rust: {licence}");
    }
    for Crate {
        name,
        version,
        licence,
        ..
    } in &crates
    {
        let _ = writeln!(text, "{name} {version}: {licence}"); // a String accepts everything
    }
    for (licence, owners) in &owners {
        let line = "-".repeat(79);
        let _ = write!(text, "\n{line}\n{}:\n\n{licence}\n", owners.join(", "));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_has_its_texts() {
        let text = text().unwrap();
        for item in crates().unwrap() {
            let Crate { name, version, .. } = &item;
            assert!(text.contains(&format!("\n{name} {version}: ")), "{item:?}");
            let texts = item.texts().unwrap();
            let length: usize = texts.iter().map(String::len).sum();
            assert!(length > 500, "{item:?}: {texts:?}");
            assert!(texts.iter().all(|own| text.contains(own)), "{item:?}");
        }
        for start in [
            "Permission is hereby granted",
            "LLVM Exceptions to the Apache 2.0",
        ] {
            let line = "-".repeat(79);
            let mut of_std = text.split(&line).filter(|block| {
                block
                    .trim_start()
                    .lines()
                    .next()
                    .is_some_and(|owners| owners.contains("the standard library of Rust:"))
            });
            assert!(of_std.any(|block| block.contains(start)), "{start}");
        }
    }

    #[test]
    fn licences_of_single_sources_are_found() {
        let known = [
            ("regex-syntax", "src/unicode_tables/LICENSE-UNICODE"),
            ("tracing-core", "src/spin/LICENSE"),
        ];
        let crates = crates().unwrap();
        for item in &crates {
            let path = known.iter().find(|(name, _)| *name == item.name);
            let Some((name, path)) = path else { continue };
            let own = fs::read_to_string(item.directory.join(path)).unwrap();
            assert!(
                item.texts().unwrap().contains(&own.trim_end().to_owned()),
                "{name}"
            );
        }
        assert!(crates.iter().any(|item| item.name == known[1].0));
    }

    #[test]
    fn the_crates_are_those_of_the_product() {
        let names: BTreeSet<String> = crates().unwrap().into_iter().map(|c| c.name).collect();
        for name in ["bollard", "clap", "tokio", "flate2", "libc"] {
            assert!(names.contains(name), "{name} is missing");
        }
        for name in ["cc", "proptest", "protox", "overlay-core"] {
            assert!(!names.contains(name), "{name} is no part of the product");
        }
    }
}
