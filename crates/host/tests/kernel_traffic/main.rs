//! Packets between containers of two hosts. Hosts and containers are network namespaces, connected
//! by veth pairs.
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::Desired;
use testkit::host::{Host, PATIENCE, ip, peer};

/// Warnings that were logged in this process.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct KeepWarnings;

impl log::Log for KeepWarnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Port of the echo servers.
const PORT: u16 = 7;

/// Largest payload of a packet of the overlay's MTU (1420 bytes) with headers of IPv6 and UDP. It
/// shows that no encapsulated packet is too large.
const PAYLOAD: usize = 1420 - 40 - 8;

/// Host number `n`: an agent with one container.
struct Agent {
    host: Host,
    container: Host,
}

impl Agent {
    fn new(n: u8) -> Agent {
        let (host, container) = (Host::new(), Host::new());
        host.ip("link add m-dcos type bridge");
        host.connect("port", &container, "eth0");
        host.ip("link set port master m-dcos");
        container.ip("link set eth0 mtu 1420");
        for (prefix, gateway, own) in [
            (25, format!("9.0.{n}.1"), format!("9.0.{n}.5")),
            (
                81,
                format!("fd01:b::{n}:0:0:1"),
                format!("fd01:b::{n}:0:0:5"),
            ),
        ] {
            // The addresses are unique, so duplicate address detection is not needed.
            host.ip(&format!("address add {gateway}/{prefix} dev m-dcos nodad"));
            container.ip(&format!("address add {own}/{prefix} dev eth0 nodad"));
            host.ip("link set m-dcos up");
            container.ip(&format!("route add default via {gateway}"));
        }
        Agent { host, container }
    }

    fn desired(&self, n: u8, peer_number: u32) -> Desired {
        Desired {
            peers: Some(Arc::new([peer(peer_number)].into())),
            ..self.host.desired(n)
        }
    }
}

/// Two agents on one underlay.
fn agents() -> (Agent, Agent) {
    let (one, two) = (Agent::new(1), Agent::new(2));
    one.host.connect("underlay", &two.host, "underlay");
    one.host.ip("address add 10.0.0.1/24 dev underlay");
    two.host.ip("address add 10.0.0.2/24 dev underlay");
    (one, two)
}

/// Echoes packets until the socket's timeout.
fn serve_echo(host: &Host, address: IpAddr) {
    host.run(move || {
        let socket = UdpSocket::bind((address, PORT)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let _ = socket.send_to(&packet[..length], from);
            }
        });
    });
}

/// Sends a packet and waits for its echo. Late echoes of earlier packets are ignored.
fn ping(host: &Host, from: IpAddr, to: IpAddr) -> io::Result<()> {
    host.run(move || {
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let to = SocketAddr::from((to, PORT));
        let packet: Vec<u8> = (0..PAYLOAD).map(|i| i as u8).collect();
        socket.send_to(&packet, to)?;
        let mut echo = [0; 2000];
        let (length, sender) = socket.recv_from(&mut echo)?;
        assert_eq!((&echo[..length], sender), (&packet[..], to));
        Ok(())
    })
}

/// Sends packets until one is echoed, since ports of bridges are not usable at once.
fn assert_reaches(host: &Host, from: &str, to: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = ping(host, ip(from), ip(to)) {
        assert!(
            Instant::now() < deadline,
            "{from} does not reach {to}: {error}"
        );
    }
}

