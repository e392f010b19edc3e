//! Network of the tests: a host with containers, a second host behind the tunnel, and the
//! outside.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Bridge, Desired};
use testkit::host::{Host, PATIENCE, eventually, ip, net, peer};

use crate::tool_set::ToolSet;

/// UDP port of the servers that answer with the client's address, and TCP port of the servers that
/// accept connections.
const PORT: u16 = 7;

/// Addresses of the first host on its uplink.
pub const UPLINK: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
/// Addresses of the outside.
pub const OUTSIDE: [&str; 2] = ["192.0.2.9", "2001:db8:1::9"];
/// Addresses of the Mesos container of the first host.
pub const MESOS: [&str; 2] = ["9.0.1.5", "fd01:b::1:0:0:5"];
/// Addresses of the container of the second host.
pub const PEER: [&str; 2] = ["9.0.2.5", "fd01:b::2:0:0:5"];
/// Addresses of the Docker container of the first host.
pub const DOCKER: [&str; 2] = ["9.0.1.133", "fd01:b::1:8000:0:5"];
/// Addresses of a container on a bridge that is not an overlay's.
pub const FOREIGN: [&str; 2] = ["172.30.0.5", "fd02::5"];

/// All hosts and containers.
pub struct Topology {
    pub tools: ToolSet,
    pub host: Host,
    pub mesos: Host,
    pub docker: Host,
    pub foreign: Host,
    pub outside: Host,
    pub peer: Host,
    pub peer_host: Host,
}

impl Topology {
    /// Connects all hosts and containers, without anything that the module configures.
    pub fn new(tools: ToolSet, host: Host) -> Topology {
        let [mesos, docker, foreign, outside, peer, peer_host] =
            std::array::from_fn(|_| Host::new());
        let topology = Topology {
            tools,
            host,
            mesos,
            docker,
            foreign,
            outside,
            peer,
            peer_host,
        };
        // As an operator does who wants the host to forward other packets, too.
        topology.forward_before("1");
        topology.attach_containers();
        topology.connect_hosts();
        topology.start_servers();
        topology
    }

    /// Turns forwarding on (`1`) or off (`0`) on the first host, as it is before the module comes.
    pub fn forward_before(&self, value: &str) {
        self.host.command(&format!(
            "sysctl -qw net.ipv4.ip_forward={value} net.ipv6.conf.all.forwarding={value}"
        ));
    }

    fn attach_containers(&self) {
        for (host, bridge, container, addresses, gateways) in [
            (
                &self.host,
                "m-dcos",
                &self.mesos,
                MESOS,
                ["9.0.1.1/25", "fd01:b::1:0:0:1/81"],
            ),
            (
                &self.host,
                "d-dcos",
                &self.docker,
                DOCKER,
                ["9.0.1.129/25", "fd01:b::1:8000:0:1/81"],
            ),
            (
                &self.host,
                "foreign",
                &self.foreign,
                FOREIGN,
                ["172.30.0.1/24", "fd02::1/64"],
            ),
            (
                &self.peer_host,
                "m-dcos",
                &self.peer,
                PEER,
                ["9.0.2.1/25", "fd01:b::2:0:0:1/81"],
            ),
        ] {
            attach(host, bridge, container, addresses, gateways);
        }
    }

    fn connect_hosts(&self) {
        let host = &self.host;
        host.connect("underlay", &self.peer_host, "underlay");
        host.ip("address add 10.0.0.1/24 dev underlay");
        self.peer_host.ip("address add 10.0.0.2/24 dev underlay");
        host.connect("uplink", &self.outside, "uplink");
        for (own, other, length) in [(UPLINK[0], OUTSIDE[0], 24), (UPLINK[1], OUTSIDE[1], 64)] {
            host.ip(&format!("address add {own}/{length} dev uplink nodad"));
            host.ip(&format!("route add default via {other}"));
            self.outside
                .ip(&format!("address add {other}/{length} dev uplink nodad"));
        }
    }

    fn start_servers(&self) {
        for (server, addresses) in [
            (&self.outside, OUTSIDE),
            (&self.peer, PEER),
            (&self.mesos, MESOS),
            (&self.docker, DOCKER),
            (&self.foreign, FOREIGN),
        ] {
            for address in addresses {
                serve(server, ip(address));
            }
        }
    }

    /// Returns the desired state of the first host.
    pub fn desired(&self) -> Desired {
        let mut desired = Desired {
            firewall: self.tools.choice(),
            ..self.host.desired(1)
        };
        desired.peers = Some(Arc::new([peer(2)].into()));
        let overlay = desired.overlays.get_mut("dcos").unwrap();
        overlay.docker_bridge = Some(Bridge {
            name: "d-dcos".into(),
            subnets: vec![net("9.0.1.128/25"), net("fd01:b::1:8000:0:0/81")],
        });
        desired
    }

    /// Disconnects the containers and removes everything from the first host.
    pub fn clear(&self) {
        self.host.ip("link set m-dcos-port nomaster");
        self.host.ip("link set d-dcos-port nomaster");
        let cni = self.host.desired(1).cni;
        self.host.settle(&Desired {
            cni,
            firewall: self.tools.choice(),
            ..Desired::default()
        });
    }

    /// Configures both hosts.
    pub fn settle(&self) {
        self.host.settle(&self.desired());
        self.peer_host.settle(&Desired {
            peers: Some(Arc::new([peer(1)].into())),
            ..self.peer_host.desired(2)
        });
    }

