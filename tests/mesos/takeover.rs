//! Takeover of a host that the C++ modules and `dcos-net` configured, with running containers; and
//! of a rebooted host.

use std::collections::BTreeMap;
use std::fs;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Launcher};
use testbed::container::Container;
use testbed::monitor::Monitor;
use testbed::net::Host;
use testbed::node::Node;
use testbed::packet_loss::Traffic;
use testbed::wait;

use crate::common::{
    LIMIT, all_ok, assert_nothing_found, hosts, start, start_unexamined, state, wait_settled,
    wait_state,
};

/// Allocation of an agent, from the master's state.
pub struct Share {
    ip: String,
    subnet: String,
    mesos_bridge: String,
    /// IPv6 bridge address, if there is one.
    pub docker_bridge: Option<String>,
    vtep_ip: String,
    vtep_mac: String,
}

fn shares(state: &Value) -> BTreeMap<String, Share> {
    let agents = state["agents"].as_array().unwrap().iter();
    let share = |agent: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let overlay = &agent["overlays"][0];
        let vxlan = &overlay["backend"]["vxlan"];
        let share = Share {
            ip: text(&agent["ip"]),
            subnet: text(&overlay["subnet"]),
            mesos_bridge: text(&overlay["mesos_bridge"]["ip"]),
            docker_bridge: overlay["docker_bridge"]["ip"].as_str().map(str::to_owned),
            vtep_ip: text(&vxlan["vtep_ip"]),
            vtep_mac: text(&vxlan["vtep_mac"]),
        };
        (share.ip.clone(), share)
    };
    agents.map(share).collect()
}

pub fn run(host: &Host, line: &str) -> String {
    let mut words = line.split(' ');
    let program = words.next().unwrap();
    host.run(program, &words.collect::<Vec<_>>()).unwrap()
}

/// Configures a host like the C++ modules and `dcos-net`, with the values of a real cluster.
fn make_as_predecessor(node: &Node, own: &Share, peer: &Share) {
    let host = node.host().unwrap();
    let peer_vtep = peer.vtep_ip.split('/').next().unwrap();
    for line in [
        "sysctl -qw net.ipv4.ip_forward=1".to_owned(),
        "ip link add vtep1024 type vxlan id 1024 dstport 64000 nolearning".to_owned(),
        format!("ip link set vtep1024 mtu 1420 address {} up", own.vtep_mac),
        format!("ip address add {} dev vtep1024", own.vtep_ip),
        format!("ip neighbour replace {peer_vtep} lladdr {} nud permanent dev vtep1024", peer.vtep_mac),
        format!("bridge fdb replace {} dst {} self permanent dev vtep1024", peer.vtep_mac, peer.ip),
        format!("ip route replace {} via {peer_vtep}", peer.subnet),
        format!("ip route replace {}/32 via {peer_vtep} table 42", peer.ip),
        "ip rule add from 9.0.0.0/8 lookup 42".to_owned(),
        "ipset create overlay hash:net counters".to_owned(),
        "ipset add overlay 0.0.0.0/1".to_owned(),
        "ipset add overlay 128.0.0.0/1".to_owned(),
        "ipset add overlay 9.0.0.0/8 nomatch".to_owned(),
        "iptables -w -t nat -A POSTROUTING -s 9.0.0.0/8 -m set --match-set overlay dst -j MASQUERADE"
            .to_owned(),
    ] {
        run(host, &line);
    }
    // Keys are in alphabetical order, as the C++ module writes them.
    let config = json!({
        "chain": "M-DCOS",
        "delegate": {
            "bridge": "m-dcos", "hairpinMode": true, "ipMasq": false,
            "ipam": {
                "dataDir": node.dir().join("cni-data"), "routes": [{ "dst": "0.0.0.0/0" }],
                "subnet": own.mesos_bridge, "type": "host-local",
            },
            "isGateway": true, "mtu": 1420, "type": "bridge",
        },
        "excludeDevices": ["m-dcos"], "name": "dcos", "type": "mesos-cni-port-mapper",
    });
    fs::write(node.dir().join("cni/dcos.conf"), config.to_string()).unwrap();
}

