//! Arbitrary inputs: the agent never panics, answers each request once, and its timer is in the
//! future or is served.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, Peer, PeerSubnet, PeersVersion, RegisterAgentMessage,
    RegistrationChallengeMessage, Session, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::protocol::peer_list_codec::pack;
use overlay_core::{
    Effect, EngineReport, HostReport, Input, Io, Machine, Request, RequestId, StoreOutcome, Time,
    Upid,
};
use proptest::prelude::*;
use prost::Message;

const MASTER: &str = "overlay-master@10.0.0.1:5050";

/// Valid, almost valid and arbitrary texts.
fn text() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "",
        "dcos",
        "m-dcos",
        "vtep1024",
        "9.0.0.0/8",
        "9.0.0.0/24",
        "9.0.0.0/25",
        "0.0.0.0/0",
        "9.0.0.0/99",
        "fd01:b::/64",
        "fd01:b::/80",
        "::/0",
        "44.128.0.2/20",
        "44.128.0.2",
        "fd01:a::2",
        "10.0.0.3",
        "70:b3:d5:80:00:02",
        "ff:ff:ff:ff:ff:ff",
        "../x",
        "a\nb",
    ];
    prop_oneof![8 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => any::<String>()]
}

fn maybe_text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn problem() -> impl Strategy<Value = Problem> {
    let kinds = [ProblemKind::Operation, ProblemKind::FurtherOperations];
    let kind = prop::sample::select(kinds.to_vec());
    (kind, text(), text()).prop_map(|(kind, object, text)| Problem::new(kind, object, text))
}

prop_compose! {
    fn bridge()(name in text(), ip in maybe_text(), ip6 in maybe_text()) -> BridgeInfo {
        BridgeInfo { name, ip, ip6 }
    }
}

prop_compose! {
    fn vxlan()(
        vni in prop_oneof![Just(1024), any::<u32>()], vtep_name in text(), vtep_ip in text(), vtep_mac in text(),
        vtep_ip6 in maybe_text(), vtep_mtu in any::<Option<u32>>(),
    ) -> VxLanInfo {
        VxLanInfo { vni, vtep_name, vtep_ip, vtep_mac, vtep_ip6, vtep_mtu }
    }
}

prop_compose! {
    fn overlay()(
        name in text(), range in maybe_text(), range6 in maybe_text(), subnet in maybe_text(),
        subnet6 in maybe_text(), mesos_bridge in prop::option::of(bridge()),
        docker_bridge in prop::option::of(bridge()), vxlan in prop::option::weighted(0.9, vxlan()),
    ) -> AgentOverlayInfo {
        let info = OverlayInfo { name, subnet: range, subnet6: range6, ..OverlayInfo::default() };
        let backend = BackendInfo { vxlan };
        AgentOverlayInfo { info, subnet, subnet6, mesos_bridge, docker_bridge, backend, state: None, ..Default::default() }
    }
}

prop_compose! {
    fn peer()(
        ip in text(), vni in any::<u32>(), vtep_ip in text(), vtep_ip6 in maybe_text(), vtep_mac in text(),
        subnets in prop::collection::vec((text(), maybe_text(), maybe_text()), 0..3),
    ) -> Peer {
        let subnets = subnets.into_iter();
        let subnets = subnets.map(|(overlay, subnet, subnet6)| PeerSubnet { overlay, subnet, subnet6 });
        Peer { ip, vni, vtep_ip, vtep_ip6, vtep_mac, subnets: subnets.collect() }
    }
}

