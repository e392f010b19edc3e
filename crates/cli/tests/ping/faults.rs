//! Each fault is named, and nothing else.

use crate::bed::Bed;

/// Returns the message of the only finding.
fn message(outcome: &testbed::program::Outcome) -> String {
    let json = outcome.json().unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{outcome}");
    findings[0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn faults_of_this_host_are_named() {
    let Some(mut bed) = Bed::start("faults_of_this_host_are_named", 3) else {
        return;
    };
    bed.stop(0);
    let peer = bed.overlay(1);
    let vxlan = &peer["backend"]["vxlan"];
    let mac = vxlan["vtep_mac"].as_str().unwrap();
    let vtep = vxlan["vtep_ip"].as_str().unwrap();
    let (vtep, _) = vtep.split_once('/').unwrap();
    let subnet = peer["subnet"].as_str().unwrap();
    let on = |bed: &Bed, command: &str| bed.on(0, command);

    on(
        &bed,
        &format!("bridge fdb replace {mac} dev vtep1024 dst 10.77.1.9 self permanent"),
    );
    let outcome = bed.finds(&["ping"], &["fdb-wrong"]);
    assert_eq!(
        message(&outcome),
        format!("the FDB entry {mac} points to 10.77.1.9, the master says 10.77.1.2")
    );
    on(
        &bed,
        &format!("bridge fdb delete {mac} dev vtep1024 dst 10.77.1.9 self"),
    );
    bed.finds(&["ping"], &["fdb-wrong"]);
    on(
        &bed,
        &format!("bridge fdb replace {mac} dev vtep1024 dst 10.77.1.2 self permanent"),
    );
    bed.finds(&["ping"], &[]);

    on(
        &bed,
        &format!("ip neighbour replace {vtep} lladdr 70:b3:d5:80:00:99 dev vtep1024 nud permanent"),
    );
    let outcome = bed.finds(&["ping"], &["neighbour-wrong"]);
    assert!(message(&outcome).contains("70:b3:d5:80:00:99"), "{outcome}");
    on(
        &bed,
        &format!("ip neighbour replace {vtep} lladdr {mac} dev vtep1024 nud permanent"),
    );

    on(&bed, &format!("ip route delete {subnet} dev vtep1024"));
    let outcome = bed.finds(&["ping"], &["route-wrong"]);
    assert!(message(&outcome).contains(subnet), "{outcome}");
    bed.go_on();

    bed.stop(0);
    on(&bed, "ip rule delete from 9.0.0.0/8 lookup 42");
    let outcome = bed.finds(&["ping"], &["rule-missing"]);
    assert!(
        message(&outcome).contains("\"from 9.0.0.0/8 lookup 42\""),
        "{outcome}"
    );
    bed.go_on();

    bed.stop(0);
    on(&bed, "ip link set vtep1024 down");
    let outcome = bed.finds(&["ping"], &["vxlan-device-wrong"]);
    assert!(
        message(&outcome).contains("vtep1024 of this host is down"),
        "{outcome}"
    );
    bed.go_on();

    on(&bed, "iptables -I INPUT -p udp --dport 64000 -j DROP");
    let outcome = bed.finds(&["ping"], &["firewall-drops"]);
    assert!(message(&outcome).contains("rule INPUT -p udp"), "{outcome}");
    on(&bed, "iptables -D INPUT -p udp --dport 64000 -j DROP");
    bed.finds(&["ping"], &[]);
}

#[test]
fn faults_of_other_hosts_and_of_the_way_are_named() {
    let Some(mut bed) = Bed::start("faults_of_other_hosts_and_of_the_way_are_named", 3) else {
        return;
    };
    bed.on(1, "iptables -I INPUT -p udp --dport 64000 -j DROP");
    let outcome = bed.finds(&["ping"], &["tunnel-blocked"]);
    assert!(
        message(&outcome).starts_with("10.77.1.2 can be reached"),
        "{outcome}"
    );
    bed.on(1, "iptables -D INPUT -p udp --dport 64000 -j DROP");
    bed.finds(&["ping"], &[]);
    bed.on(1, "iptables -I OUTPUT -p udp --dport 64000 -j DROP");
    bed.finds(&["ping"], &["tunnel-blocked"]);
    bed.on(1, "iptables -D OUTPUT -p udp --dport 64000 -j DROP");

    // ICMP that is filtered between the hosts is no fault.
    bed.on(2, "iptables -I INPUT -i eth0 -p icmp -j DROP");
    let json = bed.finds(&["ping"], &[]).json().unwrap();
    let note = json["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("10.77.1.3 answers through the tunnel"),
        "{note}"
    );
    bed.on(2, "iptables -D INPUT -i eth0 -p icmp -j DROP");

    let set_mtu = |bed: &Bed, mtu| {
        bed.cluster
            .underlay()
            .unwrap()
            .set_mtu("agent3", mtu)
            .unwrap()
    };
    set_mtu(&bed, 1400);
    let outcome = bed.finds(&["ping"], &["path-mtu-too-small"]);
    assert!(
        message(&outcome).starts_with("packets of 1500 bytes do not pass directly to 10.77.1.3"),
        "{outcome}"
    );
    bed.finds(&["ping", "--size", "1300"], &[]);
    set_mtu(&bed, 1500);
    bed.finds(&["ping"], &[]);

    bed.stop(1);
    bed.on(1, "ip link set m-dcos down");
    bed.on(1, "ip address flush dev m-dcos");
    let outcome = bed.finds(&["ping"], &["gateway-silent"]);
    assert!(
        message(&outcome).contains("of its device m-dcos does not"),
        "{outcome}"
    );
    bed.go_on();

    bed.stop(1);
    let own = bed.overlay(0);
    let own = own["subnet"].as_str().unwrap();
    bed.on(1, &format!("ip route delete {own} dev vtep1024"));
    let outcome = bed.finds(&["ping", "-4"], &["return-path-broken"]);
    assert!(
        message(&outcome).contains("the route back is missing there"),
        "{outcome}"
    );
    bed.go_on();

    bed.cluster
        .underlay()
        .unwrap()
        .set_connected("agent3", false)
        .unwrap();
    let outcome = bed.run(&["ping"]);
    let codes = outcome.codes().unwrap();
    assert!(
        codes
            .iter()
            .all(|code| ["host-silent", "agent-lost"].contains(&code.as_str())),
        "{outcome}"
    );
    assert_eq!(codes.len(), 1, "{outcome}");
    bed.cluster
        .underlay()
        .unwrap()
        .set_connected("agent3", true)
        .unwrap();
}

#[test]
fn a_lost_agent_is_not_called_a_blocked_tunnel() {
    let Some(mut bed) = Bed::start("a_lost_agent_is_not_called_a_blocked_tunnel", 3) else {
        return;
    };
    bed.cluster.agents[2].kill().unwrap();
    testbed::wait::until("the agent to be lost", crate::bed::LIMIT, || {
        let state = bed.cluster.master.overlay_state()?;
        let mut agents = state["agents"].as_array().into_iter().flatten();
        Ok(agents
            .any(|agent| agent["connected"] == false)
            .then_some(()))
    })
    .unwrap();
    let outcome = bed.finds(&["ping"], &["agent-lost"]);
    assert!(
        message(&outcome).contains("agent of 10.77.1.3"),
        "{outcome}"
    );
    assert!(message(&outcome).ends_with("its host answers"), "{outcome}");
    bed.cluster
        .underlay()
        .unwrap()
        .set_connected("agent3", false)
        .unwrap();
    let outcome = bed.finds(&["ping"], &["agent-lost"]);
    assert!(
        message(&outcome).ends_with("its host does not answer"),
        "{outcome}"
    );
}
