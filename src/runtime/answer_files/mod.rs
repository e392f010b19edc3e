//! Large answers as files in memory, from which the driver sends them.
//!
//! Answers with the same body share one file, and a client that does not read costs file
//! descriptors only. The number of answers under way and of different bodies is bounded. A
//! connection whose client makes no progress is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit};
use overlay_core::Time;

use body::BodyFile;
use connection::{Connection, at, find};

mod body;
mod connection;
#[cfg(test)]
mod tests;

/// Length from which an answer is sent from a file, in bytes. Shorter ones fit into the
/// kernel's buffers.
pub(super) const LARGE: usize = 64 << 10;

/// Limits of the answers under way.
#[derive(Clone, Debug)]
pub struct AnswerLimits {
    /// Number of answers, also limited to a quarter of the files that this process can open.
    pub answers: usize,
    /// Number of answers to one host.
    pub answers_per_host: usize,
    /// Number of different bodies.
    pub bodies: usize,
    /// Time without an acknowledged byte after which a connection is ended.
    pub without_progress: Duration,
    /// Time after which a connection is ended.
    pub total: Duration,
    /// Time after which the connections of a body are ended to make room for another body.
    pub protected: Duration,
}

impl Default for AnswerLimits {
    fn default() -> AnswerLimits {
        AnswerLimits {
            answers: 1024,
            answers_per_host: 512,
            // A state contains ages in seconds, so there is another one each second.
            bodies: 16,
            without_progress: Duration::from_secs(30),
            total: Duration::from_secs(600),
            protected: Duration::from_secs(10),
        }
    }
}

/// Interval at which the connections are checked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Shortest interval, for requests that find a limit reached.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The way in which an answer is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// From the file at this path.
    File(String),
    /// Not at all: a limit is reached.
    Busy,
    /// As bytes, since this process cannot have such files or does not find the connection.
    Bytes,
}

/// An answer that is under way.
struct Answer {
    /// Index of its file.
    file: usize,
    /// Number of the driver's file descriptor.
    number: RawFd,
    /// Bytes that are acknowledged when the client has all of it.
    end: u64,
    acknowledged: u64,
    since: Time,
    progress: Time,
}

/// Large answers that are under way.
pub(super) struct AnswerFiles {
    limits: AnswerLimits,
    files: Vec<BodyFile>,
    /// By client. A connection has one at a time.
    answers: BTreeMap<SocketAddr, Answer>,
    checked: Time,
}

