//! Stubs of libraries that Mesos's binary needs and current systems lack. Their functions are not
//! called as long as TLS, the fetcher and Python are not used; a stub that is called prints its
//! name and aborts.
//!
//! The symbols of each library, and their versions, are read from the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use object::elf;
use object::read::elf::{FileHeader, Sym};

use super::run;

/// Libraries with versioned symbols: OpenSSL 1.0, and libcurl with the version names that it had
/// when it used OpenSSL 1.0.
const VERSIONED: [&str; 3] = ["libssl.so.1.0.0", "libcrypto.so.1.0.0", "libcurl.so.4"];

/// Libraries without symbol versions, and the prefixes of their symbols.
const UNVERSIONED: [(&str, &[&str]); 1] = [
    // The Python binding expects the symbols of a running Python interpreter.
    ("libpython-stub.so", &["Py", "_Py"]),
];

/// Symbols of a library by their version (`""`: none).
type Symbols = BTreeMap<String, BTreeSet<String>>;

/// Builds all stubs in `dir`.
pub fn build(library: &Path, dir: &Path) -> Result<()> {
    let data = fs::read(library).with_context(|| format!("reading {}", library.display()))?;
    for (file, symbols) in required_symbols(&data).context("reading what libmesos.so needs")? {
        let source = dir.join(format!("{file}.c"));
        let script = dir.join(format!("{file}.map"));
        fs::write(&source, code(&file, &symbols))?;
        fs::write(&script, versions(&symbols))?;
        let mut gcc = Command::new("gcc");
        gcc.args([
            "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .arg(dir.join(&file))
        .arg(&source)
        .arg(format!(
            "-Wl,-soname,{file},--version-script,{}",
            script.display()
        ));
        run(gcc).with_context(|| format!("building the stub of {file}"))?;
    }
    Ok(())
}

/// Returns the symbols that an object needs of each stubbed library.
fn required_symbols(data: &[u8]) -> Result<BTreeMap<String, Symbols>> {
    let header = elf::FileHeader64::<object::Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    let versions = sections
        .versions(endian, data)?
        .context("an object without symbol versions")?;
    let mut wanted: BTreeMap<String, Symbols> = BTreeMap::new();
    for file in VERSIONED
        .into_iter()
        .chain(UNVERSIONED.map(|(file, _)| file))
    {
        wanted.insert(file.to_owned(), Symbols::new());
    }
    for (index, symbol) in symbols.enumerate() {
        let name = String::from_utf8_lossy(symbol.name(endian, symbols.strings())?).into_owned();
        if !symbol.is_undefined(endian) || name.is_empty() {
            continue;
        }
        let version = versions.version(versions.version_index(endian, index).index())?;
        let (file, version) = match version.and_then(|v| Some((v.file()?, v.name()))) {
            Some((file, version)) => (
                String::from_utf8_lossy(file),
                String::from_utf8_lossy(version),
            ),
            None => match UNVERSIONED
                .iter()
                .find(|(_, starts)| starts.iter().any(|s| name.starts_with(s)))
            {
                Some((file, _)) => ((*file).into(), "".into()),
                None => continue,
            },
        };
        if let Some(symbols) = wanted.get_mut(&*file) {
            symbols
                .entry(version.into_owned())
                .or_default()
                .insert(name);
        }
    }
    Ok(wanted)
}

/// Returns true for Python's type and exception objects; all other symbols are functions.
fn is_data(symbol: &str) -> bool {
    symbol.starts_with("PyExc_") || symbol.ends_with("Struct")
}

fn code(file: &str, symbols: &Symbols) -> String {
    let mut text = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n\
         __attribute__((noreturn, unused)) static void called(const char *name)\n\
         {{ fprintf(stderr, \"%s was called, but {file} is a stub\\n\", name); abort(); }}\n"
    );
    for symbol in symbols.values().flatten() {
        text += &match is_data(symbol) {
            true => format!("_Alignas(16) char {symbol}[64];\n"),
            false => {
                format!("void {symbol}(void); void {symbol}(void) {{ called(\"{symbol}\"); }}\n")
            }
        };
    }
    text
}

/// Returns a version script for the linker. The loader requires a version node in every library
/// that it takes a versioned symbol from.
fn versions(symbols: &Symbols) -> String {
    let mut text = String::new();
    for (version, symbols) in symbols {
        let list: String = symbols
            .iter()
            .map(|symbol| format!("    {symbol};\n"))
            .collect();
        let local = if version.is_empty() {
            "  local: *;\n"
        } else {
            ""
        };
        text += &format!("{version} {{\n  global:\n{list}{local}}};\n");
    }
    if !symbols.contains_key("") {
        text += "STUB_PRIVATE { local: *; };\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_keep_everything_else_private() {
        let ssl = Symbols::from([("OPENSSL_1.0.0".into(), BTreeSet::from(["SSL_new".into()]))]);
        assert_eq!(
            versions(&ssl),
            "OPENSSL_1.0.0 {\n  global:\n    SSL_new;\n};\nSTUB_PRIVATE { local: *; };\n"
        );
        let python = Symbols::from([("".into(), BTreeSet::from(["Py_Initialize".into()]))]);
        assert_eq!(
            versions(&python),
            " {\n  global:\n    Py_Initialize;\n  local: *;\n};\n"
        );
    }
}
