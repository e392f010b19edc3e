//! Sessions between agents and masters, and the authentication of their messages.
//!
//! Anybody who reaches a port of libprocess can send a message with any sender, so the sender
//! proves nothing. Two secrets do:
//!
//! * the **nonce** of an agent's process, which it sends to the leading master's address: a
//!   message with it is from a process that received that;
//! * the **token** of a master's process, which it sends to the agent's address as the answer to
//!   the first registration: a message with it is from a process that received that.
//!
//! Who sends with a forged sender and does not see the answers knows neither. Where a key is
//! configured, each message also has a code ([`keys`]) that only holders of the key can
//! compute, and a message that arrives again is recognised ([`replay`]).

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use sha2::{Digest, Sha256};

use crate::Upid;
use crate::proto::internal::Session as Field;

pub mod keys;
pub mod replay;
pub mod secrets;

use keys::{Key, Keys, MacInput};
use secrets::{Nonce, Token};

/// Number of the field `session` in every message.
const SESSION: u32 = 150;
/// Number of the field `mac` in that field.
const MAC: u32 = 102;
/// Length of a message authentication code, in bytes.
const MAC_LEN: usize = 32;

/// SHA-256 of a message without its field `session`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Computes the digest. For a message to many receivers, once is enough.
    pub fn of(body: &[u8]) -> BodyDigest {
        BodyDigest(Sha256::digest(body).into())
    }
}

/// Addressing of a message, all of which its code covers.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Process that sends the message.
    pub sender: &'a Upid,
    /// Process that receives the message.
    pub receiver: &'a Upid,
    /// Name of the message's type.
    pub name: &'a str,
    /// Nonce of the session.
    pub nonce: Option<&'a Nonce>,
    /// Token of the session; `None` before there is one.
    pub token: Option<&'a Token>,
}

impl Envelope<'_> {
    /// Calls `function` with what the code of a message covers.
    fn input<T>(
        &self,
        digest: &BodyDigest,
        session: &[u8],
        function: impl FnOnce(&MacInput<'_>) -> T,
    ) -> T {
        let [sender, receiver] = [self.sender, self.receiver].map(Upid::to_string);
        function(&MacInput {
            parts: [
                sender.as_bytes(),
                receiver.as_bytes(),
                self.name.as_bytes(),
                self.nonce.map_or(&[], Nonce::as_bytes),
                self.token.map_or(&[], Token::as_bytes),
                &digest.0,
            ],
            session,
        })
    }
}

/// Returns the field `session` of a message, to be appended to it. `digest` is needed with a
/// key.
pub fn seal(
    envelope: &Envelope<'_>,
    secret: Option<&[u8]>,
    sequence: u64,
    signature: Option<(&Keys, BodyDigest)>,
) -> Bytes {
    let field = Field {
        secret: secret.map(Bytes::copy_from_slice),
        sequence: Some(sequence),
        mac: None,
    };
    let mut bytes = encode(&field, signature.is_some());
    if let Some((keys, digest)) = signature {
        let code = envelope.input(&digest, &bytes, |input| keys.first().code(input));
        bytes.extend_from_slice(&code);
    }
    bytes.into()
}

/// Encodes the field without its code, but with the lengths that it has with the code.
fn encode(field: &Field, with_code: bool) -> Vec<u8> {
    let code_header = key_len(MAC) + encoded_len_varint(MAC_LEN as u64);
    let code = if with_code { code_header + MAC_LEN } else { 0 };
    let len = field.encoded_len() + code;
    let mut bytes = Vec::with_capacity(key_len(SESSION) + 2 + len);
    encode_key(SESSION, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    // A vector grows as needed.
    field.encode_raw(&mut bytes);
    if with_code {
        encode_key(MAC, WireType::LengthDelimited, &mut bytes);
        encode_varint(MAC_LEN as u64, &mut bytes);
    }
    bytes
}

/// Finds the key that a received message is authenticated with.
///
/// # Errors
/// Why the message is not authenticated. The text continues a sentence about the message.
pub fn verify<'k>(
    envelope: &Envelope<'_>,
    keys: &'k Keys,
    body: &[u8],
    field: Option<&Field>,
) -> Result<&'k Key, &'static str> {
    let unauthenticated = "it has no message authentication code: the sender has no auth_key_file";
    let field = field.ok_or(unauthenticated)?;
    let code = field.mac.as_ref().ok_or(unauthenticated)?;
    // The field has one form, so that nothing is outside of what the code covers.
    let unsigned = encode(
        &Field {
            mac: None,
            ..field.clone()
        },
        true,
    );
    let malformed = "its field session is not in the expected form";
    let rest = body
        .strip_suffix(&code[..])
        .filter(|_| code.len() == MAC_LEN);
    let message = rest
        .and_then(|rest| rest.strip_suffix(unsigned.as_slice()))
        .ok_or(malformed)?;
    let digest = BodyDigest::of(message);
    envelope
        .input(&digest, &unsigned, |input| keys.find(input, code))
        .ok_or("its message authentication code is of no key in auth_key_file")
}

/// Returns a message with its field `session`.
pub fn join(body: &Bytes, session: &Bytes) -> Bytes {
    match session.is_empty() {
        true => body.clone(),
        false => [body.as_ref(), session.as_ref()].concat().into(),
    }
}

#[cfg(test)]
mod tests;
