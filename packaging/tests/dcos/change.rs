//! Applying the change and taking it back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::checkout::{Checkout, SDK};

const URL: &str = "https://packages.invalid/mesos-overlay-sdk-1.2.3-x86_64.tar.gz";
const SHA1: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn sources(checkout: &Checkout) -> Value {
    let info: Value = serde_json::from_str(&checkout.read("buildinfo.json")).unwrap();
    assert_eq!(info["requires"], json!(["boost-libs", "mesos"]));
    assert!(info.get("single_source").is_none());
    info["sources"].clone()
}

fn apply(checkout: &Checkout, url: &str) -> String {
    let output = checkout.run(&["--sdk-url", url, "--sdk-sha1", SHA1]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the error for these arguments, which change nothing.
fn error(checkout: &Checkout, arguments: &[&str]) -> String {
    let files = ["buildinfo.json", "build"].map(|name| fs::read(checkout.file(name)).ok());
    let output = checkout.run(arguments);
    assert!(!output.status.success(), "{output:?}");
    let now = ["buildinfo.json", "build"].map(|name| fs::read(checkout.file(name)).ok());
    assert_eq!(now, files);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("Traceback"), "{error}");
    error
}

#[test]
fn the_package_gets_a_source_and_a_step() {
    let checkout = Checkout::new();
    let before: Value = serde_json::from_str(&checkout.read("buildinfo.json")).unwrap();
    let build = checkout.read("build");
    apply(&checkout, URL);
    let expected = json!({
        "mesos-modules": before["single_source"],
        SDK: { "kind": "url_extract", "url": URL, "sha1": SHA1 },
    });
    assert_eq!(sources(&checkout), expected);
    let step = checkout.read("build");
    assert!(step.starts_with(&build) && step.contains(SDK), "{step}");
    let mode = fs::metadata(checkout.file("build"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111, "pkgpanda runs it");
}

#[test]
fn a_second_time_changes_nothing_and_another_sdk_replaces_the_first() {
    let checkout = Checkout::new();
    apply(&checkout, URL);
    let (info, build) = (checkout.read("buildinfo.json"), checkout.read("build"));
    assert!(apply(&checkout, URL).starts_with("nothing to change"));
    assert_eq!(checkout.read("buildinfo.json"), info);
    assert_eq!(checkout.read("build"), build);
    apply(&checkout, &URL.replace("1.2.3", "1.2.4"));
    assert_eq!(
        checkout.read("buildinfo.json"),
        info.replace("1.2.3", "1.2.4")
    );
    assert_eq!(checkout.read("build"), build);
}

#[test]
fn the_change_is_taken_back() {
    let (checkout, original) = (Checkout::new(), Checkout::new());
    for _ in 0..2 {
        apply(&checkout, URL);
        let output = checkout.run(&["--undo"]);
        assert!(output.status.success(), "{output:?}");
        for name in ["buildinfo.json", "build"] {
            assert_eq!(checkout.read(name), original.read(name));
        }
    }
    assert!(checkout.run(&["--undo"]).status.success());
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let checkout = Checkout::new();
    let with = |url: &str, sha1: &str| error(&checkout, &["--sdk-url", url, "--sdk-sha1", sha1]);
    assert!(with("https://packages.invalid/sdk", SHA1).contains("--sdk-url has to be"));
    assert!(with(URL, "abc").contains("--sdk-sha1 has to have 40"));
    assert!(error(&checkout, &[]).contains("--sdk-url is missing"));
    assert!(error(&checkout, &["--sdk-url", URL]).contains("--sdk-sha1 and --sdk-file"));
    let file = ["--sdk-url", URL, "--sdk-file", "/nonexistent"];
    assert!(error(&checkout, &file).contains("--sdk-file: "));

    let apply = ["--sdk-url", URL, "--sdk-sha1", SHA1];
    let text = r#"{"sources": {"a": {}, "b": {}}}"#;
    fs::write(checkout.file("buildinfo.json"), text).unwrap();
    assert!(error(&checkout, &apply).contains("no single_source"));
    fs::write(checkout.file("buildinfo.json"), "{").unwrap();
    assert!(error(&checkout, &apply).contains("buildinfo.json: "));
    fs::remove_file(checkout.file("buildinfo.json")).unwrap();
    assert!(error(&checkout, &apply).contains("is this a checkout of DC/OS?"));
}

#[test]
fn a_step_that_was_edited_is_not_guessed() {
    let checkout = Checkout::new();
    apply(&checkout, URL);
    let build = checkout.read("build");
    let end = "# end of mesos-overlay\n";
    fs::write(checkout.file("build"), build.replace(end, "")).unwrap();
    let error = error(&checkout, &["--undo"]);
    assert!(
        error.contains("\"# end of mesos-overlay\" is missing"),
        "{error}"
    );
}
