//! Changes that the monitor reports and those that it ignores.

use testbed::monitor::Monitor;
use testbed::net::Underlay;
use testbed::run::Run;
use testbed::skip;

#[test]
fn hears_every_kind_of_change() {
    if !skip::require_hosts("hears_every_kind_of_change") {
        return;
    }
    let run = Run::new().unwrap();
    let underlay = Underlay::new(&run).unwrap();
    let host = underlay
        .host(&run, "host", "10.77.2.1".parse().unwrap())
        .unwrap();
    let do_it = |line: &str| {
        let (program, rest) = line.split_once(' ').unwrap();
        host.run(program, &rest.split(' ').collect::<Vec<_>>())
            .unwrap()
    };
    do_it("ip link add vtep1024 type vxlan id 1024 dstport 64000");
    do_it("ip link set vtep1024 up");
    let monitor = Monitor::new(&host).unwrap();
    for line in [
        "ip link set vtep1024 mtu 1400",
        "ip address add 44.128.0.1/20 dev vtep1024",
        "ip -6 address add fd01:a::1/64 dev vtep1024 nodad",
        "ip neighbour add 44.128.0.2 lladdr 70:b3:d5:80:00:02 nud permanent dev vtep1024",
        "bridge fdb add 70:b3:d5:80:00:02 dst 10.77.1.2 self permanent dev vtep1024",
        "ip route add 9.0.2.0/24 via 44.128.0.2",
        "ip route replace 9.0.2.0/24 via 44.128.0.3",
        "ip rule add from 9.0.0.0/8 lookup 42",
        "ip -6 rule add from fd01:b::/64 lookup 42",
        "bridge fdb replace 70:b3:d5:80:00:02 dst 10.77.1.3 self permanent dev vtep1024",
        "ip neighbour replace 44.128.0.2 lladdr 70:b3:d5:80:00:03 nud permanent dev vtep1024",
        "ip link delete vtep1024",
        "nft add table inet test",
    ] {
        do_it(line);
        let changes = monitor.changes().unwrap();
        assert!(!changes.is_empty(), "not heard: {line}");
    }
    // A neighbour that the kernel resolves (or not) is not reported.
    let _ = host.run("ping", &["-c", "1", "-W", "1", "10.77.2.9"]);
    do_it("ip route show");
    assert_eq!(monitor.changes().unwrap(), [] as [&str; 0]);
}
