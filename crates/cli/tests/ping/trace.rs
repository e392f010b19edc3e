//! What trace says agrees with what becomes of a container's packet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use testbed::container::Container;
use testbed::netns::connect;
use testbed::program::Outcome;
use testbed::task::PORT;

use crate::bed::Bed;

/// Time in which a connection is made where one can be made.
const PATIENCE: Duration = Duration::from_secs(2);

/// Attaches a container to the overlay of an agent.
fn attach(bed: &Bed, agent: usize, name: &str) -> Container {
    let config = bed.cluster.agents[agent].dir().join("cni/dcos.conf");
    let host = bed.host(agent);
    Container::attach(bed.cluster.run(), host, name, &config).unwrap()
}

/// Returns whether a connection from a container is made.
fn connects(from: &Container, to: IpAddr, port: u16) -> bool {
    connect(Some(from.netns()), SocketAddr::new(to, port), PATIENCE).is_ok()
}

/// Asserts that trace on the host of an agent finds these, and that a connection is made if it says
/// that packets arrive, and only then.
#[track_caller]
fn agrees(
    bed: &Bed,
    on: usize,
    from: &Container,
    to: IpAddr,
    port: u16,
    arrives: Option<bool>,
    codes: &[&str],
) -> Outcome {
    let source = from
        .ips()
        .iter()
        .find(|ip| ip.is_ipv4() == to.is_ipv4())
        .unwrap();
    let arguments = [
        "trace",
        &source.to_string(),
        &to.to_string(),
        &port.to_string(),
    ];
    let outcome = bed.program(on).ask(&arguments).unwrap();
    let found: Vec<String> = outcome.codes().unwrap().into_iter().collect();
    assert_eq!(found, codes, "{outcome}");
    let json = outcome.json().unwrap();
    assert_eq!(
        json["arrives"],
        arrives.map_or(Value::Null, Value::from),
        "{outcome}"
    );
    assert_eq!(
        connects(from, to, port),
        arrives != Some(false),
        "{outcome}"
    );
    outcome
}