/// Returns a configuration in which agents only register, and do not configure their hosts.
pub fn that_only_registers(mut setup: ClusterConfig) -> ClusterConfig {
    setup.launcher = Launcher::Posix;
    setup.network["vtep_mtu"] = 1420.into();
    setup.agent_config["backend"] = "external".into();
    setup.agent_config["firewall"] = "none".into();
    setup
}

/// Registers two agents, stops them, and configures their hosts like the C++ modules. Returns the
/// agents' allocations, in their order.
pub fn leave_as_predecessor(cluster: &mut Cluster) -> [Share; 2] {
    let state = wait_state(cluster, "two agents", |state| all_ok(state, 2));
    cluster
        .agents
        .iter_mut()
        .for_each(|agent| agent.kill().unwrap());
    let mut shares = shares(&state);
    let shares = [0, 1].map(|index: usize| shares.remove(&cluster.agents[index].ip()).unwrap());
    for (own, peer) in [(0, 1), (1, 0)] {
        let agent = &cluster.agents[own];
        make_as_predecessor(agent, &shares[own], &shares[peer]);
        let configure = |config: &mut Value| {
            config["backend"] = "internal".into();
            config["firewall"] = "iptables".into();
        };
        agent.configure(configure).unwrap();
    }
    shares
}

/// Starts an agent and waits until its module is registered.
pub fn take_over(cluster: &mut Cluster, index: usize) {
    cluster.agents[index].start().unwrap();
    let client = cluster.agents[index].client();
    wait::until("the agent to be registered", LIMIT, || {
        cluster.check()?;
        Ok((client.get("/overlay-agent/overlay")?.json()?["registered"] == true).then_some(()))
    })
    .unwrap();
}

