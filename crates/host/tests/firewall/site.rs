//! A host with containers, a second one behind the tunnel, and an outside.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overlay_core::host_api::desired::{Bridge, Desired};
use testkit::host::{Host, PATIENCE, ip, net, peer};

use crate::tools::Tools;

/// Where the servers listen that say who asks.
const PORT: u16 = 7;

/// Addresses of the first host towards the outside, and of the outside.
pub const UPLINK: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
pub const OUTSIDE: [&str; 2] = ["192.0.2.9", "2001:db8:1::9"];
/// The Mesos container of the first host.
pub const MESOS: [&str; 2] = ["9.0.1.5", "fd01:b::1:0:0:5"];
/// The container of the second host.
pub const PEER: [&str; 2] = ["9.0.2.5", "fd01:b::2:0:0:5"];
/// The Docker container of the first host.
pub const DOCKER: [&str; 2] = ["9.0.1.133", "fd01:b::1:8000:0:5"];
/// A container on a bridge of somebody else.
pub const FOREIGN: [&str; 2] = ["172.30.0.5", "fd02::5"];

/// What there is.
pub struct Site {
    pub tools: Tools,
    pub host: Host,
    pub mesos: Host,
    pub docker: Host,
    pub foreign: Host,
    pub outside: Host,
    pub peer: Host,
    pub peer_host: Host,
}

impl Site {
    /// Lays the cables. Nothing of ours is there yet.
    pub fn new(tools: Tools, host: Host) -> Site {
        let [mesos, docker, foreign, outside, peer, peer_host] =
            std::array::from_fn(|_| Host::new());
        let site = Site {
            tools,
            host,
            mesos,
            docker,
            foreign,
            outside,
            peer,
            peer_host,
        };
        let Site { host, .. } = &site;
        attach(
            host,
            "m-dcos",
            &site.mesos,
            MESOS,
            ["9.0.1.1/25", "fd01:b::1:0:0:1/81"],
        );
        attach(
            host,
            "d-dcos",
            &site.docker,
            DOCKER,
            ["9.0.1.129/25", "fd01:b::1:8000:0:1/81"],
        );
        attach(
            host,
            "foreign",
            &site.foreign,
            FOREIGN,
            ["172.30.0.1/24", "fd02::1/64"],
        );
        attach(
            &site.peer_host,
            "m-dcos",
            &site.peer,
            PEER,
            ["9.0.2.1/25", "fd01:b::2:0:0:1/81"],
        );
        host.connect("underlay", &site.peer_host, "underlay");
        host.ip("address add 10.0.0.1/24 dev underlay");
        site.peer_host.ip("address add 10.0.0.2/24 dev underlay");
        host.connect("uplink", &site.outside, "uplink");
        for (own, other, length) in [(UPLINK[0], OUTSIDE[0], 24), (UPLINK[1], OUTSIDE[1], 64)] {
            host.ip(&format!("address add {own}/{length} dev uplink nodad"));
            host.ip(&format!("route add default via {other}"));
            site.outside
                .ip(&format!("address add {other}/{length} dev uplink nodad"));
        }
        // Whoever is there says who asks.
        for (server, addresses) in [
            (&site.outside, OUTSIDE),
            (&site.peer, PEER),
            (&site.mesos, MESOS),
            (&site.docker, DOCKER),
            (&site.foreign, FOREIGN),
        ] {
            addresses
                .iter()
                .for_each(|address| serve(server, ip(address)));
        }
        site
    }

    /// What the first host wants.
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

    /// The containers go, and then everything that was wanted.
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

    /// Makes both hosts right.
    pub fn settle(&self) {
        self.host.settle(&self.desired());
        self.peer_host.settle(&Desired {
            peers: Some(Arc::new([peer(1)].into())),
            ..self.peer_host.desired(2)
        });
    }

    /// Shows with packets that addresses are what they should be.
    pub fn assert_addresses(&self) {
        for family in 0..2 {
            let seen = |client: &Host, server: [&str; 2]| seen(client, server[family]);
            assert_eq!(
                seen(&self.mesos, OUTSIDE),
                UPLINK[family],
                "outside sees the host"
            );
            assert_eq!(
                seen(&self.docker, OUTSIDE),
                UPLINK[family],
                "outside sees the host"
            );
            assert_eq!(
                seen(&self.mesos, PEER),
                MESOS[family],
                "a peer sees the container"
            );
            assert_eq!(
                seen(&self.docker, PEER),
                DOCKER[family],
                "a peer sees the container"
            );
            assert_eq!(
                seen(&self.peer, MESOS),
                PEER[family],
                "the container sees a peer"
            );
            assert_eq!(
                seen(&self.mesos, DOCKER),
                MESOS[family],
                "neighbours see each other"
            );
            assert_eq!(
                seen(&self.docker, MESOS),
                DOCKER[family],
                "neighbours see each other"
            );
        }
    }

    /// Everything that the host's firewall holds, without what counts packets.
    pub fn listing(&self) -> String {
        let commands: &[&str] = match self.tools {
            Tools::NftablesAlone => &["nft list ruleset"],
            Tools::IptablesNft | Tools::Nftables => &[
                "iptables-save",
                "ip6tables-save",
                "ipset list",
                "nft list ruleset",
            ],
            Tools::IptablesLegacy => &[
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
        // Members of sets have no order.
        let mut lines: Vec<&str> = listing.lines().collect();
        if self.tools != Tools::NftablesAlone {
            lines.sort_unstable();
        }
        lines.join("\n")
    }
}

/// Puts a container onto a bridge of the host.
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

/// Answers whoever asks with the address that it has here.
fn serve(host: &Host, address: IpAddr) {
    host.run(move || {
        let socket = UdpSocket::bind((address, PORT)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    });
}

/// Asks once; gives the address that the server saw.
///
/// No two questions have the same port: the kernel's own choice repeats itself now
/// and then, and what follows in a flow that it knows is masqueraded as the flow's
/// first packet was, whatever the rules have become.
fn ask(client: &Host, server: IpAddr, patience: Duration) -> io::Result<String> {
    static PORTS: AtomicU16 = AtomicU16::new(10_000);
    let port = PORTS.fetch_add(1, Ordering::Relaxed);
    client.run(move || {
        let any: IpAddr = if server.is_ipv4() {
            ip("0.0.0.0")
        } else {
            ip("::")
        };
        let socket = UdpSocket::bind((any, port))?;
        socket.connect(SocketAddr::from((server, PORT)))?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(b"?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
}

/// Asks until there is an answer: ports of a bridge, for one, take their time.
pub fn seen(client: &Host, server: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(client, ip(server), Duration::from_millis(300)) {
            Ok(seen) => return seen,
            Err(error) => assert!(
                Instant::now() < deadline,
                "no answer from {server}: {error}"
            ),
        }
    }
}

/// Whether there is no answer. Only to be asked about a way on which packets go
/// fast if they go at all.
pub fn is_cut_off(client: &Host, server: &str) -> bool {
    ask(client, ip(server), Duration::from_millis(300)).is_err()
}
