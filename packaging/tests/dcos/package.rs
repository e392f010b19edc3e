//! The package, built with and without the change as pkgpanda does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use packaging::built;
use serde_json::{Map, Value};
use testbed::mesos::Mesos;
use testbed::{install, skip};

use crate::checkout::{Checkout, copy, standin};
use crate::container::Container;

/// Identifier of the package that is built.
pub const ID: &str = "mesos-modules--0123456789abcdef0123456789abcdef01234567";

/// Returns Mesos. `None`: it or a tool is missing, and the test is reported as skipped.
pub fn require(test: &str) -> Option<Mesos> {
    if let Some(missing) = install::missing(install::SDK) {
        skip::skip(test, &missing);
        return None;
    }
    skip::require_mesos(test)
}

/// Unpacks the sources of the package into `/pkg/src`, as pkgpanda does. The git source is the
/// stand-in.
fn fetch(checkout: &Checkout, container: &Container, sdk: &Path) {
    let info: Value = serde_json::from_str(&checkout.read("buildinfo.json")).unwrap();
    let single = info.get("single_source");
    let sources = match single {
        Some(source) => Map::from_iter([("mesos-modules".to_owned(), source.clone())]),
        None => info["sources"].as_object().unwrap().clone(),
    };
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    for (name, source) in &sources {
        let directory = container.path("pkg/src").join(name);
        fs::create_dir_all(&directory).unwrap();
        if source["kind"] == "git" {
            assert_eq!(
                keys(source),
                ["git", "kind", "ref", "ref_origin"]
                    .map(String::from)
                    .into()
            );
            copy(&standin().join("mesos-modules"), &directory);
            continue;
        }
        assert_eq!(source["kind"], "url_extract");
        assert_eq!(
            keys(source),
            ["kind", "sha1", "url"].map(String::from).into()
        );
        let sum = Command::new("sha1sum").arg(sdk).output().unwrap().stdout;
        let sum = String::from_utf8(sum).unwrap();
        assert!(sum.starts_with(source["sha1"].as_str().unwrap()), "{sum}");
        let mut tar = Command::new("tar");
        tar.arg("-xf")
            .arg(sdk)
            .arg("--strip-components=1")
            .arg("-C")
            .arg(&directory);
        assert!(tar.status().unwrap().success());
    }
}

/// Runs the package's build, as pkgpanda does.
fn build(checkout: &Checkout, container: &Container, sdk: &Path) -> Output {
    fetch(checkout, container, sdk);
    copy(&checkout.file("."), &container.path("pkg/build"));
    container.package("mesos-modules", ID);
    let mut bash = container.command("/bin/bash");
    bash.args([
        "-o",
        "nounset",
        "-o",
        "pipefail",
        "-o",
        "errexit",
        "/pkg/build/build",
    ])
    .env_clear()
    .env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    .env("NUM_CORES", "2")
    .env("PKG_VERSION", "0123456789abcdef0123456789abcdef01234567")
    .env("PKG_NAME", "mesos-modules")
    .env("PKG_ID", ID)
    .env("PKG_PATH", format!("/opt/mesosphere/packages/{ID}"))
    .env("PKG_VARIANT", "<default>");
    bash.output().unwrap()
}

/// Builds the package with the change.
pub fn with_change(container: &Container) {
    let (checkout, sdk) = (Checkout::new(), built::get().unwrap().sdk);
    checkout.apply(&sdk);
    succeed(&build(&checkout, container, &sdk));
}

fn succeed(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Returns all files of the package with permissions and content.
fn files(container: &Container) -> BTreeMap<String, (u32, Vec<u8>)> {
    let root = container.path("mesosphere/packages").join(ID);
    let mut files = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let mode = path.metadata().unwrap().permissions().mode();
            files.insert(name, (mode, fs::read(&path).unwrap()));
        }
    }
    files
}

#[test]
fn only_the_overlay_library_differs() {
    const TEST: &str = "only_the_overlay_library_differs";
    let Some(mesos) = require(TEST) else { return };
    let Some(container) = Container::new(TEST, &mesos) else {
        return;
    };
    let sdk = built::get().unwrap().sdk;
    succeed(&build(&Checkout::new(), &container, &sdk));
    let before = files(&container);
    let container = Container::new(TEST, &mesos).unwrap();
    with_change(&container);
    let after = files(&container);

    let modes = |files: &BTreeMap<String, (u32, Vec<u8>)>| -> BTreeMap<String, u32> {
        files
            .iter()
            .map(|(name, (mode, _))| (name.clone(), *mode))
            .collect()
    };
    assert_eq!(modes(&after), modes(&before));
    let differ = before
        .keys()
        .filter(|name| before[*name].1 != after[*name].1);
    assert_eq!(differ.collect::<Vec<_>>(), ["lib/mesos/liboverlay.so"]);
    assert!(
        before.contains_key("bin/mesos-journald-logger"),
        "{:?}",
        before.keys()
    );
    check_library(
        &container
            .path("mesosphere/packages")
            .join(ID)
            .join("lib/mesos/liboverlay.so"),
    );
}

/// Checks names and dependencies of the library in the place of DC/OS's.
fn check_library(library: &Path) {
    let run = |program: &str, option: &str| {
        let output = Command::new(program)
            .arg(option)
            .arg(library)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let symbols = run("nm", "-D");
    let defined = symbols
        .lines()
        .filter(|line| !line.contains(" U ") && !line.contains(" w "));
    let names: BTreeSet<_> = defined
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    let manifests = [
        "com_mesosphere_mesos_OverlayAgentManager",
        "com_mesosphere_mesos_OverlayMasterManager",
    ];
    assert_eq!(names, manifests.into());
    let dynamic = run("readelf", "-d");
    assert!(dynamic.contains("[/opt/mesosphere/lib]"), "{dynamic}");
    assert!(!dynamic.contains("libmesos"), "{dynamic}");
}

#[test]
fn a_package_that_cannot_be_changed_is_not_built() {
    const TEST: &str = "a_package_that_cannot_be_changed_is_not_built";
    let Some(mesos) = require(TEST) else { return };
    let Some(container) = Container::new(TEST, &mesos) else {
        return;
    };
    let (checkout, sdk) = (Checkout::new(), built::get().unwrap().sdk);
    checkout.apply(&sdk);
    fs::remove_dir_all(container.path("mesosphere/packages/mesos--standin/include/mesos")).unwrap();
    let output = build(&checkout, &container, &sdk);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("Mesos's headers are not complete"), "{said}");

    let container = Container::new(TEST, &mesos).unwrap();
    let script = checkout.read("build").replace(" --target install", "");
    fs::write(checkout.file("build"), script).unwrap();
    let output = build(&checkout, &container, &sdk);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(
        said.contains("lib/mesos/liboverlay.so that could be replaced"),
        "{said}"
    );
}
