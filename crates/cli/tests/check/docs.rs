//! Sample outputs in docs/program.md, below `<!-- program: … -->`. `UPDATE_DOCS=1` rewrites them.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;

use serde_json::json;

use crate::bare::Lan;
use crate::{here, on, write};

fn page() -> PathBuf {
    testbed::paths::workspace().join("docs/program.md")
}

/// Compares the output below a mark with that of the program, or rewrites it.
#[track_caller]
fn compare(mark: &str, output: &str) {
    let text = fs::read_to_string(page()).unwrap();
    let mark = format!("<!-- program: {mark} -->\n```console\n");
    let (before, rest) = text.split_once(&mark).expect("a block");
    let (command, rest) = rest.split_once('\n').unwrap();
    let (body, after) = rest.split_once("```").unwrap();
    let body_now: String = output
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{before}{mark}{command}\n{body_now}```{after}");
        fs::write(page(), updated).unwrap();
        return;
    }
    assert_eq!(body, body_now, "{mark}");
}

/// Replaces what is between two texts, wherever they are.
fn between(text: &str, start: &str, end: &str, instead: &str) -> String {
    let mut parts = text.split(start);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once(end).map_or("", |(_, rest)| rest);
        result += &format!("{start}{instead}{end}{rest}");
    }
    result
}

/// What differs from machine to machine is replaced by usual values.
fn usual(text: &str, dir: &str) -> String {
    let text = text
        .replace(&format!("{dir}/cni"), "/etc/mesos/cni")
        .replace(dir, "/etc/mesos/overlay");
    let text = between(&text, "ok        Linux ", "\n", "6.12.43");
    between(&text, "in use by ", ")", "unbound (pid 812")
}

#[test]
fn sample_outputs_are_those_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let master = json!({
        "replicated_log_dir": "/var/lib/mesos",
        "zk": {"url": "zk://me:secret@10.0.0.1:2181/mesos", "quorum": 1},
        "network": {
            "vtep_subnet": "44.128.0.0/20",
            "vtep_mac_oui": "70:B3:D5:00:00:00",
            "vtep_mtu": 1400,
            "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}],
        },
    });
    let agent = json!({
        "cni_dir": "/etc/mesos/cni",
        "master": "zk://10.0.0.2:2181/mesos",
        "network_config": {"docker_brigde": false},
    });
    write(dir.path(), "master.json", &master.to_string());
    write(dir.path(), "agent.json", &agent.to_string());
    let mut command = here().command(&["check", "config", "master.json", "agent.json"]);
    let output = command.current_dir(dir.path()).output().unwrap();
    compare("check-config", &String::from_utf8(output.stdout).unwrap());

    let root = format!("{path}/empty");
    let arguments = [
        "setup",
        "--role",
        "agent",
        "--zk",
        "zk://10.0.0.1:2181/mesos",
        "--yes",
        "--root",
        &root,
    ];
    compare("setup", &here().run(&arguments).unwrap().stdout);

    if !testkit::root("check::sample_outputs") {
        return;
    }
    let lan = Lan::new();
    let _socket = lan.host.run(|| UdpSocket::bind("0.0.0.0:64000").unwrap());
    lan.nft("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }");
    let arguments = lan.agent(|_| ());
    let arguments = arguments.each_ref().map(String::as_str);
    let text = on(&lan.host).run(&arguments).unwrap().stdout;
    compare(
        "check-host",
        &usual(&text, &lan.dir.path().display().to_string()),
    );
}
