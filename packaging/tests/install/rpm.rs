//! The RPM package, with rpm of this machine in a directory of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use packaging::contents::Format;
use packaging::kept::NEXT_VERSION;
use packaging::packages;

use crate::page;

/// Makes rpm's database in a root directory.
fn init(root: &Path) {
    let mut rpm = Command::new("rpm");
    rpm.arg("--root").arg(root).arg("--initdb");
    assert!(rpm.status().unwrap().success());
}

/// Runs a command of rpm in a root directory. Dependencies are not there, so they are left out.
#[track_caller]
fn run(commands: &str, packages: &Path, root: &Path) -> String {
    let mut rpm = format!("rpm --root {}", root.display());
    if !commands.starts_with("rpm --query") {
        rpm += " --nodeps";
    }
    let commands = commands.replacen("rpm", &rpm, 1);
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("exec 2>&1\n{commands}")]);
    let output = shell.current_dir(packages).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{commands}: {text}");
    text
}

/// Paths of all files below a directory, but for rpm's database.
fn files(root: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.arg(root).args(["!", "-type", "d", "-printf", "%P\n"]);
    let output = find.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut files: Vec<String> = text.lines().map(str::to_owned).collect();
    files.retain(|path| !path.contains("/rpm/") && !path.contains("/.rpmdb/"));
    files.sort();
    files
}

#[test]
fn an_rpm_package_is_installed_upgraded_and_erased() {
    let Some(needs) = crate::needs("an_rpm_package_is_installed_upgraded_and_erased") else {
        return;
    };
    let kept = needs.kept;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let packages = kept.packages.rpm.parent().unwrap();
    init(root);
    run(&page::commands("rpm"), packages, root);
    let expected = packages::of(&kept.files, Format::Rpm);
    let expected: Vec<&String> = expected.iter().map(|file| &file.path).collect();
    assert_eq!(files(root).iter().collect::<Vec<_>>(), expected);
    assert_eq!(run("rpm --verify mesos-overlay", packages, root), "");

    let agent = root.join("etc/mesos/overlay/agent.json");
    let text = fs::read_to_string(&agent).unwrap();
    fs::write(&agent, format!("{text}changed\n")).unwrap();
    let name = kept.next.rpm.file_name().unwrap().to_str().unwrap();
    run(&format!("rpm --upgrade {name}"), packages, root);
    let query = run("rpm --query mesos-overlay", packages, root);
    assert!(query.contains(NEXT_VERSION), "{query}");
    assert_eq!(
        fs::read_to_string(&agent).unwrap(),
        format!("{text}changed\n")
    );
    let new = agent.with_extension("json.rpmnew");
    assert_eq!(fs::read_to_string(&new).unwrap(), format!("{text}\n"));

    run(&page::commands("rpm off"), packages, root);
    let mut left = files(root);
    left.sort();
    let overlay = "etc/mesos/overlay";
    let saved = [
        format!("{overlay}/agent.json.rpmnew"),
        format!("{overlay}/agent.json.rpmsave"),
    ];
    assert_eq!(left, saved);
}

/// Files of the same names that were written by hand stay at the first installation.
#[test]
fn an_rpm_package_keeps_files_of_an_installation_by_hand() {
    let test = "an_rpm_package_keeps_files_of_an_installation_by_hand";
    let Some(needs) = crate::needs(test) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    init(root);
    let agent = root.join("etc/mesos/overlay/agent.json");
    fs::create_dir_all(agent.parent().unwrap()).unwrap();
    fs::write(&agent, "own").unwrap();
    let packages = needs.kept.packages.rpm.parent().unwrap();
    run(&page::commands("rpm"), packages, root);
    assert_eq!(fs::read_to_string(&agent).unwrap(), "own");
    assert!(agent.with_extension("json.rpmnew").exists());
}

/// Without changed files nothing is left, no directory either.
#[test]
fn an_erased_rpm_package_leaves_nothing() {
    let Some(needs) = crate::needs("an_erased_rpm_package_leaves_nothing") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let packages = needs.kept.packages.rpm.parent().unwrap();
    init(root);
    run(&page::commands("rpm"), packages, root);
    run(&page::commands("rpm off"), packages, root);
    let mut find = Command::new("find");
    find.arg(root).args(["-name", "*mesos*"]);
    assert_eq!(
        String::from_utf8(find.output().unwrap().stdout).unwrap(),
        ""
    );
}
