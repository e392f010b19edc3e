//! What make and cmake do with the SDK.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::install;

use crate::{Sdk, succeeded};

/// Writes a script of the shell.
fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Stands in for g++: notes each object and module that it is asked for, and makes empty ones. Other
/// calls are those of g++.
const COMPILER: &str = r#"
case " $* " in
  *" -c "* | *" -shared "*) ;;
  *) exec g++ "$@" ;;
esac
log=$(dirname "$0")/made
while [ $# -gt 1 ]; do
  [ "$1" != -o ] || { echo "$2" >>"$log"; : >"$2"; exit; }
  shift
done
exit 1
"#;

/// Runs make with the stand-in, and returns the numbers of objects and modules that were made.
fn made(sdk: &Sdk, compiler: &Path, arguments: &[&str]) -> (usize, usize) {
    let log = compiler.with_file_name("made");
    let _ = fs::remove_file(&log); // of the previous call
    let mut all = vec![format!("MESOS_PREFIX={}", sdk.mesos().display())];
    if !arguments.iter().any(|text| text.starts_with("CXX=")) {
        all.push(format!("CXX={}", compiler.display()));
    }
    all.extend(arguments.iter().map(|text| (*text).to_owned()));
    succeeded(&sdk.make(&all));
    let made = fs::read_to_string(&log).unwrap_or_default();
    let (objects, modules): (Vec<_>, Vec<_>) = made.lines().partition(|name| name.ends_with(".o"));
    (objects.len(), modules.len())
}

#[test]
fn other_compilers_and_flags_build_anew() {
    let Some(sdk) = Sdk::unpacked("other_compilers_and_flags_build_anew") else {
        return;
    };
    let compiler = sdk.scratch.path().join("compiler");
    script(&compiler, COMPILER);
    let sources = fs::read_dir(sdk.directory().join("cpp_shim")).unwrap();
    let is_source = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "cpp");
    let all = sources.map(|file| file.unwrap().path()).filter(is_source);
    let everything = (all.count(), 1);
    assert_eq!(made(&sdk, &compiler, &[]), everything);
    assert_eq!(made(&sdk, &compiler, &[]), (0, 0));
    let with_argument = format!("CXX={} -pipe", compiler.display());
    for (arguments, expected) in [
        (vec!["CXXFLAGS=-g -DNAME='\"a\"'"], everything),
        (vec!["CPPFLAGS=-DA"], everything),
        (vec!["CPPFLAGS=-DB"], everything),
        (vec!["MESOS_INCLUDE=/opt/no/such"], everything),
        (vec![with_argument.as_str()], everything),
        (vec![], everything),
        (vec!["LDFLAGS=-Wl,-rpath,/opt/lib"], (0, 1)),
        (vec!["FORTIFY="], (everything.0, 1)),
    ] {
        assert_eq!(made(&sdk, &compiler, &arguments), expected, "{arguments:?}");
        assert_eq!(made(&sdk, &compiler, &arguments), (0, 0), "{arguments:?}");
    }
}

#[test]
fn flags_do_not_switch_optimisation_off() {
    let Some(sdk) = Sdk::unpacked("flags_do_not_switch_optimisation_off") else {
        return;
    };
    let prefix = format!("MESOS_PREFIX={}", sdk.mesos().display());
    let arguments = [&prefix, "CXXFLAGS=-g", "--dry-run"].map(str::to_owned);
    let said = succeeded(&sdk.make(&arguments));
    let compiling: Vec<_> = said.lines().filter(|line| line.contains(" -c ")).collect();
    assert!(!compiling.is_empty(), "{said}");
    for line in compiling {
        assert!(line.contains(" -O2 ") && line.contains(" -g "), "{line}");
    }
}