/// Returns the number of packets that a host's tunnel received.
fn received(host: &Host) -> u64 {
    host.json("ip -j -s link show vtep1024")[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .unwrap()
}

#[test]
fn containers_of_two_hosts_reach_each_other() {
    if !testkit::root("containers_of_two_hosts") {
        return;
    }
    let (one, two) = agents();
    one.host.settle(&one.desired(1, 2));
    two.host.settle(&two.desired(2, 1));
    for address in ["9.0.2.5", "fd01:b::2:0:0:5"] {
        serve_echo(&two.container, ip(address));
    }
    serve_echo(&two.host, ip("10.0.0.2"));
    for (from, to) in [
        ("9.0.1.5", "9.0.2.5"),
        ("fd01:b::1:0:0:5", "fd01:b::2:0:0:5"),
        // The other host itself, also through the tunnel (table 42), sees the container's own
        // address.
        ("9.0.1.5", "10.0.0.2"),
    ] {
        let before = received(&two.host);
        assert_reaches(&one.container, from, to);
        assert!(
            received(&two.host) > before,
            "{from} reached {to} on some other way"
        );
    }

    // A peer that left is unreachable; one that returned is reachable.
    one.host.settle(&Desired {
        peers: Some(Arc::default()),
        ..one.desired(1, 2)
    });
    ping(&one.container, ip("9.0.1.5"), ip("9.0.2.5")).unwrap_err();
    ping(&one.container, ip("fd01:b::1:0:0:5"), ip("fd01:b::2:0:0:5")).unwrap_err();
    one.host.settle(&one.desired(1, 2));
    assert_reaches(&one.container, "9.0.1.5", "9.0.2.5");
    assert_reaches(&one.container, "fd01:b::1:0:0:5", "fd01:b::2:0:0:5");
}

/// The first address of the network card is another one, such as a virtual IP. Firewalls between
/// the hosts know the agents' addresses only.
#[test]
fn packets_between_hosts_have_the_agents_addresses() {
    if !testkit::root("packets_between_hosts_have_the_agents_addresses") {
        return;
    }
    let (one, two) = (Agent::new(1), Agent::new(2));
    one.host.connect("underlay", &two.host, "underlay");
    one.host.ip("address add 10.0.0.100/24 dev underlay");
    one.host.ip("address add 10.0.0.1/24 dev underlay");
    two.host.ip("address add 10.0.0.2/24 dev underlay");
    let line = "iptables -w -A INPUT -p udp --dport 64000 ! -s 10.0.0.1 -j DROP";
    two.host.command(line);
    for (agent, n, other) in [(&one, 1, 2), (&two, 2, 1)] {
        agent.host.settle(&Desired {
            underlay_ip: Some([10, 0, 0, n].into()),
            ..agent.desired(n, other)
        });
    }
    serve_echo(&two.container, ip("9.0.2.5"));
    assert_reaches(&one.container, "9.0.1.5", "9.0.2.5");
}

#[test]
fn traffic_flows_again_after_the_device_was_deleted() {
    if !testkit::root("traffic_flows_again") {
        return;
    }
    let (one, two) = agents();
    one.host.settle(&one.desired(1, 2));
    two.host.settle(&two.desired(2, 1));
    serve_echo(&two.container, ip("9.0.2.5"));
    assert_reaches(&one.container, "9.0.1.5", "9.0.2.5");
    one.host.ip("link delete vtep1024");
    ping(&one.container, ip("9.0.1.5"), ip("9.0.2.5")).unwrap_err();
    one.host.settle(&one.desired(1, 2));
    assert_reaches(&one.container, "9.0.1.5", "9.0.2.5");
}

#[test]
fn an_underlay_that_is_too_narrow_is_told_once() {
    if !testkit::root("an_underlay_that_is_too_narrow") {
        return;
    }
    // Another test may have set this.
    let _ = log::set_logger(&KeepWarnings);
    log::set_max_level(log::LevelFilter::Warn);
    let (one, _two) = agents();
    // One thread for all passes, since repeated warnings are suppressed per thread.
    let worker = one.host.worker();
    let settle = || (0..2).for_each(|_| _ = worker.apply_ok(&one.desired(1, 2)));
    one.host.ip("link set underlay mtu 1480");
    settle();
    let about_it = || {
        let warnings = WARNINGS.lock().unwrap();
        warnings
            .iter()
            .filter(|warning| warning.contains("underlay (MTU 1480)"))
            .count()
    };
    assert_eq!(
        about_it(),
        1,
        "one warning is enough for two passes: {:?}",
        WARNINGS.lock()
    );
    one.host.ip("link set underlay mtu 1500");
    settle();
    one.host.ip("link set underlay mtu 1480");
    settle();
    assert_eq!(about_it(), 2, "it is news again");
}

/// Checks the warning on a host with router advertisements, which it ignores once it forwards IPv6.
#[test]
fn a_host_that_will_lose_its_routers_is_warned() {
    if !testkit::root("a_host_that_will_lose_its_routers") {
        return;
    }
    let _ = log::set_logger(&KeepWarnings);
    log::set_max_level(log::LevelFilter::Warn);
    // A network card that does not lead to the peers lives on them, too.
    let (host, other) = (Host::new(), Host::new());
    host.connect("uplink0", &other, "uplink");
    host.connect("public0", &other, "public");
    host.ip("address add 10.0.0.1/24 dev uplink0");
    host.command("sysctl -qw net.ipv6.conf.public0.accept_ra=1");
    host.ip("address add fd98::1/64 dev public0 valid_lft 1000 preferred_lft 1000 nodad");
    host.settle(&Desired {
        underlay_ip: Some([10, 0, 0, 1].into()),
        ..host.desired(1)
    });
    let about = |warning: &String| warning.contains("net.ipv6.conf.public0.accept_ra to 2");
    assert!(WARNINGS.lock().unwrap().iter().any(about));
    let warned = |host: &Host, device: &str| {
        let desired = Desired {
            underlay_ip: Some("10.0.0.1".parse().unwrap()),
            ..host.desired(1)
        };
        host.settle(&desired);
        let sentence = format!("unless you set the sysctl net.ipv6.conf.{device}.accept_ra to 2");
        WARNINGS
            .lock()
            .unwrap()
            .iter()
            .any(|warning| warning.ends_with(&sentence))
    };
    let passing = "address add fd99::1/64 dev NAME valid_lft 1000 preferred_lft 1000 nodad";
    let route = "-6 route add default via fe80::9 dev NAME proto ra";
    for (n, accept, by_hand, expected) in [
        (1, 1, passing, true),
        (2, 1, route, true),
        (3, 2, passing, false),
        (4, 0, route, false),
        // None of this comes from a router.
        (5, 1, "address add fd99::1/64 dev NAME nodad", false),
    ] {
        let (host, other, name) = (Host::new(), Host::new(), format!("uplink{n}"));
        host.connect(&name, &other, "uplink");
        host.ip(&format!("address add 10.0.0.1/24 dev {name}"));
        host.command(&format!(
            "sysctl -qw net.ipv6.conf.{name}.accept_ra={accept}"
        ));
        host.ip(&by_hand.replace("NAME", &name));
        assert_eq!(
            warned(&host, &name),
            expected,
            "accept_ra {accept}, {by_hand}"
        );
        let after = host.command(&format!("sysctl -n net.ipv6.conf.{name}.accept_ra"));
        assert_eq!(
            after.trim(),
            accept.to_string(),
            "it is the operator's to set"
        );
    }
}
