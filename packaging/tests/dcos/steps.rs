//! Commands of docs/dcos.md that replace the library on a node and put the former one back.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testbed::paths;

/// Directories in the commands, in the order in which a test gives others for them.
const DIRECTORIES: [&str; 2] = [
    "/opt/mesosphere/active/mesos-modules/lib/mesos",
    "/var/lib/mesos-overlay",
];

/// Runs the block of commands that has this text, as a shell does into which it is pasted.
fn run(text: &str, directories: [&Path; 2]) {
    let page = fs::read_to_string(paths::workspace().join("docs/dcos.md")).unwrap();
    let mut blocks = page.split("```").filter(|block| block.contains(text));
    let mut script = blocks.next().expect(text).to_owned();
    assert!(blocks.next().is_none(), "several blocks have {text}");
    for (old, new) in DIRECTORIES.into_iter().zip(directories) {
        script = script.replace(old, new.to_str().unwrap());
    }
    let script = format!("systemctl() {{ :; }}\n{script}");
    Command::new("sh").args(["-c", &script]).output().unwrap();
}

#[test]
fn the_former_library_is_kept_until_it_is_put_back() {
    let directories = [(); 2].map(|()| TempDir::new().unwrap());
    let [library, new] = directories
        .each_ref()
        .map(|directory| directory.path().join("liboverlay.so"));
    fs::write(&library, "of DC/OS").unwrap();
    let kept = library.with_extension("so.dcos");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let places = directories.each_ref().map(TempDir::path);
    for content in ["new", "newer"] {
        fs::write(&new, content).unwrap();
        run("ln liboverlay.so", places);
        assert_eq!(read(&library), content);
        assert_eq!(read(&kept), "of DC/OS");
    }
    run("mv liboverlay.so.dcos liboverlay.so", places);
    assert_eq!(read(&library), "of DC/OS");
    let entries = fs::read_dir(directories[0].path()).unwrap();
    assert_eq!(entries.count(), 1, "no file is left over");
}
