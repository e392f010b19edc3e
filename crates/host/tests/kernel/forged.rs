//! Forged messages "from" the leading master, and hosts that an earlier release believed them:
//! an agent with the kernel of a host.

use std::time::Duration;

use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::problem::Problem;
use overlay_core::proto::internal::{
    Peer, PeerSubnet, PeersVersion, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, HostReport, Input, Machine, Time, Upid};
use testkit::host::Host;

use super::{ROUTES, with_peers};

const LEADER: &str = "10.9.9.9";

/// An agent at 10.0.0.200 that reaches its master over a router.
struct Victim {
    agent: Agent,
    host: Host,
    log: Vec<String>,
    now: Time,
    /// Report of the last reconciliation.
    report: HostReport,
}

fn add_device(host: &Host, name: &str, address: &str) {
    host.ip(&format!("link add {name} type veth peer name {name}-far"));
    host.ip(&format!("address add {address} dev {name}"));
    host.ip(&format!("link set {name} up"));
    host.ip(&format!("link set {name}-far up"));
}

/// Makes a host with an underlay.
fn connected() -> Host {
    let host = Host::new();
    add_device(&host, "eth0", "10.0.0.200/24");
    host.ip("route add default via 10.0.0.1");
    host
}

/// Asserts that the host reaches these addresses over its underlay.
fn assert_reached(host: &Host) {
    for ip in [LEADER, "10.0.0.1", "10.0.0.77", "8.8.8.8"] {
        let route = &host.json(&format!("ip -j route get {ip}"))[0];
        assert_eq!(route["dev"], "eth0", "{ip}: {route}");
    }
}

impl Victim {
    fn new() -> Victim {
        let host = connected();
        let me = "overlay-agent@10.0.0.200:5051".parse().unwrap();
        let mut config = AgentConfig::new(host.cni.path());
        config.network.docker_bridge = false;
        let mut victim = Victim {
            agent: Agent::new(config, me, 1),
            host,
            log: Vec::new(),
            now: Time::default(),
            report: HostReport::default(),
        };
        let leader = Upid::new("master", format!("{LEADER}:5050").parse().unwrap());
        victim.input(Input::Leader(Some(leader)));
        victim
    }

    /// Hands an input to the agent, and reconciles the host as often as the agent wants.
    fn input(&mut self, input: Input) {
        self.agent.handle(self.now, input);
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Log(_, line) => self.log.push(line),
                Effect::ApplyHost {
                    generation,
                    desired,
                } => {
                    self.report = HostReport {
                        generation,
                        ..self.host.apply(&desired)
                    };
                    let done = Input::HostDone(self.report.clone());
                    self.agent.handle(self.now, done);
                }
                _ => {}
            }
        }
    }

    fn message<M: Named>(&mut self, message: &M) {
        self.input(Input::Message {
            from: format!("overlay-master@{LEADER}:5050").parse().unwrap(),
            name: M::NAME.to_owned(),
            body: message.encode_to_vec().into(),
        });
        // The agent may wait for a proof of the sender before it believes it.
        self.now = self.now + Duration::from_secs(3);
        self.input(Input::Timeout);
    }

    fn assign(&mut self, vtep: &str) {
        let vxlan = VxLanInfo {
            vni: 1024,
            vtep_name: "vtep1024".into(),
            vtep_ip: vtep.into(),
            vtep_mac: "70:b3:d5:80:00:02".into(),
            ..VxLanInfo::default()
        };
        let overlay = AgentOverlayInfo {
            info: OverlayInfo {
                name: "dcos".into(),
                subnet: Some("9.0.0.0/8".into()),
                prefix: Some(24),
                ..OverlayInfo::default()
            },
            subnet: Some("9.0.2.0/24".into()),
            backend: BackendInfo { vxlan: Some(vxlan) },
            ..AgentOverlayInfo::default()
        };
        self.message(&UpdateAgentOverlaysMessage {
            overlays: vec![overlay],
            ..UpdateAgentOverlaysMessage::default()
        });
    }

    /// Sends a list of peers, each with a subnet of `dcos`.
    fn peers(&mut self, version: u64, subnets: &[&str]) {
        let peer = |(n, subnet): (usize, &&str)| Peer {
            ip: format!("10.0.0.{}", n + 3),
            vni: 1024,
            vtep_ip: format!("44.128.0.{}", n + 3),
            vtep_mac: format!("70:b3:d5:80:00:{:02x}", n + 3),
            subnets: vec![PeerSubnet {
                overlay: "dcos".into(),
                subnet: Some((*subnet).to_owned()),
                subnet6: None,
            }],
            ..Peer::default()
        };
        self.message(&UpdatePeersMessage {
            version: PeersVersion {
                epoch: Some(7),
                version: Some(version),
                digest: None,
            },
            peers: subnets.iter().enumerate().map(peer).collect(),
            ..UpdatePeersMessage::default()
        });
    }

    fn addresses(&self) -> Vec<String> {
        let json = self.host.json("ip -j -4 address show dev vtep1024");
        let addresses = json[0]["addr_info"].as_array().unwrap().iter();
        let address =
            |a: &serde_json::Value| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]);
        addresses.map(address).collect()
    }
}

