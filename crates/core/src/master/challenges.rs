//! Challenges to processes that have not confirmed: how many are under way at a time.
//!
//! A challenge costs a connection to an address that anybody can name. So few are outstanding,
//! and the other registrations wait.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::address::agent_address;
use crate::protocol::session::secrets::Nonce;
use crate::{Time, Upid};

/// Outstanding challenges to addresses that the log does not have. With the time of
/// [`EXPIRY`], connections to so many addresses are opened at most.
const UNKNOWN_LIMIT: usize = 256;
/// Outstanding challenges to addresses that the log has. After a change of leader all agents
/// register at once.
const KNOWN_LIMIT: usize = 4096;
/// Processes of one address that are challenged or wait.
const PER_ADDRESS: usize = 4;
/// Registrations that wait. The largest clusters have fewer agents.
const WAITING_LIMIT: usize = 65_536;
/// Time after which a challenge that is not answered is no longer outstanding. Agents answer
/// within milliseconds; the kernel gives up a connection to an address that is silent later.
const EXPIRY: Duration = Duration::from_secs(30);
/// Time for which a registration waits. Agents register again sooner.
const KEEP: Duration = Duration::from_secs(15);

/// A registration that needs a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Unconfirmed {
    /// Nonce of the agent.
    pub nonce: Nonce,
    /// Number of the registration.
    pub sequence: u64,
}

/// What to do with a registration that needs a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send the challenge, over a new connection.
    Challenge,
    /// The registration waits.
    Wait,
    /// Too many wait, or too many processes of this address are challenged.
    Drop,
}

/// Challenges that are outstanding, and registrations that wait.
#[derive(Debug, Default)]
pub struct Challenges {
    known: Class,
    unknown: Class,
    /// Processes that are challenged or wait, by address.
    per_address: BTreeMap<Ipv4Addr, u8>,
}

/// One of two classes of addresses.
#[derive(Debug, Default)]
struct Class {
    challenged: Expiring<()>,
    waiting: Expiring<Unconfirmed>,
}

/// Values of processes, each until a time.
#[derive(Debug)]
struct Expiring<T> {
    values: BTreeMap<Upid, (Time, T)>,
    order: BTreeSet<(Time, Upid)>,
}

