//! The SDK: built with several compilers against headers laid out as an installed Mesos, and the
//! results in a real Mesos.
mod errors;
mod linkers;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use flate2::read::GzDecoder;
use packaging::floor::{self, Floor, RELEASE};
use packaging::glibc::Stubs;
use packaging::{built, packages, sdk};
use tempfile::TempDir;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::compiler::{self, Compiler};
use testbed::{install, paths, skip};

/// The SDK, unpacked, and an installed Mesos beside it.
struct Sdk {
    scratch: TempDir,
}

impl Sdk {
    /// Unpacks the SDK. `None`: a tool is missing, and the test is reported as skipped.
    fn unpacked(test: &str) -> Option<Sdk> {
        if let Some(missing) = install::missing(install::SDK) {
            skip::skip(test, &missing);
            return None;
        }
        let scratch = TempDir::new().unwrap();
        let archive = File::open(built::get().unwrap().sdk).unwrap();
        tar::Archive::new(GzDecoder::new(archive))
            .unpack(scratch.path())
            .unwrap();
        fs::create_dir(scratch.path().join("mesos")).unwrap();
        // The subset has the names of Mesos's own headers.
        let subset = paths::workspace().join("cpp_shim/mesos_subset");
        symlink(subset, scratch.path().join("mesos/include")).unwrap();
        Some(Sdk { scratch })
    }

    fn directory(&self) -> PathBuf {
        self.scratch.path().join(sdk::name())
    }

    fn mesos(&self) -> PathBuf {
        self.scratch.path().join("mesos")
    }

    /// Runs `make` with these arguments.
    fn make(&self, arguments: &[String]) -> Output {
        let mut make = Command::new("make");
        make.arg("-C").arg(self.directory()).args(arguments);
        // Of the cargo that runs this test.
        make.env_remove("MAKEFLAGS").env_remove("MESOS_PREFIX");
        make.output().unwrap()
    }

    /// Builds the module against Mesos and returns it.
    fn build(&self, compiler: &Compiler, arguments: &[&str]) -> PathBuf {
        let mut all = vec![
            "-j2".to_owned(),
            format!("MESOS_PREFIX={}", self.mesos().display()),
            format!(
                "CXX={} {}",
                compiler.path.display(),
                compiler.flags.join(" ")
            ),
        ];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        succeeded(&self.make(&all));
        self.directory().join("build/libmesos_overlay.so")
    }
}

