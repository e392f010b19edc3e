//! Tests of the delivery of peers: gathering, resends, the window and pauses.

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::master::peers::Peers;
use crate::master::peers::samples::{addresses, agent, agents, pid};

const EPOCH: u64 = 7;

fn peers() -> Peers {
    Peers::new(EPOCH, std::iter::empty())
}

/// Returns peers whose snapshot is a long message.
fn many_peers() -> Peers {
    let mut peers = peers();
    (0..2600).for_each(|number| add(&mut peers, Time::default(), number));
    assert!(snapshot(&mut peers).is_long);
    peers
}

fn snapshot(peers: &mut Peers) -> EncodedMessage {
    let key = peers.history.message_key(None, None, ListForm::Plain);
    peers.history.message(key)
}

/// Adds the agent at address `number`.
fn add(peers: &mut Peers, now: Time, number: u32) {
    peers.update(now, number.into(), Some(&agent(number)));
}

/// Subscribes the agent at address `number`, which has `version`.
fn subscribe(peers: &mut Peers, out: &Outbox, number: u32, version: PeersVersion) {
    let subscription = Subscription {
        pid: pid(number),
        version,
        form: ListForm::Plain,
    };
    peers.subscribe(out.now(), number.into(), subscription);
}

/// Subscribes the agent at address `number`, which has no list.
fn join(peers: &mut Peers, out: &Outbox, number: u32) {
    subscribe(peers, out, number, PeersVersion::default());
}

fn version(epoch: u64, version: u64) -> PeersVersion {
    PeersVersion {
        epoch: Some(epoch),
        version: Some(version),
        digest: None,
    }
}

fn latest(peers: &Peers) -> PeersVersion {
    version(EPOCH, peers.history.version())
}

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn decode(body: Bytes) -> UpdatePeersMessage {
    UpdatePeersMessage::decode(body).unwrap()
}

/// Takes the messages out of the outbox, with their receivers.
fn take_sent(out: &mut Outbox) -> Vec<(Ipv4Addr, Bytes)> {
    let message = |effect| match effect {
        Effect::Io(Io::Send { to, body, .. }) => match to.address.ip() {
            std::net::IpAddr::V4(ip) => (ip, body),
            std::net::IpAddr::V6(ip) => panic!("{ip}"),
        },
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| out.pop()).map(message).collect()
}

/// Lets everything be sent that is due within a second, and returns the messages.
fn sent(peers: &mut Peers, out: &mut Outbox) -> Vec<Bytes> {
    let end = out.now() + Duration::from_secs(1);
    while let Some(due) = peers.due().filter(|due| *due <= end) {
        out.set_now(due);
        peers.tick(out);
    }
    take_sent(out).into_iter().map(|(_, body)| body).collect()
}

fn first_sent(peers: &mut Peers, out: &mut Outbox) -> UpdatePeersMessage {
    decode(sent(peers, out).remove(0))
}

/// Returns the receivers of the messages that are sent at this time, in milliseconds.
fn sent_at(peers: &mut Peers, out: &mut Outbox, ms: u64) -> Vec<Ipv4Addr> {
    out.set_now(at(ms));
    if peers.due().is_some_and(|due| due <= out.now()) {
        peers.tick(out);
    }
    take_sent(out).into_iter().map(|(ip, _)| ip).collect()
}

#[test]
fn a_list_of_another_lead_with_the_same_digest_is_kept() {
    let agents = agents(1..4);
    let agents = || agents.iter().map(|(ip, agent)| (*ip, agent));
    let (mut former, mut peers) = (Peers::new(7, agents()), Peers::new(8, agents()));
    let mut out = Outbox::default();
    join(&mut former, &out, 1);
    let reported = first_sent(&mut former, &mut out).version;

    subscribe(&mut peers, &out, 1, reported);
    add(&mut peers, Time::default(), 4);
    let message = first_sent(&mut peers, &mut out);
    assert_eq!(
        (message.since, message.base, message.version.epoch()),
        (Some(reported), Some(1), 8)
    );
    assert_eq!(addresses(&message), ["0.0.0.4"]);

    // That message may be lost, so the next one has its changes as well.
    add(&mut peers, Time::default(), 5);
    let message = first_sent(&mut peers, &mut out);
    assert_eq!((message.since, message.base), (Some(reported), Some(1)));
    assert_eq!(addresses(&message), ["0.0.0.4", "0.0.0.5"]);

    // The agent does not know the field, or has lost its list.
    peers.handle_received(&mut out, 1.into(), reported);
    let message = first_sent(&mut peers, &mut out);
    assert_eq!(
        (message.since, message.base, message.peers.len()),
        (None, None, 5),
        "a snapshot"
    );

    // Another digest.
    let other = PeersVersion {
        digest: Some(reported.digest() + 1),
        ..reported
    };
    subscribe(&mut peers, &out, 2, other);
    assert_eq!(first_sent(&mut peers, &mut out).base, None);
}