/// Name and body of a message, well-formed or arbitrary bytes.
fn message() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = |end: &str| format!("mesos.modules.overlay.internal.{end}");
    let texts = || prop::collection::vec(text(), 0..2);
    let overlays = (prop::collection::vec(overlay(), 0..3), texts(), texts());
    let overlays = overlays.prop_map(move |(overlays, problems, notices)| {
        (
            name("UpdateAgentOverlaysMessage"),
            UpdateAgentOverlaysMessage {
                overlays,
                problems,
                notices,
                ..Default::default()
            }
            .encode_to_vec(),
        )
    });
    let peers = (
        (0..3u64, 0..4u64, prop::option::of(0..4u64)),
        prop::collection::vec(peer(), 0..3),
        prop::collection::vec(text(), 0..2),
        prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..64))),
    );
    let peers = peers.prop_map(move |((epoch, version, base), peers, removed, packed)| {
        let version = PeersVersion {
            epoch: Some(epoch),
            version: Some(version),
            ..Default::default()
        };
        // Garbage inside of what is packed well, or instead of it.
        let packed = packed.map(|(well, bytes)| match well {
            true => pack([bytes.as_slice()].into_iter()),
            false => bytes.into(),
        });
        let message = UpdatePeersMessage {
            version,
            base,
            peers,
            removed,
            since: Some(version),
            packed,
            ..Default::default()
        };
        (name("UpdatePeersMessage"), message.encode_to_vec())
    });
    let challenge = (22..26_usize, 0..9_u64).prop_map(move |(len, answers)| {
        let message = RegistrationChallengeMessage {
            token: vec![1; len].into(),
            answers,
            session: None,
        };
        (
            name("RegistrationChallengeMessage"),
            message.encode_to_vec(),
        )
    });
    let names = prop::sample::select(NAMES).prop_map(str::to_owned);
    let names = prop_oneof![9 => names, 1 => any::<String>()];
    let bytes = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..64)];
    prop_oneof![2 => overlays, 2 => peers, 1 => challenge, 3 => (names, bytes)]
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop::sample::select(&["GET", "HEAD", "POST", "PUT", ""][..]);
    let path = prop_oneof![Just("/overlay-agent/overlay".to_owned()), any::<String>()];
    let jsonp = prop::option::of(prop_oneof![Just("cb".to_owned()), any::<String>()]);
    let known = prop::sample::select(
        &[
            "application/json",
            "application/x-protobuf",
            "*/*;q=0",
            ";;q=,",
        ][..],
    );
    let accept = prop::option::of(prop_oneof![known.prop_map(str::to_owned), any::<String>()]);
    (method, path, jsonp, accept).prop_map(|(method, path, jsonp, accept)| Request {
        id: RequestId(0),
        method: method.to_owned(),
        path,
        query: jsonp
            .map(|value| ("jsonp".to_owned(), value))
            .into_iter()
            .collect(),
        accept,
        headers: Default::default(),
        body: Default::default(),
    })
}

fn input() -> impl Strategy<Value = Input> {
    let master: Upid = MASTER.parse().unwrap();
    let (leader, stranger) = (
        master.clone(),
        "overlay-master@10.0.0.9:5050".parse::<Upid>().unwrap(),
    );
    let from = prop_oneof![9 => Just(master.clone()), 1 => Just(stranger)];
    let report = (
        0..9u64,
        prop::collection::btree_map(text(), text(), 0..2),
        prop::collection::vec(problem(), 0..2),
    );
    let report = report.prop_map(|(generation, overlays, host)| {
        Input::HostDone(HostReport {
            generation,
            overlays,
            host,
            ..HostReport::default()
        })
    });
    let engine = (
        0..9u64,
        maybe_text(),
        prop::collection::btree_map(text(), text(), 0..2),
        prop::collection::vec(problem(), 0..2),
    );
    let engine = engine.prop_map(|(generation, engine, overlays, notes)| {
        Input::EngineDone(EngineReport {
            generation,
            engine,
            overlays,
            notes,
            ..EngineReport::default()
        })
    });
    prop_oneof![
        6 => (from, message()).prop_map(|(from, (name, body))| {
            Input::Message { from, name, body: body.into() }
        }),
        2 => report,
        2 => engine,
        1 => request().prop_map(Input::Request),
        1 => Just(Input::Exited(master)),
        1 => prop::option::of(Just(leader)).prop_map(Input::Leader),
        3 => Just(Input::Timeout),
        1 => Just(Input::Fetched(Err(String::new()))),
        1 => Just(Input::Stored { number: 1, outcome: StoreOutcome::Superseded }),
    ]
}

/// Returns a message with the secret of a session.
fn with_secret(body: &[u8], secret: &Bytes) -> Bytes {
    let session = Some(Session {
        secret: Some(secret.clone()),
        ..Session::default()
    });
    let session = AgentRegisteredAcknowledgement { session };
    [body, &session.encode_to_vec()].concat().into()
}

