//! Tests of what peers are told.

use super::super::peers::*;
use crate::proto;
use crate::protocol::peer_list_codec::unpack;

fn entry(number: u32) -> Arc<EncodedAgent> {
    let vxlan = proto::VxLanInfo {
        vtep_mac: number.to_string(),
        ..Default::default()
    };
    let overlay = proto::AgentOverlayInfo {
        backend: proto::BackendInfo { vxlan: Some(vxlan) },
        ..Default::default()
    };
    let ip = Ipv4Addr::from(number).to_string();
    EncodedAgent::renew(
        None,
        &proto::AgentInfo {
            ip,
            ..Default::default()
        },
        [overlay].iter(),
    )
}

fn peers() -> Peers {
    Peers::new(7, std::iter::empty())
}

fn come(peers: &mut Peers, number: u32) {
    peers.changed(Time::default(), number.into(), Some(&entry(number)));
}

fn go(peers: &mut Peers, number: u32) {
    peers.changed(Time::default(), number.into(), None);
}

fn since(peers: &Peers, version: u64) -> UpdatePeersMessage {
    UpdatePeersMessage::decode(peers.message(Some(version), None, Form::Plain).bytes).unwrap()
}

#[test]
fn a_delta_has_the_last_word_on_each_agent() {
    let mut peers = peers();
    come(&mut peers, 1);
    come(&mut peers, 2);
    let base = peers.version;
    go(&mut peers, 1);
    come(&mut peers, 3);
    go(&mut peers, 3);
    come(&mut peers, 1);
    let delta = since(&peers, base);
    assert_eq!(delta.base, Some(base));
    assert_eq!(
        delta
            .peers
            .iter()
            .map(|peer| peer.ip.as_str())
            .collect::<Vec<_>>(),
        ["0.0.0.1"]
    );
    assert_eq!(delta.removed, ["0.0.0.3"]);
}

#[test]
fn what_is_the_same_is_no_change() {
    let mut peers = peers();
    come(&mut peers, 1);
    let version = peers.version;
    come(&mut peers, 1);
    go(&mut peers, 2);
    assert_eq!(peers.version, version);
}

#[test]
fn departures_are_forgotten_in_the_end() {
    let mut peers = peers();
    for number in 0..TOMBSTONES as u32 + 2 {
        come(&mut peers, number);
    }
    come(&mut peers, u32::MAX);
    let base = peers.version;
    for number in 0..TOMBSTONES as u32 {
        go(&mut peers, number);
    }
    assert_eq!(since(&peers, base).removed.len(), TOMBSTONES);
    go(&mut peers, TOMBSTONES as u32);
    go(&mut peers, TOMBSTONES as u32 + 1);
    let all = since(&peers, base);
    assert_eq!(
        (all.base, all.peers.len(), all.removed.len()),
        (None, 1, 0),
        "the whole list"
    );
    assert_eq!(
        since(&peers, base + 2).removed.len(),
        TOMBSTONES,
        "who is less far behind"
    );
    assert_eq!(
        (peers.peers.len(), peers.changes.len()),
        (TOMBSTONES + 1, TOMBSTONES + 1)
    );
}

fn pid(number: u32) -> Arc<Upid> {
    Arc::new(Upid::new(
        "overlay-agent",
        (Ipv4Addr::from(number), 5051).into(),
    ))
}

/// What is sent until nothing more is due within a second.
fn sent(peers: &mut Peers, out: &mut Outbox) -> Vec<Bytes> {
    let end = out.now() + Duration::from_secs(1);
    while let Some(due) = peers.due().filter(|due| *due <= end) {
        out.set_now(due);
        peers.tick(out);
    }
    let body = |effect| match effect {
        Effect::Io(Io::Send { body, .. }) => body,
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| out.pop()).map(body).collect()
}

fn first(peers: &mut Peers, out: &mut Outbox) -> UpdatePeersMessage {
    UpdatePeersMessage::decode(sent(peers, out).remove(0)).unwrap()
}

