//! Real Mesos with DC/OS's files: module configurations, paths, and the package.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Launcher, Placement};
use testbed::mesos::Mesos;
use testbed::net::Host;
use testbed::node::Node;
use testbed::{install, skip, wait};

use crate::checkout::copy;
use crate::container::Container;
use crate::package;

const LIMIT: Duration = Duration::from_secs(60);

/// Library of the modules.
const LIBRARY: &str = "/opt/mesosphere/active/mesos-modules/lib/mesos/liboverlay.so";

/// Settings of a host that forwards packets.
const FORWARDING: [&str; 2] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
];

/// Configuration of the agent module. (DC/OS has a bridge for Docker on agents as well; there is no
/// engine here.)
fn agent_config(mesos_bridge: bool) -> Value {
    json!({
        "cni_dir": "/opt/mesosphere/etc/dcos/network/cni",
        "cni_data_dir": "/var/run/dcos/cni/networks",
        "network_config": {
            "allocate_subnet": true, "mesos_bridge": mesos_bridge, "docker_bridge": false,
            "overlay_mtu": 1420, "enable_ipv6": true,
        },
        "max_configuration_attempts": 4,
    })
}

fn module(symbol: &str, key: &str, file: &str) -> Value {
    let value = format!("/opt/mesosphere/etc/overlay/config/{file}");
    json!({ "name": symbol, "parameters": [{ "key": key, "value": value }] })
}

/// Writes the files that DC/OS generates.
fn write_configuration(container: &Container) {
    let write = |path: &str, content: Value| {
        let path = container.path("mesosphere/etc").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    };
    let network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24 },
            { "name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80 },
        ],
    });
    let master = json!({ "replicated_log_dir": "/var/lib/dcos/mesos/master/", "network": network });
    write("overlay/config/master.json", master);
    write("overlay/config/agent.json", agent_config(true));
    write("overlay/config/agent-master.json", agent_config(false));
    let master = "com_mesosphere_mesos_OverlayMasterManager";
    let agent = "com_mesosphere_mesos_OverlayAgentManager";
    let modules =
        |modules: Value| json!({ "libraries": [{ "file": LIBRARY, "modules": modules }] });
    let in_master = modules(json!([
        module(master, "master_config", "master.json"),
        module(agent, "agent_config", "agent-master.json"),
    ]));
    let in_agent = modules(json!([module(agent, "agent_config", "agent.json")]));
    write(
        "mesos-master-modules/overlay_master_modules.json",
        in_master,
    );
    write("mesos-slave-modules/overlay_slave_modules.json", in_agent);
    let other = LIBRARY.replace("liboverlay", "liblogsink");
    let other = json!({ "libraries": [{ "file": other, "modules": [] }] });
    for directory in ["mesos-master-modules", "mesos-slave-modules"] {
        write(&format!("{directory}/dummy.json"), json!({}));
        write(&format!("{directory}/mesos-logsink.json"), other.clone());
    }
}

/// Makes a host of DC/OS with the package that `built` has.
fn host(built: &Container, mesos: &Mesos) -> Container {
    let host = Container::new("", mesos).expect("there is one already");
    let package = built.path("mesosphere/packages").join(package::ID);
    copy(&package, &host.package("mesos-modules", package::ID));
    write_configuration(&host);
    host
}

/// Prepares a master and an agent of Mesos whose programs run on these hosts.
fn cluster(hosts: [&Container; 2], mesos: &Mesos) -> Cluster {
    let mut setup = ClusterConfig::new(1, Placement::Hosts).unwrap();
    (setup.module, setup.launcher) = (None, Launcher::Posix);
    // DC/OS sets MESOS_ZK and MESOS_QUORUM, also for one master. The module in the master finds the
    // leader with them.
    setup.zookeeper = true;
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let nodes = [&mut cluster.master, &mut cluster.agents[0]];
    for ((node, host), name) in nodes.into_iter().zip(hosts).zip(["master", "slave"]) {
        node.set_program(&host.wrapper(&mesos.launcher()));
        let modules = format!("/opt/mesosphere/etc/mesos-{name}-modules");
        node.set("MESOS_MODULES_DIR", modules);
    }
    cluster
}

/// Returns the state of all overlays of an agent by its address, once they are in place.
fn wait_agent(master: &mut Node, ip: &str) -> Value {
    wait::until(&format!("the overlays of {ip}"), LIMIT, || {
        master.check()?;
        let state = master.overlay_state()?;
        let agents = state["agents"].as_array().cloned().unwrap_or_default();
        let agent = agents.into_iter().find(|agent| agent["ip"] == ip);
        let is_ok = |overlay: &Value| overlay["state"]["status"] == "STATUS_OK";
        Ok(agent.filter(|agent| {
            let overlays = agent["overlays"].as_array();
            overlays.is_some_and(|all| all.len() == 2 && all.iter().all(is_ok))
        }))
    })
    .unwrap()
}

/// Returns the values of [`FORWARDING`] on a host.
fn forwarding(host: &Host) -> [String; 2] {
    FORWARDING.map(|path| host.run("cat", &[path]).unwrap().trim().to_owned())
}

#[test]
fn mesos_runs_from_the_package() {
    const TEST: &str = "mesos_runs_from_the_package";
    let Some(mesos) = package::require(TEST) else {
        return;
    };
    if !skip::require_hosts(TEST) {
        return;
    }
    if let Some(missing) = install::missing(install::ZOOKEEPER) {
        return skip::skip(TEST, &missing);
    }
    let Some(container) = Container::new(TEST, &mesos) else {
        return;
    };
    package::with_change(&container);
    let [of_master, of_agent] = [(); 2].map(|()| host(&container, &mesos));
    let mut cluster = cluster([&of_master, &of_agent], &mesos);
    let forwards = |node: &Node| forwarding(node.host().unwrap());
    let node = cluster.master.host().unwrap();
    for path in FORWARDING {
        node.run("sh", &["-c", &format!("echo 0 > {path}")])
            .unwrap();
    }
    cluster.start_all().unwrap();
    let (master_ip, agent_ip) = (cluster.master.ip(), cluster.agents[0].ip());
    let on_agent = wait_agent(&mut cluster.master, &agent_ip);
    let on_master = wait_agent(&mut cluster.master, &master_ip);

    let dcos = &on_agent["overlays"][0];
    assert_eq!(dcos["mesos_bridge"]["name"], "m-dcos", "{on_agent}");
    for overlay in on_master["overlays"].as_array().unwrap() {
        assert!(overlay.get("mesos_bridge").is_none(), "{on_master}");
    }
    let file = of_agent.path("mesosphere/etc/dcos/network/cni/dcos.conf");
    assert!(file.exists(), "the configuration of the network for Mesos");
    let log = of_master.path("var/lib/dcos/mesos/master/overlay_replicated_log");
    assert!(log.exists(), "the replicated log");
    // Both modules are in the master's process. It has the tunnel, and nothing in the firewall.
    let host = cluster.master.host().unwrap();
    assert!(host.run("ip", &["link", "show", "vtep1024"]).is_ok());
    assert_eq!(host.run("nft", &["list", "ruleset"]).unwrap(), "");
    assert_eq!(host.run("ipset", &["list", "-name"]).unwrap(), "");
    assert_eq!(forwards(&cluster.master), ["0", "0"], "the master's host");
    assert_eq!(forwards(&cluster.agents[0]), ["1", "1"], "the agent's host");
}