proptest! {
    #[test]
    fn the_agent_survives_everything(
        inputs in prop::collection::vec((input(), 0..5000u64, any::<bool>()), 1..60),
        seed: u64,
    ) {
        let me = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let mut agent = Agent::new(AgentConfig::new("/cni"), me, seed);
        let mut now = Time::default();
        let first = Input::Leader(Some(MASTER.parse().unwrap()));
        let mut nonce = Bytes::new();
        for (mut input, wait, is_sealed) in std::iter::once((first, 0, false)).chain(inputs) {
            now = now + Duration::from_millis(wait);
            if let Input::Message { body, .. } = &mut input
                && is_sealed
            {
                *body = with_secret(body, &nonce);
            }
            let requested = matches!(input, Input::Request(_));
            let timeout = input == Input::Timeout;
            agent.handle(now, input);
            let effects: Vec<Effect> = std::iter::from_fn(|| agent.poll_effect()).collect();
            let answers = effects.iter().filter(|effect| matches!(effect, Effect::Io(Io::Respond { .. }))).count();
            prop_assert_eq!(answers, usize::from(requested));
            for effect in &effects {
                if let Effect::Log(_, line) = effect {
                    prop_assert!(!line.contains('\n'), "not one line: {}", line);
                }
                if let Effect::Io(Io::Send { name, body, .. }) = effect
                    && *name == RegisterAgentMessage::NAME
                {
                    nonce = RegisterAgentMessage::decode(&body[..]).unwrap().nonce.unwrap();
                }
            }
            // A timer that stays in the past would be served for ever.
            prop_assert!(!timeout || agent.poll_timeout().is_none_or(|at| at > now));
        }
    }
}

/// Gives an input to the agent; returns the effects but log lines.
fn effects(agent: &mut Agent, now: Time, input: Input) -> Vec<Effect> {
    agent.handle(now, input);
    std::iter::from_fn(|| agent.poll_effect())
        .filter(|effect| !matches!(effect, Effect::Log(..)))
        .collect()
}

/// Returns the agent as its endpoint shows it.
fn shown(agent: &mut Agent, now: Time) -> Vec<Effect> {
    let request = Request {
        id: RequestId(1),
        method: "GET".to_owned(),
        path: "/overlay-agent/overlay".to_owned(),
        query: Default::default(),
        accept: None,
        body: Bytes::new(),
        headers: Default::default(),
    };
    effects(agent, now, Input::Request(request))
}

proptest! {
    /// Once the master has confirmed, messages in its name without the nonce have no effect.
    #[test]
    fn a_blind_sender_changes_nothing(
        messages in prop::collection::vec((message(), prop::option::of(any::<[u8; 16]>()), 0..9000u64), 1..40),
    ) {
        let me = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let mut agent = Agent::new(AgentConfig::new("/cni"), me, 1);
        let mut now = Time::default();
        let leader = Input::Leader(Some(MASTER.parse().unwrap()));
        let registration = effects(&mut agent, now, leader).pop();
        let Some(Effect::Io(Io::Send { body, .. })) = registration else {
            panic!("no registration: {registration:?}");
        };
        let nonce = RegisterAgentMessage::decode(body).unwrap().nonce.unwrap();
        let from: Upid = MASTER.parse().unwrap();
        let name = UpdateAgentOverlaysMessage::NAME.to_owned();
        let body = with_secret(b"", &nonce);
        effects(&mut agent, now, Input::Message { from: from.clone(), name, body });
        let (before, timeout) = (shown(&mut agent, now), agent.poll_timeout());
        for ((name, body), secret, wait) in messages {
            let body = match secret {
                Some(secret) => with_secret(&body, &secret.to_vec().into()),
                None => body.into(),
            };
            now = now + Duration::from_millis(wait);
            let effects = effects(&mut agent, now, Input::Message { from: from.clone(), name, body });
            prop_assert_eq!(effects, []);
            prop_assert_eq!(agent.poll_timeout(), timeout);
        }
        prop_assert_eq!(shown(&mut agent, now), before);
    }
}
