//! Many echo requests at once, with a limited rate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_core::util::family::Family;

use super::socket::{EchoError, EchoSocket, ICMP_HEADER, Received, ip_header};
use crate::output::Failure;

/// Bytes in front of the data that say which request it is: mark, number of the request, time.
const LABEL: usize = 8 + 4 + 8;
/// Smallest packet that can be told apart, in bytes.
pub const MIN_BYTES: u32 = 40 + ICMP_HEADER as u32 + LABEL as u32;

/// Echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Address that has to answer.
    pub target: IpAddr,
    /// Address of this host to send from; `None`: the kernel chooses it.
    pub source: Option<IpAddr>,
    /// Size of the packet with its IP header, in bytes.
    pub bytes: u32,
}

/// Result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answer after this time.
    Answered(Duration),
    /// No answer.
    Silent,
    /// Too large for the way. Has the MTU that the kernel knows, in bytes.
    TooLarge(Option<u32>),
    /// Message of a host on the way, or of the destination, that it cannot be delivered.
    Unreachable(IpAddr),
    /// Not sent by this host. Has the reason.
    NotSent(String),
}

impl Outcome {
    /// Returns the round trip time of an answer.
    pub fn time(&self) -> Option<Duration> {
        match self {
            Outcome::Answered(time) => Some(*time),
            _ => None,
        }
    }
}

/// Rate of requests and time limits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests per second.
    pub per_second: u32,
    /// Time that the last answer may take.
    pub patience: Duration,
    /// Number of times that a request without an answer is sent.
    pub attempts: u32,
}

/// Sender of echo requests.
pub struct Echo {
    sockets: BTreeMap<(Family, Option<IpAddr>), EchoSocket>,
    mark: u64,
    start: Instant,
}

impl Echo {
    /// Creates a sender without sockets.
    pub fn new() -> Echo {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = since.map_or(0, |since| since.as_nanos() as u64);
        Echo {
            sockets: BTreeMap::new(),
            mark: nanos ^ u64::from(std::process::id()).rotate_left(40),
            start: Instant::now(),
        }
    }

    /// Sends requests, and returns what became of each. `step` is called for each that is done.
    ///
    /// # Errors
    /// This user may not send echo requests.
    pub fn send(
        &mut self,
        requests: &[Request],
        pace: &Pace,
        step: &dyn Fn(),
    ) -> Result<Vec<Outcome>, Failure> {
        let mut round = Round {
            requests,
            outcomes: vec![None; requests.len()],
            open: 0,
            step,
        };
        for _ in 0..pace.attempts.max(1) {
            let waiting = (0..requests.len()).filter(|number| round.outcomes[*number].is_none());
            let waiting: Vec<usize> = waiting.collect();
            round.open = waiting.len();
            let interval = Duration::from_secs(1) / pace.per_second.max(1);
            let mut due = Instant::now();
            for number in waiting {
                while let Some(rest) = due.checked_duration_since(Instant::now()) {
                    self.receive(rest, &mut round);
                    if rest < Duration::from_millis(1) {
                        break;
                    }
                }
                due += interval;
                self.send_one(number, &mut round)?;
            }
            let end = Instant::now() + pace.patience;
            while round.open > 0
                && let Some(rest) = end.checked_duration_since(Instant::now())
            {
                self.receive(rest, &mut round);
            }
        }
        let outcomes = round.outcomes.into_iter();
        Ok(outcomes
            .map(|outcome| outcome.unwrap_or(Outcome::Silent))
            .collect())
    }

    fn send_one(&mut self, number: usize, round: &mut Round<'_>) -> Result<(), Failure> {
        let Request {
            target,
            source,
            bytes,
        } = round.requests[number];
        let family = Family::from(target);
        let socket = match self.sockets.entry((family, source)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match EchoSocket::open(family, source) {
                Ok(socket) => entry.insert(socket),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(FORBIDDEN.into());
                }
                Err(error) => {
                    let source = source.map_or(String::new(), |source| format!(" from {source}"));
                    let reason = format!("cannot send{source}: {error}");
                    round.done(number, Outcome::NotSent(reason));
                    return Ok(());
                }
            },
        };
        let sent_at = self.start.elapsed().as_nanos() as u64;
        let mut data = self.mark.to_be_bytes().to_vec();
        data.extend((number as u32).to_be_bytes());
        data.extend(sent_at.to_be_bytes());
        data.resize(data_size(family, bytes), 0);
        // An error of an earlier request can be reported in place of this one's.
        for is_last in [false, true] {
            let Err(error) = socket.send(target, number as u16, &data) else {
                break;
            };
            let mut own = None;
            while let Some(error) = socket.receive_error() {
                match error.sequence {
                    Some(_) => round.fail(&error),
                    None => own = error.mtu,
                }
            }
            let outcome = match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMSGSIZE) => Outcome::TooLarge(own),
                _ if !is_last => continue,
                // The buffer is full: like a lost packet.
                Some(Errno::ENOBUFS | Errno::EAGAIN) => break,
                _ => Outcome::NotSent(error.to_string()),
            };
            round.done(number, outcome);
            break;
        }
        Ok(())
    }

    /// Waits for messages up to a time, and takes those that are there.
    fn receive(&mut self, limit: Duration, round: &mut Round<'_>) {
        let mut polled: Vec<PollFd<'_>> = self
            .sockets
            .values()
            .map(|socket| PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        // An interrupted wait is an early one.
        let _ = poll(&mut polled, timeout);
        for socket in self.sockets.values_mut() {
            while let Some(received) = socket.receive() {
                match received {
                    Received::Error(error) => round.fail(&error),
                    Received::Answer(sender, data) => {
                        let now = self.start.elapsed().as_nanos() as u64;
                        if let Some((number, sent_at)) = label(&data, self.mark) {
                            let time = Duration::from_nanos(now.saturating_sub(sent_at));
                            round.answer(number, sender, time);
                        }
                    }
                }
            }
        }
    }
}

