//! Replacement of Mesos's CNI plugin, on a real kernel with Debian's plugins.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::cni::{CniError, Invocation, PLUGINS};
use testbed::container::Container;
use testbed::net::{Host, Underlay};
use testbed::netns;
use testbed::run::Run;
use testbed::{paths, skip};

const LIMIT: Duration = Duration::from_secs(5);

fn config(run: &Run, ports: &[(u16, u16)]) -> Value {
    let mapping =
        |(host, container): &(u16, u16)| json!({ "host_port": host, "container_port": container });
    let mappings: Vec<Value> = ports.iter().map(mapping).collect();
    json!({
        "name": "net", "type": "mesos-cni-port-mapper", "excludeDevices": ["m-net"], "chain": "M-NET",
        "delegate": {
            "type": "bridge", "bridge": "m-net", "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": run.dir().join("ipam"), "subnet": "9.1.0.0/25",
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        },
        "args": { "org.apache.mesos": { "network_info": { "port_mappings": mappings } } },
    })
}

fn call(command: &str) -> Invocation {
    let plugins = paths::program("mesos-cni-port-mapper").unwrap();
    Invocation {
        command: command.into(),
        container: "c1".into(),
        netns: "/run/netns/no-such-namespace".into(),
        interface: "eth0".into(),
        path: format!("{}:{PLUGINS}", plugins.parent().unwrap().display()),
    }
}

fn rules(host: &Host) -> String {
    host.run("iptables", &["-w", "-t", "nat", "-S"]).unwrap()
}

/// Returns the first line of a task's echo, requested from a host.
fn echo(from: &Host, to: SocketAddr) -> String {
    let stream = netns::connect(Some(from.netns()), to, LIMIT).unwrap();
    writeln!(&stream, "echo").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn forwards_the_hosts_ports_and_cleans_up() {
    if !skip::require_hosts("forwards_the_hosts_ports_and_cleans_up") {
        return;
    }
    let run = Run::new().unwrap();
    let underlay = Underlay::new(&run).unwrap();
    let host = underlay
        .host(&run, "host", Ipv4Addr::new(10, 77, 0, 1))
        .unwrap();
    let client = underlay
        .host(&run, "client", Ipv4Addr::new(10, 77, 0, 2))
        .unwrap();
    host.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        .unwrap();
    client
        .run("ip", &["route", "add", "9.1.0.0/24", "via", "10.77.0.1"])
        .unwrap();
    let file = run.dir().join("net.conf");
    std::fs::write(
        &file,
        config(&run, &[(31000, 7007), (31001, 7007)]).to_string(),
    )
    .unwrap();

    let container = Container::attach(&run, &host, "c1", &file).unwrap();
    for port in [31000, 31001] {
        let seen = echo(&client, SocketAddr::from((host.ip(), port)));
        assert_eq!(seen, "10.77.0.2", "the container sees the client itself");
    }
    // The host itself uses its own address.
    assert!(!echo(&host, SocketAddr::from((host.ip(), 31000))).is_empty());
    let of_c1 = format!("container_id: {}", run.name("c1"));
    assert_eq!(rules(&host).matches(&of_c1).count(), 2);

    container.detach().unwrap();
    assert_eq!(rules(&host).matches(&of_c1).count(), 0, "{}", rules(&host));
    let again = call("DEL").run(&config(&run, &[(31000, 7007)]), Some(host.netns()));
    again.expect("a second DEL is no error");
}

#[test]
fn an_attachment_that_fails_half_way_is_undone() {
    if !skip::require_hosts("an_attachment_that_fails_half_way_is_undone") {
        return;
    }
    let run = Run::new().unwrap();
    let host = Underlay::new(&run)
        .unwrap()
        .host(&run, "host", Ipv4Addr::new(10, 77, 0, 1))
        .unwrap();
    let mut config = config(&run, &[(31000, 7007)]);
    config["args"]["org.apache.mesos"]["network_info"]["port_mappings"][0]["protocol"] =
        json!("no-such");
    let file = run.dir().join("net.conf");
    std::fs::write(&file, config.to_string()).unwrap();
    let error = Container::attach(&run, &host, "c1", &file).unwrap_err();
    assert!(format!("{error:#}").contains("iptables"), "{error:#}");
    // The address is released.
    let taken = std::fs::read_dir(run.dir().join("ipam/net"))
        .unwrap()
        .flatten();
    let taken = taken
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("9.1.0."))
        .count();
    assert_eq!(taken, 0);
}

#[test]
fn tells_errors_as_cni_does() {
    let failure = |command: &str, config: &Value| -> CniError {
        call(command).run(config, None).unwrap_err()
    };
    let good = json!({ "name": "n", "type": "mesos-cni-port-mapper", "chain": "C", "delegate": { "type": "bridge" } });
    for (key, value, says) in [
        ("delegate", json!({}), "delegate"),
        ("chain", json!("a-chain-with-far-too-long-a-name"), "chain"),
        ("chain", Value::Null, "chain"),
        ("name", Value::Null, "name"),
        (
            "delegate",
            json!({ "type": "no-such-plugin" }),
            "no-such-plugin",
        ),
        (
            "args",
            json!({ "org.apache.mesos": { "network_info": { "port_mappings": [{}] } } }),
            "port",
        ),
    ] {
        let mut config = good.clone();
        config[key] = value;
        let CniError(error) = failure("ADD", &config);
        assert!(
            error["code"].is_u64() && error["cniVersion"].is_string(),
            "{error}"
        );
        assert!(error["msg"].as_str().unwrap().contains(says), "{error}");
    }
    assert!(failure("CHECK", &good).to_string().contains("CHECK"));
    let version = call("VERSION").run(&good, None).unwrap();
    assert_eq!(version["supportedVersions"], json!(["0.1.0", "0.2.0"]));
}

#[test]
fn tells_what_is_missing_in_its_environment() {
    let mut plugin = Command::new(paths::program("mesos-cni-port-mapper").unwrap());
    let output = plugin
        .env_remove("CNI_COMMAND")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        error["msg"].as_str().unwrap().contains("CNI_COMMAND"),
        "{error}"
    );
}