#[test]
fn nothing_is_installed_before_it_is_built() {
    let Some(sdk) = Sdk::unpacked("nothing_is_installed_before_it_is_built") else {
        return;
    };
    let destination = format!("DESTDIR={}", sdk.destination().display());
    let output = sdk.make(&["install".to_owned(), destination]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["no build/libmesos_overlay.so to install", "make MESOS_"] {
        assert!(said.contains(part), "no \"{part}\" in {said}");
    }
    assert!(!sdk.destination().exists());
}

#[test]
fn cmake_does_not_replace_the_makefile() {
    let Some(sdk) = Sdk::unpacked("cmake_does_not_replace_the_makefile") else {
        return;
    };
    let makefile = || fs::read(sdk.directory().join("Makefile")).unwrap();
    let before = makefile();
    let cmake = |arguments: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(arguments);
        let shell = shell.current_dir(sdk.directory());
        shell.env_remove("MESOS_PREFIX").output().unwrap()
    };
    let prefix = format!("-DMESOS_PREFIX={}", sdk.mesos().display());
    let output = cmake(&format!("cmake {prefix} ."));
    assert!(!output.status.success());
    assert!(makefile() == before, "the Makefile is another one");
    // The lines are broken where they are long.
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.split_whitespace().collect();
    let said = said.join(" ");
    let remedy =
        "rm -rf CMakeCache.txt CMakeFiles && mkdir -p build-cmake && cd build-cmake && cmake";
    assert!(said.contains("would replace this directory's Makefile"));
    assert!(said.contains(remedy), "{said}");
    succeeded(&cmake(&format!("{remedy} {prefix} ..")));
    assert!(makefile() == before, "the Makefile is another one");
}

#[test]
fn headers_are_found_with_pkg_config() {
    let Some(sdk) = Sdk::unpacked("headers_are_found_with_pkg_config") else {
        return;
    };
    assert_eq!(install::missing(install::SDK), None);
    // Mesos's own headers include zookeeper.h without a directory.
    let include = sdk.scratch.path().join("installed/include");
    let mut copy = Command::new("cp");
    copy.arg("-rL").arg(sdk.mesos().join("include"));
    fs::create_dir(include.parent().unwrap()).unwrap();
    succeeded(&copy.arg(&include).output().unwrap());
    let version = include.join("mesos/version.hpp");
    let text = fs::read_to_string(&version).unwrap();
    let text = text.replace("#define", "#include <zookeeper.h>\n#define");
    assert!(text.contains("zookeeper.h"), "{text}");
    fs::write(&version, text).unwrap();
    fs::create_dir(include.join("zookeeper")).unwrap();
    fs::write(include.join("zookeeper/zookeeper.h"), "").unwrap();
    let module = format!(
        "includedir={}\nName: mesos\nDescription: Mesos\nVersion: 1.11.0\nCflags: -I${{includedir}}\n",
        include.display()
    );
    fs::write(sdk.scratch.path().join("mesos.pc"), module).unwrap();
    let mut headers = Command::new("sh");
    headers
        .arg(sdk.directory().join("mesos-headers"))
        .env("PKG_CONFIG_PATH", sdk.scratch.path())
        .env("CXXFLAGS", format!("-std=c++11 -I{}", "include"))
        .env_remove("MESOS_PREFIX");
    let printed = succeeded(&headers.output().unwrap());
    for directory in [include.clone(), include.join("zookeeper")] {
        let directory = directory.display().to_string();
        let has_it = printed.split_whitespace().any(|word| word == directory);
        assert!(has_it, "no {directory} in {printed}");
    }
}

/// Compares symbols as with an nm before binutils 2.35, which shows no versions, so that those of the
/// C and C++ libraries and of the loader are among them.
pub fn symbols_without_versions_are_compared(sdk: &Sdk, library: &Path) {
    let tools = sdk.scratch.path().join("tools");
    fs::create_dir(&tools).unwrap();
    script(
        &tools.join("nm"),
        "exec /usr/bin/nm --without-symbol-versions \"$@\"\n",
    );
    let path = std::env::var("PATH").unwrap();
    let mut check = Command::new("sh");
    check
        .arg("./check-symbols")
        .args([Path::new("build/libmesos_overlay.so"), library])
        .env("PATH", format!("{}:{path}", tools.display()))
        .current_dir(sdk.directory());
    let said = succeeded(&check.output().unwrap());
    let (_, number) = said.split_once("has all ").unwrap();
    let number = number.split_whitespace().next().unwrap();
    // About 45 are Mesos's.
    assert!(number.parse::<usize>().unwrap() > 100, "{said}");
}