#[test]
fn few_long_messages_are_in_flight() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    let many = 10_000;
    (0..many).for_each(|number| add(&mut peers, Time::default(), number));
    let snapshot = snapshot(&mut peers);
    assert!(snapshot.is_long);
    (0..many).for_each(|number| join(&mut peers, &out, number));
    let first = sent(&mut peers, &mut out);
    assert_eq!(first.len(), WINDOW.div_ceil(snapshot.bytes.len()));
    // Two arrive, one is lost with its agent: room for three.
    let version = decode(first[0].clone()).version;
    for number in [0, 1] {
        assert!(peers.handle_received(&mut out, number.into(), version));
    }
    peers.unsubscribe(2.into());
    peers.tick(&mut out);
    assert_eq!(take_sent(&mut out).len(), 3);
}

#[test]
fn agents_get_lists_in_the_form_that_they_take() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    for (number, form) in [(1, ListForm::Plain), (2, ListForm::Packed)] {
        let subscription = Subscription {
            pid: pid(number),
            version: PeersVersion::default(),
            form,
        };
        peers.subscribe(out.now(), number.into(), subscription);
    }
    let lists: Vec<_> = sent(&mut peers, &mut out).into_iter().map(decode).collect();
    let is_packed: Vec<_> = lists.iter().map(|list| list.packed.is_some()).collect();
    assert_eq!(is_packed, [false, true]);
}

#[test]
fn long_messages_wait_for_registrations_but_not_for_ever() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert!(sent_at(&mut peers, &mut out, 49).is_empty());
    join(&mut peers, &out, 2);
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    assert!(sent_at(&mut peers, &mut out, 98).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 99).len(), 2);

    // Agents keep registering, one each 40 ms.
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    let mut count = 0;
    for number in 0..=250 {
        let ms = 40 * u64::from(number);
        count += sent_at(&mut peers, &mut out, ms).len();
        assert_eq!(count > 0, ms >= 10_000, "{ms} ms");
        peers.expect_subscriptions(out.now());
        join(&mut peers, &out, number);
    }
    assert_eq!(count, 250);
    // The time begins anew with the next agent.
    assert!(sent_at(&mut peers, &mut out, 10_049).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 10_050).len(), 1);
}

#[test]
fn short_messages_do_not_wait_for_registrations() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert_eq!(sent_at(&mut peers, &mut out, 50).len(), 1);
    let version = latest(&peers);
    peers.handle_received(&mut out, 1.into(), version);
    add(&mut peers, Time::default(), 6000);
    peers.expect_subscriptions(out.now());
    assert_eq!(
        peers.delivery.registration_hold, None,
        "no agent needs a long message"
    );
    // The change was made at the time 0, and is sent with the next tick.
    assert_eq!(sent_at(&mut peers, &mut out, 51), [Ipv4Addr::from(1)]);
}

#[test]
fn many_messages_are_followed_by_a_pause() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    add(&mut peers, Time::default(), 1);
    let count = 4000;
    (0..count).for_each(|number| join(&mut peers, &out, number));
    assert_eq!(sent_at(&mut peers, &mut out, 50).len(), count as usize);
    // 50 µs for each of them.
    add(&mut peers, out.now(), 2);
    assert!(sent_at(&mut peers, &mut out, 249).is_empty());
    assert_eq!(sent_at(&mut peers, &mut out, 250).len(), count as usize);
}

#[test]
fn the_latest_of_many_unconfirmed_messages_are_remembered() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    join(&mut peers, &out, 1);
    // All messages are sent before the first one would be sent again.
    for number in 0..=MAX_OUTSTANDING as u32 {
        let ms = u64::from(number) * 50;
        add(&mut peers, at(ms), number);
        assert_eq!(sent_at(&mut peers, &mut out, ms + 50).len(), 1);
    }
    // The first message is forgotten, so that its confirmation looks like a gap. The second
    // one is remembered.
    let first = peers.history.version() - MAX_OUTSTANDING as u64;
    let second = first + 1;
    let outstanding = |peers: &Peers| {
        peers.delivery.receivers[&Ipv4Addr::from(1)]
            .outstanding
            .clone()
    };
    assert_eq!(outstanding(&peers).len(), MAX_OUTSTANDING);
    assert!(peers.handle_received(&mut out, 1.into(), version(EPOCH, second)));
    assert_eq!(outstanding(&peers).first(), Some(&(second + 1)));
    assert!(sent_at(&mut peers, &mut out, 1_700).is_empty());
    assert!(peers.handle_received(&mut out, 1.into(), version(EPOCH, first)));
    assert_eq!(outstanding(&peers).len(), 0);
    assert_eq!(sent_at(&mut peers, &mut out, 1_750), [Ipv4Addr::from(1)]);
}

