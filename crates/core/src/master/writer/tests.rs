//! Tests of the writer: its pauses, its timeout, and which answers wait for it.

use std::sync::Arc;

use super::*;
use crate::allocation::allocator::{Allocation, AllocationRequest};
use crate::config::master::parse;
use crate::master::ledger::Ledger;
use crate::master::recovery::recover;
use crate::master::trust::Trust;
use crate::proto::State;

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

/// Returns a delta with the allocations of these agents, and the networks if `networks`.
fn delta(ips: &[Ipv4Addr], networks: bool) -> Delta {
    let text = r#"{"network": {"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#;
    let network = Arc::new(parse("m", text).unwrap().config.network);
    let mut stored = network.to_wire();
    if networks {
        // The log has other networks than the configuration: they are part of the next write.
        stored.overlays.clear();
    }
    let state = State {
        network: Some(stored),
        ..Default::default()
    };
    let mut ledger = Ledger::new(recover(&network, state).unwrap());
    let request = AllocationRequest {
        allocate_subnet: true,
        mesos_bridge: true,
        docker_bridge: true,
        enable_ipv6: true,
    };
    for ip in ips {
        ledger
            .allocate(*ip, request, Trust::Legacy, &Allocation::default())
            .unwrap();
    }
    ledger.take_delta().0
}

fn batch(delta: Delta) -> WrittenBatch {
    WrittenBatch {
        delta,
        answers: PendingAnswers::default(),
    }
}

/// Returns a writer that began to write a state of this size, in bytes, at the time 0.
fn writing(size: usize) -> (Writer, Outbox) {
    let (mut writer, mut out) = (Writer::with_last_number(0), Outbox::default());
    let batch = batch(delta(&[ip(1)], false));
    writer.write(&mut out, batch, Bytes::from(vec![0; size]));
    (writer, out)
}

fn finish(writer: &mut Writer, out: &mut Outbox, number: u64) -> Option<WrittenBatch> {
    writer.finish(out, number, &StoreOutcome::Stored)
}

/// Returns the first millisecond at which another write may begin after one of `size` bytes
/// that took `took` ms.
fn free_at(size: usize, took: u64) -> u64 {
    let (mut writer, mut out) = writing(size);
    out.set_now(at(took));
    writer.end_pause(out.now());
    assert!(writer.is_busy(), "the write is under way");
    assert!(finish(&mut writer, &mut out, 1).is_some());
    if !writer.is_busy() {
        assert_eq!(writer.due(), None);
        return took;
    }
    let due = writer.due().unwrap();
    let ms = u64::try_from(due.since(Time::default()).as_millis()).unwrap();
    writer.end_pause(at(ms - 1));
    assert!(writer.is_busy(), "the pause is not over");
    writer.end_pause(due);
    assert!(!writer.is_busy());
    assert_eq!(writer.due(), None);
    ms
}

#[test]
fn a_large_write_is_followed_by_a_pause_of_twice_its_time() {
    assert_eq!(free_at(1, 50), 50);
    assert_eq!(free_at(LARGE_STATE, 50), 50, "the largest without a pause");
    assert_eq!(free_at(LARGE_STATE + 1, 50), 150);
    assert_eq!(free_at(LARGE_STATE + 1, 99), 99 + 198);
    assert_eq!(free_at(LARGE_STATE + 1, 100), 300);
    assert_eq!(free_at(LARGE_STATE + 1, 101), 301, "at most 200 ms");
    assert_eq!(free_at(LARGE_STATE + 1, 5000), 5200);
}

#[test]
fn a_large_write_that_failed_is_followed_by_a_pause_too() {
    for outcome in [
        StoreOutcome::Superseded,
        StoreOutcome::Failed("no quorum".to_owned()),
    ] {
        let (mut writer, mut out) = writing(LARGE_STATE + 1);
        out.set_now(at(10));
        assert!(writer.finish(&mut out, 1, &outcome).is_some());
        assert_eq!(writer.due(), Some(at(30)));
    }
}

#[test]
fn a_small_write_after_a_large_one_has_no_pause() {
    let (mut writer, mut out) = writing(LARGE_STATE + 1);
    out.set_now(at(10));
    finish(&mut writer, &mut out, 1);
    writer.end_pause(at(30));
    out.set_now(at(30));
    writer.write(&mut out, batch(delta(&[], false)), Bytes::new());
    out.set_now(at(40));
    assert!(finish(&mut writer, &mut out, 2).is_some());
    assert!(!writer.is_busy());
}

#[test]
fn the_answer_to_another_write_is_ignored() {
    let (mut writer, mut out) = writing(1);
    for number in [0, 2] {
        assert!(finish(&mut writer, &mut out, number).is_none());
        assert!(writer.is_busy());
    }
    assert!(finish(&mut writer, &mut out, 1).is_some());
    assert!(finish(&mut writer, &mut out, 1).is_none(), "it has ended");
}

#[test]
fn nothing_depends_on_an_abandoned_write_and_the_next_one_still_waits_for_it() {
    let (mut writer, mut out) = writing(1);
    assert!(writer.abandon().is_some());
    assert!(writer.abandon().is_none() && writer.is_busy());
    assert!(writer.answers_about(ip(1)).is_none());
    assert!(finish(&mut writer, &mut out, 1).is_none());
    assert!(!writer.is_busy());
}

#[test]
fn answers_wait_for_a_write_that_concerns_them() {
    let (mut writer, _) = writing(1);
    assert!(writer.answers_about(ip(1)).is_some());
    assert!(writer.answers_about(ip(2)).is_none());
    let (mut writer, mut out) = (Writer::with_last_number(0), Outbox::default());
    assert!(writer.answers_about(ip(1)).is_none());
    let batch = batch(delta(&[ip(1)], true));
    writer.write(&mut out, batch, Bytes::new());
    assert!(
        writer.answers_about(ip(2)).is_some(),
        "the networks concern every agent"
    );
}

#[test]
fn a_write_without_an_answer_times_out() {
    let (mut writer, mut out) = writing(1);
    assert_eq!(writer.due(), Some(at(20_000)));
    assert_eq!(writer.timed_out(at(19_999)), None);
    // Also if nothing depends on it any more.
    writer.abandon();
    let error = "no quorum of the masters answered within 20 s";
    let failed = StoreOutcome::Failed(error.to_owned());
    for ms in [20_000, 20_001] {
        assert_eq!(writer.timed_out(at(ms)), Some((1, failed.clone())));
    }
    writer.finish(&mut out, 1, &failed);
    assert_eq!(writer.timed_out(at(40_000)), None, "it has ended");
}

#[test]
fn the_log_is_opened_anew_after_what_may_have_failed() {
    let failed = StoreOutcome::Failed("the disk is full".to_owned());
    for (outcome, reopen) in [
        (StoreOutcome::Stored, false),
        (StoreOutcome::Superseded, false),
        (failed, true),
    ] {
        let (mut writer, mut out) = writing(10);
        assert!(writer.must_reopen(), "it has no answer yet");
        writer.abandon();
        writer.finish(&mut out, 1, &outcome);
        assert_eq!(writer.must_reopen(), reopen, "{outcome:?}");
        writer.reopened();
        assert!(!writer.must_reopen());
    }
    let (mut writer, _) = writing(10);
    writer.read_failed();
    assert!(writer.must_reopen());
}
