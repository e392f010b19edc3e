//! Tests of what a master believes of the senders of messages.

use super::*;
use crate::proto::internal::{PeersReceivedMessage, RegisterAgentMessage};
use crate::protocol::session::join;
use crate::protocol::session::keys::Keys;
use crate::protocol::session::secrets::NonceSource;

const AGENT: &str = "overlay-agent@10.0.0.2:5051";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const BODY: &[u8] = b"body";

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn nonce(number: u64) -> Nonce {
    NonceSource::new(&Seed::from(number)).draw()
}

/// A master, and its agent's end of a session.
struct Fixture {
    agents: ConfirmedAgents,
    agent: Upid,
    nonce: Nonce,
    token: Option<Token>,
    keys: Option<Keys>,
    /// The agent says that it holds something.
    holds: bool,
}

impl Fixture {
    fn new(keys: Option<Keys>, mode: AuthMode) -> Fixture {
        let authentication = Authentication {
            mode,
            keys: keys.clone(),
            ..Authentication::default()
        };
        let me = "overlay-master@10.0.0.1:5050".parse().unwrap();
        Fixture {
            agents: ConfirmedAgents::new(me, authentication, &Seed::from(1)),
            agent: AGENT.parse().unwrap(),
            nonce: nonce(1),
            token: None,
            keys,
            holds: false,
        }
    }

    /// Issues a token to the agent, which uses it from now on.
    fn issue(&mut self, now: Time) -> Token {
        let token = self.agents.tokens.issue(now, &self.agent, &self.nonce);
        self.token = Some(token);
        token
    }

    /// Returns a message of the agent, and its field `session`.
    fn message(&self, name: &str, sequence: u64) -> (Bytes, Field) {
        let envelope = Envelope {
            sender: &self.agent,
            receiver: &self.agents.me,
            name,
            nonce: Some(&self.nonce),
            token: self.token.as_ref(),
        };
        let secret = self.token.as_ref().map(Token::as_bytes);
        let signature = self.keys.as_ref().map(|keys| (keys, BodyDigest::of(BODY)));
        let sealed = seal(&envelope, secret, sequence, signature);
        let message: PeersReceivedMessage = prost::Message::decode(sealed.clone()).unwrap();
        let body = Bytes::from_static(BODY);
        (join(&body, &sealed), message.session.unwrap())
    }

    fn register(&mut self, now: Time, sequence: u64) -> Result<Examined, String> {
        let name = RegisterAgentMessage::NAME;
        let (body, field) = self.message(name, sequence);
        let received = Received {
            from: &self.agent,
            name,
            body: &body,
            session: Some(&field),
        };
        let ip = agent_address(&self.agent).unwrap();
        let nonce = Some(self.nonce.as_bytes());
        self.agents
            .examine_registration(now, ip, &received, nonce, self.holds)
    }

    fn report(&mut self, now: Time, sequence: u64) -> Result<SenderProof, String> {
        let name = PeersReceivedMessage::NAME;
        let (body, field) = self.message(name, sequence);
        let received = Received {
            from: &self.agent,
            name,
            body: &body,
            session: Some(&field),
        };
        let ip = agent_address(&self.agent).unwrap();
        self.agents.examine(now, ip, &received)
    }
}

fn off() -> Fixture {
    Fixture::new(None, AuthMode::Off)
}

fn with_key(mode: AuthMode) -> Fixture {
    Fixture::new(Some(Keys::read(KEY).unwrap()), mode)
}

fn is_confirmed(examined: Result<Examined, String>) -> bool {
    matches!(examined, Ok(Examined::Confirmed(_)))
}

fn is_unconfirmed(examined: Result<Examined, String>) -> bool {
    matches!(examined, Ok(Examined::Unconfirmed(_)))
}

#[test]
fn a_token_has_to_be_returned_within_a_minute() {
    let mut fixture = off();
    fixture.issue(at(100));
    assert!(is_unconfirmed(fixture.register(at(161), 1)));
    assert!(fixture.agents.agents.is_empty());
    assert!(is_confirmed(fixture.register(at(160), 1)));
    assert!(
        is_confirmed(fixture.register(at(9000), 2)),
        "the session lasts"
    );
}

