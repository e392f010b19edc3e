//! The archive, installed by its script below a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use packaging::contents::Format;
use packaging::kept::{Kept, NEXT_VERSION};
use packaging::packages::{self, VERSION};

use crate::page;

/// Runs the commands of the page in a directory, for the root directory `root` instead of `/`.
#[track_caller]
fn run(commands: &str, directory: &Path, root: &Path) -> String {
    let given = commands.trim_end().to_owned() + " " + root.to_str().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("exec 2>&1\n{given}")]);
    let output = shell.current_dir(directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{given}: {text}");
    text
}

/// A newer archive replaces configuration that nobody has changed, and removes files that it lacks. A
/// relative directory is one of the working directory.
fn upgrades(kept: &Kept, work: &Path, root: &Path) {
    let etc = root.join("etc/mesos/overlay");
    let list = root.join("usr/share/mesos-overlay/installed");
    let gone = root.join("usr/share/mesos-overlay/gone");
    fs::write(&gone, "").unwrap();
    let installed = fs::read_to_string(&list).unwrap();
    fs::write(
        &list,
        format!("{installed}00  usr/share/mesos-overlay/gone\n"),
    )
    .unwrap();
    let foreign = etc.join("master.json.new");
    fs::write(&foreign, "foreign").unwrap();
    let unpack = format!(
        "tar -C {} -xzf {}; echo",
        work.display(),
        kept.next.archive.display()
    );
    run(&unpack, work, root);
    let install = format!("work/mesos-overlay-{NEXT_VERSION}/install.sh root && :");
    let said = run(&install, root.parent().unwrap(), root);
    assert_eq!(
        said,
        "kept /etc/mesos/overlay/agent.json; the new file is /etc/mesos/overlay/agent.json.new\n"
    );
    let text = |name: &str| fs::read_to_string(etc.join(name)).unwrap();
    assert_eq!(text("agent.json"), "changed");
    for name in ["agent.json.new", "master.json", "modules-agent.json"] {
        assert!(text(name).ends_with("}\n\n"), "{name} is the former one");
    }
    assert!(!gone.exists());
    assert_eq!(text("master.json.new"), "foreign");
    fs::remove_file(foreign).unwrap();
}

/// Unknown arguments end the script before it installs anything.
#[test]
fn wrong_arguments_of_the_script_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("files")).unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let script = directory.path().join("install.sh");
    fs::write(&script, include_bytes!("../../archive/install.sh")).unwrap();
    for arguments in [
        &["root", "--remove"][..],
        &["--help"],
        &["--remove", "root", "more"],
    ] {
        let mut shell = Command::new("sh");
        shell
            .arg(&script)
            .args(arguments)
            .current_dir(directory.path());
        let output = shell.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let root = fs::read_dir(directory.path().join("root")).unwrap();
        assert_eq!(root.count(), 0, "{arguments:?}");
    }
}

#[test]
fn the_archive_is_installed_and_removed() {
    let Some(needs) = crate::needs("the_archive_is_installed_and_removed") else {
        return;
    };
    let kept = &needs.kept;
    let directory = tempfile::tempdir().unwrap();
    let (work, root) = (directory.path().join("work"), directory.path().join("root"));
    fs::create_dir(&work).unwrap();
    fs::create_dir(&root).unwrap();
    let name = kept.packages.archive.file_name().unwrap();
    fs::copy(&kept.packages.archive, work.join(name)).unwrap();
    assert_eq!(run(&page::commands("archive"), &work, &root), "");
    for file in packages::of(&kept.files, Format::Archive) {
        let path = root.join(&file.path);
        let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        assert!(content == file.content, "{}", file.path);
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, file.mode, "{}", file.path);
    }

    // A second installation keeps what was changed.
    let agent = root.join("etc/mesos/overlay/agent.json");
    fs::write(&agent, "changed").unwrap();
    let install = format!("mesos-overlay-{VERSION}/install.sh");
    let said = run(&install, &work, &root);
    assert!(
        said.starts_with("kept /etc/mesos/overlay/agent.json;"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&agent).unwrap(), "changed");
    assert!(agent.with_extension("json.new").exists());
    upgrades(&needs.kept, &work, &root);

    let said = run(&page::commands("archive off"), &work, &root);
    assert_eq!(
        said,
        "kept /etc/mesos/overlay/agent.json, which was changed\n"
    );
    assert_eq!(fs::read_to_string(&agent).unwrap(), "changed");
    fs::remove_file(&agent).unwrap();
    run(&page::commands("archive off"), &work, &root);
    let mut find = Command::new("find");
    find.arg(&root).args(["-name", "*mesos*"]);
    assert_eq!(
        String::from_utf8(find.output().unwrap().stdout).unwrap(),
        ""
    );
}