/// Returns the names of the steps, and the state of the last one.
fn steps(outcome: &Outcome) -> (Vec<String>, String) {
    let json = outcome.json().unwrap();
    let steps = json["steps"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = steps.iter().map(|step| text(&step["step"])).collect();
    (names, text(&steps.last().unwrap()["state"]))
}

#[test]
fn a_packet_is_followed_to_its_end() {
    let Some(mut bed) = Bed::start("a_packet_is_followed_to_its_end", 2) else {
        return;
    };
    let a = attach(&bed, 0, "a");
    let b = attach(&bed, 1, "b");
    let c = attach(&bed, 0, "c");
    let (to, host): (IpAddr, IpAddr) = (b.ip(), bed.host(1).ip().into());
    let outcome = agrees(&bed, 0, &a, to, PORT, Some(true), &[]);
    let (names, state) = steps(&outcome);
    assert_eq!(
        names,
        [
            "bridge",
            "route",
            "forwarding",
            "firewall",
            "masquerading",
            "tunnel",
            "neighbour",
            "fdb",
            "underlay",
            "agent",
            "probe"
        ]
    );
    assert_eq!(state, "ok");
    let verdict = outcome.json().unwrap()["verdict"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        verdict.starts_with("It arrives at a container of dcos on 10.77.1.2"),
        "{verdict}"
    );
    let six = b.ips().iter().find(|ip| ip.is_ipv6()).unwrap();
    agrees(&bed, 0, &a, *six, PORT, Some(true), &[]);
    // From the other host's point of view.
    let outcome = agrees(&bed, 1, &a, to, PORT, Some(true), &[]);
    let (names, _) = steps(&outcome);
    assert_eq!(
        names,
        [
            "agent",
            "tunnel",
            "firewall",
            "tunnel",
            "route",
            "forwarding",
            "firewall",
            "bridge",
            "container"
        ]
    );
    // On one bridge.
    agrees(&bed, 0, &a, c.ip(), PORT, Some(true), &[]);
    // The other host's own address, through the tunnel.
    let outcome = agrees(&bed, 0, &a, host, 5051, Some(true), &[]);
    assert!(steps(&outcome).0.contains(&"rule".to_owned()), "{outcome}");
    assert!(
        outcome.stdout.contains("dev vtep1024 table 42"),
        "{outcome}"
    );
    // Outside of the overlays.
    let outcome = agrees(&bed, 0, &a, "10.77.0.1".parse().unwrap(), 5050, None, &[]);
    assert!(
        outcome.stdout.contains("by eth0 with the source 10.77.1.1"),
        "{outcome}"
    );
    // Nobody.
    for nobody in ["9.200.0.7", "44.128.9.9"] {
        let nobody = nobody.parse().unwrap();
        agrees(&bed, 0, &a, nobody, 80, Some(false), &["not-found"]);
    }
    let subnet = bed.overlay(1)["subnet"].as_str().unwrap().to_owned();
    let unused: IpAddr = subnet.replace(".0/24", ".77").parse().unwrap();
    agrees(&bed, 0, &a, unused, 80, Some(false), &["container-silent"]);
    b.detach().unwrap();
    agrees(&bed, 0, &a, to, PORT, Some(false), &["container-silent"]);
    let host_itself = bed.program(0).ask(&["trace", "host", "9.200.0.7"]).unwrap();
    assert_eq!(host_itself.code(), Some(1), "{host_itself}");
    let page = bed
        .program(0)
        .run(&["trace", &a.ip().to_string(), "10.77.1.2"])
        .unwrap();
    assert!(
        page.stdout
            .contains("It arrives at the host of the agent 10.77.1.2"),
        "{page}"
    );
    // Without root the firewall and the other host are not seen.
    let nobody = bed.program(0).as_nobody();
    let arguments = [
        "trace",
        &a.ip().to_string(),
        &host.to_string(),
        "--master",
        "10.77.0.1:5050",
    ];
    let outcome = nobody.ask(&arguments).unwrap();
    assert!(outcome.codes().unwrap().is_empty(), "{outcome}");
    let json = outcome.json().unwrap();
    assert_eq!(json["notes"].as_array().unwrap().len(), 2, "{outcome}");
    assert_eq!(json["arrives"], Value::Null, "{outcome}");
    bed.go_on();
}

#[test]
fn each_fault_of_this_host_ends_the_way_at_its_step() {
    let Some(mut bed) = Bed::start("each_fault_of_this_host_ends_the_way_at_its_step", 2) else {
        return;
    };
    let a = attach(&bed, 0, "a");
    let b = attach(&bed, 1, "b");
    let (to, host) = (b.ip(), bed.host(1).ip().into());
    let peer = bed.overlay(1);
    let vxlan = &peer["backend"]["vxlan"];
    let mac = vxlan["vtep_mac"].as_str().unwrap();
    let vtep = vxlan["vtep_ip"].as_str().unwrap();
    let (vtep, _) = vtep.split_once('/').unwrap();
    let subnet = peer["subnet"].as_str().unwrap();
    let ends = |bed: &Bed, code: &str, step: &str| {
        let outcome = agrees(bed, 0, &a, to, PORT, Some(false), &[code]);
        let (names, state) = steps(&outcome);
        assert_eq!(names.last().unwrap(), step, "{outcome}");
        assert_eq!(state, "drops", "{outcome}");
    };
    agrees(&bed, 0, &a, to, PORT, Some(true), &[]);

    let rule = format!("FORWARD -d {to} -p tcp --dport {PORT} -j DROP");
    bed.on(0, &format!("iptables -I {rule}"));
    ends(&bed, "firewall-drops", "firewall");
    let ask = ["trace", &a.ip().to_string(), &to.to_string(), "80"];
    assert!(
        bed.program(0).codes(&ask).unwrap().is_empty(),
        "another port passes"
    );
    bed.on(0, &format!("iptables -D {rule}"));

    bed.stop(0);
    bed.on(0, &format!("ip route delete {subnet} dev vtep1024"));
    ends(&bed, "route-wrong", "route");
    bed.go_on();
    bed.stop(0);
    bed.on(
        0,
        &format!("ip neighbour replace {vtep} lladdr 70:b3:d5:80:00:99 dev vtep1024 nud permanent"),
    );
    ends(&bed, "neighbour-wrong", "neighbour");
    bed.go_on();
    bed.stop(0);
    bed.on(
        0,
        &format!("bridge fdb replace {mac} dev vtep1024 dst 10.77.1.9 self permanent"),
    );
    ends(&bed, "fdb-wrong", "fdb");
    bed.go_on();
    bed.stop(0);
    bed.on(0, "ip link set vtep1024 down");
    let outcome = agrees(&bed, 0, &a, to, PORT, Some(false), &["route-wrong"]);
    assert!(outcome.stdout.contains("no route to"), "{outcome}");
    bed.go_on();
    bed.stop(0);
    bed.on(0, "sysctl -qw net.ipv4.conf.m-dcos.forwarding=0");
    let outcome = agrees(&bed, 0, &a, to, PORT, Some(false), &["forwarding-off"]);
    assert_eq!(steps(&outcome).1, "drops", "{outcome}");
    bed.on(0, "sysctl -qw net.ipv4.conf.m-dcos.forwarding=1");
    bed.go_on();
    // Without the rule, the packet leaves directly, and arrives with another source.
    bed.stop(0);
    bed.on(0, "ip rule delete from 9.0.0.0/8 lookup 42");
    let outcome = agrees(&bed, 0, &a, host, 5051, None, &["rule-missing"]);
    assert!(
        outcome.stdout.contains("by eth0 with the source 10.77.1.1"),
        "{outcome}"
    );
    bed.go_on();
}

#[test]
fn each_fault_of_the_other_host_is_seen_from_both() {
    let Some(mut bed) = Bed::start("each_fault_of_the_other_host_is_seen_from_both", 2) else {
        return;
    };
    let a = attach(&bed, 0, "a");
    let b = attach(&bed, 1, "b");
    let to = b.ip();
    let from_both = |bed: &Bed, near: &str, far: &str| {
        agrees(bed, 0, &a, to, PORT, Some(false), &[near]);
        agrees(bed, 1, &a, to, PORT, Some(false), &[far]);
    };
    bed.on(1, "iptables -I INPUT -p udp --dport 64000 -j DROP");
    from_both(&bed, "tunnel-blocked", "firewall-drops");
    bed.on(1, "iptables -D INPUT -p udp --dport 64000 -j DROP");

    bed.stop(1);
    bed.on(1, "sysctl -qw net.ipv4.ip_forward=0");
    from_both(&bed, "container-silent", "forwarding-off");
    bed.on(1, "sysctl -qw net.ipv4.ip_forward=1");
    bed.go_on();

    bed.stop(1);
    bed.on(1, "ip link set m-dcos down");
    bed.on(1, "ip address flush dev m-dcos");
    agrees(&bed, 0, &a, to, PORT, Some(false), &["gateway-silent"]);
    bed.on(1, "ip link set m-dcos up");
    bed.go_on();

    // The way back leads elsewhere, and the filter is strict.
    bed.stop(1);
    let own = bed.overlay(0)["subnet"].as_str().unwrap().to_owned();
    bed.on(1, "sysctl -qw net.ipv4.conf.vtep1024.rp_filter=1");
    bed.on(1, &format!("ip route delete {own} dev vtep1024"));
    bed.on(1, &format!("ip route add {own} dev eth0"));
    agrees(&bed, 0, &a, to, PORT, Some(false), &["return-path-broken"]);
    let outcome = agrees(&bed, 1, &a, to, PORT, Some(false), &["reverse-path-filter"]);
    assert_eq!(steps(&outcome).0.last().unwrap(), "route", "{outcome}");
    bed.on(1, &format!("ip route delete {own} dev eth0"));
    bed.on(1, "sysctl -qw net.ipv4.conf.vtep1024.rp_filter=0");
    bed.go_on();
    agrees(&bed, 0, &a, to, PORT, Some(true), &[]);
}