#[test]
fn a_list_of_another_lead_is_as_good_if_it_says_the_same() {
    let entries: Vec<_> = (1..4)
        .map(|number| (Ipv4Addr::from(number), entry(number)))
        .collect();
    let entries = || entries.iter().map(|(ip, entry)| (*ip, entry));
    let (mut former, mut peers, mut out) = (
        Peers::new(7, entries()),
        Peers::new(8, entries()),
        Outbox::default(),
    );
    former.join(
        out.now(),
        1.into(),
        pid(1),
        PeersVersion::default(),
        Form::Plain,
    );
    let has = first(&mut former, &mut out).version;

    peers.join(out.now(), 1.into(), pid(1), has, Form::Plain);
    come(&mut peers, 4);
    let message = first(&mut peers, &mut out);
    assert_eq!(
        (message.since, message.base, message.version.epoch()),
        (Some(has), Some(1), 8)
    );
    assert_eq!(
        message
            .peers
            .iter()
            .map(|peer| peer.ip.as_str())
            .collect::<Vec<_>>(),
        ["0.0.0.4"]
    );

    // Nobody knows whether that arrived, and the next one may be all that does.
    come(&mut peers, 5);
    let message = first(&mut peers, &mut out);
    assert_eq!((message.since, message.base), (Some(has), Some(1)));
    assert_eq!(
        message
            .peers
            .iter()
            .map(|peer| peer.ip.as_str())
            .collect::<Vec<_>>(),
        ["0.0.0.4", "0.0.0.5"]
    );

    // It does not know what that means, or has lost its list.
    peers.received(&mut out, 1.into(), has);
    let message = first(&mut peers, &mut out);
    assert_eq!(
        (message.since, message.base, message.peers.len()),
        (None, None, 5),
        "the whole list"
    );

    // One of another content.
    let other = PeersVersion {
        digest: Some(has.digest() + 1),
        ..has
    };
    peers.join(out.now(), 2.into(), pid(2), other, Form::Plain);
    assert_eq!(first(&mut peers, &mut out).base, None);
}

#[test]
fn few_long_messages_are_on_their_way() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    let many = 10_000;
    (0..many).for_each(|number| come(&mut peers, number));
    let length = peers.message(None, None, Form::Plain).bytes.len();
    assert!(length > LONG);
    let nothing = PeersVersion::default;
    (0..many).for_each(|number| {
        peers.join(
            out.now(),
            number.into(),
            pid(number),
            nothing(),
            Form::Plain,
        )
    });
    let first = sent(&mut peers, &mut out);
    assert_eq!(first.len(), WINDOW.div_ceil(length));
    // Two arrive, one is lost with its agent: room for three.
    let version = UpdatePeersMessage::decode(first[0].clone())
        .unwrap()
        .version;
    assert!(
        peers.received(&mut out, 0.into(), version) && peers.received(&mut out, 1.into(), version)
    );
    peers.leave(2.into());
    peers.tick(&mut out);
    assert_eq!(std::iter::from_fn(|| out.pop()).count(), 3);
}

#[test]
fn a_packed_list_says_the_same() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    let join = |peers: &mut Peers, out: &Outbox, number: u32, form| {
        peers.join(
            out.now(),
            number.into(),
            pid(number),
            PeersVersion::default(),
            form,
        );
    };
    (0..5000).for_each(|number| come(&mut peers, number));
    join(&mut peers, &out, 1, Form::Plain);
    join(&mut peers, &out, 2, Form::Packed);
    let lists = sent(&mut peers, &mut out);
    let [plain, packed] = lists.try_into().unwrap();
    assert!(
        packed.len() < plain.len() / 3,
        "{} and {} bytes",
        plain.len(),
        packed.len()
    );
    let (plain, packed) = (
        UpdatePeersMessage::decode(plain),
        UpdatePeersMessage::decode(packed),
    );
    let (plain, packed) = (plain.unwrap(), packed.unwrap());
    assert_eq!((plain.packed, packed.peers.len()), (None, 0));
    assert_eq!((plain.version, plain.base), (packed.version, packed.base));
    assert_eq!(unpack(&packed.packed.unwrap()).unwrap(), plain.peers);
    // It waits like any other long one, and a short one stays as it is.
    assert!(peers.message(None, None, Form::Packed).is_long);
    let base = Some(peers.version);
    come(&mut peers, 6000);
    let delta = peers.message(base, None, Form::Packed);
    assert_eq!(
        UpdatePeersMessage::decode(delta.bytes).unwrap().peers.len(),
        1
    );
    assert!(!delta.is_long);
}
