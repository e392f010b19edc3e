//! Adversary: somebody who reaches masters and agents, sends any message in anybody's name, and
//! sees no answers.
//!
//! The adversary knows what everybody may know: the processes, the leader, and all that `/state`
//! shows. It has a host of its own, at which masters answer it. It knows no nonce, token or epoch
//! of others. In a cluster with keys it also is a tap ([`tap`]), which sees all of them. Its choices have a random stream of their
//! own, so that a seed's other choices are the same with and without it.
//!
//! Processes of earlier releases believe anybody, and this one serves them as they are.
//! [`Adversary::spares`] lists what it therefore does not send.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::{MASTER_ID, Upid};

use crate::checker::Stored;
use crate::cluster::{Incarnation, Process};
use own_host::OwnHost;
use tap::Tap;
pub use tap::{Origin, Seen};

mod own_host;
mod pids;
mod session_fields;
mod tap;
mod to_agent;
mod to_master;

/// A message in somebody's name.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// Receiver: the number of a process.
    pub to: usize,
    pub from: Upid,
    pub name: &'static str,
    pub body: Bytes,
    pub origin: Origin,
}

/// What everybody may know.
pub struct Public<'a> {
    pub processes: &'a [Process],
    pub leader: Option<usize>,
    /// Value of the log, which `/state` shows.
    pub log: Rc<Stored>,
    /// Messages may be lost, and processes may be slow or absent.
    pub is_faulty: bool,
    /// Masters of earlier releases lead at times.
    pub has_old_masters: bool,
}

/// How many messages an adversary sends.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Longest pause between two bursts.
    pause: Duration,
    /// Largest number of messages in a burst.
    burst: usize,
    /// Percentage of bursts that are floods.
    floods: u8,
    /// Number of messages of a flood.
    flood: usize,
}

impl Volume {
    /// Returns a random volume: some hundreds of messages in two minutes, in one of 16 cases with
    /// floods.
    fn random(random: &mut Rng) -> Volume {
        let floods = random.u8(0..16) == 0;
        Volume {
            pause: Duration::from_millis(random.u64(400..4000)),
            burst: random.usize(1..6),
            floods: if floods { 5 } else { 0 },
            flood: 300,
        }
    }
}

/// Returns a random stream that depends on another one, without taking from that.
pub fn stream(other: &Rng) -> Rng {
    Rng::with_seed(other.clone().u64(..) ^ 0xadd0_0bad_0add_0bad)
}

/// State of the adversary.
pub struct Adversary {
    random: Rng,
    volume: Volume,
    is_active: bool,
    own_host: OwnHost,
    /// Messages that were seen, where a key protects them.
    tap: Option<Tap>,
    /// Number of messages sent.
    pub sent: u64,
}

impl Adversary {
    /// Creates the adversary of a simulation with this random stream.
    pub fn new(simulation: &Rng, sees_everything: bool) -> Adversary {
        let mut random = stream(simulation);
        Adversary {
            volume: Volume::random(&mut random),
            is_active: true,
            own_host: OwnHost::new(&mut random.fork()),
            tap: sees_everything.then(Tap::default),
            random,
            sent: 0,
        }
    }

    /// Records a message to the adversary's own host.
    pub fn receive(&mut self, to: &Upid, name: &str, body: &Bytes) {
        self.own_host.receive(to, name, body);
    }

    /// Records a message between others.
    pub fn see(&mut self, seen: impl FnOnce() -> Seen) {
        if let Some(tap) = &mut self.tap {
            tap.see(&mut self.random, seen());
        }
    }

    /// Records that a process received a message of others. Returns whether it must recognise it as
    /// one that it received before.
    pub fn is_repeated(
        &mut self,
        receiver: Incarnation,
        from: &Upid,
        name: &str,
        body: &Bytes,
    ) -> bool {
        let tap = self.tap.as_mut();
        tap.is_some_and(|tap| tap.receive(receiver, from, name, body))
    }

