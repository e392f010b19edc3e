//! Applying the change and taking it back.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use testbed::{paths, skip};

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

/// Files of the package.
const FILES: [&str; 2] = ["buildinfo.json", "build"];

/// Returns the content of all files of the package, with their names.
fn content(checkout: &Checkout) -> Vec<(String, Option<Vec<u8>>)> {
    let entries = fs::read_dir(checkout.file(".")).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).ok())
        })
        .collect();
    files.sort();
    files
}

fn undo(checkout: &Checkout) {
    let output = checkout.run(&["--undo"]);
    assert!(output.status.success(), "{output:?}");
}

/// Returns the error for these arguments, which change nothing.
fn error(checkout: &Checkout, arguments: &[&str]) -> String {
    let before = content(checkout);
    let output = checkout.run(arguments);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(content(checkout), before);
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
        undo(&checkout);
        assert_eq!(content(&checkout), content(&original));
    }
    undo(&checkout);
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

#[test]
fn files_keep_their_form() {
    let info = "{\"single_source\" :\r\n {\"kind\": [1,\r\n2]} , \"x\": \"\u{e9}{\\\"\"}";
    let before = [info, "#!/bin/bash\r\ntrue"];
    let checkout = Checkout::new();
    for (name, text) in FILES.into_iter().zip(before) {
        fs::write(checkout.file(name), text).unwrap();
    }
    apply(&checkout, URL);
    assert!(apply(&checkout, URL).starts_with("nothing to change"));
    for name in FILES {
        let text = checkout.read(name);
        let bare = text.replace("\r\n", "").contains('\n');
        assert!(text.contains("\r\n") && !bare, "{text:?}");
    }
    let changed: Value = serde_json::from_str(&checkout.read(FILES[0])).unwrap();
    let source = &changed["sources"]["mesos-modules"];
    assert_eq!(source, &json!({ "kind": [1, 2] }));
    assert_eq!(changed["x"], "\u{e9}{\"");
    undo(&checkout);
    assert_eq!(FILES.map(|name| checkout.read(name)), before);
}

#[test]
fn symbolic_links_stay() {
    let (checkout, original) = (Checkout::new(), Checkout::new());
    let (link, file) = (checkout.file("build"), checkout.path().join("script"));
    fs::rename(&link, &file).unwrap();
    symlink("../../script", &link).unwrap();
    apply(&checkout, URL);
    assert!(fs::read_to_string(&file).unwrap().contains(SDK));
    undo(&checkout);
    assert!(link.is_symlink());
    assert_eq!(content(&checkout), content(&original));
}

#[test]
fn a_file_that_cannot_be_read_or_written_leaves_both_as_they_were() {
    let apply = ["--sdk-url", URL, "--sdk-sha1", SHA1];
    for name in FILES {
        let checkout = Checkout::new();
        let new = checkout.file(&format!("{name}.new"));
        fs::create_dir(&new).unwrap();
        let said = error(&checkout, &apply);
        assert!(said.contains(new.to_str().unwrap()), "{said}");
        assert!(said.contains("nothing is changed"), "{said}");

        let checkout = Checkout::new();
        fs::write(checkout.file(name), b"{}\n# \xff\n").unwrap();
        let said = error(&checkout, &apply);
        assert!(said.contains(&format!("{name}: it is not UTF-8")), "{said}");
    }
}

/// A half of the change must not build the package without the modules in silence. So `build`, which
/// fails without the source, is changed first, and changed back last.
#[test]
fn a_file_that_cannot_be_replaced_leaves_a_build_that_fails() {
    const TEST: &str = "a_file_that_cannot_be_replaced_leaves_a_build_that_fails";
    // A mount point can be written, but not be replaced by another file.
    const SCRIPT: &str = r#"mount --bind "$0" "$0" && exec "$@""#;
    let unshare = Command::new("unshare").args(["--mount", "true"]).output();
    if !unshare.is_ok_and(|output| output.status.success()) {
        return skip::skip(TEST, "cannot make a mount namespace");
    }
    let checkout = Checkout::new();
    let step = |checkout: &Checkout| checkout.read("build").contains(SDK);
    let source = |checkout: &Checkout| checkout.read("buildinfo.json").contains(SDK);
    for (file, arguments) in [
        (FILES[0], &["--sdk-url", URL, "--sdk-sha1", SHA1][..]),
        (FILES[1], &["--undo"][..]),
    ] {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", SCRIPT])
            .arg(checkout.file(file))
            .arg(paths::workspace().join("packaging/dcos/apply"))
            .arg(checkout.path())
            .args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && !said.contains("Traceback"),
            "{said}"
        );
        assert!(said.contains("is changed; run this again"), "{said}");
        assert!(step(&checkout) && !source(&checkout), "{arguments:?}");
        assert_eq!(content(&checkout).len(), 2, "no file is left over");
        let output = checkout.run(arguments);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(step(&checkout), file == FILES[0]);
        assert_eq!(source(&checkout), file == FILES[0]);
    }
}
