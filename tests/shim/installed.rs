//! The headers of an installed Mesos.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testbed::compiler;

use crate::support::{self, Abi, project};

#[path = "../../build/headers.rs"]
#[expect(dead_code, reason = "the part that runs pkg-config")]
mod headers;

/// Lays headers out as `make install` does. `zookeeper.h` is included by one of Mesos's.
fn install(prefix: &Path) {
    let include = prefix.join("include");
    let bundled = prefix.join("lib/mesos/3rdparty/include");
    let places = [
        ("mesos", &include),
        ("process", &include),
        ("stout", &include),
        ("glog", &bundled),
        ("google", &bundled),
    ];
    for (directory, place) in places {
        fs::create_dir_all(place).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r")
            .arg(project("cpp_shim/mesos_subset").join(directory));
        support::run(copy.arg(place));
    }
    let version = include.join("mesos/version.hpp");
    let text = fs::read_to_string(&version).unwrap();
    let text = text.replace("#define", "#include <zookeeper.h>\n#define");
    fs::write(
        version,
        text + "static_assert(ZOO_MAJOR_VERSION == 3, \"\");\n",
    )
    .unwrap();
    fs::create_dir(include.join("zookeeper")).unwrap();
    let header = "#define ZOO_MAJOR_VERSION 3\n";
    fs::write(include.join("zookeeper/zookeeper.h"), header).unwrap();
}

#[test]
fn the_headers_of_an_installation_are_found() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path();
    install(prefix);
    let mut compile = support::strict(&compiler::installed(), Abi::Cxx11, "c++11");
    for include in headers::below(prefix).unwrap() {
        compile.arg("-isystem").arg(include);
    }
    support::run(compile.arg("-fsyntax-only").args(support::sources()));
}

#[test]
fn a_directory_without_mesos_is_an_error() {
    let directory = TempDir::new().unwrap();
    let error = headers::below(directory.path()).unwrap_err();
    assert!(
        error.contains("has no include/mesos/module.hpp; name the directory"),
        "{error}"
    );
}

#[test]
fn an_empty_prefix_means_no_installed_mesos() {
    let directory = TempDir::new().unwrap();
    install(directory.path());
    let found = || Some(vec!["/of/pkg-config".into()]);
    assert_eq!(headers::installed(Some("".as_ref()), found), Ok(None));
    let of_pkg_config = Ok(Some(vec!["/of/pkg-config".into()]));
    assert_eq!(headers::installed(None, found), of_pkg_config);
    let below = headers::below(directory.path()).map(Some);
    let prefix = Some(directory.path().as_os_str());
    assert_eq!(headers::installed(prefix, found), below);
    assert!(headers::installed(Some("/no/such".as_ref()), found).is_err());
}

#[test]
fn the_directory_of_zookeeper_is_added_to_those_of_pkg_config() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path();
    install(prefix);
    let include = prefix.join("include");
    let zookeeper = include.join("zookeeper");
    let text = include.to_str().unwrap();
    let found = headers::of_flags(
        &format!("{text}\n"),
        &format!("-I{text} -I/no/such/place\n"),
    );
    assert_eq!(found, [zookeeper.clone(), include.clone()]);
    // pkg-config prints no flag for a directory that the compiler searches in any case.
    assert_eq!(headers::of_flags(text, "\n"), [zookeeper]);
    let found = headers::of_flags("/no/such/place", "-I/usr/include");
    assert!(!found.contains(&"/usr/include".into()), "{found:?}");
}
