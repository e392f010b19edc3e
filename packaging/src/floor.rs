//! Symbol floors: the newest symbol versions that released files may need, and what they do need.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::elf;
use object::read::elf::{Dyn, FileHeader, Sym};

/// Version of a symbol, such as `GLIBC_2.17`: a name and numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name before the last `_`, such as `GLIBC`.
    pub family: String,
    /// Numbers behind it, such as 2 and 17.
    pub numbers: Vec<u32>,
}

impl Version {
    /// Reads a version. `None`: what is behind the last `_` is not numbers, as in
    /// `GLIBC_PRIVATE`.
    pub fn parse(text: &str) -> Option<Version> {
        let (family, numbers) = text.rsplit_once('_')?;
        let numbers: Result<_, _> = numbers.split('.').map(str::parse).collect();
        Some(Version {
            family: family.to_owned(),
            numbers: numbers.ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.numbers.iter().map(u32::to_string).collect();
        write!(f, "{}_{}", self.family, numbers.join("."))
    }
}

/// Newest versions that released files may need, one of each family. A symbol of another family is
/// above the floor.
#[derive(Clone, Copy, Debug)]
pub struct Floor([(&'static str, &'static [u32]); 4]);

/// Floor of the release: glibc of CentOS 7, and the first libstdc++ with the `std::string` that
/// Mesos has been compiled with since g++ 5.
pub const RELEASE: Floor = Floor::with_libstdcxx(&[3, 4, 21]);

impl Floor {
    /// Returns the floor of the release with another version of libstdc++.
    pub const fn with_libstdcxx(version: &'static [u32]) -> Floor {
        Floor([
            ("GLIBC", &[2, 17]),
            ("GLIBCXX", version),
            ("CXXABI", &[1, 3, 9]),
            ("GCC", &[4, 8, 0]),
        ])
    }

    /// Returns true if `version` is not newer than the floor.
    pub fn has(&self, version: &Version) -> bool {
        let newest = self.0.iter().find(|(family, _)| *family == version.family);
        newest.is_some_and(|(_, numbers)| version.numbers.as_slice() <= *numbers)
    }
}

/// Weak symbols without a version that a release may have: of the C start-up code, and of C
/// libraries above the floor, which Rust's standard library calls only where they exist.
pub const OPTIONAL: [&str; 11] = [
    "_ITM_deregisterTMCloneTable",
    "_ITM_registerTMCloneTable",
    "__cxa_thread_atexit_impl",
    "__gmon_start__",
    "getrandom",
    "gettid",
    "pidfd_getpid",
    "pidfd_spawnp",
    "posix_spawn_file_actions_addchdir",
    "posix_spawn_file_actions_addchdir_np",
    "statx",
];

/// A symbol that a file needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// Name of the symbol.
    pub name: String,
    /// Version as in the file, such as `GLIBC_2.17`. `None`: the symbol has no version, so any
    /// library may have it.
    pub version: Option<String>,
    /// Name of the library that the version belongs to; empty without a version.
    pub library: String,
    /// True if the file loads without the symbol.
    pub is_weak: bool,
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version} of {}", self.name, self.library),
            None => write!(f, "{} of no particular library", self.name),
        }
    }
}

/// Libraries, symbols and versions that a program or a shared library needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Names of libraries, in the order in which the loader loads them.
    pub libraries: Vec<String>,
    /// Symbols.
    pub symbols: BTreeSet<Needed>,
    /// Versions that the loader requires of libraries (`.gnu.version_r`): library and version.
    pub versions: BTreeSet<(String, String)>,
}

/// Reads what a program or a shared library needs.
///
/// # Errors
/// The file cannot be read, or is not a linked ELF file for 64 bits.
pub fn needs(file: &Path) -> Result<Needs> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    parse(&bytes).with_context(|| format!("reading {}", file.display()))
}

fn parse(bytes: &[u8]) -> Result<Needs> {
    let header = elf::FileHeader64::<object::Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let table = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    let versions = sections.versions(endian, bytes)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut symbols = BTreeSet::new();
    for (index, symbol) in table.enumerate() {
        let name = text(symbol.name(endian, table.strings())?);
        if !symbol.is_undefined(endian) || name.is_empty() {
            continue;
        }
        let version = match &versions {
            Some(versions) => versions.version(versions.version_index(endian, index).index())?,
            None => None,
        };
        symbols.insert(Needed {
            name,
            version: version.map(|version| text(version.name())),
            library: version
                .and_then(|version| version.file())
                .map_or(String::new(), text),
            is_weak: symbol.is_weak(),
        });
    }
    let mut libraries = Vec::new();
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
        {
            libraries.push(text(entry.string(endian, strings)?));
        }
    }
    let mut required = BTreeSet::new();
    if let Some((mut needs, strings)) = sections.gnu_verneed(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        while let Some((need, mut versions)) = needs.next()? {
            let library = text(need.file(endian, strings)?);
            while let Some(version) = versions.next()? {
                required.insert((library.clone(), text(version.name(endian, strings)?)));
            }
        }
    }
    Ok(Needs {
        libraries,
        symbols,
        versions: required,
    })
}

