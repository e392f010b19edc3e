//! Compatibility of the replicated log with the predecessor, which writes and reads the same
//! states.
//!
//! `tests/fixtures/network-state.hex` was written by hand from the field numbers that clusters
//! have on disk, without the code under test.

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto;
use overlay_core::proto::agent_overlay_info;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredMessage, PeersVersion, RegisterAgentMessage,
    UpdateAgentOverlaysMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Machine, Request, RequestId, StoreOutcome, Time, Upid};
use prost::Message;

/// The messages and fields of the predecessor.
mod schema {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct State {
        #[prost(message, optional, tag = 1)]
        pub network: Option<NetworkConfig>,
        #[prost(message, repeated, tag = 2)]
        pub agents: Vec<AgentInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NetworkConfig {
        #[prost(string, required, tag = 1)]
        pub vtep_subnet: String,
        #[prost(string, required, tag = 2)]
        pub vtep_mac_oui: String,
        #[prost(message, repeated, tag = 3)]
        pub overlays: Vec<OverlayInfo>,
        #[prost(string, optional, tag = 4)]
        pub vtep_subnet6: Option<String>,
        #[prost(uint32, optional, tag = 5)]
        pub vtep_mtu: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OverlayInfo {
        #[prost(string, required, tag = 1)]
        pub name: String,
        #[prost(string, optional, tag = 2)]
        pub subnet: Option<String>,
        #[prost(uint32, optional, tag = 3)]
        pub prefix: Option<u32>,
        #[prost(string, optional, tag = 4)]
        pub subnet6: Option<String>,
        #[prost(uint32, optional, tag = 5)]
        pub prefix6: Option<u32>,
        #[prost(bool, optional, tag = 6)]
        pub enabled: Option<bool>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AgentInfo {
        #[prost(string, required, tag = 1)]
        pub ip: String,
        #[prost(message, repeated, tag = 2)]
        pub overlays: Vec<AgentOverlayInfo>,
        #[prost(uint32, optional, tag = 3)]
        pub configuration_attempts: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AgentOverlayInfo {
        #[prost(message, required, tag = 1)]
        pub info: OverlayInfo,
        #[prost(string, optional, tag = 2)]
        pub subnet: Option<String>,
        #[prost(message, optional, tag = 3)]
        pub mesos_bridge: Option<BridgeInfo>,
        #[prost(message, optional, tag = 4)]
        pub docker_bridge: Option<BridgeInfo>,
        #[prost(message, required, tag = 5)]
        pub backend: BackendInfo,
        #[prost(string, optional, tag = 7)]
        pub subnet6: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct BridgeInfo {
        #[prost(string, required, tag = 1)]
        pub name: String,
        #[prost(string, optional, tag = 2)]
        pub ip: Option<String>,
        #[prost(string, optional, tag = 3)]
        pub ip6: Option<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct BackendInfo {
        #[prost(message, optional, tag = 1)]
        pub vxlan: Option<VxLanInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct VxLanInfo {
        #[prost(uint32, required, tag = 1)]
        pub vni: u32,
        #[prost(string, required, tag = 2)]
        pub vtep_name: String,
        #[prost(string, required, tag = 3)]
        pub vtep_ip: String,
        #[prost(string, required, tag = 4)]
        pub vtep_mac: String,
        #[prost(string, optional, tag = 5)]
        pub vtep_ip6: Option<String>,
        #[prost(uint32, optional, tag = 6)]
        pub vtep_mtu: Option<u32>,
    }
}

/// Decodes a state as the predecessor does, and asserts that it has no other fields.
#[track_caller]
fn decode_as_predecessor(value: &Bytes) -> schema::State {
    let state = schema::State::decode(value.clone()).unwrap();
    assert_eq!(
        state.encode_to_vec(),
        *value,
        "the predecessor does not know a field"
    );
    state
}

fn fixture() -> Bytes {
    let hex: String = include_str!("../fixtures/network-state.hex")
        .split_whitespace()
        .collect();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn agent(ip: &str) -> Upid {
    format!("overlay-agent@{ip}:5051").parse().unwrap()
}

/// Returns a leading master that has read this state.
fn serving(value: Bytes) -> Master {
    let config = r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [
            {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
            {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80}]}}"#;
    let me: Upid = "overlay-master@10.0.0.250:5050".parse().unwrap();
    let mut master = Master::new(parse("master.json", config).unwrap().config, me.clone(), 1);
    effects(
        &mut master,
        Input::Leader(Some(Upid::new("master", me.address))),
    );
    effects(&mut master, Input::Fetched(Ok(value)));
    master
}

/// Returns the effects of an input.
fn effects(master: &mut Master, input: Input) -> Vec<Effect> {
    master.handle(Time::default(), input);
    std::iter::from_fn(|| master.poll_effect()).collect()
}

fn message<M: Named>(ip: &str, message: &M) -> Input {
    Input::Message {
        from: agent(ip),
        name: M::NAME.into(),
        body: message.encode_to_vec().into(),
    }
}

fn register(ip: &str, peers: bool) -> Input {
    let peers = peers.then(PeersVersion::default);
    let network_config = AgentNetworkConfig::default();
    message(
        ip,
        &RegisterAgentMessage {
            network_config,
            peers,
            ..Default::default()
        },
    )
}

fn stored(effects: &[Effect]) -> Option<(u64, Bytes)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Io(Io::Store { number, state }) => Some((*number, state.clone())),
        _ => None,
    })
}

fn answer(effects: &[Effect], ip: &str) -> UpdateAgentOverlaysMessage {
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::Io(Io::Send { to, name, body, .. })
            if *to == agent(ip) && *name == UpdateAgentOverlaysMessage::NAME =>
        {
            Some(UpdateAgentOverlaysMessage::decode(body.clone()).unwrap())
        }
        _ => None,
    });
    answer.unwrap_or_else(|| panic!("no answer to {ip}: {effects:?}"))
}

fn without_echo(overlay: proto::AgentOverlayInfo) -> proto::AgentOverlayInfo {
    assert_eq!(overlay.echo.as_ref().map(|echo| echo.len()), Some(16));
    proto::AgentOverlayInfo {
        echo: None,
        ..overlay
    }
}

#[test]
fn the_predecessors_state_is_kept() {
    let before = decode_as_predecessor(&fixture());
    let mut master = serving(fixture());
    // Agents with complete allocations keep them, and nothing has to be written.
    for (ip, peers) in [("10.0.0.1", false), ("10.0.0.2", true)] {
        let effects = effects(&mut master, register(ip, peers));
        assert_eq!(stored(&effects), None, "{ip} has a complete allocation");
        let sent = answer(&effects, ip).overlays;
        let state = proto::State::decode(fixture()).unwrap();
        let stored_overlays = state
            .agents
            .into_iter()
            .find(|agent| agent.ip == ip)
            .unwrap()
            .overlays;
        let sent: Vec<_> = sent.into_iter().map(without_echo).collect();
        assert_eq!(sent, stored_overlays);
    }
    // A third agent is added, and the others stay as they were.
    let (_, value) = stored(&effects(&mut master, register("10.0.0.3", true))).expect("a write");
    let mut state = proto::State::decode(value).unwrap();
    assert_eq!(
        state.agents[2].provisional.take(),
        Some(true),
        "it has not reported"
    );
    let after = decode_as_predecessor(&state.encode_to_vec().into());
    assert_eq!(
        (&after.agents[..2], &after.network),
        (&before.agents[..], &before.network)
    );
    assert_eq!(
        after.agents[2].overlays[0].subnet.as_deref(),
        Some("9.0.2.0/24")
    );
    assert_eq!(
        after.agents[2].overlays[1].subnet6.as_deref(),
        Some("fd01:b:0:0:2::/80")
    );
}

#[test]
fn a_state_without_new_features_is_that_of_the_predecessor() {
    let mut master = serving(Bytes::new());
    let mut values = Vec::new();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        let (number, value) = stored(&effects(&mut master, register(ip, true))).expect("a write");
        values.push(value);
        let overlays = answer(
            &effects(
                &mut master,
                Input::Stored {
                    number,
                    outcome: StoreOutcome::Stored,
                },
            ),
            ip,
        )
        .overlays;
        // The report returns what the list has and the log has not. So the agent is provisional
        // no longer, and nothing else of the report is stored.
        let ok = agent_overlay_info::state::Status::Ok;
        let state = Some(agent_overlay_info::State {
            status: Some(ok.into()),
            error: None,
        });
        let overlays = overlays.into_iter().map(|o| proto::AgentOverlayInfo {
            state: state.clone(),
            ..o
        });
        let report = AgentRegisteredMessage {
            overlays: overlays.collect(),
            ..Default::default()
        };
        let (number, value) = stored(&effects(&mut master, message(ip, &report))).expect("a write");
        let outcome = StoreOutcome::Stored;
        effects(&mut master, Input::Stored { number, outcome });
        values.push(value);
        assert_eq!(stored(&effects(&mut master, message(ip, &report))), None);
    }
    assert_eq!(
        decode_as_predecessor(&values[3]),
        decode_as_predecessor(&fixture())
    );
    assert_eq!(values[3], fixture(), "to the byte");
}

/// Returns the registration of an agent with these bridges.
fn register_with(ip: &str, mesos: bool, docker: bool) -> Input {
    let network_config = AgentNetworkConfig {
        mesos_bridge: Some(mesos),
        docker_bridge: Some(docker),
        ..Default::default()
    };
    message(
        ip,
        &RegisterAgentMessage {
            network_config,
            peers: Some(PeersVersion::default()),
            ..Default::default()
        },
    )
}

/// Configures an overlay as the predecessor's agent with both bridges does.
fn configure_as_predecessor(overlay: &schema::AgentOverlayInfo) -> Result<(), String> {
    let bridge = |bridge: &Option<schema::BridgeInfo>, what: &str| {
        let bridge = bridge.as_ref();
        bridge.cloned().ok_or(format!("Missing {what} bridge info"))
    };
    bridge(&overlay.mesos_bridge, "Mesos")?;
    bridge(&overlay.docker_bridge, "Docker").map(|_| ())
}

/// The predecessor gives an agent the overlays that its record has, as they are there.
#[test]
fn an_agent_can_go_back_whatever_it_wanted_meanwhile() {
    for (mesos, docker) in [(true, false), (false, true), (false, false)] {
        let mut master = serving(fixture());
        let effects = effects(&mut master, register_with("10.0.0.1", mesos, docker));
        assert_eq!(stored(&effects), None, "nothing is lost");
        for overlay in answer(&effects, "10.0.0.1").overlays {
            let bridges = (
                overlay.mesos_bridge.is_some(),
                overlay.docker_bridge.is_some(),
            );
            assert_eq!(bridges, (mesos, docker), "the agent gets what it requests");
        }
        shows_and_writes_all_bridges(&mut master);
    }
}

/// Checks that the endpoint shows both bridges of both agents, and that the next write has them.
fn shows_and_writes_all_bridges(master: &mut Master) {
    let get = Input::Request(Request {
        id: RequestId(1),
        method: "GET".into(),
        path: "/overlay-master/state".into(),
        query: Default::default(),
        accept: None,
        headers: Default::default(),
        body: Bytes::new(),
    });
    let shown = effects(master, get);
    let shown = shown.iter().find_map(|effect| match effect {
        Effect::Io(Io::Respond { response, .. }) => Some(response.body.clone()),
        _ => None,
    });
    let shown = String::from_utf8(shown.expect("an answer").to_vec()).unwrap();
    for bridge in ["m-dcos\"", "d-dcos\"", "m-dcos6", "d-dcos6"] {
        assert_eq!(
            shown.matches(bridge).count(),
            2,
            "{bridge} of both agents: {shown}"
        );
    }
    // The record of another agent is written, and this one with it.
    let (_, value) = stored(&effects(master, register("10.0.0.3", true))).expect("a write");
    let mut state = proto::State::decode(value).unwrap();
    state.agents[2].provisional = None;
    let state = decode_as_predecessor(&state.encode_to_vec().into());
    for agent in &state.agents {
        for overlay in &agent.overlays {
            assert_eq!(configure_as_predecessor(overlay), Ok(()), "{overlay:?}");
        }
    }
}

/// Returns the state in which the first agent has no bridge for Docker.
fn without_a_bridge() -> Bytes {
    let mut state = proto::State::decode(fixture()).unwrap();
    for overlay in &mut state.agents[0].overlays {
        overlay.docker_bridge = None;
    }
    state.encode_to_vec().into()
}

/// Returns the registration of the predecessor's agent with a bridge for Mesos.
fn register_predecessor(ip: &str) -> Input {
    let network_config = AgentNetworkConfig {
        mesos_bridge: Some(true),
        docker_bridge: Some(false),
        ..Default::default()
    };
    message(
        ip,
        &RegisterAgentMessage {
            network_config,
            ..Default::default()
        },
    )
}

#[test]
fn a_record_gets_no_bridge_that_nobody_requests() {
    let before = decode_as_predecessor(&without_a_bridge());
    let mut master = serving(without_a_bridge());
    for _ in 0..2 {
        let effects = effects(&mut master, register_predecessor("10.0.0.1"));
        assert_eq!(stored(&effects), None, "the agent has all that it requests");
    }
    // The record of another agent is written, and this one with it.
    let (_, value) = stored(&effects(&mut master, register("10.0.0.3", true))).expect("a write");
    let mut state = proto::State::decode(value).unwrap();
    assert_eq!(state.agents.pop().unwrap().ip, "10.0.0.3");
    assert_eq!(state.encode_to_vec(), *without_a_bridge(), "to the byte");
    assert_eq!(before.agents[0].overlays[0].docker_bridge, None);
}

/// An agent registers twice in a new cluster, as the predecessor's agent does.
#[test]
fn a_new_record_has_the_bridges_of_the_request() {
    let mut master = serving(Bytes::new());
    let mut values = Vec::new();
    for _ in 0..2 {
        let effects_now = effects(&mut master, register_predecessor("10.0.0.1"));
        let Some((number, value)) = stored(&effects_now) else {
            continue;
        };
        values.push(value);
        let outcome = StoreOutcome::Stored;
        effects(&mut master, Input::Stored { number, outcome });
    }
    assert_eq!(values.len(), 1, "the second time changes nothing");
    let mut state = proto::State::decode(values.remove(0)).unwrap();
    state.agents[0].provisional = None;
    let mut expected = proto::State::decode(without_a_bridge()).unwrap();
    expected.agents.truncate(1);
    assert_eq!(
        state.encode_to_vec(),
        expected.encode_to_vec(),
        "to the byte"
    );
}

/// Release 0.1 left out of the record what the agent did not request at its latest registration.
#[test]
fn a_record_that_lost_a_bridge_has_it_after_one_request() {
    let mut master = serving(without_a_bridge());
    let effects_now = effects(&mut master, register_with("10.0.0.1", false, true));
    let (number, value) = stored(&effects_now).expect("a write");
    assert_eq!(
        decode_as_predecessor(&value),
        decode_as_predecessor(&fixture())
    );
    let outcome = StoreOutcome::Stored;
    effects(&mut master, Input::Stored { number, outcome });
    let effects = effects(&mut master, register_with("10.0.0.1", true, false));
    assert_eq!(stored(&effects), None, "it stays");
}

/// Agents of the predecessor do not register again, and would not learn of a change.
#[test]
fn a_takeover_keeps_the_allocations() {
    let mut state = proto::State::decode(fixture()).unwrap();
    let overlays = &mut state.agents[0].overlays;
    // The agent requested bridges when it got its subnet of the overlay that is not in the
    // configuration any more, and requests none since.
    overlays[0].mesos_bridge = None;
    overlays[1].info.name = "gone".into();
    overlays[1].info.subnet6 = Some("fd01:c::/64".into());
    overlays[1].subnet6 = Some("fd01:c::/80".into());
    let before = state.agents[0].clone();
    let mut master = serving(state.encode_to_vec().into());
    let (_, value) = stored(&effects(&mut master, register("10.0.0.3", true))).expect("a write");
    let after = proto::State::decode(value).unwrap();
    let after = after
        .agents
        .iter()
        .find(|agent| agent.ip == before.ip)
        .unwrap();
    assert_eq!(after.overlays[0].mesos_bridge, None);
    assert_eq!(after.overlays[0].subnet, before.overlays[0].subnet);
}
