//! `mesos-overlay setup`: its files are right, nothing that is there is changed, and real Mesos starts with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::program::{Outcome, Program};
use testbed::{paths, skip};

use crate::{BINARY, assert_codes, here, write};

/// Timeout of a step, long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the command with a root, and returns its outcome.
fn setup(root: &Path, arguments: &str) -> Outcome {
    let root = root.display().to_string();
    let mut all = vec!["setup", "--yes", "--root", &root];
    all.extend(arguments.split_whitespace());
    here().ask(&all).unwrap()
}

/// Returns all files below a directory with their content.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                let text = fs::read(&path).unwrap();
                found.insert(name, String::from_utf8_lossy(&text).into_owned());
            }
        }
    }
    found
}

/// Returns the state of a file in the output.
fn state(json: &Value, file: &str) -> String {
    let mut files = json["files"].as_array().unwrap().iter();
    let found = files.find(|found| found["file"] == file);
    found.unwrap_or_else(|| panic!("no {file}: {json}"))["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn each_role_gets_its_files_and_they_are_right() {
    let zk = "--zk zk://a:2181/mesos --quorum 1";
    for (role, arguments, expected) in [
        (
            "master",
            zk,
            &[
                "etc/mesos-master/modules",
                "etc/mesos/overlay/master.json",
                "etc/mesos/overlay/modules-master.json",
            ][..],
        ),
        (
            "agent",
            "--zk zk://a:2181/mesos --docker",
            &[
                "etc/NetworkManager/conf.d/10-mesos-overlay.conf",
                "etc/mesos-agent/isolation",
                "etc/mesos-agent/modules",
                "etc/mesos-agent/network_cni_config_dir",
                "etc/mesos-agent/network_cni_plugins_dir",
                "etc/mesos/overlay/agent.json",
                "etc/mesos/overlay/modules-agent.json",
                "etc/mesos/overlay/switched-on",
                "etc/systemd/network/10-mesos-overlay.network",
            ],
        ),
        (
            "agent-master",
            zk,
            &[
                "etc/NetworkManager/conf.d/10-mesos-overlay.conf",
                "etc/default/mesos-master",
                "etc/mesos-master/modules",
                "etc/mesos/overlay/agent-master.json",
                "etc/mesos/overlay/master.json",
                "etc/mesos/overlay/modules-master.json",
                "etc/systemd/network/10-mesos-overlay.network",
            ],
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        let module = paths::module().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/mesos/modules")).unwrap();
        std::os::unix::fs::symlink(
            &module,
            root.path()
                .join("usr/lib/mesos/modules/libmesos_overlay.so"),
        )
        .unwrap();
        let line = format!("--role {role} {arguments}");
        let printed = setup(root.path(), &line);
        assert_eq!(printed.code(), Some(0), "{printed}");
        assert!(
            !root.path().join("etc").exists(),
            "it wrote without --write"
        );
        let outcome = setup(root.path(), &format!("{line} --write"));
        assert_eq!(outcome.code(), Some(0), "{outcome}");
        let mut written = files(root.path());
        written.remove("usr/lib/mesos/modules/libmesos_overlay.so");
        assert_eq!(written.keys().collect::<Vec<_>>(), expected, "{role}");
        // The lists of modules lead to the configurations.
        let etc = root.path().join("etc/mesos/overlay");
        let list = if role == "agent" {
            "modules-agent.json"
        } else {
            "modules-master.json"
        };
        let list = etc.join(list).display().to_string();
        let root_text = root.path().display().to_string();
        assert_codes(
            &here(),
            &["check", "config", "--root", &root_text, &list],
            &[],
        );
        // A second run changes nothing.
        let again = setup(root.path(), &format!("{line} --write"));
        assert_eq!(again.code(), Some(0), "{again}");
        let json = again.json().unwrap();
        let mut states = json["files"].as_array().unwrap().iter();
        assert!(states.all(|file| file["state"] == "there"), "{json}");
        let mut after = files(root.path());
        after.remove("usr/lib/mesos/modules/libmesos_overlay.so");
        assert_eq!(after, written);
    }
}

#[test]
fn what_is_there_is_never_changed() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for (path, text) in [
        ("etc/mesos/zk", "zk://a:2181,b:2181/mesos\n"),
        ("etc/mesos-agent/isolation", "cgroups/all\n"),
        ("etc/mesos-agent/network_cni_config_dir", "/opt/cni\n"),
        (
            "etc/mesos/overlay/agent.json",
            "{\"cni_dir\": \"/opt/cni\"}",
        ),
        (
            "usr/lib/systemd/network/10-mesos-overlay.network",
            "[Match]\n",
        ),
    ] {
        write(root, path, text);
    }
    let before = files(root);
    let outcome = setup(root, "--role agent --write");
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert_eq!(
        outcome.codes().unwrap(),
        ["file-in-place".to_owned()].into()
    );
    let json = outcome.json().unwrap();
    for (file, expected) in [
        ("/etc/mesos-agent/isolation", "differs"),
        ("/etc/mesos-agent/network_cni_config_dir", "differs"),
        ("/etc/mesos/overlay/agent.json", "differs"),
        ("/etc/mesos-agent/modules", "written"),
    ] {
        assert_eq!(state(&json, file), expected, "{file}");
    }
    let after = files(root);
    for (path, text) in &before {
        assert_eq!(&after[path], text, "{path}");
    }
    assert!(
        !after.contains_key("etc/systemd/network/10-mesos-overlay.network"),
        "the package's is there"
    );
    // Where ZooKeeper is comes from the file of Mesos's packages.
    let findings = json["findings"].to_string();
    assert!(findings.contains("append ,network/cni"), "{findings}");
    assert!(
        findings.contains("where it differs (cni_dir, master, network_config in it)"),
        "{findings}"
    );
    let content = json["files"][0]["content"].as_str().unwrap();
    assert!(
        content.contains("\"master\": \"file:///etc/mesos/zk\""),
        "{content}"
    );
    let quorum = setup(root, "--role master");
    assert_eq!(quorum.code(), Some(2), "{quorum}");
    assert!(quorum.stderr.contains("give --quorum"), "{quorum}");
    write(root, "etc/mesos-master/quorum", "2\n");
    let master = setup(root, "--role master").json().unwrap();
    let content = master["files"][0]["content"].as_str().unwrap();
    assert!(content.contains("\"quorum\": 2"), "{content}");
}

#[test]
fn mistakes_are_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        ("", "give --role"),
        ("--role agent", "give --zk"),
        ("--role master --zk zk://a:2181/m", "give --quorum"),
        (
            "--role master --zk zk://me:secret@/m --quorum 1",
            "zk://***@/m",
        ),
        (
            "--role master --overlay web=10.0.0.1/8/24",
            "has bits set after its prefix",
        ),
        ("--role master --overlay web=44.128.0.0/16/24", "overlaps"),
        ("--role master --overlay web", "has no \"=\""),
        ("--role master --overlay host=10.0.0.0/8/24", "host"),
    ] {
        let outcome = setup(root.path(), &format!("--write {arguments}"));
        assert_eq!(outcome.code(), Some(2), "{arguments}: {outcome}");
        assert!(outcome.stderr.contains(words), "{arguments}: {outcome}");
        assert!(!outcome.stderr.contains("secret"), "{outcome}");
    }
    assert_eq!(files(root.path()), BTreeMap::new());
}