/// Returns a line for each symbol above the floor, and for each one without a version, except weak
/// ones of [`OPTIONAL`] and of `allowed`.
pub fn violations(needs: &Needs, floor: &Floor, allowed: &BTreeSet<String>) -> Vec<String> {
    let is_below =
        |version: &str| Version::parse(version).is_some_and(|version| floor.has(&version));
    let optional = |name: &str| OPTIONAL.contains(&name) || allowed.contains(name);
    let mut lines = Vec::new();
    for symbol in &needs.symbols {
        let is_allowed = match &symbol.version {
            Some(version) => is_below(version),
            None => symbol.is_weak && optional(&symbol.name),
        };
        if !is_allowed {
            lines.push(symbol.to_string());
        }
    }
    for (library, version) in &needs.versions {
        if !is_below(version) {
            lines.push(format!("version {version} of {library}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::run;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// Compiles a shared library with this machine's libraries and returns its violations.
    fn violations_of(code: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let (source, library) = (
            directory.path().join("a.cpp"),
            directory.path().join("a.so"),
        );
        fs::write(&source, code).unwrap();
        let mut gcc = Command::new("g++");
        // Also libraries without a needed symbol, since the start-up code has weak ones.
        gcc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"])
            .args([&library, &source]);
        run::output(&mut gcc).unwrap();
        violations(&needs(&library).unwrap(), &RELEASE, &BTreeSet::new())
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for below in [
            "GLIBC_2.2.5",
            "GLIBC_2.3",
            "GLIBC_2.17",
            "GLIBCXX_3.4",
            "CXXABI_1.3.9",
            "GCC_3.3.1",
            "GCC_4.8.0",
        ] {
            assert!(RELEASE.has(&version(below)), "{below}");
        }
        for above in [
            "GLIBC_2.18",
            "GLIBC_2.100",
            "GLIBC_3",
            "GLIBCXX_3.4.22",
            "CXXABI_1.3.10",
            "GCC_7.0.0",
            "OPENSSL_1.0.0",
        ] {
            assert!(!RELEASE.has(&version(above)), "{above}");
        }
        assert_eq!(Version::parse("GLIBC_PRIVATE"), None);
        assert_eq!(version("GLIBC_2.2.5").to_string(), "GLIBC_2.2.5");
    }

    #[test]
    fn a_failed_link_names_the_floors() {
        let message = include_str!("../glibc/stub-gcc");
        for (family, numbers) in RELEASE.0 {
            let floor = Version {
                family: family.to_owned(),
                numbers: numbers.to_vec(),
            };
            let floor = format!("{floor}");
            let names_it = |word: &str| word.trim_end_matches([',', ':']) == floor;
            assert!(message.split_whitespace().any(names_it), "no {floor}");
        }
    }

    #[test]
    fn a_symbol_above_the_floor_is_named_with_version_and_library() {
        let code = "extern \"C\" int getentropy(void *, unsigned long); int f() { return getentropy(0, 0); }";
        assert_eq!(
            violations_of(code),
            [
                "getentropy@GLIBC_2.25 of libc.so.6",
                "version GLIBC_2.25 of libc.so.6"
            ]
        );
    }

    #[test]
    fn a_symbol_without_version_is_a_violation_unless_it_is_weak_and_known() {
        assert_eq!(
            violations_of("extern \"C\" int strange(); int f() { return strange(); }"),
            ["strange of no particular library"]
        );
        assert_eq!(
            violations_of(
                "extern \"C\" int odd() __attribute__((weak)); int f() { return odd(); }"
            ),
            ["odd of no particular library"]
        );
        let known = "extern \"C\" int __gmon_start__() __attribute__((weak)); int f() { return __gmon_start__(); }";
        assert_eq!(violations_of(known), [""; 0]);
    }

    #[test]
    fn old_symbols_are_no_violation() {
        assert!(
            violations_of("#include <string>\nint f() { return std::string(\"a\").size(); }")
                .is_empty()
        );
    }
}
