//! The SDK: an archive for compiling the module against an installed Mesos, without Rust.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym};
use testbed::paths;

use crate::glibc::Stubs;
use crate::licences;
use crate::packages::VERSION;
use crate::release::Release;
use crate::run;
use crate::tarball::{self, Entry};

/// Files of `packaging/sdk` that are in the SDK, and their permissions.
const FILES: [(&str, u32); 6] = [
    ("CMakeLists.txt", 0o644),
    ("Makefile", 0o644),
    ("README.md", 0o644),
    ("check-symbols", 0o755),
    ("exports.map", 0o644),
    ("mesos-headers", 0o755),
];

/// Returns the name of the SDK's top directory.
pub fn name() -> String {
    format!("mesos-overlay-sdk-{VERSION}")
}

/// Returns the path of the SDK in a directory of packages.
pub fn path(directory: &Path) -> PathBuf {
    directory.join(format!("{}-x86_64.tar.gz", name()))
}

/// Makes the SDK in a directory, with files of `date`, in seconds since 1970.
///
/// # Errors
/// A file cannot be read or written, a tool fails, or the library needs symbols above the floor.
pub fn build(release: &Release, date: u64, directory: &Path) -> Result<PathBuf> {
    let scratch = directory.join("sdk");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let library = library(release, &scratch).context("making the SDK's library")?;
    let mut files = sources()?;
    files.insert("lib/libmesos_overlay.a".to_owned(), entry(&library, 0o644)?);
    let archive = path(directory);
    tarball::write(&archive, &name(), &files, date)?;
    fs::remove_dir_all(&scratch)?;
    Ok(archive)
}

fn entry(file: &Path, mode: u32) -> Result<Entry> {
    let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Entry { mode, content })
}

/// Returns all files except the library, by their paths in the SDK.
fn sources() -> Result<BTreeMap<String, Entry>> {
    let workspace = paths::workspace();
    let mut files = BTreeMap::new();
    for (name, mode) in FILES {
        let mut file = entry(&workspace.join("packaging/sdk").join(name), mode)?;
        if name == "README.md" {
            let text = String::from_utf8(file.content).context("packaging/sdk/README.md")?;
            file.content = text.replace("@VERSION@", VERSION).into_bytes();
        }
        files.insert(name.to_owned(), file);
    }
    for path in ["LICENSE", "include/mesos_overlay.h"] {
        files.insert(path.to_owned(), entry(&workspace.join(path), 0o644)?);
    }
    let licences = Entry {
        mode: 0o644,
        content: licences::text()?.into_bytes(),
    };
    files.insert("third-party-licences.txt".to_owned(), licences);
    for file in fs::read_dir(workspace.join("cpp_shim"))? {
        let path = file?.path();
        // Not the subset of Mesos's headers and the list of its symbols.
        if path
            .extension()
            .is_some_and(|extension| extension == "cpp" || extension == "hpp")
        {
            let name = path
                .file_name()
                .context("a path ends in a name")?
                .to_string_lossy();
            files.insert(format!("cpp_shim/{name}"), entry(&path, 0o644)?);
        }
    }
    Ok(files)
}

/// Makes an archive of one object, which has what the C ABI and the manifests need and nothing else.
/// All other symbols are local to it, so it can be linked beside other Rust libraries. It is in
/// `scratch`, among temporary files.
///
/// # Errors
/// A tool fails, or the library needs symbols above the floor.
pub fn library(release: &Release, scratch: &Path) -> Result<PathBuf> {
    let stubs = Stubs::make(&paths::target())?;
    let exported = exported(&fs::read(&release.module)?)?;
    let all = scratch.join("all.o");
    let mut ld = Command::new("ld");
    ld.args(["-r", "--gc-sections", "-T"])
        .arg(paths::workspace().join("packaging/sdk/merge.lds"))
        .args(exported.iter().flat_map(|name| ["-u", name]))
        .arg("-o")
        .arg(&all)
        .arg(&release.archive)
        .arg(stubs.directory().join("libstatic.a"));
    run::output(&mut ld)?;
    let (names, object) = (scratch.join("exported"), scratch.join("mesos_overlay.o"));
    fs::write(&names, exported.join("\n"))?;
    let mut objcopy = Command::new("objcopy");
    objcopy
        .arg("--strip-unneeded")
        .arg(format!("--keep-global-symbols={}", names.display()))
        .args([&all, &object]);
    run::output(&mut objcopy)?;
    let mut bytes = fs::read(&object)?;
    for_old_linkers(&mut bytes)?;
    fs::write(&object, bytes)?;
    let library = scratch.join("libmesos_overlay.a");
    let mut ar = Command::new("ar");
    run::output(ar.arg("crsD").args([&library, &object]))?;
    check(&stubs, &library, scratch)?;
    Ok(library)
}

/// Returns the symbols that the module exports.
fn exported(module: &[u8]) -> Result<Vec<String>> {
    let header = elf::FileHeader64::<object::Endianness>::parse(module)?;
    let endian = header.endian()?;
    let symbols = header.sections(endian, module)?;
    let symbols = symbols.symbols(endian, module, elf::SHT_DYNSYM)?;
    let mut names = Vec::new();
    for symbol in symbols.iter().filter(|symbol| !symbol.is_undefined(endian)) {
        let name = symbol.name(endian, symbols.strings())?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes the mark of sections that a linker must keep, and that of files with such marks. Linkers
/// before binutils 2.36 do not know them, and nothing of this object is left out in any case.
fn for_old_linkers(object: &mut [u8]) -> Result<()> {
    const OS_ABI: usize = 7; // place of EI_OSABI in the file's header
    const FLAGS: usize = 8; // place of sh_flags in a section's header
    let header = elf::FileHeader64::<object::Endianness>::parse(&*object)?;
    let endian = header.endian()?;
    let start = usize::try_from(header.e_shoff(endian))?;
    let size = usize::from(header.e_shentsize(endian));
    let mut flags = Vec::new();
    for section in header.sections(endian, &*object)?.iter() {
        flags.push(section.sh_flags(endian).0 & !elf::SHF_GNU_RETAIN.0);
    }
    for (index, flags) in flags.into_iter().enumerate() {
        let place = start + index * size + FLAGS;
        object[place..place + 8].copy_from_slice(&flags.to_le_bytes());
    }
    object[OS_ABI] = 0;
    Ok(())
}

/// Links the library with the stubs, to see that it needs no symbol above the floor.
fn check(stubs: &Stubs, library: &Path, scratch: &Path) -> Result<()> {
    let mut gcc = Command::new(stubs.linker());
    gcc.args(["-shared", "-Wl,-z,defs", "-Wl,--whole-archive"])
        .arg(library)
        .args([
            "-Wl,--no-whole-archive",
            "-ldl",
            "-lpthread",
            "-lrt",
            "-lm",
            "-o",
        ])
        .arg(scratch.join("linked.so"));
    run::output(&mut gcc).context("linking the library alone")?;
    let needs = crate::floor::needs(&scratch.join("linked.so"))?;
    let none = std::collections::BTreeSet::new();
    let violations = crate::floor::violations(&needs, &crate::floor::RELEASE, &none);
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}
