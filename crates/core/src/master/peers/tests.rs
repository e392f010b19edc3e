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
    let all = since(&peers, base + 1);
    assert_eq!(
        (all.base, all.peers.len(), all.removed.len()),
        (None, 1, 0),
        "one departure is forgotten"
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

/// The digest that the next message has.
fn digest_of(peers: &Peers) -> Option<u64> {
    UpdatePeersMessage::decode(peers.message(None, None, Form::Plain).bytes)
        .unwrap()
        .version
        .digest
}

#[test]
fn the_digest_says_what_the_list_says_however_it_came_to_that() {
    let entries: Vec<_> = (1..4)
        .map(|number| (Ipv4Addr::from(number), entry(number)))
        .collect();
    let straight = Peers::new(8, entries.iter().map(|(ip, entry)| (*ip, entry)));
    let mut peers = peers();
    [3, 2, 4]
        .into_iter()
        .for_each(|number| come(&mut peers, number));
    peers.changed(Time::default(), 1.into(), Some(&entry(9)));
    assert_ne!(digest_of(&peers), digest_of(&straight));
    go(&mut peers, 4);
    assert_ne!(digest_of(&peers), digest_of(&straight));
    peers.changed(Time::default(), 1.into(), Some(&entry(1)));
    assert_eq!(digest_of(&peers), digest_of(&straight));
    go(&mut peers, 2);
    come(&mut peers, 2);
    assert_eq!(digest_of(&peers), digest_of(&straight));
}

#[test]
fn one_that_comes_back_is_not_forgotten_as_a_departure() {
    let mut peers = peers();
    come(&mut peers, 0);
    let base = peers.version;
    go(&mut peers, 0);
    come(&mut peers, 0);
    for number in 1..=TOMBSTONES as u32 {
        come(&mut peers, number);
        go(&mut peers, number);
    }
    let delta = since(&peers, base);
    assert_eq!(
        (delta.base, delta.removed.len()),
        (Some(base), TOMBSTONES),
        "its departure is none any more"
    );
    assert_eq!(delta.peers.len(), 1);
    come(&mut peers, u32::MAX);
    go(&mut peers, u32::MAX);
    let all = since(&peers, base);
    assert_eq!(all.base, None);
    assert_eq!(
        all.peers
            .iter()
            .map(|peer| peer.ip.as_str())
            .collect::<Vec<_>>(),
        ["0.0.0.0"]
    );
    assert_eq!(peers.tombstones.len(), TOMBSTONES);
}

/// What is sent at exactly this time, in milliseconds, and whom to.
fn sent_at(peers: &mut Peers, out: &mut Outbox, ms: u64) -> Vec<Ipv4Addr> {
    out.set_now(Time(Duration::from_millis(ms)));
    if peers.due().is_some_and(|due| due <= out.now()) {
        peers.tick(out);
    }
    let ip = |effect| match effect {
        Effect::Io(Io::Send { to, .. }) => match to.address.ip() {
            std::net::IpAddr::V4(ip) => ip,
            std::net::IpAddr::V6(ip) => panic!("{ip}"),
        },
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| out.pop()).map(ip).collect()
}

/// Peers whose list is a long message.
fn many_peers() -> Peers {
    let mut peers = peers();
    (0..2600).for_each(|number| come(&mut peers, number));
    assert!(peers.message(None, None, Form::Plain).is_long);
    peers
}

fn join(peers: &mut Peers, out: &Outbox, number: u32) {
    peers.join(
        out.now(),
        number.into(),
        pid(number),
        PeersVersion::default(),
        Form::Plain,
    );
}

#[test]
fn long_lists_wait_until_nobody_has_come_for_a_while_but_not_for_ever() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert!(sent_at(&mut peers, &mut out, 49).is_empty());
    join(&mut peers, &out, 2);
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    assert!(sent_at(&mut peers, &mut out, 98).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 99).len(), 2);

    // They keep coming, one each 40 ms.
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    let mut told = 0;
    for number in 0..=250 {
        let ms = 40 * u64::from(number);
        told += sent_at(&mut peers, &mut out, ms).len();
        assert_eq!(told > 0, ms >= 10_000, "{ms} ms");
        peers.more_are_coming(out.now());
        join(&mut peers, &out, number);
    }
    assert_eq!(told, 250);
    // It begins anew with the next one.
    assert!(sent_at(&mut peers, &mut out, 10_049).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 10_050).len(), 1);
}

