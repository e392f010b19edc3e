//! The SDK: built with several compilers against headers laid out as an installed Mesos, and the
//! results in a real Mesos.
mod errors;
#[path = "../shared/hardened.rs"]
mod hardened;
mod linkers;
mod make;

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

    /// Runs the commands of the first block of the README that has `text`, with this Mesos in the place
    /// of `/usr`, and returns what they printed. What is installed goes below [`Sdk::destination`].
    fn follow(&self, text: &str, environment: &[(&str, &Path)]) -> String {
        let page = fs::read_to_string(self.directory().join("README.md")).unwrap();
        let mut blocks = page.split("```\n").skip(1).step_by(2);
        let block = blocks.find(|block| block.contains(text)).unwrap();
        let prefix = format!("MESOS_PREFIX={}", self.mesos().display());
        let mut shell = Command::new("sh");
        shell
            .arg("-ec")
            .arg(block.replace("MESOS_PREFIX=/usr", &prefix))
            .current_dir(self.directory())
            .env("DESTDIR", self.destination())
            .envs(environment.iter().copied())
            // Instead of the flags of the cargo that runs this test.
            .env("MAKEFLAGS", "-j2")
            .env_remove("MESOS_PREFIX");
        succeeded(&shell.output().unwrap())
    }

    fn destination(&self) -> PathBuf {
        self.scratch.path().join("destination")
    }

    /// Returns where the commands of the README install the module.
    fn installed(&self) -> PathBuf {
        self.destination()
            .join("usr/local/lib/mesos/modules/libmesos_overlay.so")
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

/// Asserts that a module exports the manifests only, and is hardened.
#[track_caller]
fn is_sound(module: &Path) {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--format=just-symbols"]);
    let exported = succeeded(&nm.arg(module).output().unwrap());
    let exported: Vec<_> = exported.lines().collect();
    assert_eq!(
        exported,
        ["Agent", "Master"].map(|role| format!("com_mesosphere_mesos_Overlay{role}Manager"))
    );
    hardened::memory(module);
    hardened::stack(module);
}

/// Asserts that the command lines which make or cmake printed compile with checks of buffers. What
/// the module needs does not show it, since a compiler may find that none of them is necessary.
#[track_caller]
fn checks_buffers(said: &str) {
    let compiling = |line: &&str| line.contains(" -c ") && line.contains(".cpp");
    let lines: Vec<_> = said.lines().filter(compiling).collect();
    assert!(lines.len() > 5, "{said}");
    for line in lines {
        let is_about_it = |word: &&str| word.contains("_FORTIFY_SOURCE");
        let last = line.split_whitespace().rfind(is_about_it);
        assert_eq!(last, Some("-D_FORTIFY_SOURCE=2"), "{line}");
        assert!(line.contains(" -O"), "{line}");
    }
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
    let library = mesos.library();
    let said = sdk.follow("make install", &[("MESOS_LIBRARY", library)]);
    assert!(said.contains("has all "), "{said}");
    checks_buffers(&said);
    is_sound(&sdk.installed());
    serves(&sdk.installed());
    make::symbols_without_versions_are_compared(&sdk, library);
    let opt = ["PREFIX=/opt/m", "install"].map(str::to_owned);
    let destination = format!("DESTDIR={}", sdk.destination().display());
    succeeded(&sdk.make(&[&opt[..], &[destination]].concat()));
    let module = "opt/m/lib/mesos/modules/libmesos_overlay.so";
    assert!(sdk.destination().join(module).exists());
}

#[test]
fn a_module_of_the_oldest_compiler_serves() {
    const NAME: &str = "a_module_of_the_oldest_compiler_serves";
    let (Some(sdk), Some(_)) = (Sdk::unpacked(NAME), skip::require_mesos(NAME)) else {
        return;
    };
    if let Some(compiler) = skip::require_oldest_compiler(NAME) {
        let module = sdk.build(&compiler, &["CXXFLAGS=-Wall -Wextra -Werror"]);
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
    // With this variable, the Makefile of cmake prints the command lines.
    let said = sdk.follow("cmake ", &[("VERBOSE", Path::new("1"))]);
    checks_buffers(&said);
    is_sound(&sdk.installed());
    serves(&sdk.installed());
}

/// Floor of g++ 4.8: its `std::string` is the one before C++11.
const OLD_ABI: Floor = Floor::with_libstdcxx(&[3, 4, 19]);

#[test]
fn both_strings_are_linked_below_their_floors() {
    const NAME: &str = "both_strings_are_linked_below_their_floors";
    let (Some(sdk), Some(oldest)) = (Sdk::unpacked(NAME), skip::require_oldest_compiler(NAME))
    else {
        return;
    };
    let stubs = Stubs::make(&paths::target()).unwrap();
    let link = format!("LDFLAGS={}", stubs.flag());
    for (compiler, abi, floor) in [(compiler::installed(), 1, &RELEASE), (oldest, 0, &OLD_ABI)] {
        let flags = format!("CXXFLAGS=-Wall -Wextra -Werror -D_GLIBCXX_USE_CXX11_ABI={abi}");
        let module = sdk.build(&compiler, &[&flags, &link]);
        is_sound(&module);
        is_below(&module, floor);
    }
}

#[test]
fn the_same_source_makes_the_same_archive() {
    let built = built::get().unwrap();
    // The date of the last commit may change while tests run.
    let date = packages::date().unwrap();
    let [first, second] = [(); 2].map(|()| {
        let directory = TempDir::new().unwrap();
        let archive = sdk::build(&built.release, date, directory.path()).unwrap();
        fs::read(archive).unwrap()
    });
    assert!(first == second, "other bytes");
}