impl<T> Default for Expiring<T> {
    fn default() -> Expiring<T> {
        Expiring {
            values: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<T> Expiring<T> {
    fn insert(&mut self, until: Time, pid: Upid, value: T) {
        self.remove(&pid);
        self.order.insert((until, pid.clone()));
        self.values.insert(pid, (until, value));
    }

    fn remove(&mut self, pid: &Upid) -> Option<T> {
        let (until, value) = self.values.remove(pid)?;
        self.order.remove(&(until, pid.clone()));
        Some(value)
    }

    /// Removes a process whose time is over.
    fn pop_expired(&mut self, now: Time) -> Option<Upid> {
        let (until, pid) = self.order.first()?;
        let pid = (*until <= now).then(|| pid.clone())?;
        self.remove(&pid);
        Some(pid)
    }

    fn due(&self) -> Option<Time> {
        self.order.first().map(|(until, _)| *until)
    }
}

impl Challenges {
    /// Decides about a registration of a process that has not confirmed. `is_known`: the log has
    /// its address. Without `may_send` it waits.
    pub fn admit(
        &mut self,
        now: Time,
        pid: &Upid,
        is_known: bool,
        may_send: bool,
        registration: Unconfirmed,
    ) -> Admission {
        let classes = [&self.known, &self.unknown];
        if may_send
            && classes
                .iter()
                .any(|class| class.challenged.values.contains_key(pid))
        {
            // The connection exists, and others may send in this process's name.
            return Admission::Challenge;
        }
        let waiting: usize = classes.iter().map(|class| class.waiting.values.len()).sum();
        let class = if is_known {
            &mut self.known
        } else {
            &mut self.unknown
        };
        if class.waiting.values.contains_key(pid) {
            class.waiting.insert(now + KEEP, pid.clone(), registration);
            return Admission::Wait;
        }
        let Some(ip) = agent_address(pid) else {
            return Admission::Drop;
        };
        let count = self.per_address.get(&ip).copied().unwrap_or(0);
        if usize::from(count) >= PER_ADDRESS || waiting >= WAITING_LIMIT {
            return Admission::Drop;
        }
        self.per_address.insert(ip, count + 1);
        if may_send && class.challenged.values.len() < limit(is_known) {
            class.challenged.insert(now + EXPIRY, pid.clone(), ());
            Admission::Challenge
        } else {
            class.waiting.insert(now + KEEP, pid.clone(), registration);
            Admission::Wait
        }
    }

    /// Ends the challenge of a process that has confirmed, or whose connection ended.
    pub fn finish(&mut self, pid: &Upid) {
        for class in [&mut self.known, &mut self.unknown] {
            let challenged = class.challenged.remove(pid).is_some();
            if challenged || class.waiting.remove(pid).is_some() {
                release(&mut self.per_address, pid);
            }
        }
    }

    /// Takes a registration that has waited and whose turn it is now. The choice is random: the
    /// first ones may all be made up.
    pub fn next(&mut self, now: Time, random: &mut fastrand::Rng) -> Option<(Upid, Unconfirmed)> {
        for (class, is_known) in [(&mut self.known, true), (&mut self.unknown, false)] {
            let waiting = &class.waiting.values;
            if waiting.is_empty() || class.challenged.values.len() >= limit(is_known) {
                continue;
            }
            let pid = choose(waiting, random)?;
            let registration = class.waiting.remove(&pid)?;
            class.challenged.insert(now + EXPIRY, pid.clone(), ());
            return Some((pid, registration));
        }
        None
    }

    /// Ends what has expired. Returns the number of registrations that waited in vain, and one of
    /// their senders.
    pub fn expire(&mut self, now: Time) -> (u64, Option<Upid>) {
        let (mut count, mut example) = (0, None);
        for class in [&mut self.known, &mut self.unknown] {
            while let Some(pid) = class.challenged.pop_expired(now) {
                release(&mut self.per_address, &pid);
            }
            while let Some(pid) = class.waiting.pop_expired(now) {
                release(&mut self.per_address, &pid);
                count += 1;
                example.get_or_insert(pid);
            }
        }
        (count, example)
    }

    /// Returns when [`expire`](Self::expire) has to be called.
    pub fn due(&self) -> Option<Time> {
        let classes = [&self.known, &self.unknown];
        let due = classes.map(|class| [class.challenged.due(), class.waiting.due()]);
        due.into_iter().flatten().flatten().min()
    }
}

/// Chooses one of those that wait. Steps from a random address on, which takes the same time
/// however many wait.
fn choose(
    waiting: &BTreeMap<Upid, (Time, Unconfirmed)>,
    random: &mut fastrand::Rng,
) -> Option<Upid> {
    let from = Upid::new(crate::AGENT_ID, (Ipv4Addr::from(random.u32(..)), 0).into());
    let mut candidates = waiting.range(&from..).chain(waiting.iter());
    candidates.next().map(|(pid, _)| pid.clone())
}

fn limit(is_known: bool) -> usize {
    match is_known {
        true => KNOWN_LIMIT,
        false => UNKNOWN_LIMIT,
    }
}

fn release(per_address: &mut BTreeMap<Ipv4Addr, u8>, pid: &Upid) {
    let Some(ip) = agent_address(pid) else { return };
    if let Some(count) = per_address.get_mut(&ip) {
        *count -= 1;
        if *count == 0 {
            per_address.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::session::secrets::{NonceSource, Seed};

    fn pid(number: u32, port: u16) -> Upid {
        Upid::new(
            "overlay-agent",
            (Ipv4Addr::from(0x0a00_0000 + number), port).into(),
        )
    }

    fn registration() -> Unconfirmed {
        Unconfirmed {
            nonce: NonceSource::new(&Seed::from(1)).draw(),
            sequence: 1,
        }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn admit(challenges: &mut Challenges, now: Time, pid: &Upid) -> Admission {
        challenges.admit(now, pid, false, true, registration())
    }

    #[test]
    fn few_are_challenged_and_the_others_wait_for_their_turn() {
        let mut challenges = Challenges::default();
        let mut random = fastrand::Rng::with_seed(1);
        let admitted: Vec<_> = (0..300)
            .map(|n| admit(&mut challenges, at(0), &pid(n, 1)))
            .collect();
        let count = |wanted| admitted.iter().filter(|found| **found == wanted).count();
        assert_eq!(
            (count(Admission::Challenge), count(Admission::Wait)),
            (256, 44)
        );
        // Who is being challenged gets another challenge at once, who waits goes on waiting.
        assert_eq!(
            admit(&mut challenges, at(1), &pid(0, 1)),
            Admission::Challenge
        );
        assert_eq!(admit(&mut challenges, at(1), &pid(299, 1)), Admission::Wait);
        assert!(challenges.next(at(1), &mut random).is_none());
        // Addresses in the log do not wait for others.
        let known = challenges.admit(at(1), &pid(1000, 1), true, true, registration());
        assert_eq!(known, Admission::Challenge);
        challenges.finish(&pid(0, 1));
        let (next, _) = challenges.next(at(1), &mut random).unwrap();
        assert!((256..300).map(|n| pid(n, 1)).any(|pid| pid == next));
        assert!(challenges.next(at(1), &mut random).is_none());
    }

    #[test]
    fn what_is_not_answered_expires() {
        let mut challenges = Challenges::default();
        (0..300).for_each(|n| _ = admit(&mut challenges, at(0), &pid(n, 1)));
        assert_eq!(challenges.due(), Some(at(15)));
        challenges.expire(at(14));
        assert_eq!(challenges.unknown.waiting.values.len(), 44);
        let (expired, example) = challenges.expire(at(15));
        assert!(expired == 44 && example.is_some() && challenges.due() == Some(at(30)));
        assert_eq!(
            (
                challenges.unknown.waiting.values.len(),
                challenges.per_address.len()
            ),
            (0, 256)
        );
        challenges.expire(at(30));
        assert_eq!((challenges.due(), challenges.per_address.len()), (None, 0));
        assert_eq!(
            admit(&mut challenges, at(30), &pid(7, 1)),
            Admission::Challenge
        );
    }

    #[test]
    fn few_processes_of_an_address_are_admitted() {
        let mut challenges = Challenges::default();
        for port in 1..=4 {
            assert_eq!(
                admit(&mut challenges, at(0), &pid(1, port)),
                Admission::Challenge
            );
        }
        assert_eq!(admit(&mut challenges, at(0), &pid(1, 5)), Admission::Drop);
        challenges.finish(&pid(1, 2));
        assert_eq!(
            admit(&mut challenges, at(0), &pid(1, 5)),
            Admission::Challenge
        );
    }

    #[test]
    fn the_number_of_those_that_wait_is_bounded() {
        let mut challenges = Challenges::default();
        let all = UNKNOWN_LIMIT + WAITING_LIMIT;
        let mut admitted = (0..=all as u32).map(|n| admit(&mut challenges, at(0), &pid(n, 1)));
        assert!(
            admitted
                .by_ref()
                .take(all)
                .all(|found| found != Admission::Drop)
        );
        assert_eq!(admitted.next(), Some(Admission::Drop));
    }
}