#[test]
fn registrations_hold_nobody_up_who_needs_no_long_list() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert_eq!(sent_at(&mut peers, &mut out, 50).len(), 1);
    let version = PeersVersion {
        epoch: Some(7),
        version: Some(peers.version),
        ..Default::default()
    };
    peers.received(&mut out, 1.into(), version);
    come(&mut peers, 6000);
    peers.more_are_coming(out.now());
    assert_eq!(peers.hold, None, "nobody waits");
    // The change came at the time 0, and is sent with the next tick.
    assert_eq!(sent_at(&mut peers, &mut out, 51), [Ipv4Addr::from(1)]);
}

#[test]
fn after_many_messages_there_is_a_pause() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    come(&mut peers, 1);
    let agents = 4000;
    (0..agents).for_each(|number| join(&mut peers, &out, number));
    assert_eq!(sent_at(&mut peers, &mut out, 50).len(), agents as usize);
    // 50 µs for each of them.
    let entry = entry(2);
    peers.changed(out.now(), 2.into(), Some(&entry));
    assert!(sent_at(&mut peers, &mut out, 249).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 250).len(), agents as usize);
}

#[test]
fn of_many_unanswered_messages_the_latest_are_told_apart() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    join(&mut peers, &out, 1);
    // All of them within the time after which the first one would be sent again.
    for number in 0..=OUTSTANDING as u32 {
        let now = Time(Duration::from_millis(u64::from(number) * 50));
        peers.changed(now, number.into(), Some(&entry(number)));
        assert_eq!(
            sent_at(&mut peers, &mut out, u64::from(number) * 50 + 50).len(),
            1
        );
    }
    let said = |version| PeersVersion {
        epoch: Some(7),
        version: Some(version),
        ..Default::default()
    };
    // The first one that was sent is not known any more: it looks like a gap. The second
    // one is an answer.
    let (first, second) = (
        peers.version - OUTSTANDING as u64,
        peers.version - OUTSTANDING as u64 + 1,
    );
    let receiver = |peers: &Peers| peers.receivers[&Ipv4Addr::from(1)].outstanding.clone();
    assert_eq!(receiver(&peers).len(), OUTSTANDING);
    assert!(peers.received(&mut out, 1.into(), said(second)));
    assert_eq!(receiver(&peers).first(), Some(&(second + 1)));
    assert!(sent_at(&mut peers, &mut out, 1_700).is_empty());
    assert!(peers.received(&mut out, 1.into(), said(first)));
    assert_eq!(receiver(&peers).len(), 0);
    assert_eq!(sent_at(&mut peers, &mut out, 1_750), [Ipv4Addr::from(1)]);
}

#[test]
fn one_that_registers_again_does_not_narrow_the_window() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    for _ in 0..3 {
        join(&mut peers, &out, 1);
        assert_eq!(sent(&mut peers, &mut out).len(), 1);
        assert_eq!(
            peers.in_flight,
            peers.receivers[&Ipv4Addr::from(1)].in_flight
        );
    }
    let ms = u64::try_from(out.now().since(Time::default()).as_millis()).unwrap();
    // Sent again: what was on its way is counted once.
    assert_eq!(sent_at(&mut peers, &mut out, ms + 2_000).len(), 1);
    peers.leave(1.into());
    assert_eq!(
        (peers.in_flight, peers.resends.len(), peers.waiting.len()),
        (0, 0, 0)
    );
}

