//! Containers with IPv6 addresses, with and without IPv4.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig, Launcher};
use testbed::container::Container;
use testbed::framework::{Framework, TaskSpec};
use testbed::node::Node;
use testbed::task::TaskClient;
use testbed::{skip, wait};

use crate::common::{LIMIT, assert_nothing_found, hosts, start};

/// Returns a configuration with a dual-stack overlay and one with IPv6 only.
const OVERLAYS: [(&str, usize); 2] = [("both", 2), ("six", 1)];

fn setup(test: &str) -> Option<ClusterConfig> {
    let mut setup = hosts(test, 2)?;
    setup.network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            { "name": "both", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80 },
            { "name": "six", "subnet6": "fd01:c::/64", "prefix6": 80 },
        ],
    });
    Some(setup)
}

/// Asserts that tasks of two hosts reach each other in both families, under their own addresses.
/// Retries at first, since the kernel's duplicate address detection takes up to two seconds after
/// the plugin made the bridge.
#[track_caller]
fn assert_reach(hosts: [&Node; 2], tasks: &[Vec<SocketAddr>; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        for (own, other) in tasks[from].iter().zip(&tasks[to]) {
            let task = TaskClient::new(*own, hosts[from].host().map(|host| host.netns().clone()));
            let ping = wait::until(&format!("{own} to reach {other}"), LIMIT, || {
                task.ping(*other, 20).map(Some)
            });
            assert_eq!(
                ping.unwrap().seen_as,
                own.ip().to_string(),
                "no NAT between containers"
            );
        }
    }
}

/// Starts a task on each host. Returns all addresses of Mesos's task status.
fn launch(cluster: &Cluster, framework: &Framework, network: &str) -> [Vec<SocketAddr>; 2] {
    [0, 1].map(|index| {
        let (agent, id) = (&cluster.agents[index], format!("{network}{index}"));
        framework
            .launch(&TaskSpec::new(&id, &agent.ip(), Some(network)), LIMIT)
            .unwrap();
        let mut addresses: Vec<_> = framework
            .wait_running(&id, LIMIT)
            .unwrap()
            .addresses()
            .collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses
    })
}

fn in_subnet(ip: IpAddr, network: &str, agent: usize) -> bool {
    let subnet = match (network, ip) {
        (_, IpAddr::V4(_)) => format!("9.0.{agent}.0/25"),
        ("both", _) => format!(
            "{}/81",
            Ipv6Addr::new(0xfd01, 0xb, 0, 0, agent as u16, 0, 0, 0)
        ),
        _ => format!(
            "{}/81",
            Ipv6Addr::new(0xfd01, 0xc, 0, 0, agent as u16, 0, 0, 0)
        ),
    };
    subnet.parse::<ipnet::IpNet>().unwrap().contains(&ip)
}

#[test]
fn tasks_have_addresses_of_both_families() {
    let name = "tasks_have_addresses_of_both_families";
    let Some(setup) = setup(name) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    for (network, families) in OVERLAYS {
        let tasks = launch(&cluster, &framework, network);
        for addresses in &tasks {
            let v6 = addresses.iter().filter(|address| address.is_ipv6()).count();
            assert_eq!(
                (addresses.len(), v6),
                (families, 1),
                "the task status of {network} says {addresses:?}"
            );
            // The agents may have registered in any order.
            let inside = |agent| {
                addresses
                    .iter()
                    .all(|address| in_subnet(address.ip(), network, agent))
            };
            assert!(
                inside(0) || inside(1),
                "{addresses:?} are not of one agent's part of {network}"
            );
        }
        assert_reach([&cluster.agents[0], &cluster.agents[1]], &tasks);
        assert_nothing_found(&cluster);
    }
}

#[test]
fn containers_of_both_families_attached_from_the_cni_files_reach_each_other() {
    let name = "containers_of_both_families_attached_from_the_cni_files_reach_each_other";
    let Some(mut setup) = setup(name) else { return };
    setup.launcher = Launcher::Posix;
    let cluster = start(&setup);
    for (network, families) in OVERLAYS {
        let containers = [0, 1].map(|index| {
            let agent = &cluster.agents[index];
            let config = agent.dir().join(format!("cni/{network}.conf"));
            let name = format!("{network}{index}");
            Container::attach(cluster.run(), agent.host().unwrap(), &name, &config).unwrap()
        });
        let addresses = |container: &Container| {
            container
                .ips()
                .iter()
                .map(|ip| container.client_at(*ip).address())
                .collect::<Vec<_>>()
        };
        let tasks = [addresses(&containers[0]), addresses(&containers[1])];
        assert_eq!((tasks[0].len(), tasks[1].len()), (families, families));
        assert_reach([&cluster.agents[0], &cluster.agents[1]], &tasks);
    }
}