/// The files of a master and an agent, in a directory of their own, and real Mesos with them.
#[test]
fn mesos_starts_with_the_files() {
    const TEST: &str = "check::setup_mesos";
    if skip::require_mesos(TEST).is_none() || !skip::require_hosts(TEST) {
        return;
    }
    let config = ClusterConfig::new(1, Placement::Hosts).unwrap();
    let mut cluster = Cluster::prepare(&config).unwrap();
    let dir = cluster.run().dir().join("setup");
    let text = |path: &Path| path.display().to_string();
    let master_address = cluster.master.address().to_string();
    let module = text(&paths::module().unwrap());
    for (role, more) in [
        ("master", ["--log-dir", "log"]),
        ("agent", ["--cni-dir", "cni"]),
    ] {
        let node = if role == "master" {
            &cluster.master
        } else {
            &cluster.agents[0]
        };
        let directory = text(&dir.join(role));
        let place = text(&node.dir().join(more[1]));
        let arguments = [
            "setup",
            "--yes",
            "--write",
            "--layout",
            "plain",
            "--role",
            role,
            "--config-dir",
            &directory,
            "--module",
            &module,
            "--master",
            &master_address,
            "--overlay",
            "web=10.64.0.0/16/24",
            more[0],
            &place,
        ];
        // Network managers' files of the machine that runs the tests are none of its business.
        let image = text(&cluster.run().dir().join("image"));
        let outcome = Program::at(BINARY, node)
            .ask(&[&arguments[..], &["--root", &image]].concat())
            .unwrap();
        assert_eq!(outcome.code(), Some(0), "{outcome}");
        let below = format!("{image}{directory}");
        fs::create_dir_all(&dir).unwrap();
        fs::rename(&below, &directory).unwrap();
        let list = format!("{directory}/modules-{role}.json");
        assert_codes(&here(), &["check", "config", &list], &[]);
        let node = if role == "master" {
            &mut cluster.master
        } else {
            &mut cluster.agents[0]
        };
        // The launcher of the test bed reads no files for Mesos.
        node.set("MESOS_MODULES", fs::read_to_string(&list).unwrap());
    }
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let state = cluster.agents[0]
        .client()
        .get("/overlay-agent/overlay")
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(state["overlays"][0]["info"]["name"], "web", "{state}");
    assert_eq!(state["overlays"][0]["subnet"], "10.64.0.0/24", "{state}");
}