/// Returns the rules of NAT, without counters.
pub fn nat(host: &Host) -> [String; 2] {
    let set = run(host, "ipset save overlay");
    let words = |line: &str| {
        line.split(" packets ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut set: Vec<String> = set
        .lines()
        .filter(|line| line.starts_with("add"))
        .map(words)
        .collect();
    set.sort();
    [
        set.join("\n"),
        run(host, "iptables -w -t nat -S POSTROUTING"),
    ]
}

/// Returns whether a change gives the predecessor's VXLAN device the agent's address as the source
/// of its packets. The kernel changes that in place: the device and all that is on it stay, and no
/// packet is lost.
pub fn sets_source(change: &str) -> bool {
    let is_device = change.starts_with("NewLink") && change.contains("IfName(\"vtep1024\")");
    is_device && change.contains("Local(10.77.")
}

#[test]
fn a_predecessors_host_is_taken_over_as_it_is() {
    let Some(setup) = hosts("a_predecessors_host_is_taken_over_as_it_is", 2) else {
        return;
    };
    // These agents leave the firewall alone, and say that it is wrong.
    let mut cluster = start_unexamined(&that_only_registers(setup));
    leave_as_predecessor(&mut cluster);
    let containers = [("a", 0), ("b", 1)].map(|(name, agent)| {
        let agent = &cluster.agents[agent];
        let config = agent.dir().join("cni/dcos.conf");
        Container::attach(cluster.run(), agent.host().unwrap(), name, &config).unwrap()
    });
    let tasks = containers.each_ref().map(Container::client);
    let traffic = Traffic::start(&tasks, LIMIT).unwrap();
    let before = [0, 1].map(|index: usize| nat(cluster.agents[index].host().unwrap()));
    cluster
        .agents
        .iter()
        .for_each(|agent| wait_settled(agent.host().unwrap()));
    let monitors =
        [0, 1].map(|index: usize| Monitor::new(cluster.agents[index].host().unwrap()).unwrap());
    for index in [0, 1] {
        take_over(&mut cluster, index);
        traffic.flow(500, LIMIT).unwrap();
    }
    wait_state(&mut cluster, "both agents to be in order", |state| {
        all_ok(state, 2)
    });
    traffic.flow(500, LIMIT).unwrap();
    for outcome in traffic.finish().unwrap() {
        assert_eq!(outcome.lost, 0, "{outcome:?}");
    }
    for (index, monitor) in monitors.iter().enumerate() {
        let mut changes = monitor.changes().unwrap();
        changes.retain(|change| !sets_source(change));
        assert!(
            changes.is_empty(),
            "on the host of agent{}: {changes:#?}",
            index + 1
        );
        assert_eq!(nat(cluster.agents[index].host().unwrap()), before[index]);
    }
    assert_nothing_found(&cluster);
    // The old settings of running containers are still valid.
    containers
        .into_iter()
        .for_each(|container| container.detach().unwrap());
}

/// Returns the state of a host that a reboot removes.
fn look(host: &Host) -> Vec<String> {
    let sorted = |text: String| {
        // The index of a device depends on earlier devices.
        let line = |line: &str| {
            line.split_once(": ")
                .map_or(line, |(_, rest)| rest)
                .trim()
                .to_owned()
        };
        let mut lines: Vec<String> = text.lines().map(line).collect();
        lines.sort();
        lines.join("\n")
    };
    let mut all: Vec<String> = [
        "ip -o -4 address show dev vtep1024",
        "ip neighbour show dev vtep1024 nud permanent",
        "bridge fdb show dev vtep1024",
        "ip route show table all dev vtep1024 proto 142",
        "ip rule show table 42",
        "sysctl net.ipv4.ip_forward",
    ]
    .map(|line| sorted(run(host, line)))
    .into();
    all.extend(nat(host));
    all
}

/// Simulates a reboot: removes the kernel's configuration, including bridges and rules, but keeps
/// the agent's files.
#[test]
fn a_rebooted_host_ends_in_the_same_state() {
    let Some(mut setup) = hosts("a_rebooted_host_ends_in_the_same_state", 2) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    setup.agent_config["firewall"] = "iptables".into();
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "two agents", |state| all_ok(state, 2));
    let host = |cluster: &Cluster, index: usize| look(cluster.agents[index].host().unwrap());
    wait::until("the peers to be in place", LIMIT, || {
        let routes = host(&cluster, 0)[3].lines().count();
        Ok((routes > 1).then_some(()))
    })
    .unwrap();
    let before = host(&cluster, 0);
    cluster.agents[0].kill().unwrap();
    for line in [
        "ip link delete vtep1024",
        "ip rule delete from 9.0.0.0/8 lookup 42",
        "iptables -w -t nat -F",
        "ipset destroy overlay",
        "sysctl -qw net.ipv4.ip_forward=0",
    ] {
        run(cluster.agents[0].host().unwrap(), line);
    }
    // A boot empties this directory, like /run.
    let _ = fs::remove_dir_all(cluster.agents[0].dir().join("run"));
    fs::remove_file(cluster.agents[0].dir().join("cni/dcos.conf")).unwrap();
    cluster.agents[0].start().unwrap();
    wait::until("the host to be as before the reboot", LIMIT, || {
        cluster.check()?;
        let host = cluster.agents[0].host().unwrap();
        ensure!(
            host.run("ip", &["link", "show", "vtep1024"]).is_ok(),
            "no device yet"
        );
        ensure!(
            host.run("ipset", &["save", "overlay"]).is_ok(),
            "no set yet"
        );
        let now = look(host);
        ensure!(now == before, "it is {now:#?}, was {before:#?}");
        Ok(Some(()))
    })
    .unwrap();
    assert!(cluster.agents[0].dir().join("cni/dcos.conf").exists());
    assert!(all_ok(&state(&cluster.master).unwrap(), 2));
    assert_nothing_found(&cluster);
}
