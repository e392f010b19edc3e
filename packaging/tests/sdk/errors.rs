//! What the SDK says if it cannot build.
use std::fs;

use crate::Sdk;

/// Runs `make`, which fails, and returns what it said.
fn refusal(sdk: &Sdk, arguments: &[&str]) -> String {
    let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let output = sdk.make(&arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn errors_name_the_remedy() {
    let Some(sdk) = Sdk::unpacked("errors_name_the_remedy") else {
        return;
    };
    let mesos = format!("MESOS_PREFIX={}", sdk.mesos().display());
    let empty = sdk.scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = format!("MESOS_PREFIX={}", empty.display());
    for (arguments, parts) in [
        (
            vec![],
            vec!["MESOS_PREFIX is not set", "make MESOS_PREFIX=/usr"],
        ),
        (
            vec!["MESOS_PREFIX=/no/such"],
            vec!["there is no directory /no/such"],
        ),
        (
            vec![&empty],
            vec!["has no include/mesos/module.hpp", "MESOS_INCLUDE"],
        ),
        (
            vec![&mesos, "CXX=no-such-g++"],
            vec!["no compiler no-such-g++", "set CXX"],
        ),
        (
            vec![&mesos, "CXXFLAGS=-mx32"],
            vec!["compiles for x32", "is for x86-64"],
        ),
        (vec![&mesos, "CXXFLAGS=-m32"], vec!["-m32", "is for x86-64"]),
        (
            vec![&mesos, "MESOS_LIBRARY=/no/such.so", "check"],
            vec!["there is no /no/such.so", "MESOS_LIBRARY"],
        ),
    ] {
        let said = refusal(&sdk, &arguments);
        for part in parts {
            assert!(
                said.contains(part),
                "{arguments:?}: no \"{part}\" in {said}"
            );
        }
    }
}

#[test]
fn a_mesos_without_the_headers_of_others_is_told() {
    let Some(sdk) = Sdk::unpacked("a_mesos_without_the_headers_of_others_is_told") else {
        return;
    };
    let prefix = sdk.scratch.path().join("incomplete");
    let headers = prefix.join("include/mesos");
    fs::create_dir_all(&headers).unwrap();
    for name in ["module.hpp", "mesos.hpp"] {
        fs::write(headers.join(name), "#include <boost/functional/hash.hpp>\n").unwrap();
    }
    let said = refusal(&sdk, &[&format!("MESOS_PREFIX={}", prefix.display())]);
    for part in [
        "Mesos's headers are not complete",
        "No such file",
        "--enable-install-module-dependencies",
    ] {
        assert!(said.contains(part), "no \"{part}\" in {said}");
    }
}

#[test]
fn symbols_that_mesos_lacks_are_listed() {
    let Some(sdk) = Sdk::unpacked("symbols_that_mesos_lacks_are_listed") else {
        return;
    };
    let mesos = format!("MESOS_PREFIX={}", sdk.mesos().display());
    // A library that is not Mesos's.
    let library = "MESOS_LIBRARY=/lib/x86_64-linux-gnu/libc.so.6";
    let said = refusal(&sdk, &["-j2", &mesos, library, "check"]);
    for part in [
        "lacks symbols",
        "process::spawn(process::ProcessBase*, bool)",
        "_GLIBCXX_USE_CXX11_ABI",
    ] {
        assert!(said.contains(part), "no \"{part}\" in {said}");
    }
}
