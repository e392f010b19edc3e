//! Sessions of forged messages: guessed secrets and codes.

use fastrand::Rng;
use prost::encoding::{bytes, uint64};

/// Number of the field `session` in every message.
const SESSION: u32 = 150;

/// Adds a session to an encoded message, or none.
pub fn add(random: &mut Rng, mut message: Vec<u8>) -> Vec<u8> {
    let times = match random.u8(0..20) {
        0..6 => 0,
        6 => 2,
        _ => 1,
    };
    for _ in 0..times {
        let field = session(random);
        bytes::encode(SESSION, &field, &mut message);
    }
    message
}

/// Adds a session with this secret to an encoded message.
pub fn with_secret(random: &mut Rng, mut message: Vec<u8>, secret: &Vec<u8>) -> Vec<u8> {
    let mut field = Vec::new();
    bytes::encode(100, secret, &mut field);
    uint64::encode(101, &number(random), &mut field);
    bytes::encode(SESSION, &field, &mut message);
    message
}

fn session(random: &mut Rng) -> Vec<u8> {
    let mut field = Vec::new();
    if random.u8(0..8) > 0 {
        let length = [0, 1, 15, 16, 16, 16, 17, 24, 24, 24, 32][random.usize(0..11)];
        bytes::encode(100, &guess(random, length), &mut field);
    }
    if random.u8(0..8) > 0 {
        uint64::encode(101, &number(random), &mut field);
    }
    if random.u8(0..4) == 0 {
        let length = [0, 16, 32, 32, 32, 33][random.usize(0..6)];
        bytes::encode(102, &guess(random, length), &mut field);
    }
    field
}

/// Returns a guessed secret.
pub fn guess(random: &mut Rng, length: usize) -> Vec<u8> {
    match random.u8(0..4) {
        0 => vec![0; length],
        1 => vec![0xff; length],
        _ => std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect(),
    }
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
