//! Stub libraries to link against: the C and C++ libraries of this machine, reduced to what old
//! releases had.
//!
//! glibc and libstdc++ keep old versions of their symbols: `pthread_create@GLIBC_2.2.5` is beside
//! `pthread_create@@GLIBC_2.34`. A linker takes the newest one. Each stub has the same symbols as
//! the machine's library without code, and of each symbol only the newest version below the floor;
//! a symbol whose first version is above the floor is missing. So what is linked with the stubs
//! needs no newer symbol, or is not linked at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf;
use object::read::elf::{FileHeader, Sym};
use sha2::{Digest, Sha256};

use crate::floor::{Floor, RELEASE, Version};
use crate::run;

const START: &str = include_str!("../glibc/start.S");
const STATIC: &str = include_str!("../glibc/static.c");
const LINK: &str = include_str!("../glibc/stub-gcc");

/// Libraries of this machine that stubs are made of.
const LIBRARIES: [&str; 11] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libanl.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
];

/// Libraries that are a part of `libc.so.6` since glibc 2.34, and the prefixes of their symbols.
/// Hosts with an earlier release find the symbols only there.
const MERGED: [(&str, &[&str]); 6] = [
    (
        "libpthread.so.0",
        &["pthread_", "__pthread_", "_pthread_", "sem_"],
    ),
    ("libdl.so.2", &["dl"]),
    (
        "librt.so.1",
        &["aio_", "lio_", "mq_", "__mq_", "timer_", "shm_"],
    ),
    (
        "libutil.so.1",
        &["login", "logout", "logwtmp", "openpty", "forkpty"],
    ),
    (
        "libresolv.so.2",
        &["res_", "__res_", "dn_", "__dn_", "ns_", "__ns_"],
    ),
    ("libanl.so.1", &["gai_", "getaddrinfo_a"]),
];

/// Linker scripts in place of `lib….so`: the shared stub, then what is linked statically.
const SCRIPTS: [(&str, &str); 2] = [
    (
        "libc.so",
        "GROUP ( -l:libc.so.6 -l:libstatic.a AS_NEEDED ( -l:ld-linux-x86-64.so.2 ) )\n",
    ),
    ("libgcc_s.so", "GROUP ( -l:libgcc_s.so.1 -lgcc )\n"),
];

/// Arguments of gcc that make a stub library.
const SHARED_ARGUMENTS: &[&str] = &["-shared", "-nostdlib", "-Wl,--hash-style=gnu"];

/// Arguments of gcc that make the start files.
const START_ARGUMENTS: &[&str] = &["-c"];

/// Arguments of gcc that compile what is linked statically.
const STATIC_ARGUMENTS: &[&str] = &[
    "-c",
    "-O2",
    "-fPIC",
    "-ffunction-sections",
    "-Wall",
    "-Wextra",
    "-Werror",
];

/// A symbol of a shared library.
#[derive(Clone, Debug)]
struct Symbol {
    name: String,
    version: Version,
    /// True for the version that linkers take.
    is_default: bool,
    /// Address and size of an object; `None` for a function.
    data: Option<(u64, u64)>,
}

/// A directory with the stub libraries, and with start files and a linker command that belong to
/// them.
#[derive(Clone, Debug)]
pub struct Stubs {
    directory: PathBuf,
}

impl Stubs {
    /// Makes the stubs of the release's floor in a directory below `parent` with a name of its own,
    /// if they are not there.
    ///
    /// # Errors
    /// A library of this machine cannot be found or read, or the C compiler fails.
    pub fn make(parent: &Path) -> Result<Stubs> {
        let sources = Sources::read(&RELEASE)?;
        let directory = parent.join(format!("stubs-{}", sources.hash()));
        if !directory.exists() {
            // Tests run in parallel threads and processes, and each may be the first.
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
            let scratch = tempfile::Builder::new()
                .prefix("stubs-new-")
                .tempdir_in(parent)
                .with_context(|| format!("making a directory in {}", parent.display()))?;
            let new = scratch.path().join("stubs");
            fs::create_dir(&new).with_context(|| format!("making {}", new.display()))?;
            sources.build(&new)?;
            if let Err(error) = fs::rename(&new, &directory) {
                ensure!(directory.exists(), "moving {}: {error}", new.display());
            }
        }
        Ok(Stubs { directory })
    }

    /// Returns the directory, which has `libc.so`, `libstdc++.so` and others.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the argument that makes a C or C++ compiler link with the stubs.
    pub fn flag(&self) -> String {
        format!("-B{}/", self.directory.display())
    }