#[test]
fn a_token_counts_with_its_nonce_and_process() {
    for change in [
        |fixture: &mut Fixture| fixture.nonce = nonce(2),
        |fixture: &mut Fixture| fixture.agent = "overlay-agent@10.0.0.2:6000".parse().unwrap(),
        |fixture: &mut Fixture| fixture.token = None,
    ] {
        let mut fixture = off();
        fixture.issue(at(0));
        change(&mut fixture);
        assert!(is_unconfirmed(fixture.register(at(1), 1)));
        assert_eq!(fixture.report(at(1), 2), Ok(SenderProof::None));
    }
}

#[test]
fn an_earlier_token_does_not_replace_a_later_one() {
    let mut fixture = off();
    let earlier = fixture.issue(at(0));
    let later = fixture.issue(at(1));
    assert!(is_confirmed(fixture.register(at(2), 1)));
    fixture.token = Some(earlier);
    assert!(is_unconfirmed(fixture.register(at(3), 1)));
    assert!(fixture.report(at(3), 2).is_err());
    fixture.token = Some(later);
    assert_eq!(fixture.report(at(3), 2), Ok(SenderProof::Token));
}

#[test]
fn a_message_with_a_code_counts_once() {
    let mut fixture = with_key(AuthMode::Require);
    fixture.issue(at(0));
    assert!(is_confirmed(fixture.register(at(1), 1)));
    let repeated = fixture.register(at(1), 1).unwrap_err();
    assert!(repeated.contains("repetition"), "{repeated}");
    let is_by_key = |proof| matches!(proof, Ok(SenderProof::Key(_)));
    assert!(is_by_key(fixture.report(at(2), 2)));
    let repeated = fixture.report(at(2), 2).unwrap_err();
    assert!(repeated.contains("repetition"), "{repeated}");
    assert!(is_by_key(fixture.report(at(2), 3)));
}

#[test]
fn a_session_with_a_key_takes_no_message_without() {
    let mut fixture = with_key(AuthMode::Warn);
    fixture.issue(at(0));
    assert!(is_confirmed(fixture.register(at(1), 1)));
    fixture.keys = None;
    let refused = fixture.report(at(2), 2).unwrap_err();
    assert!(refused.contains("code"), "{refused}");
    let refused = fixture.register(at(2), 3).unwrap_err();
    assert!(refused.contains("code"), "{refused}");
}

#[test]
fn the_mode_decides_about_messages_without_a_key() {
    for (mode, is_taken) in [(AuthMode::Warn, true), (AuthMode::Require, false)] {
        let mut fixture = with_key(mode);
        fixture.keys = None;
        fixture.issue(at(0));
        assert_eq!(is_confirmed(fixture.register(at(1), 1)), is_taken);
    }
}

#[test]
fn of_two_agents_at_one_address_the_one_that_holds_something_is_served() {
    let ports = ["overlay-agent@10.0.0.2:5051", "overlay-agent@10.0.0.2:5052"];
    let mut fixture = off();
    let mut register = |seconds: u64, port: usize, holds: bool| {
        (fixture.agent, fixture.holds) = (ports[port].parse().unwrap(), holds);
        fixture.issue(at(seconds));
        match fixture.register(at(seconds), seconds).unwrap() {
            Examined::Confirmed(_) => true,
            Examined::Second(first) => {
                assert_eq!(first, ports[1 - port].parse().unwrap());
                false
            }
            other => panic!("{other:?}"),
        }
    };
    // The second one finds the new leader first.
    assert!(register(1, 1, false));
    assert!(register(2, 0, true));
    // The second one holds something now, too: the answer of that leader.
    assert!(!register(3, 1, true));
    assert!(register(4, 0, true));
    // Where both hold nothing or something, the first one is served.
    assert!(register(5, 0, false));
    assert!(!register(6, 1, false));
    assert!(register(7, 0, true));
    assert!(!register(8, 1, true));
}
