//! Random inputs for the master, in any order. Its invariants hold, see
//! [`testkit::checked_master`]: it does not panic, every request is answered once, there is one
//! write at a time, only a leader uses the log, agents are sent what is in the log, and no two
//! agents share anything.

use std::collections::BTreeSet;
use std::time::Duration;

use overlay_core::proto;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeerSubnet, PeersReceivedMessage, PeersVersion,
    RegisterAgentMessage,
};
use overlay_core::protocol::messages::NAMES;
use overlay_core::{Input, StoreOutcome, Upid};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use testkit::checked_master::{CheckedMaster, Fetched, agent};

/// An input of the master.
#[derive(Clone, Debug)]
enum Step {
    Register {
        agent: u8,
        port: u16,
        config: AgentNetworkConfig,
        peers: Option<PeersVersion>,
    },
    Report(u8, AgentRegisteredMessage),
    Received(u8, PeersVersion),
    Garbage {
        from: u8,
        name: &'static str,
        body: Vec<u8>,
    },
    Request {
        method: &'static str,
        path: String,
        query: Option<(String, String)>,
        body: Vec<u8>,
    },
    Delete(Vec<u8>, Option<bool>),
    Reclaim(Option<Vec<u8>>),
    Leader(Option<u8>),
    Fetched(Fetched),
    Stored(StoreOutcome, bool),
    Exited(u8),
    Wait(u16),
}

fn version() -> impl Strategy<Value = PeersVersion> {
    (any::<Option<u64>>(), any::<Option<u64>>()).prop_map(|(epoch, version)| PeersVersion {
        epoch,
        version,
        digest: version,
    })
}

prop_compose! {
    fn config()(
        allocate_subnet in any::<Option<bool>>(), mesos_bridge in any::<Option<bool>>(),
        docker_bridge in any::<Option<bool>>(), enable_ipv6 in any::<Option<bool>>(),
    ) -> AgentNetworkConfig {
        AgentNetworkConfig {
            allocate_subnet, mesos_bridge, docker_bridge, enable_ipv6, overlay_mtu: Some(1420),
            ..Default::default()
        }
    }
}

fn report() -> impl Strategy<Value = AgentRegisteredMessage> {
    let state = (any::<Option<i32>>(), prop::option::of("(?s).{0,20}"))
        .prop_map(|(status, error)| proto::agent_overlay_info::State { status, error });
    let overlay = ("dcos|web|(?s).{0,20}", prop::option::of(state)).prop_map(|(name, state)| {
        proto::AgentOverlayInfo {
            info: proto::OverlayInfo {
                name,
                ..Default::default()
            },
            state,
            ..Default::default()
        }
    });
    (
        prop::collection::vec(overlay, 0..3),
        prop::option::of("(?s).{0,20}|x{3000}"),
    )
        .prop_map(|(overlays, error)| AgentRegisteredMessage {
            overlays,
            host_errors: error.into_iter().collect(),
            ..Default::default()
        })
}

