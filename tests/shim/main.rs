//! Compilers and ABIs of the C++ shim.

mod installed;
mod random;
mod support;
mod wrong_abi;

use std::collections::BTreeSet;

use support::{Abi, Shim};
use testbed::compiler::{self, Compiler};
use testbed::skip;

/// Compiles the shim with both ABIs of libstdc++. Checks which versions of it the objects need, and
/// that both import the same functions of Mesos.
fn compiles_for_old_hosts(compiler: &Compiler) {
    let imports = [Abi::Cxx11, Abi::Before].map(|abi| {
        let shim = Shim::compile(compiler, abi);
        assert_versions(&shim, abi);
        shim.imports()
    });
    assert!(imports[0].len() > 30, "{imports:#?}");
    assert_eq!(imports[0], imports[1]);
}

#[track_caller]
fn assert_versions(shim: &Shim, abi: Abi) {
    let versions = shim.versions();
    let (glibcxx, cxxabi) = abi.newest_versions();
    for (name, newest) in [("GLIBCXX", glibcxx), ("CXXABI", cxxabi)] {
        let needed: Vec<_> = versions
            .iter()
            .filter(|version| version.name == name)
            .collect();
        assert!(!needed.is_empty(), "{abi:?}: no version of {name}");
        let newer: Vec<_> = needed
            .iter()
            .filter(|version| version.number > newest)
            .collect();
        assert!(newer.is_empty(), "{abi:?}: {newer:#?}");
    }
}

#[test]
fn the_machines_compiler_makes_it_for_old_hosts() {
    compiles_for_old_hosts(&compiler::installed());
}

#[test]
fn the_oldest_compiler_makes_it_for_old_hosts() {
    let test = "the_oldest_compiler_makes_it_for_old_hosts";
    if let Some(compiler) = skip::require_oldest_compiler(test) {
        compiles_for_old_hosts(&compiler);
    }
}

#[test]
fn cxx14_takes_it() {
    support::check(&compiler::installed(), Abi::Cxx11, "c++14");
}

#[test]
fn cxx17_takes_it() {
    support::check(&compiler::installed(), Abi::Cxx11, "c++17");
}

#[test]
fn cxx17_takes_it_with_the_former_abi() {
    support::check(&compiler::installed(), Abi::Before, "c++17");
}

#[test]
fn the_build_script_has_all_files() {
    let script = include_str!("../../build.rs");
    let (_, list) = script.split_once("const SHIM").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let listed: BTreeSet<_> = list.split('"').skip(1).step_by(2).collect();
    let stems: Vec<_> = support::sources().collect();
    let files = stems.iter().map(|path| path.file_stem().unwrap());
    let files: BTreeSet<_> = files.map(|stem| stem.to_str().unwrap()).collect();
    assert_eq!(listed, files);
}