    /// Returns the time until the next burst; `None`: there is none.
    pub fn pause(&mut self) -> Option<Duration> {
        let pause = self.volume.pause.mul_f64(self.random.f64());
        self.is_active.then(|| pause.max(Duration::from_millis(1)))
    }

    /// Sends nothing any more.
    pub fn stop(&mut self) {
        self.is_active = false;
    }

    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// Returns the messages of one burst. They arrive at once.
    pub fn burst(&mut self, public: &Public<'_>) -> Vec<Forgery> {
        let is_flood = self.random.u8(0..100) < self.volume.floods;
        let count = match is_flood {
            true => self.volume.flood,
            false => self.random.usize(1..=self.volume.burst),
        };
        let to = self.receiver(public);
        let mut burst = Vec::new();
        for _ in 0..count {
            // A flood hits one process.
            let to = if is_flood { to } else { self.receiver(public) };
            let replay = match &self.tap {
                Some(tap) if self.random.bool() => tap.replay(&mut self.random, public),
                _ => None,
            };
            let forgery = replay.unwrap_or_else(|| self.forge(public, to));
            if !spares(public, &forgery) {
                burst.push(forgery);
            }
        }
        self.sent += burst.len() as u64;
        burst
    }

    fn receiver(&mut self, public: &Public<'_>) -> usize {
        match public.leader {
            Some(leader) if self.random.u8(0..3) == 0 => leader,
            _ => self.random.usize(0..public.processes.len()),
        }
    }

    fn forge(&mut self, public: &Public<'_>, to: usize) -> Forgery {
        let random = &mut self.random;
        let receiver = &public.processes[to];
        if receiver.is_master() && random.u8(0..6) == 0 {
            return self.own_host.message(random, public, to);
        }
        let from = pids::sender(random, public, receiver);
        // One of the other kind now and then.
        let is_for_master = receiver.is_master() != (random.u8(0..30) == 0);
        let (name, body) = match is_for_master {
            true => to_master::message(random, public, &from),
            false => to_agent::message(random, public, receiver),
        };
        let body = session_fields::add(random, body);
        let body = match random.u8(0..12) {
            0 => flip_bits(random, body),
            1 => body[..random.usize(0..=body.len())].to_vec(),
            _ => body,
        };
        let name = match random.u8(0..40) {
            0 => "mesos_overlay.fault.Panic",
            1 => "mesos.modules.overlay.internal.ShutdownMessage",
            2 => "",
            _ => name,
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

fn flip_bits(random: &mut Rng, mut body: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.usize(1..8) {
        if !body.is_empty() {
            let at = random.usize(0..body.len());
            body[at] ^= 1 << random.u8(0..8);
        }
    }
    body
}

/// Returns whether a message is not sent, because nothing protects its receiver:
///
/// * A process of an earlier release obeys anybody.
/// * A master believes what comes in the name of an agent of an earlier release.
/// * It serves an agent that has not confirmed yet, if there is one, and gives an unknown one a
///   provisional allocation. A master of an earlier release forgets that it is provisional.
/// * An agent that has not met a confirming master at an address takes messages of a master of
///   an earlier release from there. It waits for a challenge first, which a faulty network may
///   lose, and which a master of an earlier release does not send.
fn spares(public: &Public<'_>, forgery: &Forgery) -> bool {
    let receiver = &public.processes[forgery.to];
    if receiver.is_predecessor {
        return true;
    }
    let is_of = |process: &Process| process.upid.address.ip() == forgery.from.address.ip();
    if receiver.is_master() {
        let ip = forgery.from.address.ip().to_string();
        let is_confirmed = public.log.confirmed.contains(&ip);
        let mut agents = public.processes.iter().filter(|it| !it.is_master());
        return public.has_old_masters && !is_confirmed
            || agents.any(|agent| agent.is_predecessor && is_of(agent));
    }
    let is_leader = receiver.leader.as_ref() == Some(&forgery.from);
    is_leader && public.is_faulty && receiver.may_believe_anybody()
        || public.processes.iter().any(|it| {
            // A leader that the agent has not heard of yet.
            it.is_master() && it.is_predecessor && is_of(it) && forgery.from.id == MASTER_ID
        })
}
