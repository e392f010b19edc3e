//! What the released module and program need of their hosts.
#[path = "../shared/hardened.rs"]
mod hardened;
mod stubs;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use packaging::built;
use packaging::floor::{self, Needs, RELEASE};
use testbed::paths;

/// Symbols of Mesos that the shim uses, which have no version.
fn of_mesos() -> BTreeSet<String> {
    let text = fs::read_to_string(paths::workspace().join("cpp_shim/symbols.inc")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("SYMBOL(")?.strip_suffix(')')?.to_owned());
    text.lines().filter_map(name).collect()
}

fn check(file: &Path, allowed: &BTreeSet<String>) -> Needs {
    let needs = floor::needs(file).unwrap();
    let violations = floor::violations(&needs, &RELEASE, allowed);
    assert!(
        violations.is_empty(),
        "{} needs more than old hosts have:\n{}",
        file.display(),
        violations.join("\n")
    );
    needs
}

fn newest(needs: &Needs, family: &str) -> String {
    let versions = needs
        .versions
        .iter()
        .filter_map(|(_, version)| floor::Version::parse(version));
    let newest = versions.filter(|version| version.family == family).max();
    newest.map_or(String::new(), |version| version.to_string())
}

#[test]
fn the_module_needs_nothing_above_the_floor() {
    let module = built::get().unwrap().release.module;
    let needs = check(&module, &of_mesos());
    assert_eq!(
        needs.libraries,
        [
            "libgcc_s.so.1",
            "libpthread.so.0",
            "libm.so.6",
            "libdl.so.2",
            "libc.so.6",
            "ld-linux-x86-64.so.2",
            "libstdc++.so.6"
        ]
    );
    // The documentation names these; lower ones would be news for it.
    assert_eq!(newest(&needs, "GLIBC"), "GLIBC_2.17");
    assert_eq!(newest(&needs, "GLIBCXX"), "GLIBCXX_3.4.21");
}

#[test]
fn the_program_needs_nothing_above_the_floor() {
    let program = built::get().unwrap().release.program;
    let needs = check(&program, &BTreeSet::new());
    assert_eq!(
        needs.libraries,
        [
            "libgcc_s.so.1",
            "libpthread.so.0",
            "libm.so.6",
            "libdl.so.2",
            "libc.so.6",
            "ld-linux-x86-64.so.2"
        ]
    );
    assert_eq!(newest(&needs, "GLIBC"), "GLIBC_2.17");
}

#[test]
fn the_module_is_hardened() {
    let module = built::get().unwrap().release.module;
    hardened::memory(&module);
    hardened::stack(&module);
    hardened::buffers(&module);
}

#[test]
fn the_program_is_hardened() {
    let program = built::get().unwrap().release.program;
    hardened::memory(&program);
    hardened::position(&program);
}
