//! Tests of the session.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::internal::UpdateAgentOverlaysMessage;

fn master(n: u16) -> Upid {
    Upid::new("overlay-master", ([10, 0, 0, 1], n).into())
}

fn session() -> Session {
    let me = "overlay-agent@10.0.0.2:5051".parse().unwrap();
    let mut session = Session::new(me, &Seed::from(1));
    session.set_master(&master(1));
    session
}

/// Lets the leading master confirm.
fn confirm(session: &mut Session, authentication: &Authentication) -> Verdict {
    let field = Field {
        secret: Some(session.nonce()),
        ..Field::default()
    };
    judge(session, authentication, Some(&field))
}

fn judge(session: &mut Session, authentication: &Authentication, field: Option<&Field>) -> Verdict {
    let message = Received {
        name: UpdateAgentOverlaysMessage::NAME,
        body: &Bytes::new(),
        field,
    };
    session.judge(authentication, &message)
}

fn held(len: usize) -> Held {
    Held {
        name: UpdateAgentOverlaysMessage::NAME,
        body: vec![0; len].into(),
    }
}

#[test]
fn few_bytes_are_held() {
    let mut session = session();
    let (now, half) = (Time::default(), MAX_HELD_BYTES / 2);
    assert!(!session.hold(now, held(MAX_HELD_BYTES + 1)));
    assert!(session.hold(now, held(half)) && session.hold(now, held(half)));
    assert!(!session.hold(now, held(1)));
    assert_eq!(session.release(), (vec![held(half), held(half)], true));
    assert!(session.hold(now, held(1)));
    assert_eq!(session.release(), (vec![held(1)], false));
}

#[test]
fn few_messages_are_held() {
    let mut session = session();
    let accepted = (0..100).filter(|_| session.hold(Time::default(), held(1)));
    assert_eq!(accepted.count(), MAX_HELD);
}

#[test]
fn the_time_counts_from_the_first_message() {
    let mut session = session();
    let at = |seconds| Time(Duration::from_secs(seconds));
    session.hold(at(100), held(1));
    session.hold(at(101), held(1));
    assert_eq!(session.release_at(), Some(at(102)));
    session.take_held();
    assert_eq!(session.release_at(), None);
    confirm(&mut session, &Authentication::default());
    session.set_master(&master(2));
    session.hold(at(200), held(1));
    assert_eq!(session.release_at(), Some(at(210)));
}

#[test]
fn few_masters_are_remembered_the_present_one_among_them() {
    let mut session = session();
    let off = Authentication::default();
    for n in 1..1000 {
        session.set_master(&master(n));
        for _ in 0..2 {
            assert_eq!(confirm(&mut session, &off), Verdict::Believe);
        }
        let verdict = judge(&mut session, &off, None);
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }
    assert_eq!(session.confirmed.len(), MAX_MASTERS);
    session.set_master(&master(998));
    assert!(matches!(judge(&mut session, &off, None), Verdict::Drop(_)));
}

#[test]
fn nothing_is_believed_if_a_key_is_demanded_that_was_not_read() {
    let mut session = session();
    let require = Authentication {
        mode: AuthMode::Require,
        ..Authentication::default()
    };
    for verdict in [
        confirm(&mut session, &require),
        judge(&mut session, &require, None),
    ] {
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }
    assert_eq!(session.trust(), Trust::Unconfirmed);
}

#[test]
fn a_malformed_token_leaves_the_registration_open() {
    let mut session = session();
    session.seal(&Authentication::default(), "any", &Bytes::new());
    session.on_register_sent();
    let challenge = |len| RegistrationChallengeMessage {
        token: vec![1; len].into(),
        answers: 1,
        session: None,
    };
    for len in [0, 16, 23, 25] {
        assert!(session.take_challenge(&challenge(len)).is_err(), "{len}");
    }
    assert_eq!(session.take_challenge(&challenge(24)), Ok(Answer::Now));
    assert!(session.take_challenge(&challenge(24)).is_err());
}

proptest! {
    /// A code covers nonce and sequence number: no pair of them occurs twice.
    #[test]
    fn no_number_is_used_twice_in_a_session(steps in prop::collection::vec(0..6_u16, 0..60)) {
        let mut session = session();
        let mut used = BTreeSet::new();
        let off = Authentication::default();
        for step in steps {
            match step {
                0 => drop(session.on_connection_broken()),
                1 | 2 => drop(session.set_master(&master(step))),
                3 => drop(confirm(&mut session, &off)),
                _ => {
                    let field = session.seal(&off, "any", &Bytes::new());
                    prop_assert!(used.insert((session.nonce(), field)));
                }
            }
        }
    }
}
