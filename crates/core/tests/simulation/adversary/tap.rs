//! Tap: the adversary sees all messages, and sends them again, as they were or changed.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::{Buf, Bytes};
use fastrand::Rng;
use overlay_core::Upid;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::session_fields::SESSION;
use super::{Forgery, Public, flip_bits, pids};
use crate::cluster::Incarnation;

/// Number of messages that are remembered.
const REMEMBERED: usize = 300;

/// A message that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub from: Upid,
    pub to: Upid,
    pub name: &'static str,
    pub body: Bytes,
    /// Run of the receiver at that time.
    pub receiver: Incarnation,
    pub is_lost: bool,
}

/// Messages that were seen: some old ones, and the latest.
#[derive(Default)]
pub struct Tap {
    seen: Vec<Seen>,
    /// Messages that each run of a process received, as hashes.
    received: BTreeSet<(Incarnation, u64)>,
}

/// What a message means to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The message is forged, or was received before.
    Forged,
    /// The message was lost. A receiver may take it, if not too many others came after it.
    Late,
}

impl Tap {
    /// Records a message.
    pub fn see(&mut self, random: &mut Rng, seen: Seen) {
        match self.seen.len() < REMEMBERED {
            true => self.seen.push(seen),
            false => self.seen[random.usize(0..REMEMBERED)] = seen,
        }
    }

    /// Records that a process received a message. Returns whether it had it already.
    pub fn receive(
        &mut self,
        receiver: Incarnation,
        from: &Upid,
        name: &str,
        body: &Bytes,
    ) -> bool {
        !self.received.insert((receiver, hash(from, name, body)))
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
            origin: Origin::Forged,
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
        // Two messages may differ in their sessions only.
        let to = &public.processes[forgery.to].upid;
        let is_copy_of = |seen: &&Seen| {
            (to, &forgery.from, forgery.name, &forgery.body)
                == (&seen.to, &seen.from, seen.name, &seen.body)
        };
        if let Some(seen) = self.seen.iter().find(is_copy_of) {
            forgery.origin = self.origin(seen, public)?;
        }
        Some(forgery)
    }

    /// Returns what a message means if it arrives now; `None`: it is on its way.
    fn origin(&self, seen: &Seen, public: &Public<'_>) -> Option<Origin> {
        let receiver = seen.receiver;
        let is_gone = public.processes[receiver.process].start != receiver.start;
        let key = (receiver, hash(&seen.from, seen.name, &seen.body));
        match is_gone || self.received.contains(&key) {
            true => Some(Origin::Forged),
            false => seen.is_lost.then_some(Origin::Late),
        }
    }
}

/// Returns a hash of a message.
fn hash(from: &Upid, name: &str, body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    (from, name, body).hash(&mut hasher);
    hasher.finish()
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
