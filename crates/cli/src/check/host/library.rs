//! Library of the modules: does this host have what it needs, and is it made for this Mesos.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};

use super::Check;
use super::scene::Scene;
use crate::check::config;
use crate::finding::Finding;
use crate::finding::kinds::{configuration, host};
use crate::output::page::count;

const LIBRARY: &str = "library";

/// Path of the library in packages.
pub const PACKAGED: &str = "/usr/lib/mesos/modules/libmesos_overlay.so";

/// Directories of the system's libraries.
const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Directories of Mesos's library.
const MESOS_DIRECTORIES: [&str; 3] = ["/usr/lib", "/usr/local/lib", "/usr/lib64"];
/// Parts of the names of symbols that only Mesos has: namespaces of C++.
const OF_MESOS: [&str; 2] = ["7process", "5mesos"];
/// Largest number of symbols that a sentence names.
const SHOWN: usize = 3;

/// Parts of a library that matter.
#[derive(Default)]
struct Parts {
    /// Versions that it needs, by library.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// Versions that it has.
    has: BTreeSet<String>,
    /// Symbols of Mesos that it needs.
    undefined: BTreeSet<String>,
}

/// Looks whether the library would load here.
pub fn library(scene: &Scene) -> Check {
    let processes = &scene.mesos.processes;
    let named = || {
        let mut files = processes.iter().flat_map(config::libraries);
        files.next()
    };
    let packaged = || Some(PathBuf::from(PACKAGED)).filter(|file| file.exists());
    let Some(file) = scene.module.clone().or_else(named).or_else(packaged) else {
        return Check::skipped(LIBRARY, "it is not on this host yet; --module names it");
    };
    let shown = file.display().to_string();
    let maps: Vec<(u32, Vec<PathBuf>)> = processes
        .iter()
        .map(|process| (process.pid, mapped(process.pid)))
        .collect();
    if let Some((pid, _)) = maps.iter().find(|(_, files)| files.contains(&file)) {
        return Check::made(
            LIBRARY,
            format!("{shown}, loaded by Mesos (pid {pid})"),
            Vec::new(),
        );
    }
    let parts = match read(&file) {
        Ok(parts) => parts,
        Err(sentence) => {
            let remedy = "install the library of the release there, or correct the path";
            let finding = configuration::LIBRARY_MISSING.finding(sentence, remedy);
            return Check::made(LIBRARY, shown.clone(), vec![finding.about(shown)]);
        }
    };
    let loaded: Vec<PathBuf> = maps.into_iter().flat_map(|(_, files)| files).collect();
    let mut findings = versions(&parts, &loaded);
    let mesos = mesos_library(&loaded);
    if let Some(mesos) = &mesos {
        findings.extend(symbols(&parts, mesos));
    }
    let compared = match mesos {
        Some(mesos) => format!(", compared with {}", mesos.display()),
        None => ", Mesos's library was not found".to_owned(),
    };
    Check::made(LIBRARY, shown + &compared, findings)
}

/// Returns the files that a process has mapped; none if this user may not see them.
fn mapped(pid: u32) -> Vec<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let paths: BTreeSet<&str> = paths.collect();
    paths.into_iter().map(PathBuf::from).collect()
}

/// Compares the versions that the library needs with those that the host's libraries have.
fn versions(parts: &Parts, loaded: &[PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, needed) in &parts.needs {
        let is_it = |path: &&PathBuf| path.file_name().is_some_and(|found| found == name.as_str());
        let of_system = || {
            let paths = DIRECTORIES
                .iter()
                .map(|directory| Path::new(directory).join(name));
            paths.into_iter().find(|path| path.exists())
        };
        let Some(path) = loaded.iter().find(is_it).cloned().or_else(of_system) else {
            let message =
                format!("the library {name}, which the module needs, is not on this host");
            let remedy = "install it, or compile the module for this host";
            findings.push(host::LIBRARY_OLD.finding(message, remedy).about(name));
            continue;
        };
        let has = read(&path).map(|parts| parts.has).unwrap_or_default();
        let missing: Vec<&str> = needed.difference(&has).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!(
                "{} lacks {}, which the module needs",
                path.display(),
                missing.join(", ")
            );
            let remedy = "install the library of the release, or compile the module for this host (install.md)";
            findings.push(host::LIBRARY_OLD.finding(message, remedy).about(name));
        }
    }
    findings
}