fn request() -> impl Strategy<Value = Step> {
    let path = prop_oneof![
        Just("/overlay-master/state".to_owned()),
        Just("/overlay-master/agents/delete".to_owned()),
        Just("/overlay-master/agents/reclaim".to_owned()),
        any::<String>()
    ];
    let body = prop_oneof![
        any::<Vec<u8>>(),
        r#"\{"agents": ?\[("10\.0\.0\.[0-9]"|[0-9]|null)?\]\}"#.prop_map(String::into_bytes),
    ];
    let query = prop::option::of(("jsonp|x", any::<String>()));
    (
        select(&["GET", "HEAD", "POST", "PUT"][..]),
        path,
        query,
        body,
    )
        .prop_map(|(method, path, query, body)| Step::Request {
            method,
            path,
            query,
            body,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let agents = 1..24u8;
    let outcome = prop_oneof![
        8 => Just(StoreOutcome::Stored),
        1 => Just(StoreOutcome::Superseded),
        1 => Just(StoreOutcome::Failed("disk full".to_owned())),
    ];
    let fetched = prop_oneof![
        20 => Just(Fetched::Log),
        4 => Just(Fetched::Error),
        1 => any::<Vec<u8>>().prop_map(Fetched::Garbage),
    ];
    let register = (
        agents.clone(),
        5051..5053u16,
        config(),
        prop::option::of(version()),
    )
        .prop_map(|(agent, port, config, peers)| Step::Register {
            agent,
            port,
            config,
            peers,
        });
    prop_oneof![
        12 => register,
        3 => (agents.clone(), report()).prop_map(|(agent, report)| Step::Report(agent, report)),
        3 => (agents.clone(), version()).prop_map(|(agent, version)| Step::Received(agent, version)),
        3 => (agents.clone(), select(NAMES), any::<Vec<u8>>())
            .prop_map(|(from, name, body)| Step::Garbage { from, name, body }),
        3 => request(),
        3 => (prop::collection::vec(agents.clone(), 0..4), any::<Option<bool>>())
            .prop_map(|(agents, force)| Step::Delete(agents, force)),
        2 => prop::option::of(prop::collection::vec(agents.clone(), 0..4)).prop_map(Step::Reclaim),
        2 => prop::option::of(0..2u8).prop_map(Step::Leader),
        8 => fetched.prop_map(Step::Fetched),
        12 => (outcome, any::<bool>()).prop_map(|(outcome, written)| Step::Stored(outcome, written)),
        2 => agents.prop_map(Step::Exited),
        4 => (0..3000u16).prop_map(Step::Wait),
    ]
}

/// Returns the addresses of agents.
fn addresses(numbers: &[u8]) -> Vec<String> {
    let address = |number: &u8| format!("10.0.0.{number}");
    numbers.iter().map(address).collect()
}

/// Requests to delete agents, or to reclaim from them.
fn post(master: &mut CheckedMaster, action: &str, body: String) {
    let path = format!("/overlay-master/agents/{action}");
    master.request("POST", path, None, body.into_bytes());
}

/// Delivers an input.
fn apply(master: &mut CheckedMaster, step: Step) {
    match step {
        Step::Register {
            agent: number,
            port,
            config,
            peers,
        } => {
            let unpacks_peers = Some(number % 2 == 0);
            let message = RegisterAgentMessage {
                network_config: config,
                peers,
                unpacks_peers,
                vtep_ip: (number % 3 == 0).then(|| format!("44.128.0.{}", number % 8)),
                holds: vec![PeerSubnet {
                    overlay: "dcos".to_owned(),
                    subnet: Some(format!("9.0.{}.0/24", number % 5)),
                    subnet6: Some("nonsense".to_owned()),
                }],
                ..Default::default()
            };
            master.message(agent(number, port), &message);
        }
        Step::Report(number, report) => master.message(agent(number, 5051), &report),
        Step::Received(number, version) => {
            master.message(
                agent(number, 5051),
                &PeersReceivedMessage {
                    version,
                    ..Default::default()
                },
            );
        }
        Step::Garbage { from, name, body } => {
            let from = agent(from, 5051);
            master.input(Input::Message {
                from,
                name: name.to_owned(),
                body: body.into(),
            });
        }
        Step::Request {
            method,
            path,
            query,
            body,
        } => master.request(method, path, query, body),
        Step::Delete(agents, force) => {
            let force = force.map_or(String::new(), |force| format!(", \"force\": {force}"));
            let body = format!("{{\"agents\": {:?}{force}}}", addresses(&agents));
            post(master, "delete", body);
        }
        Step::Reclaim(agents) => {
            let body = agents.map_or("{}".to_owned(), |agents| {
                format!("{{\"agents\": {:?}}}", addresses(&agents))
            });
            post(master, "reclaim", body);
        }
        Step::Leader(leader) => {
            let pid = |n: u8| Upid::new("master", format!("10.0.0.25{n}:5050").parse().unwrap());
            master.is_leading = leader == Some(0);
            master.input(Input::Leader(leader.map(pid)));
        }
        Step::Fetched(fetched) => master.fetched(fetched),
        Step::Stored(outcome, written) => master.stored(outcome, written),
        Step::Exited(number) => master.input(Input::Exited(agent(number, 5051))),
        Step::Wait(ms) => master.wait(Duration::from_millis(ms.into())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn invariants_hold_for_random_inputs(
        steps in prop::collection::vec(step(), 1..150),
        seed in any::<u64>(),
        last in any::<Index>(),
    ) {
        let mut master = CheckedMaster::new(seed);
        // Standbys do little, so most of the time the master leads.
        apply(&mut master, Step::Leader(Some(0)));
        if last.index(4) > 0 {
            apply(&mut master, Step::Fetched(Fetched::Log));
        }
        for step in steps {
            apply(&mut master, step);
        }
        // All answers are given in the end.
        apply(&mut master, Step::Stored(StoreOutcome::Stored, true));
        apply(&mut master, Step::Stored(StoreOutcome::Stored, true));
        prop_assert_eq!(master.unanswered, BTreeSet::new());
    }

    #[test]
    fn a_random_log_is_read_or_refused(bytes in any::<Vec<u8>>(), agents in prop::collection::vec(stored_agent(), 0..4)) {
        let state = proto::State { agents, ..Default::default() }.encode_to_vec();
        for log in [bytes, state] {
            let mut master = CheckedMaster::new(1);
            apply(&mut master, Step::Leader(Some(0)));
            apply(&mut master, Step::Fetched(Fetched::Garbage(log)));
            master.request("GET", "/overlay-master/state".to_owned(), None, Vec::new());
            prop_assert_eq!(master.unanswered, BTreeSet::new());
        }
    }
}

prop_compose! {
    fn stored_agent()(
        ip in "10\\.0\\.0\\.[0-9]|fd01::1|.*",
        overlays in prop::collection::vec(stored_overlay(), 0..3),
    ) -> proto::AgentInfo {
        proto::AgentInfo { ip, overlays, configuration_attempts: None, ..Default::default() }
    }
}

prop_compose! {
    fn stored_overlay()(
        name in "dcos|web|off|old|",
        subnet in prop::option::of("9\\.0\\.0\\.(0|16|32)/2[78]|7\\.0\\.0\\.0/8|fd01::/64|x"),
        subnet6 in prop::option::of("fd01:b:0:0:[2468a]000::/67|9\\.0\\.0\\.0/8|"),
        vtep_ip in "44\\.128\\.0\\.[0-9]/28|44\\.128\\.0\\.3|1\\.1\\.1\\.1/8|",
        vtep_ip6 in prop::option::of("fd01:a::[1-7]/125|::/0|x"),
        vxlan in any::<bool>(),
    ) -> proto::AgentOverlayInfo {
        let vxlan = vxlan.then(|| proto::VxLanInfo { vtep_ip, vtep_ip6, ..Default::default() });
        proto::AgentOverlayInfo {
            info: proto::OverlayInfo { name, ..Default::default() },
            subnet, subnet6,
            backend: proto::BackendInfo { vxlan },
            ..Default::default()
        }
    }
}