#[test]
fn one_that_left_waits_for_no_long_list() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    out.set_now(Time(Duration::from_millis(40)));
    peers.more_are_coming(out.now());
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    // It is back, and has all but the latest change: that is short, and need not wait.
    peers.leave(1.into());
    let has = PeersVersion {
        epoch: Some(7),
        version: Some(peers.version),
        ..Default::default()
    };
    peers.changed(out.now(), 6000.into(), Some(&entry(6000)));
    peers.join(out.now(), 1.into(), pid(1), has, Form::Plain);
    join(&mut peers, &out, 2);
    out.set_now(Time(Duration::from_millis(90)));
    peers.more_are_coming(out.now());
    assert_eq!(sent_at(&mut peers, &mut out, 100), [Ipv4Addr::from(1)]);
}

#[test]
fn the_versions_of_another_epoch_are_not_ours() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    come(&mut peers, 1);
    let said = |epoch, version| PeersVersion {
        epoch: Some(epoch),
        version: Some(version),
        ..Default::default()
    };
    let base = |peers: &mut Peers, out: &mut Outbox, has| {
        peers.join(out.now(), 1.into(), pid(1), has, Form::Plain);
        sent(peers, out)
            .first()
            .map(|body| UpdatePeersMessage::decode(body.clone()).unwrap().base)
    };
    assert_eq!(base(&mut peers, &mut out, said(7, 1)), Some(Some(1)));
    assert_eq!(
        base(&mut peers, &mut out, said(7, 2)),
        None,
        "it is up to date"
    );
    assert_eq!(
        base(&mut peers, &mut out, said(7, 3)),
        Some(None),
        "that is yet to come"
    );
    assert_eq!(base(&mut peers, &mut out, said(6, 1)), Some(None));
    assert_eq!(base(&mut peers, &mut out, said(6, 2)), Some(None));
    assert_eq!(
        base(&mut peers, &mut out, said(7, 0)),
        Some(None),
        "there is no version before the first"
    );
    // Epoch 0 is none, whatever the digest.
    let nothing = PeersVersion {
        digest: digest_of(&peers),
        ..Default::default()
    };
    assert_eq!(base(&mut peers, &mut out, nothing), Some(None));
}

#[test]
fn a_long_list_that_waited_is_the_present_one() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert!(sent_at(&mut peers, &mut out, 40).is_empty());
    peers.more_are_coming(out.now());
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    peers.changed(out.now(), 6000.into(), Some(&entry(6000)));
    out.set_now(Time(Duration::from_millis(90)));
    peers.tick(&mut out);
    let Some(Effect::Io(Io::Send { body, .. })) = out.pop() else {
        panic!("nothing is sent")
    };
    let list = UpdatePeersMessage::decode(body).unwrap();
    assert_eq!(
        (list.peers.len(), list.version.version),
        (2601, Some(peers.version))
    );
}

#[test]
fn one_that_has_our_versions_is_not_told_by_those_of_another_lead() {
    let entries: Vec<_> = (1..4)
        .map(|number| (Ipv4Addr::from(number), entry(number)))
        .collect();
    let (mut peers, mut out) = (
        Peers::new(8, entries.iter().map(|(ip, entry)| (*ip, entry))),
        Outbox::default(),
    );
    let has = PeersVersion {
        epoch: Some(7),
        version: Some(30),
        digest: digest_of(&peers),
    };
    peers.join(out.now(), 1.into(), pid(1), has, Form::Plain);
    for number in [4, 5] {
        peers.changed(out.now(), number.into(), Some(&entry(number)));
        assert_eq!(first(&mut peers, &mut out).since, Some(has));
    }
    // Sent again, of which nothing arrived; but the one before did.
    out.set_now(out.now() + RESEND_FIRST);
    peers.tick(&mut out);
    assert!(out.pop().is_some());
    let said = PeersVersion {
        epoch: Some(8),
        version: Some(2),
        ..Default::default()
    };
    assert!(peers.received(&mut out, 1.into(), said));
    let message = first(&mut peers, &mut out);
    assert_eq!((message.since, message.base), (None, Some(2)));
    assert_eq!(
        message
            .peers
            .iter()
            .map(|peer| peer.ip.as_str())
            .collect::<Vec<_>>(),
        ["0.0.0.5"]
    );
}
