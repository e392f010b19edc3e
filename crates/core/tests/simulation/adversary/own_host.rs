//! Host of the adversary. Masters answer its registrations, so it has tokens, which are of no use
//! to anybody else.

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::proto::internal::{RegisterAgentMessage, RegistrationChallengeMessage};
use overlay_core::protocol::messages::Named;
use overlay_core::{AGENT_ID, Upid};
use prost::Message;

use super::{Forgery, Origin, Public, pids, session_fields, to_master};

/// Address of the host, which never registers with its token.
const ADDRESS: &str = "10.0.3.250:5051";

/// A process of the adversary, which sees what it is sent.
pub struct OwnHost {
    upid: Upid,
    nonce: Bytes,
    /// Latest token of any master.
    token: Option<Bytes>,
}

impl OwnHost {
    pub fn new(random: &mut Rng) -> OwnHost {
        OwnHost {
            upid: Upid::new(AGENT_ID, ADDRESS.parse().unwrap()),
            nonce: std::iter::repeat_with(|| random.u8(..)).take(16).collect(),
            token: None,
        }
    }

    /// Keeps the token of a challenge to this host.
    pub fn receive(&mut self, to: &Upid, name: &str, body: &Bytes) {
        if *to == self.upid && name == RegistrationChallengeMessage::NAME {
            let challenge = RegistrationChallengeMessage::decode(body.clone());
            self.token = challenge.ok().map(|challenge| challenge.token);
        }
    }

    /// Returns a registration of this host without a token, or a message in the name of others
    /// with its token.
    pub fn message(&self, random: &mut Rng, public: &Public<'_>, to: usize) -> Forgery {
        let registration =
            to_master::registration(random, Some(self.nonce.clone())).encode_to_vec();
        let (from, name, body) = match &self.token {
            Some(token) if random.u8(0..4) > 0 => {
                let from = pids::sender(random, public, &public.processes[to]);
                let (name, body) = match random.bool() {
                    true => (RegisterAgentMessage::NAME, registration),
                    false => to_master::message(random, public, &from),
                };
                (from, name, session_fields::with_secret(random, body, token))
            }
            _ => (self.upid.clone(), RegisterAgentMessage::NAME, registration),
        };
        Forgery {
            to,
            from,
            name,
            body: body.into(),
            origin: Origin::Forged,
        }
    }
}