#[test]
fn a_forged_vtep_does_not_take_the_masters_address() {
    if !testkit::root("a_forged_vtep") {
        return;
    }
    let mut victim = Victim::new();
    victim.assign("44.128.0.2/20");
    victim.peers(1, &["9.0.3.0/24"]);
    for forged in [
        "10.9.9.9/1",
        "10.9.9.9/24",
        "10.9.0.1/16",
        "10.0.0.1/8",
        "0.0.0.1/8",
        // Only the kernel knows how large the underlay's network is.
        "10.0.0.77/28",
    ] {
        victim.assign(forged);
        assert_reached(&victim.host);
        assert_eq!(victim.addresses(), ["44.128.0.2/20"], "{forged}");
        assert_eq!(victim.host.field(ROUTES, "dst"), ["9.0.3.0/24"], "{forged}");
    }
    let obstacle = &victim.report.overlays["dcos"];
    assert!(
        obstacle.contains("10.0.0.77 lies in 10.0.0.200/24 of device eth0"),
        "{obstacle}"
    );
    let sender = format!("Overlay \"dcos\" of overlay-master@{LEADER}:5050 cannot be set up");
    assert!(victim.log.iter().any(|line| line.contains(&sender)));
    victim.assign("44.128.0.2/20");
    assert!(victim.report.is_ok(), "{:?}", victim.report);
}

#[test]
fn forged_peers_do_not_take_the_hosts_traffic() {
    if !testkit::root("forged_peers") {
        return;
    }
    let mut victim = Victim::new();
    victim.assign("44.128.0.2/20");
    victim.peers(
        1,
        &["9.0.3.0/24", "0.0.0.0/1", "128.0.0.0/1", "10.9.9.9/32"],
    );
    assert_reached(&victim.host);
    assert_eq!(victim.host.field(ROUTES, "dst"), ["9.0.3.0/24"]);
    let warning = "the master sent subnet 0.0.0.0/1 of dcos, which does not lie within 9.0.0.0/8";
    let log = &victim.log;
    assert!(log.iter().any(|line| line.contains(warning)), "{log:?}");

    // A network that only the kernel knows, within the overlay.
    add_device(&victim.host, "eth1", "9.0.4.7/25");
    victim.peers(2, &["9.0.3.0/24", "9.0.4.0/24", "9.0.5.0/24"]);
    assert_eq!(
        victim.host.field(ROUTES, "dst"),
        ["9.0.3.0/24", "9.0.5.0/24"]
    );
    assert_eq!(
        Problem::texts(&victim.report.host),
        [
            "cannot add route 9.0.4.0/24: peer 10.0.0.4 has this subnet, but it overlaps 9.0.4.7/25 of device eth1"
        ]
    );
    let route = &victim.host.json("ip -j route get 9.0.4.9")[0];
    assert_eq!(route["dev"], "eth1");
}

/// What an earlier release made of a forged list.
const POISON: [&str; 5] = [
    "route add 0.0.0.0/1 via 44.128.0.66 dev vtep1024 proto 142",
    "route add 128.0.0.0/1 via 44.128.0.66 dev vtep1024 proto 142",
    "route add 10.9.9.9/32 via 44.128.0.66 dev vtep1024 proto 142",
    "route add 10.0.0.64/26 via 44.128.0.66 dev vtep1024 proto 142",
    "route add 9.0.66.0/24 via 44.128.0.66 dev vtep1024 proto 142",
];

#[test]
fn a_poisoned_host_is_right_again_before_its_peers_are_known() {
    if !testkit::root("a_poisoned_host") {
        return;
    }
    let host = connected();
    host.settle(&with_peers(&host));
    for poison in POISON {
        host.ip(poison);
    }
    let unknown = Desired {
        peers: None,
        ..host.desired(1)
    };
    host.settle(&unknown);
    assert_reached(&host);
    // Whether peers have these, nobody knows yet.
    assert_eq!(
        host.field(ROUTES, "dst"),
        ["9.0.2.0/24", "9.0.3.0/24", "9.0.66.0/24"]
    );
}

#[test]
fn a_host_that_was_cut_off_reaches_its_master_when_the_agent_starts() {
    if !testkit::root("a_host_that_was_cut_off") {
        return;
    }
    let host = connected();
    host.settle(&with_peers(&host));
    for poison in POISON {
        host.ip(poison);
    }
    // The VTEP with the master's address and half of all networks.
    host.ip("address add 10.9.9.9/1 dev vtep1024");
    let first_aid = || {
        let own = "10.0.0.200".parse().ok();
        host.run(move || overlay_host::first_aid(own)).unwrap()
    };
    assert_eq!(first_aid(), 5);
    assert_reached(&host);
    assert_eq!(
        host.field(ROUTES, "dst"),
        ["9.0.2.0/24", "9.0.3.0/24", "9.0.66.0/24"]
    );
    assert_eq!(first_aid(), 0);
    // Nothing was taken from the overlays.
    assert_eq!(host.apply_ok(&with_peers(&host)), 1, "9.0.66.0/24 goes");
}
