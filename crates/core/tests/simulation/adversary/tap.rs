//! Tap: the adversary sees all messages, and sends them again, as they were or changed.

use bytes::{Buf, Bytes};
use fastrand::Rng;
use overlay_core::Upid;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::{Forgery, Public, flip_bits, pids};

/// Number of messages that are remembered.
const REMEMBERED: usize = 300;

/// Number of the field `session` in every message.
const SESSION: u32 = 150;

/// A message that was seen.
#[derive(Clone, Debug)]
struct Seen {
    from: Upid,
    to: Upid,
    name: &'static str,
    body: Bytes,
}

/// Messages that were seen: some old ones, and the latest.
#[derive(Default)]
pub struct Tap {
    seen: Vec<Seen>,
}

impl Tap {
    /// Records a message.
    pub fn see(
        &mut self,
        random: &mut Rng,
        from: &Upid,
        to: &Upid,
        name: &'static str,
        body: &Bytes,
    ) {
        let seen = Seen {
            from: from.clone(),
            to: to.clone(),
            name,
            body: body.clone(),
        };
        match self.seen.len() < REMEMBERED {
            true => self.seen.push(seen),
            false => self.seen[random.usize(0..REMEMBERED)] = seen,
        }
    }

    /// Returns a message that was seen before, as it was or changed.
    pub fn replay(&self, random: &mut Rng, public: &Public<'_>) -> Option<Forgery> {
        let any = |random: &mut Rng| self.seen.get(random.usize(0..self.seen.len().max(1)));
        // Most often one of the latest.
        let recent = self.seen.len().saturating_sub(20)..self.seen.len().max(1);
        let seen = match random.bool() {
            true => any(random)?,
            false => self.seen.get(random.usize(recent))?,
        };
        let mut forgery = Forgery {
            to: public.processes.iter().position(|it| it.upid == seen.to)?,
            from: seen.from.clone(),
            name: seen.name,
            body: seen.body.clone(),
        };
        match random.u8(0..12) {
            0 => forgery.to = random.usize(0..public.processes.len()),
            1 => forgery.from = pids::sender(random, public, &public.processes[forgery.to]),
            2 => forgery.from = seen.to.clone(),
            3 => forgery.name = any(random)?.name,
            4 => forgery.body = flip_bits(random, seen.body.to_vec()).into(),
            5 => forgery.body = split(&seen.body).0,
            6 => {
                forgery.body = [split(&seen.body).0, split(&any(random)?.body).1]
                    .concat()
                    .into()
            }
            7 => {
                forgery.body = [split(&any(random)?.body).0, split(&seen.body).1]
                    .concat()
                    .into()
            }
            8 => {
                forgery.body = [seen.body.clone(), split(&any(random)?.body).1]
                    .concat()
                    .into()
            }
            _ => {}
        }
        Some(forgery)
    }
}

/// Splits a message into its fields without a session, and the session.
fn split(body: &Bytes) -> (Bytes, Bytes) {
    let mut rest = body.clone();
    while rest.has_remaining() {
        let before = body.len() - rest.len();
        let field = decode_key(&mut rest).ok();
        let Some((number, kind)) = field else { break };
        if number == SESSION {
            return (body.slice(..before), body.slice(before..));
        }
        if skip_field(kind, number, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
    }
    (body.clone(), Bytes::new())
}