    /// Returns a command that links like `cc` (or `$LINK_WITH`) with the stubs, for cargo.
    pub fn linker(&self) -> PathBuf {
        self.directory.join("stub-gcc")
    }
}

/// Returns the path of a library that the C compiler links with.
fn find(name: &str) -> Result<PathBuf> {
    let mut gcc = Command::new("gcc");
    gcc.arg(format!("-print-file-name={name}"));
    let path = PathBuf::from(run::output(&mut gcc)?.trim());
    ensure!(
        path.is_absolute() && path.exists(),
        "gcc knows no {name} of x86-64; on Debian or Ubuntu: apt-get install g++"
    );
    Ok(path)
}

/// Source of a stub library.
struct Source {
    assembly: String,
    versions: String,
}

/// Sources of all stub libraries, by their names.
struct Sources(BTreeMap<&'static str, Source>);

impl Sources {
    /// Reads the libraries of this machine.
    fn read(floor: &Floor) -> Result<Sources> {
        let mut stubs: BTreeMap<&str, Vec<Symbol>> = BTreeMap::new();
        for library in LIBRARIES {
            let bytes = fs::read(find(library)?)?;
            let all = read(&bytes).with_context(|| format!("reading {library}"))?;
            for symbol in below(floor, all) {
                let home = home(library, &symbol);
                stubs.entry(home).or_default().push(symbol);
            }
        }
        let source = |symbols: Vec<Symbol>| Source {
            assembly: assembly(&symbols),
            versions: versions(&symbols),
        };
        let sources = stubs
            .into_iter()
            .map(|(library, symbols)| (library, source(symbols)));
        Ok(Sources(sources.collect()))
    }

    /// Returns a hash of everything that the stubs are made of.
    fn hash(&self) -> String {
        let mut texts = vec![START, STATIC, LINK];
        texts.extend(SCRIPTS.iter().flat_map(|(name, text)| [*name, *text]));
        for arguments in [SHARED_ARGUMENTS, START_ARGUMENTS, STATIC_ARGUMENTS] {
            texts.extend(arguments);
        }
        for (library, source) in &self.0 {
            texts.extend([*library, &source.assembly, &source.versions]);
        }
        let mut hash = Sha256::new();
        for text in texts {
            hash.update(text);
            hash.update([0]); // where the next one begins
        }
        let hash = hash.finalize();
        hash.iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn build(&self, directory: &Path) -> Result<()> {
        for (library, source) in &self.0 {
            source
                .build(directory, library)
                .with_context(|| format!("making the stub of {library}"))?;
        }
        for (name, text) in SCRIPTS {
            fs::write(directory.join(name), text)?;
        }
        for library in self.0.keys() {
            let name = library.split_inclusive(".so").next().unwrap_or(library);
            if SCRIPTS.iter().all(|(script, _)| *script != name) {
                symlink(library, directory.join(name))?;
            }
        }
        start(directory)?;
        static_part(directory)?;
        let link = directory.join("stub-gcc");
        fs::write(&link, LINK)?;
        fs::set_permissions(&link, fs::Permissions::from_mode(0o755)).context("stub-gcc")
    }
}

impl Source {
    fn build(&self, directory: &Path, name: &str) -> Result<()> {
        let code = directory.join(format!("{name}.s"));
        let script = directory.join(format!("{name}.map"));
        fs::write(&code, &self.assembly)?;
        fs::write(&script, &self.versions)?;
        let mut gcc = Command::new("gcc");
        gcc.args(SHARED_ARGUMENTS)
            .arg(format!("-Wl,-soname,{name}"))
            .arg(format!("-Wl,--version-script,{}", script.display()))
            .arg("-o")
            .arg(directory.join(name))
            .arg(&code);
        run::output(&mut gcc)?;
        fs::remove_file(code)?;
        fs::remove_file(script).context("removing the version script")
    }
}

/// Makes the start files. One serves programs at a fixed address and others.
fn start(directory: &Path) -> Result<()> {
    let source = directory.join("start.S");
    fs::write(&source, START)?;
    let mut gcc = Command::new("gcc");
    gcc.args(START_ARGUMENTS)
        .arg("-o")
        .arg(directory.join("Scrt1.o"))
        .arg(source);
    run::output(&mut gcc)?;
    symlink("Scrt1.o", directory.join("crt1.o")).context("naming the start file")
}

/// Compiles what is linked statically.
fn static_part(directory: &Path) -> Result<()> {
    let source = directory.join("static.c");
    fs::write(&source, STATIC)?;
    let object = directory.join("static.o");
    let mut gcc = Command::new("gcc");
    gcc.args(STATIC_ARGUMENTS)
        .arg("-o")
        .arg(&object)
        .arg(source);
    run::output(&mut gcc)?;
    let mut ar = Command::new("ar");
    ar.arg("crsD")
        .arg(directory.join("libstatic.a"))
        .arg(object);
    run::output(&mut ar).map(drop)
}

/// Returns the library that has a symbol of `library` on hosts at the floor.
fn home<'a>(library: &'a str, symbol: &Symbol) -> &'a str {
    let is_in = |(_, prefixes): &&(_, &[&str])| {
        prefixes
            .iter()
            .any(|prefix| symbol.name.starts_with(prefix))
    };
    // A symbol that was moved got a new version for the linker.
    if library != "libc.so.6" || symbol.is_default {
        return library;
    }
    MERGED
        .iter()
        .find(is_in)
        .map_or(library, |(library, _)| library)
}

