//! The other side of a session: what it learned, and the field `session` of its messages.

use bytes::Bytes;
use overlay_core::proto::internal::Session;
use prost::encoding::message;

/// Number of the field `session` in every message.
const SESSION: u32 = 150;

/// Bit of the number of a message's type: the message is part of the session.
pub(crate) const IN_SESSION: u8 = 0x80;

/// Secret of the machine under test, and the number of the latest message to it.
#[derive(Debug, Default)]
pub(crate) struct Secret {
    pub(crate) secret: Option<Bytes>,
    sequence: u64,
}

impl Secret {
    /// Replaces the secret. A new one begins a session.
    pub(crate) fn learn(&mut self, secret: &Bytes) {
        if self.secret.as_ref() != Some(secret) {
            *self = Secret {
                secret: Some(secret.clone()),
                sequence: 0,
            };
        }
    }

    /// Returns a message as part of the session.
    pub(crate) fn seal(&mut self, mut body: Vec<u8>) -> Bytes {
        self.sequence += 1;
        let session = Session {
            secret: self.secret.clone(),
            sequence: Some(self.sequence),
            mac: None,
        };
        message::encode(SESSION, &session, &mut body);
        body.into()
    }
}