/// Sentence for users who may not send echo requests.
const FORBIDDEN: &str = "this user may not send ICMP echo requests: run the command as root, or \
                         let the group do it (sysctl net.ipv4.ping_group_range)";

/// Returns the size of the data of a packet.
fn data_size(family: Family, bytes: u32) -> usize {
    let headers = ip_header(family) + ICMP_HEADER;
    (bytes as usize).saturating_sub(headers).max(LABEL)
}

/// Returns number and time of a request from the data of its answer.
fn label(data: &[u8], mark: u64) -> Option<(usize, u64)> {
    let (found, rest) = data.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let (time, _) = rest.split_first_chunk::<8>()?;
    let number = u32::from_be_bytes(*number) as usize;
    (u64::from_be_bytes(*found) == mark).then_some((number, u64::from_be_bytes(*time)))
}

/// Requests that are under way.
struct Round<'a> {
    requests: &'a [Request],
    outcomes: Vec<Option<Outcome>>,
    /// Number of requests of this attempt without an outcome.
    open: usize,
    step: &'a dyn Fn(),
}

impl Round<'_> {
    fn done(&mut self, number: usize, outcome: Outcome) {
        if let Some(entry) = self.outcomes.get_mut(number)
            && entry.is_none()
        {
            *entry = Some(outcome);
            self.open = self.open.saturating_sub(1);
            (self.step)();
        }
    }

    fn answer(&mut self, number: usize, sender: IpAddr, time: Duration) {
        let request = self.requests.get(number);
        if request.is_some_and(|request| request.target == sender) {
            self.done(number, Outcome::Answered(time));
        }
    }

    fn fail(&mut self, error: &EchoError) {
        let Some(sequence) = error.sequence else {
            return;
        };
        // The number in the packet has 16 bits.
        let candidates = (usize::from(sequence)..self.requests.len()).step_by(1 << 16);
        let is_target = |number: &usize| Some(self.requests[*number].target) == error.target;
        let Some(number) = candidates.into_iter().find(is_target) else {
            return;
        };
        match (error.errno, error.reporter) {
            (Errno::EMSGSIZE, _) => self.done(number, Outcome::TooLarge(error.mtu)),
            (_, Some(reporter)) => self.done(number, Outcome::Unreachable(reporter)),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_others_do_not_count() {
        let request = |target: &str| Request {
            target: target.parse().unwrap(),
            source: None,
            bytes: 84,
        };
        let requests = [request("10.0.0.1"), request("10.0.0.2")];
        let mut round = Round {
            requests: &requests,
            outcomes: vec![None; 2],
            open: 2,
            step: &|| {},
        };
        let time = Duration::from_millis(1);
        round.answer(0, "10.0.0.2".parse().unwrap(), time);
        round.answer(7, "10.0.0.2".parse().unwrap(), time);
        assert_eq!(round.open, 2);
        round.answer(1, "10.0.0.2".parse().unwrap(), time);
        round.answer(1, "10.0.0.2".parse().unwrap(), time * 2);
        assert_eq!(round.outcomes, [None, Some(Outcome::Answered(time))]);
        assert_eq!(round.open, 1);
    }

    #[test]
    fn an_error_belongs_to_the_request_that_it_quotes() {
        let target: IpAddr = "10.0.0.1".parse().unwrap();
        let requests = vec![
            Request {
                target,
                source: None,
                bytes: 84
            };
            2
        ];
        let mut round = Round {
            requests: &requests,
            outcomes: vec![None; 2],
            open: 2,
            step: &|| {},
        };
        let mut error = EchoError {
            target: Some(target),
            sequence: Some(1),
            errno: Errno::EMSGSIZE,
            reporter: Some("10.0.0.9".parse().unwrap()),
            mtu: Some(1400),
        };
        round.fail(&error);
        assert_eq!(round.outcomes, [None, Some(Outcome::TooLarge(Some(1400)))]);
        error.target = Some("10.0.0.2".parse().unwrap());
        error.sequence = Some(0);
        round.fail(&error);
        assert_eq!(round.outcomes[0], None, "another request's");
    }

    #[test]
    fn a_label_is_read_as_it_is_written() {
        let data = [
            &7_u64.to_be_bytes()[..],
            &3_u32.to_be_bytes(),
            &9_u64.to_be_bytes(),
        ]
        .concat();
        assert_eq!(label(&data, 7), Some((3, 9)));
        assert_eq!(label(&data, 8), None);
        assert_eq!(label(&data[..19], 7), None);
    }
}
