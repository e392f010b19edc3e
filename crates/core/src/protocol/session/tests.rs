//! Tests of sealed messages.

use super::secrets::{NonceSource, Seed, TokenIssuer};
use super::*;
use crate::Time;
use crate::proto::internal::PeersReceivedMessage;
use crate::protocol::messages::Named;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn keys(lines: &[&str]) -> Keys {
    Keys::read(&lines.join("\n")).unwrap()
}

/// A session between two processes.
struct Fixture {
    agent: Upid,
    master: Upid,
    nonce: Nonce,
    token: Token,
}

impl Fixture {
    fn new() -> Fixture {
        let agent: Upid = "overlay-agent@10.0.0.2:5051".parse().unwrap();
        let nonce = NonceSource::new(&Seed::from(1)).draw();
        let token = TokenIssuer::new(&Seed::from(2)).issue(Time::default(), &agent, &nonce);
        Fixture {
            agent,
            master: "overlay-master@10.0.0.1:5050".parse().unwrap(),
            nonce,
            token,
        }
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            sender: &self.agent,
            receiver: &self.master,
            name: PeersReceivedMessage::NAME,
            nonce: Some(&self.nonce),
            token: Some(&self.token),
        }
    }

    /// Returns a message of the agent.
    fn message(&self, keys: Option<&Keys>) -> Bytes {
        let body = Bytes::from(PeersReceivedMessage::default().encode_to_vec());
        let secret = Some(self.token.as_bytes());
        let signature = keys.map(|keys| (keys, BodyDigest::of(&body)));
        join(&body, &seal(&self.envelope(), secret, 7, signature))
    }
}

fn field(message: &[u8]) -> Option<Field> {
    PeersReceivedMessage::decode(message).unwrap().session
}

#[test]
fn the_receiver_reads_what_the_sender_appends() {
    let fixture = Fixture::new();
    for keys in [None, Some(keys(&[KEY]))] {
        let message = fixture.message(keys.as_ref());
        let field = field(&message).unwrap();
        assert_eq!(field.secret.as_deref(), Some(fixture.token.as_bytes()));
        assert_eq!(field.sequence, Some(7));
        assert_eq!(field.mac.is_some(), keys.is_some());
        let again = PeersReceivedMessage::decode(message.clone()).unwrap();
        assert_eq!(
            again.encode_to_vec(),
            message,
            "the form that protobuf gives it"
        );
    }
}

#[test]
fn any_configured_key_is_accepted() {
    let fixture = Fixture::new();
    let message = fixture.message(Some(&keys(&[OTHER])));
    let both = keys(&[KEY, OTHER]);
    let found = verify(
        &fixture.envelope(),
        &both,
        &message,
        field(&message).as_ref(),
    );
    assert_eq!(found.unwrap().id, keys(&[OTHER]).first().id);
    let one = keys(&[KEY]);
    let error = verify(
        &fixture.envelope(),
        &one,
        &message,
        field(&message).as_ref(),
    );
    assert!(error.unwrap_err().contains("of no key"));
    let plain = fixture.message(None);
    let error = verify(&fixture.envelope(), &both, &plain, field(&plain).as_ref());
    assert!(
        error
            .unwrap_err()
            .contains("no message authentication code")
    );
}

/// Every change of the message or of its addressing makes the code invalid.
#[test]
fn nothing_can_be_changed() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let keys = keys(&[KEY]);
    let message = fixture.message(Some(&keys));
    let is_valid = |envelope: &Envelope<'_>, message: &[u8]| {
        let field = PeersReceivedMessage::decode(message).ok()?.session;
        verify(envelope, &keys, message, field.as_ref()).ok()
    };
    assert!(is_valid(&fixture.envelope(), &message).is_some());
    for bit in 0..message.len() * 8 {
        let mut changed = message.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            is_valid(&fixture.envelope(), &changed).is_none(),
            "bit {bit}"
        );
    }
    for len in 0..message.len() {
        assert!(is_valid(&fixture.envelope(), &message[..len]).is_none());
    }
    // A second field `session`, which a decoder merges into the first.
    let twice = [&message[..], &message[message.len() - 40..]].concat();
    assert!(is_valid(&fixture.envelope(), &twice).is_none());
    let nonce = NonceSource::new(&Seed::from(9)).draw();
    let envelope = fixture.envelope();
    for changed in [
        Envelope {
            sender: &other.master,
            ..envelope
        },
        Envelope {
            receiver: &other.agent,
            ..envelope
        },
        Envelope {
            name: "another",
            ..envelope
        },
        Envelope {
            nonce: Some(&nonce),
            ..envelope
        },
        Envelope {
            nonce: None,
            ..envelope
        },
        Envelope {
            token: None,
            ..envelope
        },
    ] {
        assert!(is_valid(&changed, &message).is_none(), "{changed:?}");
    }
}
