//! Sessions of forged messages: guessed secrets and codes.

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::proto::internal::Session;
use prost::encoding::message;

/// Number of the field `session` in every message.
pub const SESSION: u32 = 150;

/// Adds a session to an encoded message, or none, or two.
pub fn add(random: &mut Rng, mut body: Vec<u8>) -> Vec<u8> {
    let times = match random.u8(0..20) {
        0..6 => 0,
        6 => 2,
        _ => 1,
    };
    for _ in 0..times {
        message::encode(SESSION, &session(random), &mut body);
    }
    body
}

/// Adds a session with this secret to an encoded message.
pub fn with_secret(random: &mut Rng, mut body: Vec<u8>, secret: &Bytes) -> Vec<u8> {
    let field = Session {
        secret: Some(secret.clone()),
        sequence: Some(number(random)),
        mac: None,
    };
    message::encode(SESSION, &field, &mut body);
    body
}

fn session(random: &mut Rng) -> Session {
    let length = [0, 1, 15, 16, 16, 16, 17, 24, 24, 24, 32][random.usize(0..11)];
    let code = [0, 16, 32, 32, 32, 33][random.usize(0..6)];
    Session {
        secret: (random.u8(0..8) > 0).then(|| guess(random, length)),
        sequence: (random.u8(0..8) > 0).then(|| number(random)),
        mac: (random.u8(0..4) == 0).then(|| guess(random, code)),
    }
}

/// Returns a guessed secret.
pub fn guess(random: &mut Rng, length: usize) -> Bytes {
    match random.u8(0..4) {
        0 => vec![0; length],
        1 => vec![0xff; length],
        _ => std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect(),
    }
    .into()
}

/// Returns a guessed number of a message.
pub fn number(random: &mut Rng) -> u64 {
    match random.u8(0..8) {
        0 => 0,
        1 => u64::MAX,
        2 => random.u64(..),
        3 => 1 << 40,
        _ => random.u64(1..12),
    }
}