#[test]
fn repeated_registrations_do_not_narrow_the_window() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    for _ in 0..3 {
        join(&mut peers, &out, 1);
        assert_eq!(sent(&mut peers, &mut out).len(), 1);
        let receiver = &peers.delivery.receivers[&Ipv4Addr::from(1)];
        assert_eq!(peers.delivery.in_flight, receiver.in_flight);
    }
    let ms = u64::try_from(out.now().since(Time::default()).as_millis()).unwrap();
    // A message that is sent again counts once.
    assert_eq!(sent_at(&mut peers, &mut out, ms + 2_000).len(), 1);
    peers.unsubscribe(1.into());
    let delivery = &peers.delivery;
    assert_eq!(
        (
            delivery.in_flight,
            delivery.resends.len(),
            delivery.queue.len()
        ),
        (0, 0, 0)
    );
}

#[test]
fn an_unsubscribed_agent_is_not_in_the_queue() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    out.set_now(at(40));
    peers.expect_subscriptions(out.now());
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    // The agent comes back with all but the latest change, and needs a short message only.
    peers.unsubscribe(1.into());
    let version = latest(&peers);
    add(&mut peers, out.now(), 6000);
    subscribe(&mut peers, &out, 1, version);
    join(&mut peers, &out, 2);
    out.set_now(at(90));
    peers.expect_subscriptions(out.now());
    assert_eq!(sent_at(&mut peers, &mut out, 100), [Ipv4Addr::from(1)]);
}

#[test]
fn versions_of_another_epoch_are_not_own_versions() {
    let (mut peers, mut out) = (peers(), Outbox::default());
    add(&mut peers, Time::default(), 1);
    let digest = decode(snapshot(&mut peers).bytes).version.digest;
    let mut base = |reported| {
        subscribe(&mut peers, &out, 1, reported);
        let bodies = sent(&mut peers, &mut out);
        bodies.first().map(|body| decode(body.clone()).base)
    };
    assert_eq!(base(version(7, 1)), Some(Some(1)));
    assert_eq!(base(version(7, 2)), None, "it is up to date");
    assert_eq!(base(version(7, 3)), Some(None), "a version of the future");
    assert_eq!(base(version(6, 1)), Some(None));
    assert_eq!(base(version(6, 2)), Some(None));
    assert_eq!(base(version(7, 0)), Some(None), "the first version is 1");
    let no_epoch = PeersVersion {
        digest,
        ..Default::default()
    };
    assert_eq!(base(no_epoch), Some(None), "epoch 0 is none");
}

#[test]
fn a_queued_message_has_the_latest_list() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    assert!(sent_at(&mut peers, &mut out, 40).is_empty());
    peers.expect_subscriptions(out.now());
    assert!(sent_at(&mut peers, &mut out, 50).is_empty());
    add(&mut peers, out.now(), 6000);
    out.set_now(at(90));
    peers.tick(&mut out);
    let (_, body) = take_sent(&mut out).remove(0);
    let list = decode(body);
    assert_eq!(
        (list.peers.len(), list.version.version()),
        (2601, peers.history.version())
    );
}

#[test]
fn an_alias_is_not_used_after_a_version_of_this_epoch_was_confirmed() {
    let agents = agents(1..4);
    let mut peers = Peers::new(8, agents.iter().map(|(ip, agent)| (*ip, agent)));
    let mut out = Outbox::default();
    let reported = PeersVersion {
        digest: decode(snapshot(&mut peers).bytes).version.digest,
        ..version(7, 30)
    };
    subscribe(&mut peers, &out, 1, reported);
    for number in [4, 5] {
        add(&mut peers, out.now(), number);
        assert_eq!(first_sent(&mut peers, &mut out).since, Some(reported));
    }
    // The latest message is sent again and lost. The one before arrived.
    out.set_now(out.now() + RESEND_FIRST);
    peers.tick(&mut out);
    assert!(out.pop().is_some());
    assert!(peers.handle_received(&mut out, 1.into(), version(8, 2)));
    let message = first_sent(&mut peers, &mut out);
    assert_eq!((message.since, message.base), (None, Some(2)));
    assert_eq!(addresses(&message), ["0.0.0.5"]);
}

#[test]
fn encoded_messages_are_freed_when_all_are_sent() {
    let (mut peers, mut out) = (many_peers(), Outbox::default());
    join(&mut peers, &out, 1);
    let before = snapshot(&mut peers).bytes;
    assert_eq!(snapshot(&mut peers).bytes.as_ptr(), before.as_ptr());
    sent(&mut peers, &mut out);
    assert_ne!(snapshot(&mut peers).bytes.as_ptr(), before.as_ptr());
}