impl AnswerFiles {
    pub(super) fn new(mut limits: AnswerLimits) -> AnswerFiles {
        if let Ok((files, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let quarter = usize::try_from(files / 4).unwrap_or(usize::MAX);
            limits.answers = limits.answers.min(quarter);
        }
        AnswerFiles {
            limits,
            files: Vec::new(),
            answers: BTreeMap::new(),
            checked: Time::default(),
        }
    }

    /// Returns when [`tick`](Self::tick) is due.
    pub(super) fn due(&self) -> Option<Time> {
        (!self.answers.is_empty()).then(|| self.checked + INTERVAL)
    }

    /// Checks the connections to the local port, if that is due.
    pub(super) fn tick(&mut self, now: Time, port: u16) {
        if self.due().is_some_and(|due| due <= now) {
            self.check(now, port);
        }
    }

    /// Puts the answer to `client`, which is connected to the local port, into a file.
    pub(super) fn place(
        &mut self,
        now: Time,
        client: SocketAddr,
        port: u16,
        body: &Bytes,
    ) -> Placement {
        let found = find(client, port)
            .and_then(|connection| Some((connection.number(), connection.acknowledged()?)));
        let Some((number, acknowledged)) = found else {
            return Placement::Bytes;
        };
        if self
            .answers
            .get(&client)
            .is_some_and(|answer| acknowledged < answer.end)
        {
            return Placement::Busy;
        }
        self.answers.remove(&client);
        if !self.admits(client) && now.since(self.checked) >= SHORTEST_INTERVAL {
            self.check(now, port);
        }
        if !self.admits(client) {
            return Placement::Busy;
        }
        let file = match self.file(now, port, body) {
            Ok(Some(file)) => file,
            Ok(None) => return Placement::Busy,
            Err(_) => return Placement::Bytes,
        };
        if self.answers.is_empty() {
            self.checked = now;
        }
        let answer = Answer {
            file,
            number,
            end: acknowledged + body.len() as u64,
            acknowledged,
            since: now,
            progress: now,
        };
        self.answers.insert(client, answer);
        Placement::File(self.files[file].path())
    }

    /// Returns whether one more answer to this client is within the limits.
    fn admits(&self, client: SocketAddr) -> bool {
        let of_host = self
            .answers
            .keys()
            .filter(|other| other.ip() == client.ip());
        self.answers.len() < self.limits.answers && of_host.count() < self.limits.answers_per_host
    }

    /// Returns the index of a file with this body; `None` if there are too many bodies.
    fn file(&mut self, now: Time, port: u16, body: &Bytes) -> std::io::Result<Option<usize>> {
        if let Some(same) = self.files.iter().position(|file| file.has(body)) {
            return Ok(Some(same));
        }
        let mut free = self.free();
        if free.is_none() && self.files.len() < self.limits.bodies {
            self.files.push(BodyFile::new()?);
            free = self.free();
        }
        if free.is_none() {
            self.check(now, port);
            self.end_oldest(now, port);
            free = self.free();
        }
        if let Some(free) = free {
            self.files[free].replace(body)?;
        }
        Ok(free)
    }

    /// Returns the index of a file that no answer uses.
    fn free(&self) -> Option<usize> {
        let used: BTreeSet<usize> = self.answers.values().map(|answer| answer.file).collect();
        (0..self.files.len()).find(|file| !used.contains(file))
    }

    /// Ends the connections of the body that is under way for longest, unless a file is free or
    /// the time in which a body is protected has not passed.
    fn end_oldest(&mut self, now: Time, port: u16) {
        if self.free().is_some() {
            return;
        }
        let mut since = vec![now; self.files.len()];
        for answer in self.answers.values() {
            since[answer.file] = since[answer.file].min(answer.since);
        }
        let oldest = (0..since.len()).min_by_key(|file| since[*file]);
        if let Some(oldest) = oldest.filter(|file| now.since(since[*file]) >= self.limits.protected)
        {
            self.answers.retain(|client, answer| {
                let ends = answer.file == oldest;
                if ends && let Some(connection) = at(answer.number, *client, port) {
                    connection.end();
                }
                !ends
            });
        }
    }

    /// Forgets answers that their clients have, and those whose connections ended. Ends
    /// connections that take too long.
    fn check(&mut self, now: Time, port: u16) {
        self.checked = now;
        let limits = &self.limits;
        self.answers.retain(|client, answer| {
            let connection = at(answer.number, *client, port);
            let acknowledged = connection.as_ref().and_then(Connection::acknowledged);
            let Some(acknowledged) = acknowledged else {
                return false;
            };
            if acknowledged > answer.acknowledged {
                (answer.acknowledged, answer.progress) = (acknowledged, now);
            }
            let is_over = now.since(answer.progress) >= limits.without_progress
                || now.since(answer.since) >= limits.total;
            if let Some(connection) = connection.filter(|_| is_over && acknowledged < answer.end) {
                connection.end();
            }
            !is_over && acknowledged < answer.end
        });
        self.release_bodies();
    }

    /// Frees the memory of bodies that no answer needs.
    fn release_bodies(&mut self) {
        let used: BTreeSet<usize> = self.answers.values().map(|answer| answer.file).collect();
        for (index, file) in self.files.iter_mut().enumerate() {
            if !used.contains(&index) && !file.is_empty() {
                // Without a new file the body stays until the next attempt.
                let _ = file.replace(b"");
            }
        }
    }
}