/// The commands of docs/install.md that switch an agent off know what the program has written.
#[test]
fn the_page_switches_off_what_the_program_has_switched_on() {
    let page = paths::workspace().join("docs/install.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, block) = page.split_once("<!-- run: agent off -->").unwrap();
    let commands = block.split("```").nth(1).unwrap();
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "etc/mesos-agent/ip", "10.0.0.1\n");
    write(root.path(), "etc/default/mesos-agent", "ULIMIT=1\n");
    let outcome = setup(root.path(), "--role agent --zk zk://a:2181/mesos --write");
    assert_eq!(outcome.code(), Some(0), "{outcome}");
    let etc = format!("{}/etc/", root.path().display());
    // Values that name paths stay as they are.
    let commands = commands
        .replace("cd /etc/", &format!("cd {etc}"))
        .replace("on=/etc/", &format!("on={etc}"))
        .replace("' /etc/default", &format!("' {etc}default"));
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-euc", &commands]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let left = files(&root.path().join("etc/mesos-agent"));
    assert_eq!(left.keys().collect::<Vec<_>>(), ["ip"]);
    assert!(!root.path().join("etc/mesos/overlay/switched-on").exists());
}

/// On a terminal the program asks, again after a wrong answer.
#[test]
fn questions_are_asked_on_a_terminal() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().display().to_string();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = here().command(&["setup", "--root", &root, "-o", "json"]);
    command.stdin(std::process::Stdio::from(terminal.slave));
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let mut keyboard = fs::File::from(terminal.master);
    let answers = "boss\nmaster\nweb\nweb=10.64.0.0/16/24\n\nzk://a:2181/mesos\n2\n";
    std::io::Write::write_all(&mut keyboard, answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for part in [
        "write master, agent, agent-master or both",
        "Range of the tunnels' ends (VTEPs) [44.128.0.0/20]: ",
        "has no \"=\"",
        "Quorum",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let content: Value =
        serde_json::from_str(json["files"][0]["content"].as_str().unwrap()).unwrap();
    assert_eq!(
        content["network"]["overlays"][0]["name"], "web",
        "{content}"
    );
    assert_eq!(content["zk"]["quorum"], 2, "{content}");
    assert_eq!(
        content["network"]["vtep_subnet"], "44.128.0.0/20",
        "{content}"
    );
}