/// Returns the library of Mesos: that which a process has loaded, or else an installed one.
fn mesos_library(loaded: &[PathBuf]) -> Option<PathBuf> {
    let is_mesos = |path: &PathBuf| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| {
            name.starts_with("libmesos") && !name.starts_with("libmesos_overlay")
        })
    };
    if let Some(found) = loaded.iter().find(|path| is_mesos(path)) {
        return Some(found.clone());
    }
    let entries = MESOS_DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(is_mesos)
        .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
        .collect();
    paths.sort();
    paths.into_iter().next()
}

/// Compares the symbols of Mesos that the module needs with those that Mesos has.
fn symbols(parts: &Parts, mesos: &Path) -> Option<Finding> {
    let mut missing = parts.undefined.clone();
    let mut has_new_strings = false;
    let file = File::open(mesos).ok()?;
    let cache = ReadCache::new(file);
    each_symbol(&cache, &mut |name, is_defined| {
        if is_defined {
            has_new_strings |= name.contains("__cxx11");
            missing.remove(name);
        }
    })
    .ok()?;
    if missing.is_empty() {
        return None;
    }
    let needs_new_strings = missing.iter().any(|name| name.contains("__cxx11"));
    let why = if needs_new_strings && !has_new_strings {
        "it was compiled with the std::string of g++ 4.8".to_owned()
    } else {
        let names: Vec<&str> = missing.iter().take(SHOWN).map(String::as_str).collect();
        format!(
            "it lacks {} that the module needs, such as {}",
            count(missing.len(), "symbol"),
            names.join(", ")
        )
    };
    let message = format!(
        "the module is not made for this Mesos ({}): {why}",
        mesos.display()
    );
    let remedy = "compile the module with the compiler of Mesos and the archive mesos-overlay-sdk, or install the library of the release";
    Some(host::MODULE_MISMATCH.finding(message, remedy))
}

/// Reads the parts of a library. The error is a sentence.
fn read(path: &Path) -> Result<Parts, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("{} is no library for 64-bit x86: {error}", path.display())
    };
    let file =
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err(failed(&"it is not a regular file"));
    }
    let cache = ReadCache::new(file);
    let mut parts = parse(&cache).map_err(|error| failed(&error))?;
    let mut undefined = BTreeSet::new();
    let symbols = each_symbol(&cache, &mut |name, is_defined| {
        if !is_defined && OF_MESOS.iter().any(|part| name.contains(part)) {
            undefined.insert(name.to_owned());
        }
    });
    symbols.map_err(|error| failed(&error))?;
    parts.undefined = undefined;
    Ok(parts)
}

/// Reads the versions that a library needs and has.
fn parse<'data, R: ReadRef<'data>>(data: R) -> object::read::Result<Parts> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut parts = Parts::default();
    if let Some((mut needs, strings)) = sections.gnu_verneed(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        while let Some((need, mut versions)) = needs.next()? {
            let library = text(need.file(endian, strings)?);
            while let Some(version) = versions.next()? {
                let versions = parts.needs.entry(library.clone()).or_default();
                versions.insert(text(version.name(endian, strings)?));
            }
        }
    }
    if let Some((mut definitions, strings)) = sections.gnu_verdef(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        while let Some((_, mut names)) = definitions.next()? {
            // The first name is the version's, the others are those of versions that it includes.
            if let Some(name) = names.next()? {
                parts.has.insert(text(name.name(endian, strings)?));
            }
        }
    }
    Ok(parts)
}

/// Calls `take` with the name of each symbol, and true if the library defines it. Weak ones that are not
/// defined do not count.
fn each_symbol<'data, R: ReadRef<'data>>(
    data: R,
    take: &mut dyn FnMut(&str, bool),
) -> object::read::Result<()> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let table = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    for symbol in table.iter() {
        let is_defined = !symbol.is_undefined(endian);
        if !is_defined && symbol.is_weak() {
            continue;
        }
        let name = symbol.name(endian, table.strings())?;
        take(&String::from_utf8_lossy(name), is_defined);
    }
    Ok(())
}

/// Returns why a file is no library that Mesos can load; `None`: it is one.
pub fn unusable(path: &Path) -> Option<String> {
    read(path).err()
}