/// Returns of each symbol the newest version that the floor has.
fn below(floor: &Floor, symbols: Vec<Symbol>) -> Vec<Symbol> {
    let mut newest: BTreeMap<String, Symbol> = BTreeMap::new();
    for symbol in symbols {
        if !floor.has(&symbol.version) {
            continue;
        }
        let known = newest.get(&symbol.name);
        if known.is_none_or(|known| known.version < symbol.version) {
            newest.insert(symbol.name.clone(), symbol);
        }
    }
    newest.into_values().collect()
}

/// Returns the functions and objects that a shared library exports with a version.
fn read(library: &[u8]) -> Result<Vec<Symbol>> {
    let header = elf::FileHeader64::<object::Endianness>::parse(library)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, library)?;
    let symbols = sections.symbols(endian, library, elf::SHT_DYNSYM)?;
    let versions = sections
        .versions(endian, library)?
        .context("a library without symbol versions")?;
    let mut found = Vec::new();
    for (index, symbol) in symbols.enumerate() {
        let version = versions.version_index(endian, index);
        let kind = symbol.st_type();
        if symbol.is_undefined(endian) || symbol.is_absolute(endian) || kind == elf::STT_TLS {
            continue;
        }
        let Some(known) = versions.version(version.index())? else {
            continue;
        };
        let Some(parsed) = Version::parse(&String::from_utf8_lossy(known.name())) else {
            continue;
        };
        let name = symbol.name(endian, symbols.strings())?;
        let data = (symbol.st_value(endian), symbol.st_size(endian));
        found.push(Symbol {
            name: String::from_utf8_lossy(name).into_owned(),
            version: parsed,
            is_default: !version.is_hidden(),
            data: (kind == elf::STT_OBJECT).then_some(data),
        });
    }
    Ok(found)
}

/// Returns assembler code with all symbols. Functions have no code. Objects have their size, and
/// those at the same address are the same object, since the linker copies objects into programs.
fn assembly(symbols: &[Symbol]) -> String {
    let mut text = ".text\n".to_owned();
    let mut objects: BTreeMap<u64, Vec<(&str, u64)>> = BTreeMap::new();
    for Symbol { name, data, .. } in symbols {
        match data {
            None => {
                let _ = write!(
                    text,
                    ".globl \"{name}\"\n.type \"{name}\", @function\n\"{name}\":\n"
                );
            }
            Some((address, size)) => objects.entry(*address).or_default().push((name, *size)),
        }
    }
    text += "ud2\n.bss\n";
    for names in objects.values() {
        text += ".balign 32\n";
        for (name, size) in names {
            let _ = write!(
                text,
                ".globl \"{name}\"\n.type \"{name}\", @object\n.size \"{name}\", {size}\n\"{name}\":\n"
            );
        }
        let size = names.iter().map(|(_, size)| size).max();
        let _ = writeln!(text, ".skip {}", size.unwrap_or(&0));
    }
    text + ".section .note.GNU-stack, \"\", @progbits\n"
}

/// Returns a version script for the linker.
fn versions(symbols: &[Symbol]) -> String {
    let mut nodes: BTreeMap<&Version, BTreeSet<&str>> = BTreeMap::new();
    for symbol in symbols {
        nodes
            .entry(&symbol.version)
            .or_default()
            .insert(&symbol.name);
    }
    let mut text = String::new();
    for (version, names) in nodes {
        let names: String = names.iter().map(|name| format!("\"{name}\";\n")).collect();
        let _ = write!(text, "{version} {{ global:\n{names}}};\n");
    }
    text + "STUB_PRIVATE { local: *; };\n"
}
