//! Memory that messages take while they are decoded: little for those that no cluster needs,
//! and all that the largest cluster needs are accepted.
//!
//! Every test prints the largest amount of memory and the time. Tests of this program run in a
//! process each, or one after the other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use overlay_core::master::Master;
use overlay_core::proto::agent_overlay_info;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, Peer, PeerSubnet, RegisterAgentMessage, Session,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{
    AgentInfo, AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, State, VxLanInfo,
};
use overlay_core::protocol::limits::{self, MAX_HELD_OVERLAYS, MAX_OVERLAYS};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::peer_list_codec::{PEERS, pack, unpack};
use overlay_core::protocol::reports::bound_report;
use overlay_core::{Input, Machine, Time};
use prost::Message;
use prost::encoding::message::encode_repeated;

/// The system's allocator, with a count of what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time.
static MEASURING: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

/// Measures `call`, prints the numbers, and asserts that it took at most `limit` bytes.
#[track_caller]
fn measure<T>(what: &str, limit: usize, call: impl FnOnce() -> T) -> T {
    let _one = MEASURING.lock().unwrap_or_else(|error| error.into_inner());
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let result = call();
    let (time, most) = (start.elapsed(), MOST.load(Ordering::Relaxed) - before);
    println!("{what}: {:.2} MiB, {time:.0?}", most as f64 / MIB as f64);
    assert!(
        most <= limit,
        "{what} took {most} bytes, not at most {limit}"
    );
    result
}

/// Returns `count` empty fields of the message type that has them.
fn empty(field: u32, count: usize) -> Vec<u8> {
    let mut one = Vec::new();
    prost::encoding::bytes::encode(field, &Vec::new(), &mut one);
    one.repeat(count)
}

/// Packs bytes that repeat themselves.
fn pack_repeated(part: &[u8], times: usize) -> bytes::Bytes {
    pack((0..times).map(|_| part))
}

#[test]
fn a_bomb_of_peers_is_given_up_early() {
    let packed = pack_repeated(&empty(PEERS, 10_000), 2200);
    assert!(packed.len() < 100_000, "{}", packed.len());
    let refused = measure("22 million empty peers, packed", 48 * MIB, || {
        unpack(&packed)
    });
    assert_eq!(
        refused.unwrap_err(),
        "its packed peers cannot be decoded: it has more than 100000 elements"
    );
    // Peers of two bytes each, with their subnets.
    let peer = Peer {
        subnets: vec![PeerSubnet::default(); 10_000],
        ..Peer::default()
    };
    let mut encoded = Vec::new();
    encode_repeated(PEERS, &[peer], &mut encoded);
    let packed = pack_repeated(&encoded, 1000);
    let refused = measure("10 million empty subnets, packed", 256 * MIB, || {
        unpack(&packed)
    });
    assert_eq!(
        refused.unwrap_err(),
        "its packed peers cannot be decoded: its elements have more than 1000000 elements"
    );
    let packed = pack_repeated(&[0; 10_000], 10_000);
    let refused = measure("100 MB of zeros, packed", 8 * MIB, || unpack(&packed[..]));
    assert!(refused.is_err());
}

