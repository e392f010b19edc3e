//! Thread that owns the table and publishes its changes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use overlay_dns::publisher::Publisher;

use super::names::Names;
use super::writer::Writer;
use super::{Clock, Message, Status};

/// Interval at which the state is shown, and host names are looked for.
const SHOWING: Duration = Duration::from_secs(1);
/// Interval at which host names are looked up again.
const NAMES: Duration = Duration::from_secs(60);
/// Number of tasks without names that are logged in one round.
const MAX_TOLD: usize = 10;
/// Interval of snapshots while names change.
const KEEPING: Duration = Duration::from_secs(60);
/// Interval of snapshots while they do not.
const KEEPING_UNCHANGED: Duration = Duration::from_secs(600);

/// The table, and what works for it.
pub struct Table {
    publisher: Publisher,
    clock: Clock,
    names: Names,
    writer: Option<Writer>,
    status: Arc<Status>,
    leader: Option<IpAddr>,
    masters: Vec<IpAddr>,
    /// Tasks without names that the log names.
    told: HashSet<String>,
    /// Host names that were asked for.
    asked: HashSet<String>,
    next_shown: Duration,
    next_names: Duration,
    next_kept: Duration,
    next_kept_unchanged: Duration,
    is_changed: bool,
}

impl Table {
    pub fn new(
        publisher: Publisher,
        clock: Clock,
        names: Names,
        writer: Option<Writer>,
        status: Arc<Status>,
    ) -> Table {
        // Addresses of the snapshot, until others are found.
        let (leader, masters) = publisher.cluster().masters();
        let masters = masters.to_vec();
        Table {
            publisher,
            clock,
            names,
            writer,
            status,
            leader,
            masters,
            told: HashSet::new(),
            asked: HashSet::new(),
            next_shown: Duration::ZERO,
            next_names: NAMES,
            next_kept: Duration::ZERO,
            next_kept_unchanged: KEEPING_UNCHANGED,
            is_changed: false,
        }
    }

    /// Handles messages until the program ends.
    pub fn run(mut self, messages: &Receiver<Message>) {
        let mut next = Some(Duration::ZERO);
        loop {
            let due = next.unwrap_or(Duration::MAX).min(self.next_shown);
            match messages.recv_timeout(self.clock.until(due)) {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            next = self.publisher.tick(self.clock.now());
            if self.clock.until(self.next_shown).is_zero() {
                self.look_around();
            }
        }
        if let Some(writer) = self.writer.take()
            && let Some(content) = self.publisher.snapshot(self.clock.now().calendar)
        {
            writer.finish(&content);
        }
    }

    fn handle(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::End => {}
            Message::Find(wanted, reply) => {
                let found = self.publisher.cluster().search(&wanted);
                // The caller may have given up.
                let _ = reply.try_send(found);
            }
            Message::Item(item) => {
                self.is_changed = true;
                self.publisher.handle(item, now);
            }
            Message::Lost(heard) => self.publisher.lose(heard, now),
            Message::Leader(ip) => {
                self.leader = Some(ip);
                self.tell_masters();
            }
            Message::Masters(masters) => {
                self.masters = masters;
                self.tell_masters();
            }
            Message::Overlays(ranges) => self.publisher.set_overlays(ranges, now),
            Message::Resolved(name, ip) => self.publisher.resolve(&name, ip, now),
        }
    }

    fn tell_masters(&mut self) {
        let mut masters = self.masters.clone();
        masters.extend(self.leader);
        masters.sort();
        masters.dedup();
        let now = self.clock.now();
        self.publisher.set_masters(self.leader, masters, now);
    }

    /// Does what is done once a second.
    fn look_around(&mut self) {
        let now = self.clock.now();
        self.next_shown = now.clock + SHOWING;
        let again = now.clock >= self.next_names;
        if again {
            self.next_names = now.clock + NAMES;
            self.asked.clear();
        }
        self.ask_names(again);
        self.tell_left_out();
        let counts = self.publisher.cluster().counts();
        self.status.change(|shown| shown.counts = counts);
        self.keep();
    }

    /// Has host names of agents looked up; with `again`, also those that have been.
    fn ask_names(&mut self, again: bool) {
        let new = self.publisher.cluster().hostnames(false);
        for name in &new {
            if !self.asked.contains(name) && self.names.ask(name, true) {
                self.asked.insert(name.clone());
            }
        }
        if again {
            for name in self.publisher.cluster().hostnames(true).difference(&new) {
                self.names.ask(name, false);
            }
        }
    }

    /// Logs tasks without names, each once, and some at a time.
    fn tell_left_out(&mut self) {
        let mut present = HashSet::new();
        let mut told = 0;
        for left_out in self.publisher.cluster().left_out() {
            let task = &left_out.task;
            if !self.told.contains(task) {
                if told == MAX_TOLD {
                    continue;
                }
                told += 1;
                log::warn!("task {task} has no name, or not all: {}", left_out.problem);
            }
            present.insert(task.clone());
        }
        self.told = present;
    }

    /// Writes a snapshot if one is due.
    fn keep(&mut self) {
        let Some(writer) = &self.writer else {
            return;
        };
        let now = self.clock.now();
        let is_due = self.is_changed && now.clock >= self.next_kept;
        if !is_due && now.clock < self.next_kept_unchanged {
            return;
        }
        if let Some(content) = self.publisher.snapshot(now.calendar) {
            writer.write(content);
            self.is_changed = false;
            self.next_kept = now.clock + KEEPING;
            self.next_kept_unchanged = now.clock + KEEPING_UNCHANGED;
        }
    }
}
