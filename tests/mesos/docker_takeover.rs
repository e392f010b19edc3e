//! Takeover of a host of the C++ module on which Docker containers run, without losing packets.

use testbed::docker::Engine;
use testbed::monitor::Monitor;
use testbed::net::Host;
use testbed::packet_loss::Traffic;

use crate::common::{LIMIT, all_ok, wait_settled, wait_state};
use crate::docker::{ContainerTask, DockerCluster, docker};
use crate::takeover::{
    leave_as_predecessor, nat, run, sets_source, take_over, that_only_registers,
};

/// Makes a Docker network like the C++ module, with its exception from Docker's isolation.
fn make_network_as_predecessor(engine: &Engine, host: &Host, subnet: &str) {
    engine.docker(&["network", "rm", "dcos"]).unwrap();
    let line = format!(
        "network create --driver=bridge --subnet={subnet} --opt com.docker.network.bridge.name=d-dcos --opt \
         com.docker.network.bridge.enable_ip_masquerade=false --opt com.docker.network.driver.mtu=1420 dcos"
    );
    engine.docker(&line.split(' ').collect::<Vec<_>>()).unwrap();
    for line in [
        "iptables -w -I DOCKER-ISOLATION-STAGE-2 -j RETURN",
        // As on hosts that forwarded before Docker came, as the predecessor's do.
        "iptables -w -P FORWARD ACCEPT",
    ] {
        run(host, line);
    }
}

/// Returns the properties of a container that must not change: id, start time, addresses.
fn container(engine: &Engine, name: &str) -> String {
    let format =
        "{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{json .NetworkSettings.Networks}}";
    engine
        .docker(&["inspect", "--format", format, name])
        .unwrap()
}

#[test]
fn dockers_containers_do_not_notice_the_takeover() {
    let Some(setup) = docker("dockers_containers_do_not_notice_the_takeover") else {
        return;
    };
    let mut cluster = DockerCluster::start(&that_only_registers(setup));
    let shares = leave_as_predecessor(&mut cluster.mesos);
    for (index, share) in shares.iter().enumerate() {
        let host = cluster.mesos.agents[index].host().unwrap();
        make_network_as_predecessor(
            &cluster.engines[index],
            host,
            share.docker_bridge.as_deref().unwrap(),
        );
    }
    let docker =
        [("web0", 0), ("web1", 1)].map(|(name, agent)| cluster.docker_task(agent, name, "dcos"));
    let mesos = cluster.attach();
    let [web0, web1] = docker.each_ref().map(ContainerTask::client);
    // Between the hosts and on each of them, between Docker and Mesos.
    let traffic =
        Traffic::start(&[web0, web1, mesos[1].client(), mesos[0].client()], LIMIT).unwrap();
    let look = |cluster: &DockerCluster| {
        let look = |index: usize| {
            let there = container(&cluster.engines[index], &format!("web{index}"));
            (
                cluster.network_id(index),
                there,
                nat(cluster.mesos.agents[index].host().unwrap()),
            )
        };
        [look(0), look(1)]
    };
    let before = look(&cluster);
    let monitors = [0, 1].map(|index: usize| {
        let host = cluster.mesos.agents[index].host().unwrap();
        wait_settled(host);
        Monitor::new(host).unwrap()
    });
    for index in [0, 1] {
        take_over(&mut cluster.mesos, index);
        traffic.flow(500, LIMIT).unwrap();
    }
    wait_state(&mut cluster.mesos, "both agents to be in order", |state| {
        all_ok(state, 2)
    });
    traffic.flow(500, LIMIT).unwrap();
    let outcomes = traffic.finish().unwrap();
    eprintln!("{outcomes:?}");
    assert!(
        outcomes.len() == 4 && outcomes.iter().all(|outcome| outcome.lost == 0),
        "{outcomes:?}"
    );
    assert_eq!(look(&cluster), before);
    for (monitor, agent) in monitors.iter().zip(&cluster.mesos.agents) {
        // The old exception is removed and our own is added; nothing else changes.
        let changes = monitor.changes().unwrap();
        let other: Vec<_> = changes
            .iter()
            .filter(|change| !change.starts_with("nftables") && !sets_source(change))
            .collect();
        assert!(
            other.is_empty(),
            "on the host of {}: {other:#?}",
            agent.name()
        );
        let isolation = run(
            agent.host().unwrap(),
            "iptables -w -S DOCKER-ISOLATION-STAGE-2",
        );
        assert_eq!(
            isolation.matches("-j RETURN").count(),
            1,
            "the hole is there: {isolation}"
        );
    }
    mesos
        .into_iter()
        .for_each(|container| container.detach().unwrap());
}