#[test]
fn plain_messages_are_counted_before_they_are_decoded() {
    let peers = empty(PEERS, 15_000_000);
    let refused = measure("15 million empty peers", 4096, || {
        limits::decode::<UpdatePeersMessage>(peers.as_slice())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 100000 elements");
    let overlays = empty(1, 1_000_000);
    let refused = measure("a million empty overlays", 4096, || {
        limits::decode::<UpdateAgentOverlaysMessage>(overlays.as_slice())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 5000 elements");
    let refused = measure("a report of a million states", 4096, || {
        limits::decode::<AgentRegisteredMessage>(overlays.as_slice())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 100000 elements");
    let junk = vec![b'x'; 60 * MIB];
    let mut errors = Vec::new();
    prost::encoding::bytes::encode(100, &junk, &mut errors);
    let refused = measure("a report with an error of 60 MiB", 4096, || {
        limits::decode::<AgentRegisteredMessage>(errors.as_slice())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 16777216 bytes");
    let refused = measure("a registration of 60 MiB", 4096, || {
        limits::decode::<RegisterAgentMessage>(junk.as_slice())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 65536 bytes");
    let agents = empty(2, 100_000_000);
    let refused = measure("a log with 100 million agents", 4096, || {
        limits::decode_state(agents.into())
    });
    let message = refused.unwrap_err().to_string();
    assert_eq!(message, "it has more than 1000000 elements");
}

/// Registrations that anybody can make up wait until the log is read, one for each address.
#[test]
fn a_registration_that_waits_takes_little() {
    const COUNT: u32 = 2_000;
    let config = r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;
    let config = overlay_core::config::master::parse("master.json", config);
    let me = "overlay-master@10.255.0.1:5050".parse().unwrap();
    let mut master = Master::new(config.unwrap().config, me, 1);
    let long = "x".repeat(15_000);
    let forged = RegisterAgentMessage {
        vtep_ip: Some(long.clone()),
        vtep_ip6: Some(long.clone()),
        holds: vec![PeerSubnet::default(); MAX_HELD_OVERLAYS],
        session: Some(Session {
            secret: Some(long.into()),
            ..Session::default()
        }),
        ..RegisterAgentMessage::default()
    };
    let body = bytes::Bytes::from(forged.encode_to_vec());
    assert!(body.len() > 46_000, "{}", body.len());
    measure("2,000 registrations of 47 KB that wait", 4 * MIB, || {
        for number in 0..COUNT {
            let input = Input::Message {
                from: format!(
                    "overlay-agent@{}:5051",
                    Ipv4Addr::from(0x0a00_0000 + number + 1)
                )
                .parse()
                .unwrap(),
                name: RegisterAgentMessage::NAME.to_owned(),
                body: body.clone(),
            };
            master.handle(Time::default(), input);
            while master.poll_effect().is_some() {}
        }
    });
}

fn overlay(number: usize, error: String) -> AgentOverlayInfo {
    let name = format!("overlay-{number:05}");
    let text = |text: &str| Some(text.to_owned());
    let bridge = |prefix: char| {
        Some(BridgeInfo {
            name: format!("{prefix}-{name}"),
            ip: text("255.255.255.128/25"),
            ip6: text("fd01:1234:1234:1234:1234:8000::/81"),
        })
    };
    AgentOverlayInfo {
        info: OverlayInfo {
            name: name.clone(),
            subnet: text("255.255.0.0/16"),
            prefix: Some(24),
            subnet6: text("fd01:1234:1234:1234::/64"),
            prefix6: Some(80),
            enabled: Some(true),
        },
        subnet: text("255.255.255.0/24"),
        mesos_bridge: bridge('m'),
        docker_bridge: bridge('d'),
        backend: BackendInfo {
            vxlan: Some(VxLanInfo {
                vni: 1024,
                vtep_name: "vtep1024".to_owned(),
                vtep_ip: "144.128.128.101/20".to_owned(),
                vtep_mac: "70:b3:d5:80:00:01".to_owned(),
                vtep_ip6: text("fd01:1234:1234:1234:1234::1/64"),
                vtep_mtu: Some(9000),
            }),
        },
        state: Some(agent_overlay_info::State {
            status: Some(2),
            error: Some(error),
        }),
        subnet6: text("fd01:1234:1234:1234:1234::/80"),
        echo: None,
    }
}

fn peer(number: u32, overlays: usize) -> Peer {
    let subnet = |overlay: usize| PeerSubnet {
        overlay: format!("overlay-{overlay:05}"),
        subnet: Some(format!("{}/26", Ipv4Addr::from(0x8000_0000 + number))),
        subnet6: Some(format!("fd01:1234:1234:1234:{number:x}::/80")),
    };
    Peer {
        ip: Ipv4Addr::from(0xac10_0000 + number).to_string(),
        vni: 1024,
        vtep_ip: Ipv4Addr::from(0x9080_0000 + number).to_string(),
        vtep_ip6: Some(format!("fd01:a::{number:x}")),
        vtep_mac: "70:b3:d5:80:00:01".to_owned(),
        subnets: (0..overlays).map(subnet).collect(),
    }
}

#[test]
fn what_the_largest_cluster_needs_is_accepted() {
    for (agents, overlays) in [(50_000, 1), (50_000, 5), (1_000, 400)] {
        let peers: Vec<_> = (0..agents).map(|number| peer(number, overlays)).collect();
        let mut encoded = Vec::new();
        encode_repeated(PEERS, &peers, &mut encoded);
        let what = format!(
            "{agents} peers with {overlays} overlays, {} MiB",
            encoded.len() / MIB
        );
        let packed = pack([encoded.as_slice()].into_iter());
        let unpacked = measure(&format!("{what}, packed"), 256 * MIB, || unpack(&packed));
        assert_eq!(unpacked.unwrap(), peers);
        let message = measure(&what, 256 * MIB, || {
            limits::decode::<UpdatePeersMessage>(encoded.as_slice())
        });
        assert_eq!(message.unwrap().peers.len(), peers.len());
    }
    let removed = UpdatePeersMessage {
        removed: vec!["255.255.255.255".to_owned(); 50_000],
        ..UpdatePeersMessage::default()
    };
    let removed = limits::decode::<UpdatePeersMessage>(removed.encode_to_vec().as_slice());
    assert_eq!(removed.unwrap().removed.len(), 50_000);
}

#[test]
fn lists_and_reports_of_many_overlays_are_accepted() {
    let error = "e".repeat(1_000);
    let overlays: Vec<_> = (0..MAX_OVERLAYS)
        .map(|number| overlay(number, error.clone()))
        .collect();
    let list = UpdateAgentOverlaysMessage {
        overlays: overlays.clone(),
        problems: vec!["p".repeat(300); 2 * MAX_OVERLAYS],
        ..UpdateAgentOverlaysMessage::default()
    };
    let list = limits::decode::<UpdateAgentOverlaysMessage>(list.encode_to_vec().as_slice());
    assert_eq!(list.unwrap().overlays, overlays);
    let report = AgentRegisteredMessage {
        overlays,
        // Release 0.1 reports all of them.
        host_errors: vec!["e".repeat(150); 50_000],
        ..AgentRegisteredMessage::default()
    };
    let bytes = report.encode_to_vec();
    let mut report = measure("a report with 50,000 errors", 64 * MIB, || {
        limits::decode::<AgentRegisteredMessage>(bytes.as_slice()).unwrap()
    });
    bound_report(&mut report, |_| true);
    assert_eq!(report.host_errors.len(), 33);
    let states = report
        .overlays
        .iter()
        .filter_map(|overlay| overlay.state.as_ref());
    let states: usize = states.map(|state| state.error().len()).sum();
    let errors: usize = report.host_errors.iter().map(String::len).sum();
    println!("… of which {states} bytes of states and {errors} of other errors are kept");
    assert!(states < 300_000 && errors < 10_000);
}

#[test]
fn the_log_of_the_largest_cluster_is_accepted() {
    let agent = AgentInfo {
        ip: "172.16.100.100".to_owned(),
        overlays: vec![overlay(1, String::new()); 1],
        ..AgentInfo::default()
    };
    let state = State {
        agents: vec![agent; 50_000],
        ..State::default()
    };
    let bytes = bytes::Bytes::from(state.encode_to_vec());
    let what = format!("a log of {} MiB", bytes.len() / MIB);
    let decoded = measure(&what, 256 * MIB, || limits::decode_state(bytes));
    assert!(decoded.unwrap() == state);
}