    /// Asserts that only packets to the outside are masqueraded.
    pub fn assert_addresses(&self) {
        for family in 0..2 {
            let seen = |client: &Host, server: [&str; 2]| seen(client, server[family]);
            assert_eq!(
                seen(&self.mesos, OUTSIDE),
                UPLINK[family],
                "the outside sees the host's address"
            );
            assert_eq!(
                seen(&self.docker, OUTSIDE),
                UPLINK[family],
                "the outside sees the host's address"
            );
            assert_eq!(
                seen(&self.mesos, PEER),
                MESOS[family],
                "a peer sees the container's address"
            );
            assert_eq!(
                seen(&self.docker, PEER),
                DOCKER[family],
                "a peer sees the container's address"
            );
            assert_eq!(
                seen(&self.peer, MESOS),
                PEER[family],
                "the container sees the peer's address"
            );
            assert_eq!(
                seen(&self.mesos, DOCKER),
                MESOS[family],
                "containers of one host see each other's address"
            );
            assert_eq!(
                seen(&self.docker, MESOS),
                DOCKER[family],
                "containers of one host see each other's address"
            );
        }
    }

    /// Returns the content of the host's firewall without packet counters.
    pub fn listing(&self) -> String {
        let commands: &[&str] = match self.tools {
            ToolSet::NftablesAlone => &["nft list ruleset"],
            ToolSet::IptablesNft | ToolSet::Nftables => &[
                "iptables-save",
                "ip6tables-save",
                "ipset list",
                "nft list ruleset",
            ],
            ToolSet::IptablesLegacy => &[
                "iptables-save",
                "ip6tables-save",
                "ipset list",
                "nft list ruleset",
            ],
        };
        let mut listing = String::new();
        for command in commands {
            for line in self.host.command(command).lines() {
                if line.starts_with('#')
                    || line.starts_with("Size in memory")
                    || line.starts_with("Header")
                {
                    continue;
                }
                let words = line
                    .split(" packets ")
                    .next()
                    .unwrap()
                    .split(" [")
                    .next()
                    .unwrap();
                let words = words.split(" counter").next().unwrap();
                listing += &format!("{words}\n");
            }
        }
        // Members of ipsets are listed in no particular order.
        let mut lines: Vec<&str> = listing.lines().collect();
        if self.tools != ToolSet::NftablesAlone {
            lines.sort_unstable();
        }
        lines.join("\n")
    }
}

/// Creates a bridge on the host and attaches a container.
pub fn attach(host: &Host, bridge: &str, container: &Host, own: [&str; 2], gateways: [&str; 2]) {
    let port = format!("{bridge}-port");
    host.ip(&format!("link add {bridge} type bridge"));
    host.connect(&port, container, "eth0");
    host.ip(&format!("link set {port} master {bridge}"));
    host.ip(&format!("link set {bridge} up"));
    container.ip("link set eth0 mtu 1420");
    for (own, gateway) in own.iter().zip(gateways) {
        let (address, length) = gateway.split_once('/').unwrap();
        host.ip(&format!("address add {gateway} dev {bridge} nodad"));
        container.ip(&format!("address add {own}/{length} dev eth0 nodad"));
        container.ip(&format!("route add default via {address}"));
    }
}

/// Starts a server that answers each packet with the source address of the packet, and one that
/// accepts TCP connections.
fn serve(host: &Host, address: IpAddr) {
    host.run(move || {
        let listener = TcpListener::bind((address, PORT)).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
        let socket = UdpSocket::bind((address, PORT)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    });
}

/// Sends one packet; returns the source address that the server saw.
///
/// Each packet has its own source port: packets of a known flow are masqueraded like its
/// first packet, even if the rules have changed since. The kernel's own choice of a port
/// may repeat.
fn query(client: &Host, server: IpAddr, timeout: Duration) -> io::Result<String> {
    static PORTS: AtomicU16 = AtomicU16::new(10_000);
    let port = PORTS.fetch_add(1, Ordering::Relaxed);
    query_from(client, port, server, timeout)
}

/// Sends one packet from a port; returns the source address that the server saw.
pub fn query_from(
    client: &Host,
    port: u16,
    server: IpAddr,
    timeout: Duration,
) -> io::Result<String> {
    client.run(move || {
        let any: IpAddr = if server.is_ipv4() {
            ip("0.0.0.0")
        } else {
            ip("::")
        };
        let socket = UdpSocket::bind((any, port))?;
        socket.connect(SocketAddr::from((server, PORT)))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send(b"?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
}

/// Sends packets until there is an answer (the ports of a new bridge, for example, need
/// some time); returns the source address that the server saw.
pub fn seen(client: &Host, server: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match query(client, ip(server), Duration::from_millis(300)) {
            Ok(seen) => return seen,
            Err(error) => assert!(
                Instant::now() < deadline,
                "no answer from {server}: {error}"
            ),
        }
    }
}

/// Tells if there is no answer within 300 ms. Meaningful only between hosts that have
/// exchanged packets before.
pub fn is_cut_off(client: &Host, server: &str) -> bool {
    query(client, ip(server), Duration::from_millis(300)).is_err()
}

/// Tells if a TCP connection can be opened, at the latest with the packet that the kernel sends again
/// after a second.
pub fn connects(client: &Host, server: &str) -> bool {
    connects_within(client, server, Duration::from_secs(3))
}

/// Asserts that a TCP connection can be opened.
#[track_caller]
pub fn assert_connects(client: &Host, server: &str) {
    eventually(&format!("a connection to {server}"), || {
        connects(client, server)
    });
}

/// Tells if no TCP connection can be opened within a second. Meaningful only between hosts that have
/// exchanged packets before.
pub fn is_closed(client: &Host, server: &str) -> bool {
    !connects_within(client, server, Duration::from_secs(1))
}

fn connects_within(client: &Host, server: &str, limit: Duration) -> bool {
    let server = SocketAddr::from((ip(server), PORT));
    client.run(move || TcpStream::connect_timeout(&server, limit).is_ok())
}
