//! Switching the modules on and off on hosts whose Mesos has flags and variables of its own. The commands
//! of the page are run with another directory instead of `/etc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::page;

/// Files below `/etc`, by their paths.
type Files = BTreeMap<String, String>;

/// A directory that takes the place of `/etc`.
struct Etc(TempDir);

impl Etc {
    /// Makes the directories of Mesos and of the package, and these files.
    fn new(files: &[(&str, &str)]) -> Etc {
        let etc = Etc(tempfile::tempdir().unwrap());
        for directory in ["default", "mesos-agent", "mesos-master", "mesos/overlay"] {
            fs::create_dir_all(etc.0.path().join(directory)).unwrap();
        }
        let zk = ("mesos/zk", "zk://a:2181,b:2181/mesos\n");
        for (path, text) in files.iter().copied().chain([zk]) {
            fs::write(etc.0.path().join(path), text).unwrap();
        }
        etc
    }

    /// Runs commands of the page; returns what they printed.
    #[track_caller]
    fn run(&self, commands: &str) -> String {
        let etc = self.0.path().to_str().unwrap();
        // The modules' own paths are values, and stay.
        let commands = commands.replace("/etc/", &format!("{etc}/"));
        let mut shell = Command::new("sh");
        let output = shell.args(["-euc", &format!("exec 2>&1\n{commands}")]);
        let output = output.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{commands}: {text}");
        text.replace(etc, "/etc")
    }

    /// Returns the value of a variable that the script of Mesos's packages gives to Mesos.
    fn variable(&self, role: &str, name: &str) -> String {
        let script = format!("set -a; . /etc/default/mesos-{role}; printenv {name} || true");
        self.run(&script).trim().to_owned()
    }

    fn read(&self, path: &str) -> String {
        let etc = self.0.path().to_str().unwrap();
        fs::read_to_string(self.0.path().join(path))
            .unwrap()
            .replace(etc, "/etc")
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        list(self.0.path(), self.0.path(), &mut files);
        files
    }
}

