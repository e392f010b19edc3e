//! Configuration files with mistakes, and files that contradict each other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::{assert_codes, here, write};

/// Directory with a right file of each kind.
struct Files {
    dir: tempfile::TempDir,
    master: Value,
    agent: Value,
    modules: Value,
}

impl Files {
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let master = json!({
            "replicated_log_dir": "/var/lib/mesos",
            "network": testbed::cluster::default_network(),
        });
        let agent =
            json!({"cni_dir": "/etc/mesos/cni", "network_config": {"docker_bridge": false}});
        let path = dir.path().join("agent.json");
        let modules = json!({"libraries": [{
            "file": testbed::paths::module().unwrap(),
            "modules": [{
                "name": "com_mesosphere_mesos_OverlayAgentManager",
                "parameters": [{"key": "agent_config", "value": path}],
            }],
        }]});
        Files {
            dir,
            master,
            agent,
            modules,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Writes the files, and asserts what is found in those of these names.
    #[track_caller]
    fn finds(&self, names: &[&str], expected: &[&str]) {
        write(self.dir.path(), "master.json", &self.master.to_string());
        write(self.dir.path(), "agent.json", &self.agent.to_string());
        write(self.dir.path(), "modules.json", &self.modules.to_string());
        let paths: Vec<String> = names.iter().map(|name| self.path(name)).collect();
        let mut arguments = vec!["check", "config"];
        arguments.extend(paths.iter().map(String::as_str));
        assert_codes(&here(), &arguments, expected);
    }
}

const ALL: &[&str] = &["master.json", "agent.json", "modules.json"];

#[test]
fn right_files_are_well() {
    Files::new().finds(ALL, &[]);
    for name in [
        "master.json",
        "agent.json",
        "modules-master.json",
        "modules-agent.json",
    ] {
        let path = format!("../../packaging/config/{name}");
        let kind = if name.starts_with("modules") {
            "modules"
        } else {
            ""
        };
        // The packages' lists name a library and files that are not installed here.
        let expected: &[&str] = match kind {
            "modules" => &["library-missing", "config-unreadable"],
            _ => &[],
        };
        assert_codes(&here(), &["check", "config", &path], expected);
    }
}

/// Changes one file, and says what is found in it.
type Mistake = (&'static str, fn(&mut Files), &'static [&'static str]);

#[test]
fn mistakes_in_single_files_are_found() {
    let mistakes: &[Mistake] = &[
        (
            "master.json",
            |f| f.master["network"]["vtep_subnet"] = "44.128.0.1/20".into(),
            &["config-invalid"],
        ),
        (
            "master.json",
            |f| f.master["network"]["overlays"][0]["subnet"] = "44.0.0.0/8".into(),
            &["config-invalid"],
        ),
        (
            "master.json",
            |f| f.master["overlays"] = json!([]),
            &["config-doubtful"],
        ),
        (
            "master.json",
            |f| f.master["zk"] = json!({"url": "zk://a:2181/m"}),
            &["config-invalid"],
        ),
        (
            "master.json",
            |f| f.master["zk"] = json!({"url": "zk://a:1,b:1,c:1/m", "quorum": 1}),
            &["config-doubtful"],
        ),
        (
            "master.json",
            |f| f.master["zk"] = json!({"url": "zk://a:1,b:1,c:1/m", "quorum": 2}),
            &[],
        ),
        (
            "master.json",
            |f| f.master["zk"] = json!({"url": "zk://9.1.1.1:2181/m", "quorum": 1}),
            &["address-in-range"],
        ),
        (
            "agent.json",
            |f| _ = f.agent.as_object_mut().unwrap().remove("cni_dir"),
            &["config-invalid"],
        ),
        (
            "agent.json",
            |f| f.agent["network_config"]["docker_brigde"] = true.into(),
            &["config-doubtful"],
        ),
        (
            "agent.json",
            |f| f.agent["auth_key_file"] = "/no/such/key".into(),
            &["config-invalid"],
        ),
        (
            "modules.json",
            |f| f.modules["libraries"][0]["file"] = "/etc/passwd".into(),
            &["library-missing"],
        ),
        (
            "modules.json",
            |f| f.modules["libraries"] = json!({}),
            &["modules-invalid"],
        ),
        (
            "modules.json",
            |f| {
                f.modules["libraries"][0]["modules"][0]["name"] =
                    "com_mesosphere_mesos_OverlayAgentManger".into()
            },
            &["modules-invalid"],
        ),
        (
            "modules.json",
            |f| {
                f.modules["libraries"][0]["modules"][0]["parameters"][0]["key"] =
                    "agent_conf".into()
            },
            &["modules-invalid"],
        ),
        (
            "modules.json",
            |f| {
                f.modules["libraries"][0]["modules"][0]["parameters"][0]["value"] =
                    "/no/agent.json".into()
            },
            &["config-unreadable"],
        ),
        // The list leads to the file with the mistake.
        (
            "modules.json",
            |f| f.agent["cni_dir"] = "".into(),
            &["config-invalid"],
        ),
    ];
    for (number, (name, change, expected)) in mistakes.iter().enumerate() {
        let mut files = Files::new();
        change(&mut files);
        println!("{number}");
        files.finds(&[name], expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let broken = write(dir.path(), "master.json", "{\"network\": ");
    assert_codes(&here(), &["check", "config", &broken], &["config-invalid"]);
    let strange = write(dir.path(), "strange.json", "{}");
    assert_codes(&here(), &["check", "config", &strange], &["config-invalid"]);
    assert_codes(
        &here(),
        &["check", "config", "/no/such"],
        &["config-unreadable"],
    );
}

/// Changes files, and says what is found in them together.
type Contradiction = (fn(&mut Files), &'static [&'static str]);

#[test]
fn contradictions_of_files_are_found() {
    let contradictions: &[Contradiction] = &[
        (
            |f| f.master["network"]["vtep_mtu"] = 1400.into(),
            &["mtu-contradiction"],
        ),
        (
            |f| {
                f.master["network"]["vtep_mtu"] = 1400.into();
                f.agent["network_config"]["overlay_mtu"] = 1400.into();
            },
            &[],
        ),
        (
            |f| f.agent["master"] = "9.0.0.7:5050".into(),
            &["address-in-range"],
        ),
        (
            |f| f.agent["master"] = "44.128.0.9:5050".into(),
            &["address-in-range"],
        ),
        (
            |f| {
                f.master["zk"] = json!({"url": "zk://a:2181/mesos", "quorum": 1});
                f.agent["master"] = "zk://b:2181/mesos".into();
            },
            &["zookeeper-differs"],
        ),
        (
            |f| {
                f.master["zk"] = json!({"url": "zk://me:secret@a:2181,b:2181/mesos", "quorum": 1});
                f.agent["master"] = "zk://b:2181/mesos".into();
            },
            &[],
        ),
        (
            |f| {
                f.master["zk"] = json!({"url": "zk://a:2181/mesos", "quorum": 1});
                f.agent["master"] = "10.0.0.1:5050".into();
            },
            &["config-doubtful"],
        ),
        (
            |f| {
                f.master["network"]["vtep_subnet6"] = "fd01:a::/64".into();
                f.master["network"]["overlays"][0] =
                    json!({"name": "v6", "subnet6": "fd01:b::/64", "prefix6": 80});
                f.agent["network_config"]["enable_ipv6"] = false.into();
            },
            &["overlay-unusable"],
        ),
    ];
    for (number, (change, expected)) in contradictions.iter().enumerate() {
        let mut files = Files::new();
        change(&mut files);
        println!("{number}");
        files.finds(&["master.json", "agent.json"], expected);
    }
    let files = Files::new();
    let mut other = files.master.clone();
    other["network"]["overlays"][0]["prefix"] = 25.into();
    write(files.dir.path(), "master2.json", &other.to_string());
    files.finds(&["master.json", "master2.json"], &["masters-differ"]);
    write(
        files.dir.path(),
        "agent-master.json",
        &files.agent.to_string(),
    );
    files.finds(&["agent.json", "agent-master.json"], &["agents-collide"]);
    files.finds(&["agent-master.json"], &["config-doubtful"]);
}

#[test]
fn keys_are_compared_and_never_shown() {
    let mut files = Files::new();
    let key = |name: &str, number: u8| {
        let bytes = (number..number + 32).map(|byte| format!("{byte:02x}"));
        let text: String = bytes.collect();
        let path = write(files.dir.path(), name, &format!("{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (one, two) = (key("one", 1), key("two", 100));
    let both = ["master.json", "agent.json"];
    files.master["auth_key_file"] = one.clone().into();
    files.finds(&both, &["keys-differ"]);
    files.master["auth_mode"] = "warn".into();
    files.finds(&both, &[]);
    files.agent["auth_key_file"] = two.clone().into();
    files.finds(&both, &["keys-differ"]);
    files.agent["auth_key_file"] = one.into();
    files.finds(&both, &[]);
    fs::set_permissions(&two, fs::Permissions::from_mode(0o644)).unwrap();
    files.agent["auth_key_file"] = two.into();
    let arguments = ["check", "config", &files.path("agent.json")];
    write(files.dir.path(), "agent.json", &files.agent.to_string());
    let text = here().run(&arguments).unwrap().to_string();
    assert!(
        text.contains("run chmod 600") && !text.contains("64656667"),
        "{text}"
    );
    files.master["zk"] = json!({"url": "zk://me:secret@:2181/mesos", "quorum": 1});
    write(files.dir.path(), "master.json", &files.master.to_string());
    let text = here()
        .run(&["check", "config", &files.path("master.json")])
        .unwrap()
        .to_string();
    assert!(
        text.contains("zk://***@") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn usage_errors_name_the_way_out() {
    let outcome = here()
        .run(&["check", "config", "--kind", "x", "/a"])
        .unwrap();
    assert_eq!(outcome.code(), Some(2), "{outcome}");
    for (arguments, words) in [
        (&["check", "--help"][..], "Checks configuration files"),
        (&["check", "host", "--help"], "Examples:"),
        (&["check", "config", "--help"], "Examples:"),
    ] {
        let outcome = here().run(arguments).unwrap();
        assert!(outcome.stdout.contains(words), "{outcome}");
    }
    // A host without configurations. (Where the machine has some, they are checked.)
    if !Path::new("/etc/mesos/overlay").exists() && !Path::new("/opt/mesosphere").exists() {
        let outcome = here().run(&["check", "config"]).unwrap();
        assert_eq!(outcome.code(), Some(2), "{outcome}");
        assert!(
            outcome.stderr.contains("name the files to check"),
            "{outcome}"
        );
    }
}