/// Asserts that a program succeeded, and returns what it printed.
#[track_caller]
fn succeeded(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that a module exports the manifests only, and that neither its stack nor its tables of
/// addresses can be abused.
#[track_caller]
fn is_sound(module: &Path) {
    let run = |program: &str, arguments: &[&str]| {
        succeeded(
            &Command::new(program)
                .args(arguments)
                .arg(module)
                .output()
                .unwrap(),
        )
    };
    let exported = run("nm", &["-D", "--defined-only", "--format=just-symbols"]);
    let exported: Vec<_> = exported.lines().collect();
    assert_eq!(
        exported,
        ["Agent", "Master"].map(|role| format!("com_mesosphere_mesos_Overlay{role}Manager"))
    );
    let segments = run("readelf", &["-l", "-W"]);
    assert!(segments.contains("GNU_RELRO"), "{segments}");
    let stack = segments
        .lines()
        .find(|line| line.contains("GNU_STACK"))
        .unwrap();
    assert!(stack.contains(" RW ") && !stack.contains("RWE"), "{stack}");
    assert!(run("readelf", &["-d", "-W"]).contains("BIND_NOW"));
}

/// Asserts that a module needs nothing above the floor but what Mesos has.
#[track_caller]
fn is_below(module: &Path, floor: &Floor) {
    let needs = floor::needs(module).unwrap();
    let of_mesos = |name: &&floor::Needed| name.version.is_none() && name.name.starts_with("_Z");
    let mut needs_of_system = needs.clone();
    needs_of_system.symbols.retain(|symbol| !of_mesos(&symbol));
    let violations = floor::violations(&needs_of_system, floor, &BTreeSet::new());
    assert_eq!(violations, [""; 0]);
    assert!(
        needs.symbols.iter().any(|symbol| of_mesos(&symbol)),
        "it uses Mesos"
    );
}

/// Asserts that a module registers an agent in a real Mesos, which gets its overlays.
fn serves(module: &Path) {
    const LIMIT: Duration = Duration::from_secs(60);
    let mut setup = ClusterConfig::new(1, Placement::Loopback).unwrap();
    setup.module = Some(module.to_owned());
    let mut cluster = Cluster::start(&setup).unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let state = cluster.master.overlay_state().unwrap();
    assert_eq!(state["agents"][0]["ip"], cluster.agents[0].ip(), "{state}");
}

/// Returns the oldest compiler to be had. `None`: it cannot be fetched, and the test is reported as
/// skipped.
fn oldest(test: &str) -> Option<Compiler> {
    let compiler = compiler::oldest();
    compiler
        .map_err(|error| skip::skip(test, &format!("{error:#}")))
        .ok()
}

#[test]
fn the_released_module_serves() {
    if skip::require_mesos("the_released_module_serves").is_some() {
        serves(&built::get().unwrap().release.module);
    }
}

#[test]
fn a_module_of_this_machines_compiler_serves() {
    const NAME: &str = "a_module_of_this_machines_compiler_serves";
    let (Some(sdk), Some(mesos)) = (Sdk::unpacked(NAME), skip::require_mesos(NAME)) else {
        return;
    };
    let module = sdk.build(&compiler::installed(), &[]);
    is_sound(&module);
    let library = format!("MESOS_LIBRARY={}", mesos.library().display());
    let prefix = format!("MESOS_PREFIX={}", sdk.mesos().display());
    let said = succeeded(&sdk.make(&[prefix.clone(), library, "check".to_owned()]));
    assert!(said.contains("has all "), "{said}");
    let destination = sdk.scratch.path().join("destination");
    let destination = format!("DESTDIR={}", destination.display());
    succeeded(&sdk.make(&[
        prefix,
        destination,
        "PREFIX=/opt/m".to_owned(),
        "install".to_owned(),
    ]));
    serves(
        &sdk.scratch
            .path()
            .join("destination/opt/m/lib/mesos/modules/libmesos_overlay.so"),
    );
}

#[test]
fn a_module_of_the_oldest_compiler_serves() {
    const NAME: &str = "a_module_of_the_oldest_compiler_serves";
    let (Some(sdk), Some(_)) = (Sdk::unpacked(NAME), skip::require_mesos(NAME)) else {
        return;
    };
    if let Some(compiler) = oldest(NAME) {
        let module = sdk.build(&compiler, &["CXXFLAGS=-O2 -Wall -Wextra -Werror"]);
        is_sound(&module);
        serves(&module);
    }
}

#[test]
fn cmake_builds_the_same_module() {
    const NAME: &str = "cmake_builds_the_same_module";
    let (Some(sdk), Some(_)) = (Sdk::unpacked(NAME), skip::require_mesos(NAME)) else {
        return;
    };
    let (build, installed) = (
        sdk.scratch.path().join("build"),
        sdk.scratch.path().join("to"),
    );
    let mut cmake = Command::new("cmake");
    cmake
        .args([
            "-S".as_ref(),
            sdk.directory().as_os_str(),
            "-B".as_ref(),
            build.as_os_str(),
        ])
        .arg(format!("-DMESOS_PREFIX={}", sdk.mesos().display()))
        .arg(format!("-DCMAKE_INSTALL_PREFIX={}", installed.display()))
        .env_remove("MESOS_PREFIX");
    succeeded(&cmake.output().unwrap());
    let mut cmake = Command::new("cmake");
    cmake.args(["--build".as_ref(), build.as_os_str()]);
    cmake.args(["--target", "install"]).env_remove("MAKEFLAGS");
    succeeded(&cmake.output().unwrap());
    let module = installed.join("lib/mesos/modules/libmesos_overlay.so");
    is_sound(&module);
    serves(&module);
}

/// Floor of g++ 4.8: its `std::string` is the one before C++11.
const OLD_ABI: Floor = Floor::with_libstdcxx(&[3, 4, 19]);

#[test]
fn both_strings_are_linked_below_their_floors() {
    const NAME: &str = "both_strings_are_linked_below_their_floors";
    let (Some(sdk), Some(oldest)) = (Sdk::unpacked(NAME), oldest(NAME)) else {
        return;
    };
    let stubs = Stubs::make(&paths::target()).unwrap();
    let link = format!("LDFLAGS={}", stubs.flag());
    for (compiler, abi, floor) in [(compiler::installed(), 1, &RELEASE), (oldest, 0, &OLD_ABI)] {
        let flags = format!("CXXFLAGS=-O2 -Wall -Wextra -Werror -D_GLIBCXX_USE_CXX11_ABI={abi}");
        succeeded(&sdk.make(&["clean".to_owned()]));
        let module = sdk.build(&compiler, &[&flags, &link]);
        is_sound(&module);
        is_below(&module, floor);
    }
}

#[test]
fn the_same_source_makes_the_same_archive() {
    let built = built::get().unwrap();
    let elsewhere = TempDir::new().unwrap();
    let again = sdk::build(&built.release, packages::date().unwrap(), elsewhere.path()).unwrap();
    assert!(
        fs::read(built.sdk).unwrap() == fs::read(again).unwrap(),
        "other bytes"
    );
}