fn list(root: &Path, directory: &Path, files: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, files);
            continue;
        }
        let inside = path.strip_prefix(root).unwrap().display().to_string();
        files.insert(inside, fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn an_agent_without_flags_gets_them_and_loses_them() {
    let etc = Etc::new(&[("default/mesos-agent", "ULIMIT=1\n")]);
    let before = etc.files();
    assert_eq!(etc.run(&page::commands("agent")), "");
    assert_eq!(
        etc.read("mesos-agent/modules"),
        "file:///etc/mesos/overlay/modules-agent.json\n"
    );
    assert_eq!(
        etc.read("mesos-agent/isolation"),
        "posix/cpu,posix/mem,network/cni\n"
    );
    assert_eq!(
        etc.read("mesos-agent/network_cni_config_dir"),
        "/etc/mesos/cni\n"
    );
    assert_eq!(
        etc.variable("agent", "MESOS_MASTER"),
        "zk://a:2181,b:2181/mesos"
    );
    let on = etc.files();
    let said = etc.run(&page::commands("agent"));
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(etc.files(), on, "a second time changes nothing");
    etc.run(&page::commands("agent off"));
    assert_eq!(etc.files(), before);
    etc.run(&page::commands("agent off"));
    assert_eq!(etc.files(), before, "a second time changes nothing");
}

/// Files without an end of the last line, too.
#[test]
fn flags_and_variables_of_an_agent_stay() {
    let etc = Etc::new(&[
        ("default/mesos-agent", "export MESOS_MASTER=own"),
        ("mesos-agent/isolation", "cgroups/cpu,docker/runtime"),
        ("mesos-agent/modules", "/opt/own.json"),
        ("mesos-agent/network_cni_config_dir", "/etc/mesos/cni\n"),
        ("mesos-agent/network_cni_plugins_dir", "/opt/own\n"),
    ]);
    let before = etc.files();
    for _ in 0..2 {
        let said = etc.run(&page::commands("agent"));
        assert!(said.contains("modules stays: /opt/own.json\n"), "{said}");
        let mut expected = before.clone();
        let isolation = "cgroups/cpu,docker/runtime,network/cni".to_owned();
        expected.insert("mesos-agent/isolation".to_owned(), isolation);
        expected.insert(
            "default/mesos-agent".to_owned(),
            "export MESOS_MASTER=own\n".to_owned(),
        );
        let noted = "network/cni\n".to_owned();
        expected.insert("mesos/overlay/switched-on".to_owned(), noted);
        assert_eq!(etc.files(), expected);
    }
    etc.run(&page::commands("agent off"));
    let mut after = etc.files();
    // An end of the line is no change.
    let own = after.get_mut("default/mesos-agent").unwrap();
    assert_eq!(own.pop(), Some('\n'));
    assert_eq!(after, before);
}

#[test]
fn network_cni_of_the_operator_stays() {
    let isolation = ("mesos-agent/isolation", "network/cni,posix/cpu\n");
    let etc = Etc::new(&[isolation]);
    etc.run(&page::commands("agent"));
    assert_eq!(etc.read(isolation.0), isolation.1);
    etc.run(&page::commands("agent off"));
    assert_eq!(etc.read(isolation.0), isolation.1);
}

/// Mesos would not start with the flag twice.
#[test]
fn isolation_of_a_variable_is_not_given_twice() {
    for (file, line) in [
        ("default/mesos", "ISOLATION=posix/cpu\n"),
        ("default/mesos-agent", "export MESOS_ISOLATION=posix/cpu\n"),
    ] {
        let etc = Etc::new(&[(file, line)]);
        let said = etc.run(&page::commands("agent"));
        let line = line.trim_end();
        let expected = format!("/etc/{file}:{line}\nappend ,network/cni to this value\n");
        assert_eq!(said, expected);
        assert!(!etc.files().contains_key("mesos-agent/isolation"));
        etc.run(&page::commands("agent off"));
        assert_eq!(etc.read(file).trim_end(), line);
    }
}

/// What was changed after switching on is the operator's.
#[test]
fn flags_that_were_changed_later_stay() {
    let etc = Etc::new(&[]);
    etc.run(&page::commands("agent"));
    let path = etc.0.path().join("mesos-agent");
    fs::write(path.join("isolation"), "posix/cpu,network/cni,own\n").unwrap();
    fs::write(path.join("network_cni_plugins_dir"), "/opt/own\n").unwrap();
    etc.run(&page::commands("agent off"));
    assert_eq!(etc.read("mesos-agent/isolation"), "posix/cpu,own\n");
    assert_eq!(
        etc.read("mesos-agent/network_cni_plugins_dir"),
        "/opt/own\n"
    );
    assert!(!path.join("modules").exists());
}

#[test]
fn masters_see_where_they_meet() {
    let etc = Etc::new(&[
        ("default/mesos-master", "ULIMIT=1"),
        ("mesos-master/quorum", "2\n"),
    ]);
    for _ in 0..2 {
        etc.run(&page::commands("masters"));
        etc.run(&page::commands("master"));
    }
    let zk = etc.variable("master", "MESOS_ZK");
    assert_eq!(zk, "zk://a:2181,b:2181/mesos");
    assert_eq!(etc.variable("master", "MESOS_QUORUM"), "2");
    assert_eq!(etc.variable("master", "ULIMIT"), "1");
    assert_eq!(etc.read("default/mesos-master").lines().count(), 3);
    etc.run(&page::commands("master off"));
    assert_eq!(etc.read("default/mesos-master"), "ULIMIT=1\n");
    assert!(!etc.files().contains_key("mesos-master/modules"));
}

#[test]
fn flags_and_variables_of_a_master_stay() {
    let own = "MESOS_ZK=own\nMESOS_QUORUM=$(cat /etc/own)\n";
    let etc = Etc::new(&[
        ("default/mesos-master", own),
        ("mesos-master/modules", "file:///opt/own.json\n"),
    ]);
    let before = etc.files();
    etc.run(&page::commands("masters"));
    let said = etc.run(&page::commands("master"));
    assert_eq!(said, "modules stays: file:///opt/own.json\n");
    assert_eq!(etc.files(), before);
    etc.run(&page::commands("master off"));
    assert_eq!(etc.files(), before);
}
