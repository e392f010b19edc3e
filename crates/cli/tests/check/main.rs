//! `mesos-overlay check` and `setup`: hosts and files with one fault each, of which the program finds just
//! that, and healthy ones.

mod bare;
mod cluster;
mod docs;
mod files;
mod setup;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use testbed::netns::Netns;
use testbed::program::{Location, Program};
use testkit::host::Host;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mesos-overlay");

/// Returns the program on a test host.
pub fn on(host: &Host) -> Program {
    let netns: Netns = host.netns();
    Program::at(BINARY, &netns)
}

/// Returns the program in the network namespace of this process.
pub fn here() -> Program {
    struct Here;
    impl Location for Here {
        fn netns(&self) -> Option<&Netns> {
            None
        }
    }
    Program::at(BINARY, &Here)
}

/// Asserts that a command finds exactly these kinds of findings.
#[track_caller]
pub fn assert_codes(program: &Program, arguments: &[&str], expected: &[&str]) {
    let outcome = program.ask(arguments).unwrap();
    let codes = outcome.codes().unwrap();
    let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(codes, expected, "{outcome}");
}

/// Returns result and `seen` of a check of a host.
#[track_caller]
pub fn seen(json: &Value, name: &str) -> (String, String) {
    let mut checks = json["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}: {json}"));
    let text = |key: &str| check[key].as_str().unwrap().to_owned();
    (text("result"), text("seen"))
}

/// Writes a file, and makes its directory.
pub fn write(root: &Path, path: &str, text: &str) -> String {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
